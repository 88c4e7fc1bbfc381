"""Log-determinants of Hessians: from a factorisation where that costs less than sampling as well, or sampled."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.brief import brief
from torchscape.memory import available_memory, in_parts, limits_of
from torchscape.optimise.ledger import compute_once
from torchscape.potentials.base import Potential
from torchscape.saddles.projector import Projector
from torchscape.saddles.spectral import LogDet, stochastic_log_det
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE, SEED

__all__ = ["Determinant", "factorised", "fits", "log_determinant"]

_PROBES, _STEPS, _RANK = 16, 40, 128
_BASE = 2 * _RANK + 12  # products of an estimate, beside those of its probes
_PILOT = _BASE + _PROBES * _STEPS
_LONGER, _FEWEST = 5, 16  # times the steps where these are too few, and probes that are then taken at least
_COPIES = 3  # of a Hessian, that live at once while it is factorised


@brief
@dataclasses.dataclass(frozen=True)
class Determinant:
    """ln|det| of P H P on the range of P, and how it was had.

    Attributes:
        value: ln|det|.
        error: its standard error; 0 where the Hessian was factorised.
        n_negative: negative eigenvalues, by Sylvester's law of inertia; -1 where sampled.
    """

    value: Float[Tensor, "B"]
    error: Float[Tensor, "B"]
    n_negative: Int[Tensor, "B"]


def log_determinant(
    potential: Potential,
    x: Float[Tensor, "B D"],
    *,
    max_error: float = 1.0,
    projector: Projector | None = None,
    negative: tuple[Float[Tensor, "B K D"], Float[Tensor, "B K"]] | None = None,
    max_bytes: int | None = None,
    max_products: int = 4000,
    seed: int = 0,
) -> Determinant:
    """ln|det P H(x) P| on the range of P, as exactly as is asked for, the cheaper of two ways.

    Sampling (:func:`stochastic_log_det`) has an error that falls with the square root of its products. Where it
    would take more of them than the Hessian has columns, and the Hessian fits into memory, that is formed and
    factorised instead, into L L^T or, where it is not positive, into L D L^T with the pivots of Bunch & Kaufman
    (1977, doi 10.1090/S0025-5718-1977-0428694-0), for D products and D^3 / 3 multiplications: no error but
    rounding, and as many negative pivots as there are negative eigenvalues.

    Args:
        potential: U.
        x: points [B D].
        max_error: the standard error that will do.
        projector: directions to leave out; None for the known zero modes. Other flat directions have to be among
            them: a factorisation takes the rounding of their eigenvalues for curvature.
        negative: eigenvectors (or zeros) and eigenvalues of negative modes, if any are known: a quadrature is
            accurate for a spectrum on one side of zero, so that they are left out of it and added.
        max_bytes: that a factorisation may take, 3 matrices [D D]; None for a quarter of the memory of the device,
            0 for none at all.
        max_products: Hessian-vector products that sampling may take for one point. What error is left, is said.
        seed: of the probes.

    Example:
        >>> class Saddle(Potential):
        ...     ndim = 3
        ...     def energy(self, x):
        ...         return x[:, 0] ** 2 + 2 * x[:, 1] ** 2 - x[:, 2] ** 2
        >>> found = log_determinant(Saddle(), torch.zeros(1, 3, dtype=torch.float64))
        >>> round(found.value.exp().item(), 9), found.error.item(), found.n_negative.item()
        (16.0, 0.0, 1)
    """
    POSITIVE.check("log_determinant", max_error=max_error)
    COUNT.check("log_determinant", max_products=max_products)
    SEED.check("log_determinant", seed=seed)
    projector = Projector.at(potential, x) if projector is None else projector
    d, dense = x.shape[1], fits(x.shape[1], x.dtype, x.device, max_bytes)
    if dense and d <= 2 * _PILOT:
        return factorised(potential, x, projector)
    n_probes = max(2, min(_PROBES, (max_products - _BASE) // _STEPS))
    positive = projector if negative is None else _without(projector, negative[0])
    first = stochastic_log_det(potential, x, projector=positive, n_probes=n_probes, rank=_RANK, seed=seed)
    wanted = n_probes * (first.error / max_error).square() - n_probes
    exactly = (wanted * _STEPS + _BASE >= d) & (wanted > 0) if dense else torch.zeros_like(wanted > 0)
    value, error = first.value, first.error
    rows, left = torch.nonzero((wanted > 0) & ~exactly)[:, 0], max_products - n_probes * _STEPS - 2 * _BASE
    if len(rows) and left >= 2 * _STEPS:
        # Where the quadrature has come to no end, more steps of it are wanted, not more of the same.
        is_short = bool((first.truncation > 0.5 * error)[rows].any())
        steps = max(_STEPS, min(_LONGER * _STEPS, left // _FEWEST)) if is_short else _STEPS
        more = max(2, min(left // steps, int(wanted[rows].amax().ceil())))
        again = stochastic_log_det(
            potential,
            x[rows],
            projector=positive.take(rows),
            n_probes=more,
            n_steps=steps,
            rank=_RANK,
            seed=seed + 1,
        )
        value, error = (
            old.index_copy(0, rows, new)
            for old, new in zip((value, error), _pooled(first, again, rows), strict=True)
        )
    if negative is not None:
        value = value + torch.where(negative[1] < 0, negative[1].abs(), 1.0).log().sum(1)
    found = Determinant(value, error, torch.full_like(value, -1, dtype=torch.int64))
    rows = torch.nonzero(exactly)[:, 0]
    return _exchanged(found, rows, factorised(potential, x[rows], projector.take(rows))) if len(rows) else found


def _without(projector: Projector, out: Float[Tensor, "B K D"]) -> Projector:
    return Projector(out if projector.zero is None else torch.cat([projector.zero, out], 1), projector.held)


def fits(ndim: int, dtype: torch.dtype, device: torch.device, max_bytes: int | None = None) -> bool:
    """Whether a Hessian can be factorised in so much memory, or in a quarter of what the device has."""
    return _COPIES * ndim**2 * dtype.itemsize <= (available_memory(device) if max_bytes is None else max_bytes)


def factorised(potential: Potential, x: Float[Tensor, "B D"], projector: Projector) -> Determinant:
    """ln|det P H(x) P| and the negative eigenvalues of it, one Hessian after the other."""

    def of(rows: Int[Tensor, "K"]) -> Determinant:
        parts = in_parts(
            lambda b: _of_one(potential, x[b], projector.take(b)),
            (rows,),
            limits=limits_of(potential),
            key=("factorised", x.device, x.dtype),
            size=1,
            what="Hessians factorised",
        )
        return Determinant(
            *(torch.cat([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Determinant))
        )

    removed = () if projector.is_trivial else (projector.apply(x[:, None])[:, 0], *projector.n_removed(x))
    found: Determinant = compute_once(
        f"factorised {x.dtype}", Determinant, (x, *removed), of, 1, kind="log-determinants"
    )
    return found


def _of_one(potential: Potential, x: Float[Tensor, "1 D"], projector: Projector) -> Determinant:
    h, log_added = _confined(potential.hessian(x)[0], projector)
    if not bool(torch.isfinite(h.sum())):
        unknown = h.new_full((1,), torch.nan)
        return Determinant(unknown, unknown.clone(), torch.full_like(unknown, -1, dtype=torch.int64))
    value, n_negative = _positive(h)
    if bool(n_negative < 0):
        value, n_negative = _indefinite(h)
    value = value - log_added
    return Determinant(value, torch.zeros_like(value), n_negative)


def _confined(h: Float[Tensor, "D D"], projector: Projector) -> tuple[Float[Tensor, "D D"], Float[Tensor, ""]]:
    """P H P + s (1 - P), in place of H, and ln of the determinant of what was added."""
    scale = h.diagonal().abs().mean().clamp(min=torch.finfo(h.dtype).tiny ** 0.5)
    log_added = torch.zeros_like(scale)
    if projector.held is not None:
        held = projector.held[0]
        h.masked_fill_(held[:, None] | held, 0.0)
        h.diagonal().masked_fill_(held, 1.0)
    if projector.zero is not None:
        z = projector.zero[0]
        zh = z @ h
        side = zh.T - 0.5 * z.T @ (zh @ z.T) - 0.5 * scale * z.T
        h.addmm_(side, z, alpha=-1).addmm_(z.T, side.T, alpha=-1)
        log_added = scale.log() * projector.n_removed(z[:1])[0][0]
    return h, log_added


def _positive(h: Float[Tensor, "D D"]) -> tuple[Float[Tensor, "1"], Int[Tensor, "1"]]:
    """By Cholesky's factorisation; -1 negative eigenvalues where it breaks down."""
    factor, info = torch.linalg.cholesky_ex(h)
    return 2 * factor.diagonal().log().sum()[None], torch.where(info > 0, -1, 0)[None].long()


