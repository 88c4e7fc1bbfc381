"""Volumes along random rays: the star-convex part of a basin, for any number of parameters."""

from __future__ import annotations

import dataclasses
import math
import warnings

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.memory import ONE_LARGE, in_chunks
from torchscape.potentials.base import Potential
from torchscape.sampling.basins.oracle import Oracle
from torchscape.sampling.diagnostics import SamplingWarning
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO, POSITIVE, SEED, Range

__all__ = ["RadialVolume", "harmonic_volume", "log_ball", "radial_volume"]


@brief
@dataclasses.dataclass(frozen=True)
class RadialVolume:
    """ln of the volume that is seen from a point, from n rays.

    Attributes:
        log_volume, error: ln v and its standard error (jackknife over rays). With many coordinates a few rays
            carry the mean of r^D; then v is underestimated, more than the error says: look at ``ess``.
        log_typical: ln of the ball of the mean ln r, a lower bound (Jensen) without that trouble.
        radius: distance to the boundary along each ray, in the preconditioned metric [n].
        ess: Kish's effective number of rays.
        n_open: rays that met no boundary within the longest distance, cut off there.
        n_evaluations: gradients, or energies, spent.
    """

    log_volume: float
    error: float
    log_typical: float
    radius: Float[Tensor, "n"]
    ess: float
    n_open: int
    n_evaluations: int


def log_ball(ndim: int) -> float:
    """ln of the volume of the unit ball, pi^(D/2) / Gamma(D/2 + 1).

    Example:
        >>> round(math.exp(log_ball(3)), 6)
        4.18879
    """
    return 0.5 * ndim * math.log(math.pi) - math.lgamma(0.5 * ndim + 1)


def harmonic_volume(log_det: Float[Tensor, "N"], height: float | Float[Tensor, "N"], ndim: int) -> Tensor:
    """ln of the volume of the ellipsoid 1/2 x.H x < height: ln ball + (D / 2) ln(2 height) - (ln det H) / 2.

    ``log_det`` is that of ``StationaryPoints`` (LPPHE), without zero modes. With the lowest barrier for the height
    it orders basins; it is their volume only as far as they are harmonic.

    Example:
        >>> harmonic_volume(torch.tensor([0.0]), 0.5, 2).exp().item()  # the unit disc
        3.14159...
    """
    level = 0.5 * ndim * torch.as_tensor(2 * height, dtype=log_det.dtype, device=log_det.device).log()
    return log_ball(ndim) + level - 0.5 * log_det


def radial_volume(
    potential: Potential,
    minimum: Float[Tensor, "D"],
    oracle: Oracle,
    *,
    n_rays: int = 500,
    scale: Tensor | None = None,
    start: float | None = None,
    longest: float = 1e4,
    growth: float = 1.25,
    n_bisections: int = 30,
    seed: int = 0,
) -> RadialVolume:
    """Volume of the part of a basin that is seen from its minimum, v = |det L| V_ball E[r(n)^D] over directions n.

    Rays run along x = minimum + r L n with n uniform on the unit sphere, until they first leave the basin: radii
    grow by a constant factor until the oracle says no, and the last one is bisected. L = I by default; an L that
    makes the basin rounder (|H|^(-1/2), or the inverse roots of the Hessian's diagonal) importance-samples the
    long directions without changing what is estimated. The mean is taken of exp(D ln r) by log-sum-exp.

    What lies behind a first boundary is not seen: v is a lower bound of the basin's volume. Besides, ln of a mean
    is biased low, by about error^2 / 2 while many rays count, and without limit where one ray dominates.

    Args:
        potential: U.
        minimum: where the rays start [D].
        oracle: :class:`Sublevel` needs no quench, and so serves for millions of parameters; :class:`Quenched`.
        n_rays: directions.
        scale: L, as a diagonal [D] or a matrix [D, D].
        start: the first radius, in the metric of L; a hundredth of the potential's ``length_scale`` by default.
        longest: radius, in units of ``start``, at which a ray is given up and counted as open.
        growth: ratio of successive radii; a gap of the basin that is narrower may be stepped over.
        n_bisections: of the last interval.
        seed: of the directions.

    Raises:
        PotentialError: if ``minimum`` does not fit the potential, or ``scale`` does not fit it.
        TorchscapeError: if the oracle does not count the minimum itself as inside.

    Reference: Wu, Zhu & E, "Towards understanding generalization of deep learning" (2017),
    doi 10.48550/arXiv.1706.10239; Huang et al., "Understanding generalization through visualizations" (2019),
    doi 10.48550/arXiv.1906.03291; Scherlis & Belrose, "Estimating the probability of sampling a trained neural
    network at random" (2025).

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> from torchscape.sampling.basins import Sublevel
        >>> u, scale = Quadratic([1.0, 100.0]), torch.tensor([1.0, 0.1]).double()
        >>> found = radial_volume(u, torch.zeros(2).double(), Sublevel(0.5), scale=scale)
        >>> round(math.exp(found.log_volume), 5), found.error < 1e-6  # an ellipse of half-axes 1 and 0.1
        (0.31416, True)
    """
    d = potential.ndim
    if minimum.shape != (d,) or (scale is not None and scale.shape not in ((d,), (d, d))):
        raise PotentialError(f"give a minimum [{d}], and a scale [{d}] or [{d}, {d}], for this potential")
    Range(low=3, whole=True).check("radial_volume", n_rays=n_rays)
    above_one = Range(low=1, open_low=True)
    above_one.check("radial_volume", growth=growth, longest=longest)
    POSITIVE.or_none.check("radial_volume", start=start)
    COUNT_OR_ZERO.check("radial_volume", n_bisections=n_bisections)
    SEED.check("radial_volume", seed=seed)
    begin = 0.01 * potential.length_scale if start is None else start
    key = random.fold(seed, torch.arange(n_rays, device=minimum.device))
    if not bool(oracle.member(potential, minimum[None], minimum[None], key[:1])[0]):
        raise TorchscapeError("the minimum itself is not inside: raise the threshold, or relax the point first")
    radii, n_open, spent = [], 0, 0
    for part in in_chunks(key, d, on_host=ONE_LARGE):
        rays = _Rays(potential, oracle, minimum, scale, part)
        radius, more = rays.boundary(begin, longest * begin, growth, n_bisections)
        radii.append(radius)
        n_open, spent = n_open + more, spent + rays.n_evaluations
    return _average(torch.cat(radii), d, scale, n_open, spent)


