"""Where an eigenvalue of a followed point vanishes: folds by the extended system, the rest by root-finding."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import torch

from torchscape.brief import brief
from torchscape.families.continuation import Continuation, correct
from torchscape.optimise import default_tol
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.projector import Projector
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT

__all__ = ["Bifurcation", "locate_crossing", "locate_fold", "seek_fold", "softest_modes", "spectra"]


@brief
@dataclasses.dataclass(frozen=True)
class Bifurcation:
    """A stationary point with a vanishing Hessian eigenvalue.

    Attributes:
        value: of the control parameter.
        uncertainty: the last correction of ``value``.
        x: coordinates.
        mode: the eigenvector v of the vanishing eigenvalue.
        energy: U there.
        eigenvalue: what is left of it.
        grad_rms: what is left of the gradient.
        slope: v . d(grad U)/dp, not zero at a fold.
        bend: the third derivative of U along v, not zero at a fold.
    """

    value: float
    uncertainty: float
    x: Float[Tensor, "D"]
    mode: Float[Tensor, "D"]
    energy: float
    eigenvalue: float
    grad_rms: float
    slope: float = float("nan")
    bend: float = float("nan")

    def distance_at(self, value: float) -> float:
        """How far along v each branch of a fold is from x at another value: (2 |slope| |dp| / |bend|)^(1/2)."""
        if self.bend == 0.0:
            return float("inf")
        return float((2 * abs(self.slope * (value - self.value) / self.bend)) ** 0.5)


def locate_fold(
    at: Callable[[float], Potential],
    value: float,
    x: Float[Tensor, "D"],
    limits: tuple[float, float],
    *,
    max_steps: int = 40,
) -> Bifurcation | None:
    """The fold next to a stationary point, by Newton's method on the extended system of Moore and Spence.

    The system

        grad U(x; p) = 0,    H(x; p) v = 0,    v . v = 1

    is regular at a fold (quadratic turning point), where H itself is singular. Derivatives of H along v and of
    everything along p are central differences, which slow the convergence a little and leave the solution alone;
    dense, with 2 D + 1 unknowns. Known zero modes are lifted out of the way.

    Args:
        at: the potential at a value of the control parameter.
        value, x: a stationary point near the fold; v starts as its mode of least curvature.
        limits: values that may be asked for; the fold must lie between them.
        max_steps: Newton steps.

    Returns:
        The fold; or None, with a warning that says why, where the iteration does not converge inside ``limits``,
        the solution lies outside the potential's box, or is no fold: the branch only turns where v . d(grad U)/dp
        and the third derivative of U along v both differ from zero. The first vanishes at a pitchfork, the second
        at a cusp. Either counts as zero if its zero lies no farther away than Newton's method is still off.

    Reference: Moore & Spence, SIAM J. Numer. Anal. 17, 567 (1980), doi 10.1137/0717048.

    Example:
        >>> class Cubic(Potential):
        ...     ndim = 1
        ...     def __init__(self, p):
        ...         self.p = p
        ...     def energy(self, x):
        ...         return (x**3 / 3 - self.p * x)[:, 0]
        >>> fold = locate_fold(Cubic, 0.01, torch.tensor([0.1]).double(), (-1.0, 1.0))
        >>> abs(fold.value) < 1e-9, fold.distance_at(0.04)  # x = +- p^(1/2)
        (True, 0.2...)
    """
    COUNT.check("locate_fold", max_steps=max_steps)
    found = seek_fold(at, value, x, limits, max_steps=max_steps)
    if isinstance(found, str):
        warnings.warn(f"no fold: {found}", stacklevel=2)
        return None
    return found


def seek_fold(
    at: Callable[[float], Potential],
    value: float,
    x: Float[Tensor, "D"],
    limits: tuple[float, float],
    *,
    max_steps: int = 40,
) -> Bifurcation | str:
    """:func:`locate_fold`, or the reason why there is none."""
    v = softest_modes(at(value), x[None])[1][0]
    width = abs(limits[1] - limits[0])
    low, high = min(limits), max(limits)
    p, best = value, None
    for _ in range(max_steps):
        system = _Extended.of(at, p, x, v, width, (low, high))
        if system is None:
            break
        dx, dv, dp = system.newton()
        if best is not None and system.residual >= 0.5 * best.residual:
            break
        if system.is_solved():  # and a step or two more, to the rounding error
            best, correction, error = system, abs(dp), dx
        # Within the length over which U changes; p stays where it may be asked for.
        longest = max(float(dx.norm()) / (0.5 * system.length), float(dv.norm()) / 0.5, 1.0)
        p = min(max(p + dp / longest, low), high)
        x, v = x + dx / longest, v + dv / longest
        v = v / v.norm()
    if best is None:
        return f"Newton's method on the extended system does not converge for values from {low:g} to {high:g}"
    bounds = at(best.p).bounds
    if bounds is not None and not bool(bounds.interior(best.x)):
        return f"the solution at {best.p:g} lies outside the potential's box"
    return best.degeneracy(error) or best.bifurcation(correction)


@dataclasses.dataclass(frozen=True)
class _Extended:
    """The extended system at one (x, v, p), with what its Newton step needs."""

    p: float
    x: Float[Tensor, "D"]
    v: Float[Tensor, "D"]
    length: float
    energy: float
    grad: Float[Tensor, "D"]
    h: Float[Tensor, "D D"]
    grad_p: Float[Tensor, "D"]
    hv_p: Float[Tensor, "D"]
    hv_x: Float[Tensor, "D D"]
    hv_xx: Float[Tensor, "D"]

    @classmethod
    def of(
        cls,
        at: Callable[[float], Potential],
        p: float,
        x: Float[Tensor, "D"],
        v: Float[Tensor, "D"],
        width: float,
        limits: tuple[float, float],
    ) -> _Extended | None:
        u = at(p)
        energy, grad = u.energy_and_grad(x[None])
        h = _lifted(u, x[None])
        eta = 1e-4 * u.length_scale
        sides = u.hessian(torch.stack([x + eta * v, x - eta * v]))
        below, above = max(p - 1e-3 * width, limits[0]), min(p + 1e-3 * width, limits[1])
        lower, upper = at(below), at(above)
        grad_p = upper.energy_and_grad(x[None])[1][0] - lower.energy_and_grad(x[None])[1][0]
        hv_p = upper.hvp(x[None], v[None])[0] - lower.hvp(x[None], v[None])[0]
        parts = (grad[0], h[0], sides, grad_p, hv_p)
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            return None
        step = above - below
        return cls(
            p=p,
            x=x,
            v=v,
            length=u.length_scale,
            energy=float(energy),
            grad=u.symmetry.project_out(x[None], grad)[0],
            h=h[0],
            grad_p=grad_p / step,
            hv_p=hv_p / step,
            hv_x=(sides[0] - sides[1]) / (2 * eta),
            hv_xx=(sides[0] - 2 * u.hessian(x[None])[0] + sides[1]) @ v / eta**2,
        )

    @property
    def residual(self) -> float:
        return float(self.grad.norm() + (self.h @ self.v).norm())

    def is_solved(self) -> bool:
        """Whether the gradient is zero to tolerance and H v to that part of what H is made of near by."""
        tol = default_tol(self.x.dtype)
        scale = float(self.h.abs().max()) + self.length * float(self.hv_x.abs().max())
        small = float(self.grad.square().mean().sqrt()) <= tol
        return small and float((self.h @ self.v).norm()) <= 10 * tol * max(scale, tol)

    def newton(self) -> tuple[Tensor, Tensor, float]:
        """The Newton step (dx, dv, dp), of least length where the system is singular."""
        d = len(self.x)
        matrix = self.h.new_zeros(2 * d + 1, 2 * d + 1)
        matrix[:d, :d], matrix[:d, -1] = self.h, self.grad_p
        matrix[d:-1, :d], matrix[d:-1, d:-1], matrix[d:-1, -1] = self.hv_x, self.h, self.hv_p
        matrix[-1, d:-1] = 2 * self.v
        right = torch.cat([self.grad, self.h @ self.v, (self.v @ self.v - 1)[None]])
        step = -torch.linalg.pinv(matrix, rtol=1e-12) @ right
        return step[:d], step[d:-1], float(step[-1])

    def degeneracy(self, error: Float[Tensor, "D"]) -> str | None:
        """Why this is no fold: slope or bend are zero to within the ``error`` of x.

        Where either vanishes the extended system is singular, Newton's method converges slowly and stops at a
        distance from that point, where slope and bend are small but not zero. Both change along v by
        (v . H_p v + w . grad_p) and (v . H_xx[v, v] v + 3 w . H_x[v] v), w = -H^+ H_x[v] v being how v turns.
        """
        bent = self.hv_x @ self.v
        values, vectors = torch.linalg.eigh(self.h)
        rest = values.abs() > values.abs().amin()
        inverse = torch.where(rest, 1 / torch.where(rest, values, 1.0), 0.0)
        turning = -vectors @ (inverse * (vectors.mT @ bent))
        slope, bend = float(self.v @ self.grad_p), float(self.v @ bent)
        slope_rate = float(self.v @ self.hv_p + turning @ self.grad_p)
        bend_rate = float(self.v @ self.hv_xx + 3 * turning @ bent)
        off = 10 * max(abs(float(error @ self.v)), default_tol(self.x.dtype) * self.length)
        if abs(slope) <= off * abs(slope_rate):
            return f"at {self.p:g} an eigenvalue vanishes, but the branch does not turn: a pitchfork or a crossing"
        if abs(bend) <= off * abs(bend_rate):
            return f"at {self.p:g} the third derivative vanishes with the eigenvalue: a cusp"
        return None

    def bifurcation(self, uncertainty: float) -> Bifurcation:
        return Bifurcation(
            value=self.p,
            uncertainty=max(uncertainty, torch.finfo(self.x.dtype).eps * max(abs(self.p), 1e-300)),
            x=self.x,
            mode=self.v,
            energy=self.energy,
            eigenvalue=float(self.v @ self.h @ self.v),
            grad_rms=float(self.grad.square().mean().sqrt()),
            slope=float(self.v @ self.grad_p),
            bend=float(self.v @ self.hv_x @ self.v),
        )


def locate_crossing(
    at: Callable[[float], Potential],
    a: float,
    b: float,
    points: StationaryPoints,
    *,
    between: bool = True,
    options: Continuation | None = None,
) -> Bifurcation | None:
    """Where an eigenvalue of a branch passes through zero while the branch goes on.

    By Brent's method on the eigenvalue number min(index(a), index(b)), the branch being followed by a corrector
    from the straight line between its two ends; or, where the potential may not be asked in between, by linear
    interpolation of the eigenvalue, uncertain by half of the interval.

    Args:
        at: the potential at a value of the control parameter.
        a, b: two values.
        points: the branch at a and at b, two rows.

    Returns:
        None where the eigenvalue does not change its sign, or jumps.
    """
    from scipy.optimize import brentq

    options = options or Continuation()
    tol = 1e2 * torch.finfo(points.x.dtype).eps ** 0.9  # next to a crossing, x is known to the root of this only
    options = dataclasses.replace(options, newton=dataclasses.replace(options.newton, tol=tol))
    number = int(points.index.min())
    best: dict[float, tuple[Tensor, float, Tensor, float, float]] = {}

    def eigenvalue(p: float) -> float:
        t = (p - a) / (b - a)
        x = (1 - t) * points.x[:1] + t * points.x[1:]
        potential = at(p)
        if p not in (a, b):
            corrected = correct(potential, x, points.index[:1], options)
            near = (corrected.x - x).norm(dim=1) <= options.max_jump * potential.length_scale
            x = torch.where(near[:, None], corrected.x, x)
        values, vectors = spectra(potential, x)
        energy, grad = potential.energy_and_grad(x)
        rms = float(grad.square().mean().sqrt())
        best[p] = x[0], float(values[0, number]), vectors[0, :, number], float(energy), rms
        return float(values[0, number])

    low, high = eigenvalue(a), eigenvalue(b)
    if not low * high < 0.0:
        return None
    if not between:
        t = low / (low - high)
        x, mode = (1 - t) * points.x[0] + t * points.x[1], best[a][2]
        energy = (1 - t) * float(points.energy[0]) + t * float(points.energy[1])
        return Bifurcation(a + t * (b - a), 0.5 * abs(b - a), x, mode, energy, float("nan"), float("nan"))
    xtol = 1e-9 * abs(b - a)
    root = float(brentq(eigenvalue, a, b, xtol=xtol, rtol=8.9e-16, maxiter=60))
    if root not in best:
        eigenvalue(root)
    x, left, mode, energy, rms = best[root]
    if abs(left) > 1e-3 * (high - low if high > low else low - high):  # a jump between two branches
        return None
    unsure = tol**0.5 * abs((b - a) / (high - low))
    return Bifurcation(root, max(2 * xtol, unsure), x, mode, energy, left, rms)


def spectra(potential: Potential, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D D"]]:
    """Hessian eigenvalues, ascending, and eigenvectors in columns; known zero modes stand at the upper end."""
    values, vectors = torch.linalg.eigh(_lifted(potential, x))
    return values, vectors


def softest_modes(
    potential: Potential, x: Float[Tensor, "B D"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
    """The Hessian eigenvalue nearest to zero, known zero modes aside, and its eigenvector."""
    values, vectors = spectra(potential, x)
    at = values.abs().argmin(1, keepdim=True)
    return values.gather(1, at)[:, 0], vectors.gather(2, at[:, None].expand(-1, x.shape[1], 1))[:, :, 0]


def _lifted(potential: Potential, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
    """Hessians whose known zero modes have a large eigenvalue instead of zero."""
    return Projector.at(potential, x).shifted(potential.hessian(x))[0]
