"""One member of a family: a landscape, its points as they are followed, and their links to the neighbours."""

from __future__ import annotations

import torch

from torchscape.explore.curvatures import characterise_new
from torchscape.landscape import Landscape
from torchscape.optimise import relax
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles import characterise, confirm
from torchscape.symmetry.pairs import pair_distances
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["DOWN", "UP", "Member"]

UP, DOWN = 0, 1


class Member:
    """The stationary points at one value of the control parameter.

    Attributes:
        value: of the control parameter.
        points: minima and transition states of the landscape first; what only continuation has found is appended.
        ids: database id of each; -1 where it is not stored.
        link: for each point, the row in the next (column ``UP``) and the previous (``DOWN``) member; -1 for none.
        tried: whether it has been followed that way.
    """

    def __init__(self, value: float, potential: Potential, landscape: Landscape) -> None:
        self.value, self.potential, self.landscape = value, potential, landscape
        minima, saddles = landscape.minima(), landscape.transition_states()
        points = StationaryPoints.cat([part.replace(eigenvalues=None) for part in (minima, saddles)])
        self.points = characterise(potential, points).replace(eigenvalues=None) if len(points) else points
        self.ids = torch.cat([landscape.minimum_ids(), landscape.transition_state_ids()])
        self.link = torch.full((len(points), 2), -1)
        self.tried = torch.zeros(len(points), 2, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.points)

    def receive(self, arrivals: StationaryPoints) -> Int[Tensor, "B"]:
        """The rows of points that were followed to here; those that are new are appended, and stored where the
        landscape takes them."""
        rows = self.match(arrivals)
        new = torch.nonzero(rows < 0)[:, 0]
        if len(new) == 0:
            return rows
        fresh = arrivals[new.to(arrivals.x.device)]
        rows[new] = len(self.points) + torch.arange(len(new))
        self.points = StationaryPoints.cat([self.points, fresh])
        self.ids = torch.cat([self.ids, self._store(fresh)])
        self.link = torch.cat([self.link, torch.full((len(new), 2), -1)])
        self.tried = torch.cat([self.tried, torch.zeros(len(new), 2, dtype=torch.bool)])
        return rows

    def match(self, arrivals: StationaryPoints) -> Int[Tensor, "B"]:
        """The row of the point that each arrival is up to symmetry, the nearest of several; -1 for none."""
        rows = torch.full((len(arrivals),), -1)
        matching, energy = self.landscape.matching, self.points.energy.cpu()
        window = matching.window(arrivals.energy.cpu(), arrivals.energy.dtype)
        similar: Bool[Tensor, "B N"] = (arrivals.energy.cpu()[:, None] - energy).abs() <= window[:, None]
        similar &= arrivals.index.cpu()[:, None] == self.points.index.cpu()
        i, j = similar.nonzero(as_tuple=True)
        if len(i) == 0:
            return rows
        a, b = arrivals.x.cpu().double(), self.points.x.cpu().double()
        distance = pair_distances(self.potential.symmetry, a, i, b, j)
        table = torch.full(similar.shape, torch.inf, dtype=torch.float64)
        table[i, j] = distance
        best, at = table.min(1)
        return torch.where(best <= matching.distance_tol * self.potential.length_scale, at, rows)

    def _store(self, points: StationaryPoints) -> Int[Tensor, "B"]:
        """Put new points into the landscape; their ids there, -1 for the refused and for higher saddles."""
        ids = torch.full((len(points),), -1)
        none = torch.zeros(len(points), dtype=torch.int64)
        minima, saddles = (torch.nonzero(points.index == index)[:, 0] for index in (0, 1))
        with self.landscape.transaction():
            if len(minima):
                ids[minima.cpu()] = self.landscape.add_minima(points[minima], hits=none[: len(minima)])
                characterise_new(self.landscape, self.potential)
            if len(saddles):
                ids[saddles.cpu()] = self._store_saddles(points[saddles])
        return ids

    def _store_saddles(self, points: StationaryPoints) -> Int[Tensor, "E"]:
        """Transition states with the minima that their downhill paths end in."""
        found = confirm(self.potential, points)
        none = torch.zeros(len(found), dtype=torch.int64)
        ends = [self.landscape.add_minima(end, hits=none) for end in (found.minus, found.plus)]
        characterise_new(self.landscape, self.potential)
        bounds, leaves = self.potential.bounds, None
        if bounds is not None and not bounds.keep_walls:
            leaves = torch.stack([~bounds.interior(end.x) & end.converged for end in (found.minus, found.plus)], 1)
        ids = self.landscape.add_transition_states(found.ts, *ends, leaves=leaves, hits=none)
        told = found.candidate_ts.cpu()
        return torch.where(told >= 0, ids[told.clamp(min=0)], -1) if len(ids) else torch.full((len(points),), -1)

    def late_minima(self) -> StationaryPoints:
        """Minima that were stored while transition states were: the ends of their paths."""
        known = self.ids[(self.points.index == 0).cpu()]
        ids = self.landscape.minimum_ids()
        late = ids[~torch.isin(ids, known)]
        return characterise(self.potential, self.landscape.minima(late)).replace(eigenvalues=None)

    def nearest_image(self, x: Float[Tensor, "B D"], like: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The images of x that lie closest to ``like``."""
        return self.potential.symmetry.align(like, x) if len(x) else x


def seed_minima(landscape: Landscape, potential: Potential, neighbour: Landscape) -> None:
    """Relax the minima of a neighbouring landscape in this one, and add where they end without counting a hit."""
    if neighbour.n_minima == 0:
        return
    ends = relax(potential, neighbour.minima().x.to(potential.device, potential.dtype))
    landscape.add_minima(ends, hits=torch.zeros(len(ends), dtype=torch.int64))
    characterise_new(landscape, potential)
