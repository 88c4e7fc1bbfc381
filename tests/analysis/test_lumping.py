"""Metastable states against relaxation spectra and a network whose nine communities are published."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import networks, random_network, relabel

from torchscape import Network, analysis, export
from torchscape.errors import TorchscapeError

NINE = Path(__file__).parents[2].parent / "shared" / "data" / "pathsample_9comm"


@pytest.mark.parametrize("seed", range(4))
def test_exit_rates_are_the_slow_relaxation_rates_as_temperature_falls(seed):
    """T ln(estimate / exact) vanishes with T: Bovier, Gayrard & Klein, doi 10.4171/JEMS/22."""
    network = random_network(12, 30, seed)
    network = network.subset((network.components() == 0).nonzero().reshape(-1))
    worst = []
    for temperature in (0.1, 0.025):
        spectrum = analysis.relaxation_spectrum(analysis.rates(network, temperature))
        found = analysis.kinetic_lumping(network, temperature, n_states=network.n_minima).log_exit_rate
        slow = spectrum.rates[1:5].log()
        worst.append(float((temperature * (found.sort().values[1:5] - slow)).abs().max()))
    assert worst[1] < 0.5 * worst[0] + 1e-12 or worst[1] < 0.01
    assert worst[1] < 0.04


def test_states_and_soft_memberships_agree_on_three_wells():
    """Three groups of four with barriers of 0.5 inside and 3 between: both opinions, and every membership."""
    edges = [(4 * g + a, 4 * g + b) for g in range(3) for a in range(4) for b in range(a)] + [(0, 4), (5, 8)]
    energy = np.random.default_rng(0).uniform(0.0, 0.2, 12)
    network = Network.of(energy, edges, [0.7] * 18 + [3.2, 3.4])
    found = analysis.kinetic_lumping(network, 0.1)
    assert len(found) == 3
    expected = [0] * 4 + [1] * 4 + [2] * 4
    assert len(set(zip(found.label.tolist(), expected, strict=True))) == 3
    chain = analysis.rates(network, 0.1)
    soft = analysis.slow_memberships(analysis.relaxation_spectrum(chain), chain.log_occupation, 3)
    assert soft.sum(1).numpy() == pytest.approx(1.0)
    assert float(soft.max(1).values.min()) > 0.99
    assert len(set(zip(soft.argmax(1).tolist(), expected, strict=True))) == 3
    assert float(found.log_occupation.exp().sum()) == pytest.approx(1.0)
    assert max(found.log_exit_rate[1:].tolist()) < found.log_slowest_inside - 10


@settings(deadline=None, max_examples=40)
@given(networks(distinct=True), st.floats(0.2, 2.0))
def test_any_number_of_states_can_be_had(network, temperature):
    n, n_components = network.n_minima, len(network.components().unique())
    for n_states in {n_components, (n + n_components) // 2, n}:
        found = analysis.kinetic_lumping(network, temperature, n_states=n_states)
        assert len(found) == n_states
        assert torch.equal(found.label[found.attractor], torch.arange(n_states))
        component = network.components()
        for label in range(n_states):
            assert len(component[found.label == label].unique()) == 1
    with pytest.raises(TorchscapeError, match="allow"):
        analysis.kinetic_lumping(network, temperature, n_states=n + 1)


def test_a_rate_threshold_separates_what_is_slower():
    network = random_network(30, 60, 2)
    everything = analysis.kinetic_lumping(network, 0.2, n_states=30)
    threshold = float(everything.log_exit_rate.median().exp())
    found = analysis.kinetic_lumping(network, 0.2, rate=threshold)
    assert len(found) == int((everything.log_exit_rate < math.log(threshold)).sum())
    assert bool((found.log_exit_rate < math.log(threshold)).all())
    assert found.log_slowest_inside >= math.log(threshold)


def test_relabelling_changes_no_state():
    network = random_network(25, 60, 4)
    order = np.random.default_rng(0).permutation(25)
    here = analysis.kinetic_lumping(network, 0.1, n_states=6)
    there = analysis.kinetic_lumping(relabel(network, order), 0.1, n_states=6)
    assert torch.equal(there.label, here.label[order])


@pytest.mark.skipif(not NINE.exists(), reason="the published nine-community network is not beside the repository")
def test_the_published_network_has_as_many_states_as_slow_modes():
    """994 minima: nine large groups and one of twelve minima; the spectrum by SciPy's symmetric eigensolver."""
    network = export.read_pathsample(NINE)
    found = analysis.kinetic_lumping(network, 1.0)
    chain = analysis.rates(network, 1.0)
    root = (0.5 * chain.log_occupation).exp().numpy()
    symmetric = chain.matrix().to_dense().numpy() * root / root[:, None]
    modes = -np.linalg.eigvalsh(0.5 * (symmetric + symmetric.T))[::-1]
    assert len(found) == int((modes < math.exp(-14.0)).sum()) == 10
    assert found.log_slowest_inside > -10.0
    assert np.sort(found.log_exit_rate.numpy())[1:] == pytest.approx(np.log(modes[1:10]), abs=1.5)
    assert sorted(found.label.bincount().tolist())[0] == 12


def test_rates_that_vanish_do_not_matter():
    """At a temperature where exp(-barrier / T) underflows, everything is still in logarithms."""
    network = random_network(15, 40, 1)
    cold = analysis.kinetic_lumping(network, 1e-4, n_states=3)
    assert bool(cold.log_exit_rate[1:].isfinite().all())
    assert float(cold.log_exit_rate[1:].max()) < -745.0
