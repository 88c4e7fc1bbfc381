"""A disconnectivity graph on its axes: branches, stems, wedges, marks, and the frame around them."""

from __future__ import annotations

import dataclasses

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection

from torchscape.plots.canvas import with_unit
from torchscape.plots.colours import FAINT, NEUTRAL, Colouring
from torchscape.plots.layout import TreeLayout
from torchscape.plots.tree_axis import draw_bar
from torchscape.plots.tree_choice import Shown
from torchscape.plots.tree_lines import TreeLines

__all__ = ["Frame", "draw_tree", "set_frame"]

_DASHED = (0, (3.0, 2.0))


@dataclasses.dataclass(frozen=True)
class Frame:
    """The extent of a picture.

    Attributes:
        bottom, top: between which energies it is drawn.
        above: what is above the axis, beyond the top.
        width: width of the axes in points.
        font: size of the texts in points.
    """

    bottom: float
    top: float
    above: float
    width: float
    font: float

    @property
    def height(self) -> float:
        return self.top - self.bottom


def draw_tree(
    axes: Axes,
    layout: TreeLayout,
    lines: TreeLines,
    shown: Shown,
    colours: Colouring,
    frame: Frame,
    linewidth: float | None = None,
    wedges: bool = False,
) -> None:
    """All lines: of the trees that nothing connects with the lowest minimum dashed.

    The axes get the collections in this order: branches, bars, stems; the same of dashed ones; wedges; tips.
    """
    n = layout.n_leaves
    spacing = 0.92 * frame.width / (np.ptp(layout.x[:n]) + 1.0)
    width = linewidth if linewidth is not None else float(np.clip(0.45 * spacing, 0.25, 1.2))
    shade = _shades(layout, shown.minima, colours)
    connected = np.concatenate([[0], (~np.isfinite(shown.gap)).cumsum()])[layout.lowest]
    main = connected[int(np.argmin(layout.y[:n]))]
    stems = np.stack([np.stack([layout.x[layout.roots], np.minimum(layout.y[layout.roots], frame.top)], 1)] * 2, 1)
    stems[:, 1, 1] = frame.top
    for side, style in ((connected == main, "solid"), (connected != main, _DASHED)):
        for pieces, of, order in (
            (lines.branches, lines.owner, 2.0),
            (lines.bars, lines.bar_of, 1.9),
            (stems, layout.roots, 2.0),
        ):
            here = side[of]
            if here.any() or style == "solid":
                axes.add_collection(
                    LineCollection(
                        list(pieces[here]), colors=shade[of[here]], lw=width, linestyles=style, zorder=order
                    ),
                    autolim=False,
                )
    if wedges:
        _wedges(axes, layout, lines, shown, shade)
    _tips(axes, layout, shown.minima, colours)


def _shades(layout: TreeLayout, minima: np.ndarray, colours: Colouring) -> np.ndarray:
    """Each minimum in its colour; a superbasin in the colour of its group if it has only one, else neutral.

    Neutral is a light grey where only some minima have a value, so that black stems do not outshine those.
    """
    total, n = len(layout.x), layout.n_leaves
    some_grey = colours.unknown is not None and bool(colours.unknown[minima].any())
    shade = np.tile(np.asarray(FAINT if some_grey else NEUTRAL), (total, 1))
    shade[:n] = colours.rgba[minima]
    if colours.groups is not None:
        group = np.full(total, -1)
        group[:n] = colours.groups[minima]
        mixed = np.zeros(total, dtype=bool)
        by_level = np.argsort(layout.level, kind="stable")  # children before parents
        for node in by_level:
            up = layout.parent[node]
            if up >= 0:
                mixed[up] |= mixed[node] or (group[up] >= 0 and group[up] != group[node])
                group[up] = group[node]
        pure = (~mixed) & (np.arange(total) >= n)
        shade[pure] = shade[layout.lowest[pure]]
    return shade


def _wedges(axes: Axes, layout: TreeLayout, lines: TreeLines, shown: Shown, shade: np.ndarray) -> None:
    """From the highest merger of the minima that a branch stands for to its end, wider for more of them."""
    many = np.flatnonzero(shown.count > 1)
    if not len(many):
        return
    apex = shown.inside[many]
    upright = np.full(len(layout.x), np.inf)
    upright[lines.owner] = lines.branches[:, 1, 1]
    apex = np.minimum(apex, upright[many])
    half = 0.08 + 0.34 * np.log(shown.count[many]) / np.log(shown.count.max())
    x, y = layout.x[many], layout.y[many]
    corners = np.stack([np.stack([x, apex], 1), np.stack([x - half, y], 1), np.stack([x + half, y], 1)], 1)
    axes.add_collection(PolyCollection(list(corners), facecolors=shade[many], lw=0, gid="wedges"), autolim=False)


def _tips(axes: Axes, layout: TreeLayout, minima: np.ndarray, colours: Colouring) -> None:
    """Where only some minima have a value, mark their ends: a few coloured lines among many grey ones are lost."""
    if colours.unknown is None or not colours.unknown[minima].any():
        return
    known = np.flatnonzero(~colours.unknown[minima])
    order = known[np.argsort(-layout.y[known], kind="stable")]
    axes.scatter(layout.x[order], layout.y[order], s=14, c=colours.rgba[minima[order]], lw=0, zorder=3)


def set_frame(
    axes: Axes,
    layout: TreeLayout,
    frame: Frame,
    *,
    unit: str | None,
    relative: bool,
    scale: float | None,
    step: float | None,
    name: str = "energy",
) -> None:
    """Limits, the axis of energy or a bar in its place, and a bar for the step between levels."""
    n = layout.x.max() + 1.0
    unit_too = f" {unit}" if unit else ""
    bars = [(step, f"step {step:.3g}{unit_too}")] if step is not None else []
    bars += [(scale, f"{scale:g}{unit_too}")] if scale is not None else []
    # A margin for each: there a bar meets no branch.
    each = (2.2 * frame.font + 4.0) / frame.width
    margin = 0.02 + each * len(bars)
    width = n / max(1.0 - margin - 0.02, 0.3)
    left = -0.5 - margin * width
    axes.set_xlim(left, left + width)
    axes.set_ylim(frame.bottom, frame.above)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(labelsize=frame.font)
    for k, (length, text) in enumerate(bars):
        draw_bar(axes, 0.02 + each * k, frame.bottom + 0.03 * frame.height, length, text, frame.font)
    if scale is None:
        name += " above the lowest minimum" if relative else ""
        axes.set_ylabel(with_unit(name, unit), fontsize=frame.font + 1)
    else:
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
