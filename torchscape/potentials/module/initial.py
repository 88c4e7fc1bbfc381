"""Random starts from a module's own initialisers."""

from __future__ import annotations

import math

import torch
from torch import nn

from torchscape import random
from torchscape.devices import HOST
from torchscape.layout import ParameterLayout
from torchscape.potentials.module.state import copied_to
from torchscape.types import Float, Tensor

__all__ = ["draw"]


def draw(module: nn.Module, layout: ParameterLayout, n: int, seed: int) -> Float[Tensor, "n D"]:
    """``n`` fresh initialisations of a module, each a function of (seed, row) alone, on the CPU and in float64:
    torch's generator has other numbers for float32, where explorations would then begin elsewhere.

    Every submodule's ``reset_parameters`` is called, with torch's global random state set aside. Parameters that
    no initialiser touches are drawn normal: matrices with variance 1 / fan-in, vectors around what they are now.

    Example:
        >>> layout = ParameterLayout.of({"weight": [3, 2], "bias": [3]})
        >>> x = draw(nn.Linear(2, 3), layout, n=4, seed=0)
        >>> x.dtype, x.shape, bool(x.abs().max() <= 2**-0.5)  # Linear draws from U(-k, k), k = fan_in^(-1/2)
        (torch.float64, torch.Size([4, 9]), True)
    """
    fresh = copied_to(module, HOST, torch.float64)
    names = [name for name, _ in fresh.named_parameters() if name in layout.names]
    parameters = dict(fresh.named_parameters())
    present = {name: parameters[name].detach().clone() for name in names}
    keys = random.keys(seed, n, HOST)
    rows = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for key in keys:
            torch.default_generator.manual_seed(int(key) & (2**63 - 1))
            for name in names:
                parameters[name].copy_(present[name] * torch.nan)
            _reset(fresh)
            drawn = {name: _or_normal(parameters[name], present[name]) for name in names}
            rows.append(layout.flatten(drawn))
    return torch.stack(rows) if rows else torch.empty(0, layout.ndim, dtype=torch.float64)


def _reset(module: nn.Module) -> None:
    """Every initialiser, innermost first, so that an outer one may refine what its parts did."""
    for part in reversed(list(module.modules())):
        for name in ("reset_parameters", "_reset_parameters"):
            initialiser = getattr(part, name, None)
            if callable(initialiser):
                initialiser()
                break


def _or_normal(parameter: Tensor, present: Tensor) -> Tensor:
    """The drawn values, or normal ones where the initialisers left the NaN that was put there."""
    untouched = torch.isnan(parameter)
    if not bool(untouched.any()):
        return parameter.clone()
    noise = torch.randn_like(parameter)
    if parameter.ndim >= 2:
        normal = noise / math.sqrt(parameter[0].numel())
    else:
        normal = present + 0.1 * present.abs().clamp_min(1.0) * noise
    return torch.where(untouched, normal, parameter)
