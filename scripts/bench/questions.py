#!/usr/bin/env python3
"""Questions: how often an exploration makes the host wait for the device, counted on the stand-in device.

    scripts/bench/questions.py                   # 24 quenches of 64-4-10 on 100 digits, connected: CPU-hours
    scripts/bench/questions.py --quenches 8 --pairs 8 --rounds 2      # a few minutes
    scripts/bench/questions.py --json FILE       # also write the figures, with machine, versions and date

The network is explored by basin-hopping without hops, and connected. The stand-in (tests/device/) runs every
operation on the CPU and counts; times are those of the CPU underneath and say nothing about a GPU.

operations  started on the device.
questions   the host waits for a number: ``.item()``, ``bool``, ``nonzero``, masks as indices, ...
copies      from the device and to it.
waits       of ``eigh`` and ``svd``, which look by themselves whether they have converged. They are no questions of
            this package, and cannot be had without.

The target is 300 questions and copies in the whole exploration.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "device"))
import standin
import torch
from _record import record

import torchscape as tsc
from torchscape.explore.executors import InProcess

TARGET = 300
COLUMNS = ("operations", "questions", "copies", "waits", "seconds")
DECOMPOSITIONS = ("(wait) aten::_linalg_eigh", "(wait) aten::_linalg_svd")


class Counted:
    """What each part of a run has asked: parts end where :meth:`part` is called."""

    def __init__(self, tell: Callable[[str], None] = print) -> None:
        self.parts: dict[str, dict[str, float]] = {}
        self.tell = tell
        self._before = self._now()
        tell(f"{'':24s}" + "".join(f"{name:>12s}" for name in COLUMNS))

    def part(self, name: str) -> None:
        """What was asked since the last part belongs to this one."""
        now = self._now()
        row = {column: now[column] - self._before[column] for column in COLUMNS}
        known = self.parts.setdefault(name, dict.fromkeys(COLUMNS, 0))
        for column in COLUMNS:
            known[column] += row[column]
        self._before = now
        self.tell(told(name, row))

    @property
    def total(self) -> dict[str, float]:
        return {column: sum(part[column] for part in self.parts.values()) for column in COLUMNS}

    def _now(self) -> dict[str, float]:
        counts, names = standin.counts(), standin.names()
        waits = sum(names.get(name, 0) for name in DECOMPOSITIONS)
        return {
            "operations": counts["ops"],
            "questions": counts["syncs"] - waits,
            "copies": counts["to_host"] + counts["from_host"],
            "waits": waits,
            "seconds": time.process_time(),
        }


def told(name: str, row: dict[str, float]) -> str:
    return f"{name:24s}" + "".join(f"{row[column]:12.0f}" for column in COLUMNS)


class Watched:
    """An executor that tells the tasks of a run from what lies between them."""

    def __init__(self, counted: Counted, rounds: int | None) -> None:
        self.counted, self.left = counted, rounds

    def run(self, potential, tasks):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        self.counted.part("between rounds")
        for task, found in zip(tasks, InProcess().run(potential, tasks), strict=True):
            self.counted.part(f"  {task.kind}")
            yield found


def digits(n: int = 100, hidden: int = 4) -> tsc.ModulePotential:
    """The network of the digits, on the stand-in."""
    from sklearn.datasets import load_digits

    data = load_digits()
    inputs = torch.tensor(data.data[:n] / 16.0, dtype=torch.float64), torch.tensor(data.target[:n])
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 10)).double()
    return tsc.ModulePotential(net, inputs, torch.nn.functional.cross_entropy, l2=1e-2, device="standin")


def count(
    make: Callable[[], tsc.Potential] = digits,
    quenches: int = 24,
    pairs: int | None = None,
    rounds: int | None = None,
    tell: Callable[[str], None] = print,
) -> tuple[Counted, tsc.ExploreReport]:
    """Explore what ``make`` makes, and count by part.

    Args:
        make: a potential on the stand-in.
        quenches: starting points.
        pairs: searched at once; None for the default.
        rounds: of tasks after which the exploration is stopped; None for all.
        tell: is given a line for every part.
    """
    standin.load()
    standin.reset()
    counted = Counted(tell)
    potential = make()
    counted.part("potential")
    with tsc.Landscape.in_memory(potential) as landscape:
        counted.part("landscape")
        strategies = [tsc.BasinHopping(walkers=quenches, hops=0), tsc.ConnectMinima(round_pairs=pairs)]
        watched = Watched(counted, None if rounds is None else rounds + 1)
        report = tsc.explore(landscape, potential, strategies=strategies, executor=watched, progress=False)
        counted.part("between rounds")
    return counted, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quenches", type=int, default=24)
    parser.add_argument("--pairs", type=int, help="pairs searched at once (default: as ConnectMinima has it)")
    parser.add_argument("--rounds", type=int, help="rounds of connecting, then stop (default: all)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    counted, report = count(quenches=options.quenches, pairs=options.pairs, rounds=options.rounds)
    print()
    for name, part in counted.parts.items():
        print(told(name, part))
    total = counted.total
    print(told("total", total))
    asked = total["questions"] + total["copies"]
    print(f"\n{report}\nquestions and copies: {asked:.0f} (target {TARGET} for the whole exploration)")
    if options.json:
        figures = {"parts": counted.parts, "total": total, "report": str(report)}
        record(options.json, device="stand-in", settings={k: str(v) for k, v in vars(options).items()}, **figures)


if __name__ == "__main__":
    main()
