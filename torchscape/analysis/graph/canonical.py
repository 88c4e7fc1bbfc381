"""An order of the minima that does not depend on how they happen to be numbered."""

from __future__ import annotations

import numpy as np
import torch

from torchscape.network import Network
from torchscape.types import Float, Int, Tensor

__all__ = ["canonical_order"]


def canonical_order(network: Network, pairs: Int[Tensor, "2 P"], strength: Float[Tensor, "P"]) -> Int[Tensor, "N"]:
    """Positions of the minima, ordered by what they are: by energy, then by their place in the graph.

    Minima of equal energy are told apart by colour refinement: by their weighted degrees, by those of their
    neighbours, and so on (Weisfeiler & Leman 1968). What that leaves, as a rule images of one another under a
    symmetry of the graph, goes by log_det, by the energies as they were computed, and by the database's ids.

    Args:
        network: N minima.
        pairs: neighbours, each pair once.
        strength: the weight of each pair; equal weights must be equal to the last digit.

    O((N + P) log N) for each of a few rounds, which only landscapes with ties need.

    Example:
        >>> net = Network.of([1.0, 0.0, 0.0], [(0, 1), (1, 2)], [3.0, 2.0])
        >>> canonical_order(net, net.edges, torch.tensor([1.0, 1.0])).tolist()
        [2, 1, 0]
    """
    n = network.n_minima
    colour = _ranks([network.levels.detach().cpu().numpy()])
    i, j = pairs.cpu().numpy()
    one, other = np.concatenate([i, j]), np.concatenate([j, i])
    weight = np.tile(_ranks([strength.detach().cpu().numpy()]), 2)
    n_colours = len(np.unique(colour))
    while n_colours < n:
        colour = _refined(colour, one, other, weight)
        if len(np.unique(colour)) == n_colours:
            break
        n_colours = len(np.unique(colour))
    last = [network.ids, network.energy, network.log_det]
    keys = [values.detach().cpu().numpy() for values in last]
    return torch.as_tensor(np.lexsort((*keys, colour)), device=network.edges.device)


def _refined(colour: np.ndarray, one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Ranks by colour, then by the sorted list of the weights and colours of the neighbours."""
    kind = _ranks([colour[other], weight])  # of an arc
    by_node = np.lexsort((kind, one))
    degree = np.bincount(one, minlength=len(colour))
    start = np.concatenate([[0], np.cumsum(degree)[:-1]])
    # The lists are compared from their first entry on, for all nodes at once: each entry refines the rank.
    rank = _ranks([degree, colour])
    for k in range(int(degree.max(initial=0))):
        has = degree > k
        if k and len(np.unique(rank[has])) == int(has.sum()):
            break
        entry = np.full(len(colour), -1)
        entry[has] = kind[by_node[start[has] + k]]
        rank = _ranks([entry, rank])
    return rank


def _ranks(keys: list[np.ndarray]) -> np.ndarray:
    """Dense ranks of rows by the last key, ties by the one before it, and so on; equal rows share a rank."""
    order = np.lexsort(keys)
    fresh = np.zeros(len(order), dtype=np.int64)
    for key in keys:
        fresh[1:] |= key[order][1:] != key[order][:-1]
    out = np.empty(len(order), dtype=np.int64)
    out[order] = fresh.cumsum()
    return out
