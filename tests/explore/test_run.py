"""The run loop: however a run is cut into pieces, by whatever, its tables end up the same."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from explore_doubles import Elsewhere, Interrupting, Recording, Wells, in_memory, tables

import torchscape as tsc
from torchscape.errors import DatabaseError, FingerprintMismatch
from torchscape.explore import Budget, Found, Gaussian, Round, Strategy, curvatures
from torchscape.optimise import relax
from torchscape.potentials.base import Potential
from torchscape.saddles import Follow, RandomDirections
from torchscape.types import Tensor

HERE = Path(__file__).parent
SEED = 2


def searches(**changes):
    """Three strategies in short rounds; one walker with so short steps that the climbs find minima too."""
    hopping = tsc.BasinHopping(walkers=1, hops=2, temperature=0.05, step=0.2, round_hops=1)
    return [
        dataclasses.replace(hopping, **changes),
        tsc.ConnectMinima(neighbours=1, bridges=1, round_pairs=2),
        tsc.ClimbFromMinima(
            directions=RandomDirections(), searches=2, round_searches=4, refine=Follow(max_evaluations=40)
        ),
    ]


def explored(landscape, potential=None, strategies=None, **options):
    potential = Wells() if potential is None else potential
    strategies = searches() if strategies is None else strategies
    return tsc.explore(landscape, potential, strategies=strategies, **{"progress": False, "seed": SEED} | options)


def status(landscape) -> str:
    return landscape.runs()[-1]["status"]


@pytest.fixture(scope="module")
def whole() -> dict:
    """The tables of a run without interruption."""
    return in_memory(Wells(), searches(), seed=SEED)


@pytest.fixture
def landscape():
    with tsc.Landscape.in_memory(Wells()) as landscape:
        yield landscape


# --- resuming ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_run_killed_again_and_again_writes_the_same_tables(tmp_path):
    """Killed with SIGKILL during every strategy; nothing but times and run numbers differs in the end.

    The climbs find minima that give the connecting strategy something to do again, so that whose turn it is must
    survive too.
    """
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    done = subprocess.run(
        [sys.executable, HERE / "resume_driver.py", tmp_path / "a.db", "2"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    n_kills = int(re.fullmatch(r"complete after (\d+) kills", done.stdout.strip())[1])
    assert n_kills >= 3
    killed, uninterrupted = tables(tmp_path / "a.db"), tables(tmp_path / "a.db.whole")
    assert len(uninterrupted["minimum"]) > 4
    assert len(uninterrupted["pair"]) > 2
    for name, rows in uninterrupted.items():
        assert killed[name] == rows, name
    with tsc.Landscape.open(tmp_path / "a.db") as landscape:
        statuses = [run["status"] for run in landscape.runs()]
        assert statuses == ["interrupted"] * (len(statuses) - 1) + ["complete"]
        assert landscape.summary()["complete"]


def test_a_run_in_pieces_writes_the_same_tables(landscape, whole):
    """With a budget of one evaluation every call does one round."""
    n_calls, complete = 0, False
    while not complete:
        report = explored(landscape, budget=tsc.Budget(evaluations=1))
        n_calls, complete = n_calls + 1, report.is_complete
        assert report.status in ("complete", "budget: evaluations")
        assert report.status == status(landscape)
        assert landscape.summary()["complete"] == report.is_complete
    assert n_calls == landscape.n_tasks()
    assert tables(landscape) == whole


@pytest.mark.parametrize("n", [1, 4])
def test_ctrl_c_keeps_what_is_committed(landscape, whole, n):
    report = explored(landscape, executor=Interrupting(n))
    assert report.status == status(landscape) == "interrupted"
    assert not report.is_complete
    assert not landscape.summary()["complete"]
    assert landscape.n_tasks() == n
    assert explored(landscape).is_complete
    assert tables(landscape) == whole


@pytest.mark.parametrize(("name", "n"), [("record_task", 3), ("add_transition_states", 2), ("save_state", 4)])
def test_ctrl_c_in_the_middle_of_a_commit_undoes_it(landscape, whole, monkeypatch, name, n):
    """Whatever has been written of a round disappears with it, in memory as in the file."""
    original, depths = getattr(landscape, name), []

    def interrupted(*arguments, **options):
        result = original(*arguments, **options)
        depths.append(landscape._store.depth)  # 1 within a commit
        if depths.count(1) == n:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(landscape, name, interrupted)
        assert explored(landscape).status == "interrupted"
    assert explored(landscape).is_complete
    assert tables(landscape) == whole


def test_ctrl_c_before_the_curvatures_leaves_them_to_the_next_run(landscape, monkeypatch):
    """Minima of many coordinates are committed before their Hessians are looked at, which may take far longer than
    finding them."""
    monkeypatch.setattr(curvatures, "FEW", 0)
    hopping = searches(walkers=4)[:1]
    whole = in_memory(Wells(), hopping, seed=SEED)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(landscape, "set_curvature", interrupted)
        assert explored(landscape, strategies=hopping).status == "interrupted"
    assert len(landscape.uncharacterised()) > 0
    assert explored(landscape, strategies=hopping).is_complete
    assert tables(landscape) == whole


def test_wall_time_ends_the_curvatures_of_many_coordinates_too(monkeypatch):
    """They can take far longer than the minima; the next call goes on with those that are left."""
    potential = Wells(4, tilt=0.1)  # 16 minima
    hopping = [tsc.BasinHopping(walkers=64, hops=0)]
    monkeypatch.setattr(curvatures, "FEW", 0)
    with tsc.Landscape.in_memory(potential) as landscape:
        with monkeypatch.context() as patch:
            patch.setattr(Budget, "exceeded", lambda self, **spent: "seconds" if landscape.n_minima else None)
            assert explored(landscape, potential, hopping).status == "budget: seconds"
        left = len(landscape.uncharacterised())
        assert left == landscape.n_minima - 8 > 0
        assert explored(landscape, potential, hopping).is_complete
        assert len(landscape.uncharacterised()) == 0
        assert tables(landscape) == in_memory(potential, hopping, seed=SEED)


def test_a_potential_that_fails_in_the_middle_loses_nothing(landscape, whole):
    """The exception is the user's own; the run is marked, and goes on once the potential works again."""

    class Failing(Wells):
        def energy(self, x):
            if self.n_rows > 300:
                raise RuntimeError("a potential of its own makes trouble")
            return super().energy(x)

    failing = Failing()
    failing.fingerprint = Wells().fingerprint
    with pytest.raises(RuntimeError, match="trouble"):
        explored(landscape, failing)
    assert status(landscape) == "failed"
    assert not landscape.summary()["complete"]
    assert 0 < landscape.n_tasks() < len(whole["task"])
    assert explored(landscape).is_complete
    assert tables(landscape) == whole


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path):
    """``max_page_count`` makes SQLite meet the same error as a full disk does."""
    potential, path = Wells(20, tilt=0.02), tmp_path / "a.db"
    hopping = [tsc.BasinHopping(walkers=16, hops=3, step=4.0, round_hops=1)]
    with tsc.Landscape.open(path, potential) as landscape:
        explored(landscape, potential, hopping, budget=tsc.Budget(evaluations=1))
        committed = tables(landscape)["task"]
        ((pages,),) = landscape._store.execute("PRAGMA page_count")
        landscape._store.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(DatabaseError, match=r"no space left .* free some space and run again"):
            explored(landscape, potential, hopping)
        assert tables(landscape)["task"][: len(committed)] == committed
    with tsc.Landscape.open(path, potential) as landscape:
        assert explored(landscape, potential, hopping).is_complete
    assert tables(path) == in_memory(potential, hopping, seed=SEED)


