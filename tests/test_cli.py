"""The command line: known answers through it, exit codes, and one line of advice for every kind of bad input."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch

from torchscape.cli import main
from torchscape.cli.parser import build_parser
from torchscape.landscape import Landscape

HIMMELBLAU = """
import torch
from torchscape import Bounds, Potential

class Himmelblau(Potential):
    ndim = 2
    bounds = Bounds.of([(-6, 6), (-6, 6)])

    def energy(self, x):
        return (x[:, 0] ** 2 + x[:, 1] - 11) ** 2 + (x[:, 0] + x[:, 1] ** 2 - 7) ** 2

class Slow(Himmelblau):
    def energy(self, x):
        import time
        time.sleep(0.005)
        return super().energy(x)

potential = Himmelblau()
number = 3

def build(device=None, dtype=torch.float64):
    made = Himmelblau()
    made.dtype = dtype
    made.bounds = Bounds.of([(-6, 6), (-6, 6)], dtype=dtype)
    return made

def shifted():
    made = Himmelblau()
    made.settings = lambda: {"ndim": 2, "shift": 1.0}
    return made

def slow():
    return Slow()

def needs(x):
    return potential

def fails():
    return 1 / 0

def a_number():
    return 3
"""

SADDLES = [13.31192627, 67.71915009, 104.01516292, 178.3372392]  # Himmelblau's, joined in a ring with its minima


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("user") / "my_model.py"
    path.write_text(HIMMELBLAU)
    return path


@pytest.fixture(scope="module")
def explored(model, tmp_path_factory) -> Path:
    """A landscape file that the command line has made."""
    db = tmp_path_factory.mktemp("explored") / "h.db"
    words = [
        "explore",
        f"{model}:potential",
        "--db",
        str(db),
        "--seed",
        "1",
        "--walkers",
        "16",
        "--hops",
        "4",
        "--quiet",
    ]
    assert main(words) == 0
    return db


def said(capsys) -> str:
    """The one line on stderr."""
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("torchscape: ")
    return lines[0]


def summary(db: Path, capsys) -> dict:
    capsys.readouterr()
    assert main(["info", str(db), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# --- what it does -----------------------------------------------------------------------------------------


def test_no_hops_are_quenches_alone(model, tmp_path, capsys):
    """As ``BasinHopping(hops=0)`` in Python."""
    words = ["--walkers", "4", "--hops", "0", "--strategy", "basin-hopping", "--quiet"]
    assert main(["explore", f"{model}:potential", "--db", str(tmp_path / "h.db"), *words]) == 0
    assert summary(tmp_path / "h.db", capsys)["n_minima"] > 0


def test_explore_finds_the_known_landscape_and_info_says_so(explored, capsys):
    found = summary(explored, capsys)
    assert found["n_minima"] == 4
    assert found["n_transition_states"] == found["n_connected_pairs"] == 4
    assert found["n_components"] == 1
    np.testing.assert_allclose(found["energies"], 0.0, atol=1e-6)
    np.testing.assert_allclose(found["ts_energies"], SADDLES, atol=1e-6)
    assert found["lowest_energy"] == found["energies"][0]
    ring = networkx.Graph(found["connections"])
    assert networkx.is_isomorphic(ring, networkx.cycle_graph(4))
    assert found["complete"] is True
    assert len(found["fingerprint"]) == 64


def test_exploring_again_changes_nothing(explored, model, capsys):
    before = summary(explored, capsys)
    words = ["--seed", "1", "--walkers", "16", "--hops", "4", "--quiet"]
    assert main(["explore", f"{model}:potential", "--db", str(explored), *words]) == 0
    after = summary(explored, capsys)
    for name in ("energies", "ts_energies", "connections", "hits", "n_evaluations"):
        assert after[name] == before[name], name


def test_the_seed_decides_everything(model, tmp_path, capsys):
    found = []
    for name in ("a.db", "b.db"):
        words = ["--seed", "5", "--walkers", "4", "--hops", "2", "--strategy", "basin-hopping", "--quiet"]
        assert main(["explore", f"{model}:build", "--db", str(tmp_path / name), *words]) == 0
        found.append(summary(tmp_path / name, capsys))
    for name in ("energies", "hits", "n_evaluations"):
        assert found[0][name] == found[1][name]
    assert found[0]["n_transition_states"] == 0


def test_climbing_finds_saddles_without_a_pair_to_connect(model, tmp_path, capsys):
    """One walker, no hop: one minimum is known, and searches around it find both saddles of the ring beside it."""
    db = tmp_path / "climb.db"
    words = ["--walkers", "1", "--hops", "1", "--strategy", "basin-hopping,climb", "--searches", "12", "--quiet"]
    assert main(["explore", f"{model}:potential", "--db", str(db), *words]) == 0
    found = summary(db, capsys)
    assert found["n_transition_states"] >= 2
    assert all(np.isclose(SADDLES, energy, atol=1e-6).any() for energy in found["ts_energies"])


def test_a_budget_stops_the_run_and_says_that_it_is_not_complete(model, tmp_path, capsys):
    db = tmp_path / "budget.db"
    words = ["--walkers", "4", "--hops", "1000", "--max-quenches", "20"]
    assert main(["explore", f"{model}:potential", "--db", str(db), *words]) == 0
    assert "no: the same command continues" in capsys.readouterr().out
    found = summary(db, capsys)
    assert found["complete"] is False
    assert 20 <= sum(found["hits"]) < 100


def test_dtype_is_handed_to_the_function(model, tmp_path):
    db = tmp_path / "single.db"
    words = ["--walkers", "2", "--hops", "1", "--strategy", "basin-hopping", "--quiet"]
    assert main(["explore", f"{model}:build", "--db", str(db), "--dtype", "float32", *words]) == 0
    with Landscape.open(db) as landscape:
        assert landscape.minima().x.dtype == torch.float32


def test_info_is_readable(explored, capsys):
    assert main(["info", str(explored)]) == 0
    told = capsys.readouterr().out
    assert "Himmelblau, 2 coordinates" in told
    assert "4, joining 4 pairs of minima" in told
    assert "13.31192627" in told
    with Landscape.open(explored) as landscape:
        assert landscape.describe() == told.strip("\n")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("disconnectivity", ["--lowest", "3", "--labels"]),
        ("network", ["--colour", "degree"]),
        ("profile", ["--between", "0,2"]),
    ],
)
def test_plots_are_pictures(explored, tmp_path, capsys, kind, options):
    output = tmp_path / "new" / f"{kind}.png"
    assert main(["plot", str(explored), kind, "-o", str(output), *options]) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == str(output)


def test_a_plot_refuses_what_it_does_not_take(explored, tmp_path, capsys):
    assert main(["plot", str(explored), "barriers", "-o", str(tmp_path / "x.png"), "--lowest", "3"]) == 2
    assert "plot barriers takes no --lowest" in said(capsys)
    assert main(["plot", str(explored), "network", "-o", str(tmp_path / "x.png"), "--between", "0,1"]) == 2
    assert "plot network takes no --between" in said(capsys)


def test_exports_hold_the_network(explored, tmp_path, capsys):
    from torchscape.export import read_pathsample

    for form, name in (("pyg", "h.pt"), ("graphml", "h.graphml"), ("csv", "tables"), ("pathsample", "path")):
        assert main(["export", str(explored), "--format", form, "-o", str(tmp_path / name)]) == 0
    with Landscape.open(explored) as landscape:
        network = landscape.network()
    data = torch.load(tmp_path / "h.pt", weights_only=False)
    assert type(data).__module__.startswith("torch_geometric")
    assert torch.equal(data.energy, network.energy)
    graph = networkx.read_graphml(tmp_path / "h.graphml")
    assert graph.number_of_edges() == 4
    with (tmp_path / "tables" / "minima.csv").open() as file:
        assert [float(row["energy"]) for row in csv.DictReader(file)] == network.energy.tolist()
    again = read_pathsample(tmp_path / "path")
    assert torch.equal(again.coords, network.coords)
    assert torch.equal(again.edges, network.edges)


def test_analyse_agrees_with_the_closed_form(explored, capsys):
    """All four minima lie at 0: occupations go as det(H)^-1/2 at any temperature, and C_V is kappa/2 = 1."""
    capsys.readouterr()
    assert main(["analyse", str(explored), "--temperature", "0.5,2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    with Landscape.open(explored) as landscape:
        weight = torch.exp(-0.5 * landscape.network().log_det)
    expected = (weight / weight.sum()).tolist()
    np.testing.assert_allclose(result["occupation"], [expected, expected], rtol=1e-6)
    np.testing.assert_allclose(result["heat_capacity"], 1.0, atol=1e-8)
    assert main(["analyse", str(explored), "--temperature", "0.5"]) == 0
    assert "heat capacity" in capsys.readouterr().out


@pytest.fixture(scope="module")
def mueller_brown(tmp_path_factory):
    """Three minima in a row, with the integrated paths over both saddles."""
    db = tmp_path_factory.mktemp("mb") / "mb.db"
    words = ["--walkers", "16", "--hops", "1", "--paths", "--quiet"]
    assert main(["explore", "mueller-brown", "--db", str(db), *words]) == 0
    return db


KINDS = {
    "barriers": ["--gaps"],
    "coverage": [],
    "degree-distribution": [],
    "disconnectivity": ["--labels", "--levels", "9", "--colour", "energy", "--unit", "K"],
    "entropy": ["--temperature", "1:100"],
    "frustration": ["--temperature", "1,3,10"],
    "heat-capacity": ["--temperature", "1:100:30", "--lowest", "2"],
    "heat-capacity-trees": ["--temperature", "20"],
    "network": ["--size", "equal", "--colour", "funnel"],
    "occupation": [],
    "profile": ["--between", "0,1", "--temperature", "10"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_in_every_format(mueller_brown, tmp_path, capsys, kind):
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for ending, mark in begins.items():
        output = tmp_path / f"picture.{ending}"
        assert main(["plot", str(mueller_brown), kind, "-o", str(output), *KINDS[kind]]) == 0, said(capsys)
        assert output.read_bytes().startswith(mark)


def test_every_kind_of_picture_is_tried(tmp_path, mueller_brown, capsys):
    assert main(["plot", str(mueller_brown), "?", "-o", str(tmp_path / "x.png")]) == 2
    assert said(capsys).partition("known: ")[2].strip().split(", ") == list(KINDS)


def test_pictures_number_minima_as_analyse_does(mueller_brown, tmp_path, capsys):
    """By energy, 0 being the lowest, whatever their ids in the database: the legend goes up in energy."""
    with Landscape.open(mueller_brown) as landscape:
        assert landscape.network().ids.tolist() != [0, 1, 2]  # else the ids would do
    picture = tmp_path / "p.svg"
    assert main(["plot", str(mueller_brown), "occupation", "-o", str(picture)]) == 0, said(capsys)
    assert re.findall(r"<!-- minimum (.) -->", picture.read_text()) == ["0", "1", "2"]


def test_paths_are_integrated_when_asked(mueller_brown, explored):
    """To the lower saddle, as the transition state that the profile passes."""
    with Landscape.open(mueller_brown) as landscape:
        network = landscape.network()
    assert bool(network.ts_path.isfinite().all())
    assert network.ts_path[:, 32, 1].tolist() == pytest.approx([-72.24894011, -40.66484351], abs=1e-7)
    with Landscape.open(explored) as landscape:
        assert landscape.network().ts_path is None


def test_a_profile_needs_its_ends(mueller_brown, tmp_path, capsys):
    assert main(["plot", str(mueller_brown), "profile", "-o", str(tmp_path / "x.png")]) == 2
    assert "give --between I,J" in said(capsys)
    words = ["heat-capacity-trees", "-o", str(tmp_path / "x.png"), "--temperature", "1,2"]
    assert main(["plot", str(mueller_brown), *words]) == 2
    assert "one temperature" in said(capsys)


def test_analyse_says_what_the_functions_say(mueller_brown, capsys):
    from torchscape import analysis

    words = ["--temperature", "5:50:4", "--from", "1,2", "--to", "0", "--random", "3", "--seed", "1", "--json"]
    capsys.readouterr()
    assert main(["analyse", str(mueller_brown), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    with Landscape.open(mueller_brown) as landscape:
        network = landscape.network()
    t = found["temperatures"]
    assert t == pytest.approx(np.geomspace(5, 50, 4).tolist())
    capacity = analysis.heat_capacity(network, t)
    assert found["heat_capacity"] == capacity.value.tolist()
    assert found["heat_capacity_filling"] == capacity.gaining.tolist()
    assert found["frustration_normalised"] == analysis.frustration(network, t).normalised.tolist()
    assert found["shannon_entropy"] == analysis.shannon_entropy(network, t).tolist()
    peaks = analysis.heat_capacity_peaks(network)
    assert [peak["temperature"] for peak in found["peaks"]] == [peak.temperature for peak in peaks]
    assert [peak["filling"] for peak in found["peaks"]] == [peak.gaining().tolist() for peak in peaks]
    assert found["topology"]["n_funnels"] == len(analysis.funnels(network))
    statistics = analysis.graph_statistics(network, n_random=3, seed=1)
    assert found["graph"]["path_length"]["value"] == statistics.path_length.value == 4 / 3
    for row, temperature in zip(found["kinetics"], t, strict=True):
        chain = analysis.rates(network, temperature)
        there = analysis.rate_constants(chain, [0], [1, 2])
        assert row["forward"]["log_k"] == there.log_k
        assert row["backward"]["mfpt"] == analysis.rate_constants(chain, [1, 2], [0]).mfpt
        assert row["fastest_path"] == analysis.fastest_path(network, temperature, [0], [1, 2]).minima.tolist()
    counted = [row["n_kinetic_states"] for row in found["communities"]["at_temperatures"]]
    assert counted == [len(analysis.kinetic_lumping(network, temperature)) for temperature in t]


def test_analyse_without_a_temperature_looks_around_the_peaks(mueller_brown, capsys):
    assert main(["analyse", str(mueller_brown), "--from", "1", "--to", "0"]) == 0
    told = capsys.readouterr().out
    assert "mean first-passage time" in told
    assert "3 minima, 2 transition states, 1 component" in told


def test_analyse_refuses_what_it_cannot_answer(mueller_brown, tmp_path, capsys):
    assert main(["analyse", str(mueller_brown), "--from", "1"]) == 2
    assert "give both --from and --to" in said(capsys)
    assert main(["analyse", str(mueller_brown), "--from", "1", "--to", "7"]) == 2
    assert "--to 7: there is no such minimum" in said(capsys)
    for words in (["--temperature", "2:1"], ["--temperature", "0"], ["--from", "-1"], ["--random", "-1"]):
        with pytest.raises(SystemExit) as exit:
            main(["analyse", str(mueller_brown), *words])
        assert exit.value.code == 2
        capsys.readouterr()


def test_problems_are_listed(capsys):
    assert main(["problems"]) == 0
    told = capsys.readouterr().out
    for name in ("himmelblau", "digits", "schwefel"):
        assert any(line.startswith(name) for line in told.splitlines())


def test_what_has_no_minimum_is_said_at_the_end(tmp_path):
    """As a line of its own, also with --quiet; and ``info`` says it again."""
    model, db = tmp_path / "falls.py", tmp_path / "falls.db"
    model.write_text(
        "import torchscape as tsc\nslope = tsc.FunctionPotential(lambda x: (-x).exp().sum(), 2, name='slope')\n"
    )
    words = ["explore", f"{model}:slope", "--db", str(db), "--walkers", "2", "--hops", "1", "--quiet"]
    run = subprocess.run([sys.executable, "-m", "torchscape", *words], capture_output=True, text=True, check=True)
    why = "none of 4 quenches ended in a minimum (4 falls for ever)"
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"torchscape: warning: {why}: no minimum at finite coordinates: regularise")
    with Landscape.open(db) as landscape:
        told = landscape.describe()
    assert why in told
    assert "nothing is left to try, and no minimum was found" in told


def test_a_problem_can_be_named_with_options(tmp_path, capsys):
    db = tmp_path / "well.db"
    assert (
        main(["explore", "double-well:ndim=2", "--db", str(db), "--walkers", "8", "--hops", "2", "--quiet"]) == 0
    )
    assert summary(db, capsys)["ndim"] == 2


# --- how it reads -----------------------------------------------------------------------------------------


def test_help_names_the_defaults_that_hold():
    from torchscape.explore import BasinHopping, ClimbFromMinima, ConnectMinima
    from torchscape.explore.basin_hopping import walkers_for
    from torchscape.potentials import DoubleWell

    explore = build_parser()._subparsers._group_actions[0].choices["explore"]
    told = " ".join(explore.format_help().partition("what SPEC may be")[0].split())
    for cls, names in (
        (BasinHopping, ("temperature", "step")),
        (ConnectMinima, ("neighbours",)),
        (ClimbFromMinima, ("searches",)),
    ):
        for name in names:
            text = told[told.rindex(f"--{name} ") :]
            assert f"(default: {getattr(cls, name):g})" in text[: text.index(")") + 1], name
    walkers = {n: walkers_for(DoubleWell(n)) for n in (1, 10, 11, 100, 101)}
    assert walkers == {1: 512, 10: 512, 11: 256, 100: 256, 101: 64}
    assert "(default: 512 up to 10 coordinates, 256 up to 100, 64 beyond)" in told
    assert "(default: 50, or as many as make 3200 of all walkers)" in told


def test_the_module_runs_as_a_program():
    run = subprocess.run(
        [sys.executable, "-m", "torchscape", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("torchscape 0.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["explore", "digits"], "required: --db"),
        (["explore", "digits", "--db", "x", "--walkers", "0"], "'0' is not a whole number above 0"),
        (["explore", "digits", "--db", "x", "--temperature", "hot"], "'hot' is not a number above 0"),
        (
            ["explore", "digits", "--db", "x", "--strategy", "basin-hopping,"],
            "'basin-hopping,' has nothing between two commas",
        ),
        (["plot", "x", "profile", "-o", "y", "--between", "0"], "'0' is not two numbers of minima"),
        (["export", "x", "--format", "gexf", "-o", "y"], "invalid choice: 'gexf'"),
    ],
)
def test_bad_usage_exits_with_2(words, message, capsys):
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("potentail", "did you mean 'potential'?"),
        ("number", "is a int, not a Potential or a function that returns one"),
        ("a_number", "is a int, not a Potential"),
        ("needs", "needs x: give every parameter a default"),
        ("fails", "ZeroDivisionError: division by zero (line "),
        ("", "say which potential of"),
    ],
)
def test_wrong_names_in_a_file(model, tmp_path, capsys, name, message):
    spec = f"{model}:{name}" if name else str(model)
    assert main(["explore", spec, "--db", str(tmp_path / "x.db")]) == 2
    assert message in said(capsys)
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torchscapes", "ModuleNotFoundError: No module named 'torchscapes' (line 1)"),
        ("a = 1\nb = = 2", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(1)", "SystemExit: 1 (line 2)"),
    ],
)
def test_files_that_cannot_be_run(tmp_path, capsys, text, message):
    (tmp_path / "broken.py").write_text(text)
    assert main(["explore", f"{tmp_path / 'broken.py'}:potential", "--db", str(tmp_path / "x.db")]) == 2
    assert message in said(capsys)
    assert main(["explore", f"{tmp_path / 'absent.py'}:potential", "--db", str(tmp_path / "x.db")]) == 2
    assert "there is no file" in said(capsys)


def test_unknown_problems_suggest_the_nearest(tmp_path, capsys):
    assert main(["explore", "himmelblua", "--db", str(tmp_path / "x.db")]) == 2
    assert "did you mean 'himmelblau'?" in said(capsys)


def test_unknown_plots_suggest_the_nearest(explored, tmp_path, capsys):
    assert main(["plot", str(explored), "disconectivity", "-o", str(tmp_path / "x.png")]) == 2
    assert "did you mean 'disconnectivity'?" in said(capsys)
    assert main(["plot", str(explored), "network", "-o", str(tmp_path / "x.xyz")]) == 2
    assert "give the picture one of the endings" in said(capsys)
    assert main(["plot", str(explored), "network", "-o", str(tmp_path / "x.png"), "--colour", "accuracy"]) == 2
    assert "accuracy" in said(capsys)


def test_files_that_are_no_landscape(explored, model, tmp_path, capsys):
    text = tmp_path / "notes.db"
    text.write_text("these are notes, not a database " * 40)
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    cut = tmp_path / "cut.db"
    cut.write_bytes(explored.read_bytes()[:5000])
    for path, message in (
        (tmp_path / "absent.db", "there is no file"),
        (text, "not a landscape"),
        (foreign, "not a landscape"),
        (cut, "truncated"),
        (tmp_path, "is a directory"),
    ):
        for command in (["info", str(path)], ["export", str(path), "--format", "csv", "-o", str(tmp_path / "o")]):
            assert main(command) == 2
            assert message in said(capsys), path
    for path, message in ((text, "not a landscape"), (foreign, "not a landscape"), (cut, "truncated")):
        before = path.read_bytes()
        assert main(["explore", f"{model}:potential", "--db", str(path)]) == 2
        assert message in said(capsys)
        assert path.read_bytes() == before


def test_a_file_of_another_potential_is_refused(explored, model, capsys):
    before = summary(explored, capsys)
    assert main(["explore", f"{model}:shifted", "--db", str(explored)]) == 2
    assert "shift is absent there and 1.0 here. Explore into another file" in said(capsys)
    assert summary(explored, capsys) == before


def test_paths_that_cannot_be_written(explored, model, tmp_path, capsys):
    assert main(["explore", f"{model}:potential", "--db", str(tmp_path / "no" / "x.db")]) == 2
    assert "there is no directory" in said(capsys)
    (tmp_path / "file").write_text("")
    for words in (["export", str(explored), "--format", "csv"], ["plot", str(explored), "network"]):
        assert main([*words, "-o", str(tmp_path / "file" / "x.png")]) == 2
        assert "choose another path" in said(capsys)


def test_missing_devices(model, tmp_path, capsys):
    db = str(tmp_path / "x.db")
    if not torch.cuda.is_available():
        assert main(["explore", f"{model}:build", "--db", db, "--device", "cuda"]) == 2
        assert "use 'cpu'" in said(capsys)
    assert main(["explore", f"{model}:build", "--db", db, "--device", "gpu"]) == 2
    assert "there is no device 'gpu'" in said(capsys)
    assert main(["explore", f"{model}:potential", "--db", db, "--dtype", "float32"]) == 2
    assert "function that takes dtype=" in said(capsys)


def test_a_ladder_needs_one_temperature_per_walker(model, tmp_path, capsys):
    words = ["--db", str(tmp_path / "x.db"), "--temperature", "1,2,3", "--walkers", "2"]
    assert main(["explore", f"{model}:potential", *words]) == 2
    assert "3 temperatures for 2 walkers" in said(capsys)


def test_debug_shows_where(tmp_path, capsys):
    assert main(["info", str(tmp_path / "absent.db"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


# --- processes --------------------------------------------------------------------------------------------


def test_ctrl_c_saves_and_exits_with_130(model, tmp_path, capsys):
    """Interrupted once something is committed; what is there stays, and the same command then completes."""
    db = tmp_path / "slow.db"
    words = ["--db", str(db), "--walkers", "4", "--hops", "5000", "--strategy", "basin-hopping"]
    process = subprocess.Popen(
        [sys.executable, "-m", "torchscape", "explore", f"{model}:slow", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore Ctrl-C, and children inherit that: here it must be heard
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None and n_minima(db) == 0:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "the same command continues from there" in err
    assert "Traceback" not in err
    found = summary(db, capsys)
    assert found["n_minima"] > 0
    assert found["complete"] is False


def n_minima(db: Path) -> int:
    """In a file that is perhaps being made; asked ten times a second, so without looking through all of it."""
    if not db.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"{db.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("SELECT COUNT(*) FROM minimum").fetchone()[0]
        except sqlite3.Error:
            return 0


def test_a_reader_that_leaves_early_is_no_error(explored):
    run = subprocess.run(
        f"{sys.executable} -m torchscape info {explored} --json | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert run.stdout == "{"
    assert run.stderr == ""


def test_communities_that_would_take_long_are_left_out(monkeypatch):
    from torchscape.cli import analysis as told
    from torchscape.network import Network

    network = Network.of(
        energy=[0.0, 0.5, 0.7],
        edges=[(0, 1), (1, 2)],
        ts_energy=[1.0, 1.2],
        log_det=[0.0] * 3,
        ts_log_det=[0.0] * 2,
    )
    whole = told.analysed(network, [0.5, 1.0], n_random=0)
    assert len(whole["communities"]["at_temperatures"]) == 2
    monkeypatch.setattr(told, "_WEIGHTED", 5)
    assert told.analysed(network, [0.5, 1.0], n_random=0)["communities"]["at_temperatures"] == []
    monkeypatch.setattr(told, "_PLAIN", 2)
    left = told.analysed(network, [0.5, 1.0], n_random=0)
    assert left["communities"] is None
    assert "communities: left out" in told.describe(left)
