"""Stationary points of every index: complete on surfaces whose counts are known, honest about what fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize, root

from torchscape import ModulePotential, Potential, Status, random
from torchscape.errors import PotentialError
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.lennard_jones import LennardJones
from torchscape.potentials.separable import DoubleWell
from torchscape.saddles import NewtonSearch, Outcome, confirm, find_stationary
from torchscape.saddles.distinct import first_of_each
from torchscape.saddles.steps import gradient_step, index_step


def distinct(potential, points):
    points = points[points.converged]
    return points[first_of_each(potential, points).unique()]


def cubic_roots(tilt):
    """Where 4 x (x^2 - 1) + tilt = 0: the stationary points of a double well, by bisection."""
    f = lambda x: 4 * x * (x**2 - 1) + tilt  # noqa: E731
    top = 3**-0.5
    return [brentq(f, -2, -top), brentq(f, -top, top), brentq(f, top, 2)]


@pytest.mark.parametrize("aimed", [False, True], ids=["nearest", "aimed"])
def test_all_27_stationary_points_of_three_double_wells(aimed, device):
    """Products of the three stationary points of each coordinate; index = number of coordinates at the top."""
    u = DoubleWell(3, tilt=0.2, device=device)
    starts = u.sample(400, seed=1)
    target = torch.arange(400, device=device) % 4 if aimed else None
    found = find_stationary(u, starts, target=target)
    points = distinct(u, found)
    assert points.index.bincount().tolist() == [8, 12, 6, 1]
    roots = torch.tensor(cubic_roots(0.2), dtype=torch.float64)
    gap = (points.x.cpu()[:, :, None] - roots).abs()
    assert gap.amin(2).max() < 1e-8
    at_top = (gap.argmin(2) == 1).sum(1)
    assert at_top.tolist() == points.index.tolist()
    if aimed:  # uphill from the outer slopes leads away for ever, and says so
        hit = found.index == target
        assert hit[found.converged].double().mean() > 0.8
        ends = {Status(code) for code in found.status.tolist()}
        assert Status.CONVERGED in ends
        assert ends <= {Status.CONVERGED, Status.UNBOUNDED, Status.OUTSIDE}
    else:
        assert found.converged.double().mean() > 0.9


def test_every_claim_is_checked_against_autograd():
    u = DoubleWell(4, tilt=0.1)
    found = find_stationary(u, u.sample(60, seed=2))
    rms = u.energy_and_grad(found.x)[1].square().mean(1).sqrt()
    torch.testing.assert_close(rms, found.grad_rms, atol=1e-14, rtol=1e-6)
    assert (rms[found.converged] <= 1e-8).all()
    values = torch.linalg.eigvalsh(u.hessian(found.x))
    assert torch.equal((values < 0).sum(1)[found.converged], found.index[found.converged])
    assert (found.index[~found.converged] == -1).all()


def test_rows_and_pool_sizes_change_nothing():
    u = DoubleWell(3, tilt=0.2)
    starts, target = u.sample(40, seed=3), torch.arange(40) % 5 - 1
    starts[5] = torch.nan
    whole = find_stationary(u, starts, target=target)
    few = find_stationary(u, starts, target=target, pool_size=7)
    some = find_stationary(u, starts[10:20], target=target[10:20])
    assert torch.equal(whole.status, few.status)
    well = [row for row in range(40) if row != 5]
    torch.testing.assert_close(whole.x[well], few.x[well], atol=1e-10, rtol=0)
    torch.testing.assert_close(whole.x[10:20], some.x, atol=1e-10, rtol=0)
    assert Status(int(whole.status[5])) == Status.NOT_FINITE


class Slope(Potential):
    """U = x^3/3 + x: the slope x^2 + 1 is least at 0, and nowhere zero."""

    ndim = 1

    def energy(self, x):
        return (x**3 / 3 + x).sum(1)


def test_a_gradient_that_never_vanishes_traps_the_search_with_advice():
    found = find_stationary(Slope(), torch.tensor([[2.0], [-1.5]], dtype=torch.float64))
    assert (found.status == Status.TRAPPED).all()
    assert found.x.abs().max() < 1e-2
    assert "start elsewhere" in Status.TRAPPED.message
    aimed = find_stationary(Slope(), torch.ones(1, 1).double(), target=torch.zeros(1).long())
    assert not aimed.converged.any()


class Shifted(Potential):
    """A bowl whose bottom lies outside its box."""

    ndim = 2
    bounds = Bounds.of([(-1.0, 1.0), (-1.0, 1.0)])

    def energy(self, x):
        return ((x - 3.0) ** 2).sum(1)


def test_searches_stay_in_the_box():
    found = find_stationary(Shifted(), Shifted().sample(10))
    assert (found.status == Status.OUTSIDE).all()
    assert (found.x.abs() <= 1).all()


def test_known_zero_modes_take_no_part():
    """Three atoms have two stationary shapes: the triangle, and the chain whose bond length SciPy finds."""
    pair = lambda r: 4 * (r**-12 - r**-6)  # noqa: E731
    chain = minimize(lambda r: 2 * pair(r[0]) + pair(2 * r[0]), [1.1], tol=1e-14).fun
    u = LennardJones(3, container=None)
    triangle = torch.tensor([[0, 0, 0, 1.12, 0, 0, 0.56, 0.97, 0]], dtype=torch.float64)
    straight = torch.tensor([[0, 0, 0, 1.12, 0, 0, 2.24, 0.0, 0]], dtype=torch.float64)
    starts = torch.cat([triangle, straight]).repeat(10, 1)
    starts = starts + 0.02 * random.normal(random.fold(0, torch.arange(20)), 9)
    found = find_stationary(u, starts)
    assert found.converged.all()
    assert np.allclose(found.energy[::2], -3.0, atol=1e-12)
    assert np.allclose(found.energy[1::2], chain, atol=1e-12)
    assert (found.index[::2] == 0).all()
    assert (found.n_zero[::2] == 6).all()
    assert (found.n_zero[1::2] == 5).all()
    assert len(distinct(u, found)) == 2


def test_confirmed_transition_states_come_with_their_minima():
    u = DoubleWell(2, tilt=0.2)
    points = find_stationary(u, u.sample(60, seed=4))
    search = confirm(u, points)
    assert len(search) == 4
    assert search.outcome.tolist().count(Outcome.VERIFIED) == int((points.index == 1).sum())
    assert search.hits.sum() == (points.index == 1).sum()
    assert ((search.minus.x - search.plus.x).norm(dim=1) > 1.5).all()
    assert (torch.maximum(search.minus.energy, search.plus.energy) < search.ts.energy).all()
    other = points.converged & (points.index != 1)
    assert (search.outcome[other] == Outcome.WRONG_INDEX).all()


def test_in_float32_points_are_those_of_float64(device):
    """Of 36 points that a search in float32 called converged none was one: SciPy left all of them."""
    torch.manual_seed(0)
    data = torch.randn(60, 4), torch.randint(0, 3, (60,))
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
    loss = torch.nn.functional.cross_entropy
    u = ModulePotential(net, data, loss, l2=1e-3, dtype=torch.float32, device=device)
    found = find_stationary(u, u.sample(16, seed=1))
    assert found.x.device.type == device.type
    found = found[found.converged].to("cpu")
    assert found.x.dtype == torch.float32
    assert len(found) > 10
    exact = ModulePotential(net, data, loss, l2=1e-3, dtype=torch.float64)

    def gradient(q):
        return exact.energy_and_grad(torch.from_numpy(q)[None])[1][0].numpy()

    def hessian(q):
        return exact.hessian(torch.from_numpy(q)[None])[0].numpy()

    for x, index in zip(found.x.double().numpy(), found.index.tolist(), strict=True):
        there = root(gradient, x, jac=hessian, tol=1e-12).x
        np.testing.assert_allclose(there, x, atol=1e-4)
        assert (np.linalg.eigvalsh(hessian(there)) < -1e-9).sum() == index


def test_requests_that_make_no_sense_are_refused():
    u = DoubleWell(2)
    with pytest.raises(PotentialError, match=r"\[B, 2\]"):
        find_stationary(u, torch.zeros(3, 3).double())
    with pytest.raises(PotentialError, match="one index each"):
        find_stationary(u, u.sample(3), target=torch.zeros(2).long())
    assert len(find_stationary(u, u.sample(0))) == 0
    spent = find_stationary(u, u.sample(20), options=NewtonSearch(max_evaluations=2))
    assert (spent.n_evaluations <= 2).all()


# --- steps --------------------------------------------------------------------------------------------------


def test_no_step_within_the_radius_shortens_the_gradient_more():
    """Against 20 000 random steps per row."""
    key = random.fold(0, torch.arange(30))
    curvature, slope = random.normal(key, 3), random.normal(random.fold(key, 1), 3)
    radius = 20 * random.uniform(random.fold(key, 2), 1)[:, 0] ** 4 + 0.05
    c = gradient_step(curvature, slope, radius)
    assert (c.norm(dim=1) <= radius * (1 + 1e-12)).all()
    shortest = (slope + curvature * c).norm(dim=1)
    others = torch.nn.functional.normalize(random.normal(random.fold(9, torch.arange(20_000)), 3), dim=1)
    others = others * random.uniform(random.fold(8, torch.arange(20_000)), 1) ** (1 / 3)
    lengths = (slope[:, None] + curvature[:, None] * others * radius[:, None, None]).norm(dim=2)
    assert (shortest <= lengths.amin(1) + 1e-9).all()
    inside = c.norm(dim=1) < 0.99 * radius
    assert inside.any()
    torch.testing.assert_close(c[inside], (-slope / curvature)[inside])


def test_aimed_steps_climb_along_the_lowest_modes():
    key = random.fold(1, torch.arange(30))
    curvature, slope = random.normal(key, 4).sort(1).values, random.normal(random.fold(key, 1), 4)
    index = torch.arange(30) % 5
    radius = torch.full((30,), 0.3, dtype=torch.float64)
    c = index_step(curvature, slope, index, radius)
    climbs = torch.arange(4) < index[:, None]
    assert torch.equal(c * slope > 0, climbs)
    torch.testing.assert_close(c.norm(dim=1), radius.minimum((slope / curvature).norm(dim=1)))
