#!/usr/bin/env python3
"""How many gradients a descent takes: to an RMS gradient of 1e-8, beside SciPy's L-BFGS-B from the same starts.

    scripts/bench/evaluations.py                     # every problem, some twenty minutes
    scripts/bench/evaluations.py --problems conv4858 --starts 2
    scripts/bench/evaluations.py --mnist FILE        # an .npz or a folder, as problems.mnist takes
    scripts/bench/evaluations.py --json FILE         # also write the figures, with machine, versions and date

Everything is counted in gradient equivalents where the potential is asked for it: a Hessian-vector product is two
gradients, a Hessian 2 D of them. The two take turns, start by start, in one process and on one thread; seconds are
CPU time. SciPy has its default memory of 10, works in float64
on the same potential, and is charged up to the first point that is good enough.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import scipy.optimize
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from _models import Counter, Rows, conv4858, digits_of, letters
from _record import record

import torchscape as tsc
from torchscape import problems
from torchscape.optimise import relax
from torchscape.potentials.counted import Metered

TOL = 1e-8
MOST = {"conv4858": 6000}  # evaluations of SciPy, where it would not end


def of_module(build, data, l2: float) -> tsc.ModulePotential:
    torch.manual_seed(0)
    return tsc.ModulePotential(build().double(), data, nn.functional.cross_entropy, l2)


def potentials(mnist: str | None) -> dict:
    return {
        "mnist 784-10-10": lambda: problems.get("mnist", data=mnist).potential,
        "conv4858": lambda: of_module(conv4858, digits_of((1, 8, 8)), 1e-3),
        "digits 64-10-10": lambda: problems.get("digits").potential,
        "trimer": lambda: problems.get("trimer-network").potential,
        "transformer": lambda: of_module(Counter, letters(), 1e-3),
        "GRU": lambda: of_module(Rows, digits_of((8, 8), 500), 1e-3),
    }


def ours(potential, start: torch.Tensor, most: int | None) -> dict:
    counted = Metered(potential)
    began = time.process_time()
    point = relax(counted, start[None], tol=TOL, max_evaluations=most)
    seconds = time.process_time() - began
    spent = counted.n_gradients + 2 * counted.n_hvps + 2 * potential.ndim * counted.n_hessians
    return {
        "evaluations": spent,
        "seconds": seconds,
        "rms": float(point.grad_rms[0]),
        "energy": float(point.energy[0]),
    }


def scipys(potential, start: torch.Tensor, most: int) -> dict:
    seen: list[tuple[float, float, float]] = []
    began = time.process_time()

    def fun(x):
        energy, grad = potential.energy_and_grad(torch.as_tensor(x)[None])
        seen.append((float(grad.square().mean().sqrt()), float(energy[0]), time.process_time() - began))
        return float(energy[0]), grad[0].numpy().copy()

    # as exact as it can be: it ends at the first point that is good enough
    options = {"maxiter": most, "maxfun": most, "ftol": 0.0, "gtol": 0.0}

    def enough(_):
        if min(rms for rms, *_ in seen[-25:]) <= TOL:
            raise StopIteration

    scipy.optimize.minimize(fun, start.numpy(), jac=True, method="L-BFGS-B", options=options, callback=enough)
    reached = np.flatnonzero(np.array([rms for rms, *_ in seen]) <= TOL)
    last = int(reached[0]) if len(reached) else len(seen) - 1
    rms, energy, seconds = seen[last]
    return {"evaluations": last + 1, "seconds": seconds, "rms": rms, "energy": energy}


def measure(name: str, potential, n: int, most: int | None, alone: bool) -> list[dict]:
    starts = potential.sample(n, seed=1)
    began = time.process_time()
    known = potential.preconditioner
    learnt = time.process_time() - began
    print(f"== {name}: {potential.ndim} parameters, {type(known).__name__} made in {learnt:.2f} s", flush=True)
    potential.energy_and_grad(starts[:1])
    found: dict[str, list[dict]] = {"torchscape": [], "SciPy L-BFGS-B": []}
    for start in starts:
        found["torchscape"].append(ours(potential, start, most))
        if not alone:
            found["SciPy L-BFGS-B"].append(scipys(potential, start, MOST.get(name, 20_000)))
    rows = []
    for who, runs in found.items():
        if not runs:
            continue
        counts, seconds = [r["evaluations"] for r in runs], [r["seconds"] for r in runs]
        row = {
            "problem": name,
            "parameters": potential.ndim,
            "optimiser": who,
            "starts": n,
            "converged": sum(r["rms"] <= TOL for r in runs),
            "evaluations": counts,
            "median": statistics.median(counts),
            "most": max(counts),
            "CPU seconds": round(sum(seconds) / n, 3),
            "rms": max(r["rms"] for r in runs),
            "energies": [r["energy"] for r in runs],
        }
        print(
            f"{who:16s} median {row['median']:7.0f}  least {min(counts):6d}  most {max(counts):6d}  converged "
            f"{row['converged']}/{n}  CPU {row['CPU seconds']:8.2f} s a start  RMS {row['rms']:.1e}  "
            f"mean energy {statistics.fmean(row['energies']):.8f}",
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", help="some of them, by the beginnings of their names")
    parser.add_argument("--starts", type=int, help="from each; default: 10, and 2 of the convolution")
    parser.add_argument("--most", type=int, help="evaluations of a start")
    parser.add_argument("--alone", action="store_true", help="without SciPy")
    parser.add_argument("--mnist", help="the images; default: where problems.mnist looks")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, build in potentials(args.mnist).items():
        if args.problems is None or any(name.startswith(given) for given in args.problems):
            n = args.starts or (2 if name == "conv4858" else 10)
            rows += measure(name, build(), n, args.most, args.alone)
    if args.json:
        record(args.json, rows=rows)


if __name__ == "__main__":
    main()
