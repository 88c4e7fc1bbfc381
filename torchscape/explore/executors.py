"""Executors run tasks: here, one after the other on the potential's own device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from torchscape.explore.tasks import Found, Task
from torchscape.potentials.base import Potential

__all__ = ["Executor", "InProcess"]


@runtime_checkable
class Executor(Protocol):
    """Runs the tasks of a round and yields their results in the order of the tasks."""

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]: ...


@dataclasses.dataclass(frozen=True)
class InProcess:
    """In this process, in order. A task is already a whole batch, so one process fills one device."""

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        for task in tasks:
            yield task.run(potential)
