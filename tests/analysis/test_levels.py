"""Energies that are one number to rounding, or to the matching, are equal in everything that is said of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape import Landscape, Network, StationaryPoints, Status, analysis, problems
from torchscape.numerics import lowest_of_level
from torchscape.plots.temperatures import temperature_grid


def himmelblau(noise: float = 1e-22, **options) -> Network:
    """Four minima at 0 but for rounding, and the transition states between them (published values)."""
    energy = noise * torch.tensor([3.0, 1.0, 9.0, 4.0], dtype=torch.float64)
    edges = [(0, 1), (1, 2), (2, 3), (3, 0)]
    return Network.of(energy, edges, [13.3119, 67.7192, 104.0152, 178.3372], n_modes=2, **options)


def test_four_equal_minima_have_no_heat_capacity_peak_and_no_preference():
    network = himmelblau()
    assert network.levels.unique().numel() == 1
    assert network.global_minimum == 0
    assert analysis.heat_capacity_peaks(network) == []
    assert analysis.heat_capacity(network, 1e-22).value.item() == 1.0  # that of two modes
    assert analysis.occupation(network, 1e-23).tolist() == [0.25] * 4
    assert math.isinf(analysis.frustration(network, 1.0).value)  # nothing is gained behind these barriers
    assert analysis.barriers(network).gap.tolist() == [0.0] * 4
    assert analysis.monotonic_basins(network).bottom.tolist() == [0, 1, 2, 3]
    assert analysis.hubs(network).energy_rank.tolist() == [0] * 4
    assert analysis.energy_scale(network) == pytest.approx(67.7192)  # the lower median of the barriers
    grid = temperature_grid(network)
    assert 1.0 < grid.min() < grid.max() < 1e3


def test_what_rounding_decides_is_what_a_tie_decides():
    """All analyses of the network with rounding errors are those of the network with a tie."""
    network, tied = himmelblau(), himmelblau(0.0)
    for f in (analysis.funnels, analysis.merge_tree, analysis.monotonic_basins):
        for one, other in zip(vars(f(network)).values(), vars(f(tied)).values(), strict=True):
            torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=1e-21)
    rates = [analysis.rates(one, 5.0).log_conductance for one in (network, tied)]
    torch.testing.assert_close(*rates, rtol=1e-15, atol=0)


def test_a_landscape_hands_over_its_matching_window():
    """In any unit of energy: the window of 1e-6 must not make all minima of a small unit equal."""
    for s in (1e-9, 1.0):
        u = problems.get("himmelblau").potential
        x = torch.tensor([[3.0, 2.0], [3.584428, -1.848127], [-2.805118, 3.131313]], dtype=torch.float64)
        energy = s * torch.tensor([0.0, 1e-12, 3.0], dtype=torch.float64)
        ts = s * torch.tensor([13.0, 70.0], dtype=torch.float64)
        status = torch.full((3,), int(Status.CONVERGED))
        with Landscape.in_memory(u) as landscape:
            ids = landscape.add_minima(StationaryPoints.of(x, energy, status=status))
            saddles = StationaryPoints.of(x[:2] + 1, ts, status=status[:2], index=torch.ones(2, dtype=torch.int64))
            landscape.add_transition_states(saddles, ids[[0, 1]], ids[[1, 2]])
            network = landscape.network()
        assert (network.levels / s).tolist() == pytest.approx([0.0, 0.0, 3.0], abs=1e-15)
        assert network.levels[0] == network.levels[1]
        assert network.resolution <= 1e-6 + 1e-10


def test_a_part_of_a_network_keeps_the_resolution_of_the_whole():
    network = himmelblau()
    part = network.subset(torch.tensor([0, 1]))
    assert part.resolution == network.resolution > 0
    assert network.only_edges(torch.tensor([], dtype=torch.int64)).levels.unique().numel() == 1


def test_a_dense_spectrum_is_no_level_but_its_ties_are():
    spectrum = torch.linspace(0, 1e-4, 1001, dtype=torch.float64)
    network = Network.of(torch.cat([spectrum, spectrum + 1e-15]), [], [], energy_tol=1e-6)
    assert network.levels.unique().numel() == 1001
    assert torch.equal(network.levels[:1001], network.levels[1001:])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-10, 10, allow_nan=False).map(lambda e: round(e, 3)), min_size=1, max_size=30),
    st.floats(1e-4, 1.0),
)
def test_levels_keep_the_order_and_move_nothing_far(energies, tol):
    energy = np.array(energies)
    lowest = lowest_of_level(energy, tol)
    level = energy[lowest]
    assert (level <= energy).all()
    assert (energy - level <= tol).all()
    order = np.argsort(energy, kind="stable")
    assert (np.diff(level[order]) >= 0).all()
    # Of two neighbours whose common surroundings within tol hold nobody else, a pair closer than tol is one level.
    for a, b in itertools.pairwise(order):
        others = np.delete(energy, [a, b])
        if energy[b] - energy[a] <= tol and (np.abs(others - energy[a]) > 2 * tol).all():
            assert level[a] == level[b]
