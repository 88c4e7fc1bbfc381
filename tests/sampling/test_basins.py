"""Which basin a point belongs to: against closed forms, SciPy's integrator and exhaustive grids."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import solve_ivp

from torchscape import problems, random
from torchscape.optimise import LBFGS
from torchscape.potentials import DoubleWell, Schwefel
from torchscape.saddles import Descent
from torchscape.sampling.basins import (
    Noisy,
    Quenched,
    SteepestDescent,
    assign,
    basin_probability,
)

CAMEL_AREAS = [0.2008, 0.2008, 0.1751, 0.1751, 0.1241, 0.1241]  # published fractions of the box


def wells_of(ndim: int, n: int, device="cpu") -> tuple[DoubleWell, torch.Tensor, torch.Tensor]:
    """A product of tilted double wells in a box, n of its minima, and the boxes that are their basins [n D 2]."""
    u = DoubleWell(ndim, tilt=[0.05 * i for i in range(ndim)], bounded=True, device=device)
    left = torch.tensor([[i * (j + 1) % 3 == 0 for j in range(ndim)] for i in range(n)])
    wells = torch.tensor([[x for x, _ in u.wells(j)] for j in range(ndim)]).double()
    top = torch.tensor([u.barriers(j)[0][0] for j in range(ndim)]).double()
    low = torch.where(left, -2.0, top)
    high = torch.where(left, top, 2.0)
    minima = torch.where(left, wells[:, 0], wells[:, 1])
    return u, minima.to(device), torch.stack([low, high], 2)


def test_steepest_descent_ends_where_scipys_does():
    u = problems.get("six-hump-camel").potential
    x = u.sample(12, seed=3)
    ends = Quenched().ends(u, x, torch.arange(12)).x

    def slope(_, y):
        return -u.energy_and_grad(torch.tensor(y).reshape(12, 2))[1].flatten().numpy()

    theirs = solve_ivp(slope, (0, 30), x.flatten().numpy(), method="LSODA", rtol=1e-8, atol=1e-8).y[:, -1]
    assert (ends - torch.tensor(theirs).reshape(12, 2)).abs().max() < 1e-3


@pytest.mark.slow_on_stand_in
def test_areas_of_the_camels_basins(device):
    u = problems.get("six-hump-camel", device=device).potential
    centre = (torch.arange(100, device=device).double() + 0.5) / 100
    grid = torch.cartesian_prod(6 * centre - 3, 4 * centre - 2)
    found = assign(u, grid)
    fractions = found.hits.double().cpu() / len(grid)
    assert (found.label >= 0).all()
    assert (fractions - torch.tensor(CAMEL_AREAS).double()).abs().max() < 0.002


def test_quadrants_of_a_schwefel_landscape():
    """A separable surface: its basins are rectangles between the maxima of each coordinate."""
    u = Schwefel(2)
    x = u.sample(1500, seed=1)
    tops = torch.tensor([t for t, _ in u.barriers(0)]).double()
    wells = torch.tensor([w for w, _ in u.wells(0)]).double()
    ends = Quenched(SteepestDescent(path_tol=0.02)).ends(u, x, torch.arange(len(x)))
    between = (x > tops[0]).all(1)  # to its left the wall at -500 holds what comes down
    expected = wells[torch.searchsorted(tops[1:], x)]
    near = (ends.x - expected).abs().amax(1) < 0.1
    assert between.double().mean() > 0.7
    assert near[between].double().mean() > 0.998


@pytest.mark.parametrize("quench", [SteepestDescent(), Descent()], ids=lambda one: type(one).__name__)
def test_membership_in_a_product_of_wells(quench):
    u, minima, box = wells_of(6, 1)
    x = minima + 0.7 * random.normal(torch.arange(300), 6)
    inside = ((x > box[0, :, 0]) & (x < box[0, :, 1])).all(1)
    found, _ = Quenched(quench).member(u, x, minima.expand_as(x), torch.arange(300))
    assert 0.05 < inside.double().mean() < 0.95
    assert (found == inside).all()


def test_a_quasi_newton_quench_has_basins_of_its_own():
    """What makes the choice of the quench part of the definition of a basin."""
    u = problems.get("six-hump-camel").potential
    x, key = u.sample(400), torch.arange(400)
    flow, quick = (Quenched(one).ends(u, x, key).x for one in (SteepestDescent(), LBFGS()))
    assert 0.01 < ((flow - quick).norm(dim=1) > 0.1).double().mean() < 0.5


def test_probability_of_noisy_basins_adds_up_and_is_symmetric():
    u = DoubleWell(1, bounded=True)
    x = torch.tensor([[-0.3], [0.0], [0.3]]).double()
    oracle = Noisy(0.5, 0.01, 30)
    right, error = basin_probability(u, x, torch.ones(1).double(), oracle, n_seeds=800)
    left, _ = basin_probability(u, x, -torch.ones(1).double(), oracle, n_seeds=800)
    assert (left + right).tolist() == [1.0] * 3
    assert abs(right[1] - 0.5) < 4 * error[1]
    assert abs(right[0] + right[2] - 1) < 4 * 2**0.5 * error[0]
    assert 0 < right[0] < right[1] < right[2] < 1
