"""Tasks: pure functions of (potential, inputs, seed) that an executor may run anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles import SaddleSearch
from torchscape.transfer import moved

__all__ = ["Found", "Task"]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a task found, for the run loop to write.

    Attributes:
        minima: every quench that ended, in the order of its starts (converged or not: the status says).
        saddles: transition states with both their ends.
        higher: stationary points of index 2 and more.
        state: tensors and numbers that the strategy wants back.
        n_quenches: minimisations from new starting points.
        n_evaluations: energy-and-gradient evaluations.
    """

    minima: StationaryPoints
    saddles: SaddleSearch | None = None
    higher: StationaryPoints | None = None
    state: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    n_quenches: int = 0
    n_evaluations: int = 0

    def to(self, device: torch.device | str) -> Found:
        """The same on another device: everything in one copy."""
        return moved(self, device)


@runtime_checkable
class Task(Protocol):
    """A unit of work. ``run`` has no side effects: same potential and task, same result."""

    kind: str

    def run(self, potential: Potential) -> Found: ...
