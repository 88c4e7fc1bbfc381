"""Every result shows itself in a few lines, whatever it holds; in a notebook as a table, some with a picture."""

from __future__ import annotations

import base64
import dataclasses
import importlib
import re
import typing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torchscape as tsc
from torchscape import analysis
from torchscape.brief import MOST_CHARACTERS, MOST_LINES, brief, fits, in_few_words, is_generated, table
from torchscape.network import Network

ROOMS = (
    "analysis", "explore", "families", "landscape", "learning", "learning.gp", "metrics", "optimise", "potentials",
    "problems", "saddles", "sampling", "symmetry", "report",
)  # fmt: skip
SETTINGS = {"Bounds", "NoiseMemory", "Region", "VariableBandwidth"}
"""Dataclasses with a tensor among their settings: a search or a potential is known by their words."""


def public_dataclasses() -> dict[str, type]:
    """All that the rooms export, and the value types."""
    found = {"Network": Network, "StationaryPoints": tsc.StationaryPoints}
    for room in ROOMS:
        module = importlib.import_module(f"torchscape.{room}")
        names = getattr(module, "__all__", ())
        kinds = {name: getattr(module, name) for name in names}
        found |= {
            n: kind for n, kind in kinds.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)
        }
    return found


def filled(kind: type, size: int, depth: int = 0):
    """An instance with something in every field, by its annotation; nothing is checked or computed."""
    made = object.__new__(kind)
    module = importlib.import_module(kind.__module__)
    for field in dataclasses.fields(kind):
        object.__setattr__(made, field.name, example(str(field.type), module, size, depth))
    return made


def example(annotation: str, module, size: int, depth: int):
    words = annotation.removesuffix(" | None")
    if re.match(r"(Mapping|dict)\[", words):
        inner = words.split(",", 1)[1].strip().removesuffix("]")
        return {f"name {k}": example(inner, module, size, depth) for k in range(30)}
    if match := re.match(r"(tuple|list|Sequence)\[(.*?)(, \.\.\.)?\]$", words):
        inner = match[2].split(", ")
        n = len(inner) if match[1] == "tuple" and not match[3] else min(size, 40)
        return tuple(example(inner[0], module, size, depth) for _ in range(n))
    if match := re.match(r"(?:\w+\.)?(Float|Int|Bool|Num|Shaped)\[Tensor, [\"'](.*?)[\"']\]", words):
        shape = [size if k == 0 else 5 for k, _ in enumerate(match[2].split())]
        whole = torch.arange(torch.tensor(shape).prod().item() if shape else 1).reshape(shape)
        return {"Float": whole.double() - 0.123456789e5, "Int": whole, "Bool": whole > 7}.get(match[1], whole)
    if "ndarray" in words:
        return np.linspace(0, 1, size)
    if words == "Tensor":
        return torch.rand(size, 7)
    plain = {"int": 1234567, "float": 0.123456789, "str": "a long text " * 9, "bool": True, "Any": "something"}
    if words in plain:
        return plain[words]
    kind = getattr(module, words, None)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and depth < 2:
        return filled(kind, size, depth + 1)
    return None


@pytest.mark.parametrize("name", sorted(public_dataclasses()))
def test_every_public_dataclass_shows_itself_in_a_few_lines(name):
    kind = public_dataclasses()[name]
    if kind.__repr__.__name__ != "_repr":  # settings, of which the test of the defaults is; words of its own
        return
    for size in (3, 5000):
        text = repr(filled(kind, size))
        assert text.count("\n") < MOST_LINES, text
        assert len(text) <= MOST_CHARACTERS, text
        assert text.startswith(f"{kind.__name__}(")


def test_results_with_tensors_are_shown_by_the_one_means():
    """None of them prints its tensors: a class that is added without ``@brief`` fails here."""
    for name, kind in public_dataclasses().items():
        tensors = any("Tensor" in str(field.type) for field in dataclasses.fields(kind))
        assert not tensors or name in SETTINGS or not is_generated(kind.__repr__), f"{name}: put @brief above it"


