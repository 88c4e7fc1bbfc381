"""From traces to figures: rates, ratios, and the table."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ratios", "row", "show"]

SHARE = 0.9  # of what all together found, at which a rate is read off
WALL, CPU = 0, 1


def arrivals(found: dict[str, Any]) -> np.ndarray:
    """(wall, processor) time at which each distinct point was known first [n, 2]."""
    first: dict[int, np.ndarray] = {}
    for number, at in zip(found["number"], found["at"], strict=True):
        if number >= 0 and number not in first:
            first[number] = at
    return np.array(list(first.values())).reshape(-1, 2)


def row(program: str, runs: list[dict[str, Any]], n_all: int) -> dict[str, Any]:
    """One program's figures, over its rounds."""
    mine = [found for found in runs if found["program"] == program]
    target = int(np.ceil(SHARE * n_all))
    counts, ends, totals = [], [], []
    for found in mine:
        times = arrivals(found)
        end = np.array([found["about"].get("wall", 0.0), found["about"].get("cpu", 0.0)])
        reached = len(times) >= target > 0
        counts.append(target if reached else len(times))
        ends.append(times[target - 1] if reached else end)
        totals.append(len(times))
    end = np.sum(ends, axis=0)
    refused: dict[str, int] = {}
    for found in mine:
        for reason, n in found["refused"].items():
            refused[reason] = refused.get(reason, 0) + n
    gradients = sum(found["about"].get("gradients", 0) for found in mine)
    return {
        "program": program,
        "distinct": totals,
        "counted": counts,
        "wall": float(end[WALL]),
        "cpu": float(end[CPU]),
        "per_second": sum(counts) / end[WALL] if end[WALL] else 0.0,
        "per_cpu_second": sum(counts) / end[CPU] if end[CPU] else 0.0,
        "tries": sum(found["about"].get("tries", 0) for found in mine),
        "gradients": gradients,
        "refused": refused,
    }


def same_number(runs: list[dict[str, Any]], ours: str, theirs: str) -> dict[str, float]:
    """How many times longer the peer took to the smaller of the two final numbers (geometric mean over rounds)."""
    pairs = zip(
        *([arrivals(found) for found in runs if found["program"] == who] for who in (ours, theirs)), strict=True
    )
    ratios = []
    for a, b in pairs:
        n = min(len(a), len(b))
        if n:
            ratios.append(b[n - 1] / a[n - 1])
    if not ratios:
        return {"wall": float("inf"), "cpu": float("inf")}
    mean = np.exp(np.log(ratios).mean(0))
    return {"wall": float(mean[WALL]), "cpu": float(mean[CPU])}


def ratios(result: dict[str, Any]) -> list[dict[str, Any]]:
    """torchscape's best over each peer's settings."""
    rows = {row["program"]: row for row in result["rows"]}
    ours = max((r for r in rows.values() if r["program"].startswith("torchscape")), key=lambda r: r["per_second"])
    out = []
    for program, theirs in rows.items():
        if program.startswith("torchscape"):
            continue
        again = same_number(result["runs"], ours["program"], program)
        out.append(
            {
                "ours": ours["program"],
                "theirs": program,
                "ratio": ours["per_second"] / theirs["per_second"] if theirs["per_second"] else None,
                "ratio_cpu": ours["per_cpu_second"] / theirs["per_cpu_second"] if theirs["per_second"] else None,
                "same_number": again["wall"] if theirs["per_second"] else None,
                "same_number_cpu": again["cpu"] if theirs["per_second"] else None,
                "target": 20 if program.startswith("topsearch") else 10,
            }
        )
    return out


def show(result: dict[str, Any]) -> None:
    print(f"\n{result['problem']}, {result['phase']}: {result['found_by_all']} distinct by all together")
    print(f"{'':26}{'distinct':>12}{'1/s':>9}{'1/cpu s':>9}{'tries':>8}{'gradients':>11}  refused")
    for r in result["rows"]:
        found = ", ".join(map(str, r["distinct"]))
        print(
            f"{r['program']:26}{found:>12}{r['per_second']:>9.3g}{r['per_cpu_second']:>9.3g}{r['tries']:>8}"
            f"{r['gradients']:>11}  {', '.join(f'{n} {reason}' for reason, n in r['refused'].items())}"
        )
    for r in result["ratios"]:
        if r["ratio"] is None:
            print(f"  {r['ours']} : {r['theirs']} = (it found none), target {r['target']}")
        else:
            print(
                f"  {r['ours']} : {r['theirs']} = {r['ratio']:.1f} (cpu {r['ratio_cpu']:.1f}); to the same number "
                f"{r['same_number']:.1f} (cpu {r['same_number_cpu']:.1f}); target {r['target']}"
            )
    print(flush=True)
