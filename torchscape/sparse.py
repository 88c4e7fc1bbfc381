"""Sparse matrices that SciPy's graph routines take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import coo_array

__all__ = ["links"]


def links(weight: np.ndarray | float | bool, i: np.ndarray, j: np.ndarray, n: int) -> coo_array:
    """The n x n matrix with these weights (or this one) at rows i and columns j.

    Its indices have 32 bits: before SciPy 1.17.1 the routines of ``scipy.sparse.csgraph`` take no others, and it
    keeps those of 64 bits that come from torch.

    Example:
        >>> links(1.0, np.array([0]), np.array([2]), 3).tocsr().indices.dtype
        dtype('int32')
    """
    from scipy.sparse import coo_array

    kind = np.int32 if n < 2**31 else np.int64
    return coo_array((np.broadcast_to(weight, i.shape).copy(), (i.astype(kind), j.astype(kind))), shape=(n, n))
