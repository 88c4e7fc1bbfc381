"""Downhill along the steepest-descent path, to the minimum at its end."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.devices import HOST
from torchscape.even import even_bmv
from torchscape.numerics import DENSE_PATHS, DENSE_SPECTRUM
from torchscape.optimise import LBFGS, relax, run_pool
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.decomposition import dense_spectrum, rows_within
from torchscape.saddles.divides import Course, Ends, to_divides
from torchscape.saddles.flow import Flow
from torchscape.saddles.implicit import ImplicitDescent
from torchscape.saddles.projector import Projector
from torchscape.saddles.steepest import Descent
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Descent", "ImplicitDescent", "Quench", "choose_descent", "descend"]


@dataclasses.dataclass(frozen=True)
class Quench:
    """A descent by L-BFGS with short steps, as the field follows its downhill paths in many dimensions.

    Nothing guarantees that it ends where the steepest-descent path does: a quasi-Newton direction is not the
    gradient, however short the steps. On a network of 310 parameters 1 to 8 of 116 paths end elsewhere, others
    with each choice of ``max_step``; :class:`ImplicitDescent` follows the path itself at a similar price.

    Attributes:
        max_step: longest step, in units of the potential's ``length_scale``.
        tol: RMS gradient that counts as converged; None for 1e-8 in float64.
    """

    max_step: float = 0.1
    tol: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, max_step=POSITIVE.or_infinite, tol=NOT_NEGATIVE.or_none)


def choose_descent(potential: Potential, dense_limit: int = DENSE_PATHS) -> Descent | ImplicitDescent:
    """By local quadratic models where these are cheap, by implicit steps that need gradients only beyond."""
    return Descent() if potential.ndim <= dense_limit else ImplicitDescent()


def descend(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    *,
    options: Descent | ImplicitDescent | Quench | None = None,
) -> StationaryPoints:
    """Follow the steepest-descent path from every start to its end; row i of the result belongs to start i.

    Errors grow where the surface curves downwards across the path: near a divide, as where a path runs into
    another saddle and leaves it sideways. So the error of a path is added up on its way, and one that came closer
    to a divide than ``margin`` times that is in doubt. Its end counts if a path from the other side of that
    divide, as far away as the error and twice as far as the divide, ends there as well. Else it is followed again,
    at least ten times as accurately, and its end counts if it is the same and the path now keeps its distance, or
    both sides meet again.
    Where ``n_again`` repetitions do not settle it, its status is ``MAX_STEPS``: the end is open.

    In many coordinates (:class:`ImplicitDescent`) nothing is known of divides but the negative curvature that a
    path has met across its direction. Where that may have made more of its errors than ``doubt`` allows, it is
    followed again, ten times as accurately, until two of its runs end in one point.

    A path that has spent its budget goes on from where it is with one ten times as large; if that is not enough
    its end is open, too. What stops at a kink, or at a wall of the box, is finished by
    :func:`~torchscape.optimise.relax` from there. As a minimiser may leave the basin, that end counts if steps ten
    times shorter lead to the same.

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
    if isinstance(options, ImplicitDescent):
        return _until_two_agree(potential, starts, options)
    # Which paths are followed again is for the host to know; it is told all about a repetition at once.
    found, device = _follow(potential, starts, options), starts.device
    found, converged, clear, opened = _gone_on(potential, found, options, options.margin)
    ends, course = found.points, found.course
    stepper: Descent | Flow = options
    doubt = torch.nonzero(converged & ~clear)[:, 0]
    alike = torch.ones_like(doubt, dtype=torch.bool)  # paths whose last two runs end in one point
    for times in range(options.n_again + 1):
        if len(doubt) == 0:
            break
        if len(rows := doubt[alike]):
            there = rows.to(device)
            tried, same = _across(potential, ends, course, there, stepper)
            ends = put_rows(ends, there, tried)
            doubt = doubt[~torch.zeros_like(alike).masked_scatter(alike, same.to(HOST))]
        if len(doubt) == 0 or times == options.n_again:
            break
        rows, stepper = doubt.to(device), options.finer(potential, times + 1)
        known, found = ends[rows], _follow(potential, starts[rows], stepper)
        again = found.points
        agree = known.converged & again.converged & _same(potential, known.x, again.x)
        ends = put_rows(ends, rows, again.replace(n_evaluations=known.n_evaluations + again.n_evaluations))
        course = put_rows(course, rows, found.course)
        converged[doubt], agree, clear = torch.stack(
            [again.converged, agree, found.course.room >= options.margin]
        ).to(HOST)
        opened[doubt] = ~converged[doubt]
        going = converged[doubt] & ~(agree & clear)
        doubt, alike = doubt[going], (agree & ~clear)[going]
    opened[doubt] = True
    ends = _finish(potential, ends, torch.nonzero(~converged & ~opened)[:, 0].to(device), options.tol)
    return ends.replace(status=torch.where(opened.to(device), int(Status.MAX_STEPS), ends.status))


