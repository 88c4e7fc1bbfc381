"""The Newton finish: quadratic convergence, both ways of solving, zero modes, walls, and when it is used."""

from __future__ import annotations

import math

import pytest
import torch

from torchscape.optimise import BFGS, Newton, polish, relax
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.lennard_jones import LennardJones


class Offset(Potential):
    """Wells on top of a large constant: the energy has few digits left for them."""

    ndim = 4
    offset = 1e9

    def energy(self, x):
        return self.offset + ((x**2 - 1) ** 2 * torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=x.dtype)).sum(1)


@pytest.mark.parametrize("options", [Newton(), Newton(dense_limit=0)], ids=["dense", "krylov"])
def test_the_digits_double_with_each_step(options):
    """|x_{k+1} - x*| <= C |x_k - x*|^2 for the wells at (1, 1, 1, 1)."""
    potential = Offset()
    potential.offset = 0.0
    x = torch.full((1, 4), 1.02, dtype=torch.float64)
    errors = []
    for n in range(1, 4):
        steps = type(options)(max_steps=n, dense_limit=options.dense_limit)
        points = polish(potential, StationaryPoints.of(x, potential.energy(x)), tol=1e-15, options=steps)
        errors.append(float((points.x - 1).abs().max()))
    assert errors[0] < 2e-3
    assert errors[-1] < 1e-8
    if options.dense_limit:  # the order of convergence; the inexact steps are only superlinear
        assert math.log(errors[1]) / math.log(errors[0]) > 1.7


def test_relax_reaches_a_gradient_that_the_energy_cannot_see():
    """With U of about 1e9 the energy is rounded to 1e-7; wells are found to a gradient of 1e-10 all the same."""
    potential = Offset()
    points = relax(potential, potential.sample(20, seed=0), tol=1e-10)
    assert bool(points.converged.all())
    assert float((points.x.abs() - 1).abs().max()) < 1e-9


@pytest.mark.parametrize("options", [Newton(), Newton(dense_limit=0)], ids=["dense", "krylov"])
def test_zero_modes_do_not_blow_up_the_step(options):
    """LJ_7: rotations and translations have zero curvature, and the cluster must not fly off along them. Where the
    gradient is not zero rotations are no eigenvectors, and their eigenvalues may be as small as they like."""
    potential = LennardJones(7)
    rough = relax(potential, potential.sample(60, seed=1), tol=1e-3)
    fine = polish(potential, rough, tol=1e-11, options=options)
    known = torch.tensor([-16.505384168, -15.935043060, -15.593210938, -15.533060055], dtype=torch.float64)
    apart = (rough.energy[:, None] - known).abs().amin(1)
    near = apart < 1e-4  # one of them is near a saddle, to which no step leads
    assert int(near.sum()) >= 55
    assert float(fine.grad_rms[near].max()) < 1e-11
    assert float((fine.x - rough.x).norm(dim=1).max()) < 0.05
    assert float((fine.energy[near, None] - known).abs().amin(1).max()) < 1e-8


def test_coordinates_on_a_wall_stay_there():
    class Boxed(Offset):
        offset = 0.0
        bounds = Bounds.of([(-2.0, 0.5), (-2.0, 2.0), (-2.0, 2.0), (-2.0, 2.0)])

    start = torch.tensor([[0.5, 1.01, 0.99, -1.01]], dtype=torch.float64)
    points = polish(Boxed(), StationaryPoints.of(start, Boxed().energy(start)), tol=1e-12)
    assert bool(points.converged.all())
    assert points.x[0, 0] == 0.5
    torch.testing.assert_close(points.x[0, 1:], torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


def test_a_row_that_cannot_be_helped_comes_back_as_it_was():
    start = torch.tensor([[0.0, 0.1, 0.2, 5.0]], dtype=torch.float64)
    before = StationaryPoints.of(start, Offset().energy(start), status=torch.tensor([int(Status.STALLED)]))
    after = polish(Offset(), before, options=Newton(max_step=1e-3))
    assert torch.equal(after.x, before.x)
    assert after.status.tolist() == [Status.STALLED]


def test_float32_descent_and_float64_polish():
    """A descent in single precision, finished in double: ten digits of the position of each well."""

    class Single(Offset):
        offset = 0.0
        dtype = torch.float32

    class Double(Offset):
        offset = 0.0

    rough = relax(Single(), Single().sample(10, seed=0), optimiser=BFGS())
    fine = polish(Double(), rough.replace(x=rough.x.double()))
    assert bool(fine.converged.all())
    assert float((fine.x.abs() - 1).abs().max()) < 1e-8
