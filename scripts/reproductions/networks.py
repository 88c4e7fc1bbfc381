"""What the pages say of a network of minima and transition states."""

from __future__ import annotations

import dataclasses

import torch

import torchscape as tsc
from torchscape import analysis
from torchscape.explore import ExploreReport, Strategy

__all__ = ["UNFINISHED", "Graph", "coverage_line", "graph_of", "growth", "status_line", "told"]

UNFINISHED = "stopped before its end"


@dataclasses.dataclass(frozen=True)
class Graph:
    """Numbers of a graph: of all minima, and of the largest connected component.

    Attributes:
        minima: in all.
        edges: pairs of different minima that at least one transition state joins.
        mean_degree: 2 edges / minima.
        component: minima of the largest component.
        path_length, diameter: of that component; 0 without edges.
    """

    minima: int
    edges: int
    mean_degree: float
    component: int
    path_length: float
    diameter: int


def graph_of(network: tsc.Network) -> Graph:
    """The numbers of a network; parallel transition states count once."""
    pairs = network.n_connected_pairs
    n = network.n_minima
    if not pairs:
        return Graph(n, 0, 0.0, min(n, 1), 0.0, 0)
    found = analysis.graph_statistics(network, n_random=0, n_sources=n)
    return Graph(n, pairs, 2 * pairs / n, found.n_nodes, found.path_length.value, int(found.diameter.value))


def growth(hits: torch.Tensor) -> tuple[float, float]:
    """How many different points the first half of the searches would have found, on average, and all of them."""
    n = int(hits.sum())
    if n < 2:
        return 0.0, float((hits > 0).sum())
    curve = analysis.rarefaction_curve(hits, [n // 2, n])
    return float(curve.found[0]), float(curve.found[1])


def coverage_line(network: tsc.Network) -> str:
    """Estimated completeness in words."""
    found = analysis.coverage(network)
    parts = []
    for name, kind in (("minima", found.minima), ("transition states", found.transition_states)):
        if kind.n_hits:
            parts.append(
                f"{name}: {kind.coverage:.1%} of searches end in one hit before, {kind.n_known} known, at least "
                f"{max(kind.richness, kind.n_known):.0f} in all"
            )
    return "; ".join(parts)


def status_line(report: ExploreReport) -> str:
    """How the exploration ended."""
    if report.is_complete:
        return "exploration: complete, no strategy had anything left to try"
    if report.status.startswith("complete"):  # up to families of minima
        return f"exploration: {report.status}, no strategy had anything left to try"
    return f"exploration: {UNFINISHED} ({report.status}); more may be found"


def told(strategy: Strategy) -> str:
    """A strategy with the settings in which it differs from its defaults."""
    usual = type(strategy)()
    names = [field.name for field in dataclasses.fields(strategy)]  # type: ignore[arg-type]
    mine = [f"{n}={getattr(strategy, n)!r}" for n in names if getattr(strategy, n) != getattr(usual, n)]
    return f"`{type(strategy).__name__}({', '.join(mine)})`"
