"""Distributions: how many neighbours minima have, and how high the barriers are."""

from __future__ import annotations

import dataclasses

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import zeta

from torchscape import analysis
from torchscape.analysis import Barriers, DegreeLaw
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.plots.canvas import (
    Picture,
    axes_of,
    counting,
    expect_nothing_to_make,
    figure_of,
    legend_below,
    logarithmic,
    with_unit,
)

__all__ = ["BarrierPlot", "DegreePlot", "barriers", "degree_distribution"]

_DEGREES, _MINIMA = 6, 10  # different degrees, and minima that have them: of fewer any law is one


@dataclasses.dataclass(frozen=True, repr=False)
class DegreePlot(Picture):
    """A drawn degree distribution.

    Attributes:
        figure, axes: where it was drawn.
        degree, at_least: fraction of minima with at least so many neighbours.
        law: the fitted laws; None where too few minima or different degrees allow none.
    """

    figure: Figure
    axes: Axes
    degree: np.ndarray
    at_least: np.ndarray
    law: DegreeLaw | None

    @property
    def _content(self) -> str:
        return f"degrees {self.degree[0]} to {self.degree[-1]}"


def degree_distribution(
    network: Network | DegreeLaw,
    *,
    k_min: int | None = None,
    n_bootstrap: int | None = None,
    seed: int | None = None,
    ax: Axes | None = None,
) -> DegreePlot:
    """Fraction of minima with at least k neighbours, with the power law and the exponential fitted by likelihood.

    The cumulative distribution needs no bins. The legend gives both fits with their standard errors, and the
    title what the likelihood ratio says. To fewer than six different degrees, or ten minima, none is drawn: any
    law would fit.

    Args:
        network: N minima, E transition states; or what :func:`torchscape.analysis.degree_law` says of them.
        k_min, n_bootstrap, seed: with which that is asked, 100 samples by default.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> from torchscape import plots
        >>> star = [(0, k) for k in range(1, 12)] + [(1, 2)]
        >>> picture = plots.degree_distribution(Network.of(range(12), star, [20.0] * 12))
        >>> picture.degree.tolist(), picture.law
        ([1, 2, 11], None)
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    law, reason = None, ""
    if isinstance(network, DegreeLaw):
        expect_nothing_to_make(
            "degree_distribution", "analysis.degree_law", k_min=k_min, n_bootstrap=n_bootstrap, seed=seed
        )
        law = network
        by_degree = law.counts
    else:
        by_degree = analysis.degree_distribution(network)
    counts = by_degree.cpu().numpy()[1:]
    if not counts.any():
        raise TorchscapeError("no two minima are connected: search for transition states first")
    if not isinstance(network, DegreeLaw):
        n = 100 if n_bootstrap is None else n_bootstrap
        try:
            law = analysis.degree_law(network, k_min=k_min, n_bootstrap=n, seed=seed or 0)
        except TorchscapeError as error:
            reason = str(error).split(":")[0]
    degree = counts.nonzero()[0] + 1
    if law is not None and (few := _too_few(law, degree)):
        law, reason = None, few
    n_connected = counts.sum()
    at_least = counts[degree - 1][::-1].cumsum()[::-1] / n_connected
    axes = axes_of(ax, size=(6.0, 4.2))
    axes.plot(degree, at_least, "o", ms=4, color="black", label="network")
    if law is not None:
        _draw_laws(axes, law, law.n_tail / n_connected, float(degree[-1]))
    axes.set_title(reason if law is None else _verdict(law), fontsize=8, loc="right", color="0.35")
    axes.set_xscale("log")
    logarithmic(axes, float(at_least[-1]), 1.0, vertical=True)
    if degree[-1] < 60:  # whole numbers instead of powers of ten
        shown = range(1, 60) if degree[-1] - degree[0] < 10 else (1, 2, 3, 5, 10, 20, 40)
        ticks = [t for t in shown if degree[0] <= t <= degree[-1]] or [int(degree[0]), int(degree[-1])]
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_xticks([], minor=True)
    axes.set_xlabel("number of neighbours $k$")
    axes.set_ylabel("fraction of minima with at least $k$")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return DegreePlot(figure_of(axes), axes, degree, at_least, law)


def _too_few(law: DegreeLaw, degree: np.ndarray) -> str:
    """Why no law is drawn; "" where there is enough to tell one from another."""
    different = int((degree >= law.k_min).sum())
    if different < _DEGREES:
        return f"{different} different degrees: too few for a law"
    return f"{law.n_tail} minima: too few for a law" if law.n_tail < _MINIMA else ""


def _draw_laws(axes: Axes, law: DegreeLaw, tail: float, last: float) -> None:
    x = np.geomspace(law.k_min, max(last, law.k_min + 1.0), 200)
    power = tail * zeta(law.exponent, x) / zeta(law.exponent, law.k_min)
    exponential = tail * np.exp(-law.rate * (x - law.k_min))
    floor = 0.3 * tail / law.n_tail
    label = rf"$k^{{-\alpha}}$, $\alpha$ = {law.exponent:.2f} ± {law.exponent_sd:.2f}"
    axes.plot(x[power > floor], power[power > floor], color="#c8382d", lw=1.2, label=label)
    label = rf"$e^{{-\lambda k}}$, $\lambda$ = {law.rate:.2f} ± {law.rate_sd:.2f}"
    axes.plot(x[exponential > floor], exponential[exponential > floor], color="#1f6fb4", ls="--", label=label)


def _verdict(law: DegreeLaw) -> str:
    what = "undecided" if law.favours == "undecided" else f"{law.favours} likelier"
    return (
        f"k ≥ {law.k_min}, {law.n_tail} minima: {what} "
        f"(log-likelihood ratio {law.log_likelihood_ratio:+.1f}, p = {law.p_value:.2g})"
    )


@dataclasses.dataclass(frozen=True, repr=False)
class BarrierPlot(Picture):
    """A drawn histogram of barriers.

    Attributes:
        figure, axes: where it was drawn.
        edges: edges of the bins.
        counts: number of transition states in each bin, by side.
    """

    figure: Figure
    axes: Axes
    edges: np.ndarray
    counts: dict[str, np.ndarray]

    @property
    def _content(self) -> str:
        return f"{int(self.counts['uphill'].sum())} transition states"


def barriers(
    network: Network | Barriers,
    *,
    bins: int | None = None,
    gaps: bool = False,
    unit: str | None = None,
    ax: Axes | None = None,
) -> BarrierPlot:
    """Histogram of the barriers of all transition states: uphill from the lower, downhill from the higher minimum.

    Args:
        network: N minima, E transition states; or their barriers, from :func:`torchscape.analysis.barriers`.
        bins: number of bins; by the Freedman-Diaconis rule by default.
        gaps: also show the energy differences between the two minima.
        unit: unit of the energy.
        ax: axes to draw on; a new figure by default.

    Where the barriers span more than three orders of magnitude their logarithms are binned; gaps below the lowest
    barrier then count in the first bin.

    Example:
        >>> from torchscape import plots
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 0.5])
        >>> picture = plots.barriers(net, bins=4)
        >>> picture.counts["uphill"].tolist(), picture.counts["downhill"].tolist()
        ([1, 0, 0, 1], [1, 0, 1, 0])
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    both = network if isinstance(network, Barriers) else analysis.barriers(network)
    if len(both.uphill) == 0:
        raise TorchscapeError("no transition states, no barriers: search for transition states first")
    parts = {"uphill": both.uphill, "downhill": both.downhill, **({"energy gap": both.gap} if gaps else {})}
    data = {name: values.double().cpu().numpy() for name, values in parts.items()}
    both_sides = np.concatenate([data["uphill"], data["downhill"]])
    by_decade = bool((both_sides > 0).all()) and both_sides.max() > 1e3 * both_sides.min()
    sample = np.log10(both_sides) if by_decade else np.concatenate(list(data.values()))
    edges = np.histogram_bin_edges(sample, bins or _count(sample))
    if by_decade:
        edges = 10.0**edges
        data = {name: np.maximum(values, edges[0]) for name, values in data.items()}
    axes = axes_of(ax, size=(6.0, 4.2))
    counts = {}
    for (name, values), colour in zip(data.items(), ("#1f6fb4", "#c8382d", "0.5"), strict=False):
        counts[name] = np.histogram(values, edges)[0]
        axes.stairs(counts[name], edges, fill=name != "energy gap", alpha=0.45, color=colour, label=name)
        axes.stairs(counts[name], edges, color=colour, lw=1.2)
    if by_decade:
        logarithmic(axes, float(edges[0]), float(edges[-1]))
    counting(axes, y=True)
    axes.set_xlabel(with_unit("barrier or gap" if gaps else "barrier", unit))
    axes.set_ylabel("number of transition states")
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(axes, 3)
    return BarrierPlot(figure_of(axes), axes, edges, counts)


def _count(values: np.ndarray) -> int:
    """Freedman & Diaconis (doi 10.1007/BF01025868), between 8 and 60 bins."""
    quartiles = np.quantile(values, [0.25, 0.75])
    width = 2.0 * (quartiles[1] - quartiles[0]) / len(values) ** (1 / 3)
    return int(np.clip(np.ptp(values) / width, 8, 60)) if width > 0 else 8
