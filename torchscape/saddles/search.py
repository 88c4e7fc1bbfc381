"""``connect`` and ``climb``: verified transition states from pairs of minima, or from single ones."""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random
from torchscape.devices import HOST
from torchscape.errors import PotentialError
from torchscape.numerics import DENSE_SPECTRUM
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.potentials.counted import Metered
from torchscape.potentials.expected import expect_potential
from torchscape.saddles.band import Band, find_paths
from torchscape.saddles.candidates import Candidates
from torchscape.saddles.certify import exact_twin, with_rows
from torchscape.saddles.characterisation import characterise_with_modes
from torchscape.saddles.directions import Directions, RandomDirections
from torchscape.saddles.downhill_paths import Descent, ImplicitDescent, Quench, choose_descent
from torchscape.saddles.eigenvector_following import Follow, follow, pursue
from torchscape.saddles.found import SaddleSearch
from torchscape.saddles.known import Known
from torchscape.saddles.labour import HERE, Labour
from torchscape.saddles.peaks import Peaks, find_peaks
from torchscape.saddles.verify import Again, Outcome, VerifiedSaddles, verify
from torchscape.transfer import moved
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import NOT_NEGATIVE, POSITIVE, SEED

__all__ = ["candidates_above", "candidates_between", "climb", "confirm", "connect", "verify_candidates"]


def connect(
    potential: Potential,
    a: Float[Tensor, "P D"],
    b: Float[Tensor, "P D"],
    *,
    band: Band | None = None,
    refine: Follow | None = None,
    descent: Descent | ImplicitDescent | Quench | None = None,
    tol: float | None = None,
    align: bool = True,
    known: Float[Tensor, "K D"] | Known | None = None,
) -> SaddleSearch:
    """Double-ended search: the transition states between the minima a and b of every pair.

    The ends are aligned to their closest symmetric images and joined by doubly-nudged elastic bands, all of
    them one batch. The highest maximum of a band, and every other one at which the surface curves downwards
    along the band, is refined by eigenvector-following and then verified (residual, index exactly one, both
    downhill paths). The transition states found need not join a with b: ``minus`` and ``plus`` say what they join.

    Args:
        potential: U.
        a, b: minima, row by row the ends of one pair. For a path between two particular images of one minimum
            give both and ``align=False``.
        band: options of the bands.
        refine: options of the eigenvector-following.
        descent: options of the downhill paths.
        tol: RMS gradient of transition states and ends; None for 1e-8 in float64.
        align: whether b is replaced by its image that is closest to a.
        known: minima: an end of a path that is one of them is taken for a minimum without another look, and comes
            back without its curvature. None for a and b beyond 2000 coordinates, where that look is expensive. A
            :class:`Known` has transition states too: what ends in one of them is not verified again.

    Raises:
        PotentialError: if a and b are not both [P, D].

    Example:
        >>> class Wells(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return (x[:, 0] ** 2 - 1) ** 2 + (x[:, 1] - x[:, 0] ** 2) ** 2
        >>> ends = torch.tensor([[-1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        >>> found = connect(Wells(), ends[:1], ends[1:])
        >>> found.ts.energy.tolist(), found.minus.x[:, 0].abs().round(decimals=6).tolist()
        ([1.0], [1.0])
    """
    expect_potential("connect", potential)
    NOT_NEGATIVE.or_none.check("connect", tol=tol)
    for points in (a, b):
        if points.ndim != 2 or points.shape[1] != potential.ndim or len(a) != len(b):
            raise PotentialError(
                f"a and b must both be [P, {potential.ndim}], not {list(a.shape)} and {list(b.shape)}: "
                "give the two ends of pair p in row p of each"
            )
    u = Metered(potential)
    found, a, b = _between(u, a, b, band, _toned(refine or Follow(), tol), align)
    if known is None and potential.ndim > DENSE_SPECTRUM:
        known = torch.cat([a, b])
    return _verified(u, found, refine or Follow(), descent, tol, known)


