#!/usr/bin/env python3
"""The same to the last bit: small explorations and searches, compared with those of another commit.

    scripts/bench/same.py --out FILE          # what is found and its digests, to a file (JSON): under a minute
    scripts/bench/same.py --against COMMIT    # a worktree of that commit runs the same: what differs, and the time
    scripts/bench/same.py --only descend      # parts whose name contains this
    scripts/bench/same.py --repeats 5         # runs of each part, for the times

For changes that should change nothing. Against a commit each part runs in both trees by turns, in two processes
that stay, so that both meet the same neighbours on the machine; the first run of each counts for the results only.
Energies, connections, hits and points are compared to the last bit. The ratio of the times is that of the least
seconds of processor time, ours over theirs: other programs on the machine only add to them. The exit code is 1 if
anything differs; times are for the reader.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _commits import worktree

import torchscape as tsc
from torchscape import problems, random
from torchscape.explore import StationarySearch
from torchscape.optimise import BFGS, LBFGS, choose_optimiser, polish, relax
from torchscape.saddles import (
    Band,
    Dense,
    Descent,
    Follow,
    ImplicitDescent,
    Krylov,
    Quench,
    RandomDirections,
    climb,
    confirm,
    connect,
    descend,
    find_stationary,
    follow,
)
from torchscape.sampling.basins import assign
from torchscape.types import Tensor

NewtonSearch = getattr(tsc.saddles, "NewtonSearch", None) or tsc.saddles.Newton  # and under other names
locate_fold = getattr(tsc, "families", tsc.saddles).locate_fold  # the other commit may have it there

Found = dict[str, Any]


def explored(potential: tsc.Potential, strategies: Sequence[tsc.Strategy], seed: int = 0) -> Found:
    with tsc.Landscape.in_memory(potential) as landscape:
        tsc.explore(landscape, potential, strategies=strategies, seed=seed, progress=False)
        network = landscape.network(coords=True)
        return {
            "network": network,
            "minima": landscape.minima(),
            "transition states": landscape.transition_states(),
            "ends": landscape.ends(),
            "pairs": landscape.tried_pairs(),
        }


def within(potential: tsc.Potential, evaluations: int) -> BFGS | LBFGS:
    """The minimiser of a potential, with so many evaluations for each row."""
    return dataclasses.replace(choose_optimiser(potential), max_evaluations=evaluations)


def digits() -> Found:
    u = problems.get("digits", hidden=4, n_train=100).potential
    hopping = tsc.BasinHopping(walkers=3, hops=0, tol=1e-7)
    return explored(u, [hopping, tsc.ConnectMinima(neighbours=1, max_rounds=0, tol=1e-7)])


def lj7() -> Found:
    u = problems.get("lj7").potential
    return explored(u, [tsc.BasinHopping(walkers=12, hops=2), tsc.ConnectMinima(neighbours=3, bridges=1)])


def regression() -> Found:
    u = problems.get("regression").potential
    hopping = tsc.BasinHopping(walkers=32, hops=2, step=2.0)
    return explored(u, [hopping, tsc.ConnectMinima(neighbours=1, bridges=0, max_rounds=1)])


def pspin() -> Found:
    u = problems.get("p-spin", n=8).potential
    stationary = StationarySearch(starts=64)
    return explored(u, [stationary, tsc.BasinHopping(walkers=16, hops=2), tsc.ConnectMinima(neighbours=2)])


class Wells(tsc.Potential):
    """Double wells, tilted by p in the first coordinate (folds at p = +-8/27^(1/2)) and a little in the others."""

    def __init__(self, p: float) -> None:
        self.p, self.ndim = p, 3

    def energy(self, x):
        tilt = 0.05 * torch.arange(self.ndim, dtype=x.dtype, device=x.device)
        tilt[0] = self.p
        return ((x**2 - 1) ** 2 + tilt * x).sum(1)

    def settings(self):
        return {"p": self.p}


def family() -> Found:
    strategies = [tsc.BasinHopping(walkers=16, hops=2), tsc.ConnectMinima(neighbours=2)]
    found = tsc.explore_family(Wells, [0.5, 1.0, 1.7], strategies=strategies, progress=False)
    return {"family": found}


def relaxed() -> Found:
    lj, fit = problems.get("lj", n=13).potential, problems.get("regression").potential
    net = problems.get("trimer-network").potential
    single = problems.get("lj", n=6, dtype=torch.float32).potential
    camel = problems.get("six-hump-camel").potential
    box = tsc.FunctionPotential(
        lambda x: ((x**2 - 1) ** 2).sum() + 0.1 * (x[1:] * x[:-1]).sum(), 8, bounds=[(-1.5, 0.9)] * 8
    )
    rough = relax(lj, lj.sample(8, seed=2), tol=1e-3)
    return {
        "dense": relax(fit, fit.sample(200, seed=1)),
        "limited": relax(lj, lj.sample(32, seed=1), optimiser=LBFGS(memory=20)),
        "limited, plain": relax(lj, lj.sample(16, seed=3), optimiser=LBFGS(memory=5, rescale=None, pairs=None)),
        "network": relax(net, net.sample(32, seed=1), optimiser=within(net, 300)),
        "renewed": relax(fit, fit.sample(50, seed=4), optimiser=BFGS(renew_after=3)),
        "single": relax(single, single.sample(16, seed=1)),
        "camel": relax(camel, camel.sample(50, seed=1)),
        "box": relax(box, box.sample(50, seed=1)),
        "box, limited": relax(box, box.sample(50, seed=2), optimiser=LBFGS(memory=5)),
        "polished": polish(lj, rough),
    }


def climbed() -> Found:
    lj, fit = problems.get("lj", n=8).potential, problems.get("regression").potential
    minima = relax(lj, lj.sample(12, seed=0)).x
    bottoms = relax(fit, fit.sample(24, seed=0)).x
    x = minima[:6] + 0.1 * random.normal(random.fold(5, torch.arange(6)), lj.ndim)
    direction = random.normal(random.fold(6, torch.arange(6)), lj.ndim)
    direction /= direction.norm(dim=1, keepdim=True)
    return {
        "dense": climb(lj, minima, directions=RandomDirections(2), seed=1),
        "in a box": climb(fit, bottoms, directions=RandomDirections(1), seed=1),
        "products": climb(lj, minima[:3], refine=Follow(curvature=Krylov(), max_evaluations=60), seed=2),
        "keeping its mode": follow(lj, x, direction, options=Follow(keep_mode=True, max_evaluations=40)),
    }


def connected() -> Found:
    lj, fit = problems.get("lj", n=8).potential, problems.get("regression").potential
    minima, bottoms = relax(lj, lj.sample(12, seed=0)).x, relax(fit, fit.sample(24, seed=0)).x
    return {
        "clusters": connect(lj, minima[:6], minima[6:]),
        "fits": connect(fit, bottoms[:6], bottoms[12:18], band=Band(bow=0.1)),
    }


def descended() -> Found:
    lj = problems.get("lj", n=7).potential
    net = problems.get("trimer-network").potential
    starts, weights = relax(lj, lj.sample(6, seed=3), optimiser=within(lj, 20)).x, net.sample(2, seed=3)
    products = Descent(curvature=Krylov(max_dim=12), max_evaluations=60, n_again=1)
    implicit = ImplicitDescent(max_evaluations=200, n_again=1)
    return {
        "by models": descend(lj, starts),
        "by models and products": descend(lj, starts[:4], options=products),
        "with updates": descend(lj, starts, options=Descent(curvature=Dense(refresh=20), remeasure=0.3)),
        "to high order": descend(lj, starts[:4], options=Descent(margin=1e9, n_again=1)),
        "by implicit steps": descend(lj, starts[:4], options=implicit),
        "of a network": descend(net, weights, options=implicit),
        "by a minimiser": descend(lj, starts[:6], options=Quench()),
    }


def located() -> Found:
    lj, fit, camel = (problems.get(*name).potential for name in (("lj6",), ("regression",), ("six-hump-camel",)))
    starts, target = lj.sample(24, seed=5), torch.arange(24) % 4 - 1
    fold = locate_fold(Wells, 1.5, torch.tensor([0.6, 1.0, 1.0], dtype=torch.float64), (1.0, 2.0))
    saddles = climb(lj, relax(lj, starts[:4]).x, seed=3).ts
    return {
        "of any index": find_stationary(lj, starts, target=target),
        "with products": find_stationary(lj, starts[:6], options=NewtonSearch(curvature=Krylov())),
        "in a box": find_stationary(fit, fit.sample(60, seed=2)),
        "basins": assign(camel, camel.sample(300, seed=1)),
        "fold": fold,
        "confirmed": confirm(lj, saddles),
    }


PARTS: dict[str, Callable[[], Found]] = {
    "digits": digits,
    "LJ_7": lj7,
    "regression": regression,
    "p-spin": pspin,
    "family": family,
    "relax": relaxed,
    "climb": climbed,
    "connect": connected,
    "descend": descended,
    "locate": located,
}


def arrays(found: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every number within, by name."""
    if isinstance(found, torch.Tensor):
        yield name, found.detach().cpu()
    elif isinstance(found, np.ndarray) and found.dtype != object:
        yield name, torch.from_numpy(np.ascontiguousarray(found))
    elif isinstance(found, bool | int | float):
        yield name, torch.tensor(found)
    elif dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            yield from arrays(getattr(found, field.name), f"{name}.{field.name}")
    elif isinstance(found, Mapping):
        for key, value in found.items():
            yield from arrays(value, f"{name}.{key}" if name else str(key))
    elif isinstance(found, list | tuple):
        for number, value in enumerate(found):
            yield from arrays(value, f"{name}[{number}]")


