"""Disconnectivity graphs of free energies: what the minima of a picture are at a temperature."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torchscape.analysis.kinetics import FreeEnergyGroups, regroup
from torchscape.errors import OptionError, TorchscapeError
from torchscape.network import Network
from torchscape.plots.labels import label_texts
from torchscape.types import Tensor

__all__ = ["at_temperature"]


def at_temperature(
    network: Network,
    temperature: float,
    threshold: float | None,
    *,
    colour: str | Tensor | None,
    highlight: Mapping[str, Sequence[int]] | None,
    labels: bool | str | Sequence[str] | Sequence[int] | Mapping[int, str],
    minima: Sequence[int] | None,
) -> dict[str, Any]:
    """The network of free energies, and the arguments that name minima, as those of :func:`disconnectivity`.

    Without a threshold every minimum is a group, under its own number. With one, groups follow each other as their
    most populated minima do, by whose numbers they are labelled; a minimum that is named stands for its group.

    Raises:
        TorchscapeError: for minima that do not exist, and as :func:`torchscape.analysis.regroup`.
    """
    if isinstance(colour, Tensor) and len(colour) != network.n_minima:
        raise OptionError(f"colour has {len(colour)} values for {network.n_minima} minima: give one for each")
    found = regroup(network, temperature, -math.inf if threshold is None else threshold)
    order = found.representative.argsort()
    number = order.argsort()[found.label].tolist()
    representative = found.representative[order].tolist()

    def groups(positions: Sequence[int]) -> list[int]:
        wrong = [k for k in positions if not 0 <= k < network.n_minima]
        if wrong:
            raise TorchscapeError(
                f"there is no minimum {wrong[0]}, they are numbered from 0 to {network.n_minima - 1}"
            )
        return sorted({number[k] for k in positions})

    named = None if highlight is None else {name: groups(those) for name, those in highlight.items()}
    everyone = [group for those in (named or {}).values() for group in those]
    if len(set(everyone)) < len(everyone) and threshold is not None:
        raise OptionError(
            f"highlight: minima of two sets are in one group of free energies at regroup = {threshold:g}; lower it"
        )
    return {
        "network": found.network(network).subset(order),
        "colour": colour[representative] if isinstance(colour, Tensor) else colour,
        "highlight": named,
        "labels": _labels(network, found, labels, number, representative, groups),
        "minima": None if minima is None else groups(minima),
    }


def _labels(
    network: Network,
    found: FreeEnergyGroups,
    labels: bool | str | Sequence[str] | Sequence[int] | Mapping[int, str],
    number: list[int],
    representative: list[int],
    groups: Callable[[Sequence[int]], list[int]],
) -> Any:
    """Texts of the groups: those of their most populated minima, or of the minima that were chosen."""
    if labels is False:
        return False
    texts, chosen = label_texts(network, labels)
    if not chosen:
        return [texts.get(one, "") for one in representative]
    groups(sorted(chosen))
    said: dict[int, list[str]] = {}
    for one in sorted(chosen):
        said.setdefault(number[one], []).append(texts[one])
    return {group: ", ".join(those) for group, those in said.items()}
