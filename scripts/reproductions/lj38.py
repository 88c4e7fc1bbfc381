"""LJ_38: two funnels found from random starts, a path between them, and the field's own database beside it."""

from __future__ import annotations

import dataclasses
import math

import matplotlib.pyplot as plt

import torchscape as tsc
from reproductions.experiment import Experiment, Run
from reproductions.judge import Verdict, agree, reaches
from reproductions.networks import UNFINISHED, told
from reproductions.page import Page
from torchscape import analysis, plots
from torchscape.explore import (
    Angular,
    BasinHopping,
    ClimbFromMinima,
    ConnectPair,
    ExploreReport,
    Gaussian,
    Mixture,
    Shortcut,
    Symmetrise,
)
from torchscape.explore.strategy import Strategy

__all__ = ["EXPERIMENT"]

_DOYE = "Doye, Miller & Wales (1999)"
_NAMES = ("truncated octahedron", "incomplete icosahedron")
_ORDERS, _LOG_DETS = (48, 10), (538.668903, 534.391888)
_AT_ONCE = 500  # quenches between two looks for a bottom
_MOST = 60_000  # quenches after which the search for one ends
_WINDOW = 1e-6  # in which energies are the same as published ones, to the digits that are printed


@dataclasses.dataclass(frozen=True)
class _Path:
    """The lowest path between the two funnels' bottoms.

    Attributes:
        steps: transition states on it.
        highest: energy of the highest of them.
        barriers: from the bottom of either funnel, the octahedron's first.
    """

    steps: int
    highest: float
    barriers: tuple[float, float]


def _carry_out(run: Run, page: Page) -> None:
    problem = tsc.problems.get(run.pick("lj7", "lj38"), device=run.device)
    potential, bottoms = problem.potential, problem.known.minima[:2]
    hoppings, endings = _hoppings(run), []
    with tsc.Landscape.open(run.work / f"{problem.name}_funnels.db", potential) as landscape:
        for hopping, energy in zip(hoppings, bottoms, strict=True):
            endings.append(_found(run, landscape, hopping, energy))
        ids = [_lowest_of(landscape, energy) for energy in bottoms]
        searches = [] if None in ids else _searches(run, *ids)
        for search in searches if run.max_time != 0 else []:
            report = _explored(run, landscape, [search], tsc.Budget(seconds=run.max_time))
            endings.append(_ended(search.name, report))
        network = landscape.network(coords=False)
    theirs = _database(run)
    places = [int(network.position_of([one])[0]) for one in ids if one is not None]
    page.what = (
        f"{problem.description}, from random starts: basin-hopping with the moves that the problem suggests until "
        "the bottom of one funnel is known, hot and cold walkers until that of the other is, a path between them "
        "by double-ended searches of its missing links, single-ended searches around the lowest minima that are "
        "connected, and short cuts, both twice. Beside it the database of LJ_38 among PATHSAMPLE's examples, 64 "
        "minima and 70 transition states."
    )
    _bottoms(page, network, ids, bottoms, problem.name)
    _ways(page, network, places, theirs)
    page.settings += [
        *(told(strategy) for strategy in (*hoppings, *searches)),
        *endings,
        f"{network.n_minima} minima and {network.n_edges} transition states between two are known",
    ]
    _pictures(page, network, places, theirs)


