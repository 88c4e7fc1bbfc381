"""``Store``: one SQLite connection, its transactions, and its errors in words that help."""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torchscape.errors import DatabaseError
from torchscape.landscape import checksums, files, schema
from torchscape.landscape.filesystems import warning_for
from torchscape.landscape.lock import WriterLock

__all__ = ["Store"]

_AT_CLOSING = 1000  # milliseconds to wait for readers then: whoever was asked to end must not wait for them
_FOLDED_EVERY = 60.0  # seconds
_WORTHWHILE = 1 << 25  # bytes that may be unused
_OPEN = "INSERT INTO meta(key, value) VALUES ('log', 'open') ON CONFLICT(key) DO NOTHING"
_CLOSED = "DELETE FROM meta WHERE key = 'log'"


class Store:
    """The file (or memory, where ``path`` is None) behind a landscape.

    Write-ahead logging: readers see the last commit while the writer works. Every commit is flushed to the disk
    (``synchronous = FULL``; one flush per task, which takes seconds anyway), so that neither a killed process nor
    a power failure loses what was committed. The log is folded into the file at least once a minute in which
    something is committed, and whenever :meth:`fold` is called. As long as a writer has not closed it, the file
    says that there is a log beside it (``meta`` has ``log = open``).

    Attributes:
        is_new: there were no tables yet; the creator fills them in :meth:`creation`.
        lacks_log: opened for reading, and the log beside the file, which a writer did not fold in, is gone.
        on_rollback: called whenever something was undone, so that caches can be dropped.
        on_end: called when an outermost transaction has ended, either way.
    """

    def __init__(self, path: Path | None, *, readonly: bool = False, create: bool = True) -> None:
        self.path = path
        self.readonly = readonly
        self.on_rollback: list[Callable[[], None]] = []
        self.on_end: list[Callable[[], None]] = []
        self._depth = 0
        self._marked = False  # that there is a log
        self._folded = time.monotonic()
        self.lacks_log = False
        self._whole: set[str] = set()  # tables whose rows were compared with their sums
        self._seen: int | None = None  # number of the last commit of others
        self.has_sums = True  # files before schema 4 have none
        self.is_new = False
        self._lock: WriterLock | None = None
        self._connection: sqlite3.Connection | None = None
        if path is not None:
            files.expect_openable(path, create=create and not readonly)
            self._lock = None if readonly else WriterLock(path)
            if self._lock is not None and (told := warning_for(path, self._lock.path)):
                warnings.warn(told, stacklevel=4)
        try:
            self.is_new = self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> bool:
        has_log = self.path is not None and files.log_of(self.path).exists()
        with self._explained():
            self._connection = connection = files.open_connection(self.path, self.readonly)
            weakref.finalize(self, _let_go, connection)
            connection.execute("PRAGMA foreign_keys = ON")
            if schema.is_empty(connection):
                if self.readonly:
                    raise DatabaseError(f"{self.path} is empty: explore into it first, or check the path")
                return True
            schema.expect_schema(connection, self.path or "memory")
            checksums.teach(connection, schema.own()[0])
            self.has_sums = schema.has_sums(connection)
            self._expect_whole(frozenset({"meta"}))
            schema.facts(connection, self.path or "memory")
            if not self.readonly:
                self._expect_sums()
            if not self.readonly:
                self._log_ahead()
            elif self.path is not None and schema.log_is_open(connection):
                self._left_behind(self.path, has_log)
        return False

    def _left_behind(self, path: Path, has_log: bool) -> None:
        """A writer is at work, or it was killed and its log is folded in here, or the log is gone."""
        try:
            lock = WriterLock(path)
        except DatabaseError:  # another process is writing, or none may: then the log is read where it is
            return
        try:
            if not has_log:
                self.lacks_log = files.logs_ahead(path)
            elif not self.connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("PRAGMA query_only = OFF")
                    _close_log(self.connection)
        finally:
            with contextlib.suppress(sqlite3.Error):
                self.connection.execute("PRAGMA query_only = ON")
            lock.release()

    def _expect_sums(self) -> None:
        """A file of an older schema becomes one of this, and whatever is written has its sum."""
        if self.has_sums:
            checksums.keep(self.connection, schema.own()[0])
            return
        for table in schema.own()[0]:  # before a sum makes what is strange look right
            self._expect_whole(frozenset({table}))
        schema.upgrade(self.connection)
        self.has_sums = True

    def _expect_whole(self, names: frozenset[str]) -> None:
        """Were the rows of these tables written by this package, and have not changed since?

        A writer asks once of each table, a reader again when a writer has committed: rows are checked when they
        are read, but not by whoever wrote them.
        """
        if self.path is None or self.is_new:
            return
        if self.readonly:
            ((commit,),) = self.connection.execute("PRAGMA data_version")
            if commit != self._seen:
                self._whole.clear()
            self._seen = commit
        known = schema.own()[0]
        for name in sorted(names - self._whole):
            ndim = 1
            if known[name].is_of_points:
                self._expect_whole(frozenset({"meta"}))
                ndim = schema.facts(self.connection, self.path)["ndim"]
            checksums.expect_whole(self.connection, known[name], ndim, self.path, summed=self.has_sums)
            self._whole.add(name)

    def _log_ahead(self) -> None:
        # A file system without shared memory refuses and stays with a rollback journal: as safe, but then
        # readers wait for the writer.
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = FULL")

    @contextlib.contextmanager
    def creation(self) -> Iterator[None]:
        """All tables and whatever the block adds to them appear at once, or the file stays empty."""
        with self.transaction():
            with self._explained():
                schema.create(self.connection)
                checksums.teach(self.connection, schema.own()[0])
                checksums.keep(self.connection, schema.own()[0])
            yield
        self._log_ahead()
        self._whole |= schema.own()[0].keys()
        self.is_new = False

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise DatabaseError("this landscape is closed: open it again")
        return self._connection

    def execute(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows."""
        with self._explained():
            if names := _named(sql):
                self._expect_whole(names)
            return self.connection.execute(sql, tuple(values)).fetchall()

    def blob(self, column: str) -> str:
        """SQL for coordinates or spectra and the sums that belong to them, for :meth:`expect_blobs`."""
        return f"{column}, {checksums.BLOBS[column] if self.has_sums else 'NULL'}"

    def expect_blobs(
        self, table: str, ids: Sequence[int], blobs: Sequence[bytes | None], sums: Sequence[int | None]
    ) -> None:
        """Are these the coordinates, or spectra, that were written? Files of older schemas do not know."""
        if self.has_sums:
            checksums.expect_blobs(self.path, schema.own()[0][table], ids, blobs, sums)

    def executemany(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run one statement for every row of values, in this or a new transaction."""
        if not rows:
            return
        with self.transaction(), self._explained():
            self._expect_whole(_named(sql))
            self.connection.executemany(sql, rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; an inner transaction that fails undoes its own part only."""
        if self.readonly:
            raise DatabaseError(
                f"{self.path} is open for reading only: open it with its potential (or readonly=False) to write"
            )
        name = f"level_{self._depth}"
        begin, commit = (
            ("BEGIN IMMEDIATE", "COMMIT") if self._depth == 0 else (f"SAVEPOINT {name}", f"RELEASE {name}")
        )
        self.execute(begin)
        self._depth += 1
        marks = not (self._marked or self.is_new or self.path is None)
        try:
            if marks:
                self.execute(_OPEN)
            yield
            self.execute(commit)
            self._marked |= marks
        except BaseException:
            self._undo(name)
            raise
        finally:
            self._depth -= 1
            if self._depth == 0:
                for call in self.on_end:
                    call()
        if self._depth == 0 and (marks or time.monotonic() - self._folded > _FOLDED_EVERY):
            self.fold()

    def fold(self) -> None:
        """Move what the log holds into the file, so that the file alone has everything that is committed.

        What a reader is still looking at stays in the log until the next time; this waits for no reader.
        """
        if self._connection is None or self.path is None or self.readonly or self._connection.in_transaction:
            return
        with contextlib.suppress(sqlite3.Error):  # a full disk: nothing is lost, it is in the log
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._folded = time.monotonic()

    def compact(self) -> None:
        """Give back what the file does not need any more, if it is more than 32 MiB and half of it."""
        connection = self._connection
        if connection is None or self.path is None or self.readonly or connection.in_transaction:
            return
        with contextlib.suppress(
            sqlite3.Error
        ):  # no room for a second copy, or a reader: it stays as large as it is
            free, pages, size = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("freelist_count", "page_count", "page_size")
            )
            if free * size > _WORTHWHILE and 2 * free > pages:
                connection.execute("VACUUM")
                self.fold()

    def copy(self, path: Path) -> None:
        """Write everything that is committed into a new file at ``path``, which needs no log beside it."""
        with self._explained():
            copy = sqlite3.connect(path, isolation_level=None)
            try:
                self.connection.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
                if not self.lacks_log:
                    copy.execute(_CLOSED)
            finally:
                copy.close()

    @property
    def depth(self) -> int:
        """How many transactions are open, one within the other."""
        return self._depth

    def _undo(self, savepoint: str) -> None:
        # After a full disk SQLite may have rolled back by itself; then there is nothing left to undo.
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None and self._connection.in_transaction:
                if self._depth == 1:
                    self._connection.execute("ROLLBACK")
                else:
                    self._connection.execute(f"ROLLBACK TO {savepoint}")
                    self._connection.execute(f"RELEASE {savepoint}")
        for forget in self.on_rollback:
            forget()

    @property
    def is_closed(self) -> bool:
        return self._connection is None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside belongs to the same commit, whatever a writer does meanwhile."""
        if self.connection.in_transaction:
            yield
            return
        self.execute("BEGIN")
        try:
            yield
        finally:
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Fold the log into the file and let others write. Closing twice is fine."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # a busy reader keeps the log alive: nothing is lost
                if self._marked and not connection.in_transaction:
                    _close_log(connection)
            connection.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter of names in damaged tables of contents
            raise DatabaseError(files.explain(error, self.path or Path("the landscape in memory"))) from error


@functools.lru_cache(maxsize=256)
def _named(sql: str) -> frozenset[str]:
    """The tables of a landscape that a statement names."""
    return frozenset(re.findall(r"\b(?:FROM|INTO|UPDATE|JOIN)\s+(\w+)", sql)).intersection(schema.own()[0])


def _let_go(connection: sqlite3.Connection) -> None:
    """Of a landscape that was forgotten; Python 3.13 complains of connections that stay open."""
    with contextlib.suppress(sqlite3.Error):  # one of another thread
        connection.close()


def _close_log(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_AT_CLOSING}")
    connection.execute(_CLOSED)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
