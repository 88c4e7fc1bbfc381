"""Input files of disconnectionDPS: the superbasins that the program itself drew, and what each keyword means."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from torchscape import Network, analysis, export, plots
from torchscape.cli import main
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.plots.dinfo import read_dinfo

FIELD = Path(__file__).parents[2].parent / "shared" / "data" / "field"
needs_lj38 = pytest.mark.skipif(not (FIELD / "lj38").is_dir(), reason="needs shared/data/field/lj38")
needs_states = pytest.mark.skipif(
    not (FIELD / "pygt_32state").is_dir(), reason="needs shared/data/field/pygt_32state"
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def small() -> Network:
    """Two pairs joined over a high saddle, a dead end, and a minimum by itself; not in the order of energies."""
    return Network.of(
        [0.5, 0.0, 0.3, 0.2, 0.9, 0.1],
        [(0, 1), (2, 3), (1, 3), (1, 4)],
        [1.0, 0.8, 2.5, 1.2],
    )


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "dinfo"
    path.write_text("\n".join(["DELTA 0.5", "FIRST 3.0", "LEVELS 7", *lines]))
    return path


def superbasins_of_postscript(path: Path, first: float, delta: float) -> dict[int, set[frozenset[float]]]:
    """From the lines that disconnectionDPS drew: at each level, the energies of the minima of each superbasin."""
    lines, level = [], 0
    axis = [float(y) for y in re.findall(r"^ *68\.50 +([\d.]+) mt", path.read_text(), re.MULTILINE)]
    for line in path.read_text().splitlines():
        if found := re.match(r"% Level: *(\d+) to", line):
            level = int(found[1])
        elif level and (found := re.match(r" *([\d.]+) +([\d.]+) mt +([\d.]+) +([\d.]+) ls$", line)):
            lines.append((level, *map(float, found.groups())))
        elif "setrgbcolor" in line:
            level = 0  # labels follow
    height = axis[0] - axis[1]
    below: dict[tuple[int, float], list] = {}
    for number, x, _, down, y in lines:
        ends = abs(y - axis[number]) > 0.004 or not any(n == number + 1 and u == down for n, u, *_ in lines)
        energy = round(first - delta * (axis[0] - y) / height, 3)
        below.setdefault((number, x), []).append(energy if ends else (number + 1, down))

    def members(node) -> frozenset[float]:
        parts = [frozenset([one]) if isinstance(one, float) else members(one) for one in below[node]]
        return frozenset().union(*parts)

    out: dict[int, set[frozenset[float]]] = {}
    for node in below:
        out.setdefault(node[0], set()).add(members(node))
    return out


def superbasins_drawn(picture, level: int) -> set[frozenset[float]]:
    """The same of ours: what hangs together at or below a level, of branches that go on below it."""
    layout = picture.layout
    out: dict[int, set[float]] = {}
    for leaf in range(layout.n_leaves):
        node = leaf
        while layout.parent[node] >= 0 and layout.level[layout.parent[node]] <= level:
            node = int(layout.parent[node])
        if layout.y[leaf] < picture.levels[level]:
            out.setdefault(node, set()).add(round(float(layout.y[leaf]), 3))
    return {frozenset(one) for one in out.values()}


@needs_lj38
def test_lj38_has_the_superbasins_that_disconnection_dps_drew():
    folder = FIELD / "lj38"
    picture = plots.disconnectivity(export.read_pathsample(folder), dinfo=folder / "dinfo")
    drawn = superbasins_of_postscript(folder / "tree.ps", first=-168.5, delta=0.2)
    assert len(picture.levels) == 29
    assert len(drawn) > 25
    for number, theirs in drawn.items():
        ours = superbasins_drawn(picture, 29 - number)
        assert len(ours) == len(theirs), number
        # The file has two decimals of a point, which are less than a thousandth of energy.
        nearest = {frozenset(sorted(one)): one for one in ours}
        for superbasin in theirs:
            same = [
                one
                for one in nearest
                if len(one) == len(superbasin) and np.allclose(sorted(one), sorted(superbasin), atol=2e-3)
            ]
            assert len(same) == 1, (number, superbasin)
    assert sorted(text.get_text() for text in picture.axes.texts if text.get_gid() != "bar") == ["2", "8"]
    assert picture.step == pytest.approx(0.2)


@needs_lj38
def test_default_of_lj38_shows_both_funnels():
    """Twenty even levels had one at which nearly all minima joined: both funnels hung from one point."""
    network = export.read_pathsample(FIELD / "lj38")
    picture = plots.disconnectivity(network)
    layout, leaf = picture.layout, {int(m): k for k, m in enumerate(picture.leaves)}
    fcc, icosahedral = leaf[1], leaf[7]  # minima 2 and 8 of the database
    above = {}
    for one in (fcc, icosahedral):
        node, way = one, []
        while (node := int(layout.parent[node])) >= 0:
            way.append(node)
        above[one] = way
    meet = next(node for node in above[fcc] if node in above[icosahedral])
    sides = [
        next(n for n in np.flatnonzero(layout.parent == meet) if n in [one, *above[one]])
        for one in (fcc, icosahedral)
    ]
    n_below = [(layout.first[s] <= layout.x[:64]) & (layout.x[:64] <= layout.last[s]) for s in sides]
    assert all(mask.sum() >= 8 for mask in n_below)
    width = np.ptp(layout.x[:64])
    assert abs(layout.x[sides[0]] - layout.x[sides[1]]) > 0.1 * width  # apart at a glance
    forest = analysis.merge_tree(network)
    assert layout.y[meet] == float(forest.minimax_between(torch.tensor([1]), torch.tensor([7])))


@needs_states
def test_values_of_a_file_colour_the_minima():
    folder = FIELD / "pygt_32state"
    network = export.read_pathsample(folder)
    said = read_dinfo(folder / "dinfo")
    if len(np.loadtxt(folder / "communities.dat")) != network.n_minima:
        pytest.skip("another number of communities")
    picture = plots.disconnectivity(network, dinfo=folder / "dinfo")
    assert picture.colouring.label == "communities"
    assert picture.colouring.mappable.get_clim() == (0.0, 3.0)
    assert said.passed_over.count("TRVALSCALE") == 1


def test_levels_and_transition_states(tmp_path):
    network, options = read_dinfo(written(tmp_path, "MAXTSENERGY 1.1", "CONNECTMIN 2")).applied(small())
    assert options["levels"] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    assert network.ts_energy.tolist() == [1.0, 0.8]
    assert options["minima"] == [0, 1]
    assert options["centre"] == "largest"
    network, options = read_dinfo(written(tmp_path, "MAXTSBARRIER 0.6D0", "CENTREGMIN")).applied(small())
    assert network.ts_energy.tolist() == [1.0, 0.8, 1.2]  # those with both barriers above are ignored
    assert options["centre"] == "lowest"


@pytest.mark.parametrize(
    ("lines", "minima"),
    [
        ([], [0, 1, 2, 3, 4]),  # what is connected with the lowest minimum
        (["CONNECTMIN 6"], [5]),
        (["NCONNMIN 1"], [1, 3]),
        (["LOWEST 3"], [1, 2, 3]),
        (["MONOTONIC"], [1]),
        (["MONOTONIC", "MAXTSENERGY 2.0", "CONNECTMIN 4"], [3]),
        (["PICK keep"], [0, 1, 2, 4]),
        (["EXCLUDEALL", "PICK keep"], [0, 2]),
        (["NOSPLIT", "DELTA 1.0", "LEVELS 4"], [1, 3, 4]),
        (["! LOWEST 1", "COMMENT LOWEST 1", "lowest 2 ! two"], [1, 3]),
    ],
)
def test_which_minima_are_drawn(tmp_path, lines, minima):
    (tmp_path / "keep").write_text("1\n-4\n3\n")
    _, options = read_dinfo(written(tmp_path, *lines)).applied(small())
    assert options["minima"] == minima


def test_sets_values_and_labels(tmp_path):
    (tmp_path / "one").write_text("1\n2\n")
    (tmp_path / "other").write_text("4\n")
    picture = plots.disconnectivity(small(), dinfo=written(tmp_path, "TRMIN 2 6 one other", "IDMIN 5", "IDMIN 2"))
    assert [name for name, _ in picture.colouring.names] == ["one (2)", "other (1)"]
    assert picture.colouring.groups.tolist() == [1, 1, 0, 2, 0, 0]
    assert set(picture.labelled) == {4, 1}
    (tmp_path / "values").write_text("0.0\n1.0\n0.5\n0.25\n0.75\n0.1\n")
    lines = ["TRVAL 6 values", "TRVALRANGE 0. 2.", "SCALEBAR 0.5", "IDENTIFY", "NOBARRIERS"]
    picture = plots.disconnectivity(small(), dinfo=written(tmp_path, *lines))
    assert picture.colouring.mappable.get_clim() == (0.0, 2.0)
    assert {text.get_text() for text in picture.axes.texts if text.get_gid() != "bar"} <= set("12345")
    bars = [round(np.ptp(line.get_ydata()), 6) for line in picture.axes.lines if line.get_gid() == "bar"]
    assert bars.count(0.5) == 2  # the scale, and the step of the same length
    saddles = picture.layout.y[picture.layout.n_leaves :]
    assert saddles.max() <= 1.0


def test_a_folder_is_drawn_with_its_own_numbers(tmp_path, monkeypatch):
    """The command line numbers minima by energy, a dinfo as min.data does: minimum 2 of the file is the lowest."""
    export.write_pathsample(small(), tmp_path / "folder")
    path = written(tmp_path, "IDMIN 2", "IDMIN 4", "CONNECTMIN 2", "MAXTSENERGY 2.0")
    pictures = []
    plain = plots.disconnectivity
    monkeypatch.setattr(
        "torchscape.plots.disconnectivity_graph.disconnectivity",
        lambda *args, **options: pictures.append(plain(*args, **options)) or pictures[-1],
    )
    words = ["plot", str(tmp_path / "folder"), "disconnectivity", "-o", str(tmp_path / "x.png")]
    assert main([*words, "--dinfo", str(path)]) == 0
    assert pictures[0].minima.size == 3
    texts = {text.get_text() for text in pictures[0].axes.texts if text.get_gid() != "bar"}
    assert texts == {"2"}  # the fourth is not connected with it
    assert main([*words, "--label", "0"]) == 0
    leaf = pictures[1].leaves.tolist().index(0)
    assert pictures[1].layout.y[leaf] == 0.0


def test_arguments_say_otherwise(tmp_path):
    path = written(tmp_path, "IDMIN 1")
    picture = plots.disconnectivity(small(), dinfo=path, levels="exact", labels=[3], style="orthogonal")
    assert picture.step is None
    assert picture.labelled == (3,)
    relative = plots.disconnectivity(
        dataclasses.replace(small(), energy=small().energy + 1, ts_energy=small().ts_energy + 1),
        dinfo=path,
        relative=True,
    )
    assert relative.levels[-1] == pytest.approx(2.0)
    auto = tmp_path / "auto"
    auto.write_text("AUTORANGE\nDELTA 0.5\n")
    picture = plots.disconnectivity(small(), dinfo=auto)
    assert picture.levels.min() <= 0.0
    assert picture.levels.max() == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (["MAXTSENRGY 2"], UnknownName, "did you mean 'MAXTSENERGY'"),
        (["LOWEST"], TorchscapeError, "dinfo:4: LOWEST needs 1 number"),
        (["LOWEST many"], TorchscapeError, "'many' is not a number"),
        (["IDMIN 7"], TorchscapeError, "numbered from 1 to 6"),
        (["TRVAL 6 absent"], TorchscapeError, "absent cannot be read"),
        (["WEIGHTS w"], TorchscapeError, "begin the line with !"),
        (["PICK"], TorchscapeError, "names no file"),
        (["DELTA -1"], TorchscapeError, "above 0"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, lines, error, message):
    with pytest.raises(error, match=message):
        plots.disconnectivity(small(), dinfo=written(tmp_path, *lines))


def test_files_that_are_none(tmp_path):
    (tmp_path / "x").write_text("LEVELS 3\n")
    with pytest.raises(TorchscapeError, match="DELTA, FIRST missing"):
        read_dinfo(tmp_path / "x")
    with pytest.raises(TorchscapeError, match="cannot be read"):
        read_dinfo(tmp_path / "nothing")
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TorchscapeError, match="no text file"):
        read_dinfo(tmp_path / "x")
