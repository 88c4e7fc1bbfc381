#!/usr/bin/env python3
"""Gradients of many rows: as ever, by compiled code, and by JAX where it is installed, in one interleaved run.

    scripts/bench/gradients.py                      # networks in both precisions, and clusters; one thread
    scripts/bench/gradients.py --only trimers       # cases whose name contains this
    scripts/bench/gradients.py --json FILE          # also write the figures, with machine, versions and date
    PYTHONPATH=FOLDER scripts/bench/gradients.py    # with a JAX that lies in a folder: pip install -t FOLDER jax

Seconds are of processor time, the least of the repeats, which take turns. JAX is ``jit(vmap(value_and_grad))`` of
the same loss on the same data. What compiling takes is on the clock, the first call with it; a later run finds
the code in Inductor's cache. ``off`` is the largest difference of a gradient over its largest number.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

import torchscape as tsc
from torchscape import problems

CASES: dict[str, tuple[Callable[[], tsc.Potential], int]] = {
    "trimers": (lambda: problems.get("trimer-network").potential, 256),
    "digits 64-10-10": (lambda: problems.get("digits", hidden=10).potential, 64),
    "LJ_13": (lambda: problems.get("lj", n=13).potential, 256),
    "LJ_26": (lambda: problems.get("lj", n=26).potential, 256),
    "LJ_38": (lambda: problems.get("lj", n=38).potential, 256),
}
NETWORKS = ("trimers", "digits 64-10-10")


def jax_gradient(potential: tsc.ModulePotential) -> Callable[[torch.Tensor], Any] | None:
    """Energy and gradient of a network with one hidden layer of tanh units by JAX; None where that is missing."""
    try:
        import jax
    except ImportError:
        return None
    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    inputs, targets = (one.numpy() for one in potential.samples.whole)
    w_in, b_in, w_out, b_out = (potential.layout.coordinates(name) for name in potential.layout.names)
    shapes = [shape for shape in potential.layout.shapes if len(shape) == 2]
    data, labels, l2 = jnp.asarray(inputs), jnp.asarray(targets), potential.l2

    def energy(x):
        hidden = jnp.tanh(data @ x[w_in].reshape(shapes[0]).T + x[b_in])
        out = hidden @ x[w_out].reshape(shapes[1]).T + x[b_out]
        picked = jnp.take_along_axis(jax.nn.log_softmax(out), labels[:, None], 1)
        return -picked.mean() + l2 * (x**2).sum()

    evaluate = jax.jit(jax.vmap(jax.value_and_grad(energy)))

    def gradient(x: torch.Tensor) -> Any:
        e, g = evaluate(jnp.asarray(x.numpy()))
        return e.block_until_ready(), g.block_until_ready()

    return gradient


def measured(name: str, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Milliseconds of each way, and what compiling took."""
    make, rows = CASES[name]
    plain, compiled = (make().in_precision(dtype) for _ in range(2))
    compiled.compile = True
    x = plain.sample(rows, seed=1)
    ways: dict[str, Callable[[torch.Tensor], Any]] = {"as ever": plain.energy_and_grad}
    ways["compiled"] = compiled.energy_and_grad
    if isinstance(plain, tsc.ModulePotential) and (jax := jax_gradient(plain)) is not None:
        ways["JAX"] = jax
    first, results = {}, {}
    for way, evaluate in ways.items():
        began = time.perf_counter()
        results[way] = torch.as_tensor(_numbers(evaluate(x)[1]))
        first[way] = time.perf_counter() - began
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(repeats):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            began = time.process_time()
            ways[way](x)
            spent[way].append(time.process_time() - began)
    grad = results["as ever"]
    return {
        "case": name,
        "dtype": str(dtype).removeprefix("torch."),
        "rows": rows,
        "ms": {way: 1e3 * min(some) for way, some in spent.items()},
        "first call": first,
        "off": {way: float((one - grad).abs().max() / grad.abs().max()) for way, one in results.items()},
        "said": compiled.compiled,
    }


def _numbers(grad: Any) -> Any:
    import numpy as np

    return grad if isinstance(grad, torch.Tensor) else np.array(grad)


def told(found: dict[str, Any]) -> str:
    ms, off = found["ms"], found["off"]
    parts = [f"{way} {ms[way]:.2f} ms" for way in ms]
    ratio = f"{ms['as ever'] / ms['compiled']:.2f} times as fast as ever"
    if "JAX" in ms:
        ratio += f", {ms['JAX'] / ms['compiled']:.2f} times JAX"
    return (
        f"{found['case']:16s} {found['dtype']:8s} {found['rows']:4d} rows: {', '.join(parts)}; compiled {ratio}; "
        f"off {off['compiled']:.0e}; first call {found['first call']['compiled']:.1f} s; {found['said']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name in CASES:
        if options.only in name:
            for dtype in (torch.float64, torch.float32) if name in NETWORKS else (torch.float64,):
                rows.append(measured(name, dtype, options.repeats))
                print(told(rows[-1]), flush=True)
    if options.json:
        record(options.json, threads=options.threads, cases=rows)


if __name__ == "__main__":
    main()
