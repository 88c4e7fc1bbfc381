"""From a refined guess to a verified transition state: index exactly one, and both downhill paths followed."""

from __future__ import annotations

import dataclasses
from enum import IntEnum

import torch

from torchscape import stopwatch
from torchscape.brief import brief
from torchscape.devices import HOST, asking_is_free
from torchscape.numerics import DENSE_SPECTRUM, energy_noise
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.certify import in_dtype
from torchscape.saddles.distinct import first_of_each
from torchscape.saddles.downhill_paths import Descent, ImplicitDescent, Quench, choose_descent
from torchscape.saddles.eigenvector_following import Follow, aside
from torchscape.saddles.known import Known
from torchscape.saddles.labour import HERE, Labour
from torchscape.saddles.representatives import Looks, characterise_each, united
from torchscape.transfer import moved
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Again", "Outcome", "VerifiedSaddles", "onwards", "push_off", "verify"]


class Outcome(IntEnum):
    """How a candidate ended. ``Outcome(k).message`` says what it means."""

    VERIFIED = 0
    SPURIOUS_MAXIMUM = 1
    KINK = 1  # its name before
    MAX_STEPS = 2
    STALLED = 3
    NOT_FINITE = 4
    LOST = 5
    WRONG_INDEX = 6
    OUTSIDE = 7
    PATH_OPEN = 8
    PATH_UPHILL = 9

    @property
    def message(self) -> str:
        return _MESSAGES[self]


_MESSAGES = {
    Outcome.VERIFIED: "a transition state: converged, index one, both downhill paths end in lower minima",
    Outcome.SPURIOUS_MAXIMUM: "not searched: the surface curves upwards along the path there, so that this lesser "
    "maximum of the band is spurious; use a finer Band if a barrier is missing",
    Outcome.MAX_STEPS: "not converged within max_evaluations: raise it in Follow",
    Outcome.STALLED: "no step agrees with the local model: the gradient is at its rounding error, or not smooth",
    Outcome.NOT_FINITE: "the energy or a derivative is NaN or infinite there",
    Outcome.LOST: "ran away over a surface without negative curvature: the barrier fades out towards infinity",
    Outcome.WRONG_INDEX: "a stationary point whose Hessian does not have exactly one negative eigenvalue",
    Outcome.OUTSIDE: "left the box: the saddle lies outside the bounds",
    Outcome.PATH_OPEN: "a transition state, but a downhill path did not converge to a minimum",
    Outcome.PATH_UPHILL: "a downhill path ended no lower than the saddle: its barrier is below the rounding error",
}

_FROM_STATUS = {
    Status.RUNNING: Outcome.MAX_STEPS,
    Status.CONVERGED: Outcome.VERIFIED,
    Status.MAX_STEPS: Outcome.MAX_STEPS,
    Status.STALLED: Outcome.STALLED,
    Status.NOT_FINITE: Outcome.NOT_FINITE,
    Status.UNBOUNDED: Outcome.LOST,
    Status.WRONG_INDEX: Outcome.WRONG_INDEX,
    Status.OUTSIDE: Outcome.OUTSIDE,
    Status.TRAPPED: Outcome.STALLED,
}


# Where a path begins, in length scales from its saddle. A quench strays less from close by; what follows the path
# has nothing to see so close to it, and errors across it die away there.
_LEAST = {Descent: 3e-3, ImplicitDescent: 1e-2, Quench: 1e-3}


@dataclasses.dataclass(frozen=True)
class Again:
    """How candidates are searched once more: by what rules, and along which modes [C D]."""

    refine: Follow
    mode: Float[Tensor, "C D"]


@brief
@dataclasses.dataclass(frozen=True)
class VerifiedSaddles:
    """Distinct verified transition states with their ends, and what became of every candidate.

    Attributes:
        ts: transition states, characterised.
        minus, plus: the minima at the ends of the downhill paths along the negative mode.
        mode: the negative mode of each transition state.
        outcome: an :class:`Outcome` per candidate.
        candidate_ts: the row of ``ts`` that a candidate ended in, -1 where none.
    """

    ts: StationaryPoints
    minus: StationaryPoints
    plus: StationaryPoints
    mode: Float[Tensor, "E D"]
    outcome: Int[Tensor, "C"]
    candidate_ts: Int[Tensor, "C"]

    def to(self, dtype: torch.dtype) -> VerifiedSaddles:
        """The same with coordinates, energies and modes in ``dtype``."""
        ts, minus, plus = (in_dtype(points, dtype) for points in (self.ts, self.minus, self.plus))
        return dataclasses.replace(self, ts=ts, minus=minus, plus=plus, mode=self.mode.to(dtype))


