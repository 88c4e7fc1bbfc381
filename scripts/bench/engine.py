#!/usr/bin/env python3
"""The engine: quenches and transition states per second of CPU, beside those of another commit, in one run.

    scripts/bench/engine.py --against c7190b3        # a worktree of that commit runs the same, by turns
    scripts/bench/engine.py --against c7190b3 --only quench --repeats 7
    scripts/bench/engine.py --against c7190b3 --precision mixed      # ours in mixed precision
    scripts/bench/engine.py --against c7190b3 --compile on           # ours by compiled code
    scripts/bench/engine.py --json FILE              # also write the figures, with machine, versions and date

Each part runs in both trees by turns, in two processes that stay, so that both meet the same neighbours on the
machine; potentials, starting points and preconditioners are made beforehand. The ratio is that of the least
seconds of processor time, theirs over ours (how many times as fast we are), beside the smallest and largest ratio
of two runs that followed each other. The first run of each part is not among them: what it takes more, in seconds
on the clock, is what is done once: compiling, too, 10 to 60 s the first time, a few where Inductor has it on disk.

same        starts from which both commits end in a minimum of the same energy to 1e-8. Where they do not, another
            minimum was found: both are minima, of which ``in both`` says how many energies of ours theirs has.
step        time of a whole step over that of its gradient, ours and theirs: seconds of ``relax`` over those in the
            potential.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _commits import worktree
from _record import record

import torchscape as tsc
from torchscape import Potential, problems
from torchscape.optimise import choose_optimiser, relax
from torchscape.saddles import RandomDirections, climb

Found = dict[str, Any]


def trimers() -> Potential:
    return problems.get("trimer-network").potential


def digits() -> Potential:
    return problems.get("digits", hidden=10).potential


def wide() -> Potential:
    """784-10-10 on the images of scikit-learn, enlarged to the size of MNIST's: those need a download."""
    images, labels = problems.networks.digits_data()
    large = torch.nn.functional.interpolate(images[:1000].reshape(-1, 1, 8, 8), (28, 28), mode="bilinear")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(784, 10), torch.nn.Tanh(), torch.nn.Linear(10, 10))
    data = large.flatten(1), labels[:1000]
    return tsc.ModulePotential(net, data, torch.nn.functional.cross_entropy, l2=1e-2)