# --- calling again ----------------------------------------------------------------------------------------


def test_a_complete_run_has_nothing_left_to_do(tmp_path, whole):
    path = tmp_path / "a.db"
    potential = Wells()  # one object: its derivatives are tried, and its scale is found, once
    with tsc.Landscape.open(path, potential) as landscape:
        explored(landscape, potential)
    with tsc.Landscape.open(path, potential) as landscape:
        potential.n_rows = 0
        report = explored(landscape, potential)
        assert (report.status, report.n_evaluations, report.n_quenches) == ("complete", 0, 0)
        assert potential.n_rows == 0
        assert explored(landscape, budget=tsc.Budget(quenches=0, seconds=0)).is_complete
        assert landscape.summary()["complete"]
    assert tables(path) == whole


def test_a_longer_search_goes_on_where_the_shorter_one_stopped():
    potential = Wells()
    short, long = (tsc.BasinHopping(walkers=3, hops=hops, temperature=0.5, round_hops=3) for hops in (2, 8))
    with tsc.Landscape.in_memory(potential) as landscape:
        assert explored(landscape, potential, [short]).n_quenches == 3 * 3
        assert explored(landscape, potential, [long]).n_quenches == 3 * 6
        assert tables(landscape) == in_memory(potential, [long], seed=SEED)
        assert explored(landscape, potential, [short]).n_quenches == 0


