"""The dense core of graph transformation: blocked, subtraction-free elimination, plain or in logarithms.

A symmetric network of conductances is eliminated node by node (the star-mesh transformation),

    s_x = sum_{k > x} c_xk,        c_ij <- c_ij + c_xi c_xk / s_x,

where the pivot s_x is the *sum* of what is left of its row, never a difference (Grassmann, Taksar & Heyman 1985,
doi 10.1287/opre.33.5.1107): every number is a sum of products of positive numbers, and keeps its digits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch

from torchscape.brief import brief
from torchscape.types import Float, Tensor

__all__ = ["DenseElimination"]

_PANEL = 64
_BAND = 512
_TINY = 1e-250
"""Products that fell below this may hide lost terms (float64 ends near 1e-308): they are summed again exactly."""


@brief
@dataclasses.dataclass(frozen=True)
class DenseElimination:
    """M nodes eliminated in order, out of M + K.

    Attributes:
        weights: [M M+K], branching probabilities w_xk = c_xk / s_x towards later nodes (their logarithms if
            ``is_log``); what lies on and below the diagonal is zero (or -inf).
        pivots: [M], s_x (or its logarithm).
        rest: [K K], the conductances left between the kept nodes, above the diagonal; [0 K] if not asked for.
        is_log: whether all of this is in logarithms.
    """

    weights: Float[Tensor, "M Q"]
    pivots: Float[Tensor, "M"]
    rest: Float[Tensor, "J K"]
    is_log: bool

    @classmethod
    def of(
        cls,
        conductance: Float[Tensor, "R Q"],
        n_eliminated: int,
        *,
        is_log: bool,
        done: Callable[[float], object] = lambda percent: None,
    ) -> DenseElimination:
        """Eliminates the first ``n_eliminated`` rows of a symmetric matrix, which is overwritten.

        Args:
            conductance: R = M rows if the mesh between kept nodes is of no interest, R = Q for all of it.
            n_eliminated: M.
            is_log: whether ``conductance`` holds logarithms.
            done: told how many more per cent of the operations are done.
        """
        m = n_eliminated
        pivots = _eliminate_log(conductance, m, done) if is_log else _eliminate(conductance, m, done)
        weights = conductance[:m]
        if is_log:
            weights -= pivots[:, None]
        else:
            weights /= pivots[:, None]
        lower = torch.ones(weights.shape, dtype=torch.bool, device=weights.device).tril_()
        weights.masked_fill_(lower, -torch.inf if is_log else 0.0)
        return cls(weights, pivots, conductance[m:, m:], is_log)

    def forward(self, source: Float[Tensor, "Q"]) -> Float[Tensor, "Q"]:
        """Passes every eliminated node's source on to later nodes: f_k <- f_k + w_xk f_x, in order."""
        m = len(self.pivots)
        if self.is_log:
            f = source.clone()
            for x in range(m):
                f[x + 1 :] = torch.logaddexp(f[x + 1 :], self.weights[x, x + 1 :] + f[x])
            return f
        inside = torch.linalg.solve_triangular(
            _unit_minus(self.weights[:, :m]).T, source[:m, None], upper=False, unitriangular=True
        )[:, 0]
        return torch.cat([inside, source[m:] + inside @ self.weights[:, m:]])

    def backward(self, forwarded: Float[Tensor, "M"], kept: Float[Tensor, "K"]) -> Float[Tensor, "M"]:
        """u_x = f_x / s_x + sum_{k > x} w_xk u_k from the last eliminated node to the first."""
        m = len(self.pivots)
        if self.is_log:
            u = torch.cat([forwarded - self.pivots, kept])
            for x in reversed(range(m)):
                u[x] = torch.logaddexp(u[x], (self.weights[x, x + 1 :] + u[x + 1 :]).logsumexp(0))
            return u[:m]
        right = forwarded / self.pivots + self.weights[:, m:] @ kept
        return torch.linalg.solve_triangular(
            _unit_minus(self.weights[:, :m]), right[:, None], upper=True, unitriangular=True
        )[:, 0]


