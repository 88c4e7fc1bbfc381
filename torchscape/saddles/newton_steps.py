"""Newton's steps of candidates for minima, and what their curvature says of them."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.devices import asking_is_free
from torchscape.even import even_bmv
from torchscape.optimise.newton import conjugate_step
from torchscape.optimise.rows import cat_rows, take_rows
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.characterisation import SLOPE_MARGIN, relabel
from torchscape.saddles.decomposition import dense_spectrum, finite_rows
from torchscape.saddles.projector import Projector
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["NewtonSteps", "dense_steps", "iterative_steps"]


@dataclasses.dataclass(frozen=True)
class NewtonSteps:
    """Newton's steps of some rows, and what their curvature says of them."""

    step: Float[Tensor, "B D"]
    steepest: Float[Tensor, "B D"]  # Cauchy's step, which does not mind kinks that Newton's leads across
    distance: Float[Tensor, "B"]
    gain: Float[Tensor, "B"]
    index: Int[Tensor, "B"]  # -1 where unknown
    top: Float[Tensor, "B"]  # largest curvature; 0 where unknown
    is_sure: Bool[Tensor, "B"]  # whether the residual gradient leaves every sign certain
    is_flat: Bool[Tensor, "B"]  # in every direction
    points: StationaryPoints  # with what is known of their curvature


def dense_steps(potential: Potential, points: StationaryPoints, grad: Float[Tensor, "B D"]) -> NewtonSteps:
    """By the Hessians. Most candidates are minima: where a Cholesky factorisation shows that, and no curvature is
    so small that its direction would have to be known, eigenvalues do without eigenvectors, which take longest.
    """
    projector = Projector.at(potential, points.x, grad)
    grad, h = projector.apply_one(grad), potential.hessian(points.x)
    if not asking_is_free(h):
        return _by_eigenvectors(potential, points, projector, grad, h)
    plain, whole = _by_cholesky(potential, points, projector, grad, h)
    rest = torch.nonzero(~plain)[:, 0]
    if len(rest) == 0:
        assert whole is not None
        return whole
    others = _by_eigenvectors(potential, points[rest], projector.take(rest), grad[rest], h[rest])
    if whole is None:
        return others
    order = torch.cat([torch.nonzero(plain)[:, 0], rest]).argsort()
    return take_rows(cat_rows([whole, others]), order)


def _by_cholesky(
    potential: Potential,
    points: StationaryPoints,
    projector: Projector,
    grad: Float[Tensor, "B D"],
    h: Float[Tensor, "B D D"],
) -> tuple[Bool[Tensor, "B"], NewtonSteps | None]:
    """Rows whose curvatures are all positive beyond doubt, and the steps of these (None if there are none)."""
    h, plain = finite_rows(h)
    shifted, _ = projector.shifted(h)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    plain = plain & (failed == 0)
    rows = torch.nonzero(plain)[:, 0]
    values = torch.linalg.eigvalsh(shifted[rows])
    n_known, n_held = projector.take(rows).n_removed(points.x[rows])
    d = values.shape[1]
    kept = torch.arange(d, device=values.device) < (d - n_known - n_held)[:, None]
    top = torch.where(kept, values, 0.0).amax(1)
    doubt = SLOPE_MARGIN * grad[rows].norm(dim=1) / potential.length_scale
    least = torch.maximum(torch.finfo(values.dtype).eps ** (2 / 3) * top, doubt)
    good = kept[:, 0] & (values[:, 0] > least)
    plain = plain.index_put((rows,), good)
    if not bool(good.any()):
        return plain, None
    rows, values, kept, top = rows[good], values[good], kept[good], top[good]
    n_known, n_held = n_known[good], n_held[good]
    g = grad[rows]
    step = -torch.cholesky_solve(g[:, :, None], factor[rows])[:, :, 0]
    no = torch.zeros_like(kept)
    bent = (g * even_bmv(shifted[rows], g)).sum(1, keepdim=True)
    return plain, NewtonSteps(
        step=step,
        steepest=_cauchy(g, bent),
        distance=step.norm(dim=1),
        gain=-0.5 * (step * g).sum(1),
        index=torch.zeros_like(points.index[rows]),
        top=top,
        is_sure=~no[:, 0],
        is_flat=no[:, 0],
        points=relabel(points[rows], values, no, kept, n_known, n_held, ~no[:, 0]),
    )


def _by_eigenvectors(
    potential: Potential,
    points: StationaryPoints,
    projector: Projector,
    grad: Float[Tensor, "B D"],
    h: Float[Tensor, "B D D"],
) -> NewtonSteps:
    x, length = points.x, potential.length_scale
    eps = torch.finfo(x.dtype).eps
    values, vectors, finite = dense_spectrum(h, projector)
    n_known, n_held = projector.n_removed(x)
    kept = torch.arange(x.shape[1], device=x.device) < (x.shape[1] - n_known - n_held)[:, None]
    size = torch.where(kept, values.abs(), 0.0)
    top = size.amax(1, keepdim=True)
    along = even_bmv(vectors, grad)
    hard = kept & (size > eps ** (2 / 3) * top)
    across = torch.where(hard, -along / torch.where(hard, size, 1.0), 0.0)
    # A slope without curvature is real once nothing of it can come from the other directions.
    rounding = 8 * eps * top * x.abs().amax(1, keepdim=True).clamp(min=length)
    still = across.norm(dim=1, keepdim=True) <= 1e-9 * length
    slope = kept & ~hard & (along.abs() > rounding)
    down = slope & still
    least = torch.maximum(size, eps * top).clamp(min=torch.finfo(x.dtype).tiny)
    step = torch.where(down, -along / least, across).clamp(-1e9 * length, 1e9 * length)
    gain = torch.where(hard, 0.5 * across.abs() * along.abs(), 0.0).sum(1)
    doubt = SLOPE_MARGIN * grad.norm(dim=1, keepdim=True) / length
    sure = ~(hard & (size <= doubt)).any(1) & ~slope.any(1)
    zero = kept & ~hard
    index = torch.where(finite, (hard & (values < 0)).sum(1), -1)
    bent = (along.square() * torch.where(kept, values, 0.0)).sum(1, keepdim=True)
    return NewtonSteps(
        steepest=_cauchy(grad, bent),
        step=even_bmv(vectors.mT, step),
        distance=step.norm(dim=1),
        gain=gain,
        index=index,
        top=top[:, 0],
        is_sure=sure,
        is_flat=~hard.any(1) & kept.any(1),
        points=relabel(points, values, zero, kept, n_known, n_held, finite),
    )


def _cauchy(grad: Float[Tensor, "B D"], bent: Float[Tensor, "B 1"]) -> Float[Tensor, "B D"]:
    """The step to the lowest point along -grad, from g H g."""
    tiny = torch.finfo(grad.dtype).tiny
    length = grad.square().sum(1, keepdim=True) / torch.where(bent > tiny, bent, tiny)
    return -grad * length.clamp(max=1e9)


def iterative_steps(
    potential: Potential, points: StationaryPoints, grad: Float[Tensor, "B D"], n_steps: int
) -> NewtonSteps:
    """By conjugate gradients, which form no Hessian and leave the index open."""
    step = conjugate_step(potential, points.x, n_steps)
    gain = -0.5 * (step * grad).sum(1)
    no = torch.zeros_like(points.status, dtype=torch.bool)
    return NewtonSteps(
        step=step,
        steepest=-grad,
        top=torch.zeros_like(gain),
        distance=step.norm(dim=1),
        gain=gain,
        index=torch.full_like(points.status, -1),
        is_sure=~no,
        is_flat=no,
        points=points,
    )
