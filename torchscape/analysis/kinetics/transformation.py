"""Graph transformation: a smaller network with exactly the same first-passage times."""

from __future__ import annotations

import numpy as np
import torch

from torchscape.analysis.kinetics.iterative import factorised
from torchscape.analysis.kinetics.rate_theory import Rates
from torchscape.errors import TorchscapeError
from torchscape.sparse import links
from torchscape.types import Int, Tensor

__all__ = ["graph_transformation"]


def graph_transformation(
    rates: Rates, keep: Int[Tensor, "K"], *, method: str = "auto", progress: bool = False
) -> Rates:
    """Eliminates every minimum but ``keep``; mean first-passage times between those kept do not change.

    Removing minimum x renormalises branching probabilities and waiting times,

    P_ij <- P_ij + P_ix P_xj / (1 - P_xx),    tau_j <- tau_j + P_xj tau_x / (1 - P_xx).

    As rates obey detailed balance, this is done on conductances c_ij = k_ij p_j and on populations,

    c_ij <- c_ij + c_ix c_xj / sum_k c_xk,    p_j <- p_j + p_x c_xj / sum_k c_xk,

    which is half the work, keeps detailed balance and has no subtraction. The result is again a reversible chain:
    its ``log_occupation`` holds the transformed populations, tau_j = p_j / sum_i c_ij.
    Cost: that of sparse elimination with minimum-degree ordering, O(E log E) on tree-like networks, up to
    O(N^3) on expander-like ones. Where a dense core of more than 2000 minima would be left, the same equations are
    solved iteratively, at O(E log E) and 1 kB of memory for each edge, times K for the conductances; every number
    is then certified to a relative 1e-8, and most have twelve digits. The result may have K^2 / 2 edges. What
    would take more than half of the machine's memory is refused before it is begun.

    Args:
        rates: the network of rates.
        keep: distinct positions of the minima to keep.
        method: "auto", or "sparse" / "dense" elimination or "iterative" solution throughout.
        progress: show progress bars, with the time that is left.

    Returns:
        The transformed chain over ``keep``, in that order. Minima with no path to a kept one are dropped.

    Raises:
        TorchscapeError: if ``keep`` is empty, repeats or lies outside, or if there is not memory enough.

    References: Trygubenko & Wales (2006), doi 10.1063/1.2198806; Wales (2009), doi 10.1063/1.3133782.

    Example:
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> chain = Network.of([0.0, 0.0, 0.0], [(0, 1), (1, 2)], [1.0, 1.0], n_modes=1)
        >>> ends = graph_transformation(rates(chain, 1.0), torch.tensor([0, 2]))
        >>> ends.log_occupation.exp().tolist(), ends.minima.tolist()
        ([0.5, 0.5], [0, 2])
    """
    n = rates.n_minima
    check_method(method)
    kept = positions(keep, n, "keep")
    eliminate = np.ones(n, dtype=bool)
    eliminate[kept] = False
    i, j, log_c, log_p = as_arrays(rates)
    reachable = within_reach(n, i, j, ~eliminate)
    use = reachable[i]
    factors = factorised(
        n,
        i[use],
        j[use],
        log_c[use],
        eliminate & reachable,
        log_weight_span=span(log_p[reachable]),
        mesh=True,
        method=method,
        device=rates.log_occupation.device,
        progress=progress,
    )
    source = np.where(reachable, log_p, -np.inf)
    weight = factors.forward(source)[kept]
    a, b, log_mesh = factors.mesh()
    place = np.full(n, -1)
    place[kept] = np.arange(len(kept))
    pairs = np.sort(np.stack([place[a], place[b]]), 0)
    like = rates.log_occupation
    return Rates(
        rates.temperature,
        torch.as_tensor(weight - np.logaddexp.reduce(weight)).to(like),
        torch.as_tensor(pairs).to(rates.edges),
        torch.as_tensor(log_mesh - np.logaddexp.reduce(weight)).to(like),
        rates.minima[torch.as_tensor(kept).to(rates.minima)],
    )


def as_arrays(rates: Rates) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """i, j, ln c and ln p on the host, in float64."""
    i, j = rates.edges.cpu().numpy()
    return i, j, rates.log_conductance.double().cpu().numpy(), rates.log_occupation.double().cpu().numpy()


def within_reach(n: int, i: np.ndarray, j: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Which nodes have a path to a node marked in ``of`` [n]."""
    from scipy.sparse.csgraph import connected_components

    graph = links(True, i, j, n)
    _, labels = connected_components(graph, directed=False)
    good = np.zeros(n, dtype=bool)
    good[labels[of]] = True
    return good[labels]


def span(log_values: np.ndarray) -> float:
    return float(np.ptp(log_values)) if len(log_values) else 0.0


def check_method(method: str) -> None:
    if method not in ("auto", "sparse", "dense", "iterative"):
        raise TorchscapeError(f"method must be 'auto', 'sparse', 'dense' or 'iterative', not {method!r}")


def positions(which: Int[Tensor, "K"] | list[int] | int, n: int, name: str) -> np.ndarray:
    """Positions of minima as a checked integer array."""
    given = torch.as_tensor(which)
    if len(given.reshape(-1)) and (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool):
        raise TorchscapeError(f"{name}={which!r:.60}; give whole numbers: positions of minima")
    array = given.reshape(-1).cpu().numpy().astype(np.int64)
    if not len(array) or len(np.unique(array)) != len(array):
        raise TorchscapeError(f"{name} must name at least one minimum, each once")
    if array.min() < 0 or array.max() >= n:
        raise TorchscapeError(f"{name} names a minimum outside 0..{n - 1}: give 0-based positions, not ids")
    return array
