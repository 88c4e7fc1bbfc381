"""The figures of a report whose points are minima: tree, network, barriers, occupation, path, confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torchscape.plots.canvas import with_unit
from torchscape.report.style import BLUE, FONT, INK, LINE, ORANGE, UNKNOWN, number_format, plain_figure, ramp

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure

__all__ = [
    "confusion_figure",
    "depth_figure",
    "network_figure",
    "occupation_figure",
    "profile_figure",
    "tree_figure",
]


def _tips(minima: ColumnDataSource) -> list[tuple[str, str]]:
    form = number_format(minima.data["energy"])
    return [("minimum", "@id"), ("energy", f"@energy{{{form}}}"), ("hits", "@hits"), ("neighbours", "@degree")]


def tree_figure(minima: ColumnDataSource, lines: dict[str, np.ndarray], label: str) -> figure:
    """The disconnectivity graph; what is chosen lights up in front of it."""
    from bokeh.models import Span

    n = len(minima.data["id"])
    made = plain_figure("tree", "", label, 460)
    made.xaxis.visible = False
    made.xgrid.visible = False
    width = float(np.clip(16.0 / n**0.5, 0.5, 1.3))
    dotted = {name: lines[f"dotted_{name}"] for name in "xy"}
    if len(dotted["x"]):
        made.line("x", "y", source=_source("dotted", dotted), color=LINE, line_width=width, line_dash="dotted")
    branches = _source("branches", {name: lines[name] for name in "xy"})
    made.line("x", "y", source=branches, color=LINE, line_width=width)
    made.line("x", "y", source=_empty("lit_tree", "xy"), color=BLUE, line_width=max(1.6, 1.8 * width))
    tips = made.scatter(
        "tree_x", "tip", source=minima, size=float(np.clip(60.0 / n**0.5, 3.5, 8.0)), line_color=None,
        fill_color=_colour(), nonselection_fill_alpha=1.0,
    )  # fmt: skip
    _mark(made, "tree", float(np.clip(60.0 / n**0.5, 3.5, 8.0)))
    made.add_layout(
        Span(name="threshold", dimension="width", location=0.0, line_color=BLUE, line_dash=[5, 4], visible=False)
    )
    _hover(made, tips, _tips(minima))
    return made


def network_figure(minima: ColumnDataSource, lines: dict[str, np.ndarray]) -> figure:
    """The network: discs by number of neighbours, transition states as lines."""
    made = plain_figure("network", "", "", 460, match_aspect=True)
    made.axis.visible = False
    made.grid.visible = False
    crowding = 1.0 / max(len(lines["x"]) / 3, 1.0) ** 0.5
    made.line(
        "x", "y", source=_source("edges_drawn", lines), color="#6b7480",
        line_width=float(np.clip(25.0 * crowding, 0.35, 1.0)),
        line_alpha=float(np.clip(20.0 * crowding, 0.3, 0.6)),
    )  # fmt: skip
    discs = made.scatter(
        "x", "y", source=minima, size="disc", line_color="white", line_width=0.4, fill_color=_colour(),
        nonselection_fill_alpha=1.0, nonselection_line_alpha=1.0,
    )  # fmt: skip
    made.scatter(
        "x", "y", source=_empty("lit_network", "x", "y", "size"), size="size", fill_color=None, line_color=BLUE,
        line_width=1.8,
    )  # fmt: skip
    made.line("x", "y", source=_empty("way_lines", "xy"), color=ORANGE, line_width=2.6, line_cap="round")
    _mark(made, "network", None)
    _hover(made, discs, _tips(minima))
    return made


def depth_figure(minima: ColumnDataSource, unit: str | None) -> figure:
    """How deep each minimum is: its lowest barrier to a lower one, against its energy."""
    made = plain_figure(
        "depth", with_unit("energy above the lowest minimum", unit), with_unit("barrier down", unit), 300
    )
    n = len(minima.data["id"])
    size = float(np.clip(60.0 / n**0.5, 4.0, 8.0))
    points = made.scatter(
        "above", "barrier", source=minima, size=size, line_color=None, fill_color=_colour(), fill_alpha=0.85,
        nonselection_fill_alpha=0.85,
    )  # fmt: skip
    _mark(made, "depth", size)
    form = number_format(minima.data["barrier"])
    _hover(made, points, [*_tips(minima), ("barrier down", f"@barrier{{{form}}}")])
    return made


def occupation_figure(longest: int) -> figure:
    """The minima that hold most at the temperature that is set; long ids are written aslant."""
    from bokeh.models import FactorRange, TapTool

    made = plain_figure(
        "occupation", "minimum (id)", "occupation", 300, x_range=FactorRange(), y_range=(0.0, 1.0), tools="save"
    )
    made.xgrid.visible = False
    source = _empty("occupied", "id", "share", "fill", "k")
    bars = made.vbar(
        x="id", top="share", width=0.7, source=source, fill_color="fill", line_color=None,
        nonselection_fill_alpha=1.0,
    )  # fmt: skip
    made.add_tools(TapTool(renderers=[bars]))
    made.xaxis.major_label_orientation = 0.9 if longest > 3 else 0.0
    _hover(made, bars, [("minimum", "@id"), ("occupation", "@share{0.0000}")])
    return made


def profile_figure(label: str) -> figure:
    """The lowest path from the chosen minimum to the lowest: its minima and transition states in a row."""
    made = plain_figure("profile", "", label, 190, tools="", x_range=(0.0, 1.0), y_range=(0.0, 1.0))
    made.xgrid.visible = False
    made.xaxis.major_label_text_font_size = "0px"
    made.xaxis.major_tick_line_color = None
    made.line("x", "y", source=_empty("profile_line", "xy"), color=ORANGE, line_width=1.6)
    source = _empty("profile_points", "x", "y", "id", "fill", "size", "kind")
    points = made.scatter(
        "x", "y", source=source, size="size", fill_color="fill", line_color=ORANGE, line_width=1.4
    )
    _hover(made, points, [("", "@kind @id"), ("energy", "@y{0.000000}")])
    return made


def confusion_figure(n_classes: int) -> figure:
    """Which classes the chosen minimum takes for which; the numbers are written where they have room."""
    from bokeh.core.properties import value
    from bokeh.models import LinearColorMapper
    from bokeh.palettes import Blues256
    from bokeh.transform import transform

    names = [str(k) for k in range(n_classes)]
    made = plain_figure(
        "confusion", "predicted class", "true class", 320, x_range=names, y_range=names[::-1], tools="save"
    )
    made.grid.visible = False
    made.axis.axis_line_color = made.axis.major_tick_line_color = None
    cells = [(i, j) for i in names for j in names]
    data: dict[str, Any] = {
        "true": [i for i, _ in cells], "predicted": [j for _, j in cells],
        "n": np.zeros(len(cells), dtype=np.int32), "share": np.zeros(len(cells), dtype=np.float32),
        "ink": [INK] * len(cells), "text": [""] * len(cells),
    }  # fmt: skip
    source = _source("confused", data)
    shades = LinearColorMapper(palette=["#ffffff", *Blues256[::-1][16:]], low=0.0, high=1.0)
    squares = made.rect(
        "predicted", "true", 0.94, 0.94, source=source, fill_color=transform("share", shades),
        line_color="#e3e7ec", line_width=0.6,
    )  # fmt: skip
    if n_classes <= 12:
        made.text(
            "predicted", "true", text="text", source=source, text_color="ink", text_align="center",
            text_baseline="middle", text_font_size="11px", text_font=value(FONT),
        )  # fmt: skip
    elif n_classes > 20:
        made.axis.major_label_text_font_size = "8px"
    _hover(made, squares, [("true", "@true"), ("predicted", "@predicted"), ("items", "@n")])
    return made


# --- what they share -----------------------------------------------------------------------------------------


def _source(name: str, data: dict[str, Any]) -> ColumnDataSource:
    from bokeh.models import ColumnDataSource

    return ColumnDataSource(data, name=name)


def _empty(name: str, *columns: str) -> ColumnDataSource:
    if len(columns) == 1:
        columns = tuple(columns[0])
    return _source(name, {column: [] for column in columns})


def _colour() -> Any:
    """The colour of a minimum: column ``colour`` holds 0 to 1, as the page has scaled what is chosen there."""
    from bokeh.models import LinearColorMapper
    from bokeh.transform import transform

    return transform("colour", LinearColorMapper(palette=ramp(), low=0.0, high=1.0, nan_color=UNKNOWN))


def _mark(made: figure, name: str, size: float | None) -> None:
    """Rings for the minima of the path, and a bold one for those chosen."""
    way, chosen = _empty(f"way_{name}", "x", "y", "size"), _empty(f"chosen_{name}", "x", "y", "size")
    extra = {"size": "size"} if size is None else {"size": size + 4.0}
    made.scatter("x", "y", source=way, fill_color=None, line_color=ORANGE, line_width=1.8, **extra)
    extra = {"size": "size"} if size is None else {"size": size + 6.0}
    made.scatter("x", "y", source=chosen, fill_color=ORANGE, line_color=INK, line_width=1.8, **extra)


def _hover(made: figure, renderer: Any, tips: list[tuple[str, str]]) -> None:
    from bokeh.models import HoverTool

    made.add_tools(HoverTool(renderers=[renderer], tooltips=tips, limit=1, visible=False))
