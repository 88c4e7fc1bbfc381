"""Rates between sets of minima: first-passage times, committors, rate constants and net fluxes, exact and stable.

All of it is graph transformation (:mod:`torchscape.analysis.elimination`): no rate matrix is ever inverted,
nothing is subtracted, and answers keep their digits however far the rates are apart. Results come as logarithms
where they may leave the range of float64. Cost: one or a few eliminations, O(E log E) on tree-like networks. Where
a large dense core would be left, the equations are solved iteratively, at O(E log E) too, and every number is
certified to a relative 1e-8 (:mod:`torchscape.analysis.kinetics.refinement`).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.analysis.kinetics.rate_theory import Rates
from torchscape.analysis.kinetics.shorted import Minima, Shorted, flux_out_of, two_sets
from torchscape.analysis.kinetics.transformation import as_arrays, positions
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.types import Float, Int, Tensor

__all__ = [
    "NetFlux",
    "RateConstants",
    "committors",
    "log_committors",
    "log_mean_first_passage_times",
    "mean_first_passage_times",
    "net_flux",
    "rate_constants",
]


@dataclasses.dataclass(frozen=True)
class RateConstants:
    """Phenomenological rate constants for A <- B; ln of each. B starts in local equilibrium, p_b / p_B.

    Attributes:
        log_mfpt: of sum_b (p_b / p_B) T_Ab, the mean first-passage time; +inf if part of B cannot reach A.
        log_k_mfpt: of its inverse.
        log_k: of sum_b (p_b / p_B) / T_Ab, the graph-transformation rate constant.
        log_k_steady_state: of (1 / p_B) sum_b p_b C_Ab / tau_b, C_Ab the probability to reach A before any of B:
            minima in neither set are in steady state, returns to B cost no time.
        log_k_non_steady_state: of (1 / p_B) sum_b p_b C_Ab / t_b, t_b the waiting time after all minima in neither
            set have been eliminated.
    """

    log_mfpt: float
    log_k_mfpt: float
    log_k: float
    log_k_steady_state: float
    log_k_non_steady_state: float

    @property
    def mfpt(self) -> float:
        return float(np.exp(self.log_mfpt))

    @property
    def k(self) -> float:
        return float(np.exp(self.log_k))


@brief
@dataclasses.dataclass(frozen=True)
class NetFlux:
    """The net flux of reactive trajectories from B to A at equilibrium.

    Attributes:
        edges: [2 P], the pairs of the rates.
        fraction: [P], the net flux from edges[0] to edges[1] as a fraction of the total, negative the other way.
        log_total: ln of the total flux J = sum over edges out of B: k_SS p_B.
        residual: largest |in - out| of a minimum in neither set, as a fraction of the total.
    """

    edges: Int[Tensor, "2 P"]
    fraction: Float[Tensor, "P"]
    log_total: float
    residual: float


def log_mean_first_passage_times(
    rates: Rates, target: Minima, *, method: str = "auto", progress: bool = False
) -> Float[Tensor, "N"]:
    """ln T_Ab, the logarithm of the mean time from each minimum b to the first visit of any minimum in A.

    Solves sum_k c_bk (T_b - T_k) = p_b with T = 0 on A by graph transformation. Cost: one elimination,
    as of :func:`~torchscape.analysis.graph_transformation`.

    Args:
        rates: the network of rates.
        target: positions of the minima in A.
        method: as for :func:`~torchscape.analysis.graph_transformation`.
        progress: show progress bars, with the time that is left.

    Returns:
        [N]; -inf on A itself, +inf for minima with no path to A.

    Raises:
        TorchscapeError: if ``target`` is empty, repeats or lies outside.

    References: Trygubenko & Wales (2006), doi 10.1063/1.2198806; Wales (2009), doi 10.1063/1.3133782.
    """
    a = positions(target, rates.n_minima, "target")
    problem = Shorted.of(rates, [a], method, progress=progress)
    return problem.on_minima(problem.factors.solve(problem.log_weight), unreachable=np.inf)


def mean_first_passage_times(
    rates: Rates, target: Minima, *, method: str = "auto", progress: bool = False
) -> Float[Tensor, "N"]:
    """T_Ab for every minimum b, as :func:`log_mean_first_passage_times`; 0 on A, inf where there is no path.

    Cost: one elimination, as of :func:`~torchscape.analysis.graph_transformation`.

    Example:
        >>> import math
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> chain = rates(Network.of([0.0, 0.0, 0.0], [(0, 1), (1, 2)], [1.0, 1.0], n_modes=1), 1.0)
        >>> k = math.exp(-1) / (2 * math.pi)
        >>> (k * mean_first_passage_times(chain, 0)).round(decimals=9).tolist()
        [0.0, 2.0, 3.0]
    """
    return log_mean_first_passage_times(rates, target, method=method, progress=progress).exp()


def log_committors(
    rates: Rates, a: Minima, b: Minima, *, method: str = "auto", progress: bool = False
) -> Float[Tensor, "N"]:
    """ln of the probability of each minimum to reach A before B: 0 on A, -inf on B, NaN if neither can be reached.

    Small committors keep their relative accuracy; for committors near one, ask for those with A and B exchanged.
    Cost: one elimination, as of :func:`~torchscape.analysis.graph_transformation`.
    """
    sets = two_sets(rates, a, b)
    problem = Shorted.of(rates, sets, method, progress=progress)
    return problem.on_minima(problem.committor(), unreachable=np.nan)


def committors(
    rates: Rates, a: Minima, b: Minima, *, method: str = "auto", progress: bool = False
) -> Float[Tensor, "N"]:
    """The probability of each minimum to reach A before B, as :func:`log_committors`.

    Cost: one elimination, as of :func:`~torchscape.analysis.graph_transformation`.

    Example:
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> chain = rates(Network.of([0.0, 0.0, 0.0], [(0, 1), (1, 2)], [1.0, 1.0], n_modes=1), 1.0)
        >>> committors(chain, 0, 2).round(decimals=9).tolist()
        [1.0, 0.5, 0.0]
    """
    return log_committors(rates, a, b, method=method, progress=progress).exp()


def rate_constants(
    rates: Rates, a: Minima, b: Minima, *, method: str = "auto", progress: bool = False
) -> RateConstants:
    """Rate constants A <- B between two disjoint sets of minima; exchange the sets for the way back.

    For a B that relaxes much faster than it leaves, all definitions agree; how far they differ says how well B is
    separated. Where no path exists the rate constants are 0 (ln = -inf) and the passage time is infinite.
    Cost: two eliminations, as of :func:`~torchscape.analysis.graph_transformation`.

    Args:
        rates: the network of rates.
        a: positions of the product minima.
        b: positions of the reactant minima.
        method: as for :func:`~torchscape.analysis.graph_transformation`.
        progress: show progress bars, with the time that is left.

    Raises:
        TorchscapeError: if a set is empty, repeats, lies outside, or the two overlap.

    References: Wales (2002), doi 10.1080/00268970210162691; Trygubenko & Wales (2006), doi 10.1063/1.2198806;
    Wales (2009), doi 10.1063/1.3133782; Swinburne & Wales (2020), doi 10.1021/acs.jctc.9b01211.

    Example:
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> two = rates(Network.of([0.0, 1.0], [(0, 1)], [3.0]), 0.1)
        >>> result = rate_constants(two, 0, 1)
        >>> round(result.log_k - float(two.log_rates[1, 0]), 9), round(result.log_k + result.log_mfpt, 9)
        (0.0, 0.0)
    """
    set_a, set_b = two_sets(rates, a, b)
    times = log_mean_first_passage_times(rates, torch.as_tensor(set_a), method=method, progress=progress)
    return rate_constants_from(rates, set_a, set_b, times, method=method, progress=progress)


def rate_constants_from(
    rates: Rates,
    set_a: np.ndarray,
    set_b: np.ndarray,
    log_times: Float[Tensor, "N"],
    *,
    method: str = "auto",
    progress: bool = False,
) -> RateConstants:
    """The rate constants A <- B, where the passage times to A are known already: one more elimination."""
    log_p = rates.log_occupation.double().cpu().numpy()[set_b]
    share = log_p - np.logaddexp.reduce(log_p)
    log_t = log_times.double().cpu().numpy()[set_b]
    log_mfpt = float(np.logaddexp.reduce(share + log_t))
    log_k = float(np.logaddexp.reduce(share - log_t))
    # B is kept node by node here: what arrives at each b is the population that waits on its behalf.
    problem = Shorted.of(rates, [set_a], method, separate=set_b, progress=progress)
    log_q = problem.on_minima(problem.committor(), unreachable=np.nan).double().cpu().numpy()
    flux = flux_out_of(rates, set_b, log_q)
    waiting = problem.on_minima(problem.factors.forward(problem.log_weight), unreachable=np.nan)
    waiting_b = waiting.double().cpu().numpy()[set_b]
    steady = float(np.logaddexp.reduce(flux) - np.logaddexp.reduce(log_p))
    moving = ~np.isneginf(flux)
    unsteady = float(np.logaddexp.reduce((share + flux - waiting_b)[moving])) if moving.any() else -np.inf
    return RateConstants(log_mfpt, -log_mfpt, log_k, steady, unsteady)


def net_flux(rates: Rates, a: Minima, b: Minima, *, method: str = "auto", progress: bool = False) -> NetFlux:
    """The net flux J_ij = c_ij (q_j - q_i) that reactive trajectories from B to A carry over each edge.

    Differences of committors lose digits where exchange is fast; they are recovered by iterative refinement of the
    flux balance with the same factors, and what imbalance remains is reported. Cost: one elimination, as of
    :func:`~torchscape.analysis.graph_transformation`.

    Raises:
        TorchscapeError: if a set is empty, repeats, lies outside, the two overlap, or no path joins them.

    References: Metzner, Schütte & Vanden-Eijnden (2009), doi 10.1137/070699500; Berezhkovskii, Hummer & Szabo
    (2009), doi 10.1063/1.3139063.

    Example:
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> ring = Network.of([0.0] * 4, [(0, 1), (1, 3), (0, 2), (2, 3)], [1.0, 1.0, 2.0, 2.0])
        >>> flux = net_flux(rates(ring, 1.0), 3, 0)
        >>> flux.edges.T.tolist(), flux.fraction.round(decimals=4).tolist()
        ([[0, 1], [0, 2], [1, 3], [2, 3]], [0.7311, 0.2689, 0.7311, 0.2689])
    """
    set_a, set_b = two_sets(rates, a, b)
    problem = Shorted.of(rates, [set_a, set_b], method, progress=progress)
    log_q = problem.on_minima(problem.committor(), unreachable=np.nan).double().cpu().numpy()
    log_r = problem.on_minima(problem.committor(of=1), unreachable=np.nan).double().cpu().numpy()
    i, j, log_c, _ = as_arrays(rates)
    log_total = float(np.logaddexp.reduce(flux_out_of(rates, set_b, log_q)))
    if np.isneginf(log_total):
        raise TorchscapeError("no path of transition states joins the two sets: there is no flux between them")
    fraction = np.zeros(len(i))
    use = ~np.isnan(log_q[i])
    log_c, i, j = log_c[use] - log_total, i[use], j[use]
    # From whichever of q and 1 - q is the smaller, as both are accurate where they are small.
    flux = np.where(
        np.exp(log_q[i]) + np.exp(log_q[j]) < 0.8, _step(log_c, log_q, i, j), -_step(log_c, log_r, i, j)
    )
    inside = ~np.isin(np.arange(rates.n_minima), np.concatenate([set_a, set_b]))
    residual = np.inf
    for _ in range(8):
        excess = np.bincount(i, flux, rates.n_minima) - np.bincount(j, flux, rates.n_minima)
        excess[~inside] = 0.0
        worst = float(np.abs(excess).max())
        if not worst < residual / 2:
            break
        residual, best = worst, flux
        flux = flux + _correction(problem, excess, log_c, log_total, i, j)
    fraction[use] = best
    return NetFlux(rates.edges, torch.as_tensor(fraction).to(rates.log_conductance), log_total, residual)


def _step(log_c: np.ndarray, log_u: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """c (u_j - u_i) from logarithms."""
    high, low = np.maximum(log_u[i], log_u[j]), np.minimum(log_u[i], log_u[j])
    with np.errstate(invalid="ignore"):
        size = np.where(np.isneginf(high), 0.0, np.exp(log_c + high) * -np.expm1(low - high))
    return np.where(log_u[j] > log_u[i], size, -size)


def _correction(problem: Shorted, excess, log_c, log_total, i, j) -> np.ndarray:
    """The flux c (psi_j - psi_i) that cancels the excess outflow of every minimum, all in units of the total."""
    psi = np.zeros(len(excess))
    shift = 0.0
    for sign in (1.0, -1.0):
        with np.errstate(divide="ignore"):
            source = np.log(np.maximum(sign * excess, 0.0)) + log_total
        if np.isneginf(source).all():
            continue
        log_u = problem.factors.solve(problem.pooled(source))
        log_u = problem.on_minima(log_u, unreachable=-np.inf).double().cpu().numpy()
        if sign > 0:
            shift = float(log_u.max())
        psi += sign * np.exp(log_u - shift)
    difference = psi[j] - psi[i]
    return np.exp(log_c + shift) * difference
