"""The contract checks of strategies and executors: what ships passes, and each broken promise is named."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from explore_doubles import Cutting, Elsewhere, Wells

import torchscape as tsc
from torchscape.errors import TorchscapeError
from torchscape.explore import (
    BasinHopping,
    ClimbFromChosen,
    ClimbFromMinima,
    ConnectMinima,
    ConnectPair,
    Found,
    LowerBarriers,
    Round,
    Shortcut,
    StationarySearch,
    Strategy,
    TemperedBasinHopping,
    Untrap,
    check_executor,
    check_strategy,
)
from torchscape.explore.tasks import blocks
from torchscape.optimise import relax
from torchscape.points import StationaryPoints

HOPPING = BasinHopping(walkers=8, hops=0)


@pytest.mark.parametrize(
    ("strategy", "before"),
    [
        (BasinHopping(walkers=6, hops=2, round_hops=1), []),
        (ConnectMinima(neighbours=2, round_pairs=2), [HOPPING]),
        (ClimbFromMinima(searches=1, round_searches=2), [HOPPING]),
    ],
    ids=["basin-hopping", "connect", "climb"],  # the others: test_processes.py, test_run.py
)
def test_strategies_that_ship(strategy, before):
    check_strategy(strategy, Wells(2), before=before)


@pytest.mark.parametrize(
    "strategy",
    [
        BasinHopping(),
        ClimbFromMinima(),
        ConnectMinima(),
        ClimbFromChosen(),
        ConnectPair(),
        LowerBarriers(),
        Shortcut(),
        StationarySearch(),
        TemperedBasinHopping(),
        Untrap(),
    ],
    ids=lambda strategy: strategy.name,
)
def test_settings_that_may_change_at_any_time_are_settings(strategy):
    fields = {field.name for field in dataclasses.fields(strategy)}
    assert set(strategy.any_time) < fields
    assert strategy.identity().keys() == fields - set(strategy.any_time) - set(strategy.later)
    other = {"from_lowest": 4, "joined": False, "grow": True}
    changed = dataclasses.replace(strategy, **{name: other[name] for name in strategy.later})
    assert changed.identity().keys() == fields - set(strategy.any_time)


@dataclasses.dataclass(frozen=True)
class Starts:
    """Quenches from ``n`` points of a seed."""

    seed: int
    n: int
    first: int = 0
    kind = "starts"

    def run(self, potential):
        points = relax(potential, potential.sample(self.first + self.n, seed=self.seed)[self.first :])
        return Found(points, n_quenches=len(points), n_evaluations=int(points.n_evaluations.sum()))

    @property
    def n_rows(self):
        return self.n

    def divided(self, n):
        return [dataclasses.replace(self, first=r.start, n=r.stop - r.start) for r in blocks(self.n, n)]

    def joined(self, found):
        return Found(StationaryPoints.cat([one.minima for one in found]), n_quenches=self.n)


class Backwards(Starts):
    """Puts its parts together in the wrong order."""

    def joined(self, found):
        return super().joined(found[::-1])


class Rounds(Strategy):
    """Three rounds of quenches."""

    name = "rounds"
    task = Starts

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed

    def start(self, landscape, potential, seed):
        return {"done": 0}

    def propose(self, landscape, potential, state):
        return Round([self.task(self.seed + state["done"], 5)]) if state["done"] < 3 else None

    def absorb(self, landscape, state, round, found, ids):
        return {"done": state["done"] + 1}


class Forgetful(Rounds):
    """Keeps in the process what belongs into the state."""

    def start(self, landscape, potential, seed):
        self.done = 0
        return {}

    def propose(self, landscape, potential, state):
        return super().propose(landscape, potential, {"done": getattr(self, "done", 0)})

    def absorb(self, landscape, state, round, found, ids):
        self.done += 1
        return {}


class Restless(Rounds):
    """Has something more to try whenever it is asked after its end."""

    asked = 0

    def propose(self, landscape, potential, state):
        proposed = super().propose(landscape, potential, state)
        if proposed is None:
            Restless.asked += 1
            return Round([Starts(9, 1)]) if Restless.asked % 3 == 0 else None
        return proposed


class Wrong(Rounds):
    task = Backwards


class Idle(Rounds):
    def propose(self, landscape, potential, state):
        return None


def test_a_strategy_of_a_user():
    check_strategy(Rounds(), Wells(2))


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        (Forgetful(), "Forgetful, interrupted and resumed after every round, finds other|does not end"),
        (Restless(), "propose None then|does not end|finds other"),
        (Wrong(), r"the tasks of Wrong, cut into parts, find other"),
        (Idle(), "Idle proposes nothing"),
    ],
)
def test_broken_promises_of_strategies(strategy, told):
    with pytest.raises(TorchscapeError, match=told):
        check_strategy(strategy, Wells(2))


def test_a_strategy_that_says_nothing_about_itself_is_run_again_with_other_settings():
    with tsc.Landscape.in_memory(Wells(2)) as landscape:
        options = {"progress": False, "check": False}
        first = tsc.explore(landscape, landscape.potential, strategies=[Rounds(1)], **options)
        same = tsc.explore(landscape, landscape.potential, strategies=[Rounds(1)], **options)
        other = tsc.explore(landscape, landscape.potential, strategies=[Rounds(50)], **options)
    assert (first.n_quenches, same.n_quenches, other.n_quenches) == (15, 0, 15)


# --- executors --------------------------------------------------------------------------------------------


class Reversed:
    def run(self, potential, tasks):
        yield from [task.run(potential) for task in tasks][::-1]


class Deaf:
    def run(self, potential, tasks):
        for task in tasks:
            try:
                yield task.run(potential)
            except ArithmeticError:
                yield Found(StationaryPoints.empty(potential.ndim))


class Losing:
    """Loses the last quench of every task."""

    def run(self, potential, tasks):
        for task in tasks:
            found = task.run(potential)
            yield dataclasses.replace(found, minima=found.minima[:-1])


@pytest.mark.parametrize("executor", [Elsewhere(), Cutting(3)])
def test_executors_that_work(executor):
    check_executor(executor, Wells(2))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("executor", "told"),
    [
        (Reversed(), r"in the order \[4, 3, 2, 1, 0\]"),
        (Deaf(), "does not hand on the error"),
        (Losing(), "an exploration finds other"),
    ],
)
def test_broken_promises_of_executors(executor, told):
    with pytest.raises(TorchscapeError, match=told):
        check_executor(executor, Wells(1))
