"""``explore_family``: one landscape for each value of a control parameter, and the branches through them."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchscape.errors import PotentialError
from torchscape.explore.budget import Budget
from torchscape.explore.executors import Executor, choose_executor
from torchscape.explore.live import OnRound
from torchscape.explore.run import explore
from torchscape.explore.strategy import Strategy
from torchscape.families.branches import Sweeps
from torchscape.families.continuation import Continuation
from torchscape.families.members import Member, seed_minima
from torchscape.families.refine import middles
from torchscape.interrupts import interruptible
from torchscape.landscape import Landscape, Matching
from torchscape.potentials.base import Potential
from torchscape.progress import progress_bar

if TYPE_CHECKING:
    from torchscape.analysis.family import Family

__all__ = ["explore_family"]


def explore_family(
    potentials: Callable[[float], Potential] | Sequence[Potential],
    values: Sequence[float] | Sequence[int],
    *,
    strategies: Sequence[Strategy] | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    executor: Executor | str | None = None,
    continuous: bool | None = None,
    seed_from_neighbour: bool = True,
    halvings: int = 0,
    continuation: Continuation | None = None,
    folder: str | os.PathLike[str] | None = None,
    matching: Matching | None = None,
    progress: bool = True,
    on_round: OnRound | None = None,
) -> Family:
    """Explore a landscape at each value of a control parameter p, and follow its minima and transition states.

    Every member is explored by itself; then its stationary points are followed to both neighbouring values, and
    where a branch ends it is asked why (see :mod:`torchscape.families` and
    :class:`~torchscape.analysis.family.FamilyEvent`). Members with different numbers of coordinates are explored,
    but share no branch; the result says so.

    Args:
        potentials: a function of p, or one potential for each value.
        values: of p, in any order; the family has them ascending.
        strategies: for every member, as in :func:`~torchscape.explore.explore`.
        seed, budget, executor: as there; the budget is that of each member.
        continuous: whether ``potentials`` may be asked for values in between. By default it may if it is a
            function and not all values are whole numbers (of clusters, hidden nodes or data, say). If not,
            branches are followed in single steps, events lie between two values and are interpolated: folds by
            mu^2, with half the distance of the values as uncertainty.
        seed_from_neighbour: relax the minima of the value before, beside what the strategies do.
        halvings: rounds of refinement, each of which may halve gaps once; their middles are members of the
            family, too.
        continuation: how branches are followed.
        folder: where each member has its database file, named after the value; a second call goes on with them,
            after Ctrl-C or a signal too. By default nothing is kept but the result.
        matching: when points are the same.
        progress: show progress bars.
        on_round: called after each round of each member, as in :func:`~torchscape.explore.explore`; the report's
            ``landscape`` says whose it is.

    Raises:
        PotentialError: if there is not one potential for each value, values repeat or are not finite,
            ``potentials`` gives anything but potentials, or there are no values in between to be added.
        FingerprintMismatch: if ``folder`` holds another family.
        KeyboardInterrupt: after Ctrl-C; the message says which member is incomplete and which were not begun.
        SystemExit: after SIGTERM or SIGHUP, as :func:`~torchscape.explore.explore` does.

    Example:
        >>> import torchscape as tsc
        >>> def cusp(b):
        ...     return tsc.FunctionPotential(lambda x: x[0]**4 / 4 - 0.75 * x[0]**2 + b * x[0], 1, name=f"b = {b}")
        >>> family = explore_family(cusp, [0.0, 0.3, 0.6, 0.9], progress=False, strategies=[
        ...     tsc.BasinHopping(walkers=8, hops=0), tsc.ConnectMinima()])
        >>> family.counts().tolist()
        [[2, 1], [2, 1], [2, 1], [1, 0]]
        >>> [(event.kind, round(event.value, 9)) for event in family.events]  # 2 (a / 3)^(3/2) at a = 1.5
        [('fold', 0.707106781)]
    """
    at, ordered, between = _prepare(potentials, values, continuous)
    if halvings and not between:
        raise PotentialError(
            "halvings need values in between: give a function of the value, and values that are not all whole "
            "numbers (or continuous=True)"
        )
    how = {"strategies": strategies, "seed": seed, "budget": budget, "progress": progress, "on_round": on_round}
    with (
        interruptible(),
        choose_executor(executor) as runs,
        contextlib.ExitStack() as files,
        progress_bar(show=progress, desc="members", total=len(ordered), unit="") as bar,
    ):
        visits = _Visits(at, folder, matching, seed_from_neighbour, {**how, "executor": runs}, files, bar)
        return visits.family(ordered, between, halvings, continuation or Continuation())


class _Visits:
    """The members that were explored so far, whose files stay open."""

    def __init__(
        self,
        at: Callable[[float], Potential],
        folder: str | os.PathLike[str] | None,
        matching: Matching | None,
        seeded: bool,
        how: Mapping[str, Any],
        files: contextlib.ExitStack,
        bar: Any,
    ) -> None:
        self.at, self.folder, self.matching, self.seeded = at, folder, matching, seeded
        self.how, self.files, self.bar = how, files, bar
        self.landscapes: dict[float, Landscape] = {}

    def family(self, values: Sequence[float], between: bool, halvings: int, options: Continuation) -> Family:
        """Explore at the values, and in the middle of the gaps that remain in doubt, so often."""
        from torchscape.families.assemble import assemble

        sweeps, fresh = self._sweep(values, between, options), list[float]()
        for _ in range(halvings):
            fresh = middles(sweeps, fresh)
            if not fresh:
                break
            sweeps = self._sweep(fresh, between, options)
        return assemble(sweeps)

    def _sweep(self, values: Sequence[float], between: bool, options: Continuation) -> Sweeps:
        """Explore there, and follow the branches through all members so far."""
        for value in values:
            self._explore(value, values)
        members = [Member(value, self.at(value), self.landscapes[value]) for value in sorted(self.landscapes)]
        sweeps = Sweeps(self.at, members, between=between, options=options, progress=self.how["progress"])
        sweeps.run()
        return sweeps

    def _explore(self, value: float, values: Sequence[float]) -> None:
        potential = self.at(value)
        landscape = self.files.enter_context(_open(self.folder, value, potential, self.matching))
        if self.seeded:
            _seed(landscape, potential, self.landscapes, value)
        if _explore_member(landscape, potential, **self.how) == "interrupted":
            raise KeyboardInterrupt(_incomplete(value, [v for v in values if v > value], self.folder))
        self.landscapes[value] = landscape
        self.bar.update()


def _explore_member(landscape: Landscape, potential: Potential, **options: Any) -> str:
    """Explore one member, and return the status of that.

    That it has no minima is a finding here, whose reason the result's notes give.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="none of .* quenches ended in a minimum")
        return explore(landscape, potential, **options).status


