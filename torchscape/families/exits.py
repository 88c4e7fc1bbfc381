"""Where a branch reaches a wall of the box: coordinate held there, control parameter free."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from torchscape.brief import brief
from torchscape.potentials.base import Potential
from torchscape.types import Float, Tensor

__all__ = ["Exit", "locate_exit"]

_STAGES = 12  # on the way to the wall
_STEPS = 25  # of Newton's method in each
_WALLS = 3  # that are tried


@brief
@dataclasses.dataclass(frozen=True)
class Exit:
    """A stationary point on a wall of the box.

    Attributes:
        value: of the control parameter.
        uncertainty: the last correction of ``value``.
        x: coordinates.
        energy: U there.
        coordinate: which one is at its bound.
    """

    value: float
    uncertainty: float
    x: Float[Tensor, "D"]
    energy: float
    coordinate: int


def locate_exit(at: Callable[[float], Potential], value: float, x: Float[Tensor, "D"], stop: float) -> Exit | None:
    """Where the branch through x leaves the box on the way from ``value`` to ``stop``.

    Coordinate k takes the place of the control parameter: grad U(x; p) = 0 is solved for p and the other
    coordinates while x_k goes to its bound in stages. That works however fast x_k runs, as where it is the
    logarithm of something that vanishes: d x_k / dp is then infinite just beyond the wall, the curvature along
    x_k fades, and no step in p comes close. Walls are tried in the order in which the tangent of the branch meets
    them.

    Args:
        at: the potential at a value of the control parameter, with bounds.
        value, x: a stationary point inside the box.
        stop: the value up to which the branch may be sought.

    Returns:
        None where the branch turns back, reaches no wall before ``stop``, or the iteration does not converge.
    """
    u = at(value)
    bounds = u.bounds
    assert bounds is not None
    width = stop - value
    hessian, along = _derivatives(at, value, x, width, stop)
    if not bool(torch.isfinite(hessian).all() & torch.isfinite(along).all()):
        return None
    tangent = -torch.linalg.pinv(hessian, rtol=1e-12) @ along * (1.0 if width > 0 else -1.0)
    goal = torch.where(tangent > 0, bounds.upper, bounds.lower)
    time = torch.where(tangent == 0, torch.inf, (goal - x) / tangent)
    for k in time.argsort()[:_WALLS].tolist():
        if bool(torch.isfinite(time[k])):
            found = _to_wall(at, value, x, k, float(goal[k]), stop)
            if found is not None:
                return found
    return None


def _to_wall(
    at: Callable[[float], Potential], value: float, x: Tensor, k: int, wall: float, stop: float
) -> Exit | None:
    """Stages of x_k from where it is to its bound, each predicted from the two before."""
    way = 1.0 if stop > value else -1.0
    here = _Held(value, x, 0.0)
    before: _Held | None = None
    for stage in torch.linspace(float(x[k]), wall, _STAGES + 1, dtype=torch.float64)[1:].tolist():
        ahead = stage - float(here.x[k])
        p, guess = here.p, here.x.clone()
        if before is not None:
            rate = ahead / (float(here.x[k]) - float(before.x[k]))
            p, guess = p + rate * (here.p - before.p), guess + rate * (here.x - before.x)
        guess[k] = stage
        found = _solved(at, p, guess, k, (value, stop))
        if found is None or way * (found.p - here.p) < -1e-9 * abs(stop - value):
            return None
        before, here = here, found
    u = at(here.p)
    if u.bounds is None or not bool((u.bounds.clamp(here.x) == here.x).all()):
        return None
    return Exit(here.p, here.correction, here.x, float(u.energy(here.x[None])), k)


@dataclasses.dataclass(frozen=True)
class _Held:
    """A stationary point with one coordinate given, the last correction of p, and p."""

    p: float
    x: Float[Tensor, "D"]
    correction: float


def _solved(
    at: Callable[[float], Potential], p: float, x: Tensor, k: int, limits: tuple[float, float]
) -> _Held | None:
    """Newton's method in p and all coordinates but k, until steps no longer become smaller."""
    low, high = min(limits), max(limits)
    width = limits[1] - limits[0]
    length = at(limits[0]).length_scale
    others = torch.arange(len(x), device=x.device) != k
    last = float("inf")
    for _ in range(_STEPS):
        p = min(max(p, low), high)
        hessian, along = _derivatives(at, p, x, width, limits[1])
        grad = at(p).energy_and_grad(x[None])[1][0]
        matrix = torch.cat([hessian[:, others], along[:, None]], 1)
        if not bool(torch.isfinite(matrix).all() & torch.isfinite(grad).all()):
            return None
        step = -torch.linalg.pinv(matrix, rtol=1e-13) @ grad
        dx, dp = step[:-1], float(step[-1])
        size = max(float(dx.norm()) / length, abs(dp / width))
        if size <= 1e-6 and size >= 0.5 * last:
            break
        shrink = 1.0 / max(1.0, 2 * float(dx.norm()) / length, 2 * abs(dp / width))
        x = x.clone()
        x[others] += shrink * dx
        p, last = p + shrink * dp, size
    inside = low - 1e-9 * abs(width) <= p <= high + 1e-9 * abs(width)
    least = torch.finfo(x.dtype).eps * max(abs(p), 1e-300)
    return _Held(p, x, max(abs(dp), least)) if last <= 1e-5 and inside else None


def _derivatives(
    at: Callable[[float], Potential], p: float, x: Tensor, width: float, stop: float
) -> tuple[Tensor, Tensor]:
    """The Hessian, and d(grad U)/dp by differences that do not go beyond ``stop``."""
    h = 1e-4 * width
    below, above = p - h, p + h
    if (above - stop) * width > 0:
        above = p
    ends = [at(q).energy_and_grad(x[None])[1][0] for q in (below, above)]
    return at(p).hessian(x[None])[0], (ends[1] - ends[0]) / (above - below)
