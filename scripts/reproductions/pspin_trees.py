"""Spherical 3-spin: are the trees of larger systems more frustrated, and narrower?"""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import stats

import torchscape as tsc
from reproductions.experiment import Run
from reproductions.judge import Verdict
from reproductions.networks import told
from reproductions.page import Page
from torchscape import analysis, plots

__all__ = ["tell_trees"]

_TEMPERATURES = np.geomspace(0.1, 10.0, 41)  # of H, whose coupling has the glass transition near 0.9


@dataclasses.dataclass(frozen=True)
class _Tree:
    """One realisation of the couplings.

    Attributes:
        n: spins.
        network: its minima and transition states.
        index: normalised frustration at each temperature.
    """

    n: int
    network: tsc.Network
    index: np.ndarray

    @property
    def width(self) -> float:
        """Standard deviation of the energies per spin of the minima."""
        return float(self.network.energy.std() / self.n)

    @property
    def ratio(self) -> float:
        """Highest barrier to the global minimum over energy above it, the median over minima."""
        ratio = analysis.frustration(self.network, 1.0).ratio
        return float(ratio[ratio.isfinite()].median())


def tell_trees(run: Run, page: Page) -> None:
    """Explore some realisations of each size, and add what their trees say to the page."""
    sizes, realisations = run.pick(((8, 16), 2), ((10, 20, 30, 40, 50), 6))
    strategies = [
        tsc.BasinHopping(walkers=run.pick(32, 256), hops=2, temperature=3.0, step=1.0),
        tsc.ConnectMinima(neighbours=6),
    ]
    trees, apart, n_open, coverage = [], 0, 0, []
    for n in sizes:
        for seed in range(realisations):
            potential = tsc.problems.get("p-spin", n=n, seed=seed, device=run.device).potential
            with run.explored(f"pspin_tree_n{n}_s{seed}", potential, strategies) as (landscape, report):
                network = landscape.network(coords=False)
            n_open += not report.is_complete
            coverage.append(analysis.coverage(network).minima.coverage)
            if network.n_minima < 2 or int(network.components().max()) > 0:
                apart += 1
                continue
            index = analysis.frustration(network, torch.as_tensor(_TEMPERATURES)).normalised
            trees.append(_Tree(n, network, index.numpy()))
    page.settings += [
        f"trees: {realisations} realisations (seeds 0 to {realisations - 1}) for N = "
        f"{', '.join(map(str, sizes))}; {', '.join(told(strategy) for strategy in strategies)}",
        f"minima: at least {min(coverage):.0%} of searches end in one hit before",
        f"trees left out, of one minimum or not connected: {apart}; explorations cut short: {n_open}",
    ]
    _compare(page, trees)
    page.picture(
        _figure(trees),
        "trees",
        "Normalised frustration index F~(T), median and quartiles over realisations (left); a tree of the "
        "smallest and one of the largest systems, energies H (right).",
    )


def _compare(page: Page, trees: list[_Tree]) -> None:
    sizes = sorted({tree.n for tree in trees})
    n = np.array([tree.n for tree in trees])
    half = int(np.abs(_TEMPERATURES - 1.0).argmin())
    told_of = {}
    for what, values, grows in (
        ("minima", [tree.network.n_minima for tree in trees], True),
        ("frustration index F~ at T = 1", [tree.index[half] for tree in trees], True),
        ("highest barrier to the lowest minimum over energy above it, median", [t.ratio for t in trees], True),
        ("width of a tree: standard deviation of H/N of its minima", [tree.width for tree in trees], False),
    ):
        column = np.array(values, dtype=float)
        quartiles = {k: np.quantile(column[n == k], [0.25, 0.5, 0.75]) for k in sizes}
        shown = "; ".join(f"{k}: {mid:.3g} ({low:.3g} to {high:.3g})" for k, (low, mid, high) in quartiles.items())
        rank = stats.spearmanr(n, column)
        right = (rank.statistic > 0) == grows
        seen = Verdict.SHORT if rank.pvalue >= 0.05 else Verdict.KIND if right else Verdict.DIFFERENT
        told_of[what] = seen
        page.compare(
            f"{what}, by N: median (quartiles) of realisations",
            shown,
            Verdict.BESIDE if what == "minima" else seen,
            published=""
            if what == "minima"
            else f"{'grows' if grows else 'falls'} with N (in words, N = 50 to 100)",
            remark=f"rank correlation with N {rank.statistic:+.2f}, p = {rank.pvalue:.1g}",
        )
    narrower = told_of["width of a tree: standard deviation of H/N of its minima"] is Verdict.KIND
    frustrated = told_of["frustration index F~ at T = 1"] is Verdict.KIND
    page.say(
        f"Trees from N = {sizes[0]} to {sizes[-1]} become {'' if narrower else 'no '}narrower in energy per spin, "
        f"and {'' if frustrated else 'no '}more frustrated by the index F~, which differs more between "
        "realisations than between sizes."
    )


def _figure(trees: list[_Tree]) -> plt.Figure:
    sizes = sorted({tree.n for tree in trees})
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained", width_ratios=(1.5, 1, 1))
    for k, n in enumerate(sizes):
        curves = np.array([tree.index for tree in trees if tree.n == n])
        low, middle, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
        colour = plt.get_cmap("viridis")(0.9 * k / max(1, len(sizes) - 1))
        axes[0].plot(_TEMPERATURES, middle, color=colour, lw=1.6, label=f"N = {n}")
        axes[0].fill_between(_TEMPERATURES, low, high, color=colour, alpha=0.2, lw=0)
    axes[0].set_xscale("log")
    axes[0].set_xlabel("temperature T")
    axes[0].set_ylabel("normalised frustration F~(T)")
    axes[0].legend(frameon=False, fontsize=8)
    axes[0].spines[["top", "right"]].set_visible(False)
    for ax, n in zip(axes[1:], (sizes[0], sizes[-1]), strict=True):
        tree = next(tree for tree in trees if tree.n == n)
        plots.disconnectivity(tree.network, ax=ax)
        ax.set_xlabel(f"N = {n}: {tree.network.n_minima} minima", fontsize=9)  # above stands what is not drawn
    return figure
