"""Two landscapes side by side: how many minima, how many funnels, how high the barriers."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np

from torchscape.analysis.topology.basins import divided
from torchscape.analysis.topology.heights import barriers
from torchscape.analysis.topology.tree import MergeTree, merge_tree
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network

__all__ = ["Comparison", "Difference", "compare", "landscape_summary"]


@dataclasses.dataclass(frozen=True)
class Difference:
    """How two samples of one quantity differ.

    Attributes:
        median: median in the first and in the second landscape.
        distance: Wasserstein distance: the mean shift that turns one distribution into the other, an energy.
        ks: Kolmogorov-Smirnov distance: largest difference of the cumulative distributions.
        p_value: probability of a KS distance at least this large if both were samples of one distribution. The
            barriers of one landscape are not independent, so read it as a scale, not as a test.
    """

    median: tuple[float, float]
    distance: float
    ks: float
    p_value: float


@brief
@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two landscapes, number by number and distribution by distribution.

    Attributes:
        first, second: the numbers of :func:`landscape_summary`.
        energy: energies of the minima, above each landscape's global minimum.
        uphill, downhill: barrier heights of the transition states, from the lower and from the higher side.
        persistence: lowest barriers from each minimum to a lower one: the barrier spectrum of the trees.
    """

    first: dict[str, int | float]
    second: dict[str, int | float]
    energy: Difference
    uphill: Difference
    downhill: Difference
    persistence: Difference


def compare(first: Network, second: Network, *, scaled: bool = False) -> Comparison:
    """Compare two landscapes: counts, funnels, and the distributions of energies and barriers.

    Args:
        first, second: the two networks, with at least one minimum each.
        scaled: divide all energies by each landscape's own median uphill barrier first, to compare shapes where
            the units differ (another loss, another number of data).

    O(E log E).

    Raises:
        TorchscapeError: if one has no minima, or ``scaled`` is asked of one without barriers.

    Example:
        >>> single = Network.of(energy=[0.0, 0.5, 0.7], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 1.2])
        >>> double = Network.of(energy=[0.0, 0.5, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 2.2])
        >>> difference = compare(single, double)
        >>> difference.first["n_funnels"], difference.second["n_funnels"], round(difference.uphill.distance, 6)
        (3, 3, 0.7)
    """
    summaries, samples = [], []
    for network in (first, second):
        tree, scale = merge_tree(network), _scale(network) if scaled else 1.0
        summaries.append(_summary(network, tree))
        samples.append(_samples(network, tree, scale))
    parts = {name: _difference(samples[0][name], samples[1][name]) for name in samples[0]}
    return Comparison(summaries[0], summaries[1], **parts)


def landscape_summary(network: Network) -> dict[str, int | float]:
    """The numbers by which landscapes are usually compared.

    Counts of minima, transition states, connected components and funnels; the range of the energies of minima and
    transition states; median barriers; the fraction of minima that the global minimum's component holds.

    Example:
        >>> net = Network.of(energy=[0.0, 0.5, 0.7], edges=[(0, 1), (1, 2)], ts_energy=[1.0, 1.5])
        >>> landscape_summary(net)["n_minima"], landscape_summary(net)["median_uphill_barrier"]
        (3, 1.0)
    """
    return _summary(network, merge_tree(network))


def _summary(network: Network, tree: MergeTree) -> dict[str, int | float]:
    if network.n_minima == 0:
        raise TorchscapeError("a network without minima has no summary: explore first")
    both = barriers(network)
    uphill, downhill = both.uphill.cpu().numpy(), both.downhill.cpu().numpy()
    energy, ts = network.levels.cpu().numpy(), network.ts_energy.cpu().numpy()
    return {
        "n_minima": network.n_minima,
        "n_transition_states": network.n_edges,
        "n_components": network.n_components,
        "n_funnels": len(divided(tree)),
        "lowest_energy": float(energy.min()),
        "energy_range": float(np.ptp(energy)),
        "highest_transition_state": float(ts.max()) if len(ts) else float("nan"),
        "median_uphill_barrier": _median(uphill),
        "median_downhill_barrier": _median(downhill),
        "connected_fraction": network.connected_fraction,
    }


def _scale(network: Network) -> float:
    scale = _median(barriers(network).uphill.cpu().numpy())
    if not scale > 0:
        raise TorchscapeError("scaled=True needs a landscape with positive barriers: search for transition states")
    return scale


def _samples(network: Network, tree: MergeTree, scale: float) -> dict[str, np.ndarray]:
    both, depth = barriers(network), tree.persistence
    parts = {
        "energy": network.levels - network.levels.min(),
        "uphill": both.uphill,
        "downhill": both.downhill,
        "persistence": depth[depth.isfinite()],
    }
    return {name: values.double().cpu().numpy() / scale for name, values in parts.items()}


def _difference(a: np.ndarray, b: np.ndarray) -> Difference:
    from scipy.stats import ks_2samp, wasserstein_distance

    median = _median(a), _median(b)
    if not len(a) or not len(b):
        return Difference(median, float("nan"), float("nan"), float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # the exact p-value of some sizes falls back with a warning
        test = ks_2samp(a, b)
    return Difference(median, float(wasserstein_distance(a, b)), float(test.statistic), float(test.pvalue))


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")
