"""How the figures of a report look: one typeface, one palette that colour-blind readers can tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torchscape.errors import MissingExtra

if TYPE_CHECKING:
    from bokeh.plotting import figure

__all__ = [
    "BLUE",
    "FONT",
    "GREY",
    "INK",
    "LINE",
    "ORANGE",
    "UNKNOWN",
    "number_format",
    "plain_figure",
    "ramp",
]

FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
INK, GREY, HAIR, LINE, UNKNOWN = "#1f2430", "#5b6472", "#eceef1", "#9aa3af", "#c9ced6"
# Of Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE = "#0072B2", "#D55E00"


def ramp() -> list[str]:
    """Viridis without its palest end, which white paper swallows."""
    from bokeh.palettes import Viridis256

    return list(Viridis256[:236])


def plain_figure(name: str, x_label: str, y_label: str, height: int, **options: Any) -> figure:
    """A figure of a report: as wide as its place, with hairlines for a grid and tools that show when wanted.

    Raises:
        MissingExtra: where Bokeh is not installed.
    """
    try:
        from bokeh.plotting import figure
    except ImportError as error:
        raise MissingExtra.of("bokeh", "report") from error

    options = {"tools": "pan,box_zoom,wheel_zoom,save,reset", "active_drag": None, **options}
    made = figure(
        name=name, height=height, sizing_mode="stretch_width", min_width=260,
        toolbar_location="right", toolbar_inner=True,
        x_axis_label=x_label, y_axis_label=y_label, background_fill_color=None, border_fill_color=None,
        outline_line_color=None, min_border_right=10, min_border_top=4, **options,
    )  # fmt: skip
    made.toolbar.logo, made.toolbar.autohide = None, True
    for axis in made.axis:
        axis.axis_label_text_font, axis.major_label_text_font = FONT, FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size, axis.major_label_text_font_size = "13px", "12px"
        axis.axis_label_text_color = axis.major_label_text_color = GREY
        axis.axis_line_color = axis.major_tick_line_color = LINE
        axis.minor_tick_line_color = None
        if hasattr(axis.ticker, "desired_num_ticks"):
            axis.ticker.desired_num_ticks = 5
        axis.major_tick_in, axis.major_tick_out = 0, 5
    for grid in made.grid:
        grid.grid_line_color = HAIR
    return made


def number_format(values: Any) -> str:
    """With how many digits numbers are written so that a millionth of their range shows, in Bokeh's notation.

    Example:
        >>> number_format([0.0, 2.5]), number_format([1e5, 2e5]), number_format([3.0, 3.0])
        ('0.000000', '0.0', '0.0000')
    """
    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)]
    spread = float(np.ptp(found)) if len(found) else 0.0
    digits = 4 if spread == 0.0 else int(np.clip(np.ceil(6.0 - np.log10(spread)), 1, 12))
    return "0." + "0" * digits
