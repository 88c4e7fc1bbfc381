"""Heat capacity of the harmonic superposition, what each minimum contributes, and the peaks.

A peak of C_V(T) is a temperature at which the population moves between qualitatively different minima;
the sign of dp_a/dT says which minima lose and which gain (Wales 2017, doi 10.1103/PhysRevE.95.030105;
Niroomand et al. 2024, doi 10.1039/d3dd00204g, eq. 5).
"""

from __future__ import annotations

import dataclasses

import torch

from torchscape.analysis.thermodynamics.superposition import (
    exponents,
    like_energies,
    log_occupation,
    over_temperatures,
)
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor

__all__ = [
    "Contributions",
    "HeatCapacity",
    "heat_capacity",
    "heat_capacity_contributions",
    "partial_heat_capacities",
]


@brief
@dataclasses.dataclass(frozen=True)
class Contributions:
    """What each minimum adds to C_V at each temperature.

    Attributes:
        temperatures: [*T], one or any number of them.
        derivative: [*T N], g_a(T) = dp_a/dT.
        value: [*T N], g_a (U_a - <U>), never negative; their sum over minima is C_V less its baseline.
    """

    temperatures: Float[Tensor, "*T"]
    derivative: Float[Tensor, "*T N"]
    value: Float[Tensor, "*T N"]

    def gaining(self, row: int = 0, share: float = 0.99) -> Int[Tensor, "K"]:
        """The minima whose population grows with T, fastest first, that carry ``share`` of the growth."""
        return leading(self._at(row).clamp(min=0), share)

    def losing(self, row: int = 0, share: float = 0.99) -> Int[Tensor, "K"]:
        """The minima whose population shrinks with T, fastest first, that carry ``share`` of the loss."""
        return leading((-self._at(row)).clamp(min=0), share)

    def _at(self, row: int) -> Float[Tensor, "N"]:
        return self.derivative.reshape(-1, self.derivative.shape[-1])[row]


@brief
@dataclasses.dataclass(frozen=True)
class HeatCapacity:
    """C_V on a grid of temperatures, split by the sign of dp_a/dT.

    Attributes:
        temperatures: [*T], one or any number of them.
        value: [*T], C_V = baseline + gaining + losing.
        baseline: [*T], sum_a p_a k_a: constant where all minima have equally many modes.
        gaining: [*T], the sum over minima with dp_a/dT > 0 (C+ of EL4ML eq. 5).
        losing: [*T], the sum over minima with dp_a/dT < 0 (C-).
        mean_energy: [*T].
    """

    temperatures: Float[Tensor, "*T"]
    value: Float[Tensor, "*T"]
    baseline: Float[Tensor, "*T"]
    gaining: Float[Tensor, "*T"]
    losing: Float[Tensor, "*T"]
    mean_energy: Float[Tensor, "*T"]


def heat_capacity(
    network: Network, temperatures: float | list[float] | Float[Tensor, "*T"], *, momenta: bool = False
) -> HeatCapacity:
    """C_V(T) = d<U>/dT = sum_a p_a k_a + sum_a g_a (U_a - <U>), with g_a = dp_a/dT = p_a (U_a - <U>) / T^2.

    U_a = E_a + k_a T; where all minima have equally many modes, U_a - <U> is E_a - <E> and this is eq. 5 of EL4ML.
    The sum has no cancellation, so that C_V keeps its relative accuracy at any temperature. Cost O(T N), in
    chunks of temperatures; the [T N] table of single contributions is :func:`heat_capacity_contributions`.

    Args:
        network: the minima.
        temperatures: in units of the energy (k_B = 1); an empty list has values at none.
        momenta: adds the kinetic max kappa / 2 to the baseline.

    Raises:
        TorchscapeError: if a temperature is no positive number, a ``log_det`` is NaN, or the number of modes is
            unknown, as that of a PATHSAMPLE folder without coordinates and NATOMS.

    Example:
        >>> import math
        >>> net = Network.of([0.0, 1.0], [], [], log_det=[0.0, -2 * math.log(50)], n_modes=4)
        >>> [round(c, 10) for c in heat_capacity(net, [0.1, 0.2]).value.tolist()]
        [2.2259725705, 6.7123927446]
    """

    def columns(t: Float[Tensor, "T"]) -> Float[Tensor, "T 4"]:
        p, mean, spread, g = _moments(network, t)
        value = g * spread
        baseline = (p * exponents(network, momenta)).sum(1)
        kinetic = t * (exponents(network, momenta) - exponents(network)).max()
        zero = torch.zeros_like(value)
        gaining, losing = torch.where(g > 0, value, zero).sum(1), torch.where(g < 0, value, zero).sum(1)
        return torch.stack([baseline, gaining, losing, mean + kinetic], 1)

    baseline, gaining, losing, mean = over_temperatures(network, temperatures, columns).unbind(-1)
    t = like_energies(network, temperatures)
    return HeatCapacity(t, baseline + gaining + losing, baseline, gaining, losing, mean)


