"""What can be said to the commands around an exploration. Nothing here imports torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from torchscape.cli import kinds, texts

__all__ = ["SHELLS", "add"]

SHELLS = ("bash", "zsh", "fish")


_Adds = Callable[..., argparse.ArgumentParser]
"""What adds a command of a name and a summary."""


def add(command: _Adds) -> None:
    """Add these commands, by what adds one."""
    _report(command)
    _watch(command)
    _set_property(command)
    _cite(command)
    _completion(command)


def _report(command: _Adds) -> None:
    parser = command(
        "report", "write a landscape as one page to click through", of="reporting", epilog=texts.AFTER_REPORT
    )
    parser.add_argument("db", metavar="DB", help="landscape file; or what 'torchscape info' takes in its place")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the page, an .html file")
    parser.add_argument(
        "--potential",
        metavar="SPEC",
        help="the potential, as for 'torchscape explore': of a classifier, its confusion matrices are shown",
    )
    parser.add_argument(
        "--held-out", metavar="FILE.py:NAME", help="(inputs, targets) to classify instead of the training data"
    )
    parser.add_argument(
        "--temperature", type=kinds.temperatures, metavar="LOW:HIGH:N", help="temperatures of the slider"
    )
    parser.add_argument("--lowest", type=kinds.positive(int), metavar="N", help="the N lowest minima (10000)")
    parser.add_argument("--title", metavar="TEXT", help="what stands above it (default: the name of the file)")
    parser.add_argument("--unit", metavar="TEXT", help="unit of the energy, for the labels")
    parser.add_argument(
        "--modes", type=kinds.positive(int, zero=True), metavar="K", help="as for 'torchscape info'"
    )


def _watch(command: _Adds) -> None:
    parser = command("watch", "follow a file that another process explores", of="around", epilog=texts.AFTER_WATCH)
    parser.add_argument("db", metavar="DB", help="landscape file")
    parser.add_argument(
        "--every",
        type=kinds.positive(float),
        metavar="SECONDS",
        help="between two looks (default: 2, and 30 where the output is no terminal)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _set_property(command: _Adds) -> None:
    parser = command(
        "set-property",
        "attach numbers of a table to the minima, to colour and export by",
        of="around",
        epilog=texts.AFTER_SET_PROPERTY,
    )
    parser.add_argument("db", metavar="DB", help="landscape file")
    parser.add_argument("table", metavar="TABLE.csv", help="a column that names minima, and a column per property")
    parser.add_argument(
        "--column", action="append", metavar="NAME", help="only this column; may be said again and again"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing")


def _cite(command: _Adds) -> None:
    parser = command(
        "cite", "list the papers of what a run, or an analysis, has used", of="around", epilog=texts.AFTER_CITE
    )
    parser.add_argument("db", metavar="DB", nargs="?", help="landscape file; without, all that there is")
    parser.add_argument(
        "--of", type=kinds.words, metavar="LIST", default=[], help="methods, plots and analyses by name, as well"
    )
    parser.add_argument("--bibtex", action="store_true", help="as BibTeX")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def _completion(command: _Adds) -> None:
    parser = command(
        "completion",
        "print a script that completes commands in a shell",
        of="around",
        epilog=texts.AFTER_COMPLETION,
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")
