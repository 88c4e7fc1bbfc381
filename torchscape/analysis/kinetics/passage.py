"""Rates between sets of minima: first-passage times, committors, rate constants and net fluxes, exact and stable.

All of it is graph transformation (:mod:`torchscape.analysis.elimination`): no rate matrix is ever inverted,
nothing is subtracted, and answers keep their digits however far the rates are apart. Results come as logarithms
where they may leave the range of float64. Cost: one or a few eliminations, O(E log E) on tree-like networks, up to
O(N^3) on expander-like ones (10^4 minima and 5 x 10^4 random transition states: 5 s on one core).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.analysis.kinetics.elimination import Elimination
from torchscape.analysis.kinetics.rate_theory import Rates
from torchscape.analysis.kinetics.transformation import as_arrays, check_method, positions, span, within_reach
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

Minima = int | list[int] | Int[Tensor, "K"]


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


def log_mean_first_passage_times(rates: Rates, target: Minima, *, method: str = "auto") -> Float[Tensor, "N"]:
    """ln T_Ab, the logarithm of the mean time from each minimum b to the first visit of any minimum in A.

    Solves sum_k c_bk (T_b - T_k) = p_b with T = 0 on A by graph transformation. Cost: one elimination, between
    O(E log E) on tree-like networks and O(N^3) on expander-like ones.

    Args:
        rates: the network of rates.
        target: positions of the minima in A.
        method: "auto", or "sparse" / "dense" elimination throughout.

    Returns:
        [N]; -inf on A itself, +inf for minima with no path to A.

    Raises:
        TorchscapeError: if ``target`` is empty, repeats or lies outside.

    References: Trygubenko & Wales (2006), doi 10.1063/1.2198806; Wales (2009), doi 10.1063/1.3133782.
    """
    a = positions(target, rates.n_minima, "target")
    problem = _Problem.of(rates, [a], method)
    return problem.on_minima(problem.factors.solve(problem.log_weight), unreachable=np.inf)


def mean_first_passage_times(rates: Rates, target: Minima, *, method: str = "auto") -> Float[Tensor, "N"]:
    """T_Ab for every minimum b, as :func:`log_mean_first_passage_times`; 0 on A, inf where there is no path.

    Cost: one elimination, between O(E log E) on tree-like networks and O(N^3) on expander-like ones.

    Example:
        >>> import math
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> chain = rates(Network.of([0.0, 0.0, 0.0], [(0, 1), (1, 2)], [1.0, 1.0], n_modes=1), 1.0)
        >>> k = math.exp(-1) / (2 * math.pi)
        >>> (k * mean_first_passage_times(chain, 0)).round(decimals=9).tolist()
        [0.0, 2.0, 3.0]
    """
    return log_mean_first_passage_times(rates, target, method=method).exp()


def log_committors(rates: Rates, a: Minima, b: Minima, *, method: str = "auto") -> Float[Tensor, "N"]:
    """ln of the probability of each minimum to reach A before B: 0 on A, -inf on B, NaN if neither can be reached.

    Small committors keep their relative accuracy; for committors near one, ask for those with A and B exchanged.
    Cost: one elimination, between O(E log E) on tree-like networks and O(N^3) on expander-like ones.
    """
    sets = _two_sets(rates, a, b)
    problem = _Problem.of(rates, sets, method)
    return problem.on_minima(problem.committor(), unreachable=np.nan)


def committors(rates: Rates, a: Minima, b: Minima, *, method: str = "auto") -> Float[Tensor, "N"]:
    """The probability of each minimum to reach A before B, as :func:`log_committors`.

    Cost: one elimination, between O(E log E) on tree-like networks and O(N^3) on expander-like ones.

    Example:
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> chain = rates(Network.of([0.0, 0.0, 0.0], [(0, 1), (1, 2)], [1.0, 1.0], n_modes=1), 1.0)
        >>> committors(chain, 0, 2).round(decimals=9).tolist()
        [1.0, 0.5, 0.0]
    """
    return log_committors(rates, a, b, method=method).exp()


def rate_constants(rates: Rates, a: Minima, b: Minima, *, method: str = "auto") -> RateConstants:
    """Rate constants A <- B between two disjoint sets of minima; exchange the sets for the way back.

    For a B that relaxes much faster than it leaves, all definitions agree; how far they differ says how well B is
    separated. Where no path exists the rate constants are 0 (ln = -inf) and the passage time is infinite.
    Cost: three eliminations, each between O(E log E) on tree-like networks and O(N^3) on expander-like ones.

    Args:
        rates: the network of rates.
        a: positions of the product minima.
        b: positions of the reactant minima.
        method: "auto", or "sparse" / "dense" elimination throughout.

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
    set_a, set_b = _two_sets(rates, a, b)
    log_p = rates.log_occupation.double().cpu().numpy()[set_b]
    share = log_p - np.logaddexp.reduce(log_p)
    log_t = (
        log_mean_first_passage_times(rates, torch.as_tensor(set_a), method=method).double().cpu().numpy()[set_b]
    )
    log_mfpt = float(np.logaddexp.reduce(share + log_t))
    log_k = float(np.logaddexp.reduce(share - log_t))
    flux = _flux_out_of(rates, set_a, set_b, method)
    # B is kept node by node here: what arrives at each b is the population that waits on its behalf.
    problem = _Problem.of(rates, [set_a], method, separate=set_b)
    waiting = problem.on_minima(problem.factors.forward(problem.log_weight), unreachable=np.nan)
    waiting_b = waiting.double().cpu().numpy()[set_b]
    steady = float(np.logaddexp.reduce(flux) - np.logaddexp.reduce(log_p))
    moving = ~np.isneginf(flux)
    unsteady = float(np.logaddexp.reduce((share + flux - waiting_b)[moving])) if moving.any() else -np.inf
    return RateConstants(log_mfpt, -log_mfpt, log_k, steady, unsteady)


