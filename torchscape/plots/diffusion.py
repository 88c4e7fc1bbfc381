"""Diffusion maps drawn: points by their slow coordinates, the spectrum with its gap; and free energies."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchscape.errors import TorchscapeError
from torchscape.plots.canvas import Picture, axes_of, counting, figure_of, legend_below, with_unit
from torchscape.types import Float, Tensor

__all__ = ["EmbeddingPlot", "FreeEnergyPlot", "SpectrumPlot", "embedding", "free_energy_curve", "spectrum"]

_CURVE, _GAP = "#1f6fb4", "#c8382d"
_MANY = 3000  # points, beyond which they are drawn as pixels


@dataclasses.dataclass(frozen=True, repr=False)
class EmbeddingPlot(Picture):
    """Points in two coordinates.

    Attributes:
        figure, axes: where they were drawn.
        x: the two coordinates of every point [N 2].
    """

    figure: Figure
    axes: Axes
    x: np.ndarray

    @property
    def _content(self) -> str:
        return f"{len(self.x)} points"


def embedding(
    coordinates: Float[Tensor, "N M"],
    colour: Float[Tensor, "N"] | None = None,
    *,
    first: int = 0,
    second: int = 1,
    label: str = "energy",
    name: str = "diffusion coordinate",
    unit: str | None = None,
    ax: Axes | None = None,
) -> EmbeddingPlot:
    """Points by two of their coordinates, coloured by energy or any other quantity.

    Args:
        coordinates: of N points, for instance ``DiffusionMap.coordinates()`` or its ``functions``.
        colour: a number of each point.
        first, second: which coordinates, from 0.
        label, unit: what the colour is.
        name: what the coordinates are.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> import torch
        >>> from torchscape import plots
        >>> picture = plots.embedding(torch.randn(50, 3), torch.rand(50))
        >>> picture.axes.get_ylabel()
        'diffusion coordinate 2'
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    if max(first, second) >= coordinates.shape[1]:
        raise TorchscapeError(f"there are only {coordinates.shape[1]} coordinates: raise n_functions")
    axes = axes_of(ax, size=(6.2, 4.8))
    x = _numpy(coordinates)[:, [first, second]]
    style: dict[str, Any] = {
        "s": 14.0 if len(x) <= _MANY else 2.0,
        "linewidths": 0.0,
        "rasterized": len(x) > _MANY,
    }
    if colour is None:
        axes.scatter(x[:, 0], x[:, 1], color=_CURVE, **style)
    else:
        shade = _numpy(colour)
        order = np.argsort(-shade, kind="stable")  # what is low, and rare, on top
        drawn = axes.scatter(x[order, 0], x[order, 1], c=shade[order], cmap="viridis", **style)
        figure_of(axes).colorbar(drawn, ax=axes, label=with_unit(label, unit), fraction=0.05, pad=0.02)
    axes.set_xlabel(f"{name} {first + 1}")
    axes.set_ylabel(f"{name} {second + 1}")
    axes.spines[["top", "right"]].set_visible(False)
    return EmbeddingPlot(figure_of(axes), axes, x)


@dataclasses.dataclass(frozen=True, repr=False)
class SpectrumPlot(Picture):
    """Eigenvalues by position.

    Attributes:
        figure, axes: where they were drawn.
        eigenvalues: ascending [M].
        n_slow: how many lie below the widest gap.
    """

    figure: Figure
    axes: Axes
    eigenvalues: np.ndarray
    n_slow: int

    @property
    def _content(self) -> str:
        return f"{len(self.eigenvalues)} eigenvalues"


