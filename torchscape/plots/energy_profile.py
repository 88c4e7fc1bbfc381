"""The energy along a path: minimum, transition state, minimum, and what lies between."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchscape import analysis
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.plots.canvas import Picture, axes_of, counting, figure_of, legend_below, with_unit
from torchscape.plots.labels import label_texts, place_labels
from torchscape.types import Float, Int, Tensor

__all__ = ["ProfilePlot", "profile"]


@runtime_checkable
class Path(Protocol):
    """Anything with the positions of K minima and of the K - 1 transition states between them."""

    @property
    def minima(self) -> Int[Tensor, "K"]: ...
    @property
    def transition_states(self) -> Int[Tensor, "J"]: ...


@dataclasses.dataclass(frozen=True, repr=False)
class ProfilePlot(Picture):
    """A drawn energy profile.

    Attributes:
        figure, axes: where it was drawn.
        minima, transition_states: positions in the network along the path.
        x, energy: the stationary points as drawn, minima and transition states in turn [2 K - 1].
    """

    figure: Figure
    axes: Axes
    minima: np.ndarray
    transition_states: np.ndarray
    x: np.ndarray
    energy: np.ndarray

    @property
    def _content(self) -> str:
        return f"{len(self.minima)} minima, {len(self.transition_states)} transition states"


def profile(
    network: Network,
    start: int | None = None,
    end: int | None = None,
    *,
    temperature: float | None = None,
    path: Path | None = None,
    legs: Mapping[int, tuple[Float[Tensor, "I"], Float[Tensor, "I"]]] | None = None,
    labels: bool | Literal["positions", "ids"] = True,
    unit: str | None = None,
    ax: Axes | None = None,
) -> ProfilePlot:
    """Energy profile along the fastest path between two minima.

    Args:
        network: N minima, E transition states.
        start, end: positions of the two minima.
        temperature: at which the path is the fastest; without it, the path with the lowest highest transition
            state is taken.
        path: a path of one's own instead (from :func:`torchscape.analysis.fastest_paths`, say).
        legs: for some transition states (by position) the integrated path over it, as arc lengths [I] and energies
            [I] from its minimum ``edges[0]`` to its minimum ``edges[1]``; by default those that the network
            carries (``network.ts_path``). The others are drawn as smooth curves through the stationary points, a
            guide to the eye; dashed where others are known.
        labels: number the minima as ``start`` and ``end`` do, 0 being the lowest of a landscape; or "ids" for
            those of the database.
        unit: unit of the energy.
        ax: axes to draw on; a new figure by default.

    Raises:
        TorchscapeError: if neither two minima nor a path are given, or if no path joins them.

    Example:
        >>> from torchscape import plots
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 0.5])
        >>> picture = plots.profile(net, 0, 2)
        >>> picture.energy.tolist()
        [0.0, 1.0, 0.2, 0.5, 0.1]
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    chosen = path if path is not None else _find(network, start, end, temperature)
    minima, ts = chosen.minima.cpu().numpy(), chosen.transition_states.cpu().numpy()
    energy = np.empty(2 * len(minima) - 1)
    energy[0::2] = network.energy.double().cpu().numpy()[minima]
    energy[1::2] = network.ts_energy.double().cpu().numpy()[ts]
    axes = axes_of(ax, size=(7.0, 4.2))
    legs = _stored(network, ts) if legs is None else legs
    x, curve = _draw_legs(axes, network, minima, ts, energy, legs)
    size = float(np.clip(120.0 / len(energy), 1.5, 6.0))
    axes.plot(x[0::2], energy[0::2], "o", ms=size, color="#1f6fb4", zorder=3, label="minima")
    axes.plot(x[1::2], energy[1::2], "^", ms=size, color="#c8382d", zorder=3, label="transition states")
    axes.set_xlabel("arc length along the path" if legs else "stationary point along the path")
    axes.set_ylabel(with_unit("energy", unit))
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(axes, 2)
    axes.margins(y=0.12)
    counting(axes, x=not legs)
    if labels:
        ends_first = np.lexsort((energy[0::2], ~np.isin(np.arange(len(minima)), [0, len(minima) - 1])))
        at = np.stack([x[0::2], energy[0::2]], 1)[ends_first]
        names, _ = label_texts(network, labels)
        texts = [names[k] for k in minima[ends_first].tolist()]
        place_labels(axes, at, texts, np.stack([curve[:-1], curve[1:]], 1))
    return ProfilePlot(figure_of(axes), axes, minima, ts, x, energy)


def _find(network: Network, start: int | None, end: int | None, temperature: float | None) -> Path:
    if start is None or end is None:
        raise TorchscapeError("give two minima (start and end), or a path")
    if temperature is None or start == end:
        return analysis.minimax_path(network, start, end)
    return analysis.fastest_path(network, temperature, end, start)


def _stored(network: Network, ts: np.ndarray) -> dict[int, tuple[Tensor, Tensor]]:
    """The integrated paths that the network carries for these transition states."""
    if network.ts_path is None:
        return {}
    return {
        s: (path[:, 0], path[:, 1]) for s in ts.tolist() if bool((path := network.ts_path[s]).isfinite().all())
    }


def _draw_legs(
    axes: Axes,
    network: Network,
    minima: np.ndarray,
    ts: np.ndarray,
    energy: np.ndarray,
    legs: Mapping[int, tuple[Tensor, Tensor]],
) -> tuple[np.ndarray, np.ndarray]:
    """The curve between the stationary points; returns their horizontal places, and the curve itself [K 2]."""
    first = network.edges[0].cpu().numpy()
    known = [float(legs[int(s)][0][-1] - legs[int(s)][0][0]) for s in ts if int(s) in legs]
    typical = float(np.mean(known)) if known else 2.0
    x = np.zeros(len(energy))
    drawn = [np.array([[0.0, energy[0]]])]
    for k, s in enumerate(ts):
        if int(s) in legs:
            along, height = (part.detach().double().cpu().numpy() for part in legs[int(s)])
            along = along - along[0]
            if first[s] != minima[k]:  # stored from the other side
                along, height = along[-1] - along[::-1], height[::-1]
            at_top = along[int(height.argmax())]
            axes.plot(x[2 * k] + along, height, color="black", lw=1.2)
        else:
            along, height = _guide(energy[2 * k : 2 * k + 3], typical)
            at_top = 0.5 * typical
            axes.plot(x[2 * k] + along, height, color="0.45", lw=1.0, ls="--" if known else "-")
        drawn.append(np.stack([x[2 * k] + along, height], 1))
        x[2 * k + 1], x[2 * k + 2] = x[2 * k] + at_top, x[2 * k] + along[-1]
    return x, np.concatenate(drawn)


def _guide(ends: np.ndarray, length: float) -> tuple[np.ndarray, np.ndarray]:
    """A smooth curve over a barrier: level at minimum, top and minimum, as paths are at stationary points."""
    low, top, high = ends
    u = np.linspace(0.0, 1.0, 30)
    rise = u * u * (3.0 - 2.0 * u)
    along = np.concatenate([0.5 * length * u, 0.5 * length * (1.0 + u)])
    return along, np.concatenate([low + (top - low) * rise, top + (high - top) * rise])
