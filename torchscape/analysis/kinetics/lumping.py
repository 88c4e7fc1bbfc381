"""Kinetic lumping: minima that interconvert fast become one state, as a second opinion beside modularity."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch

from torchscape.analysis.kinetics.rate_theory import Rates, rates
from torchscape.analysis.topology.tree import merge_tree
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE

if TYPE_CHECKING:
    from torchscape.analysis.kinetics.relaxation import RelaxationSpectrum

__all__ = ["Lumping", "kinetic_lumping", "slow_memberships"]


@brief
@dataclasses.dataclass(frozen=True)
class Lumping:
    """Metastable states: groups of minima that exchange slowly.

    Attributes:
        label: state of each minimum, numbered by descending occupation of their most populated minima [N].
        attractor: the most populated minimum of each state [K].
        log_occupation: ln of the summed occupation probabilities of each state [K].
        log_exit_rate: ln of the estimated rate from each attractor to a more populated state; -inf for the most
            populated state of each connected component [K].
        log_slowest_inside: ln of the slowest such rate among the minima that were lumped: the states are well
            separated where all finite ``log_exit_rate`` are much smaller; +inf if nothing was lumped.
        temperature: T.
    """

    label: Int[Tensor, "N"]
    attractor: Int[Tensor, "K"]
    log_occupation: Float[Tensor, "K"]
    log_exit_rate: Float[Tensor, "K"]
    log_slowest_inside: float
    temperature: float

    def __len__(self) -> int:
        return len(self.attractor)


def kinetic_lumping(
    network: Network, temperature: float, *, n_states: int | None = None, rate: float | None = None
) -> Lumping:
    """Lump minima into metastable states, by the barriers of the free-energy landscape at a temperature.

    With F_a = -T ln p_a and F_ab = -T ln(k_{a<-b} p_b), each minimum has a lowest free-energy barrier, over any
    path, to a more populated one, and exp(-barrier / T) estimates the rate of getting there. The K slowest of
    these rates belong to the K slowest relaxation modes as T -> 0, and the minima behind them are the attractors
    of K metastable states. Nothing here loses accuracy however many orders of magnitude rates span.

    Args:
        network: N minima, E transition states.
        temperature: T, in units of the energy (k_B = 1).
        n_states: number of states; at least that of connected components.
        rate: states that exchange more slowly than this stay apart. Without either, the states are cut at the
            largest gap between successive rates.

    O(E log E).

    Raises:
        TorchscapeError: if both ``n_states`` and ``rate`` are given, or ``n_states`` is below the components.

    Reference: Bovier, Gayrard & Klein, J. Eur. Math. Soc. 7, 69 (2005), doi 10.4171/JEMS/22; Evans & Wales,
    J. Chem. Phys. 121, 1080 (2004), doi 10.1063/1.1759317.

    Example:
        >>> net = Network.of([0.0, 0.1, 0.0, 0.2], [(0, 1), (1, 2), (2, 3)], [0.5, 2.0, 0.5])
        >>> kinetic_lumping(net, 0.1).label.tolist()
        [0, 0, 1, 1]
    """
    POSITIVE.check("kinetic_lumping", temperature=temperature)
    COUNT.or_none.check("kinetic_lumping", n_states=n_states)
    POSITIVE.or_none.check("kinetic_lumping", rate=rate)
    if n_states is not None and rate is not None:
        raise TorchscapeError("give n_states or a rate, not both: each decides where to cut")
    chain = rates(network, temperature)
    tree = merge_tree(_free_energy_landscape(chain))
    log_exit = -tree.persistence  # of every minimum, to a more populated one
    cut = _cut(log_exit, n_states, rate)
    attractor = (log_exit < cut).nonzero().reshape(-1)
    attractor = attractor[chain.log_occupation[attractor].argsort(descending=True, stable=True)]
    root = _follow(tree.into, attractor)
    number = torch.zeros_like(root)
    number[attractor] = torch.arange(len(attractor), device=root.device)
    label = number[root]
    inside = log_exit[log_exit >= cut]
    weight = chain.log_occupation.new_zeros(len(attractor))
    weight = weight.index_add(0, label, (chain.log_occupation - chain.log_occupation.max()).exp())
    return Lumping(
        label=label,
        attractor=attractor,
        log_occupation=weight.log() + chain.log_occupation.max(),
        log_exit_rate=log_exit[attractor],
        log_slowest_inside=float(inside.min()) if len(inside) else math.inf,
        temperature=float(temperature),
    )


def _free_energy_landscape(chain: Rates) -> Network:
    """Minima at -ln p, transition states at -ln c: free energies in units of T."""
    return Network.of(-chain.log_occupation, chain.edges, -chain.log_conductance, dtype=chain.log_occupation.dtype)


def _cut(log_exit: Float[Tensor, "N"], n_states: int | None, rate: float | None) -> float:
    """The ln rate below which minima remain states of their own."""
    if rate is not None:
        return math.log(rate)
    ordered = log_exit.sort().values
    n, n_components = len(ordered), int(ordered.isneginf().sum())
    if n_states is not None:
        if not n_components <= n_states <= max(n, 1):
            raise TorchscapeError(
                f"n_states = {n_states}: {n} minima in {n_components} connected components allow "
                f"{n_components} to {n} states"
            )
        return float(ordered[n_states]) if n_states < n else math.inf
    finite = ordered[n_components:]
    if len(finite) < 2:
        return math.inf if len(finite) == 0 else float(finite[0])
    return float(finite[int(finite.diff().argmax()) + 1])


def _follow(into: Int[Tensor, "N"], stay: Int[Tensor, "K"]) -> Int[Tensor, "N"]:
    """Where each minimum arrives if all but some hand over to the one they fall into (pointer doubling)."""
    to = into.clone()
    to[stay] = stay
    while not torch.equal(further := to[to], to):
        to = further
    return to


def slow_memberships(spectrum: RelaxationSpectrum, log_occupation: Float[Tensor, "N"], n_states: int) -> Tensor:
    """Soft membership of each minimum in ``n_states`` states, from the slowest relaxation modes (PCCA+).

    The slow coordinates psi_a of the minima lie close to a simplex whose corners are the states; the inner simplex
    algorithm finds the corners among the minima. Memberships [N K] sum to 1 and may be slightly negative where
    the states are not well separated. O(N K^2), after the O(N^3) of the spectrum.

    Args:
        spectrum: of :func:`torchscape.analysis.relaxation_spectrum`.
        log_occupation: of the same :class:`~torchscape.analysis.Rates`.
        n_states: K.

    Reference: Weber & Galliat, ZIB-Report 02-12 (2002); Roeblitz & Weber, Adv. Data Anal. Classif. 7, 147 (2013),
    doi 10.1007/s11634-013-0134-6.

    Example:
        >>> from torchscape.analysis import rates, relaxation_spectrum
        >>> net = Network.of([0.0, 0.1, 0.0, 0.2], [(0, 1), (1, 2), (2, 3)], [0.5, 2.0, 0.5])
        >>> chain = rates(net, 0.1)
        >>> slow_memberships(relaxation_spectrum(chain), chain.log_occupation, 2).round(decimals=3).abs().tolist()
        [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    if not 1 <= n_states <= spectrum.modes.shape[1]:
        raise TorchscapeError(f"n_states = {n_states}: ask for 1 to {spectrum.modes.shape[1]} states")
    shifted = 0.5 * (log_occupation - log_occupation.max())
    psi = spectrum.modes[:, :n_states] / shifted.exp()[:, None]
    corners: list[int] = []
    left = psi.clone()
    for k in range(n_states):
        corner = int(left.norm(dim=1).argmax())
        corners.append(corner)
        if k == 0:  # the first corner becomes the origin
            left = left - left[corner]
        else:  # what remains is what the corners so far do not span
            along = left[corner] / left[corner].norm()
            left = left - (left @ along)[:, None] * along
    chosen = torch.as_tensor(corners, device=psi.device)
    chosen = chosen[log_occupation[chosen].argsort(descending=True)]
    return torch.linalg.solve(psi[chosen].T, psi.T).T
