"""Higher catastrophes: cusps in two control parameters, swallowtails in three, by Newton's method."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence

import torch

from torchscape.brief import brief
from torchscape.errors import OptionError
from torchscape.families.bifurcations import softest_modes
from torchscape.families.reduction import Reduced, settled
from torchscape.optimise import default_tol
from torchscape.potentials.base import Potential
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, FINITE

__all__ = ["Catastrophe", "locate_cusp", "locate_swallowtail"]

_FLAT = 1e-6  # of what derivatives of that order are here: less is nothing


@brief
@dataclasses.dataclass(frozen=True)
class Catastrophe:
    """A stationary point whose energy along its softest mode is flat to third order (cusp) or fourth
    (swallowtail).

    Along the mode, with all other directions relaxed, U is g(s) = g_1 s + g_2 s^2/2 + g_3 s^3/6 + ...

    Attributes:
        kind: "cusp" or "swallowtail".
        values: of the control parameters.
        uncertainty: the largest of their last corrections.
        x: coordinates.
        mode: the eigenvector v of the vanishing eigenvalue.
        energy: U there.
        grad_rms: what is left of the gradient.
        derivatives: g_2, g_3, ..., the last of them not zero: g_4 of a cusp (positive where a minimum splits in
            two, negative for the dual cusp), g_5 of a swallowtail.
        unfolding: how the parameters change the others, row i the derivatives of g_(i+1): a regular matrix, so
            that they unfold all of it [K K].
    """

    kind: str
    values: tuple[float, ...]
    uncertainty: float
    x: Float[Tensor, "D"]
    mode: Float[Tensor, "D"]
    energy: float
    grad_rms: float
    derivatives: tuple[float, ...]
    unfolding: Float[Tensor, "K K"]


At = Callable[..., Potential]
Limits = Sequence[tuple[float, float]]


def locate_cusp(
    at: At, values: Sequence[float], x: Float[Tensor, "D"], limits: Limits, *, max_steps: int = 40
) -> Catastrophe | None:
    """The cusp next to a stationary point, in two control parameters: where two fold curves meet.

    With all directions but the softest, c, relaxed, U is a function g(s) of one coordinate s = c . x: the
    reduction of Lyapunov and Schmidt. Newton's method solves

        g_1(s; p) = g_2(s; p) = g_3(s; p) = 0

    for s and both parameters. Along the relaxed curve g_1 is the gradient along c, g_2 is v . H v and g_3 is
    U_vvv,
    where v is its tangent: H v + tau c = 0, c . v = 1. Derivatives along v are differences of sixth order of
    Hessian-vector products, those by the parameters central differences. Dense Hessians; known zero modes are
    lifted out of the way.

    Args:
        at: the potential at values of the two parameters, ``at(p, q)``.
        values, x: a stationary point near the cusp, or any point from where Newton's method gets there.
        limits: (low, high) of each parameter, between which the cusp must lie.
        max_steps: Newton steps.

    Returns:
        The cusp; or None, with a warning that says why, where the iteration does not converge inside ``limits``,
        the solution lies outside the potential's box, or is no cusp: its fourth derivative vanishes (a
        swallowtail or more), or the parameters do not unfold it.

    Reference: W. Govaerts, Numerical Methods for Bifurcations of Dynamical Equilibria (2000), doi
    10.1137/1.9780898719543, for reduction and bordered systems; T. Poston and I. Stewart, Catastrophe Theory and
    its Applications (1978), for the singularities.

    Example:
        >>> class Quartic(Potential):
        ...     ndim = 1
        ...     def __init__(self, a, b):
        ...         self.a, self.b = a, b
        ...     def energy(self, x):
        ...         return (x**4 + self.a * x**2 + self.b * x)[:, 0]
        >>> cusp = locate_cusp(Quartic, (-0.3, 0.1), torch.tensor([0.4]).double(), [(-1.0, 1.0), (-1.0, 1.0)])
        >>> max(map(abs, cusp.values)) < 1e-9, round(cusp.derivatives[-1], 6)
        (True, 24.0)
    """
    return _located("cusp", at, values, x, limits, max_steps)


def locate_swallowtail(
    at: At, values: Sequence[float], x: Float[Tensor, "D"], limits: Limits, *, max_steps: int = 40
) -> Catastrophe | None:
    """The swallowtail next to a stationary point, in three control parameters: where two lines of cusps meet.

    As :func:`locate_cusp`, with one equation more: the fourth derivative along the relaxed curve,

        g_4 = U_vvvv + 3 U_vv . w = 0,    H w + mu c = -U_vv,    c . w = 0,

    which is not U_vvvv: what v is coupled to gives way. (``U_vv`` is the vector of third derivatives with two of
    them along v.)

    Args:
        at: the potential at values of the three parameters, ``at(p, q, r)``.
        values, x, limits, max_steps: as of :func:`locate_cusp`.

    Returns:
        The swallowtail; or None, with a warning that says why.

    Example:
        >>> class Quintic(Potential):
        ...     ndim = 1
        ...     def __init__(self, a, b, c):
        ...         self.p = a, b, c
        ...     def energy(self, x):
        ...         a, b, c = self.p
        ...         return (x**5 + a * x**3 + b * x**2 + c * x)[:, 0]
        >>> start = torch.tensor([0.2]).double()
        >>> tail = locate_swallowtail(Quintic, (0.1, -0.1, 0.05), start, [(-1.0, 1.0)] * 3)
        >>> max(map(abs, tail.values)) < 1e-9, round(tail.derivatives[-1], 3)
        (True, 120.0)
    """
    return _located("swallowtail", at, values, x, limits, max_steps)


def _located(
    kind: str, at: At, values: Sequence[float], x: Float[Tensor, "D"], limits: Limits, max_steps: int
) -> Catastrophe | None:
    where, n = f"locate_{kind}", 2 if kind == "cusp" else 3
    COUNT.check(where, max_steps=max_steps)
    FINITE.or_several.check(where, values=values)
    if len(values) != n or len(limits) != n or not all(low < high for low, high in limits):
        raise OptionError(f"{where}: give {n} values, and {n} limits (low, high) with low < high")
    found = _seek(kind, at, torch.tensor(values, dtype=torch.float64), x, torch.tensor(limits).double(), max_steps)
    if isinstance(found, str):
        warnings.warn(f"no {kind}: {found}", stacklevel=3)
        return None
    return found


def _seek(
    kind: str, at: At, p: Float[Tensor, "K"], x: Float[Tensor, "D"], limits: Float[Tensor, "K 2"], max_steps: int
) -> Catastrophe | str:
    """The catastrophe, or the reason why there is none."""
    length = at(*p.tolist()).length_scale
    c, width = softest_modes(at(*p.tolist()), x[None])[1][0], limits[:, 1] - limits[:, 0]
    best = None
    for _ in range(max_steps):
        system = _System.of(at, p, x, c, limits)
        if system is None or (best is not None and system.residual >= 0.5 * best.residual):
            break
        step = system.newton()
        if system.is_solved():  # and a step or two more, to the rounding error
            best, error = system, step
        longest = max(abs(float(step[0])) / (0.25 * length), float((step[1:] / width).abs().max()) / 0.5, 1.0)
        x = system.at.x + float(step[0]) / longest * system.at.v
        c = system.at.v / system.at.v.norm()
        p = (p + step[1:] / longest).clamp(limits[:, 0], limits[:, 1])
    if best is None:
        inside = ", ".join(f"{low:g} to {high:g}" for low, high in limits.tolist())
        return f"Newton's method does not converge for values from {inside}"
    u = at(*best.p.tolist())
    if u.bounds is not None and not bool(u.bounds.interior(best.at.x)):
        return f"the solution at {best.place} lies outside the potential's box"
    return best.degeneracy(u, float(error[0])) or best.catastrophe(kind, float(error[1:].abs().max()))


@dataclasses.dataclass(frozen=True)
class _System:
    """g_1, g_2, ... of K parameters at one (s, p), with what a Newton step needs.

    Attributes:
        p: values of the parameters, on the host.
        at: the reduction there.
        by_p: derivatives of g_1 ... g_(K + 1) by the parameters, s fixed.
        sizes: what each would be if U had no reason to be flat.
    """

    p: Float[Tensor, "K"]
    at: Reduced
    by_p: Float[Tensor, "N K"]
    sizes: Float[Tensor, "N"]
    length: float

    @classmethod
    def of(
        cls,
        at: At,
        p: Float[Tensor, "K"],
        x: Float[Tensor, "D"],
        c: Float[Tensor, "D"],
        limits: Float[Tensor, "K 2"],
    ) -> _System | None:
        u, n = at(*p.tolist()), len(p) + 1
        c = settled(u, x, c)
        here = Reduced.at(u, x, c)
        if here is None:
            return None
        by_p = torch.empty(n, len(p), dtype=torch.float64)
        for k, (low, high) in enumerate(limits.tolist()):
            below, above, reach = p.clone(), p.clone(), 1e-3 * (high - low)
            below[k], above[k] = max(float(p[k]) - reach, low), min(float(p[k]) + reach, high)
            ends = [Reduced.at(at(*one.tolist()), here.x, c) for one in (above, below)]
            if ends[0] is None or ends[1] is None:
                return None
            by_p[:, k] = (ends[0].g[:n] - ends[1].g[:n]) / float(above[k] - below[k])
        length = u.length_scale
        sizes = here.size * length ** (1.0 - torch.arange(n, dtype=torch.float64))
        finite = bool(torch.isfinite(here.g).all() & torch.isfinite(by_p).all())
        return cls(p, here, by_p, sizes, length) if finite else None

    @property
    def place(self) -> str:
        return ", ".join(f"{value:g}" for value in self.p.tolist())

    @property
    def residual(self) -> float:
        """What is left of the equations, in units of what it could be."""
        return float((self.at.g[: len(self.sizes)] / self.sizes).abs().sum())

    def is_solved(self) -> bool:
        return self.residual <= 1e2 * default_tol(self.at.x.dtype)

    def newton(self) -> Float[Tensor, "N"]:
        """The Newton step (ds, dp), of least length where the system is singular."""
        n = len(self.sizes)
        matrix = torch.cat([self.at.g[1 : n + 1, None], self.by_p], 1)
        step: Float[Tensor, "N"] = -torch.linalg.pinv(matrix, rtol=1e-12) @ self.at.g[:n]
        return step

    def degeneracy(self, u: Potential, error: float) -> str | None:
        """Why this is none of its kind: its first derivative that must not vanish does, or the parameters do not
        unfold it. A derivative counts as zero, too, if its zero lies no farther away than Newton's method, which
        converges slowly there, is still off (the ``error`` of s)."""
        order = len(self.p) + 2
        last, size = abs(float(self.at.g[order - 1])), self.at.size * self.length ** (2.0 - order)
        eta, c = 0.05 * self.length, self.at.v / self.at.v.norm()
        sides = [Reduced.at(u, self.at.x + sign * eta * c, c) for sign in (1, -1)]
        rate = 0.0
        if sides[0] is not None and sides[1] is not None:
            rate = float(sides[0].g[order - 1] - sides[1].g[order - 1]) / (2 * eta)
        off = 10 * max(abs(error), default_tol(self.at.x.dtype) * self.length)
        if last <= max(1e2 * _FLAT * size, off * abs(rate)):
            more = "a swallowtail or more" if order == 4 else "a butterfly or more"
            return f"at {self.place} the derivative of order {order} vanishes, too: {more}"
        unfolding = self.by_p[: len(self.p)]
        rows = unfolding.norm(dim=1, keepdim=True)
        if bool((rows == 0).any()) or float(torch.linalg.svdvals(unfolding / rows)[-1]) < _FLAT:
            return f"at {self.place} the parameters do not unfold it: choose others"
        return None

    def catastrophe(self, kind: str, uncertainty: float) -> Catastrophe:
        eps = torch.finfo(self.at.x.dtype).eps
        return Catastrophe(
            kind=kind,
            values=tuple(self.p.tolist()),
            uncertainty=max(uncertainty, eps * float(self.p.abs().max())),
            x=self.at.x,
            mode=self.at.v / self.at.v.norm(),
            energy=self.at.energy,
            grad_rms=self.at.grad_rms,
            derivatives=tuple(self.at.g[1 : len(self.p) + 2].tolist()),
            unfolding=self.by_p[: len(self.p)],
        )
