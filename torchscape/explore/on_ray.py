"""A cluster: parts of tasks run in actors of Ray, on as many machines as there are."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import queue
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from torchscape.devices import is_host
from torchscape.errors import MissingExtra, OptionError, TorchscapeError
from torchscape.explore.ahead import Member
from torchscape.explore.crew import Crew
from torchscape.explore.messages import Closed
from torchscape.explore.tasks import Found, Task
from torchscape.potentials.base import Potential
from torchscape.validation import COUNT, NOT_NEGATIVE, check_fields

__all__ = ["RayExecutor"]

_LISTENED = 5.0  # seconds after which a worker that has nothing to say is asked anew
_SURE = 30.0  # seconds without any machine that could hold a worker, after which it is given up


class RayExecutor(Crew):
    """Runs tasks on a Ray cluster (``pip install "torchscape[ray]"``), each worker with a copy of the potential.

    Everything is as with :class:`~torchscape.explore.Processes`: parts of tasks, limits and signals, dead workers,
    the landscape. A worker is an actor that has been promised ``threads`` cores and ``gpus`` GPUs, and gets them:
    threads are set for each part, and of the GPUs a worker sees its own. Workers write nothing; what they find is
    committed here, by one process, in the order of the tasks. They are started as machines come, and those of a
    machine that has gone are replaced on others; they end when this process does.

    The cluster is that of ``address`` or of the variable RAY_ADDRESS; if there is none, one on this machine is
    started with all its cores, and ended with this object. Where Ray is connected already, that is used.

    Args:
        workers: None for as many as the cluster has room for.
        threads: of each worker; cores that are reserved for it.
        gpus: of each worker; GPUs that are reserved for it. May be less than one, to share them.
        address: "HOST:PORT" or "auto"; None as said above; "local" for a cluster of this machine's own.

    Raises:
        MissingExtra: without Ray.
        OptionError: for workers for which the cluster has no room, and for GPUs where the potential is on the
            host: only what lies on a device moves to theirs.
        TorchscapeError: if there is no cluster at the address, or as for Processes.

    Example:
        >>> RayExecutor(workers=8, gpus=1)
        RayExecutor(workers=8, threads=1, gpus=1)
    """

    def __init__(
        self, workers: int | None = None, *, threads: int = 1, gpus: float | int = 0, address: str | None = None
    ) -> None:
        super().__init__()
        self._workers, self.threads, self.gpus, self.address = workers, threads, gpus, address
        check_fields(self, threads=COUNT, gpus=NOT_NEGATIVE)
        COUNT.or_none.check("RayExecutor", workers=workers)
        self._cluster: _Cluster | None = None
        self._room, self._asked, self._full = 0, -1e9, 0.0

    def __repr__(self) -> str:
        where = "" if self.address is None else f", address={self.address!r}"
        return f"RayExecutor(workers={self._workers}, threads={self.threads}, gpus={self.gpus:g}{where})"

    @property
    def workers(self) -> int:
        """How many were asked for, or how many the cluster has room for now."""
        return self._workers or max(1, self._places())

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        super().close()
        if self._cluster is not None:
            self._cluster.leave()
            self._cluster = None

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        """What each task finds, in their order."""
        if self.gpus and is_host(potential.device):
            raise OptionError(f"{self}: the potential is on the {potential.device}; build it with device='cuda'")
        if self._cluster is None:
            self._cluster = _Cluster(self.address)
        if (room := self._places()) < (self._workers or 1):
            raise OptionError(
                f"{self} asks for {self._workers or 1} worker(s) of {self.threads} core(s) and {self.gpus:g} "
                f"GPU(s) each; this cluster has room for {room} ({_told(self._cluster.nodes())})"
            )
        return super().run(potential, tasks)

    def letter(self, message: tuple[Any, ...]) -> Any:
        """Large messages go into Ray's store once for each machine."""
        data = super().letter(message)
        return self._cluster.ray.put(data) if self._cluster is not None and len(data) > 1 << 16 else data

    def hired(self) -> Member:
        assert self._cluster is not None
        ray = self._cluster.ray
        kind = ray.remote(
            num_cpus=self.threads, num_gpus=self.gpus, max_restarts=0, concurrency_groups={"post": 1, "hear": 1}
        )(_Desk)
        actor = kind.remote(self.threads)
        assert self._potential is not None
        return _Actor(ray, actor, f"{self._potential.device.type}:0" if self.gpus else None)

    def heard(self, members: Sequence[Member], seconds: float) -> list[Member]:
        actors = [member for member in members if isinstance(member, _Actor)]
        if loud := [one for one in actors if one.letters]:
            return list(loud)
        if not actors or self._cluster is None:
            time.sleep(seconds)
            return []
        self._look(actors)
        ray, by_reference = self._cluster.ray, {one.answer: one for one in actors}
        ready, rest = ray.wait(list(by_reference), num_returns=1, timeout=seconds)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [by_reference[one] for one in ready]

    def _look(self, actors: Sequence[Member]) -> None:
        """Whether there is a machine left for those who wait for one."""
        if any(one.is_ready for one in actors) or self._places():
            self._full = time.monotonic()
        elif time.monotonic() - self._full > _SURE:
            raise TorchscapeError(f"{self}: no machine is left that could hold a worker")

    def _places(self) -> int:
        """Workers that the machines of the cluster could hold, if they held nothing else."""
        if self._cluster is not None and time.monotonic() - self._asked > 1.0:
            nodes = self._cluster.nodes()
            self._room = sum(
                int(min(has.get("CPU", 0) / self.threads, has.get("GPU", 0) / self.gpus if self.gpus else 1e9))
                for has in nodes
            )
            self._asked = time.monotonic()
        return self._room


