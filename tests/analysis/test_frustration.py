"""The frustration index against cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from torchscape.analysis.thermodynamics.frustration_index import frustration
from torchscape.analysis.thermodynamics.superposition import occupation
from torchscape.errors import TorchscapeError
from torchscape.network import Network


def test_three_minima_by_hand(device):
    """E = 0, 1, 2; barriers 0-1 at 3, 1-2 at 2.5, 0-2 at 8: the lowest way from 2 leads over 1, top 3."""
    network = Network.of([0.0, 1.0, 2.0], [(0, 1), (1, 2), (0, 2)], [3.0, 2.5, 8.0]).to(device)
    t = torch.tensor([0.1, 1.0, 50.0], dtype=torch.float64, device=device)
    result = frustration(network, t)
    assert result.ratio[1:].tolist() == [3.0, 1.5]
    assert math.isnan(result.ratio[0])
    w1, w2 = (-1 / t).exp(), (-2 / t).exp()
    torch.testing.assert_close(result.value, (3 * w1 + 1.5 * w2) / (1 + w1 + w2), rtol=1e-12, atol=0)
    torch.testing.assert_close(result.normalised, (3 * w1 + 1.5 * w2) / (w1 + w2), rtol=1e-12, atol=0)


def test_single_funnel_against_double_funnel():
    """Equal minima, equal temperatures: raising the barrier out of the second funnel raises F and F~ only."""
    minima, pairs = [0.0, 0.1, 1.0], [(0, 2), (1, 2)]
    single = frustration(Network.of(minima, pairs, [1.05, 1.05]), 0.05)
    double = frustration(Network.of(minima, pairs, [4.0, 1.05]), 0.05)
    assert float(double.normalised / single.normalised) == pytest.approx(4.0 / 1.05, rel=1e-6)


def test_normalised_index_survives_where_the_others_are_never_visited():
    """At T = 1e-3 all p_a but one underflow, and 1 - p_gmin is 0; the limit is the ratio of the second lowest."""
    result = frustration(Network.of([0.0, 1.0, 1.5], [(0, 1), (0, 2)], [7.0, 2.0]), 1e-3)
    assert float(result.value) == 0.0
    assert float(result.normalised) == pytest.approx(7.0, rel=1e-12)


def test_energy_shift_and_relabelling_change_nothing():
    g = torch.Generator().manual_seed(1)
    energy = torch.rand(30, generator=g, dtype=torch.float64)
    edges = torch.stack([torch.arange(29), torch.arange(1, 30)])
    ts = torch.rand(29, generator=g, dtype=torch.float64) + 1
    order = torch.randperm(30, generator=g)
    shifted = Network.of(energy[order] + 5, order.argsort()[edges], ts + 5)
    t = torch.tensor([0.05, 0.5], dtype=torch.float64)
    ours = frustration(Network.of(energy, edges, ts), t)
    torch.testing.assert_close(frustration(shifted, t).value, ours.value, rtol=1e-11, atol=0)
    p = occupation(Network.of(energy, edges, ts), t)
    keep = torch.arange(30) != int(energy.argmin())
    torch.testing.assert_close(p[:, keep] @ ours.ratio[keep], ours.value)


def test_one_temperature_gives_one_number():
    network = Network.of([0.0, 1.0, 2.0], [(0, 1), (1, 2)], [3.0, 2.5])
    one, two = frustration(network, 0.7), frustration(network, [0.7, 0.9])
    assert one.value.shape == one.normalised.shape == one.temperatures.shape == ()
    assert (one.value, one.normalised) == (two.value[0], two.normalised[0])


def test_tie_with_the_global_minimum_is_infinite():
    result = frustration(Network.of([0.0, 0.0, 1.0], [(0, 1), (1, 2)], [2.0, 2.0]), 0.1)
    assert math.isinf(result.value)


def test_refuses_what_has_no_answer():
    split = Network.of([0.0, 1.0, 2.0], [(0, 1)], [3.0])
    with pytest.raises(TorchscapeError, match="1 of 3 minima have no known path"):
        frustration(split, 1.0)
    with pytest.raises(TorchscapeError, match="two minima"):
        frustration(Network.of([0.0], [], []), 1.0)
    with pytest.raises(TorchscapeError, match="positive"):
        frustration(split.subset(torch.tensor([0, 1])), 0.0)
