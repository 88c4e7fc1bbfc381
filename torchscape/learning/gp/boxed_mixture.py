"""Basins of minima in a box as a mixture: normal inside, exponential where a wall holds a minimum."""

from __future__ import annotations

import dataclasses
import math

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.potentials.base import Potential
from torchscape.sampling import WeightedSamples
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["BoxedMixture"]

_PROBES = 256  # draws of a basin that tell how much of it lies inside the box
_SAME_PLATEAU = 1e-3  # energies of one plateau; in nats, far below what any weight notices


@brief
@dataclasses.dataclass(frozen=True)
class BoxedMixture:
    """Basins of minima in a box: q(x) = sum_i w_i q_i(x), w_i proportional to the harmonic evidence exp(-E_i) V_i.

    q_i is normal along the coordinates that are free, with the Hessian as precision, and exponential along those
    that a wall holds, with the slope as rate: V_i is (2 pi)^(f/2) / sqrt(det H_ff) times the product of
    (1 - exp(-g L)) / g over the walls, times the share of this that lies inside the box. A basin is never wider
    than the box: curvatures are at least 2 pi / L^2. T = 1: -U is a log likelihood, and the prior is uniform.

    Attributes:
        centres: minima, those on walls included; by ascending energy.
        energy: U there.
        precision: Hessians, with the identity for held coordinates.
        slope: |dU/dx| of coordinates that a wall holds; 0 of free ones.
        log_weight: ln w_i, normalised.
        log_evidence: ln of sum_i exp(-E_i) V_i, which approximates the integral of exp(-U) over the box.
        inside: share of each q_i inside the box, before it is cut there.
        lower, upper: corners of the box.
    """

    centres: Float[Tensor, "N D"]
    energy: Float[Tensor, "N"]
    precision: Float[Tensor, "N D D"]
    slope: Float[Tensor, "N D"]
    log_weight: Float[Tensor, "N"]
    log_evidence: float
    inside: Float[Tensor, "N"]
    lower: Float[Tensor, "D"]
    upper: Float[Tensor, "D"]

    @classmethod
    def of(cls, potential: Potential, minima: Float[Tensor, "N D"], *, seed: int = 0) -> BoxedMixture:
        """The basins of the given minima; several points of one plateau count once.

        Args:
            potential: U, in a finite box.
            minima: where it is least.
            seed: of the draws that measure which part of a basin is inside.

        Raises:
            TorchscapeError: without minima, or without a finite box (the uniform prior needs one).

        Example:
            >>> from torchscape.potentials import FunctionPotential
            >>> box = [(-1.0, 1.0), (0.0, 9.0)]
            >>> u = FunctionPotential(lambda x: 50 * x[0] ** 2 + 2 * x[1], 2, box, name="edge")
            >>> found = BoxedMixture.of(u, torch.zeros(1, 2).double())
            >>> round(math.exp(found.log_evidence) / (math.sqrt(2 * math.pi / 100) / 2), 6)
            1.0
        """
        box = potential.bounds
        if box is None or not bool(torch.isfinite(box.upper - box.lower).all()):
            raise TorchscapeError("the evidence of hyperparameters needs a finite box, the support of their prior")
        if len(minima) == 0:
            raise TorchscapeError("there are no minima: take more starts, or explore")
        x = box.clamp(minima.to(potential.device, potential.dtype).detach())
        energy, grad = potential.energy_and_grad(x)
        held = box.active_set(x, grad)
        side = box.upper - box.lower
        free = (~held).to(x)
        hessian = potential.hessian(x) * free[:, :, None] * free[:, None]
        curvature, modes = torch.linalg.eigh(hessian)
        floor = 2 * math.pi / side.max().square()
        keep = _once_per_plateau(energy, (curvature < floor).sum(1) > held.sum(1))
        wide = modes * curvature.clamp(min=floor)[:, None] @ modes.mT
        precision = wide * free[:, :, None] * free[:, None] + torch.diag_embed(held.to(x))
        slope = torch.where(held, grad.abs(), 0.0)
        decay = torch.where(held, slope, 1.0)
        walls = torch.where(held, (-torch.expm1(-decay * side) / decay).log(), 0.5 * math.log(2 * math.pi))
        volume = walls.sum(1) - 0.5 * torch.linalg.slogdet(precision)[1]
        order = keep[energy[keep].argsort(stable=True)]
        raw = cls(
            centres=x[order],
            energy=energy[order],
            precision=precision[order],
            slope=slope[order],
            log_weight=(volume - energy)[order],
            log_evidence=0.0,
            inside=torch.ones_like(energy[order]),
            lower=box.lower,
            upper=box.upper,
        )
        return raw._cut(seed)

    def _cut(self, seed: int) -> BoxedMixture:
        """With the part of each basin outside the box taken away."""
        n = len(self.centres)
        basin = torch.arange(n, device=self.centres.device).repeat_interleave(_PROBES)
        x = self._draw_in(basin, random.fold(seed, torch.arange(_PROBES, device=basin.device)).repeat(n))
        hits = self._contains(x).reshape(n, _PROBES).to(x).sum(1)
        inside = (hits + 0.5) / (_PROBES + 0.5)  # never zero; one where all are inside
        score = self.log_weight + inside.log()
        return dataclasses.replace(
            self, log_weight=score.log_softmax(0), log_evidence=float(score.logsumexp(0)), inside=inside
        )

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def on_wall(self) -> Bool[Tensor, "N"]:
        """Minima of the box that are no stationary points of U."""
        return (self.slope > 0).any(1)

    def draw(self, n: int, *, seed: int = 0, equally: bool = False) -> Float[Tensor, "S D"]:
        """At most ``n`` points, basins by their weight (or ``equally``, to start chains): those inside the box."""
        key = random.keys(seed, n, self.centres.device)
        share = (self.log_weight - self.inside.log()).softmax(0)  # of the basins before they are cut
        share = torch.full_like(share, 1 / len(share)) if equally else share
        u = (torch.arange(n, device=share.device, dtype=share.dtype) + 0.5) / n
        basin = torch.searchsorted(share.cumsum(0), u).clamp(max=len(share) - 1)
        x = self._draw_in(basin, random.fold(key, 1))
        return x[self._contains(x)]

    def log_prob(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S"]:
        """ln q(x) inside the box."""
        off = x[:, None] - self.centres
        square = torch.einsum("snd,nde,sne->sn", off, self.precision * self._free[:, :, None], off)
        linear = (off.abs() * self.slope).sum(2)
        side = self.upper - self.lower
        decay = torch.where(self.slope > 0, self.slope, 1.0)
        walls = (-torch.expm1(-decay * side) / decay).log()
        norm = torch.where(self.slope > 0, walls, 0.5 * math.log(2 * math.pi)).sum(1)
        norm = norm - 0.5 * torch.linalg.slogdet(self.precision)[1] + self.inside.log()
        return (self.log_weight - 0.5 * square - linear - norm).logsumexp(1)

    def reweighted(self, potential: Potential, n: int, *, seed: int = 0) -> WeightedSamples:
        """Draws with weights exp(-U) / q: superposition sampling, exact for many draws if q reaches everywhere."""
        x = self.draw(n, seed=seed)
        energy = potential.energy(x).detach()
        score = -energy - self.log_prob(x)
        log_weight = score.log_softmax(0)
        return WeightedSamples(
            x=x,
            energy=energy,
            log_weight=log_weight,
            log_partition=float(score.logsumexp(0)) - math.log(len(x)),
            ess=float(torch.exp(-(2 * log_weight).logsumexp(0))),
        )

    @property
    def _free(self) -> Float[Tensor, "N D"]:
        return (self.slope == 0).to(self.slope)

    def _draw_in(self, basin: Int[Tensor, "S"], key: Int[Tensor, "S"]) -> Float[Tensor, "S D"]:
        d, dtype = self.centres.shape[1], self.centres.dtype
        factor = torch.linalg.cholesky(self.precision)[basin]
        z = random.normal(random.fold(key, 0), d, dtype)
        normal = torch.linalg.solve_triangular(factor.mT, z[:, :, None], upper=True)[:, :, 0]
        slope, side = self.slope[basin], self.upper - self.lower
        rate = torch.where(slope > 0, slope, 1.0)
        u = random.uniform(random.fold(key, 1), d, dtype)
        away = -torch.log1p(u * torch.expm1(-rate * side)) / rate  # exponential, cut at the opposite wall
        inward = torch.where(self.centres[basin] <= self.lower, 1.0, -1.0)
        return self.centres[basin] + torch.where(slope > 0, inward * away, normal)

    def _contains(self, x: Float[Tensor, "S D"]) -> Bool[Tensor, "S"]:
        return ((x >= self.lower) & (x <= self.upper)).all(1)


def _once_per_plateau(energy: Float[Tensor, "N"], is_flat: Bool[Tensor, "N"]) -> Int[Tensor, "K"]:
    """Positions without the repetitions of a plateau, on which quenches stop anywhere."""
    order = energy.argsort(stable=True)
    height, flat = energy[order], is_flat[order]
    gap = height.diff(prepend=height[:1] - 2 * _SAME_PLATEAU) > _SAME_PLATEAU
    level = gap.long().cumsum(0)
    seen = torch.zeros_like(level).scatter_reduce(0, level - 1, flat.long(), "sum", include_self=True)
    earlier = flat.long().cumsum(0) - flat.long() - (seen.cumsum(0) - seen)[level - 1]
    return order[~(flat & (earlier > 0))]
