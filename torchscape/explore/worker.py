"""A worker: a process of its own that runs parts of tasks, and says what has ended of them.

Run by :class:`~torchscape.explore.processes.Processes` with a socket to the exploration, or by
:class:`~torchscape.explore.on_ray.RayExecutor` in an actor with letterboxes. It ends with the exploration.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from typing import Any

import torch

from torchscape.devices import HOST
from torchscape.errors import TorchscapeError
from torchscape.explore.messages import Channel, Closed, receive, send, unpacked, versions
from torchscape.optimise.ledger import Ledger, keeping
from torchscape.stopwatch import Stopped, Stopwatch, check, running

__all__ = ["main"]

_EVERY = 4.0  # seconds between two reports of what has ended; the exploration writes every eight
_COUNTED = 0.5  # seconds between two reports of how many rows have ended
_MUCH = 1 << 26  # bytes of rows that still run, beyond which they are sent at a stop only


class _Watch(Stopwatch):
    """Stops when the exploration says so."""

    part = -1  # that runs
    stopped: frozenset[int] = frozenset()  # that are to be stopped

    def is_over(self) -> bool:
        return self.part in self.stopped


class Worker:
    """What it knows of the exploration, and what it has to tell."""

    def __init__(self, connection: Channel, threads: int) -> None:
        self.connection, self.threads = connection, threads
        self.tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.watch = _Watch()
        self.watch.on_look, self.watch.on_ended = self.look, self.ended
        self.data, self.potential, self.device = b"", None, None  # the potential is made when it is needed
        self.ledger, self.round = Ledger(), -1
        self.given: frozenset[int] = frozenset()  # entries of rows that wait to go on
        self.n_going = 0  # entries of what ran, when that was told last
        self.is_ahead = False  # whether what runs now is for a round to come
        self.compiled = ""  # what is said of compiled code
        self.counts: dict[str, int] = {}
        self.told = self.counted = time.monotonic()

    def listen(self) -> None:
        """Messages as they come: what to do in turn, that it is over at once. It ends with the exploration."""
        with contextlib.suppress(Closed):
            while True:
                kind, *rest = receive(self.connection)
                if kind == "stop":
                    self.watch.stopped = frozenset(rest[0])
                else:
                    self.tasks.put((kind, *rest))
        os._exit(0)

    def work(self) -> None:
        torch.set_num_threads(self.threads)  # of this thread
        send(self.connection, pickle.dumps(("ready", versions())))
        while True:
            kind, *rest = self.tasks.get()
            if kind == "path":
                sys.path[:] = rest[0]
            elif kind == "device":
                self.device = rest[0]
            elif kind == "potential":
                self.data, self.potential = rest[0], None
            elif kind == "round":
                number, entries, going = rest
                self.ledger, self.round = Ledger(entries, going), number
                self.given = frozenset(map(id, going))
            elif kind == "part":
                self.run(*rest)
            elif kind == "tell":
                self.tell(at_a_stop=True)
                send(self.connection, pickle.dumps(("told",)))

    def run(self, number: int, is_ahead: bool, data: bytes) -> None:
        """One part, and the answer to it."""
        self.tell()
        self.is_ahead, self.watch.part = is_ahead, number
        answer: tuple[Any, ...] = ("stopped",)
        began = time.monotonic()
        try:
            with running(self.watch):
                check()  # it may have been stopped before it began
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("default")
                found = self.found(data)
            self.count(at_once=True)
            self.warn(heard)
            if (said := self.potential.compiled if self.potential is not None else "") != self.compiled:
                self.compiled = said
                send(self.connection, pickle.dumps(("compiled", said)))
            self.tell()  # before the answer: who knows that a part has ended has its rows, whatever comes next
            answer = ("found", found)
        except Stopped:
            self.tell(at_a_stop=True)
        except Exception as error:
            answer = ("failed", *_describe_error(error))
        self.is_ahead, self.watch.part = False, -1
        kind, *rest = answer
        send(self.connection, pickle.dumps((kind, number, time.monotonic() - began, *rest)))

    def found(self, data: bytes) -> Any:
        """What a part finds, on the host."""
        if self.potential is None:
            self.potential = unpacked(self.data, self.device)
        part = unpacked(data, self.device)
        with keeping(self.ledger), running(self.watch):
            return part.run(self.potential).to(HOST)

    def warn(self, heard: list[warnings.WarningMessage]) -> None:
        """Hand on what was warned of: the exploration says it."""
        if heard:
            told = [(str(one.message), one.category, one.filename, one.lineno) for one in heard]
            with contextlib.suppress(pickle.PicklingError, AttributeError):  # of a class that cannot be sent
                send(self.connection, pickle.dumps(("warned", told)))

    def look(self, every: float = _EVERY) -> None:
        if time.monotonic() - self.told >= every:
            self.tell()
            self.told = time.monotonic()

    def tell(self, *, at_a_stop: bool = False) -> None:
        """What has ended since the last time, and what still runs."""
        entries = self.ledger.written()
        going = tuple(one for one in self.ledger.in_flight() if id(one) not in self.given)  # those are known there
        n_bytes = sum(column.nbytes for entry in going for column in entry.columns.values())
        if n_bytes > _MUCH and not at_a_stop:
            going = ()
        if entries or going or self.n_going:
            send(self.connection, pickle.dumps(("kept", self.round, self.is_ahead, entries, going)))
        self.n_going = len(going)

    def ended(self, kind: str, n: int) -> None:
        if self.is_ahead:  # counted when they are asked for
            return
        self.counts[kind] = self.counts.get(kind, 0) + n
        self.count()

    def count(self, *, at_once: bool = False) -> None:
        """How many rows of each kind have ended."""
        now = time.monotonic()
        if self.counts and (at_once or now - self.counted >= _COUNTED):
            send(self.connection, pickle.dumps(("ended", self.counts)))
            self.counts, self.counted = {}, now


def _describe_error(error: Exception) -> tuple[bytes, str]:
    """An error as bytes, with where it was raised."""
    where = "".join(traceback.format_exception(error))
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # some errors cannot be sent, others not be read again
        data = pickle.dumps(TorchscapeError(f"{type(error).__name__}: {error}"))
    return data, where


def main(socket: int, threads: int) -> None:
    """Work for the exploration at the other end of a socket until it is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the exploration, which tells its workers
        signal.signal(number, signal.SIG_IGN)
    worker = Worker(Connection(socket), threads)
    threading.Thread(target=worker.listen, daemon=True).start()
    with contextlib.suppress(Closed):
        worker.work()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
