"""Compile the steps of all minimisers, each as one graph, and compare them with the steps as ever.

    python tests/optimise/compile_steps.py BACKEND      # eager, aot_eager, inductor; prints JSON

In a process of its own: the run-time checks of shapes, which the tests install, cannot be compiled.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_on_host import POTENTIALS, starts

from torchscape.optimise import BFGS, LBFGS, ShortLBFGS
from torchscape.optimise.rows import columns_of, map_rows

MINIMISERS = {
    "short": ShortLBFGS(memory=4),
    "dense": BFGS(),
    "limited": LBFGS(memory=4),
    "limited, plain": LBFGS(memory=4, pairs=None, rescale=None),
}


def compare(minimiser, potential, backend: str, n: int) -> int:
    """A few steps as ever and compiled, each from the same state; how many kernels were generated."""
    from torch._inductor import metrics

    torch._dynamo.reset()
    metrics.reset()
    compiled = torch.compile(minimiser.advanced, fullgraph=True, backend=backend)
    limits = minimiser.limits(potential, potential.dtype)
    state = minimiser.settled(minimiser.init(potential, starts(potential)))
    for _ in range(n):
        new = minimiser.evaluate(potential, state)
        expected = minimiser.advanced(limits, map_rows(torch.clone, state), new)
        state = compiled(limits, map_rows(torch.clone, state), new)
        for ours, its in zip(columns_of(state), columns_of(expected), strict=True):
            torch.testing.assert_close(ours, its, rtol=1e-5, atol=1e-9, equal_nan=True)
    return metrics.generated_kernel_count


def main(backend: str) -> None:
    warnings.simplefilter("ignore")
    potentials = ["network"] if backend == "inductor" else ["box", "network"]
    cases = [(name, potential) for name in MINIMISERS for potential in potentials]
    if backend == "inductor":
        cases = [("dense", "network"), ("limited, plain", "network")]
    counts = {
        f"{name}, {potential}": compare(MINIMISERS[name], POTENTIALS[potential](), backend, 4)
        for name, potential in cases
    }
    perceptron = POTENTIALS["network"]()._evaluator.written._found
    if perceptron is not None:
        torch._dynamo.reset()
        x = starts(POTENTIALS["network"]())
        energy, grad = torch.compile(perceptron, fullgraph=True, backend="eager")(x)
        for ours, its in zip((energy, grad), perceptron(x), strict=True):
            torch.testing.assert_close(ours, its)
        counts["perceptron"] = 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1])
