"""Where pictures go: the axes given, or a figure of its own."""

from __future__ import annotations

from typing import Any, Literal, cast

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from torchscape.errors import OptionError, TorchscapeError

__all__ = [
    "Picture",
    "axes_of",
    "counting",
    "expect_nothing_to_make",
    "figure_of",
    "legend_below",
    "logarithmic",
    "page_axes",
    "with_unit",
]

_WIDTHS = {"column": 3.37, "page": 7.0}


class Picture:
    """What a plot returns; shown by what it holds and its size, not by its arrays."""

    figure: Figure

    @property
    def _content(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"{type(self).__name__}({self._content}, figure {width:g}x{height:g} in)"


def axes_of(ax: Axes | None, size: tuple[float, float] = (7.0, 5.0)) -> Axes:
    """``ax`` itself, or the axes of a new figure that keeps its labels inside."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=size, layout="constrained")[1]


def page_axes(
    ax: Axes | None,
    width: float | Literal["column", "page"] | None = None,
    height: float | None = None,
    size: tuple[float, float] = (7.0, 5.0),
) -> tuple[Axes, float, float]:
    """Axes to draw on, about how wide they are in points, and the size of their texts in points.

    Args:
        ax: axes that are there.
        width: of a new figure in inches; or "column" (3.37 inches) or "page" (7 inches), the widths of a journal
            that is set in two columns.
        height: in inches; by default that of ``size`` for its width, and no less than three quarters of the width.
        size: where neither is given.

    Raises:
        OptionError: for a size that is none, or one of axes that are there.
    """
    if ax is not None:
        if width is not None or height is not None:
            raise OptionError("width and height are those of a new figure: leave them out with ax")
        return ax, float(ax.bbox.width / figure_of(ax).dpi * 72.0), 8.0
    if isinstance(width, str) and width not in _WIDTHS:
        raise OptionError(f"width = {width!r}: give 'column', 'page', or inches")
    across = size[0] if width is None else _WIDTHS[width] if isinstance(width, str) else float(width)
    down = height if height is not None else max(size[1] * across / size[0], 0.95 * min(across, 3.4))
    if not (0 < across < 1000 and 0 < down < 1000):
        raise OptionError(f"a figure of {across:g} x {down:g} inches: give sizes above 0, in inches")
    axes = axes_of(None, (across, down))
    return axes, 0.87 * across * 72.0, 10.0 if width is None else 8.0 if across > 5 else 7.0


def figure_of(ax: Axes) -> Figure:
    """The figure that ``ax`` belongs to."""
    # Its own may be part of another one; before matplotlib 3.10 get_figure does not lead to that.
    return cast(Figure, cast(Any, ax.figure).figure)


def expect_nothing_to_make(plot: str, function: str, **options: Any) -> None:
    """What says how a result is made must be left out where a result is drawn.

    Raises:
        TorchscapeError: if any of the options is not None.
    """
    if given := [name for name, value in options.items() if value is not None]:
        raise TorchscapeError(
            f"plots.{plot} was given a result, to which {', '.join(given)} can change nothing: "
            f"give {'it' if len(given) == 1 else 'them'} to {function}, or give plots.{plot} the network"
        )


def with_unit(name: str, unit: str | None) -> str:
    """An axis label: ``energy (eV)``, or only ``energy`` where the unit is the potential's own."""
    return f"{name} ({unit})" if unit else name


def legend_below(axes: Axes, n_columns: int, **style: Any) -> None:
    """A legend under the axes and their label, where it covers nothing however the curves run."""
    down = ScaledTranslation(0.0, -36.0 / 72.0, figure_of(axes).dpi_scale_trans)
    axes.legend(
        frameon=False, loc="upper left", bbox_to_anchor=(0.0, 0.0), bbox_transform=axes.transAxes + down,
        borderaxespad=0.0, ncols=n_columns, **style,
    )  # fmt: skip


def logarithmic(axes: Axes, low: float, high: float, *, vertical: bool = False) -> None:
    """A logarithmic axis for values from ``low`` to ``high``, horizontal by default, whose labels have room.

    Over three decades or fewer 1, 2 and 5 of each decade (3 and 7 too within one) are written as plain numbers
    (matplotlib would write 2 x 10^-1, 3 x 10^-1, 4 x 10^-1 into each other), over more the powers of ten.
    """
    axis = axes.yaxis if vertical else axes.xaxis
    axes.set_yscale("log") if vertical else axes.set_xscale("log")
    if np.log10(high / low) <= 3.0:
        axis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0) if high > 10.0 * low else (1.0, 2.0, 3.0, 5.0, 7.0))
        )
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def counting(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Ticks at whole numbers only, where an axis counts something."""
    for axis, wanted in ((axes.xaxis, x), (axes.yaxis, y)):
        if wanted:
            axis.set_major_locator(MaxNLocator(integer=True))
