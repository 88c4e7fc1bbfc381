"""Workers that share the tasks of a round: parts of tasks run side by side, and only the exploration writes."""

from __future__ import annotations

import itertools
import pickle
import sys
import warnings
import weakref
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from torchscape.explore.ahead import Ahead, Member, Part
from torchscape.explore.crew_round import FEW, CrewRound, Employer
from torchscape.explore.messages import packed, register_scripts
from torchscape.explore.tasks import Divisible, Found, Task
from torchscape.optimise.ledger import Ledger, current_ledger
from torchscape.potentials.base import Potential

__all__ = ["Crew", "Member"]

_LONG = 2.0  # seconds of a part from which on a task is cut into more of them


class Crew(Employer):
    """An executor with several workers. What a worker is, and how one hears of it, a subclass says.

    A task of many independent rows is cut into parts, and who has none gets the next. Workers keep a ledger of
    what has ended; it comes to the exploration's. While none of the round is left to begin, those who have nothing
    to do compute ahead (see :mod:`~torchscape.explore.ahead`), or take half of what another is at.

    Attributes:
        threads: of each worker.
        members: the workers that there are.
        busy, compiled: seconds that workers have spent on parts; what one has said of compiled code.
        n_ahead: rows that had ended, or were in parts that ran, before the round that asked for them began.
        n_halved: parts that were cut in two while they ran.
    """

    threads: int

    def __init__(self) -> None:
        self.members: list[Member] = []
        weakref.finalize(self, end_all, self.members)
        self.busy, self.n_ahead, self.n_halved, self.compiled = 0.0, 0, 0, ""
        self.ahead = Ahead()
        self.numbers: Iterator[int] = itertools.count()
        self._potential: Potential | None = None
        self._data: Any = None  # the potential, as a message
        self._ledger: Ledger | None = None  # of the last round
        self._n_rounds = 0
        self._pace: dict[str, float] = {}  # seconds of a row of each kind of task
        self.n_stillborn = 0  # workers that ended before they were ready, one after the other
        self._warned: dict[Any, Any] = {}

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many there may be."""

    @property
    def potential(self) -> Potential:
        """What is explored."""
        assert self._potential is not None
        return self._potential

    @abstractmethod
    def hired(self) -> Member:
        """A new worker that knows nothing yet."""

    @abstractmethod
    def heard(self, members: Sequence[Member], seconds: float) -> list[Member]:
        """Those who have said something, or are gone; wait so long for the first."""

    def letter(self, message: tuple[Any, ...]) -> Any:
        """A message that may be posted to several members."""
        return pickle.dumps(message)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. They are started again when there is something to do."""
        self.ahead, self._potential = Ahead(), None
        end_all(self.members)

    def foresee(self, tasks: Sequence[Task]) -> None:
        """What may be computed while the next round runs, as the one after it will probably ask for it."""
        self.ahead.foreseen = list(tasks)

    def rest(self) -> None:
        """Nothing is computed ahead any more."""
        self.ahead = Ahead()
        for member in self.members:
            self.tell_to_stop(member)

    def tell_to_stop(self, member: Member, *, only_ahead: bool = False) -> None:
        """All that it has, or what it has of a round to come."""
        if numbers := [part.number for part in member.parts if part.is_ahead or not only_ahead]:
            member.post(self.letter(("stop", numbers)))

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        """What each task finds, in their order."""
        if self._potential is not potential:
            register_scripts()
            self._data = self.letter(("potential", packed(potential, "the potential")))
            self._potential = potential
            self.ahead = Ahead(foreseen=self.ahead.foreseen)
            for member in self.members:
                member.post(self._data)
        ledger = current_ledger()
        is_new = ledger is None or ledger is not self._ledger  # the workers keep theirs as long as it is the same
        self._ledger = ledger
        self._n_rounds += is_new
        round = CrewRound(self, tasks, self._n_rounds, Ledger() if ledger is None else ledger, is_new)
        try:
            yield from round.results()
        finally:
            if round.is_open:
                self._ledger = None
                round.stop()

    def hire(self, round: tuple[Any, ...]) -> None:
        """One more worker, who knows the potential and the round."""
        member = self.hired()
        member.post(self.letter(("path", sys.path)))
        member.post(self.letter(("device", member.device)))
        member.post(self._data)
        member.post(self.letter(round))
        self.members.append(member)

    def parts(self, at: int, task: Task, *, is_ahead: bool = False) -> list[Part]:
        """The parts of a task: one for each worker, more where they take long."""
        pieces: Sequence[Task] = [task]
        if isinstance(task, Divisible):
            most = max(1, task.n_rows // FEW)
            seconds = self._pace.get(task.kind, 0.0) * task.n_rows / max(1, self.workers)
            n = min(most, self.workers * max(1, min(8, int(seconds / _LONG))))
            pieces = task.divided(n) if n > 1 else [task]
        return [Part(at, one, getattr(one, "n_rows", 1), next(self.numbers), is_ahead=is_ahead) for one in pieces]

    def took(self, part: Part, seconds: float) -> None:
        """That part has ended."""
        self._pace[part.work.kind] = seconds / max(1, part.n_rows)

    def warn(self, heard: Sequence[tuple[str, type[Warning], str, int]]) -> None:
        """Say here what workers were warned of, each thing once as Python does."""
        for text, category, file, line in heard:
            warnings.warn_explicit(text, category, file, line, registry=self._warned)


def end_all(members: list[Member]) -> None:
    while members:
        members.pop().end()