def _told(nodes: Sequence[dict[str, float]]) -> str:
    """What the machines of a cluster have."""
    each = collections.Counter(f"{has.get('CPU', 0):g} cores and {has.get('GPU', 0):g} GPUs" for has in nodes)
    return ", ".join(f"{n} machine(s) with {what}" for what, n in each.items()) or "no machine"


class _Cluster:
    """A connection to Ray, which may be its beginning."""

    def __init__(self, address: str | None) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtra.of("ray", "ray") from None
        self.ray: Any = ray  # it has types for some of its functions only
        self.is_ours, self.folder = not ray.is_initialized(), ""
        if not self.is_ours:
            return
        address = address or os.environ.get("RAY_ADDRESS")
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address in (None, "local"):
            from torchscape.explore.processes import available_cores

            self.folder = tempfile.mkdtemp(prefix="ray-")  # Ray leaves what it writes; sockets want a short name
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            options |= {"num_cpus": available_cores(), "include_dashboard": False, "_temp_dir": self.folder}
            address = "local"
        try:
            with _signals_kept():
                ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise TorchscapeError(f"there is no Ray cluster at {address!r}: {error}") from error

    def nodes(self) -> list[dict[str, float]]:
        """What each machine has."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def leave(self) -> None:
        if self.is_ours:
            with _signals_kept():
                self.ray.shutdown()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """``ray.init`` puts a handler of its own in the place of SIGTERM's: afterwards it is as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


class _Actor(Member):
    """An actor, and the question that it is asked at present."""

    def __init__(self, ray: Any, actor: Any, device: str | None) -> None:
        super().__init__(device)
        self.ray, self.actor = ray, actor
        self.letters: collections.deque[bytes] = collections.deque()
        self.n_posted, self.why = 0, ""
        self.answer = self._asked()

    def _asked(self) -> Any:
        return self.actor.hear.options(concurrency_group="hear").remote(_LISTENED)

    def post(self, message: Any) -> None:
        self.actor.post.options(concurrency_group="post").remote(self.n_posted, message)
        self.n_posted += 1

    def receive(self) -> Any:
        if not self.letters:
            try:
                self.letters += self.ray.get(self.answer)
            except self.ray.exceptions.RayError as error:
                self.why = _reason(error)
                raise Closed from error
            self.answer = self._asked()
        return pickle.loads(self.letters.popleft()) if self.letters else ("nothing",)

    def end(self) -> str:
        with contextlib.suppress(Exception):  # it is gone, or Ray is
            self.ray.kill(self.actor)
        return self.why


def _reason(error: Exception) -> str:
    """What Ray says of a worker's end, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "exit detail" in line.lower() or "died" in line.lower()]
    return (told or lines or [type(error).__name__])[-1][:300]


class _Desk:
    """A worker in an actor: it works in a thread of its own, between two letterboxes."""

    def __init__(self, threads: int) -> None:
        from torchscape.explore.worker import (
            Worker,
        )  # late: it is a program, too, which the package must not import

        self.box = _Letterboxes()
        torch.set_num_threads(threads)
        worker = Worker(self.box, threads)
        threading.Thread(target=worker.listen, daemon=True).start()
        threading.Thread(target=worker.work, daemon=True).start()

    def post(self, number: int, data: bytes) -> None:
        self.box.deliver(number, data)

    def hear(self, seconds: float) -> list[bytes]:
        return self.box.collected(seconds)


class _Letterboxes:
    """What a worker takes for a socket."""

    def __init__(self) -> None:
        self.incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.early: dict[int, bytes] = {}
        self.next = 0

    def send_bytes(self, data: bytes) -> None:
        self.outgoing.put(data)

    def recv_bytes(self) -> bytes:
        return self.incoming.get()

    def deliver(self, number: int, data: bytes) -> None:
        """Letters may arrive in another order than they were posted in: large ones go by the store."""
        self.early[number] = data
        while self.next in self.early:
            self.incoming.put(self.early.pop(self.next))
            self.next += 1

    def collected(self, seconds: float) -> list[bytes]:
        """What there is; wait so long for the first."""
        letters = []
        with contextlib.suppress(queue.Empty):
            letters.append(self.outgoing.get(timeout=seconds) if seconds else self.outgoing.get_nowait())
            while True:
                letters.append(self.outgoing.get_nowait())
        return letters
