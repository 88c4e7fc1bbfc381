"""The merge tree, barriers and superbasins against enumeration, SciPy's single linkage and trees drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import minimax_by_enumeration, networks, random_network, relabel
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.spatial.distance import squareform

from torchscape import Network, analysis
from torchscape.errors import TorchscapeError

INF = float("inf")


@settings(deadline=None, max_examples=80)
@given(networks())
def test_every_minimax_energy_is_that_of_enumeration(network):
    """All pairs, one target and chosen pairs, with ties, parallel edges and disconnected minima."""
    expected = minimax_by_enumeration(network)
    n = network.n_minima
    assert np.array_equal(analysis.minimax(network).numpy(), expected)
    for target in range(n):
        assert np.array_equal(analysis.minimax_to(network, target).numpy(), expected[target])
    a, b = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    assert np.array_equal(analysis.minimax_between(network, a, b).numpy(), expected.reshape(-1))


def test_it_is_single_linkage_on_transition_state_energies():
    """On a complete graph the minimax energies are the cophenetic distances of SciPy's single linkage."""
    random = np.random.default_rng(3)
    n = 40
    i, j = np.triu_indices(n, 1)
    ts = random.uniform(1.0, 2.0, len(i))
    network = Network.of(random.uniform(size=n), torch.as_tensor(np.stack([i, j])), ts)
    expected = squareform(cophenet(linkage(ts, "single")))
    found = analysis.minimax(network).fill_diagonal_(0.0).numpy()
    assert np.array_equal(found, expected)


@settings(deadline=None, max_examples=50)
@given(networks(distinct=True), st.randoms(use_true_random=False))
def test_relabelling_minima_changes_nothing(network, random):
    order = list(range(network.n_minima))
    random.shuffle(order)
    other = relabel(network, np.asarray(order))
    assert torch.equal(analysis.persistence(other), analysis.persistence(network)[order])
    here, there = analysis.monotonic_basins(network), analysis.monotonic_basins(other)
    assert torch.equal(torch.as_tensor(order)[there.bottom], here.bottom[order])
    assert torch.equal(there.is_divide, here.is_divide[order])
    for barrier in (0.3, 1.0):
        assert torch.equal(analysis.funnels(other, barrier).label, analysis.funnels(network, barrier).label[order])


@settings(deadline=None, max_examples=50)
@given(networks())
def test_minimax_paths_are_paths_and_as_low_as_can_be(network):
    expected = minimax_by_enumeration(network)
    for end in range(network.n_minima):
        if np.isinf(expected[0, end]):
            with pytest.raises(TorchscapeError, match="no path joins"):
                analysis.minimax_path(network, 0, end)
            continue
        route = analysis.minimax_path(network, 0, end)
        assert route.minima[0] == 0
        assert route.minima[-1] == end
        assert route.highest == expected[0, end]
        for step, ts in enumerate(route.transition_states.tolist()):
            assert set(route.minima[step : step + 2].tolist()) == set(network.edges[:, ts].tolist())
        assert len(route.minima.unique()) == len(route)


@settings(deadline=None, max_examples=50)
@given(networks())
def test_superbasins_are_the_components_below_the_threshold(network):
    heights = torch.cat([network.energy, network.ts_energy])
    levels = torch.cat([heights.unique(), torch.tensor([-10.0, 0.25, 10.0], dtype=torch.float64)])
    for level, row in zip(levels, analysis.superbasins(network, levels), strict=True):
        component = network.only_edges(network.ts_energy <= level).components()
        for a in range(network.n_minima):
            members = (component == component[a]).nonzero().reshape(-1)
            lowest = float(network.energy[members].min())
            if network.energy[a] > level:
                assert row[a] == -1
            else:
                assert component[row[a]] == component[a]
                assert network.energy[row[a]] == lowest


