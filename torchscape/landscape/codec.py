"""Tensors and states as bytes and JSON, both ways. No pickles: a file that is read cannot run code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from torchscape.errors import TorchscapeError
from torchscape.types import Float, Tensor

__all__ = ["Array", "from_blobs", "pack", "to_blobs", "unpack"]

Array = tuple[str, str, str, bytes]
"""A named tensor as it is stored: name, dtype, shape (JSON), bytes."""

_DTYPES = {
    torch.float64: "<f8",
    torch.float32: "<f4",
    torch.int64: "<i8",
    torch.int32: "<i4",
    torch.uint8: "|u1",
    torch.bool: "|b1",
}


def to_blobs(rows: Float[Tensor, "B D"]) -> list[bytes]:
    """Every row as little-endian float64.

    Example:
        >>> to_blobs(torch.tensor([[1.0, 2.0]]))[0].hex()
        '000000000000f03f0000000000000040'
    """
    values = rows.detach().to("cpu", torch.float64).contiguous().numpy().astype("<f8", copy=False)
    return [row.tobytes() for row in values]


def from_blobs(blobs: Iterable[bytes], ndim: int) -> Float[Tensor, "B D"]:
    """The rows that :func:`to_blobs` wrote."""
    values = np.frombuffer(bytearray(b"".join(blobs)), "<f8").astype(np.float64, copy=False)
    return torch.from_numpy(values.reshape(-1, ndim))


def pack(state: Mapping[str, object]) -> tuple[str, list[Array]]:
    """JSON for what JSON can hold, and the tensors beside it.

    Raises:
        TorchscapeError: on anything that is neither a tensor nor plain data.
    """
    plain: dict[str, object] = {}
    arrays: list[Array] = []
    for name, value in state.items():
        if not isinstance(value, Tensor):
            plain[name] = value
        elif value.dtype in _DTYPES:
            flat = np.ascontiguousarray(value.detach().cpu().numpy().astype(_DTYPES[value.dtype]))
            arrays.append((name, _DTYPES[value.dtype], json.dumps(list(value.shape)), flat.tobytes()))
        else:
            known = ", ".join(str(dtype) for dtype in _DTYPES)
            raise TorchscapeError(f"state {name!r} is a tensor of {value.dtype}; convert it to one of {known}")
    try:
        return json.dumps(plain), arrays
    except TypeError as error:
        raise TorchscapeError(
            f"a state holds numbers, strings, lists of them, and tensors: {error}; convert it first"
        ) from error


def unpack(text: str, arrays: Sequence[Array]) -> dict[str, object]:
    """What :func:`pack` took.

    Example:
        >>> state = {"hops": 3, "steps": torch.tensor([0.5, 0.25])}
        >>> unpack(*pack(state))
        {'hops': 3, 'steps': tensor([0.5000, 0.2500])}
    """
    state: dict[str, object] = json.loads(text)
    for name, dtype, shape, data in arrays:
        native = np.dtype(dtype).newbyteorder("=")
        values = np.frombuffer(bytearray(data), dtype).astype(native, copy=False)
        state[name] = torch.from_numpy(values.reshape(json.loads(shape)))
    return state
