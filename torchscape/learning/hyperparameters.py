"""The landscape of a Gaussian process's hyperparameters: its basins, their evidence, and what they foresee."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch

from torchscape import metrics, random
from torchscape.errors import TorchscapeError
from torchscape.optimise import relax
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.potentials.gaussian_process import GaussianProcessPotential
from torchscape.saddles.distinct import first_of_each
from torchscape.sampling import WeightedSamples
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, SEED

__all__ = ["BoxedMixture", "HyperparameterLandscape", "hyperparameter_landscape", "hyperparameter_minima"]

_PROBES = 256  # draws of a basin that tell how much of it lies inside the box
_RELEVANT = 0.01  # a basin of less weight changes no prediction
_SAME_PLATEAU = 1e-3  # energies of one plateau; in nats, far below what any weight notices


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
        held = box.blocked(x, grad)
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


@dataclasses.dataclass(frozen=True)
class HyperparameterLandscape:
    """What the minima say of the posterior predictive before any chain has run.

    Attributes:
        basins: the minima and their harmonic evidence.
        entropy: Shannon entropy of the weights of the basins, in nats.
        spread: standard deviation of the predicted mean between basins, over the predicted standard deviation of
            the best one; root mean square over the inputs.
        foreseen: log density per item that a predictor would gain over the single best minimum if the targets
            were distributed as it says, by name: "minima" is their mixture by evidence, "basins" gives each its
            harmonic width, "reweighted" corrects this to the true posterior.
        ess: effective number of the reweighted draws; where it is small, the last of these is rough.
        n_evaluations: energies spent on the reweighting; the harmonic numbers need none.
        predictions: the predictors themselves, by the same names, and "best".
        members: their hyperparameters [K D], by the same names.
    """

    basins: BoxedMixture
    entropy: float
    spread: float
    foreseen: Mapping[str, float]
    ess: float
    n_evaluations: int
    predictions: Mapping[str, metrics.NormalMixture]
    members: Mapping[str, Float[Tensor, "K D"]]

    @property
    def n_minima(self) -> int:
        return len(self.basins)

    @property
    def n_relevant(self) -> int:
        """Minima of a weight of 1 % or more."""
        return int((self.basins.log_weight.exp() >= _RELEVANT).sum())

    def measures(self) -> dict[str, float]:
        """Every indicator by name, to be held against what sampling gained."""
        return {
            "minima": float(self.n_minima),
            "relevant minima": float(self.n_relevant),
            "entropy": self.entropy,
            "spread": self.spread,
            **{f"foreseen by {name}": value for name, value in self.foreseen.items()},
        }

    def __str__(self) -> str:
        foreseen = ", ".join(f"{value:+.3f} ({name})" for name, value in self.foreseen.items())
        walls = int(self.basins.on_wall.sum())
        return (
            f"{self.n_minima} minima ({walls} on walls), {self.n_relevant} with 1 % of the evidence or more; "
            f"entropy {self.entropy:.3f}, spread of predictions {self.spread:.3f}\n"
            f"foreseen gain in log density over the best minimum: {foreseen}; "
            f"{self.ess:.0f} effective reweighted draws"
        )


def hyperparameter_minima(
    potential: GaussianProcessPotential, *, n_starts: int = 64, seed: int = 0, progress: bool = False
) -> Float[Tensor, "N D"]:
    """The distinct minima that quenches from random starts in the box end in, walls included, by energy.

    Args:
        potential: in a finite box.
        n_starts: quenches.
        seed: of the starts.
        progress: show a progress bar.

    Raises:
        TorchscapeError: if no quench converged.

    Example:
        >>> u = GaussianProcessPotential(torch.linspace(0, 1, 8), torch.linspace(0, 6, 8).sin())
        >>> bool((u.energy(hyperparameter_minima(u, n_starts=8)).diff() > 0).all())
        True
    """
    COUNT.check("hyperparameter_minima", n_starts=n_starts)
    SEED.check("hyperparameter_minima", seed=seed)
    points = relax(potential, potential.sample(n_starts, seed), progress=progress)
    points = points[torch.nonzero(points.status == Status.CONVERGED)[:, 0]]
    if len(points) == 0:
        raise TorchscapeError("no quench converged: take more starts, or a narrower box")
    first = first_of_each(potential, points)
    distinct = torch.nonzero(first == torch.arange(len(first), device=first.device))[:, 0]
    return points.x[distinct[points.energy[distinct].argsort(stable=True)]]


def hyperparameter_landscape(
    potential: GaussianProcessPotential,
    inputs: Float[Tensor, "m d"],
    *,
    minima: Float[Tensor, "N D"] | None = None,
    n_starts: int = 64,
    n_draws: int = 128,
    noisy: bool = True,
    seed: int = 0,
) -> HyperparameterLandscape:
    """Indicators of how much sampling the hyperparameters would change the predictions at ``inputs``.

    The foreseen gain of a predictor p over the best minimum b is the Kullback-Leibler divergence int p ln(p / b),
    averaged over the inputs: no targets are needed.

    Args:
        potential: in a finite box, which is the support of a uniform prior.
        inputs: where predictions matter.
        minima: known ones, for instance ``network.coords``; quenched from random starts by default. Minima on the
            walls of the box matter as much as others.
        n_starts: quenches, without ``minima``.
        n_draws: of the mixtures with harmonic width; the reweighting takes eight times as many.
        noisy: predict observations rather than the function.
        seed: of starts and draws.

    Raises:
        TorchscapeError: without minima or a finite box.

    Reference for the question: M. P. Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g,
    section 6.

    Example:
        >>> x = torch.linspace(0, 1, 8).double()
        >>> u = GaussianProcessPotential(x, (6 * x).sin())
        >>> found = hyperparameter_landscape(u, x[:, None], n_starts=8)
        >>> found.n_relevant >= 1, all(value > -1e-9 for value in found.foreseen.values())
        (True, True)
    """
    COUNT.check("hyperparameter_landscape", n_starts=n_starts, n_draws=n_draws)
    SEED.check("hyperparameter_landscape", seed=seed)
    if minima is None:
        minima = hyperparameter_minima(potential, n_starts=n_starts, seed=seed)
    basins = BoxedMixture.of(potential, minima, seed=seed)
    weighted = basins.reweighted(potential, 8 * n_draws, seed=seed)
    draws = {
        "minima": (basins.centres, basins.log_weight),
        "basins": (weighted.x[_systematic(torch.zeros_like(weighted.log_weight), n_draws)], None),
        "reweighted": (weighted.x[_systematic(weighted.log_weight, n_draws)], None),
        "best": (basins.centres[:1], None),
    }
    predictions = {
        name: metrics.NormalMixture.of(*potential.predict(x, inputs, noisy=noisy), w)
        for name, (x, w) in draws.items()
    }
    best = predictions["best"]
    weight = basins.log_weight.exp()
    means = predictions["minima"].means
    between = weight @ (means - weight @ means).square()
    return HyperparameterLandscape(
        basins=basins,
        entropy=0.0 - float(torch.special.xlogy(weight, weight).sum()),
        spread=float((between / best.variances[0]).mean().sqrt()),
        foreseen={name: float(one.divergence(best).mean()) for name, one in predictions.items() if name != "best"},
        ess=weighted.ess,
        n_evaluations=len(weighted.x),
        predictions=predictions,
        members={name: x for name, (x, _) in draws.items()},
    )


def _once_per_plateau(energy: Float[Tensor, "N"], is_flat: Bool[Tensor, "N"]) -> Int[Tensor, "K"]:
    """Positions without the repetitions of a plateau, on which quenches stop anywhere."""
    order = energy.argsort(stable=True)
    height, flat = energy[order], is_flat[order]
    gap = height.diff(prepend=height[:1] - 2 * _SAME_PLATEAU) > _SAME_PLATEAU
    level = gap.long().cumsum(0)
    seen = torch.zeros_like(level).scatter_reduce(0, level - 1, flat.long(), "sum", include_self=True)
    earlier = flat.long().cumsum(0) - flat.long() - (seen.cumsum(0) - seen)[level - 1]
    return order[~(flat & (earlier > 0))]


def _systematic(log_weight: Float[Tensor, "S"], n: int) -> Int[Tensor, "n"]:
    """Positions of ``n`` draws of equal weight in place of weighted ones, by systematic resampling."""
    u = (torch.arange(n, device=log_weight.device, dtype=log_weight.dtype) + 0.5) / n
    return torch.searchsorted(log_weight.softmax(0).cumsum(0), u).clamp(max=len(log_weight) - 1)
