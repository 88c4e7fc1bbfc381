"""A landscape on a file system of several machines: it is said, and a copy on this one's disk is written."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import torchscape as tsc
from torchscape.cli import main
from torchscape.errors import DatabaseError
from torchscape.landscape import filesystems, on_scratch, scratch
from torchscape.landscape.filesystems import kind_of, locks_hold, warning_for
from torchscape.landscape.lock import WriterLock

SURFACE = tsc.potentials.Himmelblau()


def explore(path: Path, hops: int = 1) -> None:
    with tsc.Landscape.open(path, SURFACE) as landscape:
        tsc.explore(landscape, SURFACE, strategies=tsc.BasinHopping(walkers=16, hops=hops), progress=False)


def n_minima(path: Path) -> int:
    with tsc.Landscape.open(path) as landscape:
        return landscape.n_minima


@pytest.fixture
def mounts(tmp_path):
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/vda / ext4 rw 0 0\n"
        f"server:/export {tmp_path}/far nfs4 rw,vers=4.2 0 0\n"
        f"tmpfs {tmp_path}/far/near tmpfs rw 0 0\n"
        f"mds@tcp:/big {tmp_path}/two\\040words lustre rw 0 0\n"
        "broken line\n"
    )
    return table


def test_the_innermost_mount_says_which_kind_it_is(tmp_path, mounts):
    for path, kind in (
        ("a.db", "ext4"),
        ("far/a.db", "nfs4"),
        ("far/deep/er/a.db", "nfs4"),
        ("far/near/a.db", "tmpfs"),
        ("farther/a.db", "ext4"),
        ("two words/a.db", "lustre"),
    ):
        assert kind_of(tmp_path / path, mounts) == kind
    assert kind_of(tmp_path, tmp_path / "no table") == ""


def test_this_machine_says_what_stat_says(tmp_path):
    """The system's own tool names the same kind, or the magic number's name of it."""
    told = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True)
    if told.returncode:
        pytest.skip("no GNU stat, whose word the answer is compared with")
    known = {"ext2/ext3": "ext4", "overlayfs": "overlay"}
    assert kind_of(tmp_path) in (told.stdout.strip(), known.get(told.stdout.strip()))


def test_whether_locks_hold_is_tried_by_another_process(tmp_path):
    lock = WriterLock(tmp_path / "a.db")
    assert locks_hold(lock.path)
    lock.release()
    lock.path.touch()
    assert not locks_hold(lock.path)  # nobody holds it: what a file system without locks looks like


def test_who_begins_to_write_is_told(tmp_path, monkeypatch):
    assert warning_for(tmp_path / "a.db", tmp_path / "a.db.lock") == ""
    monkeypatch.setattr(filesystems, "kind_of", lambda path: "nfs4")
    with pytest.warns(
        UserWarning, match=r"a\.db lies on a file system that several machines share \(nfs4\)"
    ) as told:
        tsc.Landscape.open(tmp_path / "a.db", SURFACE).close()
    assert "Locks do not hold" not in str(told[0].message)
    monkeypatch.setattr(filesystems, "locks_hold", lambda path: False)
    with pytest.warns(UserWarning, match="a second writer would not be noticed"):
        tsc.Landscape.open(tmp_path / "a.db", SURFACE).close()
    with tsc.Landscape.open(tmp_path / "a.db") as landscape:  # who reads need not know
        assert landscape.n_minima == 0


def test_a_copy_is_written_and_brought_back(tmp_path):
    far, folder = tmp_path / "far" / "a.db", tmp_path / "near"
    folder.mkdir()
    with on_scratch(far, folder) as near:
        assert near.is_relative_to(folder)
        explore(near)
        assert not far.exists()
    assert n_minima(far) == 4
    with on_scratch(far, folder) as near:
        explore(near, hops=2)
    with tsc.Landscape.open(far) as landscape:
        assert len(landscape.runs()) == 2
    assert sorted(os.listdir(folder)) == []
    assert sorted(os.listdir(far.parent)) == ["a.db"]


def test_it_is_brought_back_after_an_error_too(tmp_path):
    def fail() -> None:
        with on_scratch(tmp_path / "a.db", tmp_path) as near:
            explore(near)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert n_minima(tmp_path / "a.db") == 4


def test_the_log_of_a_killed_writer_comes_along_and_does_not_stay(tmp_path):
    """SQLite would fold it into whatever file lies there."""
    far = tmp_path / "a.db"
    explore(far)
    killed = (
        "import os, signal, sys, torchscape as tsc\n"
        "surface = tsc.potentials.Himmelblau()\n"
        "landscape = tsc.Landscape.open(sys.argv[1], surface)\n"
        "landscape.save_state('mine', {'n': 7})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(far)]).returncode == -signal.SIGKILL
    assert (tmp_path / "a.db-wal").stat().st_size > 0
    with on_scratch(far, tmp_path) as near, tsc.Landscape.open(near, SURFACE) as landscape:
        assert landscape.load_state("mine") == {"n": 7}
    assert not (tmp_path / "a.db-wal").exists()
    with tsc.Landscape.open(far) as landscape:
        assert landscape.load_state("mine") == {"n": 7}


def test_what_is_committed_is_copied_while_it_grows(tmp_path):
    """Its process killed, the file has what was there at the last copy, and is whole."""
    far = tmp_path / "a.db"
    driver = (
        "import sys, time, torchscape as tsc\n"
        "from torchscape.landscape import on_scratch\n"
        "surface = tsc.potentials.Himmelblau()\n"
        "with on_scratch(sys.argv[1], sys.argv[2], every=0.1) as near:\n"
        "    with tsc.Landscape.open(near, surface) as landscape:\n"
        "        tsc.explore(landscape, surface, strategies=tsc.BasinHopping(hops=1), progress=False)\n"
        "        print('explored', flush=True)\n"
        "        time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", driver, far, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "explored\n"
    until = time.monotonic() + 60
    while not (far.exists() and _count(far) == 4) and time.monotonic() < until:
        time.sleep(0.1)
    process.kill()
    process.wait()
    process.stdout.close()
    assert n_minima(far) == 4


def _count(path: Path) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT count(*) FROM minimum").fetchone()[0]
    except sqlite3.Error:
        return -1
    finally:
        connection.close()


def test_there_is_one_at_a_time(tmp_path):
    with on_scratch(tmp_path / "a.db", tmp_path), pytest.raises(DatabaseError, match="already open for writing"):
        explore(tmp_path / "a.db")


@pytest.fixture
def without_locks(tmp_path, monkeypatch):
    """A folder whose file system has none."""
    import fcntl

    far, lock = tmp_path / "lockless", fcntl.flock
    far.mkdir()

    def flock(descriptor: int, operation: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(far):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    return far


def test_without_locks_a_note_says_who_writes(tmp_path, without_locks, monkeypatch):
    far = without_locks / "a.db"
    with pytest.raises(DatabaseError, match=r"has no locks .*on_scratch"):
        explore(far)
    with on_scratch(far, tmp_path) as near:
        explore(near)
        assert (without_locks / "a.db.writer").exists()
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        with pytest.raises(DatabaseError, match=r"being written by process \d+ on"), on_scratch(far, tmp_path):
            pass
        monkeypatch.delenv("SLURM_JOB_ID")
    assert n_minima(far) == 4
    note = without_locks / "a.db.writer"
    assert not note.exists()
    note.write_text("job 17")
    monkeypatch.setenv("SLURM_JOB_ID", "17")  # the job was killed, and queued again
    with on_scratch(far, tmp_path) as near:
        assert n_minima(near) == 4
    note.write_text("job 18")
    os.utime(note, (0, 0))  # killed long ago
    with on_scratch(far, tmp_path) as near:
        assert n_minima(near) == 4


def test_where_it_cannot_be_brought_back_the_message_says_where_it_is(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill_the_disk() -> None:
        with on_scratch(tmp_path / "a.db", tmp_path) as near:
            explore(near)
            monkeypatch.setattr(scratch, "_copy", full)

    with pytest.raises(DatabaseError, match=r"No space left .*everything is in (\S+), copy it") as caught:
        fill_the_disk()
    assert n_minima(Path(str(caught.value).split("everything is in ")[1].partition(",")[0])) == 4


def test_the_command_line_works_there(tmp_path, monkeypatch, capsys):
    words = ["explore", "himmelblau", "--db", str(tmp_path / "a.db"), "--walkers", "16", "--hops", "3"]
    assert main([*words, "--scratch", str(tmp_path)]) == 0
    assert f"working in {tmp_path}, copied back to {tmp_path}/a.db every minute" in capsys.readouterr().out
    assert n_minima(tmp_path / "a.db") == 4
    monkeypatch.setattr(filesystems, "kind_of", lambda path: "lustre" if path == tmp_path / "a.db" else "ext4")
    monkeypatch.setenv("TORCHSCAPE_SCRATCH", str(tmp_path))
    assert main(words) == 0
    assert "a.db is on a file system that machines share, lustre" in capsys.readouterr().out
