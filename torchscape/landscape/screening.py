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
    "falls for ever",
    "flat in every direction",
    "on a kink",
    "falls apart",
    "degeneracy not finite",
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
    energy, row_index, status = points.energy.cpu(), points.index.cpu(), points.status.cpu()
    wrong = row_index != index
    if index == 0:
        wrong = wrong & (row_index >= 0)
    nowhere = torch.zeros(len(points), dtype=torch.bool)
    tests = {
        "not finite": ~(energy.isfinite() & points.x.isfinite().all(1).cpu()),
        "falls for ever": status == Status.UNBOUNDED,
        "flat in every direction": status == Status.FLAT,
        "on a kink": status == Status.KINK,
        "falls apart": status == Status.LOOSE,
        "not converged": (status != Status.CONVERGED) & (status != Status.WRONG_INDEX),
        "wrong index": wrong | (status == Status.WRONG_INDEX),
        "an end is no known minimum": nowhere if ends_known is None else ~ends_known,
        "below one of its minima": nowhere if floor is None else energy.double() < floor,
        "on the wall of the box": nowhere if inside is None else ~inside,
    }
    code = torch.zeros(len(points), dtype=torch.int64)
    for reason, fails in reversed(tests.items()):
        code = torch.where(fails, REASONS.index(reason), code)
    return code
