#!/usr/bin/env python3
"""One pair of minima of a large network: what each stage of the search for a transition state between them costs.

    scripts/bench/one_pair.py --mnist FILE             # 784-122-10, 97000 parameters, a minute or two on two cores
    scripts/bench/one_pair.py --mnist FILE --hidden 10 # 784-10-10, 7960 parameters
    scripts/bench/one_pair.py --minima FILE            # where the two minima are kept, made if they are not there
    scripts/bench/one_pair.py --json FILE              # also write the figures, with machine, versions and date

Two networks are trained by Adam from starts of their own and quenched, as in ``checkpoints.py``, which is not
counted. ``connect`` then joins them: an elastic band, eigenvector-following from its maxima, and verification of
what came of it, which is the index and both downhill paths. Of each stage: seconds of wall and CPU time, and
gradients, Hessian-vector products and Hessians that it asked for. Peak memory is that of the whole process, and
beside it of the process before the search.
"""

from __future__ import annotations

import argparse
import functools
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record
from checkpoints import mlp, trained

import torchscape as tsc
from torchscape import problems
from torchscape.optimise import relax
from torchscape.saddles import connect, labour, search, verify

STAGES = (
    (search, "find_paths"),
    (search, "pursue"),
    (search, "verify"),
    (verify, "characterise_each"),
    (verify, "push_off"),
    (labour, "characterise_with_modes"),
    (labour, "signs"),
    (labour, "descend"),
)


class Stages:
    """Notes what each stage takes and asks of the potential; stages within stages stand by themselves, too."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.depth = 0

    def __enter__(self) -> Stages:
        self.kept = [(place, name, getattr(place, name)) for place, name in STAGES]
        for place, name, function in self.kept:
            setattr(place, name, functools.partial(self.timed, name, function))
        return self

    def __exit__(self, *_: object) -> None:
        for place, name, function in self.kept:
            setattr(place, name, function)

    def timed(self, name: str, function: Callable, potential: Any, *args: Any, **options: Any) -> Any:
        before = potential.n_gradients, potential.n_hvps, potential.n_hessians
        wall, cpu = time.perf_counter(), time.process_time()
        self.depth += 1
        result = function(potential, *args, **options)
        self.depth -= 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        asked = (potential.n_gradients, potential.n_hvps, potential.n_hessians)
        gradients, hvps, hessians = (now - then for now, then in zip(asked, before, strict=True))
        row = {"stage": name, "within": self.depth, "wall": wall, "cpu": cpu}
        self.rows.append(row | {"gradients": gradients, "hvps": hvps, "hessians": hessians})
        print(
            f"{'  ' * self.depth + name:30s} wall {wall:7.1f} s  CPU {cpu:7.1f} s  gradients {gradients:6d}  "
            f"HVPs {hvps:6d}  Hessians {hessians:4d}  {told(name, result)}",
            flush=True,
        )
        return result


def told(name: str, result: Any) -> str:
    """What came of a stage."""
    if name == "find_paths":
        path = result[0][1]
        return (
            f"{int(path.n_images[0])} images, {int(path.n_steps[0])} steps, status {int(path.status[0])}, "
            f"highest {float(path.energy.max()):.6g}"
        )
    points = getattr(result, "points", result)
    if not isinstance(points, tsc.StationaryPoints):
        return ""
    told_each = zip(points.energy.tolist(), points.grad_rms.tolist(), points.n_evaluations.tolist(), strict=True)
    return "; ".join(f"{u:.8g} rms {rms:.1e} after {n}" for u, rms, n in told_each)


def minima(potential: tsc.ModulePotential, data: Any, hidden: int, l2: float, steps: int, keep: Path | None):
    """Two minima to which trained networks are quenched, the second in the image closest to the first."""
    if keep is not None and keep.exists():
        return torch.load(keep)
    nets = [trained(functools.partial(mlp, 784, hidden), data, l2, seed, steps) for seed in range(2)]
    x = torch.stack([torch.nn.utils.parameters_to_vector(net.parameters()).detach() for net in nets])
    ends = relax(potential, x)
    assert bool(ends.converged.all()), ends
    if keep is not None:
        torch.save(ends.x, keep)
    return ends.x


def memory() -> float:
    """The highest so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="images; default: where problems.mnist looks")
    parser.add_argument("--hidden", type=int, default=122)
    parser.add_argument("--l2", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=500, help="of Adam")
    parser.add_argument("--minima", type=Path, help="a file for the two minima")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = problems.get("mnist", data=args.mnist, hidden=1).potential.samples.tree
    potential = tsc.ModulePotential(mlp(784, args.hidden), data, torch.nn.functional.cross_entropy, args.l2)
    x = minima(potential, data, args.hidden, args.l2, args.steps, args.minima)
    assert potential.preconditioner is not None  # made at first use
    before, wall, cpu = memory(), time.perf_counter(), time.process_time()
    with Stages() as stages:
        found = connect(potential, x[:1], x[1:])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    row = {
        "parameters": potential.ndim,
        "l2": args.l2,
        "minima": potential.energy(x).tolist(),
        "transition states": found.ts.energy.tolist(),
        "outcomes": found.outcomes,
        "wall": wall,
        "cpu": cpu,
        "gradients": found.n_evaluations,
        "hvps": found.n_hvps,
        "MiB": memory(),
        "MiB before": before,
    }
    print(row)
    if args.json:
        record(args.json, rows=[row | {"stages": stages.rows}])


if __name__ == "__main__":
    main()
