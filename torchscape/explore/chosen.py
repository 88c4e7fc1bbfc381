"""Minima that a search is asked for by number: by the ids of the file, or by their place in order of energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torchscape.errors import OptionError
from torchscape.landscape import Landscape
from torchscape.types import Int, Tensor
from torchscape.validation import COUNT_OR_ZERO

__all__ = ["check_chosen", "chosen_ids", "positions_of"]

_NUMBERINGS = ("id", "energy")


def check_chosen(strategy: Any, *names: str, disjoint: bool = False) -> None:
    """Are the fields ``names`` of a strategy numbers of minima, and its ``numbering`` one of the two?

    Raises:
        OptionError: naming the field and what it takes.
    """
    where = type(strategy).__name__
    for name in names:
        value = getattr(strategy, name)
        if isinstance(value, Sequence) and not len(value):
            raise OptionError(f"{where}: {name}={value!r}; give at least one number of a minimum")
        COUNT_OR_ZERO.or_several.check(where, **{name: value})
    if strategy.numbering not in _NUMBERINGS:
        raise OptionError(f"{where}: numbering={strategy.numbering!r}; give 'id' or 'energy'")
    if disjoint and set.intersection(*(set(_several(getattr(strategy, name))) for name in names)):
        raise OptionError(f"{where}: a minimum is in both {' and '.join(names)}; make them disjoint")


def chosen_ids(landscape: Landscape, numbers: int | Sequence[int], numbering: str, where: str) -> Int[Tensor, "K"]:
    """The ids of minima that are given by their ids, or by their places in order of energy (0 the lowest).

    Raises:
        OptionError: if there is no such minimum.
    """
    known = landscape.minimum_ids()
    wanted = torch.tensor(_several(numbers))
    if numbering == "energy":
        missing = wanted >= len(known)
        told = f"there are {len(known)}, 0 to {len(known) - 1}" if len(known) else "there are none yet"
    else:
        missing = ~torch.isin(landscape.represented(wanted), known)
        told = f"there are {len(known)}, landscape.network().ids lists their ids"
    if bool(missing.any()):
        raise OptionError(
            f"{where}: no minimum has the number {int(wanted[missing][0])} ({told}): find minima first, or "
            "correct the number"
        )
    return known[wanted] if numbering == "energy" else wanted


def positions_of(landscape: Landscape, network: Any, ids: Int[Tensor, "K"]) -> Int[Tensor, "K"]:
    """Where minima stand in a network of the landscape; those of a family where the family stands."""
    place: Int[Tensor, "K"] = network.position_of(landscape.represented(ids.to(torch.int64)))
    return place


def _several(numbers: int | Sequence[int]) -> list[int]:
    return [int(one) for one in (numbers if isinstance(numbers, Sequence) else [numbers])]
