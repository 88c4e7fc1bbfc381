"""When long work has to end: a deadline or a signal, asked for wherever a computation takes a while."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

__all__ = ["Stopped", "Stopwatch", "check", "current", "look", "running"]


class Stopped(BaseException):
    """The time is up, or a signal has come: what has ended is kept, and the rest is given up.

    Like KeyboardInterrupt it is no ``Exception``: work that goes on after errors must not go on after this.
    """


@dataclasses.dataclass(eq=False)  # each is one of its kind
class Stopwatch:
    """Says when work has to end. Loops ask it where nothing is lost by leaving them: :func:`check`.

    Attributes:
        seconds: after which the time is up; None for never.
        on_look: called whenever a loop looks at what has ended, for instance to store it.
        on_ended: called with the kind of work (the class of a stepper) and how many rows of it have ended.
        began: when it was started, on ``clock``.
        clock: seconds on a clock that never goes back.
        signal: the signal that asked for the end, if one did.
        is_answered: whether a loop was told that it is over, or it is not running any more.
    """

    seconds: float | int | None = None
    on_look: Callable[[], None] | None = None
    on_ended: Callable[[str, int], None] | None = None
    began: float | None = None
    clock: Callable[[], float] = time.monotonic
    signal: int | None = None
    is_answered: bool = False

    def __post_init__(self) -> None:
        if self.began is None:
            self.began = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since it was started."""
        assert self.began is not None
        return self.clock() - self.began

    def is_over(self) -> bool:
        """Whether work has to end now."""
        over = self.signal is not None or (self.seconds is not None and self.elapsed >= self.seconds)
        self.is_answered |= over
        return over

    def ask(self, number: int) -> bool:
        """A signal asks for the end; False if one has done so before."""
        if self.signal is not None:
            return False
        self.signal = number
        return True

    def look(self) -> None:
        """A loop has looked at what has ended."""
        if self.on_look is not None:
            self.on_look()

    def ended(self, what: str, n: int) -> None:
        """So many rows of that kind of work have ended."""
        if self.on_ended is not None and n:
            self.on_ended(what, n)


_current: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


def current() -> Stopwatch | None:
    """The stopwatch of the innermost :func:`running` block, None outside of all."""
    return _current.get()


@contextlib.contextmanager
def running(watch: Stopwatch) -> Iterator[Stopwatch]:
    """Inside, work ends when ``watch`` says so.

    Example:
        >>> with running(Stopwatch(seconds=0.0)):
        ...     try:
        ...         check()
        ...     except Stopped:
        ...         print("stopped")
        stopped
    """
    token = _current.set(watch)
    try:
        yield watch
    finally:
        _current.reset(token)
        watch.is_answered = True


def look() -> None:
    """Say that a loop has looked at what has ended."""
    watch = _current.get()
    if watch is not None:
        watch.look()


def check() -> None:
    """Leave, if there is a stopwatch and it is over: between two evaluations of a loop.

    Raises:
        Stopped: if so.
    """
    watch = _current.get()
    if watch is not None and watch.is_over():
        raise Stopped
