#!/usr/bin/env python3
"""Large landscapes: time and peak memory of everything that is done with N minima.

    scripts/bench/large.py                 # N = 10^3, 10^4, 10^5, some ten minutes
    scripts/bench/large.py --sizes 1000    # seconds
    scripts/bench/large.py --json FILE     # also write the figures, with machine, versions and date

A synthetic landscape: minima all over a box of ten coordinates, the energies of a rough funnel, and a
transition state between each minimum and five of lower energy (EDGES). Every line is a process of its own, so that
its peak of memory (resident, above that of the idle interpreter with the package imported) is its own; commands
are those of the command line, with reading the file. ``propose`` is what ConnectMinima needs to choose the first
pairs and, where the network is cut in two, the missing links. ``resume`` opens the file, and explores until one
more quench is committed; ``merge`` puts it together with one of the same minima, a tenth of them moved.

At the end stands how each job grows with N between the two largest sizes: its seconds of CPU, less those at the
smallest size, as an exponent, and beside what N log N seconds would do ("beside N log N": 1 where it grows so, 2
where the largest takes twice as long). What outgrows the caches of a processor on the way takes up to some 1.5
times as long for that alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import scipy.optimize
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

import torchscape as tsc
from torchscape import StationaryPoints, Status, random

NDIM = 10
BLOCK = 1000  # minima that a task of an exploration may bring
EDGES = int(os.environ.get("EDGES", "5"))  # transition states down from each minimum


def surface() -> tsc.Potential:
    """Where they lie; nobody asks whether they are stationary."""
    return tsc.FunctionPotential(lambda x: (x**2).sum(), NDIM, name="funnel", check=False)


def minima(n: int) -> StationaryPoints:
    key = random.fold(0, torch.arange(n))
    x = 10 * random.uniform(key, NDIM, torch.float64)
    energy = (x - 5).pow(2).mean(1) + random.normal(random.fold(1, torch.arange(n)), 1, torch.float64)[:, 0]
    return known(x, energy, 0)


def known(x: torch.Tensor, energy: torch.Tensor, index: int) -> StationaryPoints:
    n = len(x)
    spectra = 1 + random.uniform(random.fold(2 + index, torch.arange(n)), NDIM, torch.float64)
    spectra[:, :index] *= -1
    return StationaryPoints.of(
        x,
        energy,
        grad_rms=torch.full((n,), 1e-9, dtype=torch.float64),
        status=torch.full((n,), int(Status.CONVERGED)),
        index=torch.full((n,), index),
        log_det=spectra.abs().log().sum(1),
        n_zero=torch.zeros(n, dtype=torch.int64),
        eigenvalues=spectra.sort(1).values,
    )


def add(path: Path, n: int) -> None:
    """Minima and transition states, in blocks, each committed."""
    filled(path, minima(n))


def filled(path: Path, points: StationaryPoints) -> None:
    n = len(points)
    rank = points.energy.argsort().argsort()
    by_rank = points.energy.argsort()
    with tsc.Landscape.open(path, surface()) as landscape:
        for rows in torch.arange(n).split(BLOCK):
            landscape.add_minima(points[rows], task=None)
        for turn in range(3, 3 + EDGES):
            share = random.uniform(random.fold(turn, torch.arange(n)), 1, torch.float64)[:, 0]
            below = by_rank[(share * rank).long()]
            above = torch.arange(n)[below != torch.arange(n)]
            below = below[above]
            x = (points.x[above] + points.x[below]) / 2 + 1e-3 * turn
            top = torch.maximum(points.energy[above], points.energy[below])
            saddles = known(x, top + 0.1 + share[above], 1)
            for rows in torch.arange(len(above)).split(BLOCK):
                landscape.add_transition_states(saddles[rows], below[rows], above[rows])


def again(path: Path, n: int) -> None:
    """The first 1000 minima once more: what opening for writing and looking up costs."""
    with tsc.Landscape.open(path, surface(), create=False) as landscape:
        landscape.add_minima(minima(n)[:BLOCK])


def resume(path: Path, n: int) -> None:
    """An exploration that goes on, until a round more is committed."""
    with tsc.Landscape.open(path, surface(), create=False) as landscape:
        hopping = tsc.BasinHopping(walkers=1, hops=0)
        options = {"strategies": [hopping], "budget": tsc.Budget(quenches=1), "progress": False, "check": False}
        report = tsc.explore(landscape, surface(), **options)
        assert report.n_quenches == 1


def merge(path: Path, n: int) -> None:
    """With a landscape of which nine tenths of the minima are the same; made beforehand, and not counted."""
    from torchscape.landscape import merge

    other, result = path.with_name(f"other-{n}.db"), path.with_name(f"merged-{n}.db")
    points = minima(n)
    moved = torch.arange(n) % 10 == 0
    x = torch.where(moved[:, None], points.x + 0.3, points.x)
    filled(other, known(x, points.energy + 0.3 * moved, 0))
    with tsc.Landscape.open(path) as landscape:
        landscape.copy(result)
    start()
    with tsc.Landscape.open(result, surface()) as landscape, tsc.Landscape.open(other) as second:
        merged = merge(landscape, second)
        assert merged.n_minima == int(moved.sum()), merged
        assert landscape.n_minima == n + int(moved.sum())


def network(path: Path, n: int) -> None:
    with tsc.Landscape.open(path) as landscape:
        assert landscape.network().n_minima == n


def tree(path: Path, n: int) -> None:
    from torchscape import analysis

    with tsc.Landscape.open(path) as landscape:
        analysis.merge_tree(landscape.network(coords=False))


def passage(path: Path, n: int) -> None:
    """Mean first-passage times from all minima to the lowest, at a temperature of one."""
    from torchscape import analysis

    with tsc.Landscape.open(path) as landscape:
        chain = analysis.rates(landscape.network(coords=False), 1.0)
    times = analysis.log_mean_first_passage_times(chain, 0)
    assert bool(times[1:].isfinite().all())


def rate_constants(path: Path, n: int) -> None:
    """From the highest thousandth of the minima to the lowest, in four definitions."""
    from torchscape import analysis

    with tsc.Landscape.open(path) as landscape:
        chain = analysis.rates(landscape.network(coords=False), 1.0)
    some = max(1, n // 1000)
    found = analysis.rate_constants(chain, list(range(some)), list(range(n - some, n)))
    assert math.isfinite(found.log_k_non_steady_state)


def transformation(path: Path, n: int) -> None:
    """To the ten lowest minima."""
    from torchscape import analysis

    with tsc.Landscape.open(path) as landscape:
        chain = analysis.rates(landscape.network(coords=False), 1.0)
    assert analysis.graph_transformation(chain, torch.arange(10)).n_minima == 10


def thermodynamics(path: Path, n: int) -> None:
    from torchscape import analysis

    with tsc.Landscape.open(path) as landscape:
        analysis.heat_capacity(landscape.network(coords=False), torch.logspace(-2, 1, 100, dtype=torch.float64))


def propose(path: Path, n: int) -> None:
    """The first round of pairs of nearest neighbours."""
    from torchscape import ConnectMinima

    strategy = ConnectMinima()
    with tsc.Landscape.open(path, surface(), readonly=True) as landscape:
        state = strategy.start(landscape, surface(), 0)
        assert strategy.propose(landscape, surface(), state) is not None


def missing(path: Path, n: int) -> None:
    """Missing links, with a network of many components: of its transition states every tenth."""
    from torchscape import ConnectMinima
    from torchscape.explore import connect

    whole = tsc.Landscape.network

    def cut(self: tsc.Landscape, **options) -> tsc.Network:
        found = whole(self, **options)
        return found.only_edges(torch.arange(0, found.n_edges, 10))

    strategy = ConnectMinima(neighbours=0)
    with tsc.Landscape.open(path, surface(), readonly=True) as landscape:
        tsc.Landscape.network = cut
        assert len(connect.ConnectMinima._bridges(strategy, landscape, surface())[0])


def command(*words: str):
    """A command of the command line on the file."""

    def run(path: Path, n: int) -> None:
        from torchscape.cli import main

        given = [word.format(db=path, out=path.parent, n=n) for word in words]
        assert main(given) == 0, given

    return run


JOBS = {
    "add": add,
    "add 1000 again": again,
    "merge": merge,
    "network": network,
    "tree": tree,
    "passage times": passage,
    "rate constants": rate_constants,
    "graph transformation": transformation,
    "thermodynamics": thermodynamics,
    "propose": propose,
    "missing links": missing,
    "info": command("info", "{db}"),
    "info --json": command("info", "{db}", "--json"),
    "copy": command("copy", "{db}", "{out}/copy-{n}.db"),
    "plot disconnectivity": command("plot", "{db}", "disconnectivity", "-o", "{out}/d.svg"),
    "plot network": command("plot", "{db}", "network", "-o", "{out}/n.png"),
    "plot heat-capacity": command("plot", "{db}", "heat-capacity", "-o", "{out}/c.svg"),
    "report": command("report", "{db}", "-o", "{out}/report.html"),
    "export csv": command("export", "{db}", "--format", "csv", "-o", "{out}/tables"),
    "export graphml": command("export", "{db}", "--format", "graphml", "-o", "{out}/g.graphml"),
    "export pathsample": command("export", "{db}", "--format", "pathsample", "-o", "{out}/path"),
    "export pyg": command("export", "{db}", "--format", "pyg", "-o", "{out}/g.pt"),
    "analyse": command("analyse", "{db}", "--random", "1", "--temperature", "1.0"),
    "resume": resume,  # the last, as it adds a minimum
}


def memory() -> float:
    """The highest so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_BEGAN = [0.0, 0.0]


