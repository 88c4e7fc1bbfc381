"""SIGTERM and SIGHUP as Ctrl-C: what a scheduler or a closed terminal sends ends work as a person does."""

from __future__ import annotations

import _thread
import contextlib
import dataclasses
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from torchscape import stopwatch
from torchscape.stopwatch import Stopwatch

__all__ = ["Interrupt", "Watch", "interruptible"]

_PATIENCE = 2.0  # seconds in which work may end by itself, before it is interrupted wherever it is

_POLITE = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no SIGHUP


class Interrupt(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the process to end: handled wherever KeyboardInterrupt is."""


@dataclasses.dataclass(eq=False)  # each block has its own
class Watch:
    """What has arrived inside :func:`interruptible`.

    Attributes:
        received: number of the last signal that became an :class:`Interrupt`, None if there was none.
    """

    received: int | None = None

    @property
    def exit_code(self) -> int:
        """What a shell calls the end of this process: 128 and the number of the signal, Ctrl-C's by default."""
        return 128 + (signal.SIGINT if self.received is None else self.received)


_watches: list[Watch] = []  # the open ones, of the main thread


@contextlib.contextmanager
def interruptible(*, leave: bool = True) -> Iterator[Watch]:
    """Inside, SIGTERM and SIGHUP raise :class:`Interrupt`, a KeyboardInterrupt; afterwards all is as before.

    Where a :class:`~torchscape.stopwatch.Stopwatch` runs, these signals and Ctrl-C stop it first, so that work
    ends at its next question, with everything kept that has ended. They raise at the second signal, or where
    no loop has asked for two seconds.

    Whoever catches the interrupt brings things in order. Then, unless ``leave`` is False, the outermost of these
    blocks ends the process as it was asked to, by ``SystemExit(128 + signal)``, whether the interrupt arrives
    there or was caught on the way.

    A signal that is ignored (``nohup``), or for which the program has a handler of its own, is left alone; so is
    everything outside the main thread, where Python has no signals.

    Example:
        >>> with interruptible(leave=False) as watch:
        ...     try:
        ...         signal.raise_signal(signal.SIGTERM)
        ...     except KeyboardInterrupt:
        ...         print("tidied up; exit code", watch.exit_code)
        tidied up; exit code 143
    """
    if threading.current_thread() is not threading.main_thread():
        yield Watch()
        return
    watch = Watch()
    _watches.append(watch)
    before = {one: signal.getsignal(one) for one in _POLITE}
    taken: dict[signal.Signals, Any] = {one: h for one, h in before.items() if h is signal.SIG_DFL}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        taken[signal.SIGINT] = signal.default_int_handler
    try:
        for one in taken:
            signal.signal(one, _interrupt)
        try:
            yield watch
        finally:
            for one, handler in taken.items():
                signal.signal(one, handler)
            _watches.remove(watch)
    except KeyboardInterrupt as interrupt:
        if watch.received is None or not leave or _watches:
            raise
        if not isinstance(interrupt, Interrupt) and str(interrupt):  # what Ctrl-C would have said
            with contextlib.suppress(OSError):
                print(interrupt, file=sys.stderr)
        raise SystemExit(watch.exit_code) from interrupt
    if watch.received is not None and leave and not _watches:
        raise SystemExit(watch.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number != signal.SIGINT:
        for watch in _watches:
            watch.received = number
    asked = stopwatch.current()
    if asked is not None and asked.ask(number):
        reminder = threading.Timer(_PATIENCE, _remind, (asked, number))
        reminder.daemon = True
        reminder.start()
        return
    raise KeyboardInterrupt if number == signal.SIGINT else Interrupt(signal.Signals(number).name)


def _remind(asked: Stopwatch, number: int) -> None:
    """The signal once more, if no loop has noticed the first."""
    if not asked.is_answered:
        _thread.interrupt_main(signal.Signals(number))
