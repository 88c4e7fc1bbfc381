"""How many stationary points the spherical p-spin model has, of which index and how deep, for N to infinity."""

from __future__ import annotations

import math

import numpy as np

from torchscape.errors import PotentialError

__all__ = ["complexity", "n_complex_stationary", "threshold_energy"]


def threshold_energy(p: int = 3, index: int | None = None) -> float:
    """-E_inf, above which stationary points of every index abound; or -E_k, the lowest energy with index k.

    Energies are per spin, H/N. E_inf(p) = 2 sqrt((p - 1) / p); E_k is the zero of :func:`complexity` for index k
    above it, so that E_0 > E_1 > ... > E_inf, and -E_0 is the energy of the ground state.

    Args:
        p: spins per interaction, at least 3.
        index: k; None for -E_inf.

    Reference: A. Auffinger, G. Ben Arous and J. Cerny, Comm. Pure Appl. Math. 66, 165 (2013),
    doi 10.1002/cpa.21422, theorem 2.12 and equations 2.15-2.16.

    Example:
        >>> round(threshold_energy(3), 7), round(threshold_energy(3, index=0), 7)
        (-1.6329932, -1.6569984)
    """

    from scipy.optimize import brentq

    _expect(p, index)
    edge = 2 * math.sqrt((p - 1) / p)
    if index is None:
        return -edge
    return brentq(lambda u: float(complexity(u, p, index)), -10 * edge, -edge, xtol=1e-14, rtol=1e-14)


def complexity(u, p: int = 3, index: int | None = None) -> np.ndarray:
    """Theta(u) = lim (1/N) ln E[number of stationary points with H/N <= u], of one index or of any.

    With the edge E_inf = 2 sqrt((p - 1) / p) and the rate function of GOE eigenvalues,

        I(u) = (2 / E_inf^2) int_u^{-E_inf} sqrt(z^2 - E_inf^2) dz,

    Theta_k(u) = ln(p - 1) / 2 - (p - 2) u^2 / (4 (p - 1)) - (k + 1) I(u) for u <= -E_inf, constant above. Without
    an index there is one I(u) below -E_inf, none above, and a constant ln(p - 1) / 2 above zero.

    Args:
        u: energies per spin, a number or an array.
        p: spins per interaction, at least 3.
        index: k; None for stationary points of any index.

    Raises:
        PotentialError: for p < 3, where stationary points are too few for a complexity, or a negative index.

    Reference: A. Auffinger, G. Ben Arous and J. Cerny, Comm. Pure Appl. Math. 66, 165 (2013),
    doi 10.1002/cpa.21422, theorems 2.5 and 2.8.

    Example:
        >>> complexity([-1.7, 0.0], p=3, index=0).round(4).tolist()
        [-0.0304, 0.0132]
    """
    _expect(p, index)
    u = np.asarray(u, dtype=np.float64)
    edge = 2 * math.sqrt((p - 1) / p)
    at = np.asarray(np.minimum(u, 0.0 if index is None else -edge))
    waves = 1 if index is None else index + 1
    return np.asarray(0.5 * math.log(p - 1) - (p - 2) / (4 * (p - 1)) * at**2 - waves * _rate(at, edge))


def n_complex_stationary(n: int, p: int = 3) -> int:
    """Most stationary points that p-spin couplings on n spins can have, short of having infinitely many.

    They are eigenvectors of a symmetric tensor; generically there are ((p - 1)^n - 1) / (p - 2) complex ones up to
    scale, each real one of which is two points w and -w of the sphere.

    Reference: D. Cartwright and B. Sturmfels, Linear Algebra Appl. 438, 942 (2013),
    doi 10.1016/j.laa.2011.05.040.

    Example:
        >>> n_complex_stationary(5, 3)
        62
    """
    return 2 * (n if p == 2 else ((p - 1) ** n - 1) // (p - 2))


def _rate(u: np.ndarray, edge: float) -> np.ndarray:
    """I(u), zero for u >= -edge."""
    below = np.minimum(u, -edge)
    root = np.sqrt(np.maximum(below**2 - edge**2, 0.0))
    return np.asarray(-below * root / edge**2 - np.log((root - below) / edge))


def _expect(p: int, index: int | None) -> None:
    if p < 3 or (index is not None and index < 0):
        raise PotentialError(f"p={p}, index={index}: thresholds exist for p >= 3 and indices 0, 1, 2, ...")
