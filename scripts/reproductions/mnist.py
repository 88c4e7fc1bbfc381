"""MNIST with 784-10-10: a hundred connected minima, what they get wrong, and the network they form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

import torchscape as tsc
from reproductions.experiment import Experiment, Run, published_figures
from reproductions.judge import Verdict, reaches
from reproductions.networks import coverage_line, graph_of, status_line, told
from reproductions.page import Page
from torchscape import analysis, metrics, plots
from torchscape.explore import Strategy
from torchscape.explore.moves import PerLayer
from torchscape.saddles import Band, Follow, Krylov

__all__ = ["EXPERIMENT"]

_AT_LEAST = 142  # minima in one component, as published
_DEGREE = 6.0
_MOST = 250  # minima that are paired, the lowest
_PERMUTATIONS = 499
_BEFORE = (
    "What changed: until 21 November 2026 walkers moved every weight by half a length scale, which is a fresh "
    "start, and each minimum was paired with its two nearest; 148 of 359 minima hung together with 168 edges, at "
    "a mean degree of 2.27. Now walkers start from the lowest of a few minima and move weights by what the "
    "weights themselves measure, and everything that turns up is paired with its ten nearest."
)


def full_strategies() -> list[Strategy]:
    """One region rather than many: what lies around the lowest of a few minima, joined until it is a network.

    Between two minima far apart there are others that nobody has seen, and each of these hangs on two edges. So
    few minima are paired first, and then all that has turned up, each with its nearest ones.
    """
    hops = {"temperature": 3e-4, "step": 2.2, "move": PerLayer(floor=0.0), "round_hops": 3}
    refine = Follow(curvature=Krylov(max_dim=60), retry=False, max_evaluations=40)  # another pair is worth more
    band = Band(max_steps=40, memory=8)
    connecting = {"attempts": 1, "joined": False, "round_pairs": 48, "band": band, "refine": refine}
    return [
        tsc.BasinHopping(walkers=8, hops=0),
        tsc.BasinHopping(walkers=64, hops=3, from_lowest=1, **hops),
        tsc.ConnectMinima(neighbours=4, max_minima=60, max_rounds=0, **connecting),
        tsc.ConnectMinima(neighbours=10, max_minima=_MOST, max_rounds=2, grow=True, **connecting),
    ]


def _carry_out(run: Run, page: Page) -> None:
    """The quick run is on smaller images and fewer of them: scikit-learn's digits."""
    data = run.file("mnist_t10k.npz")
    full = not run.quick
    if full:
        problem = tsc.problems.get("mnist", data=data, device=run.device)
        problem.potential.precision = "mixed"
        strategies = full_strategies()
    else:
        problem = tsc.problems.get("digits", hidden=3, n_train=200, l2=1e-2, device=run.device)
        strategies = [
            tsc.BasinHopping(walkers=10, hops=0, temperature=0.02, step=0.5),
            tsc.ConnectMinima(neighbours=2, max_rounds=0),
        ]
    with run.explored("mnist", problem.potential, strategies) as (landscape, report):
        network = landscape.network(coords=False)
        x, n_saddles = landscape.minima().x, landscape.n_transition_states
        began = landscape.summary()["runs"]
    assert isinstance(problem.potential, tsc.ModulePotential)
    assert problem.test is not None
    n_known = len(x)
    if not n_known:
        network, x = _quenched(run, problem.potential)
    held = tsc.learning.held_out(problem.potential, x, *problem.test)
    page.what = (
        "A tanh network with one hidden layer learns handwritten digits: mean cross-entropy plus lambda times "
        "the sum of the squares of all parameters."
        + ("" if full else " This quick run uses 8 x 8 images and three hidden nodes in place of MNIST.")
    )
    home = (network.components() == 0).nonzero()[:, 0]
    _tell(page, network.n_minima, network.subset(home), n_saddles, held.wrong.cpu(), judged=full)
    _draw(page, problem, network.subset(home), home, x, held.wrong.cpu(), run)
    page.settings += [
        f"{problem.description}; {len(problem.test[1])} images held back",
        *(told(strategy) for strategy in strategies),
        status_line(report),
        f"the database was filled by {len(began)} run{'s' * (len(began) != 1)}{_otherwise(began, strategies)}"
        if n_known
        else f"the database holds no minimum yet: shown are {len(x)} plain quenches to an RMS gradient of 1e-6, "
        "not characterised and not connected",
        *([f"estimated coverage: {coverage_line(network)}"] if n_known else []),
    ]


