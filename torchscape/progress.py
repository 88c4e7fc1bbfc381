"""Progress bars: widgets in a notebook that has them, text everywhere else."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = ["progress_bar"]


def progress_bar(*, show: bool, **options: Any) -> Any:
    """A ``tqdm`` bar with its own ``options``, hidden unless ``show``.

    Example:
        >>> with progress_bar(show=False, total=3) as bar:
        ...     bar.n = 2
    """
    with warnings.catch_warnings():
        # In a notebook without ipywidgets tqdm warns, shown or hidden, and then writes text as it should.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm
    return tqdm(disable=not show, **options)