@settings(deadline=None, max_examples=50)
@given(networks())
def test_persistence_is_the_lowest_barrier_to_a_lower_minimum(network):
    """With ties in energy, the minimum of the smaller position counts as the lower one."""
    height = minimax_by_enumeration(network)
    energy = network.energy.tolist()
    for a, found in enumerate(analysis.persistence(network).tolist()):
        lower = [b for b in range(len(energy)) if (energy[b], b) < (energy[a], a)]
        assert found == min((height[a, b] - energy[a] for b in lower), default=INF)


@settings(deadline=None, max_examples=50)
@given(networks(distinct=True), st.floats(0.0, 3.0))
def test_funnels_are_what_is_left_when_small_barriers_are_forgotten(network, barrier):
    found = analysis.funnels(network, barrier)
    deep = analysis.persistence(network) >= barrier
    assert sorted(found.bottom.tolist()) == deep.nonzero().reshape(-1).tolist()
    assert int(found.size.sum()) == network.n_minima
    height = analysis.minimax(network)
    for a in range(network.n_minima):
        own = found.bottom[found.label[a]]
        assert network.energy[own] <= network.energy[a]
        # Nobody deeper is reached below the height at which a meets its own bottom.
        if own != a:
            closer = deep & (height[a] < height[a, own]) & (network.energy <= network.energy[a])
            assert not bool(closer.any())


def test_a_double_funnel_drawn_by_hand():
    """Two valleys, bottoms 0 and 4, joined over 5; 1 and 2 are wrinkles of the first, 5 of the second."""
    network = Network.of(
        energy=[0.0, 1.0, 1.5, 3.0, 0.5, 1.2],
        edges=[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)],
        ts_energy=[1.4, 1.9, 5.0, 3.5, 1.6],
    )
    assert analysis.persistence(network).numpy() == pytest.approx([INF, 0.4, 0.4, 0.5, 4.5, 0.4])
    found = analysis.funnels(network)
    assert found.label.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.bottom.tolist() == [0, 4]
    assert found.depth.tolist() == [INF, 4.5]
    basins = analysis.monotonic_basins(network)
    assert basins.bottoms.tolist() == [0, 4]
    assert basins.bottom.tolist() == [0, 0, 0, 4, 4, 4]
    assert basins.is_divide.tolist() == [False, False, False, True, False, False]
    route = analysis.minimax_path(network, 5, 1)
    assert route.minima.tolist() == [5, 4, 3, 2, 1]
    assert route.highest == 5.0
    both = analysis.barriers(network)
    assert both.uphill.numpy() == pytest.approx([1.4, 0.9, 3.5, 3.0, 1.1])
    assert both.downhill.numpy() == pytest.approx([0.4, 0.4, 2.0, 0.5, 0.4])
    assert both.gap.numpy() == pytest.approx([1.0, 0.5, 1.5, 2.5, 0.7])


@settings(deadline=None, max_examples=50)
@given(networks(distinct=True))
def test_monotonic_basins_are_those_of_a_walk(network):
    """The steepest sequence followed step by step, and all sequences enumerated for the divides."""
    energy = network.energy.tolist()
    down: dict[int, list[tuple[float, float, int]]] = {k: [] for k in range(len(energy))}
    for (i, j), ts in zip(network.edges.T.tolist(), network.ts_energy.tolist(), strict=True):
        high, low = (i, j) if energy[i] > energy[j] else (j, i)
        down[high].append((ts, energy[low], low))

    def steepest(a: int) -> int:
        return a if not down[a] else steepest(min(down[a])[2])

    def every(a: int) -> set[int]:
        return {a} if not down[a] else set().union(*(every(b) for _, _, b in down[a]))

    basins = analysis.monotonic_basins(network)
    assert basins.bottom.tolist() == [steepest(a) for a in down]
    assert basins.is_divide.tolist() == [len(every(a)) > 1 for a in down]


