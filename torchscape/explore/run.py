"""The run loop: strategies propose, an executor runs, and only this loop writes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torchscape import stopwatch
from torchscape.devices import HOST
from torchscape.errors import DatabaseError
from torchscape.explore import curvatures
from torchscape.explore.arguments import checked_arguments
from torchscape.explore.budget import Budget
from torchscape.explore.crew import Crew
from torchscape.explore.executors import Executor, choose_executor
from torchscape.explore.invariances import find_invariances
from torchscape.explore.kept import Kept, Pace
from torchscape.explore.live import Live, OnRound
from torchscape.explore.report import ExploreReport, families_advice
from torchscape.explore.shared import Shared
from torchscape.explore.strategy import Round, Strategy, state_keys
from torchscape.explore.tables import plain, table_of
from torchscape.explore.tasks import Found
from torchscape.explore.writing import Writer
from torchscape.interrupts import interruptible
from torchscape.landscape import Landscape
from torchscape.landscape.summary import NO_MINIMUM, UP_TO_FAMILIES, explain_no_minima
from torchscape.potentials.base import Potential, hash_settings
from torchscape.potentials.compiled import Setting, set_to
from torchscape.potentials.probe import probe
from torchscape.stopwatch import Stopped, Stopwatch
from torchscape.validation import SEED

__all__ = ["explore"]

_LOG = logging.getLogger(__name__)


def explore(
    landscape: Landscape,
    potential: Potential,
    *,
    strategies: Strategy | Sequence[Strategy] | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    executor: Executor | str | None = None,
    compile: Setting | None = None,
    progress: bool = True,
    on_round: OnRound | None = None,
    check: bool = True,
    notes: Mapping[str, Any] | None = None,
) -> ExploreReport:
    """Explore a landscape: the strategies take turns until none has anything left to try.

    Each round of tasks is committed at once, with everything needed to go on from there. Calling ``explore`` again
    on the same file, with the same seed and strategies, goes on where the last call stopped, however it stopped;
    with more hops, or another strategy appended, it does what is missing. A round that was cut short is finished
    as it was begun: what has ended and what still runs is stored about every ten seconds, and the landscape
    becomes that of a run which was never stopped. Until then its minima are there, without hits and final ids.

    A turn ends when its strategy has nothing left to try; a later one may then find minima that give an earlier
    one something to do again.

    Ctrl-C ends the exploration after the evaluation at hand, keeps everything that has ended and returns a report
    whose status is "interrupted"; pressed twice, it ends at once. SIGTERM and SIGHUP do the same, and then end
    the process with the exit code 128 + signal (see :func:`torchscape.interrupts.interruptible`).

    Args:
        landscape: the database, opened for this potential.
        potential: what to explore.
        strategies: one, or several that take turns; default ``[BasinHopping(), ConnectMinima()]``.
        seed: decides every random number.
        budget: limits for this call.
        executor: who runs the tasks: an object such as :class:`InProcess` (the default) or
            :class:`~torchscape.explore.Processes` or :class:`~torchscape.explore.RayExecutor`; or "processes" for
            all cores of this machine, "processes:4" for four of them, "cuda:all" for all devices of a kind, "ray"
            and "ray:ADDRESS" for a cluster.
        compile: whether gradients are computed by compiled code in this call, in place of ``potential.compile``.
        progress: show progress bars.
        on_round: called with a :class:`RoundReport` after each round, which is committed by then, such as
            :class:`TensorBoard`. What it raises ends the exploration and is raised here, and nothing is lost;
            KeyboardInterrupt ends it as Ctrl-C does.
        check: try the derivatives and the symmetry of a potential of your own first, once for each potential (see
            :func:`~torchscape.potentials.probe.probe`): about 40 gradients of single rows.
        notes: plain data to be stored with the settings of this run, see :meth:`Landscape.runs`.

    Returns:
        A report; the findings themselves are in ``landscape``.

    Raises:
        FingerprintMismatch: if the landscape is that of another potential.
        OptionError: for an argument of another kind.
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
    chosen = checked_arguments(landscape, potential, strategies, budget)
    if potential is not landscape.potential and not landscape.is_readonly:
        landscape.expect(potential)
    with interruptible(), choose_executor(executor) as runs, set_to(compile, potential, runs):
        if check:
            probe(potential)
        loop = _Loop(landscape, potential, seed, budget or Budget(), runs, progress, on_round)
        report, advice = loop.call(chosen, notes or {})
    for message in advice:
        warnings.warn(message, stacklevel=2)
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
        on_round: OnRound | None,
    ) -> None:
        self.landscape, self.potential, self.seed = landscape, potential, seed
        self.budget, self.executor, self.progress = budget, executor, progress
        self.watch, self.pace, self.shared = Stopwatch(budget.seconds), Pace(), Shared(executor)
        self.writer = Writer(landscape, potential, self.shared)
        self.live = Live(landscape, budget, self.watch, progress=progress, on_round=on_round)
        self.n_quenches = self.n_evaluations = 0
        self.outcomes: dict[str, int] = {}

    def call(self, strategies: Sequence[Strategy], notes: Mapping[str, Any]) -> tuple[ExploreReport, list[str]]:
        """The run as the file knows it, from its beginning to its status; the report, and what to warn of."""
        landscape, found = self.landscape, dict[str, Any]()
        names = {"strategies": [repr(s) for s in strategies], "budget": repr(self.budget)}
        tables = {"strategy": [table_of(s) for s in strategies], "limits": plain(dataclasses.asdict(self.budget))}
        run = landscape.begin_run(self.seed, {**names, **tables, "notes": plain(notes)})
        try:
            with stopwatch.running(self.watch):
                status = self.run(strategies)
            if status != "budget: seconds":
                found = find_invariances(landscape, self.potential)
        except (KeyboardInterrupt, Stopped) as stop:
            by_hand = isinstance(stop, KeyboardInterrupt) or self.watch.signal is not None
            status = "interrupted" if by_hand else "budget: seconds"
        except BaseException as error:
            _LOG.info("run %d failed: %s: %s", run, type(error).__name__, error)
            with contextlib.suppress(DatabaseError):  # after a full disk: what is being raised says more
                landscape.finish_run(run, "failed")
            landscape.fold()
            raise
        finally:
            if isinstance(self.executor, Crew):
                self.executor.rest()
        landscape.finish_run(run, status)
        landscape.fold()
        if status == "complete":
            landscape.compact()
        report = self.report(status)
        _LOG.info("run %d ended, %s", run, report)
        advice = [families_advice(report, found)] if report.n_families else []
        return report, advice + [report.advice] * bool(report.advice)

    def run(self, strategies: Sequence[Strategy]) -> str:
        """Turn after turn, until none has anything left to try or a budget runs out; the status.

        Whose turn it is gets stored: a strategy that has had its turn is not asked again before its time when
        a killed run resumes, although the landscape has changed since.
        """
        keys = state_keys(strategies, self.seed)
        self.live.begin(strategies, keys)
        turn = f"turn:{hash_settings(keys)[:16]}"
        stored = self.landscape.load_state(turn)
        at, idle = (0 if stored is None else int(stored["at"])), 0  # type: ignore[call-overload]
        unfinished = self.landscape.provisional
        if unfinished is not None and not (keys and unfinished.startswith(f"{keys[at]}/")):
            self.landscape.settle()  # others go on from what the round before them has found
            unfinished = None
        if unfinished is None:
            self._characterise()  # what a run before this one has left
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
            while (round := self._propose(strategy, f"{key}/{n_rounds + 1}", state)) is not None:
                if limit := self._exceeded():
                    return n_rounds - first, limit
                if bar is None:
                    bar = stack.enter_context(self.live.turn(strategy, key, state))
                n_rounds += 1
                _LOG.debug("%s, round %d: %d tasks", strategy.name, n_rounds, len(round.tasks))
                with Kept(self.landscape, f"{key}/{n_rounds}", self.pace).open(self.watch, bar.ended) as kept:
                    if isinstance(self.executor, Crew):
                        self.executor.foresee(strategy.foresee(self.landscape, self.potential, state, round))
                    # What follows is bookkeeping, for the host: one copy for all that a task has found.
                    results = [found.to(HOST) for found in self.executor.run(self.potential, round.tasks)]
                    state = self._commit(strategy, key, n_rounds, round, results, state, kept)
                self._count(results)
                self.landscape.fold()
                with self.live.after(strategy, n_rounds, state, self.n_quenches, self.n_evaluations):
                    self._characterise()
                bar.show(state)
        return n_rounds - first, None

    def _propose(self, strategy: Strategy, name: str, state: Any) -> Round | None:
        """The next round; where it was begun before and cut short, the same as then."""
        if self.landscape.provisional != name:
            return strategy.propose(self.landscape, self.potential, state)
        with contextlib.suppress(_Undone), self.landscape.transaction():
            self.landscape.withdraw(name)  # for this question; they stay in sight until the round ends
            round = strategy.propose(self.landscape, self.potential, state)
            raise _Undone
        return round

    def _commit(
        self,
        strategy: Strategy,
        key: str,
        n_rounds: int,
        round: Round,
        results: list[Found],
        state: Any,
        kept: Kept,
    ) -> Any:
        """Points, pairs, the record of the tasks and the next state: all of it or nothing."""
        self.landscape.withdraw(kept.name)
        judged = self.writer.judge(results)
        with self.landscape.transaction():
            ids = []
            for number, (task, found) in enumerate(zip(round.tasks, results, strict=True)):
                name = f"{key}/{n_rounds}/{number}"
                self.landscape.record_task(name, task.kind, {}, found.n_evaluations)
                ids.append(self.writer.write(found, round, name, judged))
            state = dict(strategy.absorb(self.landscape, state, round, results, ids))
            self.landscape.save_state(key, {**state, "n_rounds": n_rounds})
            kept.drop()
        return state

    def _count(self, results: list[Found]) -> None:
        for found in results:
            self.n_quenches += found.n_quenches
            self.n_evaluations += found.n_evaluations
            if found.saddles is not None:
                for outcome, n in found.saddles.outcomes.items():
                    self.outcomes[outcome] = self.outcomes.get(outcome, 0) + n

    def _characterise(
        self, of: Literal["minima", "transition_states"] = "minima", index_known: bool = False
    ) -> None:
        with Kept(self.landscape, f"curvatures of {of}", self.pace).open(self.watch) as kept:
            curvatures.characterise_new(
                self.landscape,
                self.potential,
                of,
                index_known=index_known,
                progress=self.progress,
                is_late=lambda: self._exceeded() == "seconds",
                on_written=kept.drop,
                shared=self.shared,
            )

    def _exceeded(self) -> str | None:
        spent: dict[str, Any] = {
            "seconds": self.watch.elapsed,
            "quenches": self.n_quenches,
            "evaluations": self.n_evaluations,
        }
        if self.budget.energy is None or self.landscape.n_minima == 0:
            return self.budget.exceeded(**spent)
        lowest = self.landscape.minimum_energies(self.landscape.minimum_ids()[:1])
        window = self.landscape.matching.window(lowest, self.potential.dtype)
        return self.budget.exceeded(**spent, lowest=float(lowest), window=float(window))

    def _advice(self, status: str) -> str:
        if self.landscape.n_minima or (status == "complete" and self.landscape.n_transition_states):
            return ""
        idle = status == NO_MINIMUM and self.n_evaluations == 0
        remedy = "no quench was made: put BasinHopping() among the strategies" if idle else ""
        return explain_no_minima(self.landscape.refusals()) or remedy

    def _compiled(self) -> str:
        """What came of compiled code, where it was asked for."""
        said = self.potential.compiled or (self.executor.compiled if isinstance(self.executor, Crew) else "")
        return (said or "gradients are not compiled: this potential has its own") if self.potential.compile else ""

    def report(self, status: str) -> ExploreReport:
        return ExploreReport(
            status=status,
            n_minima=self.landscape.n_minima,
            n_transition_states=self.landscape.n_transition_states,
            n_quenches=self.n_quenches,
            n_evaluations=self.n_evaluations,
            seconds=self.watch.elapsed,
            unfinished=self.landscape.kept(),
            outcomes=self.outcomes,
            flat_directions=tuple(self.landscape.flat_directions().tolist()),
            advice=self._advice(status),
            compiled=self._compiled(),
        )


class _Undone(Exception):
    """What was written for the sake of a question is taken back."""
