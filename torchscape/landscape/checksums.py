"""A checksum per row: finds what changed on the disk without SQLite noticing, and values of other programs.

SQLite notices damage to the order of its pages, not to the numbers in them: one flipped bit gives another
energy. So every row carries the CRC-32 of what it holds, kept in step by triggers that a writing connection has
(the file holds none, so nothing in it is executed), and compared when a table is first looked at. The
coordinates and spectra of points have sums of their own, which are compared when they are read, so that no
reader waits for what it does not ask.

The sum of a row runs over its columns in their order, without those that are summed by themselves: first all
INTEGER (8 bytes, two's complement) and REAL (IEEE, 8 bytes), little-endian, NULL as -(2^63 - 1) and as
-infinity; then every other value as its kind (``n``, ``i``, ``f``, ``t`` or ``b``), the number of its bytes in
8 bytes, and these.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zlib import crc32

from torchscape.errors import DatabaseError
from torchscape.landscape.files import open_connection

__all__ = ["BLOBS", "SUM", "Table", "damaged_rows", "expect_blobs", "expect_whole", "keep", "tables", "teach"]

SUM = "checksum"
"""The column with the sum of a row."""

BLOBS = {"x": "x_checksum", "eigenvalues": "eigenvalues_checksum"}
"""Columns that are summed by themselves, and where."""

_NO_NUMBER = {"INTEGER": "-9223372036854775807", "REAL": "-9e999"}  # in place of NULL
_TYPES = {"INTEGER": "integer", "REAL": "real", "TEXT": "text", "BLOB": "blob"}

_MINIMA = "(SELECT MAX(id) FROM minimum)"
_POINT = (
    "abs(energy) > 1.797e308 OR abs(log_degeneracy) > 1.797e308 OR hits < 0 OR id < 0 OR length(x) != 8 * {ndim} "
    "OR idx NOT BETWEEN 0 AND {ndim} OR n_zero < 0 OR n_flat < 0 OR length(eigenvalues) != 8 * {ndim}"
)
_STRANGE = {
    "minimum": f"{_POINT} OR family NOT BETWEEN 0 AND {_MINIMA}",
    "transition_state": f"{_POINT} OR minus NOT BETWEEN 0 AND {_MINIMA} OR plus NOT BETWEEN 0 AND {_MINIMA}",
    "higher_saddle": f"{_POINT} OR idx IS NULL",
    "path": "length(arc) != length(energy) OR length(arc) % 8 != 0 "
    "OR length(arc) != (SELECT length(arc) FROM path LIMIT 1) OR transition_state NOT BETWEEN 0 AND "
    "(SELECT MAX(id) FROM transition_state)",
    "property": f"minimum NOT BETWEEN 0 AND {_MINIMA}",
    "pair": "a < 0 OR b < 0 OR times < 0",
}
"""What no landscape of ``ndim`` coordinates holds, whatever its sums say."""


class Table:
    """The columns of one table, as ``PRAGMA table_info`` tells them."""

    def __init__(self, name: str, columns: Sequence[tuple[Any, ...]]) -> None:
        names = {column[1] for column in columns}
        own = [column for column in columns if column[1] != SUM and column[1] not in BLOBS.values()]
        self.name = name
        self.columns = [column[1] for column in own]
        self.key = [column[1] for column in columns if column[5]] or ["rowid"]
        self.blobs = [column for column, summed in BLOBS.items() if summed in names]
        self.summed = [column for column in self.columns if column not in self.blobs]
        self._kinds = {column[1]: column[2] for column in own}
        self._nullable = {column[1] for column in own if not (column[3] or column[5])}
        rest = [column for column in self.summed if self._kinds[column] not in _NO_NUMBER]
        self._numbers = [column for column in self.summed if column not in rest] + [
            BLOBS[one] for one in self.blobs
        ]
        self._rest = rest

    @property
    def is_of_points(self) -> bool:
        """Whether its rows are points: with coordinates, and with ids that have no gaps."""
        return bool(self.blobs)

    @property
    def function(self) -> str:
        """The name of the SQL function that sums its rows."""
        return f"sum_of_{self.name}"

    def row_sum(self, *values: object) -> int | None:
        """The sum of the numbers and other values of a row; None where something else stands for a number."""
        n = len(self._numbers)
        try:
            total = crc32(self._pack(*values[:n]))
        except (struct.error, OverflowError):
            return None
        for value in values[n:]:
            total = crc32(b"n" if value is None else _tagged(value), total)
        return total

    @functools.cached_property
    def _pack(self) -> Callable[..., bytes]:
        kinds = ("d" if self._kinds.get(column) == "REAL" else "q" for column in self._numbers)
        return struct.Struct("<" + "".join(kinds)).pack

    def sum_of(self, row: str = "", **instead: str) -> str:
        """SQL for the sum of a row, whose columns have ``row`` before their names, or expressions ``instead``."""
        return f"{self.function}({', '.join(self._values([*self._numbers, *self._rest], row, instead))})"

    def _values(
        self, columns: Sequence[str], row: str = "", instead: Mapping[str, str] | None = None
    ) -> list[str]:
        """SQL for what is summed of columns: a number stands for what is not there."""
        found = []
        for column in columns:
            name = (instead or {}).get(column, row + column)
            kind = self._kinds.get(column, "INTEGER")
            is_open = column in self._nullable and kind in _NO_NUMBER
            found.append(f"COALESCE({name}, {_NO_NUMBER[kind]})" if is_open else name)
        return found

    def triggers(self) -> Iterator[str]:
        """What keeps the sums in step with everything that this connection writes."""
        this = " AND ".join(f"{column} = NEW.{column}" for column in self.key)
        blobs = {BLOBS[column]: f"sum_of_blob(NEW.{column})" for column in self.blobs}
        late = {name: sql for name, sql in blobs.items() if name != BLOBS["x"]}
        others = [column for column in [*self.summed, *self.blobs] if column != "x"]
        for when, again in (
            ("INSERT", blobs),
            (f"UPDATE OF {', '.join(others)}", late),
            *([("UPDATE OF x", blobs)] if "x" in self.blobs else []),
        ):
            columns = {**again, SUM: self.sum_of("NEW.", **again)}
            setting = ", ".join(f"{name} = {sql}" for name, sql in columns.items())
            name = "_".join(["sum", self.name, *when.split()[:3:2]]).strip(",").lower()
            yield (
                f"CREATE TEMP TRIGGER {name} AFTER {when} ON main.{self.name} "
                f"BEGIN UPDATE {self.name} SET {setting} WHERE {this}; END"
            )

    def limits(self, ndim: int) -> str:
        """SQL for rows that no landscape holds, whatever their sums say."""
        return _STRANGE.get(self.name, "0").format(ndim=int(ndim))

    def agrees(self, connection: sqlite3.Connection, ndim: int) -> bool:
        """Whether all rows have their sums, and are rows of a landscape: what :meth:`strange` says of each of
        them, without a call from SQLite for every row."""
        values = self._values([*self._numbers, *self._rest])
        n, pack, tags = len(self._numbers), self._pack, _Tags()
        rows = connection.execute(
            f"SELECT {SUM}, ({self.limits(ndim)}) IS 1, {', '.join(values)} FROM {self.name} NOT INDEXED"
        )
        at_once = _FEW if any(self._kinds[column] == "BLOB" for column in self._rest) else _AT_ONCE
        try:
            with _no_collection():  # a million tuples of numbers hold no cycle, and each is looked at for one
                while block := rows.fetchmany(at_once):
                    sums, strange, *columns = zip(*block, strict=True)
                    totals = map(crc32, map(pack, *columns[:n]) if n else (b"" for _ in block))
                    for column in columns[n:]:
                        totals = map(crc32, map(tags.__getitem__, column), totals)
                    if any(strange) or list(totals) != list(sums):
                        return False
        except (struct.error, OverflowError, sqlite3.OperationalError):  # other kinds of values, no text
            return False
        return True

    def strange(self, ndim: int, *, summed: bool) -> str:
        """SQL for rows of other programs: they have another sum, or without sums values of another type."""
        if summed:
            wrong = f"{SUM} IS NOT {self.sum_of()}"
        else:
            typed = [column for column in self.columns if self._kinds[column] in _TYPES]
            wrong = " OR ".join(f"typeof({c}) NOT IN ('null', '{_TYPES[self._kinds[c]]}')" for c in typed)
        return f"{wrong} OR {self.limits(ndim)}"


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's search for cycles of objects."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def tables(connection: sqlite3.Connection) -> dict[str, Table]:
    """All tables of a landscape, from a connection to one that was just made."""
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: Table(name, connection.execute(f"PRAGMA table_info({name})").fetchall()) for name in names}


def teach(connection: sqlite3.Connection, known: dict[str, Table]) -> None:
    """The SQL functions that sum."""
    connection.create_function("sum_of_blob", 1, _blob_sum, deterministic=True)
    for table in known.values():
        connection.create_function(table.function, -1, table.row_sum, deterministic=True)


def keep(connection: sqlite3.Connection, known: dict[str, Table]) -> None:
    """From now on, whatever this connection writes has its sum."""
    for table in known.values():
        for statement in table.triggers():
            connection.execute(statement)


def expect_whole(
    connection: sqlite3.Connection, table: Table, ndim: int, path: Path | None, *, summed: bool
) -> None:
    """Does a table hold what was written into it, row by row, and does SQLite find every row?

    Pages are gone through where the file is at most 256 MiB: that takes a second per GiB, and more where the disk
    is slow. In large files that is done beside the rest, by a connection and a thread of its own. Rows are
    compared with their sums whatever the size.

    Raises:
        DatabaseError: if not, with the rows and what to do.
    """
    size = [connection.execute(f"PRAGMA {one}").fetchone()[0] for one in ("page_count", "page_size")]
    n_bytes = size[0] * size[1]
    with ThreadPoolExecutor(1) as pool:
        beside = path is not None and _LARGE < n_bytes <= _SEARCHED and not connection.in_transaction
        told = pool.submit(_pages_beside, path, table) if path is not None and beside else None
        _expect_rows(connection, table, ndim, path, summed=summed)
        if n_bytes <= _SEARCHED:
            found = _pages(connection, table) if told is None else told.result()
            if found != "ok":
                raise sqlite3.DatabaseError(f"malformed: {found.splitlines()[-1]}")


def _pages(connection: sqlite3.Connection, table: Table) -> str:
    """What SQLite says of the pages of a table."""
    return str(connection.execute(f"PRAGMA integrity_check({table.name})").fetchone()[0])


def _pages_beside(path: Path, table: Table) -> str:
    with contextlib.closing(open_connection(path, readonly=True)) as connection:
        return _pages(connection, table)


def _expect_rows(
    connection: sqlite3.Connection, table: Table, ndim: int, path: Path | None, *, summed: bool
) -> None:
    if not (summed and table.agrees(connection, ndim)):
        where = table.strange(ndim, summed=summed)
        key = ", ".join(table.key)
        found = connection.execute(f"SELECT {key} FROM {table.name} NOT INDEXED WHERE {where} LIMIT {_NAMED + 1}")
        if rows := found.fetchall():
            raise DatabaseError(damaged_rows(path, table, rows))
    if table.is_of_points:
        n, after = connection.execute(f"SELECT COUNT(*), MAX(id) + 1 FROM {table.name} NOT INDEXED").fetchone()
        if n and n != after:
            raise DatabaseError(
                f"{path} is damaged or was tampered with: of {after} rows of its table {table.name} {n} are "
                "there; restore a copy"
            )


_AT_ONCE = 1 << 13  # rows
_FEW = 16  # the same where they hold arrays
_NAMED = 4  # damaged rows that a message names
_LARGE, _SEARCHED = 1 << 24, 1 << 28  # bytes


def damaged_rows(path: object, table: Table, keys: Sequence[tuple[Any, ...]]) -> str:
    """What to say of rows that are not as they were written.

    Example:
        >>> known = {"pair": Table("pair", [(0, "a", "INTEGER", 1, None, 1), (1, "b", "INTEGER", 1, None, 2)])}
        >>> damaged_rows("m.db", known["pair"], [(1, 2)])
        "m.db is damaged: the row with (a, b) = (1, 2) of its table pair is not what was written (the ..."
    """
    name = ", ".join(table.key) if len(table.key) == 1 else f"({', '.join(table.key)})"
    shown = [", ".join(map(ascii, key)) for key in keys[:_NAMED]]  # of a stranger's names, nothing acts
    these = ", ".join(shown if len(table.key) == 1 else (f"({one})" for one in shown))
    rows = f"the row with {name} = {these}" if len(keys) == 1 else f"rows with {name} = {these}"
    more = " and others" if len(keys) > _NAMED else ""
    verb = "is" if len(keys) == 1 else "are"
    return (
        f"{path} is damaged: {rows}{more} of its table {table.name} {verb} not what was written (the checksum "
        "differs, or it holds what no landscape does): restore a copy; the other rows can still be read by other "
        f"programs, as with sqlite3 {path} 'SELECT * FROM {table.name}'"
    )


def expect_blobs(
    path: object, table: Table, ids: Sequence[int], blobs: Sequence[bytes | None], sums: Sequence[int | None]
) -> None:
    """Are these the coordinates, or spectra, that were written?

    Raises:
        DatabaseError: if not, with the ids.
    """
    if list(map(_blob_sum, blobs)) != list(sums):
        wrong = [(i,) for i, blob, total in zip(ids, blobs, sums, strict=True) if _blob_sum(blob) != total]
        raise DatabaseError(damaged_rows(path, table, wrong))


def _blob_sum(value: object) -> int:
    return crc32(value) if isinstance(value, bytes) else 0


class _Tags(dict[object, bytes]):
    """Values as :func:`_tagged`, short texts kept: most rows name the same few tasks."""

    def __missing__(self, value: object) -> bytes:
        told = b"n" if value is None else _tagged(value)
        if isinstance(value, str) and len(value) < 100 and len(self) < _AT_ONCE:
            self[value] = told
        return told


def _tagged(value: object) -> bytes:
    """A value of another column than those of numbers, as bytes that no other value has."""
    if isinstance(value, str):
        kind, data = b"t", value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        kind, data = b"b", value
    elif isinstance(value, int):
        kind, data = b"i", struct.pack("<q", value)
    else:
        kind, data = b"f", struct.pack("<d", value)
    return kind + struct.pack("<q", len(data)) + data
