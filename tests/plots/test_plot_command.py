"""Every option of ``torchscape plot DB disconnectivity`` reaches the picture."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from torchscape import BasinHopping, ConnectMinima, FunctionPotential, Landscape, explore, plots
from torchscape.cli import main


def wells(x):
    return (x[0] ** 2 - 1) ** 2 + 0.3 * x[0] + 0.6 * (x[1] ** 2 - 1) ** 2 + 0.1 * x[0] * x[1]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Four wells and the saddles between them."""
    path = tmp_path_factory.mktemp("wells") / "wells.db"
    potential = FunctionPotential(wells, 2)
    with Landscape.open(path, potential) as landscape:
        explore(
            landscape, potential, strategies=[BasinHopping(walkers=16, hops=1), ConnectMinima()], progress=False
        )
        assert landscape.network().n_minima == 4
    return path


@pytest.fixture
def drawn(monkeypatch, database, tmp_path):
    """Draws with these words, and returns the picture."""
    pictures = []
    plain = plots.disconnectivity

    def kept(*args, **options):
        pictures.append(plain(*args, **options))
        return pictures[-1]

    monkeypatch.setattr("torchscape.plots.disconnectivity_graph.disconnectivity", kept)

    def draw(*words: str):
        assert main(["plot", str(database), "disconnectivity", "-o", str(tmp_path / "x.svg"), *words]) == 0
        assert (tmp_path / "x.svg").stat().st_size > 2000
        return pictures[-1]

    return draw


def test_levels_style_and_axis(drawn):
    plain = drawn()
    assert plain.step is None
    assert len(plain.lines.bars) > 0
    picture = drawn("--step", "0.25", "--style", "slanted", "--unit", "eV", "--relative")
    assert picture.step == 0.25
    assert len(picture.lines.bars) == 0
    assert picture.axes.get_ylabel() == "energy above the lowest minimum (eV)"
    assert len(drawn("--levels", "7").levels) == 7
    assert not drawn("--scale-bar").axes.spines["left"].get_visible()
    assert drawn("--width", "column").figure.get_size_inches()[0] == pytest.approx(3.37)
    assert drawn("--width", "5", "--height", "4").figure.get_size_inches().tolist() == [5.0, 4.0]


def test_windows_may_be_below_zero(drawn):
    low, high = drawn("--window=-1:2").axes.get_ylim()
    assert (low, high) == pytest.approx((-1.0, 2.06))
    assert drawn("--window=:2").axes.get_ylim()[0] > -1.0
    lowest = float(drawn().layout.y.min())
    picture = drawn(f"--broken={lowest + 0.05}:{lowest + 0.1}")
    place = picture.axes.transData.transform([(0, lowest + 0.05), (0, lowest + 0.1), (0, lowest + 0.15)])[:, 1]
    assert not np.isclose(place[1] - place[0], place[2] - place[1])


def test_minima_chosen_and_coloured(drawn):
    assert drawn("--label", "0,3").labelled == (0, 3)
    picture = drawn("--highlight", "left=0,1;one=3")
    assert picture.colouring.groups.tolist() == [1, 1, 0, 2]
    wedges = drawn("--lowest", "2", "--collapse")
    assert wedges.count.sum() == 4
    assert any(collection.get_gid() == "wedges" for collection in wedges.axes.collections)


def test_free_energies(drawn):
    picture = drawn("--temperature", "0.1", "--labels")
    assert picture.axes.get_ylabel() == "free energy"
    assert len(picture.minima) == 4
    assert len(drawn("--temperature", "0.1", "--regroup", "5").minima) == 1


def test_lines_of_a_network_and_whole_heat_capacities(database, tmp_path):
    assert main(["plot", str(database), "network", "-o", str(tmp_path / "n.png"), "--edges", "equal"]) == 0
    assert main(["plot", str(database), "network", "-o", str(tmp_path / "n.png"), "--edges", "thick"]) == 2
    assert main(["plot", str(database), "heat-capacity", "-o", str(tmp_path / "c.png"), "--whole"]) == 0


def test_a_dinfo(drawn, tmp_path):
    lowest = float(drawn().layout.y.min())
    (tmp_path / "dinfo").write_text(f"DELTA 0.5\nFIRST {lowest + 3}\nLEVELS 8\nIDMIN 2\nLOWEST 3\n")
    picture = drawn("--dinfo", str(tmp_path / "dinfo"))
    assert picture.levels == pytest.approx(lowest + 0.5 * torch.arange(-1, 7).numpy())
    assert picture.labelled == (1,)  # the second
    assert [text.get_text() for text in picture.axes.texts if text.get_gid() != "bar"] == ["2"]
    assert len(picture.minima) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "3:1"], "runs from 3 down to 1"),
        (["--window", "low"], "not a range of energies"),
        (["--highlight", "0,1"], "not a list of sets"),
        (["--width", "wide"], "not a number above 0"),
        (["--step", "0.1", "--levels", "4"], "give one of them"),
        (["--style", "round"], "'orthogonal' or 'slanted'"),
        (["--label", "17"], "no minimum 17"),
        (["--temperature", "0.1,0.2"], "shows one temperature"),
        (["--regroup", "1"], "give a temperature too"),
        (["--broken=5:9"], "the ends of the axis"),
    ],
)
def test_what_is_wrong_is_said(database, tmp_path, capsys, words, message):
    arguments = ["plot", str(database), "disconnectivity", "-o", str(tmp_path / "x.png"), *words]
    with contextlib.suppress(SystemExit):  # of what the parser refuses
        assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
