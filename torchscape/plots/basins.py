"""Volumes of basins of attraction: their distribution, and the integral each came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchscape.errors import TorchscapeError
from torchscape.plots.canvas import Picture, axes_of, figure_of, logarithmic
from torchscape.plots.colours import categories
from torchscape.types import Float, Tensor

__all__ = ["RestraintPlot", "VolumePlot", "restraint_integrand", "volume_distribution"]

_SEEN, _TRUE = "#1f6fb4", "#c8382d"


@runtime_checkable
class _Density(Protocol):
    def log_prob(self, y: Tensor, /) -> Tensor: ...


@dataclasses.dataclass(frozen=True, repr=False)
class VolumePlot(Picture):
    """Distributions of ln v on one set of axes.

    Attributes:
        figure, axes: where they were drawn.
        edges: of the bins.
        observed, unbiased: densities in the bins.
    """

    figure: Figure
    axes: Axes
    edges: np.ndarray
    observed: np.ndarray
    unbiased: np.ndarray

    @property
    def _content(self) -> str:
        return f"{len(self.observed)} bins of ln v from {self.edges[0]:.3g} to {self.edges[-1]:.3g}"


def volume_distribution(
    log_volume: Float[Tensor, "n"],
    *,
    fit: _Density | None = None,
    n_bins: int | None = None,
    ax: Axes | None = None,
) -> VolumePlot:
    """The distribution of ln v as random starts see it, and unbiased, each basin counted once.

    Where the unbiased one is cut off at its left end, basins are missing that were too small to be hit, and the
    number of minima is underestimated.

    Args:
        log_volume: ln v of the basin that each start ended in.
        fit: a density of ln v with ``log_prob``, such as that of ``count_minima(..., parametric=True)``; drawn
            with its own unbiased partner exp(-ln v) p(ln v).
        n_bins: of the histograms; twice the cube root of n by default.
        ax: axes to draw on; a new figure by default.

    Raises:
        TorchscapeError: for fewer than 3 volumes, or volumes that are not finite.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.volume_distribution(torch.linspace(-1, 1, 50), n_bins=4)
        >>> picture.observed.shape
        (4,)
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    y = log_volume.detach().cpu().double()
    if len(y) < 3 or not bool(torch.isfinite(y).all()):
        raise TorchscapeError("3 finite volumes or more are needed: leave out basins whose volume is NaN")
    edges = np.histogram_bin_edges(y.numpy(), bins=n_bins or max(4, round(2 * len(y) ** (1 / 3))))
    axes = axes_of(ax, size=(6.5, 4.2))
    weight = {"as hit by starts": torch.full_like(y, 1 / len(y)), "each basin once": (-y).softmax(0)}
    heights = []
    for (name, w), colour in zip(weight.items(), (_SEEN, _TRUE), strict=True):
        height = np.histogram(y.numpy(), bins=edges, weights=w.numpy(), density=True)[0]
        axes.stairs(height, edges, fill=True, color=colour, alpha=0.3, label=name)
        axes.stairs(height, edges, color=colour, lw=1.2)
        heights.append(height)
    if fit is not None:
        _draw_fit(axes, fit, edges)
    axes.set_xlabel("ln v")
    axes.set_ylabel("density")
    axes.set_ylim(bottom=0)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, 1.25 * top)  # room for the legend
    axes.legend(frameon=False, ncols=2, loc="upper center")
    return VolumePlot(figure_of(axes), axes, edges, *heights)


def _draw_fit(axes: Axes, fit: _Density, edges: np.ndarray) -> None:
    wide = edges[-1] - edges[0]
    y = torch.linspace(edges[0] - 0.5 * wide, edges[-1] + 0.25 * wide, 800, dtype=torch.float64)
    seen = fit.log_prob(y)
    true = seen - y
    true = true - true.logsumexp(0) - torch.log(y[1] - y[0])
    axes.plot(y, seen.exp(), color=_SEEN, lw=1.5, label="fit")
    axes.plot(y, true.exp(), color=_TRUE, lw=1.5, ls="--", label="fit, each basin once")


@dataclasses.dataclass(frozen=True, repr=False)
class RestraintPlot(Picture):
    """What is integrated over the force constants.

    Attributes:
        figure, axes: where it was drawn.
        force_constant, value, error: the points, one row per basin.
    """

    figure: Figure
    axes: Axes
    force_constant: np.ndarray
    value: np.ndarray
    error: np.ndarray

    @property
    def _content(self) -> str:
        return f"{len(self.force_constant)} basins, {self.force_constant.shape[1]} force constants"


def restraint_integrand(
    force_constant: Float[Tensor, "N K"],
    mean_square: Float[Tensor, "N K"],
    error: Float[Tensor, "N K"],
    *,
    ndim: int,
    names: Sequence[str] = (),
    ax: Axes | None = None,
) -> RestraintPlot:
    """<r^2>_k against the force constant k, with error bars, as ``basin_volumes`` measured them.

    The first point of each curve is k = 0. The dotted line is D / k, where the restraint alone holds the walker: a
    curve that has not come down to it shows how much of the stiffest Gaussian still reaches out of the basin.

    Args:
        force_constant, mean_square, error: of N basins at K force constants.
        ndim: D.
        names: of the basins, for a legend; none by default.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> from torchscape import plots
        >>> k = torch.tensor([[0.0, 1.0, 10.0]])
        >>> picture = plots.restraint_integrand(k, 2 / (k + 1), 0.1 / (k + 1), ndim=2)
        >>> picture.value.shape
        (1, 3)
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    if names and len(names) != len(force_constant):
        raise TorchscapeError(f"give one name for each of the {len(force_constant)} basins, not {len(names)}")
    k, value, bar = (part.detach().cpu().double().numpy() for part in (force_constant, mean_square, error))
    axes = axes_of(ax, size=(6.5, 4.2))
    positive = k[k > 0]
    linear = 10.0 ** np.ceil(
        np.log10(positive.min())
    )  # a power of ten, so that its label keeps clear of that of 0
    axes.set_xscale("symlog", linthresh=float(linear), linscale=0.7)
    palette = categories(len(k))
    for i in range(len(k)):
        axes.errorbar(
            k[i],
            value[i],
            bar[i],
            color=palette[i % len(palette)],
            marker="o",
            ms=4,
            lw=1.0,
            capsize=2,
            label=names[i] if names else None,
        )
    line = np.geomspace(positive.min(), 2 * positive.max(), 200)
    axes.plot(line, ndim / line, color="0.4", ls=":", lw=1.2, label="D / k")
    low, high = 0.5 * value[value > 0].min(), 2 * value.max()
    logarithmic(axes, low, high, vertical=True)
    axes.set_ylim(low, high)
    axes.set_xlim(left=0)
    axes.set_xlabel("force constant k")
    axes.set_ylabel(r"$\langle r^2 \rangle_k$")
    axes.legend(frameon=False)
    return RestraintPlot(figure_of(axes), axes, k, value, bar)
