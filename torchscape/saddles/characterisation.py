"""Curvature at stationary points: index, log-determinant, zero modes, and the lowest mode."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.even import even_bmv
from torchscape.memory import PRODUCTS, rows_that_fit
from torchscape.numerics import DENSE_SPECTRUM
from torchscape.optimise.ledger import compute_once
from torchscape.optimise.rows import map_rows
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.decomposition import dense_spectrum, rows_within
from torchscape.saddles.determinant import Determinant, log_determinant
from torchscape.saddles.eigen import Eigenpairs, lowest_eigenpairs
from torchscape.saddles.projector import Projector
from torchscape.saddles.spectral import stochastic_log_det
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, SEED

__all__ = [
    "MOST_FLAT",
    "SLOPE_MARGIN",
    "Wanted",
    "characterise",
    "characterise_with_modes",
    "curvatures",
    "relabel",
]

MOST_FLAT = 32  # flat directions that are counted beyond: there may be more
_MOST_PAIRS = 64  # lowest eigenpairs that are looked for where all of them are negative
_MOST_PRODUCTS = 2000  # of a point and a number of pairs
# Beside a circle of minima the curvature along it is |g| / radius exactly: without a margin rounding would decide.
SLOPE_MARGIN = 2.0


def characterise(
    potential: Potential,
    points: StationaryPoints,
    *,
    dense_limit: int = DENSE_SPECTRUM,
    zero_tol: float | None = None,
    n_probes: int = 16,
    log_det_error: float | None = None,
    seed: int = 0,
) -> StationaryPoints:
    """The points with ``index``, ``log_det``, ``n_zero`` and (dense) ``eigenvalues`` of their Hessians.

    Zero modes that the potential's symmetry knows are projected out exactly and counted. An eigenvalue mu with
    eigenvector v is an unknown zero mode when |mu| <= max(zero_tol max|mu|, 2 |g| / l, 10 |g.v| / l), l being
    the ``length_scale``: what the rounding of the Hessian and the gradient g that is left can make of zero,
    and no more, since a regularisation lambda may well put genuine curvature at 2 lambda. The last term is a
    stationary point that Newton's step would still move by a tenth of l: a plateau that never ends.
    Coordinates held by an active bound are left out of the Hessian.

    Args:
        potential: U.
        points: stationary points (of any index).
        dense_limit: coordinates up to which the full spectrum is computed; beyond, the negative eigenvalues
            and up to 32 zero modes come from Lanczos iterations, ``log_det`` from stochastic Lanczos quadrature.
        zero_tol: relative size of a zero eigenvalue; None for eps^(2/3), 4e-11 in float64.
        n_probes: random vectors of the quadrature.
        log_det_error: the standard error of ``log_det`` that will do, for which as many probes are taken as it
            needs, or, where that is cheaper, the Hessian is factorised (:func:`log_determinant`). The index is
            then that of Sylvester's law.
        seed: of its probes.

    Returns:
        ``eigenvalues`` ascending, with zero for known zero modes, and NaN at the end for held coordinates.

    Example:
        >>> class Saddle(Potential):
        ...     ndim = 3
        ...     def energy(self, x):
        ...         return x[:, 0] ** 2 - 2 * x[:, 1] ** 2
        >>> points = StationaryPoints.of(torch.zeros(1, 3).double(), torch.zeros(1).double())
        >>> done = characterise(Saddle(), points)
        >>> done.index.item(), done.n_zero.item(), round(done.log_det.exp().item(), 9)
        (1, 1, 8.0)
    """
    COUNT_OR_ZERO.check("characterise", dense_limit=dense_limit, n_probes=n_probes)
    NOT_NEGATIVE.or_none.check("characterise", zero_tol=zero_tol)
    POSITIVE.or_none.check("characterise", log_det_error=log_det_error)
    SEED.check("characterise", seed=seed)
    return curvatures(potential, points, Wanted(dense_limit, zero_tol, n_probes, seed, log_det_error))[0]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked about curvatures; the arguments of :func:`characterise` and :func:`characterise_with_modes`.

    Attributes:
        n_probes: 0 for no log-determinant where it would need a quadrature.
    """

    dense_limit: int = DENSE_SPECTRUM
    zero_tol: float | None = None
    n_probes: int = 16
    seed: int = 0
    log_det_error: float | None = None
    first: int = 2


def characterise_with_modes(
    potential: Potential,
    points: StationaryPoints,
    dense_limit: int = DENSE_SPECTRUM,
    zero_tol: float | None = None,
    n_probes: int = 16,
    seed: int = 0,
    log_det: bool = True,
    first: int = 2,
) -> tuple[StationaryPoints, Float[Tensor, "B D"]]:
    """:func:`characterise`, and the eigenvector of the lowest eigenvalue of each row.

    Beyond ``dense_limit`` coordinates ``first`` eigenpairs are looked for, more where all of them are negative,
    and, unless only one is asked for, where all of them are flat (up to ``MOST_FLAT``). Without ``log_det`` it is
    left out (NaN) where it would need the quadrature, which costs more than the rest.
    """
    wanted = Wanted(dense_limit, zero_tol, n_probes if log_det else 0, seed, first=first)
    return curvatures(potential, points, wanted)[:2]


