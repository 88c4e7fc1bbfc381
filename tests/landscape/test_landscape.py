"""What goes in and what comes out of a landscape."""

from __future__ import annotations

import math

import pytest
import torch
from landscape_fixtures import Bowl, SignFlip, points

from torchscape import Bounds, Landscape, Potential, StationaryPoints, Status
from torchscape.errors import DatabaseError, TorchscapeError


def add_and_fail(landscape: Landscape, x, error: type[BaseException]) -> None:
    with landscape.transaction():
        landscape.add_minima(points(x))
        landscape.record_task("a", "quench")
        raise error


def three_minima(landscape: Landscape) -> torch.Tensor:
    return landscape.add_minima(points([[2.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))


def test_ids_are_in_order_of_discovery_and_arrays_in_order_of_energy():
    with Landscape.in_memory(Bowl()) as landscape:
        assert three_minima(landscape).tolist() == [0, 1, 2]
        network = landscape.network()
        assert network.ids.tolist() == landscape.minimum_ids().tolist() == [1, 2, 0]
        assert network.energy.tolist() == [0.0, 1.0, 4.0]
        assert network.coords[:, 0].tolist() == [0.0, 1.0, 2.0]
        assert landscape.minima().energy.tolist() == [0.0, 1.0, 4.0]
        assert landscape.minima(torch.tensor([0, 1, 0])).energy.tolist() == [4.0, 0.0, 4.0]


def test_of_equal_energies_the_earlier_found_comes_first():
    x = torch.tensor([[k, 0.0] for k in range(9)])
    energy = torch.tensor([2.0, 1.0, 2.0, 0.0, 1.0, 0.0, 2.0, 1.0, 0.0])
    with Landscape.in_memory(Bowl()) as landscape:
        landscape.add_minima(points(x, energy))
        a, b = torch.arange(8), torch.arange(1, 9)
        landscape.add_transition_states(points(x[:8] + 0.5, torch.full((8,), 3.0), index=1), a, b)
        network = landscape.network()
        assert network.ids.tolist() == landscape.minimum_ids().tolist() == [3, 5, 8, 1, 4, 7, 0, 2, 6]
        assert network.ts_ids.tolist() == landscape.transition_state_ids().tolist() == list(range(8))


def test_adding_again_raises_hits_only():
    with Landscape.in_memory(Bowl()) as landscape:
        first = three_minima(landscape)
        assert torch.equal(three_minima(landscape), first)
        assert landscape.network().hits.tolist() == [2, 2, 2]
        assert landscape.n_minima == 3


def test_the_description_tells_what_no_search_ended_in():
    with Landscape.in_memory(Bowl()) as landscape:
        three_minima(landscape)
        assert "without a hit" not in landscape.describe()
        landscape.add_minima(points([[5.0, 5.0]]), hits=torch.tensor([0]))
        line = next(line for line in landscape.describe().splitlines() if "without a hit" in line)
        assert line == "minima without a hit           1, known only as ends of downhill paths"


def test_a_recorded_task_adds_nothing_twice():
    with Landscape.in_memory(Bowl()) as landscape:
        for _ in range(2):
            with landscape.transaction():
                landscape.record_task("hop/0", "quench")
                ids = landscape.add_minima(points([[0.0, 0.0], [0.0, 0.0], [5.0, 5.0]]), task="hop/0")
        assert ids.tolist() == [0, 0, 1]
        assert landscape.network().hits.tolist() == [2, 1]
        assert landscape.add_minima(points([[9.0, 9.0]]), task="hop/0").tolist() == [-1]
        assert landscape.n_minima == 2


def test_refused_minima_get_no_id_and_leave_a_reason():
    candidates = points(
        [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [math.nan, 0.0]],
        [0.0, 1.0, math.nan, 3.0, 4.0],
        index=torch.tensor([-1, 1, 0, 0, 0]),
    )
    candidates = candidates.replace(status=torch.tensor([1, 1, 1, int(Status.MAX_STEPS), 1]))
    with Landscape.in_memory(Bowl()) as landscape:
        assert landscape.add_minima(candidates).tolist() == [0, -1, -1, -1, -1]
        assert landscape.refusals() == {
            "minimum: not converged": 1,
            "minimum: not finite": 2,
            "minimum: wrong index": 1,
        }


def test_transition_states_join_minima():
    with Landscape.in_memory(Bowl()) as landscape:
        three_minima(landscape)
        saddles = points([[1.0, 5.0], [1.0, 6.0], [1.0, 7.0]], [5.0, 9.0, 6.0], index=1)
        ends = torch.tensor([[1, 2], [2, 0], [1, 1]])
        ids = landscape.add_transition_states(saddles, ends[:, 0], ends[:, 1])
        assert ids.tolist() == [0, 1, 2]
        network = landscape.network()
        assert network.edges.tolist() == [[0, 1], [1, 2]]  # positions by ascending energy
        assert network.ts_energy.tolist() == [5.0, 9.0]
        assert network.ts_ids.tolist() == [0, 1]
        assert network.n_degenerate_rearrangements == 1
        assert landscape.n_transition_states == 3
        assert landscape.transition_states().energy.tolist() == [5.0, 6.0, 9.0]
        assert landscape.ends().tolist() == [[1, 2], [1, 1], [2, 0]]


def test_parallel_edges_are_kept_and_counted_once_as_connections():
    with Landscape.in_memory(Bowl()) as landscape:
        three_minima(landscape)
        saddles = points([[1.0, 5.0], [1.0, 6.0]], [5.0, 5.0], index=1)
        landscape.add_transition_states(saddles, torch.tensor([1, 2]), torch.tensor([2, 1]))
        assert landscape.network().n_edges == 2
        summary = landscape.summary()
        assert (summary["n_transition_states"], summary["n_connected_pairs"]) == (2, 1)
        assert summary["connections"] == [[0, 1]]


def test_a_known_saddle_with_other_ends_keeps_the_first_and_is_counted():
    with Landscape.in_memory(Bowl()) as landscape:
        three_minima(landscape)
        saddle = points([[1.0, 5.0]], [5.0], index=1)
        for minus, plus in [(1, 2), (2, 1), (0, 1)]:
            ids = landscape.add_transition_states(saddle, torch.tensor([minus]), torch.tensor([plus]))
            assert ids.tolist() == [0]
        assert landscape.ends().tolist() == [[1, 2]]
        assert landscape.network().ts_hits.tolist() == [3]
        assert landscape.summary()["n_inconsistent_ends"] == 1


@pytest.mark.parametrize("endless", [math.inf, math.nan])
def test_nothing_with_infinitely_many_images_is_stored(endless):
    """One of them would make every heat capacity NaN. What is near it shares its fate; the others stay."""

    class Endless(SignFlip):
        def log_degeneracy(self, x):
            return torch.where(x[:, 0].abs() > 2, endless, super().log_degeneracy(x))

    bowl = Bowl()
    bowl.symmetry = Endless()
    with Landscape.in_memory(bowl) as landscape:
        offered = points([[1.0, 0.0], [3.0, 0.0], [0.0, 1.5], [-3.0, 0.0], [-1.0, 0.0]])
        for _ in range(2):
            assert landscape.add_minima(offered).tolist() == [0, -1, 1, -1, 0]
        saddles = points([[3.0, 1.0], [1.0, 3.0]], index=1)
        ends = torch.tensor([0, 0]), torch.tensor([1, 1])
        assert landscape.add_transition_states(saddles, *ends).tolist() == [-1, 0]
        network = landscape.network()
        assert network.hits.tolist() == [4, 2]
        assert bool(network.log_degeneracy.isfinite().all())
        refusals = landscape.refusals()
    why = "degeneracy not finite"
    assert refusals == {f"minimum: {why}": 4, f"transition state: {why}": 1}


def test_refused_transition_states():
    with Landscape.in_memory(Bowl()) as landscape:
        three_minima(landscape)
        saddles = points(
            torch.arange(12.0).reshape(6, 2),
            [5.0, 3.9, 5.0, 5.0, 5.0, 4.0],
            index=torch.tensor([1, 1, 1, 1, -1, 1]),
        )
        minus, plus = torch.tensor([0, 0, -1, 7, 0, 0]), torch.tensor([1, 1, 1, 1, 1, 1])
        ids = landscape.add_transition_states(saddles, minus, plus)
        assert ids.tolist() == [0, -1, -1, -1, -1, 1]  # the last lies level with its minimum, within tolerance
        assert landscape.refusals() == {
            "transition state: an end is no known minimum": 2,
            "transition state: below one of its minima": 1,
            "transition state: wrong index": 1,
        }


def test_add_sorts_by_index():
    with Landscape.in_memory(Bowl()) as landscape:
        mixed = points([[0.0, 0.0], [0.0, 5.0], [0.0, 2.0]], [0.0, 9.0, 4.0], index=torch.tensor([0, 1, -1]))
        assert landscape.add(mixed).tolist() == [0, -1, 1]
        ends = torch.tensor([-1, 0, -1]), torch.tensor([-1, 1, -1])
        assert landscape.add(mixed, *ends).tolist() == [0, 0, 1]
        assert (landscape.n_minima, landscape.n_transition_states) == (2, 1)


def test_transition_state_log_det_leaves_out_the_negative_eigenvalue():
    """A spectrum of (-2, 3, 5) has ln|det| = ln 30, and ln 15 over the positive eigenvalues."""
    spectrum = torch.tensor([[-2.0, 3.0, 5.0]], dtype=torch.float64)
    with Landscape.in_memory(Bowl(3)) as landscape:
        landscape.add_minima(points([[0.0] * 3, [1.0] * 3], [0.0, 0.0]))
        saddle = points([[0.5] * 3], [1.0], index=1, log_det=spectrum.abs().log().sum(1), n_zero=[0])
        zero, one = torch.tensor([0]), torch.tensor([1])
        landscape.add_transition_states(saddle, zero, one)
        assert landscape.network().ts_log_det.isnan().all()
        landscape.add_transition_states(saddle.replace(eigenvalues=spectrum), zero, one)
        assert landscape.network().ts_log_det.tolist() == pytest.approx([math.log(15)])
        assert landscape.transition_states().eigenvalues.tolist() == spectrum.tolist()
    with Landscape.in_memory(Bowl(3)) as landscape:
        landscape.add_minima(points([[0.0] * 3, [1.0] * 3], [0.0, 0.0]))
        lowest = torch.tensor([-2.0], dtype=torch.float64)
        landscape.add_transition_states(saddle, zero, one, lowest=lowest)
        assert landscape.network().ts_log_det.tolist() == pytest.approx([math.log(15)])
        assert landscape.network().ts_n_modes.tolist() == [2]


def test_curvature_is_filled_in_by_a_later_hit():
    with Landscape.in_memory(Bowl(3)) as landscape:
        bare = points([[0.0] * 3], index=-1)
        landscape.add_minima(bare)
        assert landscape.network().log_det.isnan().all()
        assert landscape.uncharacterised().tolist() == [0]
        known = bare.replace(
            index=torch.tensor([0]), log_det=torch.tensor([1.5]).double(), n_zero=torch.tensor([1])
        )
        landscape.add_minima(type(bare).cat([bare, known]))
        network = landscape.network()
        assert (network.log_det.tolist(), network.n_modes.tolist(), network.hits.tolist()) == ([1.5], [2], [3])
        assert landscape.minima().index.tolist() == [0]
        assert landscape.uncharacterised().tolist() == []


def test_a_minimum_that_turns_out_to_be_a_saddle_no_longer_counts():
    with Landscape.in_memory(Bowl()) as landscape:
        ids = landscape.add_minima(points([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], index=-1))
        saddle = points([[1.0, 3.0]], [9.0], index=1)
        landscape.add_transition_states(saddle, ids[:1], ids[1:2])
        landscape.set_curvature(ids, landscape.minima(ids).replace(index=torch.tensor([0, 1, 0])))
        assert landscape.n_minima == 2
        network = landscape.network()
        assert (network.ids.tolist(), network.n_edges) == ([0, 2], 0)
        assert landscape.n_transition_states == 0
        assert landscape.add_minima(points([[1.0, 0.0]], index=-1)).tolist() == [-1]
        assert landscape.add_transition_states(saddle, ids[:1], ids[1:2]).tolist() == [-1]
        assert landscape.summary()["n_turned_out_saddles"] == 1


def test_properties_follow_their_minima():
    with Landscape.in_memory(Bowl()) as landscape:
        three_minima(landscape)
        landscape.set_property("accuracy", [0.9, 0.8, 0.7])
        landscape.set_property("auc", {0: 0.5})
        assert landscape.properties()["accuracy"].tolist() == [0.9, 0.8, 0.7]
        landscape.add_minima(points([[0.5, 0.0]]))  # slips in between
        network = landscape.network()
        assert network.properties["accuracy"][[0, 2, 3]].tolist() == [0.9, 0.8, 0.7]
        assert network.properties["accuracy"][1].isnan()
        assert network.properties["auc"].nan_to_num(-1).tolist() == [-1, -1, -1, 0.5]
        landscape.set_property("auc", {0: 0.6})
        assert landscape.properties()["auc"][-1] == 0.6
        with pytest.raises(TorchscapeError, match="one per minimum"):
            landscape.set_property("accuracy", [1.0])
        with pytest.raises(TorchscapeError, match="do not exist"):
            landscape.set_property("accuracy", {17: 1.0})


def test_summary_is_json_with_the_promised_keys():
    import json

    with Landscape.in_memory(Bowl()) as landscape:
        empty = landscape.summary()
        assert (empty["n_minima"], empty["lowest_energy"], empty["complete"]) == (0, None, False)
        run = landscape.begin_run(seed=3, settings={"hops": 5})
        three_minima(landscape)
        saddle = points([[1.0, 5.0]], [5.0], index=1)
        landscape.add_transition_states(saddle, torch.tensor([0]), torch.tensor([1]))
        assert not landscape.summary()["complete"]
        landscape.finish_run(run, "complete")
        summary = json.loads(json.dumps(landscape.summary()))
    assert summary["n_minima"] == 3
    assert summary["n_transition_states"] == summary["n_connected_pairs"] == 1
    assert summary["n_components"] == 2
    assert summary["lowest_energy"] == 0.0
    assert summary["energies"] == [0.0, 1.0, 4.0]
    assert summary["ts_energies"] == [5.0]
    assert summary["connections"] == [[0, 2]]
    assert summary["database_ids"] == [1, 2, 0]
    assert summary["fingerprint"] == Bowl().fingerprint()
    assert summary["complete"]
    assert summary["runs"][0]["settings"] == {"hops": 5}


def test_an_inner_transaction_undoes_its_own_part_only():
    with Landscape.in_memory(Bowl()) as landscape:
        with landscape.transaction():
            three_minima(landscape)
            with pytest.raises(RuntimeError):
                add_and_fail(landscape, [[7.0, 7.0]], RuntimeError)
            assert landscape.add_minima(points([[8.0, 8.0]])).tolist() == [3]
        assert landscape.n_minima == 4
        assert landscape.find(points([[7.0, 7.0], [8.0, 8.0]])).tolist() == [-1, 3]


def test_a_rolled_back_minimum_is_forgotten_by_the_catalogue():
    """Regression guard: a catalogue that outlives its transaction would hand out ids that are not in the file."""
    with Landscape.in_memory(Bowl()) as landscape:
        with pytest.raises(KeyboardInterrupt):
            add_and_fail(landscape, [[0.0, 0.0], [1.0, 0.0]], KeyboardInterrupt)
        assert landscape.n_minima == 0
        assert not landscape.task_done("a")
        assert landscape.find(points([[0.0, 0.0]])).tolist() == [-1]
        assert landscape.add_minima(points([[0.0, 0.0]]), task="a").tolist() == [0]


def test_points_of_another_dimension_are_an_error():
    with Landscape.in_memory(Bowl(2)) as landscape, pytest.raises(TorchscapeError, match="3 coordinates"):
        landscape.add_minima(points([[0.0, 0.0, 0.0]]))


def test_no_rows_are_no_trouble():
    with Landscape.in_memory(Bowl()) as landscape:
        nothing = points(torch.empty(0, 2))
        none = torch.empty(0, dtype=torch.int64)
        assert landscape.add_minima(nothing).tolist() == []
        assert landscape.add_transition_states(nothing, none, none).tolist() == []
        assert landscape.add(nothing).tolist() == []
        assert len(landscape.minima()) == len(landscape.transition_states()) == 0
        assert landscape.ends().shape == (0, 2)
        network = landscape.network()
        assert (network.n_minima, network.n_edges, network.coords.shape) == (0, 0, (0, 2))


def test_where_a_point_came_from_is_kept(tmp_path):
    import sqlite3

    path = tmp_path / "a.db"
    with Landscape.open(path, Bowl()) as landscape:
        run = landscape.begin_run(seed=11)
        landscape.add_minima(points([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), task="hop/7")
        landscape.finish_run(run)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT id, run, task, start FROM minimum").fetchall() == [
        (0, run, "hop/7", 0),
        (1, run, "hop/7", 2),
    ]
    assert connection.execute("SELECT seed, status FROM run").fetchall() == [(11, "complete")]
    connection.close()


@pytest.mark.parametrize("adding", [False, True])
def test_no_statement_of_a_block_goes_through_all_points(adding):
    """Each block did once, in search of members of families: the time to add N points grew as N^2."""
    known = torch.arange(400.0).double()
    with Landscape.in_memory(Bowl()) as landscape:
        ids = landscape.add_minima(points(torch.stack([known, 0 * known], 1), known))
        pairs = ids[:-1], ids[1:]
        middle = torch.stack([known[:-1] + 0.5, 1 + 0 * known[:-1]], 1)
        saddles = points(middle, known[1:] + 1, index=1)
        landscape.add_transition_states(saddles[:200], pairs[0][:200], pairs[1][:200])
        connection, heard = landscape._store.connection, []
        connection.set_trace_callback(heard.append)
        if adding:
            landscape.add_minima(points(torch.stack([known[:9], 5 + 0 * known[:9]], 1), known[:9] + 0.3))
            landscape.add_transition_states(saddles[200:210], pairs[0][200:210], pairs[1][200:210])
        else:
            assert landscape.n_minima == 400
            assert landscape.n_transition_states == 200
        connection.set_trace_callback(None)
        asked = [one for one in heard if one.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE"))]
        plans = [row[3] for one in asked for row in connection.execute(f"EXPLAIN QUERY PLAN {one}")]
    assert any("SEARCH" in plan for plan in plans)
    whole = [plan for plan in plans if plan.startswith("SCAN") and "INDEX" not in plan and "json_each" not in plan]
    assert [one for one in whole if "minimum" in one or "transition_state" in one] == []


def test_a_closed_landscape_says_so():
    landscape = Landscape.in_memory(Bowl())
    landscape.close()
    landscape.close()
    assert "closed" in repr(landscape)
    with pytest.raises(DatabaseError, match="closed"):
        landscape.network()


def test_what_lies_on_a_wall_is_no_stationary_point():
    """A descent into a wall is refused; a transition state one side of which leaves the box is kept, no edge."""

    class Boxed(Potential):
        ndim = 1
        bounds = Bounds.of([(-2.0, 2.0)])

        def energy(self, x):
            return ((x**2 - 1) ** 2 * (1 - 0.4 * x)).sum(1)

    def at(*values, index):
        x = torch.tensor(values, dtype=torch.float64)[:, None]
        n = len(values)
        return StationaryPoints.of(
            x,
            Boxed().energy(x),
            status=torch.full((n,), int(Status.CONVERGED)),
            index=torch.full((n,), index),
        )

    with Landscape.in_memory(Boxed()) as landscape:
        ids = landscape.add_minima(at(-1.0, 1.0, 2.0, index=0))
        assert ids.tolist() == [0, 1, -1]
        assert landscape.refusals() == {"minimum: on the wall of the box": 1}
        minus, plus = torch.tensor([0, 1]), torch.tensor([1, -1])
        leaves = torch.tensor([[False, False], [False, True]])
        found = landscape.add_transition_states(at(0.0, 1.9, index=1), minus, plus, leaves=leaves)
        assert found.tolist() == [0, 1]
        summary = landscape.summary()
        assert (summary["n_transition_states"], summary["n_connected_pairs"], summary["n_leaving_the_box"]) == (
            2,
            1,
            1,
        )
        assert sorted(landscape.ends().tolist()) == [[0, 1], [1, -1]]
        assert landscape.network().n_edges == 1
        again = landscape.add_transition_states(at(1.9, index=1), plus[1:], minus[1:], leaves=leaves[1:].flip(1))
        assert again.tolist() == [1]
        assert landscape.summary()["n_inconsistent_ends"] == 0  # the same two ends, named the other way round

    class Constrained(Boxed):
        bounds = Bounds.of([(-2.0, 2.0)], keep_walls=True)

    with Landscape.in_memory(Constrained()) as landscape:
        assert landscape.add_minima(at(2.0, index=0)).tolist() == [0]


def test_hits_count_searches_and_not_what_comes_along_with_them():
    """A point may stand for several searches, or for none: known either way, it is one point."""
    with Landscape.in_memory(Bowl()) as landscape:
        row = points([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [math.nan, 0.0], [3.0, 0.0]])
        ids = landscape.add_minima(row, hits=torch.tensor([0, 2, 3, 7, 0]))
        assert ids.tolist() == [0, 1, 0, -1, 2]
        landscape.add_minima(row[:2], hits=torch.tensor([0, 0]))
        assert landscape.network().hits.tolist() == [3, 2, 0]
        saddle = points([[1.0, 5.0]], [9.0], index=1)
        for hits in (torch.tensor([4]), None, torch.tensor([0])):
            landscape.add_transition_states(saddle, torch.tensor([0]), torch.tensor([1]), hits=hits)
        assert landscape.network().ts_hits.tolist() == [5]
        with pytest.raises(TorchscapeError, match=">= 0"):
            landscape.add_minima(row[:1], hits=torch.tensor([-1]))
