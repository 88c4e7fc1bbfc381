"""Small potentials, executors that misbehave, and the tables of a landscape file as plain data."""

from __future__ import annotations

import pickle
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import torchscape as tsc
from torchscape.explore import Divisible, Found, Task
from torchscape.explore.ahead import Member
from torchscape.explore.crew import Crew
from torchscape.explore.on_ray import _Desk
from torchscape.potentials.base import Potential


class Wells(Potential):
    """A tilted double well in every coordinate: 2^D minima of different energies, D 2^(D-1) saddles."""

    length_scale = 0.5

    def __init__(self, ndim: int = 2, tilt: float = 0.2) -> None:
        self.ndim, self.tilt = ndim, tilt
        self.n_rows = 0

    def energy(self, x):
        self.n_rows += len(x)
        weight = torch.arange(1, self.ndim + 1, dtype=x.dtype, device=x.device)
        return ((x**2 - 1) ** 2 + self.tilt * weight * x).sum(1)

    def settings(self):
        return {"ndim": self.ndim, "tilt": self.tilt}


class Ripple(Potential):
    """U = cos x + x/20 between 0 and 2 pi n: n minima in a row, each with a barrier to the next."""

    ndim = 1

    def __init__(self, n: int = 6) -> None:
        self.bounds = tsc.Bounds.of([(0.0, 2 * torch.pi * n)])

    def energy(self, x):
        return (x.cos() + 0.05 * x).sum(1)


class Interrupting:
    """Runs tasks in this process until the ``n``-th, at which somebody presses Ctrl-C (or worse)."""

    def __init__(self, n: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error = n, error

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        for task in tasks:
            self.left -= 1
            if self.left < 0:
                raise self.error("out of the blue")
            yield task.run(potential)


class Elsewhere:
    """Runs the last task first, on copies that have been pickled, as another process would get and give them."""

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        found = [self._away(potential, task) for task in reversed(tasks)]
        yield from reversed(found)

    def _away(self, potential: Potential, task: Task) -> Found:
        potential, task = pickle.loads(pickle.dumps((potential, task)))
        return pickle.loads(pickle.dumps(task.run(potential)))


class Cutting:
    """Cuts every task that can be cut into ``n`` parts, and runs the last one first."""

    def __init__(self, n: int) -> None:
        self.n, self.n_cut = n, 0

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        for task in tasks:
            parts = task.divided(self.n) if isinstance(task, Divisible) else []
            if len(parts) > 1:
                self.n_cut += 1
                found = [part.run(potential) for part in reversed(parts)][::-1]
                yield task.joined(found).completed(potential)
            else:
                yield task.run(potential)


class Desks(Crew):
    """Workers in threads of this process, between the letterboxes that actors of Ray have."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.threads, self._workers = 1, workers

    @property
    def workers(self) -> int:
        return self._workers

    def hired(self) -> Member:
        return _AtDesk()

    def heard(self, members, seconds):
        until = time.monotonic() + seconds
        while not (loud := [member for member in members if member.has_said_something]):
            if time.monotonic() >= until:
                break
            time.sleep(0.005)
        return loud


class _AtDesk(Member):
    def __init__(self) -> None:
        super().__init__()
        self.desk, self.letters, self.n_posted = _Desk(1), [], 0

    def post(self, message) -> None:
        self.desk.post(self.n_posted, message)
        self.n_posted += 1

    @property
    def has_said_something(self) -> bool:
        self.letters += self.desk.hear(0.0)
        return bool(self.letters)

    def receive(self):
        return pickle.loads(self.letters.pop(0))

    def end(self) -> str:
        return "it was told to"


class Recording:
    """Remembers every task it has run."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        for task in tasks:
            self.tasks.append(task)
            yield task.run(potential)


def tables(file: Path | str | tsc.Landscape) -> dict[str, list[tuple]]:
    """Everything in a landscape file but times and numbers of runs."""
    if isinstance(file, tsc.Landscape):
        return _tables(file._store.connection)
    connection = sqlite3.connect(file)
    try:
        return _tables(connection)
    finally:
        connection.close()


def _tables(connection: sqlite3.Connection) -> dict[str, list[tuple]]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    content = {}
    for (name,) in names:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        kept = [
            column for column in columns if column not in ("run", "wall", "checksum")
        ]  # the last of the first two
        if name != "run":
            order = ", ".join(kept)
            content[name] = connection.execute(f"SELECT {order} FROM {name} ORDER BY {order}").fetchall()
    return content


def in_memory(
    potential: Potential, strategies: Sequence[tsc.explore.Strategy], **options
) -> dict[str, list[tuple]]:
    """The tables that a run without interruption writes."""
    with tsc.Landscape.in_memory(potential) as landscape:
        report = tsc.explore(landscape, potential, strategies=strategies, progress=False, **options)
        assert report.is_complete
        return tables(landscape)
