"""Numerical policy: the rounding error of an energy, and where dense matrices give way to iterative methods."""

from __future__ import annotations

import numpy as np
import torch

from torchscape.types import Float, Tensor

__all__ = [
    "DENSE_BRANCHES",
    "DENSE_FLATNESS",
    "DENSE_PATHS",
    "DENSE_SPECTRUM",
    "DENSE_STEPS",
    "DENSE_WALKS",
    "energy_noise",
    "lowest_of_level",
]

# Limits are numbers of coordinates D, up to which matrices [D, D] are formed.

DENSE_PATHS = 200
"""A Hessian, and its eigenvectors, at every few steps of a path: eigenvector-following and steepest descent."""

DENSE_BRANCHES = 300
"""The same along a branch of a family, with a linear solve at each step."""

DENSE_STEPS = 500
"""A few Hessians for each point: Newton's method, certificates. From here on, curvatures cost more than the minima
themselves."""

DENSE_WALKS = 1000
"""A Hessian and its eigenvectors at every step of a walk in a family, where conjugate gradients were in vain: ten
seconds a pair at 850 coordinates, as long as those take."""

DENSE_FLATNESS = 1000
"""One decomposition for each point that a user names, where the quadrature would do."""

DENSE_SPECTRUM = 2000
"""One decomposition for each stationary point: beyond, it takes seconds a point, and gigabytes for a batch."""


def energy_noise(
    energy: Float[Tensor, "*B"], floor: float, *, units: float = 100.0, dtype: torch.dtype | None = None
) -> Float[Tensor, "*B"]:
    """What an energy may be wrong by: so many rounding errors of its size.

    Args:
        energy: U.
        floor: size below which an energy is not taken to be known any better, most often the potential's
            ``energy_scale``: where U is zero, what it was summed from is not.
        units: rounding errors: 100 for what two evaluations of neighbours may differ by, 1000 for the ends of two
            searches.
        dtype: in which it was computed; None for that of ``energy``.

    Example:
        >>> energy_noise(torch.tensor([0.0, -200.0], dtype=torch.float64), 1.0).tolist()
        [2.220446049250313e-14, 4.440892098500626e-12]
    """
    return units * torch.finfo(dtype or energy.dtype).eps * energy.abs().clamp(min=floor)


def lowest_of_level(energy: np.ndarray, tol: float) -> np.ndarray:
    """Position of the lowest energy of each one's level (see :attr:`torchscape.Network.levels`). O(N log N).

    Sorted energies are cut where the step is wider than ``tol``; a piece that is still wider than that as a whole
    is cut again at its wider steps, until none is.
    """
    order = np.argsort(energy, kind="stable")
    if len(order) < 2:
        return np.arange(len(order))
    ascending = energy[order]
    with np.errstate(invalid="ignore"):
        step = np.diff(ascending)
    cut = ~(step <= tol)  # a NaN equals no number
    while True:
        first = np.flatnonzero(np.concatenate([[True], cut]))
        last = np.append(first[1:], len(order)) - 1
        with np.errstate(invalid="ignore"):
            wide = np.repeat(ascending[last] - ascending[first] > tol, last - first + 1)[:-1] & ~cut
        if not wide.any():
            break
        widest = np.maximum.reduceat(np.append(np.where(wide, step, 0.0), 0.0), first)
        cut |= wide & (step > 0.5 * np.repeat(widest, last - first + 1)[:-1])
    lowest = np.empty_like(order)
    lowest[order] = np.repeat(order[first], last - first + 1)
    return lowest
