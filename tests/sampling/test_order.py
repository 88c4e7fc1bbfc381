"""Orders of convergence in a well that is not harmonic, read off the steppers themselves.

For exp(-U) the virial theorem has <x U'> = 1 and equipartition <p^2> = 1. What a scheme makes of these at a finite
step follows from its transition operator: each step is applied to all nodes of a quadrature in phase space, with
all nodes of one for its normal numbers, the images of polynomials are projected on polynomials, and the stationary
means are the left eigenvector of that matrix. No random number is drawn, so that errors of 1e-6 can be seen.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch

from torchscape import random
from torchscape.potentials import FunctionPotential
from torchscape.sampling import (
    ABOBA,
    BAOA,
    BAOAB,
    GLA1,
    GLA2,
    OBABO,
    SGLD,
    AdaptiveLangevin,
    CCAdL,
    EnsembleQuasiNewton,
)
from torchscape.sampling.covariance import NoiseMemory

THERMOSTATS = (AdaptiveLangevin, CCAdL)


@functools.cache
def well() -> FunctionPotential:
    return FunctionPotential(lambda x: (x**2 / 2 + x**4 / 8 + x**3 / 6).sum(), 1)


def nodes_of(sampler, inertia: float) -> tuple[np.ndarray, np.ndarray]:
    """Places in (x, p, xi), as far as the sampler has them, and the weights of the density it aims at."""
    x = np.linspace(-4.2, 3.8, 45)
    axes, weights = [x], [np.exp(-(x**2) / 2 - x**4 / 8 - x**3 / 6)]
    hermite, weight = np.polynomial.hermite_e.hermegauss(14)
    if sampler.has_momenta:
        axes.append(hermite)
        weights.append(weight)
    if isinstance(sampler, THERMOSTATS):
        axes.append(sampler.friction + hermite / np.sqrt(inertia))
        weights.append(weight)
    z = np.stack([one.ravel() for one in np.meshgrid(*axes, indexing="ij")], 1)
    w = np.prod(np.stack([one.ravel() for one in np.meshgrid(*weights, indexing="ij")], 1), 1)
    keep = w > 1e-14 * w.max()
    return z[keep], w[keep] / w[keep].sum()


def polynomials(z: np.ndarray, degree: int) -> np.ndarray:
    """Products of Chebyshev polynomials up to a total degree, the constant first."""
    each = [np.polynomial.chebyshev.chebvander(column / 4, degree) for column in z.T]
    powers = itertools.product(range(degree + 1), repeat=z.shape[1])
    chosen = sorted((power for power in powers if sum(power) <= degree), key=sum)
    return np.stack([np.prod([each[i][:, k] for i, k in enumerate(power)], 0) for power in chosen], 1)


def stepped(sampler, z: np.ndarray, noise: list[float], monkeypatch) -> np.ndarray:
    """All places after one step with these normal numbers."""
    potential = well()  # before numbers are given: it probes itself at random places
    given = [0.0, *noise] if sampler.has_momenta else list(noise)
    monkeypatch.setattr(
        random, "normal", lambda key, n, dtype=torch.float64: torch.full((len(key), n), given.pop(0), dtype=dtype)
    )
    columns = torch.as_tensor(z)
    state = sampler.init(potential, columns[:, :1])
    if sampler.has_momenta:
        state = dataclasses.replace(state, p=columns[:, 1:2].clone())
    if type(sampler) is AdaptiveLangevin:
        state = dataclasses.replace(state, memory=columns[:, 2].clone())
    if type(sampler) is CCAdL:
        state = dataclasses.replace(
            state, memory=NoiseMemory(columns[:, 2].clone(), torch.zeros(len(z), 1).double())
        )
    after = sampler.step(potential, state)
    out = [after.x, after.p] if sampler.has_momenta else [after.x]
    if isinstance(sampler, THERMOSTATS):
        out.append((after.memory.xi if type(sampler) is CCAdL else after.memory)[:, None])
    return torch.cat(out, 1).numpy()


def stationary_errors(sampler, monkeypatch, degree: int) -> tuple[float, float]:
    """<p^2> - 1 and <x U'> - 1 under the scheme's own stationary distribution."""
    z, w = nodes_of(sampler, inertia=1.0)
    n_noises = sampler.word.count("O") if hasattr(sampler, "word") else 1
    root = np.sqrt(w)[:, None]
    q, r = np.linalg.qr(root * polynomials(z, degree))
    image = np.zeros_like(q)
    hermite, weight = np.polynomial.hermite_e.hermegauss(6)
    for numbers in itertools.product(range(6), repeat=n_noises):
        moved = stepped(sampler, z, [hermite[k] for k in numbers], monkeypatch)
        share = np.prod(weight[list(numbers)]) / weight.sum() ** n_noises
        image += share * root * polynomials(moved, degree)
    transition = q.T @ np.linalg.solve(r.T, image.T).T  # of the orthonormal polynomials, of which the first is 1
    n = len(transition)
    rest = np.linalg.solve(np.eye(n - 1) - transition.T[1:, 1:], transition.T[1:, 0])
    mean = np.concatenate([[1.0], rest])
    x = z[:, 0]
    values = [x * (x + x**3 / 2 + x**2 / 2)] + ([z[:, 1] ** 2] if sampler.has_momenta else [])
    virial, *kinetic = (float(mean @ (q.T @ (root[:, 0] * value)) * np.sign(q[0, 0])) for value in values)
    return (kinetic[0] - 1 if kinetic else 0.0), virial - 1


# scheme: orders of <p^2> and <x U'>, and the two steps at which they are seen
ORDERS = {
    SGLD: (None, 1, (0.01, 0.005)),
    GLA1: (2, 1, (0.025, 0.0125)),
    GLA2: (4, 2, (0.1, 0.05)),
    OBABO: (4, 2, (0.1, 0.05)),
    BAOAB: (2, 4, (0.1, 0.05)),
    BAOA: (4, 4, (0.1, 0.05)),
    ABOBA: (2, 2, (0.1, 0.05)),
    AdaptiveLangevin: (2, 2, (0.05, 0.025)),
}


def at(scheme, h: float):
    return scheme(h, 1.0, 1.0) if scheme in THERMOSTATS else scheme(h)


@pytest.mark.parametrize("scheme", list(ORDERS))
def test_errors_fall_with_the_order_of_the_scheme(scheme, monkeypatch):
    """Positions of BAOAB and BAOA obey the virial theorem to fourth order, and so do momenta of OBABO and GLA2 as
    well as of BAOA; everything else is of the order of the splitting."""
    kinetic, virial, steps = ORDERS[scheme]
    degree = 8 if scheme in THERMOSTATS else 10
    errors = np.array([stationary_errors(at(scheme, h), monkeypatch, degree) for h in steps])
    for error, order in zip(errors.T, (kinetic, virial), strict=True):
        if order is not None:
            assert np.log2(error[0] / error[1]) == pytest.approx(order, abs=0.11)
    assert 1e-8 < np.abs(errors[:, 1]).min() < 0.02


def test_half_of_the_bias_is_missed_by_a_chain_that_takes_half_the_force(monkeypatch):
    """That errors of the steppers are seen here: with B/2 A B O the well is another one."""

    class Wrong(GLA2):
        word = "BAO"

        def step(self, potential, state):
            return super().step(potential, dataclasses.replace(state, grad=state.grad / 2))

    assert abs(stationary_errors(Wrong(0.05), monkeypatch, 10)[1]) > 0.3


def test_ccadl_without_minibatches_steps_as_adaptive_langevin_does(monkeypatch):
    """So the orders above are its orders."""
    z, _ = nodes_of(at(CCAdL, 0.1), inertia=1.0)
    one, other = (stepped(at(scheme, 0.1), z[::7], [0.7], monkeypatch) for scheme in THERMOSTATS)
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_turn_of_the_ensemble_is_baoab_in_coordinates_where_its_matrix_is_one():
    """x = B y turns the preconditioned dynamics in U(x) into BAOAB in U(B y): its orders are those of BAOAB."""
    u = FunctionPotential(lambda x: (x**4).sum() / 4 + (x[0] - 2 * x[1]) ** 2 + x[2] ** 2, 3)
    sampler = EnsembleQuasiNewton(0.4, friction=0.7, walkers=8)
    state = sampler.init(u, u.sample(8, seed=5), seed=2)
    others = state.x[1::2]
    values, axes = np.linalg.eigh(np.cov(others.numpy().T))
    b = torch.as_tensor(axes * np.sqrt(values + sampler.floor * u.length_scale**2) @ axes.T)
    plain = BAOAB(0.4, friction=0.7)
    v = FunctionPotential(lambda y: (lambda x: (x**4).sum() / 4 + (x[0] - 2 * x[1]) ** 2 + x[2] ** 2)(y @ b), 3)
    y = plain.init(v, state.x @ torch.linalg.inv(b), seed=2)
    torch.testing.assert_close(y.p, state.p)
    moved, after = sampler.step(u, state), plain.step(v, y)
    # B from another eigensolver, and its inverse: rounding times the condition of B
    torch.testing.assert_close(moved.x[::2], (after.x @ b)[::2], rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(moved.p[::2], after.p[::2], rtol=1e-8, atol=1e-10)
