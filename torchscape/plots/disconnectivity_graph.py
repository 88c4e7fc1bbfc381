"""The disconnectivity graph: which minima can reach which others without rising above a given energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from torchscape.analysis.topology import MergeTree, merge_tree
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.plots.canvas import Picture, axes_of, figure_of, with_unit
from torchscape.plots.colours import FAINT, NEUTRAL, Colouring, colouring
from torchscape.plots.labels import place_labels
from torchscape.plots.layout import TreeLayout, default_levels, tree_layout
from torchscape.types import Tensor

__all__ = ["DisconnectivityPlot", "disconnectivity"]

_MOST_BRANCHES = 1000


@dataclasses.dataclass(frozen=True, repr=False)
class DisconnectivityPlot(Picture):
    """A drawn disconnectivity graph.

    Attributes:
        figure, axes: where it was drawn.
        minima: positions in the network of the minima drawn, from left to right.
        x: their places on the horizontal axis.
        levels: the threshold energies.
        colouring: the colour of each minimum of the network, and what it means.
        n_trees: number of trees: minima in different ones are not connected, or only above the last threshold.
        labelled: the minima that carry a label.
    """

    figure: Figure
    axes: Axes
    minima: np.ndarray
    x: np.ndarray
    levels: np.ndarray
    colouring: Colouring
    n_trees: int
    labelled: tuple[int, ...] = ()

    @property
    def _content(self) -> str:
        return f"{len(self.minima)} minima"


def disconnectivity(
    network: Network,
    *,
    colour: str | Tensor | None = None,
    levels: int | Sequence[float] | None = None,
    labels: bool | str | Sequence[str] | Mapping[int, str] = False,
    lowest: int | None = None,
    min_barrier: float | None = None,
    linewidth: float | None = None,
    unit: str | None = None,
    colour_label: str | None = None,
    colour_unit: str | None = None,
    cmap: str | Colormap | None = None,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> DisconnectivityPlot:
    """Draw the disconnectivity graph of a network.

    At each threshold energy the minima fall into superbasins, whose members reach each other without rising above
    it. Branches join where superbasins merge and end at the energies of the minima. The branch of the lowest
    minimum stands in the middle of each superbasin. Minima that no known path connects stand as trees of their
    own, to the right, their stems dotted.

    Args:
        network: N minima, E transition states.
        colour: what colours the branches: ``"energy"``, ``"degree"``, ``"community"``, ``"funnel"``, a property's
            name, or a tensor [N]; groups colour a superbasin where all its minima agree.
        levels: number of thresholds, or their energies; chosen from the data by default. Superbasins that merge
            above the last one are drawn as separate trees.
        labels: ``"ids"`` (or True) for database ids, ``"positions"`` for 0..N-1, N texts, or a mapping from
            position to text. Low minima first; a label that would cover something is left out.
        lowest: draw only this many of the lowest minima (the others still connect them).
        min_barrier: leave out minima whose lowest barrier to a lower minimum is smaller than this; 0 draws all.
            By default all are drawn up to 1000, and beyond that the 1000 with the highest barriers, with a note.
        linewidth: in points; chosen from the number of branches by default.
        unit: unit of the energy, for the axis label.
        colour_label, colour_unit, cmap, limits: label, unit, colour map and range of the colour scale; energies
            have the unit of the energy.
        ax: axes to draw on; a new figure by default.

    O(E log E); a hundred thousand minima draw in seconds.

    Reference: Becker & Karplus, J. Chem. Phys. 106, 1495 (1997), doi 10.1063/1.473299; Wales, Miller & Walsh,
    Nature 394, 758 (1998), doi 10.1038/29487.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 0.5])
        >>> picture = disconnectivity(net, colour="energy", labels="positions")
        >>> picture.minima.tolist(), picture.n_trees
        ([0, 2, 1], 1)
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    if network.n_minima == 0:
        raise TorchscapeError("a network without minima has no disconnectivity graph: explore first")
    tree = merge_tree(network)
    if min_barrier is None:
        min_barrier = _legible_barrier(tree) if lowest is None else 0.0
    minima, gap = _keep(tree, lowest, min_barrier)
    if colour_unit is None and isinstance(colour, str) and colour == "energy":
        colour_unit = unit
    colours = colouring(
        network, colour, label=colour_label, unit=colour_unit, cmap=cmap, limits=limits, shown=minima
    )
    energy = network.levels.double().cpu().numpy()
    thresholds = _thresholds(levels, energy[minima], gap)
    layout = tree_layout(energy[minima], gap, thresholds)
    top = _top(levels, thresholds, energy[minima].max())
    axes = axes_of(ax, size=(7.5, 5.5))
    segments = _draw_trees(axes, layout, thresholds, top, minima, gap, colours, linewidth)
    _frame(axes, layout, thresholds, top, unit)
    _note(axes, len(minima), network.n_minima, lowest, min_barrier)
    colours.explain(axes)
    drawn = np.argsort(layout.x[: len(minima)])
    labelled = _write_labels(axes, layout, segments, minima, _texts(network, labels))
    shown = (minima[drawn], layout.x[drawn], thresholds, colours, len(layout.roots), labelled)
    return DisconnectivityPlot(figure_of(axes), axes, *shown)


