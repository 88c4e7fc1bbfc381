"""The document of a report: sources that all figures share, and the page they stand in."""

from __future__ import annotations

import dataclasses
import html
import json
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from torchscape.errors import MissingExtra
from torchscape.plots.canvas import with_unit
from torchscape.plots.layout import TreeLayout
from torchscape.report.columns import Quantity, drawn_tree, node_columns, stem_height
from torchscape.report.curves import barrier_figure, capacity_figure, coverage_figure, growth_figure
from torchscape.report.figures import (
    confusion_figure,
    depth_figure,
    network_figure,
    occupation_figure,
    profile_figure,
    tree_figure,
)
from torchscape.report.gathering import Content
from torchscape.report.style import number_format
from torchscape.report.thermodynamics import Thermodynamics

if TYPE_CHECKING:
    from bokeh.document import Document
    from bokeh.models import ColumnDataSource, DataTable

__all__ = ["document", "page"]


def page(content: Content, mark: str) -> str:
    """The whole file: one page with everything inside.

    Raises:
        MissingExtra: where Bokeh is not installed.
    """
    try:
        from bokeh.embed import file_html
        from bokeh.resources import INLINE
    except ImportError as error:
        raise MissingExtra.of("bokeh", "report") from error
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_file("page.html"))
    thermal = content.thermodynamics
    told = content.history
    made = document(content)
    text: str = file_html(
        made,
        INLINE,
        title=content.title,
        template=template,
        template_variables={
            "content": content,
            "mark": mark,
            "style": _file("page.css"),
            "script": _file("page.js"),
            "facts": _facts(content),
            "places": {root.name for root in made.roots},
            "last_alone": _last_alone([root.name for root in made.roots]),
            "version": _version(),
            "thermal": thermal if isinstance(thermal, Thermodynamics) else None,
            "no_thermal": thermal if isinstance(thermal, str) else "",
            "coverage": _coverage(content),
            "runs": () if told is None else told.runs,
        },
        suppress_callback_warning=True,
    )
    return text


def document(content: Content) -> Document:
    """Figures and table over shared sources; each root has the name of its place in the page.

    What the page needs beyond what figures show comes to it by the arguments of the callback that starts it.
    """
    from bokeh.document import Document
    from bokeh.models import ColumnDataSource, CustomJS, Span

    layout, levels = drawn_tree(content.shown)
    nodes = node_columns(content.shown, layout, levels)
    minima = ColumnDataSource({**content.minima, **_places(content, layout)}, name="minima")
    thermal = content.thermodynamics
    figures: list[Any] = [
        tree_figure(minima, _tree_lines(content, nodes, layout, levels), with_unit("energy", content.unit)),
        network_figure(minima, _network_lines(content)),
        depth_figure(minima, content.unit) if np.isfinite(content.minima["barrier"]).any() else None,
        barrier_figure(content.network, content.unit) if content.network.n_edges else None,
        coverage_figure(content.coverage),
        None if content.history is None else growth_figure(content.history),
        profile_figure(with_unit("energy", content.unit)),
        None if content.confusion is None else confusion_figure(content.confusion.n_classes),
        capacity_figure(thermal, content.unit) if isinstance(thermal, Thermodynamics) else None,
        occupation_figure(max(map(len, content.minima["id"]))) if isinstance(thermal, Thermodynamics) else None,
    ]
    figures = [one for one in figures if one is not None]
    made = Document(title=content.title)
    for root in [*figures, _table(content, minima)]:
        made.add_root(root)
    for one in figures:
        if one.name in ("tree", "network", "depth"):
            one.js_on_event("tap", CustomJS(args={"figure": one}, code="torchscape.tapped(figure, cb_obj)"))
        if one.name == "occupation":
            bars = one.select_one({"name": "occupied"})
            bars.selected.js_on_change("indices", CustomJS(code="torchscape.barChosen()"))
    minima.selected.js_on_change("indices", CustomJS(code="torchscape.chosen()"))
    hidden = {name: ColumnDataSource(data, name=name) for name, data in _hidden(content, nodes).items()}
    shown = {one.name: one for one in made.select({"type": ColumnDataSource}) if one.name is not None}
    spans = {one.name: one for one in made.select({"type": Span}) if one.name is not None}
    parts = {**shown, **hidden, **{f"{name}_span": one for name, one in spans.items()}}
    parts |= {f"{one.name}_figure": one for one in figures if one.name in ("occupation", "profile")}
    start = CustomJS(args=parts, code=f"torchscape.start({{{', '.join(parts)}}})")
    made.js_on_event("document_ready", start)
    return made


def _places(content: Content, layout: TreeLayout) -> dict[str, np.ndarray]:
    """Where the minima stand in the tree, how large their discs are, and the colour that the page gives them."""
    part = content.shown.network
    x = np.empty(part.n_minima, dtype=np.float32)
    x[content.shown.tree.leaves.numpy()] = layout.x[: len(x)]
    largest = float(np.clip(190.0 / len(x) ** 0.5, 5.0, 17.0))
    degree = np.asarray(content.minima["degree"], dtype=float)
    disc = largest * np.sqrt(np.clip(degree / max(degree.max(), 1.0), max(0.08, (3.0 / largest) ** 2), 1.0))
    return {
        "tree_x": x,
        "tip": part.levels.double().numpy(),
        "disc": disc.astype(np.float32),
        "colour": np.zeros(len(x), dtype=np.float32),
    }


