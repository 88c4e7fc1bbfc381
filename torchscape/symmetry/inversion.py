"""``Inversion``: a point and its opposite are the same."""

from __future__ import annotations

import math

import torch

from torchscape import random
from torchscape.symmetry.base import Symmetry
from torchscape.types import Float, Int, Tensor

__all__ = ["Inversion"]


class Inversion(Symmetry):
    """The group of two elements, x and -x.

    Example:
        >>> import torch
        >>> a = torch.tensor([[1.0, 2.0]])
        >>> Inversion().distance(a, -a).item()
        0.0
    """

    def describe(self) -> str:
        return "inversion"

    def align(self, reference: Float[Tensor, "B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """x or -x, whichever is closer: exact."""
        return torch.where((reference * x).sum(1, keepdim=True) < 0, -x, x)

    def canonical(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The one whose largest coordinate is positive."""
        if len(x) == 0:
            return x
        largest = x.gather(1, x.abs().argmax(1, keepdim=True))
        return torch.where(largest < 0, -x, x)

    def invariants(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """|x| number by number; absolute values lengthen no distance."""
        return x.abs()

    def log_degeneracy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """ln 2, and 0 at the origin."""
        return torch.where((x == 0).all(1), 0.0, math.log(2)).to(x.dtype)

    def random_image(self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        return torch.where(random.uniform(key, 1) < 0.5, -x, x)
