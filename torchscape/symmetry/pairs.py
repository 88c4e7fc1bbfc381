"""Distances of many pairs of points, up to symmetry."""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchscape.memory import MANY_LARGE, rows_that_fit
from torchscape.symmetry.base import Symmetry
from torchscape.types import Float, Int, Tensor

__all__ = ["pair_distances"]


def pair_distances(
    symmetry: Symmetry,
    a: Float[Tensor, "N D"],
    i: Int[Tensor, "P"],
    b: Float[Tensor, "B D"],
    j: Int[Tensor, "P"],
    *,
    on_host: int = MANY_LARGE,
    ended: Callable[[int], object] = lambda n: None,
) -> Float[Tensor, "P"]:
    """Distances between a[i] and the closest images of b[j], in batches that fit in memory.

    Args:
        symmetry: whose images.
        a, b: points.
        i, j: row numbers: pair p is a[i[p]] and b[j[p]].
        on_host: numbers at once there, one of the sizes in :mod:`torchscape.memory`; it decides last digits.
        ended: told after each batch how many pairs it had.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
        >>> pair_distances(Symmetry(), x, torch.tensor([0, 1]), x, torch.tensor([1, 1])).tolist()
        [5.0, 0.0]
    """
    rows = min(rows_that_fit(a.shape[1], a.device, on_host=on_host), symmetry.rows_at_once(a.device) or len(i) + 1)
    found = [a.new_empty(0)]
    for u, v in zip(i.split(rows), j.split(rows), strict=True):
        if len(u):
            found.append(symmetry.distance(a[u], b[v]))
            ended(len(u))
    return torch.cat(found)
