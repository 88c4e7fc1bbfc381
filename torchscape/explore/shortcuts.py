"""Short cuts and traps: pairs that are searched because of what they would mean for getting from B to A."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch

from torchscape.errors import OptionError
from torchscape.explore.chosen import check_chosen, chosen_ids, positions_of
from torchscape.explore.neighbours import SHORTLIST, Lengths, Tried, between, nearest, steepest
from torchscape.explore.pair_rounds import NO_PAIRS, PairRounds, heights
from torchscape.explore.strategy import State
from torchscape.landscape import Landscape
from torchscape.network import Network
from torchscape.potentials.base import Potential
from torchscape.saddles import Band, Follow
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, Range, check_fields

__all__ = ["Shortcut", "Untrap"]

_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Shortcut(PairRounds):
    """Looks for short cuts between minima of the best known path from B to A that are near in space, and far in
    steps.

    By ``rate``, the path is the fastest (:func:`torchscape.analysis.fastest_path`), and of its pairs that are
    ``min_steps`` transition states or more apart, those nearest in space come first. By ``barrier``, the path is
    the one whose highest transition state is lowest, and those pairs come first for which it climbs most in
    relation to their distance. Each round changes the path of the next; it stops after ``patience`` rounds that
    made it no better, and does nothing where no path is known (:class:`ConnectPair` finds one).

    B. Strodel, C. S. Whittleston and D. J. Wales, J. Am. Chem. Soc. 129, 16005 (2007), doi 10.1021/ja075346p; J.
    M. Carr, S. A. Trygubenko and D. J. Wales, J. Chem. Phys. 122, 234903 (2005), doi 10.1063/1.1931587.

    Attributes:
        a: the products A, one minimum or several.
        b: the reactants B.
        numbering: as of :class:`ConnectPair`.
        by: "rate" or "barrier".
        rate_temperature: T of the rates, in units of energy; None for a tenth of the range of the minima.
        min_steps: transition states between the two minima of a pair, at least.
        round_pairs: pairs searched per round.
        max_rounds: rounds at most.
        patience: rounds without a better path after which to stop.
        attempts: tries per pair, those of other strategies counted.
        band, refine: how a path and a transition state are found.
        tol: RMS gradient of transition states and of the ends of their paths; None for 1e-8 in float64.
    """

    a: int | Sequence[int] = 0
    b: int | Sequence[int] = 1
    numbering: str = "id"
    by: str = "rate"
    rate_temperature: float | None = None
    min_steps: int = 2
    round_pairs: int = 16
    max_rounds: int = 20
    patience: int = 2
    attempts: int = 1
    band: Band = dataclasses.field(default_factory=Band)
    refine: Follow = dataclasses.field(default_factory=Follow)
    tol: float | None = None
    name = "shortcut"
    any_time = ("max_rounds", "patience")
    seeded = False
    numbered: ClassVar[Sequence[str]] = ("a", "b")

    def __post_init__(self) -> None:
        check_chosen(self, "a", "b", disjoint=True)
        if self.by not in ("rate", "barrier"):
            raise OptionError(f"Shortcut: by={self.by!r}; give 'rate' or 'barrier'")
        check_fields(
            self,
            rate_temperature=POSITIVE.or_none,
            min_steps=Range(low=2, whole=True),
            round_pairs=COUNT,
            max_rounds=COUNT_OR_ZERO,
            patience=COUNT,
            attempts=COUNT,
            tol=NOT_NEGATIVE.or_none,
        )

    def start(self, landscape: Landscape, potential: Potential, seed: int) -> State:
        from torchscape.analysis import energy_scale

        sets = {side: chosen_ids(landscape, getattr(self, side), self.numbering, self.name) for side in ("a", "b")}
        t = self.rate_temperature
        scale = 0.1 * energy_scale(landscape.network(coords=False)) if t is None else t
        return {**super().start(landscape, potential, seed), **sets, "temperature": scale}

    def suspicious(self, landscape: Landscape, potential: Potential, state: State) -> Int[Tensor, "P 2"]:
        network = landscape.network(coords=True)
        minima, ts_energy = self._path(landscape, network, state)
        if len(minima) <= self.min_steps:
            return NO_PAIRS
        assert network.coords is not None
        x = network.coords[minima].to(potential.dtype)
        i, j = torch.triu_indices(len(minima), len(minima), self.min_steps)
        pairs = torch.stack([minima[i], minima[j]], 1)
        weight = self._climbs(network, minima, ts_energy)[i, j] if self.by == "barrier" else torch.ones(len(i))
        open_ = Tried.of(landscape, network.ids).times(pairs) < self.attempts
        i, j, pairs, weight = i[open_], j[open_], pairs[open_], weight[open_]
        invariants = potential.symmetry.invariants(x)
        near = between(invariants)(torch.stack([i, j], 1).to(x.device)).cpu()
        some = steepest(weight, near, SHORTLIST * self.round_pairs)
        length = Lengths.within(landscape).of(potential, x, network.ids[minima], torch.stack([i, j], 1)[some])
        return network.ids[pairs[some[steepest(weight[some], length.cpu(), self.round_pairs)]]]

    def measured(self, landscape: Landscape, state: State, pairs: Int[Tensor, "P 2"]) -> Float[Tensor, "K"]:
        if self.by == "barrier":
            return heights(landscape, pairs)
        from torchscape.analysis import fastest_path

        network = landscape.network(coords=False)
        a, b = (positions_of(landscape, network, state[side]) for side in ("a", "b"))
        return torch.tensor(
            [-fastest_path(network, state["temperature"], a.tolist(), b.tolist()).log_rate], dtype=torch.float64
        )

    def _path(
        self, landscape: Landscape, network: Network, state: State
    ) -> tuple[Int[Tensor, "L"], Float[Tensor, "S"]]:
        """Minima of the best path from B to A, and the energies of the transition states between them."""
        from torchscape.analysis import fastest_path, minimax_between, minimax_path

        a, b = (positions_of(landscape, network, state[side]) for side in ("a", "b"))
        component = network.components()
        joined = component[b][:, None] == component[a]
        if not bool(joined.any()):
            return a[:0], network.ts_energy[:0]
        if self.by == "rate":
            fastest = fastest_path(network, state["temperature"], a.tolist(), b.tolist())
            return fastest.minima, network.ts_energy[fastest.transition_states]
        start, end = (side.reshape(-1) for side in torch.meshgrid(b, a, indexing="ij"))
        lowest = int(minimax_between(network, start, end).argmin())
        route = minimax_path(network, int(start[lowest]), int(end[lowest]))
        return route.minima, network.ts_energy[route.transition_states]

    def _climbs(
        self, network: Network, minima: Int[Tensor, "L"], ts_energy: Float[Tensor, "S"]
    ) -> Float[Tensor, "L L"]:
        """How far the path climbs between each two of its minima, above the higher of them."""
        highest = torch.full((len(minima), len(minima)), -torch.inf, dtype=ts_energy.dtype)
        windows = ts_energy
        for steps in range(1, len(minima)):
            windows = torch.maximum(windows[: len(minima) - steps], ts_energy[steps - 1 :])
            highest[torch.arange(len(windows)), torch.arange(steps, len(minima))] = windows
        energy = network.energy[minima]
        return (highest - torch.maximum(energy[:, None], energy)).clamp(min=0.0)


@dataclasses.dataclass(frozen=True)
class Untrap(PairRounds):
    """Looks for ways out of minima that seem to be traps: the barrier towards the products is high for their
    energy.

    Minima that are connected with the product set A are ranked by the ratio of the lowest known barrier towards A
    to their energy above the lowest minimum of A: a large one is suspicious, for then the landscape is less of
    a funnel than it could be. Each round pairs the worst with their nearest neighbours beyond that barrier, that
    is, with minima from which A is reached over lower ways. It stops after ``patience`` rounds that lowered
    nothing.

    B. Strodel, C. S. Whittleston and D. J. Wales, J. Am. Chem. Soc. 129, 16005 (2007), doi 10.1021/ja075346p.

    Attributes:
        product: the product set A, one minimum or several.
        numbering: as of :class:`ConnectPair`.
        round_minima: traps per round.
        neighbours: minima beyond the barrier that each of them is paired with.
        least_difference: energies above A count as at least this, in units of energy; None for a hundredth of the
            range of the minima.
        max_rounds: rounds at most.
        patience: rounds without a lower barrier after which to stop.
        attempts: tries per pair, those of other strategies counted.
        band, refine: how a path and a transition state are found.
        tol: RMS gradient of transition states and of the ends of their paths; None for 1e-8 in float64.
    """

    product: int | Sequence[int] = 0
    numbering: str = "id"
    round_minima: int = 16
    neighbours: int = 4
    least_difference: float | None = None
    max_rounds: int = 20
    patience: int = 2
    attempts: int = 1
    band: Band = dataclasses.field(default_factory=Band)
    refine: Follow = dataclasses.field(default_factory=Follow)
    tol: float | None = None
    name = "untrap"
    any_time = ("max_rounds", "patience")
    seeded = False
    numbered: ClassVar[Sequence[str]] = ("product",)

    def __post_init__(self) -> None:
        check_chosen(self, "product")
        check_fields(
            self,
            round_minima=COUNT,
            neighbours=COUNT,
            least_difference=POSITIVE.or_none,
            max_rounds=COUNT_OR_ZERO,
            patience=COUNT,
            attempts=COUNT,
            tol=NOT_NEGATIVE.or_none,
        )

    def start(self, landscape: Landscape, potential: Potential, seed: int) -> State:
        chosen = chosen_ids(landscape, self.product, self.numbering, self.name)
        return {**super().start(landscape, potential, seed), "product": chosen}

    def suspicious(self, landscape: Landscape, potential: Potential, state: State) -> Int[Tensor, "P 2"]:
        network = landscape.network(coords=True)
        product = positions_of(landscape, network, state["product"])
        height, ratio = self._ranked(network, product)
        order = ratio.argsort(descending=True, stable=True)
        order = order[ratio[order] > 0]
        tried = Tried.of(landscape, network.ids)

        def allowed(rows: Int[Tensor, "B"]) -> Bool[Tensor, "B N"]:
            return (height[rows, None] > height) & tried.fewer(rows, self.attempts)

        def worst() -> Iterator[Int[Tensor, "_"]]:
            n = 0
            for rows in order.split(_AT_ONCE):
                some = rows[allowed(rows).any(1)][: self.round_minima - n]
                n += len(some)
                yield some
                if n == self.round_minima:
                    return

        assert network.coords is not None
        traps = torch.cat([order[:0], *worst()])
        x = network.coords.to(potential.dtype)
        lengths = Lengths.within(landscape).measured(potential, x, network.ids)
        pairs, _ = nearest(potential, x, allowed, self.neighbours, of=traps, lengths=lengths)
        return network.ids[pairs]

    def _ranked(
        self, network: Network, product: Int[Tensor, "K"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """The highest energy on the lowest way to A, and how suspicious each minimum is, 0 for those of A or
        apart."""
        from torchscape.analysis import energy_scale, merge_tree

        tree = merge_tree(network)
        height = torch.stack([tree.minimax_to(one) for one in product.tolist()]).amin(0)
        energy, floor = network.energy, self.least_difference
        floor = 0.01 * energy_scale(network) if floor is None else floor
        ratio = (height - energy) / (energy - energy[product].min()).clamp(min=floor)
        ratio[product] = 0.0
        return height, torch.where(torch.isfinite(height), ratio, 0.0)
