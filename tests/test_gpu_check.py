"""``scripts/gpu_check``: refuses without a GPU, and rehearses all of its own parts on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
COMMAND = ROOT / "scripts" / "gpu_check"


def python(*arguments: str, timeout: int = 900) -> subprocess.CompletedProcess:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, cwd=ROOT)


@pytest.mark.skipif(
    torch.cuda.is_available() or any(Path(p).exists() for p in ("/proc/driver/nvidia/version", "/dev/nvidiactl")),
    reason="this machine has a GPU",
)
def test_without_a_gpu_it_says_so_at_once_and_makes_nothing():
    ran = subprocess.run([COMMAND], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert "needs an NVIDIA GPU, and this machine shows none" in ran.stderr
    assert "--rehearse DIR" in ran.stderr
    assert not (ROOT / ".venv-gpu").exists()


def test_every_part_is_small_and_together_they_fit():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from gpu.parts import PARTS
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    names = [part.name for part in PARTS]
    assert names[:5] == ["smoke", "tests", "explorations", "steps", "memory"]
    assert all(part.rehearsal for part in PARTS[:5])
    assert sum(part.seconds for part in PARTS[:5]) < 480  # what matters most fits into the eight minutes
    for part in PARTS:
        argv = part.argv("cuda", "x.json", rehearsal=False)
        assert argv is not None
        assert "cuda" in argv
        assert "x.json" in argv


def test_a_rehearsal_of_what_takes_no_time(tmp_path):
    ran = python("--rehearse", str(tmp_path), "--only", "smoke", "--only", "sampling")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    summary = json.loads((tmp_path / "gpu_check_cuda.json").read_text())
    assert [part["verdict"] for part in summary["parts"]] == ["passed", "left out"]
    assert json.loads((tmp_path / "smoke_cuda.json").read_text())["energy_error"] < 1e-9
    table = (tmp_path / "gpu_check.md").read_text()
    assert "A rehearsal on the CPU" in table
    assert "| smoke | passed |" in table


def test_a_part_that_fails_or_takes_too_long_is_said_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from gpu.__main__ import run
    from gpu.parts import Part

    def part(code: str) -> Part:
        return Part("fake", "", 1, [sys.executable, "-c", code])

    failed = run(part("raise SystemExit('no such kernel')"), "cpu", tmp_path, 60, rehearsal=False)
    assert failed.verdict == "failed"
    assert "no such kernel" in failed.detail
    assert run(part("import time; time.sleep(60)"), "cpu", tmp_path, 1, rehearsal=False).verdict == "out of time"
    assert run(part("pass"), "cpu", tmp_path, 60, rehearsal=False).verdict == "passed"


def test_a_part_for_which_something_is_missing_is_left_out_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from gpu.__main__ import run
    from gpu.parts import LEFT_OUT, Part

    code = f"print('pytest is missing'); raise SystemExit({LEFT_OUT})"
    ran = run(Part("fake", "", 1, [sys.executable, "-c", code]), "cpu", tmp_path, 60, rehearsal=False)
    assert (ran.verdict, ran.detail) == ("left out", "pytest is missing")


def test_tests_that_cannot_run_for_want_of_a_package_are_no_failures(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from gpu.tests import ended

    output = """
tests/a.py::test_one[cuda] PASSED                                        [ 33%]
[gw1] [ 66%] PASSED tests/a.py::test_two[cuda]
tests/b.py::test_three[cuda] FAILED                                      [100%]
=========================== short test summary info ============================
FAILED tests/b.py::test_three[cuda] - RuntimeError: Expected all tensors to be on the same device
FAILED tests/b.py::test_four[cuda] - torchscape.errors.MissingExtra: nowhere_to_be_found is needed here; install it
ERROR tests/c.py - ModuleNotFoundError: No module named 'nowhere_to_be_found.data'
ERROR tests/d.py - ModuleNotFoundError: No module named 'json'
"""
    left_out = {"nowhere_to_be_found": ["tests/b.py::test_four[cuda]", "tests/c.py"]}
    assert ended(output) == (2, ["tests/b.py::test_three[cuda]", "tests/d.py"], left_out)


def test_stand_ins_for_what_only_decorates():
    """Without jaxtyping and tqdm the package works as it does with them."""
    code = """
import tqdm.auto, jaxtyping, torch, torchscape as tsc
assert "substitutes" in jaxtyping.__file__ and "substitutes" in tqdm.auto.__file__
u = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum() + 0.2 * x[0], 1, length_scale=0.5)
with tsc.Landscape.in_memory(u) as landscape:
    tsc.explore(landscape, u, strategies=[tsc.BasinHopping(walkers=4, hops=1), tsc.ConnectMinima()], seed=0)
    network = landscape.network()
print(network.n_minima, len(network.ts_energy))
"""
    folders = [ROOT / "scripts" / "gpu" / "substitutes" / name for name in ("jaxtyping", "tqdm")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*folders, ROOT])), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300
    )
    assert ran.stdout == "2 1\n", ran.stderr


@pytest.mark.slow
def test_a_rehearsal_of_everything(tmp_path):
    ran = python("--rehearse", str(tmp_path), timeout=900)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    table = (tmp_path / "gpu_check.md").read_text()
    for title in ("Device tests", "Explorations", "A step over its gradient", "Memory that ran out"):
        assert f"## {title}" in table
    explorations = json.loads((tmp_path / "explorations_cuda.json").read_text())["rows"]
    assert all(row["agree"] for row in explorations)
    squeezed = json.loads((tmp_path / "memory_cuda.json").read_text())["squeezed"]
    assert all(row["notes"] for row in squeezed)
