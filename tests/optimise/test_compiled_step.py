"""Steps are functions of tensors that compile whole: no break in the graph, and few kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import standin
import torch
from compile_steps import MINIMISERS, PROBLEMS
from test_on_host import POTENTIALS, starts

from torchscape import problems
from torchscape.optimise import BFGS, LBFGS

# Operations of a gradient on the stand-in device, and of whole steps there, uncompiled: by BFGS and by LBFGS.
GRADIENTS = {"digits": 43, "trimer-network": 41, "regression": 30, "lj": 50}
STEPS = {"digits": (241, 295), "trimer-network": (239, 297), "regression": (344, 376), "lj": (246, 299)}


def compiled(backend: str) -> dict[str, dict[str, int]]:
    """What ``compile_steps.py`` prints: the kernels that were made, by minimiser and potential."""
    tree = str(Path(__file__).parents[2])
    path = os.pathsep.join([tree, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(Path(__file__).with_name("compile_steps.py")), backend]
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    counts: dict[str, dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    return counts


def test_a_step_is_one_graph():
    """With and without a box, of every minimiser; what it gives is what the step gives."""
    assert len(compiled("eager")) >= 2 * len(MINIMISERS)


@pytest.mark.slow
def test_a_compiled_step_has_few_kernels():
    """By Inductor for the CPU: at most 25, products of matrices, which libraries have, beside them; and with these
    the whole step starts at most twice what its gradient does."""
    counts = compiled("inductor")
    for case, count in counts.items():
        assert count["kernels"] <= 25, case
        assert count["kernels"] + count["library"] <= GRADIENTS[case.split(",")[0]], case
    # Where there are no walls, what stands here is what there was when it was written.
    for name in ("digits", "trimer-network", "lj"):
        assert counts[f"{name}, BFGS"]["kernels"] <= 14
        assert counts[f"{name}, LBFGS"]["kernels"] <= 19


def operations(f: Callable[..., object], *given: object) -> int:
    """What the stand-in device is told to do by a call."""
    standin.reset()
    f(*given)
    return standin.counts()["ops"]


@pytest.mark.standin
@pytest.mark.parametrize("name", PROBLEMS)
def test_operations_of_a_step_on_a_device(name):
    """As many in the gradient as the compiled step is held to, and no more in a step than there were."""
    u = problems.get(name, device="standin", **PROBLEMS[name]).potential
    for minimiser, most in zip((BFGS(), LBFGS(memory=20)), STEPS[name], strict=True):
        state = minimiser.init(u, u.sample(3, seed=0))
        for _ in range(21):  # until the memory is full
            state = minimiser.step(u, state)
        assert operations(u.energy_and_grad, state.trial) == GRADIENTS[name]
        assert operations(minimiser.step, u, state) <= most


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
