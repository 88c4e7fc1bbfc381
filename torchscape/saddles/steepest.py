"""Steepest descent by steps along the flow of local quadratic models."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.numerics import energy_noise
from torchscape.optimise.termination import standing, verdict
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.saddles.curvature import Curvature, Dense, Quadratic, choose_curvature
from torchscape.saddles.divides import Course, Ends, to_divides
from torchscape.saddles.flow import Flow
from torchscape.saddles.projector import Projector
from torchscape.saddles.steps import flow_response, flow_step
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Descent"]


@dataclasses.dataclass(frozen=True)
class _Descending:
    """State of a batch of descents. ``trial`` is what the next step evaluates, after a time ``time``."""

    x: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]
    trial: Float[Tensor, "B D"]
    time: Float[Tensor, "B 1"]
    radius: Float[Tensor, "B"]
    n_evaluations: Int[Tensor, "B"]
    n_rejected: Int[Tensor, "B"]
    status: Int[Tensor, "B"]
    model: Quadratic
    course: Course


@dataclasses.dataclass(frozen=True)
class Descent:
    """Options of the descent, and the stepper that a pool runs.

    The flow dx/dt = -grad U is integrated exactly on local quadratic models (Page & McIver 1988,
    doi 10.1063/1.454172), so that stiff directions cost nothing. A step is taken when the part of the
    gradient change that its model missed would have moved the path by less than ``path_tol``; near the
    minimum the time goes to infinity and the step becomes Newton's.

    Attributes:
        curvature: :class:`Dense` or :class:`Krylov`; None chooses by size.
        path_tol: error allowed per step, in units of the potential's ``length_scale``.
        remeasure: fraction of it above which a dense Hessian is measured anew rather than updated (1: only
            after a rejection).
        max_step: longest step, in the same unit.
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.
        max_evaluations: evaluations a row may spend on the path; :func:`relax` takes over from there.
        margin: a path that has passed a divide at less than this many times its error, or ``path_tol``, is
            followed again, at least ten times as accurately each time, see :func:`~torchscape.saddles.descend`;
            0 for never.
        n_again: how often at most.
    """

    curvature: Curvature | None = None
    path_tol: float = 0.02
    remeasure: float = 1.0
    max_step: float = 2.0
    tol: float | None = None
    max_evaluations: int = 500
    margin: float = 1.0
    n_again: int = 3

    def __post_init__(self) -> None:
        check_fields(
            self,
            path_tol=POSITIVE,
            remeasure=NOT_NEGATIVE.or_infinite,
            max_step=POSITIVE.or_infinite,
            tol=NOT_NEGATIVE.or_none,
            max_evaluations=COUNT_OR_ZERO,
            margin=NOT_NEGATIVE,
            n_again=COUNT_OR_ZERO,
        )

    def finer(self, potential: Potential, times: int = 1) -> Descent | Flow:
        """Ten times as accurate, then each time more: by :class:`Flow`, whose error of third order may be larger
        than its own, or by shorter steps where only products serve."""
        if isinstance(self.curvature_of(potential), Dense):
            share = 0.5 * 0.01 ** (times - 1)
            return Flow(
                share * self.path_tol,
                max_step=self.max_step,
                tol=self.tol,
                max_evaluations=3 * times * self.max_evaluations,  # three a step
            )
        share = 0.1**times
        spend = int(share ** (-1 / 3) * self.max_evaluations)
        return dataclasses.replace(self, path_tol=share * self.path_tol, max_evaluations=spend)

    def init(self, potential: Potential, x: Float[Tensor, "B D"]) -> _Descending:
        """State before any evaluation."""
        if potential.bounds is not None:
            x = potential.bounds.clamp(x)
        b = len(x)
        zero = torch.zeros(b, dtype=torch.int64, device=x.device)
        return _Descending(
            x=x.clone(),
            energy=x.new_full((b,), torch.inf),
            grad=torch.zeros_like(x),
            trial=x.clone(),
            time=x.new_zeros(b, 1),
            radius=x.new_full((b,), 0.1 * potential.length_scale),
            n_evaluations=zero,
            n_rejected=zero.clone(),
            status=torch.full_like(zero, Status.RUNNING),
            model=self.curvature_of(potential).fresh(x),
            course=Course.fresh(x),
        )

    def step(self, potential: Potential, state: _Descending) -> _Descending:
        """Evaluate every trial point once; accept or shrink; follow the flow of the model from there."""
        energy, grad = potential.energy_and_grad(state.trial)
        first = torch.isinf(state.energy)
        finite = torch.isfinite(energy) & torch.isfinite(grad).all(1)
        tol = self.path_tol * potential.length_scale
        s = state.trial - state.x
        strayed = self._strayed(state, s, grad)
        error = torch.nan_to_num(strayed.norm(dim=1), nan=torch.inf)
        noise = energy_noise(energy, potential.energy_scale)
        going = state.model.going(state.status == Status.RUNNING)
        accepted = going & finite & (first | ((error <= tol) & (energy <= state.energy + noise)))
        rejected = going & ~accepted
        radius = self._radius(potential, state.radius, s.norm(dim=1), error, rejected)

        take, moved = accepted[:, None], accepted & ~first
        x = torch.where(take, state.trial, state.x)
        new_grad = torch.where(take, grad, state.grad)
        y = torch.where(take, grad - state.grad, 0.0)
        surprised = (rejected | (error > self.remeasure * tol)) & ~first
        model = self.curvature_of(potential).moved(state.model, s, y, moved, surprised)
        slope = state.model.along(state.grad)
        course = state.course.after(state.model.values, slope, state.time, strayed, moved)

        projector = Projector.at(potential, x, new_grad)
        free = projector.apply_one(new_grad)
        n_evaluations = state.n_evaluations + going
        n_rejected = torch.where(accepted, 0, state.n_rejected + rejected)
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
        stepped = dataclasses.replace(
            state,
            x=x,
            energy=torch.where(accepted, energy, state.energy),
            grad=new_grad,
            radius=torch.where(first | ~going, state.radius, radius),
            n_evaluations=n_evaluations,
            n_rejected=n_rejected,
            status=status,
            model=model,
            course=course,
        )
        return self._aimed(potential, stepped, free, projector)

    def _radius(
        self,
        potential: Potential,
        radius: Float[Tensor, "B"],
        length: Float[Tensor, "B"],
        error: Float[Tensor, "B"],
        rejected: Bool[Tensor, "B"],
    ) -> Float[Tensor, "B"]:
        """How far the next step may go. The error of a step grows with the cube of its length, and faster where
        the curvature is only updated: at a third of what is allowed one step in ten is rejected."""
        tol = self.path_tol * potential.length_scale
        factor = (0.7 * (tol / error.clamp(min=1e-6 * tol)) ** (1 / 3)).clamp(0.2, 2.0)
        grown = torch.maximum(radius, factor * length).clamp(max=self.max_step * potential.length_scale)
        new = torch.where(factor > 1, grown, torch.minimum(radius, factor * length))
        return torch.where(rejected, length * factor.clamp(max=0.5), new)

    def _aimed(
        self, potential: Potential, state: _Descending, free: Float[Tensor, "B D"], projector: Projector
    ) -> _Descending:
        """With the curvature at x, and where the flow of that model leads: what the next step evaluates."""
        running = state.status == Status.RUNNING
        model = self.curvature_of(potential).at(potential, state.x, free, None, state.model, running, projector)
        slope = model.along(free)
        c, time, newton = flow_step(model.values, slope, state.radius)
        # An update keeps curvature positive that has long turned negative across the path, where Newton's step
        # would end at a saddle. So the first one waits for a measured Hessian.
        unsure = newton & (model.age > 0) & ~torch.isinf(state.time[:, 0])
        briefly = 1 / model.values.amin(1, keepdim=True).clamp(min=torch.finfo(free.dtype).tiny ** 0.5)
        time = torch.where(unsure[:, None], briefly, time)
        c = torch.where(unsure[:, None], -slope * flow_response(model.values, time), c)
        model = dataclasses.replace(model, stale=model.stale | unsure)
        going = model.going(running)
        trial = torch.where(going[:, None], state.x + model.back(c), state.x)
        if potential.bounds is not None:
            trial = potential.bounds.clamp(trial)
        least = self.path_tol * potential.length_scale
        distance = to_divides(model.values, slope).amin(1)
        course = state.course.seen(state.x, distance, least, going & (model.age == 0))
        return dataclasses.replace(state, trial=trial, time=time, model=model, course=course)

    def wants(self, state: _Descending, n_steps: int) -> Bool[Tensor, "B"] | None:
        """Rows that wait for a larger Krylov space."""
        return state.model.waits

    def tend(self, potential: Potential, state: _Descending, rows: Int[Tensor, "R"]) -> _Descending:
        """They get it."""
        return dataclasses.replace(state, model=state.model.roomier())

    def result(self, potential: Potential, state: _Descending) -> Ends:
        """Where every row stands, with its residual and its course."""
        free = Projector.at(potential, state.x, state.grad).apply_one(state.grad)
        points = standing(state.x, state.energy, free, state.status, state.n_evaluations)
        return Ends(points, state.course)

    def curvature_of(self, potential: Potential) -> Curvature:
        """How this path learns the curvature of a potential."""
        return self.curvature if self.curvature is not None else choose_curvature(potential)

    def _strayed(
        self, state: _Descending, s: Float[Tensor, "B D"], grad: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B K"]:
        """How far the gradient change that the model missed would have moved the path, in its eigenbasis.

        The missed force grows from zero over the step, hence the factor one half.
        """
        missed = state.model.along(grad - state.grad - state.model.times(s))
        values = state.model.values
        newton = torch.isinf(state.time)
        time = torch.where(newton, 1.0, state.time)
        response = torch.where(newton, 1 / values.abs(), flow_response(values, time))
        return -0.5 * missed * response