def test_minima_of_a_longer_search_get_their_neighbours(landscape):
    """Each new minimum is paired; pairs that were tried are not tried again."""
    hopping, connecting, _ = searches()
    explored(landscape, strategies=[hopping, connecting])
    before = landscape.n_minima
    strategies = [dataclasses.replace(hopping, walkers=16), connecting]
    explored(landscape, strategies=strategies)
    new = set(range(before, 4))
    assert landscape.n_minima == 4
    assert new
    tried = landscape.tried_pairs()
    assert new <= set(tried.pairs.flatten().tolist())
    assert set(tried.times.tolist()) == {1}
    assert int(landscape.network().components().max()) == 0


def test_another_seed_adds_to_the_file(tmp_path):
    with tsc.Landscape.open(tmp_path / "a.db", Wells()) as landscape:
        explored(landscape)
        known = torch.arange(landscape.n_minima)
        x, hits = landscape.minima(known).x, int(landscape.network().hits.sum())
        strategies = [*searches(walkers=8)]
        for seed in (11, 12):
            report = explored(landscape, strategies=strategies, seed=seed)
            assert report.is_complete
            assert report.n_quenches == 8 * 3
        assert torch.equal(landscape.minima(known).x, x)
        assert int(landscape.network().hits.sum()) == hits + 2 * 8 * 3
        assert [run["seed"] for run in landscape.runs()] == [SEED, 11, 12]
        # What does not depend on the seed is not repeated under another: the pairs are tried already.
        assert set(landscape.tried_pairs().times.tolist()) == {1}
        before = tables(landscape)
        explored(landscape, strategies=strategies, seed=11)
        assert tables(landscape) == before


def test_other_settings_are_another_search():
    potential = Wells()
    with tsc.Landscape.in_memory(potential) as landscape:
        for step, n in ((0.2, 4), (0.3, 4), (0.2, 0)):
            hopping = tsc.BasinHopping(walkers=2, hops=1, step=step)
            assert explored(landscape, potential, [hopping]).n_quenches == n


def test_a_strategy_may_stand_in_the_list_twice():
    """Each has a state of its own, whatever stands before it."""
    potential = Wells()
    hopping = tsc.BasinHopping(walkers=2, hops=1)
    with tsc.Landscape.in_memory(potential) as landscape:
        assert explored(landscape, potential, [hopping, hopping]).n_quenches == 8
        assert explored(landscape, potential, [tsc.ConnectMinima(), hopping]).n_quenches == 0


def test_a_move_without_a_name_of_its_own_resumes(tmp_path):
    """The address in the repr of an object is another one in every process; it must not make it another search."""

    class Jump(Gaussian):
        __repr__ = object.__repr__

    for n in (4, 0):
        with tsc.Landscape.open(tmp_path / "a.db", Wells()) as landscape:
            hopping = tsc.BasinHopping(walkers=2, hops=1, move=Jump())
            assert explored(landscape, strategies=[hopping]).n_quenches == n


# --- budgets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "name"),
    [
        (tsc.Budget(quenches=6), "quenches"),
        (tsc.Budget(evaluations=50), "evaluations"),
        (tsc.Budget(seconds=0.0), "seconds"),
    ],
)
def test_budgets_stop_between_rounds(landscape, budget, name):
    hopping = [tsc.BasinHopping(walkers=2, hops=8, round_hops=1)]
    report = explored(landscape, strategies=hopping, budget=budget)
    assert report.status == status(landscape) == f"budget: {name}"
    assert landscape.n_evaluations() == report.n_evaluations
    if name == "quenches":
        assert report.n_quenches == 6
    if name == "evaluations":
        assert report.n_evaluations >= 50
        assert landscape.n_tasks() < 9
    if name == "seconds":
        assert report.n_evaluations == 0
    assert not landscape.summary()["complete"]
    assert explored(landscape, strategies=hopping).is_complete
    assert tables(landscape) == in_memory(Wells(), hopping, seed=SEED)


