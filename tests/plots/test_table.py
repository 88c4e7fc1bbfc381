"""Every plot is declared once; what the face, the parser and the command line say of it follows from that."""

from __future__ import annotations

import ast
import inspect
import sys
import types
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from torchscape import Landscape, Network, plots, relax
from torchscape.cli import main
from torchscape.cli.parser import build_parser
from torchscape.plots import table
from torchscape.plots.canvas import Picture, axes_of, figure_of
from torchscape.plots.table import PLOTS, Option, Plot
from torchscape.potentials import Quadratic

ROOM = Path(plots.__file__).parent
# What each option may be called by a function.
NAMES = {
    "between": {"start", "end"}, "label": {"labels"}, "temperature": {"temperature", "temperatures"},
    "whole": {"excess"},
}  # fmt: skip
VALUES = {
    "count": 3, "positive": 0.5, "temperatures": [0.5], "two minima": (0, 1), "minima": [0], "text": "energy",
    "sets": {"a": [0]}, "range": (0.0, 1.0), "width": "page", "": True,
}  # fmt: skip


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_the_row_is_true(plot):
    function = getattr(plots, plot.name)
    assert inspect.signature(function).return_annotation == plot.picture
    assert issubclass(getattr(plots, plot.picture), Picture)
    assert function.__module__ == plot.home


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_axes_are_given_by_name_only(plot):
    for name, parameter in inspect.signature(getattr(plots, plot.name)).parameters.items():
        if name in ("ax", "axes"):
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default is None


@pytest.mark.parametrize("plot", [plot for plot in PLOTS if plot.shell], ids=lambda plot: plot.name)
def test_the_command_line_says_all_that_the_function_takes(plot):
    parameters = inspect.signature(getattr(plots, plot.name)).parameters
    required = [name for name, one in parameters.items() if one.default is one.empty]
    assert required == ["network"]
    declared = {name for option in plot.options for name in option.given(plot.kind, VALUES[option.value])}
    assert declared <= set(parameters)
    usual = {name for option in table.declared_options() for name in NAMES.get(option.flag, {option.name})}
    assert usual & set(parameters) == declared


def test_no_plot_is_left_out():
    """Functions of the room that return a picture and are public in their module, against the table."""
    found = set()
    for path in ROOM.glob("*.py"):
        tree = ast.parse(path.read_text())
        listed = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)
                  and getattr(node.targets[0], "id", "") == "__all__" and path.name != "__init__.py"]  # fmt: skip
        pictures = {plot.picture for plot in PLOTS}
        found |= {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef)
            and node.name in listed[0]
            and node.returns is not None
            and ast.unparse(node.returns) in pictures
        }
    assert found == {plot.name for plot in PLOTS}


def test_type_checkers_read_every_module_of_the_table():
    tree = ast.parse((ROOM / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert {node.module for node in block.body} == {plot.home for plot in PLOTS}


def test_the_face_has_what_the_table_has():
    assert plots.__all__ == sorted({plot.name for plot in PLOTS} | {plot.picture for plot in PLOTS})
    assert set(plots.__all__) <= set(dir(plots))
    with pytest.raises(AttributeError, match="no attribute 'disconectivity'"):
        _ = plots.disconectivity


class _Levels(Picture):
    def __init__(self, figure):
        self.figure = figure


def _level_lines(network: Network, *, stroke: float = 1.0, ax: plt.Axes | None = None) -> _Levels:
    axes = axes_of(ax)
    for energy in network.levels.tolist():
        axes.axhline(energy, lw=stroke, gid="level")
    return _Levels(figure_of(axes))


def test_a_plot_of_ones_own_is_one_row(tmp_path, monkeypatch, capsys):
    """Its kind and its option are in the help, the command line draws it, and the face has it."""
    module = types.ModuleType("my_plots")
    module.level_lines, module.Levels = _level_lines, _Levels
    monkeypatch.setitem(sys.modules, "my_plots", module)
    stroke = Option("stroke", "level-lines: how wide, in points", "positive", "POINTS")
    monkeypatch.setattr(table, "PLOTS", [*PLOTS, Plot("level_lines", "my_plots", "Levels", (stroke,), shell=True)])
    bowl = Quadratic([1.0, 2.0])
    with Landscape.open(tmp_path / "x.db", bowl) as landscape:
        landscape.add_minima(relax(bowl, torch.ones(1, 2, dtype=torch.float64)))

    with pytest.raises(SystemExit):
        build_parser().parse_args(["plot", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "heat-capacity-trees, level-lines, network" in said
    assert "--stroke POINTS level-lines: how wide, in points" in said

    picture = tmp_path / "x.svg"
    words = ["plot", str(tmp_path / "x.db"), "level-lines", "-o", str(picture)]
    assert main([*words, "--stroke", "7"]) == 0
    assert 'id="level"' in picture.read_text()
    assert "stroke-width: 7" in picture.read_text()
    assert main([*words, "--gaps"]) == 2
    assert "plot level-lines takes no --gaps" in capsys.readouterr().err
    assert plots.level_lines is _level_lines
