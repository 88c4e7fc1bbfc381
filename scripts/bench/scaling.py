#!/usr/bin/env python3
"""All cores of a machine: how much faster several processes explore than one with one thread.

    scripts/bench/scaling.py                      # one and two workers, some ten minutes
    scripts/bench/scaling.py --workers 1 2 4 8    # on a machine that has them
    scripts/bench/scaling.py --json FILE          # also write the figures, with machine, versions and date

Quenches of the digits network (64-10-10, basin-hopping), and transition states between its minima (elastic bands,
eigenvector-following, verification). Runs with one worker and with several alternate; each has its workers started
beforehand, and explores into a landscape in memory from the same seed. Shown: median of wall-clock seconds, and
how many times faster than in this process with one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

import torchscape as tsc
from torchscape import problems
from torchscape.explore import Executor, InProcess, Processes


def minima(potential: tsc.Potential, executor: Executor, quick: bool) -> tuple[float, int]:
    """Seconds for quenches from 64 walkers, and how many quenches that were."""
    hopping = tsc.BasinHopping(walkers=64, hops=1 if quick else 4, round_hops=5)
    with tsc.Landscape.in_memory(potential) as landscape:
        return timed(landscape, potential, [hopping], executor).seconds, 64 * (hopping.hops + 1)


def saddles(
    potential: tsc.Potential, executor: Executor, known: tsc.StationaryPoints, n: int
) -> tuple[float, int]:
    """Seconds for transition states between ``known`` minima, and how many were found."""
    with tsc.Landscape.in_memory(potential) as landscape:
        landscape.add_minima(known)
        connecting = tsc.ConnectMinima(neighbours=2, max_rounds=0, round_pairs=n)
        report = timed(landscape, potential, [connecting], executor)
        return report.seconds, report.n_transition_states


def timed(landscape: tsc.Landscape, potential: tsc.Potential, strategies: list[Any], executor: Executor) -> Any:
    return tsc.explore(
        landscape, potential, strategies=strategies, executor=executor, progress=False, check=False, seed=1
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one repeat of small jobs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    potential = problems.get("digits", hidden=10).potential
    executors: dict[str, Executor] = {"in process": InProcess()}
    executors |= {f"{n} workers": Processes(n, threads=1) for n in arguments.workers}
    found = potential.sample(16 if arguments.quick else 40, seed=0)
    known = tsc.optimise.relax(potential, found)
    jobs = {
        "minima": lambda executor: minima(potential, executor, arguments.quick),
        "transition states": lambda executor: saddles(potential, executor, known, 128),
    }
    rows = []
    for job, run in jobs.items():
        seconds: dict[str, list[float]] = {name: [] for name in executors}
        counts = {}
        for executor in executors.values():  # workers are started, and know the potential
            list(executor.run(potential, [Nothing()] * 8))
        for _ in range(1 if arguments.quick else arguments.repeats):
            for name, executor in executors.items():
                began = time.process_time()
                taken, counts[name] = run(executor)
                seconds[name].append(taken)
                print(
                    f"{job}, {name}: {taken:.1f} s, {counts[name]}, here {time.process_time() - began:.1f} s",
                    flush=True,
                )
        median = {name: statistics.median(values) for name, values in seconds.items()}
        for name in executors:
            row = {"job": job, "executor": name, "seconds": round(median[name], 2), "count": counts[name]}
            row["times as fast"] = round(median["in process"] / median[name], 3)
            rows.append(row)
            print(row, flush=True)
    if arguments.json:
        record(arguments.json, rows=rows)


class Nothing:
    """A task that does nothing."""

    kind = "nothing"

    def run(self, potential: tsc.Potential) -> Any:
        from torchscape.explore import Found

        return Found(tsc.StationaryPoints.empty(potential.ndim))


if __name__ == "__main__":
    main()
