"""Where the branches of a disconnectivity graph go: superbasins at thresholds, no two lines crossing."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

__all__ = ["TreeLayout", "default_levels", "tree_layout"]

_FEWEST, _MOST = 20, 60
_A_GROUP = 0.04  # of all minima: from there on a gap sets a superbasin apart from another one of this size


@dataclasses.dataclass(frozen=True)
class TreeLayout:
    """A drawn tree. Nodes 0..n-1 are the minima (in the order given), the others are superbasins.

    Attributes:
        x, y: position of each node.
        first, last: places of the first and last minimum at or below each node; ``x`` is midway between.
        parent: node above; -1 at the roots.
        lowest: the lowest minimum at or below each node.
        level: number of the threshold of each superbasin; -1 for minima.
        roots: the node at the top of each tree, from left to right.
        n_leaves: number of minima.
    """

    x: np.ndarray
    y: np.ndarray
    first: np.ndarray
    last: np.ndarray
    parent: np.ndarray
    lowest: np.ndarray
    level: np.ndarray
    roots: np.ndarray
    n_leaves: int


def default_levels(energy: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Evenly spaced thresholds from the lowest minimum to the highest merger.

    Their spacing is the Freedman-Diaconis width of the merger energies (doi 10.1007/BF01025868), between 20 and 60
    of them: fine where the landscape has structure to show, few where it has not.
    """
    merges = gap[np.isfinite(gap)]
    low = energy.min() if len(energy) else 0.0
    high = merges.max() if len(merges) else (energy.max() if len(energy) else 1.0)
    if not high > low:
        high = low + max(1.0, abs(low)) * 1e-3
    quartiles = np.quantile(merges, [0.25, 0.75]) if len(merges) else np.zeros(2)
    width = 2.0 * (quartiles[1] - quartiles[0]) / max(len(merges), 1) ** (1 / 3)
    count = int(np.clip((high - low) / width if width > 0 else _FEWEST, _FEWEST, _MOST))
    levels = np.linspace(low, high, count + 1)[1:]
    levels[-1] = high
    return levels


def tree_layout(
    energy: np.ndarray,
    gap: np.ndarray,
    levels: np.ndarray,
    centre: Literal["lowest", "largest"] = "lowest",
) -> TreeLayout:
    """Place n minima, given in merge-tree order with the n - 1 merger energies between them.

    Two superbasins merge at the first of the ``levels`` at or above their merger; with the merger energies
    themselves for levels, at their own. At each superbasin the branch with the lowest minimum (or with the most
    minima) stands in the middle and the others alternate about it, low ones (large ones) inside; each superbasin
    stands midway above its first and last minimum, in an interval of its own, so that no lines cross. O(n log n).
    """
    n = len(energy)
    step = np.searchsorted(levels, gap, side="left")  # the first threshold at or above the merger
    children, level, roots = _superbasins(n, step.tolist(), len(levels))
    total = n + len(children)
    parent = np.full(total, -1, dtype=np.int64)
    lowest, size = np.arange(total), np.ones(total, dtype=np.int64)
    by_level = sorted(range(len(children)), key=level.__getitem__)  # every child before its parent
    for k in by_level:
        kids = children[k]
        parent[kids] = n + k
        lowest[n + k] = min((lowest[c] for c in kids), key=energy.__getitem__)
        size[n + k] = size[kids].sum()
    heights = energy[lowest]
    rank = heights if centre == "lowest" else -size.astype(float)
    beside = np.zeros((total, 2), dtype=np.int64)  # minima to the left and to the right of the middle branch
    for k in by_level:
        children[k], beside[n + k] = _centred(children[k], rank, size, beside)
    roots.sort(key=lambda r: (heights[r], -size[r]))
    x = _leaf_places(n, children, roots, size)
    first, last = x.copy(), x.copy()
    for k in by_level:
        node, (left, *_), right = n + k, children[k], children[k][-1]
        first[node], last[node] = first[left], last[right]
    x = 0.5 * (first + last)
    y = np.concatenate([energy, levels[level]]) if len(children) else energy.copy()
    levels_of = np.concatenate([np.full(n, -1), np.asarray(level, dtype=np.int64)])
    return TreeLayout(x, y, first, last, parent, lowest, levels_of, np.asarray(roots, dtype=np.int64), n)


def _superbasins(n: int, step: list[int], n_levels: int) -> tuple[list[list[int]], list[int], list[int]]:
    """The tree of the thresholds (a Cartesian tree with equal entries in one node), by one pass with a stack.

    Returns the children of each superbasin, its level, and the roots; mergers above the last level do not happen.
    """
    children: list[list[int]] = []
    level: list[int] = []
    roots: list[int] = []
    open_nodes: list[int] = []
    for k in range(n):
        above = step[k] if k < n - 1 else n_levels
        done = k
        while open_nodes and (level[open_nodes[-1]] < above or above == n_levels):
            top = open_nodes.pop()
            children[top].append(done)
            done = n + top
        if above == n_levels:
            roots.append(done)
        elif open_nodes and level[open_nodes[-1]] == above:
            children[open_nodes[-1]].append(done)
        else:
            open_nodes.append(len(children))
            children.append([done])
            level.append(above)
    return children, level, roots


def _centred(
    kids: list[int], rank: np.ndarray, size: np.ndarray, beside: np.ndarray
) -> tuple[list[int], list[int]]:
    """The first branch by rank in the middle, then outwards, each on the side that holds fewer minima so far.

    Returns the branches from left to right, and how many minima stand to the left and right of the middle one.
    """
    inner, *outer = sorted(kids, key=lambda c: (rank[c], c))
    sides: tuple[list[int], list[int]] = ([], [])
    weight = beside[inner].tolist()
    for c in outer:
        side = 0 if weight[0] < weight[1] else 1
        sides[side].append(c)
        weight[side] += int(size[c])
    return [*reversed(sides[0]), inner, *sides[1]], weight


def _leaf_places(n: int, children: list[list[int]], roots: list[int], size: np.ndarray) -> np.ndarray:
    """Places for the minima, depth first, one apart; more between two trees, and between two large branches."""
    x = np.zeros(n + len(children))
    wide = max(4.0, _A_GROUP * n)
    extra = 0.5 + 0.01 * n
    place = 0.0
    for number, root in enumerate(roots):
        if number and (root >= n or roots[number - 1] >= n):  # beside a tree; minima by themselves stand closer
            place += 1.0
        stack = [root]
        while stack:
            node = stack.pop()
            if node < 0:
                place += extra
            elif node < n:
                x[node] = place
                place += 1.0
            else:
                kids = children[node - n]
                for k in range(len(kids) - 1, -1, -1):
                    stack.append(kids[k])
                    if k and size[kids[k]] >= wide and size[kids[k - 1]] >= wide:
                        stack.append(-1)
    return x
