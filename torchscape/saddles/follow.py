"""Hybrid eigenvector-following: from a guess to an index-one saddle, many guesses at once."""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random
from torchscape.devices import HOST
from torchscape.memory import available_memory
from torchscape.numerics import DENSE_SPECTRUM, energy_noise
from torchscape.optimise import Pool, Queue, standing, verdict
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.characterise import characterise
from torchscape.saddles.curvature import Curvature, Quadratic, choose_curvature
from torchscape.saddles.projector import Projector
from torchscape.saddles.steps import predicted_change, saddle_step
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Follow", "Followed", "follow"]


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
class Following:
    """State of a batch of searches. ``trial`` is what the next step evaluates."""

    x: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]
    trial: Float[Tensor, "B D"]
    mode: Float[Tensor, "B D"]
    predicted: Float[Tensor, "B"]
    magnitude: Float[Tensor, "B"]
    radius: Float[Tensor, "B"]
    n_evaluations: Int[Tensor, "B"]
    n_rejected: Int[Tensor, "B"]
    n_outside: Int[Tensor, "B"]
    n_convex: Int[Tensor, "B"]
    status: Int[Tensor, "B"]
    model: Quadratic


@dataclasses.dataclass(frozen=True)
class Follow:
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

    def init(self, potential: Potential, x: Float[Tensor, "B D2"]) -> Following:
        """From rows that hold a point and a direction side by side, before any evaluation."""
        x, mode = x.chunk(2, dim=1)
        if potential.bounds is not None:
            x = potential.bounds.clamp(x)
        b = len(x)
        zero = torch.zeros(b, dtype=torch.int64, device=x.device)
        return Following(
            x=x.clone(),
            energy=x.new_full((b,), torch.inf),
            grad=torch.zeros_like(x),
            trial=x.clone(),
            mode=mode.clone(),
            predicted=x.new_zeros(b),
            magnitude=x.new_zeros(b),
            radius=x.new_full((b,), self.first_step * potential.length_scale),
            n_evaluations=zero,
            n_rejected=zero.clone(),
            n_outside=zero.clone(),
            n_convex=zero.clone(),
            status=torch.full_like(zero, Status.RUNNING),
            model=self._curvature(potential).fresh(x),
        )

    def step(self, potential: Potential, state: Following) -> Following:
        """Evaluate every trial point once; accept or shrink; model the surface there and step again."""
        curvature = self._curvature(potential)
        energy, grad = potential.energy_and_grad(state.trial)
        running = state.status == Status.RUNNING
        first = torch.isinf(state.energy)
        finite = torch.isfinite(energy) & torch.isfinite(grad).all(1)
        error = self._error(potential, state, energy)
        going = state.model.going(running)
        accepted = going & finite & (first | (error <= self.accept_error))
        rejected = going & ~accepted
        radius = self._radius(potential, state, error, accepted & ~first, rejected)

        take = accepted[:, None]
        s = state.trial - state.x
        x = torch.where(take, state.trial, state.x)
        new_grad = torch.where(take, grad, state.grad)
        surprised = rejected | (error > self.remeasure)
        model = curvature.moved(
            state.model, s, torch.where(take, grad - state.grad, 0.0), accepted & ~first, surprised & ~first
        )
        n_evaluations = state.n_evaluations + going
        rms = new_grad.square().mean(1).sqrt()
        n_rejected = torch.where(accepted, 0, state.n_rejected + rejected)
        status = verdict(
            potential,
            state.status,
            x,
            rms,
            tol=self.tol,
            spent=n_evaluations >= self.max_evaluations,
            stalled=n_rejected >= 20,
            broken=first & ~finite,
        )

        running = status == Status.RUNNING
        model = curvature.at(potential, x, new_grad, state.mode, model, running, Projector.at(potential, x))
        going = model.going(running)[:, None]
        mode, trial, predicted, magnitude = self._propose(x, new_grad, state.mode, model, radius)
        trial = torch.where(going, trial, x)
        n_convex = model.kept(state.n_convex, torch.where(model.values[:, 0] < 0, 0, state.n_convex + running))
        status = torch.where(running & (n_convex > self.max_convex), int(Status.UNBOUNDED), status)
        n_outside = state.n_outside
        if potential.bounds is not None:
            inside = potential.bounds.clamp(trial)
            n_outside = model.kept(n_outside, torch.where((inside != trial).any(1), n_outside + running, 0))
            status = torch.where(running & (n_outside > self.max_outside), int(Status.OUTSIDE), status)
            moved = model.along(inside - x)
            predicted, magnitude = predicted_change(model.values, model.along(new_grad), moved)
            trial = inside
        return Following(
            x=x,
            energy=torch.where(accepted, energy, state.energy),
            grad=new_grad,
            trial=trial,
            mode=torch.where(going, mode, state.mode),
            predicted=predicted,
            magnitude=magnitude,
            radius=radius,
            n_evaluations=n_evaluations,
            n_rejected=n_rejected,
            n_outside=n_outside,
            n_convex=n_convex,
            status=status,
            model=model,
        )

    def wants(self, state: Following, n_steps: int) -> Bool[Tensor, "B"] | None:
        """Rows that wait for a larger Krylov space."""
        return state.model.waits

    def tend(self, potential: Potential, state: Following, rows: Int[Tensor, "R"]) -> Following:
        """They get it."""
        return dataclasses.replace(state, model=state.model.roomier())

    def result(self, potential: Potential, state: Following) -> Followed:
        """Where every row stands, with its residual."""
        points = standing(state.x, state.energy, state.grad, state.status, state.n_evaluations)
        return Followed(points, state.mode)

    # --- parts of a step ------------------------------------------------------------------------------------

    def _curvature(self, potential: Potential) -> Curvature:
        return self.curvature if self.curvature is not None else choose_curvature(potential)

    def _error(self, potential: Potential, state: Following, energy: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """|actual - predicted| energy change, relative to the change's magnitude or the rounding error."""
        noise = energy_noise(energy, potential.energy_scale)
        wrong = (energy - state.energy - state.predicted).abs()
        return torch.nan_to_num((wrong - noise).clamp(min=0.0) / (state.magnitude + noise), nan=torch.inf)

    def _radius(
        self,
        potential: Potential,
        state: Following,
        error: Float[Tensor, "B"],
        accepted: Bool[Tensor, "B"],
        rejected: Bool[Tensor, "B"],
    ) -> Float[Tensor, "B"]:
        """Longer after a good prediction by a step that used the radius up, shorter after a bad one."""
        length = (state.trial - state.x).norm(dim=1)
        good = accepted & (error < 0.1) & (length > 0.7 * state.radius)
        poor = accepted & (error > 0.4 * self.accept_error)
        most = self.max_step * potential.length_scale
        radius = torch.where(good, (2.0 * state.radius).clamp(max=most), state.radius)
        radius = torch.where(poor, torch.minimum(state.radius, 0.7 * length), radius)
        # A model that was only updated is not blamed on the radius: it is measured first.
        old = state.model.age > 0
        shrunk = torch.where(old, 0.5, 0.3) * torch.minimum(length, state.radius)
        return torch.where(rejected, shrunk, radius)

    def _propose(self, x, grad, mode, model: Quadratic, radius):
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
    if len(starts) == 0:
        none = StationaryPoints.empty(potential.ndim, dtype=starts.dtype, device=starts.device)
        return Followed(none, directions)
    ended = _run(potential, starts, directions, options, pool_size)
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
    if potential.ndim > DENSE_SPECTRUM:
        return ended
    rows = torch.nonzero(status == Status.CONVERGED)[:, 0].to(starts.device)
    rows = rows[torch.nonzero(characterise(potential, ended.points[rows]).index > 1)[:, 0]]
    if len(rows) == 0:
        return ended
    # A start that a symmetry keeps on its axis stays there, on a saddle of higher index: step off at random.
    key = random.fold(0, torch.arange(len(rows), device=rows.device))
    aside = potential.symmetry.project_out(ended.points.x[rows], random.normal(key, potential.ndim, starts.dtype))
    aside = 0.1 * potential.length_scale * aside / aside.norm(dim=1, keepdim=True)
    again = _run(potential, ended.points.x[rows] + aside, ended.mode[rows], options, pool_size)
    spent = ended.points.n_evaluations[rows] + again.points.n_evaluations
    return put_rows(ended, rows, Followed(again.points.replace(n_evaluations=spent), again.mode))


def _run(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    directions: Float[Tensor, "B D"],
    options: Follow,
    pool_size: int | None,
) -> Followed:
    """All searches through one pool, in the order of the starts."""
    per_row = max(1, options._curvature(potential).bytes_per_row(potential.ndim, starts.dtype))
    size = available_memory(torch.device(potential.device)) // per_row
    queue = Queue(torch.cat([starts, directions], 1))
    Pool(options, max(1, min(pool_size or 2048, size, len(starts)))).run(potential, queue)
    return queue.ordered()