def candidates_between(
    potential: Potential,
    a: Float[Tensor, "P D"],
    b: Float[Tensor, "P D"],
    *,
    band: Band | None = None,
    refine: Follow | None = None,
    tol: float | None = None,
) -> Candidates:
    """The first half of :func:`connect`: bands and eigenvector-following, with nothing verified."""
    u = Metered(potential)
    return _between(u, a, b, band, _toned(refine or Follow(), tol), True)[0].charged(u)


def _between(
    u: Metered,
    a: Float[Tensor, "P D"],
    b: Float[Tensor, "P D"],
    band: Band | None,
    refine: Follow,
    align: bool,
) -> tuple[Candidates, Float[Tensor, "P D"], Float[Tensor, "P D"]]:
    """Candidates, and the two ends as the bands have them."""
    # Which units go where is for the host to find out, and how far apart the ends are then.
    a, b = moved((a, b), HOST)
    if align and len(a):
        b = u.symmetry.align(a, b)
    apart = torch.nonzero((b - a).norm(dim=1) > 1e-6 * u.length_scale)[:, 0]
    groups = find_paths(u, a[apart], b[apart], band)
    a, b, apart = moved((a, b, apart), u.device)
    parts = []
    for rows, path in groups:
        found = find_peaks(path)
        parts.append(dataclasses.replace(found, owner=apart[rows[found.owner]]))
    if not parts:
        parts = [Peaks(apart, a[apart], a[apart], a[apart].sum(1))]
    peaks = Peaks.cat(parts)
    order = peaks.owner.argsort(stable=True)
    owner, x, tangent = peaks.owner[order], peaks.x[order], peaks.tangent[order]
    enters = (u.hvp(x, tangent) * tangent).sum(1) < 0 if len(x) else owner < 0
    enters |= _highest(owner, peaks.energy[order])
    return _refined(u, owner, x, tangent, enters, refine), a, b


def _highest(owner: Int[Tensor, "C"], energy: Float[Tensor, "C"]) -> Bool[Tensor, "C"]:
    """Whether each peak is the highest of its path: some barrier there must be."""
    order = energy.argsort(descending=True, stable=True)
    order = order[owner[order].argsort(stable=True)]
    chosen = torch.ones_like(owner, dtype=torch.bool)
    chosen[order[1:]] = owner[order[1:]] != owner[order[:-1]]
    return chosen


def climb(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    *,
    directions: Directions | Float[Tensor, "B D"] | None = None,
    size: float = 0.3,
    seed: int = 0,
    keys: Int[Tensor, "B"] | None = None,
    number: Int[Tensor, "B"] | None = None,
    refine: Follow | None = None,
    descent: Descent | ImplicitDescent | Quench | None = None,
    tol: float | None = None,
    known: Float[Tensor, "K D"] | None = None,
) -> SaddleSearch:
    """Single-ended search: transition states that are reached by climbing from minima.

    Every start is displaced along each of its directions and followed uphill along it until the lowest
    curvature turns negative, and along the lowest mode from there; what converges is verified.

    Args:
        potential: U.
        starts: minima [B, D] (any points will do).
        directions: :class:`RandomDirections`, :class:`SoftModes`, :class:`ModesAndRandom`, or one direction per
            start; None for one random direction each.
        size: displacement along given directions, in units of ``length_scale``.
        seed: of random directions: start i draws the same ones in any batch in which it is row i.
        keys: a random key per start instead, for directions that do not depend on the row either.
        number: climbs from each start before this one, for directions that go on from there; default none.
        refine, descent, tol: as for :func:`connect`.
        known: minima, for instance the starts: an end of a path that is one of them is taken for a minimum without
            another look, and comes back without its curvature.

    Returns:
        As :func:`connect`; ``pair`` is the start.

    Example:
        >>> class Wells(Potential):
        ...     ndim = 1
        ...     def energy(self, x):
        ...         return (x[:, 0] ** 2 - 1) ** 2
        >>> from torchscape.saddles import SoftModes
        >>> found = climb(Wells(), torch.ones(1, 1).double(), directions=SoftModes(count=1))
        >>> found.ts.energy.tolist(), found.outcomes
        ([1.0], {'VERIFIED': 1, 'LOST': 1})
    """
    expect_potential("climb", potential)
    POSITIVE.check("climb", size=size)
    SEED.check("climb", seed=seed)
    NOT_NEGATIVE.or_none.check("climb", tol=tol)
    if starts.ndim != 2 or starts.shape[1] != potential.ndim:
        raise PotentialError(f"starts must be [B, {potential.ndim}], not {list(starts.shape)}: one row per start")
    u = Metered(potential)
    refine = refine or Follow(retry=False)  # another start is worth more than another try
    if keys is None:
        keys = random.fold(seed, torch.arange(len(starts), device=starts.device))
    found = _above(u, starts, directions, size, keys, number, _toned(refine, tol))
    return _verified(u, found, refine, descent, tol, known)


