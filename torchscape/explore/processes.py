"""All cores of a machine: parts of tasks run in processes side by side, and only the exploration writes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from torchscape import stopwatch
from torchscape.errors import TorchscapeError
from torchscape.explore.messages import Closed, packed, receive, register_scripts, send
from torchscape.explore.tasks import Divisible, Found, Task
from torchscape.optimise.ledger import Entry, Ledger, current_ledger
from torchscape.potentials.base import Potential
from torchscape.stopwatch import Stopped
from torchscape.validation import COUNT, check_fields

__all__ = ["Processes", "available_cores"]

_ASKED = 0.2  # seconds between two questions whether the time is up
_PATIENCE = 20.0  # seconds in which a worker must have ended its evaluation when all is cut short
_LIVES = 3  # workers that may die of a part
_FEW = 4  # rows of a part at least: smaller batches cost more than they balance
_LONG = 2.0  # seconds of a part from which on a task is cut into more of them


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """Runs tasks in several processes of this machine, each with a copy of the potential.

    A task of many independent rows (walkers, pairs, climbs, starts) is cut into parts. What they find is put
    together in the order of the rows, so that the landscape is that of one process, up to the last digits of its
    numbers (a row of a batch gets other ones than alone) and the number of evaluations: what rows of two parts
    lead to is verified in each.

    Limits, Ctrl-C and signals reach the workers, and what has ended there is kept as it is in one process. The
    part of a worker that dies is run again; a part that kills three is named, and the exploration ends with an
    error, with everything kept that was found. Workers end with the exploration, however it ends.

    The potential travels as bytes. Functions and classes that were defined in a notebook or a script need
    ``cloudpickle`` (``pip install "torchscape[processes]"``).

    Args:
        workers: processes; None for one per core that this process may use.
        threads: of each worker; None for its share of the cores.

    Raises:
        TorchscapeError: if the potential cannot be sent, or a part has killed three workers.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.potentials.Himmelblau()
        >>> with tsc.Landscape.in_memory(surface) as landscape, Processes(workers=2) as executor:
        ...     strategies = [tsc.BasinHopping(walkers=32, hops=1)]
        ...     report = tsc.explore(landscape, surface, strategies=strategies, executor=executor, progress=False)
        ...     landscape.n_minima
        4
    """

    def __init__(self, workers: int | None = None, threads: int | None = None) -> None:
        self.workers = available_cores() if workers is None else workers
        self.threads = max(1, available_cores() // max(1, self.workers)) if threads is None else threads
        check_fields(self, workers=COUNT, threads=COUNT)
        self._processes: list[_Process] = []
        weakref.finalize(self, _end, self._processes)
        self._potential: Potential | None = None
        self._data = b""
        self._ledger: Ledger | None = None  # of the last round
        self._n_rounds = 0
        self._pace: dict[str, float] = {}  # seconds of a row of each kind of task

    def __repr__(self) -> str:
        return f"Processes(workers={self.workers}, threads={self.threads})"

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. They are started again when there is something to do."""
        _end(self._processes)

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        """What each task finds, in their order."""
        if self._potential is not potential:
            register_scripts()
            self._data = pickle.dumps(("potential", packed(potential, "the potential")))
            self._potential = potential
            for process in self._processes:
                process.post(self._data)
        ledger = current_ledger()
        is_new = ledger is None or ledger is not self._ledger  # the workers keep theirs as long as it is the same
        self._ledger = ledger
        self._n_rounds += is_new
        round = _Round(self, tasks, self._n_rounds, ledger, is_new)
        try:
            yield from round.results()
        finally:
            if round.is_open:
                self._ledger = None
                round.stop()

    def _started(self, round: tuple[Any, ...]) -> _Process:
        """A new worker that knows the potential and the round."""
        process = _Process(self.threads)
        process.post(pickle.dumps(("path", sys.path)))
        process.post(self._data)
        process.post(pickle.dumps(round))
        return process

    def _n_parts(self, task: Divisible) -> int:
        """Into how many parts a task is cut: one for each worker, more where they take long."""
        most = max(1, task.n_rows // _FEW)
        seconds = self._pace.get(task.kind, 0.0) * task.n_rows / self.workers
        return min(most, self.workers * max(1, min(8, int(seconds / _LONG))))

    def _took(self, kind: str, n_rows: int, seconds: float) -> None:
        self._pace[kind] = seconds / max(1, n_rows)


def _end(processes: list[_Process]) -> None:
    while processes:
        processes.pop().end()


@dataclasses.dataclass
class _Part:
    """Of task number ``task``."""

    task: int
    work: Task
    n_rows: int
    found: Found | None = None
    n_deaths: int = 0
    began: float = 0.0


class _Round:
    """The tasks that run side by side."""

    def __init__(
        self, executor: Processes, tasks: Sequence[Task], number: int, ledger: Ledger | None, is_new: bool
    ) -> None:
        self.executor, self.tasks, self.number, self.is_new = executor, tasks, number, is_new
        self.ledger = Ledger() if ledger is None else ledger
        self.parts: list[_Part] = []
        for at, task in enumerate(tasks):
            n = executor._n_parts(task) if isinstance(task, Divisible) else 1
            pieces = task.divided(n) if isinstance(task, Divisible) and n > 1 else [task]
            self.parts += [_Part(at, piece, getattr(piece, "n_rows", 1)) for piece in pieces]
        self.waiting = list(range(len(self.parts)))[::-1]
        self.running: dict[_Process, int] = {}
        self.going: dict[_Process, tuple[Entry, ...]] = {}
        self.telling: set[_Process] = set()  # that have been asked for all they have
        self.is_open = True

    @property
    def message(self) -> tuple[Any, ...]:
        return ("round", self.number, self.ledger.entries, self.ledger.running)

    def results(self) -> Iterator[Found]:
        """What each task finds, as soon as it and those before it are done."""
        processes = self.executor._processes
        if self.is_new:
            message = pickle.dumps(self.message)
            for process in processes:
                process.post(message)
        while len(processes) < min(len(self.parts), self.executor.workers):
            processes.append(self.executor._started(self.message))
        for process in processes:
            self._feed(process)
        for at, task in enumerate(self.tasks):
            mine = [part for part in self.parts if part.task == at]
            while any(part.found is None for part in mine):
                self._wait()
            found = [part.found for part in mine if part.found is not None]
            yield task.joined(found) if len(found) > 1 and isinstance(task, Divisible) else found[0]
        self.is_open = False

    def stop(self) -> None:
        """Tell the workers that it is over, and take what they have."""
        self.is_open, self.waiting = False, []
        for process in [one for one in self.executor._processes if not one.is_ready]:  # it has nothing to tell
            self._buried(process)
        self.telling = set(self.executor._processes)
        for process in self.telling:
            process.post(pickle.dumps(("stop",)))
            process.post(pickle.dumps(("tell",)))
        until = time.monotonic() + _PATIENCE
        try:
            while self.telling and time.monotonic() < until:
                for process in self._ready(0.1):
                    with contextlib.suppress(Stopped, Exception):  # whatever it is, the first one says more
                        self._take(process)
        finally:
            if self.telling:
                self.executor.close()

    def _ready(self, seconds: float) -> list[_Process]:
        by_connection = {process.connection: process for process in {*self.running, *self.telling}}
        return [by_connection[one] for one in wait(list(by_connection), seconds) if isinstance(one, Connection)]

    def _wait(self) -> None:
        for process in self._ready(_ASKED):
            self._take(process)
        stopwatch.look()
        stopwatch.check()

    def _take(self, process: _Process) -> None:
        """One message of a worker."""
        try:
            kind, *rest = receive(process.connection)
        except Closed:
            return self._buried(process)
        process.is_ready = True
        if kind == "ended":
            watch = stopwatch.current()
            for what, n in rest[0].items():
                if watch is not None:
                    watch.ended(what, n)
        elif kind == "kept":
            number, entries, going = rest
            if number == self.number:
                self.ledger.receive(entries)
                self.ledger.exchange(self.going.get(process, ()), going)
                self.going[process] = tuple(going)
        elif kind == "found":
            part = self.parts[self.running.pop(process)]
            part.found = rest[1]
            self.ledger.exchange(self.going.pop(process, ()), ())
            self.executor._took(part.work.kind, part.n_rows, time.monotonic() - part.began)
            self._feed(process)
        elif kind == "stopped":
            del self.running[process]
        elif kind == "told":
            self.telling.discard(process)
        elif kind == "failed":
            del self.running[process]
            error = pickle.loads(rest[1])
            error.add_note(f"in a worker:\n{rest[2]}")
            raise error

    def _feed(self, process: _Process) -> None:
        """The next part for a worker that has none."""
        if not self.waiting:
            return
        number = self.waiting.pop()
        part = self.parts[number]
        part.began = time.monotonic()
        self.running[process] = number
        process.post(pickle.dumps(("part", number, packed(part.work, "a task"))))

    def _buried(self, process: _Process) -> None:
        """A worker has died: another takes its place, and its part."""
        code, processes = process.end(), self.executor._processes
        processes.remove(process)
        self.telling.discard(process)
        number = self.running.pop(process, None)
        if number is None or not self.is_open:
            return
        part = self.parts[number]
        part.n_deaths += 1
        if part.n_deaths >= _LIVES:
            died = f"{part.n_deaths} workers have died" if part.n_deaths > 1 else "1 worker has died"
            raise TorchscapeError(
                f"{died} of one part of a task ({part.work.kind}, {part.n_rows} rows; exit status {code}): -9 "
                "most often means that memory ran out. Run with fewer workers"
            )
        self.waiting.append(number)
        processes.append(self.executor._started(self.message))
        self._feed(processes[-1])


class _Process:
    """A worker, and the socket to it."""

    def __init__(self, threads: int) -> None:
        ours, its = socket.socketpair()
        command = [sys.executable, "-m", "torchscape.explore.worker", str(its.fileno()), str(threads)]
        folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
        # A group of its own: Ctrl-C in the terminal is for the exploration, which tells its workers.
        self.process = subprocess.Popen(
            command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, process_group=0, env=environment
        )
        its.close()
        self.connection = Connection(ours.detach())
        self.is_ready = False  # whether it has said anything yet

    def post(self, data: bytes) -> None:
        with contextlib.suppress(Closed):  # seen when its answer is waited for
            send(self.connection, data)

    def end(self) -> int:
        """Its exit status."""
        with contextlib.suppress(OSError):
            self.connection.close()
        self.process.kill()
        return self.process.wait()
