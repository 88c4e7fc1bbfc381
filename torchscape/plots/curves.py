"""Thermodynamics against temperature: heat capacity, occupation, entropy, frustration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchscape import analysis
from torchscape.analysis.thermodynamics.superposition import as_temperatures
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.plots.canvas import Picture, axes_of, figure_of, legend_below, logarithmic, with_unit
from torchscape.types import Float, Tensor

__all__ = ["CurvePlot", "entropy", "frustration", "heat_capacity", "occupation", "temperature_grid"]

_LOSING, _GAINING = "#1f6fb4", "#c8382d"
_DWARFS = 3.0  # so many times the height of the peaks
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
    network: Network,
    temperatures: Sequence[float] | Float[Tensor, "T"] | None = None,
    *,
    contributions: bool = True,
    lowest: Sequence[int] = (),
    peaks: bool = True,
    excess: bool | None = None,
    unit: str | None = None,
    ax: Axes | None = None,
) -> CurvePlot:
    """Heat capacity against temperature, with what the emptying and the filling minima add to it.

    Args:
        network: N minima.
        temperatures: where to evaluate; around the peaks by default.
        contributions: also draw the sums over the minima whose population falls and grows with temperature.
        lowest: also draw the heat capacity of only the lowest m minima, for each m here.
        peaks: mark the peaks with their temperatures.
        excess: draw what the exchange between minima adds to the heat capacity of a single one, half the number of
            its modes. By default where this would dwarf the peaks, as it does with many parameters.
        unit: unit of the temperature, for the axis label.
        ax: axes to draw on; a new figure by default.

    Reference: Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, Fig. 3; Ballard et al.
    (2017), doi 10.1039/c7cp01108c, Fig. 3.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.heat_capacity(Network.of([0.0, 1.0, 1.1], [], []))
        >>> sorted(picture.curves)
        ['emptying minima', 'filling minima', 'total']
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    grid = temperature_grid(network, temperatures)
    t, result = _numpy(grid), analysis.heat_capacity(network, grid)
    axes = axes_of(ax, size=(6.5, 4.2))
    exchange, single = result.losing + result.gaining, result.baseline
    if excess is None:
        excess = bool(single.max() > _DWARFS * exchange.max())
    curves = {"total": (t, _numpy(exchange if excess else result.value))}
    if contributions:
        curves["emptying minima"] = t, _numpy(result.losing)
        curves["filling minima"] = t, _numpy(result.gaining)
    if len(lowest):
        partial = analysis.partial_heat_capacities(network, grid, [int(m) for m in lowest])
        partial = partial - single if excess else partial
        curves.update({f"lowest {m} minima": (t, _numpy(row)) for m, row in zip(lowest, partial, strict=True)})
    styles: dict[str, dict[str, Any]] = {
        "total": {"color": "black", "lw": 1.8},
        "emptying minima": {"color": _LOSING, "ls": "--"},
        "filling minima": {"color": _GAINING, "ls": "-."},
    }
    for name, (x, y) in curves.items():
        axes.plot(x, y, label=name, **styles.get(name, {"lw": 1.0}))
    if peaks:
        _mark_peaks(axes, network, t, excess)
    low, high = float(single.min()), float(single.max())
    less = f" above {low:g}" if high - low < 1e-9 * high else " above that of single minima"
    _label(axes, t, f"heat capacity{less if excess else ''} ($k_B$)", unit)
    if len(curves) > 1:
        legend_below(axes, 3)
    return CurvePlot(figure_of(axes), axes, curves)


