"""Compile the steps of all minimisers, each as one graph, and compare them with the steps as ever.

    python tests/optimise/compile_steps.py BACKEND      # eager, aot_eager, inductor; prints JSON

What Inductor makes of a step is counted in loops, one for each kernel that a device would start (for the CPU it
puts many into one function), and in calls of libraries, beside them.

In a process of its own: the run-time checks of shapes, which the tests install, cannot be compiled.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_on_host import POTENTIALS, starts

import torchscape.even
from torchscape import problems
from torchscape.optimise import BFGS, LBFGS, ShortLBFGS
from torchscape.optimise.rows import columns_of, map_rows

MINIMISERS = {
    "short": ShortLBFGS(memory=4),
    "dense": BFGS(),
    "limited": LBFGS(memory=4),
    "limited, plain": LBFGS(memory=4, pairs=None, rescale=None),
}


PROBLEMS: dict[str, dict[str, Any]] = {
    "digits": {"hidden": 10, "n_train": 100},
    "trimer-network": {},
    "regression": {},
    "lj": {"n": 7},
}


class Counted:
    """What a device would start for the code that Inductor makes."""

    def __init__(self) -> None:
        self.kernels = self.library = 0

    def __call__(self, nodes: list[Any]) -> list[Any]:
        for node in nodes:
            kind = type(node).__name__
            if kind == "ExternKernelSchedulerNode":
                self.library += 1
            elif kind == "OuterLoopFusedSchedulerNode":
                self.kernels += len(node.get_outer_nodes())
            elif kind != "NopKernelSchedulerNode":
                self.kernels += 1
        return nodes


def compare(minimiser, potential, x: torch.Tensor, backend: str, n: int = 4) -> dict[str, int]:
    """A few steps as ever and compiled, each from the same state; what the compiled one starts."""
    import torch._inductor.config

    torch._dynamo.reset()
    counted = Counted()
    compiled = torch.compile(minimiser.advanced, fullgraph=True, backend=backend)
    limits = minimiser.limits(potential, potential.dtype)
    state = minimiser.settled(minimiser.init(potential, x))
    with torch._inductor.config.patch(_post_fusion_custom_pass=counted, force_disable_caches=True):
        for _ in range(n):
            new = minimiser.evaluate(potential, state)
            expected = minimiser.advanced(limits, map_rows(torch.clone, state), new)
            state = compiled(limits, map_rows(torch.clone, state), new)
            for ours, its in zip(columns_of(state), columns_of(expected), strict=True):
                # pairs are in float32, with 6e-8 of rounding for each of some hundred terms of a sum
                torch.testing.assert_close(ours, its, rtol=1e-5, atol=1e-9, equal_nan=True)
    return vars(counted)


def by_inductor() -> dict[str, dict[str, int]]:
    torchscape.even.is_host = lambda device: False  # products of matrices are filled up on the CPU only
    counts = {}
    for name, options in PROBLEMS.items():
        u = problems.get(name, **options).potential
        for minimiser in (BFGS(), LBFGS(memory=20), *([ShortLBFGS()] if name == "lj" else [])):
            x = u.sample(8, seed=0)
            counts[f"{name}, {type(minimiser).__name__}"] = compare(minimiser, u, x, "inductor", 2)
    return counts


def main(backend: str) -> None:
    warnings.simplefilter("ignore")
    if backend == "inductor":
        print(json.dumps(by_inductor()))
        return
    counts = {}
    for name in MINIMISERS:
        for potential in ("box", "network"):
            u = POTENTIALS[potential]()
            counts[f"{name}, {potential}"] = compare(MINIMISERS[name], u, starts(u), backend)
    perceptron = POTENTIALS["network"]()._evaluator.written._found
    if perceptron is not None:
        torch._dynamo.reset()
        x = starts(POTENTIALS["network"]())
        energy, grad = torch.compile(perceptron, fullgraph=True, backend="eager")(x)
        for ours, its in zip((energy, grad), perceptron(x), strict=True):
            torch.testing.assert_close(ours, its)
        counts["perceptron"] = {}
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1])
