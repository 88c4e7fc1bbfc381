"""Error bars of basin volumes: deviations from closed forms, in units of them, must have variance 1."""

from __future__ import annotations

import math

import pytest
import scipy.signal
import scipy.stats
import torch

from torchscape.potentials import DoubleWell
from torchscape.sampling.basins import Region, basin_volumes, mbar_volumes
from torchscape.sampling.basins.errors import mean_and_error, student


def autoregressions(s: int, w: int, n: int, tau: float) -> torch.Tensor:
    """[S W N] stationary series of variance 1 with the autocorrelation time ``tau``, by SciPy's filter."""
    a = (tau - 1) / (tau + 1)
    noise = torch.randn(s + 1, w, n, generator=torch.Generator().manual_seed(s), dtype=torch.float64)
    noise[1:] *= math.sqrt(1 - a * a)
    return torch.as_tensor(scipy.signal.lfilter([1.0], [1.0, -a], noise.numpy(), axis=0))[1:]


def variance_of_mean(s: int, w: int, tau: float) -> float:
    a = (tau - 1) / (tau + 1)
    return (1 + 2 * sum((1 - t / s) * a**t for t in range(1, s))) / (s * w)


@pytest.mark.parametrize(
    ("s", "w", "tau"), [(50, 8, 1), (50, 32, 9), (50, 32, 40), (12, 32, 10), (400, 8, 10), (60, 8, 30)]
)
def test_errors_of_autoregressions_are_the_closed_form(s, w, tau):
    """Records much longer than correlations, and shorter ones; and what comes out has variance 1."""
    series = autoregressions(s, w, 1500, tau)
    mean, error, ess = mean_and_error(series)
    exact = variance_of_mean(s, w, tau)
    assert float((mean / error).std()) == pytest.approx(1, abs=0.08)
    # Without the allowance for few degrees of freedom, by the effective size: the variance itself.
    assert float((series.var((0, 1)) / ess).mean()) == pytest.approx(exact, rel=0.13)


def test_where_correlations_outlast_the_records_the_error_is_the_scatter_of_ladders():
    series = autoregressions(8, 16, 5, 1e4)
    means = series.mean(0)
    exact = means.std(0) / 4 * scipy.stats.t(15).std()
    torch.testing.assert_close(mean_and_error(series)[1], exact, rtol=0.03, atol=0)


@pytest.mark.parametrize("freedom", [5.0, 11.0, 100.0])
def test_allowance_for_few_ladders_is_students(freedom):
    assert float(student(torch.tensor(freedom).double())) == pytest.approx(scipy.stats.t(freedom).std())


def half_boxes(ndim: int) -> tuple[DoubleWell, torch.Tensor, Region, float]:
    """A product of double wells in a box, one minimum, its box as an oracle, and ln of its volume."""
    u = DoubleWell(ndim, tilt=[0.05 * i for i in range(ndim)], bounded=True)
    top = torch.tensor([u.barriers(j)[0][0] for j in range(ndim)]).double()
    right = torch.tensor([u.wells(j)[1][0] for j in range(ndim)]).double()
    return u, right, Region(lambda x, minimum: (x > top).all(1)), float((2 - top).log().sum())


@pytest.mark.parametrize(
    ("ndim", "n_force_constants", "n_ladders", "steps"), [(2, 6, 8, 50), (5, 7, 8, 30), (8, 7, 8, 30)]
)
def test_two_hundred_small_runs_scatter_as_their_errors_say(ndim, n_force_constants, n_ladders, steps):
    u, minimum, inside, exact = half_boxes(ndim)
    n = 200
    found = basin_volumes(
        u,
        minimum.repeat(n, 1),
        oracle=inside,
        n_force_constants=n_force_constants,
        n_ladders=n_ladders,
        steps=steps,
        burn_in=32,
    )
    z = (found.log_volume - exact) / found.error
    assert 0.85 < float(z.std()) < 1.16
    assert abs(float(z.mean())) < 3.5 / n**0.5
    assert float((z.abs() < 2).double().mean()) == pytest.approx(0.954, abs=0.035)


def test_errors_of_mbar_are_honest_too():
    pytest.importorskip("pymbar")
    u, minimum, inside, exact = half_boxes(3)
    found = basin_volumes(
        u,
        minimum.repeat(60, 1),
        oracle=inside,
        n_force_constants=4,
        n_ladders=8,
        steps=12,
        burn_in=32,
        n_draws=300,
    )
    value, error = mbar_volumes(found)
    z = (value - exact) / error
    assert 0.75 < float(z.std()) < 1.28
    assert abs(float(z.mean())) < 3.5 / 60**0.5
