#!/usr/bin/env python3
"""The table and the chart in ``benchmarks/README.md``, from ``benchmarks/engine_cpu.json``.

    scripts/bench/engine.py --against c7190b3 --json benchmarks/engine_cpu.json
    scripts/bench/chart.py

The chart, ``benchmarks/engine.svg``, shows how many times as fast each part is, and its spread.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BEGIN, END = "<!-- engine: written by scripts/bench/chart.py -->", "<!-- end of engine -->"


def table(figures: dict[str, Any]) -> str:
    """The figures as a table, with what they were measured on."""
    about, against = figures["about"], figures["against"]
    lines = [
        f"Commit {about['commit']} beside {against}, {about['date']}, {figures['threads']} thread, torch "
        f"{about['torch']}: seconds of CPU of one run, by turns (`engine_cpu.json`, [engine.svg](engine.svg)).",
        "",
        "| part | times as fast | spread | a second | the same minimum from the same start |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in figures["parts"]:
        if "ratio" in row:
            low, high = row["spread"]
            same = f"{row['same']} of {row['of']}" if "same" in row else ""
            rate = f"{row['per second'][0]:.3g}"
            lines.append(f"| {row['part']} | {row['ratio']:.2f} | {low:.2f} to {high:.2f} | {rate} | {same} |")
    lines += ["", "| | step over gradient | before |", "| --- | ---: | ---: |"]
    for row in figures["parts"]:
        if "ratio" not in row:
            ours, theirs = row["step over gradient"]
            lines.append(f"| {row['part']} | {ours:.2f} | {theirs:.2f} |")
    return "\n".join(lines)


def chart(figures: dict[str, Any], path: Path) -> None:
    """Bars of how many times as fast."""
    rows = [row for row in figures["parts"] if "ratio" in row][::-1]
    ratios = [row["ratio"] for row in rows]
    below = [max(0.0, row["ratio"] - row["spread"][0]) for row in rows]
    above = [max(0.0, row["spread"][1] - row["ratio"]) for row in rows]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "engine", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(6.4, 0.34 * len(rows) + 0.9), layout="constrained")
        axes.barh([row["part"] for row in rows], ratios, xerr=[below, above], color="#4477aa", ecolor="#222222")
        axes.axvline(1.0, color="#222222", linewidth=0.8)
        axes.set_xlabel(f"times as fast as {figures['against']} (seconds of CPU)")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    figures = json.loads((BENCHMARKS / "engine_cpu.json").read_text())
    chart(figures, BENCHMARKS / "engine.svg")
    page = BENCHMARKS / "README.md"
    block = f"{BEGIN}\n{table(figures)}\n{END}"
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: block, page.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    main()
