"""Graph transformation of networks that do not thin out: by certified iteration, in memory in proportion to E."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import torch

from torchscape.analysis.kinetics.elimination import DELAY, Elimination, TooDense, is_linear
from torchscape.analysis.kinetics.refinement import ENOUGH, Balance
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.memory import available_memory
from torchscape.progress import progress_bar

__all__ = ["GUARANTEE", "IterativeElimination", "factorised"]

GUARANTEE = 1e-8
"""Largest relative error of any number that is returned; most are known to 1e-12."""
_TOGETHER = 4_000_000  # currents at once: edges times columns
_AT_ONCE = 4_000_000
"""Numbers of a dense core that is eliminated without a second thought: 2000 minima, a tenth of a second."""
_MANY = 200
_FOR_MANY = 64_000_000
"""The same where more minima than that are kept, each of which costs a solution: 8000 minima, 512 MB."""
_BYTES_OF_EDGE = 1000
_BYTES_OF_PAIR = 40  # of kept minima: the conductance that they are found to have, and where it stands


def factorised(
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
    progress: bool = False,
) -> Elimination | IterativeElimination:
    """An elimination: exact where it fits, iterative where a large dense core would be left.

    The arguments are those of :meth:`Elimination.of`; ``method`` may be "iterative" as well.

    Raises:
        TorchscapeError: if "iterative" is asked for where rates leave the range of float64.
        TooDense: if what is left does not fit into half of the machine's memory, before it is begun.
    """

    def exact(most: int | None = None) -> Elimination:
        return Elimination.of(
            n, i, j, log_c, eliminate, log_weight_span=log_weight_span, mesh=mesh,
            method="auto" if method == "iterative" else method, device=device, most=most, progress=progress,
        )  # fmt: skip

    linear = is_linear(log_c, log_weight_span)
    if method == "iterative" and not linear:
        raise TorchscapeError(
            "rates and occupations span more than float64 holds, which no iteration solves: raise the "
            "temperature, or leave the method to 'auto'"
        )
    if method != "iterative":
        if method != "auto" or not linear:
            return exact()
        with contextlib.suppress(TooDense):
            return exact(_FOR_MANY if mesh and (~eliminate).sum() > _MANY else _AT_ONCE)
    _expect_room(len(i), int((~eliminate).sum()) if mesh else 0)
    return IterativeElimination.of(n, i, j, log_c, eliminate, otherwise=exact, progress=progress)


@brief
@dataclasses.dataclass(frozen=True)
class IterativeElimination:
    """Answers what an :class:`~torchscape.analysis.kinetics.elimination.Elimination` answers.

    Build with :meth:`of`. Everything goes in and comes out as natural logarithms (-inf for zero).
    """

    n: int
    balance: Balance
    log_scale: float
    otherwise: Callable[[], Elimination]
    progress: bool

    @classmethod
    def of(
        cls,
        n: int,
        i: np.ndarray,
        j: np.ndarray,
        log_c: np.ndarray,
        eliminate: np.ndarray,
        *,
        otherwise: Callable[[], Elimination],
        progress: bool = False,
    ) -> IterativeElimination:
        """Prepares for the nodes marked in ``eliminate`` [n]; each must have a path to a node that is kept.

        Args:
            n: number of nodes.
            i, j, log_c: undirected edges with the logarithms of their conductances; parallel ones are summed.
            eliminate: boolean [n].
            otherwise: makes the exact elimination, for what cannot be certified to :data:`GUARANTEE`.
            progress: show progress bars.
        """
        use = i != j
        log_scale = float(log_c.max()) if len(log_c) else 0.0
        c = np.exp(log_c[use] - log_scale)
        with progress_bar(
            show=progress, total=int(eliminate.sum()), desc="prepare", unit=" minima", delay=DELAY
        ) as bar:
            balance = Balance.of(i[use], j[use], c, eliminate, bar.update)
        return cls(n, balance, log_scale, otherwise, progress)

    @functools.cached_property
    def exact(self) -> Elimination:
        """The elimination that needs no certificate."""
        return self.otherwise()

    def solve(self, log_f: np.ndarray | None, log_kept: np.ndarray | None = None) -> np.ndarray:
        """ln u on all nodes, for sources f >= 0 on the eliminated nodes and u >= 0 given on the kept ones.

        Args:
            log_f: [n], entries at kept nodes are ignored; None for no sources.
            log_kept: [n], read at kept nodes only; None for u = 0 there.
        """
        free = self.balance.free
        nothing = np.full(self.n, -np.inf)
        source = nothing if log_f is None else np.where(free, log_f - self.log_scale, -np.inf)
        given = nothing if log_kept is None else np.where(free, -np.inf, log_kept)
        top = _top(np.concatenate([source, given]))
        u = self._certified(np.exp(source - top)[:, None], np.exp(given - top)[:, None])
        return self.exact.solve(log_f, log_kept) if u is None else _log(u[:, 0]) + top

    def forward(self, log_f: np.ndarray) -> np.ndarray:
        """On kept nodes ln of what arrives as every eliminated node passes its source on; -inf elsewhere."""
        free = self.balance.free
        top = _top(log_f)
        f = np.exp(log_f - top)[:, None]
        u = self._certified(np.where(free[:, None], f, 0.0), np.zeros_like(f))
        if u is None:
            return self.exact.forward(log_f)
        arrived = f - self.balance.outflow(u)
        return np.where(free, -np.inf, _log(np.where(free, 1.0, arrived[:, 0])) + top)

    def mesh(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The transformed network: edges i < j between kept nodes and ln of their conductances."""
        kept = np.flatnonzero(~self.balance.free)
        found = np.zeros((len(kept), len(kept)))
        together = max(1, _TOGETHER // max(1, len(self.balance.c)))
        with progress_bar(
            show=self.progress, total=len(kept), desc="transform", unit=" minima", delay=DELAY
        ) as bar:
            for some in np.split(np.arange(len(kept)), np.arange(together, len(kept), together)):
                given = np.zeros((self.n, len(some)))
                given[kept[some], np.arange(len(some))] = 1.0
                u = self._certified(np.zeros_like(given), given, shown=False)
                if u is None:
                    return self.exact.mesh()
                found[:, some] = -self.balance.outflow(u)[kept]
                bar.update(len(some))
        a, b = np.nonzero(np.triu(found > 0.0, 1))
        return kept[a], kept[b], np.log((found[a, b] + found[b, a]) / 2) + self.log_scale

    def _certified(self, f: np.ndarray, given: np.ndarray, *, shown: bool = True) -> np.ndarray | None:
        """u for every column of sources and given values; None if it cannot be had with the guarantee."""
        digits = -round(float(np.log10(ENOUGH)))
        with progress_bar(
            show=self.progress and shown, total=digits, desc="solve", unit=" digits", delay=DELAY
        ) as bar:

            def told(bound: float) -> None:
                known = -float(np.log10(max(bound, 10.0**-digits)))
                bar.update(max(0.0, round(known - bar.n, 1)))

            u, bound = self.balance.solve(f, given, told)
        return u if bound <= GUARANTEE else None


def _expect_room(n_edges: int, n_kept: int) -> None:
    """Refuse what would not fit, where ``n_kept`` minima of the transformed network may all be joined."""
    needed = _BYTES_OF_EDGE * n_edges + _BYTES_OF_PAIR * n_kept**2
    room = 2 * available_memory(torch.device("cpu"))
    if needed > room:
        raise TooDense(
            f"{n_edges} pairs of minima"
            + (f", of which {n_kept} minima may all be joined in the end," if n_kept else "")
            + f" need some {needed / 1e9:.3g} GB, and {room / 1e9:.3g} GB may be used, half of this machine's: "
            + ("keep fewer minima, " if n_kept else "leave out transition states that hardly carry flux, ")
            + "or group minima first (analysis.regroup)"
        )


def _log(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(x)


def _top(log_values: np.ndarray) -> float:
    """The largest finite entry, or 0."""
    finite = log_values[np.isfinite(log_values)]
    return float(finite.max()) if len(finite) else 0.0
