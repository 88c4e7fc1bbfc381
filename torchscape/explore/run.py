"""The run loop: strategies propose, an executor runs, and only this loop writes."""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch

from torchscape.devices import HOST
from torchscape.errors import DatabaseError
from torchscape.explore.basin_hopping import BasinHopping
from torchscape.explore.budget import Budget
from torchscape.explore.connect import ConnectMinima
from torchscape.explore.executors import Executor, InProcess
from torchscape.explore.families import merge_families
from torchscape.explore.invariances import find_invariances
from torchscape.explore.report import ExploreReport, families_advice
from torchscape.explore.strategy import Round, Strategy
from torchscape.explore.tasks import Found
from torchscape.interrupts import interruptible
from torchscape.landscape import Landscape
from torchscape.landscape.description import NO_MINIMUM, UP_TO_FAMILIES, nothing_found
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential, hash_settings
from torchscape.potentials.probe import probe
from torchscape.progress import progress_bar
from torchscape.saddles import Certificate, SaddleSearch, characterise
from torchscape.types import Bool, Int, Tensor
from torchscape.validation import SEED

__all__ = ["explore"]

FEW = 500  # coordinates up to which curvatures cost little beside the minima themselves


def explore(
    landscape: Landscape,
    potential: Potential,
    *,
    strategies: Sequence[Strategy] | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    executor: Executor | None = None,
    progress: bool = True,
    check: bool = True,
) -> ExploreReport:
    """Explore a landscape: the strategies take turns until none has anything left to try.

    Each round of tasks is committed at once, with everything needed to go on from there. Calling ``explore`` again
    on the same file, with the same seed and strategies, goes on where the last call stopped, however it stopped;
    with more hops, or another strategy appended, it does what is missing.

    A turn ends when its strategy has nothing left to try; a later one may then find minima that give an earlier
    one something to do again.

    Ctrl-C (KeyboardInterrupt) ends the exploration, keeps everything committed so far and returns a report whose
    status is "interrupted". SIGTERM, as schedulers send it, and SIGHUP do the same, and then end the process with
    the exit code 128 + signal (``SystemExit``; see :func:`torchscape.interrupts.interruptible`). After every round
    the file itself holds everything, without the log beside it.

    Args:
        landscape: the database, opened for this potential.
        potential: what to explore.
        strategies: default ``[BasinHopping(), ConnectMinima()]``.
        seed: decides every random number.
        budget: limits for this call.
        executor: who runs the tasks; default :class:`InProcess`.
        progress: show progress bars.
        check: try the derivatives and the symmetry of a potential of your own first, once for each potential (see
            :func:`~torchscape.potentials.probe.probe`): about 40 gradients of single rows.

    Returns:
        A report; the findings themselves are in ``landscape``.

    Raises:
        FingerprintMismatch: if the landscape is that of another potential.
        PotentialError: if a derivative or the symmetry of the potential is false.
        DatabaseError: if it cannot be written; what is committed stays.
        SystemExit: after SIGTERM or SIGHUP.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.FunctionPotential(lambda x: (x[0]**2 - 1)**2 + x[1]**2, 2)
        >>> with tsc.Landscape.in_memory(surface) as landscape:
        ...     report = tsc.explore(landscape, surface, progress=False,
        ...                          strategies=[tsc.BasinHopping(walkers=16, hops=2), tsc.ConnectMinima()])
        ...     landscape.n_minima, landscape.n_transition_states
        (2, 1)
    """
    SEED.check("explore", seed=seed)
    strategies = [BasinHopping(), ConnectMinima()] if strategies is None else list(strategies)
    if potential is not landscape.potential and not landscape.is_readonly:
        landscape.expect(potential)
    with interruptible():
        if check:
            probe(potential)
        loop = _Loop(landscape, potential, seed, budget or Budget(), executor or InProcess(), progress)
        run = landscape.begin_run(seed, {"strategies": [repr(s) for s in strategies], "budget": repr(budget)})
        found: Mapping[str, Any] = {}
        try:
            status = loop.run(strategies)
            found = find_invariances(landscape, potential)
        except KeyboardInterrupt:
            status = "interrupted"
        except BaseException:
            with contextlib.suppress(DatabaseError):  # after a full disk: what is being raised says more
                landscape.finish_run(run, "failed")
            landscape.fold()
            raise
        landscape.finish_run(run, status)
        landscape.fold()
        report = loop.report(status)
    if report.n_families:
        warnings.warn(families_advice(report, found), stacklevel=2)
    if report.advice:
        warnings.warn(report.advice, stacklevel=2)
    return report


