"""The shape of a landscape: merge tree, superbasins, barriers, funnels, and landscapes compared."""

from __future__ import annotations

from torchscape.analysis.funnels import (
    Funnels,
    MonotonicBasins,
    funnels,
    merge_minima,
    monotonic_basins,
    superbasins,
)
from torchscape.analysis.heights import (
    Barriers,
    Route,
    barriers,
    energy_scale,
    minimax,
    minimax_between,
    minimax_path,
    minimax_to,
    persistence,
)
from torchscape.analysis.tree import MergeTree, merge_tree, spanning_forest

__all__ = [
    "Barriers",
    "Funnels",
    "MergeTree",
    "MonotonicBasins",
    "Route",
    "barriers",
    "energy_scale",
    "funnels",
    "merge_minima",
    "merge_tree",
    "minimax",
    "minimax_between",
    "minimax_path",
    "minimax_to",
    "monotonic_basins",
    "persistence",
    "spanning_forest",
    "superbasins",
]