def test_a_budget_that_is_just_enough_is_no_reason_to_stop():
    potential = Wells()
    hopping = tsc.BasinHopping(walkers=2, hops=2, round_hops=1)
    with tsc.Landscape.in_memory(potential) as landscape:
        assert explored(landscape, potential, [hopping], budget=tsc.Budget(quenches=6)).is_complete


def test_complete_is_what_the_last_call_was(landscape):
    """A longer search that a budget cuts short is not complete; the same file was, before."""
    short, long = (tsc.BasinHopping(walkers=2, hops=hops, round_hops=1) for hops in (1, 9))
    for strategy, budget, complete in (
        (short, None, True),
        (long, tsc.Budget(quenches=4), False),
        (long, None, True),
        (short, tsc.Budget(quenches=0), True),
    ):
        explored(landscape, strategies=[strategy], budget=budget)
        assert landscape.summary()["complete"] == complete


# --- executors --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Quench:
    """Quenches as many random starts as one task does."""

    seed: int
    kind = "quench"

    def run(self, potential: Potential) -> Found:
        points = relax(potential, potential.sample(3, seed=self.seed))
        return Found(points, n_quenches=len(points), n_evaluations=int(points.n_evaluations.sum()))


class ManyQuenches(Strategy):
    """Two rounds of three tasks."""

    name = "quenches"

    def start(self, landscape, potential, seed):
        return {"done": 0}

    def propose(self, landscape, potential, state):
        if state["done"] == 6:
            return None
        return Round([Quench(10 * state["done"] + i) for i in range(3)])

    def absorb(self, landscape, state, round, found, ids):
        assert [tuple(one.shape) for one in ids] == [(3,)] * 3
        return {"done": state["done"] + len(found)}


def test_where_and_in_which_order_tasks_run_changes_nothing():
    strategies = [ManyQuenches(), *searches()]
    options = {"strategies": strategies, "seed": SEED}
    assert in_memory(Wells(), **options, executor=Elsewhere()) == in_memory(Wells(), **options)


def test_reports_and_states(landscape):
    recording = Recording()
    report = explored(landscape, executor=recording)
    assert len(recording.tasks) == landscape.n_tasks()
    assert int(landscape.network().hits.sum()) == report.n_quenches == 3  # one per quench, not per path
    assert report.n_minima == landscape.n_minima
    assert report.n_transition_states == landscape.n_transition_states
    assert report.outcomes["VERIFIED"] > 0
    told, ended = str(report).split("; saddle searches: ")
    assert re.fullmatch(
        r"complete: \d+ minima, \d+ transition states; 3 quenches, \d+ evaluations in \d+\.\d s", told
    )
    assert f"{report.outcomes['VERIFIED']} verified" in ended.split(", ")
    assert sum(int(part.split()[0]) for part in ended.split(", ")) == sum(report.outcomes.values())
    assert "saddle searches" not in str(dataclasses.replace(report, outcomes={}))
    keys = [row[0] for row in landscape._store.execute("SELECT key FROM state")]
    assert len(keys) == 4  # three strategies and whose turn it is
    hopping = landscape.load_state(next(key for key in keys if key.startswith("basin-hopping")))
    assert isinstance(hopping["x"], Tensor)
    assert hopping["n_rounds"] == 3


# --- potentials that misbehave ----------------------------------------------------------------------------


class Torn(Wells):
    """NaN where the first coordinate is positive."""

    def energy(self, x):
        return torch.where(x[:, 0] > 0.0, torch.nan, super().energy(x))


def test_nan_in_a_part_of_the_domain_hides_nothing_elsewhere():
    potential = Torn(2, 0.3)
    with tsc.Landscape.in_memory(potential) as landscape:
        strategies = [
            tsc.BasinHopping(walkers=32, hops=2),
            tsc.ConnectMinima(),
            tsc.ClimbFromMinima(directions=RandomDirections(), searches=4),
        ]
        assert explored(landscape, potential, strategies).is_complete
        x = landscape.minima().x
        assert landscape.n_minima == 2
        assert bool((x[:, 0] < -0.9).all())
        assert landscape.n_transition_states == 1
        assert landscape.summary()["refused"]["minimum: not finite"] > 0


