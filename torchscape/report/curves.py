"""The figures of a report that show the whole landscape: heat capacity, barriers, coverage, growth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torchscape import analysis
from torchscape.analysis import Coverage
from torchscape.network import Network
from torchscape.plots.canvas import with_unit
from torchscape.report.history import History
from torchscape.report.style import BLUE, FONT, GREY, INK, LINE, ORANGE, plain_figure
from torchscape.report.thermodynamics import Thermodynamics

if TYPE_CHECKING:
    from bokeh.plotting import figure

__all__ = ["barrier_figure", "capacity_figure", "coverage_figure", "growth_figure"]

_LOG_FROM = 15.0  # a range wider than this factor is drawn on a logarithmic axis
_KINDS = {"minima": (BLUE, "circle"), "transition states": (ORANGE, "square")}


def capacity_figure(told: Thermodynamics, unit: str | None) -> figure:
    """Heat capacity against temperature, its peaks, and the temperature that is set."""
    from bokeh.models import Span

    t = told.temperatures
    label = "heat capacity, exchange between minima" if told.excess else "heat capacity"
    made = plain_figure("capacity", with_unit("temperature", unit), label, 300, x_axis_type=_scale(t[0], t[-1]))
    made.line(t, told.heat_capacity, color=INK, line_width=1.8)
    at = np.searchsorted(t, told.peaks).clip(max=len(t) - 1)
    if len(at):
        made.scatter(t[at], told.heat_capacity[at], size=7, fill_color="white", line_color=INK, line_width=1.6)
    now = float(t[told.start])
    made.add_layout(Span(name="temperature", dimension="height", location=now, line_color=ORANGE, line_width=1.6))
    return made


def barrier_figure(network: Network, unit: str | None) -> figure:
    """How high the transition states are, seen from their lower and from their higher minimum."""
    both = analysis.barriers(network)
    sides = {"from lower minimum": (both.uphill, INK), "from higher minimum": (both.downhill, BLUE)}
    values = {name: one[0].double().cpu().numpy() for name, one in sides.items()}
    values = {name: one[np.isfinite(one)] for name, one in values.items()}
    positive = np.concatenate([one[one > 0] for one in values.values()])
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (0.0, 1.0)
    low = max(low, 1e-6 * high)  # what is a millionth of the highest barrier is none
    logarithmic = high > _LOG_FROM * low > 0.0
    n = int(np.clip(2 * len(positive) ** (1 / 3), 8, 48))
    bins = np.geomspace(low, high, n + 1) if logarithmic else np.linspace(0.0, high, n + 1)
    made = plain_figure(
        "barriers", with_unit("barrier of a transition state", unit), "transition states", 300,
        x_axis_type="log" if logarithmic else "linear",
    )  # fmt: skip
    for name, (_, colour) in sides.items():
        counts = np.histogram(values[name].clip(bins[0], bins[-1]), bins)[0]
        x, y = np.repeat(bins, 2), np.concatenate([[0], np.repeat(counts, 2), [0]])
        made.line(x, y, color=colour, line_width=1.6, legend_label=name)
        made.varea(x, np.zeros(len(y)), y, fill_color=colour, fill_alpha=0.08)
    from bokeh.models import ColumnDataSource

    _whole_numbers(made)
    own = ColumnDataSource({"x": [], "y": []}, name="own_barriers")
    made.scatter("x", "y", source=own, marker="inverted_triangle", size=10, fill_color=ORANGE, line_color="white")
    _legend(made)
    return made


def coverage_figure(told: Coverage) -> figure | None:
    """Rarefaction curves with confidence bands, solid up to the searches made; None where nothing was hit."""
    curves, estimates = told.curves(), told.found()
    if not curves:
        return None
    made_searches = [curve.n_searches for curve in curves.values()]
    logarithmic = max(made_searches) > 5 * min(made_searches)
    made = plain_figure(
        "coverage", "searches that ended in one of them", "distinct points found", 300,
        x_axis_type="log" if logarithmic else "linear", y_range=(0.0, _top(told)),
    )  # fmt: skip
    for name, curve in curves.items():
        colour, marker = _KINDS[name]
        x, y = curve.searches.double().numpy(), curve.found.numpy()
        made.varea(x, curve.lower.numpy(), curve.upper.numpy(), fill_color=colour, fill_alpha=0.13)
        done, further = x <= curve.n_searches, x >= curve.n_searches
        made.line(x[done], y[done], color=colour, line_width=1.8, legend_label=name)
        made.line(x[further], y[further], color=colour, line_width=1.8, line_dash=[5, 4])
        bound = float(estimates[name].at_least)
        made.line([float(curve.n_searches), float(x[-1])], [bound, bound], color=colour, line_dash=[1, 3])
        made.scatter(
            [float(curve.n_searches)], [float(estimates[name].n_found)], marker=marker, size=8, fill_color=colour,
            line_color="white",
        )  # fmt: skip
    _whole_numbers(made)
    _legend(made)
    return made


def growth_figure(told: History) -> figure:
    """How many points were known, against the evaluations spent; hairlines where runs begin."""
    from bokeh.models import Span

    made = plain_figure("growth", "energy evaluations", "points known", 300)
    for at in told.begins[1:]:
        made.add_layout(Span(dimension="height", location=at, line_color=LINE, line_dash=[2, 3]))
    for (name, (colour, _)), values in zip(_KINDS.items(), (told.minima, told.transition_states), strict=True):
        made.step(
            told.evaluations, values.astype(float), mode="after", color=colour, line_width=1.8, legend_label=name
        )
    made.y_range.start = 0
    made.xaxis.formatter = _plain_numbers()
    _whole_numbers(made)
    _legend(made)
    return made


def _scale(low: float, high: float) -> Any:
    return "log" if high > _LOG_FROM * low else "linear"


def _plain_numbers() -> Any:
    from bokeh.models import NumeralTickFormatter

    return NumeralTickFormatter(format="0.[0]a")


def _whole_numbers(made: figure) -> None:
    from bokeh.models import BasicTicker

    made.yaxis.ticker = BasicTicker(min_interval=1)
    made.yaxis.formatter = _plain_numbers()


def _legend(made: figure) -> None:
    """In a line above the figure, where it covers nothing."""
    legend = made.legend[0]
    made.add_layout(legend, "above")
    legend.orientation = "horizontal"
    legend.label_text_font, legend.label_text_font_size, legend.label_text_color = FONT, "12px", GREY
    legend.border_line_color, legend.background_fill_color = None, None
    legend.padding, legend.margin, legend.spacing, legend.glyph_width, legend.location = 2, 0, 16, 18, "top_left"


def _top(told: Coverage) -> float:
    """Above the curves, and above their bounds where these are in sight."""
    curve = max(float(curve.upper.max()) for curve in told.curves().values())
    bound = max(estimate.at_least for estimate in told.found().values())
    return 1.06 * (max(curve, bound) if bound < 3 * curve else curve)
