"""Energies along straight lines."""

from __future__ import annotations

import torch

from torchscape.memory import SOME_LARGE, rows_that_fit
from torchscape.potentials.base import Potential
from torchscape.types import Float, Tensor

__all__ = ["energies_on_lines"]


def energies_on_lines(
    potential: Potential, starts: Float[Tensor, "B D"], ends: Float[Tensor, "B D"], n_points: int
) -> tuple[Float[Tensor, "I"], Float[Tensor, "B I"]]:
    """Places from 0 to 1, and U there on the line from each start to its end; without gradients, in batches.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> a, b = torch.zeros(1, 2).double(), torch.ones(1, 2).double()
        >>> energies_on_lines(Quadratic([1.0, 3.0]), a, b, 3)[1]
        tensor([[0.0000, 0.5000, 2.0000]], dtype=torch.float64)
    """
    t = torch.linspace(0.0, 1.0, n_points, dtype=starts.dtype, device=starts.device)
    rows = rows_that_fit(n_points * starts.shape[1], starts.device, on_host=SOME_LARGE)
    energies = [starts.new_empty(0, n_points)]
    with torch.no_grad():
        for a, b in zip(starts.split(rows), ends.split(rows), strict=True):
            places = a[:, None] + t[:, None] * (b - a)[:, None]
            places[:, -1] = b  # to the last digit
            energies.append(potential.energy(places.flatten(0, 1)).reshape(len(a), n_points))
    return t, torch.cat(energies)
