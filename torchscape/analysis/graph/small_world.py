"""The graph in numbers, each beside what random graphs of the same degrees would give."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from torchscape.analysis.graph.betweenness import path_lengths, sampled_sources
from torchscape.analysis.graph.neighbours import clustering_of, degrees, degrees_of, neighbour_pairs, triangles
from torchscape.analysis.graph.random_graphs import rewired
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.metrics.correlation import spearman
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, SEED

__all__ = ["AgainstRandom", "GraphStatistics", "Hubs", "graph_statistics", "hubs"]


@brief
@dataclasses.dataclass(frozen=True)
class AgainstRandom:
    """A number of the graph beside the same number of random graphs with equal degrees.

    Attributes:
        value: of the graph itself.
        error: its standard error where it was estimated from a sample of minima; 0 where exact.
        random: of each random graph.
    """

    value: float
    error: float
    random: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the random graphs."""
        return float(np.mean(self.random)) if self.random else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation over the random graphs."""
        return float(np.std(self.random, ddof=1)) if len(self.random) > 1 else math.nan

    @property
    def ratio(self) -> tuple[float, float]:
        """``value / mean`` and its standard deviation: random spread and sampling error together."""
        if not self.mean > 0:
            return math.nan, math.nan
        ratio = self.value / self.mean
        return ratio, abs(ratio) * math.hypot(self.sd / self.mean, self.error / self.value if self.value else 0.0)


@brief
@dataclasses.dataclass(frozen=True)
class GraphStatistics:
    """A network as a graph: parallel transition states count once, and only the largest component is measured.

    Attributes:
        n_nodes, n_connected_pairs: of the largest connected component.
        mean_degree: 2 n_connected_pairs / n_nodes.
        path_length: mean number of steps on the shortest path between two minima.
        diameter: the longest of these; a lower bound where ``is_sampled``.
        clustering: mean local clustering coefficient.
        transitivity: 3 triangles / connected triples.
        assortativity: correlation of the degrees at the two ends of an edge; NaN where all degrees are equal.
        small_world: sigma = (C / C_random) / (L / L_random) and its standard deviation; well above 1 in a small
            world (Humphries & Gurney 2008, doi 10.1371/journal.pone.0002051).
        is_sampled: True where path lengths come from a sample of minima.
    """

    n_nodes: int
    n_connected_pairs: int
    mean_degree: float
    path_length: AgainstRandom
    diameter: AgainstRandom
    clustering: AgainstRandom
    transitivity: AgainstRandom
    assortativity: AgainstRandom
    small_world: tuple[float, float]
    is_sampled: bool


def graph_statistics(
    network: Network, *, n_random: int = 20, n_sources: int | None = None, seed: int = 0
) -> GraphStatistics:
    """Path length, diameter, clustering and assortativity of the network, each beside random graphs.

    The random graphs have the same number of nodes and the same degrees (:func:`rewired`); of each, as of the
    network, the largest connected component is measured.

    Args:
        network: N minima, E transition states.
        n_random: number of random graphs; 0 for none.
        n_sources: measure path lengths from this many random minima only. By default from all up to 2000 minima,
            and from 64 beyond.
        seed: of both.

    O((n_random + 1) (E log E + n_sources E)).

    Raises:
        TorchscapeError: if no two minima are connected.

    Reference: Watts & Strogatz, Nature 393, 440 (1998), doi 10.1038/30918; Doye, Phys. Rev. Lett. 88, 238701
    (2002), doi 10.1103/PhysRevLett.88.238701; Newman, Phys. Rev. Lett. 89, 208701 (2002),
    doi 10.1103/PhysRevLett.89.208701.

    Example:
        >>> ring = [(k, (k + 1) % 8) for k in range(8)] + [(k, (k + 2) % 8) for k in range(8)]
        >>> found = graph_statistics(Network.of(energy=range(8), edges=ring, ts_energy=[9.0] * 16), n_random=5)
        >>> found.path_length.value, found.diameter.value, found.clustering.value
        (1.4285714285714286, 2.0, 0.5)
    """
    COUNT_OR_ZERO.check("graph_statistics", n_random=n_random)
    COUNT.or_none.check("graph_statistics", n_sources=n_sources)
    SEED.check("graph_statistics", seed=seed)
    if network.n_edges == 0:
        raise TorchscapeError("no two minima are connected: search for transition states first")
    largest = network.largest_component()
    pairs, n = neighbour_pairs(largest), largest.n_minima
    own = _measure(pairs, n, n_sources, seed)
    others = []
    for k in range(n_random):
        graph = rewired(pairs, n, seed=seed * 1_000_003 + k)
        others.append(_measure(*_largest_component(graph, n), n_sources, seed))

    def beside(name: str) -> AgainstRandom:
        return AgainstRandom(own[name], own.get(f"{name}_error", 0.0), tuple(other[name] for other in others))

    parts = {
        name: beside(name) for name in ("path_length", "diameter", "clustering", "transitivity", "assortativity")
    }
    return GraphStatistics(
        n_nodes=n,
        n_connected_pairs=pairs.shape[1],
        mean_degree=2.0 * pairs.shape[1] / n,
        small_world=_small_world(parts["clustering"], parts["path_length"]),
        is_sampled=bool(len(sampled_sources(n, n_sources, 64, seed)) < n),
        **parts,
    )


def _measure(pairs: Int[Tensor, "2 P"], n: int, n_sources: int | None, seed: int) -> dict[str, float]:
    sources = sampled_sources(n, n_sources, 64, seed).to(pairs.device)
    means, longest = [], 0.0
    for lengths in path_lengths(pairs, n, sources):
        means.append(lengths.sum(1) / max(n - 1, 1))
        longest = max(longest, float(lengths.max()))
    mean = torch.cat(means)
    exact = len(sources) == n
    error = (
        0.0 if exact or len(mean) < 2 else float(mean.std()) / math.sqrt(len(mean)) * math.sqrt(1 - len(mean) / n)
    )
    return {
        "path_length": float(mean.mean()),
        "path_length_error": error,
        "diameter": longest,
        "clustering": float(clustering_of(pairs, n).mean()),
        "transitivity": _transitivity(pairs, n),
        "assortativity": _assortativity(pairs, n),
    }


def _transitivity(pairs: Int[Tensor, "2 P"], n: int) -> float:
    count = degrees_of(pairs, n).double()
    triples = float((count * (count - 1.0)).sum()) / 2.0
    return float(triangles(pairs, n).sum()) / triples if triples else 0.0


def _assortativity(pairs: Int[Tensor, "2 P"], n: int) -> float:
    """Pearson correlation of the degrees over all edges, each taken in both directions, in double precision."""
    count = degrees_of(pairs, n).double()
    ends = count[torch.cat([pairs, pairs.flip(0)], 1)]
    centred = ends - ends.mean()
    spread = float((centred[0] ** 2).sum())
    return float((centred[0] * centred[1]).sum()) / spread if spread > 0 else math.nan


def _largest_component(pairs: Int[Tensor, "2 P"], n: int) -> tuple[Int[Tensor, "2 P2"], int]:
    zeros = torch.zeros(n, dtype=torch.float64, device=pairs.device)
    graph = Network.of(zeros, pairs, torch.ones(pairs.shape[1], dtype=torch.float64, device=pairs.device))
    largest = graph.largest_component()
    return largest.edges, largest.n_minima


def _small_world(clustering: AgainstRandom, path_length: AgainstRandom) -> tuple[float, float]:
    (c, c_sd), (length, length_sd) = clustering.ratio, path_length.ratio
    if not length > 0:
        return math.nan, math.nan
    sigma = c / length
    return sigma, abs(sigma) * math.hypot(c_sd / c if c else 0.0, length_sd / length)


@brief
@dataclasses.dataclass(frozen=True)
class Hubs:
    """The best-connected minima.

    Attributes:
        minima: positions, by descending degree [K].
        degree: number of neighbours of each [K].
        energy: their energies [K].
        energy_rank: how many minima lie lower than each [K].
        correlation: Spearman's rank correlation of degree and energy over all minima: negative where low minima
            have many neighbours, as in a funnel; NaN where either does not vary.
    """

    minima: Int[Tensor, "K"]
    degree: Int[Tensor, "K"]
    energy: Float[Tensor, "K"]
    energy_rank: Int[Tensor, "K"]
    correlation: float


def hubs(network: Network, count: int = 10) -> Hubs:
    """The ``count`` minima with most neighbours, and whether they are the low ones.

    Example:
        >>> star = Network.of(energy=[0.0, 1.0, 2.0, 3.0], edges=[(0, 1), (0, 2), (0, 3)], ts_energy=[4.0] * 3)
        >>> found = hubs(star, 1)
        >>> found.minima.tolist(), found.degree.tolist(), round(found.correlation, 4)
        ([0], [3], -0.7746)
    """
    COUNT.check("hubs", count=count)
    degree = degrees(network)
    rank = network.levels.argsort(stable=True).argsort()
    order = (degree * max(network.n_minima, 1) - rank).argsort(descending=True)[
        :count
    ]  # of equals, the lowest first
    lower = torch.searchsorted(network.levels.sort().values, network.levels[order].contiguous())
    return Hubs(order, degree[order], network.energy[order], lower, _correlation(degree, network.levels))


def _correlation(degree: Tensor, level: Tensor) -> float:
    """Spearman's; NaN where one of them does not vary, or nothing is there."""
    return float(spearman(degree.double(), level.double())) if len(degree) else math.nan