def test_every_public_kind_is_brief_by_default():
    """Settings and strategies have no tensors; their words stay short, too."""
    for name, kind in public_dataclasses().items():
        try:
            made = kind()
        except TypeError:  # needs arguments
            continue
        assert fits(repr(made)), name


def test_large_networks_are_told_in_a_line():
    n = 20_000
    pairs = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    properties = {f"a property with a long name {k}" * 3: torch.zeros(n) for k in range(40)}
    network = Network.of(torch.rand(n), pairs, torch.full((n - 1,), 2.0), properties=properties)
    assert fits(repr(network))
    assert "20000 minima" in repr(network)


def test_words_tell_what_is_there():
    network = Network.of([0.0, 0.2, 0.1], [(0, 1), (1, 2)], [1.0, 0.5], properties={"accuracy": torch.ones(3)})
    assert (
        repr(network) == "Network(3 minima from 0 to 0.2, 2 transition states from 0.5 to 1, connected; accuracy)"
    )
    text = repr(analysis.heat_capacity(network, torch.linspace(0.1, 1, 50, dtype=torch.float64)))
    assert "temperatures=[50] 0.1 to 1" in text
    assert in_few_words(torch.tensor([1.0, float("nan"), 3.0, 4.0, float("inf")])) == "[5] 1 to 4, 2 not finite"
    assert in_few_words(torch.tensor([True, False, True, True, True])) == "[5] 4 true"
    assert in_few_words(torch.zeros(0, 3)) == "[0, 3] empty"


@settings(max_examples=30)
@given(st.lists(st.text(max_size=300), max_size=60), st.integers(0, 60))
def test_nothing_is_longer(texts, n):
    fields = [(f"field_{k}", typing.Any) for k in range(n + len(texts))]
    kind = brief(dataclasses.make_dataclass("Result", fields, frozen=True))
    made = kind(*texts, *[torch.arange(9.0)] * n)
    assert fits(repr(made))
    assert repr(made).startswith("Result(")


def test_a_repr_of_its_own_stays():
    @brief
    @dataclasses.dataclass
    class Own:
        x: int

        def __repr__(self) -> str:
            return "mine"

    assert repr(Own(1)) == "mine"


def test_notebooks_see_a_table_and_a_picture():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    network = Network.of([0.0, 0.2, 0.1], [(0, 1), (1, 2)], [1.0, 0.5])
    shown = network._repr_html_()
    assert "<td" in shown
    assert "minima" in shown
    assert re.search(r'<img [^>]*src="data:image/png;base64,iVBOR', shown)
    capacity = analysis.heat_capacity(network, torch.linspace(0.1, 1, 50, dtype=torch.float64))
    assert "data:image/png" in capacity._repr_html_()
    assert "data:image/png" not in analysis.funnels(network)._repr_html_()
    assert "<img" not in Network.of([], [], [])._repr_html_()
    assert plt.get_fignums() == before


def test_points_and_searches_show_their_energies(tmp_path):
    surface = tsc.FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2, 2)
    points = tsc.relax(surface, surface.sample(8, seed=0))
    ends = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    found = tsc.saddles.connect(surface, ends[:1], ends[1:])
    for shown in (points, found):
        data = re.search(r'src="data:image/png;base64,([^"]+)"', shown._repr_html_()).group(1)
        (tmp_path / f"{type(shown).__name__}.png").write_bytes(base64.b64decode(data))
    assert "<img" not in points[:0]._repr_html_()
    assert "<img" not in tsc.saddles.connect(surface, ends[:0], ends[:0])._repr_html_()


def test_notebooks_see_landscapes_in_words():
    surface = tsc.FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2, 2)
    with tsc.Landscape.in_memory(surface) as landscape:
        shown = landscape._repr_html_()
        assert "transition states" in shown
        assert "<table" in shown
        assert "<img" not in shown  # of an empty one
        assert len(repr(landscape)) < 200
        tsc.explore(landscape, surface, strategies=tsc.BasinHopping(walkers=8, hops=0), progress=False)
        assert "data:image/png" in landscape._repr_html_()  # its tree
    assert "closed" in landscape._repr_html_()


def test_tables_escape_what_they_are_given():
    assert "<script>" not in table("<script>", [("<script>", "<script>")])
