"""What changed in a file since it was written is found, row by row; what no landscape holds is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import sqlite3
import struct
import zlib
from pathlib import Path

import pytest
import torch
from landscape_fixtures import Bowl, points

from torchscape import Landscape
from torchscape.errors import DatabaseError
from torchscape.landscape import checksums, schema

OLD = Path(__file__).with_name("schema_3.sql")


def fill(landscape: Landscape, n: int = 3) -> None:
    """Something in every table, and every kind of change to it."""
    run = landscape.begin_run(5, {"a": 1})
    x = torch.zeros(n, 2, dtype=torch.float64)
    x[:, 0] = torch.arange(n)
    spectra = torch.tensor([[1.0, 2.0]], dtype=torch.float64).repeat(n, 1)
    known = {"log_det": torch.ones(n).double(), "n_zero": torch.zeros(n).long(), "eigenvalues": spectra}
    with landscape.transaction():
        landscape.add_minima(points(x), task="q")
        landscape.record_task("q", "quench", {"x": 1}, 30, wall=1.5)
    landscape.set_curvature(torch.arange(n), points(x, **known))
    saddle = points([[1.5, 1.5]], index=1, eigenvalues=torch.tensor([[-1.0, 2.0]]).double())
    for _ in range(2):
        landscape.add_transition_states(saddle, torch.tensor([0]), torch.tensor([1]))
    landscape.add_higher_saddles(points([[3.0, 3.0]], index=2))
    arc, along = torch.tensor([[0.0, 1.0, 2.0]]).double(), torch.tensor([[0.0, 4.5, 1.0]]).double()
    for _ in range(2):
        landscape.set_paths(torch.tensor([0]), arc, along)
        landscape.set_property("accuracy", torch.arange(n) / 8)
        landscape.record_pairs(torch.tensor([[1, 0]]), "joined")
        landscape.save_state("s", {"n": 3, "x": torch.arange(4.0).double()})
    landscape.add_minima(points([[float("nan"), 0.0]]))
    landscape.set_flat_directions(torch.tensor([2]), torch.tensor([1]))
    landscape.set_families(torch.tensor([2]), torch.tensor([1]))
    landscape.finish_run(run)


@pytest.fixture
def path(tmp_path):
    with Landscape.open(tmp_path / "a.db", Bowl()) as landscape:
        fill(landscape)
    return tmp_path / "a.db"


def everything(path: Path, potential: Bowl | None = None) -> str:
    """All that a landscape tells, in one string."""
    with Landscape.open(path, potential, readonly=True) as landscape:
        known = (
            landscape.network(coords=True),
            landscape.minima(),
            landscape.transition_states(),
            landscape.paths(),
        )
        also = landscape.stationary_points(), landscape.tried_pairs(), landscape.load_state("s"), landscape.ends()
        told = (
            landscape.summary(),
            landscape.n_evaluations(),
            landscape.task_done("q"),
            landscape.n_tasks("quench"),
        )
        with torch._tensor_str.printoptions(precision=17):
            return repr(whole((known, also, told, landscape.n_minima, landscape.without_family())))


def whole(value):
    """With all that results hold, where they show themselves briefly."""
    if dataclasses.is_dataclass(value):
        return {field.name: whole(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [whole(one) for one in value] if isinstance(value, tuple) else value


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_sum_is_what_is_said_of_it(path):
    """From zlib and struct alone, as another program would compute it."""
    connection = sqlite3.connect(path)
    name, minimum, value, found = connection.execute("SELECT * FROM property WHERE minimum = 1").fetchone()
    text = b"t" + struct.pack("<q", len(name)) + name.encode()
    assert found == zlib.crc32(struct.pack("<qd", minimum, value) + text)
    row = connection.execute("SELECT * FROM higher_saddle").fetchone()
    *numbers, run, task, start, total, x_total, spectrum_total, x, spectrum = row
    assert (run, task, spectrum, spectrum_total) == (1, None, None, 0)
    assert x_total == zlib.crc32(x) == zlib.crc32(struct.pack("<2d", 3.0, 3.0))
    kinds = "qddqdqqddqq"
    none = {"d": -float("inf"), "q": -(2**63) + 1}
    values = [none[kind] if value is None else value for kind, value in zip(kinds, numbers, strict=True)]
    assert total == zlib.crc32(struct.pack(f"<{kinds}qqqq", *values, run, start, x_total, spectrum_total) + b"n")
    connection.close()


def test_every_change_that_is_not_ours_is_found(path):
    """One value of every column of every table, each in a fresh copy."""
    known, _ = schema.own()
    before = everything(path)
    tried = 0
    for name, table in known.items():
        for column in [*table.columns, *(checksums.BLOBS[one] for one in table.blobs), checksums.SUM]:
            copy = path.with_name("copy.db")
            shutil.copy(path, copy)
            there = f"rowid IN (SELECT rowid FROM {name} LIMIT 1)" if "rowid" in table.key else (
                f"({', '.join(table.key)}) IN (SELECT {', '.join(table.key)} FROM {name} ORDER BY 1 LIMIT 1)"
            )  # fmt: skip
            changed = (
                f"CASE typeof({column}) WHEN 'integer' THEN {column} + 100 WHEN 'real' THEN {column} + 1e-9 "
                f"WHEN 'text' THEN 'x' || {column} WHEN 'blob' THEN CAST(x'01' || substr({column}, 2) AS BLOB) "
                "ELSE 7 END"
            )
            change(copy, f"UPDATE {name} SET {column} = {changed} WHERE {there}")
            with pytest.raises(DatabaseError, match="damaged") as caught:
                everything(copy)
            assert "restore a copy" in str(caught.value)
            tried += 1
    assert tried > 80
    assert everything(path) == before


@pytest.mark.parametrize("large", [False, True], ids=["here", "beside"])
def test_an_index_that_leaves_rows_out_is_found(path, monkeypatch, large):
    """All rows have their sums, but whoever asks the index by energy would not be told of one of them."""
    if large:
        monkeypatch.setattr(checksums, "_LARGE", 0)
    before = everything(path)
    name = "transition_state_by_energy"
    connection = sqlite3.connect(path)
    entry = connection.execute("SELECT * FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("DELETE FROM sqlite_master WHERE name = ?", (name,))
    connection.commit()
    connection.close()
    connection = sqlite3.connect(path)
    checksums.teach(connection, schema.own()[0])
    checksums.keep(connection, schema.own()[0])
    connection.execute("UPDATE transition_state SET energy = energy + 1")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", entry)
    connection.commit()
    connection.close()
    with pytest.raises(DatabaseError, match=r"malformed|damaged"):
        everything(path)
    change(path, f"REINDEX {name}")
    assert everything(path) != before


def test_rows_are_named_and_what_is_whole_is_read(path):
    change(path, "UPDATE pair SET times = 9", "UPDATE property SET value = 0.5 WHERE minimum = 1")
    with Landscape.open(path) as landscape:
        assert len(landscape.minima()) == 2
        with pytest.raises(DatabaseError, match=r"the row with \(a, b\) = \(0, 1\) of its table pair is not"):
            landscape.tried_pairs()
        with pytest.raises(DatabaseError, match=r"\(name, minimum\) = \('accuracy', 1\) of its table property"):
            landscape.network()


def test_a_row_that_vanished_is_missed(path):
    change(path, "DELETE FROM higher_saddle", "DELETE FROM transition_state")
    everything_else = Landscape.open(path)
    assert everything_else.n_transition_states == 0  # all of them: nothing can tell
    everything_else.close()
    change(path, "DELETE FROM minimum WHERE id = 1")
    with Landscape.open(path) as landscape, pytest.raises(DatabaseError, match="of 3 rows of its table minimum 2"):
        landscape.minimum_ids()


@pytest.mark.parametrize(
    "values",
    [
        ("minimum", "energy = 9e999"),
        ("minimum", "energy = 'low'"),
        ("minimum", "idx = 1000000000000"),
        ("minimum", "family = 1000000000000"),
        ("minimum", "hits = -1"),
        ("minimum", "x = zeroblob(7)"),
        ("minimum", "x = 'text'"),
        ("minimum", "eigenvalues = zeroblob(800000)"),
        ("transition_state", "minus = 5"),
        ("path", "arc = zeroblob(8)"),
        ("pair", "a = -3"),
        ("meta", "value = '3' WHERE key = 'ndim'"),
        ("meta", "value = 10000000000000000 WHERE key = 'ndim'"),
        ("meta", "value = 'complex128' WHERE key = 'dtype'"),
        ("meta", "value = '[' WHERE key = 'matching'"),
        ("meta", "value = zeroblob(5) WHERE key = 'probe'"),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_what_no_landscape_holds_is_refused_whatever_its_sum(path, values, old):
    """A stranger can compute sums, too, or write a file of the schema that had none."""
    table, setting = values
    connection = sqlite3.connect(path)
    if old:
        path.unlink()
        connection.close()
        connection = sqlite3.connect(path)
        connection.executescript(OLD.read_text())
    else:
        checksums.teach(connection, schema.own()[0])
        checksums.keep(connection, schema.own()[0])
    try:
        connection.execute(f"UPDATE {table} SET {setting}")
    except sqlite3.IntegrityError:  # the sum of what is no number
        assert not old
        return
    finally:
        connection.commit()
        connection.close()
    for potential in (None, Bowl()):
        with pytest.raises(DatabaseError, match="restore a copy"):
            everything(path, potential)
    if old:
        with pytest.raises(DatabaseError, match="restore a copy"):
            Landscape.open(path, Bowl())


def test_flipped_bits_are_found_or_change_nothing(path):
    """Anywhere in the file; ``scripts/fuzz`` tries thousands."""
    before, content, dice = everything(path), path.read_bytes(), random.Random(0)
    used = [i for i, byte in enumerate(content) if byte]
    refused = 0
    for _ in range(60):
        flipped = bytearray(content)
        flipped[dice.choice(used)] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        try:
            told = everything(path)
        except DatabaseError:
            refused += 1
        else:
            assert told == before
    assert refused > 30


# --- files of the schema before ---------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.executescript(OLD.read_text())
    connection.close()
    return path


def test_an_older_file_is_read_as_it_is(old):
    before = old.read_bytes()
    told = everything(old)
    assert "0.125" in told
    assert everything(old, Bowl()) == told
    assert old.read_bytes() == before


def test_an_older_file_becomes_one_of_today_when_it_is_written(old, tmp_path):
    told = everything(old)
    with Landscape.open(old, Bowl()) as landscape:
        assert landscape.n_minima == 3
    assert os.listdir(tmp_path) == ["old.db"]
    assert everything(old) == told
    made, new = sqlite3.connect(old), tmp_path / "new.db"
    Landscape.open(new, Bowl()).close()
    with contextlib.closing(sqlite3.connect(new)) as connection:
        assert schema._recorded(made) == schema._recorded(connection)
    assert made.execute("PRAGMA foreign_key_check").fetchall() == []
    assert made.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    made.close()
    with Landscape.open(old, Bowl()) as landscape:
        assert landscape.add_minima(points([[1.0, 0.0], [9.0, 0.0]])).tolist() == [1, 3]
    change(old, "UPDATE minimum SET hits = 7 WHERE id = 3")
    with pytest.raises(DatabaseError, match="id = 3"):
        everything(old)


def test_an_upgrade_that_is_cut_short_changes_nothing(old, monkeypatch):
    told = everything(old)

    def cut(*_):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "keep", cut)
        with pytest.raises(DatabaseError, match="no space left"):
            Landscape.open(old, Bowl())
    with contextlib.closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    assert everything(old) == told
