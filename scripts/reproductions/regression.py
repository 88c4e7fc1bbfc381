"""Nonlinear regression: the network of its minima, counted modulo the exact symmetries of the model."""

from __future__ import annotations

import torchscape as tsc
from reproductions.experiment import Experiment, Run, published_figures
from reproductions.judge import Verdict, inside
from reproductions.networks import coverage_line, graph_of, growth, status_line, told
from reproductions.page import Page
from torchscape import plots

__all__ = ["EXPERIMENT"]

# Ranges over six noise seeds, counted independently in NumPy and SciPy in the convention of this page.
_RANGES = {
    "minima": (90, 110),
    "minima of the largest component": (85, 105),
    "edges": (123, 151),
    "mean shortest path": (5.8, 7.6),
    "diameter": (16, 19),
}


def _carry_out(run: Run, page: Page) -> None:
    data = run.file("regression_grid.csv")
    problem = tsc.problems.get("regression", device=run.device, **({} if data is None else {"data": data}))
    strategies = [
        tsc.BasinHopping(walkers=run.pick(64, 512), hops=run.pick(2, 8), temperature=1.0, step=2.0),
        tsc.ConnectMinima(neighbours=run.pick(3, 12), max_rounds=run.pick(1, 20)),
        tsc.ClimbFromMinima(searches=run.pick(0, 20)),
    ]
    with run.explored("regression", problem.potential, strategies) as (landscape, report):
        isolated = (landscape.minima().n_zero == 0).nonzero()[:, 0]
        network = landscape.network(coords=False)
        n_saddles = landscape.n_transition_states
    kept = network.subset(isolated.cpu())
    page.what = (
        "y = exp(-q1 x) sin(q2 x + q3) sin(q4 x + q5) is fitted to 100 noisy points of a regular grid on [0, 3 "
        "pi]; the cost is the sum of squares. Minima are counted modulo the exact symmetries of the model "
        "(exchange of the sines, reflections, shifts of phases) and modulo the aliasing of frequencies on the "
        "grid. Where one frequency vanishes and the other one is 0 or half a period of aliasing, minima form "
        "curves, of which some points are among those counted. The paper gives neither its random numbers nor "
        "its way of counting."
    )
    _tell(page, network, kept, n_saddles)
    page.settings += [
        f"data: {'`regression_grid.csv`' if data else 'generated, noise seed 0 (x on the same grid)'}",
        *(told(strategy) for strategy in strategies),
        f"estimated coverage: {coverage_line(network)}",
        status_line(report),
    ]
    page.picture(
        plots.disconnectivity(network, colour="degree").figure,
        "tree",
        "Disconnectivity graph (P, Fig. 5), coloured by the number of neighbours.",
    )
    page.picture(
        plots.network(network, colour="energy").figure,
        "network",
        "The same minima as a network: discs are minima, lines transition states.",
    )
    page.picture(
        plots.coverage(network).figure, "coverage", "Points found against searches, rarefied and extrapolated."
    )


def _tell(page: Page, network: tsc.Network, isolated: tsc.Network, n_saddles: int) -> None:
    published = published_figures("regression")
    ours, alone = graph_of(network), graph_of(isolated)
    values = {
        "minima": ours.minima,
        "minima of the largest component": ours.component,
        "edges": ours.edges,
        "mean degree": ours.mean_degree,
        "mean shortest path": ours.path_length,
        "diameter": ours.diameter,
    }
    verdicts = []
    for name, value in values.items():
        known = _RANGES.get(name)
        verdict = Verdict.BESIDE if known is None else inside(value, *known)
        verdicts.append(verdict)
        page.compare(
            name,
            f"{value:.4g}",
            verdict,
            published=published.get(name, ""),
            independent="" if known is None else f"{known[0]:g} to {known[1]:g}",
            remark="follows from minima and edges" if name == "mean degree" else "",
        )
    page.compare(
        "the same without points of curves: minima / component / edges / mean shortest path / diameter",
        f"{alone.minima} / {alone.component} / {alone.edges} / {alone.path_length:.3f} / {alone.diameter}",
        remark="how the independent count treats curves is not known",
    )
    half, now = growth(network.all_ts_hits)
    growing = now > 1.02 * half
    page.compare(
        "transition states",
        n_saddles,
        Verdict.KIND if growing and n_saddles > 210 else Verdict.BESIDE,
        published=published["transition states"],
        independent="> 210, still growing",
        remark=f"half as many searches would have found {half:.0f} of the {now:.0f} that searches hit: "
        + ("still growing" if growing else "no longer growing"),
    )
    judged = [v for v in verdicts if v is not Verdict.BESIDE]
    page.say(
        f"{judged.count(Verdict.SPREAD)} of {len(judged)} numbers of the graph lie in the range that six other "
        "noise seeds give in an independent count with the same convention."
    )
    if not _RANGES["diameter"][0] <= ours.diameter <= _RANGES["diameter"][1]:
        common = graph_of(network.only_edges(network.ts_hits >= 6))
        page.say(
            f"The diameter, {ours.diameter}, does not; with only those transition states that six searches or "
            f"more have hit ({common.edges} edges) it is {common.diameter}, so that it does not hang on how long "
            "was searched."
        )
    page.say(
        f"Beside the paper's {published['minima']} minima, {published['edges']} edges and diameter of "
        f"{published['diameter']}, for other noise and an unpublished way of counting, stand our {ours.minima}, "
        f"{ours.edges} and {ours.diameter}."
    )
    page.say(
        "The number of transition states is a lower bound"
        + (", still growing with every search; the paper's 121 is where its searches stopped." if growing else ".")
    )


EXPERIMENT = Experiment(
    "regression", "Nonlinear regression: a network of about a hundred minima", "P, section IV", _carry_out
)