def occupation(
    network: Network,
    temperatures: Sequence[float] | Float[Tensor, "T"] | None = None,
    *,
    most: int = 8,
    unit: str | None = None,
    ax: Axes | None = None,
) -> CurvePlot:
    """Occupation of the minima against temperature: those that matter somewhere, and the rest together.

    Args:
        network: N minima.
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
    grid = temperature_grid(network, temperatures)
    t, p = _numpy(grid), _numpy(analysis.occupation(network, grid))
    chosen = np.argsort(-p.max(0), kind="stable")[: max(most, 1)]
    chosen = chosen[np.argsort(_numpy(network.levels)[chosen], kind="stable")]
    ids = network.ids.cpu().tolist()
    curves = {f"minimum {ids[k]}": (t, p[:, k]) for k in chosen.tolist()}
    if len(chosen) < p.shape[1]:
        curves[f"{p.shape[1] - len(chosen)} others"] = t, np.clip(1.0 - p[:, chosen].sum(1), 0.0, 1.0)
    axes = axes_of(ax, size=(6.5, 4.2))
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, len(chosen)))
    for (name, (x, y)), shade in zip(curves.items(), [*shades, (0.6, 0.6, 0.6, 1.0)], strict=False):
        axes.plot(x, y, label=name, color=tuple(shade), ls="--" if name.endswith("others") else "-")
    _label(axes, t, "occupation probability", unit)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return CurvePlot(figure_of(axes), axes, curves)


def entropy(
    network: Network,
    temperatures: Sequence[float] | Float[Tensor, "T"] | None = None,
    *,
    unit: str | None = None,
    ax: Axes | None = None,
) -> CurvePlot:
    """Shannon entropy of the occupation probabilities against temperature, up to ln N where all are equal.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.entropy(Network.of([0.0, 1.0, 1.1], [], []))
        >>> sorted(picture.curves)
        ['Shannon entropy']
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    grid = temperature_grid(network, temperatures)
    curve = _numpy(grid), _numpy(analysis.shannon_entropy(network, grid))
    axes = axes_of(ax, size=(6.5, 4.2))
    axes.plot(*curve, color="black")
    axes.axhline(np.log(network.n_minima), color="0.7", lw=0.8, ls=":")
    axes.annotate(  # on the left, where the entropy is low
        f"ln {network.n_minima}", (0.0, np.log(network.n_minima)), xycoords=("axes fraction", "data"), fontsize=8,
        xytext=(4, -2), textcoords="offset points", ha="left", va="top", color="0.4",
    )  # fmt: skip
    axes.margins(y=0.08)
    _label(axes, curve[0], "Shannon entropy ($k_B$)", unit)
    return CurvePlot(figure_of(axes), axes, {"Shannon entropy": curve})


def frustration(
    network: Network,
    temperatures: Sequence[float] | Float[Tensor, "T"] | None = None,
    *,
    unit: str | None = None,
    ax: Axes | None = None,
) -> CurvePlot:
    """Frustration index, as defined and normalised by the population outside the global minimum.

    Only the minima that a path connects to the global minimum enter.

    Reference: de Souza et al., J. Chem. Phys. 146, 124103 (2017), doi 10.1063/1.4977794.

    Example:
        >>> from torchscape import plots
        >>> picture = plots.frustration(Network.of([0.0, 1.0], [(0, 1)], [3.0]))
        >>> sorted(picture.curves)
        ['frustration', 'normalised']
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    if network.n_minima < 2:
        raise TorchscapeError("frustration compares minima with the lowest one: find at least two of them first")
    joined = network.component_of(network.global_minimum)
    if joined.n_minima < 2:
        raise TorchscapeError("no path leads to the lowest minimum: search for transition states first")
    grid = temperature_grid(joined, temperatures)
    result = analysis.frustration(joined, grid)
    t = _numpy(grid)
    curves = {"frustration": (t, _numpy(result.value)), "normalised": (t, _numpy(result.normalised))}
    axes = axes_of(ax, size=(6.5, 4.2))
    for (name, (x, y)), style in zip(curves.items(), ("-", "--"), strict=True):
        axes.plot(x, y, label=name, ls=style, color="black" if style == "-" else _GAINING)
    _label(axes, t, "frustration index", unit)
    axes.legend(frameon=False)
    if joined.n_minima < network.n_minima:
        text = f"{joined.n_minima} of {network.n_minima} minima: those connected to the lowest"
        axes.set_title(text, fontsize=8, loc="right", color="0.35")
    return CurvePlot(figure_of(axes), axes, curves)


def temperature_grid(
    network: Network, temperatures: Sequence[float] | Float[Tensor, "T"] | None = None, n: int = 300
) -> Float[Tensor, "T"]:
    """The temperatures given, or n of them on a logarithmic scale around the peaks of the heat capacity.

    Without a peak, from a fiftieth of :func:`torchscape.analysis.energy_scale` to twice that.
    """
    if temperatures is not None:
        chosen = as_temperatures(network, temperatures)
        if not len(chosen):
            raise TorchscapeError("no temperatures are no curve: give some, or None to have them chosen")
        return chosen
    if network.n_minima < 2:
        raise TorchscapeError("fewer than two minima have no temperature scale: give the temperatures")
    at = [peak.temperature for peak in analysis.heat_capacity_peaks(network)]
    spread = analysis.energy_scale(network)
    low, high = (at[0] / 4.0, at[-1] * 4.0) if at else (spread / 50.0, spread * 2.0)
    grid = np.geomspace(low, high, n)
    # A peak narrower than the grid would be cut off.
    return torch.as_tensor(np.unique(np.concatenate([grid, at]))).to(network.energy)


def _mark_peaks(axes: Axes, network: Network, t: np.ndarray, excess: bool) -> None:
    found = analysis.heat_capacity_peaks(network, t_min=float(t.min()), t_max=float(t.max()))
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
