"""Surfaces given by a formula, with their stationary points declared: what everything else is tested against."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import PotentialError
from torchscape.potentials.base import Potential
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.checks import available_device, available_dtype
from torchscape.types import Float, Tensor
from torchscape.validation import FINITE, Range

__all__ = [
    "AnalyticSurface",
    "Himmelblau",
    "KnownPoint",
    "MuellerBrown",
    "Quadratic",
    "Rosenbrock",
    "SixHumpCamel",
]


@brief
@dataclasses.dataclass(frozen=True)
class KnownPoint:
    """A stationary point known beforehand: coordinates (None where only the energy is known), energy, index."""

    x: tuple[float, ...] | None
    energy: float
    index: int


class AnalyticSurface(Potential):
    """A surface that declares its ``minima`` and ``saddles`` (index 1), each by ascending energy.

    Args:
        bounded: whether the box in which the declaration is complete is also the domain of the potential.
        dtype, device: of the points.

    Attributes:
        box: (low, high) per coordinate; starting points are drawn here, bounded or not.
    """

    box: Sequence[tuple[float, float]]

    def __init__(
        self, *, bounded: bool = True, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ):
        self.dtype, self.device = available_dtype(dtype), available_device(device)
        self._box = Bounds.of(self.box, dtype=dtype, device=self.device)
        self.ndim = len(self._box.lower)
        self.bounds = self._box if bounded else None

    @property
    def minima(self) -> tuple[KnownPoint, ...]:
        """The minima inside the box."""
        raise NotImplementedError

    @property
    def saddles(self) -> tuple[KnownPoint, ...]:
        """The index-1 saddles inside the box."""
        raise NotImplementedError

    def settings(self):
        box = None if self.bounds is None else [list(map(float, side)) for side in self.box]
        return {"ndim": self.ndim, "bounds": box}

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """``n`` points drawn uniformly from the box."""
        u = random.uniform(random.keys(seed, n, self.device), self.ndim, self.dtype)
        return self._box.lower + u * (self._box.upper - self._box.lower)


class _Tabulated(AnalyticSurface):
    """A surface whose stationary points were solved for once, in 30-digit arithmetic."""

    known: ClassVar[tuple[KnownPoint, ...]]

    @property
    def minima(self) -> tuple[KnownPoint, ...]:
        return _ascending(point for point in self.known if point.index == 0)

    @property
    def saddles(self) -> tuple[KnownPoint, ...]:
        return _ascending(point for point in self.known if point.index == 1)


def _ascending(points) -> tuple[KnownPoint, ...]:
    return tuple(sorted(points, key=lambda point: (point.energy, point.x)))


class Himmelblau(_Tabulated):
    """U = (x^2 + y - 11)^2 + (x + y^2 - 7)^2 on [-6, 6]^2: four minima of energy zero, in a ring of four saddles.

    Reference: D. M. Himmelblau, *Applied Nonlinear Programming* (McGraw-Hill, 1972).

    Example:
        >>> u = Himmelblau()
        >>> u.energy(torch.tensor([[3.0, 2.0]], dtype=torch.float64)).item(), len(u.minima), len(u.saddles)
        (0.0, 4, 4)
    """

    box = ((-6.0, 6.0), (-6.0, 6.0))
    length_scale = 1.0
    known = (
        KnownPoint((3.0, 2.0), 0.0, 0),
        KnownPoint((3.5844283403304917, -1.8481265269644036), 0.0, 0),
        KnownPoint((-3.7793102533777469, -3.2831859912861694), 0.0, 0),
        KnownPoint((-2.8051180869527449, 3.131312518250573), 0.0, 0),
        KnownPoint((3.3851541836070209, 0.073851879837749288), 13.31192627040559, 1),
        KnownPoint((0.086677504555396352, 2.8842547011747761), 67.71915008752614, 1),
        KnownPoint((-3.0730257507643896, -0.081353044287967512), 104.01516291755811, 1),
        KnownPoint((-0.12796134673068007, -1.9537149802445764), 178.33723920192746, 1),
    )

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        x, y = x.unbind(1)
        return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


class MuellerBrown(_Tabulated):
    """U = sum_k A_k exp[a_k (x - X_k)^2 + b_k (x - X_k)(y - Y_k) + c_k (y - Y_k)^2]: three minima, two saddles.

    Reference: K. Mueller and L. D. Brown, Theor. Chim. Acta 53, 75 (1979), doi 10.1007/BF00547608.

    Example:
        >>> [round(point.energy, 4) for point in MuellerBrown().minima + MuellerBrown().saddles]
        [-146.6995, -108.1667, -80.7678, -72.2489, -40.6648]
    """

    box = ((-1.5, 1.2), (-0.2, 2.0))
    length_scale = 0.2
    known = (
        KnownPoint((-0.55822363463302428, 1.4417258418046687), -146.69951720995401, 0),
        KnownPoint((0.62349940493087651, 0.028037758528685666), -108.16672411685235, 0),
        KnownPoint((-0.050010822998206058, 0.46669410487197209), -80.767818129659028, 0),
        KnownPoint((0.21248658200066201, 0.29298832510736777), -72.248940112325212, 1),
        KnownPoint((-0.8220015587327321, 0.62431280281487136), -40.664843508657404, 1),
    )
    # One row per Gaussian: A, a, b, c, X, Y.
    _terms = (
        (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
        (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
        (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
        (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
    )

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        height, a, b, c, at_x, at_y = x.new_tensor(self._terms).T
        dx, dy = x[:, :1] - at_x, x[:, 1:] - at_y
        return (height * torch.exp(a * dx**2 + b * dx * dy + c * dy**2)).sum(1)


class SixHumpCamel(_Tabulated):
    """U = (4 - 2.1 x^2 + x^4/3) x^2 + x y + 4 (y^2 - 1) y^2 on [-3, 3] x [-2, 2]: six minima in three pairs.

    Reference: L. C. W. Dixon and G. P. Szego, *Towards Global Optimisation 2* (North-Holland, 1978), p. 97.

    Example:
        >>> sorted({round(point.energy, 6) for point in SixHumpCamel().minima})
        [-1.031628, -0.215464, 2.10425]
    """

    box = ((-3.0, 3.0), (-2.0, 2.0))
    length_scale = 0.3
    known = (
        KnownPoint((0.089842013100318062, -0.71265640302073963), -1.0316284534898774, 0),
        KnownPoint((-0.089842013100318062, 0.71265640302073963), -1.0316284534898774, 0),
        KnownPoint((1.7036067149699808, -0.79608356867262512), -0.21546382438371764, 0),
        KnownPoint((-1.7036067149699808, 0.79608356867262512), -0.21546382438371764, 0),
        KnownPoint((1.6071047529201972, 0.56865145488413137), 2.1042503103112583, 0),
        KnownPoint((-1.6071047529201972, -0.56865145488413137), 2.1042503103112583, 0),
        KnownPoint((0.0, 0.0), 0.0, 1),
        KnownPoint((1.1092053368047864, -0.76826809250953984), 0.54371860097818514, 1),
        KnownPoint((-1.1092053368047864, 0.76826809250953984), 0.54371860097818514, 1),
        KnownPoint((1.6380679841897786, 0.22867406904439407), 2.2293571975307147, 1),
        KnownPoint((-1.6380679841897786, -0.22867406904439407), 2.2293571975307147, 1),
        KnownPoint((1.2960702671671092, 0.6050843880386585), 2.2294708180298599, 1),
        KnownPoint((-1.2960702671671092, -0.6050843880386585), 2.2294708180298599, 1),
    )

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        x, y = x.unbind(1)
        return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + 4 * (y**2 - 1) * y**2


class Rosenbrock(AnalyticSurface):
    """U = sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2: a long bent valley that ends at x = (1, ..., 1).

    One minimum in two and three dimensions, two from four to thirty: the second lies near (-1, 1, ..., 1).
    The saddle between the two is declared as well.

    Args:
        ndim: number of coordinates D, at least 2.
        bounded: whether the box [-2.048, 2.048]^D is the domain (by default it only supplies the starts).

    Raises:
        PotentialError: for fewer than two coordinates.

    Reference: H. H. Rosenbrock, Comput. J. 3, 175 (1960), doi 10.1093/comjnl/3.3.175; the second minimum:
    Y.-W. Shang and Y.-H. Qiu, Evol. Comput. 14, 119 (2006), doi 10.1162/evco.2006.14.1.119.

    Example:
        >>> [round(point.energy, 4) for point in Rosenbrock(ndim=4).minima]
        [0.0, 3.7014]
    """

    length_scale = 0.3

    def __init__(self, ndim: int = 2, *, bounded: bool = False, **place):
        Range(low=2, whole=True).check("Rosenbrock", PotentialError, ndim=ndim)
        self.box = ((-2.048, 2.048),) * ndim
        super().__init__(bounded=bounded, **place)

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        here, after = x[:, :-1], x[:, 1:]
        return (100 * (after - here**2) ** 2 + (1 - here) ** 2).sum(1)

    @property
    def minima(self) -> tuple[KnownPoint, ...]:
        best = KnownPoint((1.0,) * self.ndim, 0.0, 0)
        if not 4 <= self.ndim <= 30:
            return (best,)
        return best, self._newton(
            [-0.78, 0.61, 0.38, 0.15] if self.ndim == 4 else [-1.0] + [1.0] * (self.ndim - 1)
        )

    @property
    def saddles(self) -> tuple[KnownPoint, ...]:
        if not 4 <= self.ndim <= 30:
            return ()
        if self.ndim == 4:
            return (self._newton([-0.656, 0.443, 0.204, 0.042]),)
        head = [-0.5554, 0.3225, 0.1152, 0.0235, 0.0107, 0.0102][: self.ndim - 1]
        middle = [0.01] * (self.ndim - 1 - len(head))
        return (self._newton([*head, *middle, (head + middle)[-1] ** 2]),)

    def _newton(self, start: list[float]) -> KnownPoint:
        """The stationary point that Newton's method reaches, in float64 whatever the dtype of the surface."""
        x = torch.tensor([start], dtype=torch.float64)
        for _ in range(100):
            step = torch.linalg.solve(self.hessian(x), self.energy_and_grad(x)[1])
            x = x - step
            if float(step.norm()) < 1e-13:
                break
        index = int((torch.linalg.eigvalsh(self.hessian(x)) < 0).sum())
        return KnownPoint(tuple(x[0].tolist()), float(self.energy(x)), index)


