"""A round that is shared out: who gets which part, and what becomes of the answers."""

from __future__ import annotations

import contextlib
import functools
import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from torchscape import stopwatch
from torchscape.errors import TorchscapeError
from torchscape.explore.ahead import Ahead, Member, Part, set_aside
from torchscape.explore.labour import ByWorkers
from torchscape.explore.messages import Closed, check_versions
from torchscape.explore.tasks import Divisible, Found, Task
from torchscape.optimise.ledger import Entry, Ledger, latest
from torchscape.potentials.base import Potential
from torchscape.stopwatch import Stopped

__all__ = ["FEW", "CrewRound", "Employer"]

FEW = 4  # rows of a part at least: smaller batches cost more than they balance
_ASKED = 0.2  # seconds between two questions whether the time is up
_PATIENCE = 20.0  # seconds in which a worker must have ended its evaluation when all is cut short
_LIVES = 3  # workers that may die of a part
_IDLE = 1.0  # seconds without work after which a worker takes half of another's


class Employer(ABC):
    """What a round needs of the crew that it is shared out to, see :class:`~torchscape.explore.crew.Crew`."""

    members: list[Member]
    ahead: Ahead
    numbers: Iterator[int]
    busy: float
    compiled: str
    n_ahead: int
    n_halved: int
    n_stillborn: int

    @property
    @abstractmethod
    def potential(self) -> Potential: ...

    @property
    @abstractmethod
    def workers(self) -> int: ...

    @abstractmethod
    def hire(self, round: tuple[Any, ...]) -> None: ...

    @abstractmethod
    def heard(self, members: Sequence[Member], seconds: float) -> list[Member]: ...

    @abstractmethod
    def letter(self, message: tuple[Any, ...]) -> Any: ...

    @abstractmethod
    def tell_to_stop(self, member: Member, *, only_ahead: bool = False) -> None: ...

    @abstractmethod
    def parts(self, at: int, task: Task, *, is_ahead: bool = False) -> list[Part]: ...

    @abstractmethod
    def took(self, part: Part, seconds: float) -> None: ...

    @abstractmethod
    def warn(self, heard: Sequence[tuple[str, type[Warning], str, int]]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class CrewRound:
    """The tasks that run side by side."""

    def __init__(self, crew: Employer, tasks: Sequence[Task], number: int, ledger: Ledger, is_new: bool) -> None:
        self.crew, self.tasks, self.number, self.ledger, self.is_new = crew, tasks, number, ledger, is_new
        self.parts = [part for at, task in enumerate(tasks) for part in crew.parts(at, task)]
        self.waiting = self.parts[::-1]
        self._known: dict[bytes, Found] = {}  # parts that have ended ahead of the round
        self.telling: set[Member] = set()  # who has been asked for all they have
        self.is_open, self.is_feeding = True, False

    @property
    def message(self) -> tuple[Any, ...]:
        ahead = self.crew.ahead
        return (
            "round", self.number, [*self.ledger.known, *ahead.entries], (*self.ledger.running, *ahead.going)
        )  # fmt: skip

    def results(self) -> Iterator[Found]:
        """What each task finds, as soon as it and those before it are done."""
        crew, potential = self.crew, self.crew.potential
        self._collect()
        self._adopt_ended()
        if self.is_new:
            message = crew.letter(self.message)
            for member in crew.members:
                member.post(message)
        self.is_feeding = True
        self._fill()
        for member in crew.members:
            self._feed(member)
        for at, task in enumerate(self.tasks):
            labour = ByWorkers(functools.partial(self.share, at))
            yield self._joined(at, task).completed(potential, labour)
        self.is_open = False

    def share(self, at: int, task: Divisible) -> Found:
        """What a stage of task number ``at`` finds, shared out among the workers before anything else."""
        parts = self.crew.parts(at, task)
        self.parts = [part for part in self.parts if part.task != at] + parts
        self.waiting += parts[::-1]
        self._fill()
        for member in self.crew.members:
            self._feed(member)
        return self._joined(at, task)

    def _joined(self, at: int, task: Task) -> Found:
        """What the parts of task number ``at`` have found, as one."""
        mine = [part for part in self.parts if part.task == at]
        while any(part.found is None and not part.fate for part in mine):
            self._wait()
        if any(part.fate for part in mine):
            self._give_up()
        found = [part.found for part in mine if part.found is not None]
        return task.joined(found) if len(found) > 1 and isinstance(task, Divisible) else found[0]

    def _fill(self) -> None:
        """As many workers as there are parts for, if there may be as many."""
        n_parts = len(self.waiting) + sum(len(member.parts) for member in self.crew.members)
        while len(self.crew.members) < min(n_parts, self.crew.workers):
            self.crew.hire(self.message)

    def _collect(self) -> None:
        """Stop what was computed ahead, and make it known to the round that it was computed for."""
        crew, ahead = self.crew, self.crew.ahead
        if ahead.foreseen is not None:
            self._adopt_running()
        for member in crew.members:
            crew.tell_to_stop(member, only_ahead=True)
        while any(member.parts and member.parts[0].is_ahead for member in crew.members):
            self._wait()
        if ahead.foreseen is not None:
            self.ledger.receive(ahead.entries)
            crew.n_ahead += sum(len(entry) for entry in ahead.entries)
            self._known = ahead.ended
            self.ledger.exchange((), ahead.going)
            parts = [part for task in ahead.foreseen for part in crew.parts(-1, task, is_ahead=True)]
            crew.ahead = Ahead(waiting=parts[::-1], is_open=True)

    def stop(self) -> None:
        """Tell the workers that it is over, and take what they have."""
        crew = self.crew
        self.is_open = self.is_feeding = False
        crew.ahead = Ahead()
        for member in [one for one in crew.members if not one.is_ready]:  # it has nothing to tell
            self._buried(member)
        self.telling = set(crew.members)
        for member in self.telling:
            crew.tell_to_stop(member)
            member.post(crew.letter(("tell",)))
        until = time.monotonic() + _PATIENCE
        try:
            while self.telling and time.monotonic() < until:
                for member in crew.heard(list(self.telling), 0.1):
                    with contextlib.suppress(Stopped, Exception):  # whatever it is, the first one says more
                        self._take(member)
        finally:
            for member in crew.members:
                member.going = ()
            self.ledger.running = latest(self.ledger.running)
            if self.telling:
                crew.close()

    def _adopt_running(self) -> None:
        """Parts of this round that a worker is already at, go on there."""
        mine = {part.message: part for part in self.waiting} if self.crew.members else {}
        for member in self.crew.members:
            for number, part in enumerate(member.parts):
                same = mine.get(part.message) if part.is_ahead else None
                if (
                    same is not None
                    and same in self.waiting
                    and all(not one.is_ahead for one in member.parts[:number])
                ):
                    self.waiting.remove(same)
                    same.number = part.number
                    self.crew.n_ahead += same.n_rows
                    member.parts[number] = same

    def _adopt_ended(self) -> None:
        """Parts of this round that have ended before it began."""
        for part in list(self.waiting):
            found = self._known.get(part.message) if self._known else None
            if found is not None:
                part.found = found
                self.waiting.remove(part)

    def _wait(self) -> None:
        for member in self.crew.heard(list(self.crew.members), _ASKED):
            self._take(member)
        if self.is_feeding:
            self._halve()
        stopwatch.look()
        stopwatch.check()

    def _take(self, member: Member) -> None:
        """One message of a worker."""
        try:
            kind, *rest = member.receive()
        except Closed:
            return self._buried(member)
        if kind == "ready":
            member.is_ready, self.crew.n_stillborn = True, 0
            check_versions(rest[0])
            self._feed(member)
        elif kind == "ended":
            if (watch := stopwatch.current()) is not None:
                for what, n in rest[0].items():
                    watch.ended(what, n)
        elif kind == "warned":
            self.crew.warn(rest[0])
        elif kind == "compiled":
            self.crew.compiled = rest[0]
        elif kind == "kept":
            self._kept(member, *rest)
        elif kind == "told":
            self.telling.discard(member)
        elif kind in ("found", "stopped", "failed"):
            part = member.parts.pop(0)
            member.since = time.monotonic()
            self.crew.busy += rest[1]
            self._answered(member, part, kind, rest)
        return None

    def _answered(self, member: Member, part: Part, kind: str, rest: list[Any]) -> None:
        """A worker has ended its part, in whatever way."""
        if part.is_ahead:
            if kind == "stopped":
                self.crew.ahead.stopped(part, member.going, next(self.crew.numbers))
            elif kind == "found":
                self.crew.ahead.ended[part.message] = rest[2]
        else:
            part.seconds += rest[1]
            if kind == "found":
                self._ended(part, rest[2])
            elif kind == "stopped":  # what is going on then, is kept, and may be told once more
                if part.is_halving and self.is_feeding:
                    self._halved(member, part)
                return
            self.ledger.exchange(member.going, ())
        member.going = ()
        if kind == "failed" and not part.is_ahead:
            error = pickle.loads(rest[2])
            error.add_note(f"in a worker:\n{rest[3]}")
            raise error
        self._feed(member)

    def _ended(self, part: Part, found: Found) -> None:
        """A part has found that; and with it the whole that it is the last piece of."""
        part.found = found
        if part.whole is None:
            self.crew.took(part, part.seconds)
        if self.crew.ahead.is_open:
            self.crew.ahead.go_on(part, next(self.crew.numbers))
        whole = part.whole
        while whole is not None and all(one.found is not None for one in whole.halves):
            assert isinstance(whole.work, Divisible)
            whole.found = whole.work.joined([one.found for one in whole.halves if one.found is not None])
            whole.seconds += sum(one.seconds for one in whole.halves)
            if whole.whole is None:
                self.crew.took(whole, whole.seconds)
            whole = whole.whole

    def _halve(self) -> None:
        """Ask for half of the largest part that runs, if somebody has had nothing to do for a while: how long rows
        take is not known beforehand, and one worker may have got most of those that take long."""
        crew, now = self.crew, time.monotonic()
        idle = [one for one in crew.members if one.is_ready and not one.parts and now - one.since > _IDLE]
        if not idle or self.waiting or crew.ahead.waiting:
            return
        at_work = [one for one in crew.members if one.parts and not one.parts[0].is_ahead]
        if any(one.parts[0].is_halving for one in at_work):
            return
        large = [
            one for one in at_work
            if isinstance(one.parts[0].work, Divisible) and one.parts[0].n_rows >= 2 * FEW
            and now - one.since > _IDLE
        ]  # fmt: skip
        if large:
            member = max(large, key=lambda one: one.parts[0].n_rows)
            member.parts[0].is_halving = True
            member.post(crew.letter(("stop", [member.parts[0].number])))

    def _halved(self, member: Member, part: Part) -> None:
        """A part was cut short so that two workers end it: what has ended of it is known to both, and its rows go
        on from where they are."""
        crew = self.crew
        assert isinstance(part.work, Divisible)
        part.is_halving = False
        part.halves = [
            Part(part.task, one, getattr(one, "n_rows", 1), next(crew.numbers), whole=part)
            for one in part.work.divided(2)
        ]
        crew.n_halved += 1
        member.going = ()
        message = crew.letter(self.message)
        for one in crew.members:
            one.post(message)
        self.waiting += part.halves[::-1]
        for one in crew.members:
            self._feed(one)

    def _kept(
        self, member: Member, number: int, is_ahead: bool, entries: list[Entry], going: tuple[Entry, ...]
    ) -> None:
        """What has ended, and what runs, in a worker."""
        if is_ahead and member.parts and member.parts[0].is_ahead:
            self.crew.ahead.entries += entries
            member.going = tuple(going)
        elif is_ahead or number == self.number:  # it may have been begun ahead of this round
            self.ledger.receive(entries)
            self.ledger.exchange(member.going, going)
            member.going = tuple(going)

    def _feed(self, member: Member) -> None:
        """The next part for a worker that has none; and one more, so that it need not wait for an answer, unless
        it is among the last of the round."""
        if not self.is_feeding or not member.is_ready:
            return
        while queue := self.waiting or self.crew.ahead.waiting:
            is_short = queue is self.waiting and len(queue) <= len(self.crew.members)
            if len(member.parts) >= (1 if is_short else 2):
                return
            part = queue.pop()
            if not member.parts:
                member.since = time.monotonic()
            member.parts.append(part)
            member.post(self.crew.letter(("part", part.number, part.is_ahead, part.message)))

    def _buried(self, member: Member) -> None:
        """A worker has died: another takes its place, and its part."""
        crew, parts, fate = self.crew, member.parts, member.end()
        crew.members.remove(member)
        self.telling.discard(member)
        member.parts = []
        if not self.is_feeding:
            return
        self.crew.n_stillborn += not member.is_ready
        if self.crew.n_stillborn >= _LIVES:
            raise TorchscapeError(f"workers cannot be started ({fate}): what they wrote before says more")
        if parts:
            parts[0].n_deaths += 1
        for part in reversed([one for one in parts if not one.is_ahead]):
            part.is_halving = False
            if part.n_deaths >= _LIVES:
                for one in part.with_wholes():
                    one.fate = fate or "no reason was given"
            else:
                self.waiting.append(part)
        self._fill()
        for other in crew.members:  # who has nothing to do takes it up
            self._feed(other)

    def _give_up(self) -> None:
        """Parts were set aside: everything else ends first, so that it is kept."""
        while any(part.found is None and not part.fate for part in self.parts):
            self._wait()
        raise TorchscapeError(set_aside([part for part in self.parts if part.fate]))
