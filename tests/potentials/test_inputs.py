"""What the inputs of a network say about its curvature: which layers, which matrix, and what it is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torchscape import ModulePotential, problems, random
from torchscape.optimise import BFGS, LBFGS, choose_optimiser, relax
from torchscape.potentials.contract import check_contract
from torchscape.potentials.module import inputs

N, K, H, C = 40, 6, 5, 3


def data(k=K, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(0, -2, k, dtype=torch.float64)
    x = torch.randn(N, k, generator=generator, dtype=torch.float64) * spread + 0.3
    return x, torch.randint(C, (N,), generator=generator)


# Eigenvectors here, an inverse by NumPy there, of matrices with condition numbers up to 15: a few digits of 16.
ROUNDING = {"rtol": 1e-12, "atol": 1e-13}


def build(net, xy=None, loss=F.cross_entropy, **options):
    return ModulePotential(net, xy or data(), loss, symmetry=None, **options)


def mlp(k=K, bias=True):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(k, H, bias=bias), nn.Tanh(), nn.Linear(H, C))


def expected(x, bias=True, l2=0.0):
    """(A + 0.3 mean eigenvalue + 2 l2 / 0.05)^-1 of determinant one, by NumPy."""
    a = np.hstack([x.numpy(), np.ones((len(x), 1))]) if bias else x.numpy()
    moments = a.T @ a / len(a)
    damping = 0.3 * np.trace(moments) / len(moments) + 2 * l2 / 0.05
    p = np.linalg.inv(moments + damping * np.eye(len(moments)))
    return torch.as_tensor(p / np.linalg.det(p) ** (1 / len(p)))


def blocks(potential, bias=True, name="0"):
    """P restricted to each unit of a layer, weights first, and what is left of P."""
    p = potential.preconditioner.matrix(potential.initial)
    weight = potential.layout.coordinates(f"{name}.weight")
    k = potential.layout.shapes[potential.layout.names.index(f"{name}.weight")][1]
    start = torch.arange(weight.start, weight.stop).reshape(-1, k)
    if bias:
        of = potential.layout.coordinates(f"{name}.bias")
        start = torch.cat([start, torch.arange(of.start, of.stop)[:, None]], 1)
    units = torch.stack([p[unit][:, unit] for unit in start])
    for unit in start:
        p[unit[:, None], unit] = torch.eye(len(unit), dtype=p.dtype)
    return units, p


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk_size", [None, 7])
def test_every_unit_has_the_damped_inverse_of_the_moments_of_its_inputs(bias, chunk_size):
    potential = build(mlp(bias=bias), chunk_size=chunk_size)
    units, rest = blocks(potential, bias)
    for unit in units:
        torch.testing.assert_close(unit, expected(data()[0], bias), **ROUNDING)
    assert torch.equal(rest, torch.eye(len(rest), dtype=rest.dtype))
    check_contract(potential)


def test_it_caps_the_spectrum_of_least_squares():
    """There the Hessian of every unit is 2 A exactly, with eigenvalues a: those of P H are a / (a + 0.3 mean)."""
    torch.manual_seed(0)
    y = torch.randn(N, C, dtype=torch.float64)
    potential = build(nn.Linear(K, C), (data()[0], y), lambda out, target: ((out - target) ** 2).sum(1).mean())
    h = potential.hessian(potential.initial)[0]
    p = potential.preconditioner.matrix(potential.initial)
    a = torch.linalg.eigvalsh(h)
    want = a / (a + 0.3 * a.mean())
    found = torch.linalg.eigvals(p @ h).real.sort().values
    torch.testing.assert_close(found / found[-1], want / want[-1])
    assert float(a[-1] / a[-8]) > 2 * float(want[-1] / want[-8])


def test_only_layers_that_see_the_data_are_changed():
    net = mlp()
    net[0].weight.requires_grad_(False)
    net[0].bias.requires_grad_(False)
    frozen = build(net)  # now the second layer's inputs are constants
    hidden = torch.tanh(data()[0] @ net[0].weight.double().T + net[0].bias.double()).detach()
    units, _ = blocks(frozen, name="2")
    torch.testing.assert_close(units[0], expected(hidden), **ROUNDING)


class Twice(nn.Module):
    """One layer, applied to the inputs and to its own outputs."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(K, K), nn.Linear(K, C)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class Own(nn.Module):
    """Parameters that no linear layer uses."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(K, C))

    def forward(self, x):
        return x @ self.weight


class Shared(nn.Module):
    """Two layers that see the data, and have one bias."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(K, C), nn.Linear(K, C)
        self.two.bias = self.one.bias

    def forward(self, x):
        return torch.tanh(self.one(x)) + torch.sin(self.two(x))


