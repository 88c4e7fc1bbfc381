"""Stopped in the middle of a round: what has ended is there, and the run ends as if it had never been stopped."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from explore_doubles import Wells, in_memory, tables

import torchscape as tsc
from torchscape import stopwatch
from torchscape.explore import Found, LowerBarriers, Round, Strategy, bar, curvatures, kept, run
from torchscape.optimise import relax
from torchscape.optimise.ledger import Ledger, keeping
from torchscape.points import StationaryPoints, Status
from torchscape.saddles import Certificate, certify_minima, characterise, lowest_eigenpairs, spectral
from torchscape.stopwatch import Stopped, Stopwatch, running

HERE = Path(__file__).parent


class Stopping(Wells):
    """Asks for the end as soon as ``left`` rows have been evaluated."""

    left = 1 << 60

    def energy(self, x):
        self.left -= len(x)
        watch = stopwatch.current()
        if self.left < 0 and watch is not None:
            watch.ask(signal.SIGINT)
        return super().energy(x)

    def settings(self):
        return Wells(self.ndim, self.tilt).settings()

    def fingerprint(self):
        return Wells(self.ndim, self.tilt).fingerprint()


HOPPING = tsc.BasinHopping(walkers=4, hops=3, temperature=0.3, round_hops=3)


def strategies(which: str) -> list[Strategy]:
    ladder = tsc.TemperedBasinHopping(ladders=1, temperatures=(0.1, 0.3, 1.0), hops=4, every=2, round_hops=4)
    return {
        "basin-hopping": [HOPPING],
        "tempered": [ladder],
        "connect": [HOPPING, tsc.ConnectMinima(neighbours=2)],
        "climb": [HOPPING, tsc.ClimbFromMinima(searches=1, round_searches=4)],
        "stationary": [tsc.StationarySearch(starts=20, round_starts=10)],
        "barriers": [HOPPING, tsc.ConnectMinima(neighbours=1), LowerBarriers(round_pairs=4)],
        "own": [Quenches()],
    }[which]


class Quench:
    """A task that knows nothing of limits."""

    kind = "quench"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def run(self, potential):
        points = relax(potential, potential.sample(3, seed=self.seed))
        return Found(points, n_quenches=len(points), n_evaluations=int(points.n_evaluations.sum()))


class Quenches(Strategy):
    """A strategy of a user: two rounds of two tasks."""

    name = "quenches"

    def start(self, landscape, potential, seed):
        return {"done": 0}

    def propose(self, landscape, potential, state):
        return None if state["done"] == 4 else Round([Quench(state["done"] + i) for i in range(2)])

    def absorb(self, landscape, state, round, found, ids):
        return {"done": state["done"] + len(found)}


def in_pieces(landscape, potential, chosen, rows: int) -> int:
    """Explore, stopped after so many rows each time, until it is complete; how many pieces that took."""
    for n in range(1, 100):
        potential.left = rows
        report = tsc.explore(landscape, potential, strategies=chosen, seed=2, progress=False)
        if report.is_complete:
            assert report.unfinished == {}
            return n
        assert report.status == landscape.runs()[-1]["status"] == "interrupted"
    raise AssertionError("no progress")


KINDS = ["basin-hopping", "tempered", "connect", "climb", "stationary", "barriers", "own"]


@pytest.mark.parametrize("which", KINDS)
def test_stopped_in_the_middle_of_its_rounds_a_run_ends_like_one_that_was_not(which):
    """To the last bit, with the same ids, hits and evaluations, wherever it was stopped."""
    potential = Stopping(2)
    whole = in_memory(potential, strategies(which), seed=2)
    rows = potential.n_rows
    with tsc.Landscape.in_memory(potential) as landscape:
        n = in_pieces(landscape, potential, strategies(which), rows // 4)
        assert n > 2
        assert tables(landscape) == whole


def test_what_has_ended_is_in_sight_and_gets_its_number_later():
    potential = Stopping(3)
    with tsc.Landscape.in_memory(potential) as landscape:
        potential.left = 130
        report = tsc.explore(landscape, potential, strategies=[HOPPING], seed=2, progress=False)
        assert report.status == "interrupted"
        assert landscape.n_tasks() == 0
        assert report.unfinished == landscape.kept() == landscape.summary()["unfinished"]
        assert report.unfinished["quenches"] >= report.n_minima == landscape.n_minima > 0
        assert landscape.network().hits.tolist() == [0] * landscape.n_minima
        assert "unfinished round" in landscape.describe()
        assert f"{report.unfinished['quenches']} quenches" in str(report)
        assert set(landscape.minima().index.tolist()) == {0}  # certified, as all minima are


def test_what_somebody_refers_to_stays():
    """A property of a provisional minimum: its id holds; the run still finds all that it would have found."""
    potential = Stopping(3)
    with tsc.Landscape.in_memory(potential) as landscape:
        potential.left = 130
        tsc.explore(landscape, potential, strategies=[HOPPING], seed=2, progress=False)
        before = landscape.minima(landscape.minimum_ids()).x
        ids = landscape.minimum_ids()
        landscape.set_property("mine", [1.0] * landscape.n_minima)
        in_pieces(landscape, potential, [HOPPING], 1 << 60)
        assert torch.equal(landscape.minima(ids).x, before)
        found = tables(landscape)
    whole = in_memory(Wells(3), [HOPPING], seed=2)
    assert sorted(row[2] for row in found["minimum"]) == pytest.approx(sorted(row[2] for row in whole["minimum"]))
    assert found["task"] == whole["task"]


def test_another_strategy_takes_what_an_unfinished_round_has_found():
    potential = Stopping(3)
    with tsc.Landscape.in_memory(potential) as landscape:
        potential.left = 130
        tsc.explore(landscape, potential, strategies=[HOPPING], seed=2, progress=False)
        known = landscape.n_minima
        assert known > 1
        potential.left = 1 << 60
        tsc.explore(landscape, potential, strategies=[tsc.ConnectMinima()], seed=2, progress=False)
        assert landscape.n_minima >= known
        assert landscape.n_transition_states > 0


def test_a_killed_process_has_committed_from_inside_its_round(tmp_path):
    """Killed by itself with SIGKILL before the first round has ended; every look at the rows may write here."""
    db = tmp_path / "a.db"
    code = f"""
