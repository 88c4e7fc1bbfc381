"""Data in host memory that visit the device chunk by chunk, each copied while the one before it is in use."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torchscape.devices import HOST, has_streams
from torchscape.memory import available_memory
from torchscape.types import Tensor

__all__ = ["page_locked", "streamed"]


def page_locked(tree: Any, device: torch.device) -> Any:
    """The tree in page-locked memory, from which a GPU copies by itself, while the processor does something else.

    Only if that takes no more than a quarter of the machine's memory, which nothing else can use then; otherwise,
    and where nothing is gained (``device`` is no CUDA device), the tree as it is.
    """
    leaves = pytree.tree_leaves(tree)
    size = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    if not has_streams(device) or size > available_memory(HOST):
        return tree
    return pytree.tree_map(_pinned, tree)


def streamed(parts: Iterator[Any], device: torch.device) -> Iterator[Any]:
    """The parts (trees of host tensors) on the device, in order: one copy per tensor, one part ahead.

    On a device with streams, copies run on one of their own. A part is handed out to work that waits for its copy
    on the device, not on the host. The host runs ahead of the device by two parts at most, so that no more than
    four are on the device at any time.

    Example:
        >>> parts = iter([torch.zeros(2), torch.ones(2)])
        >>> [part.tolist() for part in streamed(parts, torch.device("cpu"))]
        [[0.0, 0.0], [1.0, 1.0]]
    """
    copier = _Copier(device)
    ahead = [copier.started(part) for part in _next(parts)]
    while ahead:
        current = ahead.pop()
        # The next copy starts before the current part is used: it would queue up behind that work otherwise.
        ahead += [copier.started(part) for part in _next(parts)]
        yield copier.arrived(current)
        copier.used()


def _next(parts: Iterator[Any]) -> list[Any]:
    """The next part in a list, or an empty list at the end."""
    return list(itertools.islice(parts, 1))


class _Copier:
    """Starts copies to the device and hands over what has arrived."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.backend: Any = torch.get_device_module(device) if has_streams(device) else None
        self.stream = None if self.backend is None else self.backend.Stream(device)
        self.works: deque[Any] = deque()  # one event for every part whose work has been queued

    def started(self, tree: Any) -> tuple[Any, Any]:
        """The copy under way, and the event that says it has arrived (None where copying waits)."""
        if self.stream is None:
            return pytree.tree_map(lambda leaf: leaf.to(self.device), tree), None
        if len(self.works) > 1:
            self.works.popleft().synchronize()
        with self.backend.stream(self.stream):
            return pytree.tree_map(self._copied, tree), self.stream.record_event()

    def arrived(self, copy: tuple[Any, Any]) -> Any:
        """The copy, safe to use for whatever is queued from now on."""
        tree, event = copy
        if event is not None:
            here = self.backend.current_stream(self.device)
            here.wait_event(event)
            for leaf in pytree.tree_leaves(tree):
                leaf.record_stream(here)  # its memory is not given away before the work queued here is done
        return tree

    def used(self) -> None:
        """All work on the part that was handed out last has been queued."""
        if self.stream is not None:
            self.works.append(self.backend.current_stream(self.device).record_event())

    def _copied(self, leaf: Tensor) -> Tensor:
        return _pinned(leaf).to(self.device, non_blocking=True)


def _pinned(leaf: Tensor) -> Tensor:
    try:
        return leaf if leaf.is_pinned() else leaf.pin_memory()
    except RuntimeError:  # the system allows no more: the copy waits, that is all
        return leaf
