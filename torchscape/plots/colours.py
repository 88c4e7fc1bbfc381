"""What a colour means: one number or one group per minimum, with the colour bar or legend that explains it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize, to_rgba_array
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from torchscape.errors import TorchscapeError, UnknownName
from torchscape.network import Network
from torchscape.plots.canvas import figure_of, with_unit
from torchscape.types import Tensor

__all__ = ["FAINT", "NARROW", "NEUTRAL", "Colouring", "categories", "colouring", "highlighted"]

NEUTRAL = (0.25, 0.25, 0.28, 1.0)
FAINT = (0.6, 0.6, 0.62, 1.0)
NARROW = 5.0  # inches
_UNKNOWN = (0.75, 0.75, 0.75, 1.0)
# Told apart with every kind of colour vision, and dark enough for thin lines on white. Up to six: Okabe & Ito,
# Color Universal Design (2008), without black and yellow; up to nine: P. Tol, Colour Schemes (SRON/EPS/TN/09-002),
# "muted".
_FEW = to_rgba_array(["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"])
_MANY = to_rgba_array(
    ["#332288", "#cc6677", "#117733", "#ddcc77", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499"]
)
# Thin lines on white: no colour of a scale may be nearly white.
_SEQUENTIAL = ListedColormap(mpl.colormaps["viridis"](np.linspace(0.0, 0.92, 256)))
_SIGNED = LinearSegmentedColormap.from_list("signed", ["#08459c", "#6b9bd6", "#a9a9a9", "#df8664", "#a01216"])


@dataclasses.dataclass(frozen=True)
class Colouring:
    """A colour for each minimum and what it stands for.

    Attributes:
        rgba: colours [N 4].
        groups: group number of each minimum where the colour is a group [N]; otherwise None.
        mappable: the colour scale where the colour is a number; otherwise None.
        label: what the colour shows.
        names: (name, colour) of each group in the legend.
        unknown: True for the minima without a value, which are grey [N].
        is_count: whether the numbers are whole: then so are those at the colour bar.
    """

    rgba: np.ndarray
    groups: np.ndarray | None = None
    mappable: ScalarMappable | None = None
    label: str = ""
    names: tuple[tuple[str, tuple[float, float, float, float]], ...] = ()
    unknown: np.ndarray | None = None
    is_count: bool = False

    def explain(self, ax: Axes, font: float | None = None) -> None:
        """Draw the colour bar or the legend beside ``ax``; nothing where one colour serves for all.

        With a ``font``, its size in points, for a page: below a narrow picture where there are groups.
        """
        if self.mappable is not None:
            bar = figure_of(ax).colorbar(self.mappable, ax=ax, label=self.label, fraction=0.05, pad=0.02)
            if font is not None:
                bar.ax.tick_params(labelsize=font)
                bar.set_label(self.label, fontsize=font)
            if self.is_count:
                bar.locator = MaxNLocator(integer=True)
                bar.update_ticks()
        elif self.names:
            handles = [Line2D([], [], color=colour, lw=4, label=name) for name, colour in self.names]
            title = f"{self.label} (minima)" if self.label else "(minima)"
            narrow = font is not None and figure_of(ax).get_size_inches()[0] < NARROW
            style: dict[str, Any] = {"ncols": 2, "handlelength": 1.2} if narrow else {}
            ax.legend(
                handles=handles, title=title, loc="upper left", frameon=False, fontsize=font, title_fontsize=font,
                bbox_to_anchor=(0.0, -0.02) if narrow else (1.0, 1.0), **style,
            )  # fmt: skip


def colouring(
    network: Network,
    colour: str | Tensor | None,
    *,
    label: str | None = None,
    unit: str | None = None,
    cmap: str | Colormap | None = None,
    limits: tuple[float, float] | None = None,
    shown: np.ndarray | None = None,
) -> Colouring:
    """Colours for the minima from a quantity: a property's name, a built-in name, or a tensor [N].

    Floating-point values become a colour scale (centred at zero where they have both signs), whole
    numbers and booleans become groups. Minima without a value (NaN) are grey.

    Args:
        network: N minima.
        colour: ``"energy"``, ``"degree"``, ``"hits"``, ``"community"``, ``"funnel"``, ``"component"``, the name
            of one of ``network.properties``, a tensor [N], or None for a single colour.
        label: what to write at the colour bar; the name by default.
        unit: unit to add to the label.
        cmap: a matplotlib colour map.
        limits: lowest and highest value of the colour scale.
        shown: positions of the minima drawn, which set the range of the scale; all by default.

    Raises:
        UnknownName: for a name that is neither built in nor a property.
        TorchscapeError: for a tensor of another length.
    """
    n = network.n_minima
    if colour is None:
        return Colouring(np.tile(NEUTRAL, (n, 1)))
    if isinstance(colour, str):
        values, name = _named(network, colour), colour
    else:
        values, name = colour, ""
    if values.shape != (n,):
        raise TorchscapeError(f"colour has shape {tuple(values.shape)}: give one value for each of {n} minima")
    text = with_unit(name if label is None else label, unit)
    data = values.detach().cpu().numpy()
    if data.dtype.kind in "biu":
        return _grouped(data, text)
    return _scaled(data.astype(float), text, cmap, limits or _range(data, shown, name != "energy"))


def categories(n: int) -> np.ndarray:
    """The colours for n categories [K 4], K at most 9: so many are told apart with every kind of colour vision."""
    return _FEW[:n] if n <= len(_FEW) else _MANY[: min(n, len(_MANY))]


def highlighted(network: Network, sets: Mapping[str, Sequence[int]], *, label: str | None = None) -> Colouring:
    """Sets of minima in a colour each, the rest black.

    Args:
        network: N minima.
        sets: positions in the network, by the name of the set.
        label: title of the legend.

    Raises:
        TorchscapeError: for a position that does not exist, a minimum in two sets, or more sets than colours.
    """
    n = network.n_minima
    colours = categories(len(sets))
    if not 0 < len(sets) <= len(colours):
        raise TorchscapeError(f"highlight has {len(sets)} sets: give one to {len(_MANY)}")
    group = np.zeros(n, dtype=np.int64)
    for number, (name, members) in enumerate(sets.items(), start=1):
        chosen = np.asarray(list(members), dtype=np.int64)
        if ((chosen < 0) | (chosen >= n)).any():
            wrong = chosen[(chosen < 0) | (chosen >= n)][0]
            raise TorchscapeError(f"highlight {name!r}: there is no minimum {wrong}, only 0 to {n - 1}")
        if (group[chosen] > 0).any():
            twice = chosen[group[chosen] > 0][0]
            raise TorchscapeError(f"highlight: minimum {twice} is in two sets; give each minimum one")
        group[chosen] = number
    table = np.concatenate([[NEUTRAL], colours])
    counts = np.bincount(group, minlength=len(sets) + 1)
    names = [(f"{name} ({counts[k]})", _plain(table[k])) for k, name in enumerate(sets, start=1)]
    return Colouring(table[group], groups=group, label=label or "", names=tuple(names))


def _named(network: Network, name: str) -> Tensor:
    if name in network.properties:
        return network.properties[name]
    if name == "energy":
        return network.levels  # a scale of rounding errors would show differences that there are not
    if name == "hits":
        return network.hits.to(network.energy.dtype)
    from torchscape import analysis

    derived: dict[str, Any] = {
        "component": lambda: network.components(),
        "degree": lambda: analysis.degrees(network).to(network.energy.dtype),
        "community": lambda: analysis.communities(network).label,
        "funnel": lambda: analysis.funnels(network).label,
    }
    if name not in derived:
        raise UnknownName.of("colour", name, ["energy", "hits", *derived, *network.properties])
    return derived[name]()


def _range(data: np.ndarray, shown: np.ndarray | None, signed: bool) -> tuple[float, float]:
    """From the smallest to the largest finite value; symmetric about zero where both signs occur."""
    chosen = data if shown is None else data[shown]
    finite = chosen[np.isfinite(chosen)].astype(float)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if signed and low < 0.0 < high:
        return -max(-low, high), max(-low, high)
    return low, high


def _scaled(data: np.ndarray, label: str, cmap: str | Colormap | None, limits: tuple[float, float]) -> Colouring:
    low, high = limits
    chosen = mpl.colormaps[cmap] if isinstance(cmap, str) else cmap or (_SIGNED if low == -high else _SEQUENTIAL)
    mappable = ScalarMappable(Normalize(low, high), chosen)
    known = np.isfinite(data)
    rgba = mappable.to_rgba(np.where(known, data, low))
    rgba[~known] = _UNKNOWN
    is_count = bool((data[known] == np.round(data[known])).all()) and high - low >= 1.0
    return Colouring(rgba, mappable=mappable, label=label, unknown=~known, is_count=is_count)


def _grouped(data: np.ndarray, label: str) -> Colouring:
    """The largest groups in colours of their own, all the others in grey."""
    kinds, group, counts = np.unique(data, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(kinds), dtype=int)
    rank[order] = np.arange(len(kinds))
    table = np.tile(_UNKNOWN, (len(kinds), 1))
    palette = categories(len(kinds))
    shown = min(len(kinds), len(palette))
    table[order[:shown]] = palette[:shown]
    names = [(f"{kinds[k]} ({counts[k]})", _plain(table[k])) for k in order[:shown]]
    if len(kinds) > shown:
        names.append((f"{len(kinds) - shown} others ({counts[order[shown:]].sum()})", _UNKNOWN))
    return Colouring(table[group], groups=group, label=label, names=tuple(names))


def _plain(rgba: np.ndarray) -> tuple[float, float, float, float]:
    r, g, b, a = rgba.tolist()
    return r, g, b, a
