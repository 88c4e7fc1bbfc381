"""Diagnostics against closed forms, and against plain NumPy and SciPy written chain by chain."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import scipy.stats
import torch

from torchscape.errors import TorchscapeError
from torchscape.points import Status
from torchscape.potentials import Potential, Quadratic
from torchscape.sampling import (
    BAOA,
    BAOAB,
    HMC,
    SamplingWarning,
    autocorrelation,
    bulk_ess,
    configurational_temperature,
    diagnose,
    effective_sample_size,
    r_hat,
    sample,
)


def ar1(rho: float, k: int, b: int, seed: int = 0) -> torch.Tensor:
    """Stationary x_t = rho x_(t-1) + sqrt(1 - rho^2) G: autocorrelation time (1 + rho) / (1 - rho)."""
    noise = torch.randn(k, b, generator=torch.Generator().manual_seed(seed)).double()
    x = torch.empty_like(noise)
    x[0] = noise[0]
    for t in range(1, k):
        x[t] = rho * x[t - 1] + (1 - rho**2) ** 0.5 * noise[t]
    return x


def test_autocovariance_is_the_sum_it_stands_for():
    x = ar1(0.7, 50, 3)
    y = (x - x.mean(0)).numpy()
    direct = np.stack([(y[: 50 - t] * y[t:]).sum(0) / 50 for t in range(50)])
    np.testing.assert_allclose(autocorrelation(x).numpy(), direct, atol=1e-12)


def plain_r_hat(x: np.ndarray) -> float:
    """Rank-normalised split R-hat of [K, B] by scipy's ranks and normal quantiles."""
    half = len(x) // 2
    x = np.concatenate([x[:half], x[-half:]], 1)

    def ratio(values):
        z = scipy.stats.norm.ppf(
            (scipy.stats.rankdata(values).reshape(values.shape) - 3 / 8) / (values.size + 1 / 4)
        )
        k = len(z)
        between, within = k * z.mean(0).var(ddof=1), z.var(axis=0, ddof=1).mean()
        return np.sqrt(((k - 1) / k * within + between / k) / within)

    return max(ratio(x), ratio(np.abs(x - np.median(x))))


SERIES = {
    "white": ar1(0.0, 101, 4),
    "sticky": ar1(0.95, 200, 3),
    "apart": ar1(0.3, 60, 4) + torch.arange(4) / 4,
    "scales": ar1(0.3, 60, 4) * torch.tensor([1, 1, 1, 4.0]),
    "ties": ar1(0.3, 61, 4).round(),
    "cauchy": torch.tan(ar1(0.2, 90, 4)),
}


@pytest.mark.parametrize("name", SERIES)
def test_diagnostics_are_those_of_plain_loops(name):
    x = SERIES[name]
    assert float(r_hat(x)) == pytest.approx(plain_r_hat(x.numpy()), rel=1e-10)


def test_many_quantities_at_once_are_each_on_their_own(device):
    x = torch.stack([ar1(rho, 100, 4, seed) for seed, rho in enumerate((0.1, 0.8, 0.4))], 2).to(device)
    for f in (r_hat, effective_sample_size, bulk_ess):
        torch.testing.assert_close(f(x), torch.stack([f(x[..., i]) for i in range(3)]))


def test_r_hat_sees_location_scale_and_drift_and_no_fault_in_heavy_tails():
    white = ar1(0.0, 2000, 4)
    assert float(r_hat(white)) < 1.01
    assert float(r_hat(torch.tan(torch.pi * (torch.special.ndtr(white) - 0.5)))) < 1.01  # Cauchy
    assert float(r_hat(white + torch.tensor([0, 0, 0, 0.5]))) > 1.01
    assert float(r_hat(white * torch.tensor([1, 1, 1, 1.6]))) > 1.01
    assert float(r_hat(white + torch.linspace(0, 1, 2000)[:, None])) > 1.01
    # Monotone maps change no rank.
    torch.testing.assert_close(bulk_ess(white), bulk_ess(white.exp()))