def start() -> None:
    """Time is counted from here."""
    _BEGAN[:] = time.perf_counter(), time.process_time()


def exponents(rows: list[dict]) -> list[dict]:
    """How the seconds of CPU of each job grow from the second largest size to the largest."""
    found = []
    for job in dict.fromkeys(row["job"] for row in rows):
        cpu = {row["N"]: row["cpu"] for row in rows if row["job"] == job and "cpu" in row}
        if len(cpu) < 3:
            continue
        least, *_, middle, most = sorted(cpu)
        share = (cpu[most] - cpu[least]) / max(1e-9, cpu[middle] - cpu[least])
        if cpu[most] > 2 * cpu[least] and share > 0:
            found.append({"job": job, **growth(share, (least, middle, most))})
    return found


def growth(share: float, sizes: tuple[int, int, int]) -> dict[str, float]:
    """The power of N that grows by ``share``, as :func:`exponents` looks at it, and how that stands to N log N."""

    def grown(cost: Callable[[int], float]) -> float:
        least, middle, most = map(cost, sizes)
        return (most - least) / (middle - least)

    slow = share <= grown(math.log)  # no power of N grows so slowly
    power = 0.0 if slow else scipy.optimize.brentq(lambda p: grown(lambda n: n**p) - share, 1e-6, 9)
    return {
        "exponent": round(power, 2),
        "beside N log N": round(share / grown(lambda n: n * math.log(n)), 2),
    }