class Recurrent(torch.nn.Module):
    """A GRU layer of eight units, and a linear one on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = torch.nn.GRU(4, 8, batch_first=True), torch.nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.cell(x)[0][:, -1])


def recurrent() -> Potential:
    """Does the mean of the first feature of a sequence of 20 exceed that of the second?"""
    x = torch.randn(200, 20, 4, generator=torch.Generator().manual_seed(1)).double()
    torch.manual_seed(0)
    y = (x[..., 0].mean(1) > x[..., 1].mean(1)).long()
    return tsc.ModulePotential(Recurrent().double(), (x, y), torch.nn.functional.cross_entropy, l2=1e-3)


def regression() -> Potential:
    return problems.get("regression").potential


def cluster(n: int) -> Callable[[], Potential]:
    return lambda: problems.get("lj", n=n).potential


POTENTIALS: dict[str, Callable[[], Potential]] = {
    "trimers": trimers,
    "digits 64-10-10": digits,
    "784-10-10": wide,
    "regression": regression,
    "LJ_13": cluster(13),
    "LJ_7": cluster(7),
    "GRU": recurrent,
}
# starts, most evaluations of each
QUENCHES = {
    "trimers": (256, 10_000),
    "digits 64-10-10": (64, 10_000),
    "784-10-10": (16, 10_000),
    "regression": (512, 10_000),
    "LJ_13": (256, 10_000),
    "GRU": (16, 40),
}
CLIMBS = {"trimers": 12, "digits 64-10-10": 3, "LJ_13": 12}  # minima that are climbed from
STEPS = {"regression": 512, "LJ_7": 256, "trimers": 256, "digits 64-10-10": 64}
PARTS = (
    [f"quench {name}" for name in QUENCHES]
    + [f"climb {name}" for name in CLIMBS]
    + [f"step {name}" for name in STEPS]
)


def within(potential: Potential, evaluations: int) -> Any:
    """The minimiser of a potential, with so many evaluations for each row."""
    return dataclasses.replace(choose_optimiser(potential), max_evaluations=evaluations)


class Timed(Potential):
    """A potential that keeps account of the time spent in its gradients."""

    def __init__(self, inner: Potential) -> None:
        self.inner, self.seconds = inner, 0.0
        for name in ("ndim", "dtype", "device", "bounds", "length_scale", "energy_scale", "preconditioner"):
            if hasattr(inner, name):  # older commits know less
                setattr(self, name, getattr(inner, name))
        self.hessian, self.symmetry = inner.hessian, inner.symmetry

    def energy_and_grad(self, x):
        began = time.process_time()
        result = self.inner.energy_and_grad(x)
        self.seconds += time.process_time() - began
        return result


class Run:
    """What one process measures: parts by name, their potentials made once."""

    def __init__(self, switches: dict[str, Any]) -> None:
        self.switches = switches
        self.made: dict[str, tuple[Potential, Any]] = {}

    def __call__(self, part: str) -> Found:
        kind, _, name = part.partition(" ")
        if part not in self.made:
            potential = POTENTIALS[name]()
            for switch, value in self.switches.items():
                setattr(potential, switch, value)
            self.made[part] = potential, self.inputs(kind, name, potential)
        potential, x = self.made[part]
        began, clock = time.process_time(), time.perf_counter()
        found: Found = getattr(self, kind)(name, potential, x)
        spent = {"cpu": time.process_time() - began, "clock": time.perf_counter() - clock}
        return {**spent, "compiled": getattr(potential, "compiled", ""), **found}

    def inputs(self, kind: str, name: str, potential: Potential) -> Any:
        potential.preconditioner  # noqa: B018  (found at first use)
        if kind == "quench":
            return potential.sample(QUENCHES[name][0], seed=1)
        if kind == "step":
            return potential.sample(STEPS[name], seed=1)
        path = Path(f"{name}.pt")  # in the folder that both share: the minima of whoever came first
        if not path.exists():
            points = relax(potential, potential.sample(4 * CLIMBS[name], seed=2))
            torch.save(points.x[points.converged][: CLIMBS[name]], path)
        return torch.load(path)

    def quench(self, name: str, potential: Potential, x: Any) -> Found:
        points = relax(potential, x, optimiser=within(potential, QUENCHES[name][1]))
        return {
            "count": len(x),
            "energies": points.energy.tolist(),
            "converged": points.converged.tolist(),
            "evaluations": points.n_evaluations.tolist(),
        }

    def climb(self, name: str, potential: Potential, x: Any) -> Found:
        found = climb(potential, x, directions=RandomDirections(2), seed=1)
        n = len(found)
        return {"count": n, "energies": found.ts.energy.tolist(), "converged": [True] * n, "evaluations": [0] * n}

    def step(self, name: str, potential: Potential, x: Any) -> Found:
        timed = Timed(potential)
        timed.seconds = 0.0
        began = time.process_time()
        relax(timed, x, optimiser=within(potential, 100))
        return {"count": 1, "ratio": (time.process_time() - began) / timed.seconds}


def serve(switches: dict[str, Any]) -> None:
    """Run what each line of the standard input names, and say what came of it."""
    said, sys.stdout = sys.stdout, sys.stderr
    run = Run(switches)
    for line in sys.stdin:
        with warnings.catch_warnings(action="ignore"):
            print(json.dumps(run(json.loads(line))), file=said, flush=True)


class Tree:
    """A process that runs parts with the package of one tree."""

    def __init__(self, tree: Path, folder: Path, threads: int, switches: dict[str, Any]) -> None:
        path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve", json.dumps(switches)],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, part: str) -> Found:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(part) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{part!r} has failed, see above")
        found: Found = json.loads(answer)
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def alike(ours: Found, theirs: Found) -> Found:
    """How many starts end alike, and how many of our energies they have too."""
    a, b = (np.array(found["energies"]) for found in (ours, theirs))
    fine = [np.array(found["converged"], dtype=bool) for found in (ours, theirs)]
    close = 1e-8 * np.maximum(1.0, np.abs(a))
    known = np.array(
        [bool(len(b)) and np.abs(b[fine[1]] - e).min(initial=np.inf) <= c for e, c in zip(a, close, strict=True)]
    )
    said: Found = {"converged": [int(f.sum()) for f in fine], "in both": int(known[fine[0]].sum())}
    if len(a) == len(b):
        both = fine[0] & fine[1]
        said["same"] = int((np.abs(a - b) <= close)[both].sum())
        said["of"] = int(both.sum())
        said["evaluations"] = [float(np.median(found["evaluations"])) for found in (ours, theirs)]
    return said


def compare(part: str, ours: Tree, theirs: Tree, repeats: int) -> Found:
    """The figures of a part in both trees."""
    first = [tree.run(part) for tree in (ours, theirs)]
    runs: list[list[Found]] = [[], []]
    for number in range(repeats):
        for which in (0, 1) if number % 2 else (1, 0):
            runs[which].append((ours, theirs)[which].run(part))
    if part.startswith("step"):
        least = [min(found["ratio"] for found in some) for some in runs]
        return {"part": part, "step over gradient": least, "compiled": first[0]["compiled"]}
    per = [[found["cpu"] / max(1, found["count"]) for found in some] for some in runs]
    ratios = sorted(b / a for a, b in zip(*per, strict=True))
    return {
        "part": part,
        "ratio": min(per[1]) / min(per[0]),
        "spread": [ratios[0], ratios[-1]],
        "per second": [1 / min(some) for some in per],
        "compiled": first[0]["compiled"],
        "once": [one["clock"] - min(f["clock"] for f in some) for one, some in zip(first, runs, strict=True)],
        **alike(*first),
    }


def told(figures: Found) -> str:
    part = figures["part"]
    if "step over gradient" in figures:
        ours, theirs = figures["step over gradient"]
        return "; ".join(filter(None, [f"{part:24s} {ours:6.2f}, theirs {theirs:.2f}", figures["compiled"]]))
    low, high = figures["spread"]
    rate, once = figures["per second"], figures["once"]
    ends = f"in both {figures['in both']} of {figures['converged'][0]}"
    if "same" in figures:
        median = "{:.0f} and {:.0f}".format(*figures["evaluations"])
        ends = f"same {figures['same']} of {figures['of']}, {ends}, evaluations {median}"
    return (
        f"{part:24s} {figures['ratio']:6.2f} times ({low:.2f} to {high:.2f})  {rate[0]:8.4g} a second, theirs "
        f"{rate[1]:.4g}; once {once[0]:.1f} s, theirs {once[1]:.1f}; {ends}"
        + (f"; {figures['compiled']}" if figures["compiled"] else "")
    )


def measure(
    commit: str, parts: Sequence[str], repeats: int, threads: int, switches: dict[str, Any]
) -> list[Found]:
    with tempfile.TemporaryDirectory() as name, worktree(commit, Path(name) / "tree") as tree:
        folder = Path(name) / "shared"
        folder.mkdir()
        trees = Tree(Path(__file__).parents[2], folder, threads, switches), Tree(tree, folder, threads, {})
        rows = []
        for part in parts:
            rows.append(compare(part, *trees, repeats))
            print(told(rows[-1]), flush=True)
        for one in trees:
            one.close()
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="compare with this commit")
    parser.add_argument("--only", default="", help="parts whose name contains this")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each part in each tree")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each of the two processes")
    parser.add_argument("--precision", choices=["double", "mixed"], default="double", help="of our descents")
    parser.add_argument("--compile", choices=["auto", "on", "off"], default="off", help="our gradients")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        return serve(json.loads(options.serve))
    if options.against is None:
        parser.error("--against COMMIT: which commit to compare with")
    compile = {"auto": "auto", "on": True, "off": False}[options.compile]
    switches = {"precision": options.precision, "compile": compile}
    parts = [part for part in PARTS if options.only in part]
    rows = measure(options.against, parts, options.repeats, options.threads, switches)
    if options.json:
        record(options.json, against=options.against, threads=options.threads, switches=switches, parts=rows)
    return None


if __name__ == "__main__":
    main()
