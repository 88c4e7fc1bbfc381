"""Stationary points of every index, for landscapes that are to be known completely."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from torchscape import random
from torchscape.explore.strategy import Round, State, Strategy
from torchscape.explore.tasks import Found, Task, blocks, joined_saddles
from torchscape.landscape import Landscape
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles import NewtonSearch, confirm, find_stationary
from torchscape.types import Bool, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, check_fields

__all__ = ["StationarySearch"]


@dataclasses.dataclass(frozen=True)
class StationarySearch(Strategy):
    """Searches for stationary points of every index from random starts.

    Every other search goes to whatever is near, the rest aims in turn for every index that is known to occur and
    for the next one (see :class:`~torchscape.saddles.NewtonSearch`): the former finds more where points are many,
    the latter where they are few.

    Minima are added as minima; points of index 1 become transition states once their downhill paths are
    followed; the others are kept beside the network (``landscape.stationary_points()``,
    ``landscape.counts_by_index()``). Points that are not isolated, with zero modes that the symmetry does not
    explain, are left out: there are infinitely many. It stops after ``starts`` searches, or when ``patience``
    searches in a row have found no new point.

    For few coordinates: dense Hessians at every step, and numbers of points that grow exponentially.

    Attributes:
        starts: searches in all, from points of ``potential.sample``.
        patience: searches without a new point after which to stop; None never does.
        round_starts: searches to a round, which is numbered and committed as one.
        search: options of the search.
        tol: RMS gradient of all points; None for 1e-8 in float64.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum(), 2, bounds=[(-2, 2), (-2, 2)])
        >>> with tsc.Landscape.in_memory(surface) as landscape:
        ...     strategies = [tsc.StationarySearch(starts=200)]
        ...     report = tsc.explore(landscape, surface, strategies=strategies, progress=False)
        ...     landscape.counts_by_index()
        [4, 4, 1]
    """

    starts: int = 5000
    patience: int | None = 1000
    round_starts: int = 512
    search: NewtonSearch = dataclasses.field(default_factory=NewtonSearch)
    tol: float | None = None
    name = "stationary"
    any_time = ("starts", "patience")

    def __post_init__(self) -> None:
        check_fields(
            self,
            starts=COUNT_OR_ZERO,
            patience=COUNT.or_none,
            round_starts=COUNT,
            tol=NOT_NEGATIVE.or_none,
        )

    def start(self, landscape: Landscape, potential: Potential, seed: int) -> State:
        return {"seed": seed, "done": 0, "n_known": sum(landscape.counts_by_index()), "since_new": 0}

    def propose(self, landscape: Landscape, potential: Potential, state: State) -> Round | None:
        if self.patience is not None and state["since_new"] >= self.patience:
            return None
        # A start depends on the seed and on its number alone, so that a longer search repeats a shorter one.
        block, first = divmod(state["done"], self.round_starts)
        n = min(self.round_starts - first, self.starts - state["done"])
        if n <= 0:
            return None
        seed = int(random.fold(state["seed"], block))
        search = self.search if self.tol is None else dataclasses.replace(self.search, tol=self.tol)
        n_aims = min(len(landscape.counts_by_index()) + 1, potential.ndim + 1)
        return Round([Searches(seed, first, first + n, n_aims, search)])

    def foresee(self, landscape: Landscape, potential: Potential, state: State, round: Round) -> Sequence[Task]:
        next = self.propose(landscape, potential, self._after(landscape, state, round))
        return () if next is None else next.tasks

    def absorb(self, landscape: Landscape, state: State, round: Round, found: Sequence[Found], ids: Any) -> State:
        return self._after(landscape, state, round)

    def _after(self, landscape: Landscape, state: State, round: Round) -> State:
        n = sum(task.n_rows for task in round.tasks if isinstance(task, Searches))
        n_known = sum(landscape.counts_by_index())
        since_new = state["since_new"] + n if n_known == state["n_known"] else 0
        return {**state, "done": state["done"] + n, "n_known": n_known, "since_new": since_new}

    def progress(self, state: State) -> tuple[int, int | None]:
        return state["done"], self.starts


@dataclasses.dataclass(frozen=True)
class Searches:
    """Searches from the starting points number ``first`` to ``stop`` - 1 of a seed, aiming below ``n_aims``."""

    seed: int
    first: int
    stop: int
    n_aims: int
    search: NewtonSearch
    kind = "stationary"

    @property
    def n_rows(self) -> int:
        return self.stop - self.first

    def divided(self, n: int) -> list[Searches]:
        return [
            dataclasses.replace(self, first=self.first + rows.start, stop=self.first + rows.stop)
            for rows in blocks(self.n_rows, n)
        ]

    def joined(self, found: Sequence[Found]) -> Found:
        # which candidate a transition state comes from: those of earlier parts come first
        stops = list(itertools.accumulate(_n_saddles(one) for one in found))
        whole = joined_saddles(found, [range(*ends) for ends in zip([0, *stops[:-1]], stops, strict=True)])
        higher = StationaryPoints.cat([one.higher for one in found if one.higher is not None])
        return dataclasses.replace(whole, higher=higher)

    def run(self, potential: Potential) -> Found:
        starts = potential.sample(self.stop, seed=self.seed)[self.first :]
        number = torch.arange(self.first, self.stop, device=starts.device)
        target = torch.where(number % 2 == 0, -1, number // 2 % self.n_aims)
        found = find_stationary(potential, starts, target=target, options=self.search)
        kept = found[found.converged & _isolated(potential, found)]
        saddles = confirm(potential, kept[kept.index == 1], tol=self.search.tol)
        return Found(
            kept[kept.index == 0],
            saddles,
            kept[kept.index >= 2],
            n_quenches=len(starts),
            n_evaluations=int(found.n_evaluations.sum()) + saddles.n_evaluations,
        )


def _n_saddles(found: Found) -> int:
    """Points of index one that were found."""
    return 0 if found.saddles is None else len(found.saddles.outcome)


def _isolated(potential: Potential, points: StationaryPoints) -> Bool[Tensor, "B"]:
    """Whether the symmetry explains all zero modes."""
    modes = potential.symmetry.zero_modes(points.x)
    explained: Tensor = (modes.norm(dim=2) > 0.5).sum(1)
    return points.n_zero <= explained
