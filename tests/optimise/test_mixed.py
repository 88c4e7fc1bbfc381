"""Descents that begin in float32 end in the minima of float64, converged to its tolerance."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchscape as tsc
from torchscape import problems
from torchscape.errors import PotentialError
from torchscape.optimise import BFGS, LBFGS, choose_optimiser, relax
from torchscape.potentials import FunctionPotential
from torchscape.potentials.counted import Metered


def network(**options) -> tsc.ModulePotential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 3))
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    data = x, (x[:, :3] + x[:, 3:] ** 2).argmax(1)
    return tsc.ModulePotential(net, data, nn.functional.cross_entropy, l2=1e-2, symmetry=None, **options)


CASES = {
    "regression": (lambda: problems.get("regression").potential, 40),  # in a box
    "LJ_7": (lambda: problems.get("lj7").potential, 24),
    "a network": (network, 12),  # 227 coordinates: L-BFGS
    "weak": (lambda: FunctionPotential(lambda x: 1e-21 * ((x**2 - 1) ** 2 + 0.1 * x).sum(), 3), 12),
}


@pytest.mark.parametrize("name", CASES)
def test_minima_are_those_of_float64(name):
    make, n = CASES[name]
    u = make()
    starts = u.sample(n, seed=1)
    exact = relax(u, starts)
    counted = Metered(make())
    counted.precision = "mixed"
    found = relax(counted, starts)
    assert choose_optimiser(counted).precision == "mixed"
    assert found.x.dtype == torch.float64
    assert int(found.converged.sum()) >= int(exact.converged.sum()) - 1
    # what is said of every point is what float64 says there
    energy, grad = u.energy_and_grad(found.x)
    held = grad if u.bounds is None else u.bounds.project_grad(found.x, grad)
    unit = u.energy_scale
    torch.testing.assert_close(found.energy / unit, energy / unit, rtol=1e-12, atol=1e-12)
    assert float(held.square().mean(1).sqrt()[found.converged].max()) <= 1e-8 * unit
    # the same minima: each of one is one of the other's, but where a step more or less leads elsewhere
    for one, other in ((found, exact), (exact, found)):
        of, among = (points.energy[points.converged] / unit for points in (one, other))
        known = (of[:, None] - among).abs().amin(1) < 1e-8 * of.abs().clamp(min=1.0)
        assert int((~known).sum()) <= len(of) // 5
    assert counted.n_gradients >= int(found.n_evaluations.sum())  # those in float32 count too
    assert float(found.n_evaluations.double().median()) < 1.5 * float(exact.n_evaluations.double().median()) + 5


def test_most_evaluations_are_in_float32():
    u = network()
    u.precision = "mixed"
    single, asked = u.single(), []
    assert single.dtype == torch.float32
    evaluate = type(single).energy_and_grad

    def noted(self, x):
        asked.append((x.dtype, len(x)))
        return evaluate(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(single), "energy_and_grad", noted)
        points = relax(u, u.sample(6, seed=2))
    spent = {dtype: sum(n for of, n in asked if of == dtype) for dtype in (torch.float32, torch.float64)}
    assert bool(points.converged.all())
    assert spent[torch.float32] > spent[torch.float64] > 0


def test_rows_that_run_out_of_evaluations_are_said_in_float64():
    u = network()
    points = relax(u, u.sample(4, seed=3), optimiser=LBFGS(precision="mixed", max_evaluations=5))
    energy, grad = u.energy_and_grad(points.x)
    assert not bool(points.converged.any())
    torch.testing.assert_close(points.energy, energy, rtol=1e-13, atol=0)
    torch.testing.assert_close(points.grad_rms, grad.square().mean(1).sqrt(), rtol=1e-12, atol=0)


def test_what_keeps_numbers_in_float64_is_evaluated_in_float64():
    table = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    def energy(x):
        return ((x - table.to(x.device)) ** 2).sum().to(torch.float64)

    u = FunctionPotential(energy, 3)
    u.precision = "mixed"
    assert u.single() is None
    points = relax(u, torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(points.x, table.expand(2, 3))


def test_float32_potentials_have_one_precision():
    u = network(dtype=torch.float32)
    u.precision = "mixed"
    assert choose_optimiser(u).precision == "double"
    assert u.double().dtype == torch.float64
    assert u.single() is u


def test_the_precision_is_one_of_two_and_no_part_of_the_landscape():
    with pytest.raises(PotentialError, match=r'"double" or "mixed"'):
        BFGS(precision="half")
    u = network()
    before = u.fingerprint()
    u.precision = "mixed"
    assert u.fingerprint() == before
