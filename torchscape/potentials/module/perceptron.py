"""``Perceptron``: energy and gradient of a chain of linear layers, written out, for many rows at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch.nn import functional

from torchscape.devices import is_host
from torchscape.even import even_mm, even_mv, evenly
from torchscape.memory import available_memory
from torchscape.potentials.module.chain import Chain
from torchscape.types import Float, Int, Tensor

__all__ = ["Perceptron", "stacked", "unstacked"]

_LINE = 8  # numbers of 8 bytes in a line of memory
_IN_CACHE = 1 << 21  # bytes of the largest intermediate result of a group of rows on the host: it stays in a cache
_aten = torch.ops.aten


@dataclasses.dataclass(frozen=True)
class _Activation:
    """f(z), written into z where that goes; and f'(z) g from (g, z, f(z)), written into g where that goes."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]


def _of_sigmoid(g: Tensor, z: Tensor, f: Tensor) -> Tensor:
    out: Tensor = _aten.sigmoid_backward.grad_input(g, f, grad_input=g)
    return out


_ACTIVATIONS: dict[str | None, _Activation] = {
    None: _Activation(lambda z: z, lambda g, z, f: g),
    "tanh": _Activation(torch.sigmoid_, _of_sigmoid),  # tanh z = 2 sigmoid(2 z) - 1: the layers around it know
    "sigmoid": _Activation(torch.sigmoid_, _of_sigmoid),
    "relu": _Activation(torch.relu_, lambda g, z, f: _aten.threshold_backward(g, f, 0.0)),
    "sin": _Activation(torch.sin, lambda g, z, f: g.mul_(z.cos())),
    "gelu": _Activation(functional.gelu, lambda g, z, f: _aten.gelu_backward(g, z)),
    "silu": _Activation(functional.silu, lambda g, z, f: _aten.silu_backward(g, z)),
    "elu": _Activation(functional.elu, lambda g, z, f: _aten.elu_backward(g, 1.0, 1.0, 1.0, False, z)),
    "softplus": _Activation(functional.softplus, lambda g, z, f: _aten.softplus_backward(g, z, 1.0, 20.0)),
}


def _rows_of(
    a: Float[Tensor, "k n"], biased: bool, on_host: bool
) -> tuple[Float[Tensor, "m n"], Int[Tensor, "u"] | None, Int[Tensor, "k"] | None]:
    """What the first layer multiplies: the inputs that some sample has, a 1 for the bias, and on the host a row of
    noughts where their number would be odd, as :func:`even_mm` would add one in every product with the transpose.

    Returns:
        The rows; which inputs they are, and where in a product each input is found, those that are left out at a
        row of noughts. None for both where every input is there.
    """
    used = torch.nonzero((a != 0).any(1))[:, 0]
    dropped = len(used) < len(a)
    n = len(used) + biased
    spare = dropped + (on_host and (n + dropped) % 2)
    ones, noughts = a.new_ones(int(biased), a.shape[1]), a.new_zeros(spare, a.shape[1])
    whole = torch.cat([a[used] if dropped else a, ones, noughts])
    if not dropped:
        return whole, None, None
    place = torch.full((len(a),), n, device=a.device)
    place[used] = torch.arange(len(used), device=a.device)
    return whole, used, place


def stacked(
    w: Float[Tensor, "B h k"], b: Float[Tensor, "B h"] | None, used: Int[Tensor, "u"] | None, n: int
) -> Float[Tensor, "B h n"]:
    """W and b of the first layer as what multiplies the ``n`` rows of ``inputs``."""
    parts = [w if used is None else w.index_select(2, used)]
    parts += [] if b is None else [b[:, :, None]]
    rest = n - sum(part.shape[2] for part in parts)
    parts += [w.new_zeros(w.shape[0], w.shape[1], rest)] * (rest > 0)
    return torch.cat(parts, 2)


def unstacked(
    slope: Float[Tensor, "B h n"],
    k: int,
    biased: bool,
    used: Int[Tensor, "u"] | None,
    place: Int[Tensor, "k"] | None,
) -> tuple[Float[Tensor, "B h k"], Float[Tensor, "B h"] | None]:
    """The derivatives by W [h k] and b, from those by what they are stacked to."""
    at = k if used is None else len(used)
    by_weight = slope[:, :, :k] if place is None else slope.index_select(2, place)
    return by_weight, slope[:, :, at] if biased else None


