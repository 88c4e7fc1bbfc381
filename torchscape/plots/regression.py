"""Predictive distributions of real targets: scores side by side, and bands over one input."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from torchscape.errors import TorchscapeError
from torchscape.metrics.normal_mixture import NormalMixture, RegressionComparison
from torchscape.plots.canvas import Picture, axes_of, figure_of, legend_below
from torchscape.plots.colours import categories
from torchscape.types import Float, Tensor

__all__ = ["BandPlot", "RegressionPlot", "predictive_bands", "regression_scores"]

_BASELINE, _OTHER = "#c8382d", "#1f6fb4"
_MARKERS = ("o", "s", "D", "^", "v")


@dataclasses.dataclass(frozen=True, repr=False)
class RegressionPlot(Picture):
    """Scores of predictive distributions.

    Attributes:
        figure: where they were drawn.
        axes: of the log density, the RMSE and the coverage.
    """

    figure: Figure
    axes: tuple[Axes, Axes, Axes]

    @property
    def _content(self) -> str:
        return f"{len(self.axes[0].get_yticks())} predictors"


@dataclasses.dataclass(frozen=True, repr=False)
class BandPlot(Picture):
    """Expectation and central interval of predictive distributions over one input.

    Attributes:
        figure, axes: where they were drawn.
        names: of the predictors.
    """

    figure: Figure
    axes: Axes
    names: tuple[str, ...]

    @property
    def _content(self) -> str:
        return ", ".join(self.names)


def regression_scores(comparison: RegressionComparison, *, axes: Sequence[Axes] | None = None) -> RegressionPlot:
    """Log density gained over the baseline, RMSE, and coverage of central intervals, each with standard errors.

    The gain is over the same items, so that its error is what decides; the log density itself stands beside it.
    A calibrated predictor has every coverage on the dotted line of its level.

    Args:
        comparison: from :func:`torchscape.metrics.compare_regression`, or ``gp_ensemble_report(...).comparison``.
        axes: three to draw on; a new figure by default.

    Example:
        >>> import torch
        >>> from torchscape import metrics, plots
        >>> y, one = torch.tensor([0.5, -0.5]).double(), torch.ones(1, 2).double()
        >>> given = {"wide": NormalMixture.of(0 * one, 9 * one), "right": NormalMixture.of(0 * one, one)}
        >>> picture = plots.regression_scores(metrics.compare_regression(given, y))
        >>> picture.axes[0].get_xlabel()
        'log density above that of wide'
        >>> plt.close(picture.figure)
    """
    n = len(comparison.names)
    if axes is None:
        size = (10.0, 1.3 + 0.3 * n)
        axes = plt.subplots(1, 3, figsize=size, sharey=True, layout="constrained", width_ratios=(1.5, 1, 1))[1]
    gain, rmse, coverage = axes
    place = np.arange(n)[::-1]
    reference = comparison.names.index(comparison.baseline)
    _points(gain, comparison.gain, comparison.gain_error, place, reference)
    gain.axvline(0.0, color=_BASELINE, lw=0.8, zorder=1)
    gain.set_xlabel(f"log density above that of {comparison.baseline}")
    for y, value in zip(place, comparison.log_density.tolist(), strict=True):
        gain.annotate(
            f"{value:.3f}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="0.35"
        )
    gain.set_title("log density", fontsize=8, loc="right", color="0.35")
    _points(rmse, comparison.rmse, comparison.rmse_error, place, reference)
    rmse.set_xlabel("RMSE")
    for k, level in enumerate(comparison.levels):
        coverage.axvline(level, color="0.6", lw=0.8, ls=":", zorder=1)
        marker = _MARKERS[k % len(_MARKERS)]
        _points(coverage, comparison.coverage[:, k], comparison.coverage_error[:, k], place, reference, marker)
    coverage.set_xlabel("inside intervals of " + ", ".join(f"{level:.0%}" for level in comparison.levels))
    coverage.set_xlim(0, 1.04)
    coverage.xaxis.set_major_formatter(PercentFormatter(1.0))
    gain.set_yticks(place, comparison.names)
    for one in (gain, rmse, coverage):
        one.set_ylim(-0.6, n - 0.4)
        one.spines[["top", "right"]].set_visible(False)
    return RegressionPlot(figure_of(gain), (gain, rmse, coverage))


def predictive_bands(
    inputs: Float[Tensor, "m"],
    predictions: Mapping[str, NormalMixture],
    *,
    data: tuple[Tensor, Tensor] | None = None,
    level: float = 0.9,
    ax: Axes | None = None,
) -> BandPlot:
    """Expectation (lines) and central interval (bands) of each predictive distribution against a single input.

    Args:
        inputs: where the predictions were made, in any order.
        predictions: by name.
        data: (inputs, targets) of the training, drawn as points.
        level: of the interval, by the quantiles of the mixture.
        ax: axes to draw on; a new figure by default.

    Raises:
        TorchscapeError: without predictions, if they are not of these inputs, or for a level outside 0..1.

    Example:
        >>> import torch
        >>> from torchscape import plots
        >>> x = torch.linspace(0, 1, 5).double()
        >>> picture = plots.predictive_bands(x, {"one": NormalMixture.of(x[None], torch.ones(1, 5).double())})
        >>> picture.names
        ('one',)
        >>> plt.close(picture.figure)
    """
    m = inputs.numel()
    if not predictions or any(one.means.shape[1] != m for one in predictions.values()):
        raise TorchscapeError(f"give predictions at the {m} inputs, one number each")
    if not 0 < level < 1:
        raise TorchscapeError(f"the level of an interval lies between 0 and 1, not at {level}")
    axes = axes_of(ax, size=(7.0, 4.4))
    order = inputs.flatten().argsort()
    x = inputs.flatten()[order].cpu().numpy()
    palette = categories(len(predictions))
    for k, (name, one) in enumerate(predictions.items()):
        colour = palette[k % len(palette)]
        low, high = (one.quantile(0.5 + sign * level / 2)[order].cpu().numpy() for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.13, lw=0)
        for edge in (low, high):
            axes.plot(x, edge, color=colour, lw=0.8, alpha=0.7)
        axes.plot(x, one.expectation[order].cpu().numpy(), color=colour, lw=1.8, label=name)
    if data is not None:
        known, targets = (values.flatten().cpu().numpy() for values in data)
        axes.plot(known, targets, "o", ms=4.5, color="0.1", label="data", zorder=5)
    axes.set_xlabel("input")
    axes.set_ylabel("target")
    axes.set_title(f"expectation and {level:.0%} interval", fontsize=8, loc="right", color="0.35")
    axes.set_xlim(x[0], x[-1])
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(axes, 4, fontsize=9)
    return BandPlot(figure_of(axes), axes, tuple(predictions))


def _points(axes: Axes, values: Tensor, errors: Tensor, place: np.ndarray, reference: int, marker="o") -> None:
    """Values with error bars, the baseline in its own colour."""
    x, error = values.cpu().numpy(), errors.cpu().numpy()
    other = np.arange(len(x)) != reference
    for some, colour in ((other, _OTHER), (~other, _BASELINE)):
        axes.errorbar(
            x[some], place[some], xerr=error[some], fmt=marker, ms=4.5, color=colour, lw=1.2, capsize=2, zorder=3
        )
