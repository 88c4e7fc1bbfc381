"""What a report says of each minimum, column by column, and of the transition states between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch

from torchscape import analysis
from torchscape.network import Network
from torchscape.plots.graph_layout import graph_layout
from torchscape.plots.layout import TreeLayout, default_levels, tree_layout
from torchscape.report.shown import Shown, finite
from torchscape.types import Float, Tensor

__all__ = [
    "Quantity",
    "drawn_tree",
    "edge_columns",
    "minimum_columns",
    "node_columns",
    "quantities",
    "stem_height",
]

_MOST_EDGES = 100_000  # transition states of a report; the lowest between two minima first
_MOST_LINES = 20_000  # of the drawing of the network
_FEW = 400  # minima up to which they merge at their own energies in the tree, not at thresholds


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A number of each minimum that a report tables and colours by.

    Attributes:
        name: of its column; safe to stand anywhere.
        label: what people read.
        hint: what it is, in a sentence.
        is_count: whether it is a whole number.
    """

    name: str
    label: str
    hint: str
    is_count: bool = False


def quantities(properties: Mapping[str, Float[Tensor, "N"]]) -> list[Quantity]:
    """All of them, those of the network first. The names of properties are the user's: none names a column."""
    own = [
        Quantity("energy", "energy", "energy of the minimum"),
        Quantity("above", "above lowest", "energy above the global minimum"),
        Quantity("hits", "hits", "searches that ended in it", True),
        Quantity("degree", "neighbours", "minima that a transition state joins to it", True),
        Quantity("barrier", "barrier down", "lowest barrier to any lower minimum; none from the lowest one"),
        Quantity("highest", "way to lowest", "highest energy on the lowest path to the global minimum, above it"),
        Quantity("log_det", "ln det H", "logarithm of the product of the curvatures: small is wide"),
        Quantity("funnel", "funnel", "number of its funnel, 0 that of the global minimum", True),
        Quantity("component", "component", "number of its connected component, 0 the largest", True),
    ]
    return own + [Quantity(f"p{k}", name, f"the property {name!r}") for k, name in enumerate(properties)]


def minimum_columns(
    network: Network, shown: Shown, properties: Mapping[str, Float[Tensor, "n"]], seed: int
) -> dict[str, np.ndarray | list[str]]:
    """One row for each minimum shown: identity, quantities, and its places in the drawings.

    Args:
        network: the whole network, for what depends on minima that are not shown.
        shown: those that are.
        properties: of the minima shown, by name.
        seed: of the drawing of the network.
    """
    part, at = shown.network, shown.positions
    lowest = float(part.levels[0])
    whole = at.to(network.ids.device)
    way = analysis.minimax_to(part, 0) - lowest
    way[0] = torch.nan  # there is none
    columns: dict[str, np.ndarray | list[str]] = {
        "id": [str(one) for one in part.ids.tolist()],
        "rank": np.arange(part.n_minima, dtype=np.int32),
        "energy": finite(part.energy),
        "above": finite(part.levels - lowest),
        "hits": _count(part.hits),
        "degree": _count(analysis.degrees(network)[whole]),
        "barrier": finite(shown.barrier),
        "highest": finite(way),
        "log_det": finite(part.log_det),
        "funnel": _count(analysis.funnels(network).label[whole]),
        "component": _count(network.components()[whole]),
        "joins": finite(shown.joins),
        "place": _count(shown.tree.place),
        "next": _count(shown.next),
        "next_edge": _count(shown.next_edge),
    }
    for k, values in enumerate(properties.values()):
        columns[f"p{k}"] = finite(values)
    pairs = analysis.graph.neighbours.neighbour_pairs(part).T.numpy()
    xy = graph_layout(part, pairs, seed, aspect=2.0)
    columns["x"], columns["y"] = xy[:, 0].astype(np.float32), xy[:, 1].astype(np.float32)
    return columns


def _count(values: Tensor) -> np.ndarray:
    """Whole numbers of 32 bits, which a browser keeps as they are."""
    return values.cpu().clamp(max=2**31 - 1).numpy().astype(np.int32)


def drawn_tree(shown: Shown) -> tuple[TreeLayout, np.ndarray]:
    """Where the branches of the disconnectivity graph go, its minima in the order of the merge tree, and its
    threshold energies."""
    leaves = shown.tree.leaves.numpy()
    energy, gap = shown.network.levels.double().numpy()[leaves], shown.tree.gap.double().numpy()
    levels = np.unique(gap[np.isfinite(gap)]) if len(leaves) <= _FEW else default_levels(energy, gap)
    levels = levels if len(levels) > 1 else default_levels(energy, gap)
    return tree_layout(energy, gap, levels), levels


def node_columns(shown: Shown, layout: TreeLayout, levels: np.ndarray) -> dict[str, np.ndarray]:
    """One row for each branch of the tree: along the energy at which it joins, then down to its own end.

    ``lowest`` is the lowest minimum (its rank) at or below the end, ``top`` the energy there: a branch belongs to
    a superbasin if its lowest minimum does, and it ends at or below the threshold. Above a root stands a stem.
    """
    leaves = shown.tree.leaves.numpy()
    above, step = layout.parent, stem_height(layout, levels)
    x0 = np.where(above >= 0, layout.x[above], layout.x)
    y0 = np.where(above >= 0, layout.y[above], layout.y + step)
    return {
        "x0": x0.astype(np.float32), "y0": y0, "x1": layout.x.astype(np.float32),
        "top": layout.y, "lowest": leaves[layout.lowest].astype(np.int32),
    }  # fmt: skip


def stem_height(layout: TreeLayout, levels: np.ndarray) -> float:
    """How far the stem of a tree rises above its last merger."""
    return 0.05 * float(max(levels[-1], layout.y.max()) - layout.y.min())


def edge_columns(shown: Shown) -> tuple[dict[str, np.ndarray | list[str]], np.ndarray, bool]:
    """The transition states of a report, where each of the network is among them, and whether all are drawn.

    Beyond 100 000 only the lowest ones are told, and drawn are 20 000, those of the lowest paths first.
    """
    part = shown.network
    on_ways = torch.zeros(part.n_edges, dtype=torch.bool)
    on_ways[shown.next_edge[shown.next_edge >= 0]] = True
    by_energy = part.ts_levels.argsort(stable=True)
    order = torch.cat([by_energy[on_ways[by_energy]], by_energy[~on_ways[by_energy]]])
    kept = order[:_MOST_EDGES]
    renumbered = np.full(part.n_edges + 1, -1, dtype=np.int32)
    renumbered[kept.numpy()] = np.arange(len(kept), dtype=np.int32)
    a, b = part.edges[:, kept].numpy().astype(np.int32)
    columns: dict[str, np.ndarray | list[str]] = {
        "ts": [str(one) for one in part.ts_ids[kept].tolist()],
        "a": a,
        "b": b,
        "energy": finite(part.ts_energy[kept]),
        "hits": _count(part.ts_hits[kept]),
    }
    pairs = np.unique(np.sort(np.stack([a, b], 1), axis=1), axis=0, return_index=True)[1]
    drawn = np.sort(pairs)[:_MOST_LINES]
    columns["drawn"] = np.isin(np.arange(len(kept)), drawn).astype(np.uint8)
    return columns, renumbered, len(kept) == part.n_edges and len(drawn) == len(pairs)