def _longer(a: Float[Tensor, "*B n"], more: int) -> Float[Tensor, "*B m"]:
    return torch.nn.functional.pad(a, (0, more)) if more else a


@dataclasses.dataclass(frozen=True)
class _Link:
    """A layer as it is evaluated: z' = W' a' + b' with W' = c p W and b' = c (b - W 1), or b' = c b.

    c is 2 before a tanh, which is then 2 sigmoid(z') - 1, and p is 2 behind one, where a' is that sigmoid: one
    function of half the cost takes the place of tanh, and what is around it happens to the small matrices.
    """

    weight: slice
    bias: slice | None
    shape: tuple[int, int]
    activation: str | None
    behind_tanh: bool

    @property
    def factor(self) -> float:
        return 2.0 if self.activation == "tanh" else 1.0

    def matrices(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B h k"], Float[Tensor, "B h"] | None]:
        """W' and b' of every row."""
        c, w = self.factor, x[:, self.weight].unflatten(1, self.shape)
        b = None if self.bias is None else x[:, self.bias]
        if self.behind_tanh:
            shift = w.sum(2)
            return (2 * c) * w, c * (-shift if b is None else b - shift)
        return (w, b) if c == 1 else (c * w, None if b is None else c * b)

    def add_to(
        self,
        grad: Float[Tensor, "B D"],
        by_weight: Float[Tensor, "B h k"],
        by_bias: Float[Tensor, "B h"] | None,
        unit: float,
    ) -> None:
        """The derivatives by W and b, from those by W' and b' in the given units."""
        unit *= self.factor
        here = grad[:, self.weight].unflatten(1, self.shape)
        here.add_(by_weight, alpha=2 * unit if self.behind_tanh else unit)
        if by_bias is None:
            return
        if self.behind_tanh:
            here.sub_(by_bias[:, :, None], alpha=unit)
        if self.bias is not None:
            grad[:, self.bias].add_(by_bias, alpha=unit)


class Perceptron:
    """L of a :class:`~torchscape.potentials.module.chain.Chain` and its gradient for rows x, by backpropagation.

    Features lie in rows and samples in columns, Z = W A with A [k n]: activations and the loss run over long rows,
    and the first layer of all rows of x is one matrix product, as is its gradient. Intermediate results of a few
    rows at a time go into the same memory again and again. The exponentials of the cross-entropy are those of its
    derivative. Inputs that are nought in all samples, as pixels at the edge of images, are left out.

    Args:
        chain: what is evaluated.
        max_rows: most rows at once; None for as many as a cache, or the device, holds.

    Example:
        >>> from torchscape.potentials.module.chain import Chain, Layer
        >>> layer = Layer(weight=slice(0, 1), bias=slice(1, 2), n_in=1, n_out=1, activation=None)
        >>> one = torch.ones(2, 1)
        >>> line = Perceptron(Chain((layer,), one, "squares", 0 * one, torch.ones(2)))
        >>> [part.tolist() for part in line(torch.tensor([[2.0, 1.0]]))]  # 2 (2 + 1)^2
        [[18.0], [[12.0, 12.0]]]
    """

    def __init__(self, chain: Chain, max_rows: int | None = None) -> None:
        before = [None, *(layer.activation for layer in chain.layers)]
        self.links = [
            _Link(layer.weight, layer.bias, (layer.n_out, layer.n_in), layer.activation, was == "tanh")
            for layer, was in zip(chain.layers, before, strict=False)
        ]
        self.loss, self._most = chain.loss, max_rows
        # One factor for all samples is left to the end, where it is one for each row.
        largest, least = torch.stack([chain.weights.abs().max(), chain.weights.min()]).tolist()
        self.unit = largest or 1.0
        # Products of matrices that begin at other places of a line of memory may have other last digits: samples
        # that count nothing make the matrices of all rows begin at one.
        more = -len(chain.weights) % _LINE if is_host(chain.inputs.device) else 0
        self.weights = None if largest == least and not more else _longer(chain.weights / self.unit, more)
        targets = chain.targets / self.unit if self.loss == "cross-entropy" else chain.targets
        self.targets = _longer(targets.mT, more).contiguous()
        self.inputs, self.used, self.place = _rows_of(
            _longer(chain.inputs.mT, more), self.links[0].bias is not None, is_host(chain.inputs.device)
        )
        self._row = max(link.shape[0] for link in self.links) * self.inputs[0].nbytes

    def rows(self, device: torch.device) -> int:
        """How many rows go together."""
        room = _IN_CACHE if is_host(device) else available_memory(device) // (4 * len(self.links))
        rows = max(1, room // self._row)
        return rows if self._most is None else min(rows, self._most)

    def __call__(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """L of every row and its gradient."""
        energy, grad = x.new_empty(len(x)), torch.zeros_like(x)
        n = min(len(x), self.rows(x.device))
        room = self.room(n, x)
        for here, out, slope in zip(*(t.split(n) for t in (x, energy, grad)), strict=True):
            out.copy_(self._evaluate(here, slope, [buffer[: len(here)] for buffer in room]))
        return energy, grad

    def _evaluate(
        self, x: Float[Tensor, "B D"], grad: Float[Tensor, "B D"], room: list[Tensor]
    ) -> Float[Tensor, "B"]:
        """L of every row; its gradient is added to ``grad``."""
        n_links = len(self.links)
        spare = room[n_links:]
        matrices = [link.matrices(x) for link in self.links]
        sums, values = self.forward(x, matrices, room[:n_links])
        energy, g, unit = self.lost(values[-1], spare[-1])
        for number in range(n_links - 1, 0, -1):
            link, (w, b), a = self.links[number], matrices[number], values[number - 1]
            link.add_to(grad, torch.bmm(g, a.mT), None if b is None else g.sum(2), unit)
            g = torch.bmm(w.mT, g, out=spare[number - 1])
            g = evenly(_ACTIVATIONS[self.links[number - 1].activation].backward, g, sums[number - 1], a)
        self.links[0].add_to(grad, *self.by_first(g), unit)
        return energy

    def first(
        self, w: Float[Tensor, "B h k"], b: Float[Tensor, "B h"] | None, out: Float[Tensor, "B h n"] | None = None
    ) -> Float[Tensor, "B h n"]:
        """W A + b of the first layer, where A are the data: one product for all rows."""
        rows = stacked(w, b, self.used, len(self.inputs)).flatten(0, 1)
        product = even_mm(rows, self.inputs, out=None if out is None else out.flatten(0, 1))
        return product.unflatten(0, w.shape[:2])

    def by_first(self, g: Float[Tensor, "B h n"]) -> tuple[Float[Tensor, "B h k"], Float[Tensor, "B h"] | None]:
        """The derivatives by W and b of the first layer, from those by its sums."""
        slope = even_mm(g.flatten(0, 1), self.inputs.mT).unflatten(0, g.shape[:2])
        return unstacked(slope, self.links[0].shape[1], self.links[0].bias is not None, self.used, self.place)

    def room(self, n: int, like: Tensor) -> list[Tensor]:
        """Memory for z [n h N] of n rows, layer by layer, and as much again."""
        return [like.new_empty(n, link.shape[0], self.inputs.shape[1]) for link in (*self.links, *self.links)]

    def forward(
        self,
        x: Float[Tensor, "B D"],
        matrices: list[tuple[Tensor, Tensor | None]],
        room: list[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """z and f(z) of every layer; z is lost where f is written into it."""
        values: list[Tensor] = []
        for number, (link, (w, b), z) in enumerate(zip(self.links, matrices, room, strict=True)):
            if number == 0:
                self.first(w, b, out=z)
            else:
                torch.bmm(w, values[-1], out=z)
                if b is not None:
                    z.add_(b[:, :, None])
            values.append(evenly(_ACTIVATIONS[link.activation].forward, z))
        return room, values

    def lost(
        self, z: Float[Tensor, "B C n"], p: Float[Tensor, "B C n"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B C n"], float]:
        """L, and its derivative by the outputs z (written into ``p``) in units of the third."""
        t, w = self.targets, self.weights
        if self.loss == "squares":
            torch.sub(z, t, out=p)
            g = p if w is None else p * w
            return self.unit * torch.linalg.vecdot(p.flatten(1), g.flatten(1)), g, 2 * self.unit
        hits = even_mv(z.flatten(1), t.flatten())
        largest = z.amax(1, keepdim=True)
        torch.sub(z, largest, out=p).exp_()
        total = p.sum(1, keepdim=True)
        entropy = largest.add_(total.log())[:, 0]
        energy = entropy.sum(1) if w is None else even_mv(entropy, w)
        p.mul_(total.reciprocal_() if w is None else torch.div(w, total)).sub_(t)
        return self.unit * energy.sub_(hits), p, self.unit
