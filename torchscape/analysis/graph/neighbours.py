"""The network as a graph: who is joined to whom, how many neighbours, how clustered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from torchscape.analysis.graph.geometric import geometric
from torchscape.network import Network
from torchscape.sparse import links
from torchscape.types import Float, Int, Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "adjacency",
    "clustering",
    "clustering_of",
    "degrees",
    "degrees_of",
    "neighbour_pairs",
    "paired",
    "triangles",
]


def neighbour_pairs(network: Network) -> Int[Tensor, "2 P"]:
    """Each pair of minima that at least one transition state joins, once, the smaller position first.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(1, 0), (0, 1), (1, 2)], ts_energy=[1.0, 2.0, 0.5])
        >>> neighbour_pairs(net).tolist()
        [[0, 1], [1, 2]]
    """
    return geometric().coalesce(network.edges.sort(0).values, num_nodes=network.n_minima)


def paired(network: Network) -> tuple[Int[Tensor, "2 P"], Int[Tensor, "E"]]:
    """Distinct pairs in ascending order, and which of them each transition state joins."""
    n = max(network.n_minima, 1)
    key, which = (network.edges.amin(0) * n + network.edges.amax(0)).unique(return_inverse=True)
    return torch.stack([key // n, key % n]), which


def degrees(network: Network) -> Int[Tensor, "N"]:
    """Number of distinct minima that each minimum is joined to by a transition state.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(1, 0), (0, 1), (1, 2)], ts_energy=[1.0, 2.0, 0.5])
        >>> degrees(net).tolist()
        [1, 2, 1]
    """
    return degrees_of(neighbour_pairs(network), network.n_minima)


def degrees_of(pairs: Int[Tensor, "2 P"], n: int) -> Int[Tensor, "N"]:
    """Degrees in a graph on n nodes whose pairs are given once each."""
    return geometric().degree(pairs.reshape(-1), n, dtype=torch.int64)


def adjacency(pairs: Int[Tensor, "2 P"], n: int) -> csr_array:
    """The symmetric 0/1 matrix of a graph on n nodes whose pairs are given once each."""
    i, j = torch.cat([pairs, pairs.flip(0)], 1).cpu().numpy()
    return links(1.0, i, j, n).tocsr()


def clustering(network: Network) -> Float[Tensor, "N"]:
    """Fraction of the pairs of neighbours of each minimum that are neighbours themselves; 0 below two neighbours.

    c_a = 2 t_a / (k_a (k_a - 1)), with t_a the triangles through a and k_a its degree. O(E^1.5).

    Reference: Watts & Strogatz, Nature 393, 440 (1998), doi 10.1038/30918.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(1, 0), (0, 2), (1, 2)], ts_energy=[1.0, 2.0, 0.5])
        >>> clustering(net).tolist()
        [1.0, 1.0, 1.0]
    """
    found = clustering_of(neighbour_pairs(network), network.n_minima)
    return torch.as_tensor(found, dtype=network.energy.dtype, device=network.energy.device)


def clustering_of(pairs: Int[Tensor, "2 P"], n: int) -> np.ndarray:
    """Local clustering coefficients of a graph given by its pairs [N]."""
    count = degrees_of(pairs, n).cpu().numpy()
    possible = count * (count - 1) / 2.0
    return np.divide(triangles(pairs, n), possible, out=np.zeros(n), where=possible > 0)


def triangles(pairs: Int[Tensor, "2 P"], n: int) -> np.ndarray:
    """Number of triangles through each node [N].

    Each edge points from its end with fewer neighbours to that with more, so that no node has more than
    sqrt(2 E) successors and the sparse products stay small even beside hubs (Latapy 2008,
    doi 10.1016/j.tcs.2008.07.017).
    """
    count = degrees_of(pairs, n).cpu().numpy()
    i, j = pairs.cpu().numpy()
    swap = (count[i] > count[j]) | ((count[i] == count[j]) & (i > j))
    tail, head = np.where(swap, j, i), np.where(swap, i, j)
    ahead = links(1.0, tail, head, n).tocsr()
    over = (ahead @ ahead) * ahead  # at (first, last): how many middles
    under = (ahead.T @ ahead).tocsr() * ahead  # at (middle, last): how many firsts
    return over.sum(1) + under.sum(1) + under.sum(0)
