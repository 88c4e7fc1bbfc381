"""What convolutions, attention, embeddings and recurrent layers see: held against Hessians, which know it too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from torchscape import ModulePotential
from torchscape.potentials.contract import check_contract
from torchscape.potentials.module.moments import Recorder

ROUNDING = {"rtol": 1e-9, "atol": 1e-11}


def squares(out, target):
    """Of all outputs of a sample: the Hessian of a unit is then twice the sum of a a^T over its places."""
    return (out - target).square().flatten(1).sum(1).mean()


def damped_inverse(moments):
    """(A + 0.3 mean eigenvalue)^-1 of determinant one, by NumPy."""
    a = moments.numpy()
    p = np.linalg.inv(a + 0.3 * np.trace(a) / len(a) * np.eye(len(a)))
    return torch.as_tensor(p / np.linalg.det(p) ** (1 / len(p)))


def units(potential, weight, bias=None):
    """The coordinates of each unit of a layer, those of its weights first."""
    of = potential.layout.coordinates(weight)
    n = potential.layout.shapes[potential.layout.names.index(weight)][0]
    where = torch.arange(of.start, of.stop).reshape(n, -1)
    if bias is not None:
        of = potential.layout.coordinates(bias)
        where = torch.cat([where, torch.arange(of.start, of.stop)[:, None]], 1)
    return where


def expect(potential, where, moments):
    """P is the damped inverse of the moments in each unit, and nothing between units."""
    p = potential.preconditioner.matrix(potential.initial)
    for unit, a in zip(where, moments, strict=True):
        torch.testing.assert_close(p[unit][:, unit], damped_inverse(a), **ROUNDING)
        p[unit[:, None], unit] = torch.eye(len(unit), dtype=p.dtype)
    assert torch.equal(p, torch.eye(len(p), dtype=p.dtype))
    check_contract(potential)


def data(*shape, n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64) + 0.3


LAYERS = {
    "plain": (nn.Conv2d(2, 3, 3), (2, 5, 4)),
    "strides": (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 6, 4)),
    "dilation": (nn.Conv2d(1, 2, 2, dilation=(2, 3), padding=1), (1, 5, 6)),
    "same": (nn.Conv2d(2, 2, (2, 3), padding="same", dilation=(1, 2)), (2, 4, 4)),
    "groups": (nn.Conv2d(4, 6, 2, groups=2), (4, 3, 3)),
    "depthwise": (nn.Conv2d(3, 6, 3, groups=3, padding=1, bias=False), (3, 3, 4)),
    "circular": (nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), (1, 4, 4)),
    "line": (nn.Conv1d(2, 3, 3, stride=2, padding=2), (2, 9)),
    "space": (nn.Conv3d(1, 2, 2, padding="valid"), (1, 3, 3, 2)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_convolutions_see_patches(name, monkeypatch):
    """Their Hessian is that of least squares on patches; patches are unfolded a few samples at a time."""
    layer, shape = LAYERS[name]
    monkeypatch.setattr("torchscape.potentials.module.moments._AT_ONCE", 500)
    x = data(*shape)
    layer = layer.double()
    target = torch.zeros_like(layer(x)).detach()
    potential = ModulePotential(layer, (x, target), squares, symmetry=None, chunk_size=5)
    bias = "bias" if layer.bias is not None else None
    where = units(potential, "weight", bias)
    h = potential.hessian(potential.initial)[0]
    places = target[0, 0].numel()
    expect(potential, where, [h[unit][:, unit] / (2 * places) for unit in where])


def test_tables_of_embeddings_see_how_often_rows_are_looked_up():
    numbers = torch.tensor([[0, 1, 1], [1, 1, 3], [0, 1, 1], [1, 3, 3]])
    net = nn.Embedding(5, 2).double()
    target = torch.zeros(4, 3, 2, dtype=torch.float64)
    potential = ModulePotential(net, (numbers, target), squares, symmetry=None)
    h = potential.hessian(potential.initial)[0]
    where = units(potential, "weight").T  # a unit is a column
    expect(potential, where, [h[unit][:, unit] / (2 * 3) for unit in where])


class SelfAttention(nn.Module):
    def __init__(self, kdim=None):
        super().__init__()
        torch.manual_seed(0)
        self.mixed = nn.MultiheadAttention(4, 2, kdim=kdim, vdim=kdim, batch_first=True)

    def forward(self, x, other=None):
        other = x if other is None else other
        return self.mixed(x, other, other, need_weights=False)[0]


def second_moments(x):
    a = np.hstack([x.reshape(-1, x.shape[-1]).numpy(), np.ones((x[..., 0].numel(), 1))])
    return torch.as_tensor(a.T @ a / len(a))


def test_projections_of_attention_see_the_sequence():
    x = data(3, 4)
    potential = ModulePotential(SelfAttention(), (x, torch.zeros_like(x)), squares, symmetry=None)
    where = units(potential, "mixed.in_proj_weight", "mixed.in_proj_bias")
    expect(potential, where, [second_moments(x)] * 12)


@pytest.mark.parametrize("kdim", [None, 3])
def test_projections_of_attention_see_each_its_own(kdim):
    """Queries come from one sequence, keys and values from another, which may have another width."""
    x, other = data(3, 4), data(5, kdim or 4, seed=1)
    net = SelfAttention(kdim)
    potential = ModulePotential(net, (x, other, torch.zeros_like(x)), squares, symmetry=None)
    seen = [second_moments(x)] * 4 + [second_moments(other)] * 8
    if kdim is None:
        where = units(potential, "mixed.in_proj_weight", "mixed.in_proj_bias")
    else:
        of = potential.layout.coordinates("mixed.in_proj_bias")
        bias = torch.arange(of.start, of.stop)[:, None]
        weights = [units(potential, f"mixed.{name}_proj_weight") for name in "qkv"]
        where = [torch.cat(pair) for pair in zip([row for w in weights for row in w], bias, strict=True)]
    expect(potential, where, seen)


class Last(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        torch.manual_seed(0)
        self.layer = kind(3, 2, batch_first=True, **options)

    def forward(self, x):
        return self.layer(x)[0]


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}], ids=str)
def test_recurrent_layers_see_every_step(kind, options):
    x = data(5, 3, n=6)
    net = Last(kind, **options)
    target = torch.zeros_like(net.double()(x)).detach()
    potential = ModulePotential(net, (x, target), squares, symmetry=None)
    moments, where = second_moments(x), []
    for direction in ("", "_reverse")[: 1 + options.get("bidirectional", False)]:
        bias = f"layer.bias_ih_l0{direction}" if options.get("bias", True) else None
        where += list(units(potential, f"layer.weight_ih_l0{direction}", bias))
    if not options.get("bias", True):
        moments = moments[:-1, :-1]
    expect(potential, where, [moments] * len(where))


def test_packed_sequences_are_those_that_are_not_padding():
    net = nn.GRU(3, 2).double()
    lengths = [4, 2]
    x = [data(3, n=length, seed=length) for length in lengths]
    packed = nn.utils.rnn.pack_sequence(x)
    with Recorder(dict(net.named_parameters())) as recorder:
        net(packed)
    ((key, (seen,)),) = recorder.calls.items()
    assert key == ("weight_ih_l0", 0, 6)
    total, n = seen.moments()
    assert n == sum(lengths)
    torch.testing.assert_close(total[0] / n, second_moments(torch.cat(x)))


class Siamese(nn.Module):
    """One layer for two inputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x, y):
        return torch.tanh(self.layer(x)) - torch.tanh(self.layer(y))


def test_a_layer_that_sees_two_inputs_has_the_moments_of_both():
    x, y = data(3), data(3, seed=1)
    potential = ModulePotential(Siamese(), (x, y, torch.zeros(12, 2).double()), squares, symmetry=None)
    expect(potential, units(potential, "layer.weight", "layer.bias"), [second_moments(torch.cat([x, y]))] * 2)


def test_it_narrows_the_spectrum_of_a_convolution():
    """Smooth images: neighbouring pixels are nearly the same. By NumPy, of the whole Hessian."""
    x = data(1, 8, 8, n=30).cumsum(2).cumsum(3) / 20
    layer = nn.Conv2d(1, 2, 3, padding=1).double()
    potential = ModulePotential(layer, (x, torch.zeros(30, 2, 8, 8).double()), squares, l2=1e-3, symmetry=None)
    h = potential.hessian(potential.initial)[0].numpy()
    p = potential.preconditioner.matrix(potential.initial).numpy()
    before, after = (np.linalg.eigvals(m).real for m in (h, p @ h))
    assert after.max() / np.median(after) < 0.2 * before.max() / np.median(before)
