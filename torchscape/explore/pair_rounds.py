"""Rounds of double-ended searches between pairs that a network makes suspicious, until nothing improves any
more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torchscape.explore.connect import ConnectPairs
from torchscape.explore.strategy import Round, State, Strategy
from torchscape.explore.tasks import Found
from torchscape.landscape import Landscape
from torchscape.potentials.base import Potential
from torchscape.saddles import Band, Follow
from torchscape.types import Float, Int, Tensor

__all__ = ["NO_PAIRS", "PairRounds", "heights"]

NO_PAIRS = torch.empty(0, 2, dtype=torch.int64)


class PairRounds(Strategy):
    """What strategies share that choose pairs by what the network knows now, and look at it again after each
    round.

    A subclass is a frozen dataclass with the settings below, and says which pairs are suspicious.

    Attributes:
        max_rounds: rounds at most.
        patience: rounds that improved nothing after which to stop.
        band, refine: how a path and a transition state are found.
        tol: RMS gradient of transition states and of the ends of their paths.
    """

    max_rounds: int
    patience: int
    band: Band
    refine: Follow
    tol: float | None

    def suspicious(self, landscape: Landscape, potential: Potential, state: State) -> Int[Tensor, "P 2"]:
        """Ids of the pairs to search next, none where nothing is left to try."""
        raise NotImplementedError

    def measured(self, landscape: Landscape, state: State, pairs: Int[Tensor, "P 2"]) -> Float[Tensor, "K"]:
        """What a round over these pairs is to lower."""
        return heights(landscape, pairs)

    def start(self, landscape: Landscape, potential: Potential, seed: int) -> State:
        return {"rounds": 0, "idle": 0, "done": 0}

    def propose(self, landscape: Landscape, potential: Potential, state: State) -> Round | None:
        if state["rounds"] >= self.max_rounds or state["idle"] >= self.patience:
            return None
        pairs = self.suspicious(landscape, potential, state)
        if len(pairs) == 0:
            return None
        tasks = [ConnectPairs.between(landscape, pairs, self.band, self.refine, self.tol)]
        return Round(tasks, {"pairs": pairs.tolist(), "height": self.measured(landscape, state, pairs)})

    def absorb(self, landscape: Landscape, state: State, round: Round, found: Sequence[Found], ids: Any) -> State:
        height = self.measured(landscape, state, torch.tensor(round.detail["pairs"]))
        lowered = bool((height < round.detail["height"] - 1e-9 * height.abs().clamp(min=1.0)).any())
        return {
            **state,
            "rounds": state["rounds"] + 1,
            "idle": 0 if lowered else state["idle"] + 1,
            "done": state["done"] + len(round.detail["pairs"]),
        }

    def progress(self, state: State) -> tuple[int, int | None]:
        return state["done"], None


def heights(landscape: Landscape, pairs: Int[Tensor, "P 2"]) -> Float[Tensor, "P"]:
    """The energy that the network knows it takes to get from one minimum of each pair (ids) to the other."""
    from torchscape.analysis import minimax_between

    network = landscape.network(coords=False)
    a, b = network.position_of(pairs.flatten()).reshape(-1, 2).T
    return minimax_between(network, a, b)
