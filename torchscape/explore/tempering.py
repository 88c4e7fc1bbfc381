"""Basin-hopping on a ladder of temperatures: warm walkers cross what cold ones cannot, and hand on their finds."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchscape import random
from torchscape.errors import TorchscapeError
from torchscape.explore.basin_hopping import BasinHopping, Hops, acceptance_of, joined_walkers, some_walkers
from torchscape.explore.moves import Gaussian, Move
from torchscape.explore.strategy import Round, State, Strategy
from torchscape.explore.tasks import Found, blocks
from torchscape.landscape import Landscape
from torchscape.optimise import QuasiNewton
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, UNIT, check_fields

__all__ = ["TemperedBasinHopping", "exchange_probability"]

_EXCHANGE = 2  # what a random number is for; a walker uses 0 and 1


@dataclasses.dataclass(frozen=True)
class TemperedBasinHopping(Strategy):
    """Basin-hopping with parallel tempering: walkers at T_0 < T_1 < ... that exchange their minima.

    Every few hops neighbouring rungs of a ladder, even and odd pairs in turn, exchange the minima they stand in
    with the probability min(1, exp((1 / T_k - 1 / T_(k+1)) (E_k - E_(k+1)))), E being quenched energies. As far as
    the hops at each rung leave their distribution of minima alone, the exchanges leave the product of all alone.
    Step sizes belong to the rung, to whose temperature they have adapted.

    Strodel, Lee, Whittleston & Wales 2010, doi 10.1021/ja103725c, for the method; the walkers are those of
    :class:`BasinHopping`, and so are their settings. Ladders do not notice each other.

    Attributes:
        ladders: how many ladders run side by side; L ladders of K temperatures are L K walkers, walker l K + k on
            rung k of ladder l.
        temperatures: T_0 < T_1 < ..., in units of energy; a geometric ladder makes exchanges about equally likely.
        hops: jumps per walker.
        every: hops between exchanges.
        step, move, acceptance, adapt, optimiser, tol, round_hops: of :class:`BasinHopping`.

    Raises:
        TorchscapeError: for a ladder that does not ascend, or counts below one.

    Example:
        >>> import torchscape as tsc
        >>> potential = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum(), 1)
        >>> with tsc.Landscape.in_memory(potential) as landscape:
        ...     hopping = TemperedBasinHopping(ladders=2, temperatures=(0.1, 0.3, 1.0), hops=6, every=2)
        ...     report = tsc.explore(landscape, potential, strategies=[hopping], progress=False)
        ...     landscape.n_minima, report.n_quenches
        (2, 42)
    """

    ladders: int = 8
    temperatures: Sequence[float] = (0.2, 0.4, 0.8, 1.6)
    hops: int = 50
    every: int = 5
    step: float = 0.5
    move: Move = dataclasses.field(default_factory=Gaussian)
    acceptance: float = 0.5
    adapt: float = 0.2
    optimiser: QuasiNewton | None = None
    tol: float | None = None
    round_hops: int = 10
    name = "tempered basin-hopping"
    any_time = ("hops",)

    def __post_init__(self) -> None:
        t = list(self.temperatures)
        if len(t) < 2 or t[0] <= 0 or any(a >= b for a, b in itertools.pairwise(t)):
            raise TorchscapeError(f"a ladder needs two or more positive, ascending temperatures, not {t}")
        check_fields(
            self,
            ladders=COUNT,
            temperatures=POSITIVE.or_several,
            hops=COUNT_OR_ZERO,
            every=COUNT,
            step=POSITIVE,
            acceptance=UNIT,
            adapt=NOT_NEGATIVE,
            tol=NOT_NEGATIVE.or_none,
            round_hops=COUNT,
        )

    @property
    def walkers(self) -> BasinHopping:
        """All walkers as they would be without exchanges."""
        shared = ("hops", "step", "move", "acceptance", "adapt", "optimiser", "tol", "round_hops")
        settings: dict[str, Any] = {name: getattr(self, name) for name in shared}
        return BasinHopping(
            walkers=self.ladders * len(self.temperatures),
            temperature=list(self.temperatures) * self.ladders,
            **settings,
        )

    def start(self, landscape: Landscape | None, potential: Potential, seed: int) -> State:
        state = self.walkers.start(landscape, potential, seed)
        n = len(state["hop"])
        return {
            **state,
            "walker": torch.arange(n),  # where the minimum that is now in a row began
            "n_tried": torch.zeros(n, dtype=torch.int64),  # exchanges with the next rung
            "n_exchanged": torch.zeros(n, dtype=torch.int64),
        }

    def propose(self, landscape: Landscape | None, potential: Potential, state: State) -> Round | None:
        done = int(state["hop"].min())
        if done >= self.hops:
            return None
        return Round([TemperedHops(self, dict(state), until=min(done + self.round_hops, self.hops))])

    def absorb(
        self, landscape: Landscape | None, state: State, round: Round, found: Sequence[Found], ids: Any
    ) -> State:
        return {**state, **found[0].state}

    def progress(self, state: State) -> tuple[int, int | None]:
        return int((state["hop"] + 1).sum()), len(state["hop"]) * (self.hops + 1)

    def figures(self, state: State) -> Mapping[str, float]:
        """The shares of hops that were accepted and of exchanges that took place."""
        n = int(state["n_tried"].sum())
        exchanged = {"exchanges": int(state["n_exchanged"].sum()) / n} if n else {}
        return {**acceptance_of(state), **exchanged}


@dataclasses.dataclass(frozen=True)
class TemperedHops:
    """Whole ladders of walkers, from walker ``first`` on, to hop ``until``, with the exchanges on the way."""

    settings: TemperedBasinHopping
    state: dict[str, Any]
    until: int
    first: int = 0
    kind = "tempered hops"

    @property
    def n_rows(self) -> int:
        return len(self.state["hop"]) // len(self.settings.temperatures)

    def divided(self, n: int) -> list[TemperedHops]:
        return [
            dataclasses.replace(self, state=some_walkers(self.state, rows), first=self.first + rows.start)
            for rows in self._walkers(n)
        ]

    def joined(self, found: Sequence[Found]) -> Found:
        walkers = [torch.arange(rows.start, rows.stop) for rows in self._walkers(len(found))]
        return joined_walkers(self.state, self.until, found, walkers)

    def _walkers(self, n: int) -> list[slice]:
        rungs = len(self.settings.temperatures)
        return [slice(rungs * rows.start, rungs * rows.stop) for rows in blocks(self.n_rows, n)]

    def run(self, potential: Potential) -> Found:
        state, every, parts = dict(self.state), self.settings.every, []
        walkers = self.settings.walkers
        while (done := int(state["hop"].min())) < self.until:
            stop = min((max(done, 0) // every + 1) * every, self.until)
            found = Hops(walkers, state, stop, self.first).run(potential)
            state |= found.state
            parts.append(found)
            if stop % every == 0:
                state |= exchanged(state, len(self.settings.temperatures), stop // every, self.first)
        fresh = {k: v for k, v in state.items() if k not in ("seed", "temperature")}
        return Found(
            StationaryPoints.cat([part.minima for part in parts]),
            state=fresh,
            n_quenches=sum(part.n_quenches for part in parts),
            n_evaluations=sum(part.n_evaluations for part in parts),
        )


def exchange_probability(
    temperature: Float[Tensor, "*S"],
    energy: Float[Tensor, "*S"],
    other_temperature: Float[Tensor, "*S"],
    other_energy: Float[Tensor, "*S"],
) -> Float[Tensor, "*S"]:
    """min(1, exp((1/T - 1/T') (E - E'))); zero where neither side has a minimum yet.

    Example:
        >>> t, e = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.0])
        >>> [round(p, 4) for p in exchange_probability(t, e, t.flip(0), e.flip(0)).tolist()]
        [0.3679, 0.3679]
    """
    log_ratio = (1 / temperature - 1 / other_temperature) * (energy - other_energy)
    return log_ratio.clamp(max=0.0).exp().nan_to_num(nan=0.0)


def exchanged(state: dict[str, Any], rungs: int, n_round: int, first: int = 0) -> dict[str, Tensor]:
    """What of a state the exchanges of round ``n_round`` (even and odd pairs in turn) change; its rows are walkers
    from number ``first`` on."""
    x, energy, t = state["x"], state["energy"], state["temperature"]
    rows = torch.arange(len(energy))
    rung = rows % rungs
    lower = (rung % 2 == n_round % 2) & (rung < rungs - 1)
    upper = lower.roll(1)
    partner = rows + lower.long() - upper.long()
    probability = exchange_probability(t, energy.to(t), t[partner], energy[partner].to(t))
    # Both partners must see one number: that of the lower rung.
    u = random.uniform(random.fold(int(state["seed"]), first + rows, state["hop"], _EXCHANGE), 1)[:, 0]
    swap = (lower | upper) & (u[torch.where(upper, partner, rows)] < probability)
    source = torch.where(swap, partner, rows)
    return {
        "x": x[source],
        "energy": energy[source],
        "walker": state["walker"][source],
        "n_tried": state["n_tried"] + lower,
        "n_exchanged": state["n_exchanged"] + (lower & swap),
    }
