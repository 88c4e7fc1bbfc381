"""What an activation does to signs and scales, found by trying it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch

from torchscape.types import Float, Tensor

__all__ = ["Elementwise"]


@dataclasses.dataclass(frozen=True)
class Elementwise:
    """How an elementwise function f answers to a change of sign or scale of its argument.

    Attributes:
        parity: +1 if f(-t) = f(t), -1 if f(-t) = -f(t), None if neither.
        degree: the p of f(c t) = c^p f(t) for every c > 0, None if there is none.

    Example:
        >>> Elementwise.of(torch.tanh), Elementwise.of(torch.relu).degree
        (Elementwise(parity=-1, degree=None), 1.0)
        >>> Elementwise.of(lambda t: t.softmax(-1)) is None     # not elementwise
        True
    """

    parity: int | None
    degree: float | None

    @property
    def is_linear(self) -> bool:
        return self.parity == -1 and self.degree == 1.0

    @classmethod
    def of(cls, f: Callable[[Tensor], object], dtype: torch.dtype = torch.float64) -> Elementwise | None:
        """The behaviour of ``f``; None if f does not act on every element by itself, in the same way."""
        t = _arguments(dtype)
        try:
            whole = f(t.clone())
            single = [f(t[i : i + 1].clone()) for i in range(len(t))]
        except (RuntimeError, TypeError, ValueError, IndexError):
            return None
        if not isinstance(whole, Tensor) or whole.shape != t.shape or not whole.is_floating_point():
            return None
        if (
            not _equal(torch.cat([s for s in single if isinstance(s, Tensor)]), whole)
            or not whole.isfinite().all()
        ):
            return None
        return cls(_parity(f, t), _degree(f, t))


def _arguments(dtype: torch.dtype) -> Float[Tensor, "n"]:
    """Positive and negative arguments from small to large, in an order without symmetry."""
    size = torch.tensor([0.0131, 0.11, 0.37, 0.83, 1.29, 1.93, 2.71, 3.61, 5.3, 9.7], dtype=dtype)
    return torch.cat([size, -size])[[0, 3, 14, 7, 19, 1, 12, 5, 10, 16, 2, 9, 18, 4, 11, 6, 13, 8, 15, 17]]


def _equal(a: Tensor, b: Tensor) -> bool:
    rounding = 64 * max(torch.finfo(a.dtype).eps, torch.finfo(b.dtype).eps)
    return a.shape == b.shape and torch.allclose(a, b, rtol=rounding, atol=rounding * 1e-2)


def _parity(f: Callable, t: Tensor) -> int | None:
    plus, minus = f(t.clone()), f(-t)
    if _equal(minus, -plus):
        return -1
    return 1 if _equal(minus, plus) else None


def _degree(f: Callable, t: Tensor) -> float | None:
    one, two, five = f(t.clone()), f(2.0 * t), f(5.0 * t)
    largest = int(one.abs().argmax())
    if not one[largest].abs() > 0:
        return None
    ratio = float(two[largest] / one[largest])
    if ratio <= 0 or not math.isfinite(ratio):
        return None
    degree = round(2.0 * math.log2(ratio)) / 2.0
    return degree if _equal(two, 2.0**degree * one) and _equal(five, 5.0**degree * one) else None
