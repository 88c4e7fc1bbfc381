"""Run experiments and write their pages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from reproductions.experiment import Experiment, Run
from reproductions.index import write_index
from reproductions.page import Page, write_page
from reproductions.registry import EXPERIMENTS
from reproductions.stopwatch import Stopwatch
from torchscape.errors import TorchscapeError, UnknownName


def main(arguments: list[str] | None = None) -> int:
    """Carry out what the command line says; the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.list:
        width = max(map(len, EXPERIMENTS))
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:<{width}}  {experiment.title} ({experiment.source})")
        return 0
    try:
        chosen = [_experiment(name) for name in asked.names] or list(EXPERIMENTS.values())
        for experiment in chosen:
            print(reproduce(experiment, _run(asked)))
    except TorchscapeError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 1
    return 0


def reproduce(experiment: Experiment, run: Run) -> Path:
    """One experiment: its page, beside its pictures and figures, and the index of all pages."""
    run.work.mkdir(parents=True, exist_ok=True)
    (run.work / ".gitignore").write_text("*\n")
    page = Page(experiment.name, experiment.title, experiment.source, run.out)
    with Stopwatch(run.work / "times.json", experiment.name) as watch:
        experiment.carry_out(run, page)
    path = write_page(page, run, watch)
    write_index(run.out)
    return path


def _experiment(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise UnknownName.of("experiment", name, list(EXPERIMENTS))
    return EXPERIMENTS[name]


def _run(asked: argparse.Namespace) -> Run:
    """Quick runs keep to a folder of their own: the pages that come with the project are of full ones."""
    work = asked.work / "quick" if asked.quick else asked.work
    usual = work / "pages" if asked.quick else Path("docs/reproductions")
    return Run(
        quick=asked.quick,
        data=asked.data,
        work=work,
        out=usual if asked.out is None else asked.out,
        max_time=asked.max_time,
        device=asked.device,
        progress=not asked.quiet,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/reproduce",
        description="Reproduce the papers' landscapes: one page per experiment, our numbers beside theirs.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; none for all of them")
    parser.add_argument("--list", action="store_true", help="say which experiments there are")
    parser.add_argument("--quick", action="store_true", help="small settings, under a minute each")
    parser.add_argument("--data", type=Path, help="folder with the reference data sets, where you have them")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the pages (docs/reproductions; those of quick runs: quick/pages in the --work folder)",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("reproduce"), help="folder for the landscape databases (reproduce)"
    )
    parser.add_argument(
        "--max-time",
        type=float,
        metavar="SECONDS",
        help="for each exploration in this call; 0 makes the pages from what the databases hold already",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
