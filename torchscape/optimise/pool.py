"""The pool keeps the device full: finished rows are retired and queued starts admitted in flight."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch

from torchscape.devices import asking_is_free, total_memory
from torchscape.optimise.rows import put_rows, take_rows
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, check_fields

__all__ = ["Pool", "Queue", "Source", "Stepper", "Tended", "available_memory"]


@runtime_checkable
class Stepper(Protocol):
    """Anything that advances a batch of rows: a minimiser, a saddle search, a band."""

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


@dataclasses.dataclass
class Queue:
    """A fixed list of starts; results are handed back in the order of the starts by :meth:`ordered`."""

    starts: Float[Tensor, "N D"]
    taken: int = 0

    def __post_init__(self) -> None:
        self._ids: list[Tensor] = []
        self._results: list[Any] = []

    def take(self, n: int) -> tuple[Int[Tensor, "K"], Float[Tensor, "K D"]]:
        ids = torch.arange(self.taken, min(self.taken + n, len(self.starts)), device=self.starts.device)
        self.taken += len(ids)
        return ids, self.starts[ids]

    def give(self, ids: Int[Tensor, "K"], results: Any) -> None:
        self._ids.append(ids)
        self._results.append(results)

    def ordered(self) -> Any:
        """All results, row i belonging to start i."""
        order = torch.cat(self._ids).argsort()
        return type(self._results[0]).cat(self._results)[order]


@dataclasses.dataclass(frozen=True)
class Pool:
    """Runs a stepper over everything a source supplies, at most ``size`` rows at a time.

    Attributes:
        stepper: what advances the rows. Its state has a ``status`` per row; a row is finished as soon as that
            is not ``RUNNING``.
        size: rows in flight.
        check_every: steps between questions to the host; None for every step on a CPU, 8 on a device.
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

        ``on_step(n_running)`` is called after every look at the rows; it may raise to stop the run.
        """
        ids, x = source.take(self.size)
        if len(ids) == 0:
            return
        state = self.stepper.init(potential, x)
        every = self.check_every or (1 if asking_is_free(x) else 8)
        tended = self.stepper if isinstance(self.stepper, Tended) else None
        while True:
            for _ in range(every):
                state = self.stepper.step(potential, state)
            if tended is not None:
                state = tended.tend(potential, state)
            finished = state.status != Status.RUNNING
            done = torch.nonzero(finished)[:, 0]
            if on_step is not None:
                on_step(len(ids) - len(done))
            # Retiring copies the state, so a few finished rows may wait while many others run.
            if len(done) == 0 or (len(done) < 0.05 * len(ids)):
                continue
            source.give(ids[done], self.stepper.result(potential, take_rows(state, done)))
            new_ids, new_x = source.take(self.size - len(ids) + len(done))
            ids, state = self._exchange(potential, ids, state, done, finished, new_ids, new_x)
            if len(ids) == 0:
                return

    def _exchange(self, potential, ids, state, done, finished, new_ids, new_x):
        """Newcomers move into finished rows; rows for which there is no newcomer are dropped."""
        n = min(len(done), len(new_ids))
        if n:
            ids = ids.clone()
            ids[done[:n]] = new_ids[:n]
            state = put_rows(state, done[:n], self.stepper.init(potential, new_x[:n]))
        if n < len(done):
            finished = finished.clone()
            finished[done[:n]] = False
            keep = torch.nonzero(~finished)[:, 0]
            ids, state = ids[keep], take_rows(state, keep)
        return ids, state


def available_memory(device: torch.device) -> int:
    """Bytes that may be planned with on the device: a quarter of all it has.

    Of all, not of what is free at the moment: batch sizes follow from this, and with them the last digits of
    every result, which must be the same each time.
    """
    return total_memory(device) // 4
