"""One of the processes among which ``test_spreading.py`` spreads an evaluation.

Usage: spread_driver.py FOLDER RANK SIZE [fails]
"""

from __future__ import annotations

import datetime
import sys

import torch
from torch import nn

import torchscape as tsc
from torchscape.potentials.spreading import spread


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, rank, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    joined(folder, rank, size)
    for weighted in (True, False):
        mine = potential(weighted=weighted)
        if "fails" in sys.argv:
            mine._evaluator.objective.forward = None
        with spread(mine) as whole:
            assert whole is None
    torch.distributed.destroy_process_group()
