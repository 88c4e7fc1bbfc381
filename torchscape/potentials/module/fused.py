"""``Fused``: energy and gradient of a perceptron in operations that a compiler makes few loops of."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from torchscape.potentials.module.perceptron import Perceptron, _Link, stacked, unstacked
from torchscape.types import Float, Tensor

__all__ = ["Fused"]

_SMALL = 64  # weights, up to which every feature is a tensor by itself, and all is one loop over samples
_aten = torch.ops.aten

# f(z), and f'(z) g from (g, z, f(z)); the layers around a tanh know that it is a sigmoid here (``perceptron.py``).
_FORWARD: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda z: z,
    "tanh": torch.sigmoid,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "sin": torch.sin,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "elu": functional.elu,
    "softplus": functional.softplus,
}
_BACKWARD: dict[str | None, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    None: lambda g, z, f: g,
    "tanh": lambda g, z, f: g * (f * (1 - f)),
    "sigmoid": lambda g, z, f: g * (f * (1 - f)),
    "relu": lambda g, z, f: torch.where(f > 0, g, 0.0),
    "sin": lambda g, z, f: g * z.cos(),
    "gelu": lambda g, z, f: _aten.gelu_backward(g, z),
    "silu": lambda g, z, f: _aten.silu_backward(g, z),
    "elu": lambda g, z, f: _aten.elu_backward(g, 1.0, 1.0, 1.0, False, z),
    "softplus": lambda g, z, f: _aten.softplus_backward(g, z, 1.0, 20.0),
}


class Fused:
    """U = L + sum_i decay_i x_i^2 and its gradient, as :class:`Perceptron` computes them, without writing into
    anything: what follows from x and constants, in tensors of features by samples.

    Of a small network every feature of every layer is a tensor [B n] by itself, so that all that is done for a
    sample can be one loop; of a larger one a layer is one tensor [B h n], and products of matrices stay what they
    are.
    """

    def __init__(self, perceptron: Perceptron) -> None:
        self._perceptron = perceptron
        self._links, self._unit = perceptron.links, perceptron.unit
        place = perceptron.place
        self._rows = range(self._links[0].shape[1]) if place is None else place.tolist()
        n_weights = sum(link.shape[0] * link.shape[1] for link in self._links)
        self._evaluate = self._by_feature if n_weights <= _SMALL else self._by_layer

    def constants(self, decay: Float[Tensor, "D"]) -> list[Tensor]:
        """What it is called with beside rows."""
        p = self._perceptron
        return [decay, p.inputs, p.targets, *(t for t in (p.weights, p.used, p.place) if t is not None)]

    def __call__(
        self,
        x: Float[Tensor, "B D"],
        decay: Float[Tensor, "D"],
        inputs: Float[Tensor, "k n"],
        targets: Float[Tensor, "C n"],
        *more: Tensor,
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        rest = list(more)
        weights = None if self._perceptron.weights is None else rest.pop(0)
        energy, slopes = self._evaluate(x, inputs, targets, weights, *rest)
        parts, end = list[Tensor](), 0
        for first in sorted(slopes):  # in the order of the coordinates; of those of no layer the slope is nought
            parts += [torch.zeros_like(x[:, end:first])] * (first > end) + [slopes[first]]
            end = first + slopes[first].shape[1]
        parts += [torch.zeros_like(x[:, end:])] * (x.shape[1] > end)
        steps = decay * x
        return energy + (steps * x).sum(1), torch.cat(parts, 1) + 2 * steps

    # --- one tensor for each layer ----------------------------------------------------------------------

    def _by_layer(
        self,
        x: Tensor,
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor | None,
        used: Tensor | None = None,
        place: Tensor | None = None,
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """L, and its derivatives by the weights and biases that begin at each coordinate."""
        links, slopes = self._links, dict[int, Tensor]()
        matrices = [link.matrices(x) for link in links]
        w = stacked(*matrices[0], used, len(self._perceptron.inputs))
        sums = [(w.flatten(0, 1) @ inputs).unflatten(0, w.shape[:2])]
        values = [_FORWARD[links[0].activation](sums[0])]
        for link, (w, b) in zip(links[1:], matrices[1:], strict=True):
            z = torch.bmm(w, values[-1])
            sums.append(z if b is None else z + b[:, :, None])
            values.append(_FORWARD[link.activation](sums[-1]))
        energy, g, unit = self._lost(values[-1], targets, weights)
        for number in range(len(links) - 1, 0, -1):
            (w, b), a = matrices[number], values[number - 1]
            _put(slopes, links[number], torch.bmm(g, a.mT), None if b is None else g.sum(2), unit)
            g = _BACKWARD[links[number - 1].activation](torch.bmm(w.mT, g), sums[number - 1], a)
        slope, first = (g.flatten(0, 1) @ inputs.mT).unflatten(0, g.shape[:2]), links[0]
        _put(slopes, first, *unstacked(slope, first.shape[1], first.bias is not None, used, place), unit)
        return energy, slopes

    def _lost(
        self, z: Float[Tensor, "B C n"], t: Float[Tensor, "C n"], w: Float[Tensor, "n"] | None
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B C n"], float]:
        """L, and its derivative by the outputs in units of the third."""
        if self._perceptron.loss == "squares":
            p = z - t
            g = p if w is None else p * w
            return self._unit * (p * g).sum((1, 2)), g, 2 * self._unit
        largest = z.amax(1, keepdim=True)
        p = (z - largest).exp()
        total = p.sum(1, keepdim=True)
        entropy = largest + total.log()
        energy = (entropy if w is None else w * entropy).sum((1, 2)) - (z * t).sum((1, 2))
        return self._unit * energy, p * ((1.0 if w is None else w) / total) - t, self._unit

    # --- one tensor for each feature --------------------------------------------------------------------

    def _by_feature(
        self, x: Tensor, inputs: Tensor, targets: Tensor, weights: Tensor | None, *dropped: Tensor
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """The same, every feature [B n] by itself."""
        links, slopes = self._links, dict[int, Tensor]()
        matrices = [link.matrices(x) for link in links]
        given = inputs.unbind(0)  # an input that is left out is a row of noughts
        first = [given[row] for row in self._rows]
        sums: list[list[Tensor]] = []
        values = [first]
        for link, (w, b) in zip(links, matrices, strict=True):
            z = [_sum(w[:, i, j, None] * a for j, a in enumerate(values[-1])) for i in range(link.shape[0])]
            sums.append(z if b is None else [one + b[:, i, None] for i, one in enumerate(z)])
            values.append([_FORWARD[link.activation](one) for one in sums[-1]])
        energy, g, unit = self._lost_by_feature(values[-1], targets, weights)
        for number in range(len(links) - 1, -1, -1):
            link, (w, b), into = links[number], matrices[number], values[number]
            by_weight = torch.stack([torch.stack([(d * a).sum(1) for a in into], 1) for d in g], 1)
            by_bias = None if b is None else torch.stack([d.sum(1) for d in g], 1)
            _put(slopes, link, by_weight, by_bias, unit)
            if number:
                down = [_sum(w[:, i, j, None] * d for i, d in enumerate(g)) for j in range(link.shape[1])]
                backward = _BACKWARD[links[number - 1].activation]
                g = [backward(*of) for of in zip(down, sums[number - 1], into, strict=True)]
        return energy, slopes

    def _lost_by_feature(
        self, z: Sequence[Tensor], targets: Float[Tensor, "C n"], w: Float[Tensor, "n"] | None
    ) -> tuple[Tensor, list[Tensor], float]:
        t = targets.unbind(0)
        if self._perceptron.loss == "squares":
            p = [one - to for one, to in zip(z, t, strict=True)]
            g = p if w is None else [one * w for one in p]
            lost = _sum(one * other for one, other in zip(p, g, strict=True))
            return self._unit * lost.sum(1), g, 2 * self._unit
        largest = functools.reduce(torch.maximum, z)
        p = [(one - largest).exp() for one in z]
        total = _sum(p)
        entropy = largest + total.log()
        hits = _sum(one * to for one, to in zip(z, t, strict=True))
        energy = ((entropy if w is None else w * entropy) - hits).sum(1)
        share = (1.0 if w is None else w) / total
        return self._unit * energy, [one * share - to for one, to in zip(p, t, strict=True)], self._unit


def _sum(terms: Sequence[Tensor] | map[Tensor] | object) -> Tensor:
    return functools.reduce(operator.add, terms)  # type: ignore[arg-type]


def _put(
    slopes: dict[int, Tensor],
    link: _Link,
    by_weight: Float[Tensor, "B h k"],
    by_bias: Float[Tensor, "B h"] | None,
    unit: float,
) -> None:
    """The derivatives by W and b, from those by W' and b' in the given units (``_Link``), added where they belong:
    a weight may stand in several layers."""
    unit = unit * link.factor
    weight = by_weight * (2 * unit if link.behind_tanh else unit)
    if by_bias is not None and link.behind_tanh:
        weight = weight - unit * by_bias[:, :, None]
    found = {link.weight.start: weight.flatten(1)}
    if link.bias is not None:
        assert by_bias is not None
        found[link.bias.start] = unit * by_bias
    for first, slope in found.items():
        slopes[first] = slopes[first] + slope if first in slopes else slope