@settings(deadline=None, max_examples=50)
@given(networks(distinct=True), st.floats(0.0, 2.0))
def test_merging_keeps_the_high_barriers_and_the_hits(network, barrier):
    merged, group = analysis.merge_minima(network, barrier)
    assert int(merged.hits.sum()) == int(network.hits.sum())
    kept = analysis.persistence(network) >= barrier
    assert torch.equal(merged.energy.sort().values, network.energy[kept].sort().values)
    assert torch.equal(analysis.persistence(merged), analysis.persistence(network)[kept])
    before, after = analysis.minimax(network), analysis.minimax(merged)
    for a in kept.nonzero().reshape(-1).tolist():
        for b in kept.nonzero().reshape(-1).tolist():
            if a != b:
                assert before[a, b] == after[group[a], group[b]]


def test_shifting_the_energy_shifts_the_heights():
    network = random_network(50, 90, seed=5)
    shifted = Network.of(network.energy + 3.0, network.edges, network.ts_energy + 3.0)
    assert analysis.minimax_to(shifted).numpy() == pytest.approx(analysis.minimax_to(network).numpy() + 3.0)


def test_negative_and_zero_transition_state_energies_count():
    """Regression: weights stored in a sparse matrix vanish at zero, and then so does the transition state."""
    network = Network.of([-3.0, -2.0, -4.0], [(0, 1), (1, 2), (0, 2)], [0.0, -1.0, 1.0])
    assert analysis.minimax_to(network, 2).tolist() == [0.0, -1.0, -4.0]


def test_dtype_and_device_follow_the_network(device, dtype):
    network = Network.of([0.0, 0.25, 0.125], [(0, 1), (1, 2)], [1.0, 0.5], dtype=dtype).to(device)
    tree = analysis.merge_tree(network)
    for values in (tree.gap, tree.persistence, tree.minimax(), tree.minimax_to(1)):
        assert values.dtype == dtype
        assert values.device.type == device.type
    assert tree.minimax_to(1).tolist() == [1.0, 0.25, 0.5]


def test_no_minima_and_no_transition_states():
    empty = Network.of([], torch.zeros(2, 0, dtype=torch.int64), [])
    assert analysis.minimax(empty).shape == (0, 0)
    assert len(analysis.funnels(empty)) == 0
    assert analysis.merge_minima(empty, 1.0)[0].n_minima == 0
    alone = Network.of([1.0], torch.zeros(2, 0, dtype=torch.int64), [])
    assert analysis.minimax_to(alone).tolist() == [1.0]
    assert analysis.monotonic_basins(alone).bottom.tolist() == [0]


def test_a_target_that_does_not_exist_is_refused():
    with pytest.raises(TorchscapeError, match=r"0\.\.2"):
        analysis.minimax_to(random_network(3, 3), 3)


def test_twenty_thousand_minima_merge_along_a_minimum_spanning_tree():
    """Minimax energies to one minimum are the highest edges on the paths of SciPy's spanning tree."""
    network = random_network(20_000, 100_000)
    (i, j), energy = network.edges.numpy(), network.ts_energy.numpy()
    shift = energy.min() - 1.0  # SciPy takes a weight of zero for no edge, and sums those of parallel edges
    order = np.lexsort((energy, np.maximum(i, j), np.minimum(i, j)))
    i, j, energy = np.minimum(i, j)[order], np.maximum(i, j)[order], energy[order]
    first = np.r_[True, (np.diff(i) != 0) | (np.diff(j) != 0)]
    ends = i[first].astype(np.int32), j[first].astype(np.int32)  # as SciPy wants them before 1.17.1
    weights = coo_array((energy[first] - shift, ends), shape=(20_000, 20_000)).tocsr()
    forest = minimum_spanning_tree(weights)
    order, before = breadth_first_order(forest, 0, directed=False)
    undirected = (forest + forest.T).tocsr()
    highest = np.full(20_000, INF)
    highest[0] = network.energy[0]
    for node in order[1:]:
        edge = undirected[node, before[node]] + shift
        highest[node] = edge if before[node] == 0 else max(edge, highest[before[node]])
    found = analysis.minimax_to(network, 0).numpy()
    assert np.array_equal(np.isinf(found), np.isinf(highest))
    np.testing.assert_allclose(found, highest, rtol=1e-12)
    assert np.array_equal(analysis.merge_tree(network).minimax_to(0).numpy(), found)
