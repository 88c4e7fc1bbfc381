"""The network drawn as a graph: minima as discs, transition states as lines."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

from torchscape.analysis.graph.neighbours import degrees
from torchscape.errors import OptionError, TorchscapeError, UnknownName
from torchscape.network import Network
from torchscape.plots.canvas import Picture, figure_of, page_axes, with_unit
from torchscape.plots.colours import NARROW, Colouring, colouring
from torchscape.plots.discs import apart
from torchscape.plots.graph_layout import graph_layout
from torchscape.plots.labels import label_texts
from torchscape.types import Tensor

__all__ = ["NetworkPlot", "network"]

_MOST_DRAWN = 3000
_COVERED = 0.12  # of the page by discs
_LARGEST, _SMALLEST = 320.0, 6.0  # area of a disc in square points
_MOST_BY_STRESS = 120
_N_PIVOTS = 50


@dataclasses.dataclass(frozen=True, repr=False)
class NetworkPlot(Picture):
    """A drawn network.

    Attributes:
        figure, axes: where it was drawn.
        minima: positions in the network of the minima drawn.
        xy: their places in the picture [n 2].
        radius: of their discs, in the same units, so that they do not touch [n].
        nodes: the discs, in the order of ``minima``.
        pairs: the minima that lines join, as rows of ``xy``, and
        barrier: from the higher of the two over the lowest transition state between them [P].
        colouring: the colour of each minimum of the network, and what it means.
    """

    figure: Figure
    axes: Axes
    minima: np.ndarray
    xy: np.ndarray
    radius: np.ndarray
    nodes: EllipseCollection
    pairs: np.ndarray
    barrier: np.ndarray
    colouring: Colouring

    @property
    def _content(self) -> str:
        return f"{len(self.minima)} minima"


def network(
    network: Network,
    *,
    colour: str | Tensor | None = "energy",
    size: str | Tensor = "degree",
    edges: str = "barrier",
    labels: bool | Literal["positions", "ids"] = False,
    lowest: int | None = None,
    seed: int = 0,
    unit: str | None = None,
    colour_label: str | None = None,
    cmap: str | Colormap | None = None,
    limits: tuple[float, float] | None = None,
    width: float | Literal["column", "page"] | None = None,
    height: float | None = None,
    ax: Axes | None = None,
) -> NetworkPlot:
    """Draw minima as discs and transition states as lines between them, wide and dark over low barriers.

    Connected minima attract and all repel each other, so that communities show as clusters; each connected
    component is laid out by itself, and they are packed side by side. No two discs touch.

    Args:
        network: N minima, E transition states.
        colour: as for :func:`~torchscape.plots.disconnectivity`.
        size: what the area of a disc is proportional to: ``"degree"``, a property's name, a tensor [N] of
            non-negative numbers, or ``"equal"``; down to a tenth of the largest disc, so that all are seen.
        edges: "barrier", from the higher minimum over the lowest transition state between two; or "equal" lines.
        labels: number the discs (of up to 150 minima) by their positions, or by "ids".
        lowest: draw only this many of the lowest minima; 3000 by default.
        seed: of the starting positions.
        unit, colour_label, cmap, limits: unit, label, colour map and range of the colour scale.
        width, height: in inches; "column" or "page" of a journal of two columns.
        ax: axes to draw on; a new figure by default.

    About O(n^2) for n minima drawn.

    Reference: Fruchterman & Reingold, Softw. Pract. Exp. 21, 1129 (1991), doi 10.1002/spe.4380211102; up to 120
    minima Kamada & Kawai, Inf. Process. Lett. 31, 7 (1989), doi 10.1016/0020-0190(89)90102-6.

    Example:
        >>> from torchscape import plots
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 0.5])
        >>> picture = plots.network(net)
        >>> picture.xy.shape
        (3, 2)
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    if network.n_minima == 0:
        raise TorchscapeError("a network without minima cannot be drawn: explore first")
    shown = network.levels.argsort(stable=True)[: _MOST_DRAWN if lowest is None else max(lowest, 1)]
    minima = shown.cpu().numpy()
    drawn = network.subset(shown)
    colours = colouring(network, colour, label=colour_label, unit=unit, cmap=cmap, limits=limits, shown=minima)
    weight = _sizes(network, size)[minima]
    pairs, barrier = _barriers(drawn)
    axes, _, font = page_axes(ax, width, height, size=(7.5, 6.0))
    xy, radius, page = _discs(axes, graph_layout(drawn, pairs, seed), weight)
    _draw_edges(axes, xy, pairs, barrier, edges, unit, font)
    nodes = _draw_nodes(axes, xy, radius, page, colours.rgba[minima])
    if labels is not False:
        _write_names(axes, [label_texts(network, labels)[0][int(k)] for k in minima], xy, radius)
    if len(minima) < network.n_minima:
        text = f"the lowest {len(minima)} of {network.n_minima} minima"
        axes.set_title(text, fontsize=8, loc="right", color="0.35")
    _explain(axes, colours, font if width is not None else None)
    return NetworkPlot(figure_of(axes), axes, minima, xy, radius, nodes, pairs, barrier, colours)


