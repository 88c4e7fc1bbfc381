"""Climbing out of minima: from which, how often, in which directions, and when it stops."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from explore_doubles import Recording, Ripple, Wells

import torchscape as tsc
from torchscape.explore import ClimbFromMinima
from torchscape.optimise import relax
from torchscape.saddles import Follow, RandomDirections, SoftModes

QUICK = Follow(max_evaluations=1)  # where it does not matter what the climbs find


def corners(ndim: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * ndim).reshape(-1, ndim)


def climbed(potential, starts, settings, seed=0):
    """The landscape after climbing from the minima below ``starts``, the tasks that were run, and the report."""
    landscape = tsc.Landscape.in_memory(potential)
    landscape.add_minima(relax(potential, torch.as_tensor(starts, dtype=torch.float64)))
    recording = Recording()
    report = tsc.explore(
        landscape, potential, strategies=[settings], seed=seed, executor=recording, progress=False
    )
    return landscape, recording.tasks, report


def per_minimum(landscape, tasks) -> Counter:
    """How many climbs started from each minimum, by id."""
    x = landscape.minima(torch.arange(landscape.n_minima)).x
    starts = torch.cat([task.x for task in tasks])
    return Counter(torch.cdist(starts, x).argmin(1).tolist())


def test_every_minimum_gets_its_searches():
    """Those too that the climbs themselves find."""
    landscape, tasks, report = climbed(Wells(2), [[1.0, 1.0]], ClimbFromMinima(searches=2, round_searches=3))
    assert report.is_complete
    assert landscape.n_minima == 4
    assert per_minimum(landscape, tasks) == {i: 2 for i in range(4)}
    assert sum(report.outcomes.values()) == 8
    assert max(len(task.x) for task in tasks) <= 3
    assert landscape.n_transition_states == 4
    assert int(landscape.network().components().max()) == 0


def test_more_searches_continue():
    potential = Wells(2)
    few, many = (ClimbFromMinima(searches=n, refine=QUICK) for n in (2, 5))
    landscape, earlier, _ = climbed(potential, corners(2), few)
    recording = Recording()
    tsc.explore(landscape, potential, strategies=[many], executor=recording, progress=False)
    assert per_minimum(landscape, recording.tasks) == {i: 3 for i in range(4)}
    whole = climbed(potential, corners(2), many)[1]
    assert keys(whole) == keys(earlier) | keys(recording.tasks)


def keys(tasks) -> set[int]:
    """The random keys of all climbs."""
    return set(torch.cat([task.key for task in tasks]).tolist())


def test_rounds_change_nothing_but_the_order():
    """A climb depends on the seed, its minimum and its number alone."""
    potential, found = Wells(2), []
    for size in (3, 100):
        settings = ClimbFromMinima(searches=2, round_searches=size)
        landscape, tasks, report = climbed(potential, corners(2), settings, seed=4)
        x, key = torch.cat([task.x for task in tasks]), torch.cat([task.key for task in tasks])
        order = key.argsort()
        found.append((x[order], key[order], landscape.network().ts_energy, report.outcomes))
        assert len(key.unique()) == 8
    for other in found[1:]:
        assert torch.equal(other[0], found[0][0])
        assert torch.equal(other[1], found[0][1])
        torch.testing.assert_close(other[2], found[0][2], rtol=0, atol=1e-9)
        assert other[3] == found[0][3]
    other_seed = climbed(potential, corners(2), ClimbFromMinima(searches=1, refine=QUICK), seed=5)[1]
    assert keys(other_seed).isdisjoint(found[0][1].tolist())


def test_whoever_was_climbed_from_least_comes_first_and_the_lowest_among_them():
    settings = ClimbFromMinima(searches=3, round_searches=6, refine=QUICK)
    landscape, tasks, _ = climbed(Wells(2), corners(2), settings)
    x, ids = landscape.minima(), landscape.minimum_ids()
    order = [ids[torch.cdist(task.x, x.x).argmin(1)].tolist() for task in tasks]
    lowest_first = ids.tolist()
    assert order == [lowest_first] * 3  # as many whole turns as fit into a round


def test_a_search_of_few_at_a_time_spreads():
    """A round smaller than the number of minima takes the lowest of those that had fewer."""
    settings = ClimbFromMinima(searches=2, round_searches=3, refine=QUICK)
    landscape, tasks, _ = climbed(Wells(2), corners(2), settings)
    x, ids = landscape.minima().x, landscape.minimum_ids().tolist()
    order = [[ids[i] for i in torch.cdist(task.x, x).argmin(1).tolist()] for task in tasks]
    assert order[:2] == [ids[:3], [ids[3], *ids[:2]]]


@pytest.mark.parametrize("patience", [1, 5])
def test_patience_ends_a_search_that_finds_nothing_new(patience):
    """Counted in climbs since the last new transition state, at the end of a round."""
    settings = ClimbFromMinima(searches=1000, patience=patience, round_searches=4)
    landscape, tasks, report = climbed(Wells(1), corners(1), settings)
    assert report.is_complete
    assert landscape.n_transition_states == 1
    n = sum(len(task.x) for task in tasks)
    assert n == 4 + 4 * -(-patience // 4)  # the first round finds the only one


def test_only_the_lowest_minima_are_climbed_from():
    settings = ClimbFromMinima(searches=2, max_minima=2, refine=QUICK)
    landscape, tasks, _ = climbed(Wells(2), corners(2), settings)
    assert set(per_minimum(landscape, tasks)) == set(landscape.minimum_ids()[:2].tolist())


def test_where_asked_one_network_grows_from_the_lowest_minimum():
    """A round climbs from what earlier rounds have connected with it, although all four wells are known."""
    settings = ClimbFromMinima(searches=3, connected=True, round_searches=2)
    landscape, tasks, _ = climbed(Wells(2), corners(2), settings)
    x, ids = landscape.minima().x, landscape.minimum_ids().tolist()
    chosen = [{ids[i] for i in torch.cdist(task.x, x).argmin(1).tolist()} for task in tasks]
    assert chosen[0] == {ids[0]}
    network = landscape.network()
    component = network.components()
    connected = {ids[i] for i in torch.nonzero(component == component[0])[:, 0].tolist()}
    assert set.union(*chosen) == connected
    assert len(connected) > 1
    edges = network.edges.T.tolist()
    neighbours = {(a, b) for a, b in edges} | {(b, a) for a, b in edges}
    before = {0}
    for rows in chosen:
        rows = {ids.index(i) for i in rows}
        assert all(row in before or any((row, b) in neighbours for b in before) for row in rows)
        before |= rows


def test_soft_modes_and_several_directions_count_as_one_search():
    """A search is a start; each of its directions is a candidate."""
    settings = ClimbFromMinima(searches=1, directions=SoftModes(count=2))
    landscape, _, report = climbed(Wells(2), corners(2), settings)
    assert sum(report.outcomes.values()) == 4 * 4
    assert landscape.n_transition_states == 4
    settings = ClimbFromMinima(searches=2, directions=RandomDirections(count=3))
    assert sum(climbed(Wells(2), corners(2), settings)[2].outcomes.values()) == 4 * 2 * 3


def test_options_reach_the_search():
    settings = ClimbFromMinima(searches=1, refine=QUICK)
    landscape, _, report = climbed(Wells(2), corners(2), settings)
    assert report.outcomes == {"MAX_STEPS": 4}
    assert landscape.n_transition_states == 0


def test_without_minima_there_is_nothing_to_climb():
    with pytest.warns(UserWarning, match=r"no quench was made: put BasinHopping\(\) among the strategies"):
        _, tasks, report = climbed(Ripple(2), torch.empty(0, 1), ClimbFromMinima())
    assert report.status == "no minimum found"
    assert tasks == []


def test_climbs_stay_in_the_box():
    """The outermost barrier of the row leads to a wall on its far side: a transition state, but no edge."""
    landscape, _, report = climbed(Ripple(3), [[3.0]], ClimbFromMinima(searches=6))
    assert landscape.n_minima == 3
    assert landscape.n_transition_states == 3
    assert landscape.summary()["n_leaving_the_box"] == 1
    barriers = 2 * torch.pi * torch.arange(1, 3).double() + torch.asin(torch.tensor(0.05).double())
    x = landscape.network(coords=True).ts_coords[:, 0].sort().values
    torch.testing.assert_close(x, barriers, rtol=0, atol=1e-7)
    assert report.outcomes.keys() <= {"VERIFIED", "OUTSIDE", "LOST", "STALLED"}
