"""Thermodynamics against temperature: heat capacity, occupation, entropy, frustration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchscape import analysis
from torchscape.analysis import Frustration, HeatCapacity, Peak
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.plots.canvas import (
    Picture,
    axes_of,
    expect_nothing_to_make,
    figure_of,
    legend_below,
    logarithmic,
    with_unit,
)
from torchscape.plots.colours import categories
from torchscape.plots.temperatures import a_row, given_grid, peaks_within, temperature_grid
from torchscape.types import Float, Tensor

__all__ = ["CurvePlot", "entropy", "frustration", "heat_capacity", "occupation"]

_LOSING, _GAINING = "#1f6fb4", "#c8382d"
_LOG_FROM = 15.0  # a range of temperatures wider than this factor is drawn on a logarithmic axis


@dataclasses.dataclass(frozen=True, repr=False)
class CurvePlot(Picture):
    """Curves on one set of axes.

    Attributes:
        figure, axes: where they were drawn.
        curves: the points of each curve by name, as (x, y).
    """

    figure: Figure
    axes: Axes
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @property
    def _content(self) -> str:
        return ", ".join(self.curves) if len(self.curves) < 4 else f"{len(self.curves)} curves"


def heat_capacity(
    network: Network | HeatCapacity,
    temperatures: Sequence[float] | Float[Tensor, "T"] | None = None,
    *,
    contributions: bool = True,
    lowest: Sequence[int] = (),
    peaks: bool | Sequence[Peak] | None = None,
    excess: bool = True,
    unit: str | None = None,
    ax: Axes | None = None,
) -> CurvePlot:
    """Heat capacity against temperature, with what the emptying and the filling minima add to it.

    Args:
        network: N minima, or what :func:`torchscape.analysis.heat_capacity` says of them at several temperatures.
        temperatures: where to evaluate a network; around the peaks by default.
        contributions: also draw the sums over the minima whose population falls and grows with temperature.
        lowest: also draw the heat capacity of only the lowest m minima of the network, for each m here.
        peaks: mark the peaks with their temperatures: True for those of the network, which is the default where it
            is given, or those here (:func:`torchscape.analysis.heat_capacity_peaks`).
        excess: draw what the exchange between minima adds to the heat capacity of a single one, half the number of
            its modes: then all curves count from zero. Otherwise all of them stand on that of a single one.
        unit: unit of the temperature, for the axis label.
        ax: axes to draw on; a new figure by default.

    Raises:
        TorchscapeError: if something is asked of a result that only its network can answer.

    Reference: Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, Fig. 3; Ballard et al.
    (2017), doi 10.1039/c7cp01108c, Fig. 3.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.heat_capacity(Network.of([0.0, 1.0, 1.1], [], []))
        >>> sorted(picture.curves)
        ['emptying minima', 'filling minima', 'total']
        >>> result = analysis.heat_capacity(Network.of([0.0, 1.0, 1.1], [], []), [0.1, 0.2, 0.3])
        >>> plots.heat_capacity(result, ax=picture.axes).curves["total"][0].tolist()
        [0.1, 0.2, 0.3]
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    result, marked = _capacity(network, temperatures, lowest, peaks)
    grid = result.temperatures
    t = _numpy(grid)
    axes = axes_of(ax, size=(6.5, 4.2))
    exchange, single = result.losing + result.gaining, result.baseline
    floor = torch.zeros_like(single) if excess else single
    curves = {"total": (t, _numpy(floor + exchange))}
    if contributions:
        curves["emptying minima"] = t, _numpy(floor + result.losing)
        curves["filling minima"] = t, _numpy(floor + result.gaining)
    if len(lowest) and isinstance(network, Network):
        partial = analysis.partial_heat_capacities(network, grid, [int(m) for m in lowest])
        partial = partial - single if excess else partial
        curves.update({f"lowest {m} minima": (t, _numpy(row)) for m, row in zip(lowest, partial, strict=True)})
    styles: dict[str, dict[str, Any]] = {
        "total": {"color": "black", "lw": 1.8},
        "emptying minima": {"color": _LOSING, "ls": "--"},
        "filling minima": {"color": _GAINING, "ls": "-."},
    }
    shades = categories(max(len(lowest), 1))
    for number, m in enumerate(lowest):
        styles[f"lowest {m} minima"] = {"color": tuple(shades[number % len(shades)]), "lw": 1.0}
    for name, (x, y) in curves.items():
        axes.plot(x, y, label=name, **styles[name])
    if not excess:
        axes.plot(t, _numpy(floor), color="0.6", lw=0.8, ls=":", label="a single minimum")
    _mark_peaks(axes, marked, excess)
    low, high = float(single.min()), float(single.max())
    less = f" above {low:g}" if high - low < 1e-9 * high else " above that of single minima"
    _label(axes, t, f"heat capacity{less if excess else ''} ($k_B$)", unit)
    if len(curves) > 1:
        legend_below(axes, 3)
    return CurvePlot(figure_of(axes), axes, curves)


