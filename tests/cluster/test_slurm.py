"""The batch files on a real Slurm: the time is up in the middle, and the landscape is whole after the requeue.

Run by ``scripts/cluster/test`` where Slurm answers; minutes, as wall times are whole minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "explore"))
from explore_doubles import tables
from test_processes import without_evaluations

import torchscape as tsc

SCRIPTS = Path(__file__).parents[2] / "scripts" / "cluster"


def answers() -> bool:
    return shutil.which("sbatch") is not None and not subprocess.run(["sinfo"], capture_output=True).returncode


pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture(scope="module", autouse=True)
def slurm() -> None:
    """Asked where these tests run, not where they are collected: one that is down lets one wait."""
    if not answers():
        pytest.skip("no Slurm answers on this machine")


MODEL = """
import os, time
import torch, torchscape as tsc

def wells(x):
    return ((x**2 - 1)**2).sum() + 0.2 * (x * torch.arange(1, len(x) + 1)).sum()

def build():
    def energy(x):
        time.sleep(float(os.environ.get("DELAY", "0")))
        return wells(x)
    return tsc.FunctionPotential(energy, 4)
"""
SEARCH = ["my_model.py:build", "--walkers", "32", "--hops", "10"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_model.py").write_text(MODEL)
    return tmp_path


def submitted(folder: Path, *words: str, delay: float = 0.0) -> int:
    """The number of a job."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "DELAY": str(delay), "PATH": path}
    done = subprocess.run(
        ["sbatch", "--parsable", *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def state(job: int) -> str:
    done = subprocess.run(["squeue", "-h", "-a", "-o", "%T", "-j", str(job)], capture_output=True, text=True)
    return done.stdout.strip() or "gone"


def ended(job: int, log: Path, seconds: float) -> str:
    """The log, when the exploration is complete or the job is gone."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        text = log.read_text() if log.exists() else ""
        if "  complete\n" in text or state(job) in ("gone", "FAILED", "CANCELLED", "TIMEOUT"):
            return log.read_text()
        time.sleep(2.0)
    pytest.fail(f"job {job} is {state(job)} after {seconds:.0f} s:\n{text}")


def undisturbed(folder: Path) -> dict[str, list[tuple]]:
    """What one process finds that nobody stops."""
    words = [sys.executable, "-m", "torchscape", "explore", *SEARCH, "--db", "whole.db", "--quiet"]
    subprocess.run(words, cwd=folder, check=True)
    return without_evaluations(tables(folder / "whole.db"))


def test_a_job_whose_time_is_up_goes_on_after_the_requeue(folder):
    pytest.importorskip("ray", reason="needs Ray: pip install 'torchscape[ray]'")
    job = submitted(
        folder, "--nodes=2", "--time=4", "--signal=B:USR1@60", str(SCRIPTS / "explore.sbatch"), *SEARCH,
        "--db", "run.db", delay=0.4,
    )  # fmt: skip
    log = ended(job, folder / f"torchscape-{job}.log", 900)
    assert "SIGUSR1: the exploration is told to keep what it has" in log
    assert f"job {job} is queued again" in log
    assert ", start 2" in log
    assert log.rstrip().endswith("complete")
    assert without_evaluations(tables(folder / "run.db")) == undisturbed(folder)
    with tsc.Landscape.open(folder / "run.db") as landscape:
        assert [run["status"] for run in landscape.runs()][-1] == "complete"
        assert landscape.runs()[0]["status"] == "interrupted"


def test_a_job_with_no_time_to_explore_is_not_queued_again(folder):
    """Slurm tells it two minutes before its two minutes are up; it looks at the clock every half minute."""
    words = ["--time=2", "--signal=B:USR1@120", str(SCRIPTS / "node"), *SEARCH, "--db", "run.db"]
    job = submitted(folder, *words, delay=0.4)
    log = ended(job, folder / f"torchscape-{job}.log", 300)
    assert "s of exploring: ask for more (--time)" in log
    assert "queued again" not in log


def test_an_array_job_explores_a_family(folder):
    (folder / "family.txt").write_text(
        'himmelblau --db "h 1.db" --hops 2\n\nmy_model.py:build --db m.db --hops 1\n'
    )
    job = submitted(folder, "--array=1-2", "--time=5", str(SCRIPTS / "family.sbatch"), "family.txt")
    for task in (1, 2):
        assert ended(job, folder / f"family-{job}-{task}.log", 300).rstrip().endswith("complete")
    for name, n in (("h 1.db", 4), ("m.db", 16)):
        with tsc.Landscape.open(folder / name) as landscape:
            assert 0 < landscape.n_minima <= n


def test_a_job_that_is_cancelled_keeps_what_it_has(folder):
    job = submitted(folder, "--time=5", str(SCRIPTS / "node"), *SEARCH, "--db", "run.db", delay=0.4)
    time.sleep(40)
    subprocess.run(["scancel", "--batch", "--signal=TERM", str(job)], check=True)
    log = ended(job, folder / f"torchscape-{job}.log", 120)
    assert "the same command goes on from what is kept" in log
    assert "queued again" not in log
    with tsc.Landscape.open(folder / "run.db") as landscape:
        assert landscape.runs()[-1]["status"] == "interrupted"