def one(job: str, path: Path, n: int) -> None:
    """Run a job here, and print its seconds of CPU and wall, and MiB above the idle interpreter."""

    surface().energy(torch.zeros(2, NDIM, dtype=torch.float64))
    before = memory()
    start()
    JOBS[job](path, n)
    began, busy = _BEGAN
    row = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - busy, "MiB": memory() - before}
    print(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--only", nargs="+", choices=list(JOBS), help="these jobs (the landscape is made anyway)")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that a job may take")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one[0], Path(args.one[1]), int(args.one[2]))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n in args.sizes:
            path = Path(folder) / f"{n}.db"
            for job in JOBS:
                if args.only and job not in ("add", *args.only):
                    continue
                words = [sys.executable, __file__, "--one", job, str(path), str(n)]
                try:
                    done = subprocess.run(words, capture_output=True, text=True, timeout=args.limit)
                    last = done.stdout.strip().splitlines()[-1:]
                    figures = json.loads(last[0]) if done.returncode == 0 else {"failed": done.stderr[-300:]}
                except subprocess.TimeoutExpired:
                    figures = {"failed": f"took more than {args.limit:g} s"}
                rows.append({"job": job, "N": n, **figures})
                told = (f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items())
                print("  ".join(told), flush=True)
    for row in exponents(rows):
        print(row)
    if args.json:
        record(args.json, ndim=NDIM, edges=EDGES, rows=rows, growth=exponents(rows))
    return None


if __name__ == "__main__":
    main()
