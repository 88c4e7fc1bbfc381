"""What can be seen of an exploration while it runs: bars, the log, and a report after every round."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torchscape.explore.bar import TurnBar
from torchscape.explore.budget import Budget
from torchscape.explore.strategy import Strategy
from torchscape.landscape import Landscape
from torchscape.stopwatch import Stopped, Stopwatch

__all__ = ["Ahead", "Live", "RoundReport"]

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Ahead:
    """What is still to come.

    Attributes:
        tries: of each strategy, by its name, what is left to try as far as it knows by now; None where it cannot
            know, or has not begun.
        seconds: until all of that is done at the pace of each strategy in this call; NaN where a pace or a number
            is not known.
        budget: what is left of each limit of the budget ("seconds", "quenches", "evaluations").
    """

    tries: Mapping[str, int | None]
    seconds: float
    budget: Mapping[str, float]

    def __str__(self) -> str:
        known = [f"{n} tries of {name}" for name, n in self.tries.items() if n]
        if math.isfinite(self.seconds):
            known.append(f"about {clock(self.seconds)}")
        spare = [clock(n) if what == "seconds" else f"{n:.0f} {what}" for what, n in self.budget.items()]
        if spare:
            known.append(f"budget: {', '.join(spare)}")
        return ", ".join(known) or "unknown"


@dataclasses.dataclass(frozen=True)
class RoundReport:
    """How an exploration stands after a round: what ``explore(..., on_round=)`` is called with.

    Attributes:
        strategy: whose round it was, by name.
        round: its number among the rounds of this strategy, from 1, those of earlier calls included.
        n_minima, n_transition_states, n_components: in the landscape now.
        lowest_energy: of all minima; NaN where there is none.
        n_quenches, n_evaluations: spent by this call so far.
        n_evaluations_in_all: of all rounds that are committed, those of earlier calls included.
        seconds: since this call began.
        done, total: tries of this strategy; total None where it cannot be known.
        figures: what the strategy says of itself, such as the share of hops that were "acceptance"d.
        ahead: what is still to come.
        landscape: everything that is known by now. Ask it, and do not close it.
    """

    strategy: str
    round: int
    n_minima: int
    n_transition_states: int
    n_components: int
    lowest_energy: float
    n_quenches: int
    n_evaluations: int
    n_evaluations_in_all: int
    seconds: float
    done: int
    total: int | None
    figures: Mapping[str, float]
    ahead: Ahead
    landscape: Landscape = dataclasses.field(repr=False, compare=False)

    def __str__(self) -> str:
        told = (
            f"{self.strategy}, round {self.round}: {self.n_minima} minima, {self.n_transition_states} transition "
            f"states, {self.n_components} component{'s' * (self.n_components != 1)}, "
            f"lowest {self.lowest_energy:.10g}"
        )
        for name, value in self.figures.items():
            told += f", {name} {value:.3g}"
        return f"{told}; {self.n_evaluations} evaluations in {self.seconds:.1f} s; ahead: {self.ahead}"


OnRound = Callable[[RoundReport], object]


class Live:
    """Bars, log and callback of one call of ``explore``; numbers that nobody looks at are not asked for."""

    def __init__(
        self, landscape: Landscape, budget: Budget, watch: Stopwatch, *, progress: bool, on_round: OnRound | None
    ) -> None:
        self.landscape, self.budget, self.watch = landscape, budget, watch
        self.progress, self.on_round = progress, on_round
        self._strategies: Sequence[tuple[Strategy, str]] = ()
        self._spent: dict[str, tuple[float, int]] = {}  # seconds and tries of each strategy in this call
        self._left: dict[str, int | None] = {}
        self._turn = ("", 0.0, 0)  # whose it is, when it began, and what was done before

    def begin(self, strategies: Sequence[Strategy], keys: Sequence[str]) -> None:
        """These strategies take turns."""
        self._strategies = list(zip(strategies, keys, strict=True))
        _LOG.info("exploring %s: %s", self.landscape, ", ".join(repr(one) for one in strategies))

    @contextlib.contextmanager
    def turn(self, strategy: Strategy, key: str, state: Any) -> Iterator[TurnBar]:
        """The turn of a strategy, with its bar."""
        self._left = {other: self._tries_left(one, other) for one, other in self._strategies if other != key}
        began, done = time.monotonic(), strategy.progress(state)[0]
        self._turn = (key, began, done)
        with TurnBar(self.landscape, strategy, show=self.progress, state=state, left=self._left_of_time) as bar:
            bar.show(state)
            yield bar

    @contextlib.contextmanager
    def after(
        self, strategy: Strategy, n_rounds: int, state: Any, n_quenches: int, n_evaluations: int
    ) -> Iterator[None]:
        """A round is committed; the block computes what else is to be known of its points.

        The callback is called after it, also where the block was cut short. What it raises is raised here.
        """
        try:
            yield
        except (Stopped, KeyboardInterrupt):
            self._tell(strategy, n_rounds, state, n_quenches, n_evaluations)
            raise
        self._tell(strategy, n_rounds, state, n_quenches, n_evaluations)

    def _tell(self, strategy: Strategy, n_rounds: int, state: Any, n_quenches: int, n_evaluations: int) -> None:
        if self.on_round is None and not _LOG.isEnabledFor(logging.INFO):
            return
        counts = self.landscape.glance()
        done, total = strategy.progress(state)
        report = RoundReport(
            strategy=strategy.name,
            round=n_rounds,
            n_minima=counts.n_minima,
            n_transition_states=counts.n_transition_states,
            n_components=counts.n_components,
            lowest_energy=counts.lowest_energy,
            n_quenches=n_quenches,
            n_evaluations=n_evaluations,
            n_evaluations_in_all=counts.n_evaluations,
            seconds=self.watch.elapsed,
            done=done,
            total=total,
            figures=strategy.figures(state),
            ahead=self._ahead(done, total, n_quenches, n_evaluations),
            landscape=self.landscape,
        )
        _LOG.info("%s", report)
        if self.on_round is not None:
            self.on_round(report)

    def _ahead(self, done: int, total: int | None, n_quenches: int, n_evaluations: int) -> Ahead:
        key, began, before = self._turn
        self._spent[key] = (time.monotonic() - began, done - before)
        left = {**self._left, key: None if total is None else max(0, total - done)}
        seconds = 0.0
        for _, one in self._strategies:
            tries, (spent, n) = left[one], self._spent.get(one, (0.0, 0))
            seconds += 0.0 if tries == 0 else math.nan if tries is None or n <= 0 else tries * spent / n
        spent_now = {"seconds": self.watch.elapsed, "quenches": n_quenches, "evaluations": n_evaluations}
        limits = {name: getattr(self.budget, name) for name in spent_now}
        budget = {
            name: float(max(0.0, limits[name] - n)) for name, n in spent_now.items() if limits[name] is not None
        }
        tries_by_name: dict[str, int | None] = {}
        for strategy, one in self._strategies:
            name = strategy.name
            while name in tries_by_name:
                name += "'"
            tries_by_name[name] = left[one]
        return Ahead(tries_by_name, seconds, budget)

    def _tries_left(self, strategy: Strategy, key: str) -> int | None:
        """What a strategy that has begun has left to try, as far as it knows."""
        state: Any = self.landscape.load_state(key)
        if state is None:
            return None
        done, total = strategy.progress(state)
        return None if total is None else max(0, total - done)

    def _left_of_time(self) -> str:
        """What is left of the budget's time, for the bar."""
        limit = self.budget.seconds
        return "" if limit is None or math.isinf(limit) else clock(max(0.0, limit - self.watch.elapsed))


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> clock(3725.2), clock(12.4)
        ('1:02:05', '0:12')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
