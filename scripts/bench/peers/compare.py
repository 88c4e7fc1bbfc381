#!/usr/bin/env python3
"""torchscape beside topsearch 0.0.3 and pele 0.1.2: distinct minima and verified transition states per second.

    scripts/bench/peers/compare.py                    # everything, about twelve minutes on 2 cores
    scripts/bench/peers/compare.py --quick            # a minute: does it run?
    scripts/bench/peers/compare.py --problem network  # one problem
    scripts/bench/peers/compare.py --json FILE        # also write the figures, with machine, versions and date

The peers get an environment of their own (``environment.py``). On each problem the programs take turns, each in a
process of its own with OMP_NUM_THREADS=1, imports not timed:

minima       each program searches for minima in its own way for a limited time;
saddles      all get the same minima (the lowest of those that anybody found) and the same pairs of them: every
             minimum with its 8 nearest, as closest symmetric images (torchscape finds pairs and images itself,
             within its time). Each searches for transition states between them for a limited time.

What is given to whom: to torchscape the function in torch, to differentiate itself. To the peers, which ask for
one point after the other, the same function in two ways, one run with each: "torch" is the same in PyTorch, by one
backward pass (``plain_torch.py``), as the user of a PyTorch model has it; "numpy" the energy and its analytic
gradient written by hand (``functions.py``), the best that they can be given. Same starting distribution, same
tolerance of the RMS gradient (topsearch knows only the largest component, which it gets the same number for), same
box. Settings: ``settings.py``, as shipped and tuned, for every program.

What counts: a point that passes the same independent check (``check.py``): gradient, box, distance to the
stationary point proper, index. Distinct: up to the symmetry of the network, for every program.

The rate of a program is n / t at the moment when it knew 90 % of what all together found, or else at its end. The
second comparison, "to the same number", asks both programs how long they took to the smaller of their two final
numbers. Times are wall times; processor times, which a busy machine does not lengthen, are printed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from _record import record
from check import Known
from environment import PEERS, environment, versions
from figures import ratios, row, show
from functions import Network, Regression
from settings import SETTINGS, TOLERANCE

from torchscape import problems
from torchscape.problems.trimers import trimer_data

HERE = Path(__file__).parent
NEIGHBOURS = 8
MOST_MINIMA = 40


def functions() -> dict[str, Regression | Network]:
    """The five-parameter regression of the Perspective (c7cp01108c, IV) and a network of 28 parameters."""
    data = problems.get("regression").potential.settings()
    inputs, labels = trimer_data(500, seed=1)
    return {
        "regression": Regression(np.asarray(data["x"]), np.asarray(data["t"])),
        "network": Network(inputs.numpy(), labels.numpy(), hidden=3, n_out=4, l2=1e-5),
    }


def line_up(name: str, phase: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Program, gradients, settings: the peers run once with each kind of gradient."""
    return [
        (program, gradients, settings)
        for program, settings in SETTINGS[name, phase].items()
        for gradients in (("torch",) if program.startswith("torchscape") else ("torch", "numpy"))
    ]


def label(program: str, gradients: str) -> str:
    return program if program.startswith("torchscape") else f"{program}, {gradients}"


def run(program: str, python: dict[str, Path | str], phase: str, task: dict[str, Any]) -> dict[str, Any]:
    """One program on one phase; what it found and when."""
    name = program.split()[0]
    command = [str(python[name]), str(HERE / f"run_{name}.py"), phase, task["problem"], task["out"]]
    command += ["--seconds", str(task["seconds"]), "--tol", str(task["tol"]), "--seed", str(task["seed"])]
    command += ["--settings", json.dumps(task["settings"]), "--gradients", task["gradients"]]
    if phase == "saddles":
        command += ["--given", task["given"]]
    Path(task["out"]).unlink(missing_ok=True)
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=os.environ | threads, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{program} broke off with exit code {done.returncode}: {done.stderr[-500:]}")
    with np.load(task["out"]) as data:
        return {"x": data["x"], "at": data["at"], "about": json.loads(str(data["about"]))}


