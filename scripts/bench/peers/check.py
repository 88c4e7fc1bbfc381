"""The same independent check of every program's points: NumPy and SciPy only, no code of any of the programs."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.linalg
from functions import Network, Regression, hessian

__all__ = ["Checked", "Known"]


@dataclasses.dataclass(frozen=True)
class Checked:
    """What became of one program's points.

    Attributes:
        number: for each point the number of the stationary point it is, -1 where it is none of the right index.
        reasons: how many points were refused, by reason.
    """

    number: np.ndarray
    reasons: dict[str, int]


class Known:
    """All distinct stationary points of one index that anybody has found.

    A point counts if its own RMS gradient is at most ten times the tolerance that was asked for, if it is inside
    the box where there is one, if Newton's method (which settles its energy to rounding) ends no more than
    ``reach`` lengths away, and if the Hessian there (complex-step, exact to rounding; scipy.linalg.eigvalsh) has
    exactly ``index`` negative eigenvalues and none within the rounding of zero. Two are the same if their
    energies agree to 1e-8 and their closest images to 1e-3 lengths.
    """

    def __init__(self, function: Regression | Network, index: int, tol: float, reach: float = 0.5) -> None:
        self.function, self.index, self.tol, self.reach = function, index, tol, reach
        self.x: list[np.ndarray] = []
        self.images: list[np.ndarray] = []
        self.energy: list[float] = []

    def __len__(self) -> int:
        return len(self.x)

    def take(self, points: np.ndarray) -> Checked:
        """Check points and number them; new ones get the next numbers."""
        number = np.full(len(points), -1)
        reasons: dict[str, int] = {}
        for row, x in enumerate(points):
            reason, y = self._settled(x)
            if reason is None:
                number[row] = self._find(y)
            else:
                reasons[reason] = reasons.get(reason, 0) + 1
        return Checked(number, reasons)

    def _settled(self, x: np.ndarray) -> tuple[str | None, np.ndarray]:
        f = self.function
        if f.box and not ((x > f.lower + 1e-6) & (x < f.upper - 1e-6)).all():
            return "on a wall or outside", x
        _, g = f(x)
        if not np.sqrt(g @ g / f.ndim) <= 10 * self.tol:
            return "gradient", x
        y = x
        for _ in range(4):
            y = y - scipy.linalg.lstsq(hessian(f, y), f(y)[1])[0]
        if not np.linalg.norm(y - x) <= self.reach * f.length:
            return "no stationary point near", x
        if f.box and not ((y > f.lower + 1e-6) & (y < f.upper - 1e-6)).all():
            return "on a wall or outside", y
        mu = scipy.linalg.eigvalsh(hessian(f, y))
        if np.abs(mu).min() < 1e-12 * np.abs(mu).max():
            return "zero eigenvalue", y
        if (mu < 0).sum() != self.index:
            return f"index {(mu < 0).sum()}", y
        return None, y

    def _find(self, y: np.ndarray) -> int:
        energy = self.function(y)[0]
        near = np.flatnonzero(np.abs(np.array(self.energy) - energy) < 1e-8) if self.energy else []
        for k in near:
            if np.linalg.norm(self.images[k] - y, axis=1).min() < 1e-3 * self.function.length:
                return int(k)
        self.x.append(y)
        self.energy.append(float(energy))
        self.images.append(self.function.images(y))
        return len(self.x) - 1
