"""Forks writers on one landscape file and kills each at a random moment; run by ``test_crash.py``.

A process of its own, because it forks: torch is imported once, and no thread is running yet.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time

import torch
from landscape_fixtures import Bowl, points

from torchscape import Landscape

ROWS = 40


def rows_of(task: int) -> torch.Tensor:
    return torch.stack([torch.full((ROWS,), float(task)), torch.arange(float(ROWS))], 1)


def write(path: str, report: int) -> None:
    """Task after task, each one transaction, each reported once it is committed."""
    with Landscape.open(path, Bowl()) as landscape:
        landscape.begin_run(seed=0)
        for task in range(landscape.n_tasks(), 10**6):
            with landscape.transaction():
                ids = landscape.add_minima(points(rows_of(task)), task=f"task/{task}")
                saddles = points(rows_of(task) + 0.5, [1e9] * ROWS, index=1)
                landscape.add_transition_states(saddles, ids, ids.roll(1), task=f"task/{task}")
                landscape.save_state("hopping", {"step": task, "x": rows_of(task)})
                landscape.record_task(f"task/{task}", "quench", n_evaluations=1)
            os.write(report, task.to_bytes(8, "little"))


def kill_one(path: str, delay: float, after_first: bool) -> int:
    """Start a writer and kill it ``delay`` seconds after its start, or after its first commit.

    Returns the last task it reported, -1 if none.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write(path, writing)
        finally:
            os._exit(1)  # a writer that ends by itself has failed
    os.close(writing)
    if after_first:
        select.select([reading], [], [], 60)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer failed by itself"
    said = b""
    while chunk := os.read(reading, 1 << 16):
        said += chunk
    os.close(reading)
    return int.from_bytes(said[-8:], "little") if said else -1


def check(path: str, reported: int) -> int:
    """The file is sound, holds whole tasks only, and every one that was reported; returns how many."""
    if not os.path.exists(path) or reported < 0:
        Landscape.open(path, Bowl()).close()  # cut short while it was made: made anew
    with Landscape.open(path) as landscape:
        assert landscape._store.execute("PRAGMA integrity_check") == [("ok",)]
        n = landscape.n_tasks()
        assert n > reported, f"task {reported} was committed, but only {n} are there"
        assert landscape.n_minima == landscape.n_transition_states == n * ROWS
        assert all(landscape.task_done(f"task/{task}") for task in range(n))
        state = landscape.load_state("hopping")
        assert (state is None) == (n == 0)
        assert state is None or state["step"] == n - 1
        assert int(landscape.network().hits.sum()) == n * ROWS
    return n


def main(path: str, n_kills: int, seed: int) -> None:
    luck = random.Random(seed)
    for kill in range(n_kills // 2):  # while the file is being made
        fresh = f"{path}.{kill}"
        check(fresh, kill_one(fresh, luck.uniform(0, 0.04), after_first=False))
    reported = -1
    for _ in range(n_kills):
        reported = max(reported, kill_one(path, luck.uniform(0, 0.08), after_first=True))
        assert reported >= 0, "a lock left by a killed writer blocked the next"
        check(path, reported)
    print(f"{check(path, reported)} tasks survived {n_kills} kills")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
