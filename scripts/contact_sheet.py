#!/usr/bin/env python3
"""Draw every plot of torchscape.plots from small runs, each into a file and all on one page.

A plot that has no picture here is an error: the table of plots is gone through.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

import torchscape as tsc
from torchscape import learning, metrics, plots, sampling
from torchscape.plots.canvas import Picture
from torchscape.plots.table import PLOTS
from torchscape.potentials import LennardJones, MuellerBrown
from torchscape.sampling.basins import basin_volumes

_DPI = 110
_COLUMNS = 5


# --- what is drawn ----------------------------------------------------------------------------------------


class Digits:
    """A small classifier of digits, explored once, and asked everything that pictures of predictions need."""

    def __init__(self) -> None:
        problem = tsc.problems.get("digits", hidden=2, n_train=60, l2=5e-3)
        self.potential = problem.potential
        self.inputs, self.labels = problem.test
        self.inputs, self.labels = self.inputs[:400], self.labels[:400]

    @functools.cached_property
    def network(self) -> tsc.Network:
        strategies = [
            tsc.BasinHopping(walkers=12, hops=0, tol=1e-5),
            tsc.ConnectMinima(neighbours=1, attempts=1, max_rounds=0, tol=1e-5),
        ]
        with tsc.Landscape.in_memory(self.potential) as landscape:
            tsc.explore(landscape, self.potential, strategies=strategies, seed=0, progress=False)
            return landscape.network(coords=True)

    @property
    def x(self) -> torch.Tensor:
        assert self.network.coords is not None
        return self.network.coords

    @functools.cached_property
    def held_out(self):
        return learning.held_out(self.potential, self.x, self.inputs, self.labels)

    @functools.cached_property
    def distances(self):
        return metrics.misclassification_distances(self.held_out.wrong)

    @functools.cached_property
    def averages(self) -> dict[str, torch.Tensor]:
        p = self.held_out.probability
        return {"lowest minimum": p[0], "mean of 5": p[:5].mean(0), "mean of all": p.mean(0)}

    @functools.cached_property
    def plane(self):
        return learning.principal_plane(self.x, origin=self.x[0])

    @functools.cached_property
    def descent(self) -> torch.Tensor:
        """Gradient descent from a random start towards a minimum."""
        x = self.potential.sample(1, seed=3)
        points = [x]
        for _ in range(60):
            _, grad = self.potential.energy_and_grad(x)
            x = x - 0.5 * grad
            points.append(x)
        return torch.cat(points)


class Valleys:
    """Nine Lennard-Jones atoms."""

    @functools.cached_property
    def network(self) -> tsc.Network:
        potential = LennardJones(9)
        strategies = [
            tsc.BasinHopping(walkers=40, hops=2, temperature=1.0),
            tsc.ConnectMinima(neighbours=4, attempts=1, max_rounds=2),
        ]
        with tsc.Landscape.in_memory(potential) as landscape:
            tsc.explore(landscape, potential, strategies=strategies, seed=0, progress=False)
            return landscape.network(coords=False)


def funnels(n: int) -> tsc.Network:
    """Points of a rough surface of two funnels, each joined to its neighbours: as many minima as one wants."""
    from scipy.spatial import cKDTree

    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (n, 3))
    left, right = (
        ((x + np.array([0.5, 0, 0])) ** 2).sum(1) * 5 + 0.3,
        ((x - np.array([0.5, 0, 0])) ** 2).sum(1) * 4,
    )
    energy = np.minimum(left, right) + random.normal(0, 0.25, n)
    near = cKDTree(x).query(x, 5)[1][:, 1:]
    i, j = np.repeat(np.arange(n), 4), near.ravel()
    saddle = np.maximum(energy[i], energy[j]) + random.exponential(0.5, len(i))
    order = np.argsort(energy)
    rank = np.argsort(order)
    return tsc.Network.of(energy[order], torch.as_tensor(np.stack([rank[i], rank[j]])), saddle)


@functools.cache
def cusps():
    def cusp(b: float) -> tsc.FunctionPotential:
        return tsc.FunctionPotential(
            lambda x: (x[0] ** 2 - 1) ** 2 + b * x[0] + 0.6 * (x[1] ** 2 - 1) ** 2 + 0.2 * x[0] * x[1],
            2,
            name=f"b = {b}",
        )

    return tsc.explore_family(
        cusp, [0.0, 0.4, 0.8, 1.2, 1.6], progress=False,
        strategies=[tsc.BasinHopping(walkers=16, hops=1), tsc.ConnectMinima()],
    )  # fmt: skip


@functools.cache
def walk() -> torch.Tensor:
    """Positions of chains on the Mueller-Brown surface [K B 2]."""
    u = MuellerBrown()
    starts = torch.tensor([[-0.558, 1.442], [0.623, 0.028]]).double().repeat(8, 1)
    found = sampling.sample(
        u, starts, sampler=sampling.BAOAB(step_size=0.01), steps=3000, burn_in=500, thin=10, temperature=40.0
    )
    assert found.x is not None
    return found.x


@functools.cache
def slow():
    return sampling.diffusion_map(walk().flatten(0, 1)[::3], n_functions=6)


@functools.cache
def volumes():
    u = tsc.FunctionPotential(
        lambda x: (x[0] ** 2 - 1) ** 2 + 0.2 * x[0] + 2 * x[1] ** 2, 2, bounds=[(-2.0, 2.0), (-1.0, 1.0)]
    )
    minima = tsc.relax(u, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).double()).x
    return basin_volumes(u, minima, n_force_constants=8, n_ladders=2, steps=80, burn_in=20, n_draws=200)


def mixtures() -> tuple[torch.Tensor, dict[str, metrics.NormalMixture], torch.Tensor]:
    x = torch.linspace(0, 1, 80, dtype=torch.float64)
    means = torch.stack([(6 * x).sin(), (6 * x).sin() + 0.3 * (x - 0.5)])
    given = {
        "single": metrics.NormalMixture.of(means[:1], 0.02 + 0 * means[:1]),
        "mixture": metrics.NormalMixture.of(means, 0.03 + 0.05 * x.expand(2, -1)),
    }
    noise = torch.as_tensor(np.random.default_rng(0).normal(0, 0.2, 80))
    return x, given, means[1] + noise


def lines_to_minima(d: Digits):
    starts = d.potential.sample(30, seed=1)
    ends = tsc.relax(d.potential, starts)
    return learning.interpolate(d.potential, starts[ends.converged], ends.x[ends.converged])


def flatness_and_loss(d: Digits):
    found = learning.flatness(d.potential, d.x, radius=0.3)
    return metrics.rank_correlation(found.measures(), d.held_out.loss, n_permutations=199)


def noisy(d: Digits) -> Picture:
    found = learning.robustness(d.potential, d.x[:8], d.inputs, d.labels, sizes=[0.03, 0.1, 0.3, 1.0], n_draws=8)
    return plots.robustness(
        found.sizes, found.accuracy, found.accuracy_error, colour=d.network.energy[:8], label="energy"
    )


def parameters(d: Digits):
    far = {
        "as found": learning.parameter_distances(d.x),
        "symmetry removed": learning.parameter_distances(d.x, d.potential.symmetry),
    }
    return metrics.compare_distances(d.distances.value, far, n_permutations=99)


def ends_of(network: tsc.Network) -> tuple[int, int]:
    members = (network.components() == network.components()[0]).nonzero()[:, 0].tolist()
    return members[0], members[-1]


def pictures() -> dict[str, Callable[[], Picture]]:
    """A call for each picture; its name begins with that of its plot."""
    d, v = Digits(), Valleys()
    surface = functools.cache(lambda: learning.plane_surface(d.potential, d.plane, (-3, 3, -3, 3), n=31))
    projected = functools.cache(lambda: learning.project(d.potential, d.plane, d.descent))
    return {
        "barriers": lambda: plots.barriers(v.network, gaps=True),
        "branches": lambda: plots.branches(cusps(), parameter="b"),
        "calibration": lambda: plots.calibration(metrics.compare_calibration(d.averages, d.labels)),
        "correlations": lambda: plots.correlations(flatness_and_loss(d)),
        "coverage": lambda: plots.coverage(v.network),
        "degree_distribution": lambda: plots.degree_distribution(v.network),
        "degree_distribution, large": lambda: plots.degree_distribution(funnels(400)),
        "disconnectivity": lambda: plots.disconnectivity(v.network, labels=True),
        "disconnectivity, levels": lambda: plots.disconnectivity(v.network, step=0.5, style="slanted"),
        "disconnectivity, 600 minima": lambda: plots.disconnectivity(funnels(600), colour="funnel"),
        "disconnectivity, 5000 minima": lambda: plots.disconnectivity(funnels(5000), lowest=60, collapse=True),
        "disconnectivity, sets": lambda: plots.disconnectivity(
            v.network, highlight={"lowest ten": range(10)}, scale_bar=True, width="column", labels=[0, 1]
        ),
        "disconnectivity_series": lambda: plots.disconnectivity_series(cusps(), parameter="b"),
        "distance_densities": lambda: plots.distance_densities(parameters(d)),
        "embedding": lambda: plots.embedding(
            slow().coordinates(), MuellerBrown().energy(walk().flatten(0, 1)[::3])
        ),
        "ensembles": lambda: plots.ensembles(metrics.compare_ensembles(d.averages, d.labels)),
        "entropy": lambda: plots.entropy(v.network),
        "free_energy_curve": lambda: (lambda f: plots.free_energy_curve(f.grid, f.value, f.error, name="x"))(
            sampling.free_energy_profile(walk()[..., 0], 40.0, bins=30, n_replicates=50)
        ),
        "frustration": lambda: plots.frustration(v.network),
        "heat_capacity": lambda: plots.heat_capacity(v.network, lowest=[3, 10]),
        "heat_capacity, whole": lambda: plots.heat_capacity(v.network, excess=False),
        "heat_capacity_trees": lambda: plots.heat_capacity_trees(v.network),
        "in_plane_losses": lambda: plots.in_plane_losses(projected()),
        "loss_lines": lambda: plots.loss_lines(lines_to_minima(d)),
        "misclassification": lambda: plots.misclassification(d.distances),
        "network": lambda: plots.network(v.network, labels=v.network.n_minima <= 150),
        "network, digits": lambda: plots.network(d.network, size="equal"),
        "network, 1000 minima": lambda: plots.network(funnels(1000), colour="community"),
        "occupation": lambda: plots.occupation(v.network),
        "plane": lambda: plots.plane(surface(), projected()),
        "plane_3d": lambda: plots.plane_3d(surface(), projected()),
        "predictive_bands": lambda: plots.predictive_bands(*mixtures()[:2], data=mixtures()[::2]),
        "profile": lambda: plots.profile(v.network, *ends_of(v.network)),
        "regression_scores": lambda: plots.regression_scores(metrics.compare_regression(*mixtures()[1:])),
        "reliability": lambda: plots.reliability(metrics.calibration(d.averages["mean of all"], d.labels)),
        "restraint_integrand": lambda: plots.restraint_integrand(
            volumes().force_constant, volumes().mean_square, volumes().mean_square_error, ndim=2
        ),
        "robustness": lambda: noisy(d),
        "roc": lambda: plots.roc(metrics.roc_report(d.held_out.probability, d.labels)),
        "spectrum": lambda: plots.spectrum(slow().eigenvalues),
        "volume_distribution": lambda: plots.volume_distribution(
            torch.as_tensor(np.random.default_rng(0).normal(0, 1, 400))
        ),
        "zooms": lambda: plots.zooms(
            learning.zoom_series(d.potential, d.plane, [4.0, 1.0, 0.25], n=21), projected()
        ),
    }


# --- the page ---------------------------------------------------------------------------------------------


def page(files: list[Path], output: Path) -> None:
    """All pictures in columns, each as wide as its column."""
    images = [plt.imread(path)[..., :3] for path in files]
    columns: list[list[int]] = [[] for _ in range(_COLUMNS)]
    heights = [0.0] * _COLUMNS
    for k, image in enumerate(images):
        shortest = heights.index(min(heights))
        columns[shortest].append(k)
        heights[shortest] += image.shape[0] / image.shape[1] + 0.06
    width = 4.0
    figure = plt.figure(figsize=(_COLUMNS * width, max(heights) * width))
    for number, column in enumerate(columns):
        y = max(heights)
        for k in column:
            ratio = images[k].shape[0] / images[k].shape[1]
            y -= ratio + 0.06
            box = (number / _COLUMNS, y / max(heights), 0.98 / _COLUMNS, ratio / max(heights))
            axes = figure.add_axes(box)
            axes.imshow(images[k], aspect="auto")
            axes.set_title(files[k].stem, fontsize=9, loc="left")
            axes.axis("off")
    figure.savefig(output, dpi=_DPI)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("contact_sheet"), help="folder for the pictures")
    parser.add_argument("--only", default="", help="pictures whose name contains this")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    calls = pictures()
    missing = {plot.name for plot in PLOTS} - {name.split(",")[0] for name in calls}
    if missing:
        raise SystemExit(f"no picture of {', '.join(sorted(missing))}: add one to scripts/contact_sheet.py")
    files, began = [], time.monotonic()
    for name, call in calls.items():
        if options.only not in name:
            continue
        start = time.monotonic()
        picture = call()
        files.append(options.out / f"{name.replace(', ', '_').replace(' ', '_')}.png")
        picture.figure.savefig(files[-1], dpi=_DPI, bbox_inches="tight")
        plt.close("all")
        print(f"{time.monotonic() - start:6.1f} s  {name}: {picture!r}", flush=True)
    if len(files) > 1:
        page(files, options.out / "sheet.png")
    print(f"{time.monotonic() - began:.0f} s in all; look at {options.out}/")


if __name__ == "__main__":
    main()
