#!/usr/bin/env python3
"""Lennard-Jones clusters beside pele 0.1.2: CPU seconds to the global minimum, and of one evaluation.

    scripts/bench/clusters.py                     # LJ_13, 26 and 38, five seeds each
    scripts/bench/clusters.py --atoms 13 --seeds 3
    scripts/bench/clusters.py --json FILE         # also write the figures, with machine, versions and date

pele gets an environment of its own (``peers/environment.py``). The programs take turns, seed by seed, each in one
thread; what is counted are CPU seconds of the process, imports and a first small run left out. Both search as they
are shipped: pele by its basin-hopping of ``LJCluster``, torchscape by ``explore`` into a landscape in memory, with
what the problem ``lj`` suggests for basin-hopping (and no end of hops), until the landscape holds the published
energy: what it holds by then is certified, characterised and matched up to symmetry, as always. Compiling the
native code, once for each machine, is in the first small run.

An evaluation is energy and gradient of one cluster with its share of a quench from a random start: 64 quenches in
flight here, one after the other in pele.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "peers"))
import torch
from _record import record
from environment import environment, versions

import torchscape as tsc
from torchscape import problems
from torchscape.cli.strategies import chosen_strategies
from torchscape.optimise import relax

LOWEST = {13: -44.326801, 26: -108.315616, 38: -173.928427}  # doi 10.1021/jp970984n
QUENCHES = 640
MOST = 300.0  # seconds after which a search is given up


def problem(n: int) -> tuple[tsc.Potential, tsc.Strategy]:
    """The potential, and basin-hopping as ``torchscape explore lj:n=N --strategy basin-hopping`` has it."""
    lj = problems.get("lj", n=n)
    words = argparse.Namespace(strategy=["basin-hopping"], hops=10**6, move=None, set=None, tables=())
    return lj.potential, chosen_strategies(words, lj.suggested)[0].strategy


def hit(n: int, seed: int, energy: float, most: float) -> dict[str, Any]:
    potential, hopping = problem(n)
    began = time.process_time()
    budget = tsc.Budget(energy=energy, seconds=most)
    with tsc.Landscape.in_memory(potential) as landscape:
        report = tsc.explore(landscape, potential, strategies=[hopping], seed=seed, budget=budget, progress=False)
        seconds = time.process_time() - began
        found = report.status == "budget: energy"
        minima = landscape.n_minima
    return {"seconds": seconds, "quenches": report.n_quenches, "evaluations": report.n_evaluations,
            "minima": minima, "hit": found}  # fmt: skip


def rate(n: int) -> dict[str, Any]:
    potential, _ = problem(n)
    starts = potential.sample(QUENCHES, seed=1)
    relax(potential, starts[:2])
    began = time.process_time()
    points = relax(potential, starts, pool_size=64)
    return {"seconds": time.process_time() - began, "evaluations": int(points.n_evaluations.sum())}


def pele(python: Path, *words: object) -> dict[str, Any]:
    command = [str(python), str(Path(__file__).parent / "peers" / "pele_clusters.py"), *map(str, words)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=os.environ | threads, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def microseconds(run: dict[str, Any]) -> float:
    return float(1e6 * run["seconds"] / run["evaluations"])


def compare(n: int, seeds: int, python: Path) -> dict[str, Any]:
    rates: dict[str, list[dict]] = {"torchscape": [], "pele": []}
    for _ in range(3):
        rates["pele"].append(pele(python, "rate", n, "--quenches", QUENCHES))
        rates["torchscape"].append(rate(n))
    hits: dict[str, list[dict]] = {"torchscape": [], "pele": []}
    for seed in range(seeds):
        hits["pele"].append(pele(python, "hit", n, "--seed", seed, "--energy", LOWEST[n] + 1e-4, "--most", MOST))
        hits["torchscape"].append(hit(n, seed, LOWEST[n], MOST))
        shown = {who: f"{runs[-1]['seconds']:.3f}" for who, runs in hits.items()}
        print(f"  LJ_{n}, seed {seed}: {shown}", flush=True)
    row: dict[str, Any] = {"atoms": n}
    for who in ("torchscape", "pele"):
        row[who] = {
            "microseconds_per_evaluation": statistics.median(map(microseconds, rates[who])),
            "seconds_to_hit": statistics.median(run["seconds"] for run in hits[who]),
            "hits": sum(run["hit"] for run in hits[who]),
            "runs": hits[who],
            "rates": rates[who],
        }
    ours, theirs = row["torchscape"], row["pele"]
    print(
        f"LJ_{n}: to the global minimum {ours['seconds_to_hit']:.3f} s, pele {theirs['seconds_to_hit']:.3f} s; "
        f"an evaluation {ours['microseconds_per_evaluation']:.2f} and "
        f"{theirs['microseconds_per_evaluation']:.2f} microseconds",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, nargs="+", choices=sorted(LOWEST), default=sorted(LOWEST))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    python, load = environment(), os.getloadavg()
    potential = tsc.potentials.LennardJones(4)
    with tsc.Landscape.in_memory(potential) as landscape:  # first calls of torch and SQLite
        tsc.explore(landscape, potential, strategies=[tsc.BasinHopping(walkers=8, hops=1)], progress=False)
    rows = [compare(n, args.seeds, python) for n in args.atoms]
    if args.json:
        about = {"load_before": load, "load_after": os.getloadavg(), "peers": versions(python)}
        record(args.json, "cpu", **about, seeds=args.seeds, lowest=LOWEST, rows=rows)


if __name__ == "__main__":
    main()
