"""Single-ended searches from minima, for the transition states that no path between neighbours meets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from torchscape import random
from torchscape.devices import HOST
from torchscape.explore.chosen import check_chosen, chosen_ids
from torchscape.explore.strategy import Round, State, Strategy
from torchscape.explore.tasks import Found, Task, dealt, joined_candidates
from torchscape.landscape import Landscape
from torchscape.potentials.base import Potential
from torchscape.saddles import Follow, ModesAndRandom, climb
from torchscape.saddles.certify import exact_twin
from torchscape.saddles.directions import Directions
from torchscape.saddles.search import candidates_above
from torchscape.transfer import moved
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, check_fields

__all__ = ["ClimbFromChosen", "ClimbFromMinima"]

_OWN = 0xC1


@dataclasses.dataclass(frozen=True)
class ClimbFromMinima(Strategy):
    """Climbs out of every minimum in many directions; each climb ends in a transition state or a named reason.

    The minima that were climbed from least come first, the lower ones first among equals; minima that turn up
    on the way get their share too. It stops when every minimum has had its ``searches``, or when ``patience``
    searches in a row have found no new transition state.

    Attributes:
        searches: climbs per minimum.
        directions: how a climb starts: along modes and random displacements by turns, or one of the two.
        patience: climbs without a new transition state after which to stop; None never does.
        round_searches: climbs to a round, which is numbered and committed as one.
        max_minima: only from the lowest so many minima; None for all.
        connected: only from minima that are connected with the lowest one: where there are more minima than anyone
            will find, one network grows instead of many.
        refine: options of the eigenvector-following.
        tol: RMS gradient of transition states and of the ends of their paths; None for 1e-8 in float64.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.FunctionPotential(lambda x: (x[0]**2 - 1)**2 + x[1]**2, 2)
        >>> with tsc.Landscape.in_memory(surface) as landscape:
        ...     strategies = [tsc.BasinHopping(walkers=16, hops=0), tsc.ClimbFromMinima(searches=4)]
        ...     report = tsc.explore(landscape, surface, strategies=strategies, progress=False)
        ...     landscape.n_minima, landscape.n_transition_states
        (2, 1)
    """

    searches: int = 50
    directions: Directions = dataclasses.field(default_factory=ModesAndRandom)
    patience: int | None = None
    round_searches: int = 256
    max_minima: int | None = None
    connected: bool = False
    refine: Follow = dataclasses.field(default_factory=Follow)
    tol: float | None = None
    name = "climb"
    any_time = ("searches", "patience", "max_minima", "connected")

    def __post_init__(self) -> None:
        check_fields(
            self,
            searches=COUNT_OR_ZERO,
            patience=COUNT.or_none,
            round_searches=COUNT,
            max_minima=COUNT.or_none,
            tol=NOT_NEGATIVE.or_none,
        )

    def start(self, landscape: Landscape, potential: Potential, seed: int) -> State:
        return {
            "seed": seed,
            "climbed": torch.zeros(0, dtype=torch.int64),  # climbs from each minimum, by id
            "n_known": landscape.n_transition_states,
            "since_new": 0,
        }

    def propose(self, landscape: Landscape, potential: Potential, state: State) -> Round | None:
        if self.patience is not None and state["since_new"] >= self.patience:
            return None
        ids = self._open_to(landscape, state)[: self.max_minima]
        climbed = _counts(state["climbed"], ids)
        open_ = climbed < self.searches
        ids, climbed = ids[open_], climbed[open_]
        if len(ids) == 0:
            return None
        # As many rounds over the open minima as fit: repeat i of a minimum is its climb number climbed + i.
        repeats = max(1, self.round_searches // len(ids))
        number = climbed[:, None] + torch.arange(repeats)
        rows, column = torch.nonzero(number < self.searches, as_tuple=True)
        order = number[rows, column].argsort(stable=True)[: self.round_searches]
        chosen = ids[rows[order]]
        before = number[rows, column][order]
        key = random.fold(state["seed"], chosen, before)
        x = landscape.minima(chosen, device=HOST).x
        return Round([Climbs(x, key, before, self.directions, self.refine, self.tol)], {"ids": chosen})

    def _open_to(self, landscape: Landscape, state: State) -> Int[Tensor, "N"]:
        """Ids of the minima to climb from, the lowest first."""
        return _connected(landscape) if self.connected else landscape.minimum_ids()

    def foresee(self, landscape: Landscape, potential: Potential, state: State, round: Round) -> Sequence[Task]:
        next = self.propose(landscape, potential, self._after(landscape, state, round))
        return () if next is None else next.tasks

    def absorb(self, landscape: Landscape, state: State, round: Round, found: Sequence[Found], ids: Any) -> State:
        return self._after(landscape, state, round)

    def _after(self, landscape: Landscape, state: State, round: Round) -> State:
        chosen = round.detail["ids"]
        climbed = _counts(state["climbed"], torch.arange(max(int(chosen.max()) + 1, len(state["climbed"]))))
        climbed += torch.bincount(chosen, minlength=len(climbed))
        n_known = landscape.n_transition_states
        since_new = state["since_new"] + len(chosen) if n_known == state["n_known"] else 0
        return {**state, "climbed": climbed, "n_known": n_known, "since_new": since_new}

    def progress(self, state: State) -> tuple[int, int | None]:
        return int(state["climbed"].sum()), None


@dataclasses.dataclass(frozen=True)
class ClimbFromChosen(ClimbFromMinima):
    """:class:`ClimbFromMinima` from chosen minima only; what turns up on the way gets no share.

    Attributes:
        minima: which.
        numbering: what ``minima`` are: "id", the ids of the file, or "energy", their places in order of energy
            when this search begins, 0 the lowest; it then stays with those.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.FunctionPotential(lambda x: (x[0]**2 - 1)**2 + x[1]**2, 2)
        >>> with tsc.Landscape.in_memory(surface) as landscape:
        ...     climbing = tsc.explore.ClimbFromChosen(minima=(0,), searches=4)
        ...     strategies = [tsc.BasinHopping(walkers=1, hops=0), climbing]
        ...     report = tsc.explore(landscape, surface, strategies=strategies, progress=False)
        ...     landscape.n_minima, landscape.n_transition_states
        (2, 1)
    """

    minima: int | Sequence[int] = 0
    numbering: str = "id"
    name = "climb-from"
    numbered: ClassVar[Sequence[str]] = ("minima",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_chosen(self, "minima")

    def start(self, landscape: Landscape, potential: Potential, seed: int) -> State:
        ids = chosen_ids(landscape, self.minima, self.numbering, self.name)
        own = int(random.fold(seed, _OWN))  # random directions that the search from all minima does not take
        return {**super().start(landscape, potential, own), "ids": ids.unique()}

    def _open_to(self, landscape: Landscape, state: State) -> Int[Tensor, "N"]:
        wanted = landscape.represented(state["ids"])
        ids = super()._open_to(landscape, state)
        return ids[torch.isin(ids, wanted)]


@dataclasses.dataclass(frozen=True)
class Climbs:
    """One climb from each row of ``x``, with a random key of its own and the number of climbs before it; ``known``
    are minima that its paths may end in."""

    x: Float[Tensor, "B D"]
    key: Int[Tensor, "B"]
    number: Int[Tensor, "B"]
    directions: Directions
    refine: Follow
    tol: float | None
    known: Float[Tensor, "K D"] | None = None
    is_part: bool = False  # of which only the candidates are wanted
    kind = "climb"

    @property
    def n_rows(self) -> int:
        return len(self.x)

    def divided(self, n: int) -> list[Climbs]:
        if min(n, self.n_rows) < 2:
            return [self]
        whole = dataclasses.replace(self, known=self.x if self.known is None else self.known, is_part=True)
        return [
            dataclasses.replace(whole, x=self.x[rows], key=self.key[rows], number=self.number[rows])
            for rows in dealt(self.n_rows, n)
        ]

    def joined(self, found: Sequence[Found]) -> Found:
        inputs = [range(self.n_rows)[rows] for rows in dealt(self.n_rows, len(found))]
        known = self.x if self.known is None else self.known
        return joined_candidates(found, inputs, self.refine, self.tol, known, is_part=self.is_part)

    def run(self, potential: Potential) -> Found:
        known = self.x if self.known is None else self.known
        start = (self.x.to(potential.dtype), self.key, self.number, known.to(potential.dtype))
        x, keys, number, known = moved(start, potential.device)
        how: dict[str, Any] = {
            "directions": self.directions, "keys": keys, "number": number, "refine": self.refine, "tol": self.tol
        }  # fmt: skip
        if self.is_part and exact_twin(potential).dtype == potential.dtype:
            some = candidates_above(potential, x, **how)
            return Found(some.points[:0], state={"candidates": some})
        saddles = climb(potential, x, **how, known=known)
        return Found(saddles.minus[:0], saddles, n_evaluations=saddles.n_evaluations)


def _connected(landscape: Landscape) -> Int[Tensor, "N"]:
    """The lowest minimum and those that transition states connect with it, the lowest first."""
    network = landscape.network(coords=False)
    if network.n_minima == 0:
        return network.ids
    return network.ids[network.connected_to(network.global_minimum)]


def _counts(climbed: Int[Tensor, "K"], ids: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    """Climbs so far from the minima ``ids``; 0 for those that were not known then."""
    inside = ids < len(climbed)
    return torch.where(inside, climbed[ids.clamp(max=max(len(climbed) - 1, 0))], 0) if len(climbed) else 0 * ids
