"""Steepest descent by steps along the flow of local quadratic models."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.numerics import energy_noise
from torchscape.optimise.stepping import Evaluation, Trying, clamped, resolve
from torchscape.optimise.termination import standing
from torchscape.optimise.trust import ErrorControl
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.saddles.curvature import Curvature, Dense
from torchscape.saddles.divides import Course, Ends, to_divides
from torchscape.saddles.flow import Flow
from torchscape.saddles.modelled import Modelled, ModelSearch, Residual
from torchscape.saddles.projector import Projector
from torchscape.saddles.steps import flow_response, flow_step
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Descent"]


# The error of a step grows with the cube of its length, and faster where the curvature is only updated: aiming at
# a third of what is allowed leaves one step in ten to be rejected.
_LENGTHS = ErrorControl(3.0, 0.2, 2.0, safety=0.7)


@dataclasses.dataclass(frozen=True)
class _Descending(Modelled, Trying):
    """State of a batch of descents; ``time`` leads to the trial point."""

    time: Float[Tensor, "B 1"]
    course: Course


@dataclasses.dataclass(frozen=True)
class Descent(ModelSearch[_Descending]):
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
        max_evaluations: evaluations a row may spend on the path; one that needs more goes on with ten times as
            many, and is open then.
        margin: a path that has passed a divide at less than this many times its error, or at ``path_tol``, is
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
    margin: float = 2.0
    n_again: int = 4

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
        if isinstance(self.curvature_of(potential.ndim), Dense):
            share = 0.5 * 0.1 ** (times - 1)
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
        x = clamped(potential, x)
        return _Descending.init(
            x,
            time=x.new_zeros(len(x), 1),
            radius=x.new_full((len(x),), 0.1 * potential.length_scale),
            model=self.curvature_of(potential.ndim).init(x),
            course=Course.init(x),
        )

    def advance(self, potential: Potential, state: _Descending, new: Evaluation) -> tuple[_Descending, Residual]:
        tol = self.path_tol * potential.length_scale
        s = new.x - state.x
        strayed = self._strayed(state, s, new.grad)
        error = torch.nan_to_num(strayed.norm(dim=1), nan=torch.inf)
        noise = energy_noise(new.energy, potential.energy_scale)
        going = state.model.going(state.status == Status.RUNNING)
        now = resolve(state, new, (error <= tol) & (new.energy <= state.energy + noise), going)
        most = self.max_step * potential.length_scale
        radius = _LENGTHS.after(state.radius, s.norm(dim=1), error, tol, now.accepted, most)
        inaccurate = (now.rejected | (error > self.remeasure * tol)) & ~now.first
        model = self.curvature_of(potential.ndim).update(
            state.model, s, now.grad - state.grad, now.moved, inaccurate
        )
        slope = state.model.along(state.grad)
        projector = Projector.at(potential, now.x, now.grad)
        residual = Residual(projector.apply_one(now.grad), projector)
        stepped = now.onto(
            state,
            radius=torch.where(now.first | ~going, state.radius, radius),
            status=self.ended(potential, state, now, residual.rms),
            model=model,
            course=state.course.after(state.model.values, slope, state.time, strayed, now.moved),
        )
        return stepped, residual

    def aim(self, potential: Potential, state: _Descending, residual: Residual) -> _Descending:
        """Where the flow of the model leads."""
        model = state.model
        slope = model.along(residual.grad)
        c, time, newton = flow_step(model.values, slope, state.radius)
        # An update keeps curvature positive that has long turned negative across the path, where Newton's step
        # would end at a saddle. So the first one waits for a measured Hessian.
        unsure = newton & (model.age > 0) & ~torch.isinf(state.time[:, 0])
        briefly = 1 / model.values.amin(1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny ** 0.5)
        time = torch.where(unsure[:, None], briefly, time)
        c = torch.where(unsure[:, None], -slope * flow_response(model.values, time), c)
        model = dataclasses.replace(model, stale=model.stale | unsure)
        going = model.going(state.status == Status.RUNNING)
        trial = clamped(potential, torch.where(going[:, None], state.x + model.back(c), state.x))
        least = self.path_tol * potential.length_scale / max(self.margin, 1.0)
        distance = to_divides(model.values, slope).amin(1)
        course = state.course.seen(state.x, distance, least, going & (model.age == 0))
        return dataclasses.replace(state, trial=trial, time=time, model=model, course=course)

    def result(self, potential: Potential, state: _Descending) -> Ends:
        """Where every row stands, with its residual and its course."""
        free = Projector.at(potential, state.x, state.grad).apply_one(state.grad)
        points = standing(state.x, state.energy, free, state.status, state.n_evaluations)
        return Ends(points, state.course)

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
