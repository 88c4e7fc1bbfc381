"""Labels that cover nothing: placed one by one, left out where there is no room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.plots.canvas import figure_of

__all__ = ["label_texts", "place_labels"]

_MOST_TRIED = 400
_BELOW = 4.0
_FARTHEST = 12  # lines of text that a label which must be written may move away

_Box = tuple[float, float, float, float]


def label_texts(
    network: Network, labels: bool | str | Sequence[str] | Sequence[int] | Mapping[int, str]
) -> tuple[dict[int, str], set[int]]:
    """What to write at which position of the network, and the positions that were asked for one by one.

    Raises:
        TorchscapeError: for labels of no such kind, or of minima that do not exist.
    """
    n = network.n_minima
    if labels is False:
        return {}, set()
    if labels is True or labels == "positions":
        return {k: str(k) for k in range(n)}, set()
    if labels == "ids":
        return {k: str(i) for k, i in enumerate(network.ids.tolist())}, set()
    if isinstance(labels, Mapping):
        return _existing(dict(labels), n)
    if not isinstance(labels, str) and all(isinstance(one, (int, np.integer)) for one in labels):
        return _existing({int(k): str(int(k)) for k in labels}, n)
    if isinstance(labels, str) or len(labels) != n:
        raise TorchscapeError(
            "labels: give 'ids', 'positions', some positions, N texts, or a mapping from position to text"
        )
    return {k: str(text) for k, text in enumerate(labels)}, set()


def _existing(texts: dict[int, str], n: int) -> tuple[dict[int, str], set[int]]:
    wrong = [k for k in texts if not 0 <= k < n]
    if wrong:
        raise TorchscapeError(f"labels: there is no minimum {wrong[0]}, they are numbered from 0 to {n - 1}")
    # All of them: that is a choice of texts, not of minima.
    return texts, set(texts) if len(texts) < n else set()


def place_labels(
    axes: Axes, at: np.ndarray, texts: Sequence[str], lines: np.ndarray, *, must: int = 0, size: float = 8.0
) -> list[int]:
    """Write each text below its point where it meets neither a line nor another label; the first ones first.

    Texts stand upright where a point has less room to its sides than its text is wide.

    Args:
        axes: where things are drawn, with its limits set.
        at: the points [K 2].
        texts: one for each; at most 400 are tried.
        lines: what must not be covered, as line segments [S 2 2].
        must: so many of the first are written in any case: farther below, with a thin line to their point.
        size: of the texts, in points.

    Returns:
        The rows of ``at`` that were labelled.
    """
    size = min(size, 8.0)
    figure = figure_of(axes)
    figure.draw_without_rendering()  # the layout engine settles the size of the axes first
    to_pixels = axes.transData
    scale = figure.dpi / 72.0
    crossing = to_pixels.transform(lines.reshape(-1, 2)).reshape(-1, 2, 2)
    places = to_pixels.transform(at)[: max(_MOST_TRIED, must)]
    sizes = [_text_size(text, scale, size) for text in texts[: len(places)]]
    columns = np.unique(to_pixels.transform(at)[:, 0])
    spacing = float(np.diff(columns).min()) if len(columns) > 1 else np.inf
    upright = not must and any(width > spacing for width, _ in sizes)
    boxes: list[_Box] = []
    written = []
    floor = axes.bbox.y0
    for k, ((x, y), extent) in enumerate(zip(places.tolist(), sizes, strict=True)):
        width, height = extent[::-1] if upright else extent
        box = _free((x, y), (width, height), crossing, boxes, scale, farthest=_FARTHEST if k < must else 0)
        if box is None:
            continue
        boxes.append(box)
        floor = min(floor, box[1] - 2 * scale)
        written.append(k)
        moved = ((box[0] + box[2]) / 2 - x, box[3] - y)
        far = k < must and moved != (0.0, -_BELOW * scale)
        line: dict[str, Any] = {"arrowstyle": "-", "lw": 0.4, "color": "0.4", "shrinkA": 0, "shrinkB": 1}
        axes.annotate(
            texts[k], at[k], xytext=(moved[0] / scale, moved[1] / scale), textcoords="offset points",
            ha="center", va="top", fontsize=size, rotation=90 if upright else 0,
            arrowprops=line if far else None,
        )  # fmt: skip
    if floor < axes.bbox.y0:  # room for the lowest label
        axes.set_ylim(bottom=to_pixels.inverted().transform((0.0, floor))[1])
    return written


def _free(
    point: tuple[float, float],
    extent: tuple[float, float],
    lines: np.ndarray,
    boxes: list[_Box],
    scale: float,
    farthest: int,
) -> _Box | None:
    """The nearest place below a point, or beside and below it, for a text of this extent; None without one."""
    (x, y), (width, height) = point, extent
    best = None
    for row in range(farthest + 1):
        for across in (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0) if farthest else (0.0,):
            middle, top = x + across * (width + 4 * scale), y - _BELOW * scale - 1.1 * row * height
            box = (middle - width / 2, top - height, middle + width / 2, top)
            if any(_overlap(box, other) for other in boxes):
                continue
            if not _hits(lines, box):
                return box
            best = best or box  # over a line, but over no other label
    return best if farthest else None


def _text_size(text: str, scale: float, size: float) -> tuple[float, float]:
    extent = TextPath((0, 0), text, size=size, prop=FontProperties()).get_extents()
    return (float(extent.width) + 2.0) * scale, (size + 1.0) * scale


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _hits(lines: np.ndarray, box: _Box) -> bool:
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
