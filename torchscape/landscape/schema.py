"""The tables of a landscape file, and what tells such a file from any other.

A landscape is one SQLite file. Coordinates are little-endian float64 blobs, settings and states are JSON:
nothing in it needs this package, this Python or this machine to be read, and nothing in it is executed.
Ids count from 0 in the order of discovery and never change; nothing is ever deleted.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

from torchscape.errors import DatabaseError

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "create", "is_empty", "log_is_open", "verify"]

APPLICATION_ID = 0x74736370
"""Stored in the header of the file ("tscp"): says whose file it is."""

SCHEMA_VERSION = 3
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

TABLES = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE minimum({_POINT_COLUMNS.format(ends=_FAMILY)});
CREATE INDEX minimum_by_energy ON minimum(energy, idx);
-- turned out to be saddles when they were characterised
CREATE INDEX no_minimum ON minimum(idx) WHERE idx > 0;
-- counted under the representative of their family
CREATE INDEX member ON minimum(family, id) WHERE family != id;
CREATE INDEX without_family ON minimum(id) WHERE family IS NULL;

CREATE TABLE transition_state({_POINT_COLUMNS.format(ends=_ENDS)});
CREATE INDEX transition_state_by_energy ON transition_state(energy, minus, plus);

-- stationary points of index 2 and more
CREATE TABLE higher_saddle({_POINT_COLUMNS.format(ends="")});

-- integrated paths over transition states, from the minus to the plus minimum
CREATE TABLE path(
    transition_state INTEGER PRIMARY KEY REFERENCES transition_state(id),
    arc BLOB NOT NULL,        -- arc lengths,
    energy BLOB NOT NULL      -- and energies, both little-endian float64
);

CREATE TABLE property(
    name TEXT NOT NULL, minimum INTEGER NOT NULL REFERENCES minimum(id), value REAL,
    PRIMARY KEY(name, minimum)
) WITHOUT ROWID;

CREATE TABLE refusal(run INTEGER, task TEXT, kind TEXT NOT NULL, reason TEXT NOT NULL, n INTEGER NOT NULL);

CREATE TABLE run(
    id INTEGER PRIMARY KEY, seed INTEGER NOT NULL, settings TEXT NOT NULL, versions TEXT NOT NULL,
    status TEXT NOT NULL, started TEXT NOT NULL, finished TEXT
);
CREATE TABLE task(
    key TEXT PRIMARY KEY, run INTEGER, kind TEXT NOT NULL, status TEXT NOT NULL, detail TEXT NOT NULL,
    n_evaluations INTEGER NOT NULL, wall REAL
);
CREATE TABLE pair(
    a INTEGER NOT NULL, b INTEGER NOT NULL, times INTEGER NOT NULL, outcome TEXT NOT NULL,
    PRIMARY KEY(a, b)
) WITHOUT ROWID;

CREATE TABLE state(key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE state_array(
    key TEXT NOT NULL REFERENCES state(key), name TEXT NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY(key, name)
);
"""


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether the file holds no table at all, as one does whose creation was cut short."""
    return connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0


def create(connection: sqlite3.Connection) -> None:
    """All tables and the file's marks; the caller holds the transaction that makes them appear at once."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    for statement in TABLES.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def log_is_open(connection: sqlite3.Connection) -> bool:
    """Whether a writer has begun and not ended: then the latest commits may be in the log beside the file."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
    return row is not None and row[0] == "open"


def verify(connection: sqlite3.Connection, path: Path | str) -> None:
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
    if version < SCHEMA_VERSION:
        raise DatabaseError(
            f"{path} was written by an older torchscape (schema {version}, this one needs {SCHEMA_VERSION}): "
            "export it with the version that wrote it, or explore into a new file"
        )
    _expect_own_tables(connection, path)


def _expect_own_tables(connection: sqlite3.Connection, path: Path | str) -> None:
    """Tables, not views in their places (which compute what they like), and ids that the file has room for."""
    found = dict(connection.execute("SELECT name, type FROM sqlite_master WHERE type != 'index'"))
    wanted = re.findall(r"CREATE TABLE (\w+)", TABLES)
    strange = [name for name in wanted if found.get(name) != "table"]
    strange += [name for name, kind in found.items() if kind != "table"]
    if strange:
        raise DatabaseError(
            f"{path} is no landscape, or was tampered with ({strange[0]!r} is no table of its own): restore a copy"
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


_ROW = 32  # bytes that a point takes at least
