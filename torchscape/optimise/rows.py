"""Rows of a batched state: select them, exchange them. States are frozen dataclasses of tensors, or tensors.

Tensors carry the batch on their first axis; anything else (a step count on the host, a setting) is shared
by all rows and kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from torchscape.devices import asking_is_free
from torchscape.types import Bool, Int, Tensor

__all__ = ["cat_rows", "columns_of", "map_rows", "may_hold", "n_rows", "put_rows", "take_rows"]

State = TypeVar("State")


def may_hold(condition: Bool[Tensor, "*S"]) -> bool:
    """Whether what is done where the condition holds must be done: asked on the CPU, where asking is free, and
    taken for granted on a device, where asking costs more than doing."""
    return not asking_is_free(condition) or bool(condition.any())


def n_rows(state: Any) -> int:
    """Batch size of a state: the length of its first tensor."""
    if isinstance(state, Tensor):
        return len(state)
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, Tensor):
            return len(value)
        if dataclasses.is_dataclass(value):
            return n_rows(value)
    raise TypeError(f"{type(state).__name__} holds no tensor, so it has no rows")


def take_rows(state: State, rows: Int[Tensor, "K"] | Bool[Tensor, "B"] | slice) -> State:
    """The state of the chosen rows only; of a slice, as a view.

    Example:
        >>> import torch
        >>> from torchscape.points import StationaryPoints
        >>> points = StationaryPoints.of(torch.zeros(3, 2), torch.arange(3.0))
        >>> take_rows(points, torch.tensor([2, 0])).energy.tolist()
        [2.0, 0.0]
    """
    taken: State = map_rows(lambda value: value[rows], state)
    return taken


def put_rows(state: State, rows: Int[Tensor, "K"], fresh: State) -> State:
    """``state`` with the given rows exchanged for those of ``fresh``, whose buffers are written in place."""

    def put(value: Tensor, new: Tensor) -> Tensor:
        value[rows] = new
        return value

    whole: State = map_rows(put, state, fresh)
    return whole


def columns_of(state: Any) -> tuple[Tensor, ...]:
    """The tensors of a state, in the order of its fields."""
    if isinstance(state, Tensor):
        return (state,)
    values = (getattr(state, field.name) for field in dataclasses.fields(state))
    return tuple(
        column
        for value in values
        if isinstance(value, Tensor) or dataclasses.is_dataclass(value)
        for column in columns_of(value)
    )


def cat_rows(parts: Sequence[State]) -> State:
    """The rows of equally built states, one after the other."""
    joined: State = map_rows(lambda *columns: torch.cat(columns), *parts)
    return joined


def map_rows(f: Callable[..., Tensor], first: Any, *others: Any) -> Any:
    """``f`` on corresponding tensors of equally built dataclasses."""
    if isinstance(first, Tensor):
        return f(first, *others)
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(first):
        values = [getattr(state, field.name) for state in (first, *others)]
        if isinstance(values[0], Tensor):
            changed[field.name] = f(*values)
        elif dataclasses.is_dataclass(values[0]):
            changed[field.name] = map_rows(f, *values)
    return dataclasses.replace(first, **changed)
