"""One look at the curvature for all rows that are the same point: many searches end in few points."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.devices import HOST
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.characterisation import characterise_with_modes
from torchscape.saddles.distinct import first_of_each
from torchscape.types import Float, Int, Tensor

__all__ = ["Looks", "characterise_each"]


@dataclasses.dataclass(frozen=True)
class Looks:
    """What :func:`characterise_each` has seen.

    Attributes:
        points: all rows with ``index`` and ``n_zero``, and those that were looked at with ``log_det`` and
            ``eigenvalues``: of an image under a symmetry that stretches they are others.
        first: for each row, the first row that is the same point, on the host.
        leaders: the rows that were looked at, ascending.
        mode: the lowest mode of each of these.
    """

    points: StationaryPoints
    first: Int[Tensor, "B"]
    leaders: Int[Tensor, "L"]
    mode: Float[Tensor, "L D"]


def characterise_each(
    potential: Potential, points: StationaryPoints, *, log_det: bool = False, first: int = 2
) -> Looks:
    """:func:`~torchscape.saddles.characterise` for the first of all rows that are the same point, up to the
    potential's symmetry: a Hessian of many coordinates costs more than what led there.

    Args:
        points: converged.
        log_det, first: as there, beyond ``DENSE_SPECTRUM`` coordinates.
    """
    same = first_of_each(potential, points.to(HOST))
    leaders = torch.nonzero(same == torch.arange(len(same)))[:, 0]
    rows = leaders.to(points.x.device)
    seen, mode = characterise_with_modes(potential, points[rows], log_det=log_det, first=first)
    number = torch.full((len(same),), -1)
    number[leaders] = torch.arange(len(leaders))
    of = number[same].to(points.x.device)
    whole = points.replace(
        index=seen.index[of],
        n_zero=seen.n_zero[of],
        log_det=torch.full_like(points.energy, torch.nan),
        eigenvalues=None if seen.eigenvalues is None else torch.full_like(points.x, torch.nan),
    )
    return Looks(put_rows(whole, rows, seen) if len(rows) else whole, same, leaders, mode)
