"""Graph transformation with sampled fill: factors of a large network in little more memory than it takes itself.

Eliminating a node joins all of its neighbours to each other, and on networks without a small separator nearly
everything is joined to everything in the end. Here a node of many neighbours leaves a random tree in the place of
that clique, whose conductances have the right mean (Kyng & Sachdeva 2016, doi 10.1109/FOCS.2016.68). What comes
out is not the network's own answer, but close to it, whatever the conductances are: conjugate gradients that it
preconditions need some ten or twenty steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from torchscape.analysis.kinetics.dense_elimination import DenseElimination
from torchscape.brief import brief
from torchscape.types import Float, Tensor

__all__ = ["SampledElimination"]

_CLIQUE = 5
"""Neighbours up to which the whole clique is kept."""
_TAIL = 1500
"""Nodes left that are eliminated densely, and exactly: sampled trees keep the number of edges, so that the last
thousands of nodes are joined to hundreds each."""
_PASSES = 8
"""In which independent nodes are collected for a round: more would find few."""
_SEED = 0x9E3779B97F4A7C15


@brief
@dataclasses.dataclass(frozen=True)
class SampledElimination:
    """Factors of a network of m nodes that is grounded: (A u)_x = sum_k c_xk (u_x - u_k) + g_x u_x, approximately.

    Attributes:
        order: the nodes in the order of elimination [m].
        pivots: sums of the conductances that were left of each, in that order [m].
        blocks: of each round the first and the behind-last node in that order, and their branching probabilities
            towards later nodes.
        tail: one minus those of the rest, which is eliminated exactly.
    """

    order: np.ndarray
    pivots: np.ndarray
    blocks: list[tuple[int, int, Any]]
    tail: Float[Tensor, "R R"]

    @classmethod
    def of(
        cls,
        m: int,
        i: np.ndarray,
        j: np.ndarray,
        c: np.ndarray,
        ground: np.ndarray,
        done: Callable[[int], object] = lambda n: None,
    ) -> SampledElimination:
        """Eliminates all m nodes.

        Args:
            m: number of nodes.
            i, j, c: undirected edges with their conductances; parallel ones are summed.
            ground: conductance of each node to the ground [m].
            done: told how many nodes have gone since it was last told.
        """
        from scipy.sparse import csr_array

        graph = _Sampled(m, i, j, c, ground)
        rounds = []
        while graph.n_left > _TAIL:
            rounds.append(graph.eliminate_round())
            done(len(rounds[-1][0]))
        rest = np.flatnonzero(graph.left)
        last = graph.dense(rest)
        done(len(rest))
        order = np.concatenate([*(nodes for nodes, *_ in rounds), rest]).astype(np.int64)
        place = np.empty(m, dtype=np.int32)
        place[order] = np.arange(m, dtype=np.int32)
        blocks, start = [], 0
        for nodes, lengths, columns, weights, _ in rounds:
            stop = start + len(nodes)
            indptr = np.concatenate([[0], lengths.cumsum()]).astype(np.int32)
            matrix = csr_array((weights, place[columns] - np.int32(stop), indptr), shape=(len(nodes), m - stop))
            blocks.append((start, stop, matrix))
            start = stop
        pivots = np.concatenate([*(pivots for *_, pivots in rounds), last.pivots.numpy()])
        tail = torch.eye(len(rest), dtype=torch.float64) - last.weights[:, : len(rest)]
        return cls(order, pivots, blocks, tail)

    def solve(self, f: Float[np.ndarray, "m K"]) -> Float[np.ndarray, "m K"]:
        """u with A u = f, up to the sampling: a symmetric, positive definite function of each column of f."""
        u = f[self.order]
        for start, stop, weights in self.blocks:
            u[stop:] += weights.T @ u[start:stop]
        rest = len(u) - len(self.tail)
        end = torch.linalg.solve_triangular(
            self.tail.T, torch.as_tensor(u[rest:]), upper=False, unitriangular=True
        )
        u[rest:] = end.numpy()
        u /= self.pivots[:, None]
        end = torch.linalg.solve_triangular(self.tail, torch.as_tensor(u[rest:]), upper=True, unitriangular=True)
        u[rest:] = end.numpy()
        for start, stop, weights in reversed(self.blocks):
            u[start:stop] += weights @ u[stop:]
        out = np.empty_like(u)
        out[self.order] = u
        return out


class _Sampled:
    """The network that is left: rows of conductances by (row, column), and conductances to the ground."""

    def __init__(self, m: int, i: np.ndarray, j: np.ndarray, c: np.ndarray, ground: np.ndarray):
        self.m, self.ground = m, ground.astype(np.float64).copy()
        self.left = np.ones(m, dtype=bool)
        self.n_left = m
        self.random = np.random.default_rng(_SEED)
        self.rank = self.random.permutation(m)  # breaks ties of degree
        row, column = np.concatenate([i, j]).astype(np.int64), np.concatenate([j, i])
        self.key, self.c = _sorted_sum(row * m + column, np.concatenate([c, c]))

    def eliminate_round(self) -> tuple[np.ndarray, ...]:
        """Takes out nodes of low degree, none beside another: they, degrees, neighbours, weights and pivots."""
        row, column = np.divmod(self.key, self.m)
        degree = np.bincount(row, minlength=self.m)
        chosen = self._independent(row, column, degree)
        of_chosen = chosen[row]
        rows, columns, c = row[of_chosen], column[of_chosen], self.c[of_chosen]
        nodes = np.flatnonzero(chosen)
        lengths = degree[nodes]
        number = np.repeat(np.arange(len(nodes)), lengths)
        pivots = self.ground[nodes] + np.bincount(number, c, minlength=len(nodes))
        weights = c / pivots[number]
        self.ground += np.bincount(columns, weights * self.ground[rows], minlength=self.m)
        stay = ~(of_chosen | chosen[column])
        new_key, new_c = self._fill(number, lengths, columns, c, pivots)
        new_key, new_c = _sorted_sum(new_key, new_c)
        self.key, self.c = _sorted_sum(
            np.concatenate([self.key[stay], new_key]), np.concatenate([self.c[stay], new_c])
        )
        self.left[nodes] = False
        self.n_left -= len(nodes)
        return nodes, lengths, columns, weights, pivots

    def _independent(self, row: np.ndarray, column: np.ndarray, degree: np.ndarray) -> np.ndarray:
        """Nodes of low degree, none beside another, taken again and again from what is not beside those taken: a
        single pass would take one of some degree + 1 nodes, and rounds would be as many as the degree grows."""
        low = self.left & (degree <= 2 * np.median(degree[self.left]) + 1)
        priority = np.where(low, degree * np.int64(self.m) + self.rank, np.iinfo(np.int64).max)
        chosen = np.zeros(self.m, dtype=bool)
        between = low[row] & low[column]
        row, column = row[between], column[between]
        for _ in range(_PASSES):
            nearest = np.full(self.m, np.iinfo(np.int64).max)
            if len(row):
                starts = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
                nearest[row[starts]] = np.minimum.reduceat(priority[column], starts)
            taken = low & (priority < nearest)
            chosen |= taken
            low &= ~taken
            low[column[taken[row]]] = False
            between = low[row] & low[column]
            row, column = row[between], column[between]
        return chosen

    def _fill(self, number, lengths, columns, c, pivots) -> tuple[np.ndarray, np.ndarray]:
        """What joins the neighbours afterwards, in both directions."""
        begin = np.concatenate([[0], lengths.cumsum()[:-1]]).astype(np.int64)
        order = np.lexsort((c, number))
        columns, c = columns[order], c[order]
        ends = begin + lengths
        largest = c[ends - 1]
        share = c / largest[number]
        # Neighbour k is joined to one of those behind it, drawn by their conductances, with what all of them have.
        behind = share[::-1].cumsum()[::-1]
        after = np.append(behind, 0.0)
        more = after[1:] - after[ends[number]] if len(behind) else behind
        few = lengths[number] <= _CLIQUE
        sampled = np.flatnonzero((np.arange(len(number)) < ends[number] - 1) & ~few)
        draw = after[ends[number[sampled]]] + (1 - self.random.random(len(sampled))) * more[sampled]
        to = len(behind) - 1 - np.searchsorted(behind[::-1], draw, side="left")
        to = np.clip(to, sampled + 1, ends[number[sampled]] - 1)
        a, b = columns[sampled], columns[to]
        of = number[sampled]
        value = c[sampled] * more[sampled] * (largest / pivots)[of]
        p, q = _pairs(np.flatnonzero(few), ends[number[few]])
        a, b = np.concatenate([a, columns[p]]), np.concatenate([b, columns[q]])
        value = np.concatenate([value, c[p] * c[q] / pivots[number[p]]])
        return np.concatenate([a * self.m + b, b * self.m + a]), np.concatenate([value, value])

    def dense(self, rest: np.ndarray) -> DenseElimination:
        n = len(rest)
        place = np.full(self.m, -1)
        place[rest] = np.arange(n)
        matrix = np.zeros((n, n + 1))
        row, column = np.divmod(self.key, self.m)
        matrix[place[row], place[column]] = self.c
        matrix[:, n] = self.ground[rest]
        return DenseElimination.of(torch.as_tensor(matrix), n, is_log=False)


def _pairs(first: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p, q) for every p in ``first`` and q with p < q < its end."""
    count = ends - first - 1
    total = count.cumsum()
    p = np.repeat(first, count)
    offset = np.arange(total[-1] if len(total) else 0) - np.repeat(total - count, count)
    return p, p + 1 + offset


def _sorted_sum(key: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted keys, each once, the values of equal keys summed."""
    if not len(key):
        return key, values
    order = np.argsort(key, kind="stable")
    key, values = key[order], values[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    return key[starts], np.add.reduceat(values, starts)
