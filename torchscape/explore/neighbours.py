"""Which pairs of minima to try: nearest in symmetry-aware distance, missing links between components."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable

import numpy as np
import torch

from torchscape import stopwatch
from torchscape.landscape import Landscape
from torchscape.landscape.rows import positions
from torchscape.memory import IN_CACHE, rows_that_fit
from torchscape.potentials.base import Potential
from torchscape.sparse import links
from torchscape.symmetry.pairs import pair_distances
from torchscape.types import Bool, Float, Int, Tensor

__all__ = [
    "SHORTLIST",
    "Allowed",
    "Lengths",
    "Tried",
    "apart",
    "between",
    "direct",
    "missing_links",
    "nearest",
    "others",
    "pair_keys",
    "shortest_per_component",
    "steepest",
]


SHORTLIST = 4
"""Pairs that are aligned, for each that is searched."""

_IDS = 1 << 31  # more than any landscape has

_BETWEEN = 1.2  # of the square of a distance: two edges whose squares are less lead over a point in between

Allowed = Callable[[Int[Tensor, "B"]], Bool[Tensor, "B N"]]
"""Of some rows, which partners each may be paired with."""


def nearest(
    potential: Potential,
    x: Float[Tensor, "N D"],
    allowed: Allowed | Bool[Tensor, "N N"],
    k: int,
    *,
    of: Int[Tensor, "R"] | None = None,
    shortlist: int = SHORTLIST,
    lengths: Callable[[Int[Tensor, "P 2"]], Float[Tensor, "P"]] | None = None,
) -> tuple[Int[Tensor, "P 2"], Float[Tensor, "P"]]:
    """For every row of ``x``, its ``k`` nearest allowed partners, each pair once, by ascending distance.

    Invariants are no further apart than the points themselves, so the ``shortlist * k`` partners with the
    nearest invariants are aligned and the nearest of those taken. (A partner outside the shortlist may be as
    near as the last one taken; it is a choice of what to try, not a statement about distances.) Invariants are
    compared in blocks of rows, so that the memory this takes grows with N, not with its square. Time grows with
    R N, the square of N where all rows want partners: with ten coordinates a second at 10^4 minima, two minutes at
    10^5. Where ``allowed`` depends on more than the row itself, asking it can take longer than the distances.

    Args:
        potential: whose symmetry decides.
        x: minima [N D].
        allowed: which partners some rows may be paired with, asked block by block (:data:`Allowed`), or a table of
            all of them.
        k: partners per row.
        of: the rows that want partners; None for all.
        lengths: the distances of pairs of rows; None to compute them.

    Returns:
        Pairs of row numbers (smaller first) and their distances.
    """
    n = len(x)
    of = torch.arange(n) if of is None else of.cpu()
    if n < 2 or k < 1 or not len(of):
        return torch.empty(0, 2, dtype=torch.int64), x.new_empty(0)
    invariants = potential.symmetry.invariants(x)
    invariants = invariants - invariants.mean(0)
    # |a - b|^2 = |a|^2 + (|b|^2 - 2 a b): the first part does not matter for the order of partners of a
    size, across = invariants.square().sum(1), -2 * invariants.T
    m = min(n, max(shortlist * k, k + 4))
    low, partner = x.new_empty(len(of), m), torch.empty(len(of), m, dtype=torch.int64, device=x.device)
    done = 0
    for rows in of.split(rows_that_fit(n, x.device, on_host=IN_CACHE)):
        stopwatch.check()
        block = allowed[rows.to(allowed.device)] if isinstance(allowed, Tensor) else allowed(rows)
        bound = torch.addmm(size, invariants[rows.to(x.device)], across)
        best = bound.masked_fill_(~block.to(x.device), torch.inf).topk(m, dim=1, largest=False)
        low[done : done + len(rows)], partner[done : done + len(rows)] = best.values, best.indices
        done += len(rows)
    usable = torch.isfinite(low)
    row = of.to(x.device)[:, None].expand_as(partner)[usable]
    key, which = pair_keys(torch.stack([row, partner[usable]], 1), n).unique(return_inverse=True)
    pairs = torch.stack([key // n, key % n], 1)
    length = apart(potential, x, *pairs.T) if lengths is None else lengths(pairs)
    low[usable] = length[which]
    best = low.topk(min(k, m), dim=1, largest=False)
    partner[usable] = which
    chosen = partner.gather(1, best.indices)[torch.isfinite(best.values)].unique()
    order = length[chosen].argsort()
    return pairs[chosen][order].cpu(), length[chosen][order].cpu()


def others(n: int) -> Allowed:
    """Every row of n may be paired with every other one."""
    return lambda rows: rows[:, None] != torch.arange(n)


def pair_keys(pairs: Int[Tensor, "P 2"], n: int) -> Int[Tensor, "P"]:
    """One number for each pair of numbers below ``n``, whichever stands first."""
    return pairs.min(1).values * n + pairs.max(1).values


def direct(
    pairs: Int[Tensor, "P 2"],
    length: Float[Tensor, "P"],
    edges: Int[Tensor, "E 2"],
    edge_length: Float[Tensor, "E"],
    n: int,
) -> Bool[Tensor, "P"]:
    """Which pairs may be joined by a transition state that is not known: those that are no edge, and between which
    lies no third point that edges join to both.

    Between means within about the sphere over the two, where the squares of the two edges are not much more than
    that of the way across: what a path meets there leads over the third. (Of 313 pairs of a network for digits
    whose searches had ended, a transition state joined 1 of 51 with a third point in that sphere, 4 of 36 just
    outside, and 117 of the 226 others.)

    Args:
        pairs, edges: numbers below ``n``; each edge once.
        length, edge_length: distances of their ends.

    Example:
        >>> pairs, edges = torch.tensor([[0, 1], [0, 2], [0, 3]]), torch.tensor([[0, 1], [1, 2], [1, 3]])
        >>> direct(pairs, torch.tensor([1.0, 1.9, 1.0]), edges, torch.ones(3), 4).tolist()
        [False, False, True]
    """
    square = edge_length.double().square().clamp(min=1e-300).numpy()
    i, j = edges.T.numpy()
    table = links(square, i, j, n).tocsr()
    table = table + table.T
    a, b = (table[side.numpy()] for side in pairs.T)
    over = (a.multiply(b != 0) + b.multiply(a != 0)).tocsr()
    least = np.full(len(pairs), np.inf)
    some = np.flatnonzero(np.diff(over.indptr))
    if len(some):
        least[some] = np.minimum.reduceat(over.data, over.indptr[some])
    clear = torch.as_tensor(least) > _BETWEEN * length.double().square()
    return clear & ~torch.isin(pair_keys(pairs, n), pair_keys(edges, n))


def apart(
    potential: Potential, x: Float[Tensor, "N D"], i: Int[Tensor, "P"], j: Int[Tensor, "P"]
) -> Float[Tensor, "P"]:
    """Distances between the minima in rows ``i`` and ``j`` of ``x``, up to symmetry.

    Raises:
        Stopped: between two batches, when the stopwatch says so.
    """
    return pair_distances(potential.symmetry, x, i, x, j, on_host=IN_CACHE, ended=lambda n: stopwatch.check())


def between(invariants: Float[Tensor, "N K"]) -> Callable[[Int[Tensor, "P 2"]], Float[Tensor, "P"]]:
    """How far apart the invariants of pairs of rows are: never further than the points."""

    def lengths(pairs: Int[Tensor, "P 2"]) -> Float[Tensor, "P"]:
        rows = rows_that_fit(invariants.shape[1], invariants.device, on_host=IN_CACHE)
        parts = [(invariants[i] - invariants[j]).norm(dim=1) for i, j in (part.T for part in pairs.split(rows))]
        return torch.cat([invariants.new_empty(0), *parts])

    return lengths


def steepest(height: Float[Tensor, "P"], length: Float[Tensor, "P"], k: int) -> Int[Tensor, "K"]:
    """The k pairs that climb most in relation to their distance."""
    slope = height / length.to(height).clamp(min=1e-12)
    return slope.argsort(descending=True, stable=True)[:k]


class Lengths:
    """Symmetry-aware distances between minima of a landscape, each computed once: of clusters one takes
    milliseconds, and every round asks for many of the last one's again."""

    @classmethod
    def within(cls, landscape: Landscape) -> Lengths:
        """Those that have been computed of an open landscape."""
        return _KNOWN.setdefault(landscape, cls())

    def __init__(self) -> None:
        self._key = torch.empty(0, dtype=torch.int64)
        self._length = torch.empty(0, dtype=torch.float64)

    def of(
        self, potential: Potential, x: Float[Tensor, "N D"], ids: Int[Tensor, "N"], pairs: Int[Tensor, "P 2"]
    ) -> Float[Tensor, "P"]:
        """Distances of pairs of rows of ``x``, which are the minima with these ``ids``."""
        pairs = pairs.cpu()
        key = pair_keys(ids.cpu()[pairs], _IDS)
        new = ~torch.isin(key, self._key)
        if bool(new.any()):
            i, j = pairs[new].T.to(x.device)
            length = apart(potential, x, i, j)
            self._key, order = torch.cat([self._key, key[new]]).sort()
            self._length = torch.cat([self._length, length.cpu().double()])[order]
        return self._length[torch.searchsorted(self._key, key)].to(x)

    def measured(
        self, potential: Potential, x: Float[Tensor, "N D"], ids: Int[Tensor, "N"]
    ) -> Callable[[Int[Tensor, "P 2"]], Float[Tensor, "P"]]:
        """:meth:`of` these minima, as :func:`nearest` asks for it."""
        return functools.partial(self.of, potential, x, ids)


