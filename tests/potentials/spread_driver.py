"""One of the processes among which ``test_spreading.py`` spreads an evaluation.

Usage: spread_driver.py FOLDER SIZE RANK [RANK ...]; the process of rank 0 says by :func:`told` what to serve next.
Of several ranks each is a process, forked when torch has been imported, once, and nothing has been computed yet.
"""

from __future__ import annotations

import datetime
import os
import sys

import torch
from torch import nn

import torchscape as tsc
from torchscape.potentials.module.spreading import spread


def potential(*, weighted: bool = True, n: int = 23) -> tsc.ModulePotential:
    """A classifier with class weights and an ignored target: the mean is over weights, not samples."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))
    x, target = torch.randn(n, 4), torch.arange(n) % 3
    target[5] = -100
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5])) if weighted else nn.CrossEntropyLoss()
    return tsc.ModulePotential(module, (x, target), loss, l2=0.01, chunk_size=4)


def joined(folder: str, rank: int, size: int) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size,
        timeout=datetime.timedelta(seconds=300),
    )  # fmt: skip


def told(what: tuple[bool, int] | None = None) -> tuple[bool, int] | None:
    """What rank 0 says to all: whether losses are weighted, and which rank fails (-1: none); None is the end."""
    words = [what]
    torch.distributed.broadcast_object_list(words, 0)
    return words[0]


def serve(folder: str, rank: int, size: int) -> None:
    """Until it is told that it is over. What is said goes into a file of the folder."""
    os.dup2(os.open(f"{folder}/said.{rank}", os.O_CREAT | os.O_WRONLY), sys.stderr.fileno())
    joined(folder, rank, size)
    while (what := told()) is not None:
        weighted, failing = what
        mine = potential(weighted=weighted)
        if rank == failing:
            mine._evaluator.objective.forward = None
        with spread(mine) as whole:
            assert whole is None
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, size, *ranks = sys.argv[1], *map(int, sys.argv[2:])
    others = []
    for rank in ranks[1:]:
        if (child := os.fork()) == 0:
            serve(folder, rank, size)
            sys.exit()
        others.append(child)
    serve(folder, ranks[0], size)
    sys.exit(any(os.waitpid(child, 0)[1] for child in others))
