"""An input that a module is likely to accept, when none is given."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

__all__ = ["Call", "guess_example", "recorded_call"]

_SPACES = (8, 28, 32, 16, 64, 4, 12, 14, 20, 24, 48, 96, 128, 224)


@dataclasses.dataclass(frozen=True)
class Call:
    """The arguments of a module's ``forward``."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class _Seen(Exception):
    """The module has been called: nothing that follows matters."""


def recorded_call(module: nn.Module, run: Callable[[], object]) -> Call | None:
    """The first call of ``module`` while ``run`` runs; None if it is not called, or something fails before.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> recorded_call(net, lambda: net(torch.zeros(3, 2)).sum()).args[0].shape
        torch.Size([3, 2])
        >>> recorded_call(net, lambda: net.weight.sum()) is None
        True
    """
    found: list[Call] = []

    def note(_: nn.Module, args: tuple, kwargs: dict) -> None:
        found.append(Call(pytree.tree_map(_plain, args), pytree.tree_map(_plain, kwargs)))
        raise _Seen

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    with contextlib.suppress(Exception):
        run()
    handle.remove()
    return found[0] if found else None


def _plain(value: object) -> object:
    """A tensor without the wrappers of function transforms (a loss that differentiates by the input has them)."""
    if not isinstance(value, torch.Tensor):
        return value
    shape = value.shape
    while torch._C._functorch.is_functorch_wrapped_tensor(value):
        value = torch._C._functorch.get_unwrapped(value)
    return value.detach().flatten()[: shape.numel()].reshape(shape)


@torch.no_grad()
def guess_example(module: nn.Module) -> tuple[Any, ...] | None:
    """Two rows of input for the first layer that has parameters; None if nothing that was tried is accepted.

    Example:
        >>> guess_example(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)))[0].shape
        torch.Size([2, 5])
    """
    first = next((m for m in module.modules() if any(True for _ in m.parameters(recurse=False))), None)
    if first is None:
        return None
    parameter = next(first.parameters(recurse=False))
    for candidate in _candidates(first, parameter):
        try:
            module(candidate)
        except Exception:  # whatever forward raises, this was not the shape
            continue
        return (candidate,)
    return None


def _candidates(first: nn.Module, parameter: torch.Tensor):
    """Inputs for this first layer, the likeliest first."""

    def normal(*shape: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(parameter)

    if isinstance(first, nn.Embedding):
        yield torch.zeros(2, 3, dtype=torch.int64, device=parameter.device)
    elif isinstance(first, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        for space in _SPACES:
            yield normal(2, first.in_channels, *[space] * len(first.kernel_size))
    elif parameter.ndim == 2:
        yield normal(2, parameter.shape[1])
        yield normal(2, 3, parameter.shape[1])
    elif parameter.ndim == 1:
        yield normal(2, len(parameter))
