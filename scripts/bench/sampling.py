#!/usr/bin/env python3
"""Sampling: what a sampler costs beside the gradients, and steps per second against the number of chains.

    scripts/bench/sampling.py                  # everything, about eight minutes
    scripts/bench/sampling.py --quick          # fewer steps and chains
    scripts/bench/sampling.py --json FILE      # also write the figures, with machine, versions and date
    scripts/bench/sampling.py --device cuda    # on a GPU
    scripts/bench/sampling.py --peers          # also beside posteriors (PyPI), a minute more

The ratio is the wall time of ``sample`` over (gradient evaluations x time of one bare batched gradient of as many
rows as the sampler moves at once: all, or one group of an ensemble). Every run is timed between two times of bare
gradients, and the median of several turns is reported, because a busy machine slows both; the ratio of CPU times
(of one thread) is what a busy machine changes least.

posteriors steps one position; many chains are one tensor [B, D] whose log density is the sum over chains, which
gives every chain its own gradient. Both packages make as many steps of the same scheme from the same points, on
one potential in float64, in turn and in one process, and so pay for the same gradients; the steps alone are timed.
The mean energies at the end say whether both did the same. Its thermostat (SGNHT) is one for all chains; ours has
one for each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _record import record
from peers.posteriors_package import VERSION, posteriors

from torchscape import Potential, problems
from torchscape.potentials import Rosenbrock
from torchscape.sampling import BAOA, BAOAB, HMC, SGLD, AdaptiveLangevin, EnsembleQuasiNewton, sample

SAMPLERS = {
    "SGLD": SGLD(1e-3),
    "BAOAB": BAOAB(1e-2),
    "AdaptiveLangevin": AdaptiveLangevin(1e-2),
    "HMC": HMC(1e-2, n_leapfrog=10, target=None),
    "EnsembleQuasiNewton": EnsembleQuasiNewton(1e-2, hold=10),
}
GRADIENTS = {"HMC": 9, "EnsembleQuasiNewton": 10}  # of a step, about; the count is in the result


def seconds(f, device: torch.device) -> tuple[float, float]:
    """Wall time and CPU time of a call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began, cpu = time.perf_counter(), time.process_time()
    f()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, time.process_time() - cpu


def ratio(name: str, potential: Potential, chains: int, evaluations: int, turns: int) -> list[dict]:
    x = potential.sample(chains, seed=1)
    rows = []
    for kind, sampler in SAMPLERS.items():
        batches = x.chunk(getattr(sampler, "groups", 1))

        def bare(batches=batches) -> None:
            for _ in range(evaluations):
                for batch in batches:
                    potential.energy_and_grad(batch)

        spent: list[int] = []

        def run(sampler=sampler, spent=spent) -> None:
            steps = evaluations // GRADIENTS.get(type(sampler).__name__, 1)
            samples = sample(potential, x, sampler=sampler, steps=steps, thin=10, keep_positions=False)
            spent.append(samples.state.n_evaluations)

        bare()
        run()
        found, bare_ms = [], []
        before = seconds(bare, potential.device)
        for _ in range(turns):
            whole = seconds(run, potential.device)
            after = seconds(bare, potential.device)
            alone = [0.5 * (a + b) for a, b in zip(before, after, strict=True)]
            found.append([w * evaluations / (spent[-1] * a) for w, a in zip(whole, alone, strict=True)])
            bare_ms.append(1e3 * alone[0] / evaluations)
            before = after
        wall, cpu = zip(*found, strict=True)
        row = {
            "problem": name,
            "D": potential.ndim,
            "chains": chains,
            "sampler": kind,
            "ratio": round(statistics.median(wall), 3),
            "lowest": round(min(wall), 3),
            "ratio of CPU times": round(statistics.median(cpu), 3),
            "bare gradient ms": round(statistics.median(bare_ms), 3),
        }
        show(row)
        rows.append(row)
    return rows


def throughput(name: str, potential: Potential, counts: list[int], most: float) -> list[dict]:
    """BAOAB steps of one chain per second, all chains counted; about ``most`` seconds each."""
    rows = []
    for chains in counts:
        x = potential.sample(chains, seed=1)

        def run(steps: int, x=x) -> None:
            sample(potential, x, sampler=BAOAB(1e-3), steps=steps, thin=max(1, steps), keep_positions=False)

        run(2)
        one = seconds(lambda: run(4), potential.device)[0] / 4
        steps = max(4, int(most / one))
        wall, _ = seconds(lambda n=steps: run(n), potential.device)
        row = {"problem": name, "D": potential.ndim, "chains": chains, "steps per second": steps / wall}
        row["chain steps per second"] = chains * steps / wall
        show(row)
        rows.append(row)
    return rows


