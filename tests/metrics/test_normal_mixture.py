"""Mixtures of normal distributions as predictions: against SciPy, quadrature, and targets drawn from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats

from torchscape import metrics, random
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.metrics import NormalMixture, normal_mixture

K, M = 3, 5


def mixture(device="cpu", m=M, spread=2.0) -> NormalMixture:
    draws = random.normal(random.fold(1, torch.arange(K)), 2 * m)
    weight = torch.tensor([0.0, -1.0, 0.7], dtype=torch.float64)
    return NormalMixture.of(
        (spread * draws[:, :m]).to(device), (0.6 * draws[:, m:]).exp().to(device), weight.to(device)
    )


def theirs(p: NormalMixture, j: int):
    """Weights and SciPy's normal distributions of item j."""
    weight = special.softmax([0.0, -1.0, 0.7])
    return weight, stats.norm(p.means[:, j].cpu().numpy(), p.variances[:, j].cpu().numpy() ** 0.5)


def test_density_distribution_and_quantiles_are_scipys(device, monkeypatch):
    p = mixture(device)
    y = torch.linspace(-40, 3, M, dtype=torch.float64, device=device)  # far out, every density underflows
    lower = p.quantile(0.05)
    for j in range(M):
        weight, each = theirs(p, j)
        expected = special.logsumexp(each.logpdf(float(y[j])), b=weight)
        assert p.log_density(y)[j].item() == pytest.approx(expected, rel=1e-12)
        assert p.cdf(y)[j].item() == pytest.approx(weight @ each.cdf(float(y[j])), rel=1e-12)
        root = optimize.brentq(lambda z, w=weight, e=each: w @ e.cdf(z) - 0.05, -50, 50, xtol=1e-13)
        assert lower[j].item() == pytest.approx(root, abs=1e-9)
        mean = weight @ each.mean()
        assert p.expectation[j].item() == pytest.approx(mean)
        assert p.variance[j].item() == pytest.approx(weight @ (each.var() + each.mean() ** 2) - mean**2)
    whole = p.log_density(y)
    monkeypatch.setattr(normal_mixture, "SOME_LARGE", 1)  # an item at a time
    assert torch.equal(p.log_density(y), whole)


def test_divergence_is_the_integral(device):
    p, zero = mixture(device), torch.zeros(1, M, dtype=torch.float64, device=device)
    found = p.divergence(NormalMixture.of(zero, zero + 4))
    for j in range(M):
        weight, each = theirs(p, j)

        def gap(y, w=weight, e=each):
            density = w @ e.pdf(y)
            return density * (math.log(density) - stats.norm(0, 2).logpdf(y)) if density > 0 else 0.0

        exact = integrate.quad(gap, -20, 20, points=sorted(each.mean()), limit=400)[0]
        assert found[j].item() == pytest.approx(exact, rel=2e-2)


def test_a_true_predictor_gains_its_divergence_and_is_calibrated(device):
    """Targets drawn from the mixture: the gain over another predictor is the divergence, and intervals cover."""
    m = 4000
    p = mixture(device, m)
    weight, u = p.log_weight.exp(), random.uniform(random.fold(2, torch.arange(m)), 1)[:, 0].to(device)
    chosen = torch.searchsorted(weight.cumsum(0), u).clamp(max=K - 1)
    z = random.normal(random.fold(3, torch.arange(m)), 1)[:, 0].to(device)
    item = torch.arange(m, device=device)
    y = p.means[chosen, item] + p.variances[chosen, item].sqrt() * z
    normal = NormalMixture.of(p.expectation[None], p.variance[None])
    found = metrics.compare_regression({"normal": normal, "true": p}, y, levels=(0.5, 0.8, 0.95))
    assert abs(found.gain[1] - p.divergence(normal).mean()) < 4 * found.gain_error[1]
    assert found.gain[1] > 4 * found.gain_error[1]
    paired = (p.log_density(y) - normal.log_density(y)).std() / m**0.5
    assert found.gain_error[1].item() == pytest.approx(float(paired), rel=0.1)
    level = torch.tensor(found.levels, dtype=torch.float64, device=y.device)
    binomial = (level * (1 - level) / m).sqrt()
    assert ((found.coverage[1] - level).abs() < 4 * binomial).all()
    assert torch.allclose(found.coverage_error[1], binomial, rtol=0.15)
    density = p.log_density(y)
    assert found.log_density_error[1].item() == pytest.approx(float(density.std()) / m**0.5, rel=0.1)
    assert found.rmse[0].item() == pytest.approx(np.sqrt(np.mean((y - p.expectation).cpu().numpy() ** 2)))
    assert found.rmse_gain.abs().max() < 1e-12  # the same expectation
    assert "4000 items" in str(found)


def test_mistakes_are_named():
    one = torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(TorchscapeError, match="positive variances"):
        NormalMixture.of(one, 0 * one)
    with pytest.raises(TorchscapeError, match="one component"):
        NormalMixture.of(one[:0], one[:0])
    p = NormalMixture.of(one, one)
    with pytest.raises(TorchscapeError, match="not at 1"):
        p.quantile(1.0)
    with pytest.raises(TorchscapeError, match="'a' predicts 2 items, but there are 3"):
        metrics.compare_regression({"a": p}, torch.zeros(3))
    with pytest.raises(TorchscapeError, match="at least one"):
        metrics.compare_regression({}, torch.zeros(3))
    with pytest.raises(TorchscapeError, match="between 0 and 1"):
        metrics.compare_regression({"a": p}, torch.zeros(2), levels=(90.0,))
    with pytest.raises(UnknownName, match="known: a"):
        metrics.compare_regression({"a": p}, torch.zeros(2), baseline="b")
