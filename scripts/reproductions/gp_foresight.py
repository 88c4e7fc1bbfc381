"""Does the landscape of a Gaussian process tell beforehand whether HMC over its hyperparameters is worth it?"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axis import Axis
from scipy import stats

from reproductions.experiment import Experiment, Run
from reproductions.gp_cases import Case, Design, solved
from reproductions.judge import Verdict
from reproductions.networks import UNFINISHED
from reproductions.page import Page
from torchscape.metrics import RankCorrelation, rank_correlation
from torchscape.progress import progress_bar

__all__ = ["EXPERIMENT"]

_PREDICTORS = {  # in the order of what they cost
    "minima, evidence": "mixture over minima",
    "harmonic basins": "harmonic basins",
    "basins, reweighted": "reweighted basins",
    "HMC": "HMC",
}
_MEASURES = {
    "minima": "the number of minima",
    "relevant minima": "the number of minima of 1 % of the evidence or more",
    "entropy": "the entropy of their weights",
    "spread": "the spread of their predictions",
    "foreseen by minima": "the gain foreseen by the mixture over minima",
    "foreseen by basins": "the gain foreseen by harmonic basins",
    "foreseen by reweighted": "the gain foreseen by reweighted basins",
}
_SIZES = [(1, 6), (1, 9), (1, 14), (1, 22), (2, 10), (2, 16), (2, 25), (2, 40)]  # dimensions, values
_AGAIN = _SIZES[:4]
_COUNTED = ("minima", "relevant minima", "entropy", "spread")
_COLOURS = ("#d98a1f", "#8a56ac", "#2f8f4e", "#1f4e79")
_LEVEL = 0.05
_LINEAR = 0.1  # nats, up to which the axes are linear


def _carry_out(run: Run, page: Page) -> None:
    r_hat, ess = run.pick((1.05, 100.0), (1.01, 400.0))
    designs, cases = _designs(run), []
    until = float("inf") if run.max_time is None else time.monotonic() + run.max_time
    with progress_bar(show=run.progress, total=len(designs), desc="training sets", unit="") as bar:
        for design in designs:
            case = solved(run, design, r_hat=r_hat, ess=ess, may_start=time.monotonic() < until)
            cases += [] if case is None else [case]
            bar.update()
    page.what = (
        "A Gaussian process (Matern 5/2, a length scale for each input, signal, noise) is fitted to a few noisy "
        "values of Schwefel's function and predicts others: from the lowest minimum of the negative log marginal "
        "likelihood, from mixtures over its minima, and from long HMC over the hyperparameters, whose prior is "
        "uniform in the box. What HMC gains over the lowest minimum (log density per held-out value, in nats) is "
        "held against what the landscape had foreseen without a held-out value: how many minima there are, how "
        "their evidence is spread, and by how much a mixture over the minima, over their harmonic basins, or "
        "over these reweighted to the true posterior, expects itself to do better (the Kullback-Leibler "
        "divergence of the lowest minimum's prediction from its own). The paper asks the question and leaves it "
        "open."
    )
    page.settings += [
        f"{len(designs)} training sets: inputs in one dimension, n = "
        f"{_listed(d.n for d in designs if d.ndim == 1)}, and in two, n = "
        f"{_listed(d.n for d in designs if d.ndim == 2)}; noise {_listed(d.noise for d in designs)} standard "
        f"deviations of the values; all combinations, chosen before any was fitted, and those of one "
        f"dimension once more afterwards; seeds 1 to {len(designs)}",
        f"{run.pick(200, 500)} held-out values each, with noise; minima by quenches from 64 random starts, those "
        "on walls of the box included",
        f"HMC: {run.pick(4, 8)} chains from random points of the box, exchanging with copies at temperatures 3 "
        f"and 12, prolonged until R-hat is below {r_hat} and the effective sample size above {ess:.0f}, of the "
        "energy and every "
        "coordinate; at most 1024 draws predict",
    ]
    if len(cases) < len(designs):
        page.settings.append(f"{len(cases)} of {len(designs)} training sets: {UNFINISHED}; call it again")
    if len(cases) < 3:
        page.say("Too few training sets for an answer.")
        return
    _tell_chains(page, cases)
    _tell_predictors(page, cases)
    _tell_foresight(page, cases)
    page.picture(
        _foresight_figure(cases),
        "foresight",
        "What HMC gained (with standard errors over held-out values) against what was foreseen, one point for "
        "each training set. Dotted: equality.",
    )
    page.picture(
        _gains_figure(cases),
        "gains",
        "Log density of each predictor above that of the lowest minimum, training sets in the order of what HMC "
        "gained; below, how many minima there are.",
    )


def _designs(run: Run) -> list[Design]:
    """All combinations, those of one dimension twice, each with a seed of its own."""
    sizes = run.pick([(1, 6), (2, 10)], [*_SIZES, *_AGAIN])
    combinations = itertools.product(sizes, run.pick((0.1, 0.3), (0.03, 0.1, 0.3)))
    return [Design(ndim, n, noise, seed) for seed, ((ndim, n), noise) in enumerate(combinations, start=1)]


# --- the table ------------------------------------------------------------------------------------------


def _tell_chains(page: Page, cases: list[Case]) -> None:
    page.compare(
        "training sets; with several minima; with several of 1 % of the evidence or more",
        f"{len(cases)}; {sum(c.n_minima > 1 for c in cases)}; {sum(c.n_relevant > 1 for c in cases)}",
    )
    worst, least = max(case.r_hat for case in cases), min(case.ess for case in cases)
    page.compare(
        "chains: largest R-hat, smallest effective sample size",
        f"{worst:.4f}, {least:.0f}",
        Verdict.SAME if worst <= 1.01 and least >= 400 else Verdict.SHORT,
        independent="below 1.01, above 400 (asked)",
    )
    exact = [case.exact for case in cases if case.exact is not None]
    off, mean_off = max(one.gain_off for one in exact), max(one.mean_off for one in exact)
    page.compare(
        f"log density of HMC beside quadrature over the hyperparameters, {len(exact)} training sets of one "
        "dimension",
        f"at most {off:.1f} standard errors apart",
        Verdict.SAME if off <= 4 else Verdict.DIFFERENT,
        independent="within 4",
        remark=f"two grids differ by {max(one.between_grids for one in exact):.0e} nats at most",
    )
    page.compare(
        "mean hyperparameters of HMC beside quadrature, the worst of them",
        f"{mean_off:.1f} standard errors apart",
        Verdict.SAME if mean_off <= 4 else Verdict.DIFFERENT,
        independent="within 4",
    )


def _tell_predictors(page: Page, cases: list[Case]) -> None:
    for name, shown in _PREDICTORS.items():
        gain, error = np.array([(case.gain[name], case.gain_error[name]) for case in cases]).T
        low, middle, high = np.quantile(gain, [0.25, 0.5, 0.75])
        page.compare(
            f"{shown}: gain over the lowest minimum in log density, median (quartiles)",
            f"{middle:+.3f} ({low:+.3f} to {high:+.3f}); better beyond two standard errors in "
            f"{(gain > 2 * error).sum()}, worse in {(gain < -2 * error).sum()}; RMSE lower by "
            f"{np.median([case.rmse_gain[name] for case in cases]):+.4f}",
        )
    off = np.array([case.gain["basins, reweighted"] - case.gain["HMC"] for case in cases])
    cost = [np.median([getattr(case, name) for case in cases]) for name in ("n_energies", "n_gradients")]
    page.compare(
        "reweighted basins less HMC in log density: median, farthest",
        f"{np.median(off):+.3f}, {off[np.abs(off).argmax()]:+.3f}",
        remark=f"{cost[0]:.0f} energies beside {cost[1]:.0f} gradients, medians",
    )
    page.say(
        "Without a chain, the basins reweighted to the true posterior come within "
        f"{np.median(np.abs(off)):.3f} nats of HMC (median), for {cost[0]:.0f} energies in place of {cost[1]:.0f} "
        "gradients."
    )
    several = [case for case in cases if case.n_minima > 1]
    wins = sum(case.gain["minima, evidence"] > 0 for case in several)
    tossed = float(stats.binomtest(wins, len(several)).pvalue)
    page.compare(
        "mixture over minima beats the lowest minimum, of the training sets with several minima",
        f"{wins} of {len(several)}",
        _significant(tossed, 2 * wins > len(several)),
        published="ensembles beat the best single minimum",
        remark=f"sign test p = {tossed:.3f}",
    )
    found = rank_correlation(
        torch.tensor([[float(case.n_minima) for case in cases]]).double(),
        torch.tensor([case.gain["minima, evidence"] for case in cases]).double(),
    )
    page.compare(
        "number of minima and gain of the mixture over them: rank correlation",
        _correlation(found, 0),
        _significant(float(found.p_value[0]), float(found.value[0]) > 0),
        published="more so with more minima",
    )


def _tell_foresight(page: Page, cases: list[Case]) -> None:
    measures = torch.tensor([[case.measures[name] for case in cases] for name in _MEASURES]).double()
    gain, error = torch.tensor([(case.gain["HMC"], case.gain_error["HMC"]) for case in cases]).double().T
    found = rank_correlation(measures, gain)
    for k, shown in enumerate(_MEASURES.values()):
        page.compare(f"gain of HMC and {shown}: rank correlation", _correlation(found, k))
    several = torch.tensor([case.n_relevant > 1 for case in cases])
    if int(several.sum()) >= 3:
        among = rank_correlation(measures[:, several], gain[several])
        page.compare(
            f"the same among the {int(several.sum())} training sets with several minima that matter",
            "; ".join(
                f"{r:+.2f} ({name})"
                for name, r in zip(_MEASURES, among.value.tolist(), strict=True)
                if math.isfinite(r)
            ),
        )
    paid, lost = gain > 2 * error, gain < -2 * error
    decided: dict[str, float] = {}
    for whom, others in (("does not pay", ~paid), ("costs as much", lost)):
        if not (bool(paid.any()) and bool(others.any())):
            continue
        decided = {name: _chance(row[paid], row[others]) for name, row in zip(_MEASURES, measures, strict=True)}
        page.compare(
            "chance that of two training sets, one where HMC pays beyond two standard errors and one where it "
            f"{whom}, the first has the higher indicator",
            "; ".join(f"{value:.2f} ({name})" for name, value in decided.items()),
            remark="0.5 is a guess, 1 is always",
        )
    page.verdict.insert(0, _answer(found, paid, lost, decided if bool(lost.any()) else {}))


def _answer(found: RankCorrelation, paid: torch.Tensor, lost: torch.Tensor, decided: dict[str, float]) -> str:
    """The question of the paper, as these training sets answer it."""
    p_value = dict(zip(_MEASURES, found.p_value.tolist(), strict=True))
    value = dict(zip(_MEASURES, found.value.tolist(), strict=True))
    # Seven indicators are tried: each has to pass a seventh of the usual level.
    tells = [name for name in _MEASURES if value[name] > 0 and p_value[name] < _LEVEL / len(_MEASURES)]
    opening = (
        f"HMC gained more than two standard errors over the lowest minimum in {int(paid.sum())} of {len(paid)} "
        f"training sets, and lost as much in {int(lost.sum())}. Does the landscape tell beforehand?"
    )
    if not tells:
        return f"{opening} No: no indicator ranks the gains beyond what chance gives."
    counts = [_MEASURES[name] for name in _COUNTED if name in tells]
    ranked = "; ".join(
        f"{_MEASURES[name]}, rank correlation {_correlation(found, list(_MEASURES).index(name))}" for name in tells
    )
    none = "How many minima there are does not, nor how their evidence or their predictions spread."
    parts = [opening, *([] if counts else [none]), f"What does: {ranked}."]
    if decided:
        best = max(tells, key=lambda name: decided[name])
        parts.append(
            f"{_MEASURES[best].capitalize()} sets apart where HMC pays from where it costs in {decided[best]:.0%} "
            "of pairs."
        )
    return " ".join(parts)


def _significant(p_value: float, is_so: bool) -> Verdict:
    """On what a paper says in words; SHORT where the training sets are too few to tell."""
    if not p_value < _LEVEL:
        return Verdict.SHORT
    return Verdict.KIND if is_so else Verdict.DIFFERENT


def _chance(above: torch.Tensor, below: torch.Tensor) -> float:
    """That one of the first is greater than one of the second; ties count half."""
    return float(((above[:, None] - below).sign() + 1).mean() / 2)


def _correlation(found: RankCorrelation, k: int) -> str:
    return (
        f"{float(found.value[k]):+.2f} ({float(found.lower[k]):+.2f} to {float(found.upper[k]):+.2f}), "
        f"p = {float(found.p_value[k]):.4f}"
    )


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


# --- the pictures ---------------------------------------------------------------------------------------


def _foresight_figure(cases: list[Case]) -> plt.Figure:
    shown = {"minima": "mixture over minima", "basins": "harmonic basins", "reweighted": "reweighted basins"}
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), sharey=True, layout="constrained")
    gain, error = np.array([(case.gain["HMC"], case.gain_error["HMC"]) for case in cases]).T
    several = np.array([case.n_relevant > 1 for case in cases])
    for ax, (name, label) in zip(axes, shown.items(), strict=True):
        foreseen = np.array([case.measures[f"foreseen by {name}"] for case in cases])
        for mask, colour, kind in ((~several, _COLOURS[0], "one minimum"), (several, _COLOURS[3], "several")):
            ax.errorbar(foreseen[mask], gain[mask], error[mask], fmt="o", ms=4.5, lw=0.8, color=colour, label=kind)
        ax.set_xscale("symlog", linthresh=_LINEAR)
        ax.set_yscale("symlog", linthresh=_LINEAR)
        _powers_of_ten(ax.xaxis, foreseen)
        _powers_of_ten(ax.yaxis, gain)
        line = np.append(0.0, np.geomspace(1e-3, max(float(foreseen.max()), float(gain.max())), 200))
        ax.plot(line, line, ":", color="0.4", lw=1)
        ax.axhline(0, color="0.8", lw=0.8, zorder=0)
        ax.set_xlabel(f"foreseen by {label} / nats")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("gained by HMC / nats")
    axes[0].legend(frameon=False, fontsize=8, title="minima of 1 % of the\nevidence or more", title_fontsize=8)
    return figure


def _powers_of_ten(axis: Axis, values: np.ndarray) -> None:
    """Ticks at zero and at the powers of ten that the values reach."""
    powers = [_LINEAR * 10.0**k for k in range(8) if _LINEAR * 10.0 ** (k - 1) < np.abs(values).max()]
    ticks = [-p for p in reversed(powers) if p < 10 * -min(values.min(), -_LINEAR / 10)] + [0.0] + powers
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])


def _gains_figure(cases: list[Case]) -> plt.Figure:
    figure, (ax, below) = plt.subplots(
        2, 1, figsize=(10, 5.4), sharex=True, layout="constrained", height_ratios=(4, 1)
    )
    order = sorted(cases, key=lambda case: case.gain["HMC"])
    place = np.arange(len(order))
    for k, (name, label) in enumerate(_PREDICTORS.items()):
        value, error = np.array([(case.gain[name], case.gain_error[name]) for case in order]).T
        at = place + 0.18 * (k - 1.5)
        ax.errorbar(at, value, error, fmt="osD^"[k], ms=3.5, lw=0.8, color=_COLOURS[k], label=label)
    ax.set_yscale("symlog", linthresh=_LINEAR)
    _powers_of_ten(ax.yaxis, np.array([case.gain[name] for case in cases for name in _PREDICTORS]))
    ax.axhline(0, color="0.6", lw=0.8, zorder=0)
    ax.set_ylabel("log density above that of\nthe lowest minimum / nats")
    ax.legend(frameon=False, fontsize=8)
    below.bar(place, [case.n_minima for case in order], color="0.6")
    below.set_ylabel("minima")
    below.set_xlabel("training set: dimensions, number of values, noise")
    names = [f"{case.design.ndim}d, {case.design.n}, {case.design.noise:g}" for case in order]
    below.set_xticks(place, names, rotation=90, fontsize=7)
    for one in (ax, below):
        one.spines[["top", "right"]].set_visible(False)
    return figure


EXPERIMENT = Experiment(
    "gp-foresight",
    "Gaussian processes: does the landscape tell whether HMC is worth it?",
    "E, section 6",
    _carry_out,
)
