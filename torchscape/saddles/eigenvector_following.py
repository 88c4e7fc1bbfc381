"""Hybrid eigenvector-following: from a guess to an index-one saddle, many guesses at once."""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.devices import HOST
from torchscape.numerics import DENSE_SPECTRUM, energy_noise
from torchscape.optimise import run_pool, standing
from torchscape.optimise.rows import put_rows
from torchscape.optimise.stepping import Evaluation, StepOutcome, Trying, clamped, resolve
from torchscape.optimise.trust import TrustRadius
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.curvature import Curvature, QuadraticModel
from torchscape.saddles.modelled import Modelled, ModelSearch, Residual
from torchscape.saddles.projector import Projector
from torchscape.saddles.representatives import characterise_each
from torchscape.saddles.steps import predicted_change, saddle_step
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Follow", "Followed", "aside", "follow", "pursue"]


@brief
@dataclasses.dataclass(frozen=True)
class Followed:
    """Where the searches ended, and the mode each followed last (a unit vector)."""

    points: StationaryPoints
    mode: Float[Tensor, "B D"]

    @classmethod
    def cat(cls, parts: list[Followed]) -> Followed:
        return cls(StationaryPoints.cat([part.points for part in parts]), torch.cat([p.mode for p in parts]))

    def __getitem__(self, rows: Tensor) -> Followed:
        return Followed(self.points[rows], self.mode[rows])


@dataclasses.dataclass(frozen=True)
class Uphill:
    """Where a search starts, and the direction in which it climbs at first."""

    x: Float[Tensor, "B D"]
    direction: Float[Tensor, "B D"]


@dataclasses.dataclass(frozen=True)
class Following(Modelled, Trying):
    """State of a batch of searches."""

    mode: Float[Tensor, "B D"]
    predicted: Float[Tensor, "B"]
    magnitude: Float[Tensor, "B"]
    n_outside: Int[Tensor, "B"]
    n_convex: Int[Tensor, "B"]