def _unit_minus(w: Float[Tensor, "M M"]) -> Float[Tensor, "M M"]:
    """I - W; its triangular solves add positive terms only, as W is not negative."""
    return torch.eye(len(w), dtype=w.dtype, device=w.device) - w


def _eliminate(c: Float[Tensor, "R Q"], m: int, done: Callable[[float], object]) -> Float[Tensor, "M"]:
    pivots = c.new_empty(m)
    for start in range(0, m, _PANEL):
        stop = min(start + _PANEL, m)
        for x in range(start, stop):
            row = c[x, x + 1 :]
            pivots[x] = row.sum()
            c[x + 1 : stop, x + 1 :] += torch.outer(row[: stop - x - 1], row / pivots[x])
        panel = c[start:stop, stop:]
        weights = panel / pivots[start:stop, None]
        for rows, columns in _upper_blocks(len(c) - stop):
            c[stop:, stop:][rows, columns].addmm_(panel[:, rows].T, weights[:, columns])
        done(_percent(c, start) - _percent(c, stop))
    return pivots


def _eliminate_log(c: Float[Tensor, "R Q"], m: int, done: Callable[[float], object]) -> Float[Tensor, "M"]:
    pivots = c.new_empty(m)
    for start in range(0, m, _PANEL):
        stop = min(start + _PANEL, m)
        for x in range(start, stop):
            row = c[x, x + 1 :]
            pivots[x] = row.logsumexp(0)
            block = c[x + 1 : stop, x + 1 :]
            torch.logaddexp(block, row[: stop - x - 1, None] + (row - pivots[x]), out=block)
        panel = c[start:stop, stop:]
        weights = panel - pivots[start:stop, None]
        for rows, columns in _upper_blocks(len(c) - stop):
            rest = c[stop:, stop:][rows, columns]
            torch.logaddexp(rest, _log_matmul(panel[:, rows].T, weights[:, columns]), out=rest)
        done(_percent(c, start) - _percent(c, stop))
    return pivots


def _percent(c: Float[Tensor, "R Q"], done: int) -> float:
    """Of the operations of eliminating all rows, what is left after so many."""
    return 100 * (1 - done / c.shape[0]) ** 3


def _upper_blocks(n_rows: int) -> Iterator[tuple[slice, slice]]:
    """Bands of rows, each with the columns from its own diagonal on: by symmetry the rest is never read."""
    for start in range(0, n_rows, _BAND):
        yield slice(start, min(start + _BAND, n_rows)), slice(start, None)


def _log_matmul(a: Float[Tensor, "R K"], b: Float[Tensor, "K Q"]) -> Float[Tensor, "R Q"]:
    """ln sum_k exp(a_rk + b_kq): one matrix product, and an exact sum wherever that product nearly underflows."""
    if not (a.numel() and b.numel()):
        return a.new_full((a.shape[0], b.shape[1]), -torch.inf)
    top_a, top_b = _finite_max(a, 1), _finite_max(b, 0)
    product = (a - top_a).exp() @ (b - top_b).exp()
    doubtful = product < _TINY
    if bool(doubtful.any()):
        # Not doubtful: no common neighbour at all. Single precision counts exactly, panels are short.
        doubtful &= (~torch.isneginf(a)).float() @ (~torch.isneginf(b)).float() > 0
    rows, columns = doubtful.nonzero(as_tuple=True)
    result = product.log_().add_(top_a).add_(top_b)
    for r, q in zip(rows.split(32768), columns.split(32768), strict=True):
        result[r, q] = (a[r] + b[:, q].T).logsumexp(1)
    return result


def _finite_max(x: Float[Tensor, "R Q"], dim: int) -> Float[Tensor, "..."]:
    """The maximum, or 0 where all is -inf."""
    top = x.amax(dim, keepdim=True)
    return torch.where(torch.isneginf(top), torch.zeros_like(top), top)