def verify(
    potential: Potential,
    candidates: StationaryPoints,
    descent: Descent | ImplicitDescent | Quench | None = None,
    known: Float[Tensor, "K D"] | Known | None = None,
    labour: Labour = HERE,
    again: Again | None = None,
) -> VerifiedSaddles:
    """Check every candidate: residual, index, and both downhill paths. Duplicates are followed once.

    An end that is one of the ``known`` minima is taken for a minimum without another look, and a candidate that is
    a known transition state for that one. Beyond ``DENSE_SPECTRUM`` coordinates the log-determinants, and how
    many directions are flat, are left to :func:`characterise`. ``labour`` says who looks at curvatures and follows
    paths; which points are the same is found out here. ``again`` says in which direction candidates fall, and how
    those of higher index are searched once more.
    """
    if isinstance(known, Known):
        if again is not None and len(known.ts):
            return _beside_known(potential, candidates, descent, known, labour, again)
        known = known.minima
    table = torch.zeros(len(Status), dtype=torch.int64)
    for status, meaning in _FROM_STATUS.items():
        table[status] = meaning
    # Which rows go on is for the host to know; it keeps the books, and is told a stage at a time.
    device = candidates.x.device
    rows = torch.nonzero(candidates.status.to(HOST) == Status.CONVERGED)[:, 0]
    there = rows.to(device)
    modes = None if again is None else again.mode[there]
    looks = characterise_each(potential, candidates[there], modes=modes, look=labour.look, sign=labour.sign)
    if again is not None and potential.ndim <= DENSE_SPECTRUM:
        candidates, rows, looks = _again(potential, candidates, rows, looks, again, labour)
    outcome = table[candidates.status.to(HOST)]
    index = looks.points.index.to(HOST)
    outcome[rows[index != 1]] = int(Outcome.WRONG_INDEX)
    outcome[rows[index < 0]] = int(Outcome.NOT_FINITE)
    good = torch.nonzero(index == 1)[:, 0]

    chosen = torch.nonzero(index[looks.leaders] == 1)[:, 0]
    leaders = looks.leaders[chosen]
    ts, mode = looks.points[leaders.to(device)], looks.mode[chosen.to(device)]
    minus, plus, failure = _ends(potential, ts, mode, descent or choose_descent(potential), known, labour)
    failure = failure.to(HOST)

    place = torch.full((len(rows),), -1)
    place[leaders] = torch.arange(len(leaders))
    of = place[looks.first[good]]
    outcome[rows[good]] = failure[of]
    kept = torch.nonzero(failure == Outcome.VERIFIED)[:, 0]
    renumber = torch.full((len(leaders),), -1)
    renumber[kept] = torch.arange(len(kept))
    candidate_ts = torch.full_like(outcome, -1)
    candidate_ts[rows[good]] = renumber[of]
    kept, outcome, candidate_ts = moved((kept, outcome, candidate_ts), device)
    return VerifiedSaddles(ts[kept], minus[kept], plus[kept], mode[kept], outcome, candidate_ts)


def _beside_known(
    potential: Potential,
    candidates: StationaryPoints,
    descent: Descent | ImplicitDescent | Quench | None,
    known: Known,
    labour: Labour,
    again: Again,
) -> VerifiedSaddles:
    """Only what is no known transition state is verified; the others come first, each once."""
    device, of = candidates.x.device, known.rows_of(potential, candidates)
    rest, there = torch.nonzero(of < 0)[:, 0], torch.nonzero(of >= 0)[:, 0]
    left = dataclasses.replace(again, mode=again.mode[rest.to(device)])
    checked = verify(potential, candidates[rest.to(device)], descent, known.minima, labour, left)
    used, place = of[there].unique(return_inverse=True)
    n = len(used)
    first = torch.full((n,), len(of)).scatter_reduce(0, place, there, "amin")
    outcome, candidate_ts = torch.full_like(of, int(Outcome.VERIFIED)), torch.full_like(of, -1)
    outcome[rest], ended = moved((checked.outcome, checked.candidate_ts), HOST)
    candidate_ts[there], candidate_ts[rest] = place, torch.where(ended >= 0, ended + n, -1)
    used, first, outcome, candidate_ts = moved((used, first, outcome, candidate_ts), device)
    parts = ((known.ts, checked.ts), (known.minus, checked.minus), (known.plus, checked.plus))
    ts, minus, plus = (StationaryPoints.cat([a[used], b]) for a, b in parts)
    return VerifiedSaddles(ts, minus, plus, torch.cat([again.mode[first], checked.mode]), outcome, candidate_ts)


