"""Backward differentiation along a path: the equation for the next point, and a guess of it."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["ZERO_STABLE", "Equation", "Passed", "next_equation"]

ZERO_STABLE = 2.2  # most growth of a time step from one to the next of the second order; the method allows 2.41
_CONVEX = 0.6  # the time step times the most negative curvature seen, at most: the equation has one solution then


@dataclasses.dataclass(frozen=True)
class Passed:
    """The last three points of each path and the times between them.

    Attributes:
        x, energy, grad: the last point; infinite energy where there is none.
        x1, x2: the points before.
        time, time1: from ``x1`` to ``x``, from ``x2`` to ``x1``.
        n_steps: taken so far.
        arc: length of the path.
        strayed: sum of the errors of the steps across the path, each grown as the most negative curvature seen
            across the path has let it grow since.
    """

    x: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]
    x1: Float[Tensor, "B D"]
    x2: Float[Tensor, "B D"]
    time: Float[Tensor, "B"]
    time1: Float[Tensor, "B"]
    n_steps: Int[Tensor, "B"]
    arc: Float[Tensor, "B"]
    strayed: Float[Tensor, "B"]

    @classmethod
    def nothing(cls, x: Float[Tensor, "B D"]) -> Passed:
        """Of paths that begin here, where nothing was evaluated yet."""
        none, one = x.new_zeros(len(x)), x.new_ones(len(x))
        n_steps = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        past = x.clone(), x.clone(), one, one.clone(), n_steps, none, none.clone()
        return cls(x.clone(), one * torch.inf, torch.zeros_like(x), *past)

    def begun(self, energy: Float[Tensor, "B"], grad: Float[Tensor, "B D"], rows: Bool[Tensor, "B"]) -> Passed:
        """With what was found at the first point of the given rows."""
        return dataclasses.replace(
            self,
            energy=torch.where(rows, energy, self.energy),
            grad=torch.where(rows[:, None], grad, self.grad),
        )

    def after(
        self,
        x: Float[Tensor, "B D"],
        energy: Float[Tensor, "B"],
        grad: Float[Tensor, "B D"],
        time: Float[Tensor, "B"],
        error: Float[Tensor, "B"],
        rate: Float[Tensor, "B"],
        accepted: Bool[Tensor, "B"],
    ) -> Passed:
        """With another point in the accepted rows, wrong by ``error`` across the path, where errors grow at this
        rate."""
        take = accepted[:, None]
        strayed = self.strayed * torch.exp((rate * time).clamp(max=50.0)) + error
        return Passed(
            x=torch.where(take, x, self.x),
            energy=torch.where(accepted, energy, self.energy),
            grad=torch.where(take, grad, self.grad),
            x1=torch.where(take, self.x, self.x1),
            x2=torch.where(take, self.x1, self.x2),
            time=torch.where(accepted, time, self.time),
            time1=torch.where(accepted, self.time, self.time1),
            n_steps=self.n_steps + accepted,
            arc=self.arc + torch.where(accepted, (x - self.x).norm(dim=1), 0.0),
            strayed=torch.where(accepted, strayed.clamp(max=torch.finfo(x.dtype).max ** 0.5), self.strayed),
        )


@dataclasses.dataclass(frozen=True)
class Equation:
    """grad U(z) + shift (z - anchor) = 0, whose solution is the next point.

    Attributes:
        shift, anchor: of the equation.
        guess: of the solution, by extrapolation.
        second: whether it is of second order in the time step; of first otherwise.
        n_tried: iterations so far.
    """

    shift: Float[Tensor, "B"]
    anchor: Float[Tensor, "B D"]
    guess: Float[Tensor, "B D"]
    second: Bool[Tensor, "B"]
    n_tried: Int[Tensor, "B"]

    @classmethod
    def nothing(cls, x: Float[Tensor, "B D"]) -> Equation:
        """Of rows that have not begun."""
        n_tried = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return cls(x.new_ones(len(x)), x.clone(), x.clone(), n_tried > 0, n_tried)

    def replaced(self, rows: Bool[Tensor, "B"], new: Equation) -> Equation:
        """The new equation in the given rows."""
        take = rows[:, None]
        return Equation(
            torch.where(rows, new.shift, self.shift),
            torch.where(take, new.anchor, self.anchor),
            torch.where(take, new.guess, self.guess),
            torch.where(rows, new.second, self.second),
            torch.where(rows, new.n_tried, self.n_tried),
        )

    def error(self, aside: Float[Tensor, "B"], time: Float[Tensor, "B"], path: Passed) -> Float[Tensor, "B"]:
        """Error of a step, from how far its point is from the guess (Milne's device).

        The guess and the formula of second order are wrong by h (h + k) (h + k + m) x'''/6 and, on the other side,
        by h^2 (h + k)^2 / (2 h + k) x'''/6 after steps of times m, k and h.
        """
        h, k, m = time, path.time, path.time1
        part = h * (h + k) / ((2 * h + k) * (h + k + m))
        return torch.where(self.second, part / (1 + part), 0.5) * aside


def next_equation(
    path: Passed, time: Float[Tensor, "B"], curvatures: Float[Tensor, "B M"], max_step: float
) -> tuple[Float[Tensor, "B"], Equation]:
    """The equation of the next step, and its time: ``time``, or less where it might have two solutions.

    z' at the new time of the parabola through z and the last two points is -grad U(z); of the straight line
    through z and the last point, where there are no two or the time step has grown too much for the method to be
    stable.
    The guess is the parabola through the last three points, no further than ``max_step``.
    """
    tiny = torch.finfo(time.dtype).tiny ** 0.5
    most_negative = curvatures.amin(1).clamp(max=0.0).abs()
    time = torch.minimum(time, _CONVEX / most_negative.clamp(min=tiny))
    h, k, m = time, path.time, path.time1
    second = (path.n_steps >= 2) & (h <= 1.05 * ZERO_STABLE * k)
    w = (h / k)[:, None]
    two = ((1 + w) ** 2 * path.x - w**2 * path.x1) / (1 + 2 * w)
    anchor = torch.where(second[:, None], two, path.x)
    shift = torch.where(second, (1 + 2 * w[:, 0]) / ((1 + w[:, 0]) * h), 1 / h)
    speed = (path.x - path.x1) / k[:, None]
    bend = (speed - (path.x1 - path.x2) / m[:, None]) / (k + m)[:, None]
    ahead = h[:, None] * speed
    ahead = torch.where(second[:, None], ahead + (h * (h + k))[:, None] * bend, ahead)
    ahead = torch.where((path.n_steps == 0)[:, None], -h[:, None] * path.grad, ahead)
    limit = max_step / ahead.norm(dim=1, keepdim=True).clamp(min=tiny)
    guess = path.x + limit.clamp(max=1.0) * ahead
    return time, Equation(shift, anchor, guess, second, torch.zeros_like(path.n_steps))
