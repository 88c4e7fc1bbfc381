"""One file, one potential, one writer: every way to get that wrong names its remedy."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

import pytest
import torch
from landscape_fixtures import Bowl, points

import torchscape as tsc
from torchscape import Landscape
from torchscape.errors import DatabaseError, FingerprintMismatch


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.db"


def fill(path, n: int = 2000) -> None:
    with Landscape.open(path, Bowl()) as landscape:
        landscape.add_minima(points(torch.arange(2.0 * n).reshape(n, 2)))


def test_what_was_written_is_there_again(path):
    fill(path, 5)
    assert os.listdir(path.parent) == ["a.db"]  # no log, no lock left
    with Landscape.open(path, Bowl()) as landscape:
        assert landscape.n_minima == 5
        assert landscape.add_minima(points([[2.0, 3.0], [0.5, 0.5]])).tolist() == [1, 5]


def test_a_file_can_be_read_without_its_potential(path):
    fill(path, 5)
    with Landscape.open(path) as landscape:
        assert landscape.network().n_minima == 5
        assert landscape.fingerprint == Bowl().fingerprint()
        assert landscape.minima().x.shape == (5, 2)
        with pytest.raises(DatabaseError, match="without its potential"):
            landscape.add_minima(points([[0.0, 0.0]]))
        with pytest.raises(DatabaseError, match="for reading only"):
            landscape.set_property("a", [0.0] * 5)
    assert os.listdir(path.parent) == ["a.db"]


def test_a_file_opens_where_nothing_can_be_written(path, monkeypatch):
    """Read-only media: no log and no lock can be made there (root may write anywhere, hence the pretence)."""
    fill(path, 5)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    monkeypatch.setattr(os, "access", lambda *_: False)
    try:
        with Landscape.open(path) as landscape:
            assert landscape.network().n_minima == 5
            assert os.listdir(path.parent) == ["a.db"]
    finally:
        path.parent.chmod(0o755)


def test_another_potential_is_named_with_what_differs(path):
    fill(path, 1)
    with pytest.raises(FingerprintMismatch, match=r"l2 is 0\.01 there and 0\.001 here") as caught:
        Landscape.open(path, Bowl(l2=0.001))
    assert Bowl().fingerprint()[:12] in str(caught.value)
    assert Bowl(l2=0.001).fingerprint()[:12] in str(caught.value)
    assert "ndim" not in str(caught.value)
    assert os.listdir(path.parent) == ["a.db"]  # the failed attempt keeps no lock


def test_changed_code_under_the_same_settings_is_noticed(path):
    fill(path, 1)
    with pytest.raises(FingerprintMismatch, match="other energies"):
        Landscape.open(path, Bowl(scale=1.001))
    Landscape.open(path, Bowl(scale=1 + 1e-9)).close()  # another machine's rounding


def test_a_float32_potential_recognises_its_own_file(path):
    Landscape.open(path, Bowl(dtype=torch.float32)).close()
    Landscape.open(path, Bowl(dtype=torch.float32, scale=1 + 1e-5)).close()
    with pytest.raises(FingerprintMismatch, match="other energies"):
        Landscape.open(path, Bowl(dtype=torch.float32, scale=1.01))


def test_the_matching_of_a_file_is_remembered(path):
    from torchscape.landscape import Matching

    Landscape.open(path, Bowl(), matching=Matching(distance_tol=0.5)).close()
    with Landscape.open(path, Bowl()) as landscape:
        assert landscape.matching == Matching(distance_tol=0.5).of(Bowl())


@pytest.mark.parametrize("keep", [10, 99, 100, 4096, 5000, 0.5, 0.9])
def test_a_truncated_file(path, keep):
    fill(path)
    size = path.stat().st_size
    os.truncate(path, keep if isinstance(keep, int) else int(keep * size))
    for potential in (None, Bowl()):
        with pytest.raises(DatabaseError, match="truncated or damaged"):
            Landscape.open(path, potential)


def test_a_damaged_page_is_reported_when_it_is_met(path):
    fill(path)
    with path.open("r+b") as file:
        file.seek(4096 * 25)  # behind the tables of contents, among the points
        file.write(b"\xff" * 4096 * 20)
    with Landscape.open(path) as landscape, pytest.raises(DatabaseError, match="truncated or damaged"):
        landscape.network()


@pytest.mark.parametrize("content", [b"n,energy\n0,1.5\n" * 20, b"\x80\x04\x95", b"\x00" * 5000])
def test_a_file_that_is_no_database(path, content):
    path.write_bytes(content)
    for potential in (None, Bowl()):
        with pytest.raises(DatabaseError, match="not a landscape"):
            Landscape.open(path, potential)
    assert path.read_bytes() == content


def test_a_database_of_another_program(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE minimum(id)")
    connection.commit()
    connection.close()
    for potential in (None, Bowl()):
        with pytest.raises(DatabaseError, match="another program"):
            Landscape.open(path, potential)


@pytest.mark.parametrize(("version", "remedy"), [(999, "upgrade"), (0, "explore into a new file")])
def test_another_schema_version(path, version, remedy):
    fill(path, 1)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(DatabaseError, match=remedy):
        Landscape.open(path, Bowl())


def test_an_empty_file_is_a_creation_that_was_cut_short(path):
    path.touch()
    with pytest.raises(DatabaseError, match="empty"):
        Landscape.open(path)
    fill(path, 3)
    with Landscape.open(path) as landscape:
        assert landscape.n_minima == 3


def test_a_missing_file(path):
    with pytest.raises(DatabaseError, match="there is no file"):
        Landscape.open(path)
    with pytest.raises(DatabaseError, match="there is no file"):
        Landscape.open(path, Bowl(), create=False)
    with pytest.raises(DatabaseError, match="there is no file"):
        Landscape.open(path, Bowl(), readonly=True)
    assert os.listdir(path.parent) == []


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(DatabaseError, match="is a directory"):
        Landscape.open(tmp_path, Bowl())
    with pytest.raises(DatabaseError, match="there is no directory"):
        Landscape.open(tmp_path / "missing" / "a.db", Bowl())
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseError, match="there is no directory"):
        Landscape.open(tmp_path / "file" / "a.db", Bowl())
    with pytest.raises(DatabaseError, match="cannot"):
        Landscape.open("/proc/a.db", Bowl())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_permissions(path):
    fill(path, 1)
    path.chmod(0o444)
    with pytest.raises(DatabaseError, match="may not write"):
        Landscape.open(path, Bowl())
    path.parent.chmod(0o555)
    try:
        with pytest.raises(DatabaseError, match="may not write"):
            Landscape.open(path.parent / "b.db", Bowl())
    finally:
        path.parent.chmod(0o755)


def test_one_writer_any_number_of_readers(path):
    with Landscape.open(path, Bowl()) as writer:
        with pytest.raises(DatabaseError, match="already open for writing in this process"):
            Landscape.open(path, Bowl())
        with Landscape.open(path) as reader, Landscape.open(path, Bowl(), readonly=True) as other:
            with writer.transaction():
                writer.add_minima(points([[0.0, 0.0]]))
                assert reader.n_minima == 0  # not committed yet
            assert reader.n_minima == other.n_minima == 1
            assert other.find(points([[0.0, 0.0]])).tolist() == [0]
            writer.add_minima(points([[1.0, 0.0]]))
            assert other.find(points([[1.0, 0.0]])).tolist() == [1]
    Landscape.open(path, Bowl()).close()


def test_the_lock_follows_no_link(path):
    """What the link leads to is somebody else's: it was emptied once, to write down who is writing."""
    notes, lock = path.parent / "notes.txt", path.parent / "a.db.lock"
    notes.write_text("notes")
    for target in (notes, path.parent / "absent"):
        lock.symlink_to(target)
        with pytest.raises(DatabaseError, match="is a link"):
            Landscape.open(path, Bowl())
        lock.unlink()
    assert notes.read_text() == "notes"
    assert sorted(os.listdir(path.parent)) == ["notes.txt"]
    os.mkfifo(lock)  # which would wait for a reader
    with pytest.raises(DatabaseError, match="no plain file"):
        Landscape.open(path, Bowl())
    lock.unlink()
    fill(path, 1)


