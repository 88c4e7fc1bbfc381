"""Spherical 3-spin: every stationary point of two small systems, against a count of complex roots."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

import torchscape as tsc
from reproductions.experiment import Experiment, Run
from reproductions.judge import Verdict, agree, agree_all
from reproductions.networks import status_line, told
from reproductions.page import Page
from torchscape import plots

__all__ = ["EXPERIMENT"]

# By another route: all 2^N - 1 complex solutions by homotopy, the real ones of which are these.
_BY_INDEX = {(5, 505): [2, 4, 6, 4, 2], (8, 808): [6, 15, 24, 30, 30, 24, 15, 6]}
_MINIMA = {
    (8, 808): [-1.47533625, -1.23334268, -1.17649231, -1.06197540, -1.05194284, -0.99739633],
}


def _carry_out(run: Run, page: Page) -> None:
    page.what = (
        "All stationary points of H = (1/N) sum x_ijk w_i w_j w_k on the sphere |w|^2 = N, of every index, by "
        "searches from random points. Couplings are `default_rng(seed).standard_normal((N, N, N))`. The "
        "independent counts are complete: they come from all complex roots of the same polynomials."
    )
    complete = []
    for n, seed in run.pick([(5, 505)], [(5, 505), (8, 808)]):
        problem = tsc.problems.get("p-spin", n=n, seed=seed, device=run.device)
        strategies = [
            tsc.StationarySearch(starts=run.pick(1500, problem.suggested["starts"]), patience=run.pick(500, 4000))
        ]
        with run.explored(f"pspin_n{n}_s{seed}", problem.potential, strategies) as (landscape, report):
            points = landscape.stationary_points()
            counts = landscape.counts_by_index()
            network = landscape.network(coords=False)
        known = _BY_INDEX[n, seed]
        verdict = agree_all(counts, known)
        complete.append(verdict is Verdict.SAME)
        page.compare(
            f"N = {n}, seed {seed}: stationary points by index",
            ", ".join(map(str, counts)),
            verdict,
            independent=", ".join(map(str, known)),
        )
        euler = sum((-1) ** index * count for index, count in enumerate(counts))
        expected = 2 if n % 2 else 0
        page.compare(
            f"N = {n}: Euler characteristic of the sphere",
            euler,
            agree(euler, expected),
            independent=f"{expected} (topology)",
        )
        if (n, seed) in _MINIMA:
            ours = sorted((points.energy[points.index == 0] / n).tolist())
            page.compare(
                f"N = {n}: H/N of the minima",
                ", ".join(f"{e:.8f}" for e in ours),
                agree_all(ours, _MINIMA[n, seed], 1e-7),
                independent=", ".join(f"{e:.8f}" for e in _MINIMA[n, seed]),
            )
        page.settings += [f"N = {n}: {told(strategies[0])}", f"N = {n}: {status_line(report)}"]
        page.picture(
            _by_index(points, n), f"n{n}_energies", f"N = {n}: energy per spin of every stationary point by index."
        )
        page.picture(
            plots.disconnectivity(network, labels=True).figure, f"n{n}_tree", f"N = {n}: disconnectivity graph."
        )
    page.say(
        "The enumeration is complete: every index has exactly as many stationary points as the complex roots "
        "allow."
        if all(complete)
        else "The enumeration is not complete; more starts are needed."
    )


def _by_index(points: tsc.StationaryPoints, n: int) -> plt.Figure:
    figure, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    index, energy = points.index.cpu().numpy(), (points.energy / n).cpu().numpy()
    ax.plot(energy, index, "|", ms=14, color="#1f4e79")
    ax.set_yticks(np.unique(index))
    ax.set_xlabel("energy per spin H/N")
    ax.set_ylabel("index")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


EXPERIMENT = Experiment(
    "pspin-counts", "Spherical 3-spin: every stationary point of small systems", "P, section VII", _carry_out
)
