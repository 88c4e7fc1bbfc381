"""Graph transformation as a factorisation: eliminate minima once, then solve for any number of sources.

On a network that obeys detailed balance, graph transformation (Trygubenko & Wales 2006, doi 10.1063/1.2198806;
Wales 2009, doi 10.1063/1.3133782) eliminates nodes from a network of conductances c_ij = k_ij p_j = c_ji.
Sparse parts go in rounds of mutually non-adjacent nodes of low degree, all at once; what is left and dense is
eliminated by matrix products. Pivots are sums, never differences, and all numbers stay positive: results keep
their relative accuracy however ill-conditioned the rate matrix is. Where conductances span more than float64 can
hold, the same steps run on logarithms.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.analysis.kinetics.dense_elimination import DenseElimination
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.memory import available_memory
from torchscape.progress import progress_bar

__all__ = ["DELAY", "Elimination", "TooDense", "is_linear"]

_LINEAR_SPAN = 500.0
"""Largest ln(c_max / c_min) + ln(p_max / p_min) handled without logarithms. float64 spans 1400 e-folds; what falls
below the smallest conductance by another 200 cannot matter to any cut of the network."""
_PAIRS_PER_ROUND = 4_000_000
_DENSE_FRACTION = 0.15
_DENSE_SIZE = 160
_MOST_ENTRIES = 1_000_000_000
"""Largest dense core, 8 GB: a random graph of degree 10 gets there at 60 000 minima, a landscape hardly ever."""
_PERCENT = "{desc}: {percentage:3.0f}% [{elapsed}<{remaining}]"
DELAY = 2.0
"""Seconds after which a progress bar is shown."""
_SPARSE_SHARE = 4  # rows that are still sparse take four times the memory of dense ones, with what sorts them
_FILL = 1.5  # a network that thins out hardly grows on the way


class TooDense(TorchscapeError):
    """What is left of a network is too dense, and too large, to be eliminated exactly."""


def is_linear(log_c: np.ndarray, log_weight_span: float) -> bool:
    """Whether plain numbers hold conductances and sources, or only their logarithms do."""
    return (float(np.ptp(log_c)) if len(log_c) else 0.0) + log_weight_span <= _LINEAR_SPAN


@dataclasses.dataclass(frozen=True)
class _Round:
    """Mutually non-adjacent nodes eliminated together, their rows one after the other."""

    nodes: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    pivots: np.ndarray


@brief
@dataclasses.dataclass(frozen=True)
class Elimination:
    """The factors of sum_k c_xk (u_x - u_k) = f_x over the eliminated nodes x, with u given on the kept ones.

    Build with :meth:`of`. Everything goes in and comes out as natural logarithms (-inf for zero).
    """

    n: int
    kept: np.ndarray
    rounds: list[_Round]
    core: np.ndarray
    core_kept: np.ndarray
    dense: DenseElimination
    mesh_entries: tuple[np.ndarray, np.ndarray, np.ndarray]
    log_scale: float
    is_log: bool

    @classmethod
    def of(
        cls,
        n: int,
        i: np.ndarray,
        j: np.ndarray,
        log_c: np.ndarray,
        eliminate: np.ndarray,
        *,
        log_weight_span: float = 0.0,
        mesh: bool = False,
        method: str = "auto",
        device: torch.device | str = "cpu",
        most: int | None = None,
        progress: bool = False,
    ) -> Elimination:
        """Eliminates the nodes marked in ``eliminate`` [n]; each must have a path to a node that is kept.

        Args:
            n: number of nodes.
            i, j, log_c: undirected edges with the logarithms of their conductances; parallel ones are summed.
            eliminate: boolean [n].
            log_weight_span: spread of the logarithms of the sources to come; decides on linear arithmetic.
            mesh: whether the conductances between kept nodes are wanted (:meth:`mesh`).
            method: "sparse" never, "dense" at once, "auto" in time switches to dense elimination.
            device: where the dense part runs.
            most: numbers that the dense part may have; None for 8 GB of them, or half of the memory if that is
                less.
            progress: show progress bars; that of the dense part counts operations.

        Raises:
            TooDense: if there are more.
        """
        half = 2 * available_memory(torch.device(device)) // 8  # of the machine, in numbers
        most = min(_MOST_ENTRIES, half) if most is None else most
        is_log = not is_linear(log_c, log_weight_span)
        log_scale = float(log_c.max()) if len(log_c) else 0.0
        values = log_c - log_scale if is_log else np.exp(log_c - log_scale)
        graph = _Graph.of(n, i, j, values, eliminate, mesh, is_log)
        rounds: list[_Round] = []
        room = max(most / _SPARSE_SHARE, _FILL * len(graph.key))
        with progress_bar(show=progress, total=graph.n_left, desc="eliminate", unit=" minima", delay=DELAY) as bar:
            while graph.n_left and not _is_dense(graph, method):
                if len(graph.key) > room:
                    raise TooDense(_refusal(graph.n_left))
                rounds.append(graph.eliminate_round())
                bar.update(len(rounds[-1].nodes))
        core, core_kept, dense, entries = graph.eliminate_core(mesh, device, most, progress)
        kept = np.flatnonzero(~eliminate)
        return cls(n, kept, rounds, core, core_kept, dense, entries, log_scale, is_log)

    def forward(self, log_f: np.ndarray) -> np.ndarray:
        """Sources passed on to later nodes in the order of elimination; on kept nodes, ln of what arrived."""
        top = 0.0 if self.is_log else _top(log_f)
        f = log_f.copy() if self.is_log else np.exp(log_f - top)
        for step in self.rounds:
            if self.is_log:
                np.logaddexp.at(f, step.columns, step.weights + f[step.rows])
            else:
                f += np.bincount(step.columns, step.weights * f[step.rows], minlength=self.n)
        where = np.concatenate([self.core, self.core_kept])
        f[where] = self.dense.forward(torch.as_tensor(f[where]).to(self.dense.pivots)).cpu().numpy()
        return f if self.is_log else _log(f) + top

    def solve(self, log_f: np.ndarray | None, log_kept: np.ndarray | None = None) -> np.ndarray:
        """ln u on all nodes, for sources f >= 0 on the eliminated nodes and u >= 0 given on the kept ones.

        Args:
            log_f: [n], entries at kept nodes are ignored; None for no sources.
            log_kept: [n], read at kept nodes only; None for u = 0 there.
        """
        nothing = np.full(self.n, -np.inf)
        f = nothing if log_f is None else self.forward(log_f)
        kept = nothing if log_kept is None else log_kept
        # f comes in units of conductance times u: the scale taken out of c must be taken out of f too.
        f = f - self.log_scale
        top = 0.0 if self.is_log else max(_top(f), _top(kept[self.kept]))
        u = np.full(self.n, -np.inf)
        u[self.kept] = kept[self.kept]
        if not self.is_log:
            u, f = np.exp(u - top), np.exp(f - top)
        inside = torch.as_tensor(f[self.core]).to(self.dense.pivots)
        outside = torch.as_tensor(u[self.core_kept]).to(self.dense.pivots)
        u[self.core] = self.dense.backward(inside, outside).cpu().numpy()
        for step in reversed(self.rounds):
            if self.is_log:
                gathered = _log_reduceat(step.weights + u[step.columns], step.starts)
                u[step.nodes] = np.logaddexp(f[step.nodes] - step.pivots, gathered)
            else:
                gathered = np.add.reduceat(step.weights * u[step.columns], step.starts)
                u[step.nodes] = f[step.nodes] / step.pivots + gathered
        return u if self.is_log else _log(u) + top

    def mesh(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The transformed network: edges i < j between kept nodes and ln of their conductances."""
        i, j, values = self.mesh_entries
        return i, j, (values if self.is_log else _log(values)) + self.log_scale


