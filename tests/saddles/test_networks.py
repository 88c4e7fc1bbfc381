"""Networks: how many band maxima end in a verified saddle, and a saddle of 10^5 parameters without a Hessian."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
from saddles.known import DATA

from torchscape import ModulePotential
from torchscape.optimise import relax
from torchscape.saddles import Band, Follow, Krylov, Quench, connect, follow
from torchscape.saddles.distinct import first_of_each


def read(name: str):
    if not (DATA / name).exists():
        pytest.skip(f"needs {name}, which is not part of the package")
    return np.load(DATA / name)


def trimer_network(l2: float) -> ModulePotential:
    data = read("triatomic_database.npz")
    inputs = torch.as_tensor(data["distances"][:500])
    labels = torch.as_tensor(data["label"][:500]).long()
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 4)).double()
    return ModulePotential(net, (inputs, labels), loss=torch.nn.functional.cross_entropy, l2=l2)


def test_the_two_minima_of_the_trimer_network_are_joined():
    """At lambda = 1e-4 quenches end in two minima, 0.219462 and 0.230848, which are in one component."""
    u = trimer_network(1e-4)
    minima = relax(u, u.sample(12, seed=0))
    minima = minima[first_of_each(u, minima).unique()]
    assert minima.energy.sort().values.tolist() == pytest.approx([0.219462, 0.230848], abs=1e-6)
    found = connect(u, minima.x[:1], minima.x[1:])
    assert len(found) >= 1
    joined = torch.stack([found.minus.energy, found.plus.energy], 1).sort(1).values
    assert joined[found.ts.energy.argmin()].tolist() == pytest.approx([0.219462, 0.230848], abs=1e-6)


@pytest.mark.slow
def test_most_band_maxima_of_the_trimer_network_end_in_verified_saddles():
    """Lambda = 1e-5: condition numbers of 5e6, flat valleys tens of units long, saddles with curvature -1e-3."""
    u = trimer_network(1e-5)
    minima = relax(u, u.sample(128, seed=1))
    minima = minima[minima.converged]
    minima = minima[first_of_each(u, minima).unique()]
    minima = minima[minima.energy.argsort()][:12]
    i, j = torch.triu_indices(12, 12, 1)
    found = connect(u, minima.x[i], minima.x[j])
    assert found.success_rate >= 0.85
    assert sum(found.outcomes.values()) == len(found.outcome)
    assert len(found) >= 25


@pytest.mark.slow
def test_a_saddle_of_a_hundred_thousand_parameters_without_a_hessian():
    """Images of 100 x 100 pixels, ten hidden units: 100 120 parameters; a Hessian would take 75 GiB."""
    data = read("mnist_t10k.npz")
    images = torch.as_tensor(data["images"][:200]).double().reshape(-1, 1, 28, 28) / 255
    inputs = torch.nn.functional.interpolate(images, size=(100, 100), mode="bilinear").flatten(1) * 0.28
    labels = torch.as_tensor(data["labels"][:200]).long()
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(10_000, 10), torch.nn.Tanh(), torch.nn.Linear(10, 10)).double()
    u = ModulePotential(net, (inputs, labels), loss=torch.nn.functional.cross_entropy, l2=1e-3)
    assert u.ndim == 100_120
    minima = relax(u, u.sample(2, seed=0), tol=1e-7)
    assert bool(minima.converged.all())
    found = connect(u, minima.x[:1], minima.x[1:], band=Band(max_images=9, max_steps=60), tol=1e-7)
    assert found.n_hessians == 0
    assert len(found) >= 1
    assert found.ts.index.unique().tolist() == [1]
    # the negative mode, measured anew; and no direction along which the surface falls more steeply
    product = u.hvp(found.ts.x, found.mode)
    curvature = (product * found.mode).sum(1)
    assert bool((curvature < 0).all())
    assert bool(((product - curvature[:, None] * found.mode).norm(dim=1) < 1e-3 * curvature.abs()).all())
    assert bool((found.minus.energy < found.ts.energy).all())
    assert bool((found.plus.energy < found.ts.energy).all())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 24 * 1024**2


def test_krylov_spaces_smaller_than_the_network_lead_to_the_same_saddles():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 12, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (40,), generator=generator)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(12, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4)).double()
    u = ModulePotential(net, (inputs, labels), loss=torch.nn.functional.cross_entropy, l2=1e-2)
    assert u.ndim == 72
    minima = relax(u, u.sample(4, seed=0))
    minima = minima[first_of_each(u, minima).unique()]
    exact = connect(u, minima.x[:1], minima.x[1:2], descent=Quench())  # ends do not matter here
    assert len(exact) >= 1
    aside = 0.01 * torch.randn(exact.ts.x.shape, generator=generator, dtype=torch.float64)
    ended = follow(u, exact.ts.x + aside, exact.mode, options=Follow(curvature=Krylov(max_dim=18)))
    assert bool(ended.points.converged.all())
    # both residuals over the smallest curvature: no stationary point is known better than that
    residual = 72**0.5 * (ended.points.grad_rms + exact.ts.grad_rms)
    reach = residual / exact.ts.eigenvalues.abs().amin(1)
    assert bool(((ended.points.x - exact.ts.x).norm(dim=1) < 2 * reach).all())
    assert torch.allclose(ended.points.energy, exact.ts.energy, atol=1e-10)
    assert torch.allclose((ended.mode * exact.mode).sum(1).abs(), torch.ones(len(exact)).double(), atol=1e-2)
