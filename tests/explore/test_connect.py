"""Connecting minima: who is paired with whom, how often, and that what can be joined is joined."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import networkx
import pytest
import torch
from explore_doubles import Recording, Ripple, Wells, tables

import torchscape as tsc
from torchscape import problems, saddles
from torchscape.explore import BasinHopping, ClimbFromMinima, ConnectMinima
from torchscape.explore.neighbours import (
    Tried,
    missing_links,
    nearest,
    shortest_per_component,
)
from torchscape.numerics import DENSE_SPECTRUM
from torchscape.optimise import BFGS, relax
from torchscape.potentials import FunctionPotential
from torchscape.potentials.base import Potential
from torchscape.potentials.counted import Metered
from torchscape.saddles import climb, connect
from torchscape.saddles.verify import verify
from torchscape.symmetry.pairs import pair_distances


def known_minima(landscape, potential, starts) -> torch.Tensor:
    """Fill a landscape with the minima below some starts; their ids."""
    return landscape.add_minima(relax(potential, torch.as_tensor(starts, dtype=torch.float64)))


def connected(landscape, potential, strategy, **options):
    return tsc.explore(landscape, potential, strategies=[strategy], progress=False, **options)


def tried(landscape) -> dict[tuple[int, int], int]:
    """How often each pair was searched."""
    pairs = landscape.tried_pairs()
    return dict(zip(map(tuple, pairs.pairs.tolist()), pairs.times.tolist(), strict=True))


class Kinked(Potential):
    """Two wells that meet in a kink: between them there is no point where the gradient vanishes."""

    ndim = 2

    def energy(self, x):
        return (x[:, 0].abs() - 1) ** 2 + x[:, 1] ** 2


# --- nearest neighbours -------------------------------------------------------------------------------------


def brute_force(distance: torch.Tensor, allowed: torch.Tensor, k: int) -> set[tuple[int, int]]:
    """Every row's k nearest allowed partners, one row after the other."""
    pairs = set()
    for i, row in enumerate(distance.tolist()):
        partners = sorted((d, j) for j, d in enumerate(row) if allowed[i, j])
        pairs |= {(min(i, j), max(i, j)) for _, j in partners[:k]}
    return pairs


@pytest.mark.parametrize("k", [1, 3, 30])
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_nearest_are_those_of_brute_force(k, density):
    generator = torch.Generator().manual_seed(k)
    x = torch.randn(25, 3, dtype=torch.float64, generator=generator)
    allowed = (torch.rand(25, 25, generator=generator) < density) & ~torch.eye(25, dtype=torch.bool)
    pairs, length = nearest(Wells(3), x, allowed, k)
    distance = (x[:, None] - x).norm(dim=2)
    assert set(map(tuple, pairs.tolist())) == brute_force(distance, allowed, k)
    assert len(pairs) == len(set(map(tuple, pairs.tolist())))
    torch.testing.assert_close(length, distance[pairs[:, 0], pairs[:, 1]])
    assert bool((length.diff() >= 0).all())


def test_nearest_sees_through_the_symmetry():
    """Of shuffled and turned clusters, the ones with the closest images, however far apart they lie."""
    potential = problems.get("lj6").potential
    x = relax(potential, potential.sample(7, seed=5), tol=1e-2, optimiser=BFGS()).x
    reordered = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))[0]
    x[1::2] = (x[1::2].reshape(-1, 6, 3)[:, reordered] @ turn).flatten(1)
    n, k = len(x), 2
    distance = torch.stack([potential.symmetry.distance(x[i].expand(n, -1), x) for i in range(n)])
    torch.testing.assert_close(distance, distance.T, atol=1e-6, rtol=0)
    allowed = ~torch.eye(n, dtype=torch.bool)
    pairs, length = nearest(potential, x, allowed, k)
    assert bool((length < (x[pairs[:, 0]] - x[pairs[:, 1]]).norm(dim=1) + 1e-9).all())
    # Which of two equally distant partners is taken does not matter; how far the k nearest are does.
    for i in range(n):
        mine = length[(pairs == i).any(1)].sort().values[:k]
        best = distance[i][allowed[i]].sort().values[:k]
        torch.testing.assert_close(mine, best, atol=1e-6, rtol=0)


def test_nothing_is_near_nothing():
    for n, k in ((0, 3), (1, 3), (4, 0)):
        pairs, length = nearest(Wells(2), torch.zeros(n, 2).double(), torch.ones(n, n, dtype=torch.bool), k)
        assert pairs.shape == (0, 2)
        assert length.shape == (0,)
    x = torch.zeros(3, 2).double()
    assert nearest(Wells(2), x, torch.zeros(3, 3, dtype=torch.bool), 2)[0].shape == (0, 2)
    none = torch.empty(0, dtype=torch.int64)
    assert pair_distances(Wells(2).symmetry, x, none, x, none).shape == (0,)


