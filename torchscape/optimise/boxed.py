"""Steps of a minimiser, capped and within a box, by operations of torch of which none asks."""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchscape.optimise.limits import FALLS, Limits
from torchscape.potentials.bounds import Bounds
from torchscape.types import Bool, Float, Tensor

__all__ = ["capped", "trial_in_the_box"]


def capped(
    limits: Limits,
    direction: Float[Tensor, "B D"],
    grad: Float[Tensor, "B D"],
    stretch: Float[Tensor, "B"],
    n_short: Float[Tensor, "B"],
) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "B D"]]:
    """How far along which descent direction, no longer than the cap; where the memory points uphill, steepest
    descent. The cap grows where so many steps were too short that the row falls: to the end of the slope, or
    to where it is clear that it has none."""
    if limits.bounds is not None:
        direction = direction.masked_fill(grad == 0, 0.0)
    uphill = (direction * grad).sum(1) >= 0
    length = torch.where(uphill, grad.norm(dim=1), direction.norm(dim=1))  # three sums in one pass, compiled
    direction = torch.where(uphill[:, None], -grad, direction)
    cap = limits.longest * torch.exp2((n_short - FALLS).clamp(min=0.0))
    scale = torch.minimum(stretch, cap / length.clamp(min=torch.finfo(length.dtype).tiny))
    return scale[:, None], direction


def trial_in_the_box(
    limits: Limits,
    x: Float[Tensor, "B D"],
    grad: Float[Tensor, "B D"],
    active: Bool[Tensor, "B D"],
    direction: Float[Tensor, "B D"],
    off: Callable[[Tensor], Tensor],
    stretch: Float[Tensor, "B"],
    n_short: Float[Tensor, "B"],
    shorter: Float[Tensor, "B D"],
    fresh: Bool[Tensor, "B"],
    first_retry: Bool[Tensor, "B"],
) -> Float[Tensor, "B D"]:
    """The next trial point in the box: a fresh step, or the rejected one made ``shorter``, first as far as the
    first wall on the way of the step that walls now leave.

    Args:
        limits: longest steps, and the box.
        x, grad, active, direction: of every row; ``active``: coordinates on a wall that the descent would cross.
        off: the direction off an active set.
        stretch, n_short: what the steps are made longer by, and in how many steps they were too short.
        shorter: the trial points of rows that are not ``fresh``.
        fresh: rows that take a new step.
        first_retry: rows that have been refused for the first time.
    """
    bounds = limits.bounds
    assert bounds is not None
    held = grad.masked_fill(active, 0.0)
    step = torch.mul(*capped(limits, direction, held, stretch, n_short))
    reached, landing = _all_but_reached(bounds, x, grad, step)
    free = held.masked_fill(reached, 0.0)
    step = torch.mul(*capped(limits, off(active | reached), free, stretch, n_short))
    step = torch.where(reached, landing, step)
    trial = torch.where(fresh[:, None], x + step, shorter)
    inside = _downhill(bounds, x, held, trial, bounds.clamp(trial), fresh)
    return torch.where(first_retry[:, None], _to_the_bound(bounds, x, step, inside), inside)


def _downhill(
    bounds: Bounds,
    x: Float[Tensor, "B D"],
    grad: Float[Tensor, "B D"],
    trial: Float[Tensor, "B D"],
    inside: Float[Tensor, "B D"],
    fresh: Bool[Tensor, "B"],
) -> Float[Tensor, "B D"]:
    """The trial point put ``inside`` the box; where that spoilt the descent, along the projected gradient."""
    spoilt = fresh & (((inside - x) * grad).sum(1) >= 0)
    length = (trial - x).norm(dim=1) / grad.norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
    steepest = bounds.clamp(x - length[:, None] * grad)
    return torch.where(spoilt[:, None], steepest, inside)


def _all_but_reached(
    bounds: Bounds, x: Float[Tensor, "B D"], grad: Float[Tensor, "B D"], step: Float[Tensor, "B D"]
) -> tuple[Bool[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Coordinates so close before a wall that the step leads a thousand times beyond it, and their last bit of
    way: onto the wall where that is downhill, else none.

    Left free they would spoil every step, which had to be cut at a wall that is all but reached (the
    "epsilon-active" coordinates of projected Newton methods, Bertsekas 1982, doi 10.1137/0320018). Near a minimum
    inside the box steps are short, and no coordinate is close in this sense.
    """
    room = torch.where(step > 0, bounds.upper, bounds.lower) - x
    close = (room.abs() < 1e-3 * step.abs()) & (room != 0)
    return close, room.masked_fill(room * grad >= 0, 0.0)


def _to_the_bound(
    bounds: Bounds, x: Float[Tensor, "B D"], step: Float[Tensor, "B D"], otherwise: Float[Tensor, "B D"]
) -> Float[Tensor, "B D"]:
    """The step as far as the first wall on its way; ``otherwise`` where it meets none, or stands before one.

    Clamping each coordinate by itself is bolder, and the first choice. But where a valley runs obliquely into a
    wall it leads up the valley's side, however short the step.
    """
    wall = torch.where(step > 0, bounds.upper, bounds.lower)
    room = torch.where(step == 0, torch.inf, (wall - x) / step)
    nearest, first = room.min(1, keepdim=True)
    there = (x + nearest * step).scatter(1, first, wall.gather(1, first))
    return torch.where((nearest < 1) & (nearest > 1e-3), bounds.clamp(there), otherwise)
