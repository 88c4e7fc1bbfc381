"""The disconnectivity graph: which minima can reach which others without rising above a given energy."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from torchscape.analysis.topology import merge_tree
from torchscape.errors import OptionError, TorchscapeError
from torchscape.network import Network
from torchscape.plots.canvas import Picture, figure_of, page_axes
from torchscape.plots.colours import Colouring, colouring, highlighted
from torchscape.plots.free_energy_tree import at_temperature
from torchscape.plots.labels import label_texts, place_labels
from torchscape.plots.layout import TreeLayout, tree_layout
from torchscape.plots.tree_axis import Thresholds, automatic_top, break_axis, nice_length, thresholds
from torchscape.plots.tree_choice import Shown, choose_minima
from torchscape.plots.tree_drawing import Frame, draw_tree, set_frame
from torchscape.plots.tree_lines import TreeLines, has_wide_fans, tree_lines
from torchscape.types import Tensor

__all__ = ["DisconnectivityPlot", "disconnectivity"]

_ROOM = 1.2  # points from branch to branch at least, where nothing is chosen


@dataclasses.dataclass(frozen=True, repr=False)
class DisconnectivityPlot(Picture):
    """A drawn disconnectivity graph.

    Attributes:
        figure, axes: where it was drawn.
        minima: positions in the network of the minima drawn, from left to right.
        x: their places on the horizontal axis.
        count: how many minima each of these branches stands for, where others are left out.
        levels: the energies at which branches may join; those of the mergers by default.
        step: distance of the levels where that is one and the same; None otherwise.
        colouring: the colour of each minimum of the network, and what it means.
        n_trees: number of trees: minima in different ones are not connected, or only above the picture.
        layout: places of all minima and superbasins drawn, the minima in the order of the merge tree.
        lines: what is drawn between them.
        leaves: positions in the network of the minima in that order.
        labelled: the minima that carry a label.
    """

    figure: Figure
    axes: Axes
    minima: np.ndarray
    x: np.ndarray
    count: np.ndarray
    levels: np.ndarray
    step: float | None
    colouring: Colouring
    n_trees: int
    layout: TreeLayout
    lines: TreeLines
    leaves: np.ndarray
    labelled: tuple[int, ...] = ()

    @property
    def _content(self) -> str:
        return f"{len(self.minima)} minima"


@dataclasses.dataclass(frozen=True)
class _Asked:
    """The arguments of :func:`disconnectivity`."""

    network: Network
    colour: str | Tensor | None = None
    highlight: Mapping[str, Sequence[int]] | None = None
    levels: Literal["exact"] | int | Sequence[float] | None = None
    step: float | None = None
    style: str | None = None
    centre: Literal["lowest", "largest"] = "lowest"
    labels: bool | str | Sequence[str] | Sequence[int] | Mapping[int, str] = False
    lowest: int | None = None
    min_barrier: float | None = None
    minima: Sequence[int] | None = None
    collapse: bool = False
    window: tuple[float | None, float | None] | None = None
    broken: tuple[float, float] | None = None
    relative: bool = False
    scale_bar: bool | float = False
    dinfo: str | Path | None = None
    temperature: float | None = None
    regroup: float | None = None
    width: float | Literal["column", "page"] | None = None
    height: float | None = None
    linewidth: float | None = None
    unit: str | None = None
    colour_label: str | None = None
    colour_unit: str | None = None
    cmap: str | Colormap | None = None
    limits: tuple[float, float] | None = None
    ax: Axes | None = None

    def with_file(self) -> _Asked:
        """What a ``dinfo`` says, where the arguments do not say otherwise."""
        if self.dinfo is None:
            return self
        from torchscape.plots.dinfo import read_dinfo

        network, said = read_dinfo(self.dinfo).applied(self.network)
        default = {field.name: field.default for field in dataclasses.fields(self)}
        free = {name: value for name, value in said.items() if getattr(self, name) is default[name]}
        if self.levels is not None or self.step is not None:
            free.pop("levels", None)
        if self.relative and "levels" in free:  # a file says energies as they are
            low = float(network.energy.min())
            free["levels"] = [level - low for level in free["levels"]]
        return dataclasses.replace(self, network=network, **free)

    def of_free_energies(self) -> _Asked:
        """With free energies, where a temperature is given."""
        if self.temperature is None:
            if self.regroup is not None:
                raise OptionError("regroup lumps minima by their free-energy barriers: give a temperature too")
            return self
        named = {name: getattr(self, name) for name in ("colour", "highlight", "labels", "minima")}
        return dataclasses.replace(self, **at_temperature(self.network, self.temperature, self.regroup, **named))

    def counted(self) -> _Asked:
        """With energies counted from the lowest minimum, where that is asked for."""
        if not self.relative:
            return self
        low = self.network.energy.min()
        minima, saddles = self.network.energy - low, self.network.ts_energy - low
        return dataclasses.replace(
            self, network=dataclasses.replace(self.network, energy=minima, ts_energy=saddles)
        )


def disconnectivity(
    network: Network,
    *,
    colour: str | Tensor | None = None,
    highlight: Mapping[str, Sequence[int]] | None = None,
    levels: Literal["exact"] | int | Sequence[float] | None = None,
    step: float | None = None,
    style: str | None = None,
    centre: Literal["lowest", "largest"] = "lowest",
    labels: bool | str | Sequence[str] | Sequence[int] | Mapping[int, str] = False,
    lowest: int | None = None,
    min_barrier: float | None = None,
    minima: Sequence[int] | None = None,
    collapse: bool = False,
    window: tuple[float | None, float | None] | None = None,
    broken: tuple[float, float] | None = None,
    relative: bool = False,
    scale_bar: bool | float = False,
    dinfo: str | Path | None = None,
    temperature: float | None = None,
    regroup: float | None = None,
    width: float | Literal["column", "page"] | None = None,
    height: float | None = None,
    linewidth: float | None = None,
    unit: str | None = None,
    colour_label: str | None = None,
    colour_unit: str | None = None,
    cmap: str | Colormap | None = None,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> DisconnectivityPlot:
    """Draw the disconnectivity graph of a network: branches join where minima reach each other, and end at them.

    By default every merger stands at its own energy, branches hanging from bars. Trees that no known path connects
    with the lowest minimum are dashed. What has no room is left out, and that is said. docs/pictures.md shows all.

    Args:
        network: N minima, E transition states.
        colour: ``"energy"``, ``"degree"``, ``"community"``, ``"funnel"``, a property's name, or a tensor [N];
            groups colour a superbasin where all its minima agree.
        highlight: sets of positions by name, each in a colour, the rest black.
        levels, step: "exact"; how many levels, or which, or how far apart: mergers are drawn up to the next one.
        style: "orthogonal", the default where mergers are exact or many branches meet, or "slanted".
        centre: which branch of a superbasin stands in the middle: of the lowest minimum, or of the most minima.
        labels: ``"positions"`` (or True), ``"ids"``, N texts, a mapping from position to text; or only some
            positions. None covers anything: where there is no room, those of high minima are left out.
        lowest, min_barrier, minima: only so many of the lowest minima; only those with a barrier to a lower
            minimum of at least this; only these positions. By default as many as have room.
        collapse: wedges with their numbers of minima, where minima are left out.
        window: lowest and highest energy; None for where the data end. By default without a few far outliers.
        broken: the energies between these two are taken out of the axis.
        relative: energies above the lowest minimum; ``levels``, ``window`` and ``broken`` are meant so too.
        scale_bar: a bar, of this length, in the place of the axis.
        dinfo: input file of disconnectionDPS, for what the other arguments do not say.
        temperature: draw free energies at this temperature, of minima and of all transition states between two.
            A minimum that no free-energy barrier holds ends where it merges.
        regroup: lump what free-energy barriers up to this separate: see :func:`torchscape.analysis.regroup`. A
            group has the number of its most populated minimum.
        width, height: in inches; "column" or "page" of a journal of two columns.
        linewidth: in points; fits the number of branches by default.
        unit: of the energy.
        colour_label, colour_unit, cmap, limits: label, unit, colour map and range of the colour scale.
        ax: axes to draw on; a new figure by default.

    Raises:
        TorchscapeError: for a network without minima, or options that leave nothing to draw.

    Reference: Becker & Karplus, J. Chem. Phys. 106, 1495 (1997), doi 10.1063/1.473299; Wales, Miller & Walsh,
    Nature 394, 758 (1998), doi 10.1038/29487.
    """
    return _drawn(_Asked(**locals()))


def _drawn(asked: _Asked) -> DisconnectivityPlot:
    if asked.network.n_minima == 0:
        raise TorchscapeError("a network without minima has no disconnectivity graph: explore first")
    asked = asked.with_file().of_free_energies().counted()
    network = asked.network
    axes, points, font = page_axes(asked.ax, asked.width, asked.height, size=(7.5, 5.5))
    tree = merge_tree(network)
    energy = network.levels.double().cpu().numpy()
    low, high = asked.window or (None, None)
    top = high if asked.window is not None or _own(asked.levels) else automatic_top(energy, tree.gap.cpu().numpy())
    shown = choose_minima(
        tree, lowest=asked.lowest, min_barrier=asked.min_barrier, minima=asked.minima, top=top,
        most=max(int(points / _ROOM), 10),
    )  # fmt: skip
    at = thresholds(asked.levels, asked.step, energy[shown.minima], shown.gap, top)
    layout = tree_layout(energy[shown.minima], shown.gap, at.energies, asked.centre)
    frame = _frame(asked, layout, at, low, high, points, font)
    style = asked.style or ("orthogonal" if at.exact or has_wide_fans(layout) else "slanted")
    if style not in ("orthogonal", "slanted"):
        raise OptionError(f"style = {style!r}: give 'orthogonal' or 'slanted'")
    aspect = axes.bbox.width / axes.bbox.height
    lines = tree_lines(layout, style, height=frame.height, aspect=float(aspect))
    colours = _colours(asked, shown)
    draw_tree(axes, layout, lines, shown, colours, frame, asked.linewidth, asked.collapse)
    scale = None if asked.scale_bar is False else asked.scale_bar
    set_frame(
        axes, layout, frame, unit=asked.unit, relative=asked.relative, step=at.step,
        name="energy" if asked.temperature is None else "free energy",
        scale=nice_length(frame.height) if scale is True else scale,
    )  # fmt: skip
    if asked.broken is not None:
        break_axis(axes, *asked.broken)
    _note(axes, layout, shown, at, frame, asked.collapse)
    colours.explain(axes, font if asked.width is not None else None)
    labelled = _write_labels(axes, layout, lines, shown, asked, frame)
    drawn = np.argsort(layout.x[: layout.n_leaves])
    return DisconnectivityPlot(
        figure_of(axes), axes, shown.minima[drawn], layout.x[drawn], shown.count[drawn], at.energies, at.step,
        colours, len(layout.roots), layout, lines, shown.minima, labelled,
    )  # fmt: skip


def _own(levels: Any) -> bool:
    return levels is not None and not isinstance(levels, (int, str))


def _colours(asked: _Asked, shown: Shown) -> Colouring:
    if asked.highlight is not None:
        if asked.colour is not None:
            raise OptionError("colour and highlight both say how branches are coloured: give one of them")
        return highlighted(asked.network, asked.highlight, label=asked.colour_label)
    unit = asked.unit if isinstance(asked.colour, str) and asked.colour == "energy" else None
    return colouring(
        asked.network, asked.colour, label=asked.colour_label, unit=asked.colour_unit or unit,
        cmap=asked.cmap, limits=asked.limits, shown=shown.minima,
    )  # fmt: skip


def _frame(
    asked: _Asked,
    layout: TreeLayout,
    at: Thresholds,
    low: float | None,
    high: float | None,
    points: float,
    font: float,
) -> Frame:
    """From below the lowest minimum to above the last merger, and all minima where levels do not cut them off."""
    own, lowest = _own(asked.levels), float(layout.y.min())
    top = at.energies[-1] if own else max(at.energies[-1], float(layout.y.max()))
    top = high if high is not None else top + max(0.05 * (top - lowest), 1e-12 * max(1.0, abs(top)))
    bottom = low if low is not None else lowest - 0.05 * (top - lowest)
    if not bottom < top:
        raise OptionError(f"window = ({low}, {high}): give a lower energy and a higher one")
    return Frame(float(bottom), float(top), float(top + 0.02 * (top - bottom)), points, font)


def _note(axes: Axes, layout: TreeLayout, shown: Shown, at: Thresholds, frame: Frame, collapse: bool) -> None:
    """Say what is not shown."""
    said = [shown.note] if shown.note else []
    above = int((np.isfinite(shown.gap) & (shown.gap > at.energies[-1])).sum())
    if above:
        said.append(f"{above} merger{'s' if above > 1 else ''} above {frame.top:.5g}")
    below = int((layout.y[: layout.n_leaves] < frame.bottom).sum())
    if below:
        said.append(f"{below} {'minima end' if below > 1 else 'minimum ends'} below {frame.bottom:.5g}")
    if collapse and (shown.count > 1).any():
        said.append("wedges: number of minima")
    if said:
        size = min(8.0, frame.font)
        lines = textwrap.wrap("; ".join(said), max(int(frame.width / (0.52 * size)), 20))
        axes.set_title("\n".join(lines), fontsize=size, loc="right", color="0.35")


def _write_labels(
    axes: Axes, layout: TreeLayout, lines: TreeLines, shown: Shown, asked: _Asked, frame: Frame
) -> tuple[int, ...]:
    """Texts below their minima, the lowest first; the minima that have one in the end."""
    texts, chosen = label_texts(asked.network, asked.labels)
    if asked.collapse:
        counts = {int(m): int(c) for m, c in zip(shown.minima, shown.count, strict=True) if c > 1}
        texts |= {m: f"{texts[m]} ({c})" if m in texts else f"{c}" for m, c in counts.items()}
    leaves = [
        k
        for k in np.argsort(layout.y[: layout.n_leaves], kind="stable")
        if int(shown.minima[k]) in texts and frame.bottom <= layout.y[k] <= frame.top
    ]
    if not leaves:
        return ()
    leaves.sort(key=lambda k: int(shown.minima[k]) not in chosen)
    must = sum(int(shown.minima[k]) in chosen for k in leaves)
    at = np.stack([layout.x[leaves], layout.y[leaves]], 1)
    words = [texts[int(shown.minima[k])] for k in leaves]
    written = place_labels(axes, at, words, lines.segments, must=must, size=frame.font)
    return tuple(int(shown.minima[leaves[k]]) for k in written)