def occupation(
    network: Network | Float[Tensor, "T N"],
    temperatures: Sequence[float] | Float[Tensor, "T"] | None = None,
    *,
    most: int = 8,
    unit: str | None = None,
    ax: Axes | None = None,
) -> CurvePlot:
    """Occupation of the minima against temperature: those that matter somewhere, and the rest together.

    Args:
        network: N minima, or their :func:`torchscape.analysis.occupation` at the temperatures given; these are
            numbered by their positions, as those of a network are.
        temperatures: where to evaluate; around the peaks of the heat capacity by default.
        most: number of minima with a curve of their own: those with the highest occupation at any temperature.
        unit: unit of the temperature.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.occupation(Network.of([0.0, 1.0, 1.1], [], []), most=2)
        >>> sorted(picture.curves)
        ['1 others', 'minimum 0', 'minimum 1']
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    if isinstance(network, Tensor):
        grid, found = given_grid(temperatures, network, "occupation probabilities"), network
        height = np.arange(network.shape[1])
    else:
        grid = temperature_grid(network, temperatures)
        found = analysis.occupation(network, grid)
        height = _numpy(network.levels)
    t, p = _numpy(grid), _numpy(found)
    chosen = np.argsort(-p.max(0), kind="stable")[: max(most, 1)]
    chosen = chosen[np.argsort(height[chosen], kind="stable")]
    curves = {f"minimum {k}": (t, p[:, k]) for k in chosen.tolist()}
    if len(chosen) < p.shape[1]:
        curves[f"{p.shape[1] - len(chosen)} others"] = t, np.clip(1.0 - p[:, chosen].sum(1), 0.0, 1.0)
    axes = axes_of(ax, size=(6.5, 4.2))
    palette = categories(len(chosen))
    for number, (name, (x, y)) in enumerate(curves.items()):
        others = number == len(chosen)
        shade = (0.6, 0.6, 0.6, 1.0) if others else tuple(palette[number % len(palette)])
        again = number // len(palette)  # more minima than colours: the next round is drawn otherwise
        axes.plot(x, y, label=name, color=shade, ls="--" if others else ("-", ":", "-.")[again % 3])
    _label(axes, t, "occupation probability", unit)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return CurvePlot(figure_of(axes), axes, curves)


def entropy(
    network: Network | Float[Tensor, "T"],
    temperatures: Sequence[float] | Float[Tensor, "T"] | None = None,
    *,
    unit: str | None = None,
    ax: Axes | None = None,
) -> CurvePlot:
    """Shannon entropy of the occupation probabilities against temperature, up to ln N where all are equal.

    Args:
        network: N minima, or their :func:`torchscape.analysis.shannon_entropy` at the temperatures given.
        temperatures: where to evaluate; around the peaks of the heat capacity by default.
        unit: unit of the temperature.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.entropy(Network.of([0.0, 1.0, 1.1], [], []))
        >>> sorted(picture.curves)
        ['Shannon entropy']
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    if isinstance(network, Tensor):
        grid, found = given_grid(temperatures, network, "entropies"), network
    else:
        grid = temperature_grid(network, temperatures)
        found = analysis.shannon_entropy(network, grid)
    curve = _numpy(grid), _numpy(found)
    axes = axes_of(ax, size=(6.5, 4.2))
    axes.plot(*curve, color="black")
    if isinstance(network, Network):
        most = np.log(network.n_minima)
        axes.axhline(most, color="0.7", lw=0.8, ls=":")
        axes.annotate(  # on the left, where the entropy is low
            f"ln {network.n_minima}", (0.0, most), xycoords=("axes fraction", "data"), fontsize=8,
            xytext=(4, -2), textcoords="offset points", ha="left", va="top", color="0.4",
        )  # fmt: skip
    axes.margins(y=0.08)
    _label(axes, curve[0], "Shannon entropy ($k_B$)", unit)
    return CurvePlot(figure_of(axes), axes, {"Shannon entropy": curve})


