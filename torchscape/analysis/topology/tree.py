"""The merge tree: at which energy which minima become mutually accessible.

Raising a threshold energy over the landscape, superbasins appear at minima and merge at transition states. The
whole history is a tree (single linkage on transition-state energies), and it is held here in its flattest form:
the minima in an order in which every superbasin is contiguous, and the energy at which neighbours merge.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.brief import brief
from torchscape.memory import IN_CACHE, in_chunks
from torchscape.network import Network
from torchscape.sparse import links
from torchscape.types import Float, Int, Tensor

__all__ = ["MergeTree", "merge_tree", "spanning_forest"]


@brief
@dataclasses.dataclass(frozen=True)
class MergeTree:
    """How N minima merge, superbasin by superbasin, as the energy threshold rises.

    The minimax energy between two minima (the highest transition state on the lowest path) is the largest entry
    of ``gap`` between their places in ``leaves``: one range maximum answers every question about barriers.

    Attributes:
        energy: energies of the minima, equal where the network does not tell them apart [N].
        leaves: the minima from left to right, every superbasin contiguous [N].
        gap: energy at which ``leaves[k]`` and ``leaves[k + 1]`` merge; +inf between disconnected trees [N - 1].
        gap_edge: the transition state that does it; -1 between disconnected trees [N - 1].
        dies_at: energy at which a minimum's superbasin first contains a lower minimum; +inf for the lowest of
            its connected component [N].
        into: the lowest minimum of the superbasin that it then joins; itself where ``dies_at`` is infinite [N].
        depth_edge: the transition state of that merger; -1 where ``dies_at`` is infinite [N].
    """

    energy: Float[Tensor, "N"]
    leaves: Int[Tensor, "N"]
    gap: Float[Tensor, "G"]
    gap_edge: Int[Tensor, "G"]
    dies_at: Float[Tensor, "N"]
    into: Int[Tensor, "N"]
    depth_edge: Int[Tensor, "N"]

    @property
    def n_minima(self) -> int:
        return len(self.energy)

    @property
    def place(self) -> Int[Tensor, "N"]:
        """Where each minimum stands in ``leaves``."""
        return self.leaves.argsort()

    @property
    def persistence(self) -> Float[Tensor, "N"]:
        """Lowest barrier from each minimum to any lower one: ``dies_at - energy``; +inf where there is none."""
        return self.dies_at - self.energy

    def minimax_to(self, target: int) -> Float[Tensor, "N"]:
        """Highest energy on the lowest path from every minimum to ``target``; +inf where there is no path.

        At the target itself the path has no transition state and the value is its own energy. O(N).
        """
        place = self.place
        along = self._from_places(place[target].reshape(1))[0, place]
        along[target] = self.energy[target]
        return along

    def minimax(self) -> Float[Tensor, "N N"]:
        """The same for all pairs, the minima's own energies on the diagonal. O(N^2), the size of the answer."""
        n, place = self.n_minima, self.place
        out = self.energy.new_empty(n, n)
        for rows in in_chunks(torch.arange(n, device=place.device), n, on_host=IN_CACHE):
            out[rows] = self._from_places(place[rows])[:, place]
        out.diagonal().copy_(self.energy)
        return out

    def _from_places(self, at: Int[Tensor, "K"]) -> Float[Tensor, "K N"]:
        """From each of K places in ``leaves`` to every place: the largest gap between; -inf to itself."""
        gap_number, here = torch.arange(len(self.gap), device=at.device), at[:, None]
        below = self.gap.new_full((len(at), 1), -torch.inf)
        right = torch.where(gap_number >= here, self.gap, below).cummax(1).values
        left = torch.where(gap_number < here, self.gap, below).flip(1).cummax(1).values.flip(1)
        return torch.maximum(torch.cat([left, below], 1), torch.cat([below, right], 1))

    def minimax_between(self, a: Int[Tensor, "P"], b: Int[Tensor, "P"]) -> Float[Tensor, "P"]:
        """The same for P chosen pairs, in O(N log N + P): range maxima from a table of doubling windows."""
        place = self.place
        low, high = torch.minimum(place[a], place[b]), torch.maximum(place[a], place[b])
        out = self.energy[a].clone()
        apart = high > low
        if not bool(apart.any()):
            return out
        low, span = low[apart], (high - low)[apart]
        power = torch.frexp(span.double()).exponent.long() - 1
        found = out.new_empty(len(low))
        window, width = self.gap, 1
        for k in range(int(power.max()) + 1):
            here = power == k
            start = low[here]
            found[here] = torch.maximum(window[start], window[start + span[here] - width])
            if len(window) > width:
                window = torch.maximum(window[:-width], window[width:])
            width *= 2
        out[apart] = found
        return out

    def superbasins(self, levels: Float[Tensor, "L"]) -> Int[Tensor, "L N"]:
        """For each threshold energy, the lowest minimum of each minimum's superbasin; -1 for minima above it.

        Two minima are in one superbasin at ``level`` if a path joins them whose transition states all lie at or
        below it (Becker & Karplus 1997, doi 10.1063/1.473299). O(L N).
        """
        n = self.n_minima
        rank = self.energy.argsort(stable=True).argsort()[self.leaves]
        by_rank = self.energy.argsort(stable=True)
        out = torch.full((len(levels), n), -1, dtype=torch.int64, device=self.leaves.device)
        for row, level in zip(out, levels, strict=True):
            segment = torch.cat([self.leaves.new_zeros(min(n, 1)), (self.gap > level).long()]).cumsum(0)
            lowest = torch.full_like(rank, n).scatter_reduce_(0, segment, rank, "amin")
            row[self.leaves] = by_rank[lowest[segment]]
            row[self.energy > level] = -1
        return out

    def groups(self, barrier: float) -> Int[Tensor, "N"]:
        """Each minimum's group (named by its lowest minimum) when all barriers to lower minima below ``barrier``
        are forgotten.

        A minimum whose lowest barrier to a lower one is smaller than ``barrier`` joins the superbasin that it
        falls into (merging by persistence; Chazal et al. 2013, doi 10.1145/2535927). O(N log N).
        """
        itself = torch.arange(self.n_minima, device=self.into.device)
        to = torch.where(self.persistence < barrier, self.into, itself)
        while True:
            further = to[to]
            if torch.equal(further, to):
                return to
            to = further