def _indefinite(h: Float[Tensor, "D D"]) -> tuple[Float[Tensor, "1"], Int[Tensor, "1"]]:
    """By Bunch and Kaufman's: pivots of one row, or of two where the place of both is negative."""
    factor, place, _ = torch.linalg.ldl_factor_ex(h)
    pivot, beside = factor.diagonal(), torch.nn.functional.pad(factor.diagonal(-1), (0, 1))
    double = place < 0
    first = double & (double.cumsum(0) % 2 == 1)
    after = pivot.roll(-1)
    single = torch.where(double, 1.0, pivot)
    pair = torch.where(first, pivot * after - beside.square(), 1.0)
    n_negative = (single < 0).sum() + (pair < 0).sum() + 2 * (first & (pair > 0) & (pivot < 0)).sum()
    return (single.abs().log().sum() + pair.abs().log().sum())[None], n_negative[None]


def _pooled(first: LogDet, again: LogDet, rows: Int[Tensor, "K"]) -> tuple[Float[Tensor, "K"], Float[Tensor, "K"]]:
    """The mean of two estimates by their precisions, and its standard error."""
    old, new = first.error[rows], again.error
    share = old.square() / (old.square() + new.square()).clamp(min=torch.finfo(old.dtype).tiny)
    return torch.lerp(first.value[rows], again.value, share), torch.hypot((1 - share) * old, share * new)


def _exchanged(all_: Determinant, rows: Int[Tensor, "K"], some: Determinant) -> Determinant:
    columns = {}
    for field in dataclasses.fields(Determinant):
        columns[field.name] = getattr(all_, field.name).clone()
        columns[field.name][rows] = getattr(some, field.name)
    return Determinant(**columns)
