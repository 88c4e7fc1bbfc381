"""A heat-capacity peak and the two sides of its exchange: which minima empty, which fill."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from torchscape import analysis
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.plots.canvas import Picture, figure_of
from torchscape.plots.curves import CurvePlot, heat_capacity
from torchscape.plots.disconnectivity_graph import DisconnectivityPlot, disconnectivity

__all__ = ["PeakTrees", "heat_capacity_trees"]

_NEGLIGIBLE = 0.01  # per cent of the peak


@dataclasses.dataclass(frozen=True, repr=False)
class PeakTrees(Picture):
    """A heat-capacity curve and its matching pair of coloured trees.

    Attributes:
        figure: where it was drawn.
        curve: the heat capacity, with the chosen temperature marked.
        emptying, filling: trees coloured by the share in the peak of the minima that lose and gain population.
        temperature: the temperature of the peak.
    """

    figure: Figure
    curve: CurvePlot
    emptying: DisconnectivityPlot
    filling: DisconnectivityPlot
    temperature: float

    @property
    def _content(self) -> str:
        return f"peak at T = {self.temperature:.4g}"


def heat_capacity_trees(
    network: Network,
    temperature: float | None = None,
    *,
    levels: int | Sequence[float] | None = None,
    lowest: int | None = None,
    unit: str | None = None,
    axes: Sequence[Axes] | None = None,
) -> PeakTrees:
    """A peak of the heat capacity, and which minima it moves the population from and to.

    The minima of the first tree are coloured by g_a (E_a - <E>) of those whose population falls with temperature
    (g_a = dp_a / dT < 0), of the second by that of those whose population grows, both as a percentage of the sum
    over all minima at that temperature; minima with less than 0.01 % are grey.

    Args:
        network: N minima, E transition states.
        temperature: where; at the highest peak by default.
        levels, unit: as for :func:`~torchscape.plots.disconnectivity`; temperatures have the unit of energies.
        lowest: draw only this many of the lowest minima; twice as many as the peak needs by default.
        axes: three axes: for the curve, the emptying and the filling minima; a new figure by default.

    Raises:
        TorchscapeError: if the heat capacity has no peak and no temperature is given, or if no population moves at
            that temperature.

    Reference: Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, eq. 5 and Fig. 3.

    Example:
        >>> from torchscape import plots
        >>> net = Network.of([0.0, 1.0, 1.1], [(0, 1), (1, 2)], [2.0, 2.5])
        >>> picture = plots.heat_capacity_trees(net, 0.3)
        >>> picture.temperature, picture.emptying.n_trees
        (0.3, 1)
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    if temperature is None:
        peaks = analysis.heat_capacity_peaks(network)
        if not peaks:
            raise TorchscapeError("the heat capacity of these minima has no peak: give a temperature")
        temperature = max(peaks, key=lambda peak: peak.value).temperature
    if axes is None:
        _, panels = plt.subplot_mosaic("cc;ef", figsize=(10.0, 8.0), layout="constrained")
        axes = [panels["c"], panels["e"], panels["f"]]
    curve = heat_capacity(network, unit=unit, ax=axes[0])
    axes[0].axvline(temperature, color="0.6", lw=0.8, ls=":")
    parts = analysis.heat_capacity_contributions(network, temperature)
    change, value = parts.derivative, parts.value
    if not bool(value.sum() > 0):
        raise TorchscapeError(
            f"at T = {temperature:g} no population moves between the minima: give a temperature nearer to a peak"
        )
    share = 100.0 * value / value.sum()
    rank = network.levels.argsort(stable=True).argsort()
    if lowest is None:
        lowest = max(2 * (int(rank[share >= _NEGLIGIBLE].max()) + 1), 30)
    trees = []
    for title, side, cmap, where in (
        ("emptying", change < 0, "Blues", axes[1]),
        ("filling", change > 0, "Reds", axes[2]),
    ):
        scale = ListedColormap(mpl.colormaps[cmap](np.linspace(0.35, 1.0, 256)))  # nothing nearly white
        shown = torch.where(side & (share >= _NEGLIGIBLE), share, torch.full_like(share, torch.nan))
        top = float(shown.nan_to_num(0.0).max()) or 1.0
        trees.append(
            disconnectivity(
                network, colour=shown, levels=levels, lowest=min(lowest, network.n_minima), unit=unit, ax=where,
                colour_label=f"share of {title} minima in the peak (%)", cmap=scale, limits=(0.0, top),
            )
        )  # fmt: skip
        where.set_title(f"{title} at T = {temperature:.3g}", fontsize=9, loc="left")
    return PeakTrees(figure_of(axes[0]), curve, trees[0], trees[1], float(temperature))
