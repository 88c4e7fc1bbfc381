"""The lines of a disconnectivity graph: from every superbasin to those that it falls into."""

from __future__ import annotations

import dataclasses

import numpy as np

from torchscape.plots.layout import TreeLayout

__all__ = ["TreeLines", "has_wide_fans", "tree_lines"]

_FAN = 12  # more branches than this from one point run into each other: they hang from a bar
_SLOPE = 0.36  # of the tangent of the flattest slant wanted: 20 degrees
_DEEPEST = 0.12  # of the height that a slant may take
_FLATTER = 0.92  # how much so each slant outside another one is


@dataclasses.dataclass(frozen=True)
class TreeLines:
    """The lines of a tree.

    Attributes:
        branches: for each node below another one a polyline from there to the node [K 3 2]; it ends upright.
        owner: the nodes that they lead to [K].
        bars: horizontal lines of the superbasins whose branches hang from one [M 2 2].
        bar_of: those superbasins [M].
    """

    branches: np.ndarray
    owner: np.ndarray
    bars: np.ndarray
    bar_of: np.ndarray

    @property
    def segments(self) -> np.ndarray:
        """All of it as straight pieces [S 2 2]."""
        return np.concatenate([self.branches[:, :2], self.branches[:, 1:], self.bars])


def tree_lines(layout: TreeLayout, style: str, *, height: float, aspect: float = 1.0) -> TreeLines:
    """Slanted branches run from the point where superbasins merge, aslant and then upright; orthogonal ones hang
    from a horizontal bar there.

    A slant ends above the first merger below its superbasin, and half way down to a minimum; a branch that passes
    over another one leaves flatter than that, so that no two lines cross.

    Args:
        layout: places of the nodes.
        style: "slanted" or "orthogonal".
        height: of the picture, in units of energy.
        aspect: width of the picture over its height.
    """
    x, y = layout.x, layout.y
    owner = np.flatnonzero(layout.parent >= 0)
    # Along a bar, those that leave it first lie on those that go on: each has its colour from where it leaves.
    owner = owner[np.argsort(-np.abs(x[owner] - x[layout.parent[owner]]), kind="stable")]
    above = layout.parent[owner]
    n_children = np.bincount(above, minlength=len(x))
    hangs = np.zeros(len(x), dtype=bool) if style == "slanted" else n_children > 0
    hangs |= n_children > _FAN
    drop = _drops(layout, owner, above, height, aspect)
    fall = np.minimum(drop[above], np.where(owner < layout.n_leaves, 0.5, 1.0) * (y[above] - y[owner]))
    fall = _outer_flatter(x[owner] - x[above], fall, above)
    knee = np.where(hangs[above], y[above], y[above] - fall)
    start = np.stack([x[above], y[above]], 1)
    bend, end = np.stack([x[owner], knee], 1), np.stack([x[owner], y[owner]], 1)
    bar_of = np.flatnonzero(hangs & (n_children > 0))
    left, right = np.full(len(x), np.inf), np.full(len(x), -np.inf)
    np.minimum.at(left, above, x[owner])
    np.maximum.at(right, above, x[owner])
    bars = np.stack([np.stack([side[bar_of], y[bar_of]], 1) for side in (left, right)], 1)
    return TreeLines(np.stack([start, bend, end], 1), owner, bars, bar_of)


def has_wide_fans(layout: TreeLayout) -> bool:
    """Whether somewhere so many branches meet that they hang from a bar in any style."""
    above = layout.parent[layout.parent >= 0]
    return bool(len(above)) and int(np.bincount(above).max()) > _FAN


def _drops(layout: TreeLayout, owner: np.ndarray, above: np.ndarray, height: float, aspect: float) -> np.ndarray:
    """How far down the slants below each superbasin may come: steep enough, and not below the next merger."""
    x, y = layout.x, layout.y
    reach = np.zeros(len(x))
    np.maximum.at(reach, above, np.abs(x[owner] - x[above]))
    width = max(float(np.ptp(x)), 1.0)
    wanted = np.minimum(_SLOPE * reach / width * aspect, _DEEPEST) * height
    room = np.full(len(x), np.inf)
    merger = owner >= layout.n_leaves
    np.minimum.at(room, above[merger], y[above[merger]] - y[owner[merger]])
    return np.minimum(np.maximum(wanted, 0.01 * height), room)


def _outer_flatter(across: np.ndarray, fall: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Slants on one side of a point, less and less steep outwards: none meets what hangs from another one."""
    out = fall.copy()
    steepest, last = np.inf, None
    for k in np.lexsort((np.abs(across), across > 0, above)).tolist():
        reach, side = abs(across[k]), (above[k], across[k] > 0)
        if side != last:
            steepest, last = np.inf, side
        if reach > 0:
            slope = min(fall[k] / reach, steepest)
            out[k] = slope * reach
            steepest = _FLATTER * slope
    return out