import os, signal
from test_stopping import HOPPING, Stopping
import torchscape as tsc
from torchscape.explore import kept

kept._EVERY = 0.0
class Killing(Stopping):
    def energy(self, x):
        if self.n_rows > 130:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().energy(x)

potential = Killing(3)
with tsc.Landscape.open({str(db)!r}, potential) as landscape:
    tsc.explore(landscape, potential, strategies=[HOPPING], seed=2, progress=False, check=False)
"""
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    potential = Wells(3)
    with tsc.Landscape.open(db, potential) as landscape:
        assert landscape.n_tasks() == 0
        assert landscape.kept()["quenches"] > 0
        potential.n_rows = 0
        assert tsc.explore(landscape, potential, strategies=[HOPPING], seed=2, progress=False).is_complete
        spent = potential.n_rows
    whole = Wells(3)
    there, expected = tables(db), in_memory(whole, [HOPPING], seed=2)
    assert {**there, "meta": []} == {**expected, "meta": []}  # where the name of the class stands
    assert spent < whole.n_rows - 40  # what had ended, or had come far, was not evaluated again


def test_the_time_limit_is_kept_within_one_evaluation(monkeypatch):
    """On a clock that counts evaluated rows."""
    potential = Wells(3)
    tick = functools.partial(Stopwatch, clock=lambda: float(potential.n_rows))
    monkeypatch.setattr(run, "Stopwatch", tick)
    hopping = tsc.BasinHopping(walkers=8, hops=20, round_hops=5)
    with tsc.Landscape.in_memory(potential) as landscape:
        budget = tsc.Budget(seconds=200)
        report = tsc.explore(
            landscape, potential, strategies=[hopping], budget=budget, progress=False, check=False
        )
        assert report.status == "budget: seconds"
        assert report.unfinished["quenches"] > 8
        assert report.n_minima > 0
        assert report.seconds < 200 + 8 + 8 * report.n_minima * 8  # a step, and the certificates of what was found


def test_every_other_exception_keeps_what_has_ended_too():
    class Failing(Stopping):
        most = 130

        def energy(self, x):
            if self.n_rows > self.most:
                raise RuntimeError("trouble")
            return super().energy(x)

    potential = Failing(3)
    with tsc.Landscape.in_memory(potential) as landscape:
        with pytest.raises(RuntimeError, match="trouble"):
            tsc.explore(landscape, potential, strategies=[HOPPING], seed=2, progress=False, check=False)
        assert landscape.kept()["quenches"] > 0
        potential.most = 1 << 60
        assert tsc.explore(landscape, potential, strategies=[HOPPING], seed=2, progress=False).is_complete
        assert {**tables(landscape), "meta": []} == {**in_memory(Stopping(3), [HOPPING], seed=2), "meta": []}


def test_the_bar_moves_with_every_quench(monkeypatch):
    class Bar:
        n, total, steps = 0, None, 0

        def update(self, n):
            Bar.n, Bar.steps = Bar.n + n, Bar.steps + (n > 0)

        def set_postfix(self, *_, **__):
            pass

        def close(self):
            pass

    monkeypatch.setattr(bar, "progress_bar", lambda **_: Bar())
    potential = Wells(3)
    with tsc.Landscape.in_memory(potential) as landscape:
        tsc.explore(landscape, potential, strategies=[HOPPING], seed=2)
    assert Bar.n == 4 * 4  # one round; each walker's start and three hops
    assert Bar.steps > 4


# --- curvatures -------------------------------------------------------------------------------------------


class Bowl(Wells):
    """A single well with as many different curvatures as coordinates."""

    def energy(self, x):
        self.n_rows += len(x)
        return (x**2 * torch.linspace(1, 2, self.ndim, dtype=x.dtype) + 0.01 * x**4).sum(1)


class Counting:
    """A clock that goes one second with each question."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_log_determinants_of_many_coordinates_stop_and_go_on(monkeypatch):
    """A point at a time; what has ended is not computed again, and the sum is the same."""
    monkeypatch.setattr(spectral, "MANY_LARGE", 4 * 40 * 60)
    potential, n = Bowl(60), 3
    x = 0.1 * torch.randn(n, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = StationaryPoints.of(x, potential.energy(x))
    whole = characterise(potential, points, dense_limit=0)
    entries, n_stops = [], 0
    for _ in range(100):
        ledger = Ledger(entries)
        try:
            with keeping(ledger), running(Stopwatch(seconds=15, clock=Counting())):
                done = characterise(potential, points, dense_limit=0)
            break
        except Stopped:
            n_stops += 1
            entries = entries + ledger.written()
    assert n_stops > 1
    assert torch.equal(done.log_det, whole.log_det)
    assert torch.equal(done.index, whole.index)


def stopped_again_and_again(compute, seconds: float):
    """The result of a computation that is stopped every so many questions, and how often that was."""
    ledger, n_stops = Ledger(), 0
    for _ in range(200):
        try:
            with keeping(ledger), running(Stopwatch(seconds=seconds, clock=Counting())):
                return compute(), n_stops
        except Stopped:
            n_stops += 1
            ledger.written()
            ledger = Ledger(ledger.entries, ledger.running)
    raise AssertionError("no progress")


@pytest.mark.parametrize("capacity", [None, 12])
def test_a_search_for_eigenpairs_goes_on_in_the_middle(capacity):
    """Every life lasts eight products; restarts of the space, and rows that end sooner, are among them."""
    potential = Bowl(80)
    x = torch.randn(3, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x *= torch.tensor([0.0, 0.1, 3.0])[:, None]

    def pairs():
        return lowest_eigenpairs(potential, x, 2, max_dim=capacity, tol=1e-9)

    whole = pairs()
    parts, n_stops = stopped_again_and_again(pairs, 8)
    assert n_stops > 2
    for field in dataclasses.fields(whole):
        assert torch.equal(getattr(parts, field.name), getattr(whole, field.name))
    known = potential.hessian(x).double()
    assert torch.allclose(whole.values, torch.linalg.eigvalsh(known)[:, :2], atol=1e-8)


def test_newton_steps_towards_minima_go_on_in_the_middle():
    potential = Bowl(60)
    x = torch.randn(3, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rough = StationaryPoints.of(x, potential.energy(x), status=torch.full((3,), int(Status.CONVERGED)))

    def minima():
        return certify_minima(potential, rough, Certificate(dense_limit=0, cg_steps=2))

    whole = minima()
    assert whole.converged.all()
    assert whole.x.abs().max() < 1e-2
    parts, n_stops = stopped_again_and_again(minima, 12)
    assert n_stops > 1
    assert torch.equal(parts.x, whole.x)
    assert torch.equal(parts.status, whole.status)


def test_curvatures_are_kept_by_the_exploration(monkeypatch):
    monkeypatch.setattr(curvatures, "FEW", 0)
    hopping = tsc.BasinHopping(walkers=24, hops=0)
    whole = in_memory(Stopping(3), [hopping], seed=2)
    potential = Stopping(3)
    with tsc.Landscape.in_memory(potential) as landscape:
        assert in_pieces(landscape, potential, [hopping], 150) > 1
        assert tables(landscape) == whole


# --- files ------------------------------------------------------------------------------------------------


def test_a_file_becomes_small_again(tmp_path):
    path = tmp_path / "a.db"
    with tsc.Landscape.open(path, Wells(3)) as landscape:
        landscape.save_state("kept:x/000000", {"column:x": torch.zeros(1 << 23, dtype=torch.uint8)})
        for n in range(5):
            landscape.save_state(f"kept:x/{n}", {"column:x": torch.zeros(1 << 23, dtype=torch.uint8)})
        landscape.fold()
        large = path.stat().st_size
        landscape.drop_states("kept:x/")
        assert landscape.state_keys("") == []
        landscape.compact()
    assert path.stat().st_size < large / 100


def test_strange_entries_are_not_used(tmp_path):
    """What a stranger has written where an unfinished round would be: run again, as if nothing were there."""
    potential = Stopping(3)
    whole = in_memory(Stopping(3), [HOPPING], seed=2)
    with tsc.Landscape.in_memory(potential) as landscape:
        potential.left = 130
        tsc.explore(landscape, potential, strategies=[HOPPING], seed=2, progress=False)
        for number, key in enumerate(landscape.state_keys("kept:")):
            state = landscape.load_state(key)
            strange = [{"keys": 3}, {"column:energy": torch.zeros(1)}, {"column:x": "?"}, {"result": "os.system"}]
            landscape.save_state(key, {**state, **strange[number % 4]})
        assert in_pieces(landscape, potential, [HOPPING], 1 << 60) == 1
        assert tables(landscape) == whole


def test_a_copy_of_an_unfinished_run_resumes_as_well(tmp_path):
    potential, path = Stopping(3), tmp_path / "a.db"
    with tsc.Landscape.open(path, potential) as landscape:
        potential.left = 130
        tsc.explore(landscape, potential, strategies=[HOPPING], seed=2, progress=False)
    shutil.copyfile(path, tmp_path / "b.db")
    with tsc.Landscape.open(tmp_path / "b.db", potential) as landscape:
        in_pieces(landscape, potential, [HOPPING], 1 << 60)
    assert tables(tmp_path / "b.db") == in_memory(Stopping(3), [HOPPING], seed=2)


def test_nothing_is_written_in_short_rounds(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("written")

    monkeypatch.setattr(kept.Kept, "write", never)
    with tsc.Landscape.open(tmp_path / "a.db", Wells(3)) as landscape:
        assert tsc.explore(
            landscape, landscape.potential, strategies=[HOPPING], seed=2, progress=False
        ).is_complete
        assert list(landscape.state_keys("kept:")) == []