def merge_tree(network: Network) -> MergeTree:
    """The merge tree of a network, in O(E log E) for E transition states.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2), (0, 2)], ts_energy=[1.0, 0.5, 2.0])
        >>> tree = merge_tree(net)
        >>> tree.minimax_to(0).tolist(), tree.persistence.tolist()
        ([0.0, 1.0, 1.0], [inf, 0.3, 0.9])
    """
    device = network.energy.device
    forest = spanning_forest(network)
    i, j = network.edges[:, forest].cpu().tolist()
    leaves, merged_by, loser_of, into = _join(network.levels.cpu().tolist(), i, j)
    edge_of = torch.cat([forest, forest.new_full((1,), -1)])  # one more entry, so that "none" (-1) maps to -1
    height = torch.cat([network.ts_levels[forest], network.ts_energy.new_full((1,), torch.inf)])
    gaps = torch.as_tensor(merged_by, dtype=torch.int64, device=device)
    deaths = torch.as_tensor(loser_of, dtype=torch.int64, device=device)
    return MergeTree(
        energy=network.levels,
        leaves=torch.as_tensor(leaves, dtype=torch.int64, device=device),
        gap=height[gaps],
        gap_edge=edge_of[gaps],
        dies_at=height[deaths],
        into=torch.as_tensor(into, dtype=torch.int64, device=device),
        depth_edge=edge_of[deaths],
    )


def spanning_forest(network: Network) -> Int[Tensor, "F"]:
    """The transition states that merge superbasins, by ascending energy: a minimum spanning forest.

    A path in the forest has the lowest possible highest transition state, and among those the lowest possible
    second highest, and so on. There are N minus the number of connected components of them.
    """

    from scipy.sparse.csgraph import minimum_spanning_tree

    n = network.n_minima
    if network.n_edges == 0:
        return torch.zeros(0, dtype=torch.int64, device=network.edges.device)
    i, j = network.edges.cpu().numpy()
    minima, ts = network.levels.cpu().numpy(), network.ts_levels.cpu().numpy()
    low, high = np.minimum(minima[i], minima[j]), np.maximum(minima[i], minima[j])
    order = np.lexsort((high, low, ts))  # ties are broken by energies, not by the order of the rows
    key = np.minimum(i, j)[order] * n + np.maximum(i, j)[order]
    lowest = np.unique(key, return_index=True)[1]  # of parallel transition states only the lowest matters
    # Ranks from 1 instead of energies: a sparse matrix would drop zeros, and the tree depends on the order alone.
    ranked = links(lowest + 1.0, key[lowest] // n, key[lowest] % n, n)
    kept = np.sort(minimum_spanning_tree(ranked).data.astype(np.int64)) - 1
    return torch.as_tensor(order[kept], dtype=torch.int64, device=network.edges.device)


def _join(energy: list[float], i: list[int], j: list[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kruskal's union-find over the forest's edges, each superbasin a linked list of its minima.

    Returns leaves [N], merger between neighbours [N-1], merger at which each minimum meets a lower one [N] and
    whom it meets [N]; mergers are positions in the forest, -1 for none.
    """
    n = len(energy)
    parent, lowest, into = list(range(n)), list(range(n)), list(range(n))
    first, last = list(range(n)), list(range(n))
    following, merger_after, loser_of = [-1] * n, [-1] * n, [-1] * n

    def find(x: int) -> int:
        while parent[x] != x:
            parent[x] = x = parent[parent[x]]
        return x

    for k, (a, b) in enumerate(zip(i, j, strict=True)):
        a, b = find(a), find(b)
        winner, loser = lowest[a], lowest[b]
        if (energy[loser], loser) < (energy[winner], winner):
            winner, loser = loser, winner
        loser_of[loser], into[loser] = k, winner
        following[last[a]], merger_after[last[a]] = first[b], k
        parent[b], last[a], lowest[a] = a, last[b], winner
    leaves, merged_by = [], []
    for root in sorted((r for r in range(n) if parent[r] == r), key=lambda r: (energy[lowest[r]], lowest[r])):
        at = first[root]
        while at >= 0:
            leaves.append(at)
            merged_by.append(merger_after[at])
            at = following[at]
    return leaves, merged_by[:-1], loser_of, into
