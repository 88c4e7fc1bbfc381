"""One look at the curvature for all rows that are the same point: many searches end in few points."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from torchscape.devices import HOST
from torchscape.numerics import DENSE_SPECTRUM
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.characterisation import characterise_with_modes
from torchscape.saddles.distinct import first_of_each
from torchscape.saddles.signs import signs
from torchscape.types import Float, Int, Tensor

__all__ = ["Looks", "characterise_each", "united"]


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
    potential: Potential,
    points: StationaryPoints,
    *,
    log_det: bool = False,
    first: int = 2,
    modes: Float[Tensor, "B D"] | None = None,
    look: Callable[..., Any] = characterise_with_modes,
    sign: Callable[..., Any] = signs,
) -> Looks:
    """:func:`~torchscape.saddles.characterise` for the first of all rows that are the same point, up to the
    potential's symmetry: a Hessian of many coordinates costs more than what led there.

    Beyond ``DENSE_SPECTRUM`` coordinates a minimum is only asked whether it has a negative curvature, and a saddle
    whose unstable mode is known whether it has a second one.

    Args:
        points: converged.
        log_det, first: as there, beyond ``DENSE_SPECTRUM`` coordinates; ``first`` is 1 for minima.
        modes: approximate unstable modes of saddles, if they are known.
        look: computes what :func:`characterise_with_modes` does, with the same arguments.
        sign: computes what :func:`signs` does, with the same arguments.
    """
    same = first_of_each(potential, points.to(HOST))
    leaders = torch.nonzero(same == torch.arange(len(same)))[:, 0]
    rows = leaders.to(points.x.device)
    if points.ndim > DENSE_SPECTRUM and not log_det and (first == 1 or modes is not None):
        seen, mode = sign(potential, points[rows], None if modes is None else modes[rows])
    else:
        seen, mode = look(potential, points[rows], log_det=log_det, first=first)
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


def united(
    potential: Potential,
    a: Looks,
    kept: Int[Tensor, "A"],
    b: Looks,
    order: Int[Tensor, "B"],
    *,
    look: Callable[..., Any] = characterise_with_modes,
) -> Looks:
    """Two looks as one: rows ``kept`` of ``a`` and then all of ``b``, brought into ``order``."""
    device = a.points.x.device
    points = StationaryPoints.cat([a.points[kept.to(device)], b.points])
    mode = points.x.new_full(points.x.shape, torch.nan)
    is_seen = torch.zeros(len(points), dtype=torch.bool)
    place = torch.full((len(a.first),), -1)
    place[kept] = torch.arange(len(kept))
    at = place[a.leaders]
    for rows, modes in ((at[at >= 0], a.mode[(at >= 0).to(device)]), (len(kept) + b.leaders, b.mode)):
        mode[rows.to(device)] = modes
        is_seen[rows] = True
    points, mode, is_seen = points[order.to(device)], mode[order.to(device)], is_seen[order]
    first = first_of_each(potential, points.to(HOST))
    is_leader = first == torch.arange(len(first))
    if len(rows := torch.nonzero(is_leader & ~is_seen)[:, 0]):  # it was the same as a row that is gone
        there = rows.to(device)
        seen, modes = look(potential, points[there], log_det=False, first=2)
        points = put_rows(points, there, seen)
        mode[there] = modes
    leaders = torch.nonzero(is_leader)[:, 0]
    return Looks(points, first, leaders, mode[leaders.to(device)])
