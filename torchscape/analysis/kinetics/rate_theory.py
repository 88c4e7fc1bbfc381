"""Rate constants from harmonic transition-state theory, as the conductances of a reversible network."""

from __future__ import annotations

import dataclasses
import math

import torch

from torchscape.analysis.thermodynamics.superposition import log_occupation, log_partition
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor
from torchscape.validation import POSITIVE

__all__ = ["Rates", "log_conductances", "rates"]


@brief
@dataclasses.dataclass(frozen=True)
class Rates:
    """A reversible Markov chain in continuous time: populations, and the fluxes between them at equilibrium.

    Stored are the logarithms of p and of the symmetric conductances c_ij = k_{i<-j} p_j = k_{j<-i} p_i, so that
    detailed balance holds by construction and rates may span any number of orders of magnitude.

    Attributes:
        temperature: T, in units of the energy (k_B = 1).
        log_occupation: ln p_a, with sum p_a = 1; -inf nowhere.
        edges: distinct pairs (i < j) of adjacent minima.
        log_conductance: ln c_ij of each pair, parallel transition states summed.
        minima: positions of these states in the network they come from.
    """

    temperature: float
    log_occupation: Float[Tensor, "N"]
    edges: Int[Tensor, "2 P"]
    log_conductance: Float[Tensor, "P"]
    minima: Int[Tensor, "N"]

    @property
    def n_minima(self) -> int:
        return len(self.log_occupation)

    @property
    def log_rates(self) -> Float[Tensor, "2 P"]:
        """Row 0: ln k out of edges[0] into edges[1]; row 1: ln k back."""
        return self.log_conductance - self.log_occupation[self.edges]

    @property
    def log_escape_rates(self) -> Float[Tensor, "N"]:
        """ln of the sum of all rates out of each minimum, minus ln of its waiting time; -inf if there is none."""
        return _segment_logsumexp(self._arc_conductance, self._arcs[0], self.n_minima) - self.log_occupation

    @property
    def log_branching(self) -> Float[Tensor, "2 P"]:
        """ln of branching probabilities: row 0 from edges[0] to edges[1], row 1 back."""
        return self.log_rates - self.log_escape_rates[self.edges]

    @property
    def _arcs(self) -> Int[Tensor, "2 A"]:
        """Every pair in both directions: (from, to)."""
        return torch.cat([self.edges, self.edges.flip(0)], 1)

    @property
    def _arc_conductance(self) -> Float[Tensor, "A"]:
        return self.log_conductance.repeat(2)

    def matrix(self) -> Tensor:
        """The sparse [N N] rate matrix K of dp/dt = K p: K[a, b] = k_{a<-b}, each column sums to zero.

        Example:
            >>> net = Network.of([0.0, 0.0], [(0, 1)], [1.0], n_modes=1)
            >>> (rates(net, 1.0).matrix().to_dense() * 2 * math.pi * math.e).round(decimals=12).tolist()
            [[-1.0, 1.0], [1.0, -1.0]]
        """
        start, end = self._arcs
        off = self.log_rates.exp().reshape(-1)
        here = torch.arange(self.n_minima, device=start.device)
        index = torch.cat([torch.stack([end, start]), torch.stack([here, here])], 1)
        values = torch.cat([off, -self.log_escape_rates.exp()])
        size = (self.n_minima, self.n_minima)
        return torch.sparse_coo_tensor(index, values, size, check_invariants=True).coalesce()


