"""Where searches for transition states have ended, before anything of it is verified."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch

from torchscape.points import StationaryPoints
from torchscape.potentials.counted import Metered
from torchscape.types import Float, Int, Tensor

__all__ = ["Candidates"]


@dataclasses.dataclass(frozen=True)
class Candidates:
    """C candidates, of which R were followed.

    Attributes:
        owner: the input pair (or start) of each candidate, ascending.
        entered: the numbers of those that were followed, ascending.
        points: where these have ended.
        mode: their lowest modes there; None where they are not known.
        n_evaluations, n_hessians, n_hvps: what that has cost.
    """

    owner: Int[Tensor, "C"]
    entered: Int[Tensor, "R"]
    points: StationaryPoints
    mode: Float[Tensor, "R D"] | None
    n_evaluations: int = 0
    n_hessians: int = 0
    n_hvps: int = 0

    def charged(self, u: Metered) -> Candidates:
        """With the costs that ``u`` has counted."""
        return dataclasses.replace(self, n_evaluations=u.n_gradients, n_hessians=u.n_hessians, n_hvps=u.n_hvps)

    @classmethod
    def cat(cls, parts: Sequence[Candidates], inputs: Sequence[range]) -> Candidates:
        """Several searches as one, in the order of their inputs, as one search of all inputs has them.

        Args:
            parts: of other inputs of the same potential, all with modes.
            inputs: numbers of the inputs of each among all of them.
        """
        before = itertools.accumulate((len(part.owner) for part in parts), initial=0)
        owner = torch.cat([of.start + of.step * part.owner for part, of in zip(parts, inputs, strict=True)])
        entered = torch.cat([part.entered + n for part, n in zip(parts, before, strict=False)])
        points = StationaryPoints.cat([part.points for part in parts])
        mode = torch.cat([part.mode for part in parts if part.mode is not None])
        order = owner.argsort(stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        entered, rows = place[entered].sort()
        return cls(
            owner[order],
            entered,
            points[rows],
            mode[rows],
            sum(part.n_evaluations for part in parts),
            sum(part.n_hessians for part in parts),
            sum(part.n_hvps for part in parts),
        )