def test_missing_links_are_the_edges_of_the_shortest_paths():
    """Against networkx, on random components with squared distances as weights."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(20, 2, dtype=torch.float64, generator=generator)
    component = torch.arange(20) % 6
    pairs = torch.tensor([p for p in itertools.combinations(range(20), 2) if component[p[0]] != component[p[1]]])
    length = (x[pairs[:, 0]] - x[pairs[:, 1]]).norm(dim=1)
    graph = networkx.Graph()
    for (i, j), d in zip(component[pairs].tolist(), length.tolist(), strict=True):
        if not graph.has_edge(i, j) or d**2 < graph.edges[i, j]["weight"]:
            graph.add_edge(i, j, weight=d**2)
    paths = networkx.single_source_dijkstra_path(graph, 2)
    needed = {tuple(sorted(step)) for path in paths.values() for step in itertools.pairwise(path)}
    chosen = missing_links(pairs, length, component, 2)
    assert {tuple(sorted(p)) for p in component[pairs[chosen]].tolist()} == needed
    assert int(chosen.sum()) == len(needed)
    for i, j in needed:  # the shortest pair of each two components, no other
        between = (component[pairs].sort(1).values == torch.tensor([i, j])).all(1)
        assert length[chosen & between] == length[between].min()


def test_the_shortest_pairs_of_each_component_are_chosen():
    pairs = torch.tensor([[0, 1], [0, 2], [0, 3], [2, 3], [1, 3]])
    length = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    component = torch.tensor([0, 0, 1, 2])
    chosen = shortest_per_component(pairs, length, component, 1)
    assert bool(chosen[1])  # the nearest of minimum 2, to the largest component
    assert bool(chosen[2])  # and of minimum 3
    assert not bool(chosen[4])  # farther than both
    assert bool(shortest_per_component(pairs, length, component, 9)[1:].all())


# --- the strategy -------------------------------------------------------------------------------------------


def test_a_row_of_wells_is_joined_one_to_the_next():
    """Without the first phase: every component is bridged to its neighbour, and nothing farther is tried."""
    potential = Ripple(6)
    with tsc.Landscape.in_memory(potential) as landscape:
        ids = known_minima(landscape, potential, [[3.0 + 2 * torch.pi * i] for i in range(6)])
        assert ids.tolist() == list(range(6))
        report = connected(landscape, potential, ConnectMinima(neighbours=0, bridges=1))
        assert report.is_complete
        assert tried(landscape) == {(i, i + 1): 1 for i in range(5)}
        network = landscape.network()
        assert network.n_edges == 5
        edges = network.ids[network.edges].sort(0).values.T.tolist()
        assert sorted(edges) == [[i, i + 1] for i in range(5)]
        assert sorted(network.energy.tolist()) == pytest.approx(wells_of_ripple(6), abs=1e-9)


def wells_of_ripple(n: int) -> list[float]:
    """cos x + x/20 where sin x = 1/20 and cos x < 0."""
    x = [torch.pi - torch.asin(torch.tensor(0.05, dtype=torch.float64)) + 2 * torch.pi * i for i in range(n)]
    return [float(one.cos() + 0.05 * one) for one in x]


def test_minima_on_the_way_join_what_is_far_apart():
    """Only the two ends of the row are known; the wells between turn up as ends of downhill paths."""
    potential = Ripple(5)
    with tsc.Landscape.in_memory(potential) as landscape:
        known_minima(landscape, potential, [[3.0], [3.0 + 8 * torch.pi]])
        report = connected(landscape, potential, ConnectMinima())
        assert report.is_complete
        assert landscape.n_minima == 5
        assert landscape.network().n_edges == 4
        assert int(landscape.network().components().max()) == 0


def test_the_first_phase_pairs_every_minimum_with_its_neighbours():
    potential = Wells(3)
    with tsc.Landscape.in_memory(potential) as landscape:
        corners = list(itertools.product((-1.0, 1.0), repeat=3))
        known_minima(landscape, potential, corners)
        connected(landscape, potential, ConnectMinima(neighbours=3, round_pairs=5))
        x = landscape.minima(torch.arange(8)).x
        expected = brute_force((x[:, None] - x).norm(dim=2), ~torch.eye(8, dtype=torch.bool), 3)
        assert set(tried(landscape)) == expected
        assert landscape.n_tasks("connect") == -(-len(expected) // 5)
        graph = networkx.Graph(landscape.network().edges.T.tolist())
        assert networkx.is_isomorphic(graph, networkx.hypercube_graph(3))


def test_pairs_that_cannot_be_joined_are_tried_so_often_and_no_more():
    """Each attempt with twice the images; then the run is complete, connected or not."""
    potential = Kinked()
    with tsc.Landscape.in_memory(potential) as landscape:
        known_minima(landscape, potential, [[-1.0, 0.0], [1.0, 0.0]])
        recording = Recording()
        report = connected(landscape, potential, ConnectMinima(attempts=3), executor=recording)
        assert report.is_complete
        assert landscape.n_transition_states == 0
        assert tried(landscape) == {(0, 1): 3}
        assert landscape.tried_pairs().outcomes == ("none found",)
        assert [task.band.min_images for task in recording.tasks] == [9, 18, 36]
        before = tables(landscape)["pair"]
        assert connected(landscape, potential, ConnectMinima(attempts=3)).n_evaluations == 0
        # Another search takes what was tried before into account.
        connected(landscape, potential, ConnectMinima(attempts=3, neighbours=1))
        assert tables(landscape)["pair"] == before
        connected(landscape, potential, ConnectMinima(attempts=5), executor=recording)
        assert tried(landscape) == {(0, 1): 5}
        assert [task.band.min_images for task in recording.tasks[3:]] == [72, 144]


def test_the_second_phase_is_bounded():
    potential = Kinked()
    with tsc.Landscape.in_memory(potential) as landscape:
        known_minima(landscape, potential, [[-1.0, 0.0], [1.0, 0.0]])
        connected(landscape, potential, ConnectMinima(neighbours=0, attempts=9, max_rounds=2))
        assert tried(landscape) == {(0, 1): 2}
        connected(landscape, potential, ConnectMinima(neighbours=0, attempts=9, max_rounds=3))
        assert tried(landscape) == {(0, 1): 3}


@pytest.mark.parametrize("neighbours", [0, 2])
def test_only_the_lowest_minima_are_connected(neighbours):
    potential = Ripple(6)
    with tsc.Landscape.in_memory(potential) as landscape:
        known_minima(landscape, potential, [[3.0 + 2 * torch.pi * i] for i in (4, 1, 5, 0, 2, 3)])
        lowest = set(landscape.minimum_ids()[:3].tolist())
        assert connected(landscape, potential, ConnectMinima(neighbours=neighbours, max_minima=3)).is_complete
        assert set(itertools.chain(*tried(landscape))) == lowest
        assert landscape.network().n_edges == 2


@pytest.mark.filterwarnings("ignore:no quench was made")  # with none
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_minima_are_no_trouble(n):
    potential = Ripple(3)
    with tsc.Landscape.in_memory(potential) as landscape:
        known_minima(landscape, potential, torch.full((n, 1), 3.0).double())
        assert connected(landscape, potential, ConnectMinima()).is_complete == (n > 0)  # nothing is no landscape
        # What others find later is not forgotten.
        known_minima(landscape, potential, [[3.0], [9.0]])
        connected(landscape, potential, ConnectMinima())
        assert tried(landscape) == {(0, 1): 1}


def test_minima_that_later_strategies_find_are_connected_too():
    """From the only known minimum of a row there is nothing to connect until the climbs have found others."""
    potential = Ripple(4)
    strategies = [BasinHopping(walkers=1, hops=0), ConnectMinima(neighbours=1), ClimbFromMinima(searches=4)]
    with tsc.Landscape.in_memory(potential) as landscape:
        assert tsc.explore(landscape, potential, strategies=strategies, progress=False).is_complete
        assert landscape.n_minima == 4
        assert set(itertools.chain(*tried(landscape))) == {0, 1, 2, 3}
        assert set(tried(landscape).values()) == {1}


def test_tried_knows_both_directions():
    potential = Ripple(4)
    with tsc.Landscape.in_memory(potential) as landscape:
        known_minima(landscape, potential, [[3.0 + 2 * torch.pi * i] for i in range(4)])
        for pair in ([0, 1], [1, 0], [3, 2]):
            landscape.record_pairs(torch.tensor([pair]), "none found")
        tried = Tried.of(landscape, torch.tensor([1, 0, 3]))
        every = torch.tensor(list(itertools.product(range(3), range(3))))
        assert tried.times(every).reshape(3, 3).tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]
        for most in (1, 2, 3):
            fewer = torch.tensor([[0, 2, 0], [2, 0, 0], [0, 0, 0]]) < most
            assert tried.fewer(torch.tensor([0, 1, 2]), most).equal(fewer)
            assert tried.fewer(torch.tensor([2, 0]), most).equal(fewer[[2, 0]])


def test_ends_that_are_known_minima_need_no_hessian():
    """Beyond the dense limit the two minima that were given are recognised at the ends of the paths, and what is
    left out, the determinants, ``explore`` fills in: a double well whose spectra are written down."""
    d = DENSE_SPECTRUM + 2
    c = torch.linspace(2.0, 3.0, d - 1, dtype=torch.float64)
    c[0] = 1.0  # a lowest eigenvalue apart from the others is found soon

    def wells(x):
        return (x[:, 0] ** 2 - 1) ** 2 + 0.5 * (c * x[:, 1:].square()).sum(1)

    u = FunctionPotential(wells, d, batched=True)
    ends = torch.zeros(2, d, dtype=torch.float64)
    ends[:, 0] = torch.tensor([-1.0, 1.0])
    found = connect(u, ends[:1], ends[1:])
    assert found.ts.index.tolist() == [1]
    assert abs(float(found.ts.energy) - 1.0) < 1e-9
    assert bool(found.ts.log_det.isnan().all())
    spent = []
    for known in (ends, None):
        metered = Metered(u)
        checked = verify(metered, found.ts, known=known)
        assert checked.minus.index.tolist() == checked.plus.index.tolist() == [0]
        spent.append(metered.n_hvps)
    assert spent[0] < 0.6 * spent[1]
    along = torch.zeros(1, d, dtype=torch.float64)
    along[0, 0] = -1.0
    with_ends, without = (climb(u, ends[1:], directions=along, known=known) for known in (ends, None))
    assert with_ends.minus.index.tolist() == with_ends.plus.index.tolist() == [0]
    assert with_ends.n_hvps < without.n_hvps - 0.4 * spent[1]

    with tsc.Landscape.in_memory(u) as landscape:
        landscape.add_minima(relax(u, ends))
        tsc.explore(landscape, u, strategies=[ConnectMinima(neighbours=1)], progress=False)
        exact = float(c.log().sum())  # estimated with a standard error of 0.1, of 1800
        assert abs(float(landscape.minima().log_det[0]) - exact - math.log(8.0)) < 0.4
        assert abs(float(landscape.transition_states().log_det[0]) - exact - math.log(4.0)) < 0.4


def test_memory_grows_with_what_is_known():
    """Tables of all pairs took 330 MiB here, and 1700 at 10^4 minima; each job is a process of its own.

    There are no transition states, which have no part in it."""
    large = Path(__file__).parents[2] / "scripts" / "bench" / "large.py"
    with tempfile.TemporaryDirectory() as folder:
        for job, most in (("add", 100), ("propose", 90)):
            words = [sys.executable, str(large), "--one", job, f"{folder}/a.db", "4000"]
            environment = {**os.environ, "EDGES": "0"}
            done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=200, env=environment)
            assert json.loads(done.stdout.splitlines()[-1])["MiB"] < most


def test_pairs_that_are_joined_may_be_left_out():
    """Three wells in a row, of which the first two are known to be joined."""
    waves = tsc.FunctionPotential(lambda x: (1 - torch.cos(2 * torch.pi * x)).sum(), 1)
    x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    found = saddles.connect(waves, x[:1], x[1:2])
    with tsc.Landscape.in_memory(waves) as landscape:
        a, b, c = landscape.add_minima(tsc.relax(waves, x)).tolist()
        ends = [torch.tensor([id]) for id in (a, b)]
        assert landscape.add_transition_states(found.ts, *ends).tolist() == [0]
        for joined, expected in ((True, [{a, b}, {b, c}]), (False, [{b, c}])):
            strategy = ConnectMinima(neighbours=1, joined=joined, max_rounds=0)
            round = strategy.propose(landscape, waves, strategy.start(landscape, waves, 0))
            assert sorted(map(sorted, round.detail["pairs"])) == sorted(map(sorted, expected))
    assert not {"joined", "grow"} & set(ConnectMinima().identity())
    assert "joined" in ConnectMinima(joined=False).identity()


def test_what_its_searches_turn_up_is_paired_too_where_a_network_is_to_grow():
    """Of three wells in a row the ends are known; the middle one turns up, and is paired with both."""
    waves = tsc.FunctionPotential(lambda x: (1 - torch.cos(2 * torch.pi * x)).sum(), 1)
    x = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    asked = {}
    for grow in (False, True):
        with tsc.Landscape.in_memory(waves) as landscape:
            landscape.add_minima(tsc.relax(waves, x))
            strategy = ConnectMinima(neighbours=2, max_rounds=0, grow=grow)
            tsc.explore(landscape, waves, strategies=strategy, progress=False)
            tried = landscape.tried_pairs()
            at = landscape.minima(landscape.minimum_ids().sort().values).x[:, 0].round().tolist()
            asked[grow] = sorted(sorted(at[i] for i in pair) for pair in tried.pairs.tolist())
    assert asked[False] == [[0.0, 2.0]]
    assert asked[True] == [[0.0, 1.0], [0.0, 2.0], [1.0, 2.0]]