def compare(
    name: str, function: Regression | Network, phase: str, args, python, given: Path | None
) -> dict[str, Any]:
    """All programs in turn, ``rounds`` times; what they found, checked and numbered by one judge."""
    tol = TOLERANCE[name]
    judge = Known(function, index=0 if phase == "minima" else 1, tol=tol)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        problem = Path(folder) / "problem.npz"
        function.save(problem)
        for seed in range(args.rounds):
            for program, gradients, settings in line_up(name, phase):
                task = {
                    "problem": str(problem),
                    "out": str(Path(folder) / "out.npz"),
                    "given": str(given),
                    "seconds": args.seconds[phase],
                    "tol": tol,
                    "seed": seed,
                    "settings": settings,
                    "gradients": gradients,
                }
                found = run(program, python, phase, task)
                checked = judge.take(found["x"])
                program = label(program, gradients)
                runs.append({"program": program, "number": checked.number, "refused": checked.reasons, **found})
                n = len(set(checked.number[checked.number >= 0]))
                print(f"  {name} {phase}: {program}: {n} in {found['about'].get('wall', 0):.1f} s", flush=True)
    rows = [row(label(program, how), runs, len(judge)) for program, how, _ in line_up(name, phase)]
    return {
        "problem": name,
        "phase": phase,
        "found_by_all": len(judge),
        "rows": rows,
        "judge": judge,
        "runs": runs,
    }


def give(function: Regression | Network, judge: Known, path: Path) -> None:
    """The lowest minima, and the pairs of them that are to be connected, in a random order."""
    lowest = np.argsort(judge.energy)[:MOST_MINIMA]
    minima = np.array([judge.x[k] for k in lowest])
    n = len(minima)
    apart, closest = np.full((n, n), np.inf), {}
    for i in range(n):
        for j in range(n):
            if i != j:
                images = judge.images[lowest[j]]
                d = np.linalg.norm(images - minima[i], axis=1)
                apart[i, j], closest[i, j] = d.min(), images[d.argmin()]
    near = {
        (min(i, j), max(i, j)) for i in range(n) for j in map(int, np.argsort(apart[i])[: min(NEIGHBOURS, n - 1)])
    }
    pairs = sorted(near)
    pairs = [pairs[k] for k in np.random.default_rng(0).permutation(len(pairs))]
    ends = [minima[i] for i, _ in pairs], [closest[pair] for pair in pairs]
    np.savez(path, minima=minima, a=np.array(ends[0]), b=np.array(ends[1]))
    print(f"  given: {n} minima, {len(pairs)} pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds per program")
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often the programs take turns, with other seeds"
    )
    parser.add_argument("--problem", choices=list(TOLERANCE), help="only this one")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    args.seconds = {"minima": 2.0, "saddles": 4.0} if args.quick else {"minima": 10.0, "saddles": 25.0}
    peers = environment()
    python = {"torchscape": sys.executable, **dict.fromkeys(PEERS, peers)}
    load = os.getloadavg()
    results = []
    for name, function in functions().items():
        if args.problem in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                given = Path(folder) / "given.npz"
                for phase in ("minima", "saddles"):
                    result = compare(name, function, phase, args, python, given)
                    result["ratios"] = ratios(result)
                    show(result)
                    if phase == "minima":
                        give(function, result["judge"], given)
                    results.append(result)
    if args.json:
        kept = [{k: v for k, v in r.items() if k not in ("judge", "runs")} for r in results]
        settings = [{"problem": p, "phase": q, "settings": s} for (p, q), s in SETTINGS.items()]
        about = {
            "load_before": load,
            "load_after": os.getloadavg(),
            "peers": versions(peers),
            "rounds": args.rounds,
        }
        record(
            args.json, "cpu", **about, seconds=args.seconds, tolerance=TOLERANCE, results=kept, settings=settings
        )


if __name__ == "__main__":
    main()
