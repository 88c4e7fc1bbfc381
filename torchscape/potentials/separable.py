"""Sums of one-dimensional functions: every stationary point in any dimension, known from one dimension."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch

from torchscape.errors import PotentialError
from torchscape.potentials.analytic import AnalyticSurface, KnownPoint
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, FINITE, POSITIVE

__all__ = ["DoubleWell", "Schwefel", "SeparableSurface"]

_MOST_POINTS = 200_000


class SeparableSurface(AnalyticSurface):
    """U(x) = sum_i u_i(x_i): minima are products of wells, index-1 saddles are wells but for one barrier.

    With w_i wells and b_i barriers along coordinate i there are prod_i w_i minima and
    sum_i b_i prod_{j != i} w_j index-1 saddles (:attr:`n_minima`, :attr:`n_saddles`), and every saddle joins
    the two minima on either side of its barrier, or leaves the box.
    """

    def wells(self, i: int) -> list[tuple[float, float]]:
        """(x, u_i(x)) of the minima of u_i inside the box."""
        raise NotImplementedError

    def barriers(self, i: int) -> list[tuple[float, float]]:
        """(x, u_i(x)) of the maxima of u_i inside the box."""
        raise NotImplementedError

    @property
    def n_minima(self) -> int:
        return math.prod(len(self.wells(i)) for i in range(self.ndim))

    @property
    def n_saddles(self) -> int:
        return sum(
            len(self.barriers(i)) * math.prod(len(self.wells(j)) for j in range(self.ndim) if j != i)
            for i in range(self.ndim)
        )

    @property
    def minima(self) -> tuple[KnownPoint, ...]:
        """All minima inside the box, by ascending energy (refused beyond 200 000; count with ``n_minima``)."""
        return self._products([[self.wells(i) for i in range(self.ndim)]], self.n_minima, 0)

    @property
    def saddles(self) -> tuple[KnownPoint, ...]:
        """All index-1 saddles inside the box, by ascending energy (refused beyond 200 000)."""
        choices = [
            [self.barriers(j) if j == i else self.wells(j) for j in range(self.ndim)] for i in range(self.ndim)
        ]
        return self._products(choices, self.n_saddles, 1)

    def _products(self, choices, count: int, index: int) -> tuple[KnownPoint, ...]:
        if count > _MOST_POINTS:
            raise PotentialError(
                f"{count} points are too many to list: use n_minima and n_saddles, wells and barriers"
            )
        points = []
        for factors in choices:
            for combination in itertools.product(*factors):
                x, u = zip(*combination, strict=True)
                points.append(KnownPoint(tuple(x), math.fsum(u), index))
        return tuple(sorted(points, key=lambda point: (point.energy, point.x)))


class Schwefel(SeparableSurface):
    """U = sum_i [418.9829 - x_i sin sqrt|x_i|] on [-500, 500]^D: 7^D minima, the lowest far from the next best.

    With s = sqrt|x| the stationary points solve tan s = -s/2. At x_i = 0 the slope vanishes too, but nothing
    turns there, and the curvature is infinite: the slope on either side is (3/2) sqrt|x|, a trap for anything
    that tests the gradient alone. The derivative is evaluated without dividing by sqrt(0), so that it is 0
    there and not NaN; autograd's second derivative at exactly zero is 0 as well, in place of infinity.

    Args:
        ndim: number of coordinates D.

    Reference: H.-P. Schwefel, *Numerical Optimization of Computer Models* (Wiley, 1981), problem 2.26.

    Example:
        >>> u = Schwefel(ndim=2)
        >>> u.n_minima, u.n_saddles, round(u.minima[0].x[0], 4)
        (49, 98, 420.9687)
    """

    offset = 418.9829
    length_scale = 10.0

    def __init__(self, ndim: int = 2, *, bounded: bool = True, **place):
        COUNT.check("Schwefel", PotentialError, ndim=ndim)
        self.box = ((-500.0, 500.0),) * ndim
        super().__init__(bounded=bounded, **place)

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        away = x != 0
        root = torch.where(away, x, torch.ones_like(x)).abs().sqrt()
        return (self.offset - torch.where(away, x * root.sin(), torch.zeros_like(x))).sum(1)

    def wells(self, i: int) -> list[tuple[float, float]]:
        return self._turning(0)

    def barriers(self, i: int) -> list[tuple[float, float]]:
        return self._turning(1)

    def _turning(self, parity: int) -> list[tuple[float, float]]:
        """The k-th root of tan s = -s/2 lies in ((k + 1/2) pi, (k + 1) pi); wells alternate with barriers."""
        found = []
        for k in range(7):
            s = _root_of_tan(k)
            for sign in (1, -1):
                if (k + (sign < 0)) % 2 == parity:
                    x = sign * s * s
                    found.append((x, self.offset - x * math.sin(s)))
        return sorted(found)


def _root_of_tan(k: int) -> float:
    """The root of sin s + (s/2) cos s in ((k + 1/2) pi, (k + 1) pi), by Newton's method."""
    s = (k + 0.5) * math.pi + math.atan(2 / ((k + 0.75) * math.pi))
    for _ in range(50):
        slope = 1.5 * math.cos(s) - 0.5 * s * math.sin(s)
        s -= (math.sin(s) + 0.5 * s * math.cos(s)) / slope
    return s


