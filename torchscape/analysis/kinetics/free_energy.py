"""Free energies of groups of minima and of the transition states between them, and what groups there are."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from torchscape.analysis.kinetics.groups import Groups, disjoint_sets, labels_of
from torchscape.analysis.kinetics.rate_theory import Rates, in_float64, rates
from torchscape.analysis.thermodynamics.superposition import log_partition
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.sparse import links
from torchscape.types import Float, Int, Tensor
from torchscape.validation import POSITIVE

__all__ = ["FreeEnergyGroups", "free_energy_groups", "regroup"]


@brief
@dataclasses.dataclass(frozen=True)
class FreeEnergyGroups:
    """Groups of minima, and the transition states between them, as one free-energy landscape at a temperature.

    Attributes:
        label: group of each minimum, numbered by ascending free energy [N].
        free_energy: F_J = -T ln sum of Z_a over the minima of group J [K]; where numbers of modes are unknown, up
            to a constant.
        edges: pairs (J < K) of groups that transition states join [2 P].
        ts_free_energy: F_JK = F_J - T ln(h k_JK / T) of all of these together [P].
        n_transition_states: how many they are [P].
        representative: the most populated minimum of each group [K].
        size: number of minima of each group [K].
        temperature: T.
        rates: the chain of the groups, each in equilibrium within itself: k_{K<-J} = sum c_jk / p_J.
        n_rounds: rounds of regrouping that changed something.
    """

    label: Int[Tensor, "N"]
    free_energy: Float[Tensor, "K"]
    edges: Int[Tensor, "2 P"]
    ts_free_energy: Float[Tensor, "P"]
    n_transition_states: Int[Tensor, "P"]
    representative: Int[Tensor, "K"]
    size: Int[Tensor, "K"]
    temperature: float
    rates: Rates
    n_rounds: int = 0

    def __len__(self) -> int:
        return len(self.free_energy)

    @property
    def barriers(self) -> Float[Tensor, "2 P"]:
        """Free-energy barriers: row 0 from edges[0] to edges[1], row 1 back."""
        return self.ts_free_energy - self.free_energy[self.edges]

    def network(self, of: Network) -> Network:
        """The groups as minima of their free energies, for the tree and every picture of a network.

        A free-energy barrier may be negative: of a group that none holds at this temperature, though one of
        energies does. Two groups meet no lower than the higher of them, and such a group has a barrier of zero.

        Args:
            of: the network they were made of. Ids and properties are those of each representative.
        """
        of_groups = {name: values[self.representative] for name, values in of.properties.items()}
        return Network.of(
            self.free_energy,
            self.edges,
            torch.maximum(self.ts_free_energy, self.free_energy[self.edges].amax(0)),
            ids=of.ids[self.representative],
            properties={**of_groups, "group_size": self.size.to(self.free_energy)},
            dtype=self.free_energy.dtype,
        )


def free_energy_groups(
    network: Network, temperature: float, groups: Groups, *, planck: float = 1.0
) -> FreeEnergyGroups:
    """Free energies of given groups of minima, and of the transition states between each two of them.

    F_J = -T ln sum_{a in J} Z_a,    F_JK = F_J - T ln(h k_JK / T),    k_JK = sum c_jk / p_J,

    where c_jk are the equilibrium fluxes of harmonic transition-state theory: F_JK is that of all transition
    states between J and K, from either side. O(E log E).

    Args:
        network: N minima, E transition states.
        temperature: T, in units of the energy (k_B = 1).
        groups: a label for each minimum, or lists of positions; every minimum must be in one.
        planck: h in the unit in which transition states are compared with minima; it moves all of them alike.

    Raises:
        TorchscapeError: if groups overlap or leave a minimum out, or a ``log_det`` or ``ts_log_det`` is NaN.

    Reference: Evans & Wales, J. Chem. Phys. 119, 9947 (2003), doi 10.1063/1.1616515.

    Example:
        >>> net = Network.of([0.0, 0.1, 0.3], [(0, 1), (1, 2)], [0.5, 2.0])
        >>> found = free_energy_groups(net, 0.1, [[0, 1], [2]])
        >>> found.size.tolist(), found.edges.T.tolist(), [round(f, 4) for f in found.free_energy.tolist()]
        ([2, 1], [[0, 1]], [0.0838, 0.4151])
    """
    POSITIVE.check("free_energy_groups", temperature=temperature, planck=planck)
    chain = rates(network, temperature)
    label = labels_of(groups, network.n_minima)
    return _grouped(network, chain, label, planck, 0)


def regroup(
    network: Network, temperature: float, threshold: float, *, apart: Groups = (), planck: float = 1.0
) -> FreeEnergyGroups:
    """Lump minima whose free-energy barriers, both ways, are at most ``threshold``; again with the groups, until
    none is left: a self-consistent division into what equilibrates within a time of h / T exp(threshold / T).

    Each round joins all groups between which both barriers F_JK - F_J and F_JK - F_K, of the free energies of the
    last round, are at most the threshold. This is REGROUPFREE of PATHSAMPLE. O(E log E) for each round.

    Args:
        network: N minima, E transition states.
        temperature: T, in units of the energy (k_B = 1).
        threshold: of the free-energy barrier.
        apart: sets of minima, as labels (-1 for the others) or lists of positions, no two of which may come into
            one group: reactants and products. Lower barriers come first then.
        planck: h, which decides what a barrier is; 1 as in PATHSAMPLE.

    Raises:
        TorchscapeError: if the sets overlap, or a ``log_det`` or ``ts_log_det`` is NaN.

    References: Carr & Wales, J. Phys. Chem. B 112, 8760 (2008), doi 10.1021/jp801777p; Wales & Salamon,
    Proc. Natl. Acad. Sci. 111, 617 (2014), doi 10.1073/pnas.1319599111.

    Example:
        >>> net = Network.of([0.0, 0.1, 0.0, 0.2], [(0, 1), (1, 2), (2, 3)], [0.5, 2.0, 0.5])
        >>> regroup(net, 0.1, 1.0).label.tolist()
        [0, 0, 1, 1]
    """
    POSITIVE.check("regroup", temperature=temperature, planck=planck)
    if math.isnan(threshold):
        raise TorchscapeError("threshold is NaN: give the free-energy barrier up to which minima are lumped")
    chain = rates(network, temperature)
    n = network.n_minima
    mark = np.full(n, -1)
    for k, members in enumerate(disjoint_sets(apart, n, "apart")):
        mark[members] = k
    label, rounds = np.arange(n), 0
    while True:
        found = _grouped(network, chain, label, planck, rounds)
        height = found.barriers.amax(0).cpu().numpy()
        low = np.flatnonzero(height <= threshold)
        low = low[np.argsort(height[low], kind="stable")]
        current = found.label.cpu().numpy()
        of_group = np.full(len(found), -1)
        of_group[current[mark >= 0]] = mark[mark >= 0]
        joined = _joined(len(found), found.edges.cpu().numpy()[:, low], of_group)
        if joined.max(initial=-1) + 1 == len(found):
            return found
        label, rounds = joined[current], rounds + 1


def _grouped(network: Network, chain: Rates, label: np.ndarray, planck: float, rounds: int) -> FreeEnergyGroups:
    """Sums over the groups, which are numbered by free energy."""
    t, device = chain.temperature, chain.log_occupation.device
    which = torch.as_tensor(label, device=device)
    n_groups = int(label.max(initial=-1)) + 1
    log_p = _log_sums(chain.log_occupation, which, n_groups)
    order = log_p.argsort(descending=True, stable=True)
    number = order.argsort()
    which, log_p = number[which], log_p[order]
    pairs = which[chain.edges].sort(0).values
    between = pairs[0] != pairs[1]
    key, of_key = torch.unique(pairs[0, between] * n_groups + pairs[1, between], return_inverse=True)
    edges = torch.stack([key // max(n_groups, 1), key % max(n_groups, 1)])
    log_c = _log_sums(chain.log_conductance[between], of_key, len(key))
    states = which[network.edges].sort(0).values
    across = states[0] != states[1]
    count = torch.searchsorted(key, states[0, across] * n_groups + states[1, across]).bincount(minlength=len(key))
    total = network.levels.double().min() - t * log_partition(in_float64(network), t)
    free = total - t * log_p
    first = chain.log_occupation.argsort(descending=True, stable=True)
    first = first[which[first].argsort(stable=True)]
    size = which.bincount(minlength=n_groups)
    return FreeEnergyGroups(
        label=which,
        free_energy=free,
        edges=edges,
        ts_free_energy=total - t * (log_c + math.log(planck / t)),
        n_transition_states=count,
        representative=first[size.cumsum(0) - size],
        size=size,
        temperature=t,
        rates=Rates(t, log_p, edges, log_c, first[size.cumsum(0) - size]),
        n_rounds=rounds,
    )


def _log_sums(values: Float[Tensor, "A"], of: Int[Tensor, "A"], n: int) -> Float[Tensor, "K"]:
    """ln of the sums of exp over each of n groups, none of them empty."""
    top = values.new_full((n,), -torch.inf).scatter_reduce(0, of, values, "amax")
    return values.new_zeros(n).index_add(0, of, (values - top[of]).exp()).log() + top


def _joined(n: int, edges: np.ndarray, mark: np.ndarray) -> np.ndarray:
    """Groups after joining those at the ends of these edges, in order, but never two of different marks."""
    from scipy.sparse.csgraph import connected_components

    if (mark < 0).all():
        return connected_components(links(True, edges[0], edges[1], n), directed=False)[1]
    parent, of = list(range(n)), mark.tolist()

    def find(x: int) -> int:
        while parent[x] != x:
            parent[x] = x = parent[parent[x]]
        return x

    for a, b in edges.T.tolist():
        a, b = find(a), find(b)
        if a != b and (of[a] < 0 or of[b] < 0 or of[a] == of[b]):
            parent[b], of[a] = a, max(of[a], of[b])
    return np.unique([find(x) for x in range(n)], return_inverse=True)[1]