def _top(levels: int | Sequence[float] | None, thresholds: np.ndarray, highest: float) -> float:
    """Where the picture ends: a threshold above the last one, or above all minima."""
    # A minimum that nothing connects may lie above every merger: thresholds of one's own may cut it off.
    own = levels is not None and not isinstance(levels, int)
    top = thresholds[-1] if own else max(thresholds[-1], highest)
    return float(top + (thresholds[-1] - thresholds[-2]))


def _draw_trees(
    axes: Axes,
    layout: TreeLayout,
    thresholds: np.ndarray,
    top: float,
    minima: np.ndarray,
    gap: np.ndarray,
    colours: Colouring,
    linewidth: float | None,
) -> np.ndarray:
    """Branches, their tips, and a stem for each tree; returns the branches."""
    tree_of_leaf = np.concatenate([[0], (~np.isfinite(gap)).cumsum()])  # by connection, not by the last threshold
    width = linewidth if linewidth is not None else float(np.clip(20.0 / len(minima) ** 0.5, 0.3, 1.4))
    segments, owner = _branches(layout, thresholds)
    shade = _shades(layout, minima, colours)
    axes.add_collection(LineCollection(list(segments), colors=shade[owner], lw=width))
    _tips(axes, layout, minima, colours)
    _stems(axes, layout, thresholds, top, tree_of_leaf, width, shade[layout.roots])
    return segments


def _legible_barrier(tree: MergeTree) -> float:
    """The smallest barrier that leaves at most so many minima as can be told apart."""
    if tree.n_minima <= _MOST_BRANCHES:
        return 0.0
    return float(tree.persistence.sort(descending=True).values[_MOST_BRANCHES - 1])


def _keep(tree: MergeTree, lowest: int | None, min_barrier: float) -> tuple[np.ndarray, np.ndarray]:
    """The minima to draw, in tree order, and the merger energies between them (maxima over those left out)."""
    leaves, gap = tree.leaves.cpu().numpy(), tree.gap.double().cpu().numpy()
    keep = (tree.persistence >= min_barrier).cpu().numpy()
    if lowest is not None:
        order = tree.energy.argsort(stable=True).cpu().numpy()
        order = order[keep[order]][: max(lowest, 1)]
        keep = np.zeros_like(keep)
        keep[order] = True
    places = np.flatnonzero(keep[leaves])
    between = np.maximum.reduceat(gap, places[:-1]) if len(places) > 1 else gap[:0]
    if len(places) > 1:  # reduceat runs to the end of the array for the last entry: only up to the next kept place
        between[-1] = gap[places[-2] : places[-1]].max()
    return leaves[places], between


def _thresholds(levels: int | Sequence[float] | None, energy: np.ndarray, gap: np.ndarray) -> np.ndarray:
    if levels is None:
        return default_levels(energy, gap)
    if not isinstance(levels, int):
        chosen = np.unique(np.asarray(levels, dtype=float))
        if len(chosen) < 2 or not np.isfinite(chosen).all():
            raise TorchscapeError("levels needs at least two different finite energies, or a whole number of them")
        return chosen
    if levels < 2:
        raise TorchscapeError(f"levels = {levels} shows no structure: ask for at least 2")
    ends = default_levels(energy, gap)
    chosen = np.linspace(energy.min(), ends[-1], levels + 1)[1:]
    chosen[-1] = ends[-1]
    return chosen