_KNOWN: weakref.WeakKeyDictionary[Landscape, Lengths] = weakref.WeakKeyDictionary()


class Tried:
    """How often each pair of minima, by position in ``ids``, has been searched; pairs never searched take no room.

    Example:
        >>> tried = Tried(torch.tensor([[0, 1], [1, 2]]), torch.tensor([2, 1]), 3)
        >>> tried.times(torch.tensor([[1, 0], [0, 2]])).tolist()
        [2, 0]
        >>> tried.fewer(torch.tensor([1]), 2).tolist()
        [[False, True, True]]
    """

    def __init__(self, pairs: Int[Tensor, "P 2"], times: Int[Tensor, "P"], n: int) -> None:
        self.n = n
        order = pair_keys(pairs, n).argsort()
        self._key, self._times = pair_keys(pairs, n)[order], times[order]
        both_ways = torch.cat([pairs, pairs.flip(1)])
        by_row = both_ways[:, 0].argsort()
        self._partner, self._of_partner = both_ways[by_row, 1], times.repeat(2)[by_row]
        self._first = torch.searchsorted(both_ways[by_row, 0].contiguous(), torch.arange(n + 1))

    @classmethod
    def of(cls, landscape: Landscape, ids: Int[Tensor, "N"]) -> Tried:
        """What was tried in this landscape, between these minima."""
        tried = landscape.tried_pairs()
        position = positions(ids, tried.pairs)
        there = (position >= 0).all(1) & (position[:, 0] != position[:, 1])
        return cls(position[there], tried.times[there], len(ids))

    def times(self, pairs: Int[Tensor, "P 2"]) -> Int[Tensor, "P"]:
        """How often each of these pairs was tried."""
        if not len(self._key):
            return torch.zeros(len(pairs), dtype=torch.int64)
        key = pair_keys(pairs, self.n)
        place = torch.searchsorted(self._key, key).clamp(max=len(self._key) - 1)
        return torch.where(self._key[place] == key, self._times[place], 0)

    def fewer(self, rows: Int[Tensor, "B"], than: int) -> Bool[Tensor, "B N"]:
        """Whether each of these rows was tried fewer times with each other minimum."""
        count = self._first[rows + 1] - self._first[rows]
        row = torch.arange(len(rows)).repeat_interleave(count)
        place = torch.arange(len(row)) - (count.cumsum(0) - count - self._first[rows]).repeat_interleave(count)
        often = self._of_partner[place] >= than
        fewer = torch.ones(len(rows), self.n, dtype=torch.bool)
        fewer[row[often], self._partner[place[often]]] = False
        return fewer


