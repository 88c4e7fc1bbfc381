#!/usr/bin/env python3
"""Matching: time to look a minimum up among N stored ones, up to symmetry.

    scripts/bench/matching.py                # N = 10^3 to 10^5, about three minutes
    scripts/bench/matching.py --json FILE    # also write the figures, with machine, versions and date
    scripts/bench/matching.py --device cuda  # on a GPU

Half of what is looked up are random symmetric images of stored points, which must be found under the right id;
half are other points, which must not be found. Energies are either all different, or crowded: about fifty stored
points within the energy window of each, so that invariants and distances must decide.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record

import torchscape as tsc
from torchscape import Potential, StationaryPoints, Status, problems, random

CASES = [("trimer-network", {}), ("lj13", {}), ("digits", {"hidden": 4})]
MOST_NUMBERS = 1e7  # coordinates stored in all: 10^5 points of 100 coordinates


def points(potential: Potential, n: int, seed: int, width: float) -> StationaryPoints:
    """Converged points anywhere, with energies spread evenly over ``width``."""
    x = potential.sample(n, seed=seed)
    energy = width * random.uniform(random.fold(seed, torch.arange(n, device=x.device)), 1, x.dtype)[:, 0]
    status = torch.full((n,), int(Status.CONVERGED), device=x.device)
    return StationaryPoints.of(x, energy, grad_rms=torch.zeros_like(energy), status=status)


def measured(name: str, potential: Potential, n: int, width: float, crowding: str) -> dict:
    """Time per point to look up one at a time, and 64 together."""
    stored, others = points(potential, n, 0, width), points(potential, 32, 1, width)
    with tsc.Landscape.in_memory(potential) as landscape:
        began = time.perf_counter()
        ids = landscape.add_minima(stored)
        added = time.perf_counter() - began
        rows = torch.arange(32, device=stored.x.device) * (n // 32)
        keys = random.fold(2, torch.arange(32, device=stored.x.device))
        image = stored[rows].replace(x=potential.symmetry.random_image(stored.x[rows], keys))
        sought = StationaryPoints.cat([image, others])
        expected = torch.cat([ids[rows.cpu()], torch.full((32,), -1)])
        landscape.find(sought[:1])
        began = time.perf_counter()
        found = landscape.find(sought)
        together = time.perf_counter() - began
        began = time.perf_counter()
        singly = torch.cat([landscape.find(sought[i : i + 1]) for i in range(64)])
        one = time.perf_counter() - began
    wrong = int((found != expected).sum() + (singly != expected).sum())
    row = {
        "problem": name,
        "D": potential.ndim,
        "N": n,
        "energies": crowding,
        "ms_one": 1e3 * one / 64,
        "ms_of_64": 1e3 * together / 64,
        "ms_added": 1e3 * added / n,
        "wrong": wrong,
    }
    print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    rows = []
    for name, options in CASES:
        potential = problems.get(name, device=args.device, **options).potential
        for n in (1000, 10_000, 100_000):
            if n * potential.ndim <= MOST_NUMBERS:
                rows.append(measured(name, potential, n, 1.0, "spread"))
                rows.append(measured(name, potential, n, 4e-8 * n, "crowded"))
    if args.json:
        record(args.json, args.device, rows=rows)


if __name__ == "__main__":
    main()
