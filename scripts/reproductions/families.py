"""One network as its regularisation, its data and its size change: families of landscapes."""

from __future__ import annotations

import torchscape as tsc
from reproductions.experiment import Experiment, Run
from reproductions.judge import Verdict, agree_all
from reproductions.networks import told
from reproductions.page import Page
from torchscape import plots
from torchscape.analysis import Family

__all__ = ["EXPERIMENT"]

# Found independently for the first 500 rows of the database, by quenches, distinct at 1e-8.
_BY_QUENCHES = {-2.0: 1, -3.0: 1, -4.0: 2}
_TWO = (0.219462, 0.230848)


def _carry_out(run: Run, page: Page) -> None:
    data = run.file("triatomic_database.npz")
    given = {} if data is None else {"data": data}
    page.what = (
        "The 3-h-4 tanh network of the trimers. Its minima and transition states are followed along log10 lambda "
        "(h = 3) and, in single steps as there are none in between, from one number of trimers to another; and "
        "it is explored for one number of hidden nodes after the other, which share no branch as they do not "
        "have the same coordinates."
    )

    def network(**options):
        return tsc.problems.get("trimer-network", device=run.device, **given, **options).potential

    strategies = [
        tsc.BasinHopping(walkers=run.pick(8, 32), hops=run.pick(0, 2), temperature=0.02, step=0.5),
        tsc.ConnectMinima(neighbours=run.pick(1, 4)),
    ]
    n, l2 = run.pick(60, 500), run.pick(3e-3, 1e-4)
    along = [
        (
            "lambda",
            "log10 lambda",
            run.pick([-2.2, -2.6], [-2.0, -3.0, -3.5, -4.0]),
            lambda t: network(l2=10**t, n_train=n),
        ),
        (
            "data",
            "number of trimers",
            run.pick([59, 60], [485, 490, 495, 500]),
            lambda k: network(n_train=k, l2=l2),
        ),
        ("hidden", "hidden nodes", run.pick([1, 2], [1, 2, 3, 4]), lambda h: network(hidden=h, n_train=n, l2=l2)),
    ]
    for name, parameter, values, at in along:
        family = run.family(f"families_{name}", at, values, strategies)
        _tell(page, name, parameter, family, same_data=data is not None and not run.quick)
        if name != "hidden":
            page.picture(
                plots.branches(family, parameter=parameter).figure,
                name,
                f"Loss of every branch against {parameter}; minima solid, transition states dashed.",
            )
        else:
            page.picture(
                plots.disconnectivity_series(family, parameter=parameter).figure,
                name,
                f"Disconnectivity graphs for each number of {parameter}, on one axis.",
            )
    page.settings += [
        f"along log10 lambda and the number of hidden nodes: {n} trimers; along the number of trimers and of "
        f"hidden nodes: lambda = {l2:g}",
        f"data: {'`triatomic_database.npz`' if data else 'trimers of our own: independent counts do not apply'}",
        *(f"{told(strategy)} at each value" for strategy in strategies),
    ]


def _tell(page: Page, name: str, parameter: str, family: Family, *, same_data: bool) -> None:
    values = [f"{value:g}" for value in family.values.tolist()]
    counts = family.counts()
    page.compare(
        f"minima / transition states at {parameter} = {', '.join(values)}",
        ", ".join(f"{minima} / {saddles}" for minima, saddles in counts.tolist()),
    )
    if name == "lambda":
        falls = bool((counts[:, 0].diff() <= 0).all())
        page.compare(
            "minima become fewer as lambda grows",
            "yes" if falls else "no",
            Verdict.KIND if falls else Verdict.DIFFERENT,
            independent="at least 43, 2, 1, 1 for lambda = 1e-5, 1e-4, 1e-3, 1e-2",
        )
    if name == "lambda" and same_data:
        known = [k for k, value in enumerate(family.values.tolist()) if value in _BY_QUENCHES]
        ours = [int(counts[k, 0]) for k in known]
        theirs = [_BY_QUENCHES[float(family.values[k])] for k in known]
        lowest = sorted(family.energy[family.index[:, 0] == 0, 0].tolist())[:2]
        page.compare(
            f"minima at log10 lambda = {', '.join(values[k] for k in known)}",
            ", ".join(map(str, ours)),
            Verdict.SAME if ours == theirs else Verdict.DIFFERENT,
            independent=f"{', '.join(map(str, theirs))} (by quenches)",
            remark="" if ours == theirs else "what only transition states lead to is in ours",
        )
        page.compare(
            "the two lowest at lambda = 1e-4",
            ", ".join(f"{e:.6f}" for e in lowest),
            agree_all(lowest, _TWO, 2e-6),
            independent=", ".join(f"{e:.6f}" for e in _TWO),
        )
    if not bool(family.followed.any()):
        page.say(f"Along {parameter}: {'; '.join(family.notes[:1])}.")
        return
    kinds = {
        kind: family.events_of(kind) for kind in ("fold", "pitchfork", "transcritical", "left the box", "lost")
    }
    page.compare(
        f"events along {parameter}",
        "; ".join(f"{len(events)} {kind}" for kind, events in kinds.items() if events) or "none",
        remark=f"{family.n_branches} branches",
    )
    located = [event for event in family.events if event.kind in ("fold", "pitchfork")]
    for event in located[:3]:
        page.say(f"Along {parameter}: {event}.")


EXPERIMENT = Experiment(
    "families",
    "A network as its regularisation, data and size change",
    "E; slides (2023)",
    _carry_out,
)
