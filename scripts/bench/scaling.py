#!/usr/bin/env python3
"""All cores of a machine: how much faster several workers explore than one process with one thread.

    scripts/bench/scaling.py                      # one and two workers, some ten minutes
    scripts/bench/scaling.py --workers 1 2 4 8    # on a machine that has them
    scripts/bench/scaling.py --ray                # workers of Ray, too
    scripts/bench/scaling.py --json FILE          # also write the figures, with machine, versions and date

Quenches of the digits network (64-10-10, basin-hopping), and transition states between its minima (elastic bands,
eigenvector-following, verification). Runs in this process with one thread and with several workers alternate;
workers are started beforehand, and each run explores into a landscape in memory from the same seed. Shown: the
median of wall-clock seconds, and how many times faster than in this process.

Rows that say "model" were not measured. They are T(p) = S + W / min(p, parts), from the run with the most workers:
S is what its wall-clock time has beyond the busy time of its workers, shared out among them (proposals, commits,
messages, waiting at the ends of rounds), W is that busy time, and parts is how many a round can be cut into.

The last job is 200 tasks of unequal lengths in 25 rounds, on a potential that sleeps: the share of the workers'
time in which they had nothing to do, with and without work ahead of the next round.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

import torchscape as tsc
from torchscape import problems, random
from torchscape.explore import Executor, Found, InProcess, Processes, RayExecutor, Round, Strategy
from torchscape.explore.crew import Crew

WALKERS, PAIRS = 64, 128
KNOWN = 64  # minima: with two neighbours each they make nearly a whole round of pairs
MODELLED = (4, 8, 16)  # workers


def minima(potential: tsc.Potential, executor: Executor, quick: bool) -> tuple[float, int]:
    """Seconds for quenches from 64 walkers, and how many quenches that were."""
    hopping = tsc.BasinHopping(walkers=WALKERS, hops=1 if quick else 4, round_hops=5)
    with tsc.Landscape.in_memory(potential) as landscape:
        return timed(landscape, potential, [hopping], executor).seconds, WALKERS * (hopping.hops + 1)


def saddles(potential: tsc.Potential, executor: Executor, known: tsc.StationaryPoints) -> tuple[float, int]:
    """Seconds for transition states between ``known`` minima, and how many were found."""
    with tsc.Landscape.in_memory(potential) as landscape:
        landscape.add_minima(known)
        connecting = tsc.ConnectMinima(neighbours=2, max_rounds=0, round_pairs=PAIRS)
        report = timed(landscape, potential, [connecting], executor)
        return report.seconds, report.n_transition_states


def timed(landscape: tsc.Landscape, potential: tsc.Potential, strategies: list[Any], executor: Executor) -> Any:
    return tsc.explore(
        landscape, potential, strategies=strategies, executor=executor, progress=False, check=False, seed=1
    )


def measured(
    job: str,
    run: Any,
    rows_of_a_round: int,
    potential: tsc.Potential,
    executors: dict[str, Executor],
    repeats: int,
) -> list[dict[str, Any]]:
    """Rows of one job: what was measured, and the model."""
    seconds: dict[str, list[float]] = {name: [] for name in executors}
    busy: dict[str, list[float]] = {name: [] for name in executors}
    counts = {}
    for executor in executors.values():
        started(potential, executor)
    for _ in range(repeats):
        for name, executor in executors.items():
            before = busy_of(executor)
            taken, counts[name] = run(executor)
            seconds[name].append(taken)
            busy[name].append(busy_of(executor) - before)
            print(f"{job}, {name}: {taken:.1f} s, {counts[name]}, load {os.getloadavg()[0]:.1f}", flush=True)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    here = median["in process"]
    rows = [
        {"job": job, "executor": name, "seconds": round(median[name], 2), "count": counts[name],
         "times as fast": round(here / median[name], 3)}
        for name in executors
    ]  # fmt: skip
    crews = {name: one for name, one in executors.items() if isinstance(one, Processes)}
    if crews:
        name, crew = max(crews.items(), key=lambda item: item[1].workers)
        work = statistics.median(busy[name])
        serial = max(0.0, median[name] - work / crew.workers)
        rows.append({"job": job, "model of": name, "S": round(serial, 2), "W": round(work, 2)})
        for workers in MODELLED:
            taken = serial + work / min(workers, rows_of_a_round // 4)
            rows.append(
                {"job": job, "model": f"{workers} workers", "seconds": round(taken, 2),
                 "times as fast": round(here / taken, 3)}
            )  # fmt: skip
    return rows


def busy_of(executor: Executor) -> float:
    return executor.busy if isinstance(executor, Crew) else 0.0


def started(potential: tsc.Potential, executor: Executor) -> None:
    """All workers are there, and know the potential."""
    while isinstance(executor, Crew) and sum(one.is_ready for one in executor.members) < executor.workers:
        list(executor.run(potential, [Nothing()] * 8))
    list(executor.run(potential, [Nothing()] * 8))


class Nothing:
    """A task that does nothing, for a moment."""

    kind = "nothing"

    def run(self, potential: tsc.Potential) -> Found:
        time.sleep(0.05)
        return Found(tsc.StationaryPoints.empty(potential.ndim))


class Sleeping(tsc.potentials.Potential):
    """A bowl that takes its time for every row, so that little depends on what else the machine does."""

    ndim = 2

    def energy(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02 * len(x))
        return (x**2).sum(1)


@dataclasses.dataclass(frozen=True)
class Quenches:
    """Quenches from ``n`` starting points of a seed."""

    seed: int
    n: int
    kind = "unequal quenches"

    def run(self, potential: tsc.Potential) -> Found:
        points = tsc.relax(potential, potential.sample(self.n, seed=self.seed))
        return Found(points, n_quenches=self.n, n_evaluations=int(points.n_evaluations.sum()))


@dataclasses.dataclass(frozen=True)
class Unequal(Strategy):
    """200 tasks, eight to a round, of 1 to 16 rows each; the next round is foreseen or not."""

    foresees: bool = True
    name = "unequal"

    def start(self, landscape, potential, seed):
        return {"done": 0}

    def propose(self, landscape, potential, state):
        if state["done"] >= 200:
            return None
        numbers = torch.arange(state["done"], state["done"] + 8)
        sizes = (2 ** (4 * random.uniform(random.fold(7, numbers), 1, torch.float64)[:, 0])).long()
        return Round([Quenches(int(n), int(size)) for n, size in zip(numbers, sizes, strict=True)])

    def foresee(self, landscape, potential, state, round):
        next = self.propose(landscape, potential, {"done": state["done"] + 8}) if self.foresees else None
        return () if next is None else next.tasks

    def absorb(self, landscape, state, round, found, ids):
        return {"done": state["done"] + 8}


def idle(executor: Crew, foresees: bool) -> dict[str, Any]:
    """The share of their time in which workers have nothing to do."""
    potential = Sleeping()
    started(potential, executor)
    with tsc.Landscape.in_memory(potential) as landscape:
        before, began = executor.busy, time.monotonic()
        tsc.explore(landscape, potential, strategies=Unequal(foresees), executor=executor, progress=False)
        wall = time.monotonic() - began
    share = 1 - (executor.busy - before) / (wall * executor.workers)
    return {
        "job": "200 tasks of unequal length",
        "executor": f"{executor.workers} workers",
        "ahead": foresees,
        "seconds": round(wall, 2),
        "idle share": round(share, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument(
        "--ray", action="store_true", help="workers of Ray, too: as many as the most of the others"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one repeat of small jobs")
    parser.add_argument(
        "--only", nargs="+", choices=["minima", "saddles", "idle"], default=["minima", "saddles", "idle"]
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    potential = problems.get("digits", hidden=10).potential
    executors: dict[str, Executor] = {"in process": InProcess()}
    executors |= {f"{n} workers": Processes(n, threads=1) for n in arguments.workers}
    if arguments.ray:
        executors["Ray"] = RayExecutor(workers=max(arguments.workers))
    repeats, rows = 1 if arguments.quick else arguments.repeats, []
    if "minima" in arguments.only:
        rows += measured(
            "minima", lambda one: minima(potential, one, arguments.quick), WALKERS, potential, executors, repeats
        )
    if "saddles" in arguments.only:
        known = tsc.optimise.relax(potential, potential.sample(16 if arguments.quick else KNOWN, seed=0))
        rows += measured(
            "transition states", lambda one: saddles(potential, one, known), PAIRS, potential, executors, repeats
        )
    if "idle" in arguments.only:
        most = max((one for one in executors.values() if isinstance(one, Crew)), key=lambda one: one.workers)
        rows += [idle(most, True), idle(most, False)]
    for row in rows:
        print(row, flush=True)
    if arguments.json:
        record(arguments.json, rows=rows)


if __name__ == "__main__":
    main()
