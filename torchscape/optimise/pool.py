"""The pool keeps the device full: finished rows are retired and queued starts admitted in flight."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from torchscape import stopwatch
from torchscape.devices import is_host
from torchscape.memory import available_memory
from torchscape.optimise.flight import Flight
from torchscape.optimise.ledger import kept_source
from torchscape.optimise.protocols import Source, Stepper, Tended
from torchscape.potentials.base import Potential
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, check_fields

__all__ = ["Pool", "Queue", "Source", "Stepper", "Tended", "available_memory"]


@dataclasses.dataclass
class Queue:
    """A fixed list of starts; results are handed back in the order of the starts by :meth:`ordered`.

    Identifiers are for the host to keep, wherever the starts lie.
    """

    starts: Float[Tensor, "N D"]
    taken: int = 0

    def __post_init__(self) -> None:
        self._ids: list[Tensor] = []
        self._results: list[Any] = []

    def take(self, n: int) -> tuple[Int[Tensor, "K"], Float[Tensor, "K D"]]:
        ids = torch.arange(self.taken, min(self.taken + n, len(self.starts)))
        x = self.starts[self.taken : self.taken + len(ids)].clone()  # steppers write into what they were given
        self.taken += len(ids)
        return ids, x

    @property
    def is_exhausted(self) -> bool:
        """Whether all starts have been taken."""
        return self.taken >= len(self.starts)

    def give(self, ids: Int[Tensor, "K"], results: Any) -> None:
        self._ids.append(ids)
        self._results.append(results)

    def ordered(self) -> Any:
        """All results, row i belonging to start i."""
        order = torch.cat(self._ids).argsort()
        results = type(self._results[0]).cat(self._results)
        if bool((order[1:] > order[:-1]).all()):  # as they are
            return results
        return results[order.to(self.starts.device)]


@dataclasses.dataclass(frozen=True)
class Pool:
    """Runs a stepper over everything a source supplies, at most ``size`` rows at a time, or as many as fit.

    Attributes:
        stepper: what advances the rows. Its state has a ``status`` per row; a row is finished as soon as that
            is not ``RUNNING``.
        size: rows in flight.
        check_every: steps between two looks at the rows, which ask the host once. None for one on a CPU, where
            asking is free; on a device for half of the steps that half of the running rows have made, and 8 at
            least.
    """

    stepper: Stepper
    size: int
    check_every: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, size=COUNT, check_every=COUNT.or_none)

    def run(
        self,
        potential: Potential,
        source: Source,
        *,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        """Until the source has no more starts and every row is finished.

        ``on_step(n_running)`` is called after every look at the rows; it may raise to stop the run. So does a
        :class:`~torchscape.stopwatch.Stopwatch`; the rows that have finished by then are handed to the source.
        """
        tended = self.stepper if isinstance(self.stepper, Tended) else None
        flight = Flight(self.stepper, tended, potential, source, self.size)
        on_host = is_host(potential.device)
        with kept_source(flight):
            while flight.begin():
                while len(flight.ids):
                    finished = flight.advance(self.check_every or (1 if on_host else flight.patience()))
                    done = torch.nonzero(finished)[:, 0]
                    if on_step is not None:
                        on_step(len(flight.ids) - len(done))
                    # Retiring copies the state, so a few finished rows may wait while many others run.
                    if len(done) and len(done) >= _least(on_host, source) * len(flight.ids):
                        flight.land(done, finished)
                    stopwatch.look()
                    stopwatch.check()


def _least(on_host: bool, source: Source) -> float:
    """Part of the rows that must have finished before they are retired."""
    if on_host:
        return 0.05
    # A device hardly notices idle rows; they are exchanged for others earlier than they are merely dropped.
    return 0.5 if getattr(source, "is_exhausted", False) else 0.125