def run(part: str) -> tuple[dict[str, Tensor], float]:
    """What a part finds, and the seconds of processor time that it takes."""
    began = time.process_time()
    with warnings.catch_warnings(action="ignore"):
        found = PARTS[part]()
    seconds = time.process_time() - began
    return dict(arrays(found)), seconds


def serve() -> None:
    """Run what each line of the standard input names; results go to the file named beside it, seconds are said."""
    said, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        part, path = json.loads(line)
        found, seconds = run(part)
        if path is not None:
            torch.save(found, path)
        print(json.dumps(seconds), file=said, flush=True)


class Tree:
    """A process that runs parts with the package of one tree."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, part: str, *, kept: bool) -> float:
        """Seconds that the part took; its results are for :meth:`found` if they are kept."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([part, str(self._file(part)) if kept else None]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.folder.name}: {part!r} has failed, see above")
        return float(json.loads(answer))

    def found(self, part: str) -> dict[str, Tensor]:
        found: dict[str, Tensor] = torch.load(self._file(part))
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)

    def _file(self, part: str) -> Path:
        return self.folder / f"{part}.pt"


def bits(tensor: Tensor) -> bytes:
    """What a tensor is made of; all NaN are one."""
    clean = torch.where(tensor.isnan(), torch.nan, tensor) if tensor.is_floating_point() else tensor
    return clean.contiguous().numpy().tobytes()


