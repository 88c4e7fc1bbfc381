"""Posterior predictive: conjugate linear regression, logistic regression by quadrature, minima of a landscape."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from learning_models import blobs, classifier

from torchscape import analysis, metrics
from torchscape.errors import TorchscapeError
from torchscape.learning import bayesian, bayesian_report, held_out, predictive, predictive_moments
from torchscape.network import Network
from torchscape.optimise import relax
from torchscape.potentials import ModulePotential, Posterior
from torchscape.sampling import BAOAB, HMC, HarmonicMixture, reweight, sample

NOISE, PRIOR = 0.5, 2.0


@pytest.fixture
def regression(device):
    """Features 1, x, x^2 with known noise: the posterior, its mean and covariance in closed form, new inputs."""
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(15, generator=generator).double() * 2 - 1
    features = torch.stack([torch.ones_like(x), x, x**2], 1)
    y = torch.sin(2 * x) + NOISE * torch.randn(15, generator=generator).double()
    net = torch.nn.Linear(3, 1, bias=False)
    u = ModulePotential(net, (features, y[:, None]), torch.nn.functional.mse_loss, device=device)
    posterior = Posterior(u, scale=15 / (2 * NOISE**2), prior=PRIOR)
    covariance = torch.linalg.inv(features.T @ features / NOISE**2 + torch.eye(3).double() / PRIOR**2)
    mean = covariance @ features.T @ y / NOISE**2
    new = torch.linspace(-2, 2, 9).double()
    new = torch.stack([torch.ones_like(new), new, new**2], 1)
    return posterior, mean, covariance, new


def minimum_of(potential, start) -> Network:
    found = relax(potential, start.to(potential.device))
    return Network.of(found.energy, [], [], coords=found.x)


def test_moments_of_linear_regression_are_exact(regression):
    """Six points mu +- sqrt(3) L e_i have the posterior's mean and covariance, which is all that the predictive
    mean and variance depend on: x.mu and x.S x + sigma^2."""
    posterior, mean, covariance, new = regression
    mixture = HarmonicMixture.of(posterior, minimum_of(posterior, torch.zeros(1, 3).double()))
    torch.testing.assert_close(mixture.centres[0].cpu(), mean, atol=1e-7, rtol=0)
    modes = mixture.modes[0] / mixture.curvature[0].sqrt()
    torch.testing.assert_close((modes @ modes.T).cpu(), covariance)
    points = torch.cat([mixture.centres + 3**0.5 * sign * modes.T for sign in (1, -1)])
    found = predictive_moments(posterior, points, new.to(posterior.device), noise=NOISE)
    torch.testing.assert_close(found.mean[:, 0].cpu(), new @ mean, atol=1e-6, rtol=0)
    exact = torch.einsum("nd,de,ne->n", new, covariance, new)
    torch.testing.assert_close(found.function_variance[:, 0].cpu(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.variance[:, 0].cpu(), exact + NOISE**2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("sampler", [BAOAB(0.15), HMC(0.2, n_leapfrog=8)], ids=["BAOAB", "HMC"])
def test_moments_of_linear_regression_from_samplers(regression, sampler):
    posterior, mean, covariance, new = regression
    starts = posterior.sample(600)
    samples = sample(posterior, starts, sampler=sampler, steps=30, burn_in=60, thin=10)
    found = predictive_moments(posterior, samples, new.to(posterior.device), noise=NOISE)
    exact = torch.einsum("nd,de,ne->n", new, covariance, new)
    # At least 600 independent chains of a few independent draws: 4.5 standard errors of 1000 draws.
    z = (found.mean[:, 0].cpu() - new @ mean) / exact.sqrt()
    assert float(z.abs().max()) < 4.5 / 1000**0.5
    ratio = found.function_variance[:, 0].cpu() / exact
    assert float((ratio - 1).abs().max()) < 4.5 * (2 / 1000) ** 0.5


def logistic() -> tuple[Posterior, torch.Tensor]:
    x = torch.tensor([-2.0, -1.2, -0.3, 0.2, 0.9, 1.1, 2.5]).double()[:, None]
    y = torch.tensor([0, 0, 1, 0, 1, 0, 1]).double()
    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Flatten(0))
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    return Posterior(ModulePotential(net, (x, y), bce), prior=1.5), torch.linspace(-4, 4, 7).double()[:, None]


def logistic_exact(posterior: Posterior, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """p(1 | x) and the expected entropy by a fine grid over slope and offset: spectrally accurate."""
    grid = torch.linspace(-12, 12, 151).double()
    theta = torch.cartesian_prod(grid, grid)
    weight = (-posterior.energy(theta)).softmax(0)
    p = torch.special.expit(theta[:, :1] * new.T + theta[:, 1:])
    entropy = torch.special.entr(p) + torch.special.entr(1 - p)
    return weight @ p, weight @ entropy


def test_logistic_regression_by_quadrature():
    """Draws of HMC, and weighted draws of the harmonic mixture; the mixture by itself is not the answer."""
    posterior, new = logistic()
    exact, exact_entropy = logistic_exact(posterior, new)
    samples = sample(posterior, posterior.sample(900), sampler=HMC(0.5, n_leapfrog=6), steps=20, burn_in=40)
    mixture = HarmonicMixture.of(posterior, minimum_of(posterior, torch.zeros(1, 2).double()))
    weighted = reweight(posterior, mixture, 20000)
    for draws in (samples, weighted):
        found = predictive(posterior, draws, new)
        torch.testing.assert_close(found.probability[:, 1], exact, atol=0.01, rtol=0)
        torch.testing.assert_close(found.expected_entropy, exact_entropy, atol=0.01, rtol=0)
        torch.testing.assert_close(
            found.entropy, torch.special.entr(exact) + torch.special.entr(1 - exact), atol=0.015, rtol=0
        )
    unweighted = predictive(posterior, weighted.x, new).probability[:, 1]
    assert float((unweighted - exact).abs().max()) > 0.015
    mode = predictive(posterior, mixture.centres, new)
    assert float(mode.mutual_information.abs().max()) < 1e-12  # one network does not disagree with itself
    # Averaging over parameters makes predictions far from the data less sure.
    assert float(mode.probability[-1, 1]) > float(exact[-1])


def test_draws_may_be_split_in_any_way(monkeypatch):
    u = classifier()
    x, inputs = u.sample(23), blobs(11, seed=3)[0]
    weights = torch.rand(23, generator=torch.Generator().manual_seed(0)).double()
    weights[5:9] = 0.0
    whole = predictive(u, x, inputs, weights=weights), predictive_moments(u, x, inputs, weights=weights)
    for numbers in (1, 100):
        monkeypatch.setattr(bayesian, "ONE_LARGE", numbers)
        parts = predictive(u, x, inputs, weights=weights), predictive_moments(u, x, inputs, weights=weights)
        for one, other in zip(whole, parts, strict=True):
            for a, b in zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True):
                torch.testing.assert_close(a, b)
    p = held_out(u, x, inputs, torch.zeros(11, dtype=torch.int64)).probability
    share = weights / weights.sum()
    torch.testing.assert_close(whole[0].probability, torch.einsum("s,snc->nc", share, p))
    torch.testing.assert_close(whole[0].probability, metrics.mean_probability(p, weights))
    outputs = u.predict(x, inputs)
    mean = torch.einsum("s,snc->nc", share, outputs)
    torch.testing.assert_close(whole[1].mean, mean)
    torch.testing.assert_close(whole[1].function_variance, torch.einsum("s,snc->nc", share, (outputs - mean) ** 2))


# --- a landscape's minima ---------------------------------------------------------------------------------


def several_minima(u) -> Network:
    """Distinct minima of a small classifier, by energy."""
    found = relax(u, u.sample(40))
    energy, first = [], []
    for row in found.energy.argsort().tolist():
        if bool(found.converged[row]) and (not energy or float(found.energy[row]) > energy[-1] + 1e-7):
            energy.append(float(found.energy[row]))
            first.append(row)
    return Network.of(energy, [], [], coords=found.x[first])


def test_report_holds_every_predictor_and_their_scores():
    u = classifier(hidden=3, l2=1e-3)
    posterior, test = Posterior(u), blobs(300, seed=9)
    network = several_minima(u)
    samples = sample(posterior, network.coords.repeat(4, 1), sampler=BAOAB(0.1), steps=100, burn_in=100, thin=5)
    report = bayesian_report(posterior, network, test, samples={"BAOAB": samples}, size=3, n_draws=400)
    assert report.calibration.n_items == 300
    k = min(3, network.n_minima)
    names = ["lowest minimum", f"{k} lowest minima", f"{k} lowest, weighted", "harmonic mixture", "BAOAB"]
    assert k > 1
    assert list(report.predictive) == names
    lowest = held_out(u, network.coords, *test)
    scores = report.calibration.calibration
    assert scores["lowest minimum"].nll == pytest.approx(float(lowest.loss[network.global_minimum]), rel=1e-9)
    assert scores["lowest minimum"].accuracy == pytest.approx(float(lowest.accuracy[network.global_minimum]))
    # 60 data for 15 parameters: averaging over the posterior beats its mode.
    assert scores["BAOAB"].nll < scores["lowest minimum"].nll
    assert "BAOAB" in str(report)


def test_minima_are_weighed_by_their_harmonic_occupation_at_one_over_n():
    """Degeneracy times exp(-N E) / sqrt(det), against the occupation probabilities of the network at T = 1 / N."""
    u = classifier(hidden=3, l2=1e-3)
    found, test = several_minima(u), blobs(80, seed=1)
    network = dataclasses.replace(
        found,
        log_det=torch.linalg.slogdet(u.hessian(found.coords))[1],
        log_degeneracy=torch.arange(found.n_minima).double() * math.log(30.0),
    )
    weights = analysis.occupation(network, 1 / u.n_samples)
    p = held_out(u, network.coords, *test).probability
    report = bayesian_report(Posterior(u), network, test, size=3, n_draws=10)
    exact = metrics.mean_probability(p, weights)
    torch.testing.assert_close(report.predictive["3 lowest, weighted"].probability, exact, atol=1e-8, rtol=0)
    plain = bayesian_report(Posterior(u), found, test, size=3, n_draws=10)
    assert float((plain.predictive["3 lowest, weighted"].probability - exact).abs().max()) > 0.01


def test_a_network_of_the_posterior_says_the_same_as_one_of_its_potential():
    u = classifier(hidden=3, l2=1e-3)
    network, posterior, test = several_minima(u), Posterior(u), blobs(50, seed=1)
    scaled = dataclasses.replace(network, energy=network.energy * posterior.scale)
    one, other = (bayesian_report(posterior, n, test, size=2, n_draws=300) for n in (network, scaled))
    for name in one.predictive:
        torch.testing.assert_close(
            one.predictive[name].probability, other.predictive[name].probability, atol=1e-6, rtol=0
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: dataclasses.replace(net, energy=net.energy + 0.1), "explore posterior.potential"),
        (lambda net: dataclasses.replace(net, coords=None), "coordinates"),
    ],
)
def test_reports_refuse_networks_of_other_potentials(change, message):
    u = classifier(l2=1e-2)
    network = minimum_of(u, torch.zeros(1, u.ndim).double() + 0.1 * u.sample(1))
    with pytest.raises(TorchscapeError, match=message):
        bayesian_report(Posterior(u), change(network), blobs(20))


def test_draws_and_weights_must_fit():
    u = classifier()
    with pytest.raises(TorchscapeError, match="no draws"):
        predictive(u, torch.zeros(0, u.ndim).double(), blobs(3)[0])
    with pytest.raises(TorchscapeError, match="one weight"):
        predictive(u, u.sample(2), blobs(3)[0], weights=torch.tensor([1.0, -1.0]))
