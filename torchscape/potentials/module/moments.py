"""What the layers of a module see: the second moments of whatever their weights are multiplied with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from torchscape.types import Float, Int, Tensor

__all__ = ["Key", "Recorder", "Seen"]

Key = tuple[str, int, int]
"""A layer: the name of its weight, and which of its rows (of a projection of attention, a third of them)."""

_AT_ONCE = 1 << 21  # numbers of a piece of unfolded patches


@dataclasses.dataclass(frozen=True)
class Seen:
    """One call of a layer.

    Attributes:
        input: what it was given.
        bias: the name of its bias, and the first of its rows; None where it has none that is a coordinate.
        windows: of a convolution: the extents of its kernel, stride, dilation and padding (before and after) along
            each dimension, and the number of groups.
        n_rows: of a table of embeddings, whose input are the numbers of rows.
    """

    input: Tensor
    bias: tuple[str, int] | None = None
    windows: tuple[tuple[tuple[int, int, int, int, int], ...], int] | None = None
    n_rows: int | None = None

    @property
    def width(self) -> int:
        """Numbers that a unit sees at once, the 1 of its bias included."""
        if self.n_rows is not None:
            return self.n_rows
        ones = self.bias is not None
        if self.windows is None:
            return self.input.shape[-1] + ones
        kernel, groups = self.windows
        size = self.input.shape[-1 - len(kernel)] // groups
        for extent, *_ in kernel:
            size *= extent
        return size + ones

    @property
    def groups(self) -> int:
        """Of units, each of which sees other inputs."""
        return 1 if self.windows is None else self.windows[1]

    @property
    def n_places(self) -> int:
        """How often each unit is multiplied with, all samples together."""
        if self.n_rows is not None:
            return 0  # looked up
        if self.windows is None:
            return self.input.numel() // max(1, self.input.shape[-1])
        kernel, number = self.windows[0], len(self.input)
        for size, window in zip(self.input.shape[-len(kernel) :], kernel, strict=True):
            extent, stride, dilation, before, after = window
            number *= (size + before + after - dilation * (extent - 1) - 1) // stride + 1
        return number

    def moments(self) -> tuple[Float[Tensor, "G k k"], int]:
        """Sums of a a^T over all a that a unit of each group sees, and their number."""
        parts = [self._moments(part) for part in self._pieces()]
        return sum((m for m, _ in parts[1:]), parts[0][0]), sum(n for _, n in parts)

    def counts(self) -> tuple[Int[Tensor, "V"], int]:
        """How often each row of a table is looked up, and how often any."""
        assert self.n_rows is not None
        numbers = self.input.reshape(-1)
        none = numbers.new_zeros(self.n_rows)
        return none.index_add(0, numbers, torch.ones_like(numbers)), len(numbers)

    def _pieces(self) -> tuple[Tensor, ...]:
        """A few samples at a time, where what units see is larger than what is given."""
        if self.windows is None:
            return (self.input,)
        places = self.input[0].numel() * self.width
        return self.input.split(max(1, _AT_ONCE // max(1, places)))

    def _moments(self, input: Tensor) -> tuple[Tensor, int]:
        a = input.reshape(1, -1, input.shape[-1]) if self.windows is None else patches(input, *self.windows)
        if self.bias is not None:
            a = torch.cat([a, a.new_ones(*a.shape[:2], 1)], 2)
        return a.mT @ a, a.shape[1]


def patches(
    input: Float[Tensor, "*S"], kernel: tuple[tuple[int, int, int, int, int], ...], groups: int
) -> Float[Tensor, "G n k"]:
    """What a convolution multiplies its weights with, in their order: one row for each sample and place.

    Example:
        >>> x = torch.arange(4.0).reshape(1, 1, 4)
        >>> patches(x, ((2, 1, 1, 0, 0),), 1)[0].tolist()
        [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    """
    d = len(kernel)
    pads = [pad for _, _, _, before, after in reversed(kernel) for pad in (before, after)]
    a = functional.pad(input, pads) if any(pads) else input
    for axis, (extent, stride, dilation, _, _) in enumerate(kernel):
        a = a.unfold(2 + axis, dilation * (extent - 1) + 1, stride)[..., ::dilation]
    # [n channels places... extents...] -> [groups, n places, channels extents]
    a = a.unflatten(1, (groups, -1)).movedim((1, 0), (0, 1)).movedim(2, 2 + d)
    return a.flatten(2 + d).flatten(1, 1 + d)


def _is_mapped(value: Any) -> bool:
    """Whether a loss calls its model inside a transform of its own (vmap, jacrev), which this does not outlive."""
    return isinstance(value, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(value)


class Recorder(TorchFunctionMode):
    """Notes what layers are given wherever their weight is a coordinate: linear ones, convolutions, projections of
    attention, tables of embeddings, and what recurrent layers make of their inputs.

    Args:
        values: coordinates by the names of their parameters, as the module is called with them.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = {id(value): name for name, value in values.items()}
        self.calls: dict[Key, list[Seen]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        note = _NOTES.get(func) or _RECURRENT.get(getattr(func, "__name__", ""))
        if note is not None and not _is_mapped(args[0] if args else kwargs.get("input")):
            note(self, *args, **kwargs)
        return func(*args, **kwargs)

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        self.add(weight, bias, input)

    def convolution(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | str | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> None:
        d = weight.ndim - 2
        batched = input if input.ndim == d + 2 else input[None]
        dilations = _each(dilation, d)
        reach = [gap * (extent - 1) for gap, extent in zip(dilations, weight.shape[2:], strict=True)]
        if padding == "same":
            before = [total // 2 for total in reach]
            after = [total - first for total, first in zip(reach, before, strict=True)]
        else:
            before = after = [0] * d if isinstance(padding, str) else _each(padding, d)
        kernel = tuple(zip(weight.shape[2:], _each(stride, d), dilations, before, after, strict=True))
        self.add(weight, bias, batched, windows=(kernel, groups))

    def embedding(self, input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> None:
        self.add(weight, None, input, n_rows=len(weight))

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        embed_dim_to_check: int,
        num_heads: int,
        in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        parts = [kwargs.get(f"{name}_proj_weight") for name in "qkv"]
        for number, (input, own) in enumerate(zip((query, key, value), parts, strict=True)):
            size = embed_dim_to_check
            rows = number * size, (number + 1) * size
            weight = own if in_proj_weight is None else in_proj_weight
            if weight is not None:
                self.add(weight, in_proj_bias, input, (0, size) if in_proj_weight is None else rows, rows[0])

    def recurrent(self, input: Tensor, *args: Any) -> None:
        """The first layer of each direction. Lengths of packed sequences may stand before the state."""
        at = next(number for number, part in enumerate(args) if isinstance(part, list))
        weights, has_biases, n_layers, directions = args[at], args[at + 1], args[at + 2], 1 + args[at + 5]
        each = len(weights) // (n_layers * directions)
        for direction in range(directions):
            own = weights[direction * each : (direction + 1) * each]
            self.add(own[0], own[2] if has_biases else None, input)

    def add(
        self,
        weight: Tensor,
        bias: Tensor | None,
        input: Tensor,
        rows: tuple[int, int] | None = None,
        first: int = 0,
        **kind: Any,
    ) -> None:
        """A call of the layer with these ``rows`` of the weight, and of the bias from ``first`` on."""
        if (name := self.names.get(id(weight))) is None:
            return
        known = None if bias is None else self.names.get(id(bias))
        input = input.detach()
        if "n_rows" not in kind:
            input = input.to(weight.dtype)
        begin, end = rows or (0, len(weight))
        seen = Seen(input, None if known is None else (known, first), **kind)
        self.calls.setdefault((name, begin, end), []).append(seen)


def _each(value: int | tuple[int, ...], d: int) -> list[int]:
    return [value] * d if isinstance(value, int) else list(value) * (d if len(value) == 1 else 1)


_NOTES: dict[Any, Callable[..., None]] = {
    functional.linear: Recorder.linear,
    functional.conv1d: Recorder.convolution,
    functional.conv2d: Recorder.convolution,
    functional.conv3d: Recorder.convolution,
    functional.embedding: Recorder.embedding,
    functional.multi_head_attention_forward: Recorder.attention,
}
_RECURRENT = dict.fromkeys(["lstm", "gru", "rnn_tanh", "rnn_relu"], Recorder.recurrent)
