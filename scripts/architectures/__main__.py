"""Explore architectures and write their pages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from architectures.pages import page, read, write_index
from architectures.registry import ENTRIES
from architectures.run import carry_out
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.outputs import whole_file


def main(arguments: list[str] | None = None) -> int:
    """Carry out what the command line says; the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.list:
        width = max(map(len, ENTRIES))
        for name, entry in ENTRIES.items():
            print(f"{name:<{width}}  {entry.title}")
        return 0
    out = asked.out or Path("gallery/quick" if asked.quick else "docs/gallery")
    try:
        for name in asked.names or ENTRIES:
            if name not in ENTRIES:
                raise UnknownName.of("architecture", name, list(ENTRIES))
            if asked.words:
                _write_again(name, out)
            else:
                print(carry_out(ENTRIES[name], out, quick=asked.quick))
    except TorchscapeError as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 1
    return 0


def _write_again(name: str, out: Path) -> None:
    """The page, from figures that are there."""
    figures = read(out)
    if name not in figures:
        raise TorchscapeError(f"there is no {out / name}.json: run {name} without --words first")
    with whole_file(out / f"{name}.md") as beside:
        beside.write_text(page(ENTRIES[name], figures[name]))
    write_index(out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/gallery",
        description="Explore small networks of real architectures, and check what was found.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures; none for all of them")
    parser.add_argument("--list", action="store_true", help="say which architectures there are")
    parser.add_argument(
        "--quick", action="store_true", help="small settings, seconds each; pages into gallery/quick"
    )
    parser.add_argument("--words", action="store_true", help="write pages anew, from figures that are there")
    parser.add_argument("--out", type=Path, help="folder for pages, pictures and figures (docs/gallery)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