class _Loop:
    """One call of :func:`explore`."""

    def __init__(
        self,
        landscape: Landscape,
        potential: Potential,
        seed: int,
        budget: Budget,
        executor: Executor,
        progress: bool,
    ) -> None:
        self.landscape, self.potential, self.seed = landscape, potential, seed
        self.budget, self.executor, self.progress = budget, executor, progress
        self.began = time.monotonic()
        self.n_quenches = self.n_evaluations = 0
        self.outcomes: dict[str, int] = {}

    def run(self, strategies: Sequence[Strategy]) -> str:
        """Turn after turn, until nobody has anything left to try or a budget runs out; the status.

        Whose turn it is gets stored: a strategy that has had its turn is not asked again before its time when
        a killed run resumes, although the landscape has changed since.
        """
        self._characterise()  # what a run before this one has left
        keys = state_keys(strategies, self.seed)
        turn = f"turn:{hash_settings(keys)[:16]}"
        stored = self.landscape.load_state(turn)
        at, idle = (0 if stored is None else int(stored["at"])), 0  # type: ignore[call-overload]
        while idle < len(strategies):
            n_rounds, limit = self._turn(strategies[at], keys[at])
            if limit is not None:
                return f"budget: {limit}"
            idle = 1 if n_rounds else idle + 1
            at = (at + 1) % len(strategies) if idle < len(strategies) else 0
            self.landscape.save_state(turn, {"at": at})
        # Determinants of many coordinates, which nothing before this needs.
        for of in ("minima", "transition_states"):
            if self._exceeded() != "seconds":
                self._characterise(of, index_known=True)
        missing = len(self.landscape.uncharacterised()) + len(self.landscape.uncharacterised("transition_states"))
        if missing:
            return "budget: seconds"
        if not any(self.landscape.counts_by_index()):
            return NO_MINIMUM
        return UP_TO_FAMILIES if self.landscape.n_families else "complete"

    def _turn(self, strategy: Strategy, key: str) -> tuple[int, str | None]:
        """Rounds of one strategy until it has nothing left to try: how many, and the budget that ran out first."""
        stored = self.landscape.load_state(key)
        if stored is None:
            stored = {**strategy.start(self.landscape, self.potential, self.seed), "n_rounds": 0}
            self.landscape.save_state(key, stored)
        first = n_rounds = int(stored.pop("n_rounds"))  # type: ignore[call-overload]
        state: Any = stored
        with contextlib.ExitStack() as stack:
            bar = None
            while (round := strategy.propose(self.landscape, self.potential, state)) is not None:
                if limit := self._exceeded():
                    return n_rounds - first, limit
                if bar is None:
                    bar = progress_bar(show=self.progress, desc=strategy.name, unit=" tries")
                    stack.enter_context(bar)
                    self._show(bar, strategy, state)
                # What follows is bookkeeping, for the host: one copy for all that a task has found.
                results = [found.to(HOST) for found in self.executor.run(self.potential, round.tasks)]
                n_rounds += 1
                state = self._commit(strategy, key, n_rounds, round, results, state)
                self._show(bar, strategy, state)
        return n_rounds - first, None

    def _commit(
        self, strategy: Strategy, key: str, n_rounds: int, round: Round, results: list[Found], state: Any
    ) -> Any:
        """Points, pairs, the record of the tasks and the next state: all of it or nothing; then curvatures."""
        with self.landscape.transaction():
            ids = []
            for number, (task, found) in enumerate(zip(round.tasks, results, strict=True)):
                name = f"{key}/{n_rounds}/{number}"
                self.landscape.record_task(name, task.kind, {}, found.n_evaluations)
                ids.append(self._write(found, round, name))
            state = dict(strategy.absorb(self.landscape, state, round, results, ids))
            self.landscape.save_state(key, {**state, "n_rounds": n_rounds})
        self.landscape.fold()
        self._characterise()
        for found in results:
            self.n_quenches += found.n_quenches
            self.n_evaluations += found.n_evaluations
            if found.saddles is not None:
                for outcome, n in found.saddles.outcomes.items():
                    self.outcomes[outcome] = self.outcomes.get(outcome, 0) + n
        return state

    def _write(self, found: Found, round: Round, task: str) -> Int[Tensor, "B"]:
        """One hit per quench and per search for a transition state; ends of paths come along without."""
        certify = Certificate(dense_limit=FEW)
        ids = self.landscape.add_minima(found.minima, task=task, certify=certify)
        if found.higher is not None:
            self.landscape.add_higher_saddles(found.higher, task=task)
        saddles = found.saddles
        if saddles is None:
            return ids
        pairs = round.detail.get("pairs")
        ends = StationaryPoints.cat([saddles.minus, saddles.plus])
        uncounted = torch.zeros(len(ends), dtype=torch.int64)
        start = torch.arange(len(saddles)).repeat(2)
        both = self.landscape.add_minima(ends, hits=uncounted, task=task, start=start, certify=certify)
        minus, plus = both.split(len(saddles)) if len(saddles) else (both, both)
        leaves = self._on_walls(saddles)
        hits = pairs_that_found(saddles) if pairs else saddles.hits
        accepted = self.landscape.add_transition_states(
            saddles.ts, minus, plus, leaves=leaves, hits=hits, task=task
        )
        if pairs:
            connected = set(saddles.pair[accepted >= 0].tolist())
            outcomes = ["transition state" if p in connected else "none found" for p in range(len(pairs))]
            self.landscape.record_pairs(torch.tensor(pairs), outcomes)
        return ids

    def _on_walls(self, saddles: SaddleSearch) -> Bool[Tensor, "E 2"] | None:
        """Which of the two downhill paths of each transition state ended on a wall of the box."""
        bounds = self.potential.bounds
        if bounds is None or bounds.keep_walls:
            return None
        ends, bounds = (saddles.minus, saddles.plus), bounds.to(saddles.minus.x.device)
        return torch.stack([~bounds.interior(end.x) & end.converged for end in ends], 1)

    def _characterise(
        self, of: Literal["minima", "transition_states"] = "minima", index_known: bool = False
    ) -> None:
        characterise_new(
            self.landscape,
            self.potential,
            of,
            index_known=index_known,
            progress=self.progress,
            is_late=lambda: self._exceeded() == "seconds",
        )

    def _exceeded(self) -> str | None:
        return self.budget.exceeded(
            seconds=time.monotonic() - self.began, quenches=self.n_quenches, evaluations=self.n_evaluations
        )

    def _show(self, bar: Any, strategy: Strategy, state: Any) -> None:
        done, total = strategy.progress(state)
        bar.total = total
        bar.n = done
        bar.set_postfix(minima=self.landscape.n_minima, ts=self.landscape.n_transition_states, refresh=True)

    def _advice(self, status: str) -> str:
        if self.landscape.n_minima or (status == "complete" and self.landscape.n_transition_states):
            return ""
        idle = status == NO_MINIMUM and self.n_evaluations == 0
        remedy = "no quench was made: put BasinHopping() among the strategies" if idle else ""
        return nothing_found(self.landscape.refusals()) or remedy

    def report(self, status: str) -> ExploreReport:
        return ExploreReport(
            status=status,
            n_minima=self.landscape.n_minima,
            n_transition_states=self.landscape.n_transition_states,
            n_quenches=self.n_quenches,
            n_evaluations=self.n_evaluations,
            seconds=time.monotonic() - self.began,
            outcomes=self.outcomes,
            flat_directions=tuple(self.landscape.flat_directions().tolist()),
            advice=self._advice(status),
        )


