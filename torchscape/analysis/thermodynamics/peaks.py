"""Peaks of the heat capacity, located to rounding, with the minima that each of them exchanges."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.analysis.thermodynamics.capacity import heat_capacity, heat_capacity_contributions, leading, slope
from torchscape.analysis.thermodynamics.superposition import as_temperatures, exponents
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor
from torchscape.validation import POSITIVE, Range

__all__ = ["Peak", "crossing_temperatures", "heat_capacity_peaks"]


@brief
@dataclasses.dataclass(frozen=True)
class Peak:
    """A local maximum of C_V(T).

    Attributes:
        temperature: where dC_V/dT = 0, to rounding.
        value: C_V there.
        derivative: [N], dp_a/dT there.
        contribution: [N], the part of C_V - baseline that each minimum adds there.
    """

    temperature: float
    value: float
    derivative: Float[Tensor, "N"]
    contribution: Float[Tensor, "N"]

    def gaining(self, share: float = 0.99) -> Int[Tensor, "K"]:
        """The minima that the peak fills on heating, fastest first, with ``share`` of the growth between them."""
        return leading(self.derivative.clamp(min=0), share)

    def losing(self, share: float = 0.99) -> Int[Tensor, "K"]:
        """The minima that the peak empties on heating, fastest first, with ``share`` of the loss between them."""
        return leading((-self.derivative).clamp(min=0), share)


def heat_capacity_peaks(
    network: Network,
    *,
    t_min: float | None = None,
    t_max: float | None = None,
    n_grid: int = 512,
    momenta: bool = False,
) -> list[Peak]:
    """Every local maximum of C_V between ``t_min`` and ``t_max``, by ascending temperature.

    Sign changes of dC_V/dT are bracketed on a logarithmic grid, to which the temperatures are added at which the
    most populated minimum changes (:func:`crossing_temperatures`), with their flanks: a first-order-like peak is
    far narrower than any grid. Each bracket is closed by Brent's method on the exact derivative. Cost O(n_grid N)
    after an O(N log N) sort.

    Args:
        network: the minima.
        t_min, t_max: the range searched; by default from half the lowest temperature at which all other minima
            together could outweigh the lowest, across the smallest energy gap, to twice the energy range (C_V of
            minima with equally many modes only falls beyond half of it). Where the numbers of modes differ the
            search goes ten times as far, and to the last crossing; peaks further up need ``t_max``.
        n_grid: points of the grid.
        momenta: only shifts the values.

    Raises:
        TorchscapeError: if the range is empty or not positive.

    Example:
        >>> import math
        >>> net = Network.of([0.0, 1.0], [], [], log_det=[0.0, -2 * math.log(50)], n_modes=4)
        >>> [peak] = heat_capacity_peaks(net)
        >>> round(peak.temperature, 8), round(peak.value, 8), peak.losing().tolist(), peak.gaining().tolist()
        (0.2083575, 6.75866374, [0], [1])
    """
    POSITIVE.or_none.check("heat_capacity_peaks", t_min=t_min, t_max=t_max)
    Range(low=3, whole=True).check("heat_capacity_peaks", n_grid=n_grid)
    if network.n_minima < 2:
        return []
    crossings, widths = _crossings(network)
    low, high = _default_range(network, crossings)
    low, high = low if t_min is None else t_min, high if t_max is None else t_max
    if t_min is None and t_max is None and not 0 < low < high:
        return []  # All energies equal and no crossing: C_V is flat.
    if not 0 < low < high:
        raise TorchscapeError(f"the temperature range [{low}, {high}] is empty: give 0 < t_min < t_max")
    # A crossing between minima of nearly equal entropy is wider than any range of temperatures.
    widths = widths.clip(max=50.0)
    flanks = [crossings * np.exp(step * widths) for step in (-8.0, -4.0, -2.0, 0.0, 2.0, 4.0, 8.0)]
    grid = np.unique(np.concatenate([np.geomspace(low, high, n_grid), *flanks]))
    grid = grid[(grid >= low) & (grid <= high)]
    rising = slope(network, as_temperatures(network, grid.tolist())).double().cpu().numpy() > 0
    tops = np.flatnonzero(rising[:-1] & ~rising[1:])
    return [_peak(network, _root(network, grid[i], grid[i + 1]), momenta) for i in tops]


def crossing_temperatures(network: Network) -> Float[Tensor, "K"]:
    """The temperatures at which the most populated minimum changes, ascending.

    ln Z_a = S_a - E_a / T is a straight line in 1/T where all minima have equally many modes; the most populated
    minima form the upper envelope of these lines, found in O(N log N) by a convex hull. Where the numbers of modes
    differ, the lines are taken at the largest of them and the result is approximate.

    Example:
        >>> net = Network.of([0.0, 1.0], [], [], log_degeneracy=[0.0, 4.0])
        >>> crossing_temperatures(net).tolist()
        [0.25]
    """
    return torch.as_tensor(_crossings(network)[0]).to(network.energy).sort().values


def _crossings(network: Network):
    """Crossing temperatures and the width of each crossing in ln T, about T / dE."""
    energy = network.levels.double().cpu().numpy()
    offset = (network.log_degeneracy - network.log_det / 2).double().cpu().numpy()
    order = np.lexsort((-offset, energy))
    # Walking up in energy (down in 1/T), a line enters the envelope only if its entropy exceeds all before it.
    best = np.maximum.accumulate(offset[order])
    hull: list[int] = []
    for a in order[np.concatenate([[True], offset[order][1:] > best[:-1]])].tolist():
        while len(hull) > 1 and _beta(energy, offset, hull[-1], a) >= _beta(energy, offset, hull[-2], hull[-1]):
            hull.pop()
        hull.append(a)
    lower, upper = np.array(hull[:-1], dtype=int), np.array(hull[1:], dtype=int)
    gap, gain = energy[upper] - energy[lower], offset[upper] - offset[lower]
    keep = gap > 0
    return gap[keep] / gain[keep], 1.0 / gain[keep]


def _beta(energy, offset, a: int, b: int) -> float:
    """1/T at which lines a and b meet."""
    gap = energy[b] - energy[a]
    return float((offset[b] - offset[a]) / gap) if gap > 0 else np.inf


def _default_range(network: Network, crossings) -> tuple[float, float]:
    energy = network.levels.double().sort().values
    gaps = energy.diff()
    scale = float(energy[-1] - energy[0])
    gaps = gaps[gaps > 0]
    if not len(gaps):
        return 0.0, 0.0
    # A gap between two minima of equal weight peaks at T = gap / 2.4. More entropy above moves the peak down:
    # that of one minimum to its crossing, that of N minima of equal energy by another ln N / gap in 1/T.
    steepest = 1.0 / float(crossings.min()) if len(crossings) else 0.0
    low = 0.5 / (steepest + (5.0 + np.log(len(energy))) / float(gaps.min()))
    # Of equally many modes, d(C_V)/d(1/T) = 2 var(E) / T - mu_3(E) / T^2 > 0 from T = scale / 2 on.
    if bool(exponents(network).max() == exponents(network).min()):
        return low, 2 * scale
    return low, max(20 * scale, 2 * float(crossings.max()) if len(crossings) else 0.0)


def _root(network: Network, low: float, high: float) -> float:
    from scipy.optimize import brentq

    def f(log_t: float) -> float:
        return float(slope(network, as_temperatures(network, float(np.exp(log_t))))[0])

    a, b = float(np.log(low)), float(np.log(high))
    fa, fb = f(a), f(b)
    if fa == 0 or fb == 0 or (fa > 0) == (fb > 0):
        return low if fa == 0 else high
    return float(np.exp(brentq(f, a, b, xtol=1e-15, rtol=8.9e-16)))


def _peak(network: Network, temperature: float, momenta: bool) -> Peak:
    value = float(heat_capacity(network, temperature, momenta=momenta).value)
    parts = heat_capacity_contributions(network, temperature)
    return Peak(temperature, value, parts.derivative, parts.value)