def _again(
    potential: Potential,
    candidates: StationaryPoints,
    rows: Int[Tensor, "R"],
    looks: Looks,
    again: Again,
    labour: Labour,
) -> tuple[StationaryPoints, Int[Tensor, "S"], Looks]:
    """The candidates, those that have converged, and what is seen there, after those of higher index were
    displaced and searched once more."""
    is_high = looks.points.index.to(HOST) > 1
    if not bool(is_high.any()):
        return candidates, rows, looks
    high = rows[is_high]
    there = high.to(candidates.x.device)
    before = candidates[there]
    found = labour.pursue(potential, aside(potential, before.x, again.mode[there]), again.refine).points
    candidates = put_rows(
        candidates, there, found.replace(n_evaluations=before.n_evaluations + found.n_evaluations)
    )
    high = high[found.status.to(HOST) == Status.CONVERGED]
    more = characterise_each(potential, candidates[high.to(candidates.x.device)], look=labour.look)
    kept = torch.nonzero(~is_high)[:, 0]
    everyone, order = torch.cat([rows[kept], high]).sort()
    return candidates, everyone, united(potential, looks, kept, more, order, look=labour.look)


def _ends(
    potential: Potential,
    ts: StationaryPoints,
    mode: Float[Tensor, "E D"],
    descent: Descent | ImplicitDescent | Quench,
    known: Float[Tensor, "K D"] | None,
    labour: Labour,
) -> tuple[StationaryPoints, StationaryPoints, Int[Tensor, "E"]]:
    """The two minima below each saddle (or where its paths leave the box), and an outcome for each saddle."""
    n = len(ts)
    least = _LEAST[type(descent)]
    both = _to_minima(potential, push_off(potential, ts, mode, least=least), descent, known, labour)
    minus, plus = both[:n], both[n:]
    noise = energy_noise(ts.energy, potential.energy_scale)
    outcome = torch.full((n,), int(Outcome.VERIFIED), dtype=torch.int64, device=ts.x.device)
    for end in (minus, plus):
        lower = ts.energy - end.energy > noise
        outcome = torch.where(~lower & (outcome == 0), int(Outcome.PATH_UPHILL), outcome)
        outcome = torch.where(~end.converged, int(Outcome.PATH_OPEN), outcome)
    return minus, plus, outcome


def push_off(
    potential: Potential, ts: StationaryPoints, mode: Float[Tensor, "E D"], n_tries: int = 16, least: float = 1e-3
) -> Float[Tensor, "E2 D"]:
    """Points just off each saddle along -mode (first E rows) and +mode, where the surface falls away from it.

    The displacement delta starts where the residual gradient cannot decide the side, delta = 10 |g| / |mu|, but at
    ``least`` so many length scales, and is adapted until the slope outwards is at least a tenth of the
    -|mu| delta that the curvature mu predicts: longer where what is left of the gradient may be why, shorter where
    it is not. No energies are compared, so that neither their unit nor their rounding matters, and a saddle may be
    as soft as its gradient can tell.

    Rows are NaN where no displacement serves.
    """
    length = potential.length_scale
    tiny = torch.finfo(ts.x.dtype).tiny ** 0.5
    curvature = (potential.hvp(ts.x, mode) * mode).sum(1).abs().clamp(min=tiny)
    unsure = 10 * ts.grad_rms * ts.ndim**0.5 / curvature
    delta = unsure.clamp(least * length, 0.1 * length).repeat(2)
    x, mu, unsure = ts.x.repeat(2, 1), curvature.repeat(2), unsure.repeat(2)
    direction = torch.cat([-mode, mode])
    out = torch.full_like(x, torch.nan)
    ask = asking_is_free(x)
    pending = torch.ones_like(mu, dtype=torch.bool)
    for n in range(1, n_tries + 1):
        stopwatch.check()
        rows = torch.nonzero(pending)[:, 0] if ask else torch.arange(len(x), device=x.device)
        trial = x[rows] + delta[rows, None] * direction[rows]
        if potential.bounds is not None:
            trial = potential.bounds.clamp(trial)
        slope = (potential.energy_and_grad(trial)[1] * direction[rows]).sum(1)
        done = pending[rows] & (slope < -0.1 * mu[rows] * delta[rows])
        out[rows] = torch.where(done[:, None], trial, out[rows])
        pending[rows] &= ~done
        delta = torch.where(delta < unsure, 2.0, 0.3) * delta
        # A device is asked after the 2nd, 4th, 8th time only; until then all its rows are tried again.
        if (ask or n & (n - 1) == 0) and not bool(pending.any()):
            break
    return out


