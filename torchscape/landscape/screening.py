"""Which candidates are let in, and the reason for each one that is not."""

from __future__ import annotations

import torch

from torchscape.points import StationaryPoints, Status
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["REASONS", "screen"]

REASONS = (
    "accepted",
    "not finite",
    "not converged",
    "wrong index",
    "an end is no known minimum",
    "below one of its minima",
    "on the wall of the box",
)
"""What the codes of :func:`screen` mean."""


def screen(
    points: StationaryPoints,
    *,
    index: int,
    ends_known: Bool[Tensor, "B"] | None = None,
    floor: Float[Tensor, "B"] | None = None,
    inside: Bool[Tensor, "B"] | None = None,
) -> Int[Tensor, "B"]:
    """A code into :data:`REASONS` per row; the first reason that applies counts.

    A minimum may come without its index (it was reached by descent); a transition state may not.

    Args:
        points: the candidates.
        index: the number of negative eigenvalues to insist on.
        ends_known: of a transition state, whether both ends are minima of the database.
        floor: of a transition state, the lowest energy it can have: that of its higher end.
        inside: whether the point is inside the box, if there is one: the gradient need not vanish on its wall.

    Example:
        >>> points = StationaryPoints.of(torch.zeros(2, 1), torch.tensor([0.0, torch.nan]))
        >>> [REASONS[code] for code in screen(points, index=0).tolist()]
        ['not converged', 'not finite']
    """
    energy, row_index = points.energy.cpu(), points.index.cpu()
    wrong = row_index != index
    if index == 0:
        wrong = wrong & (row_index >= 0)
    nowhere = torch.zeros(len(points), dtype=torch.bool)
    tests = (
        ~(energy.isfinite() & points.x.isfinite().all(1).cpu()),
        points.status.cpu() != Status.CONVERGED,
        wrong,
        nowhere if ends_known is None else ~ends_known,
        nowhere if floor is None else energy.double() < floor,
        nowhere if inside is None else ~inside,
    )
    code = torch.zeros(len(points), dtype=torch.int64)
    for reason, fails in reversed(list(enumerate(tests, start=1))):
        code = torch.where(fails, reason, code)
    return code