def test_constants_have_no_diagnosis_and_few_draws_are_refused():
    assert bool(effective_sample_size(torch.ones(20, 3)).isnan())
    assert bool(r_hat(torch.ones(20, 3)).isnan())
    with pytest.raises(TorchscapeError, match="run more steps"):
        r_hat(torch.ones(7, 3))


# --- whole runs -----------------------------------------------------------------------------------------


class Quartic(Potential):
    """U = sum x^4 / 4 + x^2 / 2, coupled weakly."""

    ndim = 3

    def energy(self, x):
        return (x**4 / 4 + x**2 / 2).sum(1) + 0.1 * x[:, 0] * x[:, 1]


@pytest.fixture(scope="module")
def good():
    return sample(
        Quartic(),
        Quartic().sample(900),
        sampler=BAOAB(0.2),
        burn_in=60,
        steps=300,
        thin=6,
        temperature=0.5,
        laplacian=True,
    )


def test_all_three_temperatures_are_the_one_asked_for(good):
    found = diagnose(good)
    assert found.warnings == ()
    assert found.kinetic == pytest.approx(1, abs=0.03)
    assert found.virial == pytest.approx(1, abs=0.02)
    assert found.configurational == pytest.approx(1, abs=0.02)
    assert float(configurational_temperature(good).mean()) == pytest.approx(0.5, rel=0.05)
    assert abs(found.virial - 1) < 5 * found.virial_error + 0.002
    assert found.acceptance == 1
    assert found.autocorrelation_time > 1


def test_the_trace_is_that_of_the_hessian():
    """On a quadratic with diagonal Hessian Hutchinson's estimate is exact."""
    samples = sample(Quadratic([1.0, 5.0]), torch.zeros(3, 2).double(), steps=4, laplacian=True)
    torch.testing.assert_close(samples.laplacian, torch.full((4, 3), 6.0).double())


def broken(samples):
    status = samples.status.clone()
    status[0] = Status.NOT_FINITE
    return dataclasses.replace(samples, status=status)


def apart(samples):
    x = samples.x.clone()
    x[:, :100] += 1
    return dataclasses.replace(samples, x=x)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken, "1 of 900 chains broke down"),
        (apart, "the chains disagree"),
        (lambda s: dataclasses.replace(s, kinetic=1.2 * s.kinetic), "kinetic temperature is 1.*BAOAB"),
        (lambda s: dataclasses.replace(s, virial=0.8 * s.virial), "virial temperature is 0.8"),
        (lambda s: dataclasses.replace(s, acceptance=0.1 * s.acceptance), "10% of the moves"),
    ],
)
def test_each_fault_is_named(good, spoil, message):
    with pytest.warns(SamplingWarning, match=message):
        diagnose(spoil(good))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(diagnose(spoil(good), warn=False).warnings) == 1


def test_a_virial_with_walls_is_not_judged(good):
    spoilt = dataclasses.replace(good, virial=0.8 * good.virial, bounded=True)
    assert diagnose(spoilt).warnings == ()


def test_too_short_a_run_says_so():
    samples = sample(Quadratic([1.0]), torch.zeros(4, 1).double(), sampler=BAOA(0.1), steps=50)
    with pytest.warns(SamplingWarning) as caught:
        diagnose(samples)
    assert any("effective sample size" in str(one.message) for one in caught)
    assert any("still correlated over a third of the run" in str(one.message) for one in caught)


def test_hmc_passes_its_own_diagnosis():
    u = Quadratic([1.0, 10.0, 100.0])
    samples = sample(u, u.sample(50), sampler=HMC(0.1, n_leapfrog=15), burn_in=150, steps=200)
    assert diagnose(samples).warnings == ()


def test_no_chain_left_is_an_error(good):
    dead = dataclasses.replace(good, status=torch.full_like(good.status, Status.NOT_FINITE))
    with pytest.raises(TorchscapeError, match="smaller steps"):
        diagnose(dead)