def onwards(potential: Potential, ends: StationaryPoints, mode: Float[Tensor, "E D"]) -> Float[Tensor, "E D"]:
    """Points just off saddles in which paths have ended, on the side to which the gradient there leads down.

    A path that ends close to a saddle is on one side of it, and goes on there. One that symmetry leads into the
    saddle itself is on neither, and goes along +mode.
    """
    gradient = potential.energy_and_grad(ends.x)[1]
    downhill = torch.where((gradient * mode).sum(1, keepdim=True) > 0, -mode, mode)
    return push_off(potential, ends, -downhill)[: len(ends)]


def _to_minima(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    descent: Descent | ImplicitDescent | Quench,
    known: Float[Tensor, "K D"] | None,
    labour: Labour,
    n_rounds: int = 3,
) -> StationaryPoints:
    """The minima below the starts. A path that symmetry has led to another saddle is pushed off that too."""
    ends = labour.descend(potential, starts, descent)
    for _ in range(n_rounds):
        minima = _among(potential, ends, known)
        ends = ends.replace(index=torch.where(minima, 0, ends.index))
        rows = torch.nonzero(ends.converged & ~minima)[:, 0]
        if len(rows) == 0:
            return ends
        looks = characterise_each(potential, ends[rows], first=1, look=labour.look, sign=labour.sign)
        ends = _with_curvature(ends, rows, looks.points)
        high: Int[Tensor, "R"] = torch.nonzero(looks.points.index > 0)[:, 0]
        again = rows[high]
        if len(again) == 0:
            return ends
        off = onwards(potential, *_saddles(potential, looks, high, labour))
        lower = labour.descend(potential, off, descent)
        lower = lower.replace(n_evaluations=lower.n_evaluations + ends.n_evaluations[again])
        ends = _with_curvature(ends, again, lower)
    rows = torch.nonzero(ends.converged)[:, 0]
    looks = characterise_each(potential, ends[rows], first=1, look=labour.look, sign=labour.sign)
    ends = _with_curvature(ends, rows, looks.points)
    unresolved = ends.converged & (ends.index > 0)
    return ends.replace(status=torch.where(unresolved, int(Status.WRONG_INDEX), ends.status))


def _saddles(
    potential: Potential, looks: Looks, rows: Int[Tensor, "R"], labour: Labour
) -> tuple[StationaryPoints, Float[Tensor, "R D"]]:
    """Saddles in which paths have ended, and their modes; of many coordinates any direction of negative curvature
    serves, which was seen on the way."""
    place = torch.full((len(looks.points),), -1)
    place[looks.leaders] = torch.arange(len(looks.leaders))
    of = place[rows.to(HOST)].to(rows.device)
    if potential.ndim > DENSE_SPECTRUM and bool((of >= 0).all()):
        return looks.points[rows], looks.mode[of]
    return labour.look(potential, looks.points[rows], log_det=False, first=1)


def _among(potential: Potential, ends: StationaryPoints, known: Float[Tensor, "K D"] | None) -> Bool[Tensor, "B"]:
    """Which ends are among the ``known`` minima."""
    if known is None or len(known) == 0:
        return torch.zeros_like(ends.converged)
    energy = potential.energy_and_grad(known)[0]
    all_of_them = StationaryPoints.of(torch.cat([known, ends.x]), torch.cat([energy, ends.energy]))
    return ends.converged & (first_of_each(potential, all_of_them)[len(known) :] < len(known))


def _with_curvature(points: StationaryPoints, rows: Int[Tensor, "R"], new: StationaryPoints) -> StationaryPoints:
    """``points`` with the given rows exchanged; eigenvalues only where all of them have some."""
    if points.eigenvalues is None and new.eigenvalues is not None:
        points = points.replace(eigenvalues=torch.full_like(points.x, torch.nan))
    if new.eigenvalues is None and points.eigenvalues is not None:
        new = new.replace(eigenvalues=torch.full_like(new.x, torch.nan))
    return put_rows(points, rows, new)
