"""The landscape of a Gaussian process's hyperparameters: its basins, their evidence, and what they foresee."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from torchscape import metrics
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.learning.gp.boxed_mixture import BoxedMixture
from torchscape.optimise import relax
from torchscape.points import Status
from torchscape.potentials.gaussian_process import GaussianProcessPotential
from torchscape.saddles.distinct import first_of_each
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, SEED

__all__ = ["HyperparameterLandscape", "hyperparameter_landscape", "hyperparameter_minima"]

_RELEVANT = 0.01  # a basin of less weight changes no prediction


@brief
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


def _systematic(log_weight: Float[Tensor, "S"], n: int) -> Int[Tensor, "n"]:
    """Positions of ``n`` draws of equal weight in place of weighted ones, by systematic resampling."""
    u = (torch.arange(n, device=log_weight.device, dtype=log_weight.dtype) + 0.5) / n
    return torch.searchsorted(log_weight.softmax(0).cumsum(0), u).clamp(max=len(log_weight) - 1)
