"""Recording on the stand-in device, as CUDA graphs record: what it is told within a block is not done then, but as
often as is wanted, with the same tensors in the same places.

    with standin_graphs.registered():             # torch.standin.CUDAGraph and torch.standin.graph
        graph = torch.standin.CUDAGraph()
        with torch.standin.graph(graph): y = f(x)     # y has no values yet
        graph.replay()                                # now it has

As on CUDA, what asks the device for a number, or copies from the host, raises while it is recorded. (Here
operations do run once: what they wrote over is put back.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import standin
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_UNWRITTEN = ("aten.empty", "aten.new_empty")  # what has no values need not get them again


class Graph:
    """Operations with their tensors."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.n_replays = 0
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def replay(self) -> None:
        self.n_replays += 1
        with torch.no_grad():  # operations are those below autograd
            for call in self.calls:
                call()

    def keep(self, tensor: Any) -> None:
        """What the tensor holds before it is written."""
        if isinstance(tensor, torch.Tensor) and tensor.device.type == "standin":
            place = tensor.untyped_storage().data_ptr()
            if place and place not in self._kept:
                size = tensor.untyped_storage().nbytes() // tensor.element_size()
                whole = tensor.as_strided((size,), (1,), 0)
                self._kept[place] = whole, whole.clone()

    def restore(self) -> None:
        for whole, before in self._kept.values():
            whole.copy_(before)
        self._kept.clear()


class _Recording(TorchDispatchMode):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for value in _written(func, args, kwargs):
            for tensor in tree_leaves(value):
                self.graph.keep(tensor)
        asked = standin.questions()
        out = func(*args, **kwargs)
        if standin.questions() > asked:
            raise RuntimeError(f"{func} is not permitted while a stream is recorded")
        places = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs))}
        outs = _tensors(out)
        if any(tensor.untyped_storage().data_ptr() not in places for tensor in outs):
            if not str(func).startswith(_UNWRITTEN):
                self.graph.calls.append(lambda: _again(outs, func(*args, **kwargs)))
        elif func._schema.is_mutable:
            self.graph.calls.append(lambda: func(*args, **kwargs))
        return out


def _again(outs: list[torch.Tensor], fresh: Any) -> None:
    for mine, new in zip(outs, _tensors(fresh), strict=True):
        mine.copy_(new)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _written(func: Any, args: tuple, kwargs: dict) -> Iterator[Any]:
    """The arguments that the operation writes."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield args[place] if place < len(args) else kwargs.get(argument.name)


@contextlib.contextmanager
def recording(graph: Graph, stream: object = None) -> Iterator[None]:
    try:
        with _Recording(graph):
            yield
    finally:
        graph.restore()


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """The stand-in, which is loaded, has within the block what torch.cuda has for this."""
    members = {"CUDAGraph": Graph, "graph": recording, "Stream": lambda device: None}
    for name, member in members.items():
        setattr(torch.standin, name, member)
    try:
        yield
    finally:
        for name in members:
            delattr(torch.standin, name)