def beside_posteriors(
    name: str, potential: Potential, counts: list[int], steps: int, turns: int = 5
) -> list[dict]:
    """Microseconds per step and chain of posteriors and of ours, and of a bare gradient, in turn."""
    sgmcmc, h, friction = posteriors().sgmcmc, 1e-3, 1.0

    def log_density(x, batch):
        return -potential.energy(x).sum(), x.new_zeros(())

    pairs = {
        "SGLD": (SGLD(h**2), sgmcmc.sgld.build(log_density, lr=h**2)),
        "BAOA": (BAOA(h, friction), sgmcmc.baoa.build(log_density, lr=h, alpha=friction)),
        "adaptive Langevin, SGNHT": (
            AdaptiveLangevin(h, friction),
            sgmcmc.sgnht.build(log_density, lr=h, alpha=friction),
        ),
    }
    rows = []
    for chains in counts:
        x = potential.sample(chains, seed=1)
        for scheme, (sampler, transform) in pairs.items():
            began, other, ends = sampler.init(potential, x), transform.init(x.clone()), {}

            def ours(began=began, sampler=sampler, ends=ends) -> None:
                run = sample(potential, began, sampler=sampler, steps=steps, thin=steps, keep_positions=False)
                ends["ours"] = run.state.x

            def theirs(other=other, transform=transform, ends=ends) -> None:
                state = other.clone()
                for _ in range(steps):
                    state, _ = transform.update(state, None, inplace=True)
                ends["posteriors"] = state.params

            def bare(x=x) -> None:
                for _ in range(steps):
                    potential.energy_and_grad(x)

            calls = {"ours": ours, "posteriors": theirs, "bare gradient": bare}
            spent: dict[str, list[float]] = {kind: [] for kind in calls}
            ours()
            theirs()
            for _ in range(5):
                for kind, call in calls.items():
                    spent[kind].append(seconds(call, potential.device)[0] / (steps * chains))
            ratios = [b / a for a, b in zip(spent["ours"], spent["posteriors"], strict=True)]
            row = {"problem": name, "D": potential.ndim, "chains": chains, "scheme": scheme}
            row |= {f"{kind} us": 1e6 * statistics.median(values) for kind, values in spent.items()}
            row |= {"posteriors / ours": round(statistics.median(ratios), 3)}
            row |= {"lowest": round(min(ratios), 3), "highest": round(max(ratios), 3)}
            row |= {f"mean energy, {kind}": float(potential.energy(end).mean()) for kind, end in ends.items()}
            show(row)
            rows.append(row)
    return rows


def show(row: dict) -> None:
    print("  ".join(f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer turns, at most 1000 chains")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--peers", action="store_true", help="also beside posteriors (installed on first use)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    turns, counts = (5, [1, 10, 100, 1000]) if args.quick else (15, [1, 10, 100, 1000, 10000])

    print("== wall time over (gradient evaluations x bare gradient)")
    ratios = []
    for hidden, chains in ((4, 64), (10, 64), (4, 512)):
        potential = problems.get("digits", hidden=hidden, device=args.device).potential
        evaluations = 18 if chains > 64 else 36
        ratios += ratio(f"digits 64-{hidden}-10", potential, chains, evaluations, turns)

    print("== steps per second against chains, BAOAB")
    small = Rosenbrock(ndim=10, device=args.device)
    trimer = problems.get("trimer-network", device=args.device).potential
    rates = throughput("rosenbrock", small, counts, 1.0) + throughput("trimer-network", trimer, counts, 2.0)

    peers = []
    if args.peers:
        print(f"== beside posteriors {VERSION}, microseconds per step and chain")
        digits = problems.get("digits", hidden=4, device=args.device).potential
        some = [1, 100] if args.quick else [1, 10, 100, 1000]
        peers += beside_posteriors("rosenbrock", small, some, 100)
        peers += beside_posteriors("trimer-network", trimer, some[:3], 50)
        peers += beside_posteriors("digits 64-4-10", digits, some[:2] if args.quick else [1, 10, 64], 20)

    if args.json:
        figures = {"ratio": ratios, "throughput": rates}
        if peers:
            figures["beside posteriors"] = {"posteriors": VERSION, "rows": peers}
        record(args.json, args.device, **figures)


if __name__ == "__main__":
    main()
