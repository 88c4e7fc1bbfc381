"""What the inputs of a network say about its curvature: a preconditioner for the layers that see the data."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch.func import functional_call

from torchscape import random
from torchscape.devices import HOST
from torchscape.even import even_matmul
from torchscape.layout import ParameterLayout
from torchscape.potentials.batching import differentiable_twice
from torchscape.potentials.module.moments import Key, Recorder, Seen
from torchscape.potentials.module.objective import Objective
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.transfer import moved
from torchscape.types import Float, Tensor

__all__ = ["input_preconditioner"]

_DAMPING = 0.3  # of the mean eigenvalue
_SIGNAL = 0.05  # mean square of what is propagated back to a unit: a typical value near minima of classifiers
_WIDEST = 8192  # inputs of a unit: beyond, their moments would take a gigabyte
_DENSE = 512  # inputs up to which all eigenvectors are used
_RANK = 128  # eigenvectors of wider layers
_LOOK = 64  # samples on which the layers are found
_SWEEPS = 4  # of the subspace iteration that finds the eigenvectors of wide layers


@dataclasses.dataclass(frozen=True)
class _Layer:
    """P for the weights and bias of every unit of a layer: rest I + left right, or left alone; one for each group
    of units that see different inputs."""

    weight: slice
    bias: slice | None
    left: Float[Tensor, "*G k r"]
    right: Float[Tensor, "*G r k"] | None = None
    rest: float = 0.0

    def apply(self, grad: Float[Tensor, "B D"], out: Float[Tensor, "B D"]) -> None:
        """P g in the coordinates of this layer."""
        *groups, k, _ = self.left.shape
        k -= self.bias is not None
        shape = *groups, -1, k
        g = grad[:, self.weight].unflatten(1, shape)
        product = even_matmul(g, self.left[..., :k, :])
        if self.bias is not None:
            of_bias = grad[:, self.bias].unflatten(1, shape[:-1])[..., None]
            product.addcmul_(of_bias, self.left[..., k:, :])
        if self.right is not None:
            product = even_matmul(product, self.right)
            product[..., :k] += self.rest * g
            if self.bias is not None:
                product[..., k:] += self.rest * of_bias
        out[:, self.weight].unflatten(1, shape).copy_(product[..., :k])
        if self.bias is not None:
            out[:, self.bias].unflatten(1, shape[:-1]).copy_(product[..., k])


@dataclasses.dataclass(frozen=True)
class _Table:
    """P for a table of embeddings: one number for each of its rows."""

    weight: slice
    scale: Float[Tensor, "V"]
    bias: slice | None = None

    def apply(self, grad: Float[Tensor, "B D"], out: Float[Tensor, "B D"]) -> None:
        """P g in the coordinates of this table."""
        shape = len(self.scale), -1
        rows = grad[:, self.weight].unflatten(1, shape)
        torch.mul(rows, self.scale[:, None], out=out[:, self.weight].unflatten(1, shape))


class _Inputs(Preconditioner):
    """The layers that see the data themselves, by the second moments of their inputs; the identity elsewhere."""

    def __init__(self, layers: list[_Layer | _Table], uses: float, like: Float[Tensor, "D"]) -> None:
        self.layers, self.uses = layers, uses
        changes = torch.zeros(len(like), dtype=torch.bool)
        for layer in layers:
            changes[layer.weight] = True
            if layer.bias is not None:
                changes[layer.bias] = True
        # To rescale the few that are left cost networks of 784-10-10 half as many evaluations again.
        self.changes = None if 2 * int(changes.sum()) >= len(changes) else changes.to(like.device)

    def __call__(self, grad: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        out = grad.clone()
        for layer in self.layers:
            layer.apply(grad, out)
        return out


def input_preconditioner(evaluator: Any, point: Float[Tensor, "D"]) -> Preconditioner | None:
    """P = (A + damping)^-1 for every unit of the layers whose inputs do not depend on the coordinates.

    A = <a a^T> are the second moments of what a unit of such a layer sees, with a 1 for the bias: the factor of
    the Gauss-Newton matrix that all units share and no coordinate changes (the input factor of Martens & Grosse
    2015, arXiv:1503.05671; for convolutions, where a is what lies under the kernel, of Grosse & Martens 2016,
    arXiv:1602.01407). Linear layers, convolutions, the projections of attention and of the first recurrent layer
    have a dense A, tables of embeddings the frequencies of their rows. With a unit's own factor taken as 0.05, its
    Hessian is about 0.05 A + 2 decay and A is damped by 2 decay / 0.05, and by 0.3 of its mean eigenvalue besides.
    P is scaled to determinant one. Every unit gets the same P, which therefore commutes with their permutations
    and signs.

    Args:
        evaluator: an ``Evaluator`` of module, loss and data, or what stands for one.
        point: where the inputs are recorded.

    Returns:
        None where no layer is of that kind.
    """
    objective, layout = evaluator.objective, evaluator.layout
    seen, uses = _layers(objective, layout, point)
    if not seen:
        return None
    weight = len(objective.samples) if objective.reduction == "sum" else 1  # of the loss of all samples
    decays = evaluator.decay.to(HOST)
    layers: list[_Layer | _Table] = []
    for key, average in _averages(evaluator, point, list(seen)).items():
        where, of_bias = _coordinates(layout, key, seen[key])
        damping = 2 * float(decays[where].mean()) / (_SIGNAL * weight)
        layers.append(_layer(where, of_bias, average, damping))
    return _Inputs(moved(layers, point.device), uses, point)


def _averages(
    evaluator: Any, point: Float[Tensor, "D"], keys: list[Key]
) -> dict[Key, Float[Tensor, "G k k"] | Float[Tensor, "V"]]:
    """Second moments of what the layers see, on the host where that decomposes them as fast as any device."""
    objective, moments = evaluator.objective, dict[Key, Tensor]()
    count = dict.fromkeys(keys, 0)
    for batch, _ in objective.chunks(evaluator.plan.sizes(1, point.device)[1]) if keys else ():
        recorded = _recorded(objective, evaluator.layout, point, batch)
        for key in keys:
            for seen in recorded.get(key, ()):
                total, n = seen.counts() if seen.n_rows is not None else seen.moments()
                moments[key] = moments.get(key, 0) + total
                count[key] += n
    small = moved({key: moment for key, moment in moments.items() if moment.shape[-1] <= _DENSE}, HOST)
    return {key: small.get(key, sums).to(point.dtype) / max(1, count[key]) for key, sums in moments.items()}


def _coordinates(layout: ParameterLayout, key: Key, call: Seen) -> tuple[slice, slice | None]:
    """Of the weight and the bias of a layer."""
    name, begin, end = key
    bias = call.bias
    return _rows(layout, name, begin, end), bias and _rows(layout, bias[0], bias[1], bias[1] + end - begin)


def _rows(layout: ParameterLayout, name: str, begin: int, end: int) -> slice:
    """Coordinates of these rows of a parameter."""
    whole = layout.coordinates(name)
    each = (whole.stop - whole.start) // layout.shapes[layout.names.index(name)][0]
    return slice(whole.start + begin * each, whole.start + end * each)


def _layers(
    objective: Objective, layout: ParameterLayout, point: Float[Tensor, "D"]
) -> tuple[dict[Key, Seen], float]:
    """A call of each layer whose inputs are the same at another point, and how often all samples together use a
    coordinate of any layer.

    Left out are layers that share their bias, or are called in different ways, or see too much.
    """
    few = objective
    if objective.samples.separable and objective.reduction != "whole":
        few = objective.on(objective.samples.take(torch.arange(min(_LOOK, len(objective.samples)))))
    batch, _ = next(iter(few.chunks(_LOOK)))
    other = point + 0.3 * random.normal(random.fold(1, torch.arange(1)), len(point))[0].to(point)
    here, there = (_recorded(few, layout, x, batch) for x in (point, other))
    work = sum(
        seen.n_places * seen.width * (end - begin) for (_, begin, end), calls in here.items() for seen in calls
    )
    uses = work / layout.ndim * len(objective.samples) / len(few.samples)
    biases = [calls[0].bias for calls in here.values()]
    names = [name for name, *_ in here]
    likely = {
        key: calls[0]
        for key, calls in here.items()
        if (calls[0].bias is None or biases.count(calls[0].bias) == 1)
        and (names.count(key[0]) == 1 if calls[0].n_rows is not None else calls[0].width <= _most(calls[0]))
        and len({(seen.bias, seen.windows, seen.n_rows) for seen in calls}) == 1
        and [seen.input.shape for seen in calls] == [seen.input.shape for seen in there.get(key, ())]
    }
    if not likely:
        return {}, uses
    pairs = [zip(here[key], there[key], strict=True) for key in likely]
    same = torch.stack([torch.stack([(a.input == b.input).all() for a, b in pair]).all() for pair in pairs])
    return {key: call for (key, call), is_same in zip(likely.items(), same.tolist(), strict=True) if is_same}, uses


def _most(seen: Seen) -> int:
    """Inputs of a unit at most: of groups, whose moments are all dense, fewer."""
    return _WIDEST if seen.groups == 1 else _DENSE


def _recorded(
    objective: Objective, layout: ParameterLayout, point: Float[Tensor, "D"], batch: Any
) -> dict[Key, list[Seen]]:
    """What every layer is given, call by call."""
    values = layout.unflatten(point)
    recorder = Recorder(values)
    # The loss may differentiate itself, and then needs a graph although nothing else does.
    with recorder, differentiable_twice(), torch.enable_grad():
        functional_call(objective, {f"module.{name}": value for name, value in values.items()}, (batch,))
    return recorder.calls


def _layer(weight: slice, bias: slice | None, moments: Tensor, damping: float) -> _Layer | _Table:
    """P of a layer, from the moments [G k k] of what its units see, or frequencies [V]."""
    if moments.ndim == 1:
        mean = 1 / len(moments)
        damped = moments / mean + _DAMPING + damping / mean
        return _Table(weight, damped.log().mean().exp() / damped)
    each = [_factors(a, damping) for a in moments]
    left, right, rests = zip(*each, strict=True)
    if right[0] is None:
        return _Layer(weight, bias, torch.stack(left) if len(each) > 1 else left[0])
    assert len(each) == 1  # wide layers have one group
    return _Layer(weight, bias, left[0], right[0], rests[0])


def _factors(moments: Float[Tensor, "k k"], damping: float) -> tuple[Tensor, Tensor | None, float]:
    """left, right and rest of P for units that see inputs with these moments."""
    k = len(moments)
    mean = max(float(moments.trace()) / k, torch.finfo(moments.dtype).tiny)
    damping = _DAMPING + damping / mean
    values, v = torch.linalg.eigh(moments / mean) if k <= _DENSE else _largest(moments / mean, _RANK)
    damped = values.clamp(min=0) + damping
    unit = math.exp((float(damped.log().sum()) + (k - len(values)) * math.log(damping)) / k)  # determinant one
    if k <= _DENSE:
        return (v * (unit / damped)) @ v.mT, None, 0.0
    rest = unit / damping
    return v * (unit / damped - rest), v.mT.contiguous(), rest


def _largest(a: Float[Tensor, "k k"], rank: int) -> tuple[Float[Tensor, "r"], Float[Tensor, "k r"]]:
    """The largest eigenvalues of a positive matrix and their vectors, by subspace iteration, without chance."""
    start = random.normal(random.fold(0, torch.arange(len(a))), rank).to(a)
    q = torch.linalg.qr(start)[0]
    for _ in range(_SWEEPS):
        q = torch.linalg.qr(a @ q)[0]
    values, rotation = torch.linalg.eigh(q.mT @ a @ q)
    return values, q @ rotation
