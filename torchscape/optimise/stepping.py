"""Accept or reject: the loop that all searches share. A step is an evaluation, and what follows from it.

What is a search's own is where it looks next and what it takes. What is here is the rest: rows that have begun,
trial points that are taken or refused, the counts, and the end of a row.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Generic, TypeVar

import torch

from torchscape.optimise.termination import termination_test
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Evaluation", "Search", "Searching", "StepOutcome", "Trying", "clamped", "resolve"]


State = TypeVar("State", bound="Searching")


@dataclasses.dataclass(frozen=True)
class Searching:
    """Where the rows of a search stand.

    Attributes:
        x, energy, grad: the last point taken; the energy is infinite where nothing was evaluated yet.
        n_evaluations: spent.
        n_rejected: trial points refused in a row.
        status: ``RUNNING`` until the row has ended.
    """

    x: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]
    n_evaluations: Int[Tensor, "B"]
    n_rejected: Int[Tensor, "B"]
    status: Int[Tensor, "B"]

    @classmethod
    def init(cls: type[State], x: Float[Tensor, "B D"], **own: Any) -> State:
        """Before any evaluation; ``own`` are the fields of the subclass."""
        zero = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return cls(
            x=x.clone(),
            energy=x.new_full((len(x),), torch.inf),
            grad=torch.zeros_like(x),
            n_evaluations=zero,
            n_rejected=zero.clone(),
            status=torch.full_like(zero, Status.RUNNING),
            **own,
        )


@dataclasses.dataclass(frozen=True)
class Trying(Searching):
    """Of a search that knows beforehand where it looks next: ``trial`` is what the next step evaluates."""

    trial: Float[Tensor, "B D"]

    @classmethod
    def init(cls: type[State], x: Float[Tensor, "B D"], **own: Any) -> State:
        """The first step evaluates the starting points themselves."""
        return super().init(x, trial=x.clone(), **own)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Energy and gradient at a new point of every row; a subclass adds what else it has seen on the way there."""

    x: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]


@dataclasses.dataclass(frozen=True)
class StepOutcome:
    """What has become of the new points.

    Attributes:
        x, energy, grad: where the rows stand now.
        n_evaluations, n_rejected: the counts now.
        first: rows of which nothing had been evaluated before.
        finite: whether energy and gradient of the new point are finite.
        going: rows that go on.
        accepted: those of them that took it.
        rejected: those of them that refused it.
        moved: rows that have made a step.
    """

    x: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]
    n_evaluations: Int[Tensor, "B"]
    n_rejected: Int[Tensor, "B"]
    first: Bool[Tensor, "B"]
    finite: Bool[Tensor, "B"]
    going: Bool[Tensor, "B"]
    accepted: Bool[Tensor, "B"]
    rejected: Bool[Tensor, "B"]
    moved: Bool[Tensor, "B"]

    def onto(self, state: State, **own: Any) -> State:
        """The state after the step; ``own`` are other fields that change."""
        return dataclasses.replace(
            state,
            x=self.x,
            energy=self.energy,
            grad=self.grad,
            n_evaluations=self.n_evaluations,
            n_rejected=self.n_rejected,
            **own,
        )


def resolve(
    state: Searching,
    new: Evaluation,
    acceptable: Bool[Tensor, "B"],
    going: Bool[Tensor, "B"],
    cost: Int[Tensor, "B"] | int | None = None,
) -> StepOutcome:
    """Take the new point where it is acceptable, or the first; stay where it is not, or not finite.

    Args:
        state: before.
        new: the evaluation.
        acceptable: whether a search takes its new point; of any value where that is the first or not finite.
        going: rows that go on.
        cost: evaluations that each of them has spent; None for one.
    """
    first = state.energy == torch.inf
    finite = (new.energy + new.grad.sum(1)).abs() < torch.inf  # false of NaN too
    accepted = (first | acceptable) & (finite & going)
    take = accepted[:, None]
    return StepOutcome(
        x=torch.where(take, new.x, state.x),
        energy=torch.where(accepted, new.energy, state.energy),
        grad=torch.where(take, new.grad, state.grad),
        n_evaluations=state.n_evaluations + (going if cost is None else cost * going),
        n_rejected=(state.n_rejected + going).masked_fill(accepted, 0),
        first=first,
        finite=finite,
        going=going,
        accepted=accepted,
        rejected=going & ~accepted,
        moved=accepted & ~first,
    )


class Search(Generic[State]):
    """A stepper that tries a point in every row, and takes it or not.

    A subclass says how a row begins (``init``), what follows from an evaluation (``advance``: judge it, let
    :func:`resolve` take or refuse it, ask :meth:`ended`, and propose the next), and how it ended (``result``).

    :meth:`evaluate` is where the potential is asked for energies and gradients. ``advance`` asks it for no more,
    and the host for nothing: it is a function of tensors alone, with scales, bounds and symmetry of the potential.
    Searches that also need curvature are :class:`~torchscape.saddles.modelled.ModelSearch`.

    Attributes:
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.
        max_evaluations: evaluations a row may spend.
        most_rejections: in a row, after which it has stalled.
    """

    tol: float | None
    max_evaluations: int
    most_rejections: ClassVar[int] = 20

    def step(self, potential: Potential, state: State) -> State:
        """Evaluate a new point in every row, and advance; rows that have ended stay as they are."""
        after: State = self.advance(potential, state, self.evaluate(potential, state))
        return after

    def evaluate(self, potential: Potential, state: Any) -> Any:
        """Energies and gradients of the trial points: an :class:`Evaluation`."""
        return Evaluation(state.trial, *potential.energy_and_grad(state.trial))

    def advance(self, potential: Potential, state: Any, new: Any) -> Any:
        """The state after an evaluation."""
        raise NotImplementedError

    def ended(
        self,
        potential: Potential,
        state: Searching,
        now: StepOutcome,
        rms: Float[Tensor, "B"],
        *,
        stalled: Bool[Tensor, "B"] | None = None,
    ) -> Int[Tensor, "B"]:
        """The status of the rows where they stand now, ``rms`` being what is left of their gradients.

        A row has stalled after ``most_rejections`` in a row, unless the search says otherwise.
        """
        return termination_test(
            potential,
            state.status,
            now.x,
            rms,
            tol=self._tolerance(potential, now.x.dtype),
            spent=now.n_evaluations >= self.max_evaluations,
            stalled=now.n_rejected >= self.most_rejections if stalled is None else stalled,
            broken=now.first & ~now.finite,
        )

    def _tolerance(self, potential: Potential, dtype: torch.dtype) -> float | None:
        """RMS gradient that counts as converged, in the units of the state."""
        return self.tol


def clamped(potential: Potential, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """The points inside the box of the potential, if it has one."""
    return x if potential.bounds is None else potential.bounds.clamp(x)
