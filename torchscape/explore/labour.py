"""Stages of a task whose rows are shared out among workers, while the exploration keeps the books in between.

Several searches come to the same points. Which these are is known when all parts have been put together; what such
a point costs (its curvature, the paths down from it) is then spent once, by whichever worker is free.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from torchscape.devices import HOST
from torchscape.explore.tasks import Divisible, Found, dealt
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.potentials.counted import Metered
from torchscape.saddles import Descent, Follow, Quench
from torchscape.saddles.downhill_paths import ImplicitDescent
from torchscape.saddles.eigenvector_following import Followed, Uphill
from torchscape.saddles.labour import HERE
from torchscape.transfer import moved
from torchscape.types import Float, Tensor

__all__ = ["ByWorkers"]


@dataclasses.dataclass(frozen=True)
class ByWorkers:
    """The labour of a verification, shared out by ``run``."""

    run: Callable[[Divisible], Found]

    def look(
        self, potential: Potential, points: StationaryPoints, *, log_det: bool, first: int
    ) -> tuple[StationaryPoints, Float[Tensor, "B D"]]:
        if len(points) < 2:
            return HERE.look(potential, points, log_det=log_det, first=first)
        return self._spent(potential, _Looks(points.to(HOST), log_det, first))

    def sign(
        self, potential: Potential, points: StationaryPoints, modes: Float[Tensor, "B D"] | None
    ) -> tuple[StationaryPoints, Float[Tensor, "B D"]]:
        if len(points) < 2:
            return HERE.sign(potential, points, modes)
        return self._spent(potential, _Signs(points.to(HOST), None if modes is None else modes.to(HOST)))

    def descend(
        self, potential: Potential, starts: Float[Tensor, "B D"], options: Descent | ImplicitDescent | Quench
    ) -> StationaryPoints:
        if len(starts) < 2:
            return HERE.descend(potential, starts, options)
        return self._spent(potential, _Descents(starts.to(HOST), options))[0]

    def pursue(self, potential: Potential, starts: Uphill, options: Follow) -> Followed:
        if len(starts.x) < 2:
            return HERE.pursue(potential, starts, options)
        return Followed(*self._spent(potential, _Pursuits(moved(starts, HOST), options)))

    def _spent(self, potential: Potential, task: Divisible) -> tuple[StationaryPoints, Float[Tensor, "B K"]]:
        """What a task finds, charged to a potential that counts."""
        found = moved(self.run(task), potential.device)
        if isinstance(potential, Metered):
            potential.charge(found.n_evaluations, found.state["n_hessians"], found.state["n_hvps"])
        mode: Float[Tensor, "B K"] = found.state["mode"]
        return found.minima, mode


class _Stage:
    """A function of rows, whose results are points and, for each, a mode."""

    def joined(self, found: Sequence[Found]) -> Found:
        points = StationaryPoints.cat([one.minima for one in found])
        mode = torch.cat([one.state["mode"] for one in found])
        numbers = [torch.arange(len(points))[rows] for rows in dealt(len(points), len(found))]
        order = torch.cat(numbers).argsort()
        counts = {name: sum(one.state[name] for one in found) for name in ("n_hessians", "n_hvps")}
        n_evaluations = sum(one.n_evaluations for one in found)
        return Found(points[order], state={"mode": mode[order], **counts}, n_evaluations=n_evaluations)


def _found(u: Metered, points: StationaryPoints, mode: Float[Tensor, "B K"]) -> Found:
    state = {"mode": mode, "n_hessians": u.n_hessians, "n_hvps": u.n_hvps}
    return Found(points, state=state, n_evaluations=u.n_gradients)


@dataclasses.dataclass(frozen=True)
class _Looks(_Stage):
    """Curvatures of points."""

    points: StationaryPoints
    log_det: bool
    first: int
    kind = "looks"

    @property
    def n_rows(self) -> int:
        return len(self.points)

    def divided(self, n: int) -> list[_Looks]:
        return [dataclasses.replace(self, points=self.points[rows]) for rows in dealt(self.n_rows, n)]

    def run(self, potential: Potential) -> Found:
        u = Metered(potential)
        points = self.points.to(potential.device)
        return _found(u, *HERE.look(u, points, log_det=self.log_det, first=self.first))


@dataclasses.dataclass(frozen=True)
class _Signs(_Stage):
    """Signs of curvatures, beside the unstable modes where these are known."""

    points: StationaryPoints
    modes: Float[Tensor, "B D"] | None
    kind = "signs"

    @property
    def n_rows(self) -> int:
        return len(self.points)

    def divided(self, n: int) -> list[_Signs]:
        some = dealt(self.n_rows, n)
        return [_Signs(self.points[rows], None if self.modes is None else self.modes[rows]) for rows in some]

    def run(self, potential: Potential) -> Found:
        u = Metered(potential)
        modes = None if self.modes is None else self.modes.to(potential.device)
        return _found(u, *HERE.sign(u, self.points.to(potential.device), modes))


@dataclasses.dataclass(frozen=True)
class _Descents(_Stage):
    """Downhill paths."""

    x: Float[Tensor, "B D"]
    options: Descent | ImplicitDescent | Quench
    kind = "descents"

    @property
    def n_rows(self) -> int:
        return len(self.x)

    def divided(self, n: int) -> list[_Descents]:
        return [dataclasses.replace(self, x=self.x[rows]) for rows in dealt(self.n_rows, n)]

    def run(self, potential: Potential) -> Found:
        u = Metered(potential)
        ends = HERE.descend(u, self.x.to(potential.device), self.options)
        return _found(u, ends, ends.x[:, :0])


@dataclasses.dataclass(frozen=True)
class _Pursuits(_Stage):
    """Searches for saddles."""

    starts: Uphill
    options: Follow
    kind = "pursuits"

    @property
    def n_rows(self) -> int:
        return len(self.starts.x)

    def divided(self, n: int) -> list[_Pursuits]:
        rows = dealt(self.n_rows, n)
        starts = [Uphill(self.starts.x[some], self.starts.direction[some]) for some in rows]
        return [dataclasses.replace(self, starts=some) for some in starts]

    def run(self, potential: Potential) -> Found:
        u = Metered(potential)
        ended = HERE.pursue(u, moved(self.starts, potential.device), self.options)
        return _found(u, ended.points, ended.mode)
