"""Many tensors to another device in one copy: what a copy costs, it costs for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch

__all__ = ["as_bytes", "moved"]

T = TypeVar("T")

_LARGE = 1 << 24  # bytes beyond which a tensor travels alone: the copy costs more than its beginning


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of all its numbers, one after the other, [n] of ``torch.uint8``; a view where it lies so.

    Example:
        >>> as_bytes(torch.arange(30)[5::29]).tolist()
        [5, 0, 0, 0, 0, 0, 0, 0]
    """
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.stride(0) != 1:  # torch takes a lone number for contiguous, whatever its stride, and does not view it
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8)


def moved(what: T, device: torch.device | str) -> T:
    """The same on another device: a tensor, or a tuple, list, mapping or dataclass of such, however nested.

    All tensors that lie on one device travel side by side, as bytes, in one copy (but for large ones).
    Everything else is kept.

    Example:
        >>> a, (b, c) = moved((torch.arange(2), [torch.ones(1), "c"]), "cpu")
        >>> a.tolist(), b.tolist(), c
        ([0, 1], [1.0], 'c')
    """
    device = torch.device(device)
    away = [tensor for tensor in _tensors(what) if not _is_at(tensor, device)]
    there: dict[int, torch.Tensor] = {}
    for home in {tensor.device for tensor in away}:
        unique = {id(tensor): tensor for tensor in away if tensor.device == home}
        # by falling size, so that every number stands at a multiple of its size
        lot = sorted(unique.values(), key=lambda tensor: -tensor.element_size())
        # side by side they need their memory twice
        large = [tensor for tensor in lot if tensor.numel() * tensor.element_size() > _LARGE]
        there |= {id(tensor): tensor.to(device) for tensor in large}
        lot = [tensor for tensor in lot if id(tensor) not in there]
        there |= {id(tensor): copy for tensor, copy in zip(lot, _sent(lot, device), strict=True)}
    return _exchanged(what, there) if there else what


def _sent(lot: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    if len(lot) <= 1:
        return [tensor.to(device) for tensor in lot]
    parts = [as_bytes(tensor) for tensor in lot]
    whole = torch.cat(parts).to(device).split([len(part) for part in parts])
    return [part.view(tensor.dtype).reshape(tensor.shape) for part, tensor in zip(whole, lot, strict=True)]


def _is_at(tensor: torch.Tensor, device: torch.device) -> bool:
    """Whether it lies there; a device without a number means any of its kind."""
    return tensor.device == device or (device.index is None and tensor.device.type == device.type)


def _tensors(what: Any) -> Iterator[torch.Tensor]:
    if isinstance(what, torch.Tensor):
        yield what
    elif isinstance(what, Mapping):
        for value in what.values():
            yield from _tensors(value)
    elif isinstance(what, list | tuple):
        for value in what:
            yield from _tensors(value)
    elif dataclasses.is_dataclass(what) and not isinstance(what, type):
        for field in dataclasses.fields(what):
            yield from _tensors(getattr(what, field.name))


def _exchanged(what: Any, there: dict[int, torch.Tensor]) -> Any:
    if isinstance(what, torch.Tensor):
        return there.get(id(what), what)
    if isinstance(what, Mapping):
        return {key: _exchanged(value, there) for key, value in what.items()}
    if isinstance(what, list | tuple):
        return type(what)(_exchanged(value, there) for value in what)
    if dataclasses.is_dataclass(what) and not isinstance(what, type):
        fields = {field.name: _exchanged(getattr(what, field.name), there) for field in dataclasses.fields(what)}
        return dataclasses.replace(what, **fields)
    return what
