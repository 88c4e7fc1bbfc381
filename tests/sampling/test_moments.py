"""Stationary moments at finite step: exactly by propagating the affine map of one step, and to sampling error."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch

from torchscape import random
from torchscape.potentials import FunctionPotential, Quadratic
from torchscape.sampling import ABOBA, BAOA, BAOAB, GLA1, GLA2, OBABO, SGLD, AdaptiveLangevin, sample

# omega^2 <x^2> and <p^2> at T = 1 as functions of y = (h omega)^2: torchscape.sampling.langevin has the table.
TABLE = {
    BAOAB: (lambda y: 1.0, lambda y: 1 - y / 4),
    ABOBA: (lambda y: 1.0, lambda y: 1 / (1 - y / 4)),
    GLA2: (lambda y: 1 / (1 - y / 4), lambda y: 1.0),
    OBABO: (lambda y: 1 / (1 - y / 4), lambda y: 1.0),
    BAOA: (lambda y: 1.0, lambda y: 1.0),
}


def affine_map(sampler, omega: float, temperature: float, monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """M and N of the step z -> M z + N G, z = (x, p), read off the stepper by giving it its normal numbers."""
    potential = Quadratic([omega**2])
    given: list[float] = []
    monkeypatch.setattr(
        random, "normal", lambda key, n, dtype=torch.float64: torch.full((len(key), n), given.pop(0), dtype=dtype)
    )

    def after(x: float, p: float, noise: list[float]) -> np.ndarray:
        given[:] = [0.0] if sampler.has_momenta else []
        state = sampler.init(potential, torch.tensor([[x]]).double(), temperature=temperature)
        state = dataclasses.replace(state, p=torch.tensor([[p]]).double())
        given[:] = list(noise) + [0.0] * (2 - len(noise))
        state = sampler.step(potential, state)
        return np.array([state.x.item(), state.p.item()])

    m = np.stack([after(1.0, 0.0, []), after(0.0, 1.0, [])], 1)
    n = np.stack([after(0.0, 0.0, [1.0]), after(0.0, 0.0, [0.0, 1.0])], 1)
    return m, n


def stationary(sampler, omega, monkeypatch, temperature=1.0) -> np.ndarray:
    m, n = affine_map(sampler, omega, temperature, monkeypatch)
    if not sampler.has_momenta:
        return scipy.linalg.solve_discrete_lyapunov(m[:1, :1], (n @ n.T)[:1, :1])
    return scipy.linalg.solve_discrete_lyapunov(m, n @ n.T)


@pytest.mark.parametrize("scheme", list(TABLE))
@pytest.mark.parametrize(("h", "omega"), [(0.1, 1.0), (0.5, 1.0), (0.9, 2.0), (0.05, 10.0)])
@pytest.mark.parametrize("friction", [0.3, 4.0])
def test_moments_are_those_of_the_table(scheme, h, omega, friction, monkeypatch):
    covariance = stationary(scheme(h, friction), omega, monkeypatch)
    x, p = TABLE[scheme]
    y = (h * omega) ** 2
    assert covariance[0, 0] * omega**2 == pytest.approx(x(y), rel=1e-12)
    assert covariance[1, 1] == pytest.approx(p(y), rel=1e-12)


@pytest.mark.parametrize(("h", "omega"), [(0.1, 1.0), (0.5, 1.0), (0.9, 2.0), (0.05, 10.0)])
@pytest.mark.parametrize("friction", [0.3, 4.0])
def test_moments_of_gla1(h, omega, friction, monkeypatch):
    """By hand from p1 = p - h x, x1 = x + h p1, p2 = c p1 + sqrt(1 - c^2) G: the three stationary covariances."""
    covariance = stationary(GLA1(h, friction), omega, monkeypatch)
    y, c = (h * omega) ** 2, np.exp(-friction * h)
    assert covariance[0, 0] * omega**2 == pytest.approx((1 + c) ** 2 / (2 * (1 + c) - y), rel=1e-12)
    middle = (1 + c) / (1 + c - y / 2)
    assert covariance[1, 1] == pytest.approx(c * c * middle + 1 - c * c, rel=1e-12)


@pytest.mark.parametrize(("h", "omega"), [(0.1, 1.0), (0.3, 2.0)])
def test_moments_of_sgld(h, omega, monkeypatch):
    covariance = stationary(SGLD(h), omega, monkeypatch)
    assert covariance[0, 0] * omega**2 == pytest.approx(1 / (1 - h * omega**2 / 2), rel=1e-12)


@pytest.mark.parametrize("scheme", [*TABLE, GLA1])
def test_temperature_scales_all_moments(scheme, monkeypatch):
    cold, warm = (stationary(scheme(0.4), 1.3, monkeypatch, t) for t in (1.0, 7.0))
    np.testing.assert_allclose(warm, 7 * cold, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("scheme", "kinetic_order", "virial_order"),
    [(SGLD, None, 1), (GLA1, 2, 1), (GLA2, None, 2), (OBABO, None, 2), (BAOAB, 2, None), (ABOBA, 2, None)],
)
def test_order_of_convergence(scheme, kinetic_order, virial_order, monkeypatch):
    """Errors of <p^2> and <x.grad U> fall as h to the order of the scheme; None where there is no error."""
    steps = [0.05, 0.025, 0.0125]
    errors = []
    for h in steps:
        covariance = stationary(scheme(h), 1.0, monkeypatch)
        kinetic = covariance[1, 1] if scheme is not SGLD else 1.0
        errors.append([abs(kinetic - 1), abs(covariance[0, 0] - 1)])
    for error, order in zip(np.array(errors).T, (kinetic_order, virial_order), strict=True):
        if order is None:
            assert error.max() < 1e-12
        else:
            slope = np.diff(np.log(error)) / np.diff(np.log(steps))
            np.testing.assert_allclose(slope, order, atol=0.08)


@pytest.mark.parametrize("scheme", list(TABLE))
def test_sampled_moments_are_those_of_the_table(scheme, device, dtype):
    """Many independent chains, one draw each: the error bar is that of a variance of normal numbers."""
    h, n = 0.8, 20000 if device.type != "standin" else 2000
    omega = torch.tensor([1.0, 2.0], dtype=torch.float64)
    potential = Quadratic((omega**2).tolist(), dtype=dtype, device=device)
    state = sample(potential, potential.sample(n), sampler=scheme(h, 1.5), burn_in=60, steps=0, seed=5).state
    y = (h * omega) ** 2
    for values, expected in (
        (state.x.double().cpu() ** 2 * omega**2, TABLE[scheme][0]),
        (state.p.double().cpu() ** 2, TABLE[scheme][1]),
    ):
        exact = torch.tensor([expected(float(one)) for one in y])
        assert ((values.mean(0) / exact - 1).abs() < 4.5 * (2 / n) ** 0.5).all()


def test_covariance_of_a_stiff_quadratic():
    """Curvatures 1 and 100 along rotated axes: eigenvalues of the covariance 1 and 0.01."""
    c, s = np.cos(0.6), np.sin(0.6)
    potential = Quadratic([1.0, 100.0], axes=[[c, -s], [s, c]])
    samples = sample(potential, potential.sample(2000), sampler=BAOAB(0.15), burn_in=200, steps=240, thin=20)
    eigenvalues = torch.linalg.eigvalsh(samples.points.T.cov())
    torch.testing.assert_close(eigenvalues, torch.tensor([0.01, 1.0]).double(), rtol=0.05, atol=0)


def test_sgld_on_a_quartic_well_is_its_own_transition_operator():
    """<x U'> of the scheme at finite h, from the invariant vector of its Gaussian kernel on a grid."""
    h, grid = 0.1, np.linspace(-4, 4, 1201)
    drift = grid - h * grid**3
    kernel = np.exp(-((grid[:, None] - drift[None, :]) ** 2) / (4 * h))
    kernel /= kernel.sum(0)
    density = np.exp(-(grid**4) / 4)
    for _ in range(200):
        density = kernel @ density
        density /= density.sum()
    exact = (density * grid**4).sum()
    potential = FunctionPotential(lambda x: (x**4).sum() / 4, 1)
    samples = sample(potential, torch.zeros(10000, 1).double(), sampler=SGLD(h), burn_in=60, steps=120, thin=20)
    found = 2 * samples.virial
    error = float(found.mean(0).std() / 10000**0.5)
    assert abs(float(found.mean()) - exact) < 4 * error
    assert abs(exact - 1) > 8 * error  # the bias of the step is well above the noise: the test can fail


def test_adaptive_friction_is_normal_without_gradient_noise():
    """xi has mean gamma and variance T / mu; positions and momenta have theirs."""
    gamma, mu, t = 1.5, 4.0, 2.0
    potential = Quadratic([1.0, 4.0])
    sampler = AdaptiveLangevin(step_size=0.05, friction=gamma, inertia=mu)
    state = sample(potential, potential.sample(5000), sampler=sampler, burn_in=300, steps=0, temperature=t).state
    assert float(state.memory.mean()) == pytest.approx(gamma, abs=4 * (t / mu / 5000) ** 0.5 + 0.01)
    assert float(state.memory.var()) == pytest.approx(t / mu, rel=0.08)
    torch.testing.assert_close(
        state.x.var(0) * torch.tensor([1.0, 4.0]), torch.full((2,), t).double(), rtol=0.07, atol=0
    )
    assert float(state.p.square().mean()) == pytest.approx(t, rel=0.05)