class _Graph:
    """Rows of conductances of the nodes still there, by (row, column); mutable, private to one elimination."""

    def __init__(self, n: int, key: np.ndarray, values: np.ndarray, left: np.ndarray, sources: np.ndarray, is_log):
        self.n, self.key, self.values = n, key, values
        self.left, self.sources, self.is_log = left, sources, is_log
        # A hashed rank breaks ties of degree: by position, a chain would be eliminated one node a round.
        mixed = np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self.rank = (mixed >> np.uint64(34)).astype(np.int64)

    @classmethod
    def of(cls, n: int, i, j, values, eliminate, mesh: bool, is_log: bool) -> _Graph:
        sources = np.ones(n, dtype=bool) if mesh else eliminate.copy()
        row, column = np.concatenate([i, j]), np.concatenate([j, i])
        use = sources[row] & (row != column)
        key = row[use].astype(np.int64) * n + column[use]
        key, values = _coalesce(key, np.concatenate([values, values])[use], is_log)
        return cls(n, key, values, eliminate.copy(), sources, is_log)

    @property
    def n_left(self) -> int:
        return int(self.left.sum())

    def eliminate_round(self) -> _Round:
        row, column = np.divmod(self.key, self.n)
        nodes, starts, degree = np.unique(row, return_index=True, return_counts=True)
        chosen = self._independent(nodes, starts, degree, column)
        marked = np.zeros(self.n, dtype=bool)
        marked[nodes[chosen]] = True
        of_chosen = np.flatnonzero(marked[row])
        rows, columns, values = row[of_chosen], column[of_chosen], self.values[of_chosen]
        lengths = degree[chosen]
        begin = np.concatenate([[0], lengths.cumsum()[:-1]])
        pivots = _log_reduceat(values, begin) if self.is_log else np.add.reduceat(values, begin)
        spread = np.repeat(pivots, lengths)
        weights = values - spread if self.is_log else values / spread
        self._replace(marked, row, column, lengths, begin, columns, values, weights)
        return _Round(nodes[chosen], begin, rows, columns, weights, pivots)

    def _independent(self, nodes, starts, degree, column) -> np.ndarray:
        """Mutually non-adjacent nodes of locally lowest degree: a batch of minimum-degree elimination."""
        priority = np.full(self.n, np.iinfo(np.int64).max)
        can_go = self.left[nodes]
        priority[nodes[can_go]] = degree[can_go] * (1 << 31) + self.rank[nodes[can_go]]
        lowest_neighbour = np.minimum.reduceat(priority[column], starts)
        cap = 1.5 * degree[can_go].min() + 1
        chosen = np.flatnonzero(can_go & (priority[nodes] < lowest_neighbour) & (degree <= cap))
        chosen = chosen[np.argsort(degree[chosen], kind="stable")]
        affordable = (degree[chosen].astype(np.float64) ** 2).cumsum() <= _PAIRS_PER_ROUND
        affordable[0] = True
        return np.sort(chosen[affordable])

    def _replace(self, marked, row, column, lengths, begin, columns, values, weights) -> None:
        """Takes the marked nodes out: c_ij += c_xi w_xj for all pairs of neighbours of each of them."""
        length, start = np.repeat(lengths, lengths), np.repeat(begin, lengths)
        first = np.flatnonzero(self.sources[columns])
        length, start = length[first], start[first]
        ends = length.cumsum()
        offset = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - length, length)
        left, right = np.repeat(first, length), np.repeat(start, length) + offset
        pair = left != right
        left, right = left[pair], right[pair]
        new = values[left] + weights[right] if self.is_log else values[left] * weights[right]
        stay = ~(marked[row] | marked[column])
        key = np.concatenate([self.key[stay], columns[left] * self.n + columns[right]])
        self.key, self.values = _coalesce(key, np.concatenate([self.values[stay], new]), self.is_log)
        self.left[marked] = False

    def eliminate_core(self, mesh: bool, device, most: int, progress: bool):
        """Dense elimination of what is left; returns the order, the kept neighbours, the factors and the mesh."""
        row, column = np.divmod(self.key, self.n)
        core = np.flatnonzero(self.left)
        involved = np.zeros(self.n, dtype=bool)
        involved[column] = involved[row] = True
        involved[core] = False
        kept = np.flatnonzero(involved)
        if mesh and not len(core):
            upper = row < column
            return core, kept[:0], _empty(device, self.is_log), (row[upper], column[upper], self.values[upper])
        position = np.full(self.n, -1)
        position[core], position[kept] = np.arange(len(core)), len(core) + np.arange(len(kept))
        n_rows = len(core) + (len(kept) if mesh else 0)
        if n_rows * (len(core) + len(kept)) > most:
            raise TooDense(_refusal(len(core)))
        matrix = np.full((n_rows, len(core) + len(kept)), -np.inf if self.is_log else 0.0)
        matrix[position[row], position[column]] = self.values
        conductance = torch.as_tensor(matrix).to(device)
        name = f"{len(core)} dense minima"
        with progress_bar(show=progress, total=100, desc=name, bar_format=_PERCENT, delay=DELAY) as bar:

            def told(more: float) -> None:
                bar.update(min(more, 100 - bar.n))  # rounding must not lead beyond the total

            dense = DenseElimination.of(conductance, len(core), is_log=self.is_log, done=told)
        rest = dense.rest.cpu().numpy()
        a, b = np.nonzero(np.triu(rest > (-np.inf if self.is_log else 0.0), 1))
        return core, kept, dense, (kept[a], kept[b], rest[a, b])


