"""Distances and edge betweenness by breadth-first search from many minima at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch

from torchscape.analysis.graph.geometric import geometric
from torchscape.analysis.graph.neighbours import neighbour_pairs
from torchscape.devices import is_host
from torchscape.network import Network
from torchscape.random import fold, uniform
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, SEED

__all__ = ["edge_betweenness", "path_lengths", "sampled_sources"]

_CELLS = 1 << 24  # of the tables [N, sources] held at a time
_ARCS = 1 << 22  # pairs times sources, likewise


def edge_betweenness(
    network: Network, *, n_sources: int | None = None, seed: int = 0
) -> tuple[Int[Tensor, "2 P"], Float[Tensor, "P"]]:
    """How much traffic each pair of neighbours carries if every two minima exchange one parcel by shortest paths.

    b(e) = sum over pairs {s, t} of (shortest paths from s to t through e) / (shortest paths from s to t).

    Bridges between funnels and communities stand out. Parallel transition states count as one edge.

    Args:
        network: N minima, E transition states.
        n_sources: take the shortest paths from only this many random minima, and scale up. By default all up to
            2000 minima, and 1000 beyond.
        seed: of the choice.

    Returns:
        The pairs of neighbours [2 P] and the betweenness of each [P].

    O(n_sources E log N), on the network's device; there each step of the longest shortest path is one pass.

    Reference: Brandes, J. Math. Sociol. 25, 163 (2001), doi 10.1080/0022250X.2001.9990249; Girvan & Newman,
    PNAS 99, 7821 (2002), doi 10.1073/pnas.122653799.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[2.0, 0.5])
        >>> edge_betweenness(net)[1].tolist()
        [2.0, 2.0]
    """
    COUNT.or_none.check("edge_betweenness", n_sources=n_sources)
    SEED.check("edge_betweenness", seed=seed)
    pairs, n = neighbour_pairs(network), network.n_minima
    total = torch.zeros(pairs.shape[1], dtype=torch.float64, device=pairs.device)
    if pairs.shape[1] == 0:
        return pairs, total
    sources = sampled_sources(n, n_sources, 1000, seed).to(pairs.device)
    for chunk in sources.split(max(1, _ARCS // pairs.shape[1])):
        total += _flow(pairs, torch.cat(list(path_lengths(pairs, n, chunk))), chunk)
    return pairs, total * (n / len(sources)) / 2.0


def _flow(
    pairs: Int[Tensor, "2 P"], length: Float[Tensor, "S N"], sources: Int[Tensor, "S"]
) -> Float[Tensor, "P"]:
    """What each pair carries when every source sends one parcel to every node it reaches.

    Brandes's accumulation for all sources at once, step by step outwards and back, over its arcs only.
    """
    (s, n), device = length.shape, length.device
    arcs = torch.cat([pairs, pairs.flip(0)], 1)
    onwards = (length[:, arcs[1]] == length[:, arcs[0]] + 1.0) & length[:, arcs[0]].isfinite()
    source, arc = onwards.nonzero().T
    step = length[source, arcs[1, arc]].long()
    order = step.argsort(stable=True)
    arc, row = arc[order], source[order] * n
    tails, heads = row + arcs[0, arc], row + arcs[1, arc]
    sizes = step.bincount().tolist()
    paths = torch.zeros(s * n, dtype=torch.float64, device=device)
    paths[torch.arange(s, device=device) * n + sources] = 1.0
    steps = list(zip(tails.split(sizes), heads.split(sizes), arc.split(sizes), strict=True))
    for tail, head, _ in steps:
        paths.index_add_(0, head, paths[tail])
    flow = torch.zeros_like(paths)
    carried = torch.zeros(pairs.shape[1], dtype=torch.float64, device=device)
    for tail, head, through in reversed(steps):
        # Each node passes what it receives, and one parcel of its own, back in proportion to the paths.
        share = paths[tail] / paths[head] * (1.0 + flow[head])
        flow.index_add_(0, tail, share)
        carried.index_add_(0, through % pairs.shape[1], share)
    return carried


def path_lengths(pairs: Int[Tensor, "2 P"], n: int, sources: Int[Tensor, "S"]) -> Iterator[Float[Tensor, "S2 N"]]:
    """Number of steps on the shortest path from some sources to every node, in batches; +inf where none exists."""
    if is_host(pairs.device):  # one search at a time is as fast here, and immune to long chains
        yield from _path_lengths_one_by_one(pairs, n, sources)
        return
    matrix = _adjacency(pairs, n)
    for chunk in sources.split(max(1, _CELLS // n)):
        out = torch.full((n, len(chunk)), torch.inf, dtype=torch.float64, device=pairs.device)
        for k, fresh in enumerate(_levels(matrix, chunk)):
            out[fresh > 0] = float(k)
        yield out.T


def _path_lengths_one_by_one(
    pairs: Int[Tensor, "2 P"], n: int, sources: Int[Tensor, "S"]
) -> Iterator[Float[Tensor, "S2 N"]]:
    from scipy.sparse.csgraph import dijkstra

    from torchscape.analysis.graph.neighbours import adjacency

    matrix = adjacency(pairs, n)
    for chunk in sources.split(max(1, _CELLS // max(n, 1))):
        yield torch.as_tensor(dijkstra(matrix, unweighted=True, indices=chunk.numpy())).reshape(-1, n)


def sampled_sources(n: int, n_sources: int | None, most: int, seed: int) -> Int[Tensor, "S"]:
    """All nodes where there are at most 2000 (or at most ``n_sources``), else a random choice of these."""
    wanted = (n if n <= 2000 else most) if n_sources is None else n_sources
    if wanted >= n:
        return torch.arange(n)
    return uniform(fold(seed, torch.tensor([0])), n)[0].argsort()[:wanted]


def _adjacency(pairs: Int[Tensor, "2 P"], n: int) -> Tensor:
    """The symmetric 0/1 matrix in compressed sparse rows."""
    both = torch.cat([pairs, pairs.flip(0)], 1)
    ones = torch.ones(both.shape[1], dtype=torch.float64, device=pairs.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "CSR is in beta", "invariants are not checked"
        return geometric().to_torch_csr_tensor(both, ones, size=(n, n))


def _levels(matrix: Tensor, sources: Int[Tensor, "S"]) -> Iterator[Float[Tensor, "N S"]]:
    """Step by step, the nodes reached for the first time, with the number of shortest paths to each."""
    n, s = matrix.shape[0], len(sources)
    fresh = torch.zeros(n, s, dtype=torch.float64, device=sources.device)
    fresh[sources, torch.arange(s, device=sources.device)] = 1.0
    seen = torch.zeros(n, s, dtype=torch.bool, device=sources.device)
    while bool((fresh > 0).any()):
        yield fresh
        seen |= fresh > 0
        fresh = (matrix @ fresh).masked_fill_(seen, 0.0)