def frustration(
    network: Network | Frustration,
    temperatures: Sequence[float] | Float[Tensor, "T"] | None = None,
    *,
    unit: str | None = None,
    ax: Axes | None = None,
) -> CurvePlot:
    """Frustration index, as defined and normalised by the population outside the global minimum.

    Of a network, only the minima that a path connects to the global minimum enter.

    Args:
        network: N minima, E transition states; or what :func:`torchscape.analysis.frustration` says of them.
        temperatures: where to evaluate a network; around the peaks of the heat capacity by default.
        unit: unit of the temperature.
        ax: axes to draw on; a new figure by default.

    Raises:
        TorchscapeError: with fewer than two minima, or no path to the lowest.

    Reference: de Souza et al., J. Chem. Phys. 146, 124103 (2017), doi 10.1063/1.4977794.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.frustration(Network.of([0.0, 1.0], [(0, 1)], [3.0]))
        >>> sorted(picture.curves)
        ['frustration', 'normalised']
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    note = ""
    if isinstance(network, Frustration):
        expect_nothing_to_make("frustration", "analysis.frustration", temperatures=temperatures)
        result, grid = network, a_row(network.temperatures)
    else:
        joined = _join(network)
        if joined.n_minima < network.n_minima:
            note = f"{joined.n_minima} of {network.n_minima} minima: those connected to the lowest"
        grid = temperature_grid(joined, temperatures)
        result = analysis.frustration(joined, grid)
    t = _numpy(grid)
    curves = {"frustration": (t, _numpy(result.value)), "normalised": (t, _numpy(result.normalised))}
    axes = axes_of(ax, size=(6.5, 4.2))
    for (name, (x, y)), style in zip(curves.items(), ("-", "--"), strict=True):
        axes.plot(x, y, label=name, ls=style, color="black" if style == "-" else _GAINING)
    _label(axes, t, "frustration index", unit)
    axes.legend(frameon=False)
    if note:
        axes.set_title(note, fontsize=8, loc="right", color="0.35")
    return CurvePlot(figure_of(axes), axes, curves)


def _join(network: Network) -> Network:
    """The minima that have a path to the lowest one."""
    if network.n_minima < 2:
        raise TorchscapeError("frustration compares minima with the lowest one: find at least two of them first")
    joined = network.component_of(network.global_minimum)
    if joined.n_minima < 2:
        raise TorchscapeError("no path leads to the lowest minimum: search for transition states first")
    return joined


def _capacity(
    network: Network | HeatCapacity,
    temperatures: Sequence[float] | Tensor | None,
    lowest: Sequence[int],
    peaks: bool | Sequence[Peak] | None,
) -> tuple[HeatCapacity, list[Peak]]:
    """The heat capacity to draw, and the peaks to mark on it."""
    if isinstance(network, HeatCapacity):
        options = {
            "temperatures": temperatures,
            "lowest": lowest or None,
            "peaks": True if peaks is True else None,
        }
        expect_nothing_to_make("heat_capacity", "analysis.heat_capacity", **options)
        result = network
    else:
        result = analysis.heat_capacity(network, temperature_grid(network, temperatures))
    grid = a_row(result.temperatures)
    if not isinstance(peaks, bool) and peaks is not None:
        return result, [peak for peak in peaks if grid.min() <= peak.temperature <= grid.max()]
    return result, peaks_within(network, grid) if isinstance(network, Network) and peaks is not False else []


def _mark_peaks(axes: Axes, found: Sequence[Peak], excess: bool) -> None:
    if not found:
        return
    rises = [float(peak.contribution.sum()) for peak in found]
    for peak, rise in zip(found, rises, strict=True):
        height = rise if excess else peak.value
        axes.plot(peak.temperature, height, "o", ms=4, color="black")
        if rise > 0.1 * max(rises):
            axes.annotate(
                f"{peak.temperature:.3g}", (peak.temperature, height), xytext=(0, 5),
                textcoords="offset points", ha="center", fontsize=8,
            )  # fmt: skip
    axes.margins(y=0.12)


def _label(axes: Axes, t: np.ndarray, quantity: str, unit: str | None) -> None:
    if t.min() > 0 and t.max() / t.min() > _LOG_FROM:
        logarithmic(axes, float(t.min()), float(t.max()))
    axes.set_xlabel(with_unit("temperature", unit))
    axes.set_ylabel(quantity)
    axes.spines[["top", "right"]].set_visible(False)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
