"""The lowest path between two minima, point by point: in the right order, without jumps, in continuing images."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

import torchscape as tsc
from torchscape import analysis
from torchscape.errors import TorchscapeError
from torchscape.explore import lowest_way, lowest_ways
from torchscape.explore.ways import _filled
from torchscape.saddles import pathway


@pytest.fixture(scope="module")
def muller():
    """Three minima in a row: -146.70, -80.77, -108.17, and saddles at -40.66 and -72.25 between them."""
    u = tsc.potentials.MuellerBrown()
    with tsc.Landscape.in_memory(u) as landscape:
        strategies = [tsc.BasinHopping(walkers=24, hops=1, temperature=50.0), tsc.ConnectMinima()]
        tsc.explore(landscape, u, strategies=strategies, progress=False)
        assert landscape.counts_by_index() == [3, 2]
        yield u, landscape


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_from_end_to_end_whatever_the_sign_of_an_eigenvector(muller, monkeypatch, sign):
    """Which side of a saddle is followed first is chance. Published energies, to the digits there are."""
    u, landscape = muller
    plain = pathway.characterise_with_modes

    def turned(*arguments):
        points, mode = plain(*arguments)
        return points, sign * mode

    monkeypatch.setattr(pathway, "characterise_with_modes", turned)
    ids = landscape.minimum_ids()
    ends = (int(ids[0]), int(ids[1]))
    for a, b in (ends, ends[::-1]):
        way = lowest_way(landscape, u, a, b)
        assert (way.minima[0], way.minima[-1], len(way.minima)) == (a, b, 3)
        bottoms = way.energy[list(way.at_minima)].tolist()
        expected = [-146.700, -80.768, -108.167]
        assert bottoms == pytest.approx(expected if a == ends[0] else expected[::-1], abs=1e-3)
        tops = way.energy[list(way.at_transition_states)].tolist()
        assert tops == pytest.approx([-40.665, -72.249] if a == ends[0] else [-72.249, -40.665], abs=1e-3)
        assert way.height == max(tops)
        assert torch.equal(way.x[0], landscape.minima(torch.tensor([a])).x[0])
        steps = way.x.diff(dim=0).norm(dim=1)
        assert steps.max() < 0.1  # the path is 2.2 long
        rise = way.energy.diff()
        bends = sorted([*way.at_minima, *way.at_transition_states])
        for k, (first, last) in enumerate(pairwise(bends)):
            uphill = rise[first:last] if k % 2 == 0 else -rise[first:last]
            assert uphill.min() > -1e-9  # what a minimum lacks of its energy


def test_the_length_is_that_of_the_integrated_paths(muller):
    """Chords of few points are shorter than the curve, by little."""
    u, landscape = muller
    network = landscape.network()
    whole = pathway.pathways(u, landscape.transition_states(network.ts_ids), n_points=513)
    way = lowest_way(landscape, u, *landscape.minimum_ids()[:2].tolist(), most=64)
    # An arc of s that turns by an angle t is s t^2 / 24 longer than its chord: half a per cent for t = 0.35.
    assert way.arc[-1].item() == pytest.approx(whole.arc[:, -1].sum().item(), rel=5e-3)
    assert way.arc[-1] < whole.arc[:, -1].sum() + 1e-3


def test_several_are_those_of_each(muller):
    u, landscape = muller
    pairs = torch.combinations(landscape.minimum_ids())
    for way, (a, b) in zip(lowest_ways(landscape, u, pairs), pairs.tolist(), strict=True):
        alone = lowest_way(landscape, u, a, b)
        assert way.minima == alone.minima
        assert way.height == pytest.approx(alone.height, abs=1e-9)
        place = landscape.network().position_of([a, b])
        assert way.height == pytest.approx(
            analysis.minimax(landscape.network())[place[0], place[1]].item(), abs=1e-9
        )


def test_images_continue_each_other():
    """Six atoms: what is stored of the saddles and minima is turned and numbered anyhow, the path is not."""
    u = tsc.potentials.LennardJones(6)
    with tsc.Landscape.in_memory(u) as landscape:
        strategies = [tsc.BasinHopping(walkers=64, hops=1), tsc.ConnectMinima()]
        tsc.explore(landscape, u, strategies=strategies, progress=False)
        network = landscape.network()
        assert network.energy.tolist() == pytest.approx([-12.712062, -12.302928], abs=1e-6)
        way = lowest_way(landscape, u, *network.ids.tolist())
        stored = landscape.transition_states(torch.tensor(way.transition_states)).x
        there = way.x[list(way.at_transition_states)]
        assert u.symmetry.distance(there, stored).max() < 1e-6
        assert way.x.diff(dim=0).norm(dim=1).max() < 0.3  # two numberings are 1.6 apart and more
        halfway = (way.x[1:] + way.x[:-1]) / 2
        assert u.energy(halfway).max() < way.height + 0.01
        with pytest.raises(TorchscapeError, match="no minimum of this network has the id 7"):
            lowest_way(landscape, u, 0, 7)
        alone = lowest_way(landscape, u, 0, 0)
        assert (len(alone), alone.arc.tolist(), alone.transition_states) == (1, [0.0], ())


def test_gaps_are_filled_with_the_line():
    x = torch.tensor([[0.0], [4.0], [5.0], [5.5], [6.0]]).double()
    filled, place = _filled(x, [0, 3])
    assert filled[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0]
    assert place == [0, 4, 5, 6, 7]
    filled, place = _filled(x[:1], [])
    assert (filled.tolist(), place) == ([[0.0]], [0])
