"""Forks explorations of one landscape file and kills each at a random moment until one of them ends by itself.

Run by ``test_run.py``, as a process of its own because it forks: torch is imported once, and nothing is computed
here, so that no thread is running yet.

Usage: resume_driver.py FILE SEED; afterwards FILE is complete, and FILE.whole holds a run without interruption.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator

import scipy.sparse.csgraph  # noqa: F401  what an exploration imports late, is imported here, once
import torch
import torch.fx.experimental.symbolic_shapes
from explore_doubles import Wells

import torchscape as tsc
from torchscape.explore import InProcess
from torchscape.saddles import Follow, RandomDirections


class Reporting(InProcess):
    """Writes a byte before each task."""

    def __init__(self, pipe: int) -> None:
        object.__setattr__(self, "pipe", pipe)

    def run(self, potential, tasks) -> Iterator:
        for task in tasks:
            os.write(self.pipe, b".")
            yield from super().run(potential, [task])


def search(path: str, pipe: int) -> None:
    """Few walkers and short steps, so that all three strategies find minima, and give each other work."""
    potential = Wells(3)
    strategies = [
        tsc.BasinHopping(walkers=1, hops=2, temperature=0.05, step=0.2, round_hops=1),
        tsc.ConnectMinima(neighbours=1, bridges=1, round_pairs=3),
        tsc.ClimbFromMinima(
            directions=RandomDirections(), searches=2, round_searches=4, refine=Follow(max_evaluations=40)
        ),
    ]
    with tsc.Landscape.open(path, potential) as landscape:
        report = tsc.explore(
            landscape, potential, strategies=strategies, seed=1, executor=Reporting(pipe), progress=False
        )
        assert report.is_complete


def life(path: str, n_tasks: int, delay: float) -> bool:
    """Explore until ``n_tasks`` tasks have begun, and ``delay`` seconds more; whether it ended by itself first."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            search(path, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    begun = 0
    while begun < n_tasks and (said := os.read(reading, 1)):
        begun += len(said)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reading)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the exploration failed by itself"
    return not os.WIFSIGNALED(status)


def main(path: str, seed: int) -> None:
    assert life(f"{path}.whole", 1 << 30, 0.0)
    luck = random.Random(seed)
    n_kills = 0
    while not life(path, luck.randint(1, 4), luck.choice([0.0, luck.uniform(0, 0.1)])):
        n_kills += 1
    print(f"complete after {n_kills} kills")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]))
