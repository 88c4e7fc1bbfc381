"""The commands around an exploration: following one, attaching properties, citing, completing commands."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import math
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from torchscape.errors import MissingExtra, TorchscapeError, UnknownName
from torchscape.landscape import Glance, Landscape, glances

if TYPE_CHECKING:
    from torchscape.references import Reference

__all__ = ["cite", "completion", "set_property", "watch"]

_IN_TERMINAL, _IN_LOG = 2.0, 30.0


def watch(arguments: argparse.Namespace) -> int:
    """Follow a file that another process explores, until the run ends."""
    moves = sys.stdout.isatty() and not arguments.json
    last, told = None, ""
    for last in glances(arguments.db, arguments.every or (_IN_TERMINAL if moves else _IN_LOG)):
        line = json.dumps(_plain(last)) if arguments.json else _line(last)
        if moves:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)
        elif (news := str(dataclasses.replace(last, seconds=math.nan))) != told or arguments.json:
            print(line, flush=True)
            told = news
    if moves:
        print()
    if last is not None and not arguments.json:
        print(_ending(last))
    return 0


def _line(found: Glance) -> str:
    clock = "" if math.isnan(found.seconds) else f"{_clock(found.seconds)}  "
    return f"{clock}{found}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _ending(found: Glance) -> str:
    if not found.status:
        return "nothing was explored into it yet, and nobody does"
    if found.status == "running" and not found.is_written:
        return "its process is gone without a word; the same command goes on with everything that was committed"
    return f"ended: {found.status}"


def _plain(found: Glance) -> dict[str, object]:
    told = {**dataclasses.asdict(found), "rate": found.rate}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in told.items()}


# --- properties -------------------------------------------------------------------------------------------


def set_property(arguments: argparse.Namespace) -> int:
    """Attach the columns of a table to the minima."""
    names, values = _columns(Path(arguments.table), arguments.column)
    with Landscape.open(arguments.db, create=False, readonly=False) as landscape:
        ids = _named_minima(landscape, names, arguments.table)
        with landscape.transaction():
            for name, column in values.items():
                given = {i: value for i, value in zip(ids, column, strict=True) if value is not None}
                landscape.set_property(name, given)
                if not arguments.quiet:
                    print(f"{name}: {len(given)} of {landscape.n_minima} minima")
    return 0


_BUILT_IN = ("minimum", "id", "energy", "log_det", "log_degeneracy", "n_modes", "hits")
_Rows = tuple[str, list[int]]


def _columns(path: Path, wanted: list[str] | None) -> tuple[_Rows, dict[str, list[float | None]]]:
    """What names the minima, "minimum" or "id", with the numbers there; and the other columns by name."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header, rows = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TorchscapeError(f"{path} is no table of comma-separated values: {error}") from error
    header = [name.strip() for name in header]
    rows = [{str(name).strip(): value for name, value in row.items()} for row in rows]
    key = next((name for name in ("minimum", "id") if name in header), None)
    if key is None:
        raise TorchscapeError(
            f"{path} does not say which minima are meant: give it a header with a column 'minimum' (0 the lowest) "
            "or 'id' (of the file)"
        )
    is_coordinate = [name[:1] == "x" and name[1:].isdigit() for name in header]
    others = [
        name for name, skip in zip(header, is_coordinate, strict=True) if name and not (name in _BUILT_IN or skip)
    ]
    for name in wanted or ():
        if name not in header or name in ("minimum", "id"):
            raise UnknownName.of(f"column of {path}:", name, others)
    chosen = wanted or others
    if not chosen:
        raise TorchscapeError(f"{path} has no column of numbers beside {', '.join(header)}")
    numbers = [_number(row[key], path, n, key, whole=True) for n, row in enumerate(rows)]
    columns = {name: [_number(row[name], path, n, name) for n, row in enumerate(rows)] for name in chosen}
    if None in numbers or len(set(numbers)) < len(numbers):
        raise TorchscapeError(f"{path}: the column {key!r} must name every minimum once, and leave none out")
    return (key, [int(one) for one in numbers if one is not None]), columns


def _number(text: object, path: Path, row: int, column: str, *, whole: bool = False) -> float | int | None:
    """A number of a cell, None of an empty one."""
    if text is None or not str(text).strip():
        return None
    try:
        return int(str(text)) if whole else float(str(text))
    except ValueError:
        kind = "whole number" if whole else "number"
        raise TorchscapeError(f"{path}, row {row + 2}: {text!r} in column {column!r} is no {kind}") from None


def _named_minima(landscape: Landscape, rows: _Rows, path: str) -> list[int]:
    """Ids of the minima that the rows of a table mean."""
    key, numbers = rows
    ids = landscape.minimum_ids().tolist()
    known = set(ids) if key == "id" else set(range(len(ids)))
    if unknown := [n for n in numbers if n not in known]:
        raise TorchscapeError(
            f"{path}: there is no minimum with the {key if key == 'id' else 'number'} {unknown[0]}; the landscape "
            f"has {len(ids)}, and 'torchscape export --format csv' writes both columns"
        )
    return numbers if key == "id" else [ids[n] for n in numbers]


# --- papers -----------------------------------------------------------------------------------------------


def cite(arguments: argparse.Namespace) -> int:
    """List the papers of what a run, or an analysis, has used."""
    from torchscape import references

    names = list(arguments.of)
    if arguments.db is not None:
        with Landscape.open(arguments.db, create=False) as landscape:
            names += references.used_by(landscape)
    found = references.cite(names or None)
    if arguments.json:
        told = [{"key": one.key, **one.fields, "of": one.of} for one in found]
        print(json.dumps(told, indent=1, ensure_ascii=False))
    elif arguments.bibtex:
        print("\n\n".join(one.bibtex() for one in (references.OWN, *found)))
    else:
        print("\n".join(_told(found)))
    return 0


def _told(found: Iterable[Reference]) -> Iterable[str]:
    """Each paper in a line, under the methods that it is cited for."""
    from torchscape.references import OWN

    yield str(OWN)
    for names, papers in itertools.groupby(found, key=lambda one: one.of):
        yield f"\n{', '.join(names)}:"
        yield from (f"  {one}" for one in papers)


# --- shells -----------------------------------------------------------------------------------------------


def completion(arguments: argparse.Namespace) -> int:
    """Print a script that completes commands in a shell."""
    try:
        import shtab
    except ImportError as error:
        raise MissingExtra.of("shtab", "completion") from error
    from torchscape.cli.parser import build_parser

    parser = build_parser()
    for command in _commands(parser):
        for action in command._actions:
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


_FILES = ("DB", "FILE", "SRC", "DST", "SPEC", "OUT", "FOLDER", "TABLE.csv", "FILE.toml", "FILE.py:NAME")


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = next(one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return list(found.choices.values())
