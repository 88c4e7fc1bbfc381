"""Strategies as tables of plain values, for configuration files and for the record of a run, and back."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from torchscape.errors import TorchscapeError, UnknownName
from torchscape.explore.strategy import Strategy
from torchscape.types import Tensor

__all__ = ["changed", "name_of", "plain", "table_of"]

_ROOMS = ("torchscape.explore", "torchscape.optimise", "torchscape.saddles", "torchscape.potentials")
_KIND, _NONE = "kind", "none"
_MOST = 1000  # numbers of an array; a larger one is no setting that anybody reads


def table_of(strategy: Strategy, name: str | None = None) -> dict[str, Any]:
    """A strategy as its ``name`` and all of its settings, those of its parts as tables in it.

    TOML has no word for None: a setting that is None is left out, and named in ``none`` where that is no default.

    :func:`changed` makes the same strategy of the same table.

    Example:
        >>> from torchscape.explore import BasinHopping
        >>> table = table_of(BasinHopping(walkers=16, temperature=0.1))
        >>> table["name"], table["walkers"], table["move"]
        ('basin-hopping', 16, {'kind': 'Gaussian'})
    """
    return {"name": name or name_of(strategy), **_fields(strategy)}


def name_of(strategy: Strategy) -> str:
    """The name of a strategy on the command line; of one that is not the package's, its class."""
    kind = type(strategy)
    if kind.__module__.startswith("torchscape."):
        return strategy.name.replace(" ", "-")
    return f"{kind.__module__}:{kind.__qualname__}"


def _fields(of: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(of):
        return {}
    fields = [(field, getattr(of, field.name)) for field in dataclasses.fields(of) if field.init]
    table = {field.name: plain(value) for field, value in fields if value is not None}
    unset = [field.name for field, value in fields if value is None and field.default is not None]
    return {**table, **({_NONE: unset} if unset else {})}


def plain(value: Any) -> Any:
    """A value as numbers, texts, lists and tables; of what is none of these, its text.

    Example:
        >>> import torch
        >>> plain((1, torch.tensor([0.5]), torch.float64))
        [1, [0.5], 'torch.float64']
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Tensor):
        return value.tolist() if value.numel() <= _MOST else f"array of shape {list(value.shape)}"
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {_KIND: _kind_name(type(value)), **_fields(value)}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    # The address of an object would be another one in the next process.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _kind_name(kind: type) -> str:
    return kind.__name__ if _exported().get(kind.__name__) is kind else f"{kind.__module__}:{kind.__qualname__}"


def _exported() -> dict[str, type]:
    """Every class that the rooms export whose objects are settings, by its name."""
    rooms = [import_module(name) for name in _ROOMS]
    named = {name: getattr(room, name) for room in rooms for name in room.__all__}
    return {name: kind for name, kind in named.items() if isinstance(kind, type)}


def changed(to: Any, table: Mapping[str, Any], where: str) -> Any:
    """A copy of a strategy, or of a part of one, with the settings of a table.

    Args:
        to: a dataclass; its other settings stay.
        table: values by the name of the field. A field that is a dataclass itself takes a table of its settings,
            with ``kind`` where it is to be of another class: ``move = {kind = "PerLayer", floor = 0.2}``. Those
            named in ``none`` become None.
        where: what the table is called, for errors.

    Raises:
        TorchscapeError: for a setting that is not there, or a value that it does not take.

    Example:
        >>> from torchscape.explore import BasinHopping, PerLayer
        >>> changed(BasinHopping(), {"walkers": 8, "move": {"kind": "PerLayer"}}, "here").move
        PerLayer(floor=0.1)
    """
    if not dataclasses.is_dataclass(to) or isinstance(to, type):
        raise TorchscapeError(f"{where}: {to!r} has no settings of its own")
    fields = [field.name for field in dataclasses.fields(to) if field.init]
    values = dict.fromkeys(table.get(_NONE, ()))
    for name, value in table.items():
        if name == _NONE:
            continue
        if name not in fields:
            raise UnknownName.of(f"setting of {type(to).__name__}", name, fields)
        values[name] = _value(value, getattr(to, name), f"{where}.{name}")
    try:
        return dataclasses.replace(to, **values)
    except TorchscapeError as error:
        raise TorchscapeError(f"{where}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise TorchscapeError(f"{where}: {type(to).__name__} does not take this ({error})") from error


def _value(value: Any, now: Any, where: str) -> Any:
    """A value of a table as the setting takes it: tables are objects, lists are tuples."""
    if isinstance(value, Mapping):
        if _KIND not in value:
            return changed(now, value, where)
        kind = _kind(str(value[_KIND]), where)
        rest = {name: item for name, item in value.items() if name != _KIND}
        return changed(now if type(now) is kind else _made(kind, rest, where), rest, where)
    if isinstance(value, list):
        return tuple(_value(item, None, where) for item in value)
    return value


def _made(kind: type, rest: dict[str, Any], where: str) -> Any:
    """An object of a class: with its defaults, or with what it cannot be made without, which leaves ``rest``."""
    needed = {
        field.name: _value(rest[field.name], None, f"{where}.{field.name}")
        for field in dataclasses.fields(kind)
        if field.name in rest
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    }
    try:
        return kind(**needed)
    except TypeError as error:
        raise TorchscapeError(f"{where}: {kind.__name__} needs more than this ({error})") from error


def _kind(name: str, where: str) -> type:
    known = _exported()
    module, colon, qualified = name.partition(":")
    found = known.get(name)
    if colon and module.startswith("torchscape."):
        try:
            found = getattr(import_module(module), qualified)
        except (ImportError, AttributeError):
            found = None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise UnknownName.of(
            f"kind in {where}:", name, [k for k, v in known.items() if dataclasses.is_dataclass(v)]
        )
    return found
