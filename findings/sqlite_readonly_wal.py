"""Seen with SQLite 3.54.1: whoever opens a database in WAL mode with mode=ro leaves two files beside it."""

import os
import sys

import apsw

print("SQLite", apsw.sqlite_lib_version(), "apsw", apsw.apsw_version())
connection = apsw.Connection("a.db")
connection.pragma("journal_mode", "wal")
connection.execute("CREATE TABLE t(x); INSERT INTO t VALUES (1)")
connection.close()
before = sorted(name for name in os.listdir(".") if name.startswith("a.db"))
print("after its writer has closed it:", before)

reader = apsw.Connection("file:a.db?mode=ro", apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READONLY)
print("read:", list(reader.execute("SELECT x FROM t")))
reader.close()
after = sorted(name for name in os.listdir(".") if name.startswith("a.db"))
print("after a reader has closed it:", after)
sys.exit(int(before != ["a.db"] or after != ["a.db", "a.db-shm", "a.db-wal"]))
