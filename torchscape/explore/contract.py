"""``check_strategy`` and ``check_executor``: what a strategy and an executor promise, tried out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from torchscape.errors import TorchscapeError
from torchscape.explore.basin_hopping import BasinHopping
from torchscape.explore.connect import ConnectMinima
from torchscape.explore.executors import Executor, InProcess
from torchscape.explore.run import explore
from torchscape.explore.strategy import Strategy
from torchscape.explore.tasks import Divisible, Found, Task
from torchscape.landscape import Landscape
from torchscape.points import StationaryPoints
from torchscape.potentials import Himmelblau
from torchscape.potentials.base import Potential
from torchscape.symmetry.pairs import pair_distances
from torchscape.types import Tensor

__all__ = ["check_executor", "check_strategy"]

_MOST_LIVES = 1000


def check_strategy(
    strategy: Strategy, potential: Potential, *, before: Sequence[Strategy] = (), seed: int = 0
) -> None:
    """Try every promise of a :class:`Strategy` on a small potential, and say which one is broken.

    It ends; its state can be stored; interrupted and resumed after every round it finds what it finds without; so
    it does where its tasks are cut into parts, up to rounding; and with nothing left to try it proposes nothing.

    Args:
        strategy: what to check, with settings under which it ends soon.
        potential: U; seconds of work.
        before: strategies that find what it needs.
        seed: of the exploration.

    Raises:
        TorchscapeError: naming the broken promise.

    Example:
        >>> import torchscape as tsc
        >>> check_strategy(tsc.BasinHopping(walkers=8, hops=2, round_hops=1), tsc.potentials.Himmelblau())
    """
    strategies, name = [*before, strategy], type(strategy).__name__
    whole, n_rounds = _explore(potential, strategies, InProcess(), seed)
    if n_rounds == 0:
        raise TorchscapeError(
            f"{name} proposes nothing: give a potential, or strategies before it, with work for it"
        )
    lives = 0
    with Landscape.in_memory(potential) as landscape:
        options: dict[str, Any] = {"strategies": strategies, "seed": seed, "progress": False, "check": False}
        while not explore(landscape, potential, executor=_OneRound(), **options).is_complete:
            lives += 1
            if lives > _MOST_LIVES:
                raise TorchscapeError(
                    f"{name}, interrupted after every round, does not end in {_MOST_LIVES} rounds"
                )
        told = _difference(_content(landscape), whole)
        if told:
            raise TorchscapeError(
                f"{name}, interrupted and resumed after every round, finds other {told} than without: what it "
                "must remember belongs into the state that absorb returns"
            )
        explore(landscape, potential, executor=_None(), **options)
    parts, _ = _explore(potential, strategies, _Parts(), seed)
    if told := _difference(parts, whole, potential):
        raise TorchscapeError(
            f"the tasks of {name}, cut into parts, find other {told}: rows must not depend on their numbers in a "
            "part, and joined must put them in their order"
        )


def check_executor(executor: Executor, potential: Potential | None = None, *, seed: int = 0) -> None:
    """Try every promise of an :class:`Executor`, and say which one is broken.

    An exploration finds what it finds in this process, up to rounding; results come in the order of the tasks; and
    an error of a task reaches the caller.

    Args:
        executor: what to check.
        potential: U; None for a surface of four wells.
        seed: of the exploration.

    Raises:
        TorchscapeError: naming the broken promise.

    Example:
        >>> check_executor(InProcess())
    """
    name = type(executor).__name__
    potential = Himmelblau() if potential is None else potential
    strategies = [BasinHopping(walkers=16, hops=2), ConnectMinima()]
    whole, _ = _explore(potential, strategies, InProcess(), seed)
    there, _ = _explore(potential, strategies, executor, seed)
    if told := _difference(there, whole, potential):
        raise TorchscapeError(f"with {name} an exploration finds other {told} than in one process")
    numbers = [one.n_quenches for one in executor.run(potential, [_Numbered(n) for n in range(5)])]
    if numbers != list(range(5)):
        raise TorchscapeError(f"{name} gives results of tasks 0 to 4 in the order {numbers}")
    try:
        list(executor.run(potential, [_Failing()]))
    except ArithmeticError:
        return
    raise TorchscapeError(f"{name} does not hand on the error of a task")


class _OneRound:
    """Runs one round, and is interrupted at the next."""

    def __init__(self) -> None:
        self.n_rounds = 0

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        self.n_rounds += 1
        if self.n_rounds > 1:
            raise KeyboardInterrupt
        yield from InProcess().run(potential, tasks)


class _None:
    """Runs nothing."""

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        raise TorchscapeError(
            f"a strategy had ended, and proposes {len(tasks)} more tasks when it is asked again: propose None then"
        )


class _Parts:
    """Cuts every task that can be cut, and runs the last part first."""

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        for task in tasks:
            parts = task.divided(3) if isinstance(task, Divisible) else [task]
            found = [part.run(potential) for part in reversed(parts)][::-1]
            whole = task.joined(found) if isinstance(task, Divisible) and len(found) > 1 else found[0]
            yield whole.completed(potential)


class _Counting:
    """Counts rounds."""

    def __init__(self, executor: Executor) -> None:
        self.executor, self.n_rounds = executor, 0

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        self.n_rounds += 1
        return self.executor.run(potential, tasks)


class _Numbered:
    """A task that finds its number."""

    kind = "numbered"

    def __init__(self, number: int) -> None:
        self.number = number

    def run(self, potential: Potential) -> Found:
        return Found(StationaryPoints.empty(potential.ndim), n_quenches=self.number)


class _Failing:
    """A task that raises."""

    kind = "failing"

    def run(self, potential: Potential) -> Found:
        raise ArithmeticError("on purpose")


def _explore(
    potential: Potential, strategies: Sequence[Strategy], executor: Executor, seed: int
) -> tuple[dict[str, Tensor], int]:
    """What an exploration finds, and in how many rounds of the last strategy."""
    counting = _Counting(executor)
    with Landscape.in_memory(potential) as landscape, warnings.catch_warnings(action="ignore"):
        options: dict[str, Any] = {"seed": seed, "progress": False, "check": False}
        if len(strategies) > 1:
            explore(landscape, potential, strategies=strategies[:-1], executor=executor, **options)
        explore(landscape, potential, strategies=strategies, executor=counting, **options)
        return _content(landscape), counting.n_rounds


def _content(landscape: Landscape) -> dict[str, Tensor]:
    """What was found, in the order of the ids."""
    network = landscape.network(coords=True)
    order = network.ids.argsort()
    pairs = landscape.tried_pairs()
    assert network.coords is not None
    return {
        "energies of minima": network.energy[order],
        "minima": network.coords[order],
        "hits": network.hits[order],
        "transition states": network.ts_energy.sort().values,
        "pairs": torch.cat([pairs.pairs, pairs.times[:, None]], 1),
    }


def _difference(a: dict[str, Tensor], b: dict[str, Tensor], potential: Potential | None = None) -> str | None:
    """The first thing in which two explorations differ: to the last bit, or, given the potential, up to rounding
    and its symmetry (of many quenches rounding decides in which image of a minimum they end)."""
    for name, mine in a.items():
        its = b[name]
        if mine.shape != its.shape:
            return name
        if potential is None:
            same = torch.equal(mine, its)
        elif name == "minima":
            row = torch.arange(len(mine))
            apart = pair_distances(potential.symmetry, mine, row, its, row)
            same = bool((apart <= 1e-6 * max(1.0, potential.length_scale)).all())
        else:
            same = torch.allclose(mine.double(), its.double(), rtol=1e-6, atol=1e-6)
        if not same:
            return name
    return None
