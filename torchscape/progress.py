"""Progress bars: widgets in a notebook that has them, text in a terminal, and lines everywhere else."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from typing import Any

__all__ = ["is_notebook", "progress_bar"]

_EVERY = 30.0  # seconds between two lines in a log


def progress_bar(*, show: bool, **options: Any) -> Any:
    """A ``tqdm`` bar with its own ``options``, hidden unless ``show``.

    Where standard error is no terminal (a log, a pipe), it writes a line every half minute instead of moving. The
    variable TORCHSCAPE_PROGRESS decides otherwise: "lines", or "bar".

    Example:
        >>> with progress_bar(show=False, total=3) as bar:
        ...     bar.n = 2
    """
    with warnings.catch_warnings():
        # In a notebook without ipywidgets tqdm warns, shown or hidden, and then writes text as it should.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm
    if show and _wants_lines():
        options |= {"file": _Lines(), "mininterval": _EVERY, "maxinterval": _EVERY, "ncols": 0, "leave": True}
        options["position"] = 0  # else it goes up and down between the lines of several bars
    return tqdm(disable=not show, **options)


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
