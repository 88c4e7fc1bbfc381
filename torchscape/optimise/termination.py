"""How a row of a batch stands after a step: the same question for every stepper."""

from __future__ import annotations

import torch

from torchscape.optimise.rows import may_hold
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["RUNNING", "default_tol", "standing", "status_after", "termination_test"]

RUNNING = int(Status.RUNNING)  # a tensor compared with a member of an IntEnum is compiled to Python's False


def default_tol(dtype: torch.dtype, potential: Potential | None = None) -> float:
    """RMS gradient that counts as converged: about the square root of machine epsilon (1e-8 in float64).

    Of a ``potential`` in its own unit where its ``energy_scale`` and ``length_scale`` are of ordinary size, and in
    units of their quotient where they are not: U and 1e-21 U have the same minima.
    """
    tol = 1e-8 if dtype == torch.float64 else torch.finfo(dtype).eps ** 0.5
    if potential is None:
        return tol
    length = potential.length_scale
    return tol * potential.energy_scale / (1.0 if 1e-3 <= length <= 1e3 else length)


def termination_test(
    potential: Potential,
    status: Int[Tensor, "B"],
    x: Float[Tensor, "B D"],
    rms: Float[Tensor, "B"],
    *,
    tol: float | None,
    spent: Bool[Tensor, "B"],
    stalled: Bool[Tensor, "B"],
    broken: Bool[Tensor, "B"],
) -> Int[Tensor, "B"]:
    """The new status of the rows that were running; what has finished stays as it is.

    Where several hold, the later in this list: evaluations spent, stalled, run off to 1e8 lengths, converged
    (RMS gradient at most ``tol``; None for :func:`default_tol`), broken by NaN at the start.
    """
    tol = default_tol(x.dtype, potential) if tol is None else tol
    ends = {"spent": spent, "stalled": stalled, "broken": broken}
    far = x.abs().amax(1) > 1e8 * potential.length_scale  # a norm would be six times slower
    return status_after(status, rms, tol=tol, far=far, **ends)


def status_after(
    status: Int[Tensor, "B"],
    rms: Float[Tensor, "B"],
    *,
    tol: float,
    far: Bool[Tensor, "B"],
    spent: Bool[Tensor, "B"],
    stalled: Bool[Tensor, "B"],
    broken: Bool[Tensor, "B"],
) -> Int[Tensor, "B"]:
    """:func:`termination_test` with what it asks of a potential: the tolerance, and which are ``far`` off."""
    running = status == RUNNING
    converged = rms <= tol
    if not may_hold(running & (spent | stalled | far | converged | broken)):
        return status
    for condition, code in (
        (spent, Status.MAX_STEPS),
        (stalled, Status.STALLED),
        (far, Status.UNBOUNDED),
        (converged, Status.CONVERGED),
        (broken, Status.NOT_FINITE),
    ):
        status = status.masked_fill(running & condition, int(code))
    return status


def standing(
    x: Float[Tensor, "B D"],
    energy: Float[Tensor, "B"],
    residual: Float[Tensor, "B D"],
    status: Int[Tensor, "B"],
    n_evaluations: Int[Tensor, "B"],
    *,
    unit: float = 1.0,
) -> StationaryPoints:
    """Where every row of a search stands, as points.

    Args:
        x, energy: place and energy; infinite where nothing was evaluated.
        residual: what is left of the gradient there.
        status: a row that was still running comes back as ``MAX_STEPS``.
        n_evaluations: spent.
        unit: of the energies and gradients.

    Returns:
        Points whose energy and residual are NaN where nothing was evaluated.
    """
    broken = torch.isinf(energy)
    return StationaryPoints.of(
        x,
        unit * torch.where(broken, torch.nan, energy),
        grad_rms=unit * torch.where(broken, torch.nan, residual.square().mean(1).sqrt()),
        status=torch.where(status == Status.RUNNING, int(Status.MAX_STEPS), status),
        n_evaluations=n_evaluations,
    )
