"""A landscape out of a network that came from elsewhere: every point is converged and verified anew."""

from __future__ import annotations

import dataclasses
from collections import Counter
from enum import IntEnum
from typing import Any

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.optimise import relax
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.rearrangements import Rearrangements
from torchscape.saddles import Certificate, Follow, Outcome, SaddleSearch, confirm, follow
from torchscape.saddles.characterisation import characterise_with_modes
from torchscape.symmetry.pairs import pair_distances
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Fate", "Imported", "expect_coordinates", "import_network"]


class Fate(IntEnum):
    """What became of a point of the network. ``Fate(k).message`` says what it means."""

    SAME = 0
    OTHER_ENERGY = 1
    OTHER_ENDS = 2
    MOVED = 3
    LOST = 4

    @property
    def message(self) -> str:
        return _MESSAGES[self]


_MESSAGES = {
    Fate.SAME: "the same",
    Fate.OTHER_ENERGY: "in the same place with another energy",
    Fate.OTHER_ENDS: "the same, but with other minima at their ends",
    Fate.MOVED: "converged to another point",
    Fate.LOST: "not there",
}

_FIRST_STEP, _MAX_STEP = 0.1, 0.3  # length scales: who begins at a saddle has no need of more


@brief
@dataclasses.dataclass(frozen=True)
class Imported:
    """What became of each point of a network.

    Attributes:
        minima: the id here of each minimum, -1 where it is lost.
        transition_states: the same of the transition states.
        rearrangements: the same of the degenerate rearrangements.
        minimum_fates, ts_fates, rearrangement_fates: a :class:`Fate` of each.
        n_doubles: points of the network that are the same as others of it.
        n_new_minima: minima that downhill paths have ended in and that the network does not have.
        reasons: why points were lost, with their numbers.
    """

    minima: Int[Tensor, "N"]
    transition_states: Int[Tensor, "E"]
    rearrangements: Int[Tensor, "F"]
    minimum_fates: Int[Tensor, "N"]
    ts_fates: Int[Tensor, "E"]
    rearrangement_fates: Int[Tensor, "F"]
    n_doubles: int
    n_new_minima: int
    reasons: dict[str, int]

    @property
    def all_same(self) -> bool:
        """Whether every point is what the network says, and none is there twice."""
        fates = torch.cat([self.minimum_fates, self.ts_fates, self.rearrangement_fates])
        return not bool((fates != Fate.SAME).any()) and self.n_doubles == 0

    def describe(self) -> str:
        """In words, what is not the same first by kind, then by reason."""
        saddles = torch.cat([self.ts_fates, self.rearrangement_fates])
        told = [
            _told("minima", self.minimum_fates),
            _told("transition states", saddles),
            f"{self.n_doubles} are there twice" if self.n_doubles else "",
            f"{self.n_new_minima} minima at the ends of downhill paths are new" if self.n_new_minima else "",
            "lost: " + ", ".join(f"{n} {why}" for why, n in self.reasons.items()) if self.reasons else "",
        ]
        return "; ".join(part for part in told if part)


def _told(kind: str, fates: Int[Tensor, "K"]) -> str:
    counts = Counter(fates.tolist())
    parts = [f"{counts[int(Fate.SAME)]} of {len(fates)} {kind} are the same"]
    parts += [f"{counts[int(fate)]} {fate.message}" for fate in Fate if fate and counts[int(fate)]]
    return ", ".join(parts)


def import_network(
    landscape: Any, network: Network, *, tol: float | None = None, progress: bool = False
) -> Imported:
    """Add the points of a network to a landscape that was opened with its potential, as ``from_network`` does.

    Raises:
        TorchscapeError: as there; nothing is added then.
    """
    potential = landscape.potential
    if potential is None or landscape.is_readonly:
        raise TorchscapeError("import_network(landscape, ...): open it with its potential, for writing")
    expect_coordinates(network, potential)
    return _Import(landscape, potential, network, tol).run(progress)