class Quadratic(AnalyticSurface):
    """U = 1/2 sum_i mu_i y_i^2 with y = Q^T (x - centre): one minimum, and every sampler's first test.

    Args:
        eigenvalues: the curvatures mu, positive for a minimum.
        axes: their eigenvectors as the columns of an orthogonal matrix Q; the coordinate axes by default.
        centre: where the minimum lies; the origin by default.

    Raises:
        PotentialError: if ``axes`` is not orthogonal, or sizes differ.

    Example:
        >>> u = Quadratic([1.0, 100.0])
        >>> u.hessian(torch.zeros(1, 2, dtype=torch.float64))[0].tolist()
        [[1.0, 0.0], [0.0, 100.0]]
    """

    def __init__(self, eigenvalues: Sequence[float], axes=None, centre: Sequence[float] | None = None, **place):
        mu = np.asarray(eigenvalues, dtype=float)
        q = np.eye(len(mu)) if axes is None else np.asarray(axes, dtype=float)
        at = np.zeros(len(mu)) if centre is None else np.asarray(centre, dtype=float)
        FINITE.or_several.check("Quadratic", PotentialError, eigenvalues=mu, centre=at)
        if q.shape != (len(mu), len(mu)) or at.shape != mu.shape or not np.allclose(q.T @ q, np.eye(len(mu))):
            raise PotentialError(f"{len(mu)} eigenvalues need an orthogonal {len(mu)} x {len(mu)} matrix of axes")
        self.box = tuple((c - 3.0, c + 3.0) for c in at.tolist())
        super().__init__(bounded=False, **place)
        self._arrays = {"eigenvalues": mu, "axes": q, "centre": at}
        self._mu, self._axes, self._centre = (
            torch.as_tensor(value, dtype=self.dtype, device=self.device) for value in (mu, q, at)
        )

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return 0.5 * (self._mu * ((x - self._centre) @ self._axes) ** 2).sum(1)

    def settings(self):
        return {**super().settings(), **self._arrays}

    @property
    def minima(self) -> tuple[KnownPoint, ...]:
        return self._only(0)

    @property
    def saddles(self) -> tuple[KnownPoint, ...]:
        return self._only(1)

    def _only(self, index: int) -> tuple[KnownPoint, ...]:
        mu = self._arrays["eigenvalues"]
        if (mu == 0).any() or int((mu < 0).sum()) != index:
            return ()
        return (KnownPoint(tuple(self._arrays["centre"].tolist()), 0.0, index),)
