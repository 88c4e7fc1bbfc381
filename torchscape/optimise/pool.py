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
from torchscape.optimise.protocols import Sized, Source, Stepper, Tended
from torchscape.optimise.recall import kept_source
from torchscape.optimise.rows import columns_of, map_rows, n_rows, take_rows
from torchscape.potentials.base import Potential
from torchscape.types import Int, Tensor
from torchscape.validation import COUNT, check_fields

__all__ = ["Pool", "Queue", "Source", "Stepper", "Tended", "available_memory", "run_pool"]


@dataclasses.dataclass
class Queue:
    """A fixed list of starts; results are handed back in the order of the starts by :meth:`ordered`.

    Identifiers are for the host to keep, wherever the starts lie.

    Attributes:
        starts: what the stepper begins from: points, or a dataclass of tensors with one row for each start.
        taken: how many of them the pool has.
    """

    starts: Any
    taken: int = 0

    def __post_init__(self) -> None:
        self._ids: list[Tensor] = []
        self._results: list[Any] = []

    def take(self, n: int) -> tuple[Int[Tensor, "K"], Any]:
        ids = torch.arange(self.taken, min(self.taken + n, n_rows(self.starts)))
        some = take_rows(self.starts, slice(self.taken, self.taken + len(ids)))
        self.taken += len(ids)
        return ids, map_rows(torch.clone, some)  # steppers write into what they were given

    @property
    def is_exhausted(self) -> bool:
        """Whether all starts have been taken."""
        return self.taken >= n_rows(self.starts)

    def give(self, ids: Int[Tensor, "K"], results: Any) -> None:
        self._ids.append(ids)
        self._results.append(results)

    def ordered(self) -> Any:
        """All results, row i belonging to start i."""
        order = torch.cat(self._ids).argsort()
        results = type(self._results[0]).cat(self._results)
        if bool((order[1:] > order[:-1]).all()):  # as they are
            return results
        return results[order.to(columns_of(self.starts)[0].device)]


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

    @classmethod
    def fitting(
        cls, stepper: Sized, potential: Potential, n: int, *, numbers: int | None = None, most: int = 2048
    ) -> Pool:
        """A pool of as many rows as the memory of the device has room for, ``n`` and ``most`` at most.

        Args:
            stepper: says what a row takes (``bytes_per_row``).
            potential: U.
            n: rows that there are.
            numbers: coordinates of a row; None for those of one point.
            most: rows in flight, however much memory there is.
        """
        per_row = max(1, stepper.bytes_per_row(numbers or potential.ndim, potential.dtype))
        fits = available_memory(torch.device(potential.device)) // per_row
        return cls(stepper, max(1, min(n, most, fits)))

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
                    stride = flight.stride() if on_host else flight.patience()
                    finished = flight.advance(self.check_every or stride)
                    done = torch.nonzero(finished)[:, 0]
                    if on_step is not None:
                        on_step(len(flight.ids) - len(done))
                    # Retiring copies the state, so a few finished rows may wait while many others run.
                    if len(done) and len(done) >= _least(on_host, stride, source) * len(flight.ids):
                        flight.land(done, finished)
                    stopwatch.look()
                    stopwatch.check()


def run_pool(
    stepper: Sized,
    potential: Potential,
    starts: Any,
    *,
    size: int | None = None,
    most: int = 2048,
    on_finished: Callable[[int], None] | None = None,
) -> Any:
    """The results of a stepper from all starts, row i belonging to start i.

    Args:
        stepper: what runs.
        potential: U.
        starts: at least one; points [N D], or a dataclass whose first tensor holds the coordinates.
        size: rows in flight; None for as many as memory allows.
        most: of them, at most, where memory decides.
        on_finished: is told the number of rows that have finished, after every look at them.
    """
    queue, x = Queue(starts), columns_of(starts)[0]
    if size is None:
        pool = Pool.fitting(stepper, potential, len(x), numbers=x[0].numel(), most=most)
    else:
        pool = Pool(stepper, size)
    told = None if on_finished is None else lambda running: on_finished(queue.taken - running)
    pool.run(potential, queue, on_step=told)
    return queue.ordered()


def _least(on_host: bool, stride: int, source: Source) -> float:
    """Part of the rows that must have finished before they are retired."""
    if on_host:  # where rows leap, those that have finished cost nothing
        return 0.05 if stride == 1 else 0.25
    # A device hardly notices idle rows; they are exchanged for others earlier than they are merely dropped.
    return 0.5 if getattr(source, "is_exhausted", False) else 0.125
