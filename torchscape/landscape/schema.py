"""The tables of a landscape file, and what tells such a file from any other.

A landscape is one SQLite file. Coordinates are little-endian float64 blobs, settings and states are JSON:
nothing in it needs this package, this Python or this machine to be read, and nothing in it is executed.
Ids count from 0 in the order of discovery and never change; nothing is ever deleted, but minima of a round that
was cut short, which are numbered anew when it is finished.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

from torchscape.errors import DatabaseError
from torchscape.landscape.checksums import BLOBS, SUM, Table, keep, tables

__all__ = [
    "APPLICATION_ID",
    "SCHEMA_VERSION",
    "create",
    "expect_schema",
    "facts",
    "has_sums",
    "is_empty",
    "log_is_open",
    "own",
    "upgrade",
]

APPLICATION_ID = 0x74736370
"""Stored in the header of the file ("tscp"): says whose file it is."""

SCHEMA_VERSION = 4
"""Stored in the header of the file: says which tables to expect. Raise it with every change below."""

_POINT_COLUMNS = """
    id INTEGER PRIMARY KEY,
    energy REAL NOT NULL,
    grad_rms REAL,
    idx INTEGER,              -- negative Hessian eigenvalues; NULL where not computed
    log_det REAL,             -- sum of ln|mu| over the non-zero eigenvalues; NULL where not computed
    n_zero INTEGER,           -- zero eigenvalues; NULL where not computed
    n_flat INTEGER,           -- those among them that no declared symmetry explains; NULL where not computed
    lowest REAL,              -- lowest eigenvalue; NULL where not computed
    log_degeneracy REAL NOT NULL,
    n_evaluations INTEGER NOT NULL,
    hits INTEGER NOT NULL,    -- searches that ended in it
    run INTEGER,              -- where it was first found: the run (and so the seed),
    task TEXT,                -- the task of that run,
    start INTEGER,            -- and the row of that task
    {ends}
    {sums}
    x BLOB NOT NULL,          -- coordinates, little-endian float64 (last: scans of the rest skip it)
    eigenvalues BLOB          -- the spectrum, ascending, where it was computed densely
"""

_ENDS = """
    minus INTEGER REFERENCES minimum(id),  -- NULL where that path leaves the box
    plus INTEGER REFERENCES minimum(id),
    conflicts INTEGER NOT NULL DEFAULT 0,  -- hits whose downhill paths ended elsewhere
"""

_FAMILY = """
    family INTEGER REFERENCES minimum(id), -- the minimum that stands for it, mostly itself; NULL if unknown
"""

_SUM = f"{SUM} INTEGER NOT NULL DEFAULT 0"
_SUMS = f"{_SUM}, {', '.join(f'{name} INTEGER NOT NULL DEFAULT 0' for name in BLOBS.values())},"

TABLES = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value, {_SUM}) WITHOUT ROWID;

CREATE TABLE minimum({_POINT_COLUMNS.format(ends=_FAMILY, sums=_SUMS)});
CREATE INDEX minimum_by_energy ON minimum(energy, idx);
-- turned out to be saddles when they were characterised
CREATE INDEX no_minimum ON minimum(idx) WHERE idx > 0;
-- counted under the representative of their family
CREATE INDEX member ON minimum(family, id) WHERE family != id;
CREATE INDEX without_family ON minimum(id) WHERE family IS NULL;

CREATE TABLE transition_state({_POINT_COLUMNS.format(ends=_ENDS, sums=_SUMS)});
CREATE INDEX transition_state_by_energy ON transition_state(energy, minus, plus);

-- stationary points of index 2 and more
CREATE TABLE higher_saddle({_POINT_COLUMNS.format(ends="", sums=_SUMS)});

-- integrated paths over transition states, from the minus to the plus minimum
CREATE TABLE path(
    transition_state INTEGER PRIMARY KEY REFERENCES transition_state(id),
    arc BLOB NOT NULL,        -- arc lengths,
    energy BLOB NOT NULL,     -- and energies, both little-endian float64
    {_SUM}
);

CREATE TABLE property(
    name TEXT NOT NULL, minimum INTEGER NOT NULL REFERENCES minimum(id), value REAL,
    {_SUM}, PRIMARY KEY(name, minimum)
) WITHOUT ROWID;

CREATE TABLE refusal(
    run INTEGER, task TEXT, kind TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL, {_SUM}
);

CREATE TABLE run(
    id INTEGER PRIMARY KEY, seed INTEGER NOT NULL, settings TEXT NOT NULL, versions TEXT NOT NULL,
    status TEXT NOT NULL, started TEXT NOT NULL, finished TEXT, {_SUM}
);
CREATE TABLE task(
    key TEXT PRIMARY KEY, run INTEGER, kind TEXT NOT NULL, status TEXT NOT NULL, detail TEXT NOT NULL,
    n_evaluations INTEGER NOT NULL, wall REAL, {_SUM}
);
CREATE TABLE pair(
    a INTEGER NOT NULL, b INTEGER NOT NULL, times INTEGER NOT NULL, outcome TEXT NOT NULL,
    {_SUM}, PRIMARY KEY(a, b)
) WITHOUT ROWID;

CREATE TABLE state(key TEXT PRIMARY KEY, value TEXT NOT NULL, {_SUM});
CREATE TABLE state_array(
    key TEXT NOT NULL REFERENCES state(key), name TEXT NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL,
    data BLOB NOT NULL, {_SUM}, PRIMARY KEY(key, name)
);
"""


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether the file holds no table at all, as one does whose creation was cut short."""
    ((n_tables,),) = connection.execute("SELECT COUNT(*) FROM sqlite_master")
    return bool(n_tables == 0)


def create(connection: sqlite3.Connection) -> None:
    """All tables and the file's marks; the caller holds the transaction that makes them appear at once."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    _make_tables(connection)


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)


