"""Distances that choose what to search: as few as a choice needs, and given up when the time is up."""

from __future__ import annotations

import itertools

import pytest
import torch
from explore_doubles import Wells

import torchscape as tsc
from torchscape import problems, stopwatch
from torchscape.explore import ConnectPair, LowerBarriers
from torchscape.explore.connect_pair import _shortest
from torchscape.explore.neighbours import Lengths, apart, missing_links
from torchscape.optimise import relax
from torchscape.symmetry import superpose
from torchscape.symmetry.cluster import ClusterSymmetry


class Counted:
    """Counts the pairs that are aligned."""

    def __init__(self, monkeypatch) -> None:
        self.n = 0
        inner = ClusterSymmetry.align

        def align(symmetry, reference, x):
            self.n += len(x)
            return inner(symmetry, reference, x)

        monkeypatch.setattr(ClusterSymmetry, "align", align)


@pytest.fixture(scope="module")
def lj13_minima():
    potential = problems.get("lj13").potential
    points = relax(potential, potential.sample(60, seed=3), tol=1e-6)
    return potential, points[points.converged]


def landscape_of(potential, points) -> tsc.Landscape:
    landscape = tsc.Landscape.in_memory(potential)
    landscape.add_minima(points)
    return landscape


@pytest.mark.parametrize("n_kinds", [1, 2])
@pytest.mark.parametrize("dim", [2, 3])
def test_least_overlaps_are_those_of_all_pairs_of_atoms(n_kinds, dim):
    """Each from its definition: to the nearest like atom, one turned cluster after the other."""
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 3, 7, dim, dtype=torch.float64, generator=generator)
    turns = torch.linalg.qr(torch.randn(3, 5, dim, dim, dtype=torch.float64, generator=generator))[0]
    kinds = torch.arange(7) % n_kinds
    unlike = None if n_kinds == 1 else torch.where(kinds[:, None] == kinds, 0.0, 1e6).double()
    found = superpose.least_overlaps(a, b, turns, unlike)
    for row, turn in itertools.product(range(3), range(5)):
        square = torch.cdist(a[row], b[row] @ turns[row, turn]).square()
        expected = square.masked_fill(kinds[:, None] != kinds, torch.inf).amin(1).sum()
        torch.testing.assert_close(found[row, turn], expected)


def test_the_shortest_path_by_estimates_is_that_of_exact_lengths():
    """Where estimates are too small by one factor, it is the shortest of all; else all that it leads over is
    exact, and it is shorter than what was first thought of would have been."""
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(40, 2, dtype=torch.float64, generator=generator)
    pairs = torch.triu_indices(40, 40, 1).T
    exact = (x[pairs[:, 0]] - x[pairs[:, 1]]).norm(dim=1)
    component = torch.arange(40)
    asked: set[int] = set()
    key = {tuple(pair): row for row, pair in enumerate(pairs.tolist())}

    def measured(some):
        rows = [key[tuple(pair)] for pair in some.tolist()]
        asked.update(rows)
        return exact[rows]

    def path(length):
        return missing_links(pairs, length, component, 0, 1)

    best = path(exact)
    assert torch.equal(_shortest(path, pairs, 0.1 * exact, measured), best)
    assert len(asked) < 0.2 * len(pairs)
    uneven = exact * (0.1 + 0.2 * torch.rand(len(pairs), dtype=torch.float64, generator=generator))
    asked.clear()
    found = _shortest(path, pairs, uneven, measured)
    assert set(found.nonzero()[:, 0].tolist()) <= asked
    assert float(exact[found].square().sum()) <= 1.5 * float(exact[best].square().sum())
    assert _shortest(path, pairs[:0], uneven[:0], measured).shape == (0,)
    nought = _shortest(path, pairs, torch.zeros_like(exact), measured)  # invariants that tell nothing apart
    assert bool(nought.any())


def test_few_pairs_are_aligned_for_a_path_and_for_a_round_of_barriers(lj13_minima, monkeypatch):
    """Not every minimum's neighbours: 60 minima have 60 * 32 near pairs of which a path leads over a few."""
    potential, points = lj13_minima
    with landscape_of(potential, points) as landscape:
        n = landscape.network().n_minima
        assert n > 30
        counted = Counted(monkeypatch)
        state = ConnectPair(0, 1).start(landscape, potential, 0)
        round_ = ConnectPair(0, 1).propose(landscape, potential, state)
        assert round_ is not None
        assert 0 < counted.n < 8 * n  # of 16 n
        first = counted.n
        again = ConnectPair(0, 1).propose(landscape, potential, state)
        assert again.detail == round_.detail
        assert counted.n == first  # each is computed once
        counted.n = 0
        lower = LowerBarriers(round_pairs=8)
        assert len(lower.suspicious(landscape, potential, {})) == 8
        assert 0 < counted.n <= 32


@pytest.mark.parametrize("strategy", [ConnectPair(0, 1), LowerBarriers(), tsc.ConnectMinima()])
def test_choosing_ends_when_the_time_is_up(lj13_minima, strategy):
    potential, points = lj13_minima
    with landscape_of(potential, points) as landscape:
        state = strategy.start(landscape, potential, 0)
        with stopwatch.running(stopwatch.Stopwatch(seconds=0.0)), pytest.raises(stopwatch.Stopped):
            strategy.propose(landscape, potential, state)


def test_distances_of_clusters_are_looked_at_between_batches():
    """What takes milliseconds a pair is done in batches of less than a second."""
    potential = problems.get("lj38").potential
    x = potential.sample(2, seed=1)
    i = torch.zeros(200, dtype=torch.int64)
    ticks = iter(range(1000))
    watch = stopwatch.Stopwatch(seconds=1.5, began=0.0, clock=lambda: float(next(ticks)))
    with stopwatch.running(watch), pytest.raises(stopwatch.Stopped):
        apart(potential, x, i, i + 1)
    assert next(ticks) == 3  # after the second batch of 200 pairs


def test_lengths_are_those_of_the_symmetry(lj13_minima):
    potential, points = lj13_minima
    x, ids = points.x[:6], torch.arange(6) + 10
    pairs = torch.triu_indices(6, 6, 1).T
    expected = potential.symmetry.distance(x[pairs[:, 0]], x[pairs[:, 1]])
    lengths = Lengths()
    torch.testing.assert_close(lengths.of(potential, x, ids, pairs[::2]), expected[::2])
    torch.testing.assert_close(lengths.measured(potential, x, ids)(pairs), expected)
    with tsc.Landscape.in_memory(Wells()) as landscape:
        assert Lengths.within(landscape) is Lengths.within(landscape)