def _average(
    radius: Float[Tensor, "R"], d: int, scale: Tensor | None, n_open: int, n_evaluations: int
) -> RadialVolume:
    """The volume from the radii along all rays."""
    log_power, n_rays = d * radius.double().log(), len(radius)
    constant = log_ball(d) + _log_det(scale)
    ess = float(torch.exp(2 * log_power.logsumexp(0) - (2 * log_power).logsumexp(0)))
    for message in _complaints(ess, n_rays, n_open):
        warnings.warn(message, SamplingWarning)
    return RadialVolume(
        log_volume=constant + float(log_power.logsumexp(0)) - math.log(n_rays),
        error=_jackknife(log_power),
        log_typical=constant + float(log_power.mean()),
        radius=radius,
        ess=ess,
        n_open=n_open,
        n_evaluations=n_evaluations,
    )


@dataclasses.dataclass
class _Rays:
    """Rays from one minimum, searched together."""

    potential: Potential
    oracle: Oracle
    minimum: Float[Tensor, "D"]
    scale: Tensor | None
    key: Int[Tensor, "B"]
    n_evaluations: int = 0

    def __post_init__(self) -> None:
        z = random.normal(self.key, self.potential.ndim, self.minimum.dtype)
        z = z / z.norm(dim=1, keepdim=True)
        if self.scale is not None:
            z = z * self.scale if self.scale.ndim == 1 else z @ self.scale.mT
        self.direction = z

    def inside(self, radius: Float[Tensor, "K"], rows: Int[Tensor, "K"]) -> Tensor:
        x = self.minimum + radius[:, None] * self.direction[rows]
        member, spent = self.oracle.member(self.potential, x, self.minimum.expand_as(x), self.key[rows])
        self.n_evaluations += spent
        return member

    def boundary(self, begin: float, end: float, growth: float, n: int) -> tuple[Float[Tensor, "B"], int]:
        """First boundary along each ray, and the number of rays that have none before ``end``."""
        b = len(self.key)
        rows = torch.arange(b, device=self.key.device)
        low, high = self.minimum.new_zeros(b), self.minimum.new_full((b,), begin)
        while len(rows):
            member = self.inside(high[rows], rows)
            rows = rows[member]
            low[rows] = high[rows]
            rows = rows[high[rows] < end]
            high[rows] *= growth
        n_open = int((low == high).sum())
        every = torch.arange(b, device=self.key.device)
        for _ in range(n):
            middle = 0.5 * (low + high)
            member = self.inside(middle, every)
            low, high = torch.where(member, middle, low), torch.where(member, high, middle)
        return 0.5 * (low + high), n_open


def _jackknife(log_power: Float[Tensor, "n"]) -> float:
    """Standard error of ln mean exp, each ray left out in turn."""
    n = len(log_power)
    share = log_power.softmax(0)
    without = torch.log1p(-share.clamp(max=1 - 1e-12))
    return float((((without - without.mean()).square().sum()) * (n - 1) / n).sqrt())


def _log_det(scale: Tensor | None) -> float:
    if scale is None:
        return 0.0
    return float(scale.abs().log().sum()) if scale.ndim == 1 else float(torch.linalg.slogdet(scale)[1])


def _complaints(ess: float, n_rays: int, n_open: int):
    if ess < min(10.0, 0.5 * n_rays):
        yield (
            f"only {ess:.1f} of {n_rays} rays carry the mean of r^D, so that the volume is underestimated: give "
            "a scale that makes the basin rounder, or take log_typical for what it is"
        )
    if n_open:
        yield f"{n_open} of {n_rays} rays met no boundary: raise longest, or lower the threshold"
