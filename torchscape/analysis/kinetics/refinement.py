"""Balances of a network solved by iteration, with a bound of the error of every number.

The equations sum_k c_xk (u_x - u_k) = f_x are solved by conjugate gradients that an elimination with sampled fill
preconditions. Two things keep the digits that graph transformation has, and that a linear solver loses where
states are metastable: u is held as a sum of two numbers, so that *differences* between minima that exchange fast
are known, and every current c (u_x - u_k) is formed from such a difference.

The matrix A of the equations has a positive inverse. So whatever w has A w >= |f - A u| at every node bounds the
error, |u - u_exact| <= w; rounding is part of what is bounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from torchscape.analysis.kinetics.sampled_elimination import SampledElimination
from torchscape.brief import brief
from torchscape.sparse import links

__all__ = ["ENOUGH", "Balance"]

ENOUGH = 1e-11
"""A bound of the relative error at which the iteration ends."""
_REFINEMENTS = 12
_STEPS = 200  # of conjugate gradients in each: some ten are usual
_REDUCTION = 1e-6  # of the error by each
_SWEEPS = 2
_EPS = float(np.finfo(np.float64).eps)
_FLOOR = 1e-32  # of a node's own scale: what an error is taken to be at least


@brief
@dataclasses.dataclass(frozen=True)
class Balance:
    """A network of n nodes, some of which are free; for several right-hand sides, columns, at once.

    Attributes:
        free: which nodes are to be solved for [n]; u is given on the others.
        i, j, c: edges and their conductances.
        gather, beside: from currents i -> j to what leaves each node, and to all that is at it [n E].
        total: sum of the conductances of each node [n].
        terms: numbers summed at each node, and some more [n].
        part: connected components of the free nodes [n].
        rough: factors of the matrix of the free nodes, roughly.
    """

    free: np.ndarray
    i: np.ndarray
    j: np.ndarray
    c: np.ndarray
    gather: Any
    beside: Any
    total: np.ndarray
    terms: np.ndarray
    part: np.ndarray
    rough: SampledElimination

    @classmethod
    def of(
        cls,
        i: np.ndarray,
        j: np.ndarray,
        c: np.ndarray,
        free: np.ndarray,
        done: Callable[[int], object] = lambda n: None,
    ) -> Balance:
        """Prepares; every free node must have a path to one that is not.

        Args:
            i, j, c: undirected edges between different nodes with their conductances; parallel ones are summed.
            free: boolean [n].
            done: told how many more nodes are prepared.
        """
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        n, m = len(free), int(free.sum())
        place = np.full(n, -1)
        place[free] = np.arange(m)
        both, one = free[i] & free[j], free[i] ^ free[j]
        ground = np.bincount(np.where(free[i], i, j)[one], c[one], minlength=n)[free]
        rough = SampledElimination.of(m, place[i[both]], place[j[both]], c[both], ground, done)
        edge = np.arange(len(i), dtype=np.int32)
        ends = np.concatenate([i, j]).astype(np.int32), np.concatenate([edge, edge])
        gather = csr_array((np.repeat([1.0, -1.0], len(i)), ends), shape=(n, len(i)))
        beside = abs(gather)
        part = connected_components(links(True, i[both], j[both], n), directed=False)[1]
        terms = np.bincount(ends[0], minlength=n) + 4.0
        return cls(free, i, j, c, gather, beside, beside @ c, terms, part, rough)

    def outflow(self, u: np.ndarray, low: np.ndarray | None = None) -> np.ndarray:
        """What leaves every node, sum_k c_xk (u_x - u_k), of u or of u + low [n K]."""
        current = u[self.i] - u[self.j]
        if low is not None:
            current += low[self.i] - low[self.j]
        current *= self.c[:, None]
        return self.gather @ current

    def rounding(self, f: np.ndarray, u: np.ndarray, low: np.ndarray) -> np.ndarray:
        """What the difference of sources and outflow may be wrong by at every node [n K]."""
        size = np.abs(u[self.i] - u[self.j])
        size += np.abs(low[self.i] - low[self.j])
        size *= self.c[:, None]
        return _EPS * (self.terms[:, None] * (self.beside @ size) + 2 * f)

    def solve(
        self, f: np.ndarray, given: np.ndarray, told: Callable[[float], object] = lambda bound: None
    ) -> tuple[np.ndarray, float]:
        """u [n K] for sources f >= 0 on the free nodes and u >= 0 given on the others, and a bound of its error.

        Args:
            f: [n K], read at free nodes only.
            given: [n K], zero at free nodes.
            told: hears how large the relative error may still be.

        Returns:
            u, zero where no source and no given value has an influence, and the largest relative error that any
            of its numbers may have; inf if none could be certified.
        """
        free = self.free
        driven = (f[free] - self.outflow(given)[free] > 0).astype(np.float64)
        of_part = np.zeros((int(self.part.max(initial=-1)) + 1, f.shape[1]))
        np.maximum.at(of_part, self.part[free], driven)
        live = of_part[self.part[free]] > 0
        before, u, error, bound = np.inf, given, np.zeros_like(f[free]), np.inf
        for u, residual, noise in self._refined(f, given):
            error = np.abs(residual) + noise
            with np.errstate(divide="ignore", invalid="ignore"):
                bound = _largest(error / f[free], live)
                change = _largest(np.abs(residual) / (self.total[free, None] * u[free]), live)
            told(min(bound, change))
            settled = change <= _EPS or (change < 1e-12 and change > before / 4)
            if bound <= ENOUGH or settled or not np.isfinite(residual).all():
                break
            before = change if (u[free][live] > 0).all() else np.inf
        if not (u[free][live] > 0).all():
            return u, np.inf
        if bound > ENOUGH:
            bound = min(bound, self._bound(u, error, live))
        told(bound)
        return u, bound

    def _bound(self, u: np.ndarray, error: np.ndarray, live: np.ndarray) -> float:
        """max w / u for a w with A w >= error."""
        free = self.free
        least = _FLOOR * self.total[free, None] * u[free]
        f = np.zeros_like(u)
        f[free] = np.where(live, 2 * np.maximum(error, least), 0.0)
        for w, residual, noise in self._refined(f, np.zeros_like(u)):
            if _largest((np.abs(residual) + noise) / np.maximum(f[free], 1e-300), live) <= 0.5:
                with np.errstate(divide="ignore", invalid="ignore"):  # where neither has any influence
                    return _largest(w[free] / u[free], live)
        return np.inf

    def _refined(self, f: np.ndarray, given: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """u, its residual on the free nodes, and the rounding error of that, again and again."""
        free = self.free
        u, low = given.copy(), np.zeros_like(given)
        for _ in range(_REFINEMENTS):
            residual = (f - self.outflow(u, low))[free]
            yield u, residual, self.rounding(f, u, low)[free]
            u, low = self._moved(u, low, self._descent(residual))
            for _ in range(_SWEEPS):  # conjugate gradients leave errors at nodes of small conductances
                residual = (f - self.outflow(u, low))[free]
                u, low = self._moved(u, low, residual / self.total[free, None])

    def _descent(self, residual: np.ndarray) -> np.ndarray:
        """What to add to u: preconditioned conjugate gradients."""
        x = np.zeros((len(self.free), residual.shape[1]))
        moved = np.zeros_like(residual)
        z = self.rough.solve(residual)
        step, rz = z, (residual * z).sum(0)
        first = rz
        for _ in range(_STEPS):
            x[self.free] = step
            out = self.outflow(x)[self.free]
            alpha = _ratio(rz, (step * out).sum(0))
            moved = moved + alpha * step
            residual = residual - alpha * out
            z = self.rough.solve(residual)
            left = (residual * z).sum(0)
            if not (left > _REDUCTION**2 * first).any():
                break
            step, rz = z + _ratio(left, rz) * step, left
        return moved

    def _moved(self, u: np.ndarray, low: np.ndarray, by: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sum of three as a sum of two (Knuth's two-sum)."""
        x, y = u[self.free], low[self.free]
        s = x + by
        b = s - x
        y = y + ((x - (s - b)) + (by - b))
        u, low = u.copy(), low.copy()
        u[self.free] = t = s + y
        low[self.free] = y - (t - s)
        return u, low


def _largest(values: np.ndarray, of: np.ndarray) -> float:
    """The largest of those marked; inf if one is no number."""
    chosen = values[of]
    return float(np.where(np.isnan(chosen), np.inf, chosen).max(initial=0.0))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and 0 where b is not positive."""
    return np.where(b > 0, a / np.where(b > 0, b, 1.0), 0.0)
