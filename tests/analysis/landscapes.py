"""Landscapes for the tests: random ones, and their brute-force answers."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from torchscape import Network


@st.composite
def networks(draw, most_minima: int = 9, distinct: bool = False):
    """Small networks with parallel edges, several components, isolated minima, and (unless distinct) ties."""
    n = draw(st.integers(1, most_minima))
    m = draw(st.integers(0, 2 * n)) if n > 1 else 0
    seed = draw(st.integers(0, 2**32 - 1))
    return random_network(n, m, seed, distinct=distinct)


def random_network(n: int, m: int, seed: int = 0, distinct: bool = True) -> Network:
    """n minima and m transition states above both of their ends; small whole energies unless distinct."""
    random = np.random.default_rng(seed)
    energy = random.normal(size=n) if distinct else random.integers(-3, 4, n).astype(float)
    i = random.integers(0, n, m)
    j = (i + random.integers(1, max(n, 2), m)) % n
    climb = random.exponential(size=m) if distinct else random.integers(1, 4, m)
    return Network.of(energy, torch.as_tensor(np.stack([i, j])), np.maximum(energy[i], energy[j]) + climb)


def relabel(network: Network, order: np.ndarray) -> Network:
    """The same landscape with its minima in another order, its edges shuffled and turned round."""
    shuffled = network.subset(torch.as_tensor(order))
    keep = torch.as_tensor(np.random.default_rng(len(order)).permutation(network.n_edges))
    turned = shuffled.only_edges(keep)
    turned.edges[:, ::2] = turned.edges[:, ::2].flip(0)
    return turned


def minimax_by_enumeration(network: Network) -> np.ndarray:
    """Floyd-Warshall in the (min, max) algebra."""
    n = network.n_minima
    best = np.full((n, n), np.inf)
    np.fill_diagonal(best, -np.inf)
    for (i, j), ts in zip(network.edges.T.tolist(), network.ts_energy.tolist(), strict=True):
        best[i, j] = best[j, i] = min(best[i, j], ts)
    for k in range(n):
        best = np.minimum(best, np.maximum(best[:, k : k + 1], best[k : k + 1]))
    np.fill_diagonal(best, network.energy.numpy())
    return best
