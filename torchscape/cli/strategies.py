"""From the words of the command line to strategies and their moves: all that the package has, and a file's own."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from torchscape.cli.numbered import numbered, whole_words
from torchscape.cli.spec import named_in_file
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.explore import Mixture, Move, Strategy
from torchscape.explore.tables import changed, table_of

__all__ = ["Chosen", "chosen_strategies", "moves", "strategies", "tables_of"]

_DEFAULT = ["basin-hopping", "connect"]
_MOVE = re.compile(r"(?P<name>.+?)(?::(?P<weight>[0-9.eE+-]+))?")


def strategies() -> dict[str, type[Strategy]]:
    """Every strategy of :mod:`torchscape.explore`, by the name that it has on the command line."""
    return {
        kind.name.replace(" ", "-"): kind
        for kind in _exported()
        if issubclass(kind, Strategy) and kind is not Strategy
    }


def moves() -> dict[str, type[Move]]:
    """Every move of :mod:`torchscape.explore` by its name: ``per-layer`` for ``PerLayer``. A mixture has none: it
    is several names."""
    kinds: list[Any] = [
        kind
        for kind in _exported()
        if dataclasses.is_dataclass(kind) and "__call__" in vars(kind) and kind is not Mixture
    ]
    return {re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in kinds}


def _exported() -> list[type]:
    room = import_module("torchscape.explore")  # which type checkers take for the function of that name
    return [one for name in room.__all__ if isinstance(one := getattr(room, name), type)]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A strategy, and the words that chose it: its name, and its move where that was said in words."""

    name: str
    strategy: Strategy
    move: str | None = None


def chosen_strategies(arguments: argparse.Namespace, suggested: Mapping[str, Any]) -> list[Chosen]:
    """The strategies asked for: what the command line says, else the tables of a configuration file, else what the
    problem suggests, else defaults. Options and ``--set`` come before what tables say.

    Raises:
        UnknownName: for a strategy, move or setting that is not there.
        TorchscapeError: for a value that a setting does not take, or one that nothing takes.
    """
    settings = _Settings(arguments.set)
    given = {name: value for name, value in vars(arguments).items() if value is not None and name != "move"}
    said = None
    if arguments.move is not None:
        given["move"], said = _move(arguments.move, settings), ",".join(arguments.move)
    elif isinstance(words := suggested.get("move"), str):
        suggested = {**suggested, "move": _move(words.split(","), settings)}
    known = strategies()
    found: list[Chosen] = []
    for word, table in _asked(arguments, suggested):
        name, colon, numbers = word.partition(":")
        if isinstance(move := table.get("move"), str):  # as on the command line
            table["move"] = _move(move.split(","), _Settings(None))
        words = said or (move if isinstance(move, str) else None)
        if ".py:" in word:
            found += [Chosen(word, changed(one, table, word) if table else one) for one in _from_file(word)]
        elif name in known:
            of_minima = numbered(known[name], word, numbers if colon else None)
            made = changed(_made(known[name], {**suggested, **of_minima}), table, name)
            found.append(Chosen(name, settings.applied(name, _with_options(made, given)), words))
        else:
            raise UnknownName.of("strategy", word, [*known, "FILE.py:NAME"])
    settings.expect_used()
    if arguments.move is not None and not any(hasattr(one.strategy, "move") for one in found):
        raise TorchscapeError("--move: none of these strategies moves; leave it out, or add basin-hopping")
    return found


def tables_of(chosen: Sequence[Chosen]) -> list[dict[str, Any]]:
    """The strategies as tables that choose them again."""
    tables: list[dict[str, Any]] = []
    for one in chosen:
        if sum(other.name == one.name for other in chosen) > 1 and ".py:" in one.name:
            if all(table["name"] != one.name for table in tables):
                tables.append({"name": one.name})  # a list of the user's own
            continue
        table = table_of(one.strategy, one.name)
        if "move" in table and one.move is not None and ".py:" in one.move:
            table["move"] = one.move
        tables.append(table)
    return tables


