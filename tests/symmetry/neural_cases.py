"""Small networks of every kind, with the symmetry that was detected and the function they compute."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call

from torchscape import random
from torchscape.layout import ParameterLayout
from torchscape.symmetry.neural import NeuralSymmetry, detect


@dataclasses.dataclass(frozen=True)
class Case:
    """A network with its flat coordinates."""

    symmetry: NeuralSymmetry
    layout: ParameterLayout
    outputs: Callable[[torch.Tensor], torch.Tensor]  # [B D] -> [B ...]
    x: torch.Tensor  # the network's own parameters, one row

    def points(self, n: int, seed: int = 0) -> torch.Tensor:
        """Rows in general position."""
        return random.normal(random.fold(seed, torch.arange(n)), self.layout.ndim)


def case(net: nn.Module, *inputs: torch.Tensor, frozen: tuple[str, ...] = (), **options) -> Case:
    net = net.double().eval()
    inputs = tuple(i.double() if i.is_floating_point() else i for i in inputs)
    parameters = {name: p.detach() for name, p in net.named_parameters() if name not in frozen}
    layout = ParameterLayout.of({name: p.shape for name, p in parameters.items()})

    def output(row: torch.Tensor) -> torch.Tensor:
        made = functional_call(net, layout.unflatten(row), inputs)
        return torch.cat([t.flatten() for t in made]) if isinstance(made, tuple) else made

    def outputs(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.stack([output(row) for row in x])

    return Case(detect(net, layout, inputs, **options), layout, outputs, layout.flatten(parameters)[None])


def mlp(*sizes: int, activation: type[nn.Module] = nn.Tanh, **options) -> Case:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(a, b)] + [activation()] * (i < len(sizes) - 2)
    return case(nn.Sequential(*layers), torch.randn(7, sizes[0]), **options)


class Residual(nn.Module):
    """A stream of width 4 with a block of its own inside, and one that acts on the stream directly."""

    def __init__(self, activation: Callable = torch.tanh) -> None:
        super().__init__()
        self.inp, self.up, self.down = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 4)
        self.mix, self.out = nn.Linear(4, 4), nn.Linear(4, 2)
        self.activation = activation

    def forward(self, x):
        h = self.activation(self.inp(x))
        h = h + self.down(torch.sin(self.up(h)))
        h = h + self.activation(self.mix(h))
        return self.out(h)


class ConvNet(nn.Module):
    """Convolution, batch-norm in evaluation mode, pooling, a depthwise and a residual convolution, flatten."""

    def __init__(self, running: str = "fresh") -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.depth, self.point = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(16, 3)
        if running == "distinct":
            self.bn.running_mean.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
        if running == "pairs":
            self.bn.running_mean.copy_(torch.tensor([0.1, 0.2, 0.1, 0.2]))
            self.bn.running_var.copy_(torch.tensor([1.0, 2.0, 1.0, 2.0]))

    def forward(self, x):
        h = torch.relu(self.bn(self.conv(x)))
        h = h + self.point(torch.relu(self.depth(h)))
        return self.head(self.pool(h).flatten(1))


class PlainAttention(nn.Module):
    """Query, key and value by one linear map, heads by view, scaled_dot_product_attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Linear(3, 6), nn.Linear(6, 18)
        self.proj, self.out = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        h = self.embed(x)
        b, t, e = h.shape
        q, k, v = (z.view(b, t, 3, 2).transpose(1, 2) for z in self.qkv(h).chunk(3, dim=-1))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        h = h + self.proj(y.transpose(1, 2).reshape(b, t, e))
        return self.out(torch.tanh(h).mean(1))


class Transformer(nn.Module):
    """An embedding, a position table, an encoder layer with layer norms, a class token's readout."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(5, 6), nn.Parameter(torch.randn(3, 6))
        self.layer = nn.TransformerEncoderLayer(6, heads, 4, batch_first=True)
        self.out = nn.Linear(6, 2)

    def forward(self, tokens):
        return self.out(self.layer(self.embed(tokens) + self.position)[:, 0])


class Dense(nn.Module):
    """Concatenation of two streams, slices of a third, a gate, and a tied decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 3), nn.Linear(3, 4), nn.Linear(7, 6)
        self.encode, self.bias = nn.Linear(3, 4, bias=False), nn.Parameter(torch.randn(3))

    def forward(self, x):
        h = torch.cat([torch.tanh(self.a(x)), torch.relu(self.b(x))], dim=1)
        left, right = self.c(h).chunk(2, dim=1)
        gated = left * torch.sigmoid(right)
        return gated @ self.encode.weight.T, torch.tanh(self.encode(x)) @ self.encode.weight + self.bias
