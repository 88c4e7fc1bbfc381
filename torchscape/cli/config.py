"""Configuration files: TOML that says what a command line would say, and strategies as tables."""

from __future__ import annotations

import argparse
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchscape.cli.parser import build_parser
from torchscape.errors import TorchscapeError, UnknownName

if TYPE_CHECKING:
    from torchscape.landscape import Landscape

__all__ = ["parse", "written"]

_NOT_THERE = ("help", "config", "debug")
_LIMITS = {
    "seconds": "max-time",
    "quenches": "max-quenches",
    "evaluations": "max-evaluations",
    "energy": "target-energy",
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The words of a command line, with those of its configuration file before them, so that later ones decide.

    Raises:
        SystemExit: for bad usage, as argparse does.
        TorchscapeError: for a file that is not there or no TOML, or an option that ``explore`` has not got.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.command != "explore":
        return arguments
    spec, tables = arguments.spec, list[dict[str, Any]]()
    if arguments.config is not None:
        found = _read(Path(arguments.config))
        own = found.pop("spec", None)
        spec = spec or (None if own is None else str(own))
        strategies = found.get("strategy")
        if isinstance(strategies, list) and all(isinstance(one, dict) for one in strategies):
            tables = found.pop("strategy")
        said = _words(found, _options(parser), arguments.config)
        here = list(argv).index("explore") + 1
        arguments = parser.parse_args([*argv[:here], *said, *argv[here:]])
    arguments.spec, arguments.tables = spec, tables
    missing = [name for name, value in {"SPEC": spec, "--db": arguments.db}.items() if value is None]
    if missing:
        told = f"the following arguments are required: {', '.join(missing)}, here or in a file that --config names"
        _explore(parser).error(told)
    return arguments


def written(landscape: Landscape, number: int = -1) -> str:
    """The settings of a run as a configuration file, which ``explore --config`` reads.

    Args:
        landscape: the file.
        number: of the run, from 1; -1 for the last.

    Raises:
        TorchscapeError: if there is no such run, or it is of a version that did not keep them.
    """
    import tomli_w

    from torchscape.landscape.summary import printable

    runs = {int(str(run["id"])): run for run in landscape.runs()}
    if not runs or (number != -1 and number not in runs):
        known = f"there are {', '.join(map(str, runs))}" if runs else "nothing was explored into it yet"
        raise TorchscapeError(f"this landscape has no run {'' if number == -1 else number}: {known}")
    run = runs[max(runs) if number == -1 else number]
    settings: dict[str, Any] = run["settings"]  # type: ignore[assignment]
    if "strategy" not in settings:
        raise TorchscapeError(
            f"run {run['id']} is of a version that stored no tables: 'info --json' has its texts"
        )
    notes = settings.get("notes") or {}
    limits = settings.get("limits") or {}
    options = {**notes.get("options", {}), "seed": run["seed"]}
    options |= {_LIMITS[name]: n for name, n in limits.items() if name in _LIMITS and n not in (None, math.inf)}
    versions = ", ".join(f"{name} {value}" for name, value in run["versions"].items() if value)  # type: ignore[attr-defined]
    told = [
        f"# run {run['id']}, begun {run['started']}: {run['status']}",
        f"# of the potential with the fingerprint {landscape.fingerprint}",
        f"# {versions}",
    ]
    table = tomli_w.dumps({**options, "strategy": notes.get("strategy", settings["strategy"])})
    return "\n".join(printable(line) for line in told) + f"\n\n{table}"


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return {name.replace("_", "-"): value for name, value in tomllib.load(file).items()}
    except OSError as error:
        raise TorchscapeError(f"--config {path}: {(error.strerror or str(error)).lower()}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TorchscapeError(f"--config {path} is no TOML: {error}") from error


def _explore(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    commands = next(one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    found: argparse.ArgumentParser = commands.choices["explore"]
    return found


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options of ``explore`` by their names."""
    actions = _explore(parser)._actions
    return {name[2:]: one for one in actions for name in one.option_strings if name.startswith("--")}


def _words(found: dict[str, Any], known: dict[str, argparse.Action], path: str) -> list[str]:
    """Options of a file as they would be said."""
    words = []
    for name, value in found.items():
        if name not in known or name in _NOT_THERE:
            names = [one for one in known if one not in _NOT_THERE]
            raise UnknownName.of(f"option in {path}:", name, ["spec", *names])
        is_switch = known[name].nargs == 0
        if is_switch != isinstance(value, bool) and not (is_switch and isinstance(value, int)):
            raise TorchscapeError(f"--config {path}: {name} = {value!r}; give {_kind_of(is_switch)}")
        if is_switch:
            words += [f"--{name}"] * int(value)
        elif isinstance(known[name], argparse._AppendAction):
            words += [f"--{name}={one}" for one in (value if isinstance(value, list) else [value])]
        else:
            words.append(f"--{name}={_text(value)}")
    return words


def _kind_of(is_switch: bool) -> str:
    return "true or false" if is_switch else "a number or a text"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value)
