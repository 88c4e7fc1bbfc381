"""Hessian-vector products of a perceptron, written out: many for each row, from what one gradient leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from torchscape.potentials.module.perceptron import Perceptron
from torchscape.types import Float, Tensor

__all__ = ["CURVED", "Curved"]

# f' and f'' of the links' functions, from z and f(z); None where f'' is nought.
CURVED: dict[str | None, Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]] = {
    None: lambda z, f: (torch.ones_like(z), None),
    "tanh": lambda z, f: _of_sigmoid(f),
    "sigmoid": lambda z, f: _of_sigmoid(f),
    "relu": lambda z, f: ((f > 0).to(f), None),
    "sin": lambda z, f: (z.cos(), -f),
}


def _of_sigmoid(f: Tensor) -> tuple[Tensor, Tensor]:
    slope = f - f * f
    return slope, slope * (1 - 2 * f)


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Of one layer and a group of rows: W'; what goes into it (None: the data); dL/dz; and of what it is followed
    by, f'(z) and dL/df f''(z)."""

    w: Float[Tensor, "B h k"]
    a: Float[Tensor, "B k n"] | None
    g: Float[Tensor, "B h n"]
    slope: Float[Tensor, "B h n"] | None = None
    bend: Float[Tensor, "B h n"] | None = None


class Curved:
    """H(x_b) v for vectors v, by differentiating backpropagation in the direction of v (Pearlmutter 1994,
    doi 10.1162/neco.1994.6.1.147), without another exponential.

    Args:
        perceptron: all of whose activations are in :data:`CURVED`.
        x: rows; everything that a gradient computes is kept for them.
    """

    def __init__(self, perceptron: Perceptron, x: Float[Tensor, "B D"]) -> None:
        self.perceptron, self.x = perceptron, x
        self._layers = self._kept()

    def __call__(self, v: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
        """The products, in one pass for all of them."""
        b, k, d = v.shape
        links = self.perceptron.links
        out, flat = torch.zeros_like(v), v.reshape(b * k, d)
        total = out.view(b * k, d)
        turned = [link.matrices(flat) for link in links]  # V' and its bias: the map from W is linear
        along: list[Tensor] = []  # derivatives of z in the directions v
        into: Tensor | None = None  # of what goes into a layer
        for number, (kept, (w, c)) in enumerate(zip(self._layers, turned, strict=True)):
            if kept.a is None:
                z = self.perceptron.first(w, c).unflatten(0, (b, k))
            else:
                assert into is not None
                z = torch.bmm(w.reshape(b, -1, w.shape[2]), kept.a).view(b, k, w.shape[1], -1)
                z = z.add_(torch.matmul(kept.w[:, None], into))
                if c is not None:
                    z.add_(c.view(b, k, -1, 1))
            along.append(z)
            if number + 1 < len(links):
                assert kept.slope is not None
                into = z * kept.slope[:, None]
        g = self._lost(along[-1])
        for number in range(len(links) - 1, 0, -1):
            kept, before, w = self._layers[number], self._layers[number - 1], turned[number][0]
            assert kept.a is not None
            assert before.slope is not None
            inner = along[number - 1] * before.slope[:, None]
            by_weight = torch.bmm(g.flatten(1, 2), kept.a.mT).view(b, k, *w.shape[1:])
            crossed = torch.bmm(kept.g, inner.flatten(1, 2).mT).view(b, w.shape[1], k, w.shape[2])
            by_bias = None if turned[number][1] is None else g.sum(3).flatten(0, 1)
            links[number].add_to(total, (by_weight + crossed.transpose(1, 2)).flatten(0, 1), by_bias, self._unit)
            down = torch.bmm(w.view(b, k, *w.shape[1:]).transpose(2, 3).flatten(1, 2), kept.g).view_as(inner)
            down = down.add_(torch.matmul(kept.w.mT[:, None], g)).mul_(before.slope[:, None])
            g = down if before.bend is None else down.addcmul_(before.bend[:, None], along[number - 1])
        links[0].add_to(total, *self.perceptron.by_first(g.flatten(0, 1)), self._unit)
        return out

    def _kept(self) -> list[_Layer]:
        """A pass forwards and one backwards, of which everything is kept."""
        p, x = self.perceptron, self.x
        matrices = [link.matrices(x) for link in p.links]
        sums, values = p.forward(x, matrices, p.room(len(x), x)[: len(p.links)])
        _, g, self._unit = p.lost(values[-1], torch.empty_like(values[-1]))
        self._softmax = None if p.loss == "squares" else self._shares(g)
        layers = [_Layer(matrices[-1][0], values[-2] if len(values) > 1 else None, g)]
        for number in range(len(p.links) - 1, 0, -1):
            into = torch.bmm(matrices[number][0].mT, layers[0].g)  # dL/df
            slope, bend = CURVED[p.links[number - 1].activation](sums[number - 1], values[number - 1])
            a = values[number - 2] if number > 1 else None
            bend = None if bend is None else bend.mul_(into)
            layers.insert(0, _Layer(matrices[number - 1][0], a, into.mul_(slope), slope, bend))
        return layers

    def _shares(self, g: Float[Tensor, "B C n"]) -> Float[Tensor, "B C n"]:
        """softmax(z), from w softmax(z) - t."""
        t, w = self.perceptron.targets, self.perceptron.weights
        return g + t if w is None else (g + t) / torch.where(w == 0, 1.0, w)

    def _lost(self, z: Float[Tensor, "B K C n"]) -> Float[Tensor, "B K C n"]:
        """How dL/dz changes with z, in units of the derivatives."""
        w = self.perceptron.weights
        if self._softmax is None:
            return z if w is None else z * w
        p = self._softmax[:, None]
        turned = p * z
        mean = turned.sum(2, keepdim=True)
        turned = turned.addcmul_(p, mean, value=-1)
        return turned if w is None else turned.mul_(w)
