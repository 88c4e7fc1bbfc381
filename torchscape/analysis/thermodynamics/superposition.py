"""Harmonic superposition: what each minimum weighs at a temperature.

Every quantity is a function of the per-minimum log partition functions

    ln Z_a(T) = ln g_a - E_a / T - 1/2 sum_i ln mu_i + k_a ln T,

so that nothing overflows, whatever the temperature. All of it is differentiable in T. Units: k_B = 1; a
vibrational mode of curvature mu counts (T / mu)^(1/2), a zero mode counts 1. Energies that the network does not
tell apart are equal (:attr:`torchscape.Network.levels`). Temperatures may be one number or any
number of them; results have their shape, followed by the minima where there is a result for each.

References: Wales, *Energy Landscapes* (2003), doi 10.1017/CBO9780511721724; Ballard et al. (2017),
doi 10.1039/c7cp01108c, eq. 5.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

import torch

from torchscape.errors import TorchscapeError
from torchscape.memory import in_chunks
from torchscape.network import Network
from torchscape.types import Float, Int, Tensor

__all__ = [
    "free_energy",
    "group_free_energy",
    "log_occupation",
    "log_partition",
    "log_partition_by_minimum",
    "lpphe",
    "mean_energy",
    "occupation",
    "shannon_entropy",
]

_CHUNK_ENTRIES = 250_000
"""Entries of a [T N] block worked on at once: temporaries of 2 MB stay in a processor's caches, which halves the
time at 10^5 minima; a GPU wants work enough for all its units."""


def as_temperatures(network: Network, temperatures: float | Sequence[float] | Tensor) -> Float[Tensor, "T"]:
    """One temperature or many as a vector in the network's dtype and on its device, checked to be positive.

    An empty list is an empty vector: functions of temperatures then return their values at none, [0] or [0 N].

    Raises:
        TorchscapeError: if a temperature is not a positive finite number, or the network has no minima.
    """
    if network.n_minima == 0:
        raise TorchscapeError("the network has no minima: add some before asking for its thermodynamics")
    t = like_energies(network, temperatures).reshape(-1)
    wrong = t[~((t > 0) & torch.isfinite(t))]
    if len(wrong):
        raise TorchscapeError(
            "temperatures must be positive and finite (k_B = 1, in the unit of the energy): "
            f"got {wrong[0].item()}; drop it from the grid, or use a small positive one"
        )
    return t


def log_partition_by_minimum(
    network: Network, temperatures: float | list[float] | Float[Tensor, "*T"], *, momenta: bool = False
) -> Float[Tensor, "*T N"]:
    """ln Z_a(T) of every minimum in the harmonic approximation.

    ln Z_a = ln g_a - E_a / T - log_det_a / 2 + k_a ln T, with k_a = kappa_a / 2.

    With ``momenta`` the kinetic part adds (max kappa / 2) ln T to every minimum: momenta live in all
    directions, flat ones too, and therefore never change an occupation probability.

    Args:
        network: the minima; ``log_det``, ``log_degeneracy`` and ``n_modes`` enter.
        temperatures: in units of the energy.
        momenta: whether to count the kinetic degrees of freedom.

    Returns:
        [*T N]; for many minima and temperatures this is large, the other functions here work in chunks.

    Raises:
        TorchscapeError: if a temperature is not positive, a ``log_det`` is NaN, or the number of modes unknown.

    Example:
        >>> net = Network.of([0.0, 1.0], [], [], log_det=[0.0, 2.0], n_modes=2)
        >>> log_partition_by_minimum(net, 1.0).tolist()
        [0.0, -2.0]
    """
    t = as_temperatures(network, temperatures)
    _expect_log_det(network)
    return _shaped(_log_z(network, t, momenta), temperatures)


def log_partition(
    network: Network, temperatures: float | list[float] | Float[Tensor, "*T"], *, momenta: bool = False
) -> Float[Tensor, "*T"]:
    """ln Z(T) = ln sum_a Z_a(T), the harmonic superposition partition function (doi 10.1039/c7cp01108c, eq. 5).

    Example:
        >>> net = Network.of([0.0, 0.0], [], [], n_modes=2)
        >>> log_partition(net, [1.0]).exp().tolist()
        [2.0]
    """
    return over_temperatures(network, temperatures, lambda t: _log_z(network, t, momenta).logsumexp(1))


def log_occupation(
    network: Network, temperatures: float | list[float] | Float[Tensor, "*T"]
) -> Float[Tensor, "*T N"]:
    """ln p_a(T): finite even where p_a itself underflows."""
    return over_temperatures(network, temperatures, lambda t: _log_weight(network, t).log_softmax(1))


def occupation(network: Network, temperatures: float | list[float] | Float[Tensor, "*T"]) -> Float[Tensor, "*T N"]:
    """Equilibrium occupation probabilities p_a(T) = Z_a(T) / Z(T).

    Example:
        >>> net = Network.of([0.0, 1.0], [], [])
        >>> occupation(net, [1e-3, 1e3]).round(decimals=3).tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    return over_temperatures(network, temperatures, lambda t: _log_weight(network, t).softmax(1))