def differences(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """What differs, in words."""
    said = [f"{name}: only in one of them" for name in sorted(ours.keys() ^ theirs.keys())]
    for name in ours.keys() & theirs.keys():
        a, b = ours[name], theirs[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            said.append(f"{name}: {list(a.shape)} {a.dtype}, not {list(b.shape)} {b.dtype}")
        elif bits(a) != bits(b):
            apart = (a.double() - b.double()).abs().nan_to_num(torch.inf)
            where = (a != b) & ~(a.isnan() & b.isnan())
            said.append(
                f"{name}: {int(where.sum())} of {a.numel()} differ, by {float(apart[where].max()):.2g} at most"
            )
    return sorted(said)


def compare(commit: str, parts: Sequence[str], repeats: int) -> bool:
    """Run the parts here and at the commit, and say what differs. True if nothing does."""
    same, totals = True, np.zeros(2)
    with tempfile.TemporaryDirectory() as folder, worktree(commit, Path(folder) / "tree") as tree:
        here = Path(__file__).parents[2]
        both = [Tree(here, Path(folder) / "ours"), Tree(tree, Path(folder) / "theirs")]
        for part in parts:
            for one in both:
                one.run(part, kept=True)
            seconds: list[list[float]] = [[], []]
            for number in range(repeats):
                for which in (0, 1) if number % 2 else (1, 0):
                    seconds[which].append(both[which].run(part, kept=False))
            said = differences(*(one.found(part) for one in both))
            least = np.array([min(some, default=0.0) for some in seconds])
            totals += least
            times = ""
            if repeats:
                ratios = sorted(a / b for a, b in zip(*seconds, strict=True))
                ratio = f"{least[0] / least[1]:.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                times = f"{least[0]:7.2f} s, ratio {ratio}"
            print(f"{part:12s} {'the same' if not said else 'DIFFERS':9s} {times}", flush=True)
            print("".join(f"    {line}\n" for line in said), end="", flush=True)
            same &= not said
        for one in both:
            one.close()
    if repeats:
        outcome = "the same" if same else "DIFFERS"
        print(f"{'all':12s} {outcome:9s} {totals[0]:7.2f} s, ratio {totals[0] / totals[1]:.3f}")
    return same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="compare with this commit")
    parser.add_argument("--out", type=Path, help="write what is found here")
    parser.add_argument("--only", help="parts whose name contains this")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each part for the times; 0 for none")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    parts = [part for part in PARTS if options.only is None or options.only in part]
    if options.against is not None:
        raise SystemExit(0 if compare(options.against, parts, options.repeats) else 1)
    written: dict[str, Any] = {}
    for part in parts:
        found, seconds = run(part)
        print(f"{part:12s} {seconds:7.2f} s", flush=True)
        digests = {name: hashlib.blake2b(bits(value), digest_size=8).hexdigest() for name, value in found.items()}
        few = {name: value.tolist() for name, value in found.items() if value.numel() <= 1000}
        written[part] = {"seconds": seconds, "digests": digests, "values": few}
    if options.out is not None:
        from torchscape.outputs import whole_file

        with whole_file(options.out) as beside:
            beside.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