def test_a_forgotten_landscape_lets_go_of_its_lock(path):
    landscape = Landscape.open(path, Bowl())
    del landscape
    import gc

    gc.collect()
    with Landscape.open(path, Bowl()) as again:
        assert again.n_minima == 0


def test_a_full_disk_keeps_what_was_committed(path):
    """``max_page_count`` makes SQLite meet the same error as a full disk does."""
    with Landscape.open(path, Bowl()) as landscape:
        landscape.add_minima(points([[1.0, 1.0]]))
        pages = landscape._store.execute("PRAGMA page_count")[0][0]
        landscape._store.execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(DatabaseError, match="everything committed so far is safe"):
            landscape.add_minima(points(torch.arange(2.0 * 5000).reshape(5000, 2)))
        assert landscape.n_minima == 1
        landscape._store.execute("PRAGMA max_page_count = 100000")
        assert landscape.add_minima(points([[1.0, 1.0], [2.0, 2.0]])).tolist() == [0, 1]
    with Landscape.open(path) as landscape:
        assert landscape.n_minima == 2


# --- files of strangers -----------------------------------------------------------------------------------


def tampered(path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statements",
    [
        ("ALTER TABLE pair RENAME TO p", "CREATE VIEW pair AS SELECT 1 AS a, 2 AS b, 3 AS times, 'x' AS outcome"),
        ("CREATE VIEW more AS SELECT 1",),
        ("CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM minimum; END",),
        ("DROP TABLE refusal",),
        ("UPDATE minimum SET id = 1000000000 WHERE id = 2",),  # arrays by id would have 8 GB
        ("UPDATE minimum SET id = -5 WHERE id = 2",),
        ("PRAGMA writable_schema = 1", "UPDATE sqlite_master SET sql = CAST(sql AS BLOB) WHERE name = 'pair'"),
    ],
)
def test_tables_that_are_not_those_of_a_landscape_are_refused(path, statements):
    fill(path, 3)
    tampered(path, *statements)
    for potential in (None, Bowl()):
        with pytest.raises(DatabaseError, match="tampered with"):
            Landscape.open(path, potential)


def test_names_in_a_file_do_not_command_the_terminal(path):
    fill(path, 3)
    tampered(path, "INSERT INTO property(name, minimum, value) VALUES (char(27) || '[2J' || char(7), 0, 1.0)")
    with pytest.raises(DatabaseError, match="damaged") as caught, Landscape.open(path) as landscape:
        landscape.describe()
    assert str(caught.value).isprintable()
    tampered(path, "DELETE FROM property")
    with Landscape.open(path, Bowl()) as landscape:
        landscape.set_property("\x1b[2J\a", [1.0, 2.0, 3.0])
        told = landscape.describe()
    assert "?[2J?" in told
    assert all(character.isprintable() or character == "\n" for character in told)


def test_no_statement_numbers_its_placeholders():
    """Python 3.12.1 warns of ``?1`` with a tuple of values, and only where such a statement runs."""
    for file in Path(tsc.__file__).parent.rglob("*.py"):
        assert not re.search(r"[=<>(,]\s*\?\d", file.read_text()), file