def candidates_above(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    *,
    directions: Directions | None,
    keys: Int[Tensor, "B"],
    number: Int[Tensor, "B"],
    refine: Follow | None = None,
    tol: float | None = None,
) -> Candidates:
    """The first half of :func:`climb`: eigenvector-following, with nothing verified."""
    u = Metered(potential)
    refine = _toned(refine or Follow(retry=False), tol)
    return _above(u, starts, directions, 0.3, keys, number, refine).charged(u)


def _above(
    u: Metered,
    starts: Float[Tensor, "B D"],
    directions: Directions | Float[Tensor, "B D"] | None,
    size: float,
    keys: Int[Tensor, "B"],
    number: Int[Tensor, "B"] | None,
    refine: Follow,
) -> Candidates:
    if isinstance(directions, Tensor):
        v = (directions / directions.norm(dim=1, keepdim=True))[:, None]
        length = v.new_full(v.shape[:2], size)
    else:
        number = torch.zeros_like(keys) if number is None else number
        v, length = (directions or RandomDirections()).directions(u, starts, keys, number)
    n = v.shape[1]
    owner = torch.arange(len(starts), device=starts.device).repeat_interleave(n)
    mode = v.flatten(0, 1)
    x = starts.repeat_interleave(n, 0) + u.length_scale * length.flatten()[:, None] * mode
    return _refined(u, owner, x, mode, torch.ones_like(owner, dtype=torch.bool), refine)


def confirm(
    potential: Potential,
    points: StationaryPoints,
    *,
    descent: Descent | ImplicitDescent | Quench | None = None,
    tol: float | None = None,
) -> SaddleSearch:
    """Verify stationary points that were found by other means: index exactly one, both downhill paths followed.

    Args:
        potential: U.
        points: candidates; those that are not converged, or not of index one, come back with that outcome.
        descent, tol: as for :func:`connect`.

    Returns:
        As :func:`connect`; ``pair`` is the row of ``points``.

    Example:
        >>> class Wells(Potential):
        ...     ndim = 1
        ...     def energy(self, x):
        ...         return (x[:, 0] ** 2 - 1) ** 2
        >>> top = StationaryPoints.of(torch.zeros(1, 1).double(), torch.ones(1).double(),
        ...                           grad_rms=torch.zeros(1).double(), status=torch.ones(1).long())
        >>> confirm(Wells(), top).minus.energy.round(decimals=9).tolist()
        [0.0]
    """
    expect_potential("confirm", potential)
    NOT_NEGATIVE.or_none.check("confirm", tol=tol)
    u = Metered(potential)
    rows = torch.arange(len(points), device=points.x.device)
    return _verified(u, Candidates(rows, rows, points, None), Follow(retry=False), descent, tol, None)


def verify_candidates(
    potential: Potential,
    candidates: Candidates,
    *,
    refine: Follow | None = None,
    tol: float | None = None,
    known: Float[Tensor, "K D"] | Known | None = None,
    labour: Labour = HERE,
) -> SaddleSearch:
    """The second half of :func:`connect` and :func:`climb`, by whose ``labour`` it may be."""
    u = Metered(potential)
    u.charge(candidates.n_evaluations, candidates.n_hessians, candidates.n_hvps)
    return _verified(u, candidates, refine or Follow(), None, tol, known, labour)


