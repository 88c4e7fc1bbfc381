#!/usr/bin/env python3
"""Ends of downhill paths: how many are those of SciPy's LSODA, and what a path costs.

    scripts/bench/ends.py                  # everything, about an hour on one core
    scripts/bench/ends.py --quick          # a tenth of the transition states
    scripts/bench/ends.py --only digits    # problems whose name contains this
    scripts/bench/ends.py --points DIR     # keep transition states and reference ends here, and use those kept
    scripts/bench/ends.py --against c7190b3  # also what that commit spends on the same transition states
    scripts/bench/ends.py --json FILE      # also write the figures, with machine, versions and date

Transition states are those that ``climb`` finds from minima along random directions. From both sides of each
dx/dt = -grad U is integrated by LSODA with rtol = 1e-10 from 10^-3 length scales along the unstable mode, one
path at a time, until the curvature is positive and Newton's step shorter than 10^-3 length scales. A path of ours
is wrong if it ends elsewhere and counts as verified all the same; it is open if it says that its end is not known.
Transition states of which a path leaves the box, or whose reference rose, are left out.

wrong       paths of verified transition states whose end, polished by Newton's method, is not that of LSODA.
open        transition states whose paths are said to be open.
gradients   energy-and-gradient evaluations per transition state, push-off and both paths. Hessians and
            Hessian-vector products beside them, and all three in gradients (equivalents), a Hessian and a product
            at what they cost in processor time on this problem.
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
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _commits import worktree
from _flows import at_rest, ended, flow_end, in_numpy
from _record import record

from torchscape import Landscape, Potential, StationaryPoints, problems
from torchscape.optimise import relax
from torchscape.potentials.counted import Metered
from torchscape.saddles import Outcome, RandomDirections, climb, confirm
from torchscape.saddles.characterisation import characterise_with_modes
from torchscape.saddles.distinct import first_of_each


@dataclasses.dataclass(frozen=True)
class Case:
    """A problem, starts to find minima from, and how many transition states are checked."""

    problem: str
    options: dict[str, Any]
    starts: int
    count: int

    @property
    def name(self) -> str:
        return " ".join([self.problem, *(f"{k}={v:g}" for k, v in self.options.items() if k != "data")])


def transition_states(u: Potential, case: Case, n: int) -> StationaryPoints:
    """At least n distinct transition states where there are as many, in the order of their energies."""
    with Landscape.in_memory(u) as landscape:
        landscape.add_minima(relax(u, u.sample(case.starts, seed=0)))
        x = landscape.minima().x
        found: list[StationaryPoints] = []
        distinct = 0
        for seed in range(8):
            for rows in torch.arange(len(x)).split(64):
                more = climb(u, x[rows], directions=RandomDirections(2), seed=seed)
                found += [more.ts.replace(eigenvalues=None)]
                landscape.add_minima(more.minus)
                landscape.add_minima(more.plus)
                points = StationaryPoints.cat(found)
                found = [points[first_of_each(u, points) == torch.arange(len(points))]]
                if len(found[0]) >= n:
                    break
            print(f"    {len(found[0])} transition states from {len(x)} minima, round {seed}", flush=True)
            if len(found[0]) >= n or (seed and len(found[0]) == distinct):
                break
            distinct, x = len(found[0]), landscape.minima().x
    points = found[0][:n]
    return points[points.energy.argsort()]


def reference(u: Potential, ts: StationaryPoints, kept: Path | None) -> torch.Tensor:
    """Ends by LSODA [2, E, D]: along minus and plus the mode; NaN where the flow leaves the box."""
    points, mode = characterise_with_modes(u, ts, log_det=False)
    points = points.replace(x=torch.cat([at_rest(u, x[None]) for x in points.x]))
    ends = torch.full((2, *ts.x.shape), torch.inf, dtype=torch.float64)
    if kept is not None and kept.exists():
        ends = torch.load(kept)
    began = time.monotonic()
    gradient = in_numpy(u)
    for row in torch.nonzero(ends[0, :, 0].isinf())[:, 0].tolist():
        off = 1e-3 * u.length_scale * mode[row]
        ends[:, row] = torch.stack([flow_end(u, gradient, points.x[row] + side * off) for side in (-1, 1)])
        if kept is not None and time.monotonic() - began > 20:
            torch.save(ends, kept)
            began = time.monotonic()
    if kept is not None:
        torch.save(ends, kept)
    return ends


def costs(u: Potential, x: torch.Tensor) -> tuple[float, float]:
    """Processor time of a Hessian and of a product, in gradients."""
    x = x[torch.arange(16) % len(x)]
    gradient = seconds(lambda: u.energy_and_grad(x))
    return seconds(lambda: u.hessian(x)) / gradient, seconds(lambda: u.hvp(x, torch.ones_like(x))) / gradient


# What another commit spends: run by its own code, in a process of its own, on the same points.
_SPENT = """
import json, sys, time, torch
from torchscape import StationaryPoints, problems
from torchscape.saddles import confirm
problem, options, file = json.loads(sys.argv[1])
u = problems.get(problem, **options).potential
x, energy, rms = torch.load(file)
ts = StationaryPoints.of(x, energy, grad_rms=rms, status=torch.ones(len(x), dtype=torch.int64))
cpu = time.process_time()
found = confirm(u, ts)
cpu = time.process_time() - cpu
print(json.dumps([found.n_evaluations, found.n_hessians, found.n_hvps, 1e3 * cpu]))
"""


def spent(tree: Path, case: Case, ts: StationaryPoints, of_hessian: float, of_product: float) -> dict[str, float]:
    """Per transition state: evaluations of the code in ``tree``."""
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        torch.save((ts.x, ts.energy, ts.grad_rms), file.name)
        options = {k: str(Path(v).resolve()) if k == "data" else v for k, v in case.options.items()}
        words = [sys.executable, "-c", _SPENT, json.dumps([case.problem, options, file.name])]
        out = subprocess.run(
            words,
            env={**os.environ, "PYTHONPATH": str(tree)},
            cwd=tree,
            check=True,
            capture_output=True,
            text=True,
        )
    gradients, hessians, products, cpu = (v / len(ts) for v in json.loads(out.stdout.splitlines()[-1]))
    equivalents = gradients + of_hessian * hessians + of_product * products
    return {
        "gradients": gradients,
        "hessians": hessians,
        "hvps": products,
        "equivalents": equivalents,
        "cpu_ms": cpu,
    }


def seconds(call) -> float:
    call()
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def measured(case: Case, u: Potential, ts: StationaryPoints, ends: torch.Tensor) -> dict[str, Any]:
    """The paths of ``confirm``, and how many of them end where LSODA does."""
    wrong = opened = checked = 0
    where = []
    meter = Metered(u)
    cpu = time.process_time()
    mode = characterise_with_modes(u, ts, log_det=False)[1]
    found = confirm(meter, ts)
    cpu = time.process_time() - cpu
    for row, at in enumerate(found.candidate_ts.tolist()):
        if bool(ends[:, row].isnan().any()) or bool((u.energy_and_grad(ends[:, row])[0] >= ts.energy[row]).any()):
            continue
        checked += 1
        if at < 0:
            opened += int(found.outcome[row]) == Outcome.PATH_OPEN
            continue
        turned = float(found.mode[at] @ mode[row]) < 0
        # A minimum that is soft is known to 10^-8 in its gradient, but not to 10^-3 in its place.
        ours = [found.minus.x[at], found.plus.x[at]]
        polished = [ended(u, x) for x in ours]
        ours = torch.stack([x if p is None else p for x, p in zip(ours, polished, strict=True)])
        apart = u.symmetry.distance(ours.flip(0) if turned else ours, ends[:, row])
        bad = int((apart > 1e-3 * u.length_scale).sum())
        wrong += bad
        if bad:
            where.append(row)
    hessian, product = costs(u, ts.x)
    n = max(1, len(ts))
    equivalents = found.n_evaluations + hessian * found.n_hessians + product * found.n_hvps
    row = {
        "problem": case.name,
        "ndim": u.ndim,
        "states": len(ts),
        "checked": checked,
        "wrong": wrong,
        "open": opened,
        "outcomes": found.outcomes,
        "rows_wrong": where,
        "per_ts": {
            "gradients": found.n_evaluations / n,
            "hessians": found.n_hessians / n,
            "hvps": found.n_hvps / n,
            "equivalents": equivalents / n,
            "cpu_ms": 1e3 * cpu / n,
        },
        "hessian_in_gradients": hessian,
        "product_in_gradients": product,
    }
    per = row["per_ts"]
    print(
        f"{case.name:28}{u.ndim:>5}{checked:>9}{wrong:>7}{opened:>6}{per['gradients']:>11.1f}{per['hessians']:>10.1f}"
        f"{per['hvps']:>8.1f}{per['equivalents']:>13.1f}{per['cpu_ms']:>9.1f}",
        flush=True,
    )
    return row


def prepared(u: Potential, case: Case, n: int, folder: Path | None) -> tuple[StationaryPoints, torch.Tensor]:
    """Transition states and the reference ends, as kept in the folder where they are."""
    name = f"{case.name.replace(' ', '_')}"
    if folder is None:
        ts = transition_states(u, case, n)
        return ts, reference(u, ts, None)
    folder.mkdir(parents=True, exist_ok=True)
    points = folder / f"{name}_saddles.pt"
    if not points.exists():
        ts = transition_states(u, case, n)
        torch.save((ts.x, ts.energy, ts.grad_rms), points)
    x, energy, rms = torch.load(points)
    ts = StationaryPoints.of(x, energy, grad_rms=rms, status=torch.ones(len(x), dtype=torch.int64))
    return ts, reference(u, ts, folder / f"{name}_ends.pt")


def cases(data: str) -> list[Case]:
    return [
        Case("regression", {"data": data}, 4000, 200),
        Case("regression", {"seed": 1}, 4000, 150),
        Case("regression", {"seed": 2}, 4000, 150),
        Case("lj", {"n": 8}, 128, 60),
        Case("trimer-network", {"l2": 1e-5}, 192, 60),
        Case("digits", {"hidden": 4, "n_train": 200}, 24, 60),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the transition states")
    parser.add_argument("--only", default="", help="only problems whose name contains this")
    parser.add_argument("--points", type=Path, help="folder that keeps transition states and reference ends")
    parser.add_argument("--data", default="../shared/data/regression_grid.csv", help="regression data")
    parser.add_argument("--against", help="a commit whose evaluations are counted on the same transition states")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    rows = []
    print(f"{'':28}{'D':>5}{'checked':>9}{'wrong':>7}{'open':>6}  per saddle: gradients  Hessians  products")
    for case in cases(args.data):
        if args.only not in case.name:
            continue
        u = problems.get(case.problem, **case.options).potential
        n = max(4, case.count // 10) if args.quick else case.count
        ts, ends = prepared(u, case, n, args.points)
        rows.append(measured(case, u, ts, ends))
        if args.against:
            with tempfile.TemporaryDirectory() as folder, worktree(args.against, Path(folder) / "tree") as tree:
                row = rows[-1]
                before = spent(tree, case, ts, row["hessian_in_gradients"], row["product_in_gradients"])
            row["before"] = before
            row["ratio"] = {name: row["per_ts"][name] / before[name] for name in ("gradients", "equivalents")}
            print(
                f"{args.against:>28}{'':23}{before['gradients']:>11.1f}{before['hessians']:>10.1f}"
                f"{before['hvps']:>8.1f}{before['equivalents']:>13.1f}{before['cpu_ms']:>9.1f}",
                flush=True,
            )
    together = {}
    if args.against and rows:
        for name in ("gradients", "equivalents"):
            now, then = (sum(row[of][name] * row["states"] for row in rows) for of in ("per_ts", "before"))
            together[name] = now / then
        print(f"together: gradients {together['gradients']:.2f}, equivalents {together['equivalents']:.2f} times")
    if args.json:
        record(args.json, quick=args.quick, against=args.against, together=together, rows=rows)


if __name__ == "__main__":
    main()
