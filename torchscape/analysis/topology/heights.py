"""Barriers: how high one must climb, edge by edge and over the best of all paths."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import torch

from torchscape.analysis.topology.tree import merge_tree, spanning_forest
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.sparse import links
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO

__all__ = [
    "Barriers",
    "Route",
    "barriers",
    "energy_scale",
    "minimax",
    "minimax_between",
    "minimax_path",
    "minimax_to",
    "persistence",
]


def minimax_to(network: Network, target: int | None = None) -> Float[Tensor, "N"]:
    """Highest transition state on the lowest path from every minimum to ``target`` (default: the global minimum).

    L_a = min over paths from a to the target of the max over the transition states s on the path of E_s.

    Args:
        network: N minima, E transition states.
        target: position of the minimum to reach.

    Returns:
        Energies, in the potential's unit; +inf where no path exists; the target's own energy at the target. [N]

    O(E log E). Reference: Wales, Miller & Walsh, Nature 394, 758 (1998), doi 10.1038/29487.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2), (0, 2)], ts_energy=[1.0, 0.5, 2.0])
        >>> minimax_to(net).tolist()
        [0.0, 1.0, 1.0]
    """
    target = network.global_minimum if target is None else _existing(network, target)
    return merge_tree(network).minimax_to(target)


def minimax(network: Network) -> Float[Tensor, "N N"]:
    """Highest transition state on the lowest path between all pairs of minima; own energies on the diagonal.

    +inf where no path exists. O(E log E + N^2): the answer has N^2 entries; for chosen pairs of a large network
    use :func:`minimax_between`.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 0.5])
        >>> minimax(net).tolist()
        [[0.0, 1.0, 1.0], [1.0, 0.2, 0.5], [1.0, 0.5, 0.1]]
    """
    return merge_tree(network).minimax()


def minimax_between(network: Network, a: Int[Tensor, "P"], b: Int[Tensor, "P"]) -> Float[Tensor, "P"]:
    """Highest transition state on the lowest path from ``a[p]`` to ``b[p]``, for P pairs; +inf where none exists.

    O(E log E + P).

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 0.5])
        >>> minimax_between(net, torch.tensor([0, 1]), torch.tensor([2, 2])).tolist()
        [1.0, 0.5]
    """
    return merge_tree(network).minimax_between(a, b)


@brief
@dataclasses.dataclass(frozen=True)
class Route:
    """A path through the network: K minima and the K - 1 transition states between them.

    Attributes:
        minima: positions of the minima, from the start to the end [K].
        transition_states: positions of the transition states (edges) that join them [K - 1].
        highest: energy of the highest transition state (of the minimum itself where K = 1).
    """

    minima: Int[Tensor, "K"]
    transition_states: Int[Tensor, "J"]
    highest: float

    def __len__(self) -> int:
        return len(self.minima)


def minimax_path(network: Network, start: int, end: int) -> Route:
    """The lowest path from ``start`` to ``end``: of all paths, that with the lowest highest transition state.

    Where several share it, the second highest decides, and so on (the path in a minimum spanning tree).

    Raises:
        TorchscapeError: where no path joins the two.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2), (0, 2)], ts_energy=[1.0, 0.5, 2.0])
        >>> route = minimax_path(net, 0, 2)
        >>> route.minima.tolist(), route.transition_states.tolist(), route.highest
        ([0, 1, 2], [0, 1], 1.0)
    """

    from scipy.sparse.csgraph import breadth_first_order

    start, end = _existing(network, start), _existing(network, end)
    n, forest = network.n_minima, spanning_forest(network)
    i, j = network.edges[:, forest].cpu().numpy()
    tree = links(forest.cpu().numpy() + 1.0, i, j, n).tocsr()
    tree = (tree + tree.T).tocsr()
    _, before = breadth_first_order(tree, start, directed=False)
    minima = [end]
    while minima[-1] != start:
        if before[minima[-1]] < 0:
            raise TorchscapeError(
                f"no path joins minima {start} and {end}: search for more transition states between them, "
                "or look at network.components()"
            )
        minima.append(int(before[minima[-1]]))
    minima.reverse()
    device = network.edges.device
    ts = torch.tensor([int(tree[a, b]) - 1 for a, b in pairwise(minima)], dtype=torch.int64)
    ts = ts.to(device)
    highest = network.ts_levels[ts].max() if len(ts) else network.levels[start]
    return Route(torch.tensor(minima, device=device), ts, float(highest))


@brief
@dataclasses.dataclass(frozen=True)
class Barriers:
    """What each transition state costs, seen from both of its sides.

    Attributes:
        uphill: E_ts minus the energy of the lower minimum [E].
        downhill: E_ts minus the energy of the higher minimum: the barrier on the way down [E].
        gap: energy difference between the two minima, ``uphill - downhill`` >= 0 [E].
    """

    uphill: Float[Tensor, "E"]
    downhill: Float[Tensor, "E"]
    gap: Float[Tensor, "E"]


def barriers(network: Network) -> Barriers:
    """Barrier heights of all transition states, from both sides, and the energy gaps that they bridge.

    Example:
        >>> net = Network.of(energy=[0.0, 0.25], edges=[(0, 1)], ts_energy=[1.0])
        >>> both = barriers(net)
        >>> both.uphill.item(), both.downhill.item(), both.gap.item()
        (1.0, 0.75, 0.25)
    """
    ends, top = network.levels[network.edges], network.ts_levels
    low, high = ends.amin(0), ends.amax(0)
    return Barriers(uphill=top - low, downhill=top - high, gap=high - low)


def energy_scale(network: Network) -> float:
    """An energy of the landscape's own size: the range of its minima; where all are equal, their median barrier.

    1 where there is neither. What temperatures are chosen by if none is asked for.

    Example:
        >>> energy_scale(Network.of([0.0, 1e-22], [(0, 1)], [3.0])), energy_scale(Network.of([0.0, 2.0], [], []))
        (3.0, 2.0)
    """
    if network.n_minima and (spread := float(network.levels.max() - network.levels.min())) > 0:
        return spread
    if network.n_edges and (typical := float(barriers(network).uphill.median())) > 0:
        return typical
    return 1.0


def persistence(network: Network) -> Float[Tensor, "N"]:
    """Lowest barrier, over any path, from each minimum to some lower minimum; +inf for the lowest of a component.

    Small values are wrinkles, large values are the bottoms of funnels. O(E log E).

    Reference: Chazal et al., J. ACM 60, 41 (2013), doi 10.1145/2535927.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2), (0, 2)], ts_energy=[1.0, 0.5, 2.0])
        >>> persistence(net).tolist()
        [inf, 0.3, 0.9]
    """
    return merge_tree(network).persistence


def _existing(network: Network, minimum: int) -> int:
    if not COUNT_OR_ZERO.holds(minimum) or minimum >= network.n_minima:
        raise TorchscapeError(f"minimum {minimum} does not exist: give a position in 0..{network.n_minima - 1}")
    return int(minimum)
