"""The command line takes what other programs have left in the place of a landscape file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from torchscape import Landscape, Network
from torchscape.cli import main
from torchscape.export import read_pathsample, write_pathsample

FIELD = Path(__file__).parents[2].parent / "shared" / "data" / "field"
field = pytest.mark.skipif(not FIELD.is_dir(), reason="the files of the field's programs are not at hand")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A double well with its transition state twice, the higher minimum first."""
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    network = Network.of(
        energy=[0.5, 0.0],
        edges=[(0, 1), (0, 1)],
        ts_energy=[1.0, 1.5],
        coords=x,
        ts_coords=torch.zeros(2, 2, dtype=torch.float64),
    )
    write_pathsample(network, tmp_path / "there", a=[1], b=[0], log_group_order=0.0)
    (tmp_path / "there" / "pathdata").unlink()
    return tmp_path / "there"


def said(capsys, *words: str) -> str:
    code = main([str(word) for word in words])
    out = capsys.readouterr()
    assert code == 0, out.err
    return out.out


def refused(capsys, *words: str) -> str:
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def test_info_counts_what_is_there(folder, capsys):
    told = json.loads(said(capsys, "info", folder, "--json"))
    assert (told["n_minima"], told["n_transition_states"], told["n_connected_pairs"]) == (2, 2, 1)
    assert (told["energies"], told["database_ids"], told["n_modes"], told["n_in_A"]) == (
        [0.0, 0.5],
        [2, 1],
        None,
        1,
    )
    assert "unknown: give --modes" in said(capsys, "info", folder)
    assert json.loads(said(capsys, "info", folder, "--json", "--modes", "2"))["n_modes"] == 2


def test_analyse_leaves_out_what_needs_modes_and_takes_the_end_states_from_the_files(folder, capsys):
    told = json.loads(said(capsys, "analyse", folder, "--temperature", "0.2", "--json", "--random", "0"))
    assert told["heat_capacity"] is told["mean_energy"] is None
    rate = told["kinetics"][0]
    assert (rate["from"], rate["to"]) == ([1], [0])  # by energy: A is the lower one
    expected = (np.exp(-0.5 / 0.2) + np.exp(-1.0 / 0.2)) / (2 * np.pi)
    assert rate["forward"]["k"] == pytest.approx(expected, rel=1e-9)
    assert "--modes K" in said(capsys, "analyse", folder, "--temperature", "0.2", "--random", "0")
    known = json.loads(
        said(capsys, "analyse", folder, "--temperature", "0.2", "--json", "--random", "0", "--modes", "4")
    )
    assert known["heat_capacity"][0] > 2
    assert known["kinetics"][0]["forward"]["k"] == pytest.approx(rate["forward"]["k"], rel=1e-12)


def test_plots_are_drawn(folder, capsys, tmp_path):
    said(capsys, "plot", folder, "disconnectivity", "-o", tmp_path / "tree.png")
    assert (tmp_path / "tree.png").stat().st_size > 1000
    assert "--modes" in refused(capsys, "plot", folder, "heat-capacity", "-o", tmp_path / "c.png")
    said(capsys, "plot", folder, "heat-capacity", "-o", tmp_path / "c.png", "--modes", "2")


def test_export_keeps_the_order_of_the_files(folder, capsys, tmp_path):
    said(capsys, "export", folder, "--format", "pathsample", "-o", tmp_path / "again")
    for name in ("min.data", "ts.data", "points.min", "points.ts", "min.A", "min.B"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
    said(capsys, "export", folder, "--format", "pathsample", "-o", tmp_path / "other", "--from", "0", "--to", "1")
    assert (tmp_path / "other" / "min.A").read_text().split() == [
        "1",
        "1",
    ]  # 1 by energy is the first in the files
    said(capsys, "export", folder, "--format", "csv", "-o", tmp_path / "tables")
    assert (tmp_path / "tables" / "minima.csv").read_text().splitlines()[1].startswith("0,1,0.5")
    assert "there is no minimum 7" in refused(
        capsys, "export", folder, "--format", "pathsample", "-o", tmp_path / "no", "--to", "7"
    )


def test_a_folder_becomes_a_landscape(folder, capsys, tmp_path):
    (tmp_path / "model.py").write_text(
        "from torchscape import FunctionPotential\n"
        "potential = FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + 0.25 * x[0] + x[1] ** 2, 2)\n"
    )
    told = said(capsys, "merge", f"{tmp_path / 'model.py'}:potential", folder, "-o", tmp_path / "a.db")
    assert "0 of 2 minima are the same, 2 in the same place with another energy" in told
    with Landscape.open(tmp_path / "a.db") as landscape:
        assert (landscape.n_minima, landscape.n_transition_states) == (2, 1)
        assert landscape.network().properties["in_A"].tolist() == [1.0, 0.0]
    assert "which knows its modes" in refused(capsys, "info", tmp_path / "a.db", "--modes", "3")


def test_other_folders_are_named(tmp_path, capsys):
    for command in (["info"], ["analyse"], ["plot"]):
        words = [
            *command,
            tmp_path,
            *(["disconnectivity", "-o", tmp_path / "a.png"] if command == ["plot"] else []),
        ]
        assert "without min.data and ts.data" in refused(capsys, *words)


@field
def test_published_rates_come_from_a_folder_alone(capsys):
    told = json.loads(said(capsys, "analyse", FIELD / "nopoints", "--temperature", "1", "--json", "--random", "0"))
    row = told["kinetics"][0]
    assert row["forward"]["mfpt"] == pytest.approx(7.520218829e11, rel=1e-9)
    assert row["backward"]["mfpt"] == pytest.approx(3.096648467e11, rel=1e-9)
    assert read_pathsample(FIELD / "nopoints").energy.sort().indices[row["to"]].tolist() == [143]
