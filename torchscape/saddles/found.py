"""What a search for transition states has found."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from torchscape.brief import brief
from torchscape.points import StationaryPoints
from torchscape.saddles.verify import Outcome
from torchscape.types import Float, Int, Tensor

__all__ = ["SaddleSearch"]


@brief
@dataclasses.dataclass(frozen=True)
class SaddleSearch:
    """What a search for transition states has found, and what became of everything it tried.

    Attributes:
        ts: E distinct verified transition states, characterised (index 1).
        minus, plus: the minima at the two ends of each one's downhill paths, converged. Both may be images of
            one minimum (a degenerate rearrangement), or one and the same point.
        mode: the unstable mode of each.
        pair: the input pair (or start) whose candidate found it first.
        hits: candidates that ended in it.
        outcome: an :class:`Outcome` per candidate.
        candidate_pair: the input pair (or start) of each candidate.
        candidate_ts: the row of ``ts`` each candidate ended in, -1 where none.
        n_evaluations, n_hessians, n_hvps: energy-and-gradient evaluations, dense Hessians and Hessian-vector
            products in all; of work that was stopped and went on elsewhere, Hessians and products since it went
            on.
    """

    ts: StationaryPoints
    minus: StationaryPoints
    plus: StationaryPoints
    mode: Float[Tensor, "E D"]
    pair: Int[Tensor, "E"]
    hits: Int[Tensor, "E"]
    outcome: Int[Tensor, "C"]
    candidate_pair: Int[Tensor, "C"]
    candidate_ts: Int[Tensor, "C"]
    n_evaluations: int
    n_hessians: int
    n_hvps: int

    @classmethod
    def cat(cls, parts: Sequence[SaddleSearch], inputs: Sequence[range]) -> SaddleSearch:
        """Several searches as one, in the order of their inputs. Transition states that two of them have found are
        there twice.

        Args:
            parts: searches from other inputs of the same potential.
            inputs: numbers of the inputs of each among all of them.
        """
        n_before = itertools.accumulate((len(part) for part in parts), initial=0)
        columns: dict[str, list[Any]] = {field.name: [] for field in dataclasses.fields(cls)}
        for part, numbers, ts in zip(parts, inputs, n_before, strict=False):
            for name, column in columns.items():
                column.append(getattr(part, name))
            columns["pair"][-1] = numbers.start + numbers.step * part.pair
            columns["candidate_pair"][-1] = numbers.start + numbers.step * part.candidate_pair
            columns["candidate_ts"][-1] = torch.where(part.candidate_ts >= 0, part.candidate_ts + ts, -1)
        whole = {name: _whole(column) for name, column in columns.items()}
        return cls(**whole)._in_order()

    def _in_order(self) -> SaddleSearch:
        """The same with candidates, and what they have found, in the order of the inputs."""
        order = self.pair.argsort(stable=True)
        place = order.new_full((len(order) + 1,), -1)  # where each row goes; the last is that of no row
        place[order] = torch.arange(len(order), device=order.device)
        candidates = self.candidate_pair.argsort(stable=True)
        at_ts = {name: getattr(self, name)[order] for name in ("ts", "minus", "plus", "mode", "pair", "hits")}
        ended_in = self.candidate_ts[candidates]
        return dataclasses.replace(
            self,
            **at_ts,
            outcome=self.outcome[candidates],
            candidate_pair=self.candidate_pair[candidates],
            candidate_ts=place[ended_in],
        )

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def outcomes(self) -> dict[str, int]:
        """Number of candidates per outcome, by name."""
        counts = torch.bincount(self.outcome, minlength=len(Outcome)).tolist()
        return {outcome.name: counts[outcome] for outcome in Outcome if counts[outcome]}

    @property
    def success_rate(self) -> float:
        """Fraction of the candidates that entered refinement and ended in a verified transition state."""
        entered = int((self.outcome != Outcome.SPURIOUS_MAXIMUM).sum())
        return int((self.outcome == Outcome.VERIFIED).sum()) / entered if entered else float("nan")


def _whole(column: list[Any]) -> Any:
    """A column of several searches."""
    if isinstance(column[0], StationaryPoints):
        return StationaryPoints.cat(column)
    return torch.cat(column) if isinstance(column[0], Tensor) else sum(column)
