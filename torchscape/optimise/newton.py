"""The last digits: Newton steps on the gradient, where the energy can no longer tell two points apart."""

from __future__ import annotations

import dataclasses

import torch

from torchscape import stopwatch
from torchscape.devices import HOST
from torchscape.even import even_bmv
from torchscape.memory import HESSIANS, in_parts, limits_of, rows_that_fit
from torchscape.numerics import DENSE_STEPS
from torchscape.optimise.conjugate import conjugate_gradients
from torchscape.optimise.rows import put_rows
from torchscape.optimise.termination import default_tol
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.transfer import moved
from torchscape.types import Bool, Float, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Newton", "conjugate_step", "free_gradient", "polish"]


@dataclasses.dataclass(frozen=True)
class Newton:
    """Newton's method on grad U = 0, dense for few coordinates and by conjugate gradients beyond.

    Each step solves H s = -g, with |mu| in place of every eigenvalue mu in the dense case so that it still goes
    downhill, known zero modes left out and coordinates on a wall of the box held; it is taken if the RMS gradient
    falls and the energy does not rise beyond its rounding. A line search sees rounding error once the decrease
    g.s/2 is below it, at an RMS gradient of about sqrt(eps |U| mu / D); Newton's method only looks at the gradient
    and doubles the digits with each step (Nocedal & Wright, theorem 3.5; algorithm 7.1 for the iterative case).

    Attributes:
        max_steps: steps at most.
        max_step: longest step, in units of ``length_scale``; a row that wants more is not close enough.
        dense_limit: coordinates up to which Hessians are formed.
        cg_steps: conjugate-gradient iterations per step at most.
    """

    max_steps: int = 12
    max_step: float = 0.3
    dense_limit: int = DENSE_STEPS
    cg_steps: int = 200

    def __post_init__(self) -> None:
        check_fields(
            self,
            max_steps=COUNT_OR_ZERO,
            max_step=POSITIVE.or_infinite,
            dense_limit=COUNT_OR_ZERO,
            cg_steps=COUNT,
        )


def polish(
    potential: Potential, points: StationaryPoints, *, tol: float | None = None, options: Newton | None = None
) -> StationaryPoints:
    """Points that are nearly minima, brought to an RMS gradient of ``tol`` by Newton steps.

    A row for which no step helps is handed back as it was. Every Hessian is charged as D evaluations, every
    Hessian-vector product as one.

    Args:
        potential: U; its dtype decides (pass a float64 potential and ``points`` from float32 to gain digits).
        points: candidates with their RMS gradients.
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.

    Example:
        >>> from torchscape.optimise import relax
        >>> class Quartic(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return 1e6 + ((x**2 - 1) ** 2).sum(1)
        >>> rough = relax(Quartic(), torch.full((1, 2), 0.8).double(), tol=1e-3)
        >>> polish(Quartic(), rough, tol=1e-12).grad_rms.item() < 1e-12
        True
    """
    NOT_NEGATIVE.or_none.check("polish", tol=tol)
    options = options or Newton()
    x = points.x.to(potential.device, potential.dtype)
    limit = default_tol(x.dtype, potential) if tol is None else tol
    energy, grad = potential.energy_and_grad(x)
    current = points.replace(x=x, energy=energy, grad_rms=_rms(potential, x, grad))
    active = torch.nonzero(torch.isfinite(current.grad_rms) & (current.grad_rms > limit))[:, 0]
    for _ in range(options.max_steps):
        if len(active) == 0:
            break
        stopwatch.check()
        fresh, improved = _step(potential, current[active], options)
        # One question a step: which rows have moved, and which of them shall move again.
        took, goes_on = torch.stack([improved, improved & (fresh.grad_rms > limit)]).to(HOST)
        rows, again = moved((torch.nonzero(took)[:, 0], torch.nonzero(goes_on)[:, 0]), x.device)
        current = put_rows(current, active[rows], fresh[rows])
        active = active[again]
    converged = current.grad_rms <= limit
    return current.replace(status=torch.where(converged, int(Status.CONVERGED), current.status))


