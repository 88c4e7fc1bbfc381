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
