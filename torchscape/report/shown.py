"""Which minima a report shows, and by which way each of them is reached from the lowest one."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.analysis.topology import MergeTree, merge_tree, spanning_forest
from torchscape.devices import HOST
from torchscape.network import Network
from torchscape.sparse import links
from torchscape.types import Float, Int, Tensor

__all__ = ["Shown", "choose", "finite", "ways_down"]


@dataclasses.dataclass(frozen=True)
class Shown:
    """The n minima of a report, by ascending energy, with the transition states between them.

    Attributes:
        network: these minima; position k is that of rank k among those shown.
        positions: where they are in the whole network [n].
        tree: their merge tree; which of them share a superbasin is as in the whole network.
        barrier, joins: lowest barrier to any lower minimum of the whole network, and the energy of its top [n].
        next, next_edge: the lowest path from each minimum to the lowest one that is connected to it: the minimum
            that follows, and the transition state on the way (positions in ``network``; -1 at the end) [n].
        n_all: minima of the whole network.
    """

    network: Network
    positions: Int[Tensor, "n"]
    tree: MergeTree
    barrier: Float[Tensor, "n"]
    joins: Float[Tensor, "n"]
    next: Int[Tensor, "n"]
    next_edge: Int[Tensor, "n"]
    n_all: int


def choose(network: Network, most: int) -> Shown:
    """The ``most`` lowest minima, and what the lowest paths from them to the lowest of all pass.

    With these, the minima shown are a connected piece of the spanning forest, so that what is said of two of them
    (the path between them, at which energy they share a superbasin) is what the whole network says.
    """
    order = network.levels.argsort(stable=True)
    wanted = torch.zeros(network.n_minima, dtype=torch.bool, device=order.device)
    wanted[order[:most]] = True
    if most < network.n_minima:
        following, _ = ways_down(network)
        front = order[:most]
        while len(front := following[front][following[front] >= 0].unique()):
            front = front[~wanted[front]]
            wanted[front] = True
    positions = order[wanted[order]]
    shown = network.subset(positions).to(HOST)
    following, edge = ways_down(shown)
    whole = merge_tree(network)
    barrier, joins = (values[positions].to(HOST) for values in (whole.persistence, whole.dies_at))
    return Shown(shown, positions.to(HOST), merge_tree(shown), barrier, joins, following, edge, network.n_minima)


def ways_down(network: Network) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """For every minimum the next one on its lowest path to the lowest minimum of its component, and the transition
    state between the two; -1 for those lowest minima.

    All at once of the paths that :func:`torchscape.analysis.minimax_path` finds for one pair: the minimum
    spanning forest, walked breadth first from its lowest minima. O(E log E).

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2), (0, 2)], ts_energy=[1.0, 0.5, 2.0])
        >>> [one.tolist() for one in ways_down(net)]
        [[-1, 0, 1], [-1, 0, 1]]
    """
    from scipy.sparse.csgraph import breadth_first_order

    n, forest = network.n_minima, spanning_forest(network).cpu().numpy()
    i, j = network.edges[:, forest].cpu().numpy()
    lowest = np.flatnonzero(np.isinf(merge_tree(network).dies_at.cpu().numpy()))
    # One more node above them all, so that one walk begins at each.
    a, b = np.concatenate([i, np.full(len(lowest), n)]), np.concatenate([j, lowest])
    tree = links(1.0, a, b, n + 1).tocsr()
    before = breadth_first_order(tree, n, directed=False)[1][:n]
    following = np.where(before == n, -1, before)
    edge = np.full(n, -1, dtype=np.int64)
    upward = following[i] == j  # of the two ends of an edge of the forest, one follows the other
    edge[np.where(upward, i, j)] = forest
    device = network.edges.device
    return torch.as_tensor(following, dtype=torch.int64, device=device), torch.as_tensor(edge, device=device)


def finite(values: Float[Tensor, "n"]) -> np.ndarray:
    """As float64, with NaN for what is infinite: a browser reads both from bytes, and writes neither in JSON."""
    found = values.detach().double().cpu().numpy().copy()
    found[~np.isfinite(found)] = np.nan
    return found
