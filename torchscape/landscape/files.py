"""The file of a landscape on the disk: whether it can be opened, its log, and errors in words that help."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from torchscape.errors import DatabaseError

__all__ = ["expect_new", "expect_openable", "explain", "log_of", "logs_ahead", "open_connection"]

_MAGIC = b"SQLite format 3\x00"
_TIMEOUT = 30.0  # seconds to wait for a reader that is in the middle of a checkpoint


def expect_openable(path: Path, *, create: bool) -> None:
    """What can be said before SQLite is asked, in plainer words than SQLite's."""
    if path.is_dir():
        raise DatabaseError(f"{path} is a directory: name a file in it, such as {path / 'landscape.db'}")
    if not path.exists():
        if not create:
            raise DatabaseError(f"there is no file {path}: check the path, or explore a potential into it first")
        parent = path.absolute().parent
        if not parent.is_dir():
            raise DatabaseError(f"cannot create {path}: there is no directory {parent}; make it first")
        if not os.access(parent, os.W_OK):
            raise DatabaseError(f"cannot create {path}: you may not write in {parent}; choose another directory")
        return
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise DatabaseError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if head and not head.startswith(_MAGIC[: len(head)]):
        raise DatabaseError(f"{path} is not a landscape (not an SQLite file at all): choose another file name")
    if 0 < len(head) < 100:
        raise DatabaseError(_damaged(path, "only the first bytes are there"))
    if create and not os.access(path, os.W_OK):
        raise DatabaseError(f"you may not write {path}: change its permissions, or open it with readonly=True")


def expect_new(path: str | os.PathLike[str]) -> Path:
    """The path of a landscape file that is to be written whole.

    Raises:
        DatabaseError: if there is something already, or no folder for it.
    """
    path = Path(path)
    if path.is_dir():
        raise DatabaseError(f"{path} is a directory: name a file in it, such as {path / 'copy.db'}")
    for there in (path, path.with_name(path.name + "-wal")):
        if there.exists() or there.is_symlink():
            raise DatabaseError(f"{there} exists already: write to another name, or remove it first")
    if not path.absolute().parent.is_dir():
        raise DatabaseError(f"cannot create {path}: there is no directory {path.absolute().parent}")
    return path


def open_connection(path: Path | None, readonly: bool) -> sqlite3.Connection:
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None)
    if not readonly:
        uri = path.absolute().as_uri() + "?mode=rwc"
    elif os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK):
        # A connection that may write can clear away the log after a killed writer; query_only keeps it a reader.
        uri = path.absolute().as_uri() + "?mode=rw"
    else:
        uri = path.absolute().as_uri() + ("?mode=ro" if log_of(path).exists() else "?mode=ro&immutable=1")
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_TIMEOUT)
    if readonly:
        connection.execute("PRAGMA query_only = ON")
    return connection


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def logs_ahead(path: Path) -> bool:
    """Whether the file was last written with a log beside it; its header says so."""
    with path.open("rb") as file:
        return file.read(20)[18:] == b"\x02\x02"


def explain(error: Exception, path: Path) -> str:
    reason = str(error) if isinstance(error, sqlite3.Error) else f"malformed text: {error}"
    reason = ascii(reason)[1:-1]
    if "full" in reason:
        return (
            f"no space left for {path} ({reason}); everything committed so far is safe: free some space and "
            "run again, it resumes from there"
        )
    if "disk I/O" in reason:
        return (
            f"the disk refused to read or write {path} ({reason}): it may be full, over quota, or gone; "
            "everything committed so far is safe, run again when it is back"
        )
    if "malformed" in reason or "not a database" in reason or "corrupt" in reason:
        return _damaged(path, reason)
    if "readonly" in reason or "unable to open" in reason:
        return f"cannot open or write {path} ({reason}): check the permissions of the file and of its directory"
    if "locked" in reason or "busy" in reason:
        return f"{path} is locked by another program ({reason}): close that program, then try again"
    return f"{path}: {reason}"


def _damaged(path: Path, reason: str) -> str:
    return (
        f"{path} is truncated or damaged ({reason}): restore a copy, or rescue what is left with "
        f"sqlite3 {path} .recover | sqlite3 rescued.db"
    )
