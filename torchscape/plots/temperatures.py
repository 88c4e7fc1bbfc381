"""At which temperatures a curve is drawn: those given, those of a result, or those around the peaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from torchscape import analysis
from torchscape.analysis import Peak
from torchscape.analysis.thermodynamics.superposition import as_temperatures
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Tensor

__all__ = ["a_row", "given_grid", "peaks_within", "temperature_grid"]


def temperature_grid(
    network: Network, temperatures: Sequence[float] | Float[Tensor, "T"] | None = None, n: int = 300
) -> Float[Tensor, "T"]:
    """The temperatures given, or n of them on a logarithmic scale around the peaks of the heat capacity.

    Without a peak, from a fiftieth of :func:`torchscape.analysis.energy_scale` to twice that.
    """
    if temperatures is not None:
        chosen = as_temperatures(network, temperatures)
        if not len(chosen):
            raise TorchscapeError("no temperatures are no curve: give some, or None to have them chosen")
        return chosen
    if network.n_minima < 2:
        raise TorchscapeError("fewer than two minima have no temperature scale: give the temperatures")
    at = [peak.temperature for peak in analysis.heat_capacity_peaks(network)]
    spread = analysis.energy_scale(network)
    low, high = (at[0] / 4.0, at[-1] * 4.0) if at else (spread / 50.0, spread * 2.0)
    grid = np.geomspace(low, high, n)
    # A peak narrower than the grid would be cut off.
    return torch.as_tensor(np.unique(np.concatenate([grid, at]))).to(network.energy)


def given_grid(temperatures: Sequence[float] | Tensor | None, values: Tensor, name: str) -> Float[Tensor, "T"]:
    """The temperatures of values that were computed elsewhere."""
    if temperatures is None:
        raise TorchscapeError(f"{name} alone do not say at which temperatures: give these, too")
    grid = a_row(torch.as_tensor(temperatures, dtype=values.dtype, device=values.device))
    if len(grid) != len(values):
        raise TorchscapeError(f"give one temperature for each of {len(values)} rows of {name}, not {len(grid)}")
    return grid


def a_row(temperatures: Float[Tensor, "*T"]) -> Float[Tensor, "T"]:
    """The temperatures of a result, which make a curve if there is a row of them."""
    if temperatures.ndim != 1 or not len(temperatures):
        raise TorchscapeError(
            f"temperatures of shape {tuple(temperatures.shape)} make no curve: give a row of them"
        )
    return temperatures


def peaks_within(network: Network, grid: Float[Tensor, "T"]) -> list[Peak]:
    return analysis.heat_capacity_peaks(network, t_min=float(grid.min()), t_max=float(grid.max()))
