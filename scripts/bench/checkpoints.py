#!/usr/bin/env python3
"""Checkpoints: how long `torchscape checkpoints` takes to say what trained models are to each other.

    scripts/bench/checkpoints.py                        # every case, up to half an hour
    scripts/bench/checkpoints.py --cases mlp760 conv4858
    scripts/bench/checkpoints.py --mnist FILE           # an .npz or a folder for mlp97000, as problems.mnist takes
    scripts/bench/checkpoints.py --json FILE            # also write the figures, with machine, versions and date

Three cases, each trained by Adam from starts of its own, full batches, l2 = 1e-3 as in the loss:

    mlp760      five of a 64-10-10 tanh network on 1000 images of 8 x 8 digits
    conv4858    two of a convolutional network on the same: 9 and 39 channels of 3 x 3, GELU, average pools
    mlp97000    two of a 784-122-10 tanh network on 1000 images of MNIST

Training is not counted. What is: seconds of wall and CPU time of each stage of ``compare_checkpoints``, when the
stages began, and whether the checkpoints are one component in the end.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from _models import conv4858, digits_of
from _record import record

import torchscape as tsc
from torchscape import problems
from torchscape.learning import checkpoints as subject
from torchscape.learning import compare_checkpoints

STAGES = ("_minima", "_between", "_bands", "explore", "_ways", "_learn_curvatures", "top_eigenvalues")
LIMITS = {"mlp760": 120.0, "conv4858": 600.0, "mlp97000": 900.0}  # seconds


def mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, 10)).double()


def trained(build: Callable[[], nn.Module], data, l2: float, seed: int, steps: int) -> nn.Module:
    """Adam on all images at once, from a start of its own."""
    torch.manual_seed(seed)
    net, (x, y) = build(), data
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(steps):
        adam.zero_grad()
        square = sum(p.square().sum() for p in net.parameters())
        (nn.functional.cross_entropy(net(x), y) + l2 * square).backward()
        adam.step()
    return net


def case(name: str, mnist: str | None):
    """How a network is built, and its data."""
    if name == "mlp97000":
        images, labels = problems.get("mnist", data=mnist, hidden=1).potential.samples.tree
        return functools.partial(mlp, 784, 122), (images, labels), 2
    if name == "conv4858":
        return conv4858, digits_of((1, 8, 8)), 2
    return functools.partial(mlp, 64, 10), digits_of((64,)), 5


class Stages:
    """Notes when each stage of the comparison began and what it took."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.began = time.perf_counter()

    def __enter__(self) -> Stages:
        self.kept = {name: getattr(subject, name) for name in STAGES}
        for name, function in self.kept.items():
            setattr(subject, name, functools.partial(self.timed, name, function))
        return self

    def __exit__(self, *_) -> None:
        for name, function in self.kept.items():
            setattr(subject, name, function)

    def timed(self, name: str, function: Callable, *args, **kwargs):
        began, cpu = time.perf_counter(), time.process_time()
        result = function(*args, **kwargs)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        self.rows.append({"stage": name, "after": began - self.began, "wall": wall, "cpu": cpu})
        print(f"  {name:16s} after {began - self.began:7.1f} s: wall {wall:7.1f} s, CPU {cpu:7.1f} s", flush=True)
        return result


def measure(name: str, mnist: str | None, steps: int, most: float | None) -> dict:
    build, data, number = case(name, mnist)
    l2 = 1e-3
    nets = {f"seed {k}": trained(build, data, l2, k, steps) for k in range(number)}
    potential = tsc.ModulePotential(build(), data, nn.functional.cross_entropy, l2)
    print(f"== {name}: {number} trainings of {potential.ndim} parameters, {steps} steps of Adam", flush=True)
    began, cpu = time.perf_counter(), time.process_time()
    with tsc.Landscape.in_memory(potential) as landscape, Stages() as stages:
        budget = tsc.Budget(seconds=most or LIMITS[name])
        report = compare_checkpoints(landscape, potential, nets, budget=budget, progress=False)
        known = len(landscape.minimum_ids())
        saddles = landscape.network(coords=False).n_edges
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(report.describe())
    apart = sum(not math.isfinite(v) for v in report.path.triu(1)[report.path.triu(1) != 0].tolist())
    row = {
        "case": name,
        "parameters": potential.ndim,
        "checkpoints": number,
        "wall": wall,
        "cpu": cpu,
        "stages": stages.rows,
        "pairs without a path": apart,
        "in one valley": len(report.valleys) == 1,
        "minima": known,
        "transition states": saddles,
        "highest path": max(v for v in report.path.flatten().tolist() if math.isfinite(v)),
        "highest aligned line": float(report.aligned_line.max()),
        "highest line": float(report.line.max()),
        "highest minimum": float(report.energy.max()),
        "outcome": report.exploration.reason if hasattr(report.exploration, "reason") else str(report.exploration),
    }
    print(
        "  ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items() if k != "stages")
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--mnist", help="images for mlp97000; default: where problems.mnist looks")
    parser.add_argument("--steps", type=int, default=500, help="of Adam")
    parser.add_argument("--max-time", type=float, help="seconds of connecting; default: what the case is allowed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [measure(name, args.mnist, args.steps, args.max_time) for name in args.cases]
    if args.json:
        record(args.json, rows=rows)


if __name__ == "__main__":
    main()