@pytest.mark.parametrize("net", [Twice, Own, Shared])
def test_where_no_such_layer_is_there_is_none(net):
    potential = build(net())
    assert potential.preconditioner is None
    potential.with_(l2=0.1)


def test_a_loss_of_model_and_batch_is_recorded_too():
    x, t = data()

    def loss(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["t"])

    units, _ = blocks(build(mlp(), {"x": x, "t": t}, loss))
    torch.testing.assert_close(units[0], expected(x), **ROUNDING)


def test_wide_layers_keep_the_largest_eigenvectors(monkeypatch):
    """Data of rank 9 among 30 inputs: the low rank form is the dense one."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, 9, generator=generator, dtype=torch.float64) @ torch.randn(9, 30, dtype=torch.float64)
    dense = build(mlp(30), (x, data()[1]))
    wide = build(mlp(30), (x, data()[1]))
    like = dense.initial
    dense.preconditioner.matrix(like)
    monkeypatch.setattr(inputs, "_DENSE", 10)
    monkeypatch.setattr(inputs, "_RANK", 12)
    layer = wide.preconditioner.layers[0]
    assert layer.right is not None
    assert layer.right.shape == (12, 31)
    torch.testing.assert_close(wide.preconditioner.matrix(like), dense.preconditioner.matrix(like))
    check_contract(wide)
    monkeypatch.setattr(inputs, "_WIDEST", 20)
    assert build(mlp(30), (x, data()[1])).preconditioner is None


def test_relatives_have_their_own():
    potential = build(mlp())
    first = potential.preconditioner
    other, _ = data(seed=5)
    units, _ = blocks(potential.with_(l2=0.3))
    torch.testing.assert_close(units[0], expected(data()[0], l2=0.3), **ROUNDING)
    summed = build(mlp(), loss=nn.CrossEntropyLoss(reduction="sum"), l2=0.3 * N)
    torch.testing.assert_close(blocks(summed)[0], blocks(potential.with_(l2=0.3))[0])
    units, _ = blocks(potential.with_data((other, data()[1])))
    torch.testing.assert_close(units[0], expected(other), **ROUNDING)
    units, _ = blocks(potential.on(range(10)))
    torch.testing.assert_close(units[0], expected(data()[0][:10]), **ROUNDING)
    single = potential.with_(dtype=torch.float32)
    assert single.preconditioner(single.initial).dtype == torch.float32
    assert potential.preconditioner is first


@pytest.mark.parametrize("optimiser", [BFGS(), LBFGS(memory=40)], ids=["bfgs", "lbfgs"])
def test_images_of_a_start_end_in_images_of_its_minimum(optimiser):
    potential = ModulePotential(mlp(), data(), F.cross_entropy, l2=1e-3)
    starts = potential.sample(6, seed=1)
    images = potential.symmetry.random_image(starts, random.fold(0, torch.arange(6)))
    points = relax(potential, torch.cat([starts, images]), optimiser=optimiser, tol=1e-7)
    ends, others = points[:6], points[6:]
    assert bool(points.converged.all())
    torch.testing.assert_close(ends.energy, others.energy, rtol=0, atol=1e-10)
    assert float(potential.symmetry.distance(ends.x, others.x).max()) < 1e-3
    assert float((ends.x - others.x).norm(dim=1).min()) > 0.1


def test_digits_take_two_thirds_of_the_evaluations():
    potential = problems.get("digits", hidden=4, n_train=500).potential
    starts = potential.sample(12, seed=1)
    spent, lowest = [], []
    for known in (potential.preconditioner, None):
        potential.preconditioner = known
        optimiser = choose_optimiser(potential)
        assert optimiser.memory == (50 if known else 100)  # a tenth of the samples
        points = relax(potential, starts, optimiser=optimiser, tol=1e-6)
        assert bool(points.converged.all())
        spent.append(float(points.n_evaluations.double().mean()))
        lowest.append(float(points.energy.min()))
    assert spent[0] < 0.75 * spent[1]
    assert abs(lowest[0] - lowest[1]) < 0.02
