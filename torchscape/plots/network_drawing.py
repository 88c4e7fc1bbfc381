"""The network drawn as a graph: minima as discs, transition states as lines."""

from __future__ import annotations

import dataclasses

import networkx as nx
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from scipy.sparse.csgraph import dijkstra

from torchscape.analysis.graph.neighbours import degrees, neighbour_pairs
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.network import Network
from torchscape.plots.canvas import Picture, axes_of, figure_of
from torchscape.plots.colours import Colouring, colouring
from torchscape.plots.springs import spring_layout
from torchscape.sparse import links
from torchscape.types import Tensor

__all__ = ["NetworkPlot", "network"]

_MOST_DRAWN = 3000
_MOST_BY_STRESS = 120
_N_PIVOTS = 50


@dataclasses.dataclass(frozen=True, repr=False)
class NetworkPlot(Picture):
    """A drawn network.

    Attributes:
        figure, axes: where it was drawn.
        minima: positions in the network of the minima drawn.
        xy: their places in the picture [n 2].
        nodes: the discs, in the order of ``minima``.
        colouring: the colour of each minimum of the network, and what it means.
    """

    figure: Figure
    axes: Axes
    minima: np.ndarray
    xy: np.ndarray
    nodes: PathCollection
    colouring: Colouring

    @property
    def _content(self) -> str:
        return f"{len(self.minima)} minima"


def network(
    network: Network,
    *,
    colour: str | Tensor | None = "energy",
    size: str | Tensor = "degree",
    labels: bool = False,
    lowest: int | None = None,
    seed: int = 0,
    unit: str | None = None,
    colour_label: str | None = None,
    cmap: str | Colormap | None = None,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> NetworkPlot:
    """Draw minima as discs and transition states as lines between them.

    Connected minima attract and all repel each other, so that communities show as clusters; each connected
    component is laid out by itself, and they are packed side by side.

    Args:
        network: N minima, E transition states.
        colour: as for :func:`~torchscape.plots.disconnectivity`.
        size: what the area of a disc is proportional to: ``"degree"``, a property's name, a tensor [N] of
            non-negative numbers, or ``"equal"``; down to a tenth of the largest disc, so that all are seen.
        labels: write the database ids beside the discs (of up to 150 minima).
        lowest: draw only this many of the lowest minima; 3000 by default.
        seed: of the starting positions.
        unit, colour_label, cmap, limits: unit, label, colour map and range of the colour scale.
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
    pairs = neighbour_pairs(drawn).T.cpu().numpy()
    xy = _places(drawn, pairs, seed)

    axes = axes_of(ax, size=(7.5, 6.0))
    n = len(minima)
    biggest = float(np.clip(36_000.0 / n, 12.0, 320.0))
    # What is drawn must be seen: a minimum without neighbours too.
    area = biggest * np.clip(weight / max(weight.max(), 1e-300), max(0.1, 6.0 / biggest), 1.0)
    crowding = 1.0 / np.sqrt(max(len(pairs), 1))
    width, alpha = float(np.clip(25.0 * crowding, 0.3, 1.0)), float(np.clip(20.0 * crowding, 0.35, 0.6))
    axes.add_collection(LineCollection(list(xy[pairs]), colors="0.45", lw=width, alpha=alpha, zorder=1))
    nodes = axes.scatter(
        xy[:, 0], xy[:, 1], s=area, c=colours.rgba[minima], edgecolors="white", linewidths=0.3, zorder=2
    )
    if labels:
        _write_ids(axes, drawn, xy, area)
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    axes.autoscale_view()
    if n < network.n_minima:
        axes.set_title(f"the lowest {n} of {network.n_minima} minima", fontsize=8, loc="right", color="0.35")
    colours.explain(axes)
    return NetworkPlot(figure_of(axes), axes, minima, xy, nodes, colours)


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


def _places(network: Network, pairs: np.ndarray, seed: int) -> np.ndarray:
    """Every component laid out by itself on an area proportional to its size, then packed in rows."""
    label = network.components().cpu().numpy()
    parts = [np.flatnonzero(label == k) for k in range(label.max() + 1)]
    xy = np.zeros((network.n_minima, 2))
    boxes = np.zeros((len(parts), 2))
    for k, members in enumerate(parts):
        local = np.searchsorted(members, pairs[label[pairs[:, 0]] == k])
        xy[members] = _lying(_one_component(len(members), local, seed)) * np.sqrt(len(members))
        boxes[k] = xy[members].max(0) + 1.0
    row_width = max(boxes[0, 0], 1.25 * np.sqrt(boxes.prod(1).sum()))
    at, row_height = np.zeros(2), 0.0
    for members, box in zip(parts, boxes, strict=True):
        if at[0] > 0.0 and at[0] + box[0] > row_width:  # a new row below
            at, row_height = np.array([0.0, at[1] - row_height]), 0.0
        xy[members] += [at[0], at[1] - box[1]]
        at[0] += box[0]
        row_height = max(row_height, box[1])
    return xy


def _lying(xy: np.ndarray) -> np.ndarray:
    """Turned so that the longest extent is horizontal, with the lower left corner at the origin."""
    centred = xy - xy.mean(0)
    turned = centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    return turned - turned.min(0)


def _one_component(n: int, pairs: np.ndarray, seed: int) -> np.ndarray:
    """Positions of the members, of unit size [n 2]."""
    if n == 1:
        return np.zeros((1, 2))
    if n <= _MOST_BY_STRESS:
        graph: nx.Graph = nx.Graph()
        graph.add_nodes_from(range(n))
        graph.add_edges_from(pairs.tolist())
        found = nx.kamada_kawai_layout(graph)
        xy = np.array([found[k] for k in range(n)])
    else:
        # Started from distances in the graph, the springs only have to even out, not to untangle.
        jitter = 0.003 * np.random.default_rng(seed).standard_normal((n, 2))
        start = _by_distance(n, pairs) + jitter
        n_steps = int(np.clip(120_000 / n, 60, 120))
        xy = spring_layout(start, pairs, n_steps)
    return xy / max(np.ptp(xy, axis=0).max(), 1e-12)


def _by_distance(n: int, pairs: np.ndarray) -> np.ndarray:
    """Pivot multidimensional scaling: the plane that best shows the distances to a few far-apart minima.

    Reference: Brandes & Pich, Graph Drawing 2006, 42 (2007), doi 10.1007/978-3-540-70904-6_6.
    """
    i, j = pairs.T
    matrix = links(1.0, i, j, n).tocsr()
    pivot, nearest, distances = 0, np.full(n, np.inf), []
    for _ in range(min(n, _N_PIVOTS)):
        distances.append(dijkstra(matrix, directed=False, indices=pivot, unweighted=True))
        nearest = np.minimum(nearest, distances[-1])
        pivot = int(nearest.argmax())
    square = np.stack(distances, 1) ** 2
    centred = square - square.mean(0) - square.mean(1, keepdims=True) + square.mean()
    plane = centred @ np.linalg.eigh(centred.T @ centred)[1][:, -2:]
    return plane / max(np.ptp(plane, axis=0).max(), 1e-12)


def _write_ids(axes: Axes, network: Network, xy: np.ndarray, area: np.ndarray) -> None:
    if network.n_minima > 150:
        raise TorchscapeError("labels would cover each other beyond 150 minima: choose fewer with lowest=")
    for name, at, disc in zip(network.ids.tolist(), xy, area, strict=True):
        axes.annotate(
            str(name), at, xytext=(0, np.sqrt(disc) / 2 + 1), textcoords="offset points", ha="center", fontsize=7
        )