def curvatures(
    potential: Potential, points: StationaryPoints, wanted: Wanted
) -> tuple[StationaryPoints, Float[Tensor, "B D"], Float[Tensor, "B"]]:
    """:func:`characterise`, the eigenvector of each lowest eigenvalue, and the standard error of each log_det."""
    x = points.x
    if len(x) == 0:
        none = points.index.clone()
        return points.replace(index=none, n_zero=none.clone(), eigenvalues=x.clone()), x.clone(), x.sum(1)
    tol = torch.finfo(x.dtype).eps ** (2 / 3) if wanted.zero_tol is None else wanted.zero_tol
    grad = potential.energy_and_grad(x)[1]
    projector = Projector.at(potential, x, grad)
    slack = projector.apply_one(grad) / potential.length_scale
    dense = x.shape[1] <= wanted.dense_limit

    def curved(rows: Int[Tensor, "K"]) -> _Curved:
        part = (potential, points[rows], projector.take(rows), slack[rows], tol)
        if dense:
            done, mode = _dense(*part)
            error = torch.zeros_like(done.log_det)
        else:
            done, mode, error = _iterative(*part, wanted)
        return _Curved(done.index, done.log_det, done.n_zero, done.eigenvalues, mode, error)

    size = rows_within(x.shape[1], x.dtype, x.device)
    what = f"curvature with errors {tol} {x.dtype}"
    if not dense:
        size = rows_that_fit(x.shape[1], x.device, on_host=PRODUCTS)
        what = f"{what} {wanted.n_probes} {wanted.seed} {wanted.first} {wanted.log_det_error}"
    found = compute_once(what, _Curved, (x,), curved, size)
    columns = {name: getattr(found, name) for name in ("index", "log_det", "n_zero", "eigenvalues")}
    return dataclasses.replace(map_rows(torch.clone, points), **columns), found.mode, found.error


@dataclasses.dataclass(frozen=True)
class _Curved:
    """What the Hessian of each row says, and its lowest mode."""

    index: Int[Tensor, "B"]
    log_det: Float[Tensor, "B"]
    n_zero: Int[Tensor, "B"]
    eigenvalues: Float[Tensor, "B D"] | None
    mode: Float[Tensor, "B D"]
    error: Float[Tensor, "B"]


def _dense(
    potential: Potential,
    points: StationaryPoints,
    projector: Projector,
    slack: Float[Tensor, "B D"],
    zero_tol: float,
) -> tuple[StationaryPoints, Float[Tensor, "B D"]]:
    """From the full spectrum. What was projected out sits at the upper end and is relabel."""
    d = points.ndim
    values, vectors, finite = dense_spectrum(potential.hessian(points.x), projector)
    n_known, n_held = projector.n_removed(points.x)
    place = torch.arange(d, device=values.device)
    kept = place < (d - n_known - n_held)[:, None]
    size = torch.where(kept, values.abs(), 0.0)
    floor = _floor(zero_tol * size.amax(1), slack, vectors)
    zero = kept & (size <= floor)
    done = relabel(points, values, zero, kept, n_known, n_held, finite)
    return done, vectors[:, 0].contiguous()


def relabel(
    points: StationaryPoints,
    values: Float[Tensor, "B D"],
    zero: Bool[Tensor, "B D"],
    kept: Bool[Tensor, "B D"],
    n_known: Int[Tensor, "B"],
    n_held: Int[Tensor, "B"],
    finite: Bool[Tensor, "B"],
) -> StationaryPoints:
    """The points with index, log_det, n_zero and spectrum, from the ascending eigenvalues of a projected Hessian.

    Args:
        points, values: the points, and the eigenvalues of each.
        zero: which of them count as zero.
        kept: which were not projected out (those come last).
        n_known, n_held: known zero modes, and held coordinates.
        finite: rows whose Hessian is finite; the others stay unknown.
    """
    d = points.ndim
    nonzero = kept & ~zero
    log_det = torch.where(nonzero, torch.where(nonzero, values.abs(), 1.0).log(), 0.0).sum(1)
    held = torch.arange(d, device=values.device) >= (d - n_held)[:, None]
    spectrum = torch.where(kept, values, torch.where(held, torch.nan, 0.0))
    spectrum = spectrum.sort(1).values  # NaN sorts last
    index = (nonzero & (values < 0)).sum(1)
    unknown = torch.full_like(index, -1)
    return points.replace(
        index=torch.where(finite, index, unknown),
        n_zero=torch.where(finite, n_known + zero.sum(1), unknown),
        log_det=torch.where(finite, log_det, torch.nan),
        eigenvalues=torch.where(finite[:, None], spectrum, torch.nan),
    )


