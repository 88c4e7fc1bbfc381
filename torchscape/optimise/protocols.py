"""What a pool runs and what it is fed from."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torchscape.potentials.base import Potential
from torchscape.types import Float, Int, Tensor

__all__ = ["Source", "Stepper", "Tended"]


@runtime_checkable
class Stepper(Protocol):
    """Anything that advances a batch of rows: a minimiser, a saddle search, a band.

    Where memory runs out in the middle of a step, the step is repeated from the state it was given, for fewer
    rows. A step may write into that state's buffers only what it would write again.
    """

    def init(self, potential: Potential, x: Tensor) -> Any: ...

    def step(self, potential: Potential, state: Any) -> Any: ...

    def result(self, potential: Potential, state: Any) -> Any: ...


@runtime_checkable
class Tended(Stepper, Protocol):
    """A stepper that does something for some rows whenever the pool looks at them (which asks the host, so no step
    may)."""

    def tend(self, potential: Potential, state: Any) -> Any: ...


@runtime_checkable
class Source(Protocol):
    """Where starts come from and where results go. Both are called with the pool's rows in any order."""

    def take(self, n: int) -> tuple[Int[Tensor, "K"], Float[Tensor, "K D"]]:
        """At most ``n`` new starts with an identifier each; none if there is nothing to do now."""
        ...

    def give(self, ids: Int[Tensor, "K"], results: Any) -> None:
        """Finished rows."""
        ...
