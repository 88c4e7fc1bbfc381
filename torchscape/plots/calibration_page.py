"""Reliability diagrams side by side, with the scores in a table below."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchscape.metrics.reliability import Calibration, CalibrationComparison
from torchscape.plots.canvas import Picture, axes_of, figure_of

__all__ = ["CalibrationPage", "ReliabilityPlot", "calibration", "reliability"]

_OBSERVED, _GAP = "#1f6fb4", "#c8382d"


@dataclasses.dataclass(frozen=True, repr=False)
class ReliabilityPlot(Picture):
    """A drawn reliability diagram.

    Attributes:
        figure, axes: where it was drawn.
        below: axes of the histogram of confidence.
    """

    figure: Figure
    axes: Axes
    below: Axes

    @property
    def _content(self) -> str:
        return f"{self.axes.get_title(loc='left') or 'one predictor'}"


@dataclasses.dataclass(frozen=True, repr=False)
class CalibrationPage(Picture):
    """Reliability diagrams and their table.

    Attributes:
        figure: where they were drawn.
        axes: of each predictor, by name.
        table: axes of the table.
        rows: its text, a line for each predictor after the heading.
    """

    figure: Figure
    axes: Mapping[str, Axes]
    table: Axes
    rows: Sequence[Sequence[str]]

    @property
    def _content(self) -> str:
        return ", ".join(self.axes)


def reliability(
    found: Calibration, *, name: str = "", confidence: str = "confidence", ax: Axes | None = None
) -> ReliabilityPlot:
    """Fraction of events against the probability that they were given; below, where the items are.

    On the diagonal a predictor is right about itself; below it, too sure. Bars are the standard error that the
    number of items in each bin leaves to a predictor on the diagonal; how far from it the points lie is in red.

    Args:
        found: from :func:`torchscape.metrics.calibration`.
        name: written above.
        confidence: label of the horizontal axis.
        ax: axes to draw on; a new figure by default.

    Reference: Murphy & Winkler, Appl. Stat. 26, 41 (1977), doi 10.2307/2346866.

    Example:
        >>> import torch
        >>> from torchscape import metrics, plots
        >>> p = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
        >>> picture = plots.reliability(metrics.calibration(p, torch.tensor([0, 1, 1])), name="one")
        >>> picture.axes.get_ylabel()
        'fraction right'
        >>> plt.close(picture.figure)
    """
    axes = axes_of(ax, size=(4.0, 4.4))
    some = (found.count > 0).cpu().numpy()
    edges, count = found.edges.cpu().numpy(), found.count.cpu().numpy()
    x, y = (values.cpu().numpy()[some] for values in (found.confidence, found.frequency))
    error = np.sqrt(x * (1 - x) / count[some])  # of the fraction, were the predictor right about itself
    axes.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls=":", zorder=1)
    axes.vlines(x, np.minimum(x, y), np.maximum(x, y), color=_GAP, lw=1.4, alpha=0.6, zorder=2)
    axes.errorbar(x, y, yerr=error, fmt="o", ms=4, color=_OBSERVED, lw=1.0, capsize=2, zorder=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("fraction right")
    axes.tick_params(labelbottom=False)
    axes.set_title(name, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    below = axes.inset_axes((0.0, -0.27, 1.0, 0.22), sharex=axes)
    below.bar(
        edges[:-1], count / count.sum(), width=np.diff(edges), align="edge", color="0.75", ec="white", lw=0.5
    )
    below.set_ylabel("items", fontsize=8)
    below.set_yticks([])
    below.set_xlabel(confidence)
    below.spines[["top", "right", "left"]].set_visible(False)
    return ReliabilityPlot(figure_of(axes), axes, below)


def calibration(comparison: CalibrationComparison, *, columns: int = 4) -> CalibrationPage:
    """One page: the reliability diagram of every predictor, and a table of its scores.

    A score is in bold where it is better than every other one by more than the standard error of their difference,
    taken as if they were independent; of the calibration error, which has none, no score is.

    Args:
        comparison: from :func:`torchscape.metrics.compare_calibration`, or ``bayesian_report(...).calibration``.
        columns: diagrams in a row, at most.

    Example:
        >>> import torch
        >>> from torchscape import metrics, plots
        >>> p = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]])
        >>> both = metrics.compare_calibration({"sure": p, "unsure": (p + 0.5) / 2}, torch.tensor([0, 1, 1]))
        >>> picture = plots.calibration(both)
        >>> picture.rows[0]
        ['sure', '0.459 ± 0.240', '0.307 ± 0.212', '0.333', '66.7% ± 27.2%']
        >>> plt.close(picture.figure)
    """
    names = list(comparison.calibration)
    down = math.ceil(len(names) / columns)
    across = math.ceil(len(names) / down)
    height = 0.75 + 0.26 * len(names)
    figure = plt.figure(figsize=(max(6.4, 0.4 + 2.75 * across), 3.3 * down + height), layout="constrained")
    grid = figure.add_gridspec(down + 1, across, height_ratios=[3.3] * down + [height])
    axes: dict[str, Axes] = {}
    for k, name in enumerate(names):
        ax = figure.add_subplot(grid[k // across, k % across])
        drawn = reliability(comparison.calibration[name], name=name, ax=ax)
        if k % across:
            ax.set_ylabel("")
            drawn.below.set_ylabel("")
        axes[name] = ax
    table = figure.add_subplot(grid[down, :])
    rows = _rows(comparison)
    _write(table, rows, comparison)
    return CalibrationPage(figure, axes, table, rows)


def _rows(comparison: CalibrationComparison) -> list[list[str]]:
    return [
        [
            name,
            f"{one.nll:.3f} ± {one.nll_error:.3f}",
            f"{one.brier:.3f} ± {one.brier_error:.3f}",
            f"{one.ece:.3f}",
            f"{one.accuracy:.1%} ± {_accuracy_error(one):.1%}",
        ]
        for name, one in comparison.calibration.items()
    ]


def _accuracy_error(one: Calibration) -> float:
    return math.sqrt(one.accuracy * (1 - one.accuracy) / int(one.count.sum()))


def _best(values: Sequence[float], errors: Sequence[float]) -> int | None:
    """Which value is lower than all others by more than the error of the difference; None if none is."""
    first = min(range(len(values)), key=values.__getitem__)
    rest = [k for k in range(len(values)) if k != first]
    if not rest or any(values[k] - values[first] <= math.hypot(errors[k], errors[first]) for k in rest):
        return None
    return first


def _write(table: Axes, rows: list[list[str]], comparison: CalibrationComparison) -> None:
    """The table, with a rule under its head and in bold what is better than all others beyond its error."""
    found = list(comparison.calibration.values())
    best = [
        _best([one.nll for one in found], [one.nll_error for one in found]),
        _best([one.brier for one in found], [one.brier_error for one in found]),
        None,
        _best([-one.accuracy for one in found], [_accuracy_error(one) for one in found]),
    ]
    places = (0.01, 0.36, 0.57, 0.73, 0.9)
    table.axis("off")
    table.set_xlim(0, 1)
    table.set_ylim(len(rows) + 0.9, -0.6)
    for x, head in zip(places, ("", "NLL", "Brier score", "ECE", "accuracy"), strict=True):
        table.text(x, 0, head, fontsize=9, color="0.35", ha="left" if x < 0.1 else "center", va="center")
    table.axhline(0.5, color="0.7", lw=0.8)
    for k, row in enumerate(rows):
        table.text(places[0], k + 1, row[0], fontsize=9, va="center")
        for j, (x, text) in enumerate(zip(places[1:], row[1:], strict=True)):
            weight = "bold" if best[j] == k else "normal"
            table.text(x, k + 1, text, fontsize=9, ha="center", va="center", weight=weight)
    note = f"{comparison.n_items} items; ± one standard error"
    table.text(1.0, len(rows) + 0.75, note, fontsize=7.5, color="0.45", ha="right", va="center")
