"""Basin-hopping: Metropolis walks on the minima, many walkers at once and none waiting for another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from torchscape import random
from torchscape.devices import HOST
from torchscape.explore.moves import Gaussian, Mixture, Move
from torchscape.explore.strategy import Round, State, Strategy
from torchscape.explore.tasks import Found, blocks
from torchscape.landscape import Landscape
from torchscape.optimise import Pool, QuasiNewton, choose_optimiser
from torchscape.optimise.relaxation import MOST_ROWS
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.transfer import moved
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, UNIT, check_fields

__all__ = ["BasinHopping"]

_JUMPS, _ROUND = 3200, 320  # of all walkers together: in a run by default, and between commits


@dataclasses.dataclass(frozen=True)
class BasinHopping(Strategy):
    """Walkers that jump, quench, and keep the new minimum with probability min(1, exp(-(E_new - E_old) / T)).

    Wales & Doye 1997, doi 10.1021/jp970984n. Every walker adapts its own step size towards ``acceptance``; every
    quench offers its minimum to the database. Walkers run in flight: one that has finished its quench jumps
    again at once, and with the same seed it visits the same minima however many others run beside it.

    Attributes:
        walkers: number of walkers W; None for one per temperature, or else by the number of coordinates D: 512 up
            to D = 10, 256 up to D = 100, 64 beyond. A step of few small quenches costs as much as one of many.
        hops: jumps per walker (the quench of the starting point comes on top); None for 50, but no more than make
            3200 jumps of all walkers together.
        temperature: T in units of energy, one for all or one for each walker (a ladder).
        step: initial step size, in units of the potential's ``length_scale``.
        move: what a jump is.
        acceptance: fraction of accepted jumps that the step size is adapted to.
        adapt: how fast, per hop: ln step changes by adapt * (accepted - acceptance); 0 keeps the step.
        optimiser: None chooses by size.
        tol: RMS gradient of a finished quench; None for 1e-8 in float64.
        round_hops: hops to a round, which is numbered and committed as one. None for 5, but no more than make 320
            jumps of all walkers together, and at least one; rounds of 0, 1 and 2 hops come before, so that what
            is easy is soon known.
        from_lowest: start from the lowest so many minima that are known by then, in turn, rather than at random:
            for what lies around them.

    Example:
        >>> import torchscape as tsc
        >>> potential = tsc.FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum(), 1)
        >>> with tsc.Landscape.in_memory(potential) as landscape:
        ...     hopping = tsc.BasinHopping(walkers=16, hops=3)
        ...     report = tsc.explore(landscape, potential, strategies=[hopping], progress=False)
        ...     landscape.n_minima
        2
    """

    walkers: int | None = None
    hops: int | None = None
    temperature: float | Sequence[float] = 1.0
    step: float = 0.5
    move: Move = dataclasses.field(default_factory=Gaussian)
    acceptance: float = 0.5
    adapt: float = 0.2
    optimiser: QuasiNewton | None = None
    tol: float | None = None
    round_hops: int | None = None
    from_lowest: int | None = None
    name = "basin-hopping"
    any_time = ("hops",)
    later: ClassVar[Mapping[str, Any]] = {"from_lowest": None}

    def __post_init__(self) -> None:
        check_fields(
            self,
            walkers=COUNT.or_none,
            hops=COUNT_OR_ZERO.or_none,
            temperature=NOT_NEGATIVE.or_several.or_infinite,
            step=POSITIVE,
            acceptance=UNIT,
            adapt=NOT_NEGATIVE,
            tol=NOT_NEGATIVE.or_none,
            round_hops=COUNT.or_none,
            from_lowest=COUNT.or_none,
        )

    def start(self, landscape: Landscape | None, potential: Potential, seed: int) -> State:
        temperature = torch.as_tensor(self.temperature, dtype=torch.float64).reshape(-1)
        walkers = self.walkers or (len(temperature) if len(temperature) > 1 else walkers_for(potential))
        if len(temperature) not in (1, walkers):
            raise ValueError(f"temperature needs one value or one per walker ({walkers}), not {len(temperature)}")
        return {
            "seed": seed,
            "hop": torch.full((walkers,), -1),  # -1: the starting point is not quenched yet
            "x": self._starts(landscape, potential, walkers, seed),
            "energy": torch.full((walkers,), torch.inf, dtype=torch.float64),
            "step": first_steps(self.move, walkers, self.step),
            "accepted": torch.zeros(walkers, dtype=torch.int64),
            "temperature": temperature.expand(walkers).clone(),
        }

    def _starts(
        self, landscape: Landscape | None, potential: Potential, walkers: int, seed: int
    ) -> Float[Tensor, "W D"]:
        if self.from_lowest is not None and landscape is not None and landscape.n_minima:
            ids = landscape.minimum_ids()[: self.from_lowest]
            return landscape.minima(ids[torch.arange(walkers) % len(ids)]).x
        return potential.sample(walkers, seed=seed)

    def propose(self, landscape: Landscape | None, potential: Potential, state: State) -> Round | None:
        done, walkers = int(state["hop"].min()), len(state["hop"])
        hops = self._hops(walkers)
        if done >= hops:
            return None
        until = min(self._round_from(done, walkers), hops)
        return Round([Hops(self, dict(state), until, then=min(self._round_from(until, walkers), hops))])

    def absorb(
        self, landscape: Landscape | None, state: State, round: Round, found: Sequence[Found], ids: Any
    ) -> State:
        return {**state, **found[0].state}

    def progress(self, state: State) -> tuple[int, int | None]:
        walkers = len(state["hop"])
        return int((state["hop"] + 1).sum()), walkers * (self._hops(walkers) + 1)

    def figures(self, state: State) -> Mapping[str, float]:
        """The share of hops that were accepted."""
        return acceptance_of(state)

    def _round_from(self, done: int, walkers: int) -> int:
        """The hop at which the round ends that begins after hop ``done``."""
        if self.round_hops is not None:
            return done + self.round_hops
        return done + min(5, max(1, _ROUND // walkers), max(1, done + 1))

    def _hops(self, walkers: int) -> int:
        return min(50, max(1, _JUMPS // walkers)) if self.hops is None else self.hops


def first_steps(move: Move, walkers: int, step: float) -> Float[Tensor, "W *M"]:
    """The step size of each walker; of a mixture, one for each of its M moves, which adapt apart."""
    shape = (walkers, len(move.parts)) if isinstance(move, Mixture) else (walkers,)
    return torch.full(shape, step, dtype=torch.float64)


def acceptance_of(state: State) -> dict[str, float]:
    """The share of all hops that were accepted, once there was one."""
    n = int(state["hop"].clamp(min=0).sum())
    return {"acceptance": int(state["accepted"].sum()) / n} if n else {}


def walkers_for(potential: Potential) -> int:
    """How many walkers keep a step of their quenches busy: the fewer coordinates, the more."""
    return 512 if potential.ndim <= 10 else 256 if potential.ndim <= 100 else 64


@dataclasses.dataclass(frozen=True)
class Hops:
    """Walkers, from number ``first`` on, from where they stand to hop ``until``; in the next round to ``then``."""

    settings: BasinHopping
    state: dict[str, Any]
    until: int
    first: int = 0
    then: int = 0
    kind = "hops"

    @property
    def n_rows(self) -> int:
        return len(self.state["hop"])

    def divided(self, n: int) -> list[Hops]:
        return [
            dataclasses.replace(self, state=some_walkers(self.state, rows), first=self.first + rows.start)
            for rows in blocks(self.n_rows, n)
        ]

    def joined(self, found: Sequence[Found]) -> Found:
        rows = blocks(self.n_rows, len(found))
        return joined_walkers(self.state, self.until, found, [torch.arange(row.start, row.stop) for row in rows])

    def onward(self, found: Found) -> Hops | None:
        """What these walkers do next, whatever others find."""
        state = {**self.state, **found.state}
        return dataclasses.replace(self, state=state, until=self.then) if self.then > self.until else None

    def run(self, potential: Potential) -> Found:
        walk = _Walk(self.settings, potential, self.state, self.until, self.first)
        Pool.fitting(walk.optimiser, potential, len(walk.hop), most=MOST_ROWS).run(potential, walk)
        minima, state = moved((walk.quenched(), walk.state()), HOST)
        return Found(
            minima,
            state=state,
            n_quenches=len(minima),
            n_evaluations=int(minima.n_evaluations.sum()),
        )


def some_walkers(state: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """The state of some of the walkers."""
    return {name: value[rows] if isinstance(value, Tensor) else value for name, value in state.items()}


def joined_walkers(
    state: Mapping[str, Any], until: int, found: Sequence[Found], walkers: Sequence[Int[Tensor, "_"]]
) -> Found:
    """Findings of parts of the walkers of ``state`` that went to hop ``until``, by hop and then by walker."""
    order = []
    for some in walkers:
        first = int(state["hop"][some].min()) + 1
        hop = torch.arange(first, until + 1)[:, None]
        order.append((hop * len(state["hop"]) + some)[hop > state["hop"][some]])
    fresh = {name: [one.state[name] for one in found] for name in found[0].state}
    at = torch.cat(order).argsort()
    return Found(
        StationaryPoints.cat([one.minima for one in found])[at],
        state={name: torch.cat(values) for name, values in fresh.items()},
        n_quenches=sum(one.n_quenches for one in found),
        n_evaluations=sum(one.n_evaluations for one in found),
    )


class _Walk:
    """The source of a pool: a walker's next jump is made when its last quench comes back."""

    def __init__(
        self, settings: BasinHopping, potential: Potential, state: dict[str, Any], until: int, first: int
    ) -> None:
        optimiser = choose_optimiser(potential) if settings.optimiser is None else settings.optimiser
        self.optimiser = optimiser if settings.tol is None else dataclasses.replace(optimiser, tol=settings.tol)
        self.settings, self.potential, self.until, self.first = settings, potential, until, first
        device = potential.device
        self.seed = int(state["seed"])
        self.hop: Int[Tensor, "W"] = state["hop"].cpu().clone()  # the host keeps the books
        self.x: Float[Tensor, "W D"] = state["x"].to(device, potential.dtype).clone()
        columns = torch.stack([state[name].to(torch.float64) for name in ("energy", "temperature")])
        self.energy, self.temperature = columns.to(device).to(potential.dtype).unbind(0)
        self.step: Float[Tensor, "W *M"] = state["step"].to(device, potential.dtype).clone()
        if isinstance(settings.move, Mixture) and self.step.ndim == 1:  # of a run in which they had one for all
            self.step = self.step[:, None].repeat(1, len(settings.move.parts))
        self.accepted: Int[Tensor, "W"] = state["accepted"].to(device).clone()
        self.ready = torch.nonzero(self.hop < until)[:, 0]
        self._points: list[StationaryPoints] = []
        self._order: list[Tensor] = []

    def take(self, n: int) -> tuple[Int[Tensor, "K"], Float[Tensor, "K D"]]:
        walkers, self.ready = self.ready[:n], self.ready[n:]
        hop = self.hop[walkers] + 1
        if len(walkers) == 0:
            return walkers, self.x[:0]
        rows, hops = self._there(walkers, hop)
        x = self.x[rows]
        if bool((hop > 0).any()):
            key = self._key(rows, hops, 0)
            jumped = self.settings.move(self.potential, x, self.step[self._of_move(rows, hops)], key)
            x = torch.where((hops > 0)[:, None], jumped, x)
        if self.potential.bounds is not None:
            x = self.potential.bounds.clamp(x)
        return walkers, x

    @property
    def is_exhausted(self) -> bool:
        """Whether no walker will jump again, whichever comes back."""
        return len(self.ready) == 0 and bool((self.hop >= self.until - 1).all())

    def give(self, walkers: Int[Tensor, "K"], points: StationaryPoints) -> None:
        hop = self.hop[walkers] + 1
        rows, hops = self._there(walkers, hop)
        rise = points.energy - self.energy[rows]
        u = random.uniform(self._key(rows, hops, 1), 1, points.energy.dtype)[:, 0]
        accepted = points.converged & ((rise <= 0) | (u < torch.exp(-rise / self.temperature[rows])))
        self.x[rows] = torch.where(accepted[:, None], points.x, self.x[rows])
        self.energy[rows] = torch.where(accepted, points.energy, self.energy[rows])
        change = self.settings.adapt * (accepted.to(rise.dtype) - self.settings.acceptance)
        moved = self._of_move(rows, hops)
        self.step[moved] *= torch.where(hops > 0, change.exp(), torch.ones_like(change))
        self.accepted[rows] += accepted & (hops > 0)
        self.hop[walkers] = hop
        self.ready = torch.cat([self.ready, walkers[hop < self.until]])
        self._points.append(points)
        self._order.append(hop * len(self.hop) + walkers)

    def _of_move(self, rows: Int[Tensor, "K"], hops: Int[Tensor, "K"]) -> tuple[Int[Tensor, "K"], ...]:
        """Where the step sizes are of the moves that these hops choose."""
        move = self.settings.move
        return (rows, move.choice(self._key(rows, hops, 0))) if isinstance(move, Mixture) else (rows,)

    def _there(self, *numbers: Int[Tensor, "K"]) -> tuple[Int[Tensor, "K"], ...]:
        """Numbers of the host on the device of the walkers, in one copy."""
        return torch.stack(numbers).to(self.x.device).unbind(0)

    def _key(self, walkers: Int[Tensor, "K"], hop: Int[Tensor, "K"], purpose: int) -> Int[Tensor, "K"]:
        return random.fold(self.seed, self.first + walkers, hop, purpose)

    def quenched(self) -> StationaryPoints:
        """All quenches of this task, by hop and walker, whatever the order they came back in."""
        order = torch.cat(self._order).argsort()
        return StationaryPoints.cat(self._points)[order.to(self.x.device)]

    def state(self) -> dict[str, Tensor]:
        return {
            "hop": self.hop,
            "x": self.x,
            "energy": self.energy,
            "step": self.step,
            "accepted": self.accepted,
        }
