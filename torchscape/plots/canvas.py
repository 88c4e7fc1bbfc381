"""Where pictures go: the axes given, or a figure of its own."""

from __future__ import annotations

from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from torchscape.errors import TorchscapeError

__all__ = [
    "Picture",
    "axes_of",
    "counting",
    "expect_nothing_to_make",
    "figure_of",
    "legend_below",
    "logarithmic",
    "with_unit",
]


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
