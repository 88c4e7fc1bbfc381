"""SIGTERM and SIGHUP end work as Ctrl-C does: committed, recorded, in the file itself, with their exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import torchscape as tsc
from torchscape import interrupts
from torchscape.cli import main
from torchscape.interrupts import Interrupt, interruptible
from torchscape.landscape import Landscape
from torchscape.stopwatch import Stopped, Stopwatch, check, running

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs POSIX signals")


MODEL = """
import sys, time
import torchscape as tsc

class Slow(tsc.Potential):
    ndim = 2
    bounds = tsc.Bounds.of([(-6, 6), (-6, 6)])

    def energy(self, x):
        if len(x) > 2 and {pause}:  # not the samples that tell potentials apart
            time.sleep({pause})
        return (x[:, 0] ** 2 + x[:, 1] - 11) ** 2 + (x[:, 0] + x[:, 1] ** 2 - 7) ** 2

def slow():
    return Slow()
"""

SCRIPT = """
import signal, sys
sys.path.insert(0, sys.argv[1])
import torchscape as tsc
from model import slow

with tsc.Landscape.open(sys.argv[2], slow()) as landscape:
    tsc.explore(landscape, landscape.potential, check=False, progress=False,
                strategies=[tsc.BasinHopping(walkers=4, hops=10**6, round_hops=1)])
print("not reached")
"""


@pytest.fixture(autouse=True)
def _signals_arrive():
    """Also where the tests run in the background: shells ignore Ctrl-C there, and nohup ignores hangups."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGHUP, before[1])


def committed(db: Path) -> bool:
    """Whether a task of an exploration is in the file itself, whatever its log says."""
    try:
        connection = sqlite3.connect(f"{db.absolute().as_uri()}?immutable=1", uri=True)
        try:
            return connection.execute("SELECT COUNT(*) FROM task").fetchone()[0] > 0
        finally:
            connection.close()
    except sqlite3.Error:
        return False


