"""The page that lists all pages."""

from __future__ import annotations

import json
from pathlib import Path

from reproductions.judge import Verdict
from reproductions.registry import EXPERIMENTS
from torchscape.outputs import whole_file

__all__ = ["write_index"]

_INTRODUCTION = """\
# Reproductions

The landscapes of the papers, explored anew with this package: our pictures, our numbers beside the published ones
and beside those that were found independently, and a verdict. Every page is written by

```
scripts/reproduce NAME ...        # full settings; --quick for small ones, --list for the names
```

Verdicts are computed from what was measured: *same*; *same within what a different random data set explains*,
where the paper's random numbers are not published and other ones give the range; *same in kind*, where the paper
says something in words; *different*; *not reached*. *No verdict* is a number shown beside another with which it
cannot be compared, and the line says why.
"""


def write_index(out: Path) -> Path:
    """Write README.md from the figures of all pages that are there."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(out.glob("*.json"))}
    lines = ["| experiment | run | date | verdicts |", "| --- | --- | --- | --- |"]
    for name, experiment in EXPERIMENTS.items():
        if (page := found.get(name)) is None:
            lines.append(f"| {name}: {experiment.title} | not yet run | | |")
            continue
        run = page["run"] if page["is_complete"] else f"{page['run']}, stopped before its end"
        verdicts = page["verdicts"]
        told = "; ".join(f"{verdicts[v.value]} {v.value}" for v in Verdict if v.value in verdicts)
        lines.append(f"| [{name}]({name}.md): {page['title']} | {run} | {page['about']['date']} | {told} |")
    path = out / "README.md"
    with whole_file(path) as beside:
        beside.write_text(_INTRODUCTION + "\n" + "\n".join(lines) + "\n")
    return path
