"""Bayesian prediction: what draws of a posterior say of new inputs, whichever way they were drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch

from torchscape import analysis, metrics, random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.learning.held_out_data import class_probability
from torchscape.memory import ONE_LARGE, rows_that_fit
from torchscape.network import Network
from torchscape.potentials.base import Potential
from torchscape.potentials.module.potential import ModulePotential
from torchscape.potentials.posterior import Posterior
from torchscape.sampling import HarmonicMixture, Samples, WeightedSamples
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, SEED

__all__ = [
    "BayesianReport",
    "Predictive",
    "PredictiveMoments",
    "bayesian_report",
    "predictive",
    "predictive_moments",
]


@brief
@dataclasses.dataclass(frozen=True)
class Predictive:
    """The posterior predictive distribution of the classes of n items.

    Attributes:
        probability: mean over draws of p(c | x, theta).
        expected_entropy: mean over draws of the entropy of p(c | x, theta), in nats: what more data about the
            parameters would not take away.
    """

    probability: Float[Tensor, "n C"]
    expected_entropy: Float[Tensor, "n"]

    @property
    def entropy(self) -> Float[Tensor, "n"]:
        """Of the predictive distribution."""
        return _entropy(self.probability)

    @property
    def mutual_information(self) -> Float[Tensor, "n"]:
        """Between class and parameters: how much the draws disagree. Never negative but for rounding."""
        return self.entropy - self.expected_entropy


@brief
@dataclasses.dataclass(frozen=True)
class PredictiveMoments:
    """Mean and variance of the posterior predictive distribution of real targets.

    Attributes:
        mean: E f(x).
        function_variance: Var f(x), over the posterior.
        noise_variance: sigma^2 of the observations.
    """

    mean: Float[Tensor, "n *S"]
    function_variance: Float[Tensor, "n *S"]
    noise_variance: float

    @property
    def variance(self) -> Float[Tensor, "n *S"]:
        """Of a new observation: Var f(x) + sigma^2."""
        return self.function_variance + self.noise_variance


def predictive(
    potential: ModulePotential | Posterior,
    draws: Samples | WeightedSamples | Float[Tensor, "S D"],
    inputs: Tensor | tuple[Tensor, ...],
    *,
    weights: Float[Tensor, "S"] | None = None,
) -> Predictive:
    """p(c | x, data) = mean over draws theta of softmax f_theta(x)_c (the logistic function for one output).

    Args:
        potential: whose module gives the logits.
        draws: of any sampler at T = 1 of a :class:`Posterior` (or T = 1 / N of a mean loss); the weighted draws of
            :func:`torchscape.sampling.reweight`; or points, for instance of an ensemble of minima.
        inputs: one tensor, or as many as the module takes.
        weights: of the points, made to add up to one; equal by default.

    Raises:
        TorchscapeError: without draws, or for weights that do not fit.

    Example:
        >>> data = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
        >>> u = ModulePotential(torch.nn.Linear(1, 2), data, torch.nn.functional.cross_entropy)
        >>> opposite = torch.tensor([[-9.0, 9.0, 0.0, 0.0], [9.0, -9.0, 0.0, 0.0]]).double()
        >>> found = predictive(u, opposite, torch.tensor([[1.0]]))
        >>> found.probability.tolist(), round(found.mutual_information.item(), 4)  # ln 2: they disagree
        ([[0.5, 0.5]], 0.6931)
    """
    total: Tensor | None = None
    entropy: Tensor | None = None
    for w, outputs in _outputs(potential, draws, inputs, weights):
        p = class_probability(outputs)
        part, its_entropy = torch.einsum("s,snc->nc", w, p), torch.einsum("s,sn->n", w, _entropy(p))
        total = part if total is None else total + part
        entropy = its_entropy if entropy is None else entropy + its_entropy
    assert total is not None
    assert entropy is not None
    return Predictive(total, entropy)


def predictive_moments(
    potential: ModulePotential | Posterior,
    draws: Samples | WeightedSamples | Float[Tensor, "S D"],
    inputs: Tensor | tuple[Tensor, ...],
    *,
    noise: float = 0.0,
    weights: Float[Tensor, "S"] | None = None,
) -> PredictiveMoments:
    """Mean and variance over draws of f_theta(x), and of a new observation with normal noise.

    Args:
        potential, draws, inputs, weights: of :func:`predictive`.
        noise: standard deviation sigma of the observations.

    Example:
        >>> data = torch.ones(2, 1), torch.ones(2, 1)
        >>> u = ModulePotential(torch.nn.Linear(1, 1), data, torch.nn.functional.mse_loss)
        >>> found = predictive_moments(u, torch.tensor([[1.0, 0.0], [3.0, 0.0]]).double(), data[0][:1], noise=0.5)
        >>> found.mean.item(), found.function_variance.item(), found.variance.item()
        (2.0, 1.0, 1.25)
    """
    mean: Tensor | None = None
    scatter, so_far = torch.zeros(()), 0.0
    for w, outputs in _outputs(potential, draws, inputs, weights):
        share = float(w.sum())
        if share == 0.0:
            continue
        its_mean = torch.einsum("s,s...->...", w, outputs) / share
        its_scatter = torch.einsum("s,s...->...", w, (outputs - its_mean).square())
        if mean is None:
            mean, scatter, so_far = its_mean, its_scatter, share
            continue
        # Chan, Golub & LeVeque: two parts joined without the cancellation of <f^2> - <f>^2.
        whole = so_far + share
        scatter = scatter + its_scatter + (its_mean - mean).square() * (so_far * share / whole)
        mean, so_far = mean + (its_mean - mean) * (share / whole), whole
    assert mean is not None
    return PredictiveMoments(mean, scatter / so_far, noise**2)


@brief
@dataclasses.dataclass(frozen=True)
class BayesianReport:
    """Predictors from one posterior, side by side on held-out data.

    Attributes:
        calibration: scores and reliability of each; printed as a table, drawn by
            :func:`torchscape.plots.calibration`.
        predictive: their predictions, by name.
        members: positions of the minima in the ensembles of minima.
    """

    calibration: metrics.CalibrationComparison
    predictive: Mapping[str, Predictive]
    members: Int[Tensor, "K"]

    def __str__(self) -> str:
        return self.calibration.table()


def bayesian_report(
    posterior: Posterior,
    network: Network,
    test: tuple[Tensor | tuple[Tensor, ...], Int[Tensor, "n"]],
    *,
    samples: Mapping[str, Samples | WeightedSamples | Float[Tensor, "S D"]] | None = None,
    size: int = 10,
    n_draws: int = 1000,
    bins: int = 15,
    seed: int = 0,
) -> BayesianReport:
    """Posterior predictive from minima, from their harmonic mixture, and from samplers, with its calibration.

    Predictors: the lowest minimum; the mean of the ``size`` lowest minima; the same weighted by their harmonic
    occupation; draws of the harmonic mixture of all minima, each counted with its symmetric images (which all
    predict alike); and each of ``samples``.

    Args:
        posterior: of a classifier.
        network: of the minima of ``posterior.potential`` or of ``posterior``, with coordinates.
        test: (inputs, labels).
        samples: draws of the posterior by any sampler at T = 1, by name.
        size: members of the ensembles of minima; all if there are fewer.
        n_draws: of the mixture.
        bins: of the calibration error.
        seed: of the draws.

    Raises:
        TorchscapeError: without coordinates, or if the network's energies are not those of the posterior.

    Example:
        >>> from torchscape.optimise import relax
        >>> data = torch.tensor([[-1.0], [-0.5], [0.4], [1.0]]), torch.tensor([0, 1, 0, 1])
        >>> u = ModulePotential(torch.nn.Linear(1, 2), data, torch.nn.functional.cross_entropy)
        >>> posterior = Posterior(u, prior=1.0)
        >>> minimum = relax(posterior, torch.zeros(1, 4).double())
        >>> network = Network.of(minimum.energy, [], [], coords=minimum.x)
        >>> list(bayesian_report(posterior, network, data).predictive)
        ['lowest minimum', 'harmonic mixture']
    """
    COUNT.check("bayesian_report", size=size, n_draws=n_draws, bins=bins)
    SEED.check("bayesian_report", seed=seed)
    inputs, labels = test
    base, temperature, network = _matched(posterior, network)
    mixture = HarmonicMixture.of(base, network, temperature=temperature)
    score = mixture.log_weight + network.log_degeneracy.to(mixture.log_weight)
    mixture = dataclasses.replace(mixture, log_weight=score.log_softmax(0))
    lowest = analysis.select_lowest(network, min(size, network.n_minima))
    draws: dict[str, tuple[Samples | WeightedSamples | Tensor, Tensor | None]] = {
        "lowest minimum": (mixture.centres[lowest[:1]], None)
    }
    if len(lowest) > 1:
        draws[f"{len(lowest)} lowest minima"] = mixture.centres[lowest], None
        draws[f"{len(lowest)} lowest, weighted"] = mixture.centres[lowest], mixture.log_weight[lowest].softmax(0)
    key = random.fold(seed, torch.arange(n_draws, device=posterior.device))
    draws["harmonic mixture"] = mixture.draw(key), None
    draws |= {name: (one, None) for name, one in (samples or {}).items()}
    found = {name: predictive(posterior, x, inputs, weights=w) for name, (x, w) in draws.items()}
    probabilities = {name: one.probability for name, one in found.items()}
    scores = metrics.compare_calibration(probabilities, labels.to(posterior.device), bins=bins)
    return BayesianReport(scores, found, lowest)


def _matched(posterior: Posterior, network: Network) -> tuple[Potential, float, Network]:
    """The potential whose energies the network holds, and the temperature at which it is the posterior."""
    if network.coords is None:
        raise TorchscapeError("minima need coordinates to predict: use landscape.network(coords=True)")
    network = network.to(posterior.device)
    x = network.coords.to(posterior.dtype)  # type: ignore[union-attr]
    energy = posterior.energy(x).detach()
    tolerance = 1e-6 * energy.abs().max()
    for potential, scale in ((posterior.potential, posterior.scale), (posterior, 1.0)):
        if bool(((scale * network.energy.to(energy) - energy).abs() <= tolerance).all()):
            return potential, 1 / scale, network
    raise TorchscapeError(
        "the network's energies are not those of this posterior: explore posterior.potential, "
        "whose l2 is the prior"
    )


def _outputs(
    potential: ModulePotential | Posterior,
    draws: Samples | WeightedSamples | Tensor,
    inputs: Tensor | tuple[Tensor, ...],
    weights: Tensor | None,
) -> Iterator[tuple[Float[Tensor, "S"], Tensor]]:
    """Normalised weights and outputs of the draws, some at a time."""
    if isinstance(draws, WeightedSamples):
        x, weights = draws.x, draws.log_weight.exp()
    else:
        x = draws.points if isinstance(draws, Samples) else draws
    if not len(x):
        raise TorchscapeError("there are no draws to predict from: give one or more, of chains that are alive")
    if weights is not None and (weights.shape != x.shape[:1] or not bool((weights >= 0).all())):
        raise TorchscapeError(f"give one weight, not negative, for each of {len(x)} draws: {list(weights.shape)}")
    w = x.new_ones(len(x)) if weights is None else weights.to(x)
    w = w / w.sum()
    first = inputs[0] if isinstance(inputs, tuple) else inputs
    device = potential.device  # long records of draws lie on the host
    one = potential.predict(x[:1].to(device), inputs)
    rows = rows_that_fit(max(one.numel(), first.numel()), device, on_host=ONE_LARGE)
    for part, its_weights in zip(x.split(rows), w.split(rows), strict=True):
        yield its_weights.to(device), potential.predict(part.to(device), inputs)


def _entropy(probability: Float[Tensor, "*S C"]) -> Float[Tensor, "*S"]:
    return -torch.special.xlogy(probability, probability).sum(-1)
