#!/usr/bin/env python3
"""Saddles: evaluations and time per verified transition state, and what became of every other candidate.

    scripts/bench/saddles.py                  # everything, about six minutes on 2 cores
    scripts/bench/saddles.py --quick          # fewer minima and pairs, about a minute and a half
    scripts/bench/saddles.py --only digits    # problems whose name contains this
    scripts/bench/saddles.py --json FILE      # also write the figures, with machine, versions and date
    scripts/bench/saddles.py --device cuda    # on a GPU

Double-ended: ``connect`` between every minimum and its nearest neighbours. Single-ended: ``climb`` from every
minimum along random directions. Both with their default options and the default tolerance (RMS gradient 1e-8), on
minima found beforehand, outside the time.

verified    distinct transition states: converged, index one, both downhill paths end in lower minima.
success     of the candidates that entered refinement, the fraction that ended in a verified one (kinks of a
            band do not enter). The target on networks is 85 % of the band maxima.
gradients, Hessians, HVPs
            rows evaluated: energy-and-gradient evaluations, dense Hessians, Hessian-vector products; of
            everything, bands, refinement, verification and downhill paths.
equivalents gradient equivalents: gradients + h Hessians + p HVPs, where h and p are what a Hessian and a product
            cost in gradients on this problem and machine, measured just before on a batch of 16 rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

import torchscape as tsc
from torchscape import Potential, problems
from torchscape.optimise import relax
from torchscape.saddles import Outcome, RandomDirections, SaddleSearch, climb, connect

TARGET = 0.85


@dataclasses.dataclass(frozen=True)
class Case:
    """A problem, and how much of it: starts to find minima from, minima kept, neighbours, climbs per minimum."""

    problem: str
    options: dict[str, Any]
    starts: int
    minima: int
    neighbours: int
    climbs: int
    target: float | None = None

    @property
    def name(self) -> str:
        return " ".join([self.problem, *(f"{key}={value:g}" for key, value in self.options.items())])

    def less(self) -> Case:
        return dataclasses.replace(
            self,
            minima=max(4, self.minima // 3),
            neighbours=min(3, self.neighbours),
            climbs=max(1, self.climbs // 4),
        )


CASES = [
    Case("himmelblau", {}, 64, 4, 3, 16),
    Case("schwefel", {}, 512, 49, 4, 4),
    Case("lj7", {}, 128, 4, 3, 32),
    Case("lj13", {}, 64, 24, 3, 2),
    Case("trimer-network", {"l2": 1e-5}, 192, 16, 8, 4, TARGET),
    Case("digits", {"hidden": 4, "n_train": 200}, 24, 10, 3, 1, TARGET),
]


def minima_of(potential: Potential, case: Case) -> torch.Tensor:
    """The lowest distinct minima that the starts end in."""
    with tsc.Landscape.in_memory(potential) as landscape:
        landscape.add_minima(relax(potential, potential.sample(case.starts, seed=0)))
        return landscape.minima().x[: case.minima]


def neighbours(potential: Potential, x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every minimum and its k nearest, as pairs; each pair once."""
    n = len(x)
    i, j = (t.flatten() for t in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"))
    apart = potential.symmetry.distance(x[i], x[j]).reshape(n, n)
    apart.fill_diagonal_(torch.inf)
    near = apart.argsort(1)[:, : min(k, n - 1)].cpu()
    pairs = (
        torch.stack([torch.arange(n)[:, None].expand_as(near), near], 2).reshape(-1, 2).sort(1)[0].unique(dim=0)
    )
    return x[pairs[:, 0]], x[pairs[:, 1]]


def costs(potential: Potential, x: torch.Tensor) -> dict[str, float]:
    """What a Hessian and a Hessian-vector product cost, in gradients, on 16 rows."""
    x = x[torch.arange(16) % len(x)]
    gradient = seconds(lambda: potential.energy_and_grad(x))
    return {
        "gradient_us": 1e6 * gradient / len(x),
        "hessian": seconds(lambda: potential.hessian(x)) / gradient,
        "hvp": seconds(lambda: potential.hvp(x, torch.ones_like(x))) / gradient,
    }


def seconds(call: Callable[[], object]) -> float:
    """The shortest of a few runs."""
    call()
    best, spent = float("inf"), 0.0
    while spent < 0.3:
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return best


def measured(case: Case, way: str, tries: int, cost: dict[str, float], search: Callable[[], SaddleSearch]) -> dict:
    """One search: what it cost per verified transition state, and every outcome."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = search()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    equivalents = found.n_evaluations + cost["hessian"] * found.n_hessians + cost["hvp"] * found.n_hvps
    per = max(1, len(found))
    figures = {
        "problem": case.name,
        "way": way,
        "tries": tries,
        "candidates": len(found.outcome),
        "verified": len(found),
        "success": found.success_rate,
        "target": case.target if way == "double-ended" else None,
        "outcomes": found.outcomes,
        "gradients": found.n_evaluations,
        "hessians": found.n_hessians,
        "hvps": found.n_hvps,
        "wall": wall,
        "cpu": cpu,
        "per_verified": {
            "gradients": found.n_evaluations / per,
            "hessians": found.n_hessians / per,
            "hvps": found.n_hvps / per,
            "equivalents": equivalents / per,
            "ms": 1e3 * wall / per,
            "cpu_ms": 1e3 * cpu / per,
        },
    }
    show(figures)
    return figures


HEADER = (
    f"{'':40}{'tries':>6}{'entered':>9}{'verified':>10}{'success':>9}  per verified: "
    f"{'gradients':>9}{'Hessians':>10}{'HVPs':>8}{'equivalents':>13}{'ms':>9}{'cpu ms':>9}"
)


def show(row: dict) -> None:
    per = row["per_verified"]
    entered = row["candidates"] - row["outcomes"].get("SPURIOUS_MAXIMUM", 0)
    print(
        f"{row['problem'] + ', ' + row['way']:40}{row['tries']:>6}{entered:>9}{row['verified']:>10}"
        f"{row['success']:>9.3f}{per['gradients']:>25.0f}{per['hessians']:>10.1f}{per['hvps']:>8.1f}"
        f"{per['equivalents']:>13.0f}{per['ms']:>9.1f}{per['cpu_ms']:>9.1f}",
        flush=True,
    )


def show_outcomes(rows: list[dict]) -> None:
    """Everything that did not end verified, by name and reason."""
    print("\n== every other outcome")
    for outcome in Outcome:
        counts = {f"{r['problem']}, {r['way']}": r["outcomes"].get(outcome.name, 0) for r in rows}
        if outcome != Outcome.VERIFIED and any(counts.values()):
            print(f"{outcome.name}: {outcome.message}")
            for where, n in counts.items():
                if n:
                    print(f"{n:>8}  {where}")
    for r in rows:
        if r["target"] is not None:
            verdict = "met" if r["success"] >= r["target"] else "MISSED"
            print(
                f"{r['problem']}: {r['success']:.1%} of the maxima that entered verified, target 85 %: {verdict}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer minima, pairs and climbs")
    parser.add_argument("--only", default="", help="only problems whose name contains this")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    rows, cost_of = [], {}
    print(HEADER)
    for case in CASES:
        if args.only not in case.name:
            continue
        case = case.less() if args.quick else case
        potential = problems.get(case.problem, device=args.device, **case.options).potential
        x = minima_of(potential, case)
        cost = cost_of[case.name] = costs(potential, x) | {"ndim": potential.ndim, "minima": len(x)}
        a, b = neighbours(potential, x, case.neighbours)
        rows.append(measured(case, "double-ended", len(a), cost, lambda u=potential, a=a, b=b: connect(u, a, b)))
        ways = RandomDirections(case.climbs)
        n = len(x) * case.climbs
        rows.append(
            measured(case, "single-ended", n, cost, lambda u=potential, x=x, w=ways: climb(u, x, directions=w))
        )
    show_outcomes(rows)
    if args.json:
        record(args.json, args.device, quick=args.quick, rows=rows, costs=cost_of)


if __name__ == "__main__":
    main()