def missing_links(
    pairs: Int[Tensor, "P 2"],
    length: Float[Tensor, "P"],
    component: Int[Tensor, "N"],
    home: int,
    to: int | None = None,
) -> Bool[Tensor, "P"]:
    """The pairs that the best paths from component ``home`` to all others, or to ``to`` alone, would need.

    Moving inside a component is free; a missing link costs its squared distance, so that several small gaps are
    preferred to one large one (Carr, Trygubenko & Wales 2005, doi 10.1063/1.1931587).

    Example:
        >>> pairs = torch.tensor([[0, 1], [1, 2], [0, 2]])
        >>> length = torch.tensor([1.0, 1.0, 1.9])
        >>> missing_links(pairs, length, torch.tensor([0, 1, 2]), 0).tolist()
        [True, True, False]
        >>> missing_links(pairs, length, torch.tensor([0, 1, 2]), 0, to=1).tolist()
        [True, False, False]
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
    reached = torch.nonzero(before >= 0)[:, 0] if to is None else _way_back(before, home, to)
    step = torch.stack([before[reached].long(), reached], 1).sort(1).values
    chosen[link[torch.isin(key[link], step[:, 0] * n + step[:, 1])]] = True
    return chosen


def _way_back(before: Int[Tensor, "C"], home: int, to: int) -> Int[Tensor, "K"]:
    """The components on the path that ends in ``to``, without ``home``; none where no path leads there."""
    way = [to]
    while way[-1] != home:
        if int(before[way[-1]]) < 0:
            return torch.empty(0, dtype=torch.int64)
        way.append(int(before[way[-1]]))
    return torch.tensor(way[:-1], dtype=torch.int64)


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
