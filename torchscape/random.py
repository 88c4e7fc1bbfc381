"""Counter-based random numbers: every row has its own key, so that no row's luck depends on its neighbours.

A stateful generator hands out numbers in the order of the batch; here the number is a pure function of
``(key, position)``. A walker therefore draws the same numbers whichever batch, order or executor it runs in,
and a run that is stopped and resumed needs no generator state. The mixing function is SplitMix64
(Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195).
"""

from __future__ import annotations

import math

import torch

from torchscape.types import Float, Int, Tensor

__all__ = ["fold", "normal", "permutation", "uniform"]

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))


def _shift_right(bits: Int[Tensor, "*S"], n: int) -> Int[Tensor, "*S"]:
    """Logical (unsigned) right shift: torch's own keeps the sign."""
    return (bits >> n) & ((1 << (64 - n)) - 1)


def _mix(bits: Int[Tensor, "*S"]) -> Int[Tensor, "*S"]:
    bits = (bits ^ _shift_right(bits, 30)) * _MIX[0]
    bits = (bits ^ _shift_right(bits, 27)) * _MIX[1]
    return bits ^ _shift_right(bits, 31)


def fold(key: int | Int[Tensor, "..."], *data: int | Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A new key from a key and any number of integers (tensors broadcast).

    Example:
        >>> fold(0, torch.arange(3)).unique().numel()
        3
    """
    bits = torch.as_tensor(key, dtype=torch.int64)
    for value in data:
        value = torch.as_tensor(value, dtype=torch.int64)
        bits = _mix(_mix(bits.to(value.device) + _GOLDEN) ^ (value + _GOLDEN))
    return bits


def uniform(key: Int[Tensor, "B"], n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "B n"]:
    """``n`` numbers in (0, 1) for each key.

    Example:
        >>> key = fold(7, torch.arange(4))
        >>> bool((uniform(key, 5)[2] == uniform(key[2:3], 5)[0]).all())
        True
    """
    counter = torch.arange(1, n + 1, device=key.device, dtype=torch.int64) * _GOLDEN
    bits = _mix(_mix(key)[:, None] + counter)
    return ((_shift_right(bits, 11).to(torch.float64) + 0.5) * 2.0**-53).to(dtype)


def normal(key: Int[Tensor, "B"], n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "B n"]:
    """``n`` standard normal numbers for each key (Box-Muller)."""
    half = (n + 1) // 2
    u = uniform(key, 2 * half)
    radius = torch.sqrt(-2.0 * torch.log(u[:, :half]))
    angle = 2.0 * math.pi * u[:, half:]
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)[:, :n].to(dtype)


def permutation(key: Int[Tensor, "B"], n: int) -> Int[Tensor, "B n"]:
    """A random permutation of 0..n-1 for each key."""
    return uniform(key, n).argsort(1)