def _refined(
    u: Metered,
    owner: Int[Tensor, "C"],
    x: Float[Tensor, "C D"],
    mode: Float[Tensor, "C D"],
    enters: Bool[Tensor, "C"],
    refine: Follow,
) -> Candidates:
    """Follow the candidates that enter refinement."""
    entered = torch.nonzero(enters)[:, 0]
    found = pursue(u, x[entered], mode[entered], refine)
    return Candidates(owner, entered, found.points, found.mode)


def _toned(refine: Follow, tol: float | None) -> Follow:
    return refine if tol is None else dataclasses.replace(refine, tol=tol)


def _verified(
    u: Metered,
    candidates: Candidates,
    refine: Follow,
    descent: Descent | ImplicitDescent | Quench | None,
    tol: float | None,
    known: Float[Tensor, "K D"] | Known | None,
    labour: Labour = HERE,
) -> SaddleSearch:
    """Verify where the searches have ended, and tell what became of each candidate."""
    descent = descent or choose_descent(u)
    if tol is not None:
        descent = dataclasses.replace(descent, tol=tol)
    checked = _verify(u, candidates.points, candidates.mode, _toned(refine, tol), descent, known, labour)
    return _summary(u, candidates.owner, candidates.entered, checked)


def _verify(
    u: Metered,
    points: StationaryPoints,
    mode: Float[Tensor, "R D"] | None,
    refine: Follow,
    descent: Descent | ImplicitDescent | Quench,
    known: Float[Tensor, "K D"] | Known | None,
    labour: Labour,
) -> VerifiedSaddles:
    """What verification says of the points; ``mode`` None where their unstable modes are not known.

    In float32 neither which saddle a point is nor where its paths end is certain: the last steps are in float64.
    """
    exact = exact_twin(u.potential)
    if exact.dtype == u.dtype:
        return verify(u, points, descent, known, labour, None if mode is None else Again(refine, mode))
    finer = Metered(exact)
    near = torch.nonzero(_is_near(points.status))[:, 0]
    modes = characterise_with_modes(u, points[near], log_det=False)[1] if mode is None else mode[near]
    again = follow(finer, points.x[near].to(exact.dtype), modes.to(exact.dtype), options=refine)
    checked = verify(
        finer,
        with_rows(points, near, again.points),
        descent,
        None if known is None else known.to(exact.dtype),
        labour,
    )
    u.charge(finer.n_gradients, finer.n_hessians, finer.n_hvps)
    return checked.to(u.dtype)


def _is_near(status: Int[Tensor, "C"]) -> Bool[Tensor, "C"]:
    """Which searches ended near to a saddle, as far as rounding can tell."""
    return (status == Status.CONVERGED) | (status == Status.STALLED)


def _summary(
    u: Metered,
    owner: Int[Tensor, "C"],
    entered: Int[Tensor, "R"],
    checked: VerifiedSaddles,
) -> SaddleSearch:
    """What became of every candidate, those included that did not enter verification."""
    outcome = torch.full_like(owner, int(Outcome.SPURIOUS_MAXIMUM))
    outcome[entered] = checked.outcome
    candidate_ts = torch.full_like(owner, -1)
    candidate_ts[entered] = checked.candidate_ts

    n = len(checked.ts)
    place = torch.where(candidate_ts >= 0, candidate_ts, n)  # what ended nowhere is counted behind the last
    hits = torch.zeros(n + 1, dtype=torch.int64, device=owner.device)
    hits = hits.scatter_add(0, place, torch.ones_like(owner))[:n]
    pair = torch.full((n + 1,), torch.iinfo(torch.int64).max, dtype=torch.int64, device=owner.device)
    pair = pair.scatter_reduce(0, place, owner, "amin")[:n]
    return SaddleSearch(
        ts=checked.ts,
        minus=checked.minus,
        plus=checked.plus,
        mode=checked.mode,
        pair=pair,
        hits=hits,
        outcome=outcome,
        candidate_pair=owner,
        candidate_ts=candidate_ts,
        n_evaluations=u.n_gradients,
        n_hessians=u.n_hessians,
        n_hvps=u.n_hvps,
    )
