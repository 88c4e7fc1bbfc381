"""The temperatures of a report: what is computed on them beforehand, and what the page computes as it is moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from torchscape import analysis
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.plots.temperatures import temperature_grid
from torchscape.report.shown import Shown
from torchscape.types import Float, Tensor

__all__ = ["Thermodynamics", "thermodynamics"]

_DWARFS = 3.0  # so many times the exchange between minima, a constant is left out of the curve
_N_TEMPERATURES = 200


@dataclasses.dataclass(frozen=True)
class Thermodynamics:
    """Curves on T temperatures, and the weights of n minima at any of them.

    Minimum k has the probability exp(constant_k - gap_k / T + power_k ln T - log_z(T)): what
    :func:`torchscape.analysis.occupation` says, its sum over all minima of the network included in ``log_z``.

    Attributes:
        temperatures, mean_energy, entropy, log_z: [T].
        heat_capacity: C_V, or only what the exchange between minima adds to it (``excess``) [T].
        excess: whether the heat capacity of a single minimum is left out, as it would hide the rest.
        peaks: temperatures of the peaks of the heat capacity.
        start: the temperature that is shown first: its place on the grid.
        constant, gap, power: [n].
    """

    temperatures: np.ndarray
    heat_capacity: np.ndarray
    excess: bool
    mean_energy: np.ndarray
    entropy: np.ndarray
    log_z: np.ndarray
    peaks: tuple[float, ...]
    start: int
    constant: np.ndarray
    gap: np.ndarray
    power: np.ndarray


def thermodynamics(
    network: Network, shown: Shown, temperatures: Sequence[float] | Float[Tensor, "T"] | None
) -> Thermodynamics | str:
    """The thermodynamics of a network for a report; where there is none, why."""
    try:
        grid = temperature_grid(network, temperatures, _N_TEMPERATURES).sort().values
        capacity = analysis.heat_capacity(network, grid)
        peaks = analysis.heat_capacity_peaks(network, t_min=float(grid.min()), t_max=float(grid.max()))
        lowest = network.global_minimum
        log_z = -analysis.log_occupation(network, grid)[:, lowest]
        entropy, mean = analysis.shannon_entropy(network, grid), capacity.mean_energy
    except TorchscapeError as error:
        return str(error)
    exchange = capacity.gaining + capacity.losing
    excess = bool(capacity.baseline.max() > _DWARFS * exchange.max())
    t = _array(grid)
    highest = max(peaks, key=lambda peak: peak.value).temperature if peaks else float(np.sqrt(t[0] * t[-1]))
    part = shown.network
    modes = part.n_modes.to(part.energy) / 2
    constant = part.log_degeneracy - part.log_degeneracy[0] - (part.log_det - part.log_det[0]) / 2
    return Thermodynamics(
        temperatures=t,
        heat_capacity=_array(exchange if excess else capacity.value),
        excess=excess,
        mean_energy=_array(mean),
        entropy=_array(entropy),
        log_z=_array(log_z),
        peaks=tuple(peak.temperature for peak in peaks),
        start=int(np.abs(np.log(t / highest)).argmin()),
        constant=_array(constant),
        gap=_array(part.levels - part.levels[0]),
        power=_array(modes - modes[0]),
    )


def _array(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
