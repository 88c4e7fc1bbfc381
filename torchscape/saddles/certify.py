"""What a minimum is: nothing that Newton's method would still move, or lower, by as much as anybody can tell."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import torch

from torchscape import stopwatch
from torchscape.devices import HOST
from torchscape.errors import PotentialError
from torchscape.memory import PRODUCTS, rows_that_fit
from torchscape.numerics import DENSE_STEPS, energy_noise
from torchscape.optimise.columns import build, leaves
from torchscape.optimise.kinks import at_kinks
from torchscape.optimise.ledger import compute_once
from torchscape.optimise.resumable import resumable
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.decomposition import rows_within
from torchscape.saddles.newton_steps import NewtonSteps, dense_steps, iterative_steps
from torchscape.transfer import moved
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Certificate", "certify_minima", "exact_twin", "in_dtype", "with_rows"]

_SHARE = 1e-2  # of what the matching tells apart, that a Newton step may still gain
_COLUMNS = ("grad", "status", "n_alike", "previous", "taken", "top", "first", "rows")  # of rows under judgement
_FRACTIONS = (1.0, 0.25, 0.06, 0.015)  # of a step that are tried


@dataclasses.dataclass(frozen=True)
class Certificate:
    """When a candidate counts as a minimum.

    Attributes:
        distance: two points closer than this count as one, in units of ``length_scale``; a Newton step may be a
            hundredth of it.
        energy: the same for energies, in the potential's unit; None for 1e-6 of its ``energy_scale``.
        max_steps: Newton steps at most.
        max_step: longest step, in units of ``length_scale``.
        dense_limit: coordinates up to which Hessians are formed; beyond, steps come from conjugate gradients, and
            the index is left to :func:`characterise`.
        cg_steps: conjugate-gradient iterations of a first step, which most candidates pass; of a later one five
            times as many.
        patience: steps in a row that shorten Newton's step by less than a tenth of their own length, after which
            the row falls for ever.
    """

    distance: float = 0.1
    energy: float | None = None
    max_steps: int = 40
    max_step: float = 1.0
    dense_limit: int = DENSE_STEPS
    cg_steps: int = 40
    patience: int = 4


def certify_minima(
    potential: Potential, points: StationaryPoints, certificate: Certificate | None = None
) -> StationaryPoints:
    """Candidates with the status that they deserve, brought to their minima by Newton steps where they fall short.

    A row that converged, or stalled, is a minimum when Newton's step s = -g.v / mu along every direction that is
    not flat is below a hundredth of the distance, and the energy g.s / 2 that it would gain below a hundredth of
    the energy, at which points are told apart: in any unit of energy and of length. Directions are flat where the
    curvature is rounding (|mu| <= eps^(2/3) max |mu|) and so is the slope. What falls short takes Newton steps
    with |mu| in place of mu, in float64 (:meth:`Potential.double`) whatever the coordinates are, and is then

    - ``CONVERGED``, with index, log_det, n_zero and (dense) eigenvalues,
    - ``WRONG_INDEX``: a saddle,
    - ``UNBOUNDED``: every step leaves the next one as long as before, as for exp(-x): there is no minimum at
      finite coordinates,
    - ``FLAT``: no direction has any curvature or slope, as of a constant,
    - ``LOOSE``: the point falls apart (see :meth:`Potential.is_bound`),
    - ``KINK``: the gradient jumps there, as of |x| at zero, or
    - what it was: no step helps.

    Rows with another status, or a known index, are left alone. The result is in float64 where a float64 twin was
    asked. ``n_evaluations`` stays that of the search.

    Example:
        >>> class Falling(Potential):
        ...     ndim = 1
        ...     def energy(self, x):
        ...         return (-x).exp().sum(1)
        >>> x = torch.tensor([[20.0]], dtype=torch.float64)
        >>> far = StationaryPoints.of(x, Falling().energy(x), status=torch.tensor([int(Status.CONVERGED)]))
        >>> Status(certify_minima(Falling(), far).status.item()).name
        'UNBOUNDED'
    """
    certificate = certificate or Certificate()
    exact = exact_twin(potential)
    open_ = (points.status == Status.CONVERGED) | (points.status == Status.STALLED)
    rows = torch.nonzero(open_ & (points.index <= 0) & points.energy.isfinite())[:, 0]
    if len(rows) == 0:
        return points
    dense = potential.ndim <= certificate.dense_limit
    open_points = points[rows]

    def judged(part: Int[Tensor, "K"]) -> StationaryPoints:
        chosen = in_dtype(open_points[part].to(exact.device), exact.dtype)
        return _Judging(exact, chosen, certificate).run().to(points.x.device)

    size = rows_within(potential.ndim, exact.dtype, exact.device)
    if not dense:
        size = rows_that_fit(potential.ndim, exact.device, on_host=PRODUCTS)
    known_by = (open_points.x, open_points.status, open_points.n_evaluations)
    what = f"{certificate} {exact.dtype}"
    return with_rows(points, rows, compute_once(what, StationaryPoints, known_by, judged, size))


def exact_twin(potential: Potential) -> Potential:
    """The potential in float64; where it has no such twin, itself: rounding is then that of the coordinates."""
    try:
        return potential.double()
    except PotentialError:
        return potential


def with_rows(points: StationaryPoints, rows: Int[Tensor, "K"], fresh: StationaryPoints) -> StationaryPoints:
    """A copy with some rows exchanged, in the dtype of ``fresh``; spectra are NaN where one side has none."""
    points = in_dtype(points, fresh.x.dtype)
    if fresh.eigenvalues is not None and points.eigenvalues is None:
        points = points.replace(eigenvalues=torch.full_like(points.x, torch.nan))
    if points.eigenvalues is not None and fresh.eigenvalues is None:
        fresh = fresh.replace(eigenvalues=torch.full_like(fresh.x, torch.nan))
    return put_rows(points, rows, fresh)


def in_dtype(points: StationaryPoints, dtype: torch.dtype) -> StationaryPoints:
    """A copy, with its numbers in ``dtype``."""

    def cast(column: Tensor | None) -> Tensor | None:
        return None if column is None else column.to(dtype) if column.is_floating_point() else column.clone()

    columns = {f.name: cast(getattr(points, f.name)) for f in dataclasses.fields(points) if f.name != "x"}
    return points.replace(x=points.x.to(dtype, copy=True), **columns)


class _Judging:
    """Rows under judgement: each takes steps until its status is certain."""

    def __init__(self, potential: Potential, points: StationaryPoints, certificate: Certificate) -> None:
        self.potential, self.certificate, self.given = potential, certificate, points
        length = potential.length_scale
        window = 1e-6 * potential.energy_scale if certificate.energy is None else certificate.energy
        self.near, self.little = _SHARE * certificate.distance * length, _SHARE * window
        self.longest = certificate.max_step * length
        self.dense = potential.ndim <= certificate.dense_limit
        x = points.x if potential.bounds is None else potential.bounds.clamp(points.x)
        energy, grad = potential.energy_and_grad(x)
        self.grad = grad
        self.points = points.replace(x=x, energy=energy, grad_rms=self._rms(x, grad))
        if self.dense:
            self.points = self.points.replace(eigenvalues=torch.full_like(x, torch.nan))
        else:
            self.points = self.points.replace(eigenvalues=None)
        self.status = torch.full_like(points.status, int(Status.RUNNING))
        self.has_moved = False
        self.n_alike = torch.zeros_like(points.status)
        self.previous = torch.full_like(points.energy, torch.inf)
        self.taken = torch.zeros_like(points.energy)
        self.top = torch.full_like(points.energy, torch.inf)
        self.first = points.energy.new_full((len(points), 2), torch.nan)  # distance and largest curvature
        self.rows = torch.arange(len(points), device=points.x.device)  # that go on
        self.number = 0  # steps behind them
        self.is_whole = False

    def run(self) -> StationaryPoints:
        if self.dense:
            return self._run()
        given, what = self.given, f"{self.certificate} {self.given.x.dtype}"
        starts = (given.x, given.status, given.n_evaluations)
        with resumable("polishes of minima", what, starts, self._columns) as stored:
            self._go_on(stored)
            return self._run()

    def _run(self) -> StationaryPoints:
        for number in range(self.number, self.certificate.max_steps):
            rows, self.number, self.is_whole = self.rows, number, True
            if not self.dense:
                stopwatch.look()
            newton = self._newton(rows, number)
            self.is_whole = False
            self.points = put_rows(self.points, rows, newton.points)
            self._decide(rows, newton)
            seen = self.status[rows].to(HOST)  # most rows end with the first step, and this is all that is asked
            flat, going = (torch.nonzero(seen == status)[:, 0] for status in (Status.FLAT, Status.RUNNING))
            if len(flat):
                flat = rows[flat.to(rows.device)]
                self.status[flat] = torch.where(self._is_plain(flat), int(Status.FLAT), int(Status.CONVERGED))
            if len(going) == 0:
                break
            going = going.to(rows.device)
            self._move(rows[going], (newton.step[going], newton.steepest[going]))
            rows = rows[going]
            self.rows = rows[self.status[rows] == Status.RUNNING]
            if len(self.rows) == 0:
                break
        return self._finished()

    def _newton(self, rows: Int[Tensor, "B"], number: int) -> NewtonSteps:
        here = self.potential, self.points[rows], self.grad[rows]
        if self.dense:
            return dense_steps(*here)
        return iterative_steps(*here, self.certificate.cg_steps * (1 if number == 0 else 5))

    def _columns(self) -> dict[str, Tensor]:
        """Where it stands, while nothing but Newton's next step is under way."""
        if not self.is_whole:
            return {}
        columns = {name: getattr(self, name) for name in _COLUMNS} | leaves(self.points, Tensor, "points.")
        return columns | {"number": torch.tensor(self.number), "has_moved": torch.tensor(self.has_moved)}

    def _go_on(self, stored: Mapping[str, Tensor]) -> None:
        if not stored:
            return
        columns = moved(dict(stored), self.grad.device)
        for name in _COLUMNS:
            setattr(self, name, columns[name].clone())
        self.points = build(StationaryPoints, columns, "points.")
        self.number, self.has_moved = int(stored["number"]), bool(stored["has_moved"])

    # --- decisions ------------------------------------------------------------------------------------------

    def _decide(self, rows: Int[Tensor, "B"], newton: NewtonSteps) -> None:
        close = (newton.distance <= self.near) & (newton.gain <= self.little)
        done = close & newton.is_sure
        shortened = self.previous[rows] - newton.distance
        # On the way out of a soft saddle steps grow too, but the largest curvature stays what it is.
        fading = (newton.index <= 0) | (newton.top < 0.9 * self.top[rows])
        alike = (shortened < 0.1 * self.taken[rows]) & fading & (self.taken[rows] > 0)
        self.top[rows] = newton.top
        first = self.first[rows]
        self.first[rows] = torch.where(first.isnan(), torch.stack([newton.distance, newton.top], 1), first)
        # Where curvature and slope die away together, Newton's step does not: x^p, a minimum, shortens it.
        fades = (newton.top < 0.1 * first[:, 1]) & (newton.distance > 0.8 * first[:, 0])
        self.n_alike[rows] = torch.where(alike, self.n_alike[rows] + 1, 0)
        self.previous[rows] = newton.distance
        status = torch.full_like(rows, int(Status.RUNNING))
        falls = ~close & (fades | (self.n_alike[rows] >= self.certificate.patience))
        status = torch.where(falls, int(Status.UNBOUNDED), status)
        status = torch.where(done, int(Status.CONVERGED), status)
        status = torch.where(done & (newton.index > 0), int(Status.WRONG_INDEX), status)
        # those are looked at again: x^4 at zero is flat only for a Hessian
        self.status[rows] = torch.where(done & newton.is_flat, int(Status.FLAT), status)

    def _is_plain(self, rows: Int[Tensor, "K"]) -> Bool[Tensor, "K"]:
        """Whether nothing rises within a length scale of rows without any curvature (x^4 at zero does)."""
        points, length = self.points[rows], self.potential.length_scale
        x, d = points.x, self.potential.ndim
        directions = torch.cat([torch.ones(1, d), torch.eye(d)[: min(d, 8)]]).to(x)
        directions = directions / directions.norm(dim=1, keepdim=True)
        probes = x[:, None] + length * torch.cat([directions, -directions])
        if self.potential.bounds is not None:
            probes = self.potential.bounds.clamp(probes)
        energy = self.potential.energy_and_grad(probes.flatten(0, 1))[0].reshape(len(x), -1)
        rise: Tensor = (energy - points.energy[:, None]).abs().amax(1)
        return rise <= self._noise(points.energy)

    def _move(self, rows: Int[Tensor, "K"], steps: tuple[Float[Tensor, "K D"], ...]) -> None:
        """The longest fraction of the first step after which the energy is lower, or the gradient shorter."""
        self.has_moved = True
        potential, start = self.potential, self.points[rows]
        left = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        eps = torch.finfo(start.x.dtype).eps
        for step, fraction in itertools.product(steps, _FRACTIONS):
            at = torch.nonzero(left)[:, 0]
            if len(at) == 0:
                return
            length = step[at].norm(dim=1)
            reach = fraction * (self.longest / length.clamp(min=torch.finfo(length.dtype).tiny)).clamp(max=1.0)
            x = start.x[at] + reach[:, None] * step[at]
            if potential.bounds is not None:
                x = potential.bounds.clamp(x)
            energy, grad = potential.energy_and_grad(x)
            rms = self._rms(x, grad)
            size = start.energy[at].abs().clamp(min=potential.energy_scale)
            lower = energy < start.energy[at] - self._noise(start.energy[at])
            level = energy <= start.energy[at] + eps ** (2 / 3) * size
            helps = rms.isfinite() & (lower | (level & (rms < start.grad_rms[at])))
            chosen, there = at[helps], rows[at[helps]]
            moved = self.points[there].replace(x=x[helps], energy=energy[helps], grad_rms=rms[helps])
            self.points = put_rows(self.points, there, moved)
            self.grad[there] = grad[helps]
            self.taken[there] = (reach * length)[helps]
            left[chosen] = False
        self._stopped(rows[left])

    def _stopped(self, rows: Int[Tensor, "K"]) -> None:
        """No step helps: rounding is all that is left of what is close, and the rest has not converged."""
        close = self.previous[rows] <= self.near
        index = self.points.index[rows]
        status = torch.where(index > 0, int(Status.WRONG_INDEX), int(Status.CONVERGED))
        self.status[rows] = torch.where(close, status, int(Status.STALLED))

    def _finished(self) -> StationaryPoints:
        status = torch.where(self.status == Status.RUNNING, int(Status.MAX_STEPS), self.status)
        status = torch.where(self.potential.is_bound(self.points.x), status, int(Status.LOOSE))
        is_stuck = (status == Status.STALLED) | (status == Status.MAX_STEPS)
        stuck = torch.nonzero(is_stuck)[:, 0] if self.has_moved else ()  # nothing else gets stuck
        if len(stuck):
            kink = at_kinks(self.potential, self.points.x[stuck])
            status[stuck] = torch.where(kink, int(Status.KINK), status[stuck])
        failed = status != Status.CONVERGED
        wrong = failed & (status != Status.WRONG_INDEX)
        return self.points.replace(
            status=status,
            index=torch.where(wrong, -1, self.points.index),
            n_zero=torch.where(wrong, -1, self.points.n_zero),
            log_det=torch.where(failed, torch.nan, self.points.log_det),
        )

    def _noise(self, energy: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Rounding error of an energy."""
        return energy_noise(energy, 1e-3 * self.potential.energy_scale, units=10.0)

    def _rms(self, x: Float[Tensor, "B D"], grad: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        bounds = self.potential.bounds
        held = grad if bounds is None else bounds.project_grad(x, grad)
        return held.square().mean(1).sqrt()