def rates(network: Network, temperature: float) -> Rates:
    """Harmonic transition-state theory for every pair of adjacent minima, in both directions.

    k_{a<-b} = sum_s (g_s / g_b) (1 / 2 pi) exp[(ln prod mu_b - ln prod mu_s) / 2 - (E_s - E_b) / T],

    over the transition states s between a and b; g = 2 n! / o counts symmetric images (o is the order of the
    point group, so that g_s / g_b = o_b / o_s), products run over positive Hessian eigenvalues, masses are one.
    Where the numbers of modes of b and s do not differ by exactly one, a factor T^((kappa_s + 1 - kappa_b) / 2)
    keeps detailed balance with :func:`~torchscape.analysis.thermodynamics.occupation`. Cost O(E log E).

    Args:
        network: minima and transition states with their curvatures.
        temperature: T, in units of the energy.

    Raises:
        TorchscapeError: if the temperature is not positive, or a ``log_det`` or ``ts_log_det`` is NaN.

    References: Wales, *Energy Landscapes* (2003), doi 10.1017/CBO9780511721724, section 7.2.1;
    Vineyard (1957), doi 10.1016/0022-3697(57)90059-8.

    Example:
        >>> net = Network.of([0.0, 1.0], [(0, 1)], [3.0], n_modes=1)
        >>> (rates(net, 1.0).log_rates + math.log(2 * math.pi)).tolist()
        [[-3.0], [-2.0]]
    """
    POSITIVE.check("rates", temperature=temperature)
    bad = int(torch.isnan(network.ts_log_det).sum())
    if bad:
        raise TorchscapeError(
            f"ts_log_det is NaN for {bad} of {network.n_edges} transition states: compute their Hessian "
            "eigenvalues (saddles.characterise) before asking for rates"
        )
    shifted = in_float64(network)
    log_p = log_occupation(shifted, float(temperature))
    conductance = log_conductances(network, temperature)
    low, high = network.edges.amin(0), network.edges.amax(0)
    pairs, which = torch.unique(low * network.n_minima + high, return_inverse=True)
    edges = torch.stack([pairs // network.n_minima, pairs % network.n_minima])
    log_c = _segment_logsumexp(conductance, which, len(pairs))
    minima = torch.arange(network.n_minima, device=edges.device)
    return Rates(float(temperature), log_p, edges, log_c, minima)


def log_conductances(network: Network, temperature: float) -> Float[Tensor, "E"]:
    """ln of the equilibrium flux k_{a<-b} p_b = k_{b<-a} p_a over each single transition state."""
    POSITIVE.check("log_conductances", temperature=temperature)
    shifted = in_float64(network)
    return (
        network.ts_log_degeneracy.double()
        - shifted.ts_energy / temperature
        - network.ts_log_det.double() / 2
        + (shifted.ts_n_modes.double() + 1) / 2 * math.log(temperature)
        - math.log(2 * math.pi)
        - log_partition(shifted, float(temperature))
    )


def in_float64(network: Network) -> Network:
    """In float64 and from the lowest energy up, whatever the network's dtype: energies are divided by T.

    Only differences of numbers of modes matter: where they are unknown of all points, minima have equally many,
    and transition states one less.
    """
    lowest = network.levels.double().min() if network.n_minima else 0.0
    modes, ts_modes = network.n_modes, network.ts_n_modes
    if network.n_minima and bool((modes < 0).all()):
        modes, ts_modes = torch.ones_like(modes), torch.zeros_like(ts_modes)
    return dataclasses.replace(
        network,
        n_modes=modes,
        ts_n_modes=ts_modes,
        energy=network.levels.double() - lowest,
        ts_energy=network.ts_levels.double() - lowest,
        log_det=network.log_det.double(),
        log_degeneracy=network.log_degeneracy.double(),
        energy_tol=network.resolution,
    )


def _segment_logsumexp(values: Float[Tensor, "A"], segment: Int[Tensor, "A"], n: int) -> Float[Tensor, "S"]:
    """ln of the sum of exp over each of n segments; -inf for an empty one."""
    top = values.new_full((n,), -torch.inf).scatter_reduce(0, segment, values, "amax")
    finite = torch.where(torch.isneginf(top), torch.zeros_like(top), top)
    total = values.new_zeros(n).scatter_add(0, segment, (values - finite[segment]).exp())
    return total.log() + finite