def net_flux(rates: Rates, a: Minima, b: Minima, *, method: str = "auto") -> NetFlux:
    """The net flux J_ij = c_ij (q_j - q_i) that reactive trajectories from B to A carry over each edge.

    Differences of committors lose digits where exchange is fast; they are recovered by iterative refinement of the
    flux balance with the same factors, and what imbalance remains is reported. Cost: two eliminations, each
    between O(E log E) on tree-like networks and O(N^3) on expander-like ones.

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
    set_a, set_b = _two_sets(rates, a, b)
    problem = _Problem.of(rates, [set_a, set_b], method)
    log_q = problem.on_minima(problem.committor(), unreachable=np.nan).double().cpu().numpy()
    log_r = problem.on_minima(problem.committor(of=1), unreachable=np.nan).double().cpu().numpy()
    i, j, log_c, _ = as_arrays(rates)
    log_total = float(np.logaddexp.reduce(_flux_out_of(rates, set_a, set_b, method)))
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


def _correction(problem: _Problem, excess, log_c, log_total, i, j) -> np.ndarray:
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


def _flux_out_of(rates: Rates, a: np.ndarray, b: np.ndarray, method: str) -> np.ndarray:
    """ln of the reactive flux out of each b in B: sum_k c_bk q_k over the neighbours k outside B."""
    problem = _Problem.of(rates, [a, b], method)
    log_q = problem.on_minima(problem.committor(), unreachable=-np.inf).double().cpu().numpy()
    i, j, log_c, _ = as_arrays(rates)
    start, end, log_c = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([log_c, log_c])
    place = np.full(rates.n_minima, -1)
    place[b] = np.arange(len(b))
    use = (place[start] >= 0) & (place[end] < 0)
    flux = np.full(len(b), -np.inf)
    np.logaddexp.at(flux, place[start[use]], log_c[use] + log_q[end[use]])
    return flux


@dataclasses.dataclass(frozen=True)
class _Problem:
    """A network with some sets of minima shorted to one node each, the others eliminated.

    ``node`` [N] maps minima to nodes: 0..S-1 the shorted sets, -1 what cannot reach any kept node.
    """

    rates: Rates
    node: np.ndarray
    factors: Elimination
    log_weight: np.ndarray

    @classmethod
    def of(
        cls, rates: Rates, shorted: list[np.ndarray], method: str, separate: np.ndarray | None = None
    ) -> _Problem:
        check_method(method)
        i, j, log_c, log_p = as_arrays(rates)
        alone = np.empty(0, dtype=np.int64) if separate is None else separate
        kept = np.zeros(rates.n_minima, dtype=bool)
        kept[np.concatenate([*shorted, alone])] = True
        reachable = within_reach(rates.n_minima, i, j, kept)
        node = np.full(rates.n_minima, -1)
        for s, members in enumerate(shorted):
            node[members] = s
        rest = np.concatenate([alone, np.flatnonzero(reachable & ~kept)])
        node[rest] = len(shorted) + np.arange(len(rest))
        n = len(shorted) + len(rest)
        eliminate = np.arange(n) >= len(shorted) + len(alone)
        use = reachable[i]
        factors = Elimination.of(
            n,
            node[i[use]],
            node[j[use]],
            log_c[use],
            eliminate,
            log_weight_span=span(log_p[reachable]),
            method=method,
            device=rates.log_occupation.device,
        )
        problem = cls(rates, node, factors, np.empty(0))
        return dataclasses.replace(problem, log_weight=problem.pooled(log_p))

    def pooled(self, log_values: np.ndarray) -> np.ndarray:
        """Values of the minima summed over the nodes."""
        total = np.full(self.factors.n, -np.inf)
        seen = self.node >= 0
        np.logaddexp.at(total, self.node[seen], log_values[seen])
        return total

    def committor(self, of: int = 0) -> np.ndarray:
        """ln of the probability to be absorbed in shorted set number ``of``."""
        known = np.full(self.factors.n, -np.inf)
        known[of] = 0.0
        # Rounding may lift the logarithm of a probability a few ulp above zero.
        return np.minimum(self.factors.solve(None, known), 0.0)

    def on_minima(self, of_nodes: np.ndarray, unreachable: float) -> Float[Tensor, "N"]:
        values = np.where(self.node >= 0, of_nodes[self.node], unreachable)
        return torch.as_tensor(values).to(self.rates.log_occupation)


def _two_sets(rates: Rates, a: Minima, b: Minima) -> list[np.ndarray]:
    set_a, set_b = positions(a, rates.n_minima, "a"), positions(b, rates.n_minima, "b")
    both = np.intersect1d(set_a, set_b)
    if len(both):
        raise TorchscapeError(f"minima {both[:5].tolist()} are in both sets: make the sets disjoint")
    return [set_a, set_b]
