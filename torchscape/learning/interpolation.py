"""Straight lines through parameter space, from initial points to minima or from minimum to minimum."""

from __future__ import annotations

from torchscape.errors import TorchscapeError
from torchscape.metrics.lines import LossLines, loss_lines
from torchscape.potentials.base import Potential
from torchscape.potentials.lines import energies_on_lines
from torchscape.types import Float, Tensor
from torchscape.validation import NOT_NEGATIVE, Range

__all__ = ["interpolate"]


def interpolate(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    ends: Float[Tensor, "B D"],
    *,
    n_points: int = 51,
    align: bool = False,
    tol: float | None = None,
) -> LossLines:
    """The potential along the line from each start to its end, all lines in one batch.

    From where training began to the minimum that it found, the loss of many networks falls monotonically, although
    training never walked that line.

    Args:
        potential: U.
        starts: initial points, or other minima.
        ends: the minimum that belongs to each.
        n_points: places along each line, ends included.
        align: first replace each end by its symmetric image closest to the start: for lines between minima that
            number their units differently. A minimum is already the right image for the start that fell into it.
        tol: how much a monotone loss may rise.

    Reference: as for :func:`torchscape.metrics.loss_lines`.

    Example:
        >>> import torch
        >>> from torchscape import problems
        >>> u = problems.get("himmelblau").potential
        >>> starts = torch.tensor([[5.0, 4.0], [-2.8, 3.1]], dtype=torch.float64)
        >>> found = interpolate(u, starts, torch.tensor([[3.0, 2.0], [3.0, 2.0]], dtype=torch.float64))
        >>> found.is_monotone.tolist()
        [True, False]
    """
    Range(low=2, whole=True).check("interpolate", n_points=n_points)
    NOT_NEGATIVE.or_none.check("interpolate", tol=tol)
    if starts.shape != ends.shape:
        raise TorchscapeError(f"{len(starts)} starts and {len(ends)} ends: give one end for each start")
    ends = potential.symmetry.align(starts, ends) if align else ends
    return loss_lines(*energies_on_lines(potential, starts, ends, n_points), tol=tol)
