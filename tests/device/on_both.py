"""Potentials of every kind and one small network, made on any device, and comparison of what came out there."""

from __future__ import annotations

import torch
from torch import nn

import torchscape as tsc
from torchscape import Network, random
from torchscape.potentials import GaussianProcessPotential


def images(n: int = 6, side: int = 4) -> torch.Tensor:
    return random.normal(random.fold(1, torch.arange(n)), side * side)


LABELS = torch.arange(6) % 3


def module(net: nn.Module, inputs: torch.Tensor, device, **options) -> tsc.ModulePotential:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator))
    return tsc.ModulePotential(
        net.eval(), (inputs, LABELS), nn.functional.cross_entropy, 1e-2, device=device, **options
    )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend, self.out = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        x = x.reshape(len(x), 4, 4)
        return self.out(self.attend(x, x, x, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell, self.out = cell(4, 1, batch_first=True), nn.Linear(1, 3)

    def forward(self, x):
        return self.out(self.cell(x[:, :8].reshape(len(x), 2, 4))[0][:, -1])


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 4)), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)
    )


def gaussian_process(device) -> GaussianProcessPotential:
    """Of noisy data: without noise, the hyperparameters run away and there is no minimum."""
    x = torch.linspace(-2.0, 2.0, 20, dtype=torch.float64)[:, None]
    noise = 0.3 * random.normal(random.fold(9, torch.arange(20)), 1)[:, 0]
    return GaussianProcessPotential(x, (2 * x[:, 0]).sin() + noise, device=device)


KINDS = {
    "linear": lambda device: module(nn.Sequential(nn.Linear(16, 3), nn.Tanh(), nn.Linear(3, 3)), images(), device),
    "convolution and batch-norm": lambda device: module(
        nn.Sequential(nn.Unflatten(1, (1, 4, 4)), *list(convolution())[1:]), images(), device
    ),
    "attention": lambda device: module(Attention(), images(), device, symmetry=None),
    "lstm": lambda device: module(Recurrent(nn.LSTM), images(), device, symmetry=None),
    "gru": lambda device: module(Recurrent(nn.GRU), images(), device, symmetry=None),
    "rnn": lambda device: module(Recurrent(nn.RNN), images(), device, symmetry=None),
    "embedding": lambda device: module(
        nn.Sequential(nn.Embedding(3, 2), nn.Flatten(), nn.Linear(4, 3)),
        torch.tensor([[0, 1], [2, 1], [1, 1], [0, 2], [2, 2], [1, 0]]),
        device,
        symmetry=None,
    ),
    "function": lambda device: tsc.FunctionPotential(
        lambda x: ((x**2 - 1) ** 2).sum() + 0.2 * x[0], 2, device=device
    ),
    "cluster": lambda device: tsc.problems.get("lj", n=5, device=device).potential,
    "gaussian process": gaussian_process,
    "k-means": lambda device: tsc.problems.get("kmeans", k=2, device=device).potential,
    "p-spin": lambda device: tsc.problems.get("p-spin", n=4, device=device).potential,
}


def wells(device) -> tsc.FunctionPotential:
    """Four minima, four transition states, one maximum; tilted, so that no two energies agree."""
    return tsc.FunctionPotential(
        lambda x: ((x**2 - 1) ** 2).sum() + 0.2 * x[0] + 0.1 * x[1], 2, length_scale=0.5, device=device
    )


def network(device) -> Network:
    """Twelve minima in a ring with chords."""
    n = 12
    i = torch.cat([torch.arange(n), torch.tensor([0, 3, 5])])
    j = torch.cat([(torch.arange(n) + 1) % n, torch.tensor([6, 9, 11])])
    energy = random.uniform(random.fold(3, torch.arange(n)), 1)[:, 0]
    top = torch.maximum(energy[i], energy[j]) + 0.1 + random.uniform(random.fold(4, torch.arange(len(i))), 1)[:, 0]
    return Network.of(
        energy,
        torch.stack([i, j]),
        top,
        coords=random.normal(random.fold(5, torch.arange(n)), 6),
        ts_coords=random.normal(random.fold(6, torch.arange(len(i))), 6),
        log_det=10 + random.uniform(random.fold(7, torch.arange(n)), 1)[:, 0],
        ts_log_det=9 + random.uniform(random.fold(8, torch.arange(len(i))), 1)[:, 0],
        n_modes=6,
        properties={"accuracy": torch.linspace(0.0, 1.0, n, dtype=torch.float64)},
    ).to(device)


def close(there, here, *, rtol: float = 1e-6, atol: float = 1e-8) -> None:
    """Equal to rounding: tensors, and dataclasses, tuples, dicts and numbers made of them."""
    import dataclasses

    if isinstance(here, torch.Tensor):
        torch.testing.assert_close(there.cpu(), here, rtol=rtol, atol=atol, equal_nan=True)
    elif dataclasses.is_dataclass(here):
        for field in dataclasses.fields(here):
            close(getattr(there, field.name), getattr(here, field.name), rtol=rtol, atol=atol)
    elif isinstance(here, dict):
        assert list(there) == list(here)
        for name in here:
            close(there[name], here[name], rtol=rtol, atol=atol)
    elif isinstance(here, list | tuple):
        assert len(there) == len(here)
        for a, b in zip(there, here, strict=True):
            close(a, b, rtol=rtol, atol=atol)
    elif isinstance(here, float):
        torch.testing.assert_close(there, here, rtol=rtol, atol=atol, equal_nan=True)
    elif isinstance(here, bool | int | str | type(None)):
        assert there == here
