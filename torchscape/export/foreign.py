"""Networks of other programs, whichever has left them."""

from __future__ import annotations

from pathlib import Path

from torchscape.errors import TorchscapeError
from torchscape.export.pathsample import is_pathsample, read_pathsample
from torchscape.export.pele import is_pele, read_pele
from torchscape.export.topsearch import is_topsearch, read_topsearch
from torchscape.network import Network

__all__ = ["is_foreign", "read_network"]


def is_foreign(path: str | Path) -> bool:
    """Whether :func:`read_network` is for this path: a folder, or a database of pele's."""
    return Path(path).is_dir() or is_pele(path)


def read_network(path: str | Path, *, n_modes: int | None = None) -> Network:
    """The network that PATHSAMPLE, topsearch or pele has left, told apart by the files that are there.

    Args:
        path: a folder with ``min.data`` and ``ts.data`` (with ``min.coords`` it is topsearch's), or an SQLite
            file of pele's.
        n_modes: number of vibrational modes of a minimum, where nothing says it.

    Raises:
        TorchscapeError: if it is none of these, or cannot be read.
    """
    if is_topsearch(path):
        return read_topsearch(path, n_modes=n_modes)
    if is_pathsample(path):
        return read_pathsample(path, n_modes=n_modes)
    if is_pele(path):
        return read_pele(path, n_modes=n_modes)
    if Path(path).is_dir():
        raise TorchscapeError(
            f"{path} is a directory without min.data and ts.data: name a file in it, or a folder of PATHSAMPLE's"
        )
    raise TorchscapeError(f"{path} is neither a folder of PATHSAMPLE or topsearch nor a database of pele")
