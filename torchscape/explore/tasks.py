"""Tasks: pure functions of (potential, inputs, seed) that an executor may run anywhere, whole or in parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from torchscape.brief import brief
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles import Follow, SaddleSearch
from torchscape.saddles.candidates import Candidates
from torchscape.saddles.known import Known
from torchscape.saddles.labour import HERE, Labour
from torchscape.saddles.search import verify_candidates
from torchscape.transfer import moved
from torchscape.types import Float, Tensor

__all__ = ["Divisible", "Found", "Task", "blocks", "dealt", "joined_candidates", "joined_saddles"]


@brief
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
        further: what is left to be done with what the parts of a task have found, by whose labour it may be.
    """

    minima: StationaryPoints
    saddles: SaddleSearch | None = None
    higher: StationaryPoints | None = None
    state: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    n_quenches: int = 0
    n_evaluations: int = 0
    further: Callable[[Potential, Labour], Found] | None = None

    def completed(self, potential: Potential, labour: Labour = HERE) -> Found:
        """With nothing left to be done."""
        return self if self.further is None else self.further(potential, labour)

    def to(self, device: torch.device | str) -> Found:
        """The same on another device: everything in one copy."""
        return moved(self, device)


@runtime_checkable
class Task(Protocol):
    """A unit of work. ``run`` has no side effects: same potential and task, same result."""

    kind: str

    def run(self, potential: Potential) -> Found: ...


@runtime_checkable
class Divisible(Task, Protocol):
    """A task of rows that do not notice each other, which several workers may share.

    Whoever runs it decides into how many parts. That changes nothing but last digits: a row of a batch gets other
    ones than alone.
    """

    @property
    def n_rows(self) -> int:
        """Rows that could be tasks of their own."""

    def divided(self, n: int) -> Sequence[Task]:
        """At most ``n`` tasks of about as many rows each that do together what this one does."""

    def joined(self, found: Sequence[Found]) -> Found:
        """What the parts have found, in the order in which this task would have found it. Where something is left
        to be done with that (``further`` of what is found), whoever joins them does it."""


def blocks(n_rows: int, n: int) -> list[slice]:
    """At most ``n`` runs of about as many of ``n_rows`` rows each.

    Example:
        >>> blocks(5, 2)
        [slice(0, 3, None), slice(3, 5, None)]
    """
    n = max(1, min(n, n_rows))
    sizes = [n_rows // n + (number < n_rows % n) for number in range(n)]
    starts = [sum(sizes[:number]) for number in range(n)]
    return [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def dealt(n_rows: int, n: int) -> list[slice]:
    """At most ``n`` shares of about as many of ``n_rows`` rows each, dealt in turn.

    Rows may stand in the order of what they cost, as pairs do with the nearest first: no share shall have all
    those that take long.

    Example:
        >>> dealt(5, 2)
        [slice(0, 5, 2), slice(1, 5, 2)]
    """
    n = max(1, min(n, n_rows))
    return [slice(first, n_rows, n) for first in range(n)]


def joined_saddles(found: Sequence[Found], inputs: Sequence[range]) -> Found:
    """Findings of searches for transition states, each from the inputs of these numbers."""
    saddles = SaddleSearch.cat([_saddles(one) for one in found], inputs)
    return Found(
        StationaryPoints.cat([one.minima for one in found]),
        saddles,
        n_quenches=sum(one.n_quenches for one in found),
        n_evaluations=sum(one.n_evaluations for one in found),
    )


def joined_candidates(
    found: Sequence[Found],
    inputs: Sequence[range],
    refine: Follow,
    tol: float | None,
    known: Float[Tensor, "K D"] | Known | None,
    *,
    is_part: bool = False,
) -> Found:
    """Findings of searches whose parts hand on candidates: they are verified together, as several parts have come
    to the same points; or what the parts have verified themselves. A part of a part hands on what it has."""
    parts = [one.state["candidates"] for one in found if "candidates" in one.state]
    if len(parts) < len(found):
        return joined_saddles(found, inputs)
    candidates = Candidates.cat(parts, inputs)
    if is_part:
        return Found(found[0].minima[:0], state={"candidates": candidates})
    return Found(found[0].minima[:0], further=_Verification(candidates, refine, tol, known))


@dataclasses.dataclass(frozen=True)
class _Verification:
    """Of candidates that have been put together."""

    candidates: Candidates
    refine: Follow
    tol: float | None
    known: Float[Tensor, "K D"] | Known | None

    def __call__(self, potential: Potential, labour: Labour) -> Found:
        candidates, known = moved((self.candidates, self.known), potential.device)
        saddles = verify_candidates(
            potential,
            candidates,
            refine=self.refine,
            tol=self.tol,
            known=None if known is None else known.to(potential.dtype),
            labour=labour,
        )
        return Found(saddles.minus[:0], saddles, n_evaluations=saddles.n_evaluations)


def _saddles(found: Found) -> SaddleSearch:
    assert found.saddles is not None
    return found.saddles
