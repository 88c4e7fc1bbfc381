"""K_v(x) and its derivatives, against mpmath and SciPy."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special
from torch.func import grad, jacrev, vmap

from torchscape.potentials.bessel import kv, log_kv, log_power_kv, log_scaled_kv

ORDERS = [0.05, 0.5, 1.0, 1.6, 7.3, 30.0]
PLACES = [1e-8, 1e-4, 0.3, 3.0, 60.0, 1e3]


def exact(v, x):
    return mpmath.log(mpmath.besselk(v, x)) + x


@pytest.fixture(autouse=True)
def many_digits():
    with mpmath.workdps(40):
        yield


@pytest.mark.parametrize("v", [0.0, *ORDERS, -2.2])
def test_values_to_rounding(v, device):
    x = torch.tensor(PLACES, dtype=torch.float64, device=device)
    got, powers = log_scaled_kv(v, x).tolist(), log_power_kv(v, x).tolist()
    for k, place in enumerate(PLACES):
        reference = exact(v, mpmath.mpf(place))
        size = max(1.0, abs(v) * math.asinh(abs(v) / place))
        assert got[k] == pytest.approx(float(reference), abs=1e-14 * size, rel=0)
        scaled = float(reference + abs(v) * mpmath.log(place))
        assert powers[k] == pytest.approx(scaled, abs=3e-14 * max(1.0, abs(v)), rel=1e-15)


def test_against_scipy_where_it_does_not_overflow():
    x = torch.logspace(-2, 2, 41, dtype=torch.float64)
    v = torch.linspace(0.05, 20, 9, dtype=torch.float64)[:, None]
    arrays = v.numpy(), x.numpy()
    assert np.allclose(kv(v, x), special.kv(*arrays), rtol=1e-12, atol=0)
    assert np.allclose(log_scaled_kv(v, x).exp(), special.kve(*arrays), rtol=1e-12, atol=0)


@pytest.mark.parametrize("p", [0, 1, 2, 5, 29])
def test_half_integers_in_closed_form(p):
    x = torch.logspace(-4, 3, 29, dtype=torch.float64)
    total = sum(
        math.factorial(p + k) / (math.factorial(k) * math.factorial(p - k)) * (2 * x) ** -k for k in range(p + 1)
    )
    assert torch.allclose(log_scaled_kv(p + 0.5, x), 0.5 * torch.log(math.pi / (2 * x)) + total.log(), rtol=1e-13)


@pytest.mark.parametrize("v", ORDERS)
@pytest.mark.parametrize("x", [1e-8, 0.3, 3.0, 1e3])
def test_two_derivatives_in_argument_and_order(v, x):
    """Order by numerical differentiation with 40 digits."""
    at = (torch.tensor(v, dtype=torch.float64), torch.tensor(x, dtype=torch.float64))
    h = {0: mpmath.mpf(10) ** -10, 1: mpmath.mpf(x) * mpmath.mpf(10) ** -10}
    for which in [(0,), (1,), (0, 0), (0, 1), (1, 1)]:
        f, reference = log_scaled_kv, exact
        for k in which:
            f = grad(f, argnums=k)
            reference = _difference(reference, k, h[k])
        assert f(*at).item() == pytest.approx(float(reference(mpmath.mpf(v), mpmath.mpf(x))), rel=1e-10)


def _difference(f, k, h):
    def derivative(v, x):
        dv, dx = (h, 0) if k == 0 else (0, h)
        return (f(v + dv, x + dx) - f(v - dv, x - dx)) / (2 * h)

    return derivative


def test_under_vmap_and_plain_autograd():
    v = torch.tensor([0.3, 2.0, 9.1], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([1e-3, 1.0, 40.0], dtype=torch.float64, requires_grad=True)
    slopes = torch.autograd.grad(log_kv(v, x).sum(), (v, x), create_graph=True)
    assert torch.allclose(vmap(grad(log_kv, argnums=0))(v, x), slopes[0], rtol=1e-13)
    assert torch.allclose(vmap(grad(log_kv, argnums=1))(v, x), slopes[1], rtol=1e-13)
    (curved,) = torch.autograd.grad(slopes[1].sum(), v)
    assert torch.allclose(torch.diagonal(jacrev(lambda o: grad(lambda y: log_kv(o, y).sum())(x))(v)), curved)
    # K_v' = -(K_(v-1) + K_(v+1)) / 2
    ratio = 0.5 * ((log_kv(v - 1, x) - log_kv(v, x)).exp() + (log_kv(v + 1, x) - log_kv(v, x)).exp())
    assert torch.allclose(slopes[1], -ratio, rtol=1e-12)


def test_shapes_chunks_dtype_and_domain(device, dtype):
    x = torch.rand(300, 100, dtype=dtype, device=device) + 0.1
    with torch.no_grad():
        whole = log_kv(1.2, x)  # in several pieces
    assert whole.shape == x.shape
    assert (whole.dtype, whole.device.type) == (dtype, device.type)
    assert torch.allclose(whole[:3], log_kv(torch.tensor(1.2, device=device, dtype=torch.float64), x[:3]))
    assert torch.isnan(log_kv(1.0, x.new_tensor([0.0, -1.0]))).all()
    assert log_kv(1.0, x[:0]).shape == (0, 100)
