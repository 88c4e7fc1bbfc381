"""Steps on a device that are told once and started again as one.

A device waits for the host where kernels are small: a step of 64 rows starts some 300 of them, one by one. Where
``potential.compile`` asks for it and the device records what it is told (a CUDA graph), a step is recorded,
evaluation and all, and replayed. Shapes and places in memory stay for that: rows that have finished are evaluated
on, masked, until the pool gives their places to others or drops them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from torchscape.devices import free_memory, is_host, recorder
from torchscape.memory import attempt, available_memory, limits_of
from torchscape.optimise.protocols import Repeatable
from torchscape.optimise.rows import columns_of, map_rows, n_rows
from torchscape.potentials.base import Potential
from torchscape.types import Tensor

__all__ = ["Repeated"]

_CLOSE = {torch.float64: 1e-6, torch.float32: 1e-2}  # of the largest number of a column


class Repeated:
    """Steps of a minimiser, in buffers that stay as long as its rows do.

    The first step with other rows is taken as ever; what is made at first use is made then. The second is taken as
    ever, too, with a copy of the rows, and recorded and replayed with the rows themselves: the recording is
    believed if both come to the same. Whatever goes wrong in recording, steps are taken as ever from then on.

    Args:
        stepper: whose step is an evaluation and a function of tensors.
        potential: U, on a device.
        record: records what the device is told (:func:`~torchscape.devices.recorder`).

    Attributes:
        n_recorded: how many times a step was recorded.
    """

    def __init__(
        self, stepper: Repeatable, potential: Potential, record: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.stepper, self.n_recorded = stepper, 0
        self._limits = stepper.limits(potential, potential.dtype)
        self._record: Callable[[], AbstractContextManager[Any]] | None = record
        self._state: Any = None  # in whose buffers steps are taken
        self._graph: Any = None  # the recorded step

    @classmethod
    def of(cls, stepper: Any, potential: Potential) -> Repeated | None:
        """For this stepper and potential, where that is asked for and can be; why not, the potential is told."""
        if is_host(potential.device) or not potential.compile or not isinstance(stepper, Repeatable):
            return None
        record = recorder(potential.device)
        if record is None:
            potential.tell_of_steps(f"steps are not replayed: {potential.device} records nothing")
            return None
        return cls(stepper, potential, record)

    def step(self, potential: Potential, state: Any) -> Any:
        """The state after another step. That before is given away, and what comes back is written at the next."""
        if not self._is_mine(state):
            self.forget()
            after = self._once(potential, self.stepper.settled(state))
            if self._record is not None:
                after = self._state = _apart(after)
            return after
        if self._graph is None:
            return self._recorded(potential, state)
        self._graph.replay()
        _charge(potential, n_rows(state))
        return self._state

    def forget(self) -> None:
        """Buffers and what was recorded: their memory is wanted, or the rows are others."""
        self._state = self._graph = None

    def _is_mine(self, state: Any) -> bool:
        """Whether the rows lie in the buffers in which the last step left them."""
        if self._state is None:
            return False
        mine, given = columns_of(self._state), columns_of(state)
        return len(mine) == len(given) and all(a is b for a, b in zip(mine, given, strict=True))

    def _recorded(self, potential: Potential, state: Any) -> Any:
        """The state after a step that was recorded and replayed, or taken as ever where that cannot be."""
        limits = limits_of(potential)
        before = dict(limits)
        fits, why = (
            attempt(self._tried, potential, given_up=True) if self._has_room() else (False, "memory is short")
        )
        if limits != before:  # rows were halved beside the copy, as is not needed without it
            limits.clear()
            limits.update(before)
            why = why or "memory is short"
        if not why:
            if self.n_recorded == 1:
                potential.tell_of_steps("steps are replayed")
            return self._state
        potential.tell_of_steps(f"steps are not replayed: {why}")
        self._record = None
        self.forget()
        return state if fits else self._once(potential, state)

    def _has_room(self) -> bool:
        """Whether the copy leaves as much as may be planned with, for what a step needs on the way."""
        columns = columns_of(self._state)
        size = sum(column.numel() * column.element_size() for column in columns)
        return free_memory(columns[0].device) - size >= available_memory(columns[0].device)

    def _tried(self, potential: Potential) -> str:
        """Take a step, record it and replay it; why steps cannot be replayed, else empty. In either case the
        buffers then hold the rows after the step."""
        assert self._record is not None
        expected = self._once(potential, map_rows(torch.clone, self._state))
        is_told = False
        try:
            with self._record() as graph:
                is_told = True
                _put(self._once(potential, self._state), self._state)
            graph.replay()
            why = "" if _agree(self._state, expected) else "they would go elsewhere"
        except RuntimeError as error:
            why = str(error).partition("\n")[0] or type(error).__name__
        if is_told:
            _charge(potential, -n_rows(self._state))  # evaluated once, counted twice
        if why:
            _put(expected, self._state)
        else:
            self._graph, self.n_recorded = graph, self.n_recorded + 1
        return why

    def _once(self, potential: Potential, state: Any) -> Any:
        return self.stepper.advanced(self._limits, state, self.stepper.evaluate(potential, state))


def _charge(potential: Potential, n: int) -> None:
    """Whoever counts evaluations is told of those that are replayed."""
    if (charge := getattr(potential, "charge", None)) is not None:
        charge(n)


def _apart(state: Any) -> Any:
    """The state with a place in memory of its own for every column."""
    seen = set[int]()

    def own(column: Tensor) -> Tensor:
        place = column.untyped_storage().data_ptr()
        if place in seen or not column.is_contiguous():
            column = column.clone(memory_format=torch.contiguous_format)
        seen.add(column.untyped_storage().data_ptr())
        return column

    return map_rows(own, state)


def _put(after: Any, state: Any) -> None:
    """What ``after`` holds is written to ``state``; what lies in another of its columns is copied before."""
    columns = columns_of(state)
    places = {column.untyped_storage().data_ptr() for column in columns}
    pairs = [
        (mine, new.clone() if new.untyped_storage().data_ptr() in places else new)
        for mine, new in zip(columns, columns_of(after), strict=True)
        if new.data_ptr() != mine.data_ptr()
    ]
    for mine, new in pairs:
        mine.copy_(new)


def _agree(ours: Any, theirs: Any) -> bool:
    """Whether the rows are where they would be, and go where they would go, to rounding."""
    close = []
    for name in ("x", "trial", "energy", "grad"):
        a, b = getattr(ours, name), getattr(theirs, name)
        scale = b.abs().nan_to_num(posinf=0.0).max()
        close.append((((a - b).abs() <= _CLOSE[a.dtype] * scale) | (a == b) | (a.isnan() & b.isnan())).all())
    return bool(torch.stack(close).all())