def _step(
    potential: Potential, rows: StationaryPoints, options: Newton
) -> tuple[StationaryPoints, Bool[Tensor, "B"]]:
    """One Newton step of every row, and whether it helped."""
    dense = potential.ndim <= options.dense_limit
    step = torch.cat(
        in_parts(
            lambda part: (
                _dense_step(potential, part) if dense else conjugate_step(potential, part, options.cg_steps)
            ),
            (rows.x,),
            limits=limits_of(potential),
            key=("Newton steps", rows.x.device, rows.x.dtype),
            size=rows_that_fit(potential.ndim**2, rows.x.device, on_host=HESSIANS) if dense else len(rows),
            what="Newton steps",
        )
    )
    length = step.norm(dim=1)
    fits = length <= options.max_step * potential.length_scale
    trial = rows.x + torch.where(fits[:, None], step, 0.0)
    if potential.bounds is not None:
        trial = potential.bounds.clamp(trial)
    energy, grad = potential.energy_and_grad(trial)
    rms = _rms(potential, trial, grad)
    noise = torch.finfo(energy.dtype).eps ** (2 / 3) * energy.abs().clamp(min=potential.energy_scale)
    spent = potential.ndim if dense else options.cg_steps
    fresh = rows.replace(x=trial, energy=energy, grad_rms=rms, n_evaluations=rows.n_evaluations + spent + 1)
    return fresh, fits & (rms < rows.grad_rms) & (energy <= rows.energy + noise)


def _dense_step(potential: Potential, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    grad, free = free_gradient(potential, x)
    h = potential.hessian(x) * free[:, :, None] * free[:, None, :]
    h = _without(h, potential.symmetry.zero_modes(x))
    mu, v = torch.linalg.eigh(torch.nan_to_num(h, nan=0.0, posinf=0.0, neginf=0.0))
    flat = mu.abs() <= 1e-12 * mu.abs().amax(1, keepdim=True)
    along = even_bmv(v.mT, grad)
    return -even_bmv(v, torch.where(flat, 0.0, along / mu.abs()))


def _without(h: Float[Tensor, "B D D"], modes: Float[Tensor, "B Z D"]) -> Float[Tensor, "B D D"]:
    """P H P, where P takes these orthonormal directions out. Away from stationary points H mixes them with others:
    a rotation by t turns the gradient too, so that H t is as large as it, and a step by their small eigenvalues is
    no step downhill."""
    if modes.shape[1] == 0:
        return h
    across = torch.bmm(modes, h)
    h = h - torch.bmm(modes.mT, across)
    return h - torch.bmm(torch.bmm(h, modes.mT), modes)


def conjugate_step(potential: Potential, x: Float[Tensor, "B D"], n_steps: int) -> Float[Tensor, "B D"]:
    """Conjugate gradients on H s = -g, row by row to min(0.01, |g|^(1/2)) |g|, stopping at negative curvature."""
    grad, free = free_gradient(potential, x)
    norm = grad.norm(dim=1)
    goal = norm * norm.sqrt().clamp(max=0.01)
    products = potential.products_at(x)

    def apply(p: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return potential.symmetry.project_out(x, products(p[:, None])[:, 0] * free)

    return conjugate_gradients(apply, -grad, n_steps, lambda _, r: r.norm(dim=1) <= goal).x


def free_gradient(potential: Potential, x: Float[Tensor, "B D"]) -> tuple[Tensor, Tensor]:
    """The gradient without held coordinates and zero modes, and 1 for every coordinate that is free."""
    grad = potential.energy_and_grad(x)[1]
    free = torch.ones_like(grad)
    if potential.bounds is not None:
        free = (~potential.bounds.active_set(x, grad)).to(grad.dtype)
    return potential.symmetry.project_out(x, grad * free), free


def _rms(potential: Potential, x: Float[Tensor, "B D"], grad: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    held = grad if potential.bounds is None else potential.bounds.project_grad(x, grad)
    return held.square().mean(1).sqrt()
