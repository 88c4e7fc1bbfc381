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

__all__ = ["chosen_strategies", "moves", "strategies"]

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
    kinds: list[Any] = [kind for kind in _exported() if "__call__" in vars(kind) and kind not in (Move, Mixture)]
    return {re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in kinds}


def _exported() -> list[type]:
    room = import_module("torchscape.explore")  # which type checkers take for the function of that name
    return [one for name in room.__all__ if isinstance(one := getattr(room, name), type)]


def chosen_strategies(arguments: argparse.Namespace, suggested: Mapping[str, Any]) -> list[Strategy]:
    """The strategies asked for: what the command line says, else what the problem suggests, else defaults.

    Raises:
        UnknownName: for a strategy, move or setting that is not there.
        TorchscapeError: for a value that a setting does not take, or one that nothing takes.
    """
    settings = _Settings(arguments.set)
    given = {name: value for name, value in vars(arguments).items() if value is not None and name != "move"}
    if arguments.move is not None:
        given["move"] = _move(arguments.move, settings)
    known = strategies()
    found: list[Strategy] = []
    for word in whole_words(arguments.strategy or suggested.get("strategy", _DEFAULT)):
        name, colon, numbers = word.partition(":")
        if ".py:" in word:
            found += _from_file(word)
        elif name in known:
            of_minima = numbered(known[name], word, numbers if colon else None)
            made = _configured(known[name], {**given, **of_minima}, suggested)
            found.append(settings.applied(name, made))
        else:
            raise UnknownName.of("strategy", name, [*known, "FILE.py:NAME"])
    settings.expect_used()
    if arguments.move is not None and not any(hasattr(one, "move") for one in found):
        raise TorchscapeError("--move: none of these strategies moves; leave it out, or add basin-hopping")
    return found


def _configured(kind: type[Strategy], given: Mapping[str, Any], suggested: Mapping[str, Any]) -> Strategy:
    """A strategy with those of the options that are settings of it."""
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    chosen = {name: value for source in (suggested, given) for name, value in source.items() if name in fields}
    ladder = given.get("temperature")
    if "temperatures" in fields and ladder is not None:
        chosen["temperatures"] = tuple(ladder)
    ladder = chosen.get("temperature")
    if isinstance(ladder, list):
        if len(ladder) == 1:
            chosen["temperature"] = ladder[0]
        elif len(ladder) != (walkers := chosen.get("walkers", len(ladder))):
            raise TorchscapeError(
                f"--temperature names {len(ladder)} temperatures for {walkers} walkers: give one, or as many"
            )
    return kind(**chosen)


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
