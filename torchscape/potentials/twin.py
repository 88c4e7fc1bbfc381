"""The same potential in another precision, whatever it is made of."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from torchscape.errors import PotentialError
from torchscape.types import Tensor

__all__ = ["twin"]

P = TypeVar("P", bound=Any)  # a Potential, which this is a part of


def twin(potential: P, dtype: torch.dtype) -> P:
    """A copy whose tensors, modules and parts are in another precision, tried out at three of its starting points.

    Raises:
        PotentialError: if the copy does not give energies of that precision that agree with those of the original:
            the function holds constants of its own precision in its code, or the device knows no other.
    """
    other = copy.copy(potential)
    parts = {n: _cast(value, potential, dtype) for n, value in vars(potential).items() if n != "_limits"}
    other.__dict__.update(parts)
    other.dtype = dtype
    vars(other).pop("_limits", None)  # other sizes fit
    x = potential.sample(3)
    try:
        energy, expected = other.energy_and_grad(x.to(dtype))[0], potential.energy_and_grad(x)[0]
    except (RuntimeError, TypeError, ValueError) as error:
        raise PotentialError(f"{potential!r} cannot be evaluated in {_name(dtype)}: {error}") from error
    size = expected.abs().nan_to_num(posinf=0.0).amax().clamp(min=potential.energy_scale)
    close = torch.isclose(energy.to(expected), expected, rtol=1e-3, atol=1e-3 * float(size), equal_nan=True)
    if energy.dtype != dtype or not bool(close.all()):
        raise PotentialError(
            f"{potential!r} gives other energies in {_name(dtype)}: it keeps numbers in {potential.dtype}"
        )
    return other


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _cast(value: Any, potential: Any, dtype: torch.dtype) -> Any:
    """The value with every floating-point tensor of the potential's dtype in the other."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.dtype == potential.dtype else value
    if value is potential.dtype:
        return dtype
    if hasattr(value, "energy_and_grad") and hasattr(value, "in_precision"):
        return value.in_precision(dtype)
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).to(dtype)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            f.name: _cast(getattr(value, f.name), potential, dtype) for f in dataclasses.fields(value) if f.init
        }
        return dataclasses.replace(value, **changes)
    if isinstance(value, Mapping):
        return {key: _cast(item, potential, dtype) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_cast(item, potential, dtype) for item in value)
    return value
