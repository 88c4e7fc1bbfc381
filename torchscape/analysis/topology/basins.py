"""Funnels and monotonic sequence basins: which minimum one arrives at by going down."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.analysis.topology.tree import MergeTree, merge_tree
from torchscape.brief import brief
from torchscape.network import Network
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import NOT_NEGATIVE

__all__ = ["Funnels", "MonotonicBasins", "funnels", "merge_minima", "monotonic_basins", "superbasins"]


@brief
@dataclasses.dataclass(frozen=True)
class Funnels:
    """The funnels of a landscape.

    Attributes:
        label: funnel of each minimum, numbered by ascending energy of their bottoms [N].
        bottom: the lowest minimum of each funnel [F].
        depth: lowest barrier from each bottom to any lower minimum; +inf for the lowest of a component [F].
        size: number of minima of each funnel [F].
        barrier: the barrier below which a minimum counts as a wrinkle of a larger funnel.
    """

    label: Int[Tensor, "N"]
    bottom: Int[Tensor, "F"]
    depth: Float[Tensor, "F"]
    size: Int[Tensor, "F"]
    barrier: float

    def __len__(self) -> int:
        return len(self.bottom)


def funnels(network: Network, barrier: float | None = None) -> Funnels:
    """Divide the minima into funnels: superbasins that a barrier of at least ``barrier`` parts from lower ones.

    A minimum whose lowest barrier to a lower minimum is smaller belongs to the funnel that it falls into over
    that barrier.

    Args:
        network: N minima, E transition states.
        barrier: how deep a funnel must be, in the potential's unit. By default a fifth of the tree's height: of
            the energy between the global minimum and the 95th percentile of the mergers below which its
            superbasin takes in the others.

    O(E log E). Reference: persistence-based clustering, Chazal et al. 2013, doi 10.1145/2535927.

    Example:
        >>> chain = [(0, 1), (1, 2), (2, 3)]
        >>> net = Network.of(energy=[0.0, 0.9, 0.1, 0.8], edges=chain, ts_energy=[1.0, 2.0, 0.9])
        >>> found = funnels(net)
        >>> found.label.tolist(), found.bottom.tolist()
        ([0, 0, 1, 1], [0, 2])
    """
    NOT_NEGATIVE.or_none.check("funnels", barrier=barrier)
    return divided(merge_tree(network), barrier)


def divided(tree: MergeTree, barrier: float | None = None) -> Funnels:
    """:func:`funnels`, from the tree itself."""
    chosen = default_barrier(tree) if barrier is None else barrier
    root = tree.groups(chosen)
    bottom = root.unique()
    bottom = bottom[tree.energy[bottom].argsort(stable=True)]
    number = torch.zeros_like(root)
    number[bottom] = torch.arange(len(bottom), device=root.device)
    label = number[root]
    size = label.bincount(minlength=len(bottom))
    return Funnels(label, bottom, tree.persistence[bottom], size, float(chosen))


def default_barrier(tree: MergeTree) -> float:
    """A fifth of the tree's height (see :func:`funnels`); 0 for a tree without mergers."""
    if tree.n_minima == 0:
        return 0.0
    heights = tree.minimax_to(int(tree.energy.argmin()))
    finite = heights[heights.isfinite() & (heights > heights.min())]
    if len(finite) == 0:
        return 0.0
    # By numpy: torch.quantile refuses more than 2^24 entries.
    return 0.2 * (float(np.quantile(finite.cpu().numpy(), 0.95)) - float(tree.energy.min()))


def superbasins(network: Network, levels: Float[Tensor, "L"]) -> Int[Tensor, "L N"]:
    """For each threshold energy, the lowest minimum of each minimum's superbasin; -1 for minima above it.

    Two minima are in one superbasin if a path joins them whose transition states all lie at or below the
    threshold. O(E log E + L N).

    Reference: Becker & Karplus, J. Chem. Phys. 106, 1495 (1997), doi 10.1063/1.473299.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 0.5])
        >>> superbasins(net, torch.tensor([0.15, 0.6, 1.0])).tolist()
        [[0, -1, 2], [0, 2, 2], [0, 0, 0]]
    """
    return merge_tree(network).superbasins(levels.to(network.energy))


