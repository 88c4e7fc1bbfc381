"""``explore_family``: one landscape for each value of a control parameter, and the branches through them."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from torchscape.errors import PotentialError
from torchscape.explore.budget import Budget
from torchscape.explore.executors import Executor, choose_executor
from torchscape.explore.family.branches import Sweeps
from torchscape.explore.family.members import Member, seed_minima
from torchscape.explore.family.refine import middles
from torchscape.explore.run import explore
from torchscape.explore.strategy import Strategy
from torchscape.interrupts import interruptible
from torchscape.landscape import Landscape, Matching
from torchscape.potentials.base import Potential
from torchscape.progress import progress_bar
from torchscape.saddles.continuation import Continuation

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
) -> Family:
    """Explore a landscape at each value of a control parameter p, and follow its minima and transition states.

    Every member is explored by itself. Then each stationary point is followed to both neighbouring values,
    grad U(x(p); p) = 0, all points of one step as one batch (:func:`~torchscape.saddles.continue_points`). Where
    it arrives at a point that the neighbour knows, up to symmetry, the two are one branch; where the neighbour
    does not know it, it is added there. Where a branch ends it is asked why:

    - *fold*: it meets a branch whose index differs by one, and an eigenvalue vanishes, mu^2 ~ p* - p. Located with
      the extended system of Moore and Spence; the other branch, if no search had found it, is followed back;
    - *pitchfork*: it ends on a branch that goes on and changes its index, mu ~ p* - p (or *transcritical*: it
      goes on beyond that branch, with the other index);
    - *left the box*: it reaches a wall of the potential's bounds;
    - *lost*, with the reason.

    Branches that are born and die between two values leave no trace at either. With ``halvings`` the middle of
    every gap is explored too, and then, as often as said, the middles of those gaps that remain in doubt: in which
    a branch is lost for no located reason, or beside a middle with a branch that neither neighbour has.

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
        folder: where each member has its database file, named after the value; a second call goes on with them.
            By default nothing is kept but the result.
        matching: when points are the same.
        progress: show progress bars.

    Ctrl-C, SIGTERM and SIGHUP end it, and the message says which member is incomplete and which were not begun;
    with a ``folder`` everything found so far stays there, and the same call goes on with it.

    Members with different numbers of coordinates are explored, but share no branch; the result says so. Beyond
    ``continuation.dense_limit`` coordinates branches are followed, but folds and pitchforks are not located.

    Raises:
        PotentialError: if there is not one potential for each value, values repeat or are not finite,
            ``potentials`` gives anything but potentials, or there are no values in between to be added.
        FingerprintMismatch: if ``folder`` holds another family.
        KeyboardInterrupt: after Ctrl-C.
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
    from torchscape.explore.family.assemble import assemble

    at, ordered, between = _prepared(potentials, values, continuous)
    if halvings and not between:
        raise PotentialError(
            "halvings need values in between: give a function of the value, and values that are not all whole "
            "numbers (or continuous=True)"
        )
    options = continuation or Continuation()
    with contextlib.ExitStack() as stack:
        stack.enter_context(interruptible())
        runs = stack.enter_context(choose_executor(executor))
        bar = stack.enter_context(progress_bar(show=progress, desc="members", total=len(ordered), unit=""))
        landscapes: dict[float, Landscape] = {}

        def visit(values: Sequence[float]) -> Sweeps:
            """Explore there, and follow the branches through all members so far."""
            for value in values:
                landscape = stack.enter_context(_opened(folder, value, at(value), matching))
                if seed_from_neighbour:
                    _seed(landscape, at(value), landscapes, value)
                status = _explored(
                    landscape,
                    at(value),
                    strategies=strategies,
                    seed=seed,
                    budget=budget,
                    executor=runs,
                    progress=progress,
                )
                if status == "interrupted":
                    raise KeyboardInterrupt(_incomplete(value, [v for v in values if v > value], folder))
                landscapes[value] = landscape
                bar.update()
            members = [Member(value, at(value), landscapes[value]) for value in sorted(landscapes)]
            sweeps = Sweeps(at, members, between=between, options=options, progress=progress)
            sweeps.run()
            return sweeps

        sweeps, fresh = visit(ordered), list[float]()
        for _ in range(halvings):
            fresh = middles(sweeps, fresh)
            if not fresh:
                break
            sweeps = visit(fresh)
        return assemble(sweeps)


def _explored(landscape: Landscape, potential: Potential, **options) -> str:
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
        told += f", and {len(left)} {'were' if len(left) > 1 else 'was'} not begun ({_shown(left)})"
    if folder is None:
        return (
            f"{told}; nothing is kept without a folder: give one, and a second call goes on where this one stopped"
        )
    return f"{told}; everything found so far is in {folder}, and the same call goes on from there"


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.12g}" for value in values[:5]) + ", ..." * (len(values) > 5)


def _seed(landscape: Landscape, potential: Potential, landscapes: Mapping[float, Landscape], value: float) -> None:
    """The minima of the next lower value that is known, relaxed here."""
    behind = [known for known in landscapes if known < value]
    if behind and landscapes[max(behind)].ndim == potential.ndim:
        seed_minima(landscape, potential, landscapes[max(behind)])


def _prepared(
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


def _opened(
    folder: str | os.PathLike[str] | None, value: float, potential: Potential, matching: Matching | None
) -> Landscape:
    if folder is None:
        return Landscape.in_memory(potential, matching=matching)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Landscape.open(Path(folder) / f"{value:.12g}.db", potential, matching=matching)
