"""Discs that do not touch: how large they may be, and how far they have to move."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["apart", "fitted"]

_APART = 1.12  # of the sum of the radii, from centre to centre
_STEPS = 120
_GOLDEN = 2.399963229728653  # an angle that comes back to no direction


def fitted(xy: np.ndarray, page: tuple[float, float]) -> np.ndarray:
    """Points [n 2] moved and enlarged, alike in both directions, so that they fill a page of this size."""
    extent = np.ptp(xy, axis=0)
    scale = min((side / wide for side, wide in zip(page, extent, strict=True) if wide > 0), default=1.0)
    return (xy - 0.5 * (xy.max(0) + xy.min(0))) * scale


def apart(xy: np.ndarray, radius: np.ndarray, page: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Move discs until none touches another one, on a page that they fill.

    Discs that are too near push each other away, each by half of what is missing; where some are crowded in the
    end, they become smaller.

    Args:
        xy: centres [n 2].
        radius: of the discs [n], in units of the page; together they should cover a fifth of it at most.
        page: width and height.

    Returns:
        The centres [n 2], and the radii [n].

    Example:
        >>> at, r = apart(np.zeros((3, 2)), np.ones(3), (10.0, 10.0))
        >>> bool(np.linalg.norm(at[0] - at[1]) > r[0] + r[1])
        True
    """
    x = fitted(xy, page)
    for _ in range(4):
        x, clear = _pushed(x, radius)
        x = fitted(x, page) if np.ptp(x, axis=0).max() > 0 and len(x) > 1 else x
        if clear and not len(_near(x, radius)[0]):
            break
    i, j, distance = _near(x, radius)
    shrink = np.ones(len(x))
    fits = distance / (_APART * (radius[i] + radius[j]))
    np.minimum.at(shrink, i, fits)
    np.minimum.at(shrink, j, fits)
    return x, radius * shrink


def _near(x: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of discs that are too near, and how far apart their centres are."""
    pairs = cKDTree(x).query_pairs(2.0 * _APART * float(radius.max()), output_type="ndarray")
    i, j = pairs.T
    distance = np.linalg.norm(x[i] - x[j], axis=1)
    some = distance < 0.999 * _APART * (radius[i] + radius[j])
    return i[some], j[some], distance[some]


def _pushed(x: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, bool]:
    """After at most so many rounds of pushing, and whether none is too near another one."""
    x = x.copy()
    for _ in range(_STEPS):
        i, j, distance = _near(x, radius)
        if not len(i):
            return x, True
        way = x[j] - x[i]
        same = distance < 1e-9 * radius.max()
        angle = _GOLDEN * (i[same] + 3 * j[same])
        way[same] = np.stack([np.cos(angle), np.sin(angle)], 1)
        way /= np.where(same, 1.0, distance)[:, None]
        push = 0.52 * (_APART * (radius[i] + radius[j]) - distance)[:, None] * way
        np.add.at(x, j, push)
        np.add.at(x, i, -push)
    return x, False