@dataclasses.dataclass(frozen=True)
class Follow(ModelSearch[Following]):
    """Options of eigenvector-following, and the stepper that a pool runs.

    A step goes uphill along one mode and downhill in all others, within a trust radius that follows how well
    the quadratic model predicted the last energy change. The mode is the one that overlaps most with the
    previous one (at first: with the direction given) until the lowest curvature is negative, and the lowest
    from then on (Munro & Wales 1999, doi 10.1103/PhysRevB.59.3969; Kumeda, Munro & Wales 2001,
    doi 10.1016/S0009-2614(01)00334-7).

    Attributes:
        curvature: :class:`Dense` or :class:`Krylov`; None chooses by size.
        max_step: largest trust radius, in units of the potential's ``length_scale``.
        first_step: initial trust radius, in the same unit.
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.
        max_evaluations: evaluations a row may spend.
        accept_error: a step is taken when |predicted - actual energy change| is below this fraction of the
            predicted change's magnitude; the radius shrinks above 0.4 of it.
        remeasure: the same error above which a dense Hessian is measured anew rather than updated.
        max_convex: steps in a row without negative curvature before the search is given up as ``UNBOUNDED``:
            it has lost the ridge, and would climb for ever.
        max_outside: steps in a row that would leave the box before the search is given up as ``OUTSIDE``.
        keep_mode: follow the mode of best overlap as long as its own curvature is negative, rather than change
            to the lowest.
        retry: where the ridge was lost or the evaluations ran out, search again from the start with
            ``keep_mode`` the other way round, and then once more within 0.3 of the trust radii.
    """

    curvature: Curvature | None = None
    max_step: float = 1.0
    first_step: float = 1.0
    tol: float | None = None
    max_evaluations: int = 200
    accept_error: float = 0.5
    remeasure: float = 0.1
    max_convex: int = 25
    max_outside: int = 5
    keep_mode: bool = False
    retry: bool = True
    counted_as = "climbs"

    def __post_init__(self) -> None:
        check_fields(
            self,
            max_step=POSITIVE,
            first_step=POSITIVE,
            tol=NOT_NEGATIVE.or_none,
            max_evaluations=COUNT,
            accept_error=POSITIVE.or_infinite,
            remeasure=NOT_NEGATIVE.or_infinite,
            max_convex=COUNT,
            max_outside=COUNT,
        )

    def init(self, potential: Potential, start: Uphill) -> Following:
        """Before any evaluation."""
        x = clamped(potential, start.x)
        zero = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return Following.init(
            x,
            mode=start.direction.clone(),
            predicted=x.new_zeros(len(x)),
            magnitude=x.new_zeros(len(x)),
            radius=x.new_full((len(x),), self.first_step * potential.length_scale),
            n_outside=zero,
            n_convex=zero.clone(),
            model=self.curvature_of(potential.ndim).init(x),
        )

    def advance(self, potential: Potential, state: Following, new: Evaluation) -> tuple[Following, Residual]:
        error = self._error(potential, state, new.energy)
        now = resolve(state, new, error <= self.accept_error, state.model.going(state.status == Status.RUNNING))
        inaccurate = (now.rejected | (error > self.remeasure)) & ~now.first
        s, y = new.x - state.x, now.grad - state.grad
        model = self.curvature_of(potential.ndim).update(state.model, s, y, now.moved, inaccurate)
        residual = Residual(now.grad, Projector.at(potential, now.x))
        status = self.ended(potential, state, now, residual.rms)
        radius = self._radius(potential, state, s.norm(dim=1), error, now)
        return now.onto(state, radius=radius, model=model, status=status), residual

    def aim(self, potential: Potential, state: Following, residual: Residual) -> Following:
        """Uphill along the mode that is followed, downhill along all others."""
        x, model, status = state.x, state.model, state.status
        running = status == Status.RUNNING
        going = model.going(running)[:, None]
        mode, trial, predicted, magnitude = self._propose(x, state.grad, state.mode, model, state.radius)
        trial = torch.where(going, trial, x)
        n_convex = model.kept(state.n_convex, torch.where(model.values[:, 0] < 0, 0, state.n_convex + running))
        status = torch.where(running & (n_convex > self.max_convex), int(Status.UNBOUNDED), status)
        n_outside = state.n_outside
        if potential.bounds is not None:
            inside = potential.bounds.clamp(trial)
            n_outside = model.kept(n_outside, torch.where((inside != trial).any(1), n_outside + running, 0))
            status = torch.where(running & (n_outside > self.max_outside), int(Status.OUTSIDE), status)
            moved = model.along(inside - x)
            predicted, magnitude = predicted_change(model.values, model.along(state.grad), moved)
            trial = inside
        return dataclasses.replace(
            state,
            trial=trial,
            mode=torch.where(going, mode, state.mode),
            predicted=predicted,
            magnitude=magnitude,
            n_outside=n_outside,
            n_convex=n_convex,
            status=status,
        )

    def result(self, potential: Potential, state: Following) -> Followed:
        """Where every row stands, with its residual."""
        points = standing(state.x, state.energy, state.grad, state.status, state.n_evaluations)
        return Followed(points, state.mode)

    # --- parts of a step ------------------------------------------------------------------------------------

    def mode_of(self, state: Following) -> Float[Tensor, "B D"]:
        return state.mode

    def _error(self, potential: Potential, state: Following, energy: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """|actual - predicted| energy change, relative to the change's magnitude or the rounding error."""
        noise = energy_noise(energy, potential.energy_scale)
        wrong = (energy - state.energy - state.predicted).abs()
        return torch.nan_to_num((wrong - noise).clamp(min=0.0) / (state.magnitude + noise), nan=torch.inf)

    def _radius(
        self,
        potential: Potential,
        state: Following,
        length: Float[Tensor, "B"],
        error: Float[Tensor, "B"],
        now: StepOutcome,
    ) -> Float[Tensor, "B"]:
        """Longer after a good prediction by a step that used the radius up, shorter after a bad one."""
        return TrustRadius(self.max_step * potential.length_scale, poor=0.7).after(
            state.radius,
            length,
            good=now.moved & (error < 0.1),
            poor=now.moved & (error > 0.4 * self.accept_error),
            refused=now.rejected,
            # A model that was only updated is not blamed on the radius: it is measured first.
            part=torch.where(state.model.age > 0, 0.5, 0.3),
        )

    def _propose(
        self,
        x: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        mode: Float[Tensor, "B D"],
        model: QuadraticModel,
        radius: Float[Tensor, "B"],
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"], Float[Tensor, "B"], Float[Tensor, "B"]]:
        """The followed mode, the next trial point, and what the model expects of it."""
        slope = model.along(grad)
        overlap = model.along(mode).abs()
        nearest = overlap.argmax(1)
        followed = torch.where(model.values[:, 0] < 0, 0, nearest)
        if self.keep_mode:
            like, curved = overlap.gather(1, nearest[:, None]), model.values.gather(1, nearest[:, None])
            followed = torch.where(((like > 0.5) & (curved < 0))[:, 0], nearest, followed)
        c = saddle_step(model.values, slope, followed, radius)
        predicted, magnitude = predicted_change(model.values, slope, c)
        mode = model.vectors[torch.arange(len(x), device=x.device), followed]
        return mode, x + model.back(c), predicted, magnitude


def follow(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    directions: Float[Tensor, "B D"],
    *,
    options: Follow | None = None,
    pool_size: int | None = None,
) -> Followed:
    """Search for an index-one saddle from every start, uphill along its direction at first.

    Row i of the result belongs to start i. A converged row has a gradient below tolerance; its index is for
    :func:`~torchscape.saddles.characterise` to decide. Rows that end with a higher index, as symmetric starts do,
    are displaced at random and searched once more (up to 2000 coordinates), and so are lost rows by other rules
    (see :class:`Follow`).

    Example:
        >>> class Saddle(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return (x[:, 0] ** 2 - 1) ** 2 + x[:, 1] ** 2
        >>> start = torch.tensor([[-0.8, 0.3]], dtype=torch.float64)
        >>> found = follow(Saddle(), start, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
        >>> found.points.x.abs().max().item() < 1e-8, found.points.energy.item()
        (True, 1.0)
    """
    COUNT.or_none.check("follow", pool_size=pool_size)
    options = options or Follow()
    ended = pursue(potential, starts, directions, options, pool_size)
    if potential.ndim > DENSE_SPECTRUM:
        return ended
    rows = torch.nonzero(ended.points.status == Status.CONVERGED)[:, 0]
    rows = rows[torch.nonzero(characterise_each(potential, ended.points[rows]).points.index > 1)[:, 0]]
    if len(rows) == 0:
        return ended
    begin = aside(potential, ended.points.x[rows], ended.mode[rows])
    again = _run(potential, begin.x, begin.direction, options, pool_size)
    spent = ended.points.n_evaluations[rows] + again.points.n_evaluations
    return put_rows(ended, rows, Followed(again.points.replace(n_evaluations=spent), again.mode))


def pursue(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    directions: Float[Tensor, "B D"],
    options: Follow,
    pool_size: int | None = None,
) -> Followed:
    """:func:`follow` with no look at the index of what it ends in."""
    if len(starts) == 0:
        none = StationaryPoints.empty(potential.ndim, dtype=starts.dtype, device=starts.device)
        return Followed(none, directions)
    ended: Followed = _run(potential, starts, directions, options, pool_size)
    other = dataclasses.replace(options, keep_mode=not options.keep_mode)
    closer = dataclasses.replace(options, first_step=0.3 * options.first_step, max_step=0.3 * options.max_step)
    status = ended.points.status.to(HOST)
    for changed in (other, closer) if options.retry else ():
        lost = torch.nonzero((status == Status.UNBOUNDED) | (status == Status.MAX_STEPS))[:, 0]
        if len(lost):
            rows = lost.to(starts.device)
            again = _run(potential, starts[rows], directions[rows], changed, pool_size)
            status = status.index_copy(0, lost, again.points.status.to(HOST))
            spent = ended.points.n_evaluations[rows] + again.points.n_evaluations
            ended = put_rows(ended, rows, Followed(again.points.replace(n_evaluations=spent), again.mode))
    return ended


def aside(potential: Potential, x: Float[Tensor, "B D"], mode: Float[Tensor, "B D"]) -> Uphill:
    """Starts beside saddles of higher index: what a symmetry keeps on its axis stays there, unless it steps off at
    random."""
    key = random.fold(0, torch.arange(len(x), device=x.device))
    off = potential.symmetry.project_out(x, random.normal(key, potential.ndim, x.dtype))
    off = 0.1 * potential.length_scale * off / off.norm(dim=1, keepdim=True)
    return Uphill(x + off, mode)


def _run(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    directions: Float[Tensor, "B D"],
    options: Follow,
    pool_size: int | None,
) -> Followed:
    """All searches through one pool, in the order of the starts."""
    found: Followed = run_pool(options, potential, Uphill(starts, directions), size=pool_size)
    return found