def heat_capacity_contributions(
    network: Network, temperatures: float | list[float] | Float[Tensor, "*T"]
) -> Contributions:
    """The contribution g_a (U_a - <U>) of every minimum to C_V, and g_a = dp_a/dT itself, as [*T N] tables.

    Example:
        >>> net = Network.of([0.0, 1.0, 1.0], [], [])
        >>> result = heat_capacity_contributions(net, 0.5)
        >>> result.losing().tolist(), sorted(result.gaining().tolist())
        ([0], [1, 2])
    """

    def both(t: Float[Tensor, "T"]) -> Float[Tensor, "T 2 N"]:
        _, _, spread, g = _moments(network, t)
        return torch.stack([g, g * spread], 1)

    derivative, value = over_temperatures(network, temperatures, both).unbind(-2)
    t = like_energies(network, temperatures)
    return Contributions(t, derivative, value)


def partial_heat_capacities(
    network: Network,
    temperatures: float | list[float] | Float[Tensor, "*T"],
    counts: list[int],
    *,
    momenta: bool = False,
) -> Float[Tensor, "M *T"]:
    """C_V from the lowest m minima only, for each m in ``counts``: which minima does a peak need?

    As in Ballard et al. (2017), doi 10.1039/c7cp01108c, Fig. 3. Cost O(T sum(counts)).

    Raises:
        TorchscapeError: if a count is not between 1 and N.

    Example:
        >>> net = Network.of([0.0, 1.0, 5.0], [], [])
        >>> partial_heat_capacities(net, [0.4], [1, 2, 3]).shape
        torch.Size([3, 1])
    """
    order = network.levels.argsort(stable=True)
    wrong = [m for m in counts if not 1 <= m <= network.n_minima]
    if wrong or not counts:
        raise TorchscapeError(f"counts must lie between 1 and {network.n_minima}, not {wrong or counts}")
    parts = [heat_capacity(network.subset(order[:m]), temperatures, momenta=momenta).value for m in counts]
    return torch.stack(parts)


def slope(network: Network, temperatures: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    """dC_V/dT = (3 cov(U, k) + mu_3(U) / T^2 - 2 var(U) / T) / T^2, moments over the occupation probabilities."""

    def derivative(t: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        p, _, spread, _ = _moments(network, t)
        k = exponents(network)
        variance, third = (p * spread**2).sum(1), (p * spread**3).sum(1)
        covariance = (p * spread * k).sum(1)
        return (3 * covariance + third / t**2 - 2 * variance / t) / t**2

    return over_temperatures(network, temperatures, derivative)


def leading(values: Float[Tensor, "N"], share: float) -> Int[Tensor, "K"]:
    """Positions of the largest positive values, descending, that together make up ``share`` of their sum."""
    order = values.argsort(descending=True, stable=True)
    cumulative = values[order].cumsum(0)
    if not bool(cumulative[-1] > 0):
        return order[:0]
    n = int((cumulative < share * cumulative[-1]).sum()) + 1
    return order[: min(n, int((values > 0).sum()))]


def _moments(network: Network, t: Float[Tensor, "T"]):
    """p_a [T N], <U> [T], U_a - <U> [T N] and g_a = dp_a/dT [T N]."""
    p = log_occupation(network, t).exp()
    # From the lowest energy up: <U> of energies far from zero would lose digits that the spread needs.
    lowest, power = network.levels.min(), exponents(network)
    u = network.levels - lowest + t[:, None] * (power - power.min())
    mean = (p * u).sum(1, keepdim=True)
    spread = u - mean
    return p, (mean + lowest).squeeze(1) + t * power.min(), spread, p * spread / t[:, None] ** 2
