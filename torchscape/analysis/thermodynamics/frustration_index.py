"""Frustration: how much of the population sits behind barriers that are high for the energy to be gained."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.analysis.thermodynamics.superposition import like_energies, log_occupation, over_temperatures
from torchscape.analysis.topology import minimax_to
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Tensor

__all__ = ["Frustration", "frustration"]


@brief
@dataclasses.dataclass(frozen=True)
class Frustration:
    """The frustration index on a grid of temperatures.

    Attributes:
        temperatures: [*T], one or any number of them.
        value: [*T], F(T).
        normalised: [*T], F~(T), with p_a / (1 - p_gmin) in the place of p_a: comparable between landscapes.
        ratio: [N], (E_a^ts - E_gmin) / (E_a - E_gmin) of every minimum, at least 1; NaN for the global minimum.
    """

    temperatures: Float[Tensor, "*T"]
    value: Float[Tensor, "*T"]
    normalised: Float[Tensor, "*T"]
    ratio: Float[Tensor, "N"]


def frustration(network: Network, temperatures: float | list[float] | Float[Tensor, "*T"]) -> Frustration:
    """The frustration index of de Souza et al. over temperatures, as in Niroomand et al. (2024), eq. 3.

    F(T) = sum_{a != gmin} p_a(T) (E_a^ts - E_gmin) / (E_a - E_gmin),

    where E_a^ts is the highest transition state on the lowest path from a to the global minimum. The normalised
    F~ is evaluated from logarithms of p_a, and therefore stays exact at temperatures where 1 - p_gmin underflows.
    A minimum whose energy equals the global minimum's (within ``network.resolution``) has an infinite ratio, and
    so has the index, unless its population is zero. Cost O(E log E + T N).

    Args:
        network: connected: every minimum needs a path to the global one.
        temperatures: in units of the energy.

    Raises:
        TorchscapeError: if some minima have no path to the global minimum, if there are fewer than two minima,
            if a temperature is not positive, or a ``log_det`` is NaN.

    References: de Souza, Stevenson, Niblett, Farrell & Wales (2017), doi 10.1063/1.4977794;
    Niroomand et al. (2024), doi 10.1039/d3dd00204g.

    Example:
        >>> net = Network.of([0.0, 1.0], [(0, 1)], [3.0])
        >>> result = frustration(net, [0.1, 1e3])
        >>> result.normalised.round(decimals=9).tolist(), result.value.round(decimals=2).tolist()
        ([3.0, 3.0], [0.0, 1.5])
    """
    if network.n_minima < 2:
        raise TorchscapeError("frustration compares minima with the global one: it needs at least two minima")
    bottom = network.global_minimum
    top = minimax_to(network, bottom)
    unreachable = int(torch.isinf(top).sum())
    if unreachable:
        raise TorchscapeError(
            f"{unreachable} of {network.n_minima} minima have no known path to the global minimum: connect "
            "them, or analyse one component with network.largest_component()"
        )
    others = torch.arange(network.n_minima, device=network.energy.device) != bottom
    levels = network.levels
    ratio = (top - levels[bottom]) / (levels - levels[bottom])
    log_ratio = ratio[others].log()

    def indices(t: Float[Tensor, "T"]) -> Float[Tensor, "T 2"]:
        log_p = log_occupation(network, t)[:, others]
        log_f = torch.where(torch.isneginf(log_p), log_p, log_p + log_ratio).logsumexp(1)
        return torch.stack([log_f, log_f - log_p.logsumexp(1)], 1).exp()

    value, normalised = over_temperatures(network, temperatures, indices).unbind(-1)
    t = like_energies(network, temperatures)
    ratio = torch.where(others, ratio, torch.full_like(ratio, torch.nan))
    return Frustration(t, value, normalised, ratio)