def mean_energy(
    network: Network, temperatures: float | list[float] | Float[Tensor, "*T"], *, momenta: bool = False
) -> Float[Tensor, "*T"]:
    """<E>(T) = sum_a p_a (E_a + k_a T) = T^2 d ln Z / dT; the kinetic energy is included with ``momenta``.

    Example:
        >>> net = Network.of([3.0], [], [], n_modes=4)
        >>> mean_energy(net, [0.5]).tolist(), mean_energy(net, [0.5], momenta=True).tolist()
        ([4.0], [5.0])
    """

    def mean(t: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        return (_log_weight(network, t).softmax(1) * internal_energy(network, t, momenta)).sum(1)

    return over_temperatures(network, temperatures, mean)


def shannon_entropy(
    network: Network, temperatures: float | list[float] | Float[Tensor, "*T"]
) -> Float[Tensor, "*T"]:
    """S(T) = -sum_a p_a ln p_a: how many minima share the population (Niroomand et al. 2024, eq. 2).

    exp(S) is the effective number of occupied minima. With x_a = ln Z_a - max ln Z it is computed as
    ln sum_a exp(x_a) - sum_a p_a x_a, a sum without cancellation: S keeps its digits where nearly all of the
    population is in one minimum. doi 10.1039/d3dd00204g.

    Example:
        >>> net = Network.of([0.0] * 8, [], [])
        >>> round(float(shannon_entropy(net, 0.1).exp()), 9)
        8.0
    """

    def entropy(t: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        log_z = _log_weight(network, t)
        top = log_z.argmax(1, keepdim=True)
        x = log_z - log_z.gather(1, top)
        weight = x.exp()
        others = weight.scatter(1, top, 0.0).sum(1)
        return others.log1p() - (weight * x).sum(1) / (1.0 + others)

    return over_temperatures(network, temperatures, entropy)


def free_energy(
    network: Network, temperatures: float | list[float] | Float[Tensor, "*T"], *, momenta: bool = False
) -> Float[Tensor, "*T N"]:
    """F_a(T) = -T ln Z_a(T) of every minimum, in units of the energy.

    Example:
        >>> free_energy(Network.of([2.0], [], [], n_modes=2), 1.0).tolist()
        [2.0]
    """
    return over_temperatures(network, temperatures, lambda t: -t[:, None] * _log_z(network, t, momenta))


def group_free_energy(
    network: Network,
    temperatures: float | list[float] | Float[Tensor, "*T"],
    groups: Int[Tensor, "N"],
    *,
    momenta: bool = False,
) -> Float[Tensor, "*T G"]:
    """F_G(T) = -T ln sum_{a in G} Z_a(T) of groups of minima: superbasins, communities, funnels.

    Args:
        network: the minima.
        temperatures: in units of the energy.
        groups: a label 0..G-1 for every minimum; negative labels are left out.
        momenta: as in :func:`log_partition`.

    Returns:
        [*T G]; +inf for a label that no minimum has.

    Raises:
        TorchscapeError: if no minimum carries a label.

    Example:
        >>> import torch
        >>> net = Network.of([0.0, 0.0, 1.0], [], [])
        >>> (-group_free_energy(net, 1.0, torch.tensor([0, 0, 1]))).exp().round(decimals=6).tolist()
        [2.0, 0.367879]
    """
    inside = groups >= 0
    if not bool(inside.any()):
        raise TorchscapeError("every group label is negative: give labels 0..G-1 to the minima to be grouped")
    labels, n_groups = groups[inside], int(groups.max()) + 1

    def grouped(t: Float[Tensor, "T"]) -> Float[Tensor, "T G"]:
        log_z = _log_z(network, t, momenta)[:, inside]
        index = labels.expand(len(t), -1)
        top = log_z.new_full((len(t), n_groups), -torch.inf)
        top = top.scatter_reduce(1, index, log_z.detach(), "amax")
        shifted = (log_z - top.gather(1, index)).exp()
        total = log_z.new_zeros(len(t), n_groups).scatter_add(1, index, shifted)
        return -t[:, None] * (total.log() + top)

    return over_temperatures(network, temperatures, grouped)


def lpphe(network: Network, *, zero_mode_curvature: float | None = None) -> Float[Tensor, "N"]:
    """The log product of positive Hessian eigenvalues of every minimum: small for wide basins.

    lpphe_a = sum_i ln mu_i over the kappa_a non-zero eigenvalues. Where minima differ in their number of zero
    modes, sums over different numbers of factors do not compare; with ``zero_mode_curvature`` mu_0 every missing
    mode counts as a mode of that curvature, lpphe_a + (max kappa - kappa_a) ln mu_0. A natural choice is the
    curvature that regularisation would give it (2 lambda for an energy lambda |theta|^2).

    Raises:
        TorchscapeError: if a ``log_det`` is NaN, or ``zero_mode_curvature`` is not positive.

    Example:
        >>> import torch
        >>> net = Network.of([0.0, 0.0], [], [], log_det=[1.0, 1.0], n_modes=torch.tensor([3, 2]))
        >>> lpphe(net, zero_mode_curvature=1.0).tolist()
        [1.0, 1.0]
    """
    _expect_log_det(network)
    if zero_mode_curvature is None:
        return network.log_det
    if not zero_mode_curvature > 0:
        raise TorchscapeError(f"zero_mode_curvature must be positive, not {zero_mode_curvature}")
    missing = (network.n_modes.max() - network.n_modes).to(network.log_det)
    return network.log_det + missing * torch.as_tensor(zero_mode_curvature).to(network.log_det).log()


def internal_energy(network: Network, t: Float[Tensor, "T"], momenta: bool = False) -> Float[Tensor, "T N"]:
    """U_a(T) = E_a + k_a T, the mean energy of each minimum's harmonic well."""
    return network.levels + t[:, None] * exponents(network, momenta)


def exponents(network: Network, momenta: bool = False) -> Float[Tensor, "N"]:
    """k_a, the power of T in Z_a: kappa_a / 2, and max kappa / 2 more with momenta.

    Raises:
        TorchscapeError: where the number of modes kappa_a is not known.
    """
    if bool((network.n_modes < 0).any()):
        raise TorchscapeError(
            "the number of vibrational modes of the minima is unknown, and heat capacities, mean energies and "
            "free energies depend on it: give it where the network is read, as in export.read_pathsample(folder, "
            "n_modes=3 * n_atoms - 6), or on the command line as --modes"
        )
    modes = network.n_modes.to(network.energy)
    return (modes + modes.max()) / 2 if momenta else modes / 2


def relative_exponents(network: Network) -> Float[Tensor, "N"]:
    """k_a less that of the lowest minimum, which is all that populations and rates depend on.

    Where the number of modes is unknown of all minima, they are taken to have equally many.

    Raises:
        TorchscapeError: where it is unknown of some only.
    """
    if bool((network.n_modes < 0).all()):
        return torch.zeros_like(network.energy)
    power = exponents(network)
    return power - power[network.levels.argmin()]


def over_temperatures(
    network: Network, temperatures: float | list[float] | Tensor, f: Callable[[Tensor], Tensor]
) -> Tensor:
    """f of a vector of temperatures, in chunks whose [T N] temporaries fit; the result has their own shape."""
    t = as_temperatures(network, temperatures)
    _expect_log_det(network)
    parts = [f(chunk) for chunk in chunks(network, t)]
    return _shaped(torch.cat(parts) if len(parts) != 1 else parts[0], temperatures)


def like_energies(network: Network, temperatures: float | Sequence[float] | Tensor) -> Float[Tensor, "*T"]:
    """The temperatures as a tensor of their own shape, in the network's dtype and on its device.

    Raises:
        TorchscapeError: if they are no numbers.
    """
    try:
        return torch.as_tensor(temperatures, dtype=network.energy.dtype, device=network.energy.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TorchscapeError(
            f"temperatures={temperatures!r:.60}; give a positive number, or a list or tensor of them"
        ) from error


def _shaped(values: Float[Tensor, "T *S"], temperatures: float | list[float] | Tensor) -> Float[Tensor, "..."]:
    return values.reshape(torch.as_tensor(temperatures).shape + values.shape[1:])


def chunks(network: Network, t: Float[Tensor, "T"]) -> Iterator[Float[Tensor, "C"]]:
    """The temperatures in pieces whose [T N] temporaries fit; an empty grid is one empty piece."""
    yield from in_chunks(t, network.n_minima, on_host=_CHUNK_ENTRIES)


def _log_z(network: Network, t: Float[Tensor, "T"], momenta: bool = False) -> Float[Tensor, "T N"]:
    constant = network.log_degeneracy - network.log_det / 2
    return constant - network.levels / t[:, None] + exponents(network, momenta) * t.log()[:, None]


def _log_weight(network: Network, t: Float[Tensor, "T"]) -> Float[Tensor, "T N"]:
    """ln (Z_a / Z_b) with b the lowest minimum.

    Differences are taken before anything is divided by T: energies of -5000 at T = 0.1 would otherwise cost a
    probability five digits.
    """
    levels = network.levels
    b = levels.argmin()
    constant = network.log_degeneracy - network.log_degeneracy[b] - (network.log_det - network.log_det[b]) / 2
    return constant - (levels - levels[b]) / t[:, None] + relative_exponents(network) * t.log()[:, None]


def _expect_log_det(network: Network) -> None:
    bad = int(torch.isnan(network.log_det).sum())
    if bad:
        raise TorchscapeError(
            f"log_det is NaN for {bad} of {network.n_minima} minima: explore the landscape once more, which "
            "computes what is missing (as saddles.characterise does), or leave them out with network.subset"
        )
    _warn_of_families(network)


def _warn_of_families(network: Network) -> None:
    """Z of a family is its volume times (2 pi T)^(k / 2) / sqrt(prod mu): the volume is not known here."""
    if network.n_flat is None or network.n_minima < 2 or not bool((network.n_flat > 0).any()):
        return
    counts = network.n_flat.unique().tolist()
    told = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    warnings.warn(
        f"minima are continuous families with {told} flat directions, each weighed as if its volume were one: "
        "populations, heat capacities and rates are relative to that; regularise the directions (l2), or declare "
        "the symmetry",
        stacklevel=4,
    )
