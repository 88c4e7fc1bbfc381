"""What the inputs of a network say about its curvature: a preconditioner for the layers that see the data."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from torchscape import random
from torchscape.devices import HOST
from torchscape.layout import ParameterLayout
from torchscape.potentials.batching import differentiable_twice
from torchscape.potentials.module.objective import Objective
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.transfer import moved
from torchscape.types import Float, Tensor

__all__ = ["input_preconditioner"]

_DAMPING = 0.3  # of the mean eigenvalue
_SIGNAL = 0.05  # mean square of what is propagated back to a unit: a typical value near minima of classifiers
_WIDEST = 8192  # inputs of a layer: beyond, their moments would take a gigabyte
_DENSE = 512  # inputs up to which all eigenvectors are used
_RANK = 128  # eigenvectors of wider layers
_LOOK = 64  # samples on which the layers are found
_SWEEPS = 4  # of the subspace iteration that finds the eigenvectors of wide layers


@dataclasses.dataclass(frozen=True)
class _Layer:
    """P for the weights and bias of every unit of a linear layer: rest I + left right, or left alone."""

    weight: slice
    bias: slice | None
    left: Float[Tensor, "k r"]
    right: Float[Tensor, "r k"] | None = None
    rest: float = 0.0

    def apply(self, grad: Float[Tensor, "B D"], out: Float[Tensor, "B D"]) -> None:
        """P g in the coordinates of this layer."""
        k = len(self.left) - (self.bias is not None)
        g = grad[:, self.weight].unflatten(1, (-1, k))
        product = g @ self.left[:k]
        if self.bias is not None:
            product.addcmul_(grad[:, self.bias, None], self.left[k])
        if self.right is not None:
            product = product @ self.right
            product[:, :, :k] += self.rest * g
            if self.bias is not None:
                product[:, :, k] += self.rest * grad[:, self.bias]
        out[:, self.weight].unflatten(1, (-1, k)).copy_(product[:, :, :k])
        if self.bias is not None:
            out[:, self.bias].copy_(product[:, :, k])


class _Inputs(Preconditioner):
    """The layers that see the data themselves, by the second moments of their inputs; the identity elsewhere."""

    def __init__(self, layers: list[_Layer]) -> None:
        self.layers = layers

    def __call__(self, grad: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        out = grad.clone()
        for layer in self.layers:
            layer.apply(grad, out)
        return out


def input_preconditioner(
    objective: Objective,
    layout: ParameterLayout,
    decay: Float[Tensor, "D"],
    point: Float[Tensor, "D"],
    size: int,
) -> Preconditioner | None:
    """P = (A + damping)^-1 for every unit of the linear layers whose inputs do not depend on the coordinates.

    A = <a a^T> are the second moments of such a layer's inputs a over the samples, with a 1 for the bias: the
    factor of the Gauss-Newton matrix that all units share and no coordinate changes (the input factor of Martens
    & Grosse 2015, arXiv:1503.05671). With a unit's own factor taken as 0.05, its Hessian is about 0.05 A + 2 decay
    and A is damped by 2 decay / 0.05, and by 0.3 of its mean eigenvalue besides. P is scaled to determinant one.
    Every unit gets the same P, which therefore commutes with their permutations and signs.

    Args:
        objective: module, loss and data.
        layout: which coordinate belongs to which parameter.
        decay: the regularisation of every coordinate.
        point: where the inputs are recorded.
        size: samples evaluated at once.

    Returns:
        None where no layer is of that kind.
    """
    found = _measure(objective, layout, point)
    if not found:
        return None
    moments: dict[str, Tensor] = {}
    count = dict.fromkeys(found, 0)
    for batch, _ in objective.chunks(size):
        for name, (a, _) in _recorded(objective, layout, point, batch).items():
            if name in found:
                moments[name] = moments.get(name, 0.0) + a.mT @ a
                count[name] += len(a)
    weight = len(objective.samples) if objective.reduction == "sum" else 1  # of the loss of all samples
    decays = torch.stack([decay[layout.coordinates(name)].mean() for name in found])
    small = {name: moment for name, moment in moments.items() if len(moment) <= _DENSE}
    decays, small = moved((decays, small), HOST)  # the host decomposes what is small as fast as any device
    layers = []
    for (name, bias), mean in zip(found.items(), decays.tolist(), strict=True):
        where = layout.coordinates(name), None if bias is None else layout.coordinates(bias)
        damping = 2 * mean / (_SIGNAL * weight)
        layers.append(_layer(*where, small.get(name, moments[name]) / count[name], damping))
    return _Inputs(moved(layers, point.device))


def _measure(objective: Objective, layout: ParameterLayout, point: Float[Tensor, "D"]) -> dict[str, str | None]:
    """Weight and bias of the layers whose inputs are the same at another point, and whose bias is their own."""
    few = objective
    if objective.samples.separable and objective.reduction != "whole":
        few = objective.on(objective.samples.take(torch.arange(min(_LOOK, len(objective.samples)))))
    batch, _ = next(iter(few.chunks(_LOOK)))
    other = point + 0.3 * random.normal(random.fold(1, torch.arange(1)), len(point))[0].to(point)
    here, there = (_recorded(few, layout, x, batch) for x in (point, other))
    biases = [bias for _, bias in here.values()]
    likely = {
        name: bias
        for name, (a, bias) in here.items()
        if (bias is None or biases.count(bias) == 1)
        and a.shape[1] <= _WIDEST
        and name in there
        and a.shape == there[name][0].shape
    }
    if not likely:
        return {}
    same = torch.stack([(here[name][0] == there[name][0]).all() for name in likely]).tolist()
    return {name: bias for (name, bias), is_same in zip(likely.items(), same, strict=True) if is_same}


def _recorded(
    objective: Objective, layout: ParameterLayout, point: Float[Tensor, "D"], batch: Any
) -> dict[str, tuple[Tensor, str | None]]:
    """Inputs [n k] and bias of every linear layer that is called once, by the name of its weight."""
    values = layout.unflatten(point)
    recorder = _Recorder(values)
    # The loss may differentiate itself, and then needs a graph although nothing else does.
    with recorder, differentiable_twice(), torch.enable_grad():
        functional_call(objective, {f"module.{name}": value for name, value in values.items()}, (batch,))
    return {name: calls[0] for name, calls in recorder.calls.items() if len(calls) == 1}


class _Recorder(TorchFunctionMode):
    """Notes the inputs of ``linear`` wherever its weight is a coordinate."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = {id(value): name for name, value in values.items()}
        self.calls: dict[str, list[tuple[Tensor, str | None]]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is functional.linear:
            self._note(*args, **kwargs)
        return func(*args, **kwargs)

    def _note(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        if (name := self.names.get(id(weight))) is None:
            return
        a = input.detach().reshape(-1, input.shape[-1]).to(weight.dtype)
        known = None if bias is None else self.names.get(id(bias))
        if known is not None:
            a = torch.cat([a, a.new_ones(len(a), 1)], 1)
        self.calls.setdefault(name, []).append((a, known))


def _layer(weight: slice, bias: slice | None, moments: Float[Tensor, "k k"], damping: float) -> _Layer:
    k = len(moments)
    mean = max(float(moments.trace()) / k, torch.finfo(moments.dtype).tiny)
    damping = _DAMPING + damping / mean
    values, v = torch.linalg.eigh(moments / mean) if k <= _DENSE else _largest(moments / mean, _RANK)
    damped = values.clamp(min=0) + damping
    unit = math.exp((float(damped.log().sum()) + (k - len(values)) * math.log(damping)) / k)  # determinant one
    if k <= _DENSE:
        return _Layer(weight, bias, (v * (unit / damped)) @ v.mT)
    rest = unit / damping
    return _Layer(weight, bias, v * (unit / damped - rest), v.mT.contiguous(), rest)


def _largest(a: Float[Tensor, "k k"], rank: int) -> tuple[Float[Tensor, "r"], Float[Tensor, "k r"]]:
    """The largest eigenvalues of a positive matrix and their vectors, by subspace iteration, without chance."""
    start = random.normal(random.fold(0, torch.arange(len(a))), rank).to(a)
    q = torch.linalg.qr(start)[0]
    for _ in range(_SWEEPS):
        q = torch.linalg.qr(a @ q)[0]
    values, rotation = torch.linalg.eigh(q.mT @ a @ q)
    return values, q @ rotation
