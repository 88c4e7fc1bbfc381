"""When a program found what: one line per point that its own store took for new."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

__all__ = ["Trace", "arguments"]


class Trace:
    """Points with the wall and processor time at which they were known."""

    def __init__(self, ndim: int) -> None:
        self.x: list[np.ndarray] = []
        self.at: list[tuple[float, float]] = []
        self.ndim = ndim
        self.began = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began[0]

    def note(self, x: np.ndarray, at: tuple[float, float] | None = None) -> None:
        """A point [D] or several [n D], known now (or since ``at``, in seconds from the start)."""
        wall, cpu = self.now()
        for row in np.atleast_2d(x):
            self.x.append(np.array(row, dtype=np.float64))
            self.at.append((wall - self.began[0], cpu - self.began[1]) if at is None else at)

    def save(self, path: Path, **about: object) -> None:
        wall, cpu = self.now()
        about |= {"wall": wall - self.began[0], "cpu": cpu - self.began[1]}
        np.savez(
            path,
            x=np.array(self.x).reshape(-1, self.ndim),
            at=np.array(self.at).reshape(-1, 2),
            about=json.dumps(about),
        )


def arguments() -> argparse.Namespace:
    """What every worker is asked: which phase of which problem, for how long, to what tolerance."""
    parser = argparse.ArgumentParser()
    parser.add_argument("phase", choices=["minima", "saddles"])
    parser.add_argument("problem", type=Path, help="the function, as functions.load reads it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tol", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--given", type=Path, help="saddles: minima x, and pairs of ends a, b")
    parser.add_argument("--gradients", choices=["numpy", "torch"], default="numpy", help="of the peers")
    parser.add_argument("--settings", type=json.loads, default={}, help="of the program, as JSON")
    return parser.parse_args()