def _hoppings(run: Run) -> tuple[BasinHopping, BasinHopping]:
    """For the octahedron, whose symmetry finds it, and for the icosahedron: hot walkers leave the octahedral
    funnel and the liquid, cold ones get to the bottom."""
    walkers = run.pick(8, 32)
    symmetric = BasinHopping(
        walkers=walkers,
        hops=run.pick(5, _MOST // walkers),
        temperature=0.8,
        step=0.9,
        move=Mixture(((0.7, Gaussian()), (0.1, Angular()), (0.2, Symmetrise()))),
    )
    ladder = run.pick(8, 15)
    hot_and_cold = BasinHopping(
        walkers=ladder,
        hops=run.pick(5, _MOST // ladder),
        temperature=[round(0.3 + 0.04 * k, 2) for k in range(ladder)],
        step=0.9,
        move=Mixture(((0.7, Gaussian()), (0.3, Angular()))),
    )
    return symmetric, hot_and_cold


def _searches(run: Run, a: int, b: int) -> list[Strategy]:
    return [
        ConnectPair(a, b, max_minima=run.pick(10, 150), neighbours=4, attempts=3),
        ClimbFromMinima(searches=run.pick(1, 4), max_minima=run.pick(4, 100), connected=True),
        Shortcut(a, b, by="barrier", max_rounds=run.pick(2, 40), patience=5),
        ClimbFromMinima(searches=run.pick(1, 8), max_minima=run.pick(4, 200), connected=True),
        Shortcut(a, b, by="barrier", max_rounds=run.pick(2, 60), patience=5, attempts=2),
    ]


def _found(run: Run, landscape: tsc.Landscape, hopping: BasinHopping, energy: float) -> str:
    """Basin-hopping until a minimum of that energy is known, and how it ended."""
    spent, quenches = 0.0, 0
    while _lowest_of(landscape, energy) is None:
        left = None if run.max_time is None else max(run.max_time - spent, 0.0)
        report = _explored(run, landscape, [hopping], tsc.Budget(seconds=left, quenches=_AT_ONCE))
        spent, quenches = spent + report.seconds, quenches + report.n_quenches
        if report.status != "budget: quenches":
            break
    return (
        f"{energy:.6f}: {quenches} quenches in {spent:.0f} s of this call" if quenches else f"{energy:.6f}: known"
    )


def _explored(run: Run, landscape: tsc.Landscape, strategies: list[Strategy], budget: tsc.Budget) -> ExploreReport:
    report = tsc.explore(
        landscape, landscape.potential, strategies=strategies, seed=1, budget=budget, progress=run.progress
    )
    if report.status == "interrupted":
        raise KeyboardInterrupt
    return report


def _lowest_of(landscape: tsc.Landscape, energy: float) -> int | None:
    """The id of the minimum of that energy."""
    apart = (landscape.minimum_energies() - energy).abs()
    known = len(apart) > 0 and float(apart.min()) < _WINDOW
    return int(landscape.minimum_ids()[apart.argmin()]) if known else None


def _ended(what: str, report: ExploreReport) -> str:
    how = "done" if report.is_complete else f"{UNFINISHED} ({report.status}); a lower path may be found"
    return f"{what}: {how}, {report.seconds:.0f} s of this call"


def _database(run: Run) -> tsc.Network | None:
    """PATHSAMPLE's, if it is at hand."""
    folder = None if run.data is None or run.quick else run.data / "field" / "lj38"
    return tsc.export.read_pathsample(folder) if folder is not None and folder.is_dir() else None


def _bottoms(
    page: Page, network: tsc.Network, ids: list[int | None], bottoms: tuple[float, ...], name: str
) -> None:
    for which, (one, energy) in enumerate(zip(ids, bottoms, strict=True)):
        of = f"{_NAMES[which]}: " if name == "lj38" else ""
        if one is None:
            page.compare(f"{of}energy", "not found", Verdict.SHORT, published=f"{energy:.9f}")
            continue
        place = int(network.position_of([one])[0])
        ours = float(network.energy[place])
        page.compare(f"{of}energy", f"{ours:.9f}", agree(ours, energy, _WINDOW), published=f"{energy:.9f}")
        if name != "lj38":
            continue
        log_det, order = float(network.log_det[place]), _order(network, place)
        page.compare(
            f"{of}ln of the product of eigenvalues",
            f"{log_det:.6f}",
            agree(log_det, _LOG_DETS[which], 1e-5),
            published=f"{_LOG_DETS[which]:.6f}",
        )
        page.compare(
            f"{of}order of the point group", order, agree(order, _ORDERS[which]), published=_ORDERS[which]
        )


def _order(network: tsc.Network, place: int) -> int:
    """Of the point group: the images of all together are 2 N! / o."""
    whole = math.log(2) + math.lgamma(38 + 1)
    return round(math.exp(whole - float(network.log_degeneracy[place])))


def _path(network: tsc.Network, a: int, b: int) -> _Path | None:
    if not bool(network.connected_to(a)[b]):
        return None
    route = analysis.minimax_path(network, a, b)
    low, high = (float(network.energy[k]) for k in (a, b))
    return _Path(len(route.transition_states), route.highest, (route.highest - low, route.highest - high))


def _ways(page: Page, network: tsc.Network, places: list[int], theirs: tsc.Network | None) -> None:
    ours = _path(network, *places) if len(places) == 2 else None
    known = None if theirs is None else _path(theirs, *theirs.energy.argsort()[:2].tolist())
    shown = "" if known is None else f"{known.highest:.6f}"
    if ours is None:
        page.compare("highest energy on the lowest path", "no path", Verdict.SHORT, published=shown)
        page.say("No path between the two bottoms was found in the time that was given.")
        return
    better = known is not None and ours.highest < known.highest - _WINDOW
    page.compare(
        "highest energy on the lowest path",
        f"{ours.highest:.6f}",
        Verdict.BESIDE if known is None else reaches(-ours.highest, -known.highest - _WINDOW),
        published=shown,
        remark=f"ours is {known.highest - ours.highest:.3f} lower" if better and known is not None else "",
    )
    for which, bottom in enumerate(("lowest minimum", "second bottom")):
        page.compare(
            f"barrier from the {bottom}",
            f"{ours.barriers[which]:.3f}",
            published="" if known is None else f"{known.barriers[which]:.3f}",
        )
    page.compare("transition states on that path", ours.steps, published="" if known is None else known.steps)
    said = (
        f"Both bottoms were found from random starts, and a path of {ours.steps} verified transition states joins "
        f"them; it climbs to {ours.highest:.4f}"
    )
    page.say(f"{said}, in the published database the lowest to {shown}." if shown else f"{said}.")


def _pictures(page: Page, network: tsc.Network, places: list[int], theirs: tsc.Network | None) -> None:
    if len(places) < 2 or _path(network, *places) is None:
        return
    drawn = [network.component_of(places[0])]
    if theirs is not None:
        drawn.append(theirs.component_of(int(theirs.energy.argmin())))
    figure, axes = plt.subplots(1, len(drawn), figsize=(10, 5), layout="constrained", squeeze=False)
    for ax, tree, name in zip(axes[0], drawn, ("ours", "published"), strict=False):
        plots.disconnectivity(tree, ax=ax, lowest=150)
        ax.set_title(name, fontsize=10)
    ends = [ax.get_ylim() for ax in axes[0]]
    for ax in axes[0]:
        ax.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
    page.picture(figure, "trees", "Disconnectivity graphs: what is connected with the lowest minimum.")
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    plots.profile(network, *places, ax=axes, labels=False)
    page.picture(figure, "path", "The lowest path between the two bottoms, minima and transition states in turn.")


EXPERIMENT = Experiment(
    "lj38", "LJ_38: two funnels and the path between them", f"{_DOYE}; wales-group/examples", _carry_out
)
