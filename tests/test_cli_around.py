"""The commands around an exploration: watch, set-property, cite, completion, configuration files, -v and -q."""

from __future__ import annotations

import csv
import dataclasses
import json
import multiprocessing
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import torchscape as tsc
from torchscape import problems, references
from torchscape.cli import main
from torchscape.cli.config import parse
from torchscape.explore import (
    BasinHopping,
    ConnectMinima,
    Mixture,
    PerLayer,
    Restart,
    Strategy,
    TemperedBasinHopping,
)
from torchscape.explore.tables import changed, plain, table_of
from torchscape.landscape import Landscape


@pytest.fixture(scope="module")
def explored(tmp_path_factory) -> Path:
    db = tmp_path_factory.mktemp("explored") / "h.db"
    words = ["explore", "himmelblau", "--db", str(db), "--seed", "1", "--walkers", "16", "--hops", "4", "-q"]
    assert main([*words, "--set", "connect.band.max_images=40"]) == 0
    return db


@pytest.fixture
def copied(explored, tmp_path) -> Path:
    return shutil.copy(explored, tmp_path / "h.db")


def said(capsys) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("torchscape: ")
    return lines[0]


# --- watch ------------------------------------------------------------------------------------------------


def test_watch_of_a_file_that_nobody_explores_says_how_it_stands(explored, capsys):
    assert main(["watch", str(explored)]) == 0
    line, end = capsys.readouterr().out.splitlines()
    assert re.match(r"\d:\d\d:\d\d  4 minima, 4 transition states, 1 component, lowest \S+, \d+ evaluations", line)
    assert end == "ended: complete"
    assert main(["watch", str(explored), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_minima"], found["n_components"], found["status"]) == (4, 1, "complete")


def hop(path: Path) -> None:
    surface = problems.get("schwefel", ndim=3).potential
    with Landscape.open(path, surface) as landscape:
        hopping = BasinHopping(walkers=8, hops=100_000, round_hops=1)
        tsc.explore(landscape, surface, strategies=hopping, progress=False, check=False,
                           budget=tsc.Budget(seconds=2.5))  # fmt: skip


def test_watch_follows_another_process(tmp_path, capsys):
    """Lines without carriage returns where there is no terminal."""
    db = tmp_path / "s.db"
    process = multiprocessing.get_context("fork").Process(target=hop, args=(db,))
    process.start()
    try:
        while not (db.exists() and db.stat().st_size):
            assert process.is_alive()
        assert main(["watch", str(db), "--every", "0.2"]) == 0
    finally:
        process.kill()
        process.join()
    told = capsys.readouterr()
    assert told.err == ""
    assert "\r" not in told.out
    *lines, end = told.out.splitlines()
    assert end == "ended: budget: seconds"
    counts = [int(re.search(r"(\d+) minima", line)[1]) for line in lines]
    assert counts == sorted(counts)
    assert counts[-1] > 0


def test_watch_of_nothing_is_said(tmp_path, capsys):
    assert main(["watch", str(tmp_path / "none.db")]) == 2
    assert "there is no file" in said(capsys)


# --- set-property -----------------------------------------------------------------------------------------


def test_a_table_colours_a_picture(copied, tmp_path, capsys):
    table = tmp_path / "values.csv"
    table.write_text("minimum,accuracy,test error\n2,0.5,\n0,0.75,0.1\n1,1e-3,0.2\n")
    assert main(["set-property", str(copied), str(table)]) == 0
    assert capsys.readouterr().out.splitlines() == ["accuracy: 3 of 4 minima", "test error: 2 of 4 minima"]
    with Landscape.open(copied) as landscape:
        found = landscape.network().properties
    assert found["accuracy"][:3].tolist() == [0.75, 1e-3, 0.5]
    assert found["accuracy"].isnan().tolist() == [False, False, False, True]
    assert found["test error"].isnan().tolist() == [False, False, True, True]
    picture = tmp_path / "tree.svg"
    assert main(["plot", str(copied), "disconnectivity", "-o", str(picture), "--colour", "accuracy"]) == 0
    assert "accuracy" in picture.read_text()


def test_an_exported_table_with_a_column_added_is_read(copied, tmp_path, capsys):
    """Of what export writes itself nothing becomes a property; ids say the same as numbers."""
    assert main(["export", str(copied), "--format", "csv", "-o", str(tmp_path / "t"), "--coords"]) == 0
    with (tmp_path / "t" / "minima.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = [float(row["energy"]) ** 2 for row in rows]
    for table, keys in (("all.csv", list(rows[0])), ("ids.csv", ["id"])):
        with (tmp_path / table).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*keys, "squared"])
            writer.writerows(
                [*(row[k] for k in keys), v] for row, v in reversed(list(zip(rows, values, strict=True)))
            )
        capsys.readouterr()
        assert main(["set-property", str(copied), str(tmp_path / table), "-q"]) == 0
        assert capsys.readouterr().out == ""
        with Landscape.open(copied) as landscape:
            assert list(landscape.properties()) == ["squared"]
            assert landscape.properties()["squared"].tolist() == values


@pytest.mark.parametrize(
    ("text", "words", "complaint"),
    [
        ("number,accuracy\n0,1\n", [], "a column 'minimum'"),
        ("minimum,accuracy\n9,1\n", [], "no minimum with the number 9"),
        ("id,accuracy\n77,1\n", [], "no minimum with the id 77"),
        ("minimum,accuracy\n0,high\n", [], "row 2: 'high' in column 'accuracy' is no number"),
        ("minimum,accuracy\n0.5,1\n", [], "'0.5' in column 'minimum' is no whole number"),
        ("minimum,accuracy\n0,1\n0,2\n", [], "must name every minimum once"),
        ("minimum,energy\n0,1\n", [], "no column of numbers"),
        ("minimum,accuracy\n0,1\n", ["--column", "acuracy"], "did you mean 'accuracy'"),
    ],
)
def test_a_table_that_cannot_be_meant_changes_nothing(copied, tmp_path, capsys, text, words, complaint):
    (tmp_path / "v.csv").write_text(text)
    assert main(["set-property", str(copied), str(tmp_path / "v.csv"), *words]) == 2
    assert complaint in said(capsys)
    with Landscape.open(copied) as landscape:
        assert landscape.properties() == {}


# --- cite -------------------------------------------------------------------------------------------------


def test_a_run_cites_what_it_has_used(explored, capsys):
    assert main(["cite", str(explored)]) == 0
    told = capsys.readouterr().out
    for doi in ("10.1021/jp970984n", "10.1063/1.1931587", "10.1063/1.1636455", "10.1007/978-0-387-40065-5"):
        assert doi in told
    assert (
        told.splitlines()[0] == "The torchscape developers, torchscape: energy landscapes of PyTorch models (2026)"
    )
    assert told.count("\nconnect:\n") == 1  # all of its papers below
    assert "10.1021/ja103725c" not in told  # no tempering,
    assert "10.1007/BF01589116" not in told  # and no L-BFGS of two coordinates
    assert main(["cite", str(explored), "--of", "disconnectivity", "--bibtex"]) == 0
    told = capsys.readouterr().out
    assert "@article{becker_karplus_1997,\n" in told
    assert told.count("@") == 1 + len(references.cite([*_used(explored), "disconnectivity"]))


def _used(db: Path) -> list[str]:
    with Landscape.open(db) as landscape:
        return references.used_by(landscape)


def test_clusters_and_their_moves_are_cited(tmp_path):
    u = problems.get("morse", n=4).potential
    move = tsc.explore.Mixture(((0.5, tsc.explore.Symmetrise()), (0.5, tsc.explore.Compress())))
    with Landscape.open(tmp_path / "m.db", u) as landscape:
        tsc.explore(landscape, u, strategies=[tsc.BasinHopping(walkers=2, hops=1, move=move)], progress=False)
        used = references.used_by(landscape)
    assert {"clusters", "symmetrise", "compress"} <= set(used)
    assert "group-rotation" not in used


def test_the_table_of_papers_is_whole():
    """Every entry is cited for something, and has what a reference needs; all DOIs differ, and are well formed."""
    library = references._library()
    assert {key for keys in references.USES.values() for key in keys} == set(library)
    text = (Path(references.__file__).parent / "references.bib").read_text(encoding="utf-8")
    assert len(library) == len(re.findall(r"^@", text, re.MULTILINE))
    for one in library.values():
        assert {"author", "title", "year", "doi"} <= set(one.fields)
        assert re.fullmatch(r"10\.\d{4,}/\S+", one.doi)
        assert one.fields["year"] in one.key
        assert one.bibtex() in text
    assert len({one.doi for one in library.values()}) == len(library)


def test_papers_of_the_table_are_those_of_the_docstrings():
    package = Path(references.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    own = {"li_scheraga_1987", "liu_nocedal_1989", "nocedal_wright_2006", "paszke_2019"}  # of textbooks' fame
    missing = [key for key, one in references._library().items() if one.doi not in source and key not in own]
    assert missing == []


def test_a_reference_in_one_line():
    (one,) = references.cite(["communities"])
    assert str(one) == (
        "V. D. Blondel, J.-L. Guillaume, R. Lambiotte & E. Lefebvre, Fast unfolding of communities in large "
        "networks, J. Stat. Mech. 2008, P10008 (2008), doi 10.1088/1742-5468/2008/10/P10008"
    )
    assert one.of == ("communities",)


def test_an_unknown_method_is_said(capsys):
    assert main(["cite", "--of", "heat-capcity"]) == 2
    assert "did you mean 'heat-capacity'" in said(capsys)


# --- completion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("explore", "set-property", "walkers", "colour"):
        assert word in script
    program = shutil.which(shell)
    if program is not None:
        check = subprocess.run([program, "-n"], input=script, capture_output=True, text=True)
        assert (check.returncode, check.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_command(capsys):
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    ask = 'COMP_WORDS=(torchscape ex); COMP_CWORD=1; _shtab_torchscape; echo "${COMPREPLY[@]}"'
    run = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["explore", "export"]


def test_completion_without_its_library_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "torchscape[completion]" in said(capsys)


# --- configuration files ----------------------------------------------------------------------------------

CONFIG = """
spec = "himmelblau"
db = "{db}"
seed = 1
quiet = true
max-quenches = 500
max_evaluations = 100000

[[strategy]]
name = "basin-hopping"
walkers = 16
hops = 4
temperature = 0.5
move = {{kind = "Uniform"}}

[[strategy]]
name = "connect"
band = {{max_images = 40}}
"""


def written(tmp_path: Path, text: str = CONFIG) -> str:
    (tmp_path / "run.toml").write_text(text.format(db=tmp_path / "c.db"))
    return str(tmp_path / "run.toml")


def settings(db: Path) -> dict:
    with Landscape.open(db) as landscape:
        return landscape.runs()[-1]


def test_a_file_says_all_that_the_command_line_would(tmp_path):
    assert main(["explore", "--config", written(tmp_path)]) == 0
    run = settings(tmp_path / "c.db")
    hopping, connect = run["settings"]["strategy"]
    assert run["seed"] == 1
    assert (hopping["walkers"], hopping["hops"], hopping["temperature"]) == (16, 4, 0.5)
    assert hopping["move"] == {"kind": "Uniform"}
    assert connect["band"]["max_images"] == 40
    assert run["settings"]["limits"] == {"quenches": 500, "evaluations": 100000}


def test_the_command_line_comes_before_the_file(tmp_path):
    words = ["--config", written(tmp_path), "--db", str(tmp_path / "o.db"), "--seed", "2", "--walkers", "8"]
    assert main(["explore", *words, "--strategy", "basin-hopping", "--set", "basin-hopping.hops=3"]) == 0
    run = settings(tmp_path / "o.db")
    (hopping,) = run["settings"]["strategy"]
    assert run["seed"] == 2
    assert (hopping["walkers"], hopping["hops"], hopping["temperature"]) == (8, 3, 0.5)
    assert not (tmp_path / "c.db").exists()


def test_what_was_used_can_be_written_back_and_used_again(explored, tmp_path, capsys):
    """Told by options, read from the file of the run: the same exploration, to the last bit."""
    capsys.readouterr()
    assert main(["info", str(explored), "--toml"]) == 0
    text = capsys.readouterr().out
    found = tomllib.loads(text)
    assert (found["spec"], found["seed"]) == ("himmelblau", 1)
    assert [table["name"] for table in found["strategy"]] == ["basin-hopping", "connect"]
    assert text.startswith("# run 1, begun ")
    (tmp_path / "again.toml").write_text(text)
    words = ["--config", str(tmp_path / "again.toml"), "--db", str(tmp_path / "again.db"), "-q"]
    assert main(["explore", *words]) == 0
    with Landscape.open(explored) as first, Landscape.open(tmp_path / "again.db") as second:
        assert first.runs()[0]["settings"]["strategies"] == second.runs()[0]["settings"]["strategies"]
        assert torch.equal(first.minima().x, second.minima().x)
        assert torch.equal(first.transition_states().x, second.transition_states().x)
    assert main(["info", str(explored), "--toml", "7"]) == 2
    assert "no run 7" in said(capsys)


@pytest.mark.parametrize(
    "strategy",
    [
        BasinHopping(
            walkers=3, temperature=(0.1, 0.2, 0.4), move=Mixture(((0.8, PerLayer(0.2)), (0.2, Restart())))
        ),
        TemperedBasinHopping(temperatures=(0.5, 1.0), tol=1e-6),
        ConnectMinima(attempts=3),
    ],
    ids=lambda one: one.name,
)
def test_a_strategy_is_the_same_after_toml(strategy):
    import tomli_w

    table = tomllib.loads(tomli_w.dumps(table_of(strategy)))
    del table["name"]
    assert changed(type(strategy)(), table, "here") == strategy


@dataclasses.dataclass(frozen=True)
class Limited(Strategy):
    most: int | None = 3


def test_none_where_it_is_no_default_is_written_down():
    assert table_of(Limited(None), "own") == {"name": "own", "none": ["most"]}
    assert changed(Limited(), {"none": ["most"]}, "here") == Limited(None)


def test_arrays_are_told_in_short():
    assert plain(torch.zeros(2000)) == "array of shape [2000]"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('spec = "himmelblau"\ndb = "{db}"\nwalkrs = 3\n', "did you mean 'walkers'"),
        ('spec = "himmelblau"\ndb = "{db}"\nquiet = "yes"\n', "give true or false"),
        ('spec = "himmelblau"\ndb = "{db}"\nwalkers = true\n', "give a number or a text"),
        ("spec = \n", "is no TOML"),
        (CONFIG.replace("walkers", "walkrs"), "did you mean 'walkers'"),
        (CONFIG.replace("Uniform", "Unifrom"), "did you mean 'Uniform'"),
        (CONFIG.replace('"connect"', '"conect"'), "did you mean 'connect'"),
        (CONFIG.replace('name = "connect"', "neighbours = 3"), "has no name"),
        (CONFIG.replace("hops = 4", "hops = -4"), "hops=-4"),
    ],
)
def test_a_file_with_a_mistake_is_answered_with_advice(tmp_path, capsys, text, complaint):
    assert main(["explore", "--config", written(tmp_path, text)]) == 2
    assert complaint in said(capsys)
    assert not (tmp_path / "c.db").exists()


def test_a_file_that_is_not_there_is_said(tmp_path, capsys):
    assert main(["explore", "--config", str(tmp_path / "none.toml")]) == 2
    assert "no such file" in said(capsys)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('spec = "himmelblau"\ndb = "{db}"\nseed = "x"\n', "argument --seed"),
        ('spec = "himmelblau"\n', "required: --db, here or in a file"),
        ('db = "{db}"\n', "required: SPEC, here or in a file"),
    ],
)
def test_a_wrong_or_missing_value_is_bad_usage(tmp_path, capsys, text, complaint):
    with pytest.raises(SystemExit) as left:
        parse(["explore", "--config", written(tmp_path, text)])
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err


# --- -v, -q and TensorBoard -------------------------------------------------------------------------------


def test_verbose_tells_what_happens(tmp_path, capsys):
    words = ["explore", "himmelblau", "--db", str(tmp_path / "v.db"), "--walkers", "8", "--hops", "1", "-q"]
    assert main([*words, "-v"]) == 0
    told = capsys.readouterr().err
    assert re.search(r"^\d\d:\d\d:\d\d torchscape\.\S+: basin-hopping, round 1: ", told, re.MULTILINE)
    assert "tasks" not in told.partition("round 1")[0]
    assert main([*words, "-vv", "--seed", "3"]) == 0
    assert "round 1: 1 tasks" in capsys.readouterr().err
    assert main([*words, "--seed", "4"]) == 0
    assert capsys.readouterr().err == ""


def test_tensorboard_from_the_shell(tmp_path):
    pytest.importorskip("tensorboard")
    words = ["explore", "himmelblau", "--db", str(tmp_path / "t.db"), "--walkers", "8", "--hops", "1", "-q"]
    assert main([*words, "--tensorboard", str(tmp_path / "runs")]) == 0
    assert list((tmp_path / "runs").glob("events.out.tfevents.*"))