def _hidden(content: Content, nodes: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Sources that no figure shows, and the page computes with."""
    gap = content.shown.tree.gap.double().numpy()
    hidden: dict[str, dict[str, Any]] = {
        "edges": content.edges,
        "nodes": nodes,
        "leaves": {"minimum": content.shown.tree.leaves.numpy().astype(np.int32)},
        "gaps": {"gap": np.where(np.isfinite(gap), gap, np.nan)},
    }
    thermal = content.thermodynamics
    if isinstance(thermal, Thermodynamics):
        names = ("temperatures", "heat_capacity", "mean_energy", "entropy", "log_z")
        hidden["curves"] = {name: getattr(thermal, name) for name in names}
    if content.confusion is not None:
        hidden["confusions"] = {"n": content.confusion.counts.reshape(-1)}
    return hidden


def _tree_lines(
    content: Content, nodes: dict[str, np.ndarray], layout: TreeLayout, levels: np.ndarray
) -> dict[str, np.ndarray]:
    """All branches as one line with gaps; above trees that nothing connects with the first, a dotted one."""
    nan = np.full(len(nodes["x0"]), np.nan, dtype=np.float32)
    x = np.stack([nodes["x0"], nodes["x1"], nodes["x1"], nan], 1).reshape(-1)
    y = np.stack([nodes["y0"], nodes["y0"], nodes["top"], nan], 1).reshape(-1)
    alone, step = layout.roots[1:], stem_height(layout, levels)
    top = float(max(levels[-1], layout.y.max())) + step
    none = np.full(len(alone), np.nan)
    above = layout.y[alone] + step
    dotted_x = np.stack([layout.x[alone], layout.x[alone], none], 1).reshape(-1)
    dotted_y = np.stack([above, np.maximum(above, top), none], 1).reshape(-1)
    return {"x": x, "y": y, "dotted_x": dotted_x, "dotted_y": dotted_y}


def _network_lines(content: Content) -> dict[str, np.ndarray]:
    """The transition states that are drawn, as one line with gaps."""
    x, y = (np.asarray(content.minima[name]) for name in "xy")
    drawn = np.flatnonzero(content.edges["drawn"])
    a, b = (np.asarray(content.edges[name])[drawn] for name in "ab")
    nan = np.full(len(drawn), np.nan, dtype=np.float32)
    return {name: np.stack([at[a], at[b], nan], 1).reshape(-1) for name, at in (("x", x), ("y", y))}


def _table(content: Content, minima: ColumnDataSource) -> DataTable:
    from bokeh.models import DataTable, InlineStyleSheet, NumberFormatter, StringFormatter, TableColumn

    columns = [
        TableColumn(field="rank", title="#", width=56, formatter=NumberFormatter(format="0", text_align="right")),
        TableColumn(field="id", title="id", width=80, formatter=StringFormatter(text_align="right")),
    ]
    for one in content.quantities:
        form = "0" if one.is_count else number_format(content.minima[one.name])
        look = NumberFormatter(format=form, nan_format="\N{EN DASH}", text_align="right")
        # A title is taken for HTML, and the name of a property is whatever its author liked.
        columns.append(
            TableColumn(field=one.name, title=html.escape(one.label), width=_width(one), formatter=look)
        )
    return DataTable(
        name="table", source=minima, columns=columns, height=min(330, 44 + 25 * len(content.minima["id"])),
        sizing_mode="stretch_width", index_position=None, autosize_mode="none", reorderable=False, row_height=25,
        stylesheets=[InlineStyleSheet(css=_file("table.css"))],
    )  # fmt: skip


def _width(one: Quantity) -> int:
    """Of a column, in pixels: for its title, and for numbers of seven digits."""
    return int(np.clip(24 + 7.2 * len(one.label), 64 if one.is_count else 92, 220))


def _facts(content: Content) -> str:
    """What the page must know besides the sources, as JSON that may stand in a script."""
    thermal, told = content.thermodynamics, content.confusion
    facts = {
        "quantities": [dataclasses.asdict(one) for one in content.quantities],
        "n": content.shown.network.n_minima,
        "nAll": content.shown.n_all,
        "unit": content.unit or "",
        "start": thermal.start if isinstance(thermal, Thermodynamics) else None,
        "classes": None if told is None else told.n_classes,
        "classified": 0 if told is None else len(told.counts),
        "items": None if told is None else int(told.counts[0].sum()),
        "of": "" if told is None else told.of,
    }
    text = json.dumps(facts, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _coverage(content: Content) -> list[str]:
    """What hit counts say, in words."""
    kinds = {"minima": content.coverage.minima, "transition states": content.coverage.transition_states}
    said = ["; ".join(one.said(name)) for name, one in kinds.items() if one.n_hits]
    return [f"{one[0].upper()}{one[1:]}." for one in said]


def _last_alone(names: list[str]) -> str | None:
    """The last of the figures that stand two in a row, where nothing is left to stand beside it."""
    pairs = [
        name for name in ("capacity", "occupation", "depth", "barriers", "coverage", "growth") if name in names
    ]
    return pairs[-1] if len(pairs) % 2 else None


def _version() -> str:
    try:
        return version("torchscape")
    except PackageNotFoundError:  # run from its source
        return ""


def _file(name: str) -> str:
    return resources.files("torchscape.report").joinpath(name).read_text(encoding="utf-8")
