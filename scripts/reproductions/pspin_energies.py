"""Spherical 3-spin: the energies of minima concentrate below a threshold as the system grows."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import numpy as np

import torchscape as tsc
from reproductions.experiment import Experiment, Run
from reproductions.judge import Verdict
from reproductions.page import Page
from reproductions.pspin_trees import tell_trees
from torchscape.problems.complexity import threshold_energy
from torchscape.progress import progress_bar

__all__ = ["EXPERIMENT"]

# Gradient descent, one realisation each, independently: mean and standard deviation over descents.
_INDEPENDENT = {10: (-1.206, 0.061), 25: (-1.468, 0.106), 50: (-1.497, 0.038), 100: (-1.556, 0.024)}


@dataclasses.dataclass(frozen=True)
class _Size:
    """Energies per spin where quenches end, for some realisations of the couplings.

    Attributes:
        n: spins.
        energies: one array for each realisation, an entry for each quench that converged.
        failed: quenches that did not.
    """

    n: int
    energies: list[np.ndarray]
    failed: int

    @property
    def means(self) -> np.ndarray:
        """Mean over quenches, of each realisation."""
        return np.array([one.mean() for one in self.energies])

    @property
    def spread(self) -> float:
        """Standard deviation over quenches, the mean of all realisations."""
        return float(np.mean([one.std() for one in self.energies]))


def _carry_out(run: Run, page: Page) -> None:
    sizes, realisations, quenches = run.pick(([10, 25], 3, 50), ([10, 25, 50, 100], 10, 200))
    found = []
    with progress_bar(show=run.progress, total=len(sizes) * realisations, desc="couplings", unit="") as bar:
        for n in sizes:
            energies, failed = [], 0
            for seed in range(realisations):
                u = tsc.problems.get("p-spin", n=n, seed=seed, device=run.device).potential
                ends = tsc.relax(u, u.sample(quenches, seed=seed))
                energies.append((ends.energy[ends.converged] / n).cpu().numpy())
                failed += int((~ends.converged).sum())
                bar.update()
            found.append(_Size(n, energies, failed))
    page.what = (
        "Minima of H/N for random couplings, by quenches from random points of the sphere. For N to infinity "
        f"they lie between -E_0 = {threshold_energy(3, 0):.4f} and -E_inf = {threshold_energy(3):.4f}."
    )
    _tell(page, found)
    page.settings += [
        f"{realisations} realisations of the couplings (seeds 0 to {realisations - 1}) for each N, {quenches} "
        "L-BFGS or BFGS quenches each to an RMS gradient of 1e-8; means are over quenches, so that wide basins "
        "count more",
        f"quenches that did not converge: {', '.join(f'{size.failed} for N = {size.n}' for size in found)}",
    ]
    page.picture(
        _distributions(found), "energies", "Energies per spin where quenches end; the band is -E_0 to -E_inf."
    )
    tell_trees(run, page)


def _tell(page: Page, found: list[_Size]) -> None:
    consistent = []
    for size in found:
        mean, sd = float(size.means.mean()), float(size.means.std(ddof=1))
        theirs, their_sd = _INDEPENDENT[size.n]
        # One realisation of theirs, some of ours: how far apart two realisations can be expected to lie.
        off = abs(theirs - mean) / (sd * np.sqrt(1 + 1 / len(size.means)))
        consistent.append(off <= 2.5)
        page.compare(
            f"N = {size.n}: mean H/N of minima, one realisation (seed 0)",
            f"{size.means[0]:.3f} ± {size.energies[0].std():.3f}",
            independent=f"{theirs:.3f} ± {their_sd:.3f}",
            remark="other couplings: see the next line",
        )
        page.compare(
            f"N = {size.n}: mean over {len(size.means)} realisations (± between them; within one)",
            f"{mean:.3f} ± {sd:.3f}; {size.spread:.3f}",
            Verdict.SPREAD if off <= 2.5 else Verdict.DIFFERENT,
            independent=f"{theirs:.3f}",
            remark=f"{off:.1f} standard deviations between realisations apart",
        )
    means, spreads = [size.means.mean() for size in found], [size.spread for size in found]
    edge = threshold_energy(3)
    falling = bool((np.diff(means) < 0).all())
    narrowing = spreads[-1] < spreads[0]
    page.compare(
        "energies of minima fall towards -E_inf and their spread narrows as N grows",
        f"distance to -E_inf {', '.join(f'{m - edge:.3f}' for m in means)}; spread "
        f"{', '.join(f'{s:.3f}' for s in spreads)}",
        Verdict.KIND if falling and narrowing else Verdict.DIFFERENT,
        published="minima concentrate in -1.657 to -1.633 as N grows",
    )
    low, high = threshold_energy(3, 0), edge
    shares = [float(np.mean([((e >= low) & (e <= high)).mean() for e in size.energies])) for size in found]
    page.compare(
        f"share of quenches that end in the band, N = {', '.join(str(size.n) for size in found)}",
        ", ".join(f"{share:.0%}" for share in shares),
        Verdict.KIND if shares[-1] > 0.5 else Verdict.SHORT,
        published="most, for large N",
        remark="" if shares[-1] > 0.5 else "the band is the limit; at these N most minima lie above it",
    )
    page.say(
        f"Means {'fall' if falling else 'do not fall'} steadily towards -E_inf with N and the spread over "
        f"quenches {'narrows' if narrowing else 'does not narrow'}. {sum(consistent)} of {len(consistent)} "
        "independent means for one realisation lie where realisations of ours scatter. Even at the largest N "
        f"here the mean lies {means[-1] - edge:.3f} above -E_inf: the concentration is seen as a trend, not as a "
        "limit reached."
    )


def _distributions(found: list[_Size]) -> plt.Figure:
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    ax.axvspan(threshold_energy(3, 0), threshold_energy(3), color="0.85", lw=0)
    for k, size in enumerate(found):
        colour = plt.get_cmap("viridis")(0.9 * k / max(1, len(found) - 1))
        ax.hist(
            np.concatenate(size.energies), 50, density=True, histtype="step", lw=1.6, color=colour,
            label=f"N = {size.n}",
        )  # fmt: skip
        ax.axvline(_INDEPENDENT[size.n][0], color=colour, ls=":", lw=1)
    ax.set_xlabel("energy per spin H/N of minima (dotted: independent mean, one realisation)")
    ax.set_ylabel("density over quenches")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


EXPERIMENT = Experiment(
    "pspin-energies", "Spherical 3-spin: energies of minima concentrate", "P, section VII", _carry_out
)
