"""What is known already: a search that comes there again needs no second look."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.devices import HOST
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.distinct import first_of_each
from torchscape.types import Float, Int, Tensor

__all__ = ["Known"]


@dataclasses.dataclass(frozen=True)
class Known:
    """Minima, and transition states with the minima that their downhill paths end in.

    Attributes:
        minima: K minima.
        ts: E verified transition states.
        minus, plus: the minima at their two ends.

    Example:
        >>> class Bowl(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return (x**2).sum(1)
        >>> one = StationaryPoints.of(torch.zeros(1, 2), torch.zeros(1), status=torch.ones(1).long())
        >>> other = one.replace(energy=one.energy + 1)
        >>> known = Known(torch.zeros(3, 2), one, one, one)
        >>> known.rows_of(Bowl(), StationaryPoints.cat([one, other])).tolist()
        [0, -1]
    """

    minima: Float[Tensor, "K D"]
    ts: StationaryPoints
    minus: StationaryPoints
    plus: StationaryPoints

    def __len__(self) -> int:
        return len(self.minima)

    def to(self, where: torch.device | torch.dtype, dtype: torch.dtype | None = None) -> Known:
        """Minima on a device or in a dtype, and transition states on that device."""
        minima = self.minima.to(where) if isinstance(where, torch.dtype) else self.minima.to(where, dtype)
        ts, minus, plus = (points.to(minima.device) for points in (self.ts, self.minus, self.plus))
        return Known(minima, ts, minus, plus)

    def rows_of(self, potential: Potential, candidates: StationaryPoints) -> Int[Tensor, "C"]:
        """Which of the transition states each candidate is, on the host; -1 where it is none of them, or has not
        converged."""
        n, of = len(self.ts), torch.full((len(candidates),), -1)
        converged = torch.nonzero(candidates.status.to(HOST) == Status.CONVERGED)[:, 0]
        if n == 0 or len(converged) == 0 or self.ts.x.dtype != candidates.x.dtype:
            return of
        some = candidates[converged.to(candidates.x.device)]
        both = [points.replace(eigenvalues=None).to(HOST) for points in (self.ts, some)]
        first = first_of_each(potential, StationaryPoints.cat(both))
        of[converged] = torch.where(first[n:] < n, first[n:], -1)
        return of
