"""Searches on local quadratic models: a step is an evaluation, a measurement of curvature, and what follows."""

from __future__ import annotations

import dataclasses
from typing import Any, Generic, TypeVar

import torch

from torchscape.optimise.stepping import Search, Searching
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.saddles.curvature import Curvature, QuadraticModel, choose_curvature
from torchscape.saddles.projector import Projector
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["ModelSearch", "Modelled", "Residual"]


@dataclasses.dataclass(frozen=True)
class Modelled:
    """What the state of such a search holds beside where its rows stand.

    Attributes:
        radius: how far the next step may go.
        model: of the surface at ``x``.
    """

    radius: Float[Tensor, "B"]
    model: QuadraticModel


@dataclasses.dataclass(frozen=True)
class Residual:
    """What is left of the gradients where the rows stand, and the directions that take no part."""

    grad: Float[Tensor, "B D"]
    projector: Projector

    @property
    def rms(self) -> Float[Tensor, "B"]:
        return self.grad.square().mean(1).sqrt()


State = TypeVar("State", bound=Searching)


class ModelSearch(Search[State], Generic[State]):
    """A search that needs curvature beside energies and gradients.

    A subclass writes ``advance``, which judges an evaluation and brings the books up to date, and ``aim``, which
    follows from the model. Between the two, :meth:`measure` asks the potential for the Hessians, or products with
    them, that the model needs. So neither of the two asks it for anything.

    Attributes:
        curvature: how it is learnt; None chooses by size.
    """

    curvature: Curvature | None

    def step(self, potential: Potential, state: Any) -> Any:
        """Evaluate a new point in every row; take or refuse it; model the surface there, and aim anew."""
        state, residual = self.advance(potential, state, self.evaluate(potential, state))
        model = self.measure(potential, state, residual)
        return self.aim(potential, dataclasses.replace(state, model=model), residual)

    def advance(self, potential: Potential, state: Any, new: Any) -> Any:
        """The state after an evaluation, with a model that may have become stale; and the residual gradient."""
        raise NotImplementedError

    def measure(self, potential: Potential, state: Any, residual: Residual) -> QuadraticModel:
        """The model where the rows stand now."""
        curvature, running = self.curvature_of(potential.ndim), state.status == Status.RUNNING
        mode = self.mode_of(state)
        return curvature.evaluate(
            potential, state.x, residual.grad, mode, state.model, running, residual.projector
        )

    def aim(self, potential: Potential, state: Any, residual: Residual) -> Any:
        """The state that knows what the next step evaluates."""
        raise NotImplementedError

    def curvature_of(self, ndim: int) -> Curvature:
        """How this search learns the curvature in so many coordinates."""
        return choose_curvature(ndim) if self.curvature is None else self.curvature

    def mode_of(self, state: Any) -> Float[Tensor, "B D"] | None:
        """A direction in which the model must know the curvature; None for none."""
        return None

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        """Memory that one row of the batch takes."""
        return self.curvature_of(ndim).bytes_per_row(ndim, dtype)

    def wants(self, state: Any, n_steps: int) -> Bool[Tensor, "B"] | None:
        """Rows that wait for a larger Krylov space."""
        waits: Bool[Tensor, "B"] | None = state.model.waits
        return waits

    def tend(self, potential: Potential, state: Any, rows: Int[Tensor, "R"]) -> Any:
        """They get it."""
        return dataclasses.replace(state, model=state.model.roomier())