def _floor(
    rounding: Float[Tensor, "B"], slack: Float[Tensor, "B D"], vectors: Float[Tensor, "B K D"]
) -> Float[Tensor, "B K"]:
    """Size below which an eigenvalue cannot be told from zero; ``slack`` is the gradient over the length scale."""
    flat = torch.maximum(rounding, SLOPE_MARGIN * slack.norm(dim=1))[:, None]
    return torch.maximum(flat, 10 * even_bmv(vectors, slack).abs())


def _iterative(
    potential: Potential,
    points: StationaryPoints,
    projector: Projector,
    slack: Float[Tensor, "B D"],
    zero_tol: float,
    wanted: Wanted,
) -> tuple[StationaryPoints, Float[Tensor, "B D"], Float[Tensor, "B"]]:
    """From the lowest eigenpairs, as many as are negative or flat and one more, and a determinant."""
    x, seed = points.x, wanted.seed
    certain, k = 0.1 / x.shape[1] ** 0.5, wanted.first
    while True:
        pairs = _lowest_pairs(potential, x, k, projector, seed, certain)
        floor = _floor(zero_tol * pairs.scale, slack, pairs.vectors)
        # an eigenvalue lies within the residual of its Ritz value: the sign is certain beyond it
        negative = pairs.values < -torch.maximum(floor, pairs.residuals)
        flat = pairs.values.abs() <= floor
        # Where products ran out the spectrum is too crowded there for more of it to be told apart.
        counted = flat & (pairs.n_hvps < _MOST_PRODUCTS)[:, None]
        more = negative.all(1) if wanted.first == 1 or k >= MOST_FLAT else (negative | counted).all(1)
        if k >= min(_MOST_PAIRS, x.shape[1]) or not bool(more.any()):
            break
        k = min(4 * k, x.shape[1])
    n_zero = projector.n_removed(x)[0] + flat.sum(1)
    done = points.replace(index=negative.sum(1), n_zero=n_zero, eigenvalues=None)
    mode = pairs.vectors[:, 0].contiguous()
    unknown = torch.full_like(points.energy, torch.nan)
    if wanted.n_probes == 0:
        return done.replace(log_det=unknown), mode, unknown
    found = _determinant(potential, x, projector, pairs, negative, flat, zero_tol, wanted)
    index = torch.where(found.n_negative >= 0, found.n_negative, done.index)
    return done.replace(log_det=found.value, index=index), mode, found.error


def _determinant(
    potential: Potential,
    x: Float[Tensor, "B D"],
    projector: Projector,
    pairs: Eigenpairs,
    negative: Bool[Tensor, "B K"],
    flat: Bool[Tensor, "B K"],
    zero_tol: float,
    wanted: Wanted,
) -> Determinant:
    """Of all but the flat directions. Negative ones are left out of a quadrature, and added."""
    below = torch.where(negative, pairs.values, 0.0)
    if wanted.log_det_error is None:
        left = _beside(projector, pairs, negative)
        rest = stochastic_log_det(
            potential, x, projector=left, n_probes=wanted.n_probes, zero_tol=zero_tol, seed=wanted.seed
        )
        value = rest.value + torch.where(negative, below.abs(), 1.0).log().sum(1)
        return Determinant(value, rest.error, torch.full_like(pairs.n_hvps, -1))
    # A factorisation would take the rounding of flat directions that were not found for curvature.
    all_found = not bool((negative | flat).all(1).any())
    return log_determinant(
        potential,
        x,
        max_error=wanted.log_det_error,
        projector=_beside(projector, pairs, flat),
        negative=(torch.where(negative[:, :, None], pairs.vectors, 0.0), below),
        max_bytes=None if all_found else 0,
        seed=wanted.seed,
    )


def _beside(projector: Projector, pairs: Eigenpairs, chosen: Bool[Tensor, "B K"]) -> Projector:
    """What is left beside some eigenvectors, too."""
    out = torch.where(chosen[:, :, None], pairs.vectors, 0.0)
    return Projector(out if projector.zero is None else torch.cat([projector.zero, out], 1), projector.held)


def _lowest_pairs(
    potential: Potential, x: Float[Tensor, "B D"], k: int, projector: Projector, seed: int, certain: float
) -> Eigenpairs:
    def lowest(rows: Int[Tensor, "K"]) -> Eigenpairs:
        there = projector.take(rows)
        return lowest_eigenpairs(
            potential,
            x[rows],
            k,
            tol=1e-7,
            rel_tol=certain,
            max_hvps=_MOST_PRODUCTS,
            projector=there,
            seed=seed,
        )

    what = f"lowest eigenpairs {k} {seed} {certain} {x.dtype}"
    pairs: Eigenpairs = compute_once(what, Eigenpairs, (x,), lowest, len(x))
    return pairs