def spectrum(eigenvalues: Float[Tensor, "M"], *, unit: str | None = None, ax: Axes | None = None) -> SpectrumPlot:
    """Eigenvalues of a generator on a logarithmic axis, with the widest gap between neighbours marked.

    Args:
        eigenvalues: two or more, positive, ascending: ``DiffusionMap.eigenvalues``.
        unit: theirs.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> import torch
        >>> from torchscape import plots
        >>> picture = plots.spectrum(torch.tensor([0.1, 2.0, 3.0]))
        >>> picture.n_slow
        1
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    values = _numpy(eigenvalues)
    if len(values) < 2 or not (values > 0).all():
        raise TorchscapeError("a gap needs two positive eigenvalues or more")
    axes = axes_of(ax, size=(5.6, 4.0))
    place = np.arange(1, len(values) + 1)
    n = int((values[1:] / values[:-1]).argmax()) + 1
    axes.axhspan(values[n - 1], values[n], color=_GAP, alpha=0.12, lw=0)
    axes.plot(place, values, "o", color=_CURVE, ms=5)
    axes.set_yscale("log")
    middle = float(np.sqrt(values[n - 1] * values[n]))
    right = n <= len(values) / 2  # where no dots are, whether the band lies low or high
    axes.annotate(
        f"gap: factor {values[n] / values[n - 1]:.3g}", (0.97 if right else 0.03, middle),
        xycoords=("axes fraction", "data"), ha="right" if right else "left", va="center", fontsize=9, color=_GAP,
    )  # fmt: skip
    axes.margins(x=0.06, y=0.1)
    counting(axes, x=True)
    axes.set_xlabel("function")
    axes.set_ylabel(with_unit("eigenvalue", unit))
    axes.spines[["top", "right"]].set_visible(False)
    return SpectrumPlot(figure_of(axes), axes, values, n)


@dataclasses.dataclass(frozen=True, repr=False)
class FreeEnergyPlot(Picture):
    """A free energy with its error.

    Attributes:
        figure, axes: where it was drawn.
        grid, value, error: what was drawn [G].
    """

    figure: Figure
    axes: Axes
    grid: np.ndarray
    value: np.ndarray
    error: np.ndarray

    @property
    def _content(self) -> str:
        return f"{len(self.grid)} places"


def free_energy_curve(
    grid: Float[Tensor, "G"],
    value: Float[Tensor, "G"],
    error: Float[Tensor, "G"],
    *,
    reference: tuple[Float[Tensor, "R"], Float[Tensor, "R"]] | None = None,
    reference_name: str = "energy along the path",
    name: str = "collective variable",
    unit: str | None = None,
    ax: Axes | None = None,
) -> FreeEnergyPlot:
    """Free energy along a collective variable, with a band of two standard errors to either side.

    Args:
        grid, value, error: of :class:`torchscape.sampling.FreeEnergy`; where nothing was seen there is no curve.
        reference: a curve to compare with, as places and values, for instance the minimum-energy path.
        reference_name: what that is.
        name: what the variable is.
        unit: unit of the energy.
        ax: axes to draw on; a new figure by default.

    Example:
        >>> import torch
        >>> from torchscape import plots
        >>> s = torch.linspace(-1, 1, 5)
        >>> picture = plots.free_energy_curve(s, s**2, 0.1 + 0 * s)
        >>> [text.get_text() for text in picture.axes.get_legend().get_texts()]
        ['free energy', '± 2 standard errors']
        >>> import matplotlib.pyplot as plt
        >>> plt.close(picture.figure)
    """
    axes = axes_of(ax, size=(6.2, 4.2))
    s, f, width = (_numpy(one) for one in (grid, value, error))
    seen = np.isfinite(f)
    drawn = np.where(seen, f, np.nan)
    low, high = (np.where(seen, f + side * 2 * np.where(seen, width, 0.0), np.nan) for side in (-1, 1))
    axes.fill_between(s, low, high, color=_CURVE, alpha=0.25, lw=0, label="± 2 standard errors")
    axes.plot(s, drawn, color=_CURVE, lw=1.4, label="free energy")
    if reference is not None:
        axes.plot(*(_numpy(one) for one in reference), color="black", lw=1.0, ls="--", label=reference_name)
    axes.set_xlabel(name)
    axes.set_ylabel(with_unit("free energy", unit))
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    order = [1, 0, *range(2, len(labels))]
    legend_below(axes, 3, handles=[handles[k] for k in order], labels=[labels[k] for k in order])
    return FreeEnergyPlot(figure_of(axes), axes, s, f, width)


def _numpy(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