def ended_by(number: int, words: list[str], db: Path) -> subprocess.CompletedProcess:
    """The program, sent a signal once its file alone holds a task."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tsc.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as program:
        until = time.monotonic() + 240
        while not committed(db) and program.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        program.send_signal(number)
        out, err = program.communicate(timeout=120)
    return subprocess.CompletedProcess(words, program.returncode, out, err)


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(MODEL.format(pause=0.001))
    return path


def test_sigterm_ends_the_command_line_as_ctrl_c_does(model, tmp_path, capsys):
    db = tmp_path / "a.db"
    words = ["explore", f"{model}:slow", "--db", str(db), "--walkers", "4", "--hops", "1000000", "--quiet"]
    done = ended_by(signal.SIGTERM, ["-m", "torchscape", *words, "--strategy", "basin-hopping"], db)
    assert done.returncode == 128 + signal.SIGTERM == 143, done.stderr
    assert (
        done.stderr.strip()
        == f"interrupted: everything found so far is in {db}; the same command continues from there"
    )
    assert sorted(path.name for path in tmp_path.glob("a.db*")) == ["a.db"]
    with Landscape.open(db) as landscape:
        assert [run["status"] for run in landscape.runs()] == ["interrupted"]
        assert landscape.n_minima > 0
        assert not landscape.lacks_log


def test_sighup_ends_a_script_after_explore_has_tidied_up(model, tmp_path):
    db, script = tmp_path / "a.db", tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = ended_by(signal.SIGHUP, [str(script), str(tmp_path), str(db)], db)
    assert done.returncode == 128 + signal.SIGHUP == 129, done.stderr
    assert "not reached" not in done.stdout
    with Landscape.open(db) as landscape:
        assert [run["status"] for run in landscape.runs()] == ["interrupted"]
    assert not db.with_name("a.db-wal").exists()


# --- the block itself -------------------------------------------------------------------------------------


def test_handlers_are_as_before_afterwards():
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
        with interruptible():
            pass
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_what_a_program_has_decided_about_a_signal_stands(handler):
    before = signal.signal(signal.SIGHUP, handler)  # as nohup does
    try:
        with interruptible() as watch:
            signal.raise_signal(signal.SIGHUP)
        assert watch.received is None
        assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_outermost_block_ends_the_process_even_if_the_interrupt_was_caught():
    went_on = []

    def caught():
        with interruptible():
            with interruptible(), pytest.raises(Interrupt):
                signal.raise_signal(signal.SIGTERM)
            went_on.append("after the inner block")

    with pytest.raises(SystemExit) as left:
        caught()
    assert left.value.code == 143
    assert went_on == ["after the inner block"]
    with pytest.raises(SystemExit) as left, interruptible():
        signal.raise_signal(signal.SIGHUP)
    assert left.value.code == 129


def test_ctrl_c_is_left_as_it_is():
    with pytest.raises(KeyboardInterrupt) as caught, interruptible():
        signal.raise_signal(signal.SIGINT)
    assert type(caught.value) is KeyboardInterrupt


def test_a_signal_stops_the_watch_first_and_raises_at_the_second():
    with running(Stopwatch()) as watch, interruptible():
        signal.raise_signal(signal.SIGINT)
        assert watch.signal == signal.SIGINT
        with pytest.raises(Stopped):
            check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_raises_where_nobody_asks_the_watch(monkeypatch):
    """As in a task that knows nothing of limits: after two seconds, here sooner."""
    monkeypatch.setattr(interrupts, "_PATIENCE", 0.01)

    def asks_nobody():
        with running(Stopwatch()), interruptible():
            signal.raise_signal(signal.SIGINT)
            for _ in range(2000):
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        asks_nobody()


def test_whoever_asked_in_time_is_not_reminded(monkeypatch):
    monkeypatch.setattr(interrupts, "_PATIENCE", 0.05)
    with running(Stopwatch()) as watch, interruptible():
        signal.raise_signal(signal.SIGINT)
        assert watch.is_over()
        time.sleep(0.2)


def test_other_threads_have_no_signals():
    seen = []

    def work():
        with interruptible() as watch:
            seen.append(watch.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


# --- copies -----------------------------------------------------------------------------------------------


def described(db: Path, capsys) -> str:
    capsys.readouterr()
    assert main(["info", str(db)]) == 0
    return capsys.readouterr().out


def minimum(at: float) -> tsc.StationaryPoints:
    import torch

    x = torch.tensor([[at, 0.0]], dtype=torch.float64)
    return tsc.StationaryPoints.of(x, x.square().sum(1), status=torch.full((1,), int(tsc.Status.CONVERGED)))


@pytest.fixture
def bowl():
    return tsc.FunctionPotential(lambda x: (x**2).sum(), 2, check=False)


def test_a_copy_without_its_log_says_so_and_a_proper_copy_has_everything(bowl, tmp_path, capsys):
    db, torn, copy = tmp_path / "a.db", tmp_path / "torn.db", tmp_path / "copy.db"
    with Landscape.open(db, bowl) as landscape:
        landscape.add_minima(minimum(1.0))
        landscape.add_minima(minimum(2.0))  # this one is in the log only
        shutil.copyfile(db, torn)
        assert main(["copy", str(db), str(copy)]) == 0
        assert "log missing" not in described(db, capsys)  # it lies beside it
    with Landscape.open(torn) as landscape:
        assert landscape.lacks_log
        assert landscape.n_minima == 1
    assert "log missing" in described(torn, capsys)
    assert main(["info", str(torn), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lacks_log"] is True
    for whole in (db, copy):
        with Landscape.open(whole) as landscape:
            assert landscape.n_minima == 2
            assert not landscape.lacks_log
        assert "log missing" not in described(whole, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "copy.db", "torn.db"]


def test_the_log_of_a_killed_writer_is_not_missed(bowl, tmp_path, capsys):
    """The first reader folds it in; so the second one, who finds none, has no reason to miss it."""
    db, killed = tmp_path / "a.db", tmp_path / "killed.db"
    with Landscape.open(db, bowl) as landscape:
        landscape.add_minima(minimum(1.0))
        landscape.add_minima(minimum(2.0))
        for ending in ("", "-wal"):  # what lies there after kill -9
            shutil.copyfile(f"{db}{ending}", f"{killed}{ending}")
    for _ in range(2):
        assert "log missing" not in described(killed, capsys)
        with Landscape.open(killed) as landscape:
            assert landscape.n_minima == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "killed.db"]


def test_folding_puts_everything_into_the_file_itself(bowl, tmp_path, monkeypatch):
    db, alone = tmp_path / "a.db", tmp_path / "alone.db"

    def in_file() -> int:
        shutil.copyfile(db, alone)
        with Landscape.open(alone) as landscape:
            return landscape.n_minima

    with Landscape.open(db, bowl) as landscape:
        for at in (1.0, 2.0):
            landscape.add_minima(minimum(at))
        assert in_file() == 1
        landscape.fold()
        assert in_file() == 2
        landscape.add_minima(minimum(3.0))
        assert in_file() == 2
        later = time.monotonic() + 61
        monkeypatch.setattr(time, "monotonic", lambda: later)
        landscape.add_minima(minimum(4.0))  # a minute later
        assert in_file() == 4


def test_a_copy_replaces_nothing(bowl, tmp_path, capsys):
    db, other = tmp_path / "a.db", tmp_path / "notes.txt"
    Landscape.open(db, bowl).close()
    other.write_text("notes")
    for there in (other, db):
        before = there.read_bytes()
        assert main(["copy", str(db), str(there)]) == 2
        assert "exists already" in capsys.readouterr().err
        assert there.read_bytes() == before
    assert main(["copy", str(db), str(tmp_path / "no" / "x.db")]) == 2
    assert "there is no directory" in capsys.readouterr().err


# --- families ---------------------------------------------------------------------------------------------


class Pressing:
    """Runs tasks until the potential of the second member comes, at which the signal arrives."""

    def __init__(self, number: int) -> None:
        self.number, self.first = number, None

    def run(self, potential, tasks):
        self.first = self.first or potential
        if potential is not self.first:
            signal.raise_signal(self.number)
        for task in tasks:
            yield task.run(potential)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_family_stops_and_says_which_member_is_incomplete(tmp_path, capsys, number, error):
    def cusp(b):
        return tsc.FunctionPotential(lambda x: x[0] ** 4 / 4 - 0.75 * x[0] ** 2 + b * x[0], 1, check=False)

    with pytest.raises(error) as stopped:
        tsc.explore_family(
            cusp, [0.0, 0.1, 0.2, 0.3], folder=tmp_path, progress=False, seed_from_neighbour=False,
            executor=Pressing(number), strategies=[tsc.BasinHopping(walkers=4, hops=0)],
        )  # fmt: skip
    said = str(stopped.value)
    if number == signal.SIGTERM:
        assert stopped.value.code == 143
        said = capsys.readouterr().err
    assert "the member at 0.1 is incomplete, and 2 were not begun (0.2, 0.3)" in said
    assert str(tmp_path) in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.1.db", "0.db"]
    for name, status in (("0.db", "complete"), ("0.1.db", "interrupted")):
        with Landscape.open(tmp_path / name) as landscape:
            assert landscape.runs()[-1]["status"] == status
