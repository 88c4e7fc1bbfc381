"""How the number of distinct minima and transition states grows with the number of searches."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torchscape import analysis
from torchscape.analysis import Completeness, Coverage, RarefactionCurve
from torchscape.analysis.discovery import HasNetwork
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.plots.canvas import Picture, axes_of, expect_nothing_to_make, figure_of, legend_below

__all__ = ["CoveragePlot", "coverage"]

_KINDS = {"minima": ("#1f6fb4", "o"), "transition states": ("#c8382d", "s")}
_LABEL = 50  # characters to a line of the legend, which stays within half a page
_LOG_FROM = 10  # kinds whose numbers of searches differ by more than this factor share a logarithmic axis


@dataclasses.dataclass(frozen=True, repr=False)
class CoveragePlot(Picture):
    """Rarefaction curves on one set of axes.

    Attributes:
        figure, axes: where they were drawn.
        curves: the curve of each kind of point that was hit at all ("minima", "transition states").
        estimates: the completeness of each.
    """

    figure: Figure
    axes: Axes
    curves: Mapping[str, RarefactionCurve]
    estimates: Mapping[str, Completeness]

    @property
    def _content(self) -> str:
        return ", ".join(f"{estimate.n_found} {name}" for name, estimate in self.estimates.items())


def coverage(
    network: Network | HasNetwork | Coverage, *, level: float | None = None, ax: Axes | None = None
) -> CoveragePlot:
    """Rarefaction curves of minima and transition states, with confidence bands and their asymptotes.

    Solid up to the searches that were made (marked; each kind has its own), dashed where extrapolated: distinct
    points that searches ended in. The horizontal line is a lower bound of the number of points that there are,
    with its confidence interval as a bar beside the axes (an arrow where it goes on): the Chao1 bound of the hits,
    or where more points are known, ends of downhill paths without a hit among them, their number. A curve that
    still rises where it is marked has more to find.

    Args:
        network: a network with hits, a landscape, or what :func:`torchscape.analysis.coverage` says of one.
        level: of the confidence limits, 0.95 by default.
        ax: axes to draw on; a new figure by default.

    Raises:
        TorchscapeError: if nothing was hit.

    Reference: Colwell et al. (2012), doi 10.1093/jpe/rtr044; what the estimates assume is said at
    :func:`torchscape.analysis.coverage`.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.coverage(Network.of([0.0, 0.1, 0.2], [], [], hits=[7, 2, 1]))
        >>> sorted(picture.curves), picture.estimates["minima"].richness
        (['minima'], 3.0)
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    if isinstance(network, Coverage):
        expect_nothing_to_make("coverage", "analysis.coverage", level=level)
        found = network
    else:
        found = analysis.coverage(network, level=0.95 if level is None else level)
    curves, estimates = found.curves(), found.found()
    if not curves:
        raise TorchscapeError("no search has hit anything: explore, or give the network its hits")
    axes = axes_of(ax, size=(6.5, 4.2))
    made = [curve.n_searches for curve in curves.values()]
    if max(made) > _LOG_FROM * min(made):
        axes.set_xscale("log")
    axes.set_xlim(1 if axes.get_xscale() == "log" else 0, 2 * max(made))
    axes.set_ylim(0, _top(curves, estimates))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    for place, (name, curve) in enumerate(curves.items()):
        colour, marker = _KINDS[name]
        _draw_curve(axes, curve, estimates[name], name, colour, marker)
        _draw_asymptote(axes, curve, estimates[name], colour, 1.02 + 0.02 * place)
    axes.set_xlabel("searches that ended in one of them")
    axes.set_ylabel("distinct points found")
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(axes, 1, fontsize=9)
    return CoveragePlot(figure_of(axes), axes, curves, estimates)


def _draw_curve(
    axes: Axes, curve: RarefactionCurve, estimate: Completeness, name: str, colour: str, marker: str
) -> None:
    x, y = curve.searches.numpy(), curve.found.numpy()
    done, further = x <= curve.n_searches, x >= curve.n_searches
    axes.fill_between(x, curve.lower.numpy(), curve.upper.numpy(), color=colour, alpha=0.15, lw=0)
    axes.plot(x[done], y[done], color=colour, lw=1.6)
    axes.plot(x[further], y[further], color=colour, lw=1.6, ls="--")
    label = "\n".join(line for sentence in estimate.said(name) for line in textwrap.wrap(sentence, _LABEL))
    axes.plot([curve.n_searches], [estimate.n_found], marker, ms=6, color=colour, label=label)


def _draw_asymptote(axes: Axes, curve: RarefactionCurve, estimate: Completeness, colour: str, x: float) -> None:
    """The lower bound as a line, and its interval as a bar beside the axes (at the fraction x of their width)."""
    bound = estimate.at_least
    low, high = (max(limit, estimate.n_known) for limit in estimate.richness_interval)
    axes.plot([curve.n_searches, axes.get_xlim()[1]], [bound, bound], color=colour, lw=0.8, ls=":")
    top = axes.get_ylim()[1]
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False, "color": colour}
    axes.plot([x, x], [low, min(high, top)], lw=1.2, **beside)
    axes.plot([x], [low], "_", ms=6, **beside)
    axes.plot([x], [min(high, top)], "_" if high <= top else "^", ms=6, **beside)
    axes.plot([x], [bound], ".", ms=6, **beside)


def _top(curves: Mapping[str, RarefactionCurve], estimates: Mapping[str, Completeness]) -> float:
    """Above all curves and asymptotes. An interval that reaches far beyond is cut, so as not to flatten them."""
    curve = max(float(curve.upper.max()) for curve in curves.values())
    bound = max(estimate.at_least for estimate in estimates.values())
    interval = max(estimate.richness_interval[1] for estimate in estimates.values())
    return 1.08 * max(curve, bound, min(interval, 1.6 * bound))
