"""Steps are functions of tensors that compile whole: no break in the graph, and few kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compile_steps import MINIMISERS
from test_on_host import POTENTIALS, starts


def compiled(backend: str) -> dict[str, int]:
    """What ``compile_steps.py`` prints: the kernels that were generated, by minimiser and potential."""
    tree = str(Path(__file__).parents[2])
    path = os.pathsep.join([tree, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(Path(__file__).with_name("compile_steps.py")), backend]
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


def test_a_step_is_one_graph():
    """With and without a box, of every minimiser; what it gives is what the step gives."""
    assert len(compiled("eager")) >= 2 * len(MINIMISERS)


@pytest.mark.slow
def test_a_compiled_step_has_few_kernels():
    """Beside matrix products, which libraries have; by Inductor for the CPU."""
    counts = compiled("inductor")
    assert counts["dense, network"] <= 17
    assert counts["limited, plain, network"] <= 28


@pytest.mark.parametrize("name", MINIMISERS)
def test_a_settled_state_goes_where_a_growing_one_goes(name):
    """Its memory is used whole from the beginning: what is empty counts for nothing, and shapes stay."""
    potential, minimiser = POTENTIALS["network"](), MINIMISERS[name]
    limits = minimiser.limits(potential, potential.dtype)
    growing = minimiser.init(potential, starts(potential))
    settled = minimiser.settled(minimiser.init(potential, starts(potential)))
    fixed = {k: v for k, v in vars(settled.memory).items() if isinstance(v, int)}
    for _ in range(12):
        growing, settled = (
            minimiser.advanced(limits, state, minimiser.evaluate(potential, state)) for state in (growing, settled)
        )
        torch.testing.assert_close(settled.x, growing.x, rtol=1e-6, atol=1e-9)
        assert {k: v for k, v in vars(settled.memory).items() if isinstance(v, int)} == fixed
