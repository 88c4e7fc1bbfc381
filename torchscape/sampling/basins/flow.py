"""Steepest descent as an ordinary differential equation, stopped as soon as it is known where it leads."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE, check_fields

__all__ = ["SteepestDescent"]


@dataclasses.dataclass(frozen=True)
class _Flowing:
    """Rows on their way down; ``target`` is a minimum whose basin is tested, NaN where none is."""

    x: Float[Tensor, "B D"]
    target: Float[Tensor, "B D"]
    target_energy: Float[Tensor, "B"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]
    time: Float[Tensor, "B"]
    n_evaluations: Int[Tensor, "B"]
    status: Int[Tensor, "B"]


@dataclasses.dataclass(frozen=True)
class SteepestDescent:
    """dx/dt = -grad U by an embedded Runge-Kutta pair of order 3(2), every row with its own time step.

    The definition of a basin of attraction, taken literally: three gradients a step and no Hessian, so that it is
    cheap for the many short descents of a walk inside a basin. Stiff rows need many steps:
    :class:`~torchscape.saddles.Descent` is better there. A row stops where its gradient is small; one that is
    tested against a minimum stops earlier, within the capture radius of that minimum or below its energy, from
    where no descent leads back.

    Reference: Bogacki & Shampine, Appl. Math. Lett. 2, 321 (1989), doi 10.1016/0893-9659(89)90079-7.

    Attributes:
        path_tol: error allowed per step, in units of the potential's ``length_scale``.
        max_step: longest step, in the same unit.
        tol: RMS gradient that ends a descent: enough to tell minima apart is enough.
        capture: distance from a minimum within which every descent ends in it, in units of the ``length_scale``.
        max_evaluations: gradients a row may spend.
    """

    path_tol: float = 0.01
    max_step: float = 2.0
    tol: float = 1e-4
    capture: float = 0.05
    max_evaluations: int = 3000

    def __post_init__(self) -> None:
        lengths = {"path_tol": POSITIVE, "max_step": POSITIVE, "tol": POSITIVE, "capture": POSITIVE}
        check_fields(self, **lengths, max_evaluations=COUNT)

    def init(self, potential: Potential, x: Float[Tensor, "B W"]) -> _Flowing:
        """State with the first gradient. ``x`` holds D columns, or 2 D + 1: position, minimum and its energy."""
        d = potential.ndim
        if x.shape[1] == d:
            target, target_energy = torch.full_like(x, torch.nan), x.new_full((len(x),), -torch.inf)
        else:
            x, target, target_energy = x[:, :d], x[:, d : 2 * d], x[:, 2 * d]
        energy, grad = self._evaluate(potential, x)
        one = torch.ones(len(x), dtype=torch.int64, device=x.device)
        finite = torch.isfinite(energy) & torch.isfinite(grad).all(1)
        return _Flowing(
            x=x,
            target=target,
            target_energy=target_energy,
            energy=energy,
            grad=grad,
            time=0.1 * potential.length_scale / grad.norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny),
            n_evaluations=one,
            status=torch.where(finite, int(Status.RUNNING), int(Status.NOT_FINITE)),
        )

    def step(self, potential: Potential, state: _Flowing) -> _Flowing:
        """One step of every row: taken, or tried again with a shorter time."""
        x, k1, scale = state.x, -state.grad, potential.length_scale
        tiny = torch.finfo(x.dtype).tiny
        longest = self.max_step * scale / k1.norm(dim=1).clamp(min=tiny)
        time = torch.minimum(state.time, longest)
        h = time[:, None]
        k2 = -self._evaluate(potential, x + 0.5 * h * k1)[1]
        k3 = -self._evaluate(potential, x + 0.75 * h * k2)[1]
        new = x + h * (2 * k1 + 3 * k2 + 4 * k3) / 9
        new = new if potential.bounds is None else potential.bounds.clamp(new)
        energy, grad = self._evaluate(potential, new)
        missed = h * (-5 * k1 + 6 * k2 + 8 * k3 + 9 * grad) / 72
        tol = self.path_tol * scale
        error = torch.nan_to_num(missed.norm(dim=1), nan=torch.inf)
        noise = 100 * torch.finfo(x.dtype).eps * energy.abs().clamp(min=1.0)
        running = state.status == Status.RUNNING
        # At the limit of stability a row would bounce for ever below the error allowed: a flow must also descend.
        enough = 0.05 * time * k1.square().sum(1)
        taken = running & (error <= tol) & (energy <= state.energy - enough + noise)
        factor = (0.9 * (tol / error.clamp(min=1e-6 * tol)) ** (1 / 3)).clamp(0.2, 4.0)
        factor = torch.where(taken, factor, factor.clamp(max=0.5))
        return self._ended(
            potential,
            dataclasses.replace(
                state,
                x=torch.where(taken[:, None], new, x),
                energy=torch.where(taken, energy, state.energy),
                grad=torch.where(taken[:, None], grad, state.grad),
                time=torch.where(running, time * factor, state.time),
                n_evaluations=state.n_evaluations + 3 * running,
            ),
        )

    def result(self, potential: Potential, state: _Flowing) -> StationaryPoints:
        """Where every row stands. ``OUTSIDE`` are rows that have left the basin they were tested for."""
        status = torch.where(state.status == Status.RUNNING, int(Status.MAX_STEPS), state.status)
        rms = state.grad.square().mean(1).sqrt()
        evaluations = state.n_evaluations
        return StationaryPoints.of(state.x, state.energy, grad_rms=rms, status=status, n_evaluations=evaluations)

    def _ended(self, potential: Potential, state: _Flowing) -> _Flowing:
        status = state.status
        running = status == Status.RUNNING
        noise = 1e-6 * state.energy.abs().clamp(min=1.0)
        far = state.x.abs().amax(1) > 1e8 * max(1.0, potential.length_scale)
        for condition, code in (
            (state.n_evaluations >= self.max_evaluations, Status.MAX_STEPS),
            (far, Status.UNBOUNDED),
            (state.grad.square().mean(1).sqrt() <= self.tol, Status.CONVERGED),
            (state.energy < state.target_energy - noise, Status.OUTSIDE),
            (self.captured(potential, state.x, state.target), Status.CONVERGED),
        ):
            status = torch.where(running & condition, int(code), status)
        return dataclasses.replace(state, status=status)

    def captured(
        self, potential: Potential, x: Float[Tensor, "B D"], minimum: Float[Tensor, "B D"]
    ) -> Bool[Tensor, "B"]:
        """Whether a row is so close to its minimum that it ends there."""
        return (x - minimum).norm(dim=1) <= self.capture * potential.length_scale

    def _evaluate(self, potential: Potential, x: Float[Tensor, "B D"]) -> tuple[Tensor, Tensor]:
        """U and its gradient along the walls where the descent presses against them."""
        if potential.bounds is None:
            return potential.energy_and_grad(x)
        x = potential.bounds.clamp(x)
        energy, grad = potential.energy_and_grad(x)
        return energy, potential.bounds.project_grad(x, grad)
