"""Files that are written are whole or not there: made beside their place, and moved there when finished."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from torchscape.errors import TorchscapeError

__all__ = [
    "Kind", "begins_with", "cache_folder", "expect_replaceable", "head", "is_landscape", "whole_file",
    "whole_files",
]  # fmt: skip

Kind = Callable[[Path], bool]
"""Whether an output may replace this file, because it is of the same kind."""

_SQLITE = b"SQLite format 3\x00"


def cache_folder() -> Path:
    """Where computed data are kept: ``$TORCHSCAPE_CACHE``, or a folder in the platform's place for caches.

    Example:
        >>> cache_folder().name
        'torchscape'
    """
    if named := os.environ.get("TORCHSCAPE_CACHE"):
        return Path(named).expanduser() / "torchscape"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "torchscape"


def begins_with(*marks: bytes) -> Kind:
    """The kind of file that begins with one of these marks."""
    return lambda path: head(path).startswith(marks)


def head(path: Path) -> bytes:
    """The first 4096 bytes of a file."""
    with path.open("rb") as file:
        return file.read(4096)


def is_landscape(path: Path) -> bool:
    """Whether this is an SQLite database, as every landscape is: never to be replaced by anything else."""
    return path.is_file() and head(path).startswith(_SQLITE)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], kind: Kind | None = None) -> Iterator[Path]:
    """Where to write a file that appears at ``path`` when the block is done, and not at all if it fails.

    Its folder is made when absent. A link is followed, and a device or pipe written to directly.

    Args:
        path: where it shall be.
        kind: what may be replaced there; None replaces any file but a landscape.

    Raises:
        TorchscapeError: if something of another kind is there, before anything is written.
        OSError: if it cannot be written.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(f"{folder}/a.txt") as path:
        ...         size = path.write_text("whole")
        ...     os.listdir(folder)
        ['a.txt']
    """
    path = Path(path).resolve()
    expect_replaceable(path, kind)
    if path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its ending stays last: writers of pictures go by it.
    beside = path.with_name(f".part-{secrets.token_hex(4)}-{path.name}")
    try:
        yield beside
        _settle(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_files(folder: str | os.PathLike[str], kinds: dict[str, Kind]) -> Iterator[Path]:
    """A folder to write files of these names in; all appear in ``folder`` together when the block is done.

    Files of other names in ``folder`` stay. What an earlier output of these names has left, and this one does not
    write, goes: the files of a folder belong together.

    Raises:
        TorchscapeError: if ``folder`` is a file, or holds something of another kind under one of the names.
        OSError: if it cannot be written.
    """
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise TorchscapeError(f"{folder} is a file, and {', '.join(kinds)} go into a folder: name another one")
    for name, kind in kinds.items():
        expect_replaceable(folder / name, kind)
    folder.parent.mkdir(parents=True, exist_ok=True)
    within = folder if folder.is_dir() else folder.parent
    beside = Path(tempfile.mkdtemp(prefix=".part-", dir=within))
    try:
        yield beside
        written = [name for name in kinds if (beside / name).exists()]
        for name in written:
            _settle(beside / name)
        if folder.is_dir():
            for name in written:
                os.replace(beside / name, folder / name)
            for name in kinds.keys() - set(written):
                (folder / name).unlink(missing_ok=True)
        else:
            os.chmod(beside, 0o777 & ~_umask())
            os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def expect_replaceable(path: Path, kind: Kind | None = None) -> None:
    """May an output take this place?

    Raises:
        TorchscapeError: if a folder, a landscape or a file of another kind is there.
    """
    if path.is_dir():
        raise TorchscapeError(f"{path} is a folder: name a file in it")
    if not path.is_file():
        return
    if is_landscape(path):
        raise TorchscapeError(
            f"{path} is a landscape or another database, which nothing replaces: name another file"
        )
    if kind is not None and path.stat().st_size and not kind(path):
        raise TorchscapeError(
            f"{path} holds something of another kind, which would be lost: name another file, or remove that one "
            "first"
        )


def _settle(written: Path, path: Path | None = None) -> None:
    """On the disk; and then in its place, with the permissions of what was there."""
    with written.open("rb") as file:
        os.fsync(file.fileno())
    if path is not None:
        if path.exists():
            os.chmod(written, stat.S_IMODE(path.stat().st_mode))
        os.replace(written, path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
