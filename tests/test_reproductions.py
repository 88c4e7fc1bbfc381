"""The reproductions of the papers: the script and its pages at once, each experiment's quick run with -m slow."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT / "scripts"))

from reproductions.__main__ import main, reproduce  # noqa: E402  (scripts are no package of the project)
from reproductions.experiment import Experiment, Run  # noqa: E402
from reproductions.judge import Verdict, agree, agree_all, inside, reaches  # noqa: E402
from reproductions.registry import EXPERIMENTS  # noqa: E402
from reproductions.stopwatch import Stopwatch  # noqa: E402


def test_the_list_names_every_experiment():
    found = subprocess.run(
        [sys.executable, "-m", "reproductions", "--list"],
        cwd=ROOT,
        env={"PYTHONPATH": "scripts", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[0] for line in found.stdout.splitlines()] == list(EXPERIMENTS)


def test_an_unknown_experiment_is_refused_with_the_nearest_name(tmp_path, capsys):
    assert main(["regresion", "--out", str(tmp_path)]) == 1
    assert "regression" in capsys.readouterr().err


def test_verdicts_follow_from_the_numbers():
    assert agree(1.0, 1.001, 0.01) is Verdict.SAME
    assert agree(float("nan"), 1.0, 10.0) is Verdict.DIFFERENT
    assert agree_all([1, 2], [1, 2]) is Verdict.SAME
    assert agree_all([1, 2, 3], [1, 2]) is Verdict.DIFFERENT
    assert (inside(90, 90, 110), inside(89, 90, 110)) == (Verdict.SPREAD, Verdict.DIFFERENT)
    assert (reaches(43, 43), reaches(42, 43)) == (Verdict.SAME, Verdict.SHORT)


def test_a_page_says_what_was_compared_drawn_and_spent(tmp_path):
    """A made-up experiment: its numbers, pictures, verdicts and time are on the page and in the index."""

    def carry_out(run, page):
        page.compare("pi | 22/7", 22 / 7, agree(22 / 7, np.pi, 1e-4), independent=round(np.pi, 6))
        page.compare("minima", 4, agree(4, 4), published=4)
        noise = plt.figure(figsize=(7, 7)).add_subplot()
        noise.imshow(np.random.default_rng(0).random((600, 600)))
        page.picture(noise.figure, "noise", "A picture that compresses badly.")
        page.say("Close, no more.")

    run = Run(quick=True, data=None, work=tmp_path / "work", out=tmp_path / "out", progress=False)
    path = reproduce(Experiment("regression", "A circle", "Archimedes", carry_out), run)
    text = path.read_text()
    assert "| pi \\| 22/7 | - | 3.141593 | 3.14285714 | different |" in text
    assert "| minima | 4 | - | 4 | same |" in text
    assert "1 same; 1 different. Close, no more." in text
    assert "**quick** run" in text
    picture = path.with_name("regression_noise.png")
    assert 1000 < picture.stat().st_size < 200_000
    assert json.loads(path.with_suffix(".json").read_text())["verdicts"] == {"different": 1, "same": 1}
    index = path.with_name("README.md").read_text()
    assert "[regression](regression.md): A circle | quick |" in index
    assert index.count("not yet run") == len(EXPERIMENTS) - 1


def test_time_adds_up_over_calls_and_survives_errors(tmp_path):
    path = tmp_path / "times.json"

    def stopped():
        with Stopwatch(path, "one"):
            time.sleep(0.02)
            raise ValueError("stop")

    for _ in range(2):
        with pytest.raises(ValueError, match="stop"):
            stopped()
    with Stopwatch(path, "other"):
        pass
    again = Stopwatch(path, "one")
    assert again.calls == 2
    assert again.wall >= 0.04


def test_a_small_experiment_from_the_command_line(tmp_path):
    """The enumeration for N = 5, whose counts by index are known."""
    out, work = tmp_path / "out", tmp_path / "work"
    arguments = ["pspin-counts", "--quick", "--quiet", "--out", str(out), "--work", str(work)]
    assert main(arguments) == 0
    facts = json.loads((out / "pspin-counts.json").read_text())
    assert facts["rows"][0]["ours"] == "2, 4, 6, 4, 2"
    assert facts["verdicts"] == {"same": 2}
    # A second call finds everything done; without time to explore it would still have the same to say.
    assert main([*arguments, "--max-time", "0"]) == 0
    again = json.loads((out / "pspin-counts.json").read_text())
    assert again["rows"] == facts["rows"]


def test_quick_runs_leave_the_pages_of_full_ones_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nothing = Experiment("pspin-counts", "One", "Nobody", lambda run, page: page.compare("one", 1, agree(1, 1)))
    monkeypatch.setitem(
        EXPERIMENTS, "pspin-counts", nothing
    )  # where its page goes does not depend on what is on it
    assert main(["pspin-counts", "--quick", "--quiet"]) == 0
    assert (tmp_path / "reproduce" / "quick" / "pages" / "pspin-counts.md").is_file()
    assert not (tmp_path / "docs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick_runs(name, tmp_path):
    """Every experiment runs through in its quick settings and reaches a verdict on something."""
    run = Run(
        quick=True,
        data=DATA if DATA.is_dir() else None,
        work=tmp_path / "work",
        out=tmp_path / "out",
        progress=False,
    )
    path = reproduce(EXPERIMENTS[name], run)
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["rows"]
    assert all(picture.stat().st_size < 200_000 for picture in run.out.glob("*.png"))
    judged = {verdict: n for verdict, n in facts["verdicts"].items() if verdict != Verdict.BESIDE.value}
    assert judged or name == "mnist"  # whose quick run is on other images