def state_keys(strategies: Sequence[Strategy], seed: int) -> list[str]:
    """Under which name the state of each strategy is stored: what it is, and the how-manieth of its kind."""
    keys: list[str] = []
    for strategy in strategies:
        # The address of an object without a repr of its own would be another one in the next process.
        identity = {k: re.sub(r" at 0x[0-9a-f]+", "", str(v)) for k, v in strategy.identity().items()}
        what = f"{strategy.name}:{hash_settings([seed if strategy.seeded else None, identity])[:16]}"
        keys.append(f"{what}:{sum(key.startswith(what) for key in keys)}")
    return keys


def pairs_that_found(saddles: SaddleSearch) -> Int[Tensor, "E"]:
    """Number of pairs whose path led to each transition state: two maxima of one path are one search."""
    found = saddles.candidate_ts >= 0
    once = torch.stack([saddles.candidate_pair[found], saddles.candidate_ts[found]]).unique(dim=1)
    return torch.bincount(once[1], minlength=len(saddles))


def characterise_new(
    landscape: Landscape,
    potential: Potential,
    of: Literal["minima", "transition_states"] = "minima",
    *,
    index_known: bool = True,
    progress: bool = False,
    is_late: Callable[[], bool] = lambda: False,
) -> None:
    """Hessian index, log-determinant and zero modes of the points that have none yet.

    In one batch for few coordinates. For many this may take longer than finding them: then a few at a time, each
    batch committed, with a bar, until none is left or ``is_late``; the next run goes on with the others. Points
    whose index is known, and that lack only their determinant, are left alone unless ``index_known``.
    """
    ids = landscape.uncharacterised(of)
    if of == "minima":  # compared with nothing yet, if a run was killed between the two
        merge_families(landscape, potential)
    if len(ids) == 0:
        return
    points = landscape.minima if of == "minima" else landscape.transition_states
    if not index_known:
        ids = ids[points(ids, device=HOST).index < 0]
        if len(ids) == 0:
            return
    at_once = len(ids) if potential.ndim <= FEW else 8
    with progress_bar(
        show=progress and len(ids) > at_once, total=len(ids), desc="curvatures", unit=" points", leave=False
    ) as bar:
        for some in ids.split(at_once):
            landscape.set_curvature(some, characterise(potential, points(some)), of=of)
            if of == "minima":
                merge_families(landscape, potential)
            landscape.fold()
            bar.update(len(some))
            if is_late():
                return
