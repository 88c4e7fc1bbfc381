"""Small pictures of objects, for notebooks: what stands beside the table that an object shows itself by."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import torch

from torchscape.brief import span
from torchscape.errors import TorchscapeError
from torchscape.landscape import Landscape
from torchscape.landscape.summary import words
from torchscape.network import Network
from torchscape.points import StationaryPoints
from torchscape.saddles import SaddleSearch

__all__ = ["rows", "thumbnail"]

_MOST = 2000  # minima of a small tree


def rows(of: Any) -> list[tuple[str, str]]:
    """What is tabled of a network or a landscape; nothing of other objects, whose fields are."""
    if isinstance(of, Landscape):
        closed = repr(of).endswith("closed)")
        return [("file", repr(of))] if closed else list(words(of.summary()).items())
    if not isinstance(of, Network):
        return []
    n, m = of.n_minima, of.n_edges
    told = [("minima", f"{n}, energies {span(of.energy)}" if n else "none")]
    told.append(("transition states", f"{m}, energies {span(of.ts_energy)}" if m else "none"))
    if n:
        share = f"{of.connected_fraction:.1%} of the minima are connected with the lowest"
        told.append(("components", f"{of.n_components}; {share}"))
    if of.coords is not None:
        told.append(("coordinates", f"{of.coords.shape[1]} of each minimum"))
    return [*told, ("properties", ", ".join(of.properties))] if of.properties else told


def thumbnail(of: Any) -> str:
    """An inline picture of an object as HTML; empty where there is none to show."""
    draw = _drawing(of)
    if draw is None:
        return ""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0, 2.2), dpi=110, layout="constrained")  # not pyplot's, which would show it again
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    try:
        draw(axes)
    except TorchscapeError:  # too little of it to draw
        return ""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_tick_params(labelsize=7)
        axis.label.set_fontsize(8)
    for legend in filter(None, [axes.get_legend()]):
        legend.remove()
    held = io.BytesIO()
    figure.savefig(held, format="png", facecolor="white")
    text = base64.b64encode(held.getvalue()).decode()
    return f'<img alt="{type(of).__name__}" style="max-width:330px" src="data:image/png;base64,{text}">'


def _drawing(of: Any) -> Callable[[Any], object] | None:
    """The plot that takes such an object, small; None where none does."""
    from torchscape import analysis, plots

    if isinstance(of, Landscape):
        if repr(of).endswith("closed)") or of.n_minima > _MOST:  # a large file takes seconds to read
            return None
        of = of.network(coords=False)
    if isinstance(of, Network):
        if of.n_minima == 0:
            return None
        few = of.n_minima > _MOST
        return lambda ax: plots.disconnectivity(of, lowest=_MOST if few else None, ax=ax)
    drawn: list[tuple[type, Callable[..., object]]] = [
        (StationaryPoints, _energies),
        (SaddleSearch, _profiles),
        (analysis.Barriers, plots.barriers),
        (analysis.Coverage, plots.coverage),
        (analysis.DegreeLaw, plots.degree_distribution),
        (analysis.HeatCapacity, plots.heat_capacity),
        (analysis.Frustration, plots.frustration),
    ]
    for kind, plot in drawn:
        if isinstance(of, kind):
            return lambda ax, plot=plot: plot(of, ax=ax)  # type: ignore[misc]
    return None


def _energies(points: StationaryPoints, *, ax: Any) -> None:
    """Energies from the lowest on, those of points that did not converge apart."""
    energy = points.energy.detach().cpu().double()
    shown = energy.isfinite()
    if not bool(shown.any()):
        raise TorchscapeError("no point has a finite energy: there is nothing to draw")
    order = energy.argsort()
    order = order[shown[order]]
    converged = points.converged.cpu()[order]
    rank = torch.arange(len(order))
    for rows, colour, label in ((converged, "#0072B2", "converged"), (~converged, "#D55E00", "not converged")):
        ax.plot(rank[rows].numpy(), energy[order[rows]].numpy(), ".", color=colour, markersize=3, label=label)
    ax.set_xlabel("point, by energy")
    ax.set_ylabel("energy")


def _profiles(found: SaddleSearch, *, ax: Any) -> None:
    """From minimum over transition state to minimum, the lowest hundred."""
    if len(found) == 0:
        raise TorchscapeError("no transition state was found: there is nothing to draw")
    lowest = found.ts.energy.argsort()[:100]
    heights = torch.stack([part.energy[lowest] for part in (found.minus, found.ts, found.plus)])
    ax.plot([0, 1, 2], heights.detach().cpu().double().numpy(), color="#0072B2", linewidth=0.8)
    ax.set_xticks([0, 1, 2], ["minimum", "saddle", "minimum"])
    ax.set_ylabel("energy")