def test_nan_everywhere_is_said():
    class Nowhere(Wells):
        def energy(self, x):
            return torch.nan * super().energy(x)

    potential = Nowhere()
    with tsc.Landscape.in_memory(potential) as landscape:
        with pytest.warns(
            UserWarning, match=r"none of 3 quenches ended in a minimum \(3 not finite\): look for NaN"
        ):
            report = explored(landscape, potential)
        assert report.n_minima == 0


@pytest.mark.parametrize(
    ("name", "f", "hops", "advice"),
    [
        ("constant", lambda x: 0 * x.sum(), 1, "flat in every direction.*leave out what U does not depend on"),
        ("exponential", lambda x: (-x).exp().sum(), 1, "falls for ever.*regularise"),
        ("saddle", lambda x: x[0] ** 2 - x[1] ** 2, 0, "falls for ever.*bound what runs away"),
        ("slope", lambda x: x[0] ** 2 - x[1], 0, "falls for ever.*bound what runs away"),
        ("logarithm", lambda x: x[0] ** 2 - (1 + x[1] ** 2).log(), 0, "falls for ever.*bound what runs away"),
    ],
)
def test_what_has_no_minimum_is_never_complete(name, f, hops, advice):
    """A constant had 81 minima once and exp(-x) 54; then none, and the status "complete"."""
    u = tsc.FunctionPotential(f, 2, name=name)
    strategies = [tsc.BasinHopping(walkers=8 // (1 + hops), hops=hops), tsc.ConnectMinima()]
    with tsc.Landscape.in_memory(u) as landscape:
        with pytest.warns(UserWarning, match=f"none of 8 quenches ended in a minimum.*{advice}"):
            report = tsc.explore(landscape, u, strategies=strategies, progress=False)
        assert (report.status, report.is_complete, report.n_minima) == ("no minimum found", False, 0)
        assert report.advice in str(report)
        assert report.advice in landscape.describe()
        assert landscape.summary()["complete"] is False
        assert report.n_evaluations < 8 * 500  # 10000 each, where a slope was run down in steps of one length


def test_a_landscape_of_one_saddle_is_complete():
    """Nothing is missing where every stationary point was looked for."""
    u = tsc.FunctionPotential(lambda x: x[0] ** 2 - x[1] ** 2, 2, bounds=[(-1, 1), (-1, 1)])
    with tsc.Landscape.in_memory(u) as landscape:
        report = tsc.explore(landscape, u, strategies=[tsc.StationarySearch(starts=8)], progress=False)
        assert (report.status, report.advice, landscape.counts_by_index()) == ("complete", "", [0, 1])


def test_minima_outside_the_box_are_said():
    potential = Wells()
    potential.bounds = tsc.Bounds.of([(2.0, 3.0)] * 2)
    advice = r"\(3 on the wall of the box\): widen the bounds"
    with tsc.Landscape.in_memory(potential) as landscape, pytest.warns(UserWarning, match=advice):
        explored(landscape, potential)


# --- landscapes that do not fit ---------------------------------------------------------------------------


def test_another_potential_is_refused(landscape):
    with pytest.raises(FingerprintMismatch, match=r"tilt is 0\.2 there and 0\.25 here"):
        explored(landscape, Wells(tilt=0.25))
    assert landscape.runs() == []
    assert explored(landscape, Wells(), budget=tsc.Budget(evaluations=1)).n_minima > 0


def test_a_landscape_that_is_only_read_is_refused(tmp_path):
    tsc.Landscape.open(tmp_path / "a.db", Wells()).close()
    with (
        tsc.Landscape.open(tmp_path / "a.db") as landscape,
        pytest.raises(DatabaseError, match="open for reading only"),
    ):
        explored(landscape)


def test_no_strategies_find_nothing_and_say_so(landscape):
    with pytest.warns(UserWarning, match=r"no quench was made: put BasinHopping\(\)"):
        report = explored(landscape, strategies=[])
    assert not report.is_complete
    assert landscape.n_tasks() == 0
    explored(landscape, strategies=searches()[:1])
    assert explored(landscape, strategies=[]).is_complete
