"""Which pairs of minima to try: nearest in symmetry-aware distance, missing links between components."""

from __future__ import annotations

import torch

from torchscape.landscape import Landscape
from torchscape.memory import rows_that_fit
from torchscape.potentials.base import Potential
from torchscape.sparse import links
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["missing_links", "nearest", "pair_distances", "shortest_per_component", "times_tried"]

_NUMBERS = 1 << 22  # coordinates aligned at once
_BOUNDS = 1 << 24  # distances between invariants at once


def pair_distances(potential: Potential, x: Float[Tensor, "N D"], pairs: Int[Tensor, "P 2"]) -> Float[Tensor, "P"]:
    """Distance between the closest symmetric images of each pair of rows of ``x``, chunked."""
    rows = rows_that_fit(x.shape[1], x.device, on_host=_NUMBERS)
    parts = [potential.symmetry.distance(x[p[:, 0]], x[p[:, 1]]) for p in pairs.to(x.device).split(rows)]
    return torch.cat(parts) if parts else x.new_empty(0)


def nearest(
    potential: Potential,
    x: Float[Tensor, "N D"],
    allowed: Bool[Tensor, "N N"],
    k: int,
    *,
    shortlist: int = 4,
) -> tuple[Int[Tensor, "P 2"], Float[Tensor, "P"]]:
    """For every row of ``x``, its ``k`` nearest allowed partners, each pair once, by ascending distance.

    Invariants are no further apart than the points themselves, so the ``shortlist * k`` partners with the
    nearest invariants are aligned and the nearest of those taken. (A partner outside the shortlist may be as
    near as the last one taken; it is a choice of what to try, not a statement about distances.)

    Args:
        potential: whose symmetry decides.
        x: minima [N D].
        allowed: which partners each row may be paired with.
        k: partners per row.

    Returns:
        Pairs of row numbers (smaller first) and their distances.
    """
    n = len(x)
    if n < 2 or k < 1:
        return torch.empty(0, 2, dtype=torch.int64), x.new_empty(0)
    invariants, allowed = potential.symmetry.invariants(x), allowed.to(x.device)
    m = min(n, max(shortlist * k, k + 4))
    best_by_bound = []
    for rows in torch.arange(n, device=x.device).split(rows_that_fit(n, x.device, on_host=_BOUNDS)):
        bound = torch.cdist(invariants[rows], invariants).masked_fill(~allowed[rows], torch.inf)
        best_by_bound.append(bound.topk(m, dim=1, largest=False))
    low = torch.cat([part.values for part in best_by_bound])
    partner = torch.cat([part.indices for part in best_by_bound])
    row = torch.arange(n, device=x.device)[:, None].expand(n, m)
    usable = torch.isfinite(low)
    pairs = torch.stack([row[usable], partner[usable]], 1)
    pairs = torch.stack([pairs.min(1).values, pairs.max(1).values], 1)
    pairs, which = pairs.unique(dim=0, return_inverse=True)
    length = pair_distances(potential, x, pairs)
    table = x.new_full((n, m), torch.inf)
    table[usable] = length[which]
    best = table.topk(min(k, m), dim=1, largest=False)
    index = torch.full((n, m), -1, device=x.device)
    index[usable] = which
    chosen = index.gather(1, best.indices)[torch.isfinite(best.values)].unique()
    order = length[chosen].argsort()
    return pairs[chosen][order].cpu(), length[chosen][order].cpu()


def times_tried(landscape: Landscape, ids: Int[Tensor, "N"]) -> Int[Tensor, "N N"]:
    """How often each pair of minima, by position in ``ids``, has been searched."""
    tried = landscape.tried_pairs()
    position = torch.full((int(ids.max()) + 1,), -1)
    position[ids] = torch.arange(len(ids))
    known = (tried.pairs <= int(ids.max())).all(1)
    i, j = position[tried.pairs[known]].T
    there = (i >= 0) & (j >= 0)
    times = torch.zeros(len(ids), len(ids), dtype=torch.int64)
    times[i[there], j[there]] = tried.times[known][there]
    return torch.maximum(times, times.T)


def missing_links(
    pairs: Int[Tensor, "P 2"], length: Float[Tensor, "P"], component: Int[Tensor, "N"], home: int
) -> Bool[Tensor, "P"]:
    """The pairs that the best paths from component ``home`` to all others would need.

    Moving inside a component is free; a missing link costs its squared distance, so that several small gaps are
    preferred to one large one (Carr, Trygubenko & Wales 2005, doi 10.1063/1.1931587).

    Example:
        >>> pairs = torch.tensor([[0, 1], [1, 2], [0, 2]])
        >>> length = torch.tensor([1.0, 1.0, 1.9])
        >>> missing_links(pairs, length, torch.tensor([0, 1, 2]), 0).tolist()
        [True, True, False]
    """

    from scipy.sparse.csgraph import dijkstra

    chosen = torch.zeros(len(pairs), dtype=torch.bool)
    if len(pairs) == 0:
        return chosen
    n = int(component.max()) + 1
    between = component[pairs].sort(1).values
    key = between[:, 0] * n + between[:, 1]
    order = length.argsort(stable=True)
    order = order[key[order].argsort(stable=True)]
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = key[order][1:] != key[order][:-1]
    link = order[first]  # the shortest pair between each two components
    i, j = between[link].T.numpy()
    graph = links(length[link].double().pow(2).clamp(min=1e-300).numpy(), i, j, n)
    before = torch.as_tensor(dijkstra(graph.tocsr(), directed=False, indices=home, return_predecessors=True)[1])
    reached = torch.nonzero(before >= 0)[:, 0]
    step = torch.stack([before[reached].long(), reached], 1).sort(1).values
    chosen[link[torch.isin(key[link], step[:, 0] * n + step[:, 1])]] = True
    return chosen


def shortest_per_component(
    pairs: Int[Tensor, "P 2"], length: Float[Tensor, "P"], component: Int[Tensor, "N"], k: int
) -> Bool[Tensor, "P"]:
    """The k shortest pairs of every component but the largest (to whichever other component)."""
    chosen = torch.zeros(len(pairs), dtype=torch.bool)
    order = length.argsort(stable=True)
    for side in (0, 1):
        label = component[pairs[order, side]]
        by_label = label.argsort(stable=True)
        rank = torch.empty_like(label)
        start = torch.searchsorted(label[by_label], label[by_label])
        rank[by_label] = torch.arange(len(label)) - start
        chosen[order[(rank < k) & (label > 0)]] = True
    return chosen