class _Import:
    """One network on its way into a landscape."""

    def __init__(self, landscape: Any, potential: Potential, network: Network, tol: float | None) -> None:
        self.landscape, self.potential, self.network, self.tol = landscape, potential, network, tol
        self.matching = landscape.matching
        self.reasons: Counter[str] = Counter()

    def run(self, progress: bool) -> Imported:
        network, landscape = self.network, self.landscape
        assert network.coords is not None
        points = relax(self.potential, network.coords, tol=self.tol, progress=progress)
        judged, known = landscape.certified(points, Certificate())
        moved = self._moved(network.coords, judged)
        if network.n_minima and bool((moved | ~judged.converged.cpu()).all()):
            raise TorchscapeError(
                f"none of the {network.n_minima} minima of the network is one of this potential: are units, the "
                "order of the coordinates and the parameters the same?"
            )
        saddles = _saddles(network)
        search = self._converged_saddles(saddles)
        with landscape.transaction():
            run = landscape.begin_run(0, {"imported": f"{network.n_minima} minima, {len(saddles)} saddles"})
            minima = landscape.add_minima(judged, hits=network.hits.cpu(), known=known)
            fates = self._fates(minima, moved, network.energy, judged.energy)
            self._count(minima, judged.status)
            n_before = landscape.n_minima
            ids, ts_fates = self._add_saddles(saddles, search, minima)
            n_new = landscape.n_minima - n_before
            self._attach(minima)
            landscape.finish_run(run, "imported")
        n = network.n_edges
        return Imported(
            minima=minima,
            transition_states=ids[:n],
            rearrangements=ids[n:],
            minimum_fates=fates,
            ts_fates=ts_fates[:n],
            rearrangement_fates=ts_fates[n:],
            n_doubles=_doubles(minima) + _doubles(ids),
            n_new_minima=n_new,
            reasons=dict(self.reasons),
        )

    def _converged_saddles(self, saddles: Rearrangements) -> SaddleSearch:
        """Followed from their places, and verified."""
        potential, x = self.potential, saddles.coords
        assert x is not None
        x = x.to(potential.device, potential.dtype)
        there = StationaryPoints.of(x, x.new_zeros(len(x)))
        mode = characterise_with_modes(potential, there, log_det=False, first=1)[1]
        options = Follow(first_step=_FIRST_STEP, max_step=_MAX_STEP, retry=False, tol=self.tol)
        return confirm(potential, follow(potential, x, mode, options=options).points, tol=self.tol)

    def _add_saddles(
        self, saddles: Rearrangements, search: SaddleSearch, minima: Int[Tensor, "N"]
    ) -> tuple[Int[Tensor, "F"], Int[Tensor, "F"]]:
        """Ids and fates of all transition states, whose ends are added as far as they are new."""
        both = StationaryPoints.cat([search.minus, search.plus])
        uncounted = torch.zeros(len(both), dtype=torch.int64)
        ends = self.landscape.add_minima(both, hits=uncounted, certify=Certificate())
        minus, plus = ends.split(len(search)) if len(search) else (ends, ends)
        row = search.candidate_ts.cpu()
        found = row >= 0
        hits = torch.zeros(len(search), dtype=torch.int64).scatter_add(0, row[found], saddles.hits.cpu()[found])
        added = self.landscape.add_transition_states(
            search.ts, minus, plus, hits=hits, leaves=_leave(self.potential, search)
        )
        ids = torch.full_like(row, -1)
        ids[found] = added[row[found]]
        at = row.clamp(min=0)
        x, energy = search.ts.x.cpu(), search.ts.energy.cpu().double()
        assert saddles.coords is not None
        moved = found.clone()
        moved[found] = self._apart(saddles.coords[found], x[row[found]])
        fates = torch.full_like(row, int(Fate.LOST))
        if len(search):
            fates = self._fates(ids, moved, saddles.energy, energy[at])
            said = torch.cat(
                [self.network.edges.cpu(), saddles.minimum[self.network.n_edges :].cpu().expand(2, -1)], 1
            )
            there = torch.stack([minus, plus])[:, at].sort(0).values
            other = (minima[said].sort(0).values != there).any(0)
            fates = torch.where(other & (fates < Fate.MOVED), int(Fate.OTHER_ENDS), fates)
        for outcome, identity in zip(search.outcome.tolist(), ids.tolist(), strict=True):
            if identity < 0:
                why = Outcome(outcome).name if outcome else "an end is no minimum"
                self.reasons[f"transition states ({why})"] += 1
        return ids, fates

    def _fates(
        self,
        ids: Int[Tensor, "K"],
        moved: Bool[Tensor, "K"],
        said: Float[Tensor, "K"],
        energy: Float[Tensor, "K"],
    ) -> Int[Tensor, "K"]:
        energy = energy.cpu().double()
        tol = self.matching.window(energy, self.potential.dtype) + self.network.resolution
        other = (said.cpu().double() - energy).abs() > tol
        fates = torch.where(other, int(Fate.OTHER_ENERGY), int(Fate.SAME))
        fates = torch.where(moved, int(Fate.MOVED), fates)
        return torch.where(ids < 0, int(Fate.LOST), fates)

    def _moved(self, x: Float[Tensor, "K D"], points: StationaryPoints) -> Bool[Tensor, "K"]:
        return self._apart(x, points.x.cpu())

    def _apart(self, x: Float[Tensor, "K D"], y: Float[Tensor, "K D"]) -> Bool[Tensor, "K"]:
        """Whether points are further from where they were than two that count as one; images are the same."""
        x, y = x.cpu().double(), y.cpu().double()
        far: Bool[Tensor, "K"] = ~((y - x).norm(dim=1) <= self._reach)
        rows = torch.nonzero(far & y.isfinite().all(1))[:, 0]
        far[rows] = ~(pair_distances(self.potential.symmetry, x, rows, y, rows) <= self._reach)
        return far

    @property
    def _reach(self) -> float:
        return float(self.matching.distance_tol * self.potential.length_scale)

    def _count(self, ids: Int[Tensor, "N"], status: Int[Tensor, "N"]) -> None:
        for identity, code in zip(ids.tolist(), status.tolist(), strict=True):
            if identity < 0:
                why = Status(code).name if code != Status.CONVERGED else "refused"
                self.reasons[f"minima ({why})"] += 1

    def _attach(self, minima: Int[Tensor, "N"]) -> None:
        """Properties of the minima that are there; of doubles, those of the first."""
        there = torch.nonzero(minima >= 0)[:, 0].flip(0)
        for name, values in self.network.properties.items():
            known = there[~values[there].isnan()]
            self.landscape.set_property(
                name, dict(zip(minima[known].tolist(), values[known].tolist(), strict=True))
            )


