"""Gaussian processes: one set of hyperparameters, a mixture over minima, or sampling; and which is needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from torchscape import metrics
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.learning.gp.hyperparameters import HyperparameterLandscape, hyperparameter_landscape
from torchscape.learning.gp.sampling import hyperparameter_hmc, thinned
from torchscape.metrics import NormalMixture, RegressionComparison
from torchscape.potentials.gaussian_process import GaussianProcessPotential
from torchscape.sampling import Diagnosis, Samples, diagnose
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, SEED

__all__ = ["Foresight", "GPEnsembleReport", "foresight", "gp_ensemble_report"]

_SAMPLED = "HMC"  # its name among the predictors
_BASELINE = "lowest minimum"


@brief
@dataclasses.dataclass(frozen=True)
class GPEnsembleReport:
    """Predictive distributions of one Gaussian process on held-out data, and what its landscape had foreseen.

    Attributes:
        comparison: log density, RMSE and coverage of each predictor.
        landscape: the indicators that were known before sampling.
        predictions: of each predictor at the test inputs, by name.
        samples: hyperparameters drawn by HMC.
        diagnosis: whether these can be trusted.
        members: hyperparameters of each predictor [K D], by name, to predict elsewhere; weights are those of
            ``predictions``.
    """

    comparison: RegressionComparison
    landscape: HyperparameterLandscape
    predictions: Mapping[str, NormalMixture]
    samples: Samples
    diagnosis: Diagnosis
    members: Mapping[str, Float[Tensor, "K D"]]

    @property
    def gain(self) -> tuple[float, float]:
        """Log density per item that HMC gained over the lowest minimum, and its standard error."""
        k = self.comparison.names.index(_SAMPLED)
        return float(self.comparison.gain[k]), float(self.comparison.gain_error[k])

    @property
    def verdict(self) -> str:
        """Foreseen and found gain of HMC, in a sentence."""
        (gain, error), foreseen = self.gain, self.landscape.foreseen["reweighted"]
        beyond = "" if abs(gain) > 2 * error else ", not beyond two standard errors"
        return (
            f"HMC gained {gain:+.3f} ± {error:.3f} in log density{beyond}; foreseen {foreseen:+.3f} "
            f"(at {self.landscape.n_evaluations} energies, against {self.n_gradients} gradients)"
        )

    @property
    def n_gradients(self) -> int:
        """Gradients that HMC spent, burn-in and all rungs of a ladder included."""
        return self.samples.state.n_evaluations * len(self.samples.state)

    def __str__(self) -> str:
        found = self.diagnosis
        return "\n".join(
            [
                str(self.landscape),
                self.comparison.table(),
                f"HMC: {len(self.samples.status)} chains, R-hat {found.r_hat:.3f}, effective sample size "
                f"{found.ess:.0f}, acceptance {found.acceptance:.2f}",
                *(f"  {warning}" for warning in found.warnings),
                self.verdict,
            ]
        )


def gp_ensemble_report(
    potential: GaussianProcessPotential,
    test: tuple[Float[Tensor, "m d"], Float[Tensor, "m"]],
    *,
    validation: tuple[Float[Tensor, "v d"], Float[Tensor, "v"]] | None = None,
    minima: Float[Tensor, "N D"] | None = None,
    samples: Samples | None = None,
    n_starts: int = 64,
    n_draws: int = 128,
    noisy: bool = True,
    levels: Sequence[float] = (0.5, 0.9),
    n_bootstrap: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> GPEnsembleReport:
    """Single minima, mixtures over minima, and draws of the posterior of the hyperparameters, on held-out data.

    The prior of the hyperparameters is uniform in the box of the potential, so that exp(-U) is their posterior.
    Predictors: the lowest minimum (the baseline); the mixture over all minima with equal weights and by harmonic
    evidence; the evidence with the harmonic width of each basin, and the same reweighted to the true posterior
    (neither needs a chain); HMC. With validation data also the single minimum that is best there, and the mixture
    with the weights that are best there.

    Args:
        potential: in a finite box.
        test: (inputs, targets) for the comparison, and for nothing else.
        validation: (inputs, targets) for choices and weights.
        minima: known ones; quenched from ``n_starts`` random starts by default.
        samples: draws of exp(-U) made elsewhere, for instance by :func:`settled_hmc`, which goes on until they can
            be trusted; :func:`hyperparameter_hmc` by default.
        n_starts, n_draws: of :func:`hyperparameter_landscape`; HMC predicts from at most eight times ``n_draws``.
        noisy: whether targets carry noise as those of the training do.
        levels: of central intervals.
        n_bootstrap: samples of test items.
        seed: of everything random.
        progress: show a progress bar while sampling.

    Raises:
        TorchscapeError: without minima or a finite box, or for ``samples`` without positions.

    Reference: M. P. Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, section 6.

    Example:
        >>> x = torch.linspace(0, 1, 12).double()
        >>> u, far = GaussianProcessPotential(x[::2], (6 * x[::2]).sin()), (x[1::2, None], (6 * x[1::2]).sin())
        >>> draws = hyperparameter_hmc(u, n_chains=4, steps=20, burn_in=10)
        >>> list(gp_ensemble_report(u, far, samples=draws, n_starts=8).predictions)[0]
        'lowest minimum'
    """
    COUNT.check("gp_ensemble_report", n_starts=n_starts, n_draws=n_draws)
    COUNT_OR_ZERO.check("gp_ensemble_report", n_bootstrap=n_bootstrap)
    SEED.check("gp_ensemble_report", seed=seed)
    inputs, targets = test
    landscape = hyperparameter_landscape(
        potential, inputs, minima=minima, n_starts=n_starts, n_draws=n_draws, noisy=noisy, seed=seed
    )
    if samples is None:
        samples = hyperparameter_hmc(potential, landscape=landscape, seed=seed, progress=progress)
    predictions, members = _of_landscape(potential, landscape, validation, noisy)
    members[_SAMPLED] = thinned(samples.points, 8 * n_draws).to(landscape.basins.centres.device)
    predictions[_SAMPLED] = NormalMixture.of(*potential.predict(members[_SAMPLED], inputs, noisy=noisy))
    return GPEnsembleReport(
        comparison=metrics.compare_regression(
            predictions, targets.to(potential.device), levels=levels, n_bootstrap=n_bootstrap, seed=seed
        ),
        landscape=landscape,
        predictions=predictions,
        samples=samples,
        diagnosis=diagnose(samples, warn=False),
        members=members,
    )


def _of_landscape(
    potential: GaussianProcessPotential,
    landscape: HyperparameterLandscape,
    validation: tuple[Float[Tensor, "v d"], Float[Tensor, "v"]] | None,
    noisy: bool,
) -> tuple[dict[str, NormalMixture], dict[str, Float[Tensor, "_ D"]]]:
    """What needs no chain: predictions, and the hyperparameters that make them, by name."""
    x = landscape.basins.centres
    seen = landscape.predictions
    apart = seen["minima"]
    predictions = {_BASELINE: seen["best"], "minima, equal": NormalMixture.of(apart.means, apart.variances)}
    predictions["minima, evidence"] = apart
    members = {_BASELINE: x[:1], "minima, equal": x, "minima, evidence": x}
    if validation is not None:
        best, weights = _validated(potential, x, validation, noisy)
        predictions["best on validation"] = NormalMixture.of(apart.means[best], apart.variances[best])
        predictions["minima, stacked"] = NormalMixture.of(apart.means, apart.variances, weights.log())
        members |= {"best on validation": x[best], "minima, stacked": x}
    predictions |= {"harmonic basins": seen["basins"], "basins, reweighted": seen["reweighted"]}
    members |= {
        "harmonic basins": landscape.members["basins"],
        "basins, reweighted": landscape.members["reweighted"],
    }
    return predictions, members


@brief
@dataclasses.dataclass(frozen=True)
class Foresight:
    """Whether indicators of the landscape tell what HMC will gain, over R problems.

    Attributes:
        gain, gain_error: of HMC over the lowest minimum, per test item [R].
        names: of the indicators.
        measures: their values [M R].
        correlation: rank correlation of each with the gain, with permutation test and bootstrap limits.
    """

    gain: Float[Tensor, "R"]
    gain_error: Float[Tensor, "R"]
    names: tuple[str, ...]
    measures: Float[Tensor, "M R"]
    correlation: metrics.RankCorrelation

    def __str__(self) -> str:
        found = self.correlation
        width = max(len(name) for name in (*self.names, "indicator"))
        lines = [f"{'indicator':{width}}  {'correlation':>11}  {'95 % limits':>16}  {'p':>7}"]
        for k, name in enumerate(self.names):
            limits = f"{float(found.lower[k]):+.2f} .. {float(found.upper[k]):+.2f}"
            lines.append(
                f"{name:{width}}  {float(found.value[k]):>+11.2f}  {limits:>16}  {float(found.p_value[k]):>7.4f}"
            )
        paid = int((self.gain > 2 * self.gain_error).sum())
        lines.append(f"{len(self.gain)} problems; HMC gained more than two standard errors in {paid} of them")
        return "\n".join(lines)


def foresight(
    reports: Sequence[GPEnsembleReport], *, more: Mapping[str, Float[Tensor, "R"]] | None = None, seed: int = 0
) -> Foresight:
    """Rank correlation of each indicator of the landscape with the gain of HMC over the lowest minimum.

    Args:
        reports: of different training sets: sizes, seeds, functions.
        more: further indicators, one number for each report, for instance the frustration of the network.
        seed: of the permutations.

    Raises:
        TorchscapeError: with fewer than three reports.
    """
    SEED.check("foresight", seed=seed)
    if len(reports) < 3:
        raise TorchscapeError(f"a correlation needs three reports or more, not {len(reports)}")
    gain, error = torch.tensor([report.gain for report in reports], dtype=torch.float64).T
    columns = [report.landscape.measures() for report in reports]
    names = tuple(columns[0])
    measures = torch.tensor([[column[name] for column in columns] for name in names], dtype=torch.float64)
    for name, values in (more or {}).items():
        names, measures = (*names, name), torch.cat([measures, values.to(measures)[None]])
    return Foresight(gain, error, names, measures, metrics.rank_correlation(measures, gain, seed=seed))


def _validated(
    potential: GaussianProcessPotential,
    x: Float[Tensor, "N D"],
    validation: tuple[Float[Tensor, "v d"], Float[Tensor, "v"]],
    noisy: bool,
) -> tuple[Int[Tensor, "1"], Float[Tensor, "N"]]:
    """The minimum of the highest log density on validation data, and the weights of the best mixture there."""
    mean, variance = potential.predict(x, validation[0], noisy=noisy)
    targets = validation[1].to(mean)
    each = [NormalMixture.of(mean[[k]], variance[[k]]).log_density(targets) for k in range(len(x))]
    density = torch.stack(each)
    relative = (density - density.amax(0)).exp()[:, :, None]  # weights do not change with the scale of an item
    weights = metrics.stacking_weights(relative, torch.zeros_like(targets).long()).weights
    return density.mean(1).argmax()[None], weights
