"""What a pool runs and what it is fed from."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch

from torchscape.potentials.base import Potential
from torchscape.types import Bool, Int, Tensor

__all__ = ["Forgetting", "Leaping", "Repeatable", "Sized", "Source", "Stepper", "Tended"]


@runtime_checkable
class Stepper(Protocol):
    """Anything that advances a batch of rows: a minimiser, a saddle search, a band.

    Where memory runs out in the middle of a step, the step is repeated from the state it was given, for fewer
    rows. A step may write into that state's buffers only what it would write again.

    Where ``result`` is annotated with a dataclass of tensors, rows that have ended are kept when an exploration is
    cut short, and not run again; ``counted_as`` (a plural) is what they are called then.
    """

    def init(self, potential: Potential, start: Any) -> Any:
        """The state of rows that begin. ``start`` is a batch of points [B D], or a dataclass of tensors, as the
        source has it."""
        ...

    def step(self, potential: Potential, state: Any) -> Any:
        """The state after another step of the running rows."""
        ...

    def result(self, potential: Potential, state: Any) -> Any:
        """Where the rows stand."""
        ...


@runtime_checkable
class Tended(Stepper, Protocol):
    """A stepper that does something for some rows now and then. Which, the host has to ask: no step may do it."""

    def wants(self, state: Any, n_steps: int) -> Bool[Tensor, "B"] | None:
        """Rows that want something, ``n_steps`` after the last time they were asked; None for none, ever."""
        ...

    def tend(self, potential: Potential, state: Any, rows: Int[Tensor, "R"]) -> Any:
        """What is done for them."""
        ...


@runtime_checkable
class Forgetting(Stepper, Protocol):
    """A stepper that remembers much of a row that its result does not need."""

    def ends(self, state: Any) -> Any:
        """The state with what ``result`` looks at, which is all that is copied of rows that have finished."""
        ...


@runtime_checkable
class Leaping(Stepper, Protocol):
    """A stepper that takes several steps at once where that costs less; rows that end meanwhile cost nothing."""

    def stride(self, potential: Potential, state: Any) -> int:
        """How many steps it would take at once in host memory; 1 for none."""
        ...

    def leap(self, potential: Potential, state: Any, n: int) -> Any:
        """The state after ``n`` steps; that before is given away."""
        ...


@runtime_checkable
class Repeatable(Stepper, Protocol):
    """A stepper whose step is an evaluation and a function of tensors: what a device is told once and repeats."""

    def evaluate(self, potential: Potential, state: Any) -> Any:
        """Energies and gradients of the trial points."""
        ...

    def limits(self, potential: Potential, dtype: torch.dtype) -> Any:
        """What of the potential the function goes by."""
        ...

    def advanced(self, limits: Any, state: Any, new: Any) -> Any:
        """The state after an evaluation."""
        ...

    def settled(self, state: Any) -> Any:
        """The state with what it has on the host, and its shapes, as they are in every later step."""
        ...


@runtime_checkable
class Sized(Stepper, Protocol):
    """A stepper that says what a row takes, so that a pool can be made to measure."""

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        """Memory that one row of so many coordinates takes."""
        ...


@runtime_checkable
class Source(Protocol):
    """Where starts come from and where results go. Both are called with the pool's rows in any order.

    Identifiers should lie on the host: on a device, the pool would have to ask for them. A source may say that it
    will have no more starts, whatever is given, by an attribute ``is_exhausted``.
    """

    def take(self, n: int) -> tuple[Int[Tensor, "K"], Any]:
        """At most ``n`` new starts with an identifier each; none if there is nothing to do now."""
        ...

    def give(self, ids: Int[Tensor, "K"], results: Any) -> None:
        """Finished rows."""
        ...