def _saddles(network: Network) -> Rearrangements:
    """The edges of a network, and after them its degenerate rearrangements; ``minimum`` is one end of each."""
    assert network.ts_coords is not None
    edges = Rearrangements.of(
        network.edges[0], network.ts_energy, hits=network.ts_hits, coords=network.ts_coords.double()
    )
    around = network.rearrangements
    if around is None or around.coords is None:
        return edges
    more = Rearrangements.of(around.minimum, around.energy, hits=around.hits, coords=around.coords.double())
    return Rearrangements.cat([edges, more])


def _leave(potential: Potential, search: SaddleSearch) -> Bool[Tensor, "E 2"] | None:
    """Which of the two downhill paths of each transition state ended on a wall of the box."""
    bounds = potential.bounds
    if bounds is None or bounds.keep_walls:
        return None
    bounds = bounds.to(search.ts.x.device)
    return torch.stack([~bounds.interior(end.x) & end.converged for end in (search.minus, search.plus)], 1)


def _doubles(ids: Int[Tensor, "K"]) -> int:
    there = ids[ids >= 0]
    return len(there) - int(there.unique().numel())


def expect_coordinates(network: Network, potential: Potential) -> None:
    """Does the network carry coordinates that this potential could have?

    Raises:
        TorchscapeError: if not.
    """
    around = network.rearrangements
    of_saddles = [network.ts_coords] if network.n_edges else []
    of_saddles += [around.coords] if around is not None and len(around) else []
    for of, x in [("minima", network.coords), *(("transition states", x) for x in of_saddles)]:
        if x is None:
            raise TorchscapeError(
                f"the network carries no coordinates of its {of}, without which nothing can be converged: read a "
                "folder with points.min and points.ts, or ask a landscape for network(coords=True)"
            )
        if x.shape[1] != potential.ndim:
            raise TorchscapeError(
                f"the {of} of the network have {x.shape[1]} coordinates, the potential has {potential.ndim}: give "
                "the potential that they belong to"
            )
