"""Fastest paths against enumeration of all simple paths."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from connected import connected_network

from torchscape.analysis.kinetics.passage import rate_constants
from torchscape.analysis.kinetics.paths import fastest_path, fastest_paths
from torchscape.analysis.kinetics.rate_theory import rates
from torchscape.errors import TorchscapeError
from torchscape.network import Network


def enumerated(network: Network, temperature: float, a: list[int], b: list[int]) -> list[tuple[float, list[int]]]:
    """Every loopless path from B to A that touches the sets at its ends only, by descending contribution."""
    chain = rates(network, temperature)
    graph = nx.Graph(network.edges.T.tolist())
    k = chain.matrix().to_dense().numpy()
    escape = -np.diag(k)
    p = chain.log_occupation.exp().numpy()
    found = []
    for start in b:
        for end in a:
            for path in nx.all_simple_paths(graph, start, end):
                if not set(path[1:-1]) & {*a, *b}:
                    product = math.prod(k[j, i] / escape[i] for i, j in itertools.pairwise(path))
                    found.append((p[start] / p[b].sum() * escape[start] * product, path))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("a", "b"), [([8], [0]), ([8, 3], [0, 5])])
def test_all_paths_in_order(seed, a, b):
    network = connected_network(9, 8, seed)
    expected = enumerated(network, 0.5, a, b)
    ours = fastest_paths(network, 0.5, a, b, n_paths=len(expected) + 3)
    assert len(ours) == len(expected)
    assert [p.log_rate for p in ours] == pytest.approx([math.log(k) for k, _ in expected], abs=1e-11)
    assert {tuple(p.minima.tolist()) for p in ours} == {tuple(path) for _, path in expected}
    assert ours[0].minima.tolist() == expected[0][1]


def test_no_path_contributes_more_than_the_whole():
    network = connected_network(9, 8, 1)
    whole = rate_constants(rates(network, 0.5), [8], [0]).log_k_steady_state
    parts = fastest_paths(network, 0.5, [8], [0], n_paths=50)
    assert torch.tensor([p.log_rate for p in parts]).logsumexp(0) < whole


def test_the_transition_states_are_the_ones_with_most_flux():
    network = Network.of([0.0, 0.0, 0.0], [(0, 1), (1, 0), (1, 2)], [3.0, 2.0, 1.5], n_modes=1)
    path = fastest_path(network, 0.1, 2, 0)
    assert path.transition_states.tolist() == [1, 2]
    assert path.energies.tolist() == [0.0, 2.0, 0.0, 1.5, 0.0]
    assert path.highest_energy == 2.0


def test_certain_steps_have_no_length():
    """At T = 0.001 every downhill branching probability rounds to one; the path is still followed."""
    n = 50
    network = Network.of(
        np.linspace(1, 0, n),
        [(k, k + 1) for k in range(n - 1)],
        np.linspace(1, 0, n)[:-1] + 0.001 * np.arange(1, n),
    )
    path = fastest_path(network, 0.001, n - 1, 0)
    assert path.minima.tolist() == list(range(n))


def test_long_paths_at_low_temperature_do_not_underflow():
    n = 40
    network = Network.of([0.0] * n, [(k, k + 1) for k in range(n - 1)], np.linspace(1, 3, n - 1))
    path = fastest_path(network, 0.001, n - 1, 0)
    assert len(path.minima) == n
    assert path.log_probability < -1000
    assert math.isfinite(path.log_rate)


def test_refusals():
    network = Network.of([0.0, 0.1, 0.2, 0.3], [(0, 1), (2, 3)], [1.0, 1.0])
    with pytest.raises(TorchscapeError, match="no path"):
        fastest_path(network, 1.0, 0, 2)
    with pytest.raises(TorchscapeError, match="both sets"):
        fastest_path(network, 1.0, 0, [0, 1])
    with pytest.raises(TorchscapeError, match="n_paths"):
        fastest_paths(network, 1.0, 0, 1, n_paths=0)
