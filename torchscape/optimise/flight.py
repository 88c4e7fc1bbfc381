"""The rows in flight of a pool, and what waits where they do not all fit into memory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch

from torchscape import stopwatch
from torchscape.devices import HOST, asking_is_free, is_host, synchronise
from torchscape.errors import OutOfMemory
from torchscape.memory import attempt, in_parts, limits_of, note
from torchscape.optimise.protocols import Forgetting, Leaping, Source, Stepper, Tended
from torchscape.optimise.repeated import Repeated
from torchscape.optimise.rows import map_rows, n_rows, put_rows, take_rows
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.types import Bool, Int, Tensor

__all__ = ["Flight"]

_BLIND = 0.5  # seconds of steps at most that a device is told to do at once, where a stopwatch runs


@dataclasses.dataclass
class Flight:
    """Rows that a stepper advances together; starts and halves of flights for which there is no room wait.

    Where memory runs out in a step, half of the rows move to the host, as they are, and fly once the others have
    landed; where it runs out in beginning, half of the starts wait. No row notices: each has its own state, and a
    step that failed is repeated from the state it was given.
    """

    stepper: Stepper
    tended: Tended | None
    potential: Potential
    source: Source
    size: int

    def __post_init__(self) -> None:
        self.ids: Int[Tensor, "B"] = torch.empty(0, dtype=torch.int64)
        self.state: Any = None
        self._starts: list[tuple[Tensor, Any]] = []  # taken from the source, not begun
        self._parked: list[tuple[Tensor, Any]] = []  # begun, on the host
        on_host = is_host(self.potential.device)
        self._leaping = self.stepper if on_host and isinstance(self.stepper, Leaping) else None
        self._repeated = Repeated.of(self.stepper, self.potential)
        self._limits = limits_of(self.potential)
        self._key = ("in flight", repr(self.stepper), self.potential.device, self.potential.dtype)
        self.size = self._limits.most(self._key, self.size)
        self._room = 0  # rows that the buffers of the state were made for, in host memory
        self._born = torch.empty(0, dtype=torch.int64)  # at which step each row began; for the host
        self._finished: Bool[Tensor, "B"] | None = None  # at the last look
        self._n_steps = 0
        self._pace = 0.0  # seconds that a step took in the last lot
        # What rows that begin may go on from, where they have been before.
        self.resume: Callable[[Tensor, Any], Any] = lambda ids, state: state

    def begin(self) -> bool:
        """Rows into an empty flight: those that were parked, else new ones. False if there are none."""
        self._release()
        if self._parked:
            ids, state = self._parked.pop()
            if len(ids) > self.size:
                self._parked.append((ids[self.size :], take_rows(state, slice(self.size, None))))
            self.ids, self.state = ids[: self.size], take_rows(state, slice(self.size))
            return self._return()
        while True:
            ids, x = self._take(self.size)
            if len(ids) == 0:
                return False
            fits, state = attempt(self.stepper.init, self.potential, x, given_up=True)
            if fits:
                self.ids, self.state = ids, self.resume(ids, state)
                self._room = len(ids)
                return True
            half = self._halve(len(ids), "new rows", state)
            self._starts += [(ids[rows], take_rows(x, rows)) for rows in (slice(half, None), slice(half))]

    def advance(self, n_steps: int) -> Bool[Tensor, "B"]:
        """So many steps, and what the stepper does for rows that want something; which rows have finished, told by
        one copy to the host."""
        began, before = time.monotonic(), self._n_steps
        self._step(n_steps)
        try:
            return self._looked(n_steps)
        finally:
            self._pace = (time.monotonic() - began) / max(1, self._n_steps - before)

    def _looked(self, n_steps: int) -> Bool[Tensor, "B"]:
        """Which rows have finished, after the stepper has done something for those that want it."""
        finished = self.state.status != Status.RUNNING
        wants = None if self.tended is None else self.tended.wants(self.state, n_steps)
        if wants is None:
            self._finished = finished.to(HOST)
            return self._finished
        if not asking_is_free(finished):
            finished, wants = torch.stack([finished, wants]).to(HOST)
        rows = torch.nonzero(wants)[:, 0]
        if len(rows):

            def tend(potential: Potential, state: Any) -> Any:
                there = rows[rows < n_rows(state)]  # some may have been parked meanwhile
                return self.tended.tend(potential, state, there.to(state.status.device))  # type: ignore[union-attr]

            self._do(tend)
        self._finished = finished[: len(self.ids)]
        return self._finished

    def _step(self, n_steps: int) -> None:
        """So many steps; fewer if the time is up, after which there are no more.

        A device is told what to do long before it does it. Where its steps take long, it is waited for now and
        then, which no row notices.
        """
        leaping = self._leaping
        if n_steps > 1 and leaping is not None:
            self._do(lambda potential, state: leaping.leap(potential, state, n_steps))
            self._n_steps += n_steps
            return
        one_step = self.stepper.step if self._repeated is None else self._repeated.step
        watch, device = stopwatch.current(), torch.device(self.potential.device)
        if watch is None or n_steps == 1:
            for _ in range(n_steps):
                self._do(one_step)
            self._n_steps += n_steps
            return
        every = max(1, int(_BLIND / self._pace)) if self._pace else n_steps
        number = 0
        while number < n_steps:
            self._do(one_step)
            number += 1
            if number % every == 0 and number < n_steps:
                synchronise(device)
            if watch.is_over():
                break
        self._n_steps += number

    def stride(self) -> int:
        """Steps until the next look in host memory."""
        return 1 if self._leaping is None else self._leaping.stride(self.potential, self.state)

    def patience(self) -> int:
        """Steps until the next look on a device, from the steps that each row has made.

        Most rows of a lot need about as many: a look soon after another shows little that is new, and a row that
        has finished waits for a part of what it has taken.
        """
        if len(self._born) != len(self.ids):  # another lot
            self._born = torch.full((len(self.ids),), self._n_steps)
        age = self._n_steps - self._born
        if self._finished is not None and len(self._finished) == len(age):
            age = age[~self._finished]
        return max(8, int(age.median()) // 2) if len(age) else 8

    def hand_over(self) -> None:
        """Results of the rows that had finished at the last look to the source; the others are given up."""
        if self._finished is None or len(self._finished) != len(self.ids):
            return
        done = torch.nonzero(self._finished)[:, 0]
        if len(done):
            with stopwatch.running(stopwatch.Stopwatch()):  # that the time is up must not stop this
                self._give(done, done.to(self.state.status.device))

    def land(self, done: Int[Tensor, "K"], finished: Bool[Tensor, "B"]) -> None:
        """Results of the finished rows to the source; newcomers in their place."""
        there = done.to(self.state.status.device)
        self._give(done, there)
        self._exchange(done, there, finished)

    def _give(self, done: Int[Tensor, "K"], there: Int[Tensor, "K"]) -> None:
        """Results of the given rows (``there``: the same numbers on the device) to the source."""

        state = self.stepper.ends(self.state) if isinstance(self.stepper, Forgetting) else self.state

        def result(rows: Tensor) -> Any:
            return self.stepper.result(self.potential, take_rows(state, rows))

        results = in_parts(result, (there,), limits=self._limits, key=(*self._key, "result"), what="results")
        for rows, part in zip(torch.split(done, [n_rows(part) for part in results]), results, strict=True):
            self.source.give(self.ids[rows], part)

    def _close_ranks(self, left: Int[Tensor, "K"], keep: Int[Tensor, "N"]) -> None:
        """The last of the rows that stay move into the places of those that have ``left``: no other is copied."""
        n = len(keep)
        holes, movers = left[left < n], keep[keep >= n]
        assert self._finished is not None
        columns = [self.ids.clone(), self._finished.clone()]
        if len(self._born) == len(self.ids):
            columns.append(self._born)
        for column in columns:
            column[holes] = column[movers]
        self.ids, self._finished = columns[0][:n], columns[1][:n]
        if len(columns) > 2:
            self._born = self._born[:n]
        self.state = take_rows(put_rows(self.state, holes, take_rows(self.state, movers)), slice(n))

    # --- where there is room ------------------------------------------------------------------------------------

    def _take(self, n: int) -> tuple[Tensor, Any]:
        """At most n starts: those that wait, else from the source."""
        if not self._starts:
            return self.source.take(n)
        ids, x = self._starts.pop()
        if len(ids) > n:
            self._starts.append((ids[n:], take_rows(x, slice(n, None))))
        return ids[:n], take_rows(x, slice(n))

    def _exchange(self, done: Int[Tensor, "K"], there: Int[Tensor, "K"], finished: Bool[Tensor, "B"]) -> None:
        """Newcomers move into finished rows (``there``: on the device), and what is left of those is dropped."""
        ids, x = self._take(max(0, self.size - len(self.ids) + len(done)))
        n = min(len(done), len(ids))
        if n:
            fits, fresh = attempt(self.stepper.init, self.potential, take_rows(x, slice(n)), given_up=True)
            if fits:
                self.ids = self.ids.clone()
                self.ids[done[:n]] = ids[:n]
                self.state = put_rows(self.state, there[:n], self.resume(ids[:n], fresh))
                if len(self._born) == len(self.ids):
                    self._born[done[:n]] = self._n_steps
            else:
                self._halve(len(self.ids) + 1, "rows in flight and newcomers", fresh)
                n = 0
        if n < len(ids):
            self._starts.append((ids[n:], take_rows(x, slice(n, None))))
        finished = finished.clone()
        finished[done[:n]] = False
        self._finished = finished
        if n == len(done):
            return
        keep = torch.nonzero(~finished)[:, 0]
        kept = keep
        if asking_is_free(there) and 2 * len(keep) > self._room:
            self._close_ranks(done[n:], keep)
            return
        if not asking_is_free(there):  # the same without another copy
            dropped = torch.zeros_like(self.state.status).index_fill(0, there[n:], 1)
            kept = dropped.argsort(stable=True)[: len(keep)]
        if len(self._born) == len(self.ids):
            self._born = self._born[keep]
        self.ids, self._finished = self.ids[keep], finished[keep]
        self._release()
        fits, state = attempt(take_rows, self.state, kept)
        if fits:
            self.state, self._room = state, len(keep)
        else:  # the copy finds no room beside the original
            self.state = take_rows(_move(self.state, HOST), keep)
            self._return()

    # --- where there is none ------------------------------------------------------------------------------------

    def _do(self, step: Callable[[Potential, Any], Any]) -> None:
        """One step of the stepper, with as many rows as it takes."""
        while True:
            fits, state = attempt(step, self.potential, self.state, given_up=True)
            if fits:
                self.state = state
                return
            self._park_half(state)

    def _park_half(self, said: str) -> None:
        """The second half of the rows waits on the host; the first is all that is left on the device."""
        half = self._halve(len(self.ids), "rows in flight", said)
        self._release()
        near, far = (_move(self.state, HOST, rows) for rows in (slice(half), slice(half, None)))
        self.state = near
        self._parked.append((self.ids[half:], far))
        self.ids = self.ids[:half]
        self._return()

    def _release(self) -> None:
        """The memory of a recorded step, which is no use to other rows."""
        if self._repeated is not None:
            self._repeated.forget()

    def _return(self) -> bool:
        """The state from the host to the device, as much of it as fits."""
        device = torch.device(self.potential.device)
        while True:
            fits, state = attempt(_move, self.state, device)
            if fits:
                self.state, self._room = state, len(self.ids)
                return True
            half = self._halve(len(self.ids), "rows that return from the host", state)
            self._parked.append((self.ids[half:], take_rows(self.state, slice(half, None))))
            self.ids, self.state = self.ids[:half], take_rows(self.state, slice(half))

    def _halve(self, n: int, what: str, said: str) -> int:
        if n == 1:
            raise OutOfMemory(
                f"not even one row of {type(self.stepper).__name__} fits into the memory of "
                f"{self.potential.device} beside what else is there: use a smaller problem, float32, or a device "
                f"with more memory ({said})"
            )
        self.size = self._limits[self._key] = half = (n + 1) // 2
        note(f"memory ran out with {n} {what}: goes on with {half}, the others wait")
        return half


def _move(state: Any, device: torch.device, rows: slice = slice(None)) -> Any:
    """Some rows of a state on another device; on their own, these are views."""
    return map_rows(lambda value: value[rows].to(device), state)
