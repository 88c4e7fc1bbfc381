"""Small classifiers for the tests of learning."""

from __future__ import annotations

import torch

from torchscape import ModulePotential, random


def blobs(n: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping clouds of points in the plane."""
    labels = torch.arange(n) % 3
    centres = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    return centres[labels] + 0.9 * random.normal(random.fold(seed, torch.arange(n)), 2), labels


def classifier(hidden: int = 3, l2: float = 1e-2, device="cpu", **options) -> ModulePotential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(2, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 3))
    return ModulePotential(net, blobs(), torch.nn.functional.cross_entropy, l2, device=device, **options)
