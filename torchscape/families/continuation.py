"""Continuation: stationary points followed along a control parameter, all of one step in one batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from torchscape.brief import brief
from torchscape.numerics import DENSE_BRANCHES
from torchscape.optimise import relax
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.characterisation import characterise
from torchscape.saddles.eigen import lowest_eigenpairs
from torchscape.saddles.eigenvector_following import follow
from torchscape.saddles.stationary import NewtonSearch, find_stationary
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO, POSITIVE, Range, check_fields

__all__ = ["Continuation", "Continued", "continue_points", "correct"]


@dataclasses.dataclass(frozen=True)
class Continuation:
    """Options of following a branch.

    Attributes:
        newton: the corrector, up to ``dense_limit`` coordinates; beyond, minima are relaxed and transition states
            found by eigenvector-following.
        max_jump: largest distance between prediction and correction, in units of ``length_scale``.
        least_part: smallest step, as a part of the distance between two members of the family.
        dense_limit: coordinates up to which Hessians are formed.
    """

    newton: NewtonSearch = dataclasses.field(default_factory=lambda: NewtonSearch(first_step=0.3))
    max_jump: float = 2.0
    least_part: float = 2.0**-8
    dense_limit: int = DENSE_BRANCHES

    def __post_init__(self) -> None:
        check_fields(
            self,
            max_jump=POSITIVE.or_infinite,
            least_part=Range(low=0.0, high=1.0, open_low=True),
            dense_limit=COUNT_OR_ZERO,
        )


@brief
@dataclasses.dataclass(frozen=True)
class Continued:
    """How far every row was followed.

    Attributes:
        points: where it stands at ``reached``, characterised.
        arrived: whether that is where it was to go.
        reached: the value of the last step that held.
        failed: the value of the first step that did not; NaN where all did.
        velocity: dx / dvalue from the last two points; zero where there is one only.
        landed: where the corrector of the failed step ended.
        returned: where it went from there, back at ``reached``: not to the point it came from.
    """

    points: StationaryPoints
    arrived: Bool[Tensor, "B"]
    reached: Float[Tensor, "B"]
    failed: Float[Tensor, "B"]
    velocity: Float[Tensor, "B D"]
    landed: StationaryPoints
    returned: StationaryPoints


def continue_points(
    at: Callable[[float], Potential],
    points: StationaryPoints,
    start: float,
    stop: float,
    *,
    velocity: Float[Tensor, "B D"] | None = None,
    between: bool = True,
    options: Continuation | None = None,
) -> Continued:
    """Follow stationary points of U(x; start) to U(x; stop): grad U(x(p); p) = 0.

    Predictor x + (dx/dp) dp from the last two points, corrector Newton's method. A step holds when the corrector
    converges near the prediction, inside the box, *and* the corrector back at the value before returns to the
    point it came from: a step onto another branch does not. What fails is approached by halves, down to
    ``least_part``; steps that hold are doubled; rows that stand at the same value move as one batch. The index
    may change: that is a bifurcation, not a failure.

    Args:
        at: the potential at a value of the control parameter.
        points: characterised stationary points of ``at(start)``.
        start, stop: values; ``stop`` may be the smaller.
        velocity: dx/dp to begin with, where points at an earlier value are known; zero rows where not.
        between: whether ``at`` may be asked for values between the two. If not, there is one step.
        options: of the steps.

    Reference: Allgower & Georg, Introduction to Numerical Continuation Methods (2003),
    doi 10.1137/1.9780898719154.

    Example:
        >>> class Tilted(Potential):
        ...     ndim = 1
        ...     def __init__(self, tilt):
        ...         self.tilt = tilt
        ...     def energy(self, x):
        ...         return ((x**2 - 1) ** 2 + self.tilt * x)[:, 0]
        >>> found = find_stationary(Tilted(0.0), torch.tensor([[0.9], [0.1]]).double())
        >>> done = continue_points(Tilted, found, 0.0, 1.0)
        >>> done.arrived.tolist(), done.points.x[:, 0].round(decimals=4).tolist()
        ([True, True], [0.8376, 0.2696])
        >>> continue_points(Tilted, found, 0.0, 1.6).reached.round(decimals=2).tolist()  # a fold at 8 / 27^(1/2)
        [1.54, 1.54]
    """
    options = options or Continuation()
    walk = _Walk(at, points, start, stop, velocity, between, options)
    while walk.advance():
        pass
    return walk.result()


class _Walk:
    """Rows on their way from ``start`` to ``stop``, each with its own value and step."""

    def __init__(
        self,
        at: Callable[[float], Potential],
        points: StationaryPoints,
        start: float,
        stop: float,
        velocity: Float[Tensor, "B D"] | None,
        between: bool,
        options: Continuation,
    ) -> None:
        self.at, self.stop, self.between, self.options = at, stop, between, options
        n = len(points)
        copies = [points.replace(eigenvalues=None)[torch.arange(n, device=points.x.device)] for _ in range(3)]
        self.points, self.landed, self.returned = copies
        self.velocity = torch.zeros_like(points.x) if velocity is None else velocity.clone()
        self.value = torch.full((n,), float(start), dtype=torch.float64)
        self.step = torch.full((n,), float(stop - start), dtype=torch.float64)
        self.failed = torch.full((n,), torch.nan, dtype=torch.float64)
        self.active = torch.ones(n, dtype=torch.bool)
        self.least = options.least_part * abs(stop - start)

    def advance(self) -> bool:
        """One step of every row that is under way; whether there was any."""
        rows = torch.nonzero(self.active)[:, 0]
        if len(rows) == 0:
            return False
        left = self.stop - self.value
        trial = torch.where(self.step.abs() >= left.abs() * (1 - 1e-9), self.stop, self.value + self.step)
        pairs = torch.stack([self.value[rows], trial[rows]], 1)
        for pair, group in _groups(pairs):
            self._step(rows[group], float(pair[0]), float(pair[1]))
        return True

    def _step(self, rows: Int[Tensor, "K"], value: float, trial: float) -> None:
        """One step of rows that stand at the same value."""
        device_rows = rows.to(self.points.x.device)
        here, velocity = self.points[device_rows], self.velocity[device_rows]
        potential, before = self.at(trial), self.at(value)
        predicted = here.x + velocity * (trial - value)
        landed = correct(potential, predicted, here.index, self.options)
        returned = correct(before, landed.x, here.index, self.options)
        moved = (landed.x - here.x).norm(dim=1)
        scale = potential.length_scale
        good = landed.converged & returned.converged & (landed.index >= 0)
        good &= (returned.x - here.x).norm(dim=1) <= 1e-4 * scale + 0.1 * moved
        good &= (landed.x - predicted).norm(dim=1) <= self.options.max_jump * scale
        if potential.bounds is not None:
            good &= potential.bounds.interior(landed.x)
        taken, chosen = good.cpu(), good.nonzero()[:, 0]
        self.velocity[device_rows[chosen]] = ((landed.x - here.x) / (trial - value))[chosen]
        self.points = put_rows(self.points, device_rows[chosen], landed[chosen])
        lost = (~good).nonzero()[:, 0]
        self.landed = put_rows(self.landed, device_rows[lost], landed[lost])
        self.returned = put_rows(self.returned, device_rows[lost], returned[lost])
        self._book(rows, taken, trial)

    def _book(self, rows: Int[Tensor, "K"], taken: Bool[Tensor, "K"], trial: float) -> None:
        """New values and steps.

        Once a step has failed its end is approached by halves, and tried again from close by: if it fails then
        too the row ends there, otherwise the step was only too long.
        """
        ahead, behind = rows[taken], rows[~taken]
        last = trial - self.value[ahead]
        self.value[ahead] = trial
        self.failed[ahead] = torch.where(self.failed[ahead] == trial, torch.nan, self.failed[ahead])
        gap = self.failed[ahead] - trial
        closer = torch.where(gap.abs() > 2 * self.least, 0.5 * gap, gap)
        self.step[ahead] = torch.where(gap.isnan(), 2 * last, closer)
        self.active[ahead] = trial != self.stop
        self.failed[behind] = trial
        gap = trial - self.value[behind]
        self.step[behind] = 0.5 * gap
        self.active[behind] = self.between & (gap.abs() > 2 * self.least)

    def result(self) -> Continued:
        arrived = self.value == self.stop
        return Continued(
            points=self.points,
            arrived=arrived,
            reached=self.value,
            failed=torch.where(arrived, torch.nan, self.failed),
            velocity=self.velocity,
            landed=self.landed,
            returned=self.returned,
        )


def correct(
    potential: Potential, x: Float[Tensor, "B D"], index: Int[Tensor, "B"], options: Continuation
) -> StationaryPoints:
    """The stationary points next to ``x``, of whatever index, characterised (without spectra) where converged.

    Beyond ``options.dense_limit`` coordinates those of index 0 and 1 (or more) are sought by minimising and by
    eigenvector-following.
    """
    if potential.ndim <= options.dense_limit:
        return find_stationary(potential, x, options=options.newton).replace(eigenvalues=None)
    x = x.to(potential.device, potential.dtype, copy=True)
    found = StationaryPoints.of(x, torch.full_like(x[:, 0], torch.nan))
    minima, saddles = (torch.nonzero(mask)[:, 0] for mask in (index == 0, index != 0))
    if len(minima):
        found = put_rows(
            found, minima, relax(potential, x[minima], tol=options.newton.tol).replace(eigenvalues=None)
        )
    if len(saddles):
        mode = lowest_eigenpairs(potential, x[saddles], 1).vectors[:, 0]
        found = put_rows(found, saddles, follow(potential, x[saddles], mode).points.replace(eigenvalues=None))
    good = torch.nonzero(found.status == Status.CONVERGED)[:, 0]
    if len(good):
        found = put_rows(found, good, characterise(potential, found[good]).replace(eigenvalues=None))
    return found


def _groups(keys: Float[Tensor, "B K"]) -> list[tuple[Tensor, Int[Tensor, "G"]]]:
    """Different rows of ``keys``, each with the numbers of the rows that are equal to it."""
    kinds, of = keys.unique(dim=0, return_inverse=True)
    return [(kind, torch.nonzero(of == k)[:, 0]) for k, kind in enumerate(kinds)]
