"""Computed data kept on disk between runs."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from torchscape.errors import TorchscapeError
from torchscape.outputs import cache_folder, whole_file

__all__ = ["cache_folder", "cached"]


def cached(name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """The arrays that ``make`` computes, from the file ``name`` of the cache if it is there and can be read.

    A file appears whole or not at all, whatever happens to the process or beside it; one that is damaged is made
    again. Where the folder cannot be written, nothing is kept.
    """
    path = cache_folder() / f"{name}.npz"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        made = make()
    with contextlib.suppress(OSError, TorchscapeError):  # read-only, or full: the data are at hand all the same
        _write(path, made)
    return made


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with whole_file(path) as beside, beside.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
