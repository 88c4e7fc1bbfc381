"""Ensembles side by side: loss or accuracy with standard errors."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchscape.metrics.ensembles import EnsembleComparison
from torchscape.plots.canvas import Picture, axes_of, figure_of

__all__ = ["EnsemblePlot", "ensembles"]

_BASELINE, _OTHER = "#c8382d", "#1f6fb4"


@dataclasses.dataclass(frozen=True, repr=False)
class EnsemblePlot(Picture):
    """A drawn comparison.

    Attributes:
        figure, axes: where it was drawn.
    """

    figure: Figure
    axes: Axes

    @property
    def _content(self) -> str:
        return self.axes.get_xlabel()


def ensembles(
    comparison: EnsembleComparison,
    *,
    quantity: Literal["loss", "accuracy"] = "loss",
    ax: Axes | None = None,
) -> EnsemblePlot:
    """How much better each predictor is than the baseline, with the standard error of the difference as a bar.

    The difference is over the same items, so its error is what decides. The number itself stands beside each name.

    Args:
        comparison: from :func:`torchscape.metrics.compare_ensembles`, or ``ensemble_report(...).comparison``.
        quantity: which number is drawn.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> import torch
        >>> from torchscape import metrics, plots
        >>> p = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
        >>> found = metrics.compare_ensembles({"one": p, "two": p.sqrt().softmax(1)}, torch.tensor([0, 1]))
        >>> picture = plots.ensembles(found)
        >>> picture.axes.get_xlabel()
        'loss below that of one'
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    of_loss = quantity == "loss"
    value = (comparison.loss if of_loss else comparison.accuracy).cpu().numpy()
    gain = (comparison.loss_gain if of_loss else comparison.accuracy_gain).cpu().numpy()
    error = (comparison.loss_gain_error if of_loss else comparison.accuracy_gain_error).cpu().numpy()
    axes = axes_of(ax, size=(7.0, 1.0 + 0.28 * len(value)))
    y = np.arange(len(value))[::-1]
    axes.axvline(0.0, color=_BASELINE, lw=0.8)
    axes.errorbar(gain, y, xerr=error, fmt="o", ms=4, color=_OTHER, lw=1.2, capsize=2)
    for name, place, number in zip(comparison.names, y, value, strict=True):
        if name == comparison.baseline:
            axes.plot(0.0, place, "o", ms=5, color=_BASELINE)
        text = f"{number:.4f}" if of_loss else f"{number:.1%}"
        axes.annotate(
            text, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="0.35"
        )
    axes.set_yticks(y, comparison.names)
    side = "below" if of_loss else "above"
    axes.set_xlabel(f"{quantity} {side} that of {comparison.baseline}")
    axes.set_title(quantity, fontsize=8, loc="right", color="0.35")
    axes.spines[["top", "right"]].set_visible(False)
    return EnsemblePlot(figure_of(axes), axes)
