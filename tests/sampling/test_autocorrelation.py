"""Autocorrelation times against closed forms, of reversible chains and of chains that are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from torchscape.potentials import Quadratic
from torchscape.sampling import (
    BAOAB,
    autocorrelation_time,
    effective_sample_size,
    integrated_autocorrelation,
    sample,
)


def autoregression(coefficients, k: int, b: int, seed: int = 0) -> torch.Tensor:
    """x_t = sum_i a_i x_(t-i) + G, long after its start."""
    noise = np.random.default_rng(seed).normal(size=(k + 2000, b))
    return torch.as_tensor(lfilter([1.0], [1.0, *-np.asarray(coefficients)], noise, axis=0)[2000:].copy())


def exact_time(coefficients) -> float:
    """Spectral density at zero over the variance; the variance from the discrete Lyapunov equation."""
    p = len(coefficients)
    step, noise = np.eye(p, k=-1), np.zeros((p, p))
    step[0], noise[0, 0] = coefficients, 1.0
    covariance = np.linalg.solve(np.eye(p * p) - np.kron(step, step), noise.ravel()).reshape(p, p)
    return 1 / (1 - sum(coefficients)) ** 2 / covariance[0, 0]


def swinging(radius: float, angle: float) -> list[float]:
    """Autocorrelations radius^t cos(angle t + phase): underdamped."""
    return [2 * radius * math.cos(angle), -(radius**2)]


@pytest.mark.parametrize(
    "coefficients", [[-0.4], [0.0], [0.5], [0.9], [0.99], swinging(0.9, 0.3), [0.2, 0.0, 0.6]]
)
def test_the_time_of_an_autoregression(coefficients):
    exact = exact_time(coefficients)
    if len(coefficients) == 1:
        rho = coefficients[0]
        assert exact == pytest.approx((1 + rho) / (1 - rho))
    x = autoregression(coefficients, 4000, 50)
    found = integrated_autocorrelation(x)
    assert abs(float(found.value) - exact) < 3.5 * float(found.error)
    assert float(found.error) < 0.1 * exact
    assert float(effective_sample_size(x)) == pytest.approx(200000 / float(autocorrelation_time(x)))


def test_errors_are_as_large_as_the_deviations():
    """Root mean square of (estimate - exact) / error over 60 runs each; 1 if the errors are right."""
    for coefficients, low, high in (([0.0], 0.5, 1.4), ([0.8], 0.5, 1.4), (swinging(0.9, 0.3), 0.4, 1.4)):
        runs = torch.stack([autoregression(coefficients, 1000, 8, seed) for seed in range(60)], 2)
        found = integrated_autocorrelation(runs)
        z = (found.value - exact_time(coefficients)) / found.error
        assert low < float(z.square().mean().sqrt()) < high


def test_a_faint_slow_mode_is_seen():
    """2 % of the variance decay a thousand times slower: 41, most of it from lags at which rho is below 0.02."""
    slow, fast = autoregression([0.999], 10000, 40), autoregression([0.0], 10000, 40, 1)
    x = math.sqrt(0.02 * (1 - 0.999**2)) * slow + math.sqrt(0.98) * fast
    found = integrated_autocorrelation(x)
    assert abs(float(found.value) - (0.98 + 0.02 * 1999)) < 3.5 * float(found.error)


def langevin_time(h: float, friction: float) -> float:
    """Of x under BAOAB in U = x^2 / 2, from the matrix of one step (T = 1)."""
    kick, drift = np.array([[1, 0], [-h / 2, 1]]), np.array([[1, h / 2], [0, 1]])
    c = math.exp(-friction * h)
    before = kick @ drift
    step = before @ np.diag([1, c]) @ drift @ kick
    noise = before @ np.diag([0, 1 - c * c]) @ before.T
    covariance = np.linalg.solve(np.eye(4) - np.kron(step, step), noise.ravel()).reshape(2, 2)
    return 2 * (np.linalg.inv(np.eye(2) - step) @ covariance)[0, 0] / covariance[0, 0] - 1


@pytest.mark.parametrize(("friction", "expected", "steps"), [(0.3, 6.0, 1500), (2.0, 39.867, 1000)])
def test_underdamped_dynamics_get_their_own_time(friction, expected, steps):
    """The first negative pair of autocorrelations gave 21.3 instead of 6.00 at a friction of 0.3."""
    exact = langevin_time(0.1, friction)
    assert exact == pytest.approx(expected, rel=1e-3)
    sampler = BAOAB(0.1, friction=friction)
    starts = torch.randn(
        300_000 // steps, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )  # of the density
    run = sample(Quadratic([1.0]), starts, sampler=sampler, steps=steps, burn_in=20, seed=4)
    found = integrated_autocorrelation(run.x[..., 0])
    assert abs(float(found.value) - exact) < 3.5 * float(found.error)
    assert float(found.error) < 0.1 * exact


def test_the_error_of_the_mean_is_the_spread_of_the_means():
    """400 underdamped chains: the error that the effective sample size gives, beside how their means scatter."""
    x = autoregression(swinging(0.95, 0.2), 1000, 400)
    predicted = float((x.var() * 400 / effective_sample_size(x)).sqrt())
    assert predicted == pytest.approx(float(x.mean(0).std()), rel=0.12)


def test_chains_too_short_to_tell_say_so():
    found = integrated_autocorrelation(autoregression([0.999], 300, 4))
    assert math.isinf(found.error)
    assert bool(integrated_autocorrelation(torch.ones(20, 3)).value.isnan())


def test_the_window_is_that_of_the_definition():
    """The same, by loops over lags as the docstring reads."""
    x = autoregression([0.7], 301, 3).numpy()
    half = len(x) // 2
    x = np.concatenate([x[:half], x[-half:]], 1)
    k, b = x.shape
    n = k * b
    y = x - x.mean(0)
    c = np.array([(y[: k - t] * y[t:]).sum() / ((k - t) * b) for t in range(k)])
    total = c[0] + x.mean(0).var(ddof=1)
    rho = 1 - (c[0] - c) / total
    w = int(integrated_autocorrelation(autoregression([0.7], 301, 3)).window)
    weights = np.clip(2 - np.arange(k) / w, 0, 1)
    tau = max(2 * (weights * rho).sum() - 1, 1 / math.log10(n))
    found = integrated_autocorrelation(autoregression([0.7], 301, 3))
    assert float(found.value) == pytest.approx(tau, rel=1e-10)
    spread = 2 * (rho[: w + 1] ** 2).sum() - 1
    assert w >= 3 * spread
    assert abs(rho[w + 1 : 2 * w + 1].sum()) <= 2 * tau * math.sqrt(w / n)
    assert float(found.error) == pytest.approx(tau * math.sqrt(2 * (8 / 3 * w + 1) / n))
