"""Downhill along the steepest-descent path, to the minimum at its end."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.devices import HOST
from torchscape.memory import available_memory
from torchscape.optimise import LBFGS, Pool, Queue, relax
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.divides import Ends, to_divides
from torchscape.saddles.eigen import dense_spectrum, rows_within
from torchscape.saddles.flow import Flow
from torchscape.saddles.projector import Projector
from torchscape.saddles.steepest import Descent
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Descent", "Quench", "choose_descent", "descend"]

_DENSE_LIMIT = 2000  # coordinates up to which the modes across a divide are computed


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
    another saddle and leaves it sideways. So the error of a path is added up on its way, and one that came closer
    to a divide than that is followed again, at least ten times as accurately. Its end counts when two runs agree
    and the last keeps its distance, or, from the second repetition on, when two runs agree and paths from a step's
    error on either side of the divide end there as well (so may one that symmetry keeps on a divide which ends
    before any minimum does). Where ``n_again`` repetitions do not settle it, its status is ``MAX_STEPS``: the end
    is open.

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
    found = _followed(potential, starts, options, options)
    ends, device = found.points, starts.device
    # Which paths are followed again is for the host to know; it is told all about a repetition at once.
    converged, clear = torch.stack([ends.converged, found.course.room >= options.margin]).to(HOST)
    doubt, opened = torch.nonzero(~clear)[:, 0], torch.zeros_like(converged)
    for times in range(1, options.n_again + 1):
        if len(doubt) == 0:
            break
        rows, finer = doubt.to(device), options.finer(potential, times)
        known, found = ends[rows], _followed(potential, starts[rows], options, finer)
        again, course = found.points, found.course
        agree = known.converged & again.converged & _same(potential, known.x, again.x)
        ends = put_rows(ends, rows, again.replace(n_evaluations=known.n_evaluations + again.n_evaluations))
        converged[doubt], agree, clear = torch.stack([again.converged, agree, course.room >= options.margin]).to(
            HOST
        )
        settled = agree & clear
        near = torch.nonzero(agree & ~clear)[:, 0]
        if len(near) and (times > 1 or times == options.n_again):
            at = near.to(device)
            settled[near] = _either_side(potential, again.x[at], course.nearest[at], options, finer).to(HOST)
        opened[doubt] = ~converged[doubt]  # without an end it would only spend its budget again
        doubt = doubt[converged[doubt] & ~settled]
    opened[doubt] = True
    ends = _finished(potential, ends, torch.nonzero(~converged & ~opened)[:, 0].to(device), options.tol)
    return ends.replace(status=torch.where(opened.to(device), int(Status.MAX_STEPS), ends.status))


def _followed(
    potential: Potential, starts: Float[Tensor, "B D"], options: Descent, stepper: Descent | Flow
) -> Ends:
    """Ends of the paths, and their course."""
    per_row = max(1, options.curvature_of(potential).bytes_per_row(potential.ndim, starts.dtype))
    size = max(1, min(2048, len(starts), available_memory(torch.device(potential.device)) // per_row))
    queue = Queue(starts)
    Pool(stepper, size).run(potential, queue)
    return queue.ordered()


def _finished(
    potential: Potential, ends: StationaryPoints, rows: Int[Tensor, "R"], tol: float | None
) -> StationaryPoints:
    """With the given rows brought to an end by a minimiser."""
    if len(rows) == 0:
        return ends
    finished = _agreed(potential, ends.x[rows], tol)
    spent = ends.n_evaluations[rows] + finished.n_evaluations
    return put_rows(ends, rows, finished.replace(n_evaluations=spent))


def _either_side(
    potential: Potential,
    ends: Float[Tensor, "K D"],
    nearest: Float[Tensor, "K D"],
    options: Descent,
    finest: Descent | Flow,
) -> Bool[Tensor, "K"]:
    """Whether paths from a step's error on either side of the nearest divide end where these have."""
    if potential.ndim > _DENSE_LIMIT:
        return torch.zeros(len(ends), dtype=torch.bool, device=ends.device)
    modes = []
    for x in nearest.split(rows_within(potential.ndim, nearest.dtype, nearest.device)):
        grad = potential.energy_and_grad(x)[1]
        projector = Projector.at(potential, x, grad)
        values, vectors, _ = dense_spectrum(potential.hessian(x), projector)
        slope = torch.bmm(vectors, projector.apply_one(grad)[:, :, None])[:, :, 0]
        least = to_divides(values, slope).argmin(1)
        modes.append(vectors.gather(1, least[:, None, None].expand(-1, 1, x.shape[1]))[:, 0])
    aside = finest.path_tol * potential.length_scale * torch.cat(modes)
    sides = _followed(potential, torch.cat([nearest - aside, nearest + aside]), options, finest).points
    return (sides.converged & _same(potential, sides.x, ends.repeat(2, 1))).reshape(2, -1).all(0)


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
