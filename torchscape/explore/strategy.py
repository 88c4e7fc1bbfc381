"""What to try next: the protocol of a strategy, and what it may look at."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torchscape.explore.tasks import Found, Task
from torchscape.landscape import Landscape
from torchscape.potentials.base import Potential, hash_settings

__all__ = ["Round", "Strategy", "state_keys"]

State = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Round:
    """Tasks that may run side by side. Their results are committed together with the strategy's next state.

    A round that is cut short is proposed again, from the same state and landscape, and must then be the same: what
    has ended of it is recognised by the inputs of its searches.
    """

    tasks: Sequence[Task]
    detail: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Strategy:
    """Reads the landscape and proposes rounds of tasks until it has nothing left to try.

    A strategy keeps no state of its own: everything it must remember is in the mapping (plain data and tensors)
    that :meth:`start` makes and :meth:`absorb` renews, which the run loop stores with each round. That is what
    makes a killed run resume exactly.

    A strategy is best a frozen dataclass: its settings are then its fields.

    Attributes:
        name: for people.
        any_time: settings that may change between two calls which go on with the same search, such as how long it
            goes on.
        later: settings that came with a later version, and what they are as ever.
        seeded: whether another seed makes it another search. If not, a run with another seed goes on with what
            this one has left to try.
    """

    name: ClassVar[str] = "strategy"
    any_time: ClassVar[Sequence[str]] = ()
    later: ClassVar[Mapping[str, Any]] = {}
    seeded: ClassVar[bool] = True

    def identity(self) -> Mapping[str, Any]:
        """Settings that decide *which* search this is: all but those of ``any_time``, so that a longer one
        continues a shorter one. Files that were begun before there were those of ``later`` know nothing of
        them: where they are as ever, they are not named."""
        settings = {name: value for name, value in _settings(self).items() if name not in self.any_time}
        usual = [name for name, value in self.later.items() if settings[name] == value]
        return {name: repr(value) for name, value in settings.items() if name not in usual}

    def start(self, landscape: Landscape, potential: Potential, seed: int) -> State:
        """The state before the first round."""
        return {}

    def propose(self, landscape: Landscape, potential: Potential, state: State) -> Round | None:
        """The next round, or None when there is nothing left to do."""
        raise NotImplementedError

    def foresee(self, landscape: Landscape, potential: Potential, state: State, round: Round) -> Sequence[Task]:
        """Tasks that the round after ``round`` will probably consist of, whatever this one finds: workers that
        have nothing else to do begin with them. A guess decides nothing, and a wrong one costs time only."""
        return ()

    def absorb(self, landscape: Landscape, state: State, round: Round, found: Sequence[Found], ids: Any) -> State:
        """The state after a round. ``ids`` holds, per task, the ids its points got (see :mod:`.run`)."""
        raise NotImplementedError

    def progress(self, state: State) -> tuple[int, int | None]:
        """(done, total) for the progress bar; total None when it cannot be known."""
        return 0, None

    def figures(self, state: State) -> Mapping[str, float]:
        """What else there is to see while it runs, by name, such as the share of accepted hops; for the progress
        bar, the log and ``on_round``."""
        return {}


def _settings(strategy: Strategy) -> dict[str, Any]:
    """The fields of a dataclass, else what an object has set."""
    if dataclasses.is_dataclass(strategy):
        return {field.name: getattr(strategy, field.name) for field in dataclasses.fields(strategy)}
    return dict(vars(strategy))


def state_keys(strategies: Sequence[Strategy], seed: int) -> list[str]:
    """The name under which each strategy is stored: what it is, and its number among those of its kind."""
    keys: list[str] = []
    for strategy in strategies:
        # The address of an object without a repr of its own would be another one in the next process.
        identity = {k: re.sub(r" at 0x[0-9a-f]+", "", str(v)) for k, v in strategy.identity().items()}
        what = f"{strategy.name}:{hash_settings([seed if strategy.seeded else None, identity])[:16]}"
        keys.append(f"{what}:{sum(key.startswith(what) for key in keys)}")
    return keys
