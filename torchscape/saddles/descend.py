"""Downhill along the steepest-descent path, by an integrator that stays in its basin."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from torchscape.memory import available_memory
from torchscape.optimise import LBFGS, Pool, Queue, relax, verdict
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.curvature import Curvature, Dense, Quadratic, choose_curvature
from torchscape.saddles.eigen import dense_spectrum, rows_within
from torchscape.saddles.projector import Projector
from torchscape.saddles.steps import flow_response, flow_step
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Descent", "Quench", "choose_descent", "descend"]

_DENSE_LIMIT = 2000  # coordinates up to which the modes across a divide are computed


@dataclasses.dataclass(frozen=True)
class _Descending:
    """State of a batch of descents. ``trial`` is what the next step evaluates, after a time ``time``.

    ``clearance`` is the shortest distance at which the path has passed a divide, see :func:`_to_divides`, and
    ``nearest`` where that was.
    """

    x: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]
    trial: Float[Tensor, "B D"]
    time: Float[Tensor, "B 1"]
    radius: Float[Tensor, "B"]
    n_evaluations: Int[Tensor, "B"]
    n_rejected: Int[Tensor, "B"]
    status: Int[Tensor, "B"]
    model: Quadratic
    clearance: Float[Tensor, "B"]
    nearest: Float[Tensor, "B D"]


@dataclasses.dataclass(frozen=True)
class Descent:
    """Options of the descent, and the stepper that a pool runs.

    The flow dx/dt = -grad U is integrated exactly on local quadratic models (Page & McIver 1988,
    doi 10.1063/1.454172), so that stiff directions cost nothing. A step is taken when the part of the
    gradient change that its model missed would have moved the path by less than ``path_tol``; near the
    minimum the time goes to infinity and the step becomes Newton's.

    Attributes:
        curvature: :class:`Dense` or :class:`Krylov`; None chooses by size.
        path_tol: error allowed per step, in units of the potential's ``length_scale``.
        remeasure: fraction of it above which a dense Hessian is measured anew rather than updated (1: only
            after a rejection).
        max_step: longest step, in the same unit.
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.
        max_evaluations: evaluations a row may spend on the path; :func:`relax` takes over from there.
        margin: a path that has passed a divide at less than this many ``path_tol`` is followed again, each time
            ten times as accurately, see :func:`descend`; 0 for never.
        n_again: how often at most.
    """

    curvature: Curvature | None = None
    path_tol: float = 0.02
    remeasure: float = 1.0
    max_step: float = 2.0
    tol: float | None = None
    max_evaluations: int = 500
    margin: float = 8.0
    n_again: int = 3

    def __post_init__(self) -> None:
        check_fields(
            self,
            path_tol=POSITIVE,
            remeasure=NOT_NEGATIVE.or_infinite,
            max_step=POSITIVE.or_infinite,
            tol=NOT_NEGATIVE.or_none,
            max_evaluations=COUNT_OR_ZERO,
            margin=NOT_NEGATIVE,
            n_again=COUNT_OR_ZERO,
        )

    def finer(self, potential: Potential) -> Descent:
        """The same ten times as accurate, with dense Hessians measured at every step.

        Between updates of a Hessian an error across the path is seen too late.
        """
        curvature = self._curvature(potential)
        return dataclasses.replace(
            self,
            curvature=dataclasses.replace(curvature, refresh=1) if isinstance(curvature, Dense) else curvature,
            path_tol=0.1 * self.path_tol,
            max_evaluations=int(2.2 * self.max_evaluations),
        )

    def init(self, potential: Potential, x: Float[Tensor, "B D"]) -> _Descending:
        """State before any evaluation."""
        if potential.bounds is not None:
            x = potential.bounds.clamp(x)
        b = len(x)
        zero = torch.zeros(b, dtype=torch.int64, device=x.device)
        return _Descending(
            x=x.clone(),
            energy=x.new_full((b,), torch.inf),
            grad=torch.zeros_like(x),
            trial=x.clone(),
            time=x.new_zeros(b, 1),
            radius=x.new_full((b,), 0.1 * potential.length_scale),
            n_evaluations=zero,
            n_rejected=zero.clone(),
            status=torch.full_like(zero, Status.RUNNING),
            model=self._curvature(potential).fresh(x),
            clearance=x.new_full((b,), torch.inf),
            nearest=x.clone(),
        )

    def step(self, potential: Potential, state: _Descending) -> _Descending:
        """Evaluate every trial point once; accept or shrink; follow the flow of the model from there."""
        energy, grad = potential.energy_and_grad(state.trial)
        running = state.status == Status.RUNNING
        first = torch.isinf(state.energy)
        finite = torch.isfinite(energy) & torch.isfinite(grad).all(1)
        s = state.trial - state.x
        length = s.norm(dim=1)
        tol = self.path_tol * potential.length_scale
        error = torch.nan_to_num(self._error(state, s, grad), nan=torch.inf)
        noise = 100 * torch.finfo(energy.dtype).eps * energy.abs().clamp(min=potential.energy_scale)
        going = state.model.going(running)
        accepted = going & finite & (first | ((error <= tol) & (energy <= state.energy + noise)))
        rejected = going & ~accepted

        # The error of a step grows with the cube of its length.
        factor = (0.9 * (tol / error.clamp(min=1e-6 * tol)) ** (1 / 3)).clamp(0.2, 2.0)
        grown = torch.maximum(state.radius, factor * length).clamp(max=self.max_step * potential.length_scale)
        radius = torch.where(factor > 1, grown, torch.minimum(state.radius, factor * length))
        radius = torch.where(rejected, length * factor.clamp(max=0.5), radius)
        radius = torch.where(first | ~going, state.radius, radius)

        take = accepted[:, None]
        x = torch.where(take, state.trial, state.x)
        new_grad = torch.where(take, grad, state.grad)
        y = torch.where(take, grad - state.grad, 0.0)
        moved = accepted & ~first
        curvature = self._curvature(potential)
        model = curvature.moved(state.model, s, y, moved, (rejected | (error > self.remeasure * tol)) & ~first)

        projector = Projector.at(potential, x, new_grad)
        free = projector.apply_one(new_grad)
        n_evaluations = state.n_evaluations + going
        n_rejected = torch.where(accepted, 0, state.n_rejected + rejected)
        rms = free.square().mean(1).sqrt()
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
        model = curvature.at(potential, x, free, None, model, running, projector)
        slope = model.along(free)
        c, time, newton = flow_step(model.values, slope, radius)
        # An update keeps curvature positive that has long turned negative across the path, where Newton's step
        # would end at a saddle. So the first one waits for a measured Hessian.
        unsure = newton & (model.age > 0) & ~torch.isinf(state.time[:, 0])
        briefly = 1 / model.values.amin(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny ** 0.5)
        time = torch.where(unsure[:, None], briefly, time)
        c = torch.where(unsure[:, None], -slope * flow_response(model.values, time), c)
        model = dataclasses.replace(model, stale=model.stale | unsure)
        clearance = _to_divides(model.values, slope).amin(1)
        closer = model.going(running) & (model.age == 0) & (clearance < state.clearance)
        trial = torch.where(model.going(running)[:, None], x + model.back(c), x)
        if potential.bounds is not None:
            trial = potential.bounds.clamp(trial)
        return _Descending(
            x=x,
            energy=torch.where(accepted, energy, state.energy),
            grad=new_grad,
            trial=trial,
            time=time,
            radius=radius,
            n_evaluations=n_evaluations,
            n_rejected=n_rejected,
            status=status,
            model=model,
            clearance=torch.where(closer, clearance, state.clearance),
            nearest=torch.where(closer[:, None], x, state.nearest),
        )

    def wants(self, state: _Descending, n_steps: int) -> Bool[Tensor, "B"] | None:
        """Rows that wait for a larger Krylov space."""
        return state.model.waits

    def tend(self, potential: Potential, state: _Descending, rows: Int[Tensor, "R"]) -> _Descending:
        """They get it."""
        return dataclasses.replace(state, model=state.model.roomier())

    def result(self, potential: Potential, state: _Descending) -> StationaryPoints:
        """Where every row stands, with its residual."""
        free = Projector.at(potential, state.x, state.grad).apply_one(state.grad)
        broken = torch.isinf(state.energy)
        return StationaryPoints.of(
            state.x,
            torch.where(broken, torch.nan, state.energy),
            grad_rms=torch.where(broken, torch.nan, free.square().mean(1).sqrt()),
            status=torch.where(state.status == Status.RUNNING, int(Status.MAX_STEPS), state.status),
            n_evaluations=state.n_evaluations,
        )

    def _curvature(self, potential: Potential) -> Curvature:
        return self.curvature if self.curvature is not None else choose_curvature(potential)

    def _error(
        self, state: _Descending, s: Float[Tensor, "B D"], grad: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B"]:
        """How far the gradient change that the model missed would have moved the path meanwhile.

        The missed force grows from zero over the step, hence the factor one half.
        """
        missed = state.model.along(grad - state.grad - state.model.times(s))
        values = state.model.values
        newton = torch.isinf(state.time)
        time = torch.where(newton, 1.0, state.time)
        response = torch.where(newton, 1 / values.abs(), flow_response(values, time))
        return 0.5 * (missed * response).norm(dim=1)


def _to_divides(values: Float[Tensor, "B K"], slope: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Distances |g_k / mu_k| to divides beside the path, along modes of negative curvature that it runs across
    (|g_k| < |g| / 2); infinite along all others.

    Along such a mode paths part. They do so where the slope g_k vanishes, which on the quadratic model is the
    distance |g_k / mu_k| away. Error and distance grow together, so that their ratio says whether the path may
    be on the wrong side. A slope of no more than rounding belongs to a path that symmetry keeps on the divide:
    its end is the saddle that the divide leads to, on neither side.
    """
    size, least = slope.norm(dim=1, keepdim=True), torch.finfo(slope.dtype).eps ** 0.5
    across = (values < 0) & (slope.abs() < 0.5 * size) & (slope.abs() > least * size)
    return torch.where(across, slope.abs() / values.abs(), torch.inf)


