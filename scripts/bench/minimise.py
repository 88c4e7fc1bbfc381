#!/usr/bin/env python3
"""Minimisation: evaluations to convergence, beside SciPy's L-BFGS-B, and what the optimiser itself costs.

    scripts/bench/minimise.py                  # everything, about ten minutes
    scripts/bench/minimise.py --quick          # fewer starts, about two minutes
    scripts/bench/minimise.py --json FILE      # also write the figures, with machine, versions and date
    scripts/bench/minimise.py --device cuda    # on a GPU
    scripts/bench/minimise.py --data FILE      # trimer networks on `distances` and `label` of an .npz

Evaluations are energy-and-gradient evaluations of one point. SciPy is charged up to the first point whose RMS
gradient is below the same tolerance. The overhead is everything in ``relax`` that is not the potential, as a
fraction of the wall time of the same run: of 256 quenches, 64 of them in flight at a time, as the walkers of
basin-hopping are.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import scipy.optimize
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

from torchscape import Potential, problems
from torchscape.optimise import BFGS, LBFGS, choose_optimiser, relax


class Timed(Potential):
    """A potential that keeps account of the time spent in it."""

    def __init__(self, inner: Potential) -> None:
        self.inner, self.seconds, self.calls = inner, 0.0, 0
        for name in ("ndim", "dtype", "device", "bounds", "length_scale", "preconditioner"):
            setattr(self, name, getattr(inner, name))

    def energy_and_grad(self, x):
        if x.is_cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        result = self.inner.energy_and_grad(x)
        if x.is_cuda:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - began
        self.calls += 1
        return result


def describe(name: str, optimiser, points, seconds: float) -> dict:
    n = points.n_evaluations.double()
    row = {
        "problem": name,
        "optimiser": type(optimiser).__name__ + (f"({optimiser.memory})" if isinstance(optimiser, LBFGS) else ""),
        "median": float(n.median()),
        "mean": float(n.mean()),
        "max": int(n.max()),
        "converged": f"{int(points.converged.sum())}/{len(points)}",
        "seconds": round(seconds, 2),
        "lowest": float(points.energy.min()),
    }
    show(row)
    return row


def show(row: dict) -> None:
    print("  ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def ours(name: str, potential: Potential, starts, tol: float, optimisers) -> list[dict]:
    rows = []
    for optimiser in optimisers:
        began = time.perf_counter()
        points = relax(potential, starts, optimiser=optimiser, tol=tol)
        rows.append(describe(name, optimiser, points, time.perf_counter() - began))
    return rows


def scipys(name: str, potential: Potential, starts, tol: float) -> dict:
    """SciPy's L-BFGS-B with its default memory of 10, start by start."""
    counts, failed = [], 0
    began = time.perf_counter()
    for start in starts:
        rms: list[float] = []

        def fun(x, rms=rms):
            energy, grad = potential.energy_and_grad(torch.as_tensor(x, device=potential.device)[None])
            rms.append(float(grad.pow(2).mean().sqrt()))
            return float(energy), grad[0].cpu().numpy().copy()

        options = {"maxiter": 20_000, "maxfun": 20_000, "ftol": 0.0, "gtol": 0.1 * tol}
        scipy.optimize.minimize(fun, start.cpu().numpy(), jac=True, method="L-BFGS-B", options=options)
        reached = np.flatnonzero(np.array(rms) <= tol)
        failed += not len(reached)
        counts.append(reached[0] + 1 if len(reached) else len(rms))
    row = {
        "problem": name,
        "optimiser": "SciPy L-BFGS-B",
        "median": float(np.median(counts)),
        "mean": float(np.mean(counts)),
        "max": int(np.max(counts)),
        "converged": f"{len(counts) - failed}/{len(counts)}",
        "seconds": round(time.perf_counter() - began, 2),
    }
    show(row)
    return row


def overhead(name: str, potential: Potential, walkers: int, optimiser=None, max_steps: int = 1000) -> dict:
    """Share of the wall time that is not the potential's: so many quenches in flight, four times as many in all.
    The potential's preconditioner is made before the clock starts."""
    optimiser = optimiser or choose_optimiser(potential)
    starts = potential.sample(4 * walkers, seed=1)
    relax(potential, starts[:walkers], max_evaluations=5)  # warm-up
    timed = Timed(potential)
    began, cpu = time.perf_counter(), time.process_time()
    points = relax(timed, starts, optimiser=optimiser, tol=1e-6, max_evaluations=max_steps, pool_size=walkers)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    row = {
        "problem": name,
        "walkers": walkers,
        "memory": optimiser.memory,
        "preconditioned": potential.preconditioner is not None,
        "rescaled": potential.preconditioner is None and optimiser.rescale is not None,
        "steps": timed.calls,
        "ms per step": 1e3 * wall / timed.calls,
        "overhead": 1 - timed.seconds / wall,
        "median": float(points.n_evaluations.double().median()),
        "converged": f"{int(points.converged.sum())}/{len(points)}",
        "cpu seconds": cpu,
    }
    show(row)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer starts, no SciPy on the networks")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU; SciPy is faster with one too")
    parser.add_argument("--data", help="train the trimer networks on this file; default: data made on the spot")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    device = args.device
    torch.set_num_threads(args.threads)
    n_starts, n_scipy = (64, 20) if args.quick else (512, 200)
    evaluations: list[dict] = []

    print("== trimer network, 28 parameters, to RMS 1e-8")
    for l2 in (1e-4, 1e-5):
        potential = problems.get("trimer-network", l2=l2, data=args.data, device=device).potential
        starts = torch.randn(n_starts, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        starts = starts.to(device)
        choices = [BFGS(), LBFGS(memory=100)] + ([] if args.quick else [LBFGS(memory=60), LBFGS(memory=30)])
        evaluations += ours(f"trimer l2={l2:g}", potential, starts, 1e-8, choices)

    print("== beside SciPy, the same starts and the same RMS gradient")
    cases = [
        ("rosenbrock", {"ndim": 10}, 1e-8),
        ("lj13", {}, 1e-6),
        ("digits", {"hidden": 4, "n_train": 500}, 1e-6),
    ]
    for name, options, tol in cases:
        potential = problems.get(name, device=device, **options).potential
        n = min(n_scipy, 10) if name == "digits" and args.quick else n_scipy
        starts = potential.sample(n, seed=0)
        evaluations += ours(name, potential, starts, tol, [choose_optimiser(potential)])
        evaluations.append(scipys(name, potential, starts, tol))

    print("== what the optimiser costs: digits networks, 64 walkers")
    costs = []
    for hidden, n_train in ((4, 1796), (10, 1000), (10, 1796)):
        potential = problems.get("digits", hidden=hidden, n_train=n_train, device=device).potential
        costs.append(overhead(f"digits 64-{hidden}-10, {n_train} images, D = {potential.ndim}", potential, 64))

    print("== what memory buys, and the preconditioner, and rescaled coordinates")
    name = f"digits 64-{hidden}-10, {n_train} images, D = {potential.ndim}"
    costs += [overhead(name, potential, 64, LBFGS(memory=memory)) for memory in (10, 30, 60, 100)]
    potential.preconditioner = None
    costs += [overhead(name, potential, 64, optimiser) for optimiser in (LBFGS(), LBFGS(rescale=None))]

    if args.json:
        source = Path(args.data).name if args.data else "made on the spot"
        record(args.json, device, trimer_data=source, evaluations=evaluations, overhead=costs)


if __name__ == "__main__":
    main()
