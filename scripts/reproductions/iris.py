"""K-means on Fisher's iris data: the landscape for K = 2 to 6, and what it says of K."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import torch

import torchscape as tsc
from reproductions.experiment import Experiment, Run
from reproductions.judge import Verdict, agree
from reproductions.networks import graph_of, status_line, told
from reproductions.page import Page
from torchscape import analysis, plots
from torchscape.problems.kmeans import KMeans

__all__ = ["EXPERIMENT"]

_LOWEST = {2: 152.347952, 3: 78.851441, 4: 57.228473, 5: 46.446182, 6: 39.039987}
_SPECIES = 3


@dataclasses.dataclass(frozen=True)
class _Member:
    """The landscape for one K.

    Attributes:
        network: of the soft minima; their energies are soft costs.
        n_saddles: transition states, with those between images of one minimum.
        exact: costs of the distinct minima of the exact cost, ascending.
        near: share of the quenches from random centres that end within 1 % of the lowest cost.
        agreement: mean adjusted Rand index of the clusterings that quenches from random centres end in with that
            of the lowest minimum.
        frustration: F~ at a temperature of a tenth of the range of energies of minima; NaN for one minimum.
    """

    network: tsc.Network
    n_saddles: int
    exact: torch.Tensor
    near: float
    agreement: float
    frustration: float
    status: str


def _carry_out(run: Run, page: Page) -> None:
    members = {k: _explored(run, k) for k in _LOWEST}
    page.what = (
        "The K-means cost of K centres as a landscape. Minima are those of the exact cost, counted modulo "
        "exchange of the centres; transition states, which the exact cost has not (every pass lies on a kink), "
        "are those of the soft minimum with sharpness 500 (K. Rose, 1998)."
    )
    for k, member in members.items():
        lowest = float(member.exact[0])
        page.compare(
            f"K = {k}: lowest cost",
            f"{lowest:.6f}",
            agree(lowest, _LOWEST[k], 1e-5),
            independent=f"{_LOWEST[k]:.6f}",
        )
    for k, member in members.items():
        graph = graph_of(member.network)
        page.compare(
            f"K = {k}: distinct exact minima / soft minima / transition states / soft minima connected",
            f"{len(member.exact)} / {graph.minima} / {member.n_saddles} / {graph.component}",
        )
    _barriers(page, members)
    _choose(page, members)
    page.settings += [
        *(f"soft landscape: {told(strategy)}" for strategy in _strategies(run)),
        f"exact minima: {_n_starts(run)} quenches of the exact cost from random centres, and the soft minima "
        "quenched",
        *(f"K = {k}: {member.status}" for k, member in members.items()),
    ]
    page.picture(
        _trees(members), "trees", "Disconnectivity graphs for K = 2 to 6 (soft cost), each on its own energy axis."
    )
    page.picture(_measures(members), "measures", "What the landscapes say against K; the data have three species.")


def _strategies(run: Run) -> list:
    return [
        tsc.BasinHopping(walkers=run.pick(24, 64), hops=run.pick(2, 10), temperature=5.0, step=1.0),
        tsc.ConnectMinima(neighbours=run.pick(2, 8)),
    ]


def _n_starts(run: Run) -> int:
    return run.pick(100, 1000)


def _explored(run: Run, k: int) -> _Member:
    soft = tsc.problems.get("kmeans", k=k, device=run.device).potential
    exact = tsc.problems.get("kmeans", k=k, sharpness=None, tether=0, device=run.device).potential
    assert isinstance(soft, KMeans)
    assert isinstance(exact, KMeans)
    with run.explored(f"iris_k{k}", soft, _strategies(run)) as (landscape, report):
        network = landscape.network(coords=False)
        found, n_saddles = landscape.minima().x, landscape.n_transition_states
    cost, near, agreement = _exact_minima(exact, soft, found, _n_starts(run))
    return _Member(network, n_saddles, cost, near, agreement, _frustration(network), status_line(report))


def _frustration(network: tsc.Network) -> float:
    """F~ of the largest component at a tenth of the range of energies of its minima; NaN for one minimum."""
    joined = network.subset((network.components() == 0).nonzero()[:, 0])
    if joined.n_minima < 2:
        return float("nan")
    spread = float(joined.energy.max() - joined.energy.min())
    return float(analysis.frustration(joined, 0.1 * spread).normalised)


def _exact_minima(
    exact: KMeans, soft: KMeans, found: torch.Tensor, n_starts: int
) -> tuple[torch.Tensor, float, float]:
    """Distinct costs at the minima of the exact cost, and how many random quenches agree with the lowest."""
    ends = tsc.relax(exact, torch.cat([soft.sample(n_starts, seed=1), found.to(exact.device)]))
    used = _uses_all(exact, ends.x) & ends.converged
    cost = ends.energy[used]
    order = cost.argsort(stable=True)
    ascending = cost[order]
    new = torch.ones(len(ascending), dtype=torch.bool)
    new[1:] = ascending.diff() > 1e-7 * ascending[1:]
    label = exact.assignment(ends.x[used])
    from_starts = used.nonzero()[:, 0] < n_starts
    index = torch.stack([_rand_index(one, label[order[0]]) for one in label[from_starts]])
    near = float((cost[from_starts] <= 1.01 * ascending[0]).double().mean())
    return ascending[new], near, float(index.mean())


def _uses_all(exact: KMeans, x: torch.Tensor) -> torch.Tensor:
    """Whether every centre has points: the others are minima of fewer centres."""
    label = exact.assignment(x)
    return torch.stack([(label == j).any(1) for j in range(exact.k)]).all(0)


def _rand_index(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The adjusted Rand index (Hubert & Arabie, 1985) of two clusterings: 1 where equal, about 0 by chance."""
    n_a, n_b = int(a.max()) + 1, int(b.max()) + 1
    table = torch.bincount(a * n_b + b, minlength=n_a * n_b).reshape(n_a, n_b).double()

    def pairs(counts: torch.Tensor) -> torch.Tensor:
        return (counts * (counts - 1) / 2).sum()

    rows, columns, both = pairs(table.sum(1)), pairs(table.sum(0)), pairs(table)
    chance = rows * columns / pairs(table.sum()[None])
    return (both - chance) / ((rows + columns) / 2 - chance)