@dataclasses.dataclass(frozen=True)
class _Ends:
    """Where paths have ended, how close to a divide they came, and where."""

    points: StationaryPoints
    clearance: Float[Tensor, "B"]
    nearest: Float[Tensor, "B D"]

    @classmethod
    def cat(cls, parts: Sequence[_Ends]) -> _Ends:
        clearance, nearest = (torch.cat([getattr(p, name) for p in parts]) for name in ("clearance", "nearest"))
        return cls(StationaryPoints.cat([p.points for p in parts]), clearance, nearest)

    def __getitem__(self, rows: Int[Tensor, "K"]) -> _Ends:
        return _Ends(self.points[rows], self.clearance[rows], self.nearest[rows])


@dataclasses.dataclass(frozen=True)
class _Watched:
    """A :class:`Descent` whose results carry the clearance of the path."""

    descent: Descent

    def init(self, potential: Potential, x: Float[Tensor, "B D"]) -> _Descending:
        return self.descent.init(potential, x)

    def step(self, potential: Potential, state: _Descending) -> _Descending:
        return self.descent.step(potential, state)

    def wants(self, state: _Descending, n_steps: int) -> Bool[Tensor, "B"] | None:
        return self.descent.wants(state, n_steps)

    def tend(self, potential: Potential, state: _Descending, rows: Int[Tensor, "R"]) -> _Descending:
        return self.descent.tend(potential, state, rows)

    def result(self, potential: Potential, state: _Descending) -> _Ends:
        return _Ends(self.descent.result(potential, state), state.clearance, state.nearest)


