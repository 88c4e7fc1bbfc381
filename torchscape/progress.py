"""Progress bars: widgets in a notebook that has them, text in a terminal, and lines everywhere else."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
import warnings
from typing import Any

__all__ = ["is_notebook", "progress_bar"]

_EVERY = 30.0  # seconds between two lines in a log


def progress_bar(*, show: bool, **options: Any) -> Any:
    """A ``tqdm`` bar with its own ``options``, hidden unless ``show``.

    Its ``unit`` is a plural after a space, " tries": what is slower than one a second is counted by the minute or
    the hour, where ``tqdm`` would turn to seconds for each " tries".

    Where standard error is no terminal (a log, a pipe), it writes a line every half minute instead of moving. The
    variable TORCHSCAPE_PROGRESS decides otherwise: "lines", or "bar".

    Example:
        >>> with progress_bar(show=False, total=3) as bar:
        ...     bar.n = 2
    """
    if show and _wants_lines():
        options |= {"file": _Lines(), "mininterval": _EVERY, "maxinterval": _EVERY, "ncols": 0, "leave": True}
        options["position"] = 0  # else it goes up and down between the lines of several bars
    return _bar()(disable=not show, **options)


@functools.cache
def _bar() -> type[Any]:
    with warnings.catch_warnings():
        # In a notebook without ipywidgets tqdm warns, shown or hidden, and then writes text as it should.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm

    class Bar(tqdm):
        """With a pace of its own in what ``tqdm`` formats."""

        @property
        def format_dict(self) -> Any:
            told = super().format_dict
            if not hasattr(self, "unit") or told["bar_format"]:  # hidden from the beginning
                return told
            elapsed, done = told["elapsed"], told["n"] - told["initial"]
            pace = _pace(told["rate"] or (done / elapsed if elapsed else 0.0), told["unit"])
            if told["total"] and told["n"] <= told["total"]:
                drawn = "{l_bar}{bar}|" if told["ncols"] != 0 else "{desc}: {percentage:3.0f}%"
                told["bar_format"] = (
                    f"{drawn} {{n_fmt}}/{{total_fmt}} [{{elapsed}}<{{remaining}}, {pace}{{postfix}}]"
                )
            else:
                name = "{desc}: " if told["prefix"] else ""
                told["bar_format"] = f"{name}{{n_fmt}}{{unit}} [{{elapsed}}, {pace}{{postfix}}]"
            told["ncols"] = told["ncols"] or None  # else what stands here is left out
            return told

    return Bar


def _pace(rate: float, unit: str) -> str:
    """How many of a plural unit come in a second, a minute or an hour: the first in which it is one or more.

    Example:
        >>> _pace(2.0, " tries"), _pace(0.1, " tries"), _pace(0.001, " tries"), _pace(0.0, " tries")
        (' 2.00 tries/s', ' 6.00 tries/min', ' 3.60 tries/h', '? tries/s')
    """
    if rate <= 0:
        return f"?{unit}/s"
    count, of = next(
        (rate * s, of) for s, of in ((1, "s"), (60, "min"), (3600, "h")) if rate * s >= 1 or s == 3600
    )
    return f"{count:5.2f}{unit}/{of}"


def is_notebook() -> bool:
    """Whether this is a kernel of Jupyter, whose pages show bars although they are no terminals."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "ipykernel" in type(shell).__module__


def _wants_lines() -> bool:
    told = os.environ.get("TORCHSCAPE_PROGRESS")
    if told in ("lines", "bar"):
        return told == "lines"
    try:
        return not (is_notebook() or sys.stderr.isatty())
    except (AttributeError, ValueError):  # no stream at all, or one that is closed
        return True


class _Lines:
    """Standard error, with lines where a bar would go back to its beginning, and not too many of them: the first,
    one now and then, and the last."""

    def __init__(self) -> None:
        self.waiting, self.last, self.written = "", "", -_EVERY

    def write(self, text: str) -> None:
        for line in (one.strip() for one in text.replace("\r", "\n").split("\n")):
            self.waiting = line or self.waiting
        ends = text == "\n"  # as a bar does that is closed
        if self.waiting != self.last and (ends or time.monotonic() - self.written >= _EVERY):
            print(self.waiting, file=sys.stderr)
            self.last, self.written = self.waiting, time.monotonic()

    def flush(self) -> None:
        with contextlib.suppress(AttributeError, ValueError):
            sys.stderr.flush()
