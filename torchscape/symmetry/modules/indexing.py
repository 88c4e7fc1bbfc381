"""Rules for operations that pick entries, and for those that add them up by number, as graph networks do.

Which entry goes where is data, so that the axis it is picked from may not be permuted; all other axes ride along.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscape.symmetry.modules.factors import Axis, Unclear, length
from torchscape.symmetry.modules.operations import OPERATIONS, Operations
from torchscape.symmetry.modules.rules import Label
from torchscape.types import Tensor

__all__: list[str] = []


# --- by position ---------------------------------------------------------------------------------------------


def _slice(ops: Operations, x: Label, dim: int, start: int, size: int, total: int) -> Label:
    sizes = [(0, start), (1, size), (2, total - start - size)]
    kept = [(which, n) for which, n in sizes if n > 0]
    parts = ops.slices(x, dim, [n for _, n in kept])
    return parts[[which for which, _ in kept].index(1)]


def _narrow(ops: Operations, out, input, dim, start, length):
    return _slice(ops, ops.of(input), dim % input.ndim, int(start), length, input.shape[dim])


def _select(ops: Operations, out, input, dim, index):
    dim %= input.ndim
    index = index % input.shape[dim]
    layers = ops.layers_of(input)
    if dim == 0 and layers is not None:
        return layers[index]
    return ops.without(_slice(ops, ops.of(input), dim, index, 1, input.shape[dim]), dim)


def _unbind(ops: Operations, out, input, dim=0):
    dim %= input.ndim
    layers = ops.layers_of(input)
    if dim == 0 and layers is not None:
        return list(layers)
    return [ops.without(part, dim) for part in ops.slices(ops.of(input), dim, [1] * input.shape[dim])]


def _getitem(ops: Operations, out, input, index):
    index = index if isinstance(index, tuple) else (index,)
    picked = [item for item in index if isinstance(item, (Tensor, list))]
    if len(picked) > 1 or not all(
        item is None or item is Ellipsis or isinstance(item, (int, slice, Tensor, list)) for item in index
    ):
        raise Unclear("indexes with several tensors")
    layers = ops.layers_of(input)
    if layers is not None and isinstance(index[0], int):
        x, index = layers[index[0]], index[1:]
    else:
        x = ops.of(input)
    return _indexed(ops, x, index)


def _indexed(ops: Operations, x: Label, index: Sequence) -> Label:
    dim = 0
    for position, item in enumerate(index):
        if item is None:
            x, dim = Label((*x.axes[:dim], (), *x.axes[dim:]), x.is_zero), dim + 1
        elif item is Ellipsis:
            dim = len(x.axes) - sum(1 for later in index[position + 1 :] if later is not None)
        elif isinstance(item, slice):
            size = length(x.axes[dim])
            start, stop, step = item.indices(size)
            if step != 1:
                raise Unclear("indexes with a step")
            x, dim = _slice(ops, x, dim, start, stop - start, size), dim + 1
        elif isinstance(item, int):
            size = length(x.axes[dim])
            x = ops.without(_slice(ops, x, dim, item % size, 1, size), dim)
        else:
            chosen = torch.as_tensor(item)
            if chosen.ndim != 1:
                raise Unclear("indexes with a tensor that is no vector")
            size = int(chosen.count_nonzero()) if chosen.dtype == torch.bool else len(chosen)
            x, dim = _picked(ops, x, dim, size), dim + 1
    return x


# --- by number -----------------------------------------------------------------------------------------------


def _picked(ops: Operations, label: Label, dim: int, size: int) -> Label:
    """Entries along ``dim`` chosen by number: what stood there may not be permuted."""
    ops.ledger.fix(label.axes[dim])
    ops.ledger.inert(label.axes[dim])
    axes: list[Axis] = list(label.axes)
    axes[dim] = Label.of_data([size]).axes[0]
    return Label(tuple(axes), label.is_zero)


def _told_apart(ops: Operations, label: Label, index: Tensor, dim: int) -> None:
    """Where the index differs along another axis, that axis may not be permuted either."""
    for i, axis in enumerate(label.axes):
        if i != dim and index.shape[i] > 1 and index.stride(i) != 0:
            ops.ledger.fix(axis)
            ops.ledger.inert(axis)


def _same_but(a: Tensor, b: Tensor, dim: int, index: Tensor) -> None:
    shapes = [t.shape[:dim] + t.shape[dim + 1 :] for t in (a, b)]
    if a.ndim != b.ndim or index.ndim != a.ndim or shapes[0] != shapes[1]:
        raise Unclear("uses a part of its operand")


def _index_select(ops: Operations, out, input, dim, index):
    dim %= input.ndim
    return _picked(ops, ops.of(input), dim, out.shape[dim])


def _gather(ops: Operations, out, input, dim, index, **options):
    dim %= input.ndim
    _same_but(out, input, dim, index)
    label = ops.of(input)
    _told_apart(ops, label, index, dim)
    return _picked(ops, label, dim, out.shape[dim])


def _scatter(ops: Operations, out, input, dim, index, src, reduce="sum", **options):
    """Rows of ``src`` sent to rows of ``input``, and added (or their largest kept) there."""
    dim %= input.ndim
    _same_but(src, input, dim, index)
    source = ops.of(src)
    _told_apart(ops, source, index, dim)
    return _sent(ops, ops.of(input), source, dim, out.shape[dim], reduce)


def _sent(ops: Operations, target: Label, source: Label, dim: int, size: int, reduce: str) -> Label:
    sent = _picked(ops, source, dim, size)
    if reduce not in ("sum", "mean"):
        for axis in sent.axes:
            ops.ledger.neutral(axis, scale=reduce not in ("amax", "amin"))
            ops.ledger.bend(axis)
    return ops.add(target, sent)


def _index_add(ops: Operations, out, input, dim, index, source, *, alpha=1):
    dim %= input.ndim
    return _sent(ops, ops.of(input), ops.of(source), dim, out.shape[dim], "sum")


OPERATIONS |= {
    "narrow": _narrow,
    "select": _select,
    "unbind": _unbind,
    "getitem": _getitem,
    "index_select": _index_select,
    "gather": _gather,
    "take_along_dim": lambda ops, out, input, indices, dim: _gather(ops, out, input, dim, indices),
    "scatter_add": _scatter,
    "scatter_reduce": _scatter,
    "index_add": _index_add,
}
