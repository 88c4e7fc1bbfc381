"""Members of an ensemble by thermodynamics: the lowest minima, those that compete, and their Boltzmann weights."""

from __future__ import annotations

import torch

from torchscape.analysis.thermodynamics.peaks import heat_capacity_peaks
from torchscape.analysis.thermodynamics.superposition import log_occupation
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE

__all__ = ["boltzmann_weights", "select_by_peaks", "select_lowest"]


def select_lowest(network: Network, k: int) -> Int[Tensor, "K"]:
    """The k minima of lowest energy, the lowest first.

    Example:
        >>> select_lowest(Network.of([0.3, 0.1, 0.2], [], []), 2).tolist()
        [1, 2]
    """
    COUNT.check("select_lowest", k=k)
    return network.levels.argsort(stable=True)[: min(k, network.n_minima)]


def select_by_peaks(network: Network, k: int) -> Int[Tensor, "K"]:
    """The minima that the heat-capacity peaks exchange: qualitatively different fits that compete.

    The peaks take turns, the one at the lowest temperature first; each hands over the minimum not yet chosen whose
    occupation changes fastest with temperature there, |dp_a/dT|.

    Raises:
        TorchscapeError: if the heat capacity has no peak.

    Reference: Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, 4.1 and 5.2.

    Example:
        >>> net = Network.of([0.0, 1.0, 1.5], [], [], log_det=[0.0, -8.0, 0.0])
        >>> sorted(select_by_peaks(net, 2).tolist())
        [0, 1]
    """
    COUNT.check("select_by_peaks", k=k)
    peaks = heat_capacity_peaks(network)
    if not peaks:
        raise TorchscapeError("the heat capacity of this network has no peak: select by energy or by group")
    ranking = torch.stack([peak.derivative.abs().argsort(descending=True, stable=True) for peak in peaks])
    return _first_of_each(ranking.T.flatten(), min(k, network.n_minima))


def boltzmann_weights(network: Network, members: Int[Tensor, "K"], temperature: float) -> Float[Tensor, "K"]:
    """Harmonic occupation probabilities of the members at a temperature, among themselves.

    Args:
        network: all minima (:func:`torchscape.analysis.occupation`).
        members: positions of the members.
        temperature: T in the unit of energy (k_B = 1). For a loss that is a mean over n items, T = 1 / n is
            the Bayesian posterior.

    Example:
        >>> net = Network.of([0.0, 0.5, 0.0], [], [])
        >>> boltzmann_weights(net, torch.tensor([0, 2]), 0.1).tolist()
        [0.5, 0.5]
    """
    POSITIVE.check("boltzmann_weights", temperature=temperature)
    return log_occupation(network, temperature)[members].softmax(0)


def _first_of_each(values: Int[Tensor, "M"], k: int) -> Int[Tensor, "K"]:
    """The first k different values, in the order of their first appearance."""
    unique, number = values.unique(return_inverse=True)
    place = torch.arange(len(values), device=values.device)
    first = torch.full_like(unique, len(values)).scatter_reduce(0, number, place, "amin")
    return unique[first.argsort()][:k]
