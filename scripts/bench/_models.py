"""Networks and data that more than one benchmark measures."""

from __future__ import annotations

import torch
from torch import nn

from torchscape import random
from torchscape.problems.networks import digits_data

__all__ = ["Counter", "Rows", "conv4858", "digits_of", "letters"]


def conv4858() -> nn.Sequential:
    """Two convolutions with pooling on 8 x 8 images: 90 + 3198 + 1570 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 9, 3, padding=1),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(9, 39, 3, padding=1),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(156, 10),
    ).double()


def digits_of(shape: tuple[int, ...], n: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """The first images of the training set of the problem ``digits``, in this shape, and their labels."""
    images, labels = digits_data()
    order = random.permutation(random.fold(0, torch.arange(1)), len(labels))[0][:n]
    return images[order].double().reshape(-1, *shape), labels[order]


class Rows(nn.Module):
    """Reads an 8 x 8 image row by row with a gated recurrent unit: 6 hidden units, 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.reader, self.head = nn.GRU(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.reader(x)[0][:, -1])


class Counter(nn.Module):
    """A transformer of two layers, width 8, that reads six letters."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(5, 8)
        self.place = nn.Parameter(0.3 * torch.randn(6, 8))
        layers = [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(2)]
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(8, 6)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.letters(letters) + self.place).mean(1))


def letters(n: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Words of six letters out of five, and how often their first letter comes again."""
    words = (5 * random.uniform(random.fold(0, torch.arange(n)), 6, torch.float64)).long()
    return words, (words[:, 1:] == words[:, :1]).sum(1)
