"""From members to branches: sweeps up and down the control parameter until nothing new turns up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from torchscape.families.bifurcations import Bifurcation, locate_crossing
from torchscape.families.continuation import Continuation, Continued, continue_points, correct
from torchscape.families.endings import Ending, ending_of
from torchscape.families.members import DOWN, UP, Member
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.progress import progress_bar
from torchscape.types import Float, Int, Tensor

__all__ = ["Crossing", "Sweeps"]


@dataclasses.dataclass(frozen=True)
class Crossing:
    """A branch whose index changes between member ``k`` (its row there) and the next."""

    k: int
    row: int
    found: Bifurcation


@dataclasses.dataclass(frozen=True)
class _Earlier:
    """Positions in a batch, and where those points were at an earlier value."""

    known: Int[Tensor, "K"]
    value: float
    x: Float[Tensor, "K D"]

    def of(self, i: int) -> tuple[float, Tensor] | None:
        """Value and place of number ``i`` of the batch, if it was there."""
        at = torch.nonzero(self.known == i)[:, 0].tolist()
        return (self.value, self.x[at[0]]) if at else None


class Sweeps:
    """Follows every point of every member to both neighbours.

    Attributes:
        endings: why the point (member, row) could not be followed that way, under (member, row, way).
        crossings: where followed branches change their index.
    """

    def __init__(
        self,
        at: Callable[[float], Potential],
        members: Sequence[Member],
        *,
        between: bool,
        options: Continuation,
        progress: bool,
    ) -> None:
        self.at, self.members, self.between = at, members, between
        self.options, self.progress = options, progress
        self.endings: dict[tuple[int, int, int], Ending] = {}
        self.crossings: list[Crossing] = []

    def run(self) -> None:
        """Sweeps until every point has been followed both ways."""
        last = len(self.members) - 1
        with progress_bar(show=self.progress, desc="follow branches", unit=" steps") as bar:
            while any(bool((~m.tried).any()) for m in self.members):
                for k in range(last + 1):
                    self._take_late_minima(self.members[k])
                    self._follow(k, UP)
                    bar.update()
                for k in range(last, -1, -1):
                    self._take_late_minima(self.members[k])
                    self._follow(k, DOWN)
                    bar.update()

    def can_follow(self, k: int, way: int) -> bool:
        """Whether there is a neighbour that way, with as many coordinates."""
        to = k + (1 if way == UP else -1)
        if not 0 <= to < len(self.members):
            return False
        return self.members[to].potential.ndim == self.members[k].potential.ndim

    def _take_late_minima(self, member: Member) -> None:
        late = member.late_minima()
        if len(late):
            member.receive(late)

    def _follow(self, k: int, way: int) -> None:
        """All points of member k that have not been followed that way yet, as one batch."""
        member = self.members[k]
        rows = torch.nonzero(~member.tried[:, way] & (member.link[:, way] < 0))[:, 0]
        member.tried[:, way] = True
        if len(rows) == 0 or not self.can_follow(k, way):
            return
        to = self.members[k + (1 if way == UP else -1)]
        before = self._before(k, way, rows)
        points = member.points[rows.to(member.points.x.device)]
        done = continue_points(
            self.at,
            points,
            member.value,
            to.value,
            velocity=self._velocity(k, points.x, before),
            between=self.between,
            options=self.options,
        )
        arrived = torch.nonzero(done.arrived)[:, 0]
        self._link(k, way, rows[arrived], done.points[arrived.to(points.x.device)])
        for i in torch.nonzero(~done.arrived)[:, 0].tolist():
            if (k, int(rows[i]), way) in self.endings:  # the partner of one before it
                continue
            self._end(k, way, int(rows[i]), done, i, before.of(i))

    def _before(self, k: int, way: int, rows: Int[Tensor, "B"]) -> _Earlier:
        """Those rows that come from the member behind, and where they were there, as images close to here."""
        behind = self.members[k].link[rows, 1 - way]
        known = torch.nonzero(behind >= 0)[:, 0]
        member = self.members[k]
        device = member.points.x.device
        if len(known) == 0:
            return _Earlier(known, member.value, member.points.x[:0])
        earlier = self.members[k + (-1 if way == UP else 1)]
        x = member.nearest_image(
            earlier.points.x[behind[known].to(device)], member.points.x[rows[known].to(device)]
        )
        return _Earlier(known, earlier.value, x)

    def _velocity(self, k: int, x: Float[Tensor, "B D"], before: _Earlier) -> Float[Tensor, "B D"]:
        """dx/dp from the member before; zero for points that begin here."""
        velocity = torch.zeros_like(x)
        known = before.known.to(x.device)
        if len(known):
            velocity[known] = (x[known] - before.x) / (self.members[k].value - before.value)
        return velocity

    def _link(self, k: int, way: int, rows: Int[Tensor, "B"], arrivals: StationaryPoints) -> None:
        """Arrivals become points of the neighbour; one branch for each."""
        if len(rows) == 0:
            return
        step = 1 if way == UP else -1
        member, to = self.members[k], self.members[k + step]
        targets = to.receive(arrivals)
        for n, (row, target) in enumerate(zip(rows.tolist(), targets.tolist(), strict=True)):
            arrival = arrivals[n : n + 1]
            if int(to.link[target, 1 - way]) >= 0:
                self.endings[k, row, way] = self._take(member, row, to)
                continue
            member.link[row, way], to.link[target, 1 - way] = target, row
            to.points.x[target] = arrival.x[0]  # the image that continues the branch
            here = member.points[row : row + 1]
            if int(here.index) != int(arrival.index) and member.potential.ndim <= self.options.dense_limit:
                pair = StationaryPoints.cat([here, arrival])
                found = locate_crossing(
                    self.at, member.value, to.value, pair, between=self.between, options=self.options
                )
                if found is not None:
                    lower = (k, row) if way == UP else (k - 1, target)
                    self.crossings.append(Crossing(*lower, found))

    def _take(self, member: Member, row: int, to: Member) -> Ending:
        middle, half = 0.5 * (member.value + to.value), 0.5 * abs(to.value - member.value)
        reason = "arrived where another branch had arrived before"
        point = member.points[row : row + 1]
        nan = float("nan")
        return Ending(
            "lost",
            middle,
            half,
            float(point.energy),
            point.x[0],
            nan,
            reason,
            int(point.index),
            (member.value, to.value),
        )

    def _end(
        self,
        k: int,
        way: int,
        row: int,
        done: Continued,
        i: int,
        before: tuple[float, Float[Tensor, "D"]] | None,
    ) -> None:
        ending = ending_of(self.at, done, i, before=before, between=self.between, options=self.options)
        self.endings[k, row, way] = ending
        if ending.fold is not None:
            self._add_partner(k, way, ending, done, i)

    def _add_partner(self, k: int, way: int, ending: Ending, done: Continued, i: int) -> None:
        """Across a fold lies a branch that ends there too: followed back to the member, which may not know it."""
        member, fold = self.members[k], ending.fold
        assert fold is not None
        own, reached = done.points[i : i + 1], float(done.reached[i])
        side = (own.x[0] - fold.x) @ fold.mode
        guess = own.x - 2 * side * fold.mode
        partner = correct(self.at(reached), guess, own.index, self.options)
        new = bool(partner.converged) and abs(int(partner.index) - int(own.index)) == 1
        if not new or int(partner.index) > 1:
            return
        back = partner
        if reached != member.value:
            walked = continue_points(self.at, partner, reached, member.value, between=True, options=self.options)
            if not bool(walked.arrived):
                return
            back = walked.points
        other = int(member.receive(back)[0])
        if int(member.link[other, way]) >= 0:
            return
        member.tried[other, way] = True
        self.endings[k, other, way] = ending