@functools.cache
def own() -> tuple[dict[str, Table], frozenset[tuple[Any, ...]]]:
    """The tables of this schema, and what SQLite has on record of a file with them."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        _make_tables(connection)
        return tables(connection), _recorded(connection)


def has_sums(connection: sqlite3.Connection) -> bool:
    """Whether its rows carry checksums: those of files before schema 4 do not."""
    ((version,),) = connection.execute("PRAGMA user_version")
    return bool(version >= 4)


def upgrade(connection: sqlite3.Connection) -> None:
    """Give the rows of a file of schema 3 their checksums: its tables are made anew, in one transaction."""
    known = own()[0]
    for pragma in ("foreign_keys = OFF", "legacy_alter_table = ON"):  # references go by name to the new tables
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        _copy_tables(connection, known)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    finally:
        for pragma in ("legacy_alter_table = OFF", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")


def _copy_tables(connection: sqlite3.Connection, known: dict[str, Table]) -> None:
    indices = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    for (name,) in connection.execute(indices).fetchall():
        connection.execute(f"DROP INDEX {name}")
    for name in known:
        connection.execute(f"ALTER TABLE {name} RENAME TO without_sums_{name}")
    _make_tables(connection)
    keep(connection, known)
    for name, table in known.items():
        columns = ", ".join(table.columns)
        connection.execute(f"INSERT INTO {name}({columns}) SELECT {columns} FROM without_sums_{name}")
        connection.execute(f"DROP TABLE without_sums_{name}")


def _recorded(connection: sqlite3.Connection) -> frozenset[tuple[Any, ...]]:
    found = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'"
    )
    return frozenset((*names, sql and " ".join(re.sub("--.*", "", str(sql)).split())) for *names, sql in found)


def log_is_open(connection: sqlite3.Connection) -> bool:
    """Whether a writer has begun and not ended: then the latest commits may be in the log beside the file."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
    return row is not None and row[0] == "open"


def expect_schema(connection: sqlite3.Connection, path: Path | str) -> None:
    """Itself a torchscape file, of this schema?

    Raises:
        DatabaseError: if it belongs to another program, or to another version of this one, or its tables are not
            those that this one makes.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise DatabaseError(
            f"{path} is an SQLite database of another program (application id {application}), not a landscape; "
            "choose another file name"
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise DatabaseError(
            f"{path} was written by a newer torchscape (schema {version}, this one knows {SCHEMA_VERSION}): "
            "upgrade with pip install --upgrade torchscape"
        )
    if version < _OLDEST:
        raise DatabaseError(
            f"{path} was written by an older torchscape (schema {version}, this one needs {_OLDEST}): "
            "export it with the version that wrote it, or explore into a new file"
        )
    _expect_own_tables(connection, path, version)


_OLDEST = 3  # is read as it is, and made one of today's when it is opened for writing


def _expect_own_tables(connection: sqlite3.Connection, path: Path | str, version: int) -> None:
    """Tables, not views in their places (which compute what they like), and ids that the file has room for."""
    known, recorded = own()
    if version == SCHEMA_VERSION:
        differ = _recorded(connection) ^ recorded
        strange = sorted(name for _, name, *_ in differ)
    else:
        found = dict(connection.execute("SELECT name, type FROM sqlite_master WHERE type != 'index'"))
        strange = [name for name in known if found.get(name) != "table"]
        strange += [name for name, kind in found.items() if kind != "table"]
    if strange:
        raise DatabaseError(
            f"{path} is no landscape, is damaged, or was tampered with ({strange[0]!r} is not as in a landscape): "
            "restore a copy"
        )
    size = (
        connection.execute("PRAGMA page_count").fetchone()[0]
        * connection.execute("PRAGMA page_size").fetchone()[0]
    )
    for table in ("minimum", "transition_state", "higher_saddle"):
        with contextlib.suppress(sqlite3.DatabaseError):  # damage is told where it is met
            lowest, highest = connection.execute(f"SELECT MIN(id), MAX(id) FROM {table}").fetchone()
            if highest is not None and not 0 <= lowest <= highest < size // _ROW:
                raise DatabaseError(
                    f"{path} was tampered with: {table} has the id {highest if lowest >= 0 else lowest}, which a "
                    "file of this size has no room for; restore a copy"
                )


def facts(connection: sqlite3.Connection, path: Path | str) -> dict[str, Any]:
    """What the file says of its landscape.

    Raises:
        DatabaseError: if something is missing there, or cannot be meant.
    """
    found = dict(connection.execute("SELECT key, value FROM meta"))
    ndim, probe, energy = (found.get(name) for name in ("ndim", "probe", "probe_energy"))
    fits = {
        "kind": isinstance(found.get("kind"), str),
        "fingerprint": isinstance(found.get("fingerprint"), str),
        "ndim": isinstance(ndim, int) and 1 <= ndim < 1 << 40,
        "dtype": found.get("dtype") in ("float16", "bfloat16", "float32", "float64"),
        "settings": _is_mapping(found.get("settings")),
        "matching": _is_mapping(found.get("matching")),
        "probe": isinstance(probe, bytes)
        and isinstance(energy, bytes)
        and len(probe) == len(energy) * (ndim or 0),
    }
    if wrong := [name for name, fit in fits.items() if not fit]:
        raise DatabaseError(
            f"{path} does not say whose landscape it is ({wrong[0]}): it is damaged, or its tables were tampered "
            "with; restore a copy"
        )
    return found


def _is_mapping(text: object) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False


_ROW = 32  # bytes that a point takes at least
