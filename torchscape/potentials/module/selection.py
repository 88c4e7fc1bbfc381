"""Which parameters of a module are coordinates, and which of those are regularised."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from torchscape.errors import PotentialError
from torchscape.layout import ParameterLayout
from torchscape.types import Float, Tensor

__all__ = ["ParameterFilter", "choose_layout", "choose_mask"]

# f(name, parameter) -> bool, one name or pattern, several of them, or None for the default.
ParameterFilter = Callable[[str, nn.Parameter], bool] | str | Sequence[str] | None


def choose_layout(module: nn.Module, chosen: ParameterFilter) -> ParameterLayout:
    """The coordinates of a module: chosen parameters, each tensor once."""
    named = dict(module.named_parameters())
    if chosen is None:
        kept = {name for name, parameter in named.items() if parameter.requires_grad}
    else:
        kept = _select(named, chosen, "parameters")
    if not kept:
        raise PotentialError(
            "no parameter is a coordinate: every one is frozen or left out by parameters=...; "
            f"the module has {', '.join(named) or 'none'}"
        )
    canonical = {id(parameter): name for name, parameter in named.items()}
    aliases = {
        name: canonical[id(parameter)] for name, parameter in module.named_parameters(remove_duplicate=False)
    }
    return ParameterLayout.of(
        {name: parameter.shape for name, parameter in named.items() if name in kept},
        {name: first for name, first in aliases.items() if name != first and first in kept},
    )


def choose_mask(layout: ParameterLayout, chosen: ParameterFilter, module: nn.Module) -> Float[Tensor, "D"]:
    """One for every coordinate that is regularised."""
    mask = torch.zeros(layout.ndim, dtype=torch.float64)
    named = {name: parameter for name, parameter in module.named_parameters() if name in layout.names}
    for name in layout.names if chosen is None else _select(named, chosen, "regularise"):
        mask[layout.coordinates(name)] = 1.0
    return mask


def _select(named: Mapping[str, nn.Parameter], chosen: ParameterFilter, argument: str) -> set[str]:
    """The names that a filter chooses."""
    if callable(chosen):
        return {name for name, parameter in named.items() if chosen(name, parameter)}
    patterns = [chosen] if isinstance(chosen, str) else list(chosen or ())
    kept: set[str] = set()
    for pattern in patterns:
        matched = fnmatch.filter(named, pattern)
        if not matched:
            raise PotentialError(f"{argument}={pattern!r} matches no parameter; there are {', '.join(named)}")
        kept.update(matched)
    return kept
