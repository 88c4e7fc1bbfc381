"""What is joined below which energy: merge trees, barriers, funnels; two landscapes compared."""

from torchscape.analysis.topology.basins import (
    Funnels,
    MonotonicBasins,
    funnels,
    merge_minima,
    monotonic_basins,
    superbasins,
)
from torchscape.analysis.topology.comparison import Comparison, Difference, compare, landscape_summary
from torchscape.analysis.topology.heights import (
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
from torchscape.analysis.topology.tree import MergeTree, merge_tree, spanning_forest

__all__ = [
    "Barriers",
    "Comparison",
    "Difference",
    "Funnels",
    "MergeTree",
    "MonotonicBasins",
    "Route",
    "barriers",
    "compare",
    "energy_scale",
    "funnels",
    "landscape_summary",
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