def _incomplete(value: float, left: Sequence[float], folder: str | os.PathLike[str] | None) -> str:
    """What an interrupted family has, in words."""
    told = f"interrupted: the member at {value:.12g} is incomplete"
    if left:
        told += f", and {len(left)} {'were' if len(left) > 1 else 'was'} not begun ({_list(left)})"
    if folder is None:
        return (
            f"{told}; nothing is kept without a folder: give one, and a second call goes on where this one stopped"
        )
    return f"{told}; everything found so far is in {folder}, and the same call goes on from there"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.12g}" for value in values[:5]) + ", ..." * (len(values) > 5)


def _seed(landscape: Landscape, potential: Potential, landscapes: Mapping[float, Landscape], value: float) -> None:
    """The minima of the next lower value that is known, relaxed here."""
    behind = [known for known in landscapes if known < value]
    if behind and landscapes[max(behind)].ndim == potential.ndim:
        seed_minima(landscape, potential, landscapes[max(behind)])


def _prepare(
    potentials: Callable[[float], Potential] | Sequence[Potential],
    values: Sequence[float] | Sequence[int],
    continuous: bool | None,
) -> tuple[Callable[[float], Potential], list[float], bool]:
    """The potential at a value, each built once; the values in order; whether there are any in between."""
    chosen = [float(value) for value in values]
    if not chosen or len(set(chosen)) < len(chosen) or not all(map(_finite, chosen)):
        raise PotentialError(f"values must be finite and different from each other, not {chosen}")
    known: dict[float, Potential] = {}
    if callable(potentials):
        make = potentials
        whole = all(isinstance(value, int) for value in values)
        named = dict(zip(chosen, values, strict=True))  # a whole number stays one: hidden nodes are counted
    else:
        if len(potentials) != len(chosen):
            raise PotentialError(f"{len(potentials)} potentials for {len(chosen)} values: give one for each")
        if continuous:
            raise PotentialError("continuous=True needs a function of the value in place of a list of potentials")
        known.update(zip(chosen, potentials, strict=True))

    def at(value: float) -> Potential:
        if value not in known:
            known[value] = make(named.get(value, value))
            if len(known) > len(chosen) + _KEPT:
                del known[next(v for v in known if v not in set(chosen))]
        if not isinstance(known[value], Potential):
            raise PotentialError(
                f"potentials gave a {type(known[value]).__name__} at {value:g}, not a Potential; of a problem, "
                "hand over its .potential"
            )
        return known[value]

    between = callable(potentials) and (not whole if continuous is None else continuous)
    return at, sorted(chosen), between


_KEPT = 64  # potentials between the members


def _finite(value: float) -> bool:
    return bool(torch.isfinite(torch.tensor(value, dtype=torch.float64)))


def _open(
    folder: str | os.PathLike[str] | None, value: float, potential: Potential, matching: Matching | None
) -> Landscape:
    if folder is None:
        return Landscape.in_memory(potential, matching=matching)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Landscape.open(Path(folder) / f"{value:.12g}.db", potential, matching=matching)