def _otherwise(runs: Sequence[Mapping[str, Any]], strategies: Sequence[Strategy]) -> str:
    """How many of the runs had other settings."""
    now = [repr(strategy) for strategy in strategies]
    n = sum(run["settings"].get("strategies") != now for run in runs)
    return f", {n} of them with other settings of these searches" if n else ""


def _quenched(run: Run, potential: tsc.ModulePotential) -> tuple[tsc.Network, torch.Tensor]:
    """Where plain quenches end, for a database that has nothing yet: minima without transition states."""
    ends = tsc.relax(potential, potential.sample(run.pick(6, 48), seed=0), tol=1e-6, progress=run.progress)
    ends = ends[ends.converged]
    ends = ends[ends.energy.argsort()]
    return tsc.Network.of(ends.energy.cpu(), [], []), ends.x


def _tell(
    page: Page, n_minima: int, network: tsc.Network, n_saddles: int, wrong: torch.Tensor, judged: bool
) -> None:
    """``network`` is the largest component, ``wrong`` of all minima."""
    published = published_figures("mnist")
    graph = graph_of(network)
    page.compare(
        "minima in one connected component",
        f"{graph.component} of {n_minima}",
        reaches(graph.component, _AT_LEAST) if judged else Verdict.BESIDE,
        published=published["minima"],
        remark=f"at least {_AT_LEAST} were to be reached",
    )
    why = "grows with the searches per minimum: not a property of the landscape alone"
    page.compare("edges of that component", graph.edges, published=published["edges"], remark=why)
    page.compare("transition states in all", n_saddles)
    page.compare(
        "mean degree",
        f"{graph.mean_degree:.2f}",
        reaches(graph.mean_degree, _DEGREE) if judged else Verdict.BESIDE,
        published=published["mean degree"],
        remark=f"at least {_DEGREE:g} was to be reached; {why}",
    )
    small = graph.edges > 0 and graph.component >= _AT_LEAST and graph.path_length < 8
    page.compare(
        "mean shortest path",
        f"{graph.path_length:.2f}" if graph.edges else "not connected",
        (Verdict.KIND if small else Verdict.SHORT) if judged else Verdict.BESIDE,
        published=published["mean shortest path"],
        remark="a few steps between any two minima" if small else why,
    )
    page.compare("diameter", graph.diameter, published=published["diameter"], remark=why)
    error = wrong.double().mean(1)
    low, high = published["test error"]
    overlap = float(error.min()) <= high and float(error.max()) >= low
    verdict = Verdict.SPREAD if overlap else Verdict.DIFFERENT
    page.compare(
        "test error of all minima: range; mean ± sd",
        f"{float(error.min()):.3f} to {float(error.max()):.3f}; {float(error.mean()):.3f} ± "
        f"{float(error.std()):.4f}",
        verdict if judged else Verdict.BESIDE,
        published=f"{low} to {high}; 0.148 ± 0.0043",
        remark="ranges overlap" if overlap else "no overlap: other images; the paper's normalisation is not known",
    )
    page.compare(
        "losses of the connected minima",
        f"{float(network.energy.min()):.4f} to {float(network.energy.max()):.4f}",
        published="3.95 to 4.30",
        remark="the published values suggest a sum over data or another normalisation",
    )
    told_funnel = _funnel(page, network, judged)
    page.say(
        f"{graph.component} of {n_minima} minima are connected; the paper has {published['minima']}, and at "
        f"least {_AT_LEAST} were to be reached"
        + (". " if graph.component >= _AT_LEAST or not judged else ": **not reached** with the time there was. ")
        + (_degree_told(graph.mean_degree) if judged else "")
        + f"Test errors lie between {float(error.min()):.3f} and {float(error.max()):.3f}, the paper's between "
        f"{low} and {high}: {'the ranges overlap' if overlap else 'the ranges do not overlap'}, for other images."
        + told_funnel
    )


