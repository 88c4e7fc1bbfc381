"""Communities: groups of minima that are joined more to each other than to the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from torchscape.analysis.graph.canonical import canonical_order
from torchscape.analysis.graph.geometric import geometric
from torchscape.analysis.graph.neighbours import neighbour_pairs
from torchscape.analysis.kinetics.rate_theory import rates
from torchscape.brief import brief
from torchscape.errors import MissingExtra, TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor
from torchscape.validation import POSITIVE, SEED

__all__ = ["Communities", "communities", "modularity", "rate_weights"]


@brief
@dataclasses.dataclass(frozen=True)
class Communities:
    """A division of the minima into communities.

    Attributes:
        label: community of each minimum, numbered by the energy of its lowest minimum [N].
        lowest: the lowest minimum of each community [K].
        size: number of minima of each community [K].
        modularity: Newman's modularity of the division, at the weights used; NaN without edges.
    """

    label: Int[Tensor, "N"]
    lowest: Int[Tensor, "K"]
    size: Int[Tensor, "K"]
    modularity: float

    def __len__(self) -> int:
        return len(self.lowest)


def communities(
    network: Network,
    *,
    temperature: float | None = None,
    weight: Float[Tensor, "E"] | None = None,
    resolution: float = 1.0,
    method: Literal["louvain", "leiden"] = "louvain",
    seed: int = 0,
) -> Communities:
    """Divide the minima into communities of large modularity.

    Q = sum over communities c of (w_c / w - resolution (d_c / 2w)^2), with w_c the weight of the edges inside c,
    d_c the summed weighted degrees of its minima, and w the weight of all edges.

    Args:
        network: N minima, E transition states.
        temperature: weigh each transition state by the rate of crossing it at this temperature
            (:func:`rate_weights`), so that the members of a community interconvert fast. Without it, and without
            ``weight``, every pair of neighbours counts once.
        weight: a non-negative weight of one's own for each transition state, in any unit; parallel ones add up
            [E].
        resolution: above 1 for smaller communities, below 1 for larger ones.
        method: ``"louvain"`` (networkx), or ``"leiden"`` (leidenalg: the extra ``leiden``).
        seed: of the random order in which minima are visited.

    The division depends on the order in which minima are visited, which is therefore drawn from an order of what
    they are (:func:`~torchscape.analysis.canonical.canonical_order`), not of how they are numbered. Weights are
    counted in 2^-50 of their sum, so that no sum of them depends on its order either; what is lighter is left out.

    About O(E log N).

    Raises:
        TorchscapeError: for weights that are negative, not finite, or all zero; for a resolution that is not
            positive; or if the method is unknown.

    Reference: Blondel et al., J. Stat. Mech. P10008 (2008), doi 10.1088/1742-5468/2008/10/P10008; Traag, Waltman
    & van Eck, Sci. Rep. 9, 5233 (2019), doi 10.1038/s41598-019-41695-z.

    Example:
        >>> ring = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (2, 3)]
        >>> found = communities(Network.of(energy=range(6), edges=ring, ts_energy=[9.0] * 7))
        >>> found.label.tolist(), round(found.modularity, 6)
        ([0, 0, 0, 1, 1, 1], 0.357143)
    """
    POSITIVE.or_none.check("communities", temperature=temperature)
    POSITIVE.check("communities", resolution=resolution)
    SEED.check("communities", seed=seed)
    if temperature is not None and weight is not None:
        raise TorchscapeError("give a temperature or weights, not both: a temperature makes its own weights")
    if temperature is not None:
        pairs, strength = rate_weights(network, temperature)
    else:
        pairs, strength = _weighted_pairs(network, weight)
    divide = {"louvain": _louvain, "leiden": _leiden}
    if method not in divide:
        raise TorchscapeError(f"unknown method {method!r}: use 'louvain' or 'leiden'")
    order = canonical_order(network, pairs, strength)
    graph = _renumbered(pairs, strength, order)
    label = np.empty(network.n_minima, dtype=np.int64)
    position = order.cpu().numpy()
    for k, part in enumerate(divide[method](network.n_minima, *graph, resolution, seed)):
        label[position[list(part)]] = k
    return as_communities(network, torch.as_tensor(label).to(network.edges.device), pairs, strength, resolution)


def as_communities(
    network: Network,
    label: Int[Tensor, "N"],
    pairs: Int[Tensor, "2 P"],
    strength: Float[Tensor, "P"],
    resolution: float = 1.0,
) -> Communities:
    """Labels renumbered by the lowest energy in each group, with the size and modularity of the division."""
    _, label = label.unique(return_inverse=True)
    by_energy = network.levels.argsort(stable=True)
    seen = label[by_energy]
    k = int(label.max()) + 1 if len(label) else 0
    first = torch.full((k,), len(label), dtype=torch.int64, device=label.device)
    first = first.scatter_reduce(0, seen, torch.arange(len(label), device=label.device), "amin")
    order = first.argsort()
    label = order.argsort()[label]
    value = modularity(label, pairs, strength, resolution)
    return Communities(label, by_energy[first[order]], label.bincount(minlength=k), value)


def modularity(
    label: Int[Tensor, "N"], pairs: Int[Tensor, "2 P"], strength: Float[Tensor, "P"], resolution: float = 1.0
) -> float:
    """Newman's modularity of a division of a weighted graph whose pairs are given once each; NaN without edges.

    Reference: Newman & Girvan, Phys. Rev. E 69, 026113 (2004), doi 10.1103/PhysRevE.69.026113.
    """
    if len(label) == 0 or len(strength) == 0 or not bool(strength.max() > 0):
        return float("nan")
    strength = strength / strength.max()  # in whatever unit they are: sums neither overflow nor vanish
    total = strength.sum()
    share = torch.zeros(int(label.max()) + 1, dtype=strength.dtype, device=strength.device)
    for end in pairs:
        share.index_add_(0, label[end], strength / (2.0 * total))
    inside = strength[label[pairs[0]] == label[pairs[1]]].sum() / total
    return float(inside - resolution * (share**2).sum())


def rate_weights(network: Network, temperature: float) -> tuple[Int[Tensor, "2 P"], Float[Tensor, "P"]]:
    """How fast neighbouring minima interconvert at a temperature, relative to the fastest pair.

    w_ab = sqrt(k_{a<-b} k_{b<-a}) = c_ab / sqrt(p_a p_b): the off-diagonal element of the symmetrised rate matrix,
    from harmonic transition-state theory (:func:`torchscape.analysis.rates`), parallel transition states summed.

    Args:
        network: E transition states.
        temperature: T in the unit of energy (k_B = 1).

    Returns:
        The pairs of neighbours and their weights, scaled so that the largest is 1.

    Example:
        >>> net = Network.of(energy=[0.0, 0.0, 0.0], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 2.0])
        >>> pairs, weight = rate_weights(net, 1.0)
        >>> pairs.tolist(), weight.tolist()
        ([[0, 1], [1, 2]], [1.0, 0.36787944117144233])
    """
    chain = rates(network, temperature)
    log_weight = chain.log_conductance - 0.5 * chain.log_occupation[chain.edges].sum(0)
    return chain.edges, (log_weight - log_weight.max()).exp() if len(log_weight) else log_weight


def _weighted_pairs(
    network: Network, weight: Float[Tensor, "E"] | None
) -> tuple[Int[Tensor, "2 P"], Float[Tensor, "P"]]:
    """Neighbouring pairs once each, with their weight: 1, or the sum over parallel transition states."""
    if weight is None:
        pairs = neighbour_pairs(network)
        return pairs, network.energy.new_ones(pairs.shape[1])
    if weight.shape != network.ts_energy.shape:
        raise TorchscapeError(
            f"{list(weight.shape)} weights for {network.n_edges} transition states: give each one"
        )
    if not bool(((weight >= 0) & weight.isfinite()).all()):
        raise TorchscapeError("community weights must be non-negative finite numbers: replace NaN and infinity")
    if len(weight) and not bool((weight > 0).any()):
        raise TorchscapeError("all community weights are zero: leave out weight= to count every pair once")
    ascending = weight.argsort()  # parallel ones are added by size, so that their sum has no other order
    edges, weight = network.edges[:, ascending].sort(0).values, weight[ascending]
    if len(weight):
        weight = weight.double() / weight.double().max()
    return geometric().coalesce(edges, weight, network.n_minima, reduce="sum")


Parts = Sequence[Any]


def _renumbered(
    pairs: Int[Tensor, "2 P"], strength: Float[Tensor, "P"], order: Int[Tensor, "N"]
) -> tuple[Int[Tensor, "2 K"], Float[Tensor, "K"]]:
    """The pairs by the places of their ends in ``order``, sorted; weights as multiples of 2^-50 of their sum."""
    if not pairs.shape[1]:
        return pairs, strength
    units = (strength.double() / strength.max() * (2.0**50 / (strength.double() / strength.max()).sum())).round()
    ends = order.argsort()[pairs].sort(0).values
    key = (ends[0] * len(order) + ends[1]).argsort()
    key = key[units[key] > 0]
    return ends[:, key], units[key] * 2.0**-50


def _louvain(
    n: int, pairs: Int[Tensor, "2 P"], strength: Float[Tensor, "P"], resolution: float, seed: int
) -> Parts:
    import networkx as nx

    if pairs.shape[1] == 0:
        return [{k} for k in range(n)]
    graph: nx.Graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_weighted_edges_from(zip(*pairs.tolist(), strength.tolist(), strict=True))
    return list(nx.community.louvain_communities(graph, resolution=resolution, seed=seed))


def _leiden(
    n: int, pairs: Int[Tensor, "2 P"], strength: Float[Tensor, "P"], resolution: float, seed: int
) -> Parts:
    try:
        import igraph
        import leidenalg
    except ImportError as error:
        raise MissingExtra.of("leidenalg", "leiden") from error
    graph = igraph.Graph(n, edges=pairs.T.tolist())
    return list(
        leidenalg.find_partition(
            graph,
            leidenalg.RBConfigurationVertexPartition,
            weights=strength.tolist(),
            resolution_parameter=resolution,
            seed=seed,
        )
    )
