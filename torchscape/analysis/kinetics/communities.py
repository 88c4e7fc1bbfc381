"""Rates between several sets of minima, each to each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from torchscape.analysis.kinetics.groups import Groups, disjoint_sets
from torchscape.analysis.kinetics.passage import log_mean_first_passage_times, rate_constants_from
from torchscape.analysis.kinetics.rate_theory import Rates
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.types import Float, Tensor

__all__ = ["CommunityRates", "community_rates"]


@brief
@dataclasses.dataclass(frozen=True)
class CommunityRates:
    """Rate constants between K sets of minima: entry [J, I] of each matrix is J <- I; the diagonals are NaN.

    Attributes:
        sets: the minima of each set.
        log_occupation: ln of the equilibrium occupation of each set [K].
        log_mfpt, log_k_mfpt, log_k, log_k_steady_state, log_k_non_steady_state: as in
            :class:`~torchscape.analysis.RateConstants`, [K K].
    """

    sets: Sequence[Tensor]
    log_occupation: Float[Tensor, "K"]
    log_mfpt: Float[Tensor, "K K"]
    log_k_mfpt: Float[Tensor, "K K"]
    log_k: Float[Tensor, "K K"]
    log_k_steady_state: Float[Tensor, "K K"]
    log_k_non_steady_state: Float[Tensor, "K K"]

    def __len__(self) -> int:
        return len(self.sets)


def community_rates(
    rates: Rates, groups: Groups, *, method: str = "auto", progress: bool = False
) -> CommunityRates:
    """Rate constants between given sets of minima, both ways between each two of them.

    What :func:`~torchscape.analysis.rate_constants` says of every pair: all other minima, those of third sets too,
    are intervening ones. Steady-state and non-steady-state rates treat them as such; passage times are one
    elimination for each target set. Cost: K^2 eliminations for K sets.

    Args:
        rates: the network of rates.
        groups: a label for each minimum, -1 for those in no set; or lists of positions.
        method: as for :func:`~torchscape.analysis.graph_transformation`.
        progress: show progress bars.

    Raises:
        TorchscapeError: if there are fewer than two sets, or they overlap.

    References: Wales (2002), doi 10.1080/00268970210162691; Swinburne & Wales (2020),
    doi 10.1021/acs.jctc.9b01211.

    Example:
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> net = Network.of([0.0, 1.0, 0.5], [(0, 1), (1, 2)], [3.0, 3.0])
        >>> found = community_rates(rates(net, 0.1), [[0], [2]])
        >>> bool(found.log_k[0, 1] > found.log_k[1, 0]), found.log_k.shape
        (True, torch.Size([2, 2]))
    """
    sets = disjoint_sets(groups, rates.n_minima)
    if len(sets) < 2:
        raise TorchscapeError(f"rates between sets need two of them at least, not {len(sets)}: give more groups")
    names = ("log_mfpt", "log_k_mfpt", "log_k", "log_k_steady_state", "log_k_non_steady_state")
    like = rates.log_occupation
    found = {name: like.new_full((len(sets), len(sets)), torch.nan) for name in names}
    as_tensors = [torch.as_tensor(members).to(rates.minima) for members in sets]
    for to, target in enumerate(sets):
        times = log_mean_first_passage_times(rates, as_tensors[to], method=method, progress=progress)
        for start, source in enumerate(sets):
            if start == to:
                continue
            row = rate_constants_from(rates, target, source, times, method=method, progress=progress)
            for name in names:
                found[name][to, start] = getattr(row, name)
    log_p = torch.stack([like[members].logsumexp(0) for members in as_tensors])
    return CommunityRates(as_tensors, log_p, **found)