class DoubleWell(SeparableSurface):
    """U = sum_i barrier [(x_i/a)^2 - 1]^2 + tilt_i x_i/a: 2^D minima, D 2^(D-1) index-1 saddles, in closed form.

    With t = x/a a coordinate is stationary where t^3 - t + q = 0, q = tilt/(4 barrier); for |q| < 2/sqrt(27)
    its three roots are t_k = (2/sqrt 3) cos[(arccos(-q sqrt(27)/2) - 2 pi k)/3]. The landscape is a hypercube.

    Args:
        ndim: number of coordinates D.
        barrier: height of the barrier without tilt, in units of energy.
        width: the distance a of each well from the barrier.
        tilt: energy by which the right well is raised against the centre, the left lowered; one number or one
            per coordinate (different ones make all 2^D energies distinct).
        bounded: whether the box [-2a, 2a]^D is the domain (by default it only supplies the starts).

    Raises:
        PotentialError: for tilts so strong that a well disappears, or not one per coordinate.

    Example:
        >>> u = DoubleWell(ndim=3, tilt=[0.1, 0.2, 0.4])
        >>> len(u.minima), len(u.saddles), len({round(point.energy, 9) for point in u.minima})
        (8, 12, 8)
    """

    def __init__(
        self,
        ndim: int = 2,
        barrier: float | int = 1.0,
        width: float | int = 1.0,
        tilt: float | int | Sequence[float] = 0.0,
        *,
        bounded: bool = False,
        **place,
    ):
        COUNT.check("DoubleWell", PotentialError, ndim=ndim)
        POSITIVE.check("DoubleWell", PotentialError, barrier=barrier, width=width)
        FINITE.or_several.check("DoubleWell", PotentialError, tilt=tilt)
        tilts = np.full(ndim, float(tilt)) if isinstance(tilt, (int, float)) else np.asarray(tilt, dtype=float)
        if tilts.shape != (ndim,):
            raise PotentialError(f"a double well needs one tilt per coordinate ({ndim}), or one for all")
        steepest = 8 * barrier / math.sqrt(27)
        if (abs(tilts) >= steepest).any():
            raise PotentialError(f"a tilt of {steepest:.4g} or more leaves one well only: use smaller tilts")
        self.barrier, self.width, self.tilt = float(barrier), float(width), tuple(tilts.tolist())
        self.length_scale = 0.5 * self.width
        self.box = ((-2.0 * self.width, 2.0 * self.width),) * ndim
        super().__init__(bounded=bounded, **place)

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        t = x / self.width
        return (self.barrier * (t**2 - 1) ** 2 + x.new_tensor(self.tilt) * t).sum(1)

    def settings(self):
        return {**super().settings(), "barrier": self.barrier, "width": self.width, "tilt": self.tilt}

    def wells(self, i: int) -> list[tuple[float, float]]:
        left, _, right = self._stationary(i)
        return [left, right]

    def barriers(self, i: int) -> list[tuple[float, float]]:
        return [self._stationary(i)[1]]

    def _stationary(self, i: int) -> list[tuple[float, float]]:
        """(x, u) of the left well, the barrier and the right well of coordinate i."""
        q = self.tilt[i] / (4 * self.barrier)
        angle = math.acos(-0.5 * math.sqrt(27) * q)
        roots = sorted(2 / math.sqrt(3) * math.cos((angle - 2 * math.pi * k) / 3) for k in range(3))
        return [(self.width * t, self.barrier * (t * t - 1) ** 2 + self.tilt[i] * t) for t in roots]
