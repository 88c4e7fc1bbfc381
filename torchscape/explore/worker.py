"""A worker: a process of its own that runs parts of tasks, and says what has ended of them.

Run by :class:`~torchscape.explore.processes.Processes` with a socket to the exploration. It ends with it.
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
from multiprocessing.connection import Connection
from typing import Any

import torch

from torchscape.devices import HOST
from torchscape.errors import TorchscapeError
from torchscape.explore.messages import Closed, receive, send
from torchscape.optimise.ledger import Ledger, keeping
from torchscape.stopwatch import Stopped, Stopwatch, running

__all__ = ["main"]

_EVERY = 4.0  # seconds between two reports of what has ended; the exploration writes every eight
_SOON = 1.0  # the same where a part has ended
_COUNTED = 0.5  # seconds between two reports of how many rows have ended
_MUCH = 1 << 26  # bytes of rows that still run, beyond which they are sent at a stop only


class _Watch(Stopwatch):
    """Stops when the exploration says so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_told = False

    def is_over(self) -> bool:
        return self.is_told


class Worker:
    """What it knows of the exploration, and what it has to tell."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.watch = _Watch()
        self.watch.on_look, self.watch.on_ended = self.look, self.ended
        self.potential: Any = None
        self.ledger, self.round = Ledger(), -1
        self.counts: dict[str, int] = {}
        self.told = self.counted = time.monotonic()

    def listen(self) -> None:
        """Messages as they come: what to do in turn, that it is over at once. It ends with the exploration."""
        with contextlib.suppress(Closed):
            while True:
                kind, *rest = receive(self.connection)
                if kind == "stop":
                    self.watch.is_told = True
                else:
                    self.tasks.put((kind, *rest))
        os._exit(0)

    def work(self) -> None:
        while True:
            kind, *rest = self.tasks.get()
            if kind == "path":
                sys.path[:] = rest[0]
            elif kind == "potential":
                self.potential = pickle.loads(rest[0])
            elif kind == "round":
                number, entries, going = rest
                self.ledger, self.round = Ledger(entries, going), number
                self.watch.is_told = False
            elif kind == "part":
                self.run(*rest)
            elif kind == "tell":
                self.tell(at_a_stop=True)
                send(self.connection, pickle.dumps(("told",)))

    def run(self, number: int, data: bytes) -> None:
        """One part, and the answer to it."""
        try:
            part = pickle.loads(data)
            with keeping(self.ledger), running(self.watch):
                found = part.run(self.potential).to(HOST)
            self.count(at_once=True)
            self.look(_SOON)
            answer: tuple[Any, ...] = ("found", number, found)
        except Stopped:
            answer = ("stopped", number)
        except Exception as error:
            answer = ("failed", number, *_describe_error(error))
        send(self.connection, pickle.dumps(answer))

    def look(self, every: float = _EVERY) -> None:
        if time.monotonic() - self.told >= every:
            self.tell()
            self.told = time.monotonic()

    def tell(self, *, at_a_stop: bool = False) -> None:
        """What has ended since the last time, and what still runs."""
        entries, going = self.ledger.written(), self.ledger.in_flight()
        n_bytes = sum(column.nbytes for entry in going for column in entry.columns.values())
        if n_bytes > _MUCH and not at_a_stop:
            going = ()
        send(self.connection, pickle.dumps(("kept", self.round, entries, going)))

    def ended(self, kind: str, n: int) -> None:
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
    torch.set_num_threads(threads)
    worker = Worker(Connection(socket))
    threading.Thread(target=worker.listen, daemon=True).start()
    with contextlib.suppress(Closed):
        send(worker.connection, pickle.dumps(("ready",)))
        worker.work()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
