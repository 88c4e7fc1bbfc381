"""Steepest descent as an ordinary differential equation, stopped as soon as it is known where it leads."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.optimise.stepping import Evaluation, Search, Searching, clamped, resolve
from torchscape.optimise.trust import ErrorControl
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Tensor
from torchscape.validation import COUNT, POSITIVE, check_fields

__all__ = ["SteepestDescent"]


_TIMES = ErrorControl(3.0, 0.2, 4.0)  # the error of a step grows with the cube of its time


@dataclasses.dataclass(frozen=True)
class Downhill:
    """Points, and the minimum whose basin each is tested for, with its energy.

    Example:
        >>> Downhill.for_none(torch.zeros(2, 1)).energy.tolist()
        [-inf, -inf]
    """

    x: Float[Tensor, "B D"]
    minimum: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]

    @classmethod
    def for_none(cls, x: Float[Tensor, "B D"]) -> Downhill:
        """Points that only run downhill."""
        return cls(x, torch.full_like(x, torch.nan), x.new_full((len(x),), -torch.inf))


@dataclasses.dataclass(frozen=True)
class _Flowing(Searching):
    """Rows on their way down; ``target`` is a minimum whose basin is tested, NaN where none is."""

    target: Float[Tensor, "B D"]
    target_energy: Float[Tensor, "B"]
    time: Float[Tensor, "B"]


@dataclasses.dataclass(frozen=True)
class _Tried(Evaluation):
    """A step that was tried: its time, and by how much its formulas of second and third order differ."""

    time: Float[Tensor, "B"]
    missed: Float[Tensor, "B D"]


@dataclasses.dataclass(frozen=True)
class SteepestDescent(Search[_Flowing]):
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

    def init(self, potential: Potential, start: Downhill) -> _Flowing:
        """State with the first gradient."""
        x = start.x
        energy, grad = self._slope(potential, x)
        finite = torch.isfinite(energy) & torch.isfinite(grad).all(1)
        begun = _Flowing.init(
            x,
            target=start.minimum.clone(),
            target_energy=start.energy.clone(),
            time=0.1 * potential.length_scale / grad.norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny),
        )
        return dataclasses.replace(
            begun,
            energy=energy,
            grad=grad,
            n_evaluations=begun.n_evaluations + 1,
            status=torch.where(finite, int(Status.RUNNING), int(Status.NOT_FINITE)),
        )

    def evaluate(self, potential: Potential, state: _Flowing) -> _Tried:
        """A step of every row, no longer than ``max_step``."""
        x, g1 = state.x, state.grad
        longest = self.max_step * potential.length_scale / g1.norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
        time = torch.minimum(state.time, longest)
        h = time[:, None]
        g2 = self._slope(potential, x - 0.5 * h * g1)[1]
        g3 = self._slope(potential, x - 0.75 * h * g2)[1]
        new = clamped(potential, x - h * (2 * g1 + 3 * g2 + 4 * g3) / 9)
        energy, grad = self._slope(potential, new)
        return _Tried(new, energy, grad, time, h * (5 * g1 - 6 * g2 - 8 * g3 + 9 * grad) / 72)

    def advance(self, potential: Potential, state: _Flowing, new: _Tried) -> _Flowing:
        """A step is taken, or tried again with a shorter time."""
        tol, running = self.path_tol * potential.length_scale, state.status == Status.RUNNING
        error = torch.nan_to_num(new.missed.norm(dim=1), nan=torch.inf)
        noise = 100 * torch.finfo(error.dtype).eps * new.energy.abs().clamp(min=1.0)
        # At the limit of stability a row would bounce for ever below the error allowed: a flow must also descend.
        enough = 0.05 * new.time * state.grad.square().sum(1)
        descends = new.energy <= state.energy - enough + noise
        now = resolve(state, new, (error <= tol) & descends, running, cost=3)
        factor = _TIMES.factor(error, tol)
        factor = torch.where(now.accepted, factor, factor.clamp(max=_TIMES.refused))
        time = torch.where(running, new.time * factor, state.time)
        status = self.ended(potential, state, now, now.grad.square().mean(1).sqrt())
        below = now.energy < state.target_energy - 1e-6 * now.energy.abs().clamp(min=1.0)
        status = torch.where(running & below, int(Status.OUTSIDE), status)
        captured = running & self.captured(potential, now.x, state.target)
        return now.onto(state, time=time, status=torch.where(captured, int(Status.CONVERGED), status))

    def result(self, potential: Potential, state: _Flowing) -> StationaryPoints:
        """Where every row stands. ``OUTSIDE`` are rows that have left the basin they were tested for."""
        status = torch.where(state.status == Status.RUNNING, int(Status.MAX_STEPS), state.status)
        rms = state.grad.square().mean(1).sqrt()
        evaluations = state.n_evaluations
        return StationaryPoints.of(state.x, state.energy, grad_rms=rms, status=status, n_evaluations=evaluations)

    def captured(
        self, potential: Potential, x: Float[Tensor, "B D"], minimum: Float[Tensor, "B D"]
    ) -> Bool[Tensor, "B"]:
        """Whether a row is so close to its minimum that it ends there."""
        return (x - minimum).norm(dim=1) <= self.capture * potential.length_scale

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        """Memory that one row of the batch takes."""
        return 20 * ndim * dtype.itemsize

    def _slope(
        self, potential: Potential, x: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """U and its gradient along the walls where the descent presses against them."""
        if potential.bounds is None:
            return potential.energy_and_grad(x)
        x = potential.bounds.clamp(x)
        energy, grad = potential.energy_and_grad(x)
        return energy, potential.bounds.project_grad(x, grad)
