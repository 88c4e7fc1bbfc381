"""What a module with its loss computes, if that is a chain: linear layers, activations between them, one loss."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from torchscape import random
from torchscape.layout import ParameterLayout
from torchscape.potentials.batching import differentiable_twice
from torchscape.potentials.module.objective import Objective
from torchscape.types import Float, Tensor

__all__ = ["Chain", "Layer", "chain_of"]

_ACTIVATIONS: dict[Any, str] = {
    torch.tanh: "tanh",
    torch.Tensor.tanh: "tanh",
    functional.tanh: "tanh",
    torch.sigmoid: "sigmoid",
    torch.Tensor.sigmoid: "sigmoid",
    functional.sigmoid: "sigmoid",
    torch.relu: "relu",
    torch.Tensor.relu: "relu",
    functional.relu: "relu",
    torch.sin: "sin",
    torch.Tensor.sin: "sin",
    functional.gelu: "gelu",
    functional.silu: "silu",
    functional.elu: "elu",
    functional.softplus: "softplus",
}
# Arguments of these with which they are the function of that name; with others they are another.
_USUAL = {
    "inplace": (False, True),
    "approximate": ("none",),
    "alpha": (1.0,),
    "beta": (1.0,),
    "threshold": (20.0,),
}
_ORDER = {"softplus": ("beta", "threshold"), "elu": ("alpha", "inplace"), "relu": ("inplace",)}
_LOOKS = frozenset(["shape", "ndim", "dtype", "device", "is_nested", "requires_grad"])
_ASKS = frozenset(["dim", "size", "numel", "is_floating_point"])


@dataclasses.dataclass(frozen=True)
class Layer:
    """z = W a + b: where W [h k] and b [h] are in a row of coordinates, and what is done with z."""

    weight: slice
    bias: slice | None
    n_in: int
    n_out: int
    activation: str | None


@dataclasses.dataclass(frozen=True)
class Chain:
    """L(x) = sum_n e(f(a_n), t_n), f a chain of layers that see the constant inputs a_n.

    Attributes:
        layers: the first to the last, which has no activation.
        inputs: a [n k].
        loss: "cross-entropy", e = w_n logsumexp(f) - t_n . f; or "squares", e = w_n |f - t_n|^2.
        targets: t [n C].
        weights: w, of every sample.
    """

    layers: tuple[Layer, ...]
    inputs: Float[Tensor, "n k"]
    loss: str
    targets: Float[Tensor, "n C"]
    weights: Float[Tensor, "n"]


def chain_of(objective: Objective, layout: ParameterLayout, point: Float[Tensor, "D"]) -> Chain | None:
    """The chain that the objective is, read off from what torch is asked for, at one point on all samples.

    What comes before the first layer may be anything that no coordinate enters. Whatever else is done with a
    coordinate, or with what follows from one, is no chain: another function, an input of another shape, an
    intermediate result that is used twice. A weight may stand in several layers.

    Args:
        objective: module, loss and data.
        layout: which coordinate belongs to which parameter.
        point: where it is looked at. Whether it does the same elsewhere is for the caller to try.
    """
    if objective.samples.streamed:
        return None
    # not where the module was begun: a branch that asks whether something is zero must not find that it is
    key = random.fold(3, torch.arange(1, device=point.device))
    point = point + 0.1 * random.normal(key, len(point), point.dtype)[0]
    values = layout.unflatten(point)
    recorder = _Recorder(layout, values)
    batch, weight = next(iter(objective.chunks(len(objective.samples))))
    # The loss may differentiate itself, and then needs a graph although nothing else does.
    with recorder, differentiable_twice(), torch.enable_grad():
        said = functional_call(objective, {f"module.{name}": value for name, value in values.items()}, (batch,))
    if said is not recorder.last or recorder.inputs is None or recorder.loss is None:
        return None
    loss, targets, weights = recorder.loss
    targets = targets * weight if loss == "cross-entropy" else targets
    return Chain(tuple(recorder.layers), recorder.inputs, loss, targets, weights * weight)


class _Recorder(TorchFunctionMode):
    """Follows the coordinates through whatever torch is asked for, as long as it is a chain.

    Attributes:
        last: what the chain has come to; None where it is none.
    """

    def __init__(self, layout: ParameterLayout, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.layout = layout
        self.names = {id(value): name for name, value in values.items()}
        self.layers: list[Layer] = []
        self.inputs: Tensor | None = None
        self.loss: tuple[str, Tensor, Tensor] | None = None
        self.last: Tensor | None = None
        self._is_chain = True
        self._entered: set[int] = set(self.names)  # identities of what coordinates are in
        self._kept: list[Any] = list(values.values())  # so that nothing else gets one of these identities

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self._is_chain or not any(id(leaf) in self._entered for leaf in pytree.tree_leaves((args, kwargs))):
            return out
        name = getattr(func, "__name__", "")
        if name in _ASKS or (name == "__get__" and getattr(func.__self__, "__name__", "") in _LOOKS):
            return out
        self._is_chain = self._follows(func, args, kwargs)
        self.last = out if self._is_chain else None
        self._kept.append(out)
        self._entered |= {id(leaf) for leaf in pytree.tree_leaves(out) if isinstance(leaf, Tensor)}
        return out

    def _follows(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
        """Take one more link of the chain; False if this is none."""
        if self.loss is not None or not args:
            return False
        if func is functional.linear:
            return self._linear(*args, **kwargs)
        if args[0] is not self.last:
            return False
        if func is functional.dropout:  # of a model that is evaluated
            return kwargs.get("training") is False
        if func in _ACTIVATIONS:
            return self._activation(_ACTIVATIONS[func], args[1:], kwargs)
        if func is functional.cross_entropy:
            self.loss = _cross_entropy(*args, **kwargs)
        elif func is functional.mse_loss:
            self.loss = _squares(*args, **kwargs)
        return self.loss is not None and self.layers[-1].activation is None

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
        name = self.names.get(id(weight))
        own = None if bias is None else self.names.get(id(bias))
        if name is None or (bias is not None and own is None) or weight.ndim != 2:
            return False
        if self.inputs is None:
            if id(input) in self._entered or input.ndim != 2 or input.dtype != weight.dtype:
                return False
            self.inputs = input.detach()
        elif input is not self.last:
            return False
        n_out, n_in = weight.shape
        where = self.layout.coordinates(name), None if own is None else self.layout.coordinates(own)
        self.layers.append(Layer(*where, n_in, n_out, None))
        return True

    def _activation(self, name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
        if self.layers[-1].activation is not None:
            return False
        self.layers[-1] = dataclasses.replace(self.layers[-1], activation=name)
        given = {**dict(zip(_ORDER.get(name, ()), args, strict=False)), **kwargs}
        return len(given) == len(args) + len(kwargs) and all(v in _USUAL.get(k, ()) for k, v in given.items())


def _cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: object = None,
    ignore_index: int = -100,
    reduce: object = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[str, Tensor, Tensor] | None:
    """Targets [n C] and weights [n] with which it is a sum of w logsumexp(z) - t . z; None if it is not."""
    if size_average is not None or reduce is not None or reduction not in ("mean", "sum") or label_smoothing:
        return None
    total: Tensor | int
    if target.shape == input.shape and target.dtype == input.dtype:
        shares, total = target.detach(), len(target)
        if weight is not None:
            shares = shares * weight.detach()
    elif target.ndim == 1 and not target.is_floating_point():
        kept = target != ignore_index
        place = torch.where(kept, target, 0).long()
        own = kept.to(input.dtype) if weight is None else kept * weight.detach()[place]
        shares = torch.zeros_like(input.detach()).scatter_(1, place[:, None], own[:, None])
        total = own.sum()
    else:
        return None
    if reduction == "mean":
        shares = shares / total
    return "cross-entropy", shares, shares.sum(1)


def _squares(
    input: Tensor,
    target: Tensor,
    size_average: object = None,
    reduce: object = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> tuple[str, Tensor, Tensor] | None:
    """Targets [n C] and weights [n] with which it is a sum of w |z - t|^2; None if it is not."""
    if size_average is not None or reduce is not None or reduction not in ("mean", "sum") or weight is not None:
        return None
    if target.shape != input.shape or target.dtype != input.dtype:
        return None
    share = 1.0 if reduction == "sum" else 1.0 / math.prod(target.shape)
    return "squares", target.detach(), target.new_full((len(target),), share)
