"""What a module is beside its coordinates: copies of it, and whether two modules agree in it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.func import functional_call

from torchscape.errors import PotentialError
from torchscape.layout import ParameterLayout
from torchscape.potentials.batching import differentiable_twice
from torchscape.transfer import moved
from torchscape.types import Float, Tensor

__all__ = ["constants", "copied", "copied_to", "energy_of_constants", "refuse_other_state"]


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of modules that keep results of their last pass as attributes (hooks such as the old
    ``weight_norm`` do): those belong to a graph, which torch does not copy, and are made anew by the next pass."""
    memo: dict[int, object] = {}
    for part in module.modules():
        for value in vars(part).values():
            if not isinstance(value, Tensor):
                continue
            if torch._C._functorch.is_functorch_wrapped_tensor(value):  # left over from a vmap that has ended
                memo[id(value)] = torch.zeros(value.shape)
            elif not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


def copied_to(module: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> nn.Module:
    """:func:`copied` on another device: all its parameters and buffers in one copy."""
    fresh = copied(module).to(dtype=dtype)
    tensors = [*fresh.parameters(), *fresh.buffers()]
    there = moved([tensor.detach() for tensor in tensors], device)
    arrived: dict[int, Tensor] = {id(tensor): value for tensor, value in zip(tensors, there, strict=True)}

    def on_device(tensor: Tensor) -> Tensor:
        return arrived.get(id(tensor), tensor).to(device)

    return fresh._apply(on_device)


def constants(module: nn.Module, layout: ParameterLayout) -> dict[str, Tensor]:
    """Buffers, and parameters that are no coordinates, by name."""
    coordinates = {*layout.names, *layout.aliases}
    named = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}
    return {name: value.detach() for name, value in named.items() if name not in coordinates}


def refuse_other_state(
    own: nn.Module,
    other: nn.Module,
    layout: ParameterLayout,
    energy: Callable[[Mapping[str, Tensor]], Tensor],
    remedy: str,
) -> None:
    """Refuse a module whose constants differ from those of the potential where that changes the energy.

    Args:
        own, other: the potential's module, and the one that was given.
        layout: of the coordinates.
        energy: with these constants in place of the module's own.
        remedy: for the message.

    Raises:
        PotentialError: naming the constants.
    """
    mine, theirs = constants(own, layout), constants(other, layout)
    missing = [name for name in mine if name not in theirs or theirs[name].shape != mine[name].shape]
    changed = {name: theirs[name].to(mine[name]) for name in mine if name not in missing}
    changed = {name: value for name, value in changed.items() if not _equal(value, mine[name], theirs[name].dtype)}
    if not missing and not changed:
        return
    if not missing and torch.equal(energy({}).isnan(), energy(changed).isnan()):
        before, after = energy({}), energy(changed)  # a counter such as num_batches_tracked changes nothing
        if bool(((after - before).abs() <= 1e3 * torch.finfo(before.dtype).eps * before.abs()).all()):
            return
    names = [*missing, *changed]
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    raise PotentialError(
        f"the module differs from that of the potential in {shown}, which are no coordinates but decide the "
        f"energy (running statistics, frozen parameters): its point would be one of another model; {remedy}"
    )


def _equal(value: Tensor, mine: Tensor, dtype: torch.dtype) -> bool:
    """Equal up to the rounding of the less precise of the two."""
    if not value.is_floating_point():
        return torch.equal(value, mine)
    eps = max(torch.finfo(t).eps for t in (value.dtype, dtype) if t.is_floating_point)
    return torch.allclose(value, mine, rtol=4 * eps, atol=0.0, equal_nan=True)


def energy_of_constants(
    objective: nn.Module, layout: ParameterLayout, x: Float[Tensor, "D"], batch: object
) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """The loss of one batch at x as a function of what is no coordinate (buffers, frozen parameters), by name."""

    def energy(constants: Mapping[str, Tensor]) -> Tensor:
        params = {f"module.{name}": value for name, value in layout.unflatten(x).items()}
        params |= {f"module.{name}": value for name, value in constants.items()}
        with torch.enable_grad(), differentiable_twice():
            return functional_call(objective, params, (batch,)).detach()

    return energy
