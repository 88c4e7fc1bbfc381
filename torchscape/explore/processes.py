"""All cores, or all devices, of a machine: parts of tasks run in processes side by side."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from torchscape import devices
from torchscape.errors import OptionError
from torchscape.explore.ahead import Member
from torchscape.explore.crew import Crew
from torchscape.explore.messages import Closed, receive, send
from torchscape.explore.tasks import Found, Task
from torchscape.potentials.base import Potential
from torchscape.validation import COUNT, check_fields

__all__ = ["Processes", "available_cores"]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes(Crew):
    """Runs tasks in several processes of this machine, each with a copy of the potential.

    A task of many independent rows (walkers, pairs, climbs, starts) is cut into parts. What they find is put
    together in the order of the rows, so that the landscape is that of one process, up to the last digits of its
    numbers (a row of a batch gets other ones than alone). What rows of several parts lead to is verified once, by
    whoever is free. A worker for whom nothing of a round is left computes ahead what the next round
    will probably ask for.

    Limits, Ctrl-C and signals reach the workers, and what has ended there is kept as it is in one process. The
    part of a worker that dies is run again; one that kills three is set aside and named, and the exploration ends
    with an error once the others have ended, with everything kept that was found. Workers end with the
    exploration, however it ends. What they are warned of is said here.

    The potential travels as bytes. Functions and classes that were defined in a notebook or a script need
    ``cloudpickle`` (``pip install "torchscape[processes]"``).

    Args:
        workers: processes; None for one per device, or else one per core that this process may use.
        threads: of each worker; None for its share of the cores.
        devices: of the workers, in turn: names, or all of a kind as "cuda:all". None where the potential is.
            Only what lies on a device moves: a potential on the host stays there, and is refused.

    Raises:
        OptionError: for devices that are not there, or a potential that is on none.
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

    def __init__(
        self, workers: int | None = None, threads: int | None = None, devices: str | Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.devices = () if devices is None else _devices(devices)
        self._workers = (len(self.devices) or available_cores()) if workers is None else workers
        if threads is None:
            threads = max(1, available_cores() // max(1, self._workers))
        self.threads = threads
        check_fields(self, workers=COUNT, threads=COUNT)

    @property
    def workers(self) -> int:
        return self._workers

    def __repr__(self) -> str:
        where = f", devices={self.devices}" if self.devices else ""
        return f"Processes(workers={self.workers}, threads={self.threads}{where})"

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        if self.devices and devices.is_host(potential.device):
            raise OptionError(
                f"the potential is on the {potential.device}, and {self} moves only what lies on a device: "
                f"build it there, as with device={self.devices[0]!r}"
            )
        return super().run(potential, tasks)

    def hired(self) -> Member:
        taken = [member.device for member in self.members]
        device = min(self.devices, key=taken.count) if self.devices else None  # the first that has the fewest
        return _Process(self.threads, device)

    def heard(self, members: Sequence[Member], seconds: float) -> list[Member]:
        by_connection = {member.connection: member for member in members if isinstance(member, _Process)}
        return [by_connection[one] for one in wait(list(by_connection), seconds) if isinstance(one, Connection)]


def _devices(names: str | Sequence[str]) -> tuple[str, ...]:
    """Devices that this machine has."""
    several = devices.expand(names) if isinstance(names, str) else [devices.find(name) for name in names]
    if not several or any(devices.is_host(one) for one in several):
        raise OptionError(f"devices={names!r}; give 'cuda:all', or names such as ['cuda:0', 'cuda:1']")
    return tuple(map(str, several))


class _Process(Member):
    """A process, and the socket to it."""

    def __init__(self, threads: int, device: str | None) -> None:
        super().__init__(device)
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

    def post(self, message: bytes) -> None:
        with contextlib.suppress(Closed):  # seen when its answer is waited for
            send(self.connection, message)

    def receive(self) -> Any:
        return receive(self.connection)

    def end(self) -> str:
        with contextlib.suppress(OSError):
            self.connection.close()
        self.process.kill()
        return f"exit status {self.process.wait()}"