@dataclasses.dataclass(frozen=True)
class Quench:
    """A descent by L-BFGS with short steps, as the field follows its downhill paths in many dimensions.

    It costs a tenth of :class:`Descent` on networks of hundreds of parameters. With short steps it nearly always
    ends where the steepest-descent path does, but nothing guarantees it.

    Attributes:
        max_step: longest step, in units of the potential's ``length_scale``.
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.
    """

    max_step: float = 0.1
    tol: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, max_step=POSITIVE.or_infinite, tol=NOT_NEGATIVE.or_none)


def choose_descent(potential: Potential, dense_limit: int = 200) -> Descent | Quench:
    """The path itself where local quadratic models are cheap, a quench with short steps beyond."""
    return Descent() if potential.ndim <= dense_limit else Quench()


def descend(
    potential: Potential, starts: Float[Tensor, "B D"], *, options: Descent | Quench | None = None
) -> StationaryPoints:
    """Follow the steepest-descent path from every start to its end; row i of the result belongs to start i.

    Errors grow where the surface curves downwards across the path: near a divide, as where a path runs into
    another saddle and leaves it sideways. A path that came too close to one for its ``path_tol`` is followed again
    with a ``path_tol`` ten times smaller, until it keeps its distance in terms of that. If it still does not after
    ``n_again`` times, its end counts if the last two agree, and if it has passed at more than its ``path_tol`` or
    paths from that far on either side of the divide end there as well (symmetry may keep a path on a divide that
    ends before any minimum does); otherwise its status is ``MAX_STEPS``: the end is open.

    What has not converged within the path's budget (a kink, a minimum with an unknown zero mode) is finished by
    :func:`~torchscape.optimise.relax` from where the path had come to. As a minimiser may leave the basin, that
    end counts if steps ten times shorter lead to the same.

    Args:
        potential: U.
        starts: points on slopes [B D].
        options: how; None for :func:`choose_descent`.

    Example:
        >>> class Wells(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return (x[:, 0] ** 2 - 1) ** 2 + 10 * (x[:, 1] - x[:, 0] ** 2) ** 2
        >>> start = torch.tensor([[0.01, 0.0], [-0.01, 3.0]], dtype=torch.float64)
        >>> descend(Wells(), start).x.round(decimals=6).tolist()
        [[1.0, 1.0], [-1.0, 1.0]]
    """
    options = options or choose_descent(potential)
    if len(starts) == 0:
        return StationaryPoints.empty(potential.ndim, dtype=starts.dtype, device=starts.device)
    if isinstance(options, Quench):
        return relax(potential, starts, optimiser=LBFGS(max_step=options.max_step), tol=options.tol)
    ends, room, _ = _followed(potential, starts, options)
    doubt = torch.nonzero(room < options.margin)[:, 0]
    room, agree, nearest = room[doubt], torch.zeros_like(doubt, dtype=torch.bool), starts[doubt]
    for _ in range(options.n_again):
        if len(doubt) == 0:
            return ends
        options = options.finer(potential)
        known = ends[doubt]
        again, room, nearest = _followed(potential, starts[doubt], options)
        agree = known.converged & again.converged & _same(potential, known.x, again.x)
        ends = put_rows(ends, doubt, again.replace(n_evaluations=known.n_evaluations + again.n_evaluations))
        still = room < options.margin
        doubt, room, agree, nearest = doubt[still], room[still], agree[still], nearest[still]
    if len(doubt):
        on_it = torch.nonzero(agree & (room < 1.0))[:, 0]
        agree[on_it] = _either_side(potential, ends.x[doubt[on_it]], nearest[on_it], options)
        status = ends.status.clone()
        status[doubt[~agree]] = int(Status.MAX_STEPS)
        ends = ends.replace(status=status)
    return ends


