"""The steepest-descent path to high order, for paths on which an error would lead to another minimum."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.numerics import energy_noise
from torchscape.optimise.rows import may_hold
from torchscape.optimise.stepping import Evaluation, Searching, clamped, resolve
from torchscape.optimise.termination import standing
from torchscape.optimise.trust import ErrorControl
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.saddles.curvature import Dense
from torchscape.saddles.divides import Course, Ends, to_divides
from torchscape.saddles.modelled import Modelled, ModelSearch, Residual
from torchscape.saddles.projector import Projector
from torchscape.saddles.steps import flow_step
from torchscape.types import Float, Tensor

__all__ = ["Flow", "weights"]

_CURVATURE = Dense(refresh=1)  # the exact Hessian at every step
# The error grows with the fourth power of the length; aimed at a quarter of what is allowed, hardly a step is
# rejected, which would cost three gradients.
_LENGTHS = ErrorControl(4.0, 0.1, 5.0, safety=0.7, floor=1e-4)


def weights(
    curvature: Float[Tensor, "B K"], time: Float[Tensor, "B 1"]
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B K"], Float[Tensor, "B K"]]:
    """t phi_1(z), t phi_3(z) and t phi_4(z) of exponential integrators at z = -mu t.

    phi_k(z) = sum_j z^j / (j + k)!; beyond |z| = 1 by t phi_k = (t/(k-1)! - t phi_(k-1)) / (mu t), which has no
    cancellation there and stays finite as t grows.

    Example:
        >>> one, three, four = weights(torch.tensor([[0.0, 2.0]]).double(), torch.ones(1, 1).double())
        >>> one.tolist()[0], (6 * three[0, 0]).item(), (24 * four[0, 0]).item()
        ([1.0, 0.4323...], 1.0, 1.0)
    """
    z = -curvature * time
    near = z.abs() <= 1.0
    small = torch.where(near, z, 0.0)
    term = torch.full_like(small, 1.0 / 24)  # 1/k! at k = 4; phi_(k-1) = 1/(k-1)! + z phi_k
    four = term
    for j in range(1, 18):
        term = term * small / (j + 4)
        four = four + term
    three = 1.0 / 6 + small * four
    one = 1.0 + small * (0.5 + small * three)
    by_series = [time * one, time * three, time * four]
    mu = torch.where(near, 1.0, curvature)
    far_one = -torch.expm1(torch.where(near, 0.0, z)) / mu
    safe = torch.where(near, 1.0, time)
    far_two = (1.0 - far_one / safe) / mu
    far_three = (0.5 - far_two / safe) / mu
    far_four = (1.0 / 6 - far_three / safe) / mu
    far = (far_one, far_three, far_four)
    one, three, four = (torch.where(near, a, b) for a, b in zip(by_series, far, strict=True))
    return one, three, four


@dataclasses.dataclass(frozen=True)
class _Flowing(Modelled, Searching):
    """State of a batch of paths; ``slope`` holds the components of the gradient in the eigenbasis of the model."""

    slope: Float[Tensor, "B D"]
    course: Course


@dataclasses.dataclass(frozen=True)
class _Tried(Evaluation):
    """A step that was tried.

    Attributes:
        length: of the step.
        time: that it took.
        missed, strayed: the error of third order and that of the step, in the eigenbasis.
    """

    length: Float[Tensor, "B"]
    time: Float[Tensor, "B 1"]
    missed: Float[Tensor, "B D"]
    strayed: Float[Tensor, "B D"]


@dataclasses.dataclass(frozen=True)
class Flow(ModelSearch[_Flowing]):
    """dx/dt = -grad U by an exponential Rosenbrock method of fourth order, with the exact Hessian at every step.

    The flow of the local quadratic model is exact; what the surface adds to it is seen at two points within the
    step (exprb43: Hochbruck, Ostermann & Schweitzer, SIAM J. Numer. Anal. 47, 786 (2009), doi 10.1137/080717717).
    A step costs three gradients and a Hessian, its error falls with the fifth power of its length, and near a
    minimum its time goes to infinity, where it becomes two steps of Newton's.

    Attributes:
        path_tol: error allowed per step, as the method of third order within tells it, in units of the
            potential's ``length_scale``.
        max_step: longest step, in units of ``length_scale``.
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.
        max_evaluations: evaluations a row may spend.
    """

    path_tol: float
    max_step: float = 2.0
    tol: float | None = None
    max_evaluations: int = 3000
    curvature = _CURVATURE

    def init(self, potential: Potential, x: Float[Tensor, "B D"]) -> _Flowing:
        """State before any evaluation."""
        x = clamped(potential, x)
        return _Flowing.init(
            x,
            slope=torch.zeros_like(x),
            radius=x.new_full((len(x),), 0.1 * potential.length_scale),
            model=_CURVATURE.init(x),
            course=Course.init(x),
        )

    def evaluate(self, potential: Potential, state: _Flowing) -> _Tried:
        """A step in every row, and what the surface adds to its model on the way; the start itself at first."""
        c, time, missed, strayed = self._trial(potential, state)
        x = self._place(potential, state, c)
        energy, grad = potential.energy_and_grad(x)
        return _Tried(x, energy, grad, c.norm(dim=1), time, missed, strayed)

    def advance(self, potential: Potential, state: _Flowing, new: _Tried) -> tuple[_Flowing, Residual]:
        tol = self.path_tol * potential.length_scale
        error = torch.nan_to_num(new.missed.norm(dim=1), nan=torch.inf)
        noise = energy_noise(new.energy, potential.energy_scale)
        right = (error <= tol) & (new.energy <= state.energy + noise)
        cost = torch.where(torch.isinf(state.energy), 1, 3)
        now = resolve(state, new, right, state.status == Status.RUNNING, cost)
        length, most = torch.nan_to_num(new.length, nan=torch.inf), self.max_step * potential.length_scale
        radius = _LENGTHS.after(state.radius, length, error, tol, now.accepted, most)
        projector = Projector.at(potential, now.x, now.grad)
        residual = Residual(projector.apply_one(now.grad), projector)
        stepped = now.onto(
            state,
            radius=torch.where(now.first, state.radius, radius),
            status=self.ended(potential, state, now, residual.rms),
            model=dataclasses.replace(state.model, stale=now.accepted),
            course=state.course.after(state.model.values, state.slope, new.time, new.strayed, now.moved),
        )
        return stepped, residual

    def aim(self, potential: Potential, state: _Flowing, residual: Residual) -> _Flowing:
        """Where the path is relative to divides; the next step is aimed when it is tried."""
        slope, least = state.model.along(residual.grad), 0.1 * self.path_tol * potential.length_scale
        running = state.status == Status.RUNNING
        course = state.course.seen(state.x, to_divides(state.model.values, slope).amin(1), least, running)
        return dataclasses.replace(state, slope=slope, course=course)

    def result(self, potential: Potential, state: _Flowing) -> Ends:
        """Where every row stands, with its residual and its course."""
        free = Projector.at(potential, state.x, state.grad).apply_one(state.grad)
        points = standing(state.x, state.energy, free, state.status, state.n_evaluations)
        return Ends(points, state.course)

    def _place(self, potential: Potential, state: _Flowing, c: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return clamped(potential, state.x + state.model.back(c))

    def _trial(
        self, potential: Potential, state: _Flowing
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B 1"], Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """The next step, its time, the error of third order and that of the step, in the eigenbasis; nowhere where
        nothing is known yet.

        What is left out after the fourth order is to it as that is to the third, as long as orders grow smaller.
        """
        model, slope, first = state.model, state.slope, torch.isinf(state.energy)
        if not may_hold(~first):
            nowhere = torch.zeros_like(slope)
            return nowhere, slope.new_zeros(len(slope), 1), nowhere, nowhere
        time = flow_step(model.values, slope, state.radius)[1]
        top = model.values.abs().amax(1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny ** 0.5)
        time = torch.where(first[:, None], 0.0, torch.minimum(time, 1e18 / top))
        projector = Projector.at(potential, state.x, state.grad)

        def missed(c: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
            grad = potential.energy_and_grad(self._place(potential, state, c))[1]
            return slope + model.values * c - model.along(projector.apply_one(grad))

        half, (one, three, four) = weights(model.values, 0.5 * time)[0], weights(model.values, time)
        two = missed(-slope * half)
        whole = missed(-slope * one + one * two)
        curved, bent = three * (16 * two - 2 * whole), four * (-48 * two + 12 * whole)
        tiny = torch.finfo(slope.dtype).tiny ** 0.5
        ratio = bent.norm(dim=1, keepdim=True) / curved.norm(dim=1, keepdim=True).clamp(min=tiny)
        return -slope * one + curved + bent, time, bent, ratio.clamp(max=1.0) * bent