def _barriers(page: Page, members: dict[int, _Member]) -> None:
    """The published words on barriers: very small between almost all solutions."""
    all_lowest = all(abs(float(member.exact[0]) - _LOWEST[k]) <= 1e-5 for k, member in members.items())
    shares = {}
    for k, member in members.items():
        tree = analysis.merge_tree(member.network)
        depth = tree.persistence[tree.persistence.isfinite()]
        if len(depth):
            shares[k] = float(depth.median() / member.network.energy.min())
    if not shares:
        return
    worst = max(shares.values())
    small = worst < 0.05
    page.compare(
        "median barrier to a lower minimum over the lowest cost",
        ", ".join(f"K = {k}: {share:.2g}" for k, share in shares.items()),
        Verdict.KIND if small else Verdict.DIFFERENT,
        published="very small barriers between almost all solutions",
        remark="below 0.05 everywhere" if small else f"up to {worst:.2g}",
    )
    page.say(
        f"The lowest costs for K = 2 to 6 are {'all' if all_lowest else 'not all'} those found independently. "
        f"Median barriers are at most {worst:.2g} of the lowest cost, "
        + (
            "as Dicks & Wales (2022) describe these landscapes."
            if small
            else "more than the literature describes."
        )
    )


def _choose(page: Page, members: dict[int, _Member]) -> None:
    """EL4ML 5.4: landscape structure is to indicate K. No criterion is named; three measures are shown."""
    measures = {
        "share of random quenches that end within 1 % of the lowest cost": [m.near for m in members.values()],
        "agreement of random quenches with the lowest (adjusted Rand)": [m.agreement for m in members.values()],
        "frustration F~ at a tenth of the energy range": [m.frustration for m in members.values()],
    }
    for name, values in measures.items():
        page.compare(
            name, ", ".join(f"K = {k}: {_shown(value)}" for k, value in zip(members, values, strict=True))
        )
    counts = ", ".join(f"{len(member.exact)} for K = {k}" for k, member in members.items())
    certain = [k for k, member in members.items() if member.near > 0.5 and member.agreement > 0.9]
    page.compare(
        "K with one solution that most quenches find (share > 0.5, agreement > 0.9)",
        ", ".join(map(str, certain)) or "none",
        published="landscape structure indicates K",
        independent=f"{_SPECIES} species, two of which overlap",
        remark="gene data in the paper, which names no criterion; the thresholds are ours",
    )
    page.say(
        "The paper (5.4) says that landscape structure indicates K, for other data and without a criterion. "
        f"Here: {counts} distinct exact minima; most random quenches agree on one solution for K = "
        f"{', '.join(map(str, certain)) or 'none'}, and beyond that more and more solutions compete. The "
        f"structure {'allows' if _SPECIES in certain else 'does not favour'} the {_SPECIES} species of the data"
        + (
            " and cannot tell them from fewer clusters."
            if _SPECIES in certain and min(certain) < _SPECIES
            else "."
        )
    )


def _shown(value: float) -> str:
    return f"{value:.3g}" if value == value else "one minimum"


def _trees(members: dict[int, _Member]) -> plt.Figure:
    figure, axes = plt.subplots(1, len(members), figsize=(13, 4.2), layout="constrained")
    for ax, (k, member) in zip(axes, members.items(), strict=True):
        plots.disconnectivity(member.network, ax=ax)
        ax.set_xlabel(f"K = {k}: {member.network.n_minima} minima")  # above stands what is not drawn
        if k > min(members):
            ax.set_ylabel("")
    return figure


def _measures(members: dict[int, _Member]) -> plt.Figure:
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    ks = list(members)
    shown = {
        "exact minima": [len(member.exact) for member in members.values()],
        "agreement with the lowest (adjusted Rand)": [member.agreement for member in members.values()],
        "quenches within 1 % of the lowest cost": [member.near for member in members.values()],
    }
    for ax, (name, values) in zip(axes, shown.items(), strict=True):
        ax.plot(ks, values, "o-", color="#1f4e79")
        ax.set_xticks(ks)
        ax.set_xlabel("K")
        ax.set_title(name, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yscale("log")
    return figure


EXPERIMENT = Experiment(
    "iris", "K-means on Fisher's iris data, K = 2 to 6", "E, section 5.4; Dicks & Wales (2022)", _carry_out
)
