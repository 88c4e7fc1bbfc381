"""Steps of a minimiser within a box, in host memory by NumPy: what :mod:`~torchscape.optimise.boxed` says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from torchscape.potentials.bounds import Bounds

__all__ = ["Box", "Standing", "trial_in_the_box"]

Capped = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Box:
    """``lower <= x <= upper``, corners [D]."""

    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def of(cls, bounds: Bounds | None) -> Box | None:
        """The box of a potential, if it has one."""
        return None if bounds is None else cls(bounds.lower.numpy(), bounds.upper.numpy())

    def active_set(self, x: np.ndarray, grad: np.ndarray) -> np.ndarray:
        """Coordinates on a wall that the descent would cross [B D]: :meth:`Bounds.active_set`."""
        active: np.ndarray = ((x <= self.lower) & (grad > 0)) | ((x >= self.upper) & (grad < 0))
        return active

    def clamp(self, x: np.ndarray) -> np.ndarray:
        """The nearest points of the box."""
        inside: np.ndarray = np.minimum(np.maximum(x, self.lower), self.upper)
        return inside

    def wall(self, step: np.ndarray) -> np.ndarray:
        """The wall that each coordinate moves towards."""
        return np.where(step > 0, self.upper, self.lower)


@dataclasses.dataclass(frozen=True)
class Standing:
    """Where the rows stand before they look for their next trial points.

    Attributes:
        x, grad: where they are, and the gradient there [B D].
        active: coordinates on a wall that the descent would cross [B D].
        direction: of descent [B D].
        again: numbers of the rows that try a step again [A].
        shorter: where they do [A D]; None if there are none.
        first_retry: numbers of the rows that have just been refused for the first time [F].
    """

    x: np.ndarray
    grad: np.ndarray
    active: np.ndarray
    direction: np.ndarray
    again: np.ndarray
    shorter: np.ndarray | None
    first_retry: np.ndarray


def trial_in_the_box(
    box: Box, rows: Standing, capped: Capped, off: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The next trial points: a fresh step in the box, or the rejected one made shorter, first as far as the first
    wall on the way of the step that walls now leave.

    Args:
        box: the walls.
        rows: which try what.
        capped: how far along which direction, for a direction and the gradient of the free coordinates.
        off: the direction off an active set.
    """
    x, grad, again = rows.x, rows.grad, rows.again
    held = np.where(rows.active, 0.0, grad)
    step = np.multiply(*capped(rows.direction, held))
    room = box.wall(step) - x
    reached = (np.abs(room) < 1e-3 * np.abs(step)) & (room != 0)
    held_set = rows.active | reached
    if held_set.any():
        step = np.multiply(*capped(off(held_set), np.where(reached, 0.0, held)))
        if reached.any():
            step = np.where(reached, np.where(room * grad >= 0, 0.0, room), step)
    trial = x + step
    if rows.shorter is not None:
        trial[again] = rows.shorter
    inside = box.clamp(trial)
    cut = (inside != trial).any(1)
    cut[again] = False
    if cut.any():
        inside[cut] = _downhill(box, x[cut], held[cut], trial[cut], inside[cut])
    if len(first := rows.first_retry):
        inside[first] = _to_the_bound(box, x[first], step[first], inside[first])
    return inside


def _downhill(box: Box, x: np.ndarray, grad: np.ndarray, trial: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Trial points put inside the box; where that spoilt the descent, along the projected gradient."""
    spoilt = ((inside - x) * grad).sum(1) >= 0
    tiny = np.finfo(x.dtype).tiny
    length = np.linalg.norm(trial - x, axis=1) / np.maximum(np.linalg.norm(grad, axis=1), tiny)
    steepest = box.clamp(x - length[:, None] * grad)
    return np.where(spoilt[:, None], steepest, inside)


def _to_the_bound(box: Box, x: np.ndarray, step: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """The step as far as the first wall on its way; ``otherwise`` where it meets none, or stands before one."""
    wall = box.wall(step)
    room = np.where(step == 0, np.inf, (wall - x) / step)
    first = room.argmin(1)
    rows = np.arange(len(x))
    nearest = room[rows, first][:, None]
    there = x + nearest * step
    there[rows, first] = wall[rows, first]
    return np.where((nearest < 1) & (nearest > 1e-3), box.clamp(there), otherwise)
