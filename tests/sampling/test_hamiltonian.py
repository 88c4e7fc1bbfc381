"""HMC: reversibility, volume, the acceptance formula, detailed balance against quadrature, step sizes."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch

from torchscape.potentials import FunctionPotential, Potential, Quadratic
from torchscape.potentials.bounds import Bounds
from torchscape.sampling import HMC, sample
from torchscape.sampling.hamiltonian import leapfrog


class DoubleWell(Potential):
    """U = 2 (x^2 - 1)^2 + x / 2, in a box if one is given."""

    ndim = 1

    def __init__(self, bounds=None) -> None:
        self.bounds = None if bounds is None else Bounds.of(bounds)

    def energy(self, x):
        return (2 * (x**2 - 1) ** 2 + 0.5 * x).sum(1)


def chi_square_p(samples: np.ndarray, density, edges: np.ndarray) -> float:
    """p-value of independent samples against the bins of an unnormalised density."""
    mass = np.array([scipy.integrate.quad(density, a, b)[0] for a, b in itertools.pairwise(edges)])
    counts = np.histogram(samples, edges)[0]
    return scipy.stats.chisquare(counts, mass / mass.sum() * counts.sum()).pvalue


def density(x):
    return np.exp(-2 * (x**2 - 1) ** 2 - 0.5 * x)


def exact_draws(low: float, high: float, n: int) -> torch.Tensor:
    """Independent draws from the density between two walls, by inverting its distribution function."""
    grid = np.linspace(low, high, 20001)
    below = scipy.integrate.cumulative_simpson(density(grid), x=grid, initial=0)
    u = torch.rand(n, generator=torch.Generator().manual_seed(6), dtype=torch.float64).numpy()
    return torch.tensor(np.interp(u, below / below[-1], grid))[:, None]


@pytest.mark.parametrize("bounds", [None, [(-1.2, 1.5)]])
@pytest.mark.parametrize("step_size", [0.1, 0.4])
def test_distribution_of_a_double_well_is_exact_at_any_step(bounds, step_size):
    """The last state of each of many chains is an independent draw: short steps from a start that is wrong, and
    steps so long that in the tails leapfrog is unstable from one that is right."""
    u = DoubleWell(bounds)
    low, high = (-2.0, 2.0) if bounds is None else bounds[0]
    short = step_size < 0.2
    starts = torch.linspace(-1.1, 1.4, 6000).double()[:, None] if short else exact_draws(low, high, 6000)
    sampler = HMC(step_size, n_leapfrog=6, target=None)
    run = sample(u, starts, sampler=sampler, burn_in=100 if short else 10, steps=20)
    edges = np.concatenate([[low], np.linspace(-1.1, 1.2, 24), [high]])
    x = run.state.x[:, 0].numpy()
    assert 0.2 < float(run.acceptance.mean()) < (1 if short else 0.8)
    assert chi_square_p(x, density, edges) > 1e-3
    assert chi_square_p(x, lambda x: np.exp(-2 * (x**2 - 1) ** 2), edges) < 1e-6  # that it can fail


def test_a_large_step_is_refused_often_and_the_moments_hold_all_the_same():
    """<x^2> and <p^2> are 1, although leapfrog at h = 1.5 conserves something far from the energy."""
    samples = sample(
        Quadratic([1.0]), torch.zeros(8000, 1).double(), sampler=HMC(1.5, 3, target=None), steps=1, burn_in=40
    )
    assert float(samples.state.x.square().mean()) == pytest.approx(1, abs=4 * (2 / 8000) ** 0.5)
    assert float(samples.state.p.square().mean()) == pytest.approx(1, abs=4 * (2 / 8000) ** 0.5)
    assert float(samples.acceptance.mean()) < 0.9


@pytest.mark.parametrize(("h", "n"), [(0.5, 1), (1.0, 2), (1.5, 3)])
def test_mean_acceptance_on_a_harmonic_mode_is_the_closed_form(h, n):
    """Leapfrog is a linear map A on z = (x, p) ~ N(0, 1), so Delta H = z.(A^T A - 1) z / 2 with eigenvalues of
    A^T A in a pair lambda, 1/lambda; the mean of min(1, e^-Delta) is 2 P(Delta < 0) = (4 / pi) arctan(lambda^-1/2)
    for lambda > 1."""
    one = np.array([[1 - h * h / 2, h], [-h + h**3 / 4, 1 - h * h / 2]])
    a = np.linalg.matrix_power(one, n)
    largest = np.linalg.eigvalsh(a.T @ a).max()
    exact = 4 / np.pi * np.arctan(largest**-0.5)
    sampler = HMC(h, n_leapfrog=n, jitter=0.0, target=None)
    x = torch.randn(40000, 1, generator=torch.Generator().manual_seed(2)).double()
    found = sample(Quadratic([1.0]), x, sampler=sampler, steps=2).acceptance
    assert float(found.mean()) == pytest.approx(exact, abs=4 * float(found.std()) / 200)


def test_acceptance_is_the_metropolis_formula_and_moves_follow_it():
    u, t = DoubleWell(), 0.7
    sampler = HMC(0.5, n_leapfrog=3, jitter=0.0, target=None)
    state = sampler.init(u, torch.linspace(-1.5, 1.5, 4000).double()[:, None], temperature=t, seed=9)
    after = sampler.step(u, state)
    # A refused move leaves -p of the momenta it began with; an accepted one ends a reversible flight.
    moved = (after.x != state.x)[:, 0]
    h = torch.full_like(state.energy, 0.5)
    back_x, back_p, _, _ = leapfrog(u, after.x, -after.p, after.grad, h, 3)
    torch.testing.assert_close(back_x[moved], state.x[moved], atol=1e-9, rtol=0)
    before = state.energy + 0.5 * back_p.square().sum(1)
    change = after.energy + 0.5 * after.p.square().sum(1) - before
    exact = torch.exp(-change / t).clamp(max=1)
    torch.testing.assert_close(after.acceptance[moved], exact[moved], atol=1e-9, rtol=1e-9)
    expected = float(after.acceptance.sum())
    assert abs(float(moved.sum()) - expected) < 4 * float((after.acceptance * (1 - after.acceptance)).sum()) ** 0.5
    assert float(moved.double().mean()) < 0.97


def test_leapfrog_keeps_volume_and_errs_by_the_square_of_the_step():
    u = FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + x[0] * x[1] + x[1] ** 2, 2)

    def flight(z, h=0.3, n=4):
        x, p = z[None, :2], z[None, 2:]
        grad = u.energy_and_grad(x)[1]
        x, p, energy, _ = leapfrog(u, x, p, grad, torch.tensor([h]).double(), n)
        return torch.cat([x, p], 1)[0], float(energy + 0.5 * p.square().sum())

    z, e = torch.tensor([0.4, -0.3, 0.8, 0.5]).double(), 1e-5
    columns = [(flight(z + e * one)[0] - flight(z - e * one)[0]) / (2 * e) for one in torch.eye(4).double()]
    assert float(torch.linalg.det(torch.stack(columns, 1))) == pytest.approx(1, abs=1e-8)
    start = float(u.energy(z[None, :2]) + 0.5 * z[2:].square().sum())
    errors = [abs(flight(z, 0.8 / n, n)[1] - start) for n in (64, 128, 256)]
    np.testing.assert_allclose(np.diff(np.log2(errors)), -2, atol=0.1)


@pytest.mark.parametrize("target", [0.6, 0.9])
def test_every_chain_adapts_its_own_step_to_the_acceptance_wanted(target):
    """Dual averaging drives the mean over its own steps to the target. The averaged step that is kept then does at
    least as well, acceptance being concave in it."""
    u = Quadratic([1.0] * 50 + [9.0] * 10)
    sampler = HMC(0.5, n_leapfrog=5, target=target)
    state = sampler.init(u, u.sample(100))
    seen = []
    for _ in range(180):
        state = sampler.step(u, state)
        seen.append(float(state.acceptance.mean()))
    assert np.mean(seen[100:]) == pytest.approx(target, abs=0.02)
    assert float(state.memory.log_h.std()) > 1e-3
    settled = sampler.settled(state)
    kept = sample(u, settled, sampler=sampler, steps=30)
    assert torch.equal(kept.state.memory.log_h, settled.memory.log_mean)
    assert -0.03 < float(kept.acceptance.mean()) - target < 0.1


def test_trajectories_differ_in_length_but_not_between_chains():
    sampler = HMC(0.1, n_leapfrog=10, jitter=0.5)
    state = sampler.init(DoubleWell(), torch.zeros(2, 1).double(), seed=4)
    lengths = [sampler._length(dataclasses.replace(state, n_steps=k)) for k in range(300)]
    assert set(lengths) == set(range(5, 11))
