"""Counter-based random numbers: every row has its own key, so that no row's luck depends on its neighbours.

A stateful generator hands out numbers in the order of the batch; here the number is a pure function of
``(key, position)``. A walker therefore draws the same numbers whichever batch, order or executor it runs in,
and a run that is stopped and resumed needs no generator state. The mixing function is SplitMix64
(Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from torchscape.devices import is_host
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO, Range

__all__ = ["fold", "keys", "normal", "permutation", "uniform"]

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)), (31, None))
_FEW = 2048
_KEY = Range(low=-(2**63), high=2**63 - 1, whole=True)


def _mix_(bits: Int[Tensor, "*S"]) -> Int[Tensor, "*S"]:
    """SplitMix64's finaliser, in place: for many numbers, memory is half of its time."""
    if bits.numel() < _FEW and is_host(bits.device):
        _mix_few(bits.numpy().view(np.uint64))
        return bits
    spare = torch.empty_like(bits)
    for n, factor in _ROUNDS:
        torch.bitwise_right_shift(bits, n, out=spare)
        bits.bitwise_xor_(spare.bitwise_and_((1 << (64 - n)) - 1))  # the shift keeps the sign; this drops it
        if factor is not None:
            bits.mul_(factor)
    return bits


def _mix_few(bits: np.ndarray) -> None:
    """The same for the keys of a batch, where calls cost more than numbers: NumPy's a fifth of torch's."""
    for n, factor in _ROUNDS:
        np.bitwise_xor(bits, bits >> np.uint64(n), out=bits)
        if factor is not None:
            np.multiply(bits, np.uint64(factor % 2**64), out=bits)


def fold(key: int | Int[Tensor, "..."], *data: int | Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A new key from a key and any number of integers (tensors broadcast).

    Raises:
        OptionError: for a seed that does not fit into 64 bits.

    Example:
        >>> fold(0, torch.arange(3)).unique().numel()
        3
    """
    if not isinstance(key, Tensor):
        _KEY.check("random", seed=key)
    bits = _wrapped(key)
    for value in data:
        value = _wrapped(value)
        if isinstance(value, Tensor) and isinstance(bits, Tensor):
            bits = bits.to(value.device)
        bits = _mixed(_mixed(bits + _GOLDEN) ^ _wrapped(value + _GOLDEN))
    return torch.as_tensor(bits, dtype=torch.int64)


def keys(seed: int, n: int, device: torch.device) -> Int[Tensor, "n"]:
    """One key for each of ``n`` rows to draw, a function of (seed, row) alone.

    Raises:
        OptionError: for an ``n`` that is no whole number of at least 0, or a seed that does not fit into 64 bits.

    Example:
        >>> keys(0, 2, torch.device("cpu")).equal(fold(0, torch.arange(2)))
        True
    """
    COUNT_OR_ZERO.check("sample", n=n)
    return fold(seed, torch.arange(n, device=device))


def _mixed(bits: int | Tensor) -> int | Tensor:
    """:func:`_mix_`, of a tensor in place. Numbers stay numbers until they meet a tensor, and join it where it is:
    as tensors they would have to be copied there."""
    if isinstance(bits, Tensor):
        return _mix_(bits)
    bits %= 1 << 64
    for n, factor in _ROUNDS:
        bits ^= bits >> n
        if factor is not None:
            bits = bits * factor % (1 << 64)
    return _wrapped(bits)


def _wrapped(value: int | Tensor) -> int | Tensor:
    """As int64 wraps around, which tensors do by themselves."""
    return value.to(torch.int64) if isinstance(value, Tensor) else (int(value) + (1 << 63)) % (1 << 64) - (1 << 63)


def uniform(key: Int[Tensor, "B"], n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "B n"]:
    """``n`` numbers in (0, 1) for each key.

    Example:
        >>> key = fold(7, torch.arange(4))
        >>> bool((uniform(key, 5)[2] == uniform(key[2:3], 5)[0]).all())
        True
    """
    counter = torch.arange(1, n + 1, device=key.device, dtype=torch.int64) * _GOLDEN
    bits = _mix_(_mix_(key.clone())[:, None] + counter)
    bits = bits.bitwise_right_shift_(11).bitwise_and_((1 << 53) - 1)
    return bits.to(torch.float64).add_(0.5).mul_(2.0**-53).to(dtype)


def normal(key: Int[Tensor, "B"], n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "B n"]:
    """``n`` standard normal numbers for each key (Box-Muller)."""
    half = (n + 1) // 2
    u = uniform(key, 2 * half)
    first, second = u[:, :half], u[:, half:]
    radius = first.log().mul_(-2.0).sqrt_()
    angle = second * (2.0 * math.pi)
    torch.mul(radius, angle.cos(), out=first)
    torch.mul(radius, angle.sin_(), out=second)
    return u[:, :n].to(dtype)


def permutation(key: Int[Tensor, "B"], n: int) -> Int[Tensor, "B n"]:
    """A random permutation of 0..n-1 for each key."""
    return uniform(key, n).argsort(1)
