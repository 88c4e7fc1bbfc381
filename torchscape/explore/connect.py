"""Connecting minima: double-ended searches between neighbours, then between what is still apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from torchscape.devices import HOST
from torchscape.explore.neighbours import (
    Lengths,
    Tried,
    direct,
    missing_links,
    nearest,
    others,
    shortest_per_component,
)
from torchscape.explore.strategy import Round, State, Strategy
from torchscape.explore.tasks import Found, Task, dealt, joined_candidates
from torchscape.landscape import Landscape
from torchscape.numerics import DENSE_SPECTRUM
from torchscape.potentials.base import Potential
from torchscape.saddles import Band, Follow, connect
from torchscape.saddles.certify import exact_twin
from torchscape.saddles.known import Known
from torchscape.saddles.search import candidates_between
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, check_fields

__all__ = ["ConnectMinima"]


@dataclasses.dataclass(frozen=True)
class ConnectMinima(Strategy):
    """Finds transition states between pairs of known minima, in two phases.

    First every minimum that other strategies have found is paired with its nearest neighbours in symmetry-aware
    distance. Then, as long as the network falls into components, the missing links are searched: those on the
    paths with the smallest gaps from the global minimum to every component, by Dijkstra's algorithm on squared
    distances (Carr, Trygubenko & Wales 2005, doi 10.1063/1.1931587), and beside them the nearest pairs out of each
    component. A pair is tried at most ``attempts`` times, with a finer band each time. Minima that the downhill
    paths end in are added as they turn up, and take part in the second phase.

    To choose pairs takes memory that grows with the number N of minima, but time that grows with its square: in
    the first phase once for all minima (two minutes at 10^5, and new minima with all others after that), in the
    second in every round (minutes at 10^5, seconds at 10^4). ``max_minima`` bounds both.

    Attributes:
        neighbours: nearest neighbours that each minimum is paired with in the first phase (0 skips it).
        bridges: pairs per component and round in the second phase.
        attempts: tries per pair; the images double with each.
        max_rounds: rounds of the second phase, counted anew when others have found minima.
        round_pairs: pairs searched to a round, which is numbered and committed as one. None for
            128, and for fewer beyond 1000 coordinates: 16 at 8000.
        max_minima: only the lowest so many minima are connected; None for all.
        joined: whether neighbours are searched too that a transition state joins already, or two over a third
            minimum between them, as searches between others have found: see
            :func:`~torchscape.explore.neighbours.direct`.
        grow: whether minima that its own searches turn up are paired with their neighbours too, the nearest pairs
            of all next. A network then becomes denser rather than longer, and ends where nothing new turns up: in
            a rich landscape never, so that ``max_minima`` or a budget has to bound it.
        band, refine: how a path and a transition state are found.
        tol: RMS gradient of transition states and of the ends of their paths; None for 1e-8 in float64.
    """

    neighbours: int = 8
    bridges: int = 4
    attempts: int = 2
    max_rounds: int = 20
    round_pairs: int | None = None
    max_minima: int | None = None
    band: Band = dataclasses.field(default_factory=Band)
    refine: Follow = dataclasses.field(default_factory=Follow)
    tol: float | None = None
    joined: bool = True
    grow: bool = False
    name = "connect"
    any_time = ("max_rounds",)
    later: ClassVar[Mapping[str, Any]] = {"joined": True, "grow": False}
    seeded = False

    def __post_init__(self) -> None:
        check_fields(
            self,
            neighbours=COUNT_OR_ZERO,
            bridges=COUNT_OR_ZERO,
            attempts=COUNT,
            max_rounds=COUNT_OR_ZERO,
            round_pairs=COUNT.or_none,
            max_minima=COUNT.or_none,
            tol=NOT_NEGATIVE.or_none,
        )

    def start(self, landscape: Landscape, potential: Potential, seed: int) -> State:
        # queue: (minimum, minimum, attempt) yet to search; n_seen: ids below have been paired, or are our own
        return {"queue": torch.empty(0, 3, dtype=torch.int64), "n_seen": 0, "done": 0, "rounds": 0}

    def propose(self, landscape: Landscape, potential: Potential, state: State) -> Round | None:
        fresh = self._with_neighbours(landscape, potential, state["n_seen"])
        queue = self._open(landscape, potential, torch.cat([state["queue"], fresh]))
        rounds = 0 if len(fresh) else state["rounds"]
        if len(queue):
            n = int((queue[: self._at_once(potential), 2] == queue[0, 2]).cumprod(0).sum())
            left = {"queue": queue[n:], "rounds": rounds, "n_seen": _after_last(landscape)}
            return self._round(landscape, queue[:n, :2], int(queue[0, 2]), left)
        if rounds >= self.max_rounds:
            return None
        pairs, attempt = self._bridges(landscape, potential)
        left = {"queue": queue, "rounds": rounds + 1, "n_seen": _after_last(landscape)}
        return self._round(landscape, pairs, attempt, left) if len(pairs) else None

    def foresee(self, landscape: Landscape, potential: Potential, state: State, round: Round) -> Sequence[Task]:
        left = round.detail["left"]
        next = (
            self.propose(landscape, potential, self._after(landscape, state, round))
            if len(left["queue"])
            else None
        )
        return () if next is None else next.tasks

    def absorb(self, landscape: Landscape, state: State, round: Round, found: Sequence[Found], ids: Any) -> State:
        return self._after(landscape, state, round)

    def _after(self, landscape: Landscape, state: State, round: Round) -> State:
        after = {**round.detail["left"], "done": state["done"] + len(round.detail["pairs"])}
        return after if self.grow else {**after, "n_seen": _after_last(landscape)}

    def _at_once(self, potential: Potential) -> int:
        return self.round_pairs or max(8, min(128, 128_000 // potential.ndim))

    def progress(self, state: State) -> tuple[int, int | None]:
        return state["done"], state["done"] + len(state["queue"])

    def _open(self, landscape: Landscape, potential: Potential, queue: Int[Tensor, "Q 3"]) -> Int[Tensor, "K 3"]:
        """What is left to search of the queue, whatever has been found since it was made; the nearest first among
        as many attempts, where the queue has grown."""
        if not len(queue) or (self.joined and not self.grow):
            return queue
        ends = landscape.ends()
        ends = ends[(ends >= 0).all(1) & (ends[:, 0] != ends[:, 1])].sort(1).values.unique(dim=0)
        ids = torch.cat([queue[:, :2].flatten(), ends.flatten()]).unique()
        x = landscape.minima(ids, device=HOST).x
        pairs, edges = (torch.searchsorted(ids, some.contiguous()) for some in (queue[:, :2], ends))
        lengths = Lengths.within(landscape)
        length, known = (lengths.of(potential, x, ids, some) for some in (pairs, edges))
        order = length.argsort(stable=True)
        order = order[queue[order, 2].argsort(stable=True)]
        is_open = direct(pairs, length, edges, known, len(ids))
        return queue[order if self.joined else order[is_open[order]]]

    def _with_neighbours(self, landscape: Landscape, potential: Potential, n_seen: int) -> Int[Tensor, "Q 3"]:
        """Minima from id ``n_seen`` on with their nearest neighbours, and which attempt at each pair this is."""
        ids = landscape.minimum_ids()[: self.max_minima]
        new = ids >= n_seen
        if not bool(new.any()):
            return torch.empty(0, 3, dtype=torch.int64)
        x = landscape.minima(ids, device=HOST).x
        lengths = Lengths.within(landscape).measured(potential, x, ids)
        pairs, _ = nearest(
            potential, x, others(len(ids)), self.neighbours, of=new.nonzero()[:, 0], lengths=lengths
        )
        attempt = Tried.of(landscape, ids).times(pairs) + 1
        order = attempt.argsort(stable=True)
        order = order[attempt[order] <= self.attempts]
        return torch.cat([ids[pairs[order]], attempt[order, None]], 1)

    def _round(self, landscape: Landscape, pairs: Int[Tensor, "P 2"], attempt: int, left: dict[str, Any]) -> Round:
        task = ConnectPairs.between(landscape, pairs, self.band.finer(2.0 ** (attempt - 1)), self.refine, self.tol)
        return Round([task], {"pairs": pairs.tolist(), "left": left})

    def _bridges(self, landscape: Landscape, potential: Potential) -> tuple[Int[Tensor, "P 2"], int]:
        """Pairs across components that were tried least."""
        network = landscape.network(coords=True)
        component = network.components().cpu()
        if network.n_minima == 0 or int(component.max()) == 0:
            return torch.empty(0, 2, dtype=torch.int64), 1
        assert network.coords is not None
        x = network.coords.to(potential.dtype)
        tried = Tried.of(landscape, network.ids)
        home = int(component[network.global_minimum])
        inside = torch.arange(len(x)) < (len(x) if self.max_minima is None else self.max_minima)

        def untried(rows: Int[Tensor, "B"]) -> Bool[Tensor, "B N"]:
            return (component[rows, None] != component) & inside & tried.fewer(rows, attempt)

        lengths = Lengths.within(landscape).measured(potential, x, network.ids)
        for attempt in range(1, self.attempts + 1):
            rows = inside.nonzero()[:, 0]
            pairs, length = nearest(potential, x, untried, self.bridges, of=rows, lengths=lengths)
            chosen = missing_links(pairs, length, component, home)
            chosen |= shortest_per_component(pairs, length, component, self.bridges)
            if bool(chosen.any()):
                return network.ids[pairs[chosen][: self._at_once(potential)]], attempt
        return torch.empty(0, 2, dtype=torch.int64), 1


@dataclasses.dataclass(frozen=True)
class ConnectPairs:
    """One double-ended search per row of ``a`` and ``b``, which are among the ``known`` minima."""

    a: Float[Tensor, "P D"]
    b: Float[Tensor, "P D"]
    band: Band
    refine: Follow
    tol: float | None
    known: Float[Tensor, "K D"] | Known | None = None
    is_part: bool = False  # of which only the candidates are wanted
    kind = "connect"

    @classmethod
    def between(
        cls, landscape: Landscape, pairs: Int[Tensor, "P 2"], band: Band, refine: Follow, tol: float | None
    ) -> ConnectPairs:
        """The searches between the minima with these ids."""
        ids = pairs.unique()
        known = landscape.minima(ids, device=HOST)
        a, b = (landscape.minima(side, device=HOST).x for side in pairs.T)
        if known.ndim <= DENSE_SPECTRUM:
            return cls(a, b, band, refine, tol, known.x[known.index == 0])
        # Of many coordinates most indices are never asked for: what was found by minimising is a minimum.
        return cls(a, b, band, refine, tol, _known(landscape, ids, known.x))

    @property
    def n_rows(self) -> int:
        return len(self.a)

    def divided(self, n: int) -> list[ConnectPairs]:
        if min(n, self.n_rows) < 2:
            return [self]
        # Parts verify nothing, and are the same whatever else is found meanwhile.
        minima = self.known.minima if isinstance(self.known, Known) else self.known
        return [
            dataclasses.replace(self, a=self.a[rows], b=self.b[rows], known=minima, is_part=True)
            for rows in dealt(self.n_rows, n)
        ]

    def joined(self, found: Sequence[Found]) -> Found:
        inputs = [range(self.n_rows)[rows] for rows in dealt(self.n_rows, len(found))]
        return joined_candidates(found, inputs, self.refine, self.tol, self.known, is_part=self.is_part)

    def run(self, potential: Potential) -> Found:
        a, b = self.a.to(potential.dtype), self.b.to(potential.dtype)
        if self.is_part and exact_twin(potential).dtype == potential.dtype:
            some = candidates_between(potential, a, b, band=self.band, refine=self.refine, tol=self.tol)
            return Found(some.points[:0], state={"candidates": some})
        known = None if self.known is None else self.known.to(potential.device, potential.dtype)
        saddles = connect(potential, a, b, band=self.band, refine=self.refine, tol=self.tol, known=known)
        return Found(saddles.minus[:0], saddles, n_evaluations=saddles.n_evaluations)


def _after_last(landscape: Landscape) -> int:
    """The first id that no minima have yet."""
    known = landscape.minimum_ids()
    return int(known.max()) + 1 if len(known) else 0


def _known(landscape: Landscape, ids: Int[Tensor, "K"], x: Float[Tensor, "K D"]) -> Known:
    """The minima with these ids, and the transition states that lead to or from them."""
    saddles = landscape.transition_state_ids()
    ends = landscape.ends(saddles)
    near = torch.isin(ends, ids).any(1) & (ends >= 0).all(1)
    ts = landscape.transition_states(saddles[near], device=HOST).replace(eigenvalues=None)
    minus, plus = (
        points.replace(index=torch.zeros_like(points.index), eigenvalues=None)
        for points in (landscape.minima(side, device=HOST) for side in ends[near].T)
    )
    return Known(x, ts, minus, plus)
