"""Recurrent layers written out are torch's, and on a device they are evaluated for all walkers at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from torchscape import random
from torchscape.potentials import ModulePotential
from torchscape.potentials.recurrent import can_be_unrolled, unrolled

OPTIONS = {
    "plain": {},
    "two layers": {"num_layers": 2},
    "both ways": {"bidirectional": True, "num_layers": 2},
    "no biases": {"bias": False},
    "batch first": {"batch_first": True},
    "projected": {"proj_size": 2, "num_layers": 2, "bidirectional": True},
    "projected, no biases": {"proj_size": 2, "bias": False},
}


def normal(key: int, *shape: int) -> torch.Tensor:
    n = int(torch.tensor(shape).prod())
    return random.normal(random.fold(key, torch.arange(1)), n)[0].reshape(shape)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_every_option_gives_the_numbers_of_torch(kind, options, monkeypatch):
    if kind is not nn.LSTM and "proj_size" in options:
        pytest.skip("only LSTM layers have a projection")
    layer = kind(3, 4, **options).double()
    x = normal(1, 5, 2, 3).requires_grad_(True)
    directions = layer.num_layers * (2 if layer.bidirectional else 1)
    n = 5 if options.get("batch_first") else 2
    h0, c0 = normal(2, directions, n, options.get("proj_size", 4)), normal(3, directions, n, 4)
    states = (h0, c0) if kind is nn.LSTM else h0
    seen = []
    name = {nn.LSTM: "lstm", nn.GRU: "gru", nn.RNN: "rnn_tanh"}[kind]
    torchs = getattr(torch._VF, name)
    monkeypatch.setattr(torch._VF, name, lambda *args: (seen.append(args), torchs(*args))[1])
    layer(x, states)
    assert can_be_unrolled(name, seen[0])
    results, expected = unrolled(name, *seen[0]), torchs(*seen[0])
    assert len(results) == len(expected)
    for one, other in zip(results, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=1e-13)
    of = [x, *layer.parameters()]
    slopes, right = (
        torch.autograd.grad(sum(part.square().sum() for part in parts), of) for parts in (results, expected)
    )
    for one, other in zip(slopes, right, strict=True):
        torch.testing.assert_close(one, other, atol=1e-13, rtol=1e-12)


def test_packed_sequences_and_dropout_are_left_to_torch():
    layer = nn.LSTM(3, 4, num_layers=2, dropout=0.5)
    x, states = torch.zeros(5, 2, 3), torch.zeros(2, 2, 4)
    weights = layer._flat_weights
    assert not can_be_unrolled("lstm", (x, (states, states), weights, True, 2, 0.5, True, False, False))
    assert can_be_unrolled("lstm", (x, (states, states), weights, True, 2, 0.5, False, False, False))
    assert not can_be_unrolled("lstm", (x[0], x, (states, states), weights, True, 2, 0.0, False, False))
    assert not can_be_unrolled("rnn", (x, states, weights, True, 2, 0.0, False, False, False))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.r, self.o = kind(3, 2, batch_first=True), nn.Linear(2, 1)

    def forward(self, x):
        return self.o(self.r(x)[0][:, -1])


@pytest.mark.filterwarnings("error:.*walker by walker")
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_no_loop_over_walkers_on_any_device(kind, device):
    data = normal(4, 6, 4, 3), normal(5, 6, 1)
    net = Recurrent(kind).double()
    here, there = (ModulePotential(net, data, mse_loss, symmetry=None, device=d) for d in ("cpu", device))
    x = here.sample(3, seed=1)
    v = normal(6, *x.shape)
    expected = (*here.energy_and_grad(x), here.hvp(x, v))
    found = (*there.energy_and_grad(x.to(device)), there.hvp(x.to(device), v.to(device)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, atol=1e-12, rtol=1e-10)
