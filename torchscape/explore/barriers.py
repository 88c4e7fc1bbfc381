"""Lower barriers: searches where the network says "far over the top" and the coordinates say "near"."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.explore.neighbours import SHORTLIST, Lengths, Tried, between, nearest, others, steepest
from torchscape.explore.pair_rounds import PairRounds
from torchscape.explore.strategy import State
from torchscape.landscape import Landscape
from torchscape.potentials.base import Potential
from torchscape.saddles import Band, Follow
from torchscape.types import Bool, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, check_fields

__all__ = ["LowerBarriers"]


@dataclasses.dataclass(frozen=True)
class LowerBarriers(PairRounds):
    """Tries to replace high barriers by lower ones, and long detours by short cuts.

    An incomplete network overestimates barriers. For every minimum its nearest neighbours that were not tried
    yet are ranked by the barrier between them that the network knows now, measured from the higher of the two
    minima and divided by their distance: high barriers between near points are the suspicious ones. (Which are
    near is judged by their invariants first; four times as many pairs as a round searches are aligned.) Each
    round tries the worst; what it finds changes the ranking of the next. It stops after ``patience`` rounds that
    lowered no barrier.

    Strodel, Whittleston & Wales 2007 (doi 10.1021/ja075346p) describe this removal of artificial frustration.

    Attributes:
        neighbours: nearest untried partners that are considered for each minimum.
        round_pairs: pairs searched per round.
        max_rounds: rounds at most.
        patience: rounds without a lower barrier after which to stop.
        attempts: tries per pair, counting those of other strategies.
        band, refine: how a path and a transition state are found.
        tol: RMS gradient of transition states and of the ends of their paths; None for 1e-8 in float64.
    """

    neighbours: int = 8
    round_pairs: int = 64
    max_rounds: int = 10
    patience: int = 2
    attempts: int = 1
    band: Band = dataclasses.field(default_factory=Band)
    refine: Follow = dataclasses.field(default_factory=Follow)
    tol: float | None = None
    name = "lower-barriers"
    any_time = ("max_rounds", "patience")

    def __post_init__(self) -> None:
        check_fields(
            self,
            neighbours=COUNT,
            round_pairs=COUNT,
            max_rounds=COUNT_OR_ZERO,
            patience=COUNT,
            attempts=COUNT,
            tol=NOT_NEGATIVE.or_none,
        )

    def suspicious(self, landscape: Landscape, potential: Potential, state: State) -> Int[Tensor, "P 2"]:
        """Ids of the pairs whose known barrier is highest for their distance, disconnected ones first."""
        from torchscape.analysis import minimax_between

        network = landscape.network(coords=True)
        if network.n_minima < 2:
            return torch.empty(0, 2, dtype=torch.int64)
        assert network.coords is not None
        x = network.coords.to(potential.dtype)
        tried, other = Tried.of(landscape, network.ids), others(len(x))

        def allowed(rows: Int[Tensor, "B"]) -> Bool[Tensor, "B N"]:
            return other(rows) & tried.fewer(rows, self.attempts)

        invariants = potential.symmetry.invariants(x)
        pairs, near = nearest(
            potential, x, allowed, SHORTLIST * self.neighbours, shortlist=1, lengths=between(invariants)
        )
        over = minimax_between(network, *pairs.T) - network.energy[pairs].max(1).values
        some = steepest(over, near, SHORTLIST * self.round_pairs)
        length = Lengths.within(landscape).of(potential, x, network.ids, pairs[some])
        return network.ids[pairs[some[steepest(over[some], length, self.round_pairs)]]]
