"""One page: pictures, a table of numbers beside numbers, settings, time, and the verdict in words."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from reproductions.judge import Verdict
from reproductions.machine import about
from reproductions.networks import UNFINISHED
from reproductions.stopwatch import Stopwatch
from torchscape.outputs import whole_file

if TYPE_CHECKING:
    from reproductions.experiment import Run

__all__ = ["Page", "Row", "write_page"]

_MOST_BYTES = 180_000  # of a picture


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        quantity: what was counted or measured.
        published: what the paper says; empty where it does not.
        independent: what was found by other means for the same or other data; empty where nobody looked.
        ours: what this run found.
        verdict: on ours.
        remark: what to know.
    """

    quantity: str
    published: str
    independent: str
    ours: str
    verdict: Verdict
    remark: str = ""


class Page:
    """A page being written.

    Args:
        name: of the experiment, the page and its pictures.
        title, source: of the experiment.
        out: folder of the page.
    """

    def __init__(self, name: str, title: str, source: str, out: Path) -> None:
        self.name, self.title, self.source, self.out = name, title, source, out
        self.what = ""
        self.rows: list[Row] = []
        self.settings: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.verdict: list[str] = []

    def compare(
        self,
        quantity: str,
        ours: float | str,
        verdict: Verdict = Verdict.BESIDE,
        *,
        published: float | str = "",
        independent: float | str = "",
        remark: str = "",
    ) -> None:
        """Add a line to the table."""
        row = Row(quantity, _told(published), _told(independent), _told(ours), verdict, remark)
        self.rows.append(row)

    def picture(self, figure: Figure, name: str, caption: str) -> None:
        """Save a figure beside the page, small enough for a repository, and close it."""
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / f"{self.name}_{name}.png"
        with whole_file(path) as beside:
            for dpi in (130, 100, 75, 50):
                figure.savefig(beside, dpi=dpi, bbox_inches="tight", metadata={"Software": None})
                if beside.stat().st_size > _MOST_BYTES:  # 256 colours are enough for a plot
                    with Image.open(beside) as image:
                        image.convert("RGB").quantize(256).save(beside, optimize=True)
                if beside.stat().st_size <= _MOST_BYTES:
                    break
        plt.close(figure)
        self.pictures.append((path.name, caption))

    def say(self, sentence: str) -> None:
        """Add to the verdict in words."""
        self.verdict.append(sentence)

    def counts(self) -> Counter[Verdict]:
        """How many lines got which verdict."""
        return Counter(row.verdict for row in self.rows)


def write_page(page: Page, run: Run, watch: Stopwatch) -> Path:
    """Write NAME.md, and NAME.json with the same in numbers."""
    page.out.mkdir(parents=True, exist_ok=True)
    counts = {verdict.value: n for verdict, n in page.counts().items()}
    facts: dict[str, Any] = {
        "name": page.name,
        "title": page.title,
        "source": page.source,
        "run": "quick" if run.quick else "full",
        "is_complete": not any(UNFINISHED in line for line in page.settings),
        "about": about(run.device),
        "cpu_seconds": round(watch.cpu, 1),
        "wall_seconds": round(watch.wall, 1),
        "verdicts": counts,
        "settings": page.settings,
        "rows": [{**dataclasses.asdict(row), "verdict": row.verdict.value} for row in page.rows],
        "verdict": page.verdict,
    }
    path = page.out / f"{page.name}.md"
    with whole_file(path.with_suffix(".json")) as numbers, whole_file(path) as words:
        numbers.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        words.write_text(_markdown(page, facts, watch))
    return path


def _markdown(page: Page, facts: dict[str, Any], watch: Stopwatch) -> str:
    full = facts["run"] == "full"
    which = "run" if facts["is_complete"] else "settings, **stopped before their end**"
    origin = f"From the **{facts['run']}** {which}: `scripts/reproduce {page.name}{'' if full else ' --quick'}`"
    parts = [
        f"# {page.title}",
        f"{page.source}. {page.what}".strip(),
        f"{origin}." if full else f"{origin}, too small for a verdict on the paper.",
        "## Verdict",
        f"{_tally(page)} " + " ".join(page.verdict),
        "## Numbers",
        _table(page.rows),
        "## Pictures",
        *(f"![{caption}]({name})\n\n{caption}" for name, caption in page.pictures),
        "## Settings",
        "\n".join(f"- {line}" for line in page.settings),
        "## Time and machine",
        f"{_duration(watch.cpu)} of CPU, {_duration(watch.wall)} by the clock"
        + (
            f", in {watch.calls} calls; what no database keeps was computed anew in each."
            if watch.calls > 1
            else "."
        )
        + f" {_sentence(facts['about'])}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tally(page: Page) -> str:
    """How many lines of the table came out how."""
    counts = page.counts()
    told = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if verdict in counts]
    return f"Of {len(page.rows)} numbers: {'; '.join(told)}."


def _table(rows: list[Row]) -> str:
    lines = ["| quantity | published | independent | ours | verdict |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        verdict = row.verdict.value + (f": {row.remark}" if row.remark else "")
        cells = (row.quantity, row.published, row.independent, row.ours, verdict)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") or "-" for cell in cells) + " |")
    return "\n".join(lines)


def _sentence(machine: dict[str, Any]) -> str:
    return (
        f"{machine['date']}, {machine['machine']}, {machine['cores']} cores of which {machine['threads']} was "
        f"used, load average {machine['load']:.1f} (other work ran beside); torchscape {machine['torchscape']}, "
        f"torch {machine['torch']}, Python {machine['python']}."
        if machine["load"] > 1.5 * machine["threads"]
        else f"{machine['date']}, {machine['machine']}, {machine['cores']} cores of which {machine['threads']} "
        f"was used; torchscape {machine['torchscape']}, torch {machine['torch']}, Python {machine['python']}."
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _told(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"
