"""Graph convolutions on Zachary's karate club: which of its four communities is each member in?"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch_geometric.datasets import KarateClub
from torch_geometric.nn import GCNConv

import torchscape as tsc
from architectures.entry import Entry, Explored
from torchscape.explore import BasinHopping, ClimbFromMinima, ConnectMinima

__all__ = ["KARATE"]


class KarateNet(nn.Module):
    """Two graph convolutions with tanh between them; a member is known by its number alone."""

    def __init__(self, edges: torch.Tensor, hidden: int = 2) -> None:
        super().__init__()
        self.register_buffer("edges", edges)
        self.first = GCNConv(34, hidden, bias=False)
        self.second = GCNConv(hidden, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x, self.edges)), self.edges)


def given() -> dict[str, Any]:
    """The model, the club, and the loss of all members at once: none is a sample by itself."""
    club = KarateClub()[0]
    return {
        "module": KarateNet(club.edge_index),
        "data": (club.x, club.y),
        "loss": nn.functional.cross_entropy,
        "l2": 3e-3,
        "reduction": "whole",
    }


def strategies(quick: bool) -> list[tsc.explore.Strategy]:
    """Everything, to the end."""
    hopping = BasinHopping(walkers=32 if quick else 128, hops=2 if quick else 5, temperature=0.02, step=1.0)
    return [hopping, ConnectMinima(), ClimbFromMinima(searches=4 if quick else 50)]


def hidden(explored: Explored) -> np.ndarray:
    """Where each minimum puts the members in the plane of its two hidden units [N 34 2]."""
    net, club = explored.potential.module, KarateClub()[0]
    places = []
    for x in explored.network.coords:
        explored.potential.load_into(net, x)
        with torch.no_grad():
            places.append(torch.tanh(net.first(club.x.double(), net.edges)).numpy())
    return np.stack(places)


def picture(explored: Explored) -> Figure:
    """The club in the hidden plane of up to three minima."""
    club, places = KarateClub()[0], hidden(explored)[:3]
    wrong = right(explored)
    figure, every = plt.subplots(1, len(places), figsize=(4.2 * len(places), 4.2), squeeze=False)
    for number, (axes, place) in enumerate(zip(every[0], places, strict=True)):
        axes.plot(*place[club.edge_index.numpy()].transpose(2, 0, 1), color="0.85", linewidth=0.6, zorder=1)
        axes.scatter(*place.T, c=club.y, cmap="tab10", vmax=9, s=36, edgecolors="white", linewidths=0.6, zorder=2)
        axes.set_title(
            f"minimum {number}: loss {float(explored.network.energy[number]):.4f}, {wrong[number]} of 34 right",
            fontsize=10,
        )
        axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal", xlabel="hidden unit 1")
    every[0, 0].set_ylabel("hidden unit 2")
    figure.tight_layout()
    return figure


def right(explored: Explored) -> list[int]:
    """How many members each minimum puts into their community."""
    club = KarateClub()[0]
    predicted = explored.potential.predict(explored.network.coords, club.x).argmax(-1)
    return (predicted == club.y).sum(1).tolist()


KARATE = Entry(
    name="karate",
    title="A graph network on Zachary's karate club",
    about=(
        "Two graph convolutions (Kipf & Welling 2017, arXiv:1609.02907) put the 34 members of the club (Zachary, "
        "J. Anthropol. Res. 33, 452 (1977)) into its four communities. With two hidden units four groups have to "
        "share a plane, and there is more than one way to lay them out. The loss takes the graph as a whole "
        '(`reduction="whole"`): a part of its nodes would be another graph.'
    ),
    given=given,
    shown=(KarateNet, given),
    strategies=strategies,
    quenches=100,
    second="plane",
    picture=picture,
    caption="The members in the plane of the two hidden units, coloured by their community, at each minimum.",
    measures=lambda explored: {"right": right(explored)},
    remarks=lambda own: (
        f"Members put right at the minima, by ascending loss: {', '.join(map(str, own['right']))} of 34."
    ),
)
