"""Downhill paths close to a divide, and off saddles that are soft, against SciPy and closed forms."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from torchscape import FunctionPotential, StationaryPoints
from torchscape.potentials import Himmelblau
from torchscape.saddles import Descent, confirm, descend


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
    """U = s [k (x^2 - 1)^2 + sum y^2]: the paths over x = 0 end at -1 and +1, for any s and k; or, where the path
    is a quench, they say that they are open."""
    u = FunctionPotential(lambda x: scale * (soft * (x[0] ** 2 - 1) ** 2 + (x[1:] ** 2).sum()), ndim)
    x = torch.zeros(1, ndim, dtype=torch.float64)
    x[0, 0] = 1e-5
    energy, grad = u.energy_and_grad(x)
    top = StationaryPoints.of(x, energy, grad_rms=grad.square().mean(1).sqrt(), status=torch.ones(1).long())
    found = confirm(u, top, tol=1e-4 * soft * scale / ndim**0.5)
    if ndim == 300 and found.outcomes == {"PATH_OPEN": 1}:
        return
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
