"""Fastest paths: the sequences of minima and transition states that carry most of the rate."""

from __future__ import annotations

import dataclasses
import heapq
import itertools

import numpy as np
import torch

from torchscape.analysis.kinetics.rate_theory import Rates, log_conductances, rates
from torchscape.analysis.kinetics.transformation import positions
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE

__all__ = ["FastestPath", "fastest_path", "fastest_paths"]


@brief
@dataclasses.dataclass(frozen=True)
class FastestPath:
    """A path B -> A of minima and the transition states between them.

    Attributes:
        minima: [L], from a minimum of B to one of A.
        transition_states: [L-1], for each step the transition state with the largest flux.
        energies: [2L-1], minimum, transition state, minimum, ... along the path.
        log_probability: ln of the product of branching probabilities.
        log_rate: ln of the contribution to k_SS, (p_b / p_B) (1 / tau_b) prod P.
    """

    minima: Int[Tensor, "L"]
    transition_states: Int[Tensor, "S"]
    energies: Float[Tensor, "K"]
    log_probability: float
    log_rate: float

    @property
    def highest_energy(self) -> float:
        """Energy of the highest transition state on the path."""
        return float(self.energies.max())


def fastest_path(
    network: Network,
    temperature: float,
    a: int | list[int] | Int[Tensor, "K"],
    b: int | list[int] | Int[Tensor, "K"],
) -> FastestPath:
    """The single path from B to A that contributes most to the steady-state rate constant.

    Dijkstra's algorithm with edge weights -ln P_{j<-i}, from b with an offset -ln(p_b / tau_b): the length of a
    path is minus the logarithm of its term in k_SS. Cost O(E log N).

    Args:
        network: minima and transition states.
        temperature: T, in units of the energy.
        a: positions of the products, where the path ends.
        b: positions of the reactants, where it starts.

    Raises:
        TorchscapeError: if the sets are empty, overlap, or no path joins them.

    References: Wales (2002), doi 10.1080/00268970210162691; Evans & Wales (2004), doi 10.1063/1.1759317.

    Example:
        >>> net = Network.of([0.0, 1.0, 0.5, 0.2], [(0, 1), (1, 3), (0, 2), (2, 3)], [2.0, 2.0, 2.5, 1.0])
        >>> path = fastest_path(net, 0.1, a=3, b=0)
        >>> path.minima.tolist(), path.transition_states.tolist(), path.highest_energy
        ([0, 1, 3], [0, 1], 2.0)
    """
    POSITIVE.check("fastest_path", temperature=temperature)
    return fastest_paths(network, temperature, a, b, n_paths=1)[0]


def fastest_paths(
    network: Network,
    temperature: float,
    a: int | list[int] | Int[Tensor, "K"],
    b: int | list[int] | Int[Tensor, "K"],
    n_paths: int = 5,
) -> list[FastestPath]:
    """The ``n_paths`` fastest loopless paths from B to A, fastest first; fewer where there are fewer.

    Yen's algorithm (1971, doi 10.1287/mnsc.17.11.712): O(n_paths L E log N) for paths of L minima.

    Raises:
        TorchscapeError: if the sets are empty, overlap, or no path joins them.

    Example:
        >>> net = Network.of([0.0, 1.0, 0.5, 0.2], [(0, 1), (1, 3), (0, 2), (2, 3)], [2.0, 2.0, 2.5, 1.0])
        >>> [path.minima.tolist() for path in fastest_paths(net, 0.1, a=3, b=0)]
        [[0, 1, 3], [0, 2, 3]]
    """
    POSITIVE.check("fastest_paths", temperature=temperature)
    COUNT.check("fastest_paths", n_paths=n_paths)
    if n_paths < 1:
        raise TorchscapeError(f"n_paths must be at least 1, not {n_paths}")
    n = network.n_minima
    set_a, set_b = positions(a, n, "a"), positions(b, n, "b")
    if len(np.intersect1d(set_a, set_b)):
        raise TorchscapeError("a minimum is in both sets: make the sets disjoint")
    chain = rates(network, temperature)
    graph = _Graph.of(chain, set_a, set_b)
    found = graph.yen(n_paths)
    if not found:
        raise TorchscapeError(
            "no path of transition states joins the two sets: connect them, or choose sets in one component "
            "(network.components())"
        )
    best = _best_transition_states(network, temperature)
    return [_describe(network, chain, path, set_b, best) for path in found]


