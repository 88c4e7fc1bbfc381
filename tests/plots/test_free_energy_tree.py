"""Disconnectivity graphs of free energies: heights, groups, and whatever names minima."""

from __future__ import annotations

import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from torchscape import Network, analysis, plots
from torchscape.errors import TorchscapeError


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def pairs() -> Network:
    """Five pairs of minima: low barriers within a pair, two paths between neighbouring pairs."""
    inside = [(2 * k, 2 * k + 1) for k in range(5)]
    between = [(2 * k, 2 * k + 2) for k in range(4)] + [(2 * k + 1, 2 * k + 3) for k in range(4)]
    energy = [0.1 * k for k in range(10)]
    tops = [0.2 + 0.2 * k for k in range(5)] + [2.0] * 4 + [2.1] * 4
    return Network.of(energy, inside + between, tops, log_det=[0.3 * (k % 3) for k in range(10)])


def test_mergers_stand_at_free_energies_of_transition_states():
    """Without regrouping minima keep their places; each merger is -T ln of the sum over parallel paths."""
    network, t = pairs(), 0.2
    picture = plots.disconnectivity(network, temperature=t, colour=torch.arange(10.0))
    assert sorted(picture.minima.tolist()) == list(range(10))
    chain = analysis.rates(network, t)
    free = analysis.free_energy(network, t)
    at = picture.layout.y[: picture.layout.n_leaves]
    np.testing.assert_allclose(at, free.numpy()[picture.leaves], atol=1e-12)
    total = -t * float(analysis.log_partition(network, t))
    heights = total - t * (chain.log_conductance.numpy() - math.log(t))
    for level in picture.levels:
        assert np.abs(heights - level).min() < 1e-12
    assert picture.axes.get_ylabel() == "free energy"


@pytest.mark.parametrize("t", [0.2, 0.5])
def test_no_minimum_stands_above_its_merger(t):
    """Free-energy barriers are negative where no barrier holds a minimum: its branch went up, through others."""
    network = pairs()
    network = dataclasses.replace(network, ts_log_det=network.ts_log_det - 8)  # wide passes
    found = analysis.regroup(network, t, -math.inf)
    assert float(found.barriers.min()) < 0 < float(found.barriers.max())
    as_minima = found.network(network)
    ends = as_minima.energy[as_minima.edges]
    assert bool((as_minima.ts_energy >= ends.amax(0)).all())
    kept = found.ts_free_energy > ends.amax(0)
    assert torch.equal(as_minima.ts_energy[kept], found.ts_free_energy[kept])
    layout = plots.disconnectivity(network, temperature=t).layout
    assert bool((layout.y[: layout.n_leaves] <= layout.y[layout.parent[: layout.n_leaves]] + 1e-12).all())


def test_groups_are_those_of_regrouping_and_keep_their_names():
    network, t = pairs(), 0.2
    groups = analysis.regroup(network, t, 0.5)
    picture = plots.disconnectivity(
        network, temperature=t, regroup=0.5, labels=[1, 8], highlight={"first": [1], "last": [8, 9]}
    )
    assert len(groups) == len(picture.minima) == 5
    texts = {text.get_text() for text in picture.axes.texts}
    assert {"1", "8"} <= texts
    lowest = plots.disconnectivity(network, temperature=t, regroup=0.5, labels=True)
    written = {text.get_text() for text in lowest.axes.texts}
    assert written & {str(k) for k in groups.representative.tolist()}
    assert written <= {str(k) for k in groups.representative.tolist()}


def test_what_cannot_be_drawn():
    with pytest.raises(TorchscapeError, match="give a temperature too"):
        plots.disconnectivity(pairs(), regroup=0.5)
    with pytest.raises(TorchscapeError, match="there is no minimum 10"):
        plots.disconnectivity(pairs(), temperature=0.2, highlight={"none": [10]})
    with pytest.raises(TorchscapeError, match="two sets are in one group"):
        plots.disconnectivity(pairs(), temperature=0.2, regroup=0.5, highlight={"a": [0], "b": [1]})
    with pytest.raises(TorchscapeError, match="5 values for 10 minima"):
        plots.disconnectivity(pairs(), temperature=0.2, colour=torch.arange(5.0))
