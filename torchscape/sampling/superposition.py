"""Superposition sampling: draws from the harmonic basins of known minima, corrected to the true density.

The harmonic superposition approximation D. J. Wales, Mol. Phys. 78, 151 (1993), doi 10.1080/00268979300100141,
as a proposal: importance weights or a Metropolis test take away what is not harmonic. No barrier is ever crossed.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.memory import ONE_LARGE, rows_that_fit
from torchscape.network import Network
from torchscape.potentials.base import Potential
from torchscape.sampling.chains import Chains, Sampler
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO, POSITIVE, SEED

__all__ = ["HarmonicMixture", "Superposition", "WeightedSamples", "reweight"]


@brief
@dataclasses.dataclass(frozen=True)
class HarmonicMixture:
    """q(x) = sum_i w_i N(x; x_i, T H_i^-1), with w_i proportional to exp(-E_i / T) / sqrt(det H_i).

    Every row of the network is one basin. Symmetric images are other basins: put them in as minima of their own
    where they matter, or use observables that are the same in all images.

    Attributes:
        centres: the minima.
        modes: eigenvectors of each Hessian, as columns.
        curvature: its eigenvalues.
        log_weight: ln w_i, normalised.
        log_partition: ln of the harmonic partition function, integral of exp(-U / T) dx.
        temperature: T.
    """

    centres: Float[Tensor, "N D"]
    modes: Float[Tensor, "N D D"]
    curvature: Float[Tensor, "N D"]
    log_weight: Float[Tensor, "N"]
    log_partition: float
    temperature: float

    @classmethod
    def of(cls, potential: Potential, network: Network, *, temperature: float = 1.0) -> HarmonicMixture:
        """The mixture of a network's minima, with the Hessians of the potential there.

        Raises:
            TorchscapeError: without coordinates, or with zero or negative curvature anywhere.

        Example:
            >>> from torchscape.potentials import Quadratic
            >>> minima = Network.of([0.0], [], [], coords=torch.zeros(1, 2).double())
            >>> mixture = HarmonicMixture.of(Quadratic([1.0, 4.0]), minima)
            >>> abs(mixture.log_partition - math.log(2 * math.pi / 2)) < 1e-12
            True
        """
        if network.coords is None:
            raise TorchscapeError("superposition sampling needs coordinates: use landscape.network(coords=True)")
        if not temperature > 0:
            raise TorchscapeError(f"the temperature must be positive, not {temperature}")
        centres = network.coords.to(potential.device, potential.dtype)
        curvature, modes = torch.linalg.eigh(potential.hessian(centres))
        if not bool((curvature[:, 0] > 1e-10 * curvature[:, -1]).all()):
            raise TorchscapeError(
                "a Hessian has zero or negative eigenvalues, so that its basin is no normal distribution: "
                "add l2 regularisation, or leave out points that are no minima"
            )
        energy = network.levels.to(centres)
        score = -energy / temperature - 0.5 * curvature.log().sum(1)
        volume = 0.5 * potential.ndim * math.log(2 * math.pi * temperature)
        return cls(
            centres=centres,
            modes=modes,
            curvature=curvature,
            log_weight=score.log_softmax(0),
            log_partition=float(score.logsumexp(0)) + volume,
            temperature=temperature,
        )

    def draw(self, key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """One point for each key."""
        ndim, dtype = self.centres.shape[1], self.centres.dtype
        u = random.uniform(random.fold(key, 0), 1, dtype)
        basin = torch.searchsorted(self.log_weight.exp().cumsum(0), u[:, 0]).clamp(max=len(self.centres) - 1)
        z = random.normal(random.fold(key, 1), ndim, dtype) * (self.temperature / self.curvature[basin]).sqrt()
        return self.centres[basin] + torch.bmm(self.modes[basin], z[:, :, None])[:, :, 0]

    def log_prob(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """ln q(x), normalised: N D^2 operations a row."""
        rows = rows_that_fit(self.centres.numel(), x.device, on_host=ONE_LARGE)
        parts = [self._log_prob(part) for part in x.split(rows)]
        return torch.cat(parts) if parts else x.new_zeros(0)

    def _log_prob(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        along = torch.einsum("nbd,nde->nbe", x[None] - self.centres[:, None], self.modes)
        square = torch.einsum("nbe,ne->bn", along.square(), self.curvature) / self.temperature
        volume = (self.curvature / (2 * math.pi * self.temperature)).log().sum(1)
        return (self.log_weight + 0.5 * (volume - square)).logsumexp(1)


@brief
@dataclasses.dataclass(frozen=True)
class WeightedSamples:
    """Independent points with weights: averages are sum_s w_s f(x_s), with w normalised.

    Attributes:
        x, energy: points and U.
        log_weight: ln of the normalised weights.
        log_partition: estimate of ln of the integral of exp(-U / T) dx; unbiased before the logarithm.
        ess: Kish's effective sample size 1 / sum w^2; far below the number of points, trust nothing.
    """

    x: Float[Tensor, "S D"]
    energy: Float[Tensor, "S"]
    log_weight: Float[Tensor, "S"]
    log_partition: float
    ess: float

    def mean(self, values: Float[Tensor, "S *O"]) -> Float[Tensor, "*O"]:
        """Weighted mean of a quantity known at every point."""
        return torch.einsum("s...,s->...", values, self.log_weight.exp())


def reweight(
    potential: Potential, mixture: HarmonicMixture, n: int, *, temperature: float | None = None, seed: int = 0
) -> WeightedSamples:
    """``n`` draws of the mixture with weights exp(-U / T) / q. Draws outside a box weigh nothing.

    Args:
        potential: U.
        mixture: where to draw.
        n: draws.
        temperature: T; that of the mixture by default.
        seed: of the draws.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> u, minima = Quadratic([1.0, 4.0]), Network.of([0.0], [], [], coords=torch.zeros(1, 2).double())
        >>> round(reweight(u, HarmonicMixture.of(u, minima), 500).ess)  # nothing to correct
        500
    """
    COUNT_OR_ZERO.check("reweight", n=n)
    POSITIVE.or_none.check("reweight", temperature=temperature)
    SEED.check("reweight", seed=seed)
    t = mixture.temperature if temperature is None else temperature
    x = mixture.draw(random.fold(seed, torch.arange(n, device=mixture.centres.device)))
    inside, where = _inside(potential, x)
    energy = torch.cat([potential.energy(part).detach() for part in where.split(potential.max_rows)])
    score = torch.where(inside, -energy / t - mixture.log_prob(x), -torch.inf)
    log_weight = score.log_softmax(0)
    return WeightedSamples(
        x=x,
        energy=energy,
        log_weight=log_weight,
        log_partition=float(score.logsumexp(0)) - math.log(n),
        ess=float(torch.exp(-(2 * log_weight).logsumexp(0))),
    )


@dataclasses.dataclass(frozen=True)
class Superposition(Sampler):
    """Independence Metropolis: propose x' from the mixture, accept with min(1, w(x') / w(x)), w = exp(-U / T) / q.

    Reference: L. Tierney, Ann. Stat. 22, 1701 (1994), doi 10.1214/aos/1176325750, for the independence chain.

    Attributes:
        mixture: where proposals come from; its temperature should be that of the chains, or a little above.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> from torchscape.sampling import sample
        >>> u, minima = Quadratic([1.0, 4.0]), Network.of([0.0], [], [], coords=torch.zeros(1, 2).double())
        >>> sampler = Superposition(HarmonicMixture.of(u, minima))
        >>> samples = sample(u, torch.zeros(3, 2).double(), sampler=sampler, steps=5)
        >>> round(samples.acceptance.min().item(), 6)
        1.0
    """

    mixture: HarmonicMixture

    has_momenta = False
    is_exact = True

    def fresh(self, potential: Potential, state: Chains) -> Float[Tensor, "B"]:
        return self.mixture.log_prob(state.x)

    def step(self, potential: Potential, state: Chains) -> Chains:
        key = random.fold(state.key, state.n_steps)
        x = self.mixture.draw(key)
        inside, where = _inside(potential, x)
        energy, grad = potential.energy_and_grad(where)
        log_q = self.mixture.log_prob(x)
        change = (state.energy - energy) / state.temperature + state.memory - log_q
        acceptance = torch.where(inside, change.clamp(max=0.0).exp(), 0.0).nan_to_num(nan=0.0)
        taken = random.uniform(random.fold(key, 2), 1, x.dtype)[:, 0] < acceptance
        take = taken[:, None]
        return self.advanced(
            state,
            1,
            x=torch.where(take, x, state.x),
            energy=torch.where(taken, energy, state.energy),
            grad=torch.where(take, grad, state.grad),
            acceptance=acceptance,
            memory=torch.where(taken, log_q, state.memory),
        )


def _inside(potential: Potential, x: Float[Tensor, "B D"]) -> tuple[Tensor, Tensor]:
    """Which rows lie in the box, and where to evaluate: U need not exist outside."""
    if potential.bounds is None:
        return torch.ones_like(x[:, 0], dtype=torch.bool), x
    clamped = potential.bounds.clamp(x)
    return (clamped == x).all(1), clamped
