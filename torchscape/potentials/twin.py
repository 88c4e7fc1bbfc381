"""The same potential in double precision, whatever it is made of."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from torchscape.errors import PotentialError
from torchscape.types import Tensor

__all__ = ["double_twin"]

P = TypeVar("P", bound=Any)  # a Potential, which this is a part of


def double_twin(potential: P) -> P:
    """A copy whose tensors, modules and parts are in float64, tried out at one of its starting points.

    Raises:
        PotentialError: if the copy does not give float64 energies that agree with those of the original: the
            function holds float32 constants in its code, or the device knows no float64.
    """
    twin = copy.copy(potential)
    twin.__dict__.update({n: _doubled(value, potential) for n, value in vars(potential).items() if n != "_limits"})
    twin.dtype = torch.float64
    vars(twin).pop("_limits", None)  # other sizes fit
    x = potential.sample(3)
    try:
        energy, expected = twin.energy_and_grad(x.double())[0], potential.energy_and_grad(x)[0]
    except (RuntimeError, TypeError, ValueError) as error:
        raise PotentialError(f"{potential!r} cannot be evaluated in float64: {error}") from error
    size = expected.abs().nan_to_num(posinf=0.0).amax().clamp(min=potential.energy_scale)
    close = torch.isclose(energy, expected.double(), rtol=1e-3, atol=1e-3 * float(size), equal_nan=True)
    if energy.dtype != torch.float64 or not bool(close.all()):
        raise PotentialError(
            f"{potential!r} gives other energies in float64: it keeps numbers in {potential.dtype}"
        )
    return twin


def _doubled(value: Any, potential: Any) -> Any:
    """The value with every floating-point tensor of the potential's dtype in float64."""
    if isinstance(value, Tensor):
        return value.double() if value.dtype == potential.dtype else value
    if value is potential.dtype:
        return torch.float64
    if hasattr(value, "energy_and_grad") and hasattr(value, "double"):
        return value.double()
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).double()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            f.name: _doubled(getattr(value, f.name), potential) for f in dataclasses.fields(value) if f.init
        }
        return dataclasses.replace(value, **changes)
    if isinstance(value, Mapping):
        return {key: _doubled(item, potential) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_doubled(item, potential) for item in value)
    return value
