"""Why a branch ends: fold, pitchfork, a wall of the box, or lost for a named reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from torchscape.brief import brief
from torchscape.families.bifurcations import Bifurcation, locate_crossing, seek_fold, softest_modes
from torchscape.families.continuation import Continuation, Continued, continue_points, correct
from torchscape.families.exits import Exit, locate_exit
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.types import Float, Tensor

__all__ = ["Ending", "ending_of"]


@brief
@dataclasses.dataclass(frozen=True)
class Ending:
    """What the end of one branch looks like, seen from that branch.

    Attributes:
        kind: as in :class:`torchscape.analysis.family.FamilyEvent`; "unmet fold" for what only extrapolation
            says is a fold, which another branch that ends there has to confirm.
        value, uncertainty, energy, x, eigenvalue, reason: as there.
        index: of the branch before it ends.
        bracket: values between which the branch was lost.
        fold: where one was located.
    """

    kind: str
    value: float
    uncertainty: float
    energy: float
    x: Float[Tensor, "D"]
    eigenvalue: float
    reason: str
    index: int
    bracket: tuple[float, float]
    fold: Bifurcation | None = None


def ending_of(
    at: Callable[[float], Potential],
    done: Continued,
    row: int,
    *,
    before: tuple[float, Float[Tensor, "D"]] | None,
    between: bool,
    options: Continuation,
) -> Ending:
    """What ended row number ``row`` of ``done``; ``before`` is its value and place one member earlier."""
    told = _Loss(at, done, row, before, between, options)
    return told.pitchfork() or told.fold() or told.wall() or told.extrapolated_fold() or told.unknown()


class _Loss:
    """One row that was lost between ``low`` (the last value that held) and ``high`` (the first that did not)."""

    def __init__(
        self,
        at: Callable[[float], Potential],
        done: Continued,
        row: int,
        before: tuple[float, Float[Tensor, "D"]] | None,
        between: bool,
        options: Continuation,
    ) -> None:
        self.at, self.before, self.between, self.options = at, before, between, options
        self.point = done.points[row : row + 1]
        self.landed = done.landed[row : row + 1]
        self.velocity = done.velocity[row]
        self.low, self.high = float(done.reached[row]), float(done.failed[row])
        self.dense = self.point.ndim <= options.dense_limit

    @property
    def x(self) -> Float[Tensor, "D"]:
        return self.point.x[0]

    def pitchfork(self) -> Ending | None:
        """Is what the row fell on a branch of its own, which passes through here and changes its index?

        The failed step need not have converged: at the very value of the pitchfork nothing does quickly.
        """
        if not (self.dense and bool(torch.isfinite(self.landed.x).all())):
            return None
        # Beyond what failed, so that the crossing lies inside even if the last step was too long.
        stop = self.high + 3 * (self.high - self.low) if self.between else self.high
        beyond = correct(self.at(stop), self.landed.x, self.landed.index, self.options)
        if not bool(beyond.converged):
            return None
        back = continue_points(self.at, beyond, stop, self.low, between=self.between, options=self.options)
        ends = StationaryPoints.cat([back.points, beyond])
        reach = (0.4 if self.between else 1.0) * self.options.max_jump * self.at(self.low).length_scale
        if not bool(back.arrived) or int(ends.index[0]) == int(ends.index[1]) or bool((ends.index < 0).any()):
            return None
        found = locate_crossing(self.at, self.low, stop, ends, between=self.between, options=self.options)
        if found is None or float((found.x - self.x).norm()) > reach:
            return None
        return self._located("pitchfork", found, "ends on a branch whose index changes there")

    def fold(self) -> Ending | None:
        """Does the extended system have a solution right there, at the distance that this branch keeps from it?"""
        if not (self.dense and self.between):
            return None
        slack = self.high - self.low
        found = seek_fold(self.at, self.low, self.x, (self.low - slack, self.high + slack))
        if isinstance(found, str):
            return None
        expected, seen = found.distance_at(self.low), abs(float((self.x - found.x) @ found.mode))
        length = self.at(self.low).length_scale
        if abs(expected - seen) > 0.5 * max(expected, seen) + 1e-4 * length:
            return None
        return self._located("fold", found, "an eigenvalue vanishes at a regular turning point")

    def wall(self) -> Ending | None:
        """Does the branch reach a wall of the box on its way?"""
        bounds = self.at(self.low).bounds
        if bounds is None:
            return None
        if self.between and self.dense:
            found = locate_exit(self.at, self.low, self.x, self.high + (self.high - self.low))
            if found is not None:
                return self._left(found)
        width = abs(self.high - self.low)
        hit, first = self._hit(self.low, self.x, self.velocity)
        if abs(hit - self.low) <= 2 * width:
            wall = float(
                (bounds.upper if float(self.velocity[first]) * (hit - self.low) > 0 else bounds.lower)[first]
            )
            hit, uncertainty = self._sharpened(hit) if self.between else (hit, 0.5 * width)
            reason = f"coordinate {first} reaches its bound {wall:.6g}"
        elif self.landed.status[0] == Status.OUTSIDE:
            hit, uncertainty = 0.5 * (self.low + self.high), 0.5 * width
            reason = "the search beyond leaves the box"
        else:
            return None
        hit = min(max(hit, min(self.low, self.high)), max(self.low, self.high))
        x = self.x + self.velocity * (hit - self.low)
        return self._event("left the box", hit, uncertainty, reason, x=bounds.clamp(x))

    def _left(self, found: Exit) -> Ending:
        """On the wall, the coordinate in the place of the control parameter."""
        reason = f"coordinate {found.coordinate} reaches its bound {float(found.x[found.coordinate]):.6g}"
        ending = self._event("left the box", found.value, found.uncertainty, reason, x=found.x)
        return dataclasses.replace(ending, energy=found.energy)

    def _hit(self, value: float, x: Float[Tensor, "D"], velocity: Float[Tensor, "D"]) -> tuple[float, int]:
        """The value at which a straight line meets a wall on the way to ``high``, and in which coordinate."""
        bounds = self.at(value).bounds
        assert bounds is not None
        way = 1.0 if self.high > self.low else -1.0
        goal = torch.where(velocity * way > 0, bounds.upper, bounds.lower)
        time = torch.where(velocity == 0, torch.inf, (goal - x) / velocity * way)
        first = int(time.argmin())
        return value + way * float(time[first]), first

    def _sharpened(self, hit: float) -> tuple[float, float]:
        """The value at which the wall is met, from a second walk to a little further; its uncertainty."""
        stop = hit + 0.02 * (self.high - self.low)
        walk = continue_points(
            self.at, self.point, self.low, stop, velocity=self.velocity[None], options=self.options
        )
        reached = float(walk.reached)
        again, _ = self._hit(reached, walk.points.x[0], walk.velocity[0])
        return again, abs(stop - reached) if bool(walk.arrived) else abs(float(walk.failed) - reached)

    def extrapolated_fold(self) -> Ending | None:
        """The eigenvalue nearest to zero, squared, is linear near a fold: where does it vanish?"""
        if self.before is None or not self.dense:
            return None
        value, x = self.before
        mu = float(softest_modes(self.at(self.low), self.x[None])[0])
        earlier = float(softest_modes(self.at(value), x[None])[0])
        rate = (earlier**2 - mu**2) / (self.low - value)
        if rate == 0.0 or mu * earlier < 0.0:
            return None
        root = self.low + mu**2 / rate
        inside = (root - self.low) * (self.high - self.low) >= 0 and abs(root - self.low) <= 2 * abs(
            self.high - self.low
        )
        if not inside:
            return None
        root = min(max(root, min(self.low, self.high)), max(self.low, self.high))
        reason = "the square of the softest eigenvalue extrapolates to zero"
        near, far = abs(self.low - root) ** 0.5, abs(value - root) ** 0.5
        goal = self.x + (self.x - x) * near / (far - near)  # x goes like the root, too
        return self._event("unmet fold", root, 0.5 * abs(self.high - self.low), reason, x=goal)

    def unknown(self) -> Ending:
        landed = Status(int(self.landed.status[0]))
        if landed == Status.CONVERGED:
            reason = f"beyond, the search falls on another branch (index {int(self.landed.index[0])})"
        else:
            reason = f"beyond, no stationary point near by: {landed.name.lower().replace('_', ' ')}"
        return self._event("lost", 0.5 * (self.low + self.high), 0.5 * abs(self.high - self.low), reason)

    def _event(self, kind: str, value: float, uncertainty: float, reason: str, x: Tensor | None = None) -> Ending:
        energy = float(self.point.energy[0])
        nowhere = float("nan")
        x, index = self.x if x is None else x, int(self.point.index[0])
        return Ending(kind, value, uncertainty, energy, x, nowhere, reason, index, (self.low, self.high))

    def _located(self, kind: str, found: Bifurcation, reason: str) -> Ending:
        return Ending(
            kind=kind,
            value=found.value,
            uncertainty=found.uncertainty,
            energy=found.energy,
            x=found.x,
            eigenvalue=found.eigenvalue,
            reason=reason,
            index=int(self.point.index[0]),
            bracket=(self.low, self.high),
            fold=found if kind == "fold" else None,
        )