def _degree_told(degree: float) -> str:
    """How far the mean degree has come, what it is, and what was done otherwise before."""
    reached = "is reached" if degree >= _DEGREE else "is **not reached** yet: it grows with every round of pairs"
    return (
        f"Their mean degree is {degree:.2f}; {_DEGREE:g} {reached}. As in the paper, an edge is a pair of "
        "different minima that at least one transition state joins, and the mean degree twice the edges over the "
        f"minima (2 x 643 / 142 = 9.06). {_BEFORE} "
    )


def _funnel(page: Page, network: tsc.Network, judged: bool) -> str:
    """The funnels of a connected network: a line of the table, and a sentence."""
    component = network.n_minima
    if component < 2:
        page.compare("funnels", "not connected", Verdict.SHORT, published="single funnel")
        return ""
    found = analysis.funnels(network)
    largest = int(found.size.max())
    verdict = Verdict.KIND if largest >= 0.8 * component else Verdict.DIFFERENT
    page.compare(
        "funnels (barrier of a fifth of the tree's height); minima of the largest",
        f"{len(found)}; {largest} of {component}",
        verdict if judged and component >= _AT_LEAST else Verdict.BESIDE,
        published="single funnel",
    )
    return f" The largest funnel has {largest} of the {component} connected minima."


def _draw(
    page: Page,
    problem: tsc.problems.Problem,
    network: tsc.Network,
    home: torch.Tensor,
    x: torch.Tensor,
    wrong: torch.Tensor,
    run: Run,
) -> None:
    """``network`` is of the minima ``home`` among those at ``x``."""
    error = wrong.double().mean(1)[home]
    if network.n_edges:
        page.picture(
            plots.disconnectivity(network, colour=error, colour_label="test error").figure,
            "tree",
            "Disconnectivity graph of the connected minima (P, Fig. 7), coloured by the test error.",
        )
    distances = metrics.misclassification_distances(wrong)
    page.picture(
        plots.misclassification(distances).figure,
        "misclassification",
        "Misclassification distances of all pairs of minima, clustered (P, Fig. 8).",
    )
    parameters = {
        "as found": tsc.learning.parameter_distances(x),
        "symmetry removed": tsc.learning.parameter_distances(x, problem.potential.symmetry, progress=run.progress),
    }
    on_host = {name: d.cpu() for name, d in parameters.items()}
    compared = metrics.compare_distances(distances.value, on_host, n_permutations=_PERMUTATIONS)
    drawn = plots.distance_densities(compared)
    page.picture(
        drawn.figure,
        "density",
        "Misclassification distance against distance in parameter space (P, Fig. 9), and the same with symmetry "
        "removed.",
    )
    for name, test in drawn.tests.items():
        page.compare(
            f"rank correlation of l_ij and parameter distance, {name}",
            f"{test.value:.2f} (p = {test.p_value:.2g})",
            published="not given" if name == "as found" else "left unexplored",
        )
    found, removed = drawn.tests["as found"], drawn.tests["symmetry removed"]
    page.say(
        "What the paper left unexplored: between misclassification distance and distance in parameter space the "
        "rank "
        f"correlation is {found.value:.2f} with the symmetry of the network left in, and {removed.value:.2f} "
        f"(p = {removed.p_value:.2g}) once it is removed."
    )
    if network.n_edges:
        page.picture(
            plots.network(network, colour="energy").figure, "network", "The connected minima as a network."
        )


EXPERIMENT = Experiment(
    "mnist", "Digits: 784-10-10 on 1000 images of MNIST, lambda = 0.01", "P, section V", _carry_out
)