@dataclasses.dataclass(frozen=True)
class _Graph:
    """Arcs with their lengths in compressed rows; node N is the source before B, node N + 1 the sink after A."""

    n: int
    indptr: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, chain: Rates, a: np.ndarray, b: np.ndarray) -> _Graph:
        n = chain.n_minima
        i, j = chain.edges.cpu().numpy()
        start, end = np.concatenate([i, j]), np.concatenate([j, i])
        # Rounding may turn a certain step, -ln 1, into a length just below zero.
        length = np.maximum(-chain.log_branching.double().cpu().numpy().reshape(-1), 0.0)
        in_a, in_b = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        in_a[a], in_b[b] = True, True
        use = ~in_a[start] & ~in_b[end]
        log_flux = (chain.log_occupation + chain.log_escape_rates).double().cpu().numpy()[b]
        out = ~np.isneginf(log_flux)
        b, offset = b[out], log_flux[out]
        # All path lengths move by one constant, which keeps Dijkstra's lengths positive and the order of paths.
        offset = offset.max(initial=-np.inf) - offset
        start = np.concatenate([start[use], np.full(len(b), n), a])
        end = np.concatenate([end[use], b, np.full(len(a), n + 1)])
        length = np.concatenate([length[use], offset, np.zeros(len(a))])
        order = np.lexsort((end, start))
        counts = np.bincount(start, minlength=n + 2)
        # Of 32 bits: before SciPy 1.17.1 Dijkstra's algorithm takes no other indices.
        indptr = np.concatenate([[0], counts.cumsum()]).astype(np.int32)
        return cls(n, indptr, end[order].astype(np.int32), length[order])

    def shortest(self, start: int, lengths: np.ndarray) -> tuple[list[int], float] | None:
        """The shortest path from ``start`` to the sink, arcs of infinite length being closed."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import dijkstra

        # A tiny length stands for zero: sparse formats do not reliably keep stored zeros.
        open_arcs = np.where(lengths == 0.0, 1e-300, lengths)
        graph = csr_array((open_arcs, self.targets, self.indptr), shape=(self.n + 2, self.n + 2))
        distance, previous = dijkstra(graph, indices=start, return_predecessors=True)
        if not np.isfinite(distance[self.n + 1]):
            return None
        path = [self.n + 1]
        while path[-1] != start:
            path.append(int(previous[path[-1]]))
        return path[::-1], float(distance[self.n + 1])

    def yen(self, n_paths: int) -> list[list[int]]:
        """Yen's algorithm, from source to sink; paths come back without these two."""
        first = self.shortest(self.n, self.lengths)
        if first is None:
            return []
        found = [first]
        candidates: list[tuple[float, list[int]]] = []
        known = {tuple(first[0])}
        while len(found) < n_paths:
            last = found[-1][0]
            for k in range(len(last) - 2):
                root = last[: k + 1]
                lengths = self.lengths.copy()
                for path, _ in found:
                    if path[: k + 1] == root:
                        lengths[self._arc(path[k], path[k + 1])] = np.inf
                lengths[np.isin(self.targets, root)] = np.inf
                spur = self.shortest(root[-1], lengths)
                if spur is None:
                    continue
                whole = root[:-1] + spur[0]
                if tuple(whole) not in known:
                    known.add(tuple(whole))
                    heapq.heappush(candidates, (self._length(root) + spur[1], whole))
            if not candidates:
                break
            length, path = heapq.heappop(candidates)
            found.append((path, length))
        return [path[1:-1] for path, _ in found]

    def _arc(self, i: int, j: int) -> int:
        row = self.targets[self.indptr[i] : self.indptr[i + 1]]
        return int(self.indptr[i] + np.searchsorted(row, j))

    def _length(self, path: list[int]) -> float:
        return float(sum(self.lengths[self._arc(i, j)] for i, j in itertools.pairwise(path)))


def _best_transition_states(network: Network, temperature: float) -> dict[tuple[int, int], int]:
    """For every adjacent pair i < j, the transition state that carries the largest equilibrium flux."""
    order = log_conductances(network, temperature).argsort().tolist()
    low, high = network.edges.amin(0).tolist(), network.edges.amax(0).tolist()
    return {(low[s], high[s]): s for s in order}


def _describe(network: Network, chain: Rates, path: list[int], b: np.ndarray, best) -> FastestPath:
    steps = [best[min(i, j), max(i, j)] for i, j in itertools.pairwise(path)]
    minima, states = torch.tensor(path), torch.tensor(steps, dtype=torch.int64)
    device = network.energy.device
    energies = network.energy.new_empty(2 * len(path) - 1)
    energies[0::2], energies[1::2] = network.levels[minima.to(device)], network.ts_levels[states.to(device)]
    log_probability = _log_probability(chain, path)
    start = chain.log_occupation[path[0]] - chain.log_occupation[torch.as_tensor(b).to(device)].logsumexp(0)
    log_rate = float(start + chain.log_escape_rates[path[0]]) + log_probability
    return FastestPath(minima.to(device), states.to(device), energies, log_probability, log_rate)


def _log_probability(chain: Rates, path: list[int]) -> float:
    pair = torch.tensor([[min(i, j), max(i, j)] for i, j in itertools.pairwise(path)])
    back = torch.tensor([int(i > j) for i, j in itertools.pairwise(path)])
    key = (pair[:, 0] * chain.n_minima + pair[:, 1]).to(chain.edges.device)
    column = torch.searchsorted(chain.edges[0] * chain.n_minima + chain.edges[1], key)
    return float(chain.log_branching[back.to(column.device), column].sum())
