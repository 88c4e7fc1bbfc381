"""Energies and gradients of pair potentials in host memory, by NumPy.

For batches of small clusters an operation costs more than the numbers in it, and NumPy's cost a third of torch's.
The formulas are those of ``shifts.py`` and of :class:`~torchscape.potentials.clusters.Container`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["Terms", "over_pairs_once"]

Terms = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Pair energies u and weights u'/r from squared distances; 0 where these are infinite."""


def over_pairs_once(
    x: np.ndarray,
    dim: int,
    terms: Terms,
    container: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Energies [B] and gradients [B D].

    Args:
        x: rows of coordinates [B D].
        dim: dimensions of space.
        terms: of one pair.
        container: radius of the container, if there is one.
    """
    b, n = len(x), x.shape[1] // dim
    half = n // 2
    wide = n + half
    p = np.ascontiguousarray(x.reshape(b, n, dim).transpose(2, 1, 0))
    ring = np.concatenate([p[:, 1:], p[:, :half]], 1)
    component, atom, row = ring.strides
    windows = np.ndarray((dim, half, n, b), x.dtype, ring, 0, (component, atom, atom, row))
    apart = p[:, None] - windows
    square = apart[0] * apart[0]
    for one in apart[1:]:
        square += one * one
    # No atom is further from the centroid than from all others: most clusters do not touch the wall.
    is_inside = container is None or float(square.max()) <= container**2
    if n % 2 == 0:
        square[-1, half:] = np.inf
    energy, weight = terms(square)
    energy = energy.reshape(-1, b).sum(0)
    forces = np.zeros((dim, half, wide, b), x.dtype)
    np.multiply(weight, apart, out=forces[:, :, :n])
    total = forces[:, :, :n].sum(1)
    moved = forces.reshape(dim, half * wide, b)[:, : half * (wide - 1)].reshape(dim, half, wide - 1, b).sum(1)
    total[:, 1:] -= moved[:, : n - 1]
    total[:, :half] -= moved[:, n - 1 :]
    if container is not None and not is_inside:
        wall, push = _walled(p, container)
        energy, total = energy + wall, total + push
    return energy, np.ascontiguousarray(total.transpose(2, 1, 0)).reshape(x.shape)


def _walled(p: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Energy [B] and gradient [k n B] of the container."""
    c = p - p.mean(1, keepdims=True)
    excess = np.maximum((c * c).sum(0) / radius**2 - 1, 0.0)
    push = 6 / radius**2 * excess**2 * c
    return (excess**3).sum(0), push - push.mean(1, keepdims=True)
