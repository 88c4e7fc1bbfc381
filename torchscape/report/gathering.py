"""Everything that a report says, gathered before anything is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from torchscape import analysis
from torchscape.analysis import Coverage
from torchscape.devices import HOST
from torchscape.errors import TorchscapeError
from torchscape.landscape import Landscape
from torchscape.landscape.summary import words
from torchscape.network import Network
from torchscape.potentials import ModulePotential, Potential
from torchscape.report.columns import Quantity, edge_columns, minimum_columns, quantities
from torchscape.report.confusion import Confusion, confusion, held_out_pair, training_pair
from torchscape.report.history import History, history
from torchscape.report.shown import Shown, choose
from torchscape.report.thermodynamics import Thermodynamics, thermodynamics
from torchscape.types import Float, Tensor

__all__ = ["Content", "gather"]


@dataclasses.dataclass(frozen=True)
class Content:
    """What a report says of a landscape.

    Attributes:
        title, unit: what stands above it, and the unit of the energy.
        figures: key figures of the landscape: (value, name) each.
        words: the landscape in words, line by line; empty for a network alone.
        network: the whole network.
        shown: the minima shown.
        minima, edges: one row for each minimum shown and for each transition state between them.
        quantities: which columns of ``minima`` are tabled.
        all_drawn: whether every transition state between them is told and drawn.
        thermodynamics: of the whole network, or why there are none.
        coverage: what hit counts say.
        history: the journal, for a landscape.
        confusion: of a classifier.
    """

    title: str
    unit: str | None
    figures: tuple[tuple[str, str], ...]
    words: tuple[tuple[str, str], ...]
    network: Network
    shown: Shown
    minima: dict[str, np.ndarray | list[str]]
    edges: dict[str, np.ndarray | list[str]]
    quantities: list[Quantity]
    all_drawn: bool
    thermodynamics: Thermodynamics | str
    coverage: Coverage
    history: History | None
    confusion: Confusion | None


def gather(
    network: Network,
    landscape: Landscape | None,
    potential: Potential | None,
    *,
    held_out: Sequence[Tensor] | None,
    temperatures: Sequence[float] | Float[Tensor, "T"] | None,
    lowest: int,
    title: str,
    unit: str | None,
    seed: int,
) -> Content:
    """All of it; the arguments are those of :func:`torchscape.report.write`.

    Raises:
        TorchscapeError: for a network without minima, or held-out data that nothing can be said of.
    """
    if network.n_minima == 0:
        raise TorchscapeError("a report needs minima, and there are none: explore first")
    network = network.to(HOST)
    shown = choose(network, lowest)
    told = _confusion(shown, potential, held_out)
    properties = {name: values[shown.positions] for name, values in network.properties.items()}
    if told is not None:
        accuracy = torch.full((shown.network.n_minima,), torch.nan, dtype=torch.float64)
        accuracy[: len(told.accuracy)] = told.accuracy
        properties = {f"accuracy ({told.of})": accuracy, **properties}
    minima = minimum_columns(network, shown, properties, seed)
    edges, renumbered, all_drawn = edge_columns(shown)
    minima["next_edge"] = renumbered[minima["next_edge"]]
    thermal = thermodynamics(network, shown, temperatures)
    if isinstance(thermal, Thermodynamics):
        minima |= {"constant": thermal.constant, "gap": thermal.gap, "power": thermal.power}
    hits = analysis.coverage(network if landscape is not None else _without_neutral_hits(network))
    return Content(
        title=title,
        unit=unit,
        figures=_key_figures(network, hits, unit),
        words=() if landscape is None else tuple(words(landscape.summary()).items()),
        network=network,
        shown=shown,
        minima=minima,
        edges=edges,
        quantities=quantities(properties),
        all_drawn=all_drawn,
        thermodynamics=thermal,
        coverage=hits,
        history=None if landscape is None else history(landscape),
        confusion=told,
    )


def _without_neutral_hits(network: Network) -> Network:
    """One hit for every point is what a network has that nobody has given any: they say nothing of a search."""
    minima, ts = (
        hits if bool((hits != 1).any()) else torch.zeros_like(hits) for hits in (network.hits, network.ts_hits)
    )
    return dataclasses.replace(network, hits=minima, ts_hits=ts)


def _confusion(shown: Shown, potential: Potential | None, held_out: Sequence[Tensor] | None) -> Confusion | None:
    """Of a classifier whose minima have coordinates."""
    coords = shown.network.coords
    if held_out is not None and not isinstance(potential, ModulePotential):
        raise TorchscapeError("held_out data are classified by a model: give its ModulePotential, too")
    if held_out is not None and coords is None:
        raise TorchscapeError("held_out data are classified at the minima, and the network has no coordinates")
    if not isinstance(potential, ModulePotential) or coords is None:
        return None
    pair = training_pair(potential) if held_out is None else held_out_pair(held_out)
    if pair is None:
        return None
    x = coords.to(potential.device, potential.dtype)
    return confusion(potential, x, *pair, "training data" if held_out is None else "held-out data")


def _key_figures(network: Network, hits: Coverage, unit: str | None) -> tuple[tuple[str, str], ...]:
    """The numbers that one asks for first."""
    lowest = f"{float(network.energy.min()):.8g}" + (f" {unit}" if unit else "")
    told = [
        (f"{network.n_minima:,}", "minima" if network.n_minima != 1 else "minimum"),
        (f"{network.n_edges + network.n_degenerate_rearrangements:,}", "transition states"),
        (lowest, "lowest energy"),
        (f"{network.connected_fraction:.1%}", "connected to the lowest"),
        (f"{len(analysis.funnels(network)):,}", "funnels"),
    ]
    if hits.minima.n_hits:
        told.append((f"{hits.minima.coverage:.1%}", "of searches end in known minima"))
    return tuple((value.replace(",", "\N{NARROW NO-BREAK SPACE}"), name) for value, name in told)
