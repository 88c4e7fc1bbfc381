"""Strategies about chosen minima: their numbers on the command line, and which minima those are."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

from torchscape.analysis import minimax_path
from torchscape.errors import TorchscapeError
from torchscape.explore import ConnectPair, Strategy
from torchscape.explore.chosen import chosen_ids, positions_of
from torchscape.explore.strategy import state_keys
from torchscape.landscape import Landscape

__all__ = ["forget", "joined", "numbered", "whole_words", "with_ids"]

_NUMBERS = re.compile(r"\d+(\+\d+)*")


def whole_words(words: Iterable[str]) -> list[str]:
    """Words between commas, where numbers belong to the word before them.

    Example:
        >>> whole_words(["connect", "connect-pair:0", "5", "climb"])
        ['connect', 'connect-pair:0,5', 'climb']
    """
    whole: list[str] = []
    for word in words:
        if whole and ":" in whole[-1] and _NUMBERS.fullmatch(word):
            whole[-1] += f",{word}"
        else:
            whole.append(word)
    return whole


def numbered(kind: type[Strategy], word: str, numbers: str | None) -> dict[str, Any]:
    """The settings that ``I,J`` or ``I+K,J`` after the name of a strategy means.

    Raises:
        TorchscapeError: for numbers that this strategy does not take, or that are none.
    """
    names: Sequence[str] = getattr(kind, "numbered", ())
    if not names:
        if numbers is not None:
            raise TorchscapeError(f"--strategy {word}: {kind.name} takes no minima; leave ':{numbers}' out")
        return {}
    if numbers is None:
        return {"numbering": "energy"}
    sets = numbers.split(",")
    wanted = ",".join("IJ"[: len(names)]) if len(names) > 1 else "I,J,..."
    if not all(_NUMBERS.fullmatch(one) for one in sets) or (len(names) > 1 and len(sets) != len(names)):
        raise TorchscapeError(
            f"--strategy {word}: write {kind.name}:{wanted}, with numbers of minima, 0 the lowest"
        )
    if len(names) == 1:
        return {"numbering": "energy", names[0]: tuple(int(one) for one in re.split(r"[,+]", numbers))}
    several = [tuple(int(one) for one in text.split("+")) for text in sets]
    values = [one[0] if len(one) == 1 else one for one in several]
    return {"numbering": "energy", **dict(zip(names, values, strict=True))}


def with_ids(landscape: Landscape, strategies: Sequence[Strategy]) -> list[Strategy]:
    """The strategies with ids in place of places in order of energy, where the file has these minima already.

    New minima move the others up, so the file remembers what the numbers of a command meant when it began, until
    it has ended: the same command continues with the same minima.
    """
    return [_with_ids(landscape, one) if _by_energy(one) else one for one in strategies]


def forget(landscape: Landscape, strategies: Sequence[Strategy]) -> None:
    """A command has ended: the same numbers may mean other minima from now on."""
    for one in strategies:
        if _by_energy(one):
            landscape.drop_states(_key(one))


def joined(landscape: Landscape, strategies: Sequence[Strategy], seed: int) -> list[str]:
    """What became of the pairs that were to be joined, in words."""
    lines = []
    network = landscape.network(coords=False)
    for strategy, key in zip(strategies, state_keys(strategies, seed), strict=True):
        state: Any = landscape.load_state(key)
        if not isinstance(strategy, ConnectPair) or state is None:
            continue
        a, b = positions_of(landscape, network, state["ids"]).tolist()
        try:
            route = minimax_path(network, a, b)
        except TorchscapeError:
            lines.append(
                f"minima {a} and {b} are not joined: more attempts (--set connect-pair.attempts=4), or climb"
            )
            continue
        n = len(route) - 1
        over = f"{n} transition state{'s' * (n != 1)}, the highest at {route.highest:.10g}"
        lines.append(f"minima {a} and {b} are joined over {over}")
    return lines


def _by_energy(strategy: Strategy) -> bool:
    return getattr(strategy, "numbering", "id") == "energy" and hasattr(strategy, "numbered")


def _key(strategy: Strategy) -> str:
    asked = {name: getattr(strategy, name) for name in strategy.numbered}  # type: ignore[attr-defined]
    return f"asked:{strategy.name}:{asked}"


def _with_ids(landscape: Landscape, strategy: Any) -> Strategy:
    names, key = strategy.numbered, _key(strategy)
    known: Any = landscape.load_state(key)
    if known is None:
        numbers = {name: getattr(strategy, name) for name in names}
        most = max(max(one) if isinstance(one, Sequence) else one for one in numbers.values())
        there = most < landscape.n_minima
        # Where the minima are yet to be found, the strategy looks when its turn comes, and remembers by itself.
        known = (
            {name: chosen_ids(landscape, numbers[name], "energy", strategy.name).tolist() for name in numbers}
            if there
            else {}
        )
        landscape.save_state(key, known)
    if not known:
        return strategy
    ids = {
        name: tuple(known[name]) if isinstance(getattr(strategy, name), Sequence) else known[name][0]
        for name in names
    }
    return dataclasses.replace(strategy, **ids, numbering="id")
