"""Connecting two chosen minima, over however many others that takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from torchscape.explore.chosen import check_chosen, chosen_ids, positions_of
from torchscape.explore.connect import ConnectPairs
from torchscape.explore.neighbours import SHORTLIST, Lengths, Tried, between, missing_links, nearest
from torchscape.explore.strategy import Round, State, Strategy
from torchscape.explore.tasks import Found
from torchscape.landscape import Landscape
from torchscape.potentials.base import Potential
from torchscape.saddles import Band, Follow
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, check_fields

__all__ = ["ConnectPair"]

_SAMPLE = 32  # pairs that show how much further apart points are than their invariants
_LOOKS = 50  # at the best path, after what it leads over has been aligned


@dataclasses.dataclass(frozen=True)
class ConnectPair(Strategy):
    """Joins minimum ``a`` with minimum ``b`` by transition states, searching the missing links of the best path.

    Of all paths through known minima, Dijkstra's algorithm takes the one whose gaps are smallest: a step over a
    known transition state is free, a missing link costs the square of its symmetry-aware distance, and four times
    as much after each try that failed. (Distances are estimated from invariants until a path leads over them;
    then they are computed, and the path is looked for again: of clusters each takes milliseconds. The same has
    been done where edges are collision checks: C. M. Dellin and S. S. Srinivasa, ICAPS 26, 459 (2016).) All
    missing links of that path are searched side by side; what they find (minima as well) changes the path of the
    next round. It ends when the two are joined, when every link that could help was tried ``attempts`` times, or
    after ``max_rounds``. Whether they are joined says :func:`torchscape.explore.lowest_way`, or the components of
    the network.

    D. J. Wales, Mol. Phys. 100, 3285 (2002), doi 10.1080/00268970210162691; J. M. Carr, S. A. Trygubenko and
    D. J. Wales, J. Chem. Phys. 122, 234903 (2005), doi 10.1063/1.1931587.

    Attributes:
        a, b: the two minima.
        numbering: what ``a`` and ``b`` are: "id", the ids of the file, or "energy", their places in order of
            energy when this search begins, 0 the lowest; it then stays with those two.
        neighbours: a quarter of how many minima of other components, with the nearest invariants, a missing link
            may lead to from each minimum.
        attempts: tries per pair, those of other strategies counted; the images double with each.
        max_rounds: rounds at most.
        max_minima: the path leads over the lowest so many minima only (and ``a`` and ``b``); None for all.
        band, refine: how a path and a transition state are found.
        tol: RMS gradient of transition states and of the ends of their paths; None for 1e-8 in float64.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.FunctionPotential(lambda x: (x[0]**2 - 1)**2 + x[1]**2, 2)
        >>> with tsc.Landscape.in_memory(surface) as landscape:
        ...     strategies = [tsc.BasinHopping(walkers=16, hops=0), tsc.explore.ConnectPair(0, 1)]
        ...     report = tsc.explore(landscape, surface, strategies=strategies, progress=False)
        ...     landscape.network().n_components
        1
    """

    a: int = 0
    b: int = 1
    numbering: str = "id"
    neighbours: int = 8
    attempts: int = 2
    max_rounds: int = 50
    max_minima: int | None = None
    band: Band = dataclasses.field(default_factory=Band)
    refine: Follow = dataclasses.field(default_factory=Follow)
    tol: float | None = None
    name = "connect-pair"
    any_time = ("max_rounds",)
    seeded = False
    numbered: ClassVar[Sequence[str]] = ("a", "b")

    def __post_init__(self) -> None:
        check_chosen(self, "a", "b", disjoint=True)
        check_fields(
            self,
            neighbours=COUNT,
            attempts=COUNT,
            max_rounds=COUNT_OR_ZERO,
            max_minima=COUNT.or_none,
            tol=NOT_NEGATIVE.or_none,
        )

    def start(self, landscape: Landscape, potential: Potential, seed: int) -> State:
        return {"ids": chosen_ids(landscape, (self.a, self.b), self.numbering, self.name), "rounds": 0, "done": 0}

    def propose(self, landscape: Landscape, potential: Potential, state: State) -> Round | None:
        if state["rounds"] >= self.max_rounds:
            return None
        pairs, attempt = self._links(landscape, potential, state["ids"])
        if len(pairs) == 0:
            return None
        band = self.band.finer(2.0 ** (attempt - 1))
        task = ConnectPairs.between(landscape, pairs, band, self.refine, self.tol)
        return Round([task], {"pairs": pairs.tolist()})

    def absorb(self, landscape: Landscape, state: State, round: Round, found: Sequence[Found], ids: Any) -> State:
        return {**state, "rounds": state["rounds"] + 1, "done": state["done"] + len(round.detail["pairs"])}

    def progress(self, state: State) -> tuple[int, int | None]:
        return state["done"], None

    def _links(
        self, landscape: Landscape, potential: Potential, ids: Int[Tensor, "2"]
    ) -> tuple[Int[Tensor, "P 2"], int]:
        """Ids of the missing links of the best path that were tried least, and which attempt at them this is."""
        network = landscape.network(coords=True)
        a, b = positions_of(landscape, network, ids).tolist()
        assert network.coords is not None
        component = network.components().cpu()
        home, to = int(component[a]), int(component[b])
        if home == to:
            return torch.empty(0, 2, dtype=torch.int64), 1
        tried = Tried.of(landscape, network.ids)
        x = network.coords.to(potential.dtype)
        pairs, near = self._gaps(potential, x, tried, component, (a, b))
        measured = Lengths.within(landscape).measured(potential, x, network.ids)
        times = tried.times(pairs)

        def path(length: Float[Tensor, "P"]) -> Bool[Tensor, "P"]:
            return missing_links(pairs, length * 2.0**times, component, home, to)

        chosen = _shortest(path, pairs, near, measured)
        attempt = int(times[chosen].min()) + 1 if bool(chosen.any()) else 1
        return network.ids[pairs[chosen & (times < attempt)]], attempt

    def _gaps(
        self,
        potential: Potential,
        x: Float[Tensor, "N D"],
        tried: Tried,
        component: Int[Tensor, "N"],
        ends: tuple[int, int],
    ) -> tuple[Int[Tensor, "P 2"], Float[Tensor, "P"]]:
        """Pairs that may be tried with near invariants, out of each component, and out of what they join, until
        ``ends`` are in one; and how far apart their invariants are.

        At least every second group of minima grows with each pass, so that there are few (Boruvka's algorithm).
        """
        inside = torch.arange(len(x)) < (len(x) if self.max_minima is None else self.max_minima)
        inside[list(ends)] = True
        near = between(potential.symmetry.invariants(x))
        group, found, apart = component, [torch.empty(0, 2, dtype=torch.int64)], [x.new_empty(0).cpu()]
        while int(group[ends[0]]) != int(group[ends[1]]):

            def allowed(rows: Int[Tensor, "B"], group: Int[Tensor, "N"] = group) -> Bool[Tensor, "B N"]:
                return (group[rows, None] != group) & inside & tried.fewer(rows, self.attempts)

            rows = inside.nonzero()[:, 0]
            most = SHORTLIST * self.neighbours
            pairs, length = nearest(potential, x, allowed, most, of=rows, shortlist=1, lengths=near)
            if not len(pairs):
                break
            found.append(pairs)
            apart.append(length)
            group = _merged(group, pairs)
        return torch.cat(found), torch.cat(apart)


def _shortest(
    path: Callable[[Float[Tensor, "P"]], Bool[Tensor, "P"]],
    pairs: Int[Tensor, "P 2"],
    near: Float[Tensor, "P"],
    measured: Callable[[Int[Tensor, "P 2"]], Float[Tensor, "P"]],
) -> Bool[Tensor, "P"]:
    """The pairs of the shortest path, whose lengths have been computed; those of others are estimates.

    Args:
        path: the pairs that the shortest path leads over, given lengths.
        near: how far apart the invariants of each pair are.
        measured: lengths of pairs.
    """
    if not len(pairs):
        return torch.zeros(0, dtype=torch.bool)
    sample = near.argsort()[torch.linspace(0, len(pairs) - 1, min(_SAMPLE, len(pairs))).long()].unique()
    known = torch.zeros(len(pairs), dtype=torch.bool)
    length, new = near.clone(), known.index_fill(0, sample, True)
    apart = new & (near > 0)
    if bool(apart.any()):
        length *= (measured(pairs[apart]).to(near) / near[apart]).median()
    for _ in range(_LOOKS):
        length[new] = measured(pairs[new]).to(near)
        known |= new
        chosen = path(length)
        new = chosen & ~known
        if not bool(new.any()):
            break
    return chosen


def _merged(group: Int[Tensor, "N"], pairs: Int[Tensor, "P 2"]) -> Int[Tensor, "N"]:
    """Groups of minima after these pairs have been joined."""
    from scipy.sparse.csgraph import connected_components

    from torchscape.sparse import links

    n = int(group.max()) + 1
    i, j = group[pairs].T.numpy()
    label = connected_components(links(1.0, i, j, n).tocsr(), directed=False)[1]
    return torch.as_tensor(label, dtype=torch.int64)[group]