def _asked(arguments: argparse.Namespace, suggested: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Names of strategies, in the order of their turns, and what tables say of each."""
    tables = [dict(table) for table in arguments.tables]
    if any("name" not in table for table in tables):
        raise TorchscapeError("a [[strategy]] of the configuration file has no name: name = 'basin-hopping'")
    asked = []
    names = arguments.strategy or [table["name"] for table in tables] or suggested.get("strategy", _DEFAULT)
    for name in whole_words(names):
        plain = name if ".py:" in name else name.partition(":")[0]
        at = next((k for k, table in enumerate(tables) if table["name"] in (name, plain)), None)
        table = {} if at is None else tables.pop(at)  # the second of a name takes the second table
        asked.append((name, {field: value for field, value in table.items() if field != "name"}))
    return asked


def _made(kind: type[Strategy], settings: Mapping[str, Any]) -> Strategy:
    """A strategy with those of the settings that it has."""
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in settings.items() if name in fields})


def _with_options(strategy: Strategy, given: Mapping[str, Any]) -> Strategy:
    """The strategy with those of the options of the command line that are settings of it."""
    fields = {field.name for field in dataclasses.fields(strategy)}  # type: ignore[arg-type]
    chosen = {name: value for name, value in given.items() if name in fields}
    ladder = given.get("temperature")
    if "temperatures" in fields and ladder is not None:
        chosen["temperatures"] = tuple(ladder)
    if isinstance(ladder := chosen.get("temperature"), list) and len(ladder) == 1:
        chosen["temperature"] = ladder[0]
    made = dataclasses.replace(strategy, **chosen)  # type: ignore[type-var]
    ladder = getattr(made, "temperature", None)
    if isinstance(ladder, list | tuple) and len(ladder) != (
        walkers := getattr(made, "walkers", None) or len(ladder)
    ):
        raise TorchscapeError(
            f"--temperature names {len(ladder)} temperatures for {walkers} walkers: give one, or as many"
        )
    return made


def _from_file(name: str) -> list[Strategy]:
    """A strategy, or a list of them, of the user's own."""
    found = named_in_file(name)
    several = [found] if isinstance(found, Strategy) else found
    if not (isinstance(several, Sequence) and several and all(isinstance(one, Strategy) for one in several)):
        raise TorchscapeError(
            f"{name} is a {type(found).__name__}: let it be a Strategy, or a list of them, as in "
            "BasinHopping(walkers=64)"
        )
    return list(several)


def _move(words: Sequence[str], settings: _Settings) -> Move:
    """One move, or a mixture of them by weight: ``gaussian:0.9,restart:0.1``."""
    parts = [_one_move(word, settings) for word in words]
    return parts[0][1] if len(parts) == 1 else Mixture(tuple(parts))


def _one_move(word: str, settings: _Settings) -> tuple[float, Move]:
    file, colon, rest = word.partition(".py:")
    matched = _MOVE.fullmatch(rest if colon else word)
    name = matched["name"] if matched else word
    try:
        weight = float(matched["weight"] or 1.0) if matched else 1.0
    except ValueError:
        raise TorchscapeError(f"--move {word}: a weight is a number, as in gaussian:0.9") from None
    if colon:
        name = file + colon + name
        found = named_in_file(name)
        if isinstance(found, type) or not isinstance(found, Move):
            raise TorchscapeError(f"{name} is no move: let it be an object that is called as Gaussian() is")
        return weight, found
    known = moves()
    if name not in known:
        raise UnknownName.of("move", name, [*known, "FILE.py:NAME"])
    made: Move = settings.applied(name, known[name]())
    return weight, made


class _Settings:
    """What ``--set NAME.FIELD=VALUE`` asks for, and whether somebody had that name."""

    def __init__(self, asked: Sequence[str] | None) -> None:
        self._asked: dict[str, list[tuple[str, list[str], Any]]] = {}
        self._used: set[str] = set()
        for text in asked or ():
            place, equals, value = text.partition("=")
            name, *path = place.strip().split(".")
            if not (equals and path and all(path)):
                raise TorchscapeError(f"--set {text}: write NAME.FIELD=VALUE, as in connect.attempts=3")
            self._asked.setdefault(name, []).append((text, path, _value(value.strip())))

    def applied(self, name: str, to: Any) -> Any:
        """A strategy or a move with what was asked for under its name."""
        for text, path, value in self._asked.get(name, ()):
            self._used.add(name)
            to = _replaced(to, path, value, text)
        return to

    def expect_used(self) -> None:
        """Nothing was asked of a strategy or move that is not there."""
        if left := [name for name in self._asked if name not in self._used]:
            text = self._asked[left[0]][0][0]
            raise TorchscapeError(f"--set {text}: no {left[0]} is among the strategies and moves of this command")


def _replaced(to: Any, path: Sequence[str], value: Any, text: str) -> Any:
    """A copy of a dataclass with one field, or a field of a field, changed."""
    here, *deeper = path
    if not dataclasses.is_dataclass(to):
        raise TorchscapeError(f"--set {text}: {to!r} has no settings of its own")
    fields = [field.name for field in dataclasses.fields(to) if field.init]
    if here not in fields:
        raise UnknownName.of(f"setting of {type(to).__name__}", here, fields)
    if deeper:
        value = _replaced(getattr(to, here), deeper, value, text)
    try:
        return dataclasses.replace(to, **{here: value})  # type: ignore[type-var]
    except TorchscapeError as error:
        raise TorchscapeError(f"--set {text}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise TorchscapeError(f"--set {text}: {type(to).__name__} does not take this ({error})") from error


def _value(text: str) -> Any:
    """A Python literal, or else the words as they stand."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
