"""Labels that cover nothing: placed one by one, left out where there is no room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from torchscape.plots.canvas import figure_of

__all__ = ["place_labels"]

_MOST_TRIED = 400
_FONT = 8.0
_BELOW = 4.0


def place_labels(axes: Axes, at: np.ndarray, texts: Sequence[str], lines: np.ndarray) -> list[int]:
    """Write each text below its point where it meets neither a line nor another label; the first ones first.

    Texts stand upright where a point has less room to its sides than its text is wide.

    Args:
        axes: where things are drawn, with its limits set.
        at: the points [K 2].
        texts: one for each; at most 400 are tried.
        lines: what must not be covered, as line segments [S 2 2].

    Returns:
        The rows of ``at`` that were labelled.
    """
    figure = figure_of(axes)
    figure.draw_without_rendering()  # the layout engine settles the size of the axes first
    to_pixels = axes.transData
    scale = figure.dpi / 72.0
    crossing = to_pixels.transform(lines.reshape(-1, 2)).reshape(-1, 2, 2)
    places = to_pixels.transform(at)[:_MOST_TRIED]
    sizes = [_text_size(text, scale) for text in texts[:_MOST_TRIED]]
    columns = np.unique(to_pixels.transform(at)[:, 0])
    spacing = float(np.diff(columns).min()) if len(columns) > 1 else np.inf
    upright = any(width > spacing for width, _ in sizes)
    boxes: list[tuple[float, float, float, float]] = []
    written = []
    floor = axes.bbox.y0
    for k, ((x, y), size) in enumerate(zip(places.tolist(), sizes, strict=True)):
        width, height = size[::-1] if upright else size
        box = (x - width / 2, y - _BELOW * scale - height, x + width / 2, y - _BELOW * scale)
        if _hits(crossing, box) or any(_overlap(box, other) for other in boxes):
            continue
        boxes.append(box)
        floor = min(floor, box[1] - 2 * scale)
        written.append(k)
        axes.annotate(
            texts[k], at[k], xytext=(0, -_BELOW), textcoords="offset points", ha="center", va="top",
            fontsize=_FONT, rotation=90 if upright else 0,
        )  # fmt: skip
    if floor < axes.bbox.y0:  # room for the lowest label
        axes.set_ylim(bottom=to_pixels.inverted().transform((0.0, floor))[1])
    return written


def _text_size(text: str, scale: float) -> tuple[float, float]:
    extent = TextPath((0, 0), text, size=_FONT, prop=FontProperties()).get_extents()
    return (float(extent.width) + 2.0) * scale, (_FONT + 1.0) * scale


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _hits(lines: np.ndarray, box: tuple[float, float, float, float]) -> bool:
    """Does any segment [K 2 2] touch the box? By clipping each segment's parameter to the box (Liang-Barsky)."""
    start, step = lines[:, 0], lines[:, 1] - lines[:, 0]
    enter, leave = np.zeros(len(lines)), np.ones(len(lines))
    for axis in (0, 1):
        low, high = box[axis], box[axis + 2]
        moving = step[:, axis] != 0.0
        safe = np.where(moving, step[:, axis], 1.0)
        t = np.stack([(low - start[:, axis]) / safe, (high - start[:, axis]) / safe])
        inside = (start[:, axis] >= low) & (start[:, axis] <= high)
        enter = np.maximum(enter, np.where(moving, t.min(0), np.where(inside, 0.0, 2.0)))
        leave = np.minimum(leave, np.where(moving, t.max(0), 1.0))
    return bool((enter <= leave).any())
