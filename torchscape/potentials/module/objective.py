"""``Objective``: a module, a data set and a loss as one function of named parameters, chunk by chunk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from torchscape import random
from torchscape.devices import HOST
from torchscape.errors import PotentialError
from torchscape.potentials.module.criterion import (
    indexed_settings,
    is_of_torch,
    loss_name,
    set_reduction,
    takes_model,
    with_reduction,
)
from torchscape.potentials.module.data import Samples
from torchscape.potentials.module.state import copied
from torchscape.symmetry.modules.example import Call, recorded_call
from torchscape.transfer import moved
from torchscape.types import Tensor

__all__ = ["Objective", "batch_size", "describe"]


class Objective(nn.Module):
    """The loss of ``module`` on ``samples``, as a sum over chunks that no chunking changes.

    ``reduction`` says how the loss itself joins its samples, and so with which weight a chunk of n_k among
    N samples enters: "mean" with n_k / N, "sum" with 1; "whole" never splits the data. For cross entropy and
    negative log likelihood of class indices, where class weights and ignored targets make "mean" a weighted one,
    the sum is taken and divided by the total weight, as torch does for the whole set at once.
    """

    def __init__(
        self, module: nn.Module, loss: Callable[..., Tensor], samples: Samples, reduction: str | None
    ) -> None:
        super().__init__()
        self.module = module
        # A dictionary has no outputs and targets by position: its loss can only be one of the model.
        self.model_first = takes_model(loss) or (isinstance(samples.tree, Mapping) and not is_of_torch(loss))
        self.name = loss_name(loss)
        self._loss, self.reduction = set_reduction(loss, reduction)
        if not samples.separable:
            self.reduction = "whole"
        if not self.model_first and not (isinstance(samples.tree, tuple) and len(samples.tree) > 1):
            raise PotentialError(
                "a loss(output, target) needs data (inputs, ..., targets); for other data give a loss whose "
                "arguments are called loss(model, batch)"
            )
        self.samples = samples
        self.n_all: int | None = None  # samples of the whole, of which these are a part
        self.total = self._total()

    def forward(self, batch: Any) -> Tensor:
        """The loss of one batch, as the loss reduces it."""
        if self.model_first:
            return self._loss(self.module, batch)
        *inputs, target = batch
        return self._loss(self.module(*inputs), target)

    def chunks(self, size: int) -> Iterator[tuple[Any, float]]:
        """Batches of at most ``size`` samples, each with the weight of its loss in the energy."""
        for batch in self.samples.chunks(len(self.samples) if self.reduction == "whole" else size):
            yield batch, self.weight(batch)

    def weight(self, batch: Any) -> float:
        """The weight with which the loss of a batch enters the energy."""
        if self.total is not None:
            return 1.0 / self.total
        if self.reduction == "mean":
            return batch_size(batch) / (self.n_all or len(self.samples))
        return 1.0

    def example(self) -> Call | None:
        """How the module's forward is called on a few samples; None where the loss uses only its parts."""
        batch, _ = next(iter(self.chunks(2)))
        if not self.model_first:
            return Call(tuple(batch[:-1]))
        other = copy.copy(self)  # with hooks and modes of its own
        other._modules = {**self._modules, "module": copied(self.module)}
        return recorded_call(other.module, lambda: other(batch))

    def settings(self, coordinates: set[str]) -> dict[str, object]:
        """What decides the energy beside the parameters of these names: data, constants, loss; not the code."""
        state = {name: value for name, value in self.module.state_dict().items() if name not in coordinates}
        return {
            "data": self.samples.digest(ordered=self._sees_order()),
            "constants": {
                name: value.float() if value.is_floating_point() else value
                for name, value in moved(state, HOST).items()
            },
            "parts": {name: type(part).__name__ for name, part in self.module.named_modules()},
            "loss": self.name,
            "reduction": self.reduction,
        }

    def _sees_order(self) -> bool:
        """Whether the loss of all samples at once changes with their order, at parameters drawn for that."""
        n = len(self.samples)
        if self.reduction != "whole" or not self.samples.separable or n < 2:
            return False
        drawn = {}
        for number, (name, value) in enumerate(self.named_parameters()):
            key = random.fold(number, torch.arange(1))
            drawn[name] = random.normal(key, value.numel(), value.dtype).reshape(value.shape).to(value.device)
        order = random.permutation(random.fold(0, torch.arange(1)), n)[0]
        here, there = (
            torch.func.functional_call(self, drawn, (batch,)).detach().double()
            for batch in (self.samples.whole, self.samples.reordered(order))
        )
        return bool((here - there).abs() > 1e-5 * here.abs().clamp(min=1e-30))

    def on(self, samples: Samples) -> Objective:
        """The same objective with other samples."""
        other = copy.copy(self)  # shares module and loss
        other.samples, other.n_all = samples, None
        other.total = other._total()
        return other

    def part(self, samples: Samples) -> Objective:
        """What some of the samples contribute: over all parts, these add up to the whole."""
        other = copy.copy(self)
        other.samples, other.n_all = samples, self.n_all or len(self.samples)
        return other

    def moved(self, *, dtype: torch.dtype, device: torch.device) -> Objective:
        """A copy for another dtype or device."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.module = copied(self.module)
        other._loss = copy.deepcopy(self._loss)
        other.samples = self.samples.to(dtype=dtype, device=device)
        return other.to(device, dtype)

    def _total(self) -> float | None:
        """The sum of target weights, where "mean" divides by that rather than by the number of samples."""
        settings = indexed_settings(self._loss)
        if self.model_first or self.reduction != "mean" or settings is None:
            return None
        target = self.samples.tree[-1]
        if target.is_floating_point():  # class probabilities: torch divides by the number of samples
            return None
        self._loss = with_reduction(self._loss, "sum")
        weight, ignored = settings
        weight, target = moved((weight, target), HOST)
        kept = target[target != ignored]
        if weight is not None and len(kept) and not 0 <= int(kept.min()) <= int(kept.max()) < len(weight):
            raise PotentialError(f"targets must be class indices below {len(weight)}, the number of class weights")
        total = float(len(kept)) if weight is None else float(weight.double()[kept].sum())
        if not total > 0:
            raise PotentialError("every target is ignored or has class weight zero: the loss is 0/0")
        return total


def batch_size(batch: Any) -> int:
    """The number of samples in a batch."""
    return len(pytree.tree_leaves(batch)[0])


def describe(batch: Any) -> str:
    """Shapes and dtypes of a batch, for error messages."""
    shown = pytree.tree_map(lambda leaf: f"{tuple(leaf.shape)} {str(leaf.dtype).removeprefix('torch.')}", batch)
    return str(shown) if not isinstance(shown, str) else shown
