"""Progress bars: widgets in a notebook that has them, text everywhere else, and lines in a log."""

from __future__ import annotations

import os
import sys
import time
import warnings
from typing import Any

__all__ = ["progress_bar"]

_EVERY = 30.0  # seconds between two lines in a log


def progress_bar(*, show: bool, **options: Any) -> Any:
    """A ``tqdm`` bar with its own ``options``, hidden unless ``show``.

    Where the variable TORCHSCAPE_PROGRESS is "lines", as in jobs of a cluster, it writes a line every half minute
    instead of moving.

    Example:
        >>> with progress_bar(show=False, total=3) as bar:
        ...     bar.n = 2
    """
    with warnings.catch_warnings():
        # In a notebook without ipywidgets tqdm warns, shown or hidden, and then writes text as it should.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm
    if os.environ.get("TORCHSCAPE_PROGRESS") == "lines":
        options |= {"file": _Lines(), "mininterval": _EVERY, "maxinterval": _EVERY, "ncols": 0, "leave": True}
    return tqdm(disable=not show, **options)


class _Lines:
    """Standard error, with lines where a bar would go back to its beginning, and not too many of them."""

    def __init__(self) -> None:
        self.last, self.written = "", -_EVERY

    def write(self, text: str) -> None:
        for line in (one.strip() for one in text.replace("\r", "\n").split("\n")):
            is_due = time.monotonic() - self.written >= _EVERY or "100%" in line
            if line and line != self.last and is_due:
                print(line, file=sys.stderr)
                self.last, self.written = line, time.monotonic()

    def flush(self) -> None:
        sys.stderr.flush()
