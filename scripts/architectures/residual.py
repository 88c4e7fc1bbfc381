"""A residual network with batch-norm on handwritten digits."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

import torchscape as tsc
from architectures.entry import Entry, Explored
from torchscape import analysis
from torchscape.explore import BasinHopping, ConnectMinima, lowest_way
from torchscape.problems.networks import digits_data

__all__ = ["RESIDUAL"]


class Block(nn.Module):
    """tanh(x + BN(conv(tanh(BN(conv(x)))))): a residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Tanh(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x + self.inner(x))


class ResidualNet(nn.Module):
    """A stem, a residual block and a linear layer, for images of 8 x 8 pixels."""

    def __init__(self, channels: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(channels), nn.Tanh()
        )
        self.block = Block(channels)
        self.out = nn.Linear(4 * channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(nn.functional.avg_pool2d(self.block(self.stem(x)), 2).flatten(1))


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """All images of a three, a five or an eight, and which of these each is."""
    x, labels = digits_data()
    kinds = torch.tensor([3, 5, 8])
    chosen = torch.isin(labels, kinds)
    return x[chosen].reshape(-1, 1, 8, 8), torch.bucketize(labels[chosen], kinds)


def given() -> dict[str, Any]:
    """The model and 30 images. One pass in training mode sets the statistics of batch-norm; from then on they are
    constants, for in that mode the loss of an image would depend on its batch."""
    x, y = (part[:30] for part in images())
    net = ResidualNet().double()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # statistics as they are, not mixed with those before
    with torch.no_grad():
        net.train()(x)
    return {"module": net.eval(), "data": (x, y), "loss": nn.functional.cross_entropy, "l2": 4e-2}


def strategies(quick: bool) -> list[tsc.explore.Strategy]:
    """Quenches, and paths between the lowest minima: the Hessians of convolutions that these need are dear."""
    hopping = BasinHopping(walkers=8 if quick else 24, hops=0, temperature=0.01, step=0.5)
    connect = ConnectMinima(neighbours=1, bridges=1, max_rounds=0, attempts=1, max_minima=3 if quick else 6)
    return [hopping, connect]


def accuracy(explored: Explored, points: torch.Tensor) -> np.ndarray:
    """The share of the other images that each point classifies right."""
    x, y = (part[30:] for part in images())
    return (explored.potential.predict(points, x).argmax(-1) == y).double().mean(1).numpy()


def picture(explored: Explored) -> Figure:
    """Loss and accuracy along the lowest path from the lowest minimum to the one that is hardest to reach."""
    network = explored.network
    heights = analysis.minimax_to(network)
    reached = heights.isfinite().nonzero()[:, 0]
    if len(reached) < 2:
        figure, axes = plt.subplots(figsize=(7, 4))
        axes.scatter(network.energy, accuracy(explored, network.coords))
        axes.set(xlabel="loss", ylabel="accuracy on other images")
        return figure
    end = int(reached[heights[reached].argmax()])
    lowest = network.global_minimum
    way = lowest_way(explored.landscape, explored.potential, int(network.ids[lowest]), int(network.ids[end]))
    figure, axes = plt.subplots(figsize=(8, 4.2))
    axes.plot(way.arc, way.energy, color="#1f6fb4")
    for at, marker, what in ((way.at_minima, "o", "minima"), (way.at_transition_states, "^", "transition states")):
        rows = list(at)
        axes.plot(way.arc[rows], way.energy[rows], marker, color="#1f6fb4", label=what)
    axes.set(xlabel="length of the path", ylabel="loss")
    axes.legend(frameon=False, fontsize=9)
    other = axes.twinx()
    other.plot(way.arc, accuracy(explored, way.x), color="#c8382d", linewidth=1.2)
    other.set_ylabel("accuracy on other images", color="#c8382d")
    figure.tight_layout()
    return figure


def measured(explored: Explored) -> dict[str, Any]:
    """Accuracies on the other images."""
    values = accuracy(explored, explored.network.coords)
    return {"n_test": len(images()[1]) - 30, "accuracy": [round(value, 4) for value in values.tolist()]}


RESIDUAL = Entry(
    name="residual",
    title="A residual network with batch-norm on digits",
    about=(
        "A stem, a residual block and a linear layer tell threes, fives and eights apart, on the 8 x 8 digits "
        "that scikit-learn ships. Batch-norm is in evaluation mode, as the package asks: its statistics are "
        "constants, and since each channel has its own, channels change sign but are not exchanged."
    ),
    given=given,
    shown=(Block, ResidualNet, images, given),
    strategies=strategies,
    quenches=12,
    second="way",
    picture=picture,
    caption="Loss, and accuracy on images that are not in it, along the lowest known path between two minima.",
    measures=measured,
    remarks=lambda own: (
        f"Accuracies on {own['n_test']} other images reach from {100 * min(own['accuracy']):.1f} to "
        f"{100 * max(own['accuracy']):.1f} %; that of the lowest minimum is {100 * own['accuracy'][0]:.1f} %."
    ),
)
