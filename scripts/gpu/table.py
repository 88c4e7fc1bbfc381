"""A page that a person can read, from what the parts wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["write_table"]


def write_table(folder: Path, target: Path) -> None:
    """All results in ``folder`` as tables in Markdown."""
    summary = _read(folder, "gpu_check") or {"parts": []}
    found = {part["part"]: _read(folder, part["part"]) for part in summary["parts"]}
    abouts = [one["about"] for one in found.values() if one]
    lines = ["# What `scripts/gpu_check` found", ""]
    if abouts:
        a = abouts[0]
        lines += [
            f"{a['machine']} ({a['device']}), torch {a['torch']}, torchscape {a['torchscape']}, {a['date']}.",
            "",
        ]
        if a["device"] == "cpu":
            lines += [
                "A rehearsal on the CPU, in small: it shows that the command works and nothing about a GPU.",
                "",
            ]
    lines += _rows(
        ("part", "verdict", "s", ""),
        ([p["part"], p["verdict"], p["seconds"], p["detail"]] for p in summary["parts"]),
    )
    for name, show in SHOWN.items():
        if found.get(name):
            lines += ["", *show(found[name])]
    target.write_text("\n".join(lines) + "\n")


def _tests(found: dict[str, Any]) -> list[str]:
    end = "" if found["finished"] else " before the time was up"
    lines = ["## Device tests", "", f"{found['passed']} passed, {found['failed']} failed{end}."]
    lines += [f"- {name}" for name in found["failures"]]
    return lines + [
        f"\nNot run, {package} is missing: {', '.join(names)}." for package, names in found["left_out"].items()
    ]


def _explorations(found: dict[str, Any]) -> list[str]:
    rows = [
        [
            row["problem"],
            where,
            run["minima"],
            run["transition_states"],
            _number(run["seconds"]),
            run["questions"],
            _mib(run["peak_bytes"]),
            _number(row["largest_energy_difference"]) if where == "device" else "",
            f"{row['of_the_cpu_found_on_device']:.0%}" if where == "device" else "",
        ]
        for row in found["rows"]
        for where, run in (("device", row["device"]), ("cpu", row["cpu"]))
    ]
    head = (
        "problem",
        "on",
        "minima",
        "transition states",
        "s",
        "questions",
        "peak MiB",
        "largest dU",
        "of the CPU's minima",
    )
    return ["## Explorations, beside the CPU", "", *_rows(head, rows)]


def _steps(found: dict[str, Any]) -> list[str]:
    head = (
        "problem",
        "walkers",
        "dtype",
        "replayed",
        "gradient ms",
        "step ms",
        "step / gradient",
        "kernels",
        "operations",
    )
    rows = [
        [
            row["problem"],
            row["walkers"],
            row["dtype"],
            "yes" if row["replayed"] else "no",
            _number(row["gradient_ms"]),
            _number(row["step_ms"]),
            _number(row["step_over_gradient"]),
            f"{row['step_kernels']} / {row['gradient_kernels']}" if row["step_kernels"] is not None else "",
            f"{row['step_operations']} / {row['gradient_operations']}" if row["step_operations"] else "",
        ]
        for row in found["rows"]
    ]
    return ["## A step over its gradient", "", *_rows(head, rows)]


def _memory(found: dict[str, Any]) -> list[str]:
    head = ("what", "room MiB", "halvings", "largest difference")
    rows = [[r["what"], r["limit_mib"], len(r["notes"]), _number(r["difference"])] for r in found["squeezed"]]
    lines = ["## Memory that ran out", "", *_rows(head, rows)]
    if found["peaks"]:
        peaks = [[row["what"], row["walkers"], _number(row["peak_mib"])] for row in found["peaks"]]
        lines += ["", *_rows(("peak of", "walkers", "MiB"), peaks)]
    return lines


def _minimise(found: dict[str, Any]) -> list[str]:
    head = ("problem", "steps", "ms per step", "overhead", "converged")
    rows = [
        [r["problem"], r["steps"], _number(r["ms per step"]), f"{r['overhead']:.0%}", r["converged"]]
        for r in found["overhead"]
    ]
    return ["## Quenches of 64 walkers", "", *_rows(head, rows)]


def _saddles(found: dict[str, Any]) -> list[str]:
    head = ("problem", "way", "verified", "success", "ms per verified")
    rows = [
        [r["problem"], r["way"], r["verified"], f"{r['success']:.0%}", _number(r["per_verified"]["ms"])]
        for r in found["rows"]
    ]
    return ["## Transition states", "", *_rows(head, rows)]


SHOWN: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "tests": _tests,
    "explorations": _explorations,
    "steps": _steps,
    "memory": _memory,
    "minimise_quick": _minimise,
    "saddles": _saddles,
}


def _read(folder: Path, name: str) -> dict[str, Any] | None:
    path = folder / f"{name}_cuda.json"
    return json.loads(path.read_text()) if path.exists() else None


def _rows(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join("" if cell is None else str(cell).replace("|", "/") for cell in cells) + " |"

    return [line(head), line("---" for _ in head), *map(line, rows)]


def _number(x: float) -> str:
    return f"{x:.3g}"


def _mib(n: int | None) -> str:
    return "" if n is None else _number(n / 2**20)
