"""HMC over the hyperparameters of a Gaussian process: for so many steps, or until the chains agree."""

from __future__ import annotations

import dataclasses
import warnings

import torch

from torchscape.errors import TorchscapeError
from torchscape.learning.gp.hyperparameters import HyperparameterLandscape
from torchscape.potentials.gaussian_process import GaussianProcessPotential
from torchscape.sampling import HMC, Chains, ParallelTempering, Samples, SamplingWarning, diagnose, sample
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, POSITIVE, SEED

__all__ = ["hyperparameter_hmc", "settled_hmc"]


def hyperparameter_hmc(
    potential: GaussianProcessPotential,
    *,
    landscape: HyperparameterLandscape | None = None,
    n_chains: int = 16,
    steps: int = 1000,
    burn_in: int = 300,
    sampler: HMC | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Samples:
    """HMC of exp(-U) over the hyperparameters, with reflection at the box and step sizes by dual averaging.

    Chains start from all basins alike, so that R-hat says whether they passed between them; without a landscape,
    anywhere in the box. :func:`settled_hmc` passes between basins that these chains cannot leave.

    Args:
        potential: in a box.
        landscape: whose basins the chains start from.
        n_chains: chains, side by side in one batch.
        steps, burn_in: trajectories of each chain.
        sampler: ``HMC(0.2, n_leapfrog=16)`` by default.
        seed: of the chains.
        progress: show a progress bar.

    Example:
        >>> u = GaussianProcessPotential([0.0, 0.5, 1.0], [1.0, -1.0, 0.0])
        >>> hyperparameter_hmc(u, n_chains=2, steps=5, burn_in=5).x.shape
        torch.Size([5, 2, 3])
    """
    COUNT.check("hyperparameter_hmc", n_chains=n_chains, steps=steps)
    COUNT_OR_ZERO.check("hyperparameter_hmc", burn_in=burn_in)
    SEED.check("hyperparameter_hmc", seed=seed)
    starts = potential.sample(n_chains, seed)
    if landscape is not None:
        drawn = landscape.basins.draw(16 * n_chains, seed=seed, equally=True)
        starts = thinned(torch.cat([drawn, starts]) if len(drawn) < n_chains else drawn, n_chains)
    sampler = HMC(0.2, n_leapfrog=16) if sampler is None else sampler
    return sample(potential, starts, sampler=sampler, steps=steps, burn_in=burn_in, seed=seed, progress=progress)


def settled_hmc(
    potential: GaussianProcessPotential,
    *,
    n_chains: int = 8,
    r_hat: float | int = 1.01,
    ess: float | int = 400,
    steps: int = 200,
    max_steps: int = 12800,
    ladder: tuple[float, ...] = (1.0, 3.0, 12.0),
    sampler: HMC | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Samples:
    """HMC of exp(-U) up a ladder of temperatures, prolonged until its chains agree.

    Rounds of ``steps``, 2 ``steps``, 4 ``steps`` ... trajectories go on from each other; the last one is kept, so
    that all before it was burn-in. It is the last when, of the energy and of every coordinate, the largest
    rank-normalised split R-hat and the smallest effective sample size pass. Chains start anywhere in the box, with
    no knowledge of minima. The hot rungs cross from basin to basin, so that each is visited as often as its weight
    asks.

    Args:
        potential: in a finite box.
        n_chains: chains, each with all rungs of the ladder; what is kept are those of temperature 1.
        r_hat, ess: what is asked of them.
        steps: of the first round.
        max_steps: of the last round at most; a :class:`~torchscape.sampling.SamplingWarning` says if that was not
            enough.
        ladder: temperatures, from 1.
        sampler: ``HMC(0.2, n_leapfrog=24, target=0.7)`` by default.
        seed: of starts and chains.
        progress: show a progress bar for each round.

    Returns:
        Samples of temperature 1. Their ``state`` is that of all rungs, its ``n_evaluations`` those of all rounds.

    Raises:
        TorchscapeError: without a finite box, or for a ladder that does not begin at 1.

    References: A. Vehtari et al., Bayesian Anal. 16, 667 (2021), doi 10.1214/20-BA1221, for the criteria;
    :class:`~torchscape.sampling.ParallelTempering` for the exchange.

    Example:
        >>> u = GaussianProcessPotential([0.0, 0.5, 1.0], [1.0, -1.0, 0.0])
        >>> draws = settled_hmc(u, n_chains=4, r_hat=1.2, ess=20, steps=20)
        >>> diagnose(draws, warn=False).r_hat < 1.2
        True
    """
    COUNT.check("settled_hmc", n_chains=n_chains, steps=steps, max_steps=max_steps)
    POSITIVE.check("settled_hmc", r_hat=r_hat, ess=ess)
    SEED.check("settled_hmc", seed=seed)
    box = potential.bounds
    if box is None or not bool(torch.isfinite(box.upper - box.lower).all()):
        raise TorchscapeError("the posterior of hyperparameters needs a finite box, the support of their prior")
    if ladder[0] != 1.0:
        raise TorchscapeError(f"the ladder must begin at temperature 1, which is what is wanted, not {ladder[0]}")
    hmc = HMC(0.2, n_leapfrog=24, target=0.7) if sampler is None else sampler
    tempering = ParallelTempering(hmc, ladder=ladder)
    going: Tensor | Chains = potential.sample(n_chains, seed)
    burn_in = steps
    while True:
        run = sample(
            potential, going, sampler=tempering, steps=steps, burn_in=burn_in, seed=seed, progress=progress
        )
        cold = dataclasses.replace(run.only(slice(0, None, len(ladder))), sampler=hmc)
        if run.interrupted:
            return cold
        found = diagnose(cold, warn=False)
        if found.r_hat <= r_hat and found.ess >= ess:
            return cold
        if 2 * steps > max_steps:
            warnings.warn(
                f"after {steps} steps R-hat is {found.r_hat:.3f} and the effective sample size {found.ess:.0f}: "
                "raise max_steps, or take a ladder that reaches higher",
                SamplingWarning,
                stacklevel=2,
            )
            return cold
        going, steps, burn_in = run.state, 2 * steps, 0


def thinned(draws: Float[Tensor, "S D"], n: int) -> Float[Tensor, "K D"]:
    """At most ``n`` of them, evenly spaced."""
    n = min(n, len(draws))
    return draws[(torch.arange(n, device=draws.device) * len(draws)) // max(1, n)]
