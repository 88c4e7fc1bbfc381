"""Downhill paths close to a divide, and off saddles that are soft, against SciPy and closed forms."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
from saddles.known import DATA
from scipy.integrate import quad, solve_ivp

from torchscape import FunctionPotential, StationaryPoints, problems
from torchscape.potentials import Himmelblau, MuellerBrown
from torchscape.saddles import Descent, confirm, descend
from torchscape.saddles.flow import Flow, weights


def himmelblau_end(x):
    """The end of dx/dt = -grad U for U = (x^2 + y - 11)^2 + (x + y^2 - 7)^2, by an independent integrator."""

    def velocity(_t, z):
        x, y = z
        one, two = x * x + y - 11, x + y * y - 7
        return -np.array([4 * x * one + 2 * two, 2 * one + 4 * y * two])

    return solve_ivp(velocity, (0.0, 20.0), x, method="LSODA", rtol=1e-10, atol=1e-10).y[:, -1]


@functools.cache
def divide():
    """A point between (0.5, -0.9) and (-1, 4): the flow from either side of it ends elsewhere."""
    low, high = np.array([0.5, -0.9]), np.array([-1.0, 4.0])
    left = himmelblau_end(low)
    assert np.linalg.norm(left - himmelblau_end(high)) > 1.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.linalg.norm(himmelblau_end(middle) - left) < 0.1 else (low, middle)
    return 0.5 * (low + high)


def test_paths_beside_a_divide_end_on_their_own_side():
    """At a hundredth to a ten-thousandth from it, on both sides; or they say that they cannot tell."""
    along = np.array([-1.5, 4.9]) / np.hypot(1.5, 4.9)
    starts = np.stack([divide() + sign * 10.0**-k * along for k in (2, 3, 4) for sign in (-1, 1)])
    exact = torch.as_tensor(np.stack([himmelblau_end(x) for x in starts]))
    ends = descend(Himmelblau(bounded=False), torch.as_tensor(starts))
    right = (ends.x - exact).norm(dim=1) < 1e-3
    assert bool((right | ~ends.converged).all())
    assert bool(ends.converged[:2].all())


def test_a_path_that_comes_too_close_to_a_divide_is_open():
    """Where it may not be followed again, its end is not said to be known."""
    u, start = Himmelblau(bounded=False), torch.as_tensor(divide())[None]
    assert not bool(descend(u, start, options=Descent(n_again=0)).converged)
    assert bool(descend(u, start, options=Descent(margin=0.0)).converged)


@pytest.mark.parametrize("scale", [1e-21, 1e-9, 1.0, 1e6])
@pytest.mark.parametrize(("ndim", "soft"), [(2, 1e-6), (2, 1e-3), (300, 1e-5)])
def test_the_two_sides_of_a_soft_saddle(scale, ndim, soft):
    """U = s [k (x^2 - 1)^2 + sum y^2]: the paths over x = 0 end at -1 and +1, for any s and k."""
    u = FunctionPotential(lambda x: scale * (soft * (x[0] ** 2 - 1) ** 2 + (x[1:] ** 2).sum()), ndim)
    x = torch.zeros(1, ndim, dtype=torch.float64)
    x[0, 0] = 1e-5
    energy, grad = u.energy_and_grad(x)
    top = StationaryPoints.of(x, energy, grad_rms=grad.square().mean(1).sqrt(), status=torch.ones(1).long())
    found = confirm(u, top, tol=1e-4 * soft * scale / ndim**0.5)
    assert found.outcomes == {"VERIFIED": 1}
    ends = sorted([found.minus.x[0, 0].item(), found.plus.x[0, 0].item()])
    assert ends == pytest.approx([-1.0, 1.0], abs=1e-3)


def test_a_start_that_counts_as_converged_goes_on_to_its_own_side():
    """The slope just off the saddle is below the tolerance; both paths went on along minus the mode then."""
    u = FunctionPotential(lambda x: 1e-6 * (x[0] ** 2 - 1) ** 2 + x[1] ** 2, 2)
    x = torch.zeros(1, 2, dtype=torch.float64)
    top = StationaryPoints.of(x, u.energy(x), grad_rms=torch.zeros(1).double(), status=torch.ones(1).long())
    found = confirm(u, top)
    assert found.outcomes == {"VERIFIED": 1}
    assert found.minus.x[0, 0] * found.plus.x[0, 0] < 0


@pytest.mark.parametrize(("parts_for_good", "known"), [(0, True), (1, False)])
def test_a_path_on_a_divide_has_a_known_end_where_both_sides_meet_again(parts_for_good, known):
    """U = (x^2 - 1)^2 / 4 + c(x) y^2 + y^4, from a saddle at the origin that was found to 1e-8 only.

    The path along y = 0 runs over ground that falls to both sides, c < 0: where c is positive again at x = 1, both
    sides end in that one minimum, as the saddle of LJ_7 at -12.5489 does; where it is not, there are two.
    """

    def energy(x):
        c = 0.5 - 4 * x[0] * (1 - x[0]) - parts_for_good
        return (x[0] ** 2 - 1) ** 2 / 4 + c * x[1] ** 2 + x[1] ** 4

    start = torch.tensor([[1e-3, 1e-8]], dtype=torch.float64)
    ends = descend(FunctionPotential(energy, 2), start)
    assert ends.converged.tolist() == [known]
    if known:
        assert ends.x[0].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.mark.skipif(not (DATA / "regression_grid.csv").exists(), reason="the regression data are not here")
@pytest.mark.parametrize(
    ("saddle", "energy", "lower"),
    [
        (
            [0.010843961540782572, 0.07825090546274947, 2.586375984208218, -1.181740307458532, 2.597442866006636],
            6.84025907,
            [5.453832, 6.354842],
        ),
        (
            [
                0.07221487354828324,
                -0.08168687344811401,
                3.2758800971021875,
                -1.137764614494265,
                3.9221182213725276,
            ],
            9.39079543,
            [5.453832, 6.354842],
        ),
    ],
)
def test_two_saddles_of_the_regression(saddle, energy, lower):
    """One path of each passes close to another saddle; both were stored with 5.416095 as an end, which four
    integrators (LSODA, Radau, BDF, Euler) do not reach."""
    u = problems.get("regression", data=str(DATA / "regression_grid.csv")).potential
    assert energies_below(u, saddle, energy) == pytest.approx(lower, abs=1e-5)


def test_a_path_that_passes_a_divide_at_little_more_than_its_error():
    """It passed at 1.4 times the error, was not looked at again, and ended at 5.614808; LSODA ends at 5.649156."""
    saddle = [
        0.07289602013493097,
        -0.08546236193267805,
        0.1419232707364298,
        -1.1395794202516838,
        0.7692884667552621,
    ]
    u = problems.get("regression", seed=2).potential
    assert energies_below(u, saddle, 9.64588866) == pytest.approx([5.649156, 6.680608], abs=1e-5)


def energies_below(u, saddle, energy):
    """The energies of the two ends, ascending."""
    x = torch.tensor([saddle], dtype=torch.float64)
    value, grad = u.energy_and_grad(x)
    assert value.item() == pytest.approx(energy, abs=1e-7)
    top = StationaryPoints.of(x, value, grad_rms=grad.square().mean(1).sqrt(), status=torch.ones(1).long())
    found = confirm(u, top)
    assert found.outcomes == {"VERIFIED": 1}
    return sorted([found.minus.energy.item(), found.plus.energy.item()])


def test_ends_of_the_saddles_of_mueller_and_brown():
    """Both paths of both saddles, against SciPy."""
    u = MuellerBrown(bounded=False)
    tops = torch.tensor([p.x for p in u.saddles], dtype=torch.float64)
    mode = torch.linalg.eigh(u.hessian(tops))[1][:, :, 0]
    starts = torch.cat([tops - 1e-4 * mode, tops + 1e-4 * mode])

    def velocity(_t, z):
        return -u.energy_and_grad(torch.as_tensor(z)[None])[1][0].numpy()

    exact = [
        solve_ivp(velocity, (0.0, 0.5), x, method="LSODA", rtol=1e-9, atol=1e-9).y[:, -1] for x in starts.numpy()
    ]
    value, grad = u.energy_and_grad(tops)
    rms = grad.square().mean(1).sqrt()
    found = confirm(u, StationaryPoints.of(tops, value, grad_rms=rms, status=torch.ones(len(tops)).long()))
    assert found.outcomes == {"VERIFIED": 2}
    for row, at in enumerate(found.candidate_ts.tolist()):
        ours = [found.minus.x[at], found.plus.x[at]]
        ours = ours if float(found.mode[at] @ mode[row]) > 0 else ours[::-1]
        for end, theirs in zip(ours, (exact[row], exact[row + 2]), strict=True):
            assert (end - torch.as_tensor(theirs)).norm() < 1e-4


@pytest.mark.parametrize("path_tol", [1e-3, 1e-5])
def test_a_curved_valley_with_a_known_flow(path_tol):
    """U = 50 (r - 1)^2 + 1 - cos a in polar coordinates: from any angle the flow goes along r = 1 to the minimum
    at a = 0. Every point of the path lies on it, to the accuracy asked for."""
    u = FunctionPotential(
        lambda z: 50 * ((z[0] ** 2 + z[1] ** 2).sqrt() - 1) ** 2 + 1 - z[0] / (z[0] ** 2 + z[1] ** 2).sqrt(), 2
    )
    angle = torch.tensor([3.0, -2.5, 1.0], dtype=torch.float64)
    flow = Flow(path_tol)
    state = flow.init(u, torch.stack([angle.cos(), angle.sin()], 1))
    seen = 0
    for _ in range(200):
        state = flow.step(u, state)
        assert ((state.x.norm(dim=1) - 1).abs() < 20 * path_tol).all()
        seen = int((state.status != 0).sum())
        if seen == 3:
            break
    assert seen == 3
    assert (state.x - torch.tensor([1.0, 0.0]).double()).abs().max() < 1e-6


def test_the_error_of_a_step_falls_with_its_fifth_power():
    """dx/dt = -x^3 from 1 has x = (1 + 2 t)^(-1/2)."""
    u = FunctionPotential(lambda x: 0.25 * x[0] ** 4, 1)
    flow, errors = Flow(1e9), []
    for radius in (0.16, 0.08, 0.04):
        state = flow.step(u, flow.init(u, torch.ones(1, 1, dtype=torch.float64)))
        state = dataclasses.replace(state, radius=torch.full((1,), radius, dtype=torch.float64))
        tried = flow.evaluate(u, state)
        errors.append(abs(float(tried.x) - (1 + 2 * float(tried.time)) ** -0.5))
        assert errors[-1] < 3 * float(tried.strayed.abs())  # and the step knows it
    orders = np.diff(np.log2(errors)) * -1
    assert (orders > 4.3).all()


def test_weights_against_quadrature():
    """t phi_k(-mu t) = t int_0^1 exp(-(1 - s) mu t) s^(k-1)/(k-1)! ds."""
    mu = torch.tensor([[-3.0, -1.0, -1e-9, 0.0, 1e-3, 0.7, 1.0001, 40.0, 1e6]], dtype=torch.float64)
    time = torch.tensor([[0.9]], dtype=torch.float64)
    for k, ours in zip((1, 3, 4), weights(mu, time), strict=True):
        for m, value in zip(mu[0].tolist(), ours[0].tolist(), strict=True):
            exact = quad(
                lambda s: math.exp(-m * 0.9 * (1 - s)) * s ** (k - 1),  # noqa: B023
                0,
                1,
                points=[0.999, 0.99999],
                epsabs=0.0,  # by default it stops at 1e-8, which is all there is of the stiffest mode
                epsrel=1e-10,
                limit=200,
            )[0]
            assert value == pytest.approx(0.9 * exact / math.factorial(k - 1), rel=1e-7)