def _followed(
    potential: Potential, starts: Float[Tensor, "B D"], options: Descent
) -> tuple[StationaryPoints, Float[Tensor, "B"], Float[Tensor, "B D"]]:
    """Ends of the paths, finished by a minimiser where need be; their room to a divide, by ``path_tol``; and where
    they came closest to one."""
    per_row = max(1, options._curvature(potential).bytes_per_row(potential.ndim, starts.dtype))
    size = max(1, min(2048, len(starts), available_memory(torch.device(potential.device)) // per_row))
    queue = Queue(starts)
    Pool(_Watched(options), size).run(potential, queue)
    found: _Ends = queue.ordered()
    ends = found.points
    room = found.clearance / (options.path_tol * potential.length_scale)
    left = torch.nonzero(~ends.converged)[:, 0]
    if len(left) == 0:
        return ends, room, found.nearest
    finished = _agreed(potential, ends.x[left], options.tol)
    spent = ends.n_evaluations[left] + finished.n_evaluations
    return put_rows(ends, left, finished.replace(n_evaluations=spent)), room, found.nearest


def _either_side(
    potential: Potential, ends: Float[Tensor, "K D"], nearest: Float[Tensor, "K D"], options: Descent
) -> Bool[Tensor, "K"]:
    """Whether paths from one ``path_tol`` on either side of the nearest divide end where these have."""
    if len(ends) == 0 or potential.ndim > _DENSE_LIMIT:
        return torch.zeros(len(ends), dtype=torch.bool, device=ends.device)
    modes = []
    for x in nearest.split(rows_within(potential.ndim, nearest.dtype, nearest.device)):
        grad = potential.energy_and_grad(x)[1]
        projector = Projector.at(potential, x, grad)
        values, vectors, _ = dense_spectrum(potential.hessian(x), projector)
        slope = torch.bmm(vectors, projector.apply_one(grad)[:, :, None])[:, :, 0]
        least = _to_divides(values, slope).argmin(1)
        modes.append(vectors.gather(1, least[:, None, None].expand(-1, 1, x.shape[1]))[:, 0])
    aside = options.path_tol * potential.length_scale * torch.cat(modes)
    sides = _followed(potential, torch.cat([nearest - aside, nearest + aside]), options)[0]
    return (sides.converged & _same(potential, sides.x, ends.repeat(2, 1))).reshape(2, -1).all(0)


def _agreed(potential: Potential, x: Float[Tensor, "B D"], tol: float | None) -> StationaryPoints:
    """Where a minimiser ends; converged only where one with steps ten times shorter ends there, too."""
    ends = relax(potential, x, tol=tol)
    rows = torch.nonzero(ends.converged)[:, 0]
    if len(rows) == 0:
        return ends
    short = relax(potential, x[rows], optimiser=LBFGS(max_step=0.1), tol=tol)
    agree = short.converged & _same(potential, short.x, ends.x[rows])
    evaluations, status = ends.n_evaluations.clone(), ends.status.clone()
    evaluations[rows] += short.n_evaluations
    status[rows[~agree]] = int(Status.MAX_STEPS)
    return ends.replace(n_evaluations=evaluations, status=status)


def _same(potential: Potential, a: Float[Tensor, "B D"], b: Float[Tensor, "B D"]) -> Bool[Tensor, "B"]:
    """Whether two ends of one path are one point, up to symmetry."""
    return potential.symmetry.distance(a, b) <= 1e-3 * potential.length_scale