def _draw_nodes(
    axes: Axes, xy: np.ndarray, radius: np.ndarray, page: tuple[float, float], rgba: np.ndarray
) -> EllipseCollection:
    """Discs in the units of their places, so that they keep apart on axes of any size."""
    nodes = EllipseCollection(
        2.0 * radius, 2.0 * radius, np.zeros(len(xy)), units="xy", offsets=xy, offset_transform=axes.transData,
        facecolors=rgba, edgecolors="white", linewidths=0.3, zorder=2,
    )  # fmt: skip
    axes.add_collection(nodes)
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    half = np.maximum(0.5 * np.asarray(page), np.abs(xy).max(0)) + radius.max() + 2.0
    axes.update_datalim([-half, half])
    axes.margins(0)
    axes.autoscale_view()
    return nodes


def _explain(axes: Axes, colours: Colouring, font: float | None) -> None:
    """The colours, beside what the edges are."""
    of_edges = axes.get_legend()
    colours.explain(axes, font)
    of_groups = axes.get_legend()
    if of_edges is None or of_groups is of_edges or of_groups is None:
        return
    axes.add_artist(of_edges)  # that of the groups has taken its place
    if font is not None and figure_of(axes).get_size_inches()[0] < NARROW:  # both are below: one under the other
        down = ScaledTranslation(0.0, -3.4 * font / 72.0, figure_of(axes).dpi_scale_trans)
        of_groups.set_bbox_to_anchor((0.0, 0.0), transform=axes.transAxes + down)


def _barriers(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours [P 2], and the lowest barrier from the higher to the lower one [P]; the lowest ones last."""
    i, j = network.edges.cpu().numpy()
    energy = network.levels.double().cpu().numpy()
    height = network.ts_levels.double().cpu().numpy() - np.maximum(energy[i], energy[j])
    order = np.argsort(-height, kind="stable")
    key = (np.minimum(i, j) * network.n_minima + np.maximum(i, j))[order]
    last = len(key) - 1 - np.unique(key[::-1], return_index=True)[1]  # of parallel ones the lowest
    keep = order[np.sort(last)]
    return np.stack([i[keep], j[keep]], 1), height[keep]


def _discs(axes: Axes, xy: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Places and radii in points on a page of the size of the axes; what is drawn must be seen, and not touch."""
    box, dots = axes.bbox, 72.0 / figure_of(axes).dpi
    page = (0.92 * box.width * dots, 0.95 * box.height * dots)
    share = np.clip(weight / max(weight.max(), 1e-300), 0.1, 1.0)
    largest = float(np.clip(_COVERED * page[0] * page[1] / share.sum(), _SMALLEST, _LARGEST))
    area = largest * np.maximum(share, min(_SMALLEST / largest, 1.0))
    at, radius = apart(xy, 0.5 * np.sqrt(area), page)
    return at, radius, page


def _draw_edges(
    axes: Axes,
    xy: np.ndarray,
    pairs: np.ndarray,
    barrier: np.ndarray,
    edges: str,
    unit: str | None,
    font: float,
) -> None:
    """Lines, wide and dark over low barriers, thin and light over high ones, with a legend of three."""
    if edges not in ("barrier", "equal"):
        raise OptionError(f"edges = {edges!r}: give 'barrier' or 'equal'")
    crowding = float(np.clip(25.0 / np.sqrt(max(len(pairs), 1)), 0.25, 1.0))
    low, high = np.quantile(barrier, [0.05, 0.95]) if len(barrier) else (0.0, 0.0)
    if edges == "equal" or not high > low:
        axes.add_collection(LineCollection(list(xy[pairs]), colors="0.55", lw=crowding, zorder=1))
        return

    def style(value):
        t = np.clip((value - low) / (high - low), 0.0, 1.0)
        return crowding * (2.6 - 2.2 * t), 0.2 + 0.55 * t

    width, grey = style(barrier)
    lines = LineCollection(list(xy[pairs]), colors=[str(g) for g in grey], lw=width, zorder=1)
    axes.add_collection(lines)
    shown = [Line2D([], [], lw=max(w, 0.4), color=str(g)) for w, g in map(style, (low, 0.5 * (low + high), high))]
    names = [f"{low:.3g}", f"{0.5 * (low + high):.3g}", f"{high:.3g}"]
    axes.legend(
        shown, names, title=with_unit("barrier", unit), loc="upper left", bbox_to_anchor=(0.0, 0.0), ncols=3,
        frameon=False, fontsize=font - 1, title_fontsize=font - 1, alignment="left", borderaxespad=0.0,
    )  # fmt: skip


def _sizes(network: Network, size: str | Tensor) -> np.ndarray:
    if isinstance(size, str):
        if size == "degree":
            values = degrees(network)
        elif size == "equal":
            values = torch.ones_like(network.energy)
        elif size in network.properties:
            values = network.properties[size]
        else:
            raise UnknownName.of("size", size, ["degree", "equal", *network.properties])
    else:
        values = size
    if values.shape != network.energy.shape or not bool((values >= 0).all()):
        raise TorchscapeError(f"size: give {network.n_minima} non-negative numbers, one for each minimum")
    return values.detach().double().cpu().numpy()


def _write_names(axes: Axes, names: list[str], xy: np.ndarray, radius: np.ndarray) -> None:
    if len(names) > 150:
        raise TorchscapeError("labels would cover each other beyond 150 minima: choose fewer with lowest=")
    for name, at, size in zip(names, xy, radius, strict=True):
        axes.annotate(
            name,
            (at[0], at[1] + size),
            xytext=(0, 1),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            path_effects=[withStroke(linewidth=2.0, foreground="white")],
        )