def _until_two_agree(
    potential: Potential, starts: Float[Tensor, "B D"], options: ImplicitDescent
) -> StationaryPoints:
    """Ends of the paths; those in doubt are those of two runs, of which one was ten times as accurate."""
    found, device = _follow(potential, starts, options), starts.device
    found, converged, clear, opened = _gone_on(potential, found, options, 1.0)
    ends, stepper = found.points, options
    doubt = torch.nonzero(converged & ~clear)[:, 0]
    for _ in range(options.n_again):
        if len(doubt) == 0:
            break
        rows, stepper = doubt.to(device), stepper.finer()
        known, again = ends[rows], _follow(potential, starts[rows], stepper).points
        agree = known.converged & again.converged & _same(potential, known.x, again.x)
        ends = put_rows(ends, rows, again.replace(n_evaluations=known.n_evaluations + again.n_evaluations))
        doubt = doubt[~agree.to(HOST)]
    opened[doubt] = True
    ends = _finish(potential, ends, torch.nonzero(~converged & ~opened)[:, 0].to(device), options.tol)
    return ends.replace(status=torch.where(opened.to(device), int(Status.MAX_STEPS), ends.status))


def _gone_on(
    potential: Potential, found: Ends, options: Descent | ImplicitDescent, margin: float
) -> tuple[Ends, Bool[Tensor, "B"], Bool[Tensor, "B"], Bool[Tensor, "B"]]:
    """With the paths that have spent their budget followed further; which have ended, which kept clear of divides,
    and which are open, as the host knows it. What has come to a wall is left where it is."""
    points, course = found.points, found.course
    spent = points.status == Status.MAX_STEPS
    if potential.bounds is not None:
        spent &= potential.bounds.interior(points.x)
    converged, clear, spent = torch.stack([points.converged, course.room >= margin, spent]).to(HOST)
    opened = ~converged & ~clear  # without an end it would only spend its budget again
    rows = torch.nonzero(spent & clear)[:, 0]
    if len(rows) == 0:
        return found, converged, clear, opened
    there = rows.to(points.x.device)
    further = dataclasses.replace(options, max_evaluations=10 * options.max_evaluations)
    more = _follow(potential, points.x[there], further)
    total = points.n_evaluations[there] + more.points.n_evaluations
    points = put_rows(points, there, more.points.replace(n_evaluations=total))
    course = put_rows(course, there, more.course)
    converged[rows], clear[rows] = torch.stack([more.points.converged, more.course.room >= margin]).to(HOST)
    opened[rows] = ~converged[rows]
    return Ends(points, course), converged, clear, opened


def _follow(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    stepper: Descent | Flow | ImplicitDescent,
) -> Ends:
    """Ends of the paths, and their course."""
    ends: Ends = run_pool(stepper, potential, starts)
    return ends


def _finish(
    potential: Potential, ends: StationaryPoints, rows: Int[Tensor, "R"], tol: float | None
) -> StationaryPoints:
    """With the given rows brought to an end by a minimiser."""
    if len(rows) == 0:
        return ends
    finished = _agreed(potential, ends.x[rows], tol)
    spent = ends.n_evaluations[rows] + finished.n_evaluations
    return put_rows(ends, rows, finished.replace(n_evaluations=spent))


def _across(
    potential: Potential,
    ends: StationaryPoints,
    course: Course,
    rows: Int[Tensor, "R"],
    stepper: Descent | Flow,
) -> tuple[StationaryPoints, Bool[Tensor, "R"]]:
    """Whether a path from the other side of the nearest divide ends where these have; the evaluations are added.

    The other side is as far away as the path may have strayed there, and twice as far as the divide at least. The
    error is a bound that may have grown beyond anything; more than half a length scale is not tried for its sake.
    """
    ends = ends[rows]
    if potential.ndim > DENSE_SPECTRUM:
        return ends, torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    nearest, room, aside = course.nearest[rows], course.room[rows], []
    for some in torch.arange(len(rows), device=rows.device).split(
        rows_within(potential.ndim, nearest.dtype, nearest.device)
    ):
        x = nearest[some]
        grad = potential.energy_and_grad(x)[1]
        projector = Projector.at(potential, x, grad)
        values, vectors, _ = dense_spectrum(potential.hessian(x), projector)
        slope = even_bmv(vectors, projector.apply_one(grad))
        distance, mode = to_divides(values, slope).min(1)
        far = (distance / room[some]).clamp(max=0.5 * potential.length_scale)
        step = -torch.sign((slope / values).gather(1, mode[:, None])) * torch.maximum(far, 2 * distance)[:, None]
        aside.append(step * vectors.gather(1, mode[:, None, None].expand(-1, 1, x.shape[1]))[:, 0])
    others = _follow(potential, nearest + torch.cat(aside), stepper).points
    same = others.converged & _same(potential, others.x, ends.x)
    return ends.replace(n_evaluations=ends.n_evaluations + others.n_evaluations), same


def _agreed(potential: Potential, x: Float[Tensor, "B D"], tol: float | None) -> StationaryPoints:
    """Where a minimiser ends; converged only where one with steps ten times shorter ends there, too."""
    ends = relax(potential, x, tol=tol)
    rows = torch.nonzero(ends.converged)[:, 0]
    if len(rows) == 0:
        return ends
    short = relax(potential, x[rows], optimiser=LBFGS(max_step=0.1), tol=tol)
    agree = short.converged & _same(potential, short.x, ends.x[rows])
    status = torch.where(agree, ends.status[rows], int(Status.MAX_STEPS))
    return ends.replace(
        n_evaluations=ends.n_evaluations.index_add(0, rows, short.n_evaluations),
        status=ends.status.index_copy(0, rows, status),
    )


def _same(potential: Potential, a: Float[Tensor, "B D"], b: Float[Tensor, "B D"]) -> Bool[Tensor, "B"]:
    """Whether two ends of one path are one point, up to symmetry."""
    return potential.symmetry.distance(a, b) <= 1e-3 * potential.length_scale
