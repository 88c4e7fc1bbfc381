"""The loss over planes through parameter space: contours, three dimensions, series of zooms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from torchscape.errors import TorchscapeError
from torchscape.plots.canvas import Picture, axes_of, counting, figure_of, with_unit
from torchscape.types import Float, Tensor

__all__ = ["PlanePlot", "ZoomPlot", "in_plane_losses", "plane", "plane_3d", "zooms"]

_PATH, _TRUE = "#c8382d", "#1f6fb4"
_ROUNDING = 1e-8  # a lowest value so small beside the highest is a zero
_DECADES = 30.0  # a range of positive energies wider than this factor is coloured logarithmically


@runtime_checkable
class Surface(Protocol):
    """Energies [J I] on a grid a [I], b [J], and what the two axes are."""

    @property
    def a(self) -> Float[Tensor, "I"]: ...
    @property
    def b(self) -> Float[Tensor, "J"]: ...
    @property
    def energy(self) -> Float[Tensor, "J I"]: ...
    @property
    def labels(self) -> tuple[str, str]: ...


@runtime_checkable
class Projection(Protocol):
    """Points in a plane [S 2], their true energy [S] and that at their projection [S]."""

    @property
    def coordinates(self) -> Float[Tensor, "S 2"]: ...
    @property
    def energy(self) -> Float[Tensor, "S"]: ...
    @property
    def in_plane(self) -> Float[Tensor, "S"]: ...
    @property
    def explained(self) -> float: ...


@dataclasses.dataclass(frozen=True, repr=False)
class PlanePlot(Picture):
    """A drawn plane.

    Attributes:
        figure, axes: where it was drawn.
        energy: what was drawn [J I].
    """

    figure: Figure
    axes: Axes
    energy: np.ndarray

    @property
    def _content(self) -> str:
        return f"{self.axes.get_ylabel() or 'plane'}"


@dataclasses.dataclass(frozen=True, repr=False)
class ZoomPlot(Picture):
    """Windows of one plane, side by side.

    Attributes:
        figure: where they were drawn.
        panels: one for each window.
    """

    figure: Figure
    panels: tuple[PlanePlot, ...]

    @property
    def _content(self) -> str:
        return f"{len(self.panels)} windows"


def plane(
    surface: Surface,
    trajectory: Projection | None = None,
    *,
    connect: bool = True,
    levels: int = 24,
    label: str = "loss",
    unit: str | None = None,
    logarithmic: bool | None = None,
    ax: Axes | None = None,
) -> PlanePlot:
    """Contours of the loss over a plane, with a trajectory or minima projected into it.

    Every projected point is a dot in the colour of its true loss on the scale of the contours: a dot that differs
    from its surroundings lies off the plane. The title says how much of the variance of the points is in it.

    Args:
        surface: of :func:`torchscape.learning.plane_surface`.
        trajectory: of :func:`torchscape.learning.project`.
        connect: draw a line through the points, in their order, from a square to a star.
        levels: number of contours.
        label, unit: what is drawn.
        logarithmic: colour by the logarithm; by default where all values are positive and differ by a factor of
            thirty.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> import torch
        >>> from torchscape import learning, plots
        >>> from torchscape.potentials import Quadratic
        >>> flat = learning.Plane(torch.zeros(2).double(), torch.eye(2).double())
        >>> picture = plots.plane(learning.plane_surface(Quadratic([1.0, 4.0]), flat, (-1.0, 1.0, -1.0, 1.0), n=9))
        >>> picture.axes.get_xlabel()
        'first direction'
        >>> plt.close(picture.figure)
    """
    axes = axes_of(ax, size=(6.4, 5.2))
    a, b, energy = _grid(surface)
    norm = _norm(energy, logarithmic)
    edges = _levels(norm, levels)
    filled = axes.contourf(a, b, energy, levels=edges, cmap="viridis", norm=norm, extend="both")
    axes.contour(a, b, energy, levels=edges[::2], colors="white", linewidths=0.4, alpha=0.6)
    bar = figure_of(axes).colorbar(filled, ax=axes, label=with_unit(label, unit), fraction=0.05, pad=0.02)
    _plain_ticks(bar, norm)
    if trajectory is not None:
        at, true = _numpy(trajectory.coordinates), _numpy(trajectory.energy)
        if connect:
            axes.plot(*at.T, color=_PATH, lw=1.0, zorder=3)
        axes.scatter(
            at[:, 0], at[:, 1], c=true, cmap="viridis", norm=norm, s=22, edgecolors=_PATH, linewidths=0.8, zorder=4
        )
        if connect:
            axes.plot(*at[0], "s", ms=7, mfc="white", mec=_PATH, zorder=5)
            axes.plot(*at[-1], "*", ms=12, mfc="white", mec=_PATH, zorder=5)
        share = f"{100.0 * trajectory.explained:.3g} % of the points' variance is in the plane"
        axes.set_title(share, fontsize=8, loc="right", color="0.35")
    axes.set_xlim(a[0], a[-1])
    axes.set_ylim(b[0], b[-1])
    axes.set_xlabel(surface.labels[0])
    axes.set_ylabel(surface.labels[1])
    return PlanePlot(figure_of(axes), axes, energy)


def plane_3d(
    surface: Surface,
    trajectory: Projection | None = None,
    *,
    label: str = "loss",
    unit: str | None = None,
    logarithmic: bool | None = None,
    elevation: float = 35.0,
    azimuth: float = -60.0,
    ax: Axes | None = None,
) -> PlanePlot:
    """The loss over a plane as a surface in three dimensions, with a trajectory at its true loss above it.

    Args:
        surface, trajectory, label, unit: as for :func:`plane`.
        logarithmic: height and colour by the decimal logarithm; by default as for :func:`plane`.
        elevation, azimuth: from where it is seen, in degrees.
        ax: three-dimensional axes to draw on; a new figure by default.

    Example:
        >>> import torch
        >>> from torchscape import learning, plots
        >>> from torchscape.potentials import Quadratic
        >>> flat = learning.Plane(torch.zeros(2).double(), torch.eye(2).double())
        >>> surface = learning.plane_surface(Quadratic([1.0, 4.0]), flat, (-1.0, 1.0, -1.0, 1.0), n=9)
        >>> picture = plots.plane_3d(surface)
        >>> picture.energy.shape
        (9, 9)
        >>> plt.close(picture.figure)
    """
    if ax is None:
        figure = plt.figure(figsize=(7.0, 5.6), layout="constrained")
        ax = figure.add_subplot(projection="3d")
    if not hasattr(ax, "plot_surface"):
        raise TorchscapeError("these axes are flat: make them with projection='3d', or leave ax out")
    axes = cast(Any, ax)
    a, b, energy = _grid(surface)
    is_log = isinstance(_norm(energy, logarithmic), LogNorm)
    height = np.log10(energy) if is_log else energy
    name = f"log10 of the {with_unit(label, unit)}" if is_log else with_unit(label, unit)
    mesh = np.meshgrid(a, b)
    drawn = axes.plot_surface(
        *mesh, height, cmap="viridis", rcount=min(120, len(b)), ccount=min(120, len(a)), lw=0, alpha=0.9
    )
    figure_of(ax).colorbar(drawn, ax=ax, label=name, fraction=0.04, pad=0.02, shrink=0.75)
    if trajectory is not None:
        at, true = _numpy(trajectory.coordinates), _numpy(trajectory.energy)
        inside = (at[:, 0] >= a[0]) & (at[:, 0] <= a[-1]) & (at[:, 1] >= b[0]) & (at[:, 1] <= b[-1])
        up = np.log10(np.maximum(true, np.finfo(float).tiny)) if is_log else true
        axes.plot(*at[inside].T, up[inside], color=_PATH, marker="o", ms=3, lw=1.2, zorder=10)
    axes.view_init(elev=elevation, azim=azimuth)
    axes.set_xlabel(_wrapped(surface.labels[0]), fontsize=8, labelpad=13)
    axes.set_ylabel(_wrapped(surface.labels[1]), fontsize=8, labelpad=13)
    axes.tick_params(labelsize=8)
    axes.set_box_aspect(None, zoom=0.85)  # the labels of tilted axes need room that the layout does not leave
    return PlanePlot(figure_of(ax), ax, energy)


def zooms(
    series: Sequence[Surface],
    trajectory: Projection | None = None,
    *,
    connect: bool = True,
    label: str = "loss",
    unit: str | None = None,
    logarithmic: bool | None = None,
) -> ZoomPlot:
    """Ever smaller windows of one plane in one figure, each with its own colours and the next window framed in it.

    Args:
        series: of :func:`torchscape.learning.zoom_series`, from the largest window to the smallest.
        trajectory, connect, label, unit, logarithmic: as for :func:`plane`; samples are no path: do not connect.

    Example:
        >>> import torch
        >>> from torchscape import learning, plots
        >>> from torchscape.potentials import Quadratic
        >>> flat = learning.Plane(torch.zeros(2).double(), torch.eye(2).double())
        >>> plots.zooms(learning.zoom_series(Quadratic([1.0, 4.0]), flat, [2.0, 0.5], n=9))
        ZoomPlot(2 windows, figure 9.6x4.3 in)
        >>> plt.close("all")
    """
    if not len(series):
        raise TorchscapeError("there is no window to draw: give zoom_series some half-widths")
    size = (4.8 * len(series), 4.3)
    figure, row = plt.subplots(1, len(series), figsize=size, layout="constrained", squeeze=False)
    panels = []
    for k, (surface, axes) in enumerate(zip(series, row[0], strict=True)):
        panels.append(
            plane(surface, trajectory, connect=connect, label=label, unit=unit, logarithmic=logarithmic, ax=axes)
        )
        axes.set_xlabel(_wrapped(surface.labels[0]), fontsize=9)
        axes.set_ylabel(_wrapped(surface.labels[1]) if k == 0 else "", fontsize=9)
        if k and trajectory is not None:
            axes.set_title("", loc="right")
        if k + 1 < len(series):
            a, b, _ = _grid(series[k + 1])
            corner, sides = (a[0], b[0]), (a[-1] - a[0], b[-1] - b[0])
            axes.add_patch(Rectangle(corner, *sides, fill=False, ec="white", lw=1.4, zorder=6))
    return ZoomPlot(figure, tuple(panels))


def in_plane_losses(
    projected: Projection, *, label: str = "loss", unit: str | None = None, ax: Axes | None = None
) -> PlanePlot:
    """The true loss of every projected point beside the loss that the plane shows at its place.

    Args:
        projected: of :func:`torchscape.learning.project`; points in the order in which they are numbered.
        label, unit: what is drawn.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> import torch
        >>> from torchscape import learning, plots
        >>> from torchscape.potentials import Quadratic
        >>> flat = learning.Plane(torch.zeros(3).double(), torch.eye(3)[:2].double())
        >>> found = learning.project(Quadratic([1.0, 2.0, 3.0]), flat, torch.eye(3).double())
        >>> picture = plots.in_plane_losses(found)
        >>> picture.energy.tolist()
        [[0.5, 1.0, 1.5], [0.5, 1.0, 0.0]]
        >>> plt.close(picture.figure)
    """
    axes = axes_of(ax, size=(6.2, 4.0))
    true, flat = _numpy(projected.energy), _numpy(projected.in_plane)
    place = np.arange(len(true))
    axes.vlines(place, np.minimum(true, flat), np.maximum(true, flat), color="0.8", lw=1.0, zorder=1)
    axes.plot(place, true, "o", ms=4, color=_TRUE, label="at the point itself")
    axes.plot(place, flat, "x", ms=5, color=_PATH, label="at its projection into the plane")
    if isinstance(_norm(np.stack([true, flat]), None), LogNorm):
        axes.set_yscale("log")
    axes.set_xlabel("point")
    counting(axes, x=True)
    axes.set_ylabel(with_unit(label, unit))
    axes.set_title(
        f"{100.0 * projected.explained:.3g} % of variance in the plane", fontsize=8, loc="right", color="0.35"
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return PlanePlot(figure_of(axes), axes, np.stack([true, flat]))


def _grid(surface: Surface) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    energy = _numpy(surface.energy)
    if not np.isfinite(energy).any():
        raise TorchscapeError("no value of this surface is finite: choose a smaller window")
    return _numpy(surface.a), _numpy(surface.b), np.ma.masked_invalid(energy).filled(np.nan)


def _norm(energy: np.ndarray, logarithmic: bool | None) -> Normalize:
    low, high = float(np.nanmin(energy)), float(np.nanmax(energy))
    if logarithmic is None:
        logarithmic = low > _ROUNDING * high and high > _DECADES * low
    if logarithmic and low <= 0.0:
        raise TorchscapeError(f"a logarithm of {low:.4g} was asked for: leave logarithmic out")
    if high <= low:
        high = low + max(abs(low), 1.0) * 1e-6  # a level plane
    return LogNorm(low, high) if logarithmic else Normalize(low, high)


def _levels(norm: Normalize, n: int) -> np.ndarray:
    assert norm.vmin is not None
    assert norm.vmax is not None
    if isinstance(norm, LogNorm):
        return np.geomspace(norm.vmin, norm.vmax, n)
    return np.linspace(norm.vmin, norm.vmax, n)


def _plain_ticks(bar: Any, norm: Normalize) -> None:
    """A handful of round numbers beside the colours."""
    edges = _levels(norm, 7)
    bar.set_ticks(edges, labels=[f"{edge:.3g}" for edge in edges])
    bar.minorticks_off()


def _wrapped(text: str) -> str:
    return text.replace(" (", "\n(").replace(", filter", ",\nfilter")


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
