"""Families of landscapes: loss against the control parameter, and disconnectivity graphs side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from torchscape.analysis.family import Family, FamilyEvent
from torchscape.errors import TorchscapeError
from torchscape.plots.canvas import Picture, axes_of, figure_of, legend_below, with_unit
from torchscape.plots.colours import FAINT, categories
from torchscape.plots.disconnectivity_graph import DisconnectivityPlot, disconnectivity

__all__ = ["BranchPlot", "DisconnectivitySeries", "branch_colours", "branches", "disconnectivity_series"]

_MARKERS = {"fold": "o", "pitchfork": "D", "transcritical": "X", "left the box": "s", "lost": "$?$"}


@dataclasses.dataclass(frozen=True, repr=False)
class BranchPlot(Picture):
    """Branches drawn against the control parameter.

    Attributes:
        figure, axes: where they were drawn.
        colours: of each branch.
        marked: the events that carry a marker.
    """

    figure: Figure
    axes: Axes
    colours: np.ndarray
    marked: tuple[FamilyEvent, ...]

    @property
    def _content(self) -> str:
        return f"{len(self.colours)} branches, {len(self.marked)} events"


@dataclasses.dataclass(frozen=True, repr=False)
class DisconnectivitySeries(Picture):
    """Disconnectivity graphs on one energy axis.

    Attributes:
        figure: where they were drawn.
        pictures: the graph of each value; None for a landscape without minima.
        colours: of each branch, the same in all graphs.
    """

    figure: Figure
    pictures: tuple[DisconnectivityPlot | None, ...]
    colours: np.ndarray

    @property
    def _content(self) -> str:
        return f"{len(self.pictures)} graphs"


def branches(
    family: Family,
    *,
    parameter: str = "control parameter",
    unit: str | None = None,
    ax: Axes | None = None,
) -> BranchPlot:
    """Energy of every branch against the control parameter, with the events where branches begin and end.

    Minima are solid, transition states dashed. A branch that ends at a located fold, pitchfork or wall is drawn up
    to there; lines between two values are straight. An event that was only bracketed has a horizontal bar of its
    uncertainty.

    Args:
        family: R branches at K values (:func:`torchscape.explore_family`).
        parameter: name of the control parameter, for the axis.
        unit: unit of the energy.
        ax: axes to draw on; a new figure by default.

    Raises:
        TorchscapeError: if the family has no branches.

    Example:
        >>> import torch
        >>> from torchscape import Network
        >>> row = torch.tensor([[0.0, 0.5], [1.0, torch.nan]]).double()
        >>> family = Family(
        ...     values=torch.tensor([1.0, 2.0]).double(), networks=(Network.of([0.0, 1.0], [], []),) * 2,
        ...     energy=row, log_det=row, softest=row, index=torch.tensor([[0, 0], [0, -1]]),
        ...     ids=torch.zeros(2, 2).long(), coords=(), events=(FamilyEvent("fold", 1.5, 1e-9, (1,), False),),
        ...     followed=torch.tensor([True]))
        >>> picture = branches(family)
        >>> len(picture.colours), len(picture.marked)
        (2, 0)
        >>> plt.close(picture.figure)
    """
    if family.n_branches == 0:
        raise TorchscapeError("a family without stationary points has no branches to draw: explore first")
    axes = axes_of(ax, size=(7.0, 4.6))
    colours = branch_colours(family)
    values, energy = family.values.numpy(), family.energy.numpy()
    index = family.index.numpy()
    order = np.argsort(-index.max(1), kind="stable")  # minima over transition states
    for branch in order.tolist():
        here = np.flatnonzero(np.isfinite(energy[branch]))
        place, height, kind = values[here], energy[branch, here], index[branch, here]
        place, height, kind = _with_ends(family, branch, place, height, kind)
        _draw(axes, place, height, kind, tuple(colours[branch]), dot=len(place) == 1)
    marked = tuple(event for event in family.events if np.isfinite(event.energy))
    for event in marked:
        _mark(axes, event)
    axes.set_xlabel(parameter)
    axes.set_ylabel(with_unit("energy", unit))
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.03, y=0.06)
    _explain(axes, family, marked)
    return BranchPlot(figure_of(axes), axes, colours, marked)


def disconnectivity_series(
    family: Family,
    *,
    parameter: str = "",
    unit: str | None = None,
    levels: int | None = None,
    labels: bool = True,
    axes: Sequence[Axes] | None = None,
) -> DisconnectivitySeries:
    """The disconnectivity graph at each value of the control parameter, side by side on one energy axis.

    The minima of one branch have the same colour, and with ``labels`` the same number, in all graphs.

    Args:
        family: R branches at K values (:func:`torchscape.explore_family`).
        parameter: name of the control parameter, for the titles.
        unit: unit of the energy.
        levels: draw mergers up to the next of so many thresholds over the whole energy axis; at their own energies
            by default.
        labels: write the number of its branch below each minimum.
        axes: K axes to draw on; a new figure by default.

    Raises:
        TorchscapeError: if no member has a minimum, or there is not one of ``axes`` for each.

    Example:
        >>> import torch
        >>> from torchscape import Network
        >>> row = torch.tensor([[0.0, 0.2], [0.5, 0.4]]).double()
        >>> nets = tuple(Network.of(e, [(0, 1)], [1.0]) for e in row.T)
        >>> family = Family(
        ...     values=torch.tensor([1.0, 2.0]).double(), networks=nets, energy=row, log_det=row, softest=row,
        ...     index=torch.zeros(2, 2).long(), ids=torch.tensor([[0, 0], [1, 1]]), coords=(), events=(),
        ...     followed=torch.tensor([True]))
        >>> picture = disconnectivity_series(family, parameter="p")
        >>> [axes.get_title() for axes in picture.figure.axes]
        ['p = 1', 'p = 2']
        >>> plt.close(picture.figure)
    """
    n = len(family.networks)
    if all(network.n_minima == 0 for network in family.networks):
        raise TorchscapeError("no member of the family has a minimum: explore its members first")
    if axes is None:
        width = [1.0 + 0.12 * min(network.n_minima, 40) for network in family.networks]
        figure, grid = plt.subplots(
            1, n, figsize=(min(1.6 + 1.2 * sum(width), 16.0), 4.8), layout="constrained", sharey=True,
            gridspec_kw={"width_ratios": width}, squeeze=False,
        )  # fmt: skip
        axes = list(grid[0])
    elif len(axes) != n:
        raise TorchscapeError(f"{len(axes)} axes for {n} values: give one for each")
    else:
        figure = figure_of(axes[0])
    colours = branch_colours(family)
    thresholds = _shared_levels(family, levels or 40)
    at = {"levels": thresholds} if levels else {"window": (None, 1.02 * thresholds[-1] - 0.02 * thresholds[0])}
    pictures = tuple(_graph(family, k, ax, colours, at, labels, unit) for k, ax in enumerate(axes))
    limits = [ax.get_ylim() for ax, picture in zip(axes, pictures, strict=True) if picture is not None]
    for k, (ax, value) in enumerate(zip(axes, family.values.tolist(), strict=True)):
        ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        ax.set_title(f"{parameter} = {value:.4g}" if parameter else f"{value:.4g}", fontsize=10)
        if k:
            for bar in [artist for artist in (*ax.lines, *ax.texts) if artist.get_gid() == "bar"]:
                bar.remove()  # one says it of all
            ax.set_ylabel("")
            ax.spines["left"].set_visible(False)
            ax.tick_params(axis="y", left=False, labelleft=False)
    return DisconnectivitySeries(figure, pictures, colours)


def branch_colours(family: Family) -> np.ndarray:
    """A colour [R 4] for each branch that is a minimum somewhere, grey for the others; the longest-lived first."""
    is_minimum = (family.index == 0).sum(1).numpy()
    order = [branch for branch in np.argsort(-is_minimum, kind="stable").tolist() if is_minimum[branch]]
    colours = np.tile(np.asarray(FAINT), (family.n_branches, 1))
    palette = categories(len(order))
    for number, branch in enumerate(order):
        colour, again = palette[number % len(palette)].copy(), number // len(palette)
        if again % 3:  # more branches than colours: the next rounds are lighter, then darker
            colour[:3] = 0.55 * colour[:3] + (0.45 if again % 3 == 1 else 0.0)
        colours[branch] = colour
    return colours


def _graph(family, k, ax, colours, at, labels, unit) -> DisconnectivityPlot | None:
    """One disconnectivity graph in the colours of the branches."""
    network = family.networks[k]
    if network.n_minima == 0:
        ax.text(0.5, 0.5, "no minima", transform=ax.transAxes, ha="center", va="center", color="0.5", fontsize=9)
        ax.set_xticks([])
        ax.set_ylabel(with_unit("energy", unit))
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        return None
    branch = family.branch_of(k)
    n = family.n_branches
    picture = disconnectivity(
        network,
        colour=branch.double(),
        cmap=ListedColormap([tuple(colour) for colour in colours]),
        limits=(-0.5, n - 0.5),
        **at,
        labels={position: str(label) for position, label in enumerate(branch.tolist())} if labels else False,
        unit=unit,
        ax=ax,
    )
    scale = picture.colouring.mappable
    if scale is not None and scale.colorbar is not None:  # numbers of branches are no scale
        scale.colorbar.remove()
    return picture


def _shared_levels(family: Family, count: int) -> list[float]:
    """Thresholds from the lowest minimum to the highest transition state of all members."""
    low = min(float(network.energy.min()) for network in family.networks if network.n_minima)
    tops = [float(network.ts_energy.max()) for network in family.networks if network.n_edges]
    tops += [float(network.energy.max()) for network in family.networks if network.n_minima]
    high = max(tops)
    high = high if high > low else low + max(1.0, abs(low)) * 1e-3
    return np.linspace(low, high, max(count, 2) + 1)[1:].tolist()


def _with_ends(family: Family, branch: int, place, height, kind):
    """The line of a branch, drawn on to the events where it begins and ends and where its index changes."""
    for event in family.events:
        if not np.isfinite(event.energy) or event.kind == "lost" or len(place) == 0:
            continue
        if branch in event.branches:
            first = event.value < place[0]
            at = 0 if first else len(place)
            kind = np.insert(kind, at, kind[0 if first else -1])
        elif branch in event.through:
            at = int(np.searchsorted(place, event.value))
            kind = np.insert(kind, at, kind[at - 1] if at else kind[0])
        else:
            continue
        place, height = np.insert(place, at, event.value), np.insert(height, at, event.energy)
    return place, height, kind


def _draw(axes: Axes, place, height, kind, colour, dot: bool) -> None:
    """Solid where the branch is a minimum, dashed elsewhere; a dash for a branch of one value."""
    if dot:
        axes.plot(place, height, marker="_", ms=8, mew=1.6, color=colour, ls="none")
        return
    solid = kind[1:] == 0  # an index changes at an event, which has the index on its left
    for piece in np.split(np.arange(len(solid)), np.flatnonzero(np.diff(solid)) + 1):
        span = slice(piece[0], piece[-1] + 2)
        minimum = bool(solid[piece[0]])
        axes.plot(
            place[span], height[span], color=colour, lw=1.6 if minimum else 1.1, ls="-" if minimum else (0, (4, 2))
        )


def _mark(axes: Axes, event: FamilyEvent) -> None:
    filled = event.kind in ("fold", "pitchfork", "transcritical")
    axes.plot(
        event.value, event.energy, marker=_MARKERS[event.kind], ms=5, ls="none", zorder=4,
        mfc="black" if filled else "white", mec="black" if event.kind != "lost" else "0.4", mew=0.9,
    )  # fmt: skip
    span = np.ptp(axes.get_xlim())
    if event.uncertainty > 5e-3 * span:
        axes.errorbar(event.value, event.energy, xerr=event.uncertainty, color="0.6", lw=0.8, capsize=2, zorder=1)


def _explain(axes: Axes, family: Family, marked: tuple[FamilyEvent, ...]) -> None:
    handles = [Line2D([], [], color="black", lw=1.6, label="minimum")]
    if bool((family.index > 0).any()):
        handles.append(Line2D([], [], color="black", lw=1.1, ls=(0, (4, 2)), label="transition state"))
    for kind in _MARKERS:
        if any(event.kind == kind for event in marked):
            face = "black" if kind in ("fold", "pitchfork", "transcritical") else "white"
            handles.append(
                Line2D([], [], marker=_MARKERS[kind], ls="none", ms=5, mfc=face, mec="black", mew=0.9, label=kind)
            )
    legend_below(axes, len(handles), handles=handles, fontsize=8, columnspacing=1.4, handletextpad=0.5)
