"""Where the minima stand in a drawing of the network: each component by itself, all of them packed in rows."""

from __future__ import annotations

import networkx as nx
import numpy as np
from scipy.sparse.csgraph import dijkstra

from torchscape.network import Network
from torchscape.plots.springs import spring_layout
from torchscape.sparse import links

__all__ = ["graph_layout"]

_MOST_BY_STRESS = 120
_N_PIVOTS = 50


def graph_layout(network: Network, pairs: np.ndarray, seed: int = 0, aspect: float = 1.25) -> np.ndarray:
    """Places [n 2] of the minima: neighbours ``pairs`` [P 2] side by side, so that communities show as clusters.

    Every component is laid out by itself on an area proportional to its size, then packed in rows on an area about
    ``aspect`` times as wide as high.

    Reference: Kamada & Kawai, Inf. Process. Lett. 31, 7 (1989), doi 10.1016/0020-0190(89)90102-6, up to 120 minima
    of a component; beyond, :func:`~torchscape.plots.springs.spring_layout`.
    """
    label = network.components().cpu().numpy()
    parts = np.split(np.argsort(label, kind="stable"), np.bincount(label).cumsum()[:-1])
    within = label[pairs[:, 0]]
    inside = np.split(
        pairs[np.argsort(within, kind="stable")], np.bincount(within, minlength=len(parts)).cumsum()[:-1]
    )
    xy = np.zeros((network.n_minima, 2))
    boxes = np.zeros((len(parts), 2))
    for k, members in enumerate(parts):
        local = np.searchsorted(members, inside[k])
        xy[members] = _lying(_one_component(len(members), local, seed)) * np.sqrt(len(members))
        boxes[k] = xy[members].max(0) + 1.0
    row_width = max(boxes[0, 0], aspect * np.sqrt(boxes.prod(1).sum()))
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
        xy = spring_layout(start, pairs, n_steps, seed)
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
