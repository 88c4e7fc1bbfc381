"""Which points are the same: energy window, then invariants, then symmetry-aware distance in one batch.

Two stationary points are one when their energies agree *and* the closest symmetric images agree. Energy alone
merges different minima of flat landscapes; distance alone would need every pair.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import torch

from torchscape import random
from torchscape.devices import HOST
from torchscape.numerics import energy_noise
from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import NOT_NEGATIVE, check_fields

__all__ = ["Catalogue", "Keys", "Matching", "Signature", "first_matches", "leaders"]

_MAX_PAIRS = 1 << 18  # pairs compared by signature at once


@dataclasses.dataclass(frozen=True)
class Matching:
    """When two stationary points count as the same one: both conditions must hold.

    The defaults are those of the field's standard programs (OPTIM, GMIN: 1e-6 and 0.1). A minimum converged to
    RMS gradient g with softest curvature mu is known to g sqrt(D) / mu in position and to half the product of
    that with g sqrt(D) in energy: at g = 1e-8, D = 28, mu = 2e-5 that is 3e-3 and 1e-10, well inside both. Loosen
    ``distance_tol`` when you loosen the convergence of soft landscapes, or tighten the convergence.

    Attributes:
        energy_tol: largest difference in energy, in the potential's unit; None for 1e-6 of its ``energy_scale``,
            which is 1 for potentials of ordinary size. A thousand rounding errors of the energy itself are added.
        distance_tol: largest distance between closest images, in units of ``potential.length_scale``.

    Example:
        >>> Matching().window(torch.tensor([0.0, -173.9], dtype=torch.float64), torch.float64) < 2e-6
        tensor([True, True])
    """

    energy_tol: float | None = None
    distance_tol: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, energy_tol=NOT_NEGATIVE.or_none, distance_tol=NOT_NEGATIVE)

    def of(self, potential: Potential) -> Matching:
        """The same with the default energy window of this potential put in."""
        if self.energy_tol is not None:
            return self
        return dataclasses.replace(self, energy_tol=1e-6 * potential.energy_scale)

    def window(self, energy: Float[Tensor, "B"], dtype: torch.dtype) -> Float[Tensor, "B"]:
        """Half-width of the energy window around each energy computed in ``dtype``."""
        return (1e-6 if self.energy_tol is None else self.energy_tol) + energy_noise(
            energy, 0.0, units=1e3, dtype=dtype
        )


class Signature:
    """At most ``size`` numbers per point that are no further apart than the points: a cheap proof of difference.

    The invariants of the potential's symmetry are 1-Lipschitz; so is their projection on orthonormal directions
    (random ones, fixed once and for all). Signatures further apart than the tolerance therefore belong to
    different points, and only the rest is aligned.
    """

    def __init__(self, potential: Potential, size: int = 16) -> None:
        self.potential = potential
        self.size = size
        self._directions: Float[Tensor, "K S"] | None = None

    def __call__(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B S"]:
        x = x.to(HOST, torch.float64)
        invariants = self.potential.symmetry.invariants(x)
        if invariants.shape[1] > self.size:
            invariants = invariants @ self._project(invariants)
        return invariants

    def _project(self, like: Float[Tensor, "B K"]) -> Float[Tensor, "K S"]:
        if self._directions is None:
            key = random.fold(0, torch.arange(like.shape[1]))
            self._directions = torch.linalg.qr(random.normal(key, self.size))[0].to(like)
        return self._directions


@dataclasses.dataclass(frozen=True)
class Keys:
    """What rows are compared by before any alignment.

    Attributes:
        energy: of each row.
        signature: of each row.
        window: largest difference in energy between the row and its double.
        radius: largest distance between signatures of doubles.
    """

    energy: Float[Tensor, "B"]
    signature: Float[Tensor, "B S"]
    window: Float[Tensor, "B"]
    radius: float

    def pick(self, rows: Int[Tensor, "K"]) -> Keys:
        return Keys(self.energy[rows], self.signature[rows], self.window[rows], self.radius)

    def similar(self) -> Bool[Tensor, "B B"]:
        """Whether rows i and j are not proved different."""
        apart = torch.cdist(self.signature, self.signature, compute_mode="donot_use_mm_for_euclid_dist")
        return ((self.energy[:, None] - self.energy).abs() <= self.window[:, None]) & (apart <= self.radius)


class Catalogue:
    """Energies and signatures of the points of one table, in memory; row number = database id.

    Energies are kept sorted, so that the window of a new point is found by binary search.
    """

    def __init__(self, energy: Float[Tensor, "N"], signature: Float[Tensor, "N S"]) -> None:
        self._sorted, self._order = energy.sort(stable=True)
        self._signature = signature
        self._n = len(energy)

    def __len__(self) -> int:
        return self._n

    def append(self, energy: Float[Tensor, "B"], signature: Float[Tensor, "B S"]) -> None:
        """Add points under the next ids."""
        n, grown = self._n, self._n + len(energy)
        if grown > len(self._signature):  # double, so that adding one by one stays linear
            room = signature.new_empty(max(1024, 2 * grown), signature.shape[1])
            room[:n] = self._signature[:n]
            self._signature = room
        self._signature[n:grown] = signature
        new, by_energy = energy.sort(stable=True)
        at = torch.searchsorted(self._sorted, new, right=True)
        self._sorted = _insert(self._sorted, at, new)
        self._order = _insert(self._order, at, n + by_energy)
        self._n = grown

    def candidates(self, keys: Keys) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"]]:
        """Pairs (row, id) that agree in energy and are not proved different by their signatures."""
        low = torch.searchsorted(self._sorted, keys.energy - keys.window)
        count = torch.searchsorted(self._sorted, keys.energy + keys.window, right=True) - low
        rows, ids = [], []
        for part in _parts(count, _MAX_PAIRS):
            row = part.repeat_interleave(count[part])
            first = (count[part].cumsum(0) - count[part]).repeat_interleave(count[part])
            position = low[row] + torch.arange(len(row)) - first
            found = self._order[position]
            # One coordinate first: where many energies agree this spares most of the gathering.
            near = (self._signature[found, 0] - keys.signature[row, 0]).abs() <= keys.radius
            row, found = row[near], found[near]
            near = (self._signature[found] - keys.signature[row]).norm(dim=1) <= keys.radius
            rows.append(row[near])
            ids.append(found[near])
        none = torch.empty(0, dtype=torch.int64)
        return torch.cat([*rows, none]), torch.cat([*ids, none])


def leaders(
    similar: Bool[Tensor, "B B"], same: Callable[[Int[Tensor, "P"], Int[Tensor, "P"]], Bool[Tensor, "P"]]
) -> Int[Tensor, "B"]:
    """For each row the first row that represents it: its own number where it is new.

    Read row by row: a row joins the first earlier representative it is the ``same`` as, and otherwise represents
    itself. Done in rounds, each of which asks ``same(rows, representatives)`` once for all rows: whoever has no
    undecided earlier candidate left is decided. Copies of few points need few rounds.

    Args:
        similar: ``similar[i, j]`` (j < i) unless i and j are known to differ; the rest is ignored.
        same: the expensive test, on pairs.

    Example:
        >>> x = torch.tensor([0.0, 1.0, 0.05, 1.02, 0.0])
        >>> leaders(torch.ones(5, 5, dtype=torch.bool), lambda i, j: (x[i] - x[j]).abs() < 0.1).tolist()
        [0, 1, 0, 1, 0]
    """
    b = len(similar)
    similar = similar.tril(-1)
    numbers = torch.arange(b, device=similar.device)
    leader = torch.full_like(numbers, b)  # b: none yet
    undecided = torch.ones_like(numbers, dtype=torch.bool)
    while bool(undecided.any()):
        waits_for = _first_true(similar & undecided)
        ready = undecided & ((waits_for > leader) | (waits_for == b))
        new = ready & (leader == b)
        leader = torch.where(new, numbers, leader)
        undecided = undecided & ~ready
        row, representative = (similar & undecided[:, None] & new).nonzero(as_tuple=True)
        better = representative < leader[row]
        row, representative = row[better], representative[better]
        hit = same(row, representative)
        leader = leader.scatter_reduce(0, row[hit], representative[hit], "amin")
    return leader


def first_matches(
    n_rows: int, row: Int[Tensor, "P"], candidate: Int[Tensor, "P"], same: Bool[Tensor, "P"]
) -> Int[Tensor, "B"]:
    """For each row the lowest candidate that is the same, -1 where there is none."""
    none = torch.iinfo(torch.int64).max
    best = torch.full((n_rows,), none, device=row.device).scatter_reduce(0, row[same], candidate[same], "amin")
    return torch.where(best == none, -1, best)


def _parts(count: Int[Tensor, "B"], most: int) -> Iterator[Int[Tensor, "K"]]:
    """Row numbers with a count, in runs whose counts add up to about ``most``."""
    rows = count.nonzero()[:, 0]
    if len(rows) == 0:
        return iter(())
    run = (count[rows].cumsum(0) - 1) // most
    return iter(rows.split(run.unique_consecutive(return_counts=True)[1].tolist()))


def _first_true(mask: Bool[Tensor, "B B"]) -> Int[Tensor, "B"]:
    """Column of the first True of each row, the number of columns where there is none."""
    return torch.where(mask.any(1), mask.to(torch.uint8).argmax(1), mask.shape[1])


def _insert(values: Tensor, at: Int[Tensor, "B"], new: Tensor) -> Tensor:
    """``values`` with ``new`` put before the positions ``at`` (ascending)."""
    target = at + torch.arange(len(at))
    out = values.new_empty(len(values) + len(new))
    old = torch.ones(len(out), dtype=torch.bool)
    old[target] = False
    out[target] = new
    out[old] = values
    return out
