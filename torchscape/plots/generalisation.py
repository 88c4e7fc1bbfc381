"""Lines through the loss, robustness of predictions, and what flatness says of held-out data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchscape.metrics.correlation import RankCorrelation
from torchscape.metrics.lines import LossLines
from torchscape.plots.canvas import Picture, axes_of, figure_of
from torchscape.types import Float, Tensor

__all__ = ["CorrelationPlot", "LinesPlot", "correlations", "loss_lines", "robustness"]

_MONOTONE, _BUMPY = "#1f6fb4", "#c8382d"


@dataclasses.dataclass(frozen=True, repr=False)
class LinesPlot(Picture):
    """Curves of many minima on one set of axes.

    Attributes:
        figure, axes: where they were drawn.
    """

    figure: Figure
    axes: Axes

    @property
    def _content(self) -> str:
        return f"{self.axes.get_ylabel()} of many minima"


def loss_lines(
    lines: LossLines, *, ends: tuple[str, str] = ("start", "minimum"), ax: Axes | None = None
) -> LinesPlot:
    """The loss along every line, those that only fall in one colour and those with a bump in another.

    Args:
        lines: from :func:`torchscape.learning.interpolate`.
        ends: what lies at t = 0 and t = 1.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> from torchscape import metrics, plots
        >>> t = torch.tensor([0.0, 0.5, 1.0])
        >>> picture = plots.loss_lines(metrics.loss_lines(t, torch.tensor([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0]])))
        >>> [text.get_text() for text in picture.axes.get_legend().get_texts()]
        ['1 monotone', '1 with a bump (median height 1)']
        >>> plt.close(picture.figure)
    """
    axes = axes_of(ax, size=(6.2, 4.2))
    t, loss, falls = _numpy(lines.t), _numpy(lines.loss), lines.is_monotone.cpu().numpy()
    bumps = _numpy(lines.bump)[~falls]
    height = f" (median height {np.median(bumps):.2g})" if len(bumps) else ""
    for which, colour, label in ((falls, _MONOTONE, "monotone"), (~falls, _BUMPY, f"with a bump{height}")):
        if which.any():
            axes.plot(t, loss[which].T, color=colour, lw=0.8, alpha=max(0.15, min(1.0, 12 / len(loss))))
            axes.plot([], [], color=colour, label=f"{which.sum()} {label}")
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], [ends[0], "0.25", "0.5", "0.75", ends[1]])
    axes.set_xlabel("along the line")
    axes.set_ylabel("energy")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return LinesPlot(figure_of(axes), axes)


def robustness(
    sizes: Float[Tensor, "S"],
    values: Float[Tensor, "N S"],
    error: Float[Tensor, "N S"] | None = None,
    *,
    colour: Float[Tensor, "N"] | None = None,
    label: str = "",
    quantity: str = "accuracy",
    ax: Axes | None = None,
) -> LinesPlot:
    """Accuracy or agreement of every minimum against the size of the noise on its weights.

    Args:
        sizes, values, error: of :func:`torchscape.learning.robustness`; the standard errors are bars.
        colour: a number of each minimum that its line is coloured by, for example its flatness.
        label: what that number is.
        quantity: what the values are.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.robustness(torch.tensor([0.1, 1.0]), torch.tensor([[0.9, 0.5]]))
        >>> picture.axes.get_ylabel()
        'accuracy'
        >>> plt.close(picture.figure)
    """
    axes = axes_of(ax, size=(6.2, 4.2))
    shade = torch.zeros(len(values)) if colour is None else colour
    norm = plt.Normalize(float(shade.min()), float(shade.max()))
    scale = plt.cm.ScalarMappable(norm, "viridis")
    bars = [None] * len(values) if error is None else _numpy(error)
    for row, bar, value in zip(_numpy(values), bars, _numpy(shade), strict=True):
        axes.errorbar(
            _numpy(sizes),
            row,
            bar,
            color=scale.to_rgba(value),
            lw=0.9,
            marker=".",
            ms=3,
            capsize=1.5,
            elinewidth=0.7,
        )
    if colour is not None:
        figure_of(axes).colorbar(scale, ax=axes, label=label, fraction=0.05, pad=0.02)
    axes.set_xscale("log")
    axes.set_xlabel("size of the noise on the weights")
    axes.set_ylabel(quantity if error is None else f"{quantity} (± one standard error)")
    axes.spines[["top", "right"]].set_visible(False)
    return LinesPlot(figure_of(axes), axes)


@dataclasses.dataclass(frozen=True, repr=False)
class CorrelationPlot(Picture):
    """Measures against a target, side by side.

    Attributes:
        figure: where they were drawn.
        axes: one for each measure, by name.
        correlation: of all measures, in the order of the axes.
    """

    figure: Figure
    axes: Mapping[str, Axes]
    correlation: RankCorrelation

    @property
    def _content(self) -> str:
        return ", ".join(self.axes)


def correlations(correlation: RankCorrelation, *, quantity: str = "loss on held-out data") -> CorrelationPlot:
    """Each measure against a target, one dot per minimum, its rank correlation and the confidence interval above.

    Args:
        correlation: from :func:`torchscape.metrics.rank_correlation`, of measures by name: for example
            ``rank_correlation(flatness(...).measures(), held_out(...).loss)``.
        quantity: what the target is.

    Example:
        >>> from torchscape import metrics, plots
        >>> x = torch.arange(6.0)
        >>> found = metrics.rank_correlation({"size": x}, -(x**2), n_permutations=99)
        >>> picture = plots.correlations(found)
        >>> list(picture.axes), round(picture.correlation.value.item(), 6)
        (['size'], -1.0)
        >>> plt.close(picture.figure)
    """
    found, n = correlation, len(correlation.names)
    figure, panels = plt.subplots(
        1, n, figsize=(0.6 + 2.9 * n, 3.2), layout="constrained", squeeze=False, sharey=True
    )
    for k, (panel, name, values) in enumerate(zip(panels[0], found.names, found.measures, strict=True)):
        panel.plot(_numpy(values), _numpy(found.target), "o", ms=3.5, color=_MONOTONE, alpha=0.7, mec="none")
        interval = f"[{float(found.lower[k]):.2f}, {float(found.upper[k]):.2f}]"
        panel.set_title(f"{float(found.value[k]):+.2f} {interval}, p = {float(found.p_value[k]):.2g}", fontsize=9)
        panel.set_xlabel(name)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel(quantity)
    return CorrelationPlot(figure, dict(zip(found.names, panels[0], strict=True)), found)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
