"""Small pictures of objects, for notebooks: what stands beside the table that an object shows itself by."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from torchscape.brief import span
from torchscape.errors import TorchscapeError
from torchscape.landscape import Landscape
from torchscape.landscape.summary import words
from torchscape.network import Network

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
