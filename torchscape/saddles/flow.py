"""The steepest-descent path to high order, for paths on which an error would lead to another minimum."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.numerics import energy_noise
from torchscape.optimise.rows import may_hold
from torchscape.optimise.termination import standing, verdict
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.saddles.curvature import Dense, Quadratic
from torchscape.saddles.divides import Course, Ends, to_divides
from torchscape.saddles.projector import Projector
from torchscape.saddles.steps import flow_step
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Flow", "weights"]

_CURVATURE = Dense(refresh=1)  # the exact Hessian at every step


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
class _Flowing:
    """State of a batch of paths: where they are, what the surface looks like there, how far the next step goes."""

    x: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]
    slope: Float[Tensor, "B D"]
    radius: Float[Tensor, "B"]
    n_evaluations: Int[Tensor, "B"]
    n_rejected: Int[Tensor, "B"]
    status: Int[Tensor, "B"]
    model: Quadratic
    course: Course


@dataclasses.dataclass(frozen=True)
class Flow:
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

    def init(self, potential: Potential, x: Float[Tensor, "B D"]) -> _Flowing:
        """State before any evaluation."""
        if potential.bounds is not None:
            x = potential.bounds.clamp(x)
        zero = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return _Flowing(
            x=x.clone(),
            energy=x.new_full((len(x),), torch.inf),
            grad=torch.zeros_like(x),
            slope=torch.zeros_like(x),
            radius=x.new_full((len(x),), 0.1 * potential.length_scale),
            n_evaluations=zero,
            n_rejected=zero.clone(),
            status=torch.full_like(zero, Status.RUNNING),
            model=_CURVATURE.fresh(x),
            course=Course.fresh(x),
        )

    def step(self, potential: Potential, state: _Flowing) -> _Flowing:
        """Try a step in every row; accept or shrink; learn the surface at the new place."""
        running, first = state.status == Status.RUNNING, torch.isinf(state.energy)
        old, length = state.model, potential.length_scale
        c, time, missed, strayed = self._trial(potential, state, first)
        trial = self._place(potential, state, c)
        energy, grad = potential.energy_and_grad(trial)
        finite = torch.isfinite(energy) & torch.isfinite(grad).all(1)
        tol = self.path_tol * length
        error = torch.nan_to_num(missed.norm(dim=1), nan=torch.inf)
        noise = energy_noise(energy, potential.energy_scale)
        right = (error <= tol) & (energy <= state.energy + noise)
        accepted = running & finite & (first | right)
        radius = self._radius(potential, state, c.norm(dim=1), error, accepted)

        x = torch.where(accepted[:, None], trial, state.x)
        grad = torch.where(accepted[:, None], grad, state.grad)
        projector = Projector.at(potential, x, grad)
        free = projector.apply_one(grad)
        n_evaluations = state.n_evaluations + torch.where(first, 1, 3) * running
        n_rejected = torch.where(accepted, 0, state.n_rejected + running)
        status = verdict(
            potential,
            state.status,
            x,
            free.square().mean(1).sqrt(),
            tol=self.tol,
            spent=n_evaluations >= self.max_evaluations,
            stalled=n_rejected >= 20,
            broken=first & ~finite,
        )
        running = status == Status.RUNNING
        model = dataclasses.replace(old, stale=accepted)
        model = _CURVATURE.at(potential, x, free, None, model, running, projector)
        slope = model.along(free)
        course = state.course.after(old.values, state.slope, time, strayed, accepted & ~first)
        return _Flowing(
            x=x,
            energy=torch.where(accepted, energy, state.energy),
            grad=grad,
            slope=slope,
            radius=torch.where(first, state.radius, radius),
            n_evaluations=n_evaluations,
            n_rejected=n_rejected,
            status=status,
            model=model,
            course=course.seen(x, to_divides(model.values, slope).amin(1), 0.1 * tol, running),
        )

    def result(self, potential: Potential, state: _Flowing) -> Ends:
        """Where every row stands, with its residual and its course."""
        free = Projector.at(potential, state.x, state.grad).apply_one(state.grad)
        points = standing(state.x, state.energy, free, state.status, state.n_evaluations)
        return Ends(points, state.course)

    def _place(self, potential: Potential, state: _Flowing, c: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        point = state.x + state.model.back(c)
        return point if potential.bounds is None else potential.bounds.clamp(point)

    def _trial(
        self, potential: Potential, state: _Flowing, first: Tensor
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B 1"], Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """The next step, its time, the error of third order and that of the step, in the eigenbasis; nowhere where
        nothing is known yet.

        What is left out after the fourth order is to it as that is to the third, as long as orders grow smaller.
        """
        model, slope = state.model, state.slope
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

    def _radius(
        self,
        potential: Potential,
        state: _Flowing,
        length: Float[Tensor, "B"],
        error: Float[Tensor, "B"],
        accepted: Bool[Tensor, "B"],
    ) -> Float[Tensor, "B"]:
        """How far the next step may go: the error of one grows with the fourth power of its length."""
        tol = self.path_tol * potential.length_scale
        length = torch.nan_to_num(length, nan=torch.inf)
        factor = (0.9 * (tol / error.clamp(min=1e-4 * tol)) ** 0.25).clamp(0.1, 5.0)
        most = self.max_step * potential.length_scale
        grown = torch.where(factor > 1, torch.maximum(state.radius, factor * length), factor * length)
        shrunk = torch.minimum(state.radius, length) * factor.clamp(max=0.5)
        return torch.where(accepted, grown, shrunk).clamp(max=most)
