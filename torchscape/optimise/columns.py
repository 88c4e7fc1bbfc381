"""States and results, which are nested dataclasses, as columns with names, and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

import torch

from torchscape.types import Tensor

__all__ = ["build", "dataclass_of", "join", "leaves", "name_of", "with_shared"]


def name_of(result: type) -> str:
    return f"{result.__module__}.{result.__qualname__}"


def leaves(state: Any, kind: type, prefix: str = "") -> dict[str, Any]:
    """The fields of nested dataclasses that are of one kind, by name; those of a nested one as "name.name".

    Example:
        >>> from torchscape.points import StationaryPoints
        >>> sorted(leaves(StationaryPoints.of(torch.zeros(1, 2), torch.zeros(1)), torch.Tensor))[:2]
        ['energy', 'grad_rms']
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, kind):
            found[prefix + field.name] = value
        elif dataclasses.is_dataclass(value):
            found |= leaves(value, kind, f"{prefix}{field.name}.")
    return found


def with_shared(state: Any, shared: Mapping[str, int], prefix: str = "") -> Any:
    """The state with bounds that hold for rows of both."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, int):
            changed[field.name] = max(value, shared.get(prefix + field.name, value))
        elif dataclasses.is_dataclass(value):
            changed[field.name] = with_shared(value, shared, f"{prefix}{field.name}.")
    return dataclasses.replace(state, **changed)


def build(result: type, columns: Mapping[str, Tensor], prefix: str = "") -> Any:
    """Results from their columns; what is missing was None."""
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(result)
    for field in dataclasses.fields(result):
        kind = dataclass_of(hints[field.name])
        if kind is not None:
            values[field.name] = build(kind, columns, f"{prefix}{field.name}.")
        else:
            values[field.name] = columns.get(prefix + field.name)
    return result(**values)


def dataclass_of(hint: Any) -> type | None:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next((kind for one in typing.get_args(hint) if (kind := dataclass_of(one))), None)
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def join(parts: list[Any]) -> Any:
    """Results of several lots, one after the other; a column that some of them lack is left out."""
    columns = [leaves(part, Tensor) for part in parts]
    names = [name for name in columns[0] if all(name in one for one in columns)]
    return build(type(parts[0]), {name: torch.cat([one[name] for one in columns]) for name in names})