@brief
@dataclasses.dataclass(frozen=True)
class MonotonicBasins:
    """The monotonic sequence basins of a landscape.

    Attributes:
        bottom: minimum at the end of each minimum's steepest monotonic sequence [N].
        is_divide: True where other monotonic sequences lead to another bottom [N].
        bottoms: the minima without a lower neighbour, by ascending energy [F].
    """

    bottom: Int[Tensor, "N"]
    is_divide: Bool[Tensor, "N"]
    bottoms: Int[Tensor, "F"]


def monotonic_basins(network: Network) -> MonotonicBasins:
    """Monotonic sequence basins: follow transition states to ever lower minima.

    From each minimum the sequence crosses its lowest transition state that leads to a lower minimum (of equal
    ones, to the lowest), until there is none. A minimum from which some sequence ends elsewhere is on a divide.

    O(E log E). Reference: Kunz & Berry, J. Chem. Phys. 103, 1904 (1995), doi 10.1063/1.469714.

    Example:
        >>> net = Network.of(energy=[0.0, 0.9, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 2.0])
        >>> basins = monotonic_basins(net)
        >>> basins.bottom.tolist(), basins.is_divide.tolist()
        ([0, 0, 2], [False, True, False])
    """
    energy, device = network.levels.cpu().numpy(), network.energy.device
    n = network.n_minima
    i, j = network.edges.cpu().numpy()
    level = energy[i] != energy[j]
    swap = energy[i] < energy[j]
    high, low = np.where(swap, j, i)[level], np.where(swap, i, j)[level]
    ts = network.ts_levels.cpu().numpy()[level]
    steepest = np.lexsort((energy[low], ts, high))
    next_lower = np.arange(n)
    from_, first = np.unique(high[steepest], return_index=True)
    next_lower[from_] = low[steepest][first]
    bottom = _ends(next_lower)
    is_divide = _divides(high, low, bottom, energy)
    bottoms = np.flatnonzero(next_lower == np.arange(n))
    bottoms = bottoms[np.argsort(energy[bottoms], kind="stable")]
    return MonotonicBasins(*(torch.as_tensor(part, device=device) for part in (bottom, is_divide, bottoms)))


def _ends(following: np.ndarray) -> np.ndarray:
    """Where each chain ends, by pointer doubling: O(N log N)."""
    while True:
        further = following[following]
        if (further == following).all():
            return following
        following = further


def _divides(high: np.ndarray, low: np.ndarray, bottom: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """True where a lower neighbour has another bottom or is on a divide itself, upwards from the lowest."""
    divide = bottom[low] != bottom[high]
    found = np.zeros(len(bottom), dtype=bool)
    found[high[divide]] = True
    order = np.argsort(energy[high], kind="stable")
    marked = found.tolist()
    for above, below in zip(high[order].tolist(), low[order].tolist(), strict=True):
        if marked[below]:
            marked[above] = True
    return np.asarray(marked, dtype=bool)


def merge_minima(network: Network, barrier: float) -> tuple[Network, Int[Tensor, "N"]]:
    """The network in which minima behind barriers below ``barrier`` count as one with the minimum they fall into.

    Each group is represented by its lowest minimum (with that one's vibrations and coordinates, and the hits of
    all); transition states between groups remain, those within a group go.

    Returns:
        The merged network, and the position in it of each minimum's group [N].

    Example:
        >>> net = Network.of(energy=[0.0, 0.9, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 2.0])
        >>> merged, group = merge_minima(net, 0.5)
        >>> merged.n_minima, merged.edges.tolist(), merged.ts_energy.tolist(), group.tolist()
        (2, [[0], [1]], [2.0], [0, 0, 1])
    """
    NOT_NEGATIVE.check("merge_minima", barrier=barrier)
    root = merge_tree(network).groups(barrier)
    keep, group = root.unique(return_inverse=True)
    ends = group[network.edges]
    between = ends[0] != ends[1]
    moved = dataclasses.replace(network, edges=keep[ends]).only_edges(between)
    hits = torch.zeros_like(network.hits[keep]).index_add_(0, group, network.hits)
    return dataclasses.replace(moved.subset(keep), hits=hits), group