def _branches(layout: TreeLayout, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line from each node to the superbasin above it: down to the next threshold aslant, then upright.

    Returns polylines of three points [K 3 2] and the node that each belongs to [K].
    """
    owner = np.flatnonzero(layout.parent >= 0)
    above = layout.parent[owner]
    below = np.concatenate([[levels[0] - (levels[1] - levels[0])], levels])[layout.level[above]]
    knee = np.maximum(below, layout.y[owner])  # a minimum above the next threshold ends on the slant
    start = np.stack([layout.x[above], layout.y[above]], 1)
    bend = np.stack([layout.x[owner], knee], 1)
    end = np.stack([layout.x[owner], layout.y[owner]], 1)
    return np.stack([start, bend, end], 1), owner


def _shades(layout: TreeLayout, minima: np.ndarray, colours: Colouring) -> np.ndarray:
    """Each minimum in its colour; a superbasin in the colour of its group if it has only one, else neutral.

    Neutral is a light grey where only some minima have a value, so that black stems do not outshine those.
    """
    total, n = len(layout.x), layout.n_leaves
    some_grey = colours.unknown is not None and bool(colours.unknown[minima].any())
    shade = np.tile(np.asarray(FAINT if some_grey else NEUTRAL), (total, 1))
    shade[:n] = colours.rgba[minima]
    if colours.groups is not None:
        group = np.full(total, -1)
        group[:n] = colours.groups[minima]
        mixed = np.zeros(total, dtype=bool)
        by_level = np.argsort(layout.level, kind="stable")  # children before parents
        for node in by_level:
            up = layout.parent[node]
            if up >= 0:
                mixed[up] |= mixed[node] or (group[up] >= 0 and group[up] != group[node])
                group[up] = group[node]
        pure = (~mixed) & (np.arange(total) >= n)
        shade[pure] = shade[layout.lowest[pure]]
    return shade


def _tips(axes: Axes, layout: TreeLayout, minima: np.ndarray, colours: Colouring) -> None:
    """Where only some minima have a value, mark their ends: a few coloured lines among many grey ones are lost."""
    if colours.unknown is None or not colours.unknown[minima].any():
        return
    known = np.flatnonzero(~colours.unknown[minima])
    order = known[np.argsort(-layout.y[known], kind="stable")]
    axes.scatter(layout.x[order], layout.y[order], s=14, c=colours.rgba[minima[order]], lw=0, zorder=3)


def _stems(
    axes: Axes,
    layout: TreeLayout,
    levels: np.ndarray,
    top: float,
    tree: np.ndarray,
    width: float,
    shade: np.ndarray,
) -> None:
    """A stem above each root, in its shade: solid if the trees are only cut apart, dotted above those that no path
    connects. A minimum by itself is nothing but its stem.
    """
    step = levels[-1] - levels[-2]
    solid, dotted = [], []
    main = tree[layout.lowest[layout.roots[0]]]
    for root in layout.roots:
        x, y = layout.x[root], layout.y[root]
        if tree[layout.lowest[root]] == main:
            solid.append([(x, y), (x, max(top, y))])
        else:
            short = min(y + step, top)
            solid.append([(x, y), (x, max(short, y))])
            dotted.append([(x, short), (x, top)])
    axes.add_collection(LineCollection(solid, colors=shade, lw=width))
    if dotted:
        axes.add_collection(LineCollection(dotted, colors="0.7", lw=0.7 * width, linestyles="dotted"))


def _frame(axes: Axes, layout: TreeLayout, levels: np.ndarray, top: float, unit: str | None) -> None:
    step = levels[-1] - levels[-2]
    n = layout.x.max() + 1.0
    low = layout.y.min()
    axes.set_xlim(-0.5 - 0.02 * n, n - 0.5 + 0.02 * n)
    axes.set_ylim(low - 0.05 * (levels[-1] - low), top + 0.4 * step)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_ylabel(with_unit("energy", unit))


def _note(axes: Axes, shown: int, total: int, lowest: int | None, min_barrier: float) -> None:
    """Say what is not shown."""
    if shown == total:
        return
    which = f"the lowest {shown}" if lowest is not None else f"{shown}"
    text = f"{which} of {total} minima" + (f", barriers of at least {min_barrier:.3g}" if min_barrier > 0 else "")
    axes.set_title(text, fontsize=8, loc="right", color="0.35")


def _write_labels(
    axes: Axes, layout: TreeLayout, segments: np.ndarray, minima: np.ndarray, texts: dict[int, str]
) -> tuple[int, ...]:
    """Texts below their minima, the lowest first; the minima that have one in the end."""
    leaves = [k for k in np.argsort(layout.y[: len(minima)], kind="stable") if int(minima[k]) in texts]
    if not leaves:
        return ()
    lines = np.concatenate([segments[:, :2], segments[:, 1:]])
    at = np.stack([layout.x[leaves], layout.y[leaves]], 1)
    written = place_labels(axes, at, [texts[int(minima[k])] for k in leaves], lines)
    return tuple(int(minima[leaves[k]]) for k in written)


def _texts(network: Network, labels: bool | str | Sequence[str] | Mapping[int, str]) -> dict[int, str]:
    """Position in the network -> text."""
    if labels is False:
        return {}
    if labels is True or labels == "ids":
        return {k: str(i) for k, i in enumerate(network.ids.tolist())}
    if labels == "positions":
        return {k: str(k) for k in range(network.n_minima)}
    if isinstance(labels, Mapping):
        return dict(labels)
    if isinstance(labels, str) or len(labels) != network.n_minima:
        raise TorchscapeError(
            "labels: give 'ids', 'positions', one text per minimum, or a mapping from position to text"
        )
    return dict(enumerate(labels))
