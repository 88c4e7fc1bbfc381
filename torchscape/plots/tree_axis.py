"""The energies of a disconnectivity graph: where it is cut off, at which energies branches join, and its axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from torchscape.errors import OptionError
from torchscape.plots.layout import default_levels

__all__ = ["Thresholds", "automatic_top", "break_axis", "draw_bar", "nice_length", "thresholds"]

_FEW = 0.05  # of the mergers may lie above the picture
_WASTE = 0.5  # of the height, if they would take more than this
_BREAK = 0.035  # of the height that a break takes


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The energies at which branches may join.

    Attributes:
        energies: ascending [L].
        step: their distance where that is one and the same; None where every merger stands at its own energy.
        exact: whether it does.
    """

    energies: np.ndarray
    step: float | None
    exact: bool


def automatic_top(energy: np.ndarray, gap: np.ndarray) -> float | None:
    """Below which energy to draw, where up to a twentieth of the mergers would take more than half of the height.

    None where all of them have room. The energy lies above the highest merger that is drawn and the minima.
    """
    merges = np.sort(gap[np.isfinite(gap)])
    if len(merges) < 3 or not len(energy):
        return None
    ascending, k = np.sort(energy), np.arange(max(int(_FEW * len(merges)), 1), 0, -1)
    low = ascending[0]
    rest = np.maximum(merges[-k - 1], ascending[-k - 1])  # what is left without the k highest
    fits = np.flatnonzero((rest > low) & (rest - low < _WASTE * (merges[-k] - low)))
    return float(rest[fits[0]] + 0.05 * (rest[fits[0]] - low)) if len(fits) else None


def thresholds(
    levels: Literal["exact"] | int | Sequence[float] | None,
    step: float | None,
    energy: np.ndarray,
    gap: np.ndarray,
    top: float | None,
) -> Thresholds:
    """Thresholds from what was asked for, up to ``top``.

    Raises:
        OptionError: if ``levels`` and ``step`` say nothing that can be drawn.
    """
    below = gap if top is None else np.where(gap <= top, gap, np.inf)
    if levels is not None and step is not None:
        raise OptionError("levels and step both say where branches join: give one of them")
    if step is not None:
        return Thresholds(_by_step(step, energy, below, top), step, False)
    if levels is None or isinstance(levels, str):
        if levels not in (None, "exact"):
            raise OptionError(f"levels = {levels!r}: give 'exact', a whole number, or energies")
        merges = np.unique(below[np.isfinite(below)])
        return Thresholds(merges if len(merges) else default_levels(energy, below)[-1:], None, True)
    if not isinstance(levels, int):
        chosen = np.unique(np.asarray(levels, dtype=float))
        if len(chosen) < 2 or not np.isfinite(chosen).all():
            raise OptionError("levels needs at least two different finite energies, or a whole number of them")
        steps = np.diff(chosen)
        even = np.allclose(steps, steps[0], rtol=1e-6)
        return Thresholds(chosen, float(steps.mean()) if even else None, False)
    if levels < 2:
        raise OptionError(f"levels = {levels} shows no structure: ask for at least 2")
    high = default_levels(energy, below)[-1] if top is None else top
    low = energy.min()
    chosen = np.linspace(low, high, levels + 1)[1:]
    chosen[-1] = high
    return Thresholds(chosen, float((high - low) / levels), False)


def _by_step(step: float, energy: np.ndarray, gap: np.ndarray, top: float | None) -> np.ndarray:
    """Thresholds at multiples of the step, or counted downwards from the top where that is given."""
    low, high = energy.min(), default_levels(energy, gap)[-1]
    if not (np.isfinite(step) and step > 0):
        raise OptionError(f"step = {step}: give an energy above 0")
    if (high - low) / step > 1e5:
        raise OptionError(f"step = {step:g} makes {(high - low) / step:.0f} levels: give a larger one")
    first = np.ceil(high / step - 1e-9) * step if top is None else top
    count = max(int(np.ceil((first - low) / step)), 1) + 1
    return first - step * np.arange(count)[::-1]


def break_axis(axes: Axes, low: float | None, high: float | None) -> None:
    """Take the energies between ``low`` and ``high`` out of the vertical axis, and mark the place.

    Called when the limits of the axis are set. Upright lines run on through the break, under a white band.

    Raises:
        OptionError: if the axis does not run on at both sides of them.
    """
    bottom, top = axes.get_ylim()
    if low is None or high is None or not bottom < low < high < top:
        raise OptionError(
            f"broken = ({low}, {high}): give two energies between {bottom:g} and {top:g}, the ends of the axis"
        )
    left = (low - bottom) + (top - high)
    room = _BREAK / (1.0 - _BREAK) * left
    scale = (high - low) / room

    def forward(y):
        y = np.asarray(y, dtype=float)
        return np.where(y < low, y, np.where(y > high, y - (high - low) + room, low + (y - low) / scale))

    def inverse(y):
        y = np.asarray(y, dtype=float)
        return np.where(y < low, y, np.where(y > low + room, y + (high - low) - room, low + (y - low) * scale))

    axes.set_yscale("function", functions=(forward, inverse))
    axes.set_ylim(bottom, top)
    parts = [(bottom, low), (high, top)]
    ticks = [_ticks(a, b, max(2, round(7 * (b - a) / left))) for a, b in parts]
    axes.yaxis.set_major_locator(FixedLocator(np.concatenate(ticks).tolist()))
    axes.axhspan(low, high, color="white", lw=0, zorder=5)
    marks: dict[str, Any] = {"marker": [(-1, -0.5), (1, 0.5)], "ms": 7, "mec": "black", "mew": 0.8, "ls": "none"}
    axes.plot(
        [0, 0], [low, high], transform=axes.get_yaxis_transform(), clip_on=False, zorder=6, color="black", **marks
    )


def _ticks(low: float, high: float, count: int) -> np.ndarray:
    found = np.asarray(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    return found[(found >= low) & (found <= high)]


def nice_length(height: float) -> float:
    """1, 2 or 5 times a power of ten, about a fifth of the height."""
    wanted = 0.22 * height
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(max(m * power for m in (1.0, 2.0, 5.0) if m * power <= wanted * (1 + 1e-9)))


def draw_bar(axes: Axes, x: float, y: float, length: float, text: str, size: float) -> None:
    """A vertical bar of so much energy, upwards from ``y``, at a fraction ``x`` of the width, with a text."""
    place = axes.get_yaxis_transform()
    cap = 0.006
    for (x0, y0), (x1, y1) in (
        ((x, y), (x, y + length)),
        ((x - cap, y), (x + cap, y)),
        ((x - cap, y + length), (x + cap, y + length)),
    ):
        axes.plot([x0, x1], [y0, y1], transform=place, color="black", lw=1.0, clip_on=False, gid="bar")
    axes.annotate(
        text, (x, y), xycoords=place, xytext=(3.0, 0.0), textcoords="offset points", rotation=90, va="bottom",
        ha="left", fontsize=size, gid="bar",
    )  # fmt: skip
