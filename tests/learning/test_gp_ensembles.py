"""Hyperparameters of a Gaussian process: basins in a box, mixtures and HMC, against quadrature by SciPy."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from torchscape import learning, problems, random
from torchscape.errors import TorchscapeError
from torchscape.learning import BoxedMixture, foresight, gp_ensemble_report, hyperparameter_hmc, settled_hmc
from torchscape.potentials import FunctionPotential, GaussianProcessPotential, Matern
from torchscape.potentials.bounds import Bounds
from torchscape.sampling import HMC, SamplingWarning, bulk_ess, r_hat

DATA = Path(__file__).parents[3] / "shared" / "data" / "gp_schwefel_2d_n60.csv"
X = np.linspace(0, 1, 12) + 0.02 * np.sin(9 * np.arange(12))
Y = np.sin(4 * X) + 0.8 * np.cos(31 * X)  # a short and a long length scale both explain it
NEW = np.array([0.05, 0.3, 0.58, 0.95])
LOW, HIGH = math.log(0.01), math.log(5.0)
SIGNAL, NOISE = math.log(2.0), math.log(0.15)


class OneHyperparameter(GaussianProcessPotential):
    """The length scale alone; signal and noise are known."""

    def __init__(self, device="cpu") -> None:
        super().__init__(X, Y, Matern(1.5), device=device)
        self.ndim, self.bounds = 1, Bounds.of([(LOW, HIGH)], device=device)

    def _all(self, x):
        return torch.cat([x, torch.full_like(x, SIGNAL), torch.full_like(x, NOISE)], 1)

    def energy(self, x):
        return super().energy(self._all(x))

    def energy_and_grad(self, x):
        energy, grad = super().energy_and_grad(self._all(x))
        return energy, grad[:, :1]

    def hessian(self, x):
        return super().hessian(self._all(x))[:, :1, :1]

    def predict(self, x, points, *, noisy=False):
        return super().predict(self._all(x), points, noisy=noisy)


def kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    r = math.sqrt(3) * np.abs(a[:, None] - b) / length
    return math.exp(SIGNAL) * (1 + r) * np.exp(-r)


class Quadrature:
    """The posterior of ln l on a fine grid, and its predictions, by SciPy and NumPy alone."""

    def __init__(self) -> None:
        self.grid = np.linspace(LOW, HIGH, 2001)
        log_likelihood, means, variances = [], [], []
        for length in np.exp(self.grid):
            k = kernel(X, X, length) + math.exp(NOISE) * np.eye(len(X))
            log_likelihood.append(stats.multivariate_normal(cov=k).logpdf(Y))
            cross = kernel(NEW, X, length)
            solved = np.linalg.solve(k, cross.T)
            means.append(solved.T @ Y)
            variances.append(math.exp(SIGNAL) + math.exp(NOISE) - (cross * solved.T).sum(1))
        self.log_likelihood = np.array(log_likelihood)
        self.means, self.variances = np.array(means), np.array(variances)
        self.evidence = integrate.simpson(np.exp(self.log_likelihood), x=self.grid)

    def average(self, values: np.ndarray) -> np.ndarray:
        posterior = np.exp(self.log_likelihood) / self.evidence
        return integrate.simpson((posterior * values.T).T, x=self.grid, axis=0)

    def density(self, y: np.ndarray) -> np.ndarray:
        return self.average(stats.norm(self.means, self.variances**0.5).pdf(y))


@pytest.fixture(scope="module")
def exact() -> Quadrature:
    return Quadrature()


def test_one_hyperparameter(exact, device):
    """HMC and the reweighted basins predict as the posterior does; the best minimum does not."""
    u = OneHyperparameter(device)
    inputs, y = torch.as_tensor(NEW)[:, None], exact.means.mean(0) + 0.7
    landscape = learning.hyperparameter_landscape(u, inputs, n_starts=16)
    run = hyperparameter_hmc(
        u, landscape=landscape, n_chains=32, steps=120, burn_in=60, sampler=HMC(0.4, n_leapfrog=6)
    )
    report = gp_ensemble_report(u, (inputs, torch.as_tensor(y)), samples=run, minima=landscape.basins.centres)
    assert report.diagnosis.r_hat < 1.05
    truth = exact.density(y)
    spread = exact.average((stats.norm(exact.means, exact.variances**0.5).pdf(y) - truth) ** 2) ** 0.5
    for name, n in (("HMC", report.diagnosis.ess), ("basins, reweighted", landscape.ess)):
        found = report.predictions[name].log_density(torch.as_tensor(y).to(device)).exp().cpu().numpy()
        assert (np.abs(found - truth) < 4 * spread / n**0.5).all(), name
        mean = report.predictions[name].expectation.cpu().numpy()
        about = (exact.average(exact.means**2) - exact.average(exact.means) ** 2) ** 0.5
        assert (np.abs(mean - exact.average(exact.means)) < 4 * about / n**0.5).all(), name
    single = report.predictions["lowest minimum"].log_density(torch.as_tensor(y).to(device)).exp().cpu().numpy()
    assert (np.abs(single - truth) > 4 * spread / landscape.ess**0.5).any()


def test_settled_chains_weigh_both_basins_as_quadrature_does(exact, device):
    """Chains that started anywhere: their mean and the share of each basin; and what was asked of them holds."""
    settings = {"steps": 25, "ladder": (1.0, 4.0), "sampler": HMC(0.4, n_leapfrog=8), "seed": 2}
    run = settled_hmc(OneHyperparameter(device), r_hat=1.02, n_chains=60, **settings)
    assert float(r_hat(run.x).max()) <= 1.02
    assert float(r_hat(run.energy)) <= 1.02
    n = float(bulk_ess(run.x).min())
    assert n >= 400
    assert run.temperature.tolist() == [1.0] * 60
    x = run.points[:, 0].cpu().numpy()
    mean = exact.average(exact.grid)
    variance = exact.average((exact.grid - mean) ** 2)
    assert x.mean() == pytest.approx(mean, abs=4 * (variance / n) ** 0.5)
    inside = (exact.grid > -4) & (exact.grid < -1)
    barrier = exact.grid[inside][exact.log_likelihood[inside].argmin()]
    share = exact.average((exact.grid < barrier).astype(float))
    assert 0.05 < share < 0.95
    assert (x < barrier).mean() == pytest.approx(share, abs=4 * (share * (1 - share) / n) ** 0.5)


def test_chains_that_do_not_settle_say_so():
    with pytest.warns(SamplingWarning, match="raise max_steps"):
        settled_hmc(OneHyperparameter(), n_chains=4, steps=10, max_steps=10, ess=1e6)
    with pytest.raises(TorchscapeError, match="begin at temperature 1"):
        settled_hmc(OneHyperparameter(), ladder=(2.0, 4.0))
    with pytest.raises(TorchscapeError, match="finite box"):
        settled_hmc(GaussianProcessPotential(X, Y, bounds=[(-math.inf, math.inf)] * 3))


def test_evidence_of_one_hyperparameter(exact):
    """Of the whole box by reweighting; of each basin by its harmonic law, cut at the highest point in between."""
    u = OneHyperparameter()
    basins = BoxedMixture.of(u, learning.hyperparameter_minima(u, n_starts=16))
    weighted = basins.reweighted(u, 4000)
    error = (1 / weighted.ess - 1 / 4000) ** 0.5
    assert weighted.log_partition == pytest.approx(math.log(exact.evidence), abs=4 * error)
    places = basins.centres[:, 0].sort().values.numpy()
    assert len(places) == 2
    between = (exact.grid > places[0]) & (exact.grid < places[1])
    top = exact.grid[between][exact.log_likelihood[between].argmin()]
    left = exact.grid <= top
    shares = [integrate.simpson(np.exp(exact.log_likelihood[part]), x=exact.grid[part]) for part in (left, ~left)]
    found = basins.log_weight[basins.centres[:, 0].argsort()].exp().numpy()
    assert found == pytest.approx(np.array(shares) / sum(shares), abs=0.1)


def edge(a: float, b: float) -> FunctionPotential:
    """Normal in x_0, exponential in x_1, which the wall at 0 holds."""
    return FunctionPotential(
        lambda x: a * (x[0] - 0.3) ** 2 / 2 + b * x[1], 2, [(-1.0, 0.5), (0.0, 2.0)], name=f"edge {a} {b}"
    )


def test_basins_at_walls():
    """The evidence, density and draws of a basin that a wall cuts and another holds, against integrals."""
    a, b = 9.0, 1.5
    basins = BoxedMixture.of(edge(a, b), torch.tensor([[0.3, 0.0]]).double())
    cut = stats.norm(0.3, a**-0.5).cdf(0.5) - stats.norm(0.3, a**-0.5).cdf(-1.0)
    inside = float(basins.inside)
    assert inside == pytest.approx(cut, abs=4 * (cut * (1 - cut) / 256) ** 0.5)
    exact = math.log((2 * math.pi / a) ** 0.5 * (1 - math.exp(-2 * b)) / b)
    assert basins.log_evidence - math.log(inside) == pytest.approx(exact, abs=1e-12)
    assert basins.on_wall.tolist() == [True]

    def density(y, x):
        return float(basins.log_prob(torch.tensor([[x, y]]).double()).exp())

    total = integrate.nquad(density, [(0.0, 2.0), (-1.0, 0.5)], opts={"epsabs": 1e-4, "epsrel": 1e-4})[0]
    assert total == pytest.approx(cut / inside, abs=1e-3)
    drawn = basins.draw(4000, seed=5).numpy()
    assert stats.kstest(drawn[:, 0], stats.truncnorm(-1.3 * 3, 0.6, 0.3, 1 / 3).cdf).pvalue > 1e-3
    assert stats.kstest(drawn[:, 1], stats.truncexpon(2 * b, scale=1 / b).cdf).pvalue > 1e-3
    # exactly of the assumed form: nothing is left to correct
    assert basins.reweighted(edge(a, b), 500).ess == pytest.approx(len(basins.draw(500)), rel=1e-9)


def test_a_plateau_is_one_minimum():
    u = FunctionPotential(
        lambda x: torch.relu(x[0]) ** 2 + 5 * x[1] ** 2, 2, [(-3.0, 3.0), (-1.0, 1.0)], name="shelf"
    )
    basins = BoxedMixture.of(u, torch.tensor([[-2.5, 0.0], [-1.0, 0.0], [-0.2, 0.0]]).double())
    assert len(basins) == 1


def test_without_a_box_there_is_no_evidence():
    u = GaussianProcessPotential(X, Y, bounds=[(-math.inf, math.inf)] * 3)
    with pytest.raises(TorchscapeError, match="finite box"):
        BoxedMixture.of(u, torch.zeros(1, 3).double())
    with pytest.raises(TorchscapeError, match="no minima"):
        BoxedMixture.of(OneHyperparameter(), torch.zeros(0, 1).double())


def test_known_minima_of_the_reference_data():
    """The two inside the box, found independently, are among those that quenches end in."""
    if not DATA.exists():
        pytest.skip(f"reference data {DATA.name} are not beside this checkout")
    u = problems.get("gp", data=str(DATA)).potential
    minima = learning.hyperparameter_minima(u, n_starts=32)
    inside = u.energy(minima[u.bounds.interior(minima, 1e-6)])
    assert inside.tolist() == pytest.approx([69.36769, 72.41933], abs=1e-5)


@pytest.fixture(scope="module")
def report():
    u = GaussianProcessPotential(X, Y)
    new = random.uniform(random.fold(8, torch.arange(40)), 1)
    target = (4 * new[:, 0]).sin() + 0.8 * (31 * new[:, 0]).cos()
    return gp_ensemble_report(
        u,
        (new[:20], target[:20]),
        validation=(new[20:], target[20:]),
        samples=hyperparameter_hmc(u, n_chains=6, steps=30, burn_in=10),
        n_starts=12,
        n_draws=32,
    )


def test_report(report):
    """Weights, choices, and the same numbers again from the members alone."""
    u = GaussianProcessPotential(X, Y)
    landscape, found = report.landscape, report.comparison
    new = random.uniform(random.fold(8, torch.arange(40)), 1)
    target = (4 * new[:, 0]).sin() + 0.8 * (31 * new[:, 0]).cos()
    weight = landscape.basins.log_weight.exp().numpy()
    assert landscape.entropy == pytest.approx(stats.entropy(weight), abs=1e-12)
    assert landscape.n_relevant == (weight >= 0.01).sum()
    assert (landscape.basins.energy.diff() > 0).all()
    for name, mixture in report.predictions.items():
        mean, variance = (values.numpy() for values in u.predict(report.members[name], new[:20], noisy=True))
        logs = stats.norm(mean, variance**0.5).logpdf(target[:20].numpy())
        value = special.logsumexp(logs, axis=0, b=mixture.log_weight.exp().numpy()[:, None]).mean()
        assert found.log_density[found.names.index(name)].item() == pytest.approx(value), name
    mean, variance = u.predict(landscape.basins.centres, new[20:], noisy=True)
    density = stats.norm(mean, variance.sqrt()).logpdf(target[20:].numpy())
    best = report.members["best on validation"]
    assert torch.equal(best[0], landscape.basins.centres[int(density.mean(1).argmax())])
    stacked = report.predictions["minima, stacked"].log_weight.exp().numpy()[:, None]
    assert special.logsumexp(density, axis=0, b=stacked).mean() >= density.mean(1).max() - 1e-5
    assert "HMC gained" in str(report)
    assert "R-hat" in str(report)


def test_foresight_is_a_rank_correlation(report):
    gains = [0.3, -0.1, 0.05, 1.2, 0.4]
    hints = [0.2, 0.0, 0.1, 0.5, 0.3]
    sampled = report.comparison.names.index("HMC")

    def changed(gain: float, hint: float):
        column = report.comparison.gain.clone()
        column[sampled] = gain
        return dataclasses.replace(
            report,
            comparison=dataclasses.replace(report.comparison, gain=column),
            landscape=dataclasses.replace(report.landscape, entropy=hint),
        )

    reports = [changed(*pair) for pair in zip(gains, hints, strict=True)]
    found = foresight(reports, more={"frustration": torch.tensor([5.0, 1.0, 2.0, 3.0, 4.0])})
    values = dict(zip(found.names, found.correlation.value.tolist(), strict=True))
    assert values["entropy"] == pytest.approx(stats.spearmanr(hints, gains)[0])
    assert values["frustration"] == pytest.approx(stats.spearmanr([5, 1, 2, 3, 4], gains)[0])
    assert "5 problems" in str(found)
    with pytest.raises(TorchscapeError, match="three reports"):
        foresight(reports[:2])
