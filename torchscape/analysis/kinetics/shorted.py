"""Sets of minima shorted to single nodes, and what is asked of the network that is left."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.analysis.kinetics.elimination import Elimination
from torchscape.analysis.kinetics.iterative import IterativeElimination, factorised
from torchscape.analysis.kinetics.rate_theory import Rates
from torchscape.analysis.kinetics.transformation import as_arrays, check_method, positions, span, within_reach
from torchscape.errors import TorchscapeError
from torchscape.types import Float, Int, Tensor

__all__ = ["Minima", "Shorted", "flux_out_of", "two_sets"]

Minima = int | list[int] | Int[Tensor, "K"]


@dataclasses.dataclass(frozen=True)
class Shorted:
    """A network with some sets of minima shorted to one node each, the others eliminated.

    ``node`` [N] maps minima to nodes: 0..S-1 the shorted sets, -1 what cannot reach any kept node.
    """

    rates: Rates
    node: np.ndarray
    factors: Elimination | IterativeElimination
    log_weight: np.ndarray

    @classmethod
    def of(
        cls,
        rates: Rates,
        shorted: list[np.ndarray],
        method: str,
        separate: np.ndarray | None = None,
        progress: bool = False,
    ) -> Shorted:
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
        factors = factorised(
            n,
            node[i[use]],
            node[j[use]],
            log_c[use],
            eliminate,
            log_weight_span=span(log_p[reachable]),
            method=method,
            device=rates.log_occupation.device,
            progress=progress,
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


def two_sets(rates: Rates, a: Minima, b: Minima) -> list[np.ndarray]:
    set_a, set_b = positions(a, rates.n_minima, "a"), positions(b, rates.n_minima, "b")
    both = np.intersect1d(set_a, set_b)
    if len(both):
        raise TorchscapeError(f"minima {both[:5].tolist()} are in both sets: make the sets disjoint")
    return [set_a, set_b]


def flux_out_of(rates: Rates, b: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """ln of the reactive flux out of each b in B: sum_k c_bk q_k over the neighbours k outside B.

    Args:
        rates: the network of rates.
        b: positions of B.
        log_q: ln of the probability of every minimum to reach A before B [N].
    """
    i, j, log_c, _ = as_arrays(rates)
    start, end, log_c = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([log_c, log_c])
    place = np.full(rates.n_minima, -1)
    place[b] = np.arange(len(b))
    use = (place[start] >= 0) & (place[end] < 0)
    flux = np.full(len(b), -np.inf)
    np.logaddexp.at(flux, place[start[use]], log_c[use] + log_q[end[use]])
    return flux
