"""Random graphs with the degrees of a given one: what the degrees alone would explain."""

from __future__ import annotations

import torch

from torchscape.random import fold, uniform
from torchscape.types import Bool, Int, Tensor

__all__ = ["rewired"]


def rewired(pairs: Int[Tensor, "2 P"], n: int, *, seed: int, n_sweeps: int = 20) -> Int[Tensor, "2 P"]:
    """A random simple graph in which every node has the degree that it has in the given one.

    Edges are paired at random and each pair (a, b), (c, d) proposes (a, c), (b, d), all pairs at once. A proposal
    that would make a loop, an edge that exists already, or one that another proposal makes or breaks, is refused.
    The rule is the same seen from the result, so that the chain is symmetric and its stationary distribution
    uniform over all simple graphs with these degrees.

    Args:
        pairs: the edges of a simple graph, once each.
        n: number of nodes.
        seed: of the random pairing.
        n_sweeps: rounds; in each, every edge is in one proposal.

    O(P log P) a sweep.

    Reference: Fosdick, Larremore, Nishimura & Ugander, SIAM Rev. 60, 315 (2018), doi 10.1137/16M1087175.

    Example:
        >>> ring = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]])
        >>> rewired(ring, 6, seed=1).reshape(-1).bincount().tolist()
        [2, 2, 2, 2, 2, 2]
    """
    edges = pairs.sort(0).values
    half = edges.shape[1] // 2
    if half == 0:
        return edges
    for sweep in range(n_sweeps):
        luck = uniform(fold(seed, sweep, torch.arange(2)), edges.shape[1])
        edges = edges[:, luck[0].argsort().to(edges.device)]
        turn = (luck[1, :half] < 0.5).to(edges.device)
        first, second = edges[:, :half], edges[:, half : 2 * half]
        second = torch.where(turn, second.flip(0), second)
        proposed = torch.stack([first[0], second[0], first[1], second[1]]).reshape(2, 2, half).sort(1).values
        accept = _compatible(edges, proposed, n)
        kept = torch.stack([edges[:, :half], edges[:, half : 2 * half]])
        swapped = torch.where(accept, proposed, kept)
        edges = torch.cat([swapped[0], swapped[1], edges[:, 2 * half :]], 1)
    return edges


def _compatible(edges: Int[Tensor, "2 P"], proposed: Int[Tensor, "2 2 H"], n: int) -> Bool[Tensor, "H"]:
    """Which proposals make no loop, no edge that exists, and touch no edge that another proposal makes.

    ``proposed`` is [which of the two new edges, its lower and its upper end, proposal]; proposal h replaces the
    edges h and H + h.
    """
    half = proposed.shape[2]
    made = (proposed[:, 0] * n + proposed[:, 1]).reshape(-1)
    existing = edges[0] * n + edges[1]
    number = torch.cat([existing, made]).unique(return_inverse=True)[1]
    old, new = number[: len(existing)], number[len(existing) :]
    n_old, n_new = old.bincount(minlength=len(number)), new.bincount(minlength=len(number))
    refused = (n_old[new] > 0) | (n_new[new] > 1) | (n_new[old[: 2 * half]] > 0)
    loop = (proposed[:, 0] == proposed[:, 1]).reshape(-1)
    return ~(refused | loop).reshape(2, half).any(0)
