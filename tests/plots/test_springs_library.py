"""Drawings by springs beside those of NetworkX, from the same start."""

from __future__ import annotations

import networkx
import numpy as np
import pytest

from torchscape.plots.springs import spring_layout


def quality(x: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Distances of all points, and of the nearest, in mean lengths of a link: large is legible."""
    distance = np.linalg.norm(x[:, None] - x, axis=2)
    length = distance[pairs[:, 0], pairs[:, 1]].mean()
    np.fill_diagonal(distance, np.inf)
    return np.array([distance[np.isfinite(distance)].mean(), distance.min(1).mean()]) / length


@pytest.mark.parametrize(
    "graph",
    [networkx.connected_caveman_graph(6, 10), networkx.barabasi_albert_graph(150, 1, seed=3)],
    ids=["caves", "tree"],
)
def test_drawings_are_as_legible_as_those_of_the_library(graph):
    n, pairs = graph.number_of_nodes(), np.array(graph.edges())
    start = np.random.default_rng(0).random((n, 2))
    theirs = networkx.spring_layout(graph, pos=dict(enumerate(start)), seed=0, iterations=120)
    ours = quality(spring_layout(start, pairs), pairs)
    assert (ours > 0.9 * quality(np.array([theirs[k] for k in range(n)]), pairs)).all()
    assert (ours > 2 * quality(start, pairs) * [1, 0]).all()  # and that this is not so of any drawing
