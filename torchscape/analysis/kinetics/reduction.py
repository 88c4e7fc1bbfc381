"""Reduced networks: one state for each group of minima, with the passage times between the groups."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.analysis.kinetics.groups import Groups, labels_of
from torchscape.analysis.kinetics.rate_theory import Rates
from torchscape.analysis.kinetics.shorted import Shorted
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.types import Float, Int, Tensor

__all__ = ["ReducedNetwork", "reduced_network"]

_AGREE = 1e-6  # relative: passage times of the reduced network and those it was made for


@brief
@dataclasses.dataclass(frozen=True)
class ReducedNetwork:
    """K states that stand for groups of minima.

    Attributes:
        label: group of each minimum [N].
        log_occupation: ln of the equilibrium occupation of each group [K].
        passage_times: [J, I] is the mean time from group I to group J, 0 on the diagonal [K K].
        rates: the rate matrix dP/dt = R P, whose columns sum to zero, that has exactly these passage times [K K].
        local_equilibrium: the rate matrix of groups that are in equilibrium within themselves, which overestimates
            the rates where they are not [K K].
        temperature: T.
    """

    label: Int[Tensor, "N"]
    log_occupation: Float[Tensor, "K"]
    passage_times: Float[Tensor, "K K"]
    rates: Float[Tensor, "K K"]
    local_equilibrium: Float[Tensor, "K K"]
    temperature: float

    def __len__(self) -> int:
        return len(self.log_occupation)

    @property
    def is_markovian(self) -> bool:
        """Whether no rate between two groups is negative. Negative ones say that a group relaxes too slowly inside
        to be one state.
        """
        off = self.rates - torch.diag(self.rates.diagonal())
        return bool((off >= -_AGREE * self.rates.abs().amax()).all())

    def chain(self) -> Rates:
        """The same as rates between minima, for everything that is a function of :class:`Rates`.

        Raises:
            TorchscapeError: if a rate is negative.
        """
        if not self.is_markovian:
            raise TorchscapeError(
                "a rate between two groups is negative: they relax too slowly inside to be states of a Markov "
                "chain; divide them, or use local_equilibrium"
            )
        c = self.rates * self.log_occupation.exp()
        c = ((c + c.T) / 2).clamp(min=0)
        edges = torch.triu(c > 0, 1).nonzero().T.contiguous()
        states = torch.arange(len(self), device=edges.device)
        return Rates(self.temperature, self.log_occupation, edges, c[edges[0], edges[1]].log(), states)


def reduced_network(
    rates: Rates, groups: Groups, *, method: str = "auto", progress: bool = False
) -> ReducedNetwork:
    """Lump minima into groups so that the passage times between the groups are kept.

    With T_ij the mean first-passage time from minimum j to minimum i, the time from group J to group I is

    T_IJ = (1 / P_I P_J) sum_{i in I, j in J} p_i T_ij p_j - (1 / P_I^2) sum_{i, i' in I} p_i T_ii' p_i',

    and there is one chain of K states with these passage times, which is that of Hummer and Szabo: the correlation
    functions of the groups have the same integrals in both networks. Each row takes one elimination, with the most
    populated minimum of the target group kept, so that times within groups do not drown in those between.

    Args:
        rates: the network of rates; of one connected component.
        groups: a label for each minimum, or lists of positions; every minimum must be in one.
        method: as for :func:`~torchscape.analysis.graph_transformation`.
        progress: show progress bars.

    Raises:
        TorchscapeError: if groups overlap or leave a minimum out, if there are fewer than two, or no path joins
            two of them, or if rates between groups span so much that a rate matrix does not have the passage times
            within a relative 1e-6.

    References: Hummer & Szabo, J. Phys. Chem. B 119, 9029 (2015), doi 10.1021/jp508375q; Kells, Koskin, Rosta &
    Annibale, J. Chem. Phys. 152, 104108 (2020), doi 10.1063/1.5143504; Kannan, Sharpe, Swinburne & Wales,
    J. Chem. Phys. 153, 244108 (2020), doi 10.1063/5.0025174.

    Example:
        >>> from torchscape.analysis import rates
        >>> from torchscape.network import Network
        >>> chain = rates(Network.of([0.0] * 4, [(0, 1), (1, 2), (2, 3)], [0.1, 1.0, 0.1]), 0.1)
        >>> small = reduced_network(chain, [[0, 1], [2, 3]])
        >>> round(float(small.rates[1, 0] * small.passage_times[1, 0]), 9)
        1.0
    """
    label = labels_of(groups, rates.n_minima)
    k = int(label.max(initial=-1)) + 1
    if k < 2:
        raise TorchscapeError(f"a reduced network has two groups or more, not {k}: give more")
    log_p = rates.log_occupation.double().cpu().numpy()
    log_of_group = np.full(k, -np.inf)
    np.logaddexp.at(log_of_group, label, log_p)
    share = log_p - log_of_group[label]
    times = np.zeros((k, k))
    for target in range(k):
        times[target] = _passage_times(rates, label, target, log_p, share, log_of_group, method, progress)
    occupation = np.exp(log_of_group)
    matrix = _rate_matrix(times, occupation)
    error = np.abs(_times_of(matrix, occupation) - times)
    if not (error <= _AGREE * np.abs(times)).all():
        raise TorchscapeError(
            "rates between the groups span too many orders of magnitude for a rate matrix with their passage "
            "times: use fewer groups, a higher temperature, or graph_transformation with one minimum of each"
        )
    like = rates.log_occupation
    return ReducedNetwork(
        label=torch.as_tensor(label).to(rates.minima),
        log_occupation=torch.as_tensor(log_of_group).to(like),
        passage_times=torch.as_tensor(times).to(like),
        rates=torch.as_tensor(matrix).to(like),
        local_equilibrium=torch.as_tensor(_local_equilibrium(rates, label, log_of_group)).to(like),
        temperature=rates.temperature,
    )


def _passage_times(rates, label, target, log_p, share, log_of_group, method, progress) -> np.ndarray:
    """A row of T_IJ, from times to one minimum s of the group, and times spent in the group on the way there."""
    members = np.flatnonzero(label == target)
    s = members[log_p[members].argmax()]
    problem = Shorted.of(rates, [np.array([s])], method, progress=progress)
    if (problem.node < 0).any():
        raise TorchscapeError("no path joins two of the minima: take one component (network.largest_component())")
    inside = np.where(label == target, log_p, -np.inf)
    to_s = problem.on_minima(problem.factors.solve(problem.log_weight), np.inf).double().cpu().numpy()
    spent = problem.on_minima(problem.factors.solve(problem.pooled(inside)), np.inf).double().cpu().numpy()
    spent = spent - log_of_group[target]
    top = max(to_s.max(), spent.max())
    of_group = [np.bincount(label, np.exp(share + x - top)) for x in (to_s, spent)]
    time, within = of_group
    row = (time - time[target] - (within - within[target])) * np.exp(top)
    if not np.isfinite(row).all():
        raise TorchscapeError("a passage time overflows float64: rescale the energies or raise the temperature")
    row[target] = 0.0
    return row


def _rate_matrix(times: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The rate matrix with these passage times: conductances are inverse to resistances T_IJ + T_JI."""
    k = len(p)
    resistance = times + times.T
    ground = int(p.argmax())
    rest = np.delete(np.arange(k), ground)
    to_ground = resistance[rest, ground]
    green = (to_ground[:, None] + to_ground - resistance[np.ix_(rest, rest)]) / 2
    scale = 1 / np.sqrt(np.diag(green))
    inverse = np.linalg.pinv(green * scale[:, None] * scale, rcond=1e-15) * scale[:, None] * scale
    laplacian = np.zeros((k, k))
    laplacian[np.ix_(rest, rest)] = (inverse + inverse.T) / 2
    laplacian[rest, ground] = laplacian[ground, rest] = -laplacian.sum(1)[rest]
    laplacian[ground, ground] = -laplacian[ground, rest].sum()
    return -laplacian / p


def _times_of(matrix: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Mean first-passage times of a chain with this rate matrix, by a linear solve for each target."""
    k = len(p)
    times = np.zeros((k, k))
    for target in range(k):
        rest = np.delete(np.arange(k), target)
        inside = matrix[np.ix_(rest, rest)]
        scale = np.abs(np.diag(inside))
        times[target, rest] = np.linalg.solve((inside / scale).T, -1 / scale)
    return times


def _local_equilibrium(rates: Rates, label: np.ndarray, log_of_group: np.ndarray) -> np.ndarray:
    """R_JI = sum of c_ij / P_I."""
    k = len(log_of_group)
    i, j = label[rates.edges.cpu().numpy()]
    log_c = rates.log_conductance.double().cpu().numpy()
    between = i != j
    matrix = np.full((k, k), -np.inf)
    np.logaddexp.at(matrix, (i[between], j[between]), log_c[between])
    matrix = np.exp(np.logaddexp(matrix, matrix.T) - log_of_group)
    return matrix - np.diag(matrix.sum(0))
