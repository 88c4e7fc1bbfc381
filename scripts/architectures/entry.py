"""One architecture of the gallery: what is explored, how, and what its page shows beside the tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

import torchscape as tsc
from architectures.bare import BareLoss
from torchscape.explore import ExploreReport, Strategy

__all__ = ["Entry", "Explored"]


@dataclasses.dataclass(frozen=True)
class Explored:
    """What an exploration has left.

    Attributes:
        potential: what was explored.
        landscape: what was found, still open.
        network: its network, with coordinates.
        report: how it ended.
        loss: the same loss without torchscape.
    """

    potential: tsc.ModulePotential
    landscape: tsc.Landscape
    network: tsc.Network
    report: ExploreReport
    loss: BareLoss


@dataclasses.dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        name: of its page, pictures and figures.
        title: what it is, in a few words.
        about: what it is, and why its landscape is worth a look.
        given: builds the model, its data and its loss: the arguments of ``ModulePotential``.
        shown: the classes and functions whose source stands on the page.
        strategies: how it is explored, by whether the run is quick.
        quenches: independent quenches of a full run.
        second: name of the second picture.
        picture: draws it.
        caption: what it shows.
        measures: numbers of its own, by name.
        remarks: sentences about these.
        bare: what of ``given`` the check without torchscape computes in another way.
    """

    name: str
    title: str
    about: str
    given: Callable[[], dict[str, Any]]
    shown: Sequence[Callable[..., Any]]
    strategies: Callable[[bool], list[Strategy]]
    quenches: int
    second: str
    picture: Callable[[Explored], Figure]
    caption: str
    measures: Callable[[Explored], dict[str, Any]] = lambda _: {}
    remarks: Callable[[dict[str, Any]], str] = lambda _: ""
    bare: Mapping[str, Any] = dataclasses.field(default_factory=dict)
