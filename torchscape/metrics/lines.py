"""The loss along straight lines: does it fall all the way, and if not, how high is the bump?"""

from __future__ import annotations

import dataclasses

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.types import Bool, Float, Tensor

__all__ = ["LossLines", "loss_lines"]


@brief
@dataclasses.dataclass(frozen=True)
class LossLines:
    """The loss along B lines.

    Attributes:
        t: places along the lines, from 0 to 1 [I].
        loss: at these places [B I].
        bump: the largest climb on the way, max over s < t of U(t) - U(s); 0 where it only falls [B].
        barrier: the largest excess over the chord between the ends, max of U(t) - (1 - t) U(0) - t U(1) [B].
        is_monotone: the loss nowhere rises by more than the tolerance [B].
    """

    t: Float[Tensor, "I"]
    loss: Float[Tensor, "B I"]
    bump: Float[Tensor, "B"]
    barrier: Float[Tensor, "B"]
    is_monotone: Bool[Tensor, "B"]


def loss_lines(t: Float[Tensor, "I"], loss: Float[Tensor, "B I"], *, tol: float | None = None) -> LossLines:
    """Whether the loss falls monotonically along each line, and the height of the bump where it does not.

    Between the places that were looked at a line may hide more: bump and barrier are lower bounds.

    Args:
        t: places along the lines, ascending from 0 to 1.
        loss: at these places.
        tol: how much a monotone loss may rise; None for a hundred rounding errors of the largest loss of a line.

    Raises:
        TorchscapeError: with fewer than two places.

    Reference: Goodfellow, Vinyals & Saxe, ICLR (2015), doi 10.48550/arXiv.1412.6544; Lucas et al., ICML (2021),
    doi 10.48550/arXiv.2104.11044 (the bump as a measure); Frankle et al., ICML (2020),
    doi 10.48550/arXiv.1912.05671 (the barrier above the chord).

    Example:
        >>> found = loss_lines(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]]))
        >>> found.is_monotone.tolist(), found.bump.tolist(), found.barrier.tolist()
        ([True, False], [0.0, 1.0], [0.0, 0.0])
    """
    if len(t) < 2:
        raise TorchscapeError(f"a line needs two places or more, not {len(t)}")
    bump = (loss - loss.cummin(1).values).amax(1)
    chord = (1 - t) * loss[:, :1] + t * loss[:, -1:]
    barrier = (loss - chord).amax(1).clamp(min=0)
    allowed = 100 * torch.finfo(loss.dtype).eps * loss.abs().amax(1) if tol is None else tol
    return LossLines(t, loss, bump, barrier, bump <= allowed)
