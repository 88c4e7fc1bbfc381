"""Newton's method on dense Hessians: whether a point is stationary, of which index, and how far off it was."""

from __future__ import annotations

import dataclasses

import numpy as np

from architectures.bare import BareLoss

__all__ = ["Newton", "newton"]

_FLAT = 1e-9  # of the largest curvature, below which a direction counts as flat


@dataclasses.dataclass(frozen=True)
class Newton:
    """Where Newton's method ended.

    Attributes:
        x: the point [D].
        energy: U there.
        residual: RMS gradient there.
        moved: how far the point is from the start.
        spectrum: eigenvalues of the Hessian there, ascending [D].
    """

    x: np.ndarray
    energy: float
    residual: float
    moved: float
    spectrum: np.ndarray

    @property
    def _limit(self) -> float:
        return _FLAT * float(np.abs(self.spectrum).max())

    @property
    def index(self) -> int:
        """Negative eigenvalues."""
        return int((self.spectrum < -self._limit).sum())

    @property
    def n_flat(self) -> int:
        """Eigenvalues that are zero."""
        return int((np.abs(self.spectrum) <= self._limit).sum())


def newton(loss: BareLoss, x: np.ndarray, steps: int = 8, tol: float = 1e-13) -> Newton:
    """x <- x - H^+ grad U until the RMS gradient is below ``tol`` or no longer becomes smaller.

    H^+ leaves flat directions alone, as continuous symmetries have them.
    """
    start, best = x, None
    for _ in range(steps + 1):
        energy, grad = loss.energy_and_grad(x)
        residual = float(np.sqrt(np.mean(grad**2)))
        if best is not None and not residual < best[2]:
            break
        values, vectors = np.linalg.eigh(loss.hessian(x))
        best = (x, energy, residual, values)
        if residual <= tol:
            break
        firm = np.abs(values) > _FLAT * np.abs(values).max()
        x = x - vectors[:, firm] @ ((vectors[:, firm].T @ grad) / values[firm])
    x, energy, residual, values = best
    return Newton(x, energy, residual, float(np.linalg.norm(x - start)), values)
