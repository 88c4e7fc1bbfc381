"""What workers compute ahead of the next round, while the last parts of this one run elsewhere.

A round is proposed when the one before it is committed: until then a worker for whom nothing is left would wait
for the slowest. Instead it gets what the next round will *probably* ask for: tasks that the strategy foresees
(:meth:`~torchscape.explore.Strategy.foresee`), or those with which a part goes on by itself (``onward`` of a
task: a walker's next hops). What ends there is known by the bytes of its inputs, as all that a ledger holds. So
nothing is decided by it: the next round is proposed as ever, from what was committed, and finds that some rows are
known already. A wrong guess costs the time of workers that had nothing to do.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torchscape.explore.messages import packed
from torchscape.explore.tasks import Found, Task
from torchscape.optimise.ledger import Entry

__all__ = ["Ahead", "Member", "Part", "set_aside"]


@dataclasses.dataclass(eq=False)
class Part:
    """Of task number ``task`` of a round; of none, where it is computed ahead of its round.

    ``number`` is its own: no other part that the same workers get has it.
    """

    task: int
    work: Task
    n_rows: int
    number: int
    is_ahead: bool = False
    found: Found | None = None
    n_deaths: int = 0
    fate: str = ""  # how the last worker of a part ended that has killed too many of them
    seconds: float = 0.0  # that workers have spent on it
    is_halving: bool = False  # whether its worker was asked for half of it
    halves: list[Part] = dataclasses.field(default_factory=list)
    whole: Part | None = None  # that this is half of

    def with_wholes(self) -> list[Part]:
        """This part, that which it is half of, and so on."""
        return [self, *([] if self.whole is None else self.whole.with_wholes())]

    @functools.cached_property
    def message(self) -> bytes:
        """The work as a message: equal ones are the same work."""
        return packed(self.work, "a task", compact=True)


def set_aside(parts: Sequence[Part]) -> str:
    """What is said of parts that have killed too many workers."""
    told = "; ".join(f"{one.work.kind}, {one.n_rows} rows; {one.fate}" for one in parts[:3])
    n = parts[0].n_deaths
    died = f"{n} workers have died" if n > 1 else "1 worker has died"
    others = f", and as many of {len(parts) - 1} others" if len(parts) > 1 else ""
    return (
        f"{died} of one part of a task{others} ({told}): -9 most often means that memory ran out. Run with "
        "fewer workers; everything else of the round has ended, and is kept"
    )


class Member(ABC):
    """A worker, as the exploration sees it."""

    def __init__(self, device: str | None = None) -> None:
        self.device = device
        self.is_ready = False  # whether it has said anything yet
        self.parts: list[Part] = []  # that it has: it runs the first
        self.since = time.monotonic()  # when it began that, or had nothing left to do
        self.going: tuple[Entry, ...] = ()  # rows of it that run, as far as they have come

    @abstractmethod
    def post(self, message: Any) -> None:
        """Send a message, as :meth:`Crew.letter` makes them. Nothing is raised: that a worker is gone is seen when
        its answer is waited for."""

    @abstractmethod
    def receive(self) -> Any:
        """The next message of one that :meth:`Crew.heard` has named.

        Raises:
            Closed: if it is gone.
        """

    @abstractmethod
    def end(self) -> str:
        """End it, and say how it has ended."""


@dataclasses.dataclass
class Ahead:
    """Work for who has nothing else to do, and what has come of it.

    Attributes:
        foreseen: tasks for the next round that is opened; None if whoever opens it says nothing of it.
        waiting: parts to begin, the last first.
        entries: rows that have ended.
        going: rows that were begun.
        ended: what whole parts have found, by their work as a message.
        is_open: whether parts of the round may go on by themselves.
    """

    foreseen: list[Task] | None = None
    waiting: list[Part] = dataclasses.field(default_factory=list)
    entries: list[Entry] = dataclasses.field(default_factory=list)
    going: tuple[Entry, ...] = ()
    ended: dict[bytes, Found] = dataclasses.field(default_factory=dict)
    is_open: bool = False

    def go_on(self, part: Part, number: int) -> None:
        """A part of the round has ended: what its rows will do next, if they go on by themselves."""
        onward = getattr(part.work, "onward", None)
        task = None if onward is None else onward(part.found)
        if task is not None:
            self.waiting.insert(0, Part(-1, task, getattr(task, "n_rows", 1), number, is_ahead=True))

    def stopped(self, part: Part, going: tuple[Entry, ...], number: int) -> None:
        """A part was cut short: its rows go on later from where they are, under another number."""
        self.going += going
        part.number = number
        self.waiting.append(part)
