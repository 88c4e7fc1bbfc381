#!/usr/bin/env python3
"""Sampling: what a sampler costs beside the gradients, and steps per second against the number of chains.

    scripts/bench/sampling.py                  # everything, about four minutes
    scripts/bench/sampling.py --quick          # fewer steps and chains
    scripts/bench/sampling.py --json FILE      # also write the figures, with machine, versions and date
    scripts/bench/sampling.py --device cuda    # on a GPU

The ratio is the wall time of ``sample`` over (gradient evaluations x time of one bare batched gradient of as many
rows). Bare gradients are timed in turn with the runs, and the median of several turns is reported, because a busy
machine slows both; the ratio of CPU times (of one thread) is what a busy machine changes least.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

from torchscape import Potential, problems
from torchscape.potentials import Rosenbrock
from torchscape.sampling import BAOAB, HMC, SGLD, AdaptiveLangevin, sample

SAMPLERS = {
    "SGLD": SGLD(1e-3),
    "BAOAB": BAOAB(1e-2),
    "AdaptiveLangevin": AdaptiveLangevin(1e-2),
    "HMC": HMC(1e-2, n_leapfrog=10, target=None),
}


def seconds(f, device: torch.device) -> tuple[float, float]:
    """Wall time and CPU time of a call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began, cpu = time.perf_counter(), time.process_time()
    f()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - cpu


def ratio(name: str, potential: Potential, chains: int, evaluations: int, turns: int) -> list[dict]:
    x = potential.sample(chains, seed=1)

    def bare() -> None:
        for _ in range(evaluations):
            potential.energy_and_grad(x)

    bare()
    rows = []
    for kind, sampler in SAMPLERS.items():
        found, bare_ms = [], []
        for _ in range(turns):
            spent = []

            def run(sampler=sampler, spent=spent) -> None:
                steps = evaluations // 9 if isinstance(sampler, HMC) else evaluations
                samples = sample(potential, x, sampler=sampler, steps=steps, thin=10, keep_positions=False)
                spent.append(samples.state.n_evaluations)

            alone = seconds(bare, potential.device)
            whole = seconds(run, potential.device)
            found.append([w * evaluations / (spent[0] * a) for w, a in zip(whole, alone, strict=True)])
            bare_ms.append(1e3 * alone[0] / evaluations)
        wall, cpu = zip(*found, strict=True)
        row = {
            "problem": name,
            "D": potential.ndim,
            "chains": chains,
            "sampler": kind,
            "ratio": round(statistics.median(wall), 3),
            "lowest": round(min(wall), 3),
            "ratio of CPU times": round(statistics.median(cpu), 3),
            "bare gradient ms": round(statistics.median(bare_ms), 3),
        }
        show(row)
        rows.append(row)
    return rows


def throughput(name: str, potential: Potential, counts: list[int], most: float) -> list[dict]:
    """BAOAB steps of one chain per second, all chains counted; about ``most`` seconds each."""
    rows = []
    for chains in counts:
        x = potential.sample(chains, seed=1)

        def run(steps: int, x=x) -> None:
            sample(potential, x, sampler=BAOAB(1e-3), steps=steps, thin=max(1, steps), keep_positions=False)

        run(2)
        one = seconds(lambda: run(4), potential.device)[0] / 4
        steps = max(4, int(most / one))
        wall, _ = seconds(lambda n=steps: run(n), potential.device)
        row = {"problem": name, "D": potential.ndim, "chains": chains, "steps per second": steps / wall}
        row["chain steps per second"] = chains * steps / wall
        show(row)
        rows.append(row)
    return rows


def show(row: dict) -> None:
    print("  ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns, at most 1000 chains")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    turns, counts = (3, [1, 10, 100, 1000]) if args.quick else (5, [1, 10, 100, 1000, 10000])

    print("== wall time over (gradient evaluations x bare gradient)")
    ratios = []
    for hidden, chains in ((4, 64), (10, 64), (4, 512)):
        potential = problems.get("digits", hidden=hidden, device=args.device).potential
        evaluations = 18 if chains > 64 else 36
        ratios += ratio(f"digits 64-{hidden}-10", potential, chains, evaluations, turns)

    print("== steps per second against chains, BAOAB")
    small = Rosenbrock(ndim=10, device=args.device)
    trimer = problems.get("trimer-network", device=args.device).potential
    rates = throughput("rosenbrock", small, counts, 1.0) + throughput("trimer-network", trimer, counts, 2.0)

    if args.json:
        record(args.json, args.device, ratio=ratios, throughput=rates)


if __name__ == "__main__":
    main()
