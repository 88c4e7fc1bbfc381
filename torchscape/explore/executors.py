"""Executors run tasks: one after the other here, in several processes, or on a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from torchscape.errors import OptionError
from torchscape.explore.on_ray import RayExecutor
from torchscape.explore.processes import Processes
from torchscape.explore.tasks import Found, Task
from torchscape.potentials.base import Potential

__all__ = ["Executor", "InProcess", "choose_executor"]


_EXECUTORS = "give 'in-process', 'processes', 'processes:4', 'cuda:all', 'ray', 'ray:ADDRESS', or an Executor"


@runtime_checkable
class Executor(Protocol):
    """Runs the tasks of a round and yields their results in the order of the tasks."""

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]: ...


@dataclasses.dataclass(frozen=True)
class InProcess:
    """In this process, in order. A task is already a whole batch, so one process fills one device."""

    def run(self, potential: Potential, tasks: Sequence[Task]) -> Iterator[Found]:
        for task in tasks:
            yield task.run(potential)


@contextlib.contextmanager
def choose_executor(executor: Executor | str | None) -> Iterator[Executor]:
    """The executor that was asked for. What is made here ends with the block.

    Args:
        executor: one; or "in-process", "processes" (one for each core) or "processes:N"; "cuda:all" for a process
            for each device of the kind; "ray" (the cluster of RAY_ADDRESS, or one of this machine's own) or
            "ray:ADDRESS", which may be followed by what a worker has: "ray:ADDRESS,threads=4,gpus=1"; None for
            "in-process".

    Raises:
        OptionError: for another word.

    Example:
        >>> with choose_executor("processes:2") as executor:
        ...     executor
        Processes(workers=2, threads=1)
    """
    if executor is not None and not isinstance(executor, str):
        if not isinstance(executor, Executor):
            raise OptionError(f"executor={executor!r}; {_EXECUTORS}")
        yield executor
        return
    kind, colon, number = (executor or "in-process").partition(":")
    if kind == "in-process" and not colon:
        yield InProcess()
    elif kind == "processes" and (number.isdecimal() or not colon):
        with Processes(int(number) if colon else None) as processes:
            yield processes
    elif kind.partition(",")[0] == "ray" and (number or not colon):
        with _on_ray(str(executor)) as cluster:
            yield cluster
    elif number == "all":
        with Processes(devices=f"{kind}:all") as processes:
            yield processes
    else:
        raise OptionError(f"executor={executor!r}; {_EXECUTORS}")


def _on_ray(word: str) -> RayExecutor:
    """ "ray[:ADDRESS][,workers=N][,threads=N][,gpus=X]"."""
    first, *others = word.split(",")
    options: dict[str, float] = {}
    for one in others:
        name, _, value = one.partition("=")
        try:
            options[name] = {"workers": int, "threads": int, "gpus": float}[name](value)
        except (KeyError, ValueError):
            raise OptionError(f"executor={word!r}: {one!r} is none of workers=N, threads=N, gpus=X") from None
    return RayExecutor(address=first.partition(":")[2] or None, **options)  # type: ignore[arg-type]