def _refusal(n: int) -> str:
    return (
        f"the network does not thin out: a dense core of up to {n} minima is left, and at this temperature no "
        "iteration is certain to solve it; raise the temperature, leave out transition states that hardly carry "
        "flux, or group minima first (analysis.regroup)"
    )


def _is_dense(graph: _Graph, method: str) -> bool:
    if method != "auto":
        return method == "dense"
    n = graph.n_left
    return n <= _DENSE_SIZE or len(graph.key) > _DENSE_FRACTION * n * n


def _empty(device, is_log: bool) -> DenseElimination:
    return DenseElimination.of(torch.empty(0, 0, dtype=torch.float64, device=device), 0, is_log=is_log)


def _coalesce(key: np.ndarray, values: np.ndarray, is_log: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sorted keys, each once, the values of equal keys summed."""
    if not len(key):
        return key, values
    order = np.argsort(key, kind="stable")
    key, values = key[order], values[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    total = _log_reduceat(values, starts) if is_log else np.add.reduceat(values, starts)
    return key[starts], total


def _log_reduceat(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """ln of the sums of exp over consecutive segments, none of them empty."""
    top = np.maximum.reduceat(values, starts)
    finite = np.where(np.isneginf(top), 0.0, top)
    lengths = np.diff(np.append(starts, len(values)))
    return _log(np.add.reduceat(np.exp(values - np.repeat(finite, lengths)), starts)) + finite


def _log(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(x)


def _top(log_values: np.ndarray) -> float:
    """The largest finite entry, or 0."""
    finite = log_values[np.isfinite(log_values)]
    return float(finite.max()) if len(finite) else 0.0
