"""Gaussian-process hyperparameters: minima that vanish in fold catastrophes as nu changes."""

from __future__ import annotations

import torchscape as tsc
from reproductions.experiment import Experiment, Run
from reproductions.judge import Verdict, agree, agree_all
from reproductions.networks import told
from reproductions.page import Page
from torchscape import plots
from torchscape.analysis import Family

__all__ = ["EXPERIMENT"]

_FOLD, _FOLD_ERROR = 1.60745, 0.005
_MINIMA = (69.36769, 72.41933)  # at nu = 2.5


def _carry_out(run: Run, page: Page) -> None:
    data = run.file("gp_schwefel_2d_n60.csv")
    values = run.pick([1.5, 1.7, 2.5], [0.8, 1.0, 1.25, 1.5, 1.7, 2.0, 2.5, 3.0, 3.5])

    def at(nu: float):
        return tsc.problems.get(
            "gp", nu=nu, device=run.device, **({} if data is None else {"data": data})
        ).potential

    strategies = [
        tsc.BasinHopping(walkers=run.pick(24, 64), hops=run.pick(1, 5), temperature=2.0, step=1.0),
        tsc.ConnectMinima(neighbours=run.pick(2, 8)),
    ]
    family = run.family(f"gp_{'file' if data else 'own'}", at, values, strategies)
    page.what = (
        "Log length scales, signal and noise of a Gaussian process with a Matern kernel of real nu, fitted to "
        "60 values of Schwefel's function in two dimensions. Minima of the negative log marginal likelihood "
        "inside a box are followed along nu. The data set and the bounds of the slides are not published; the "
        "independent values are for the file `gp_schwefel_2d_n60.csv`."
    )
    _tell(page, family, bool(data))
    page.settings += [
        "data: "
        f"{'`gp_schwefel_2d_n60.csv`' if data else 'generated, seed 1: the independent values do not apply'}",
        f"nu = {', '.join(f'{value:g}' for value in values)}",
        *(f"{told(strategy)} at each nu" for strategy in strategies),
        *(line.strip() for line in str(family).splitlines()),
    ]
    page.picture(
        plots.branches(family, parameter="nu").figure,
        "branches",
        "Negative log marginal likelihood of every branch against nu (slides, Fig. 3).",
    )
    page.picture(
        plots.disconnectivity_series(family, parameter="nu").figure,
        "trees",
        "Disconnectivity graphs at each nu on one energy axis (slides, Fig. 2); a number and colour is one "
        "branch.",
    )


def _tell(page: Page, family: Family, same_data: bool) -> None:
    folds = family.events_of("fold")
    fold = min(folds, key=lambda event: abs(event.value - _FOLD), default=None)
    if fold is None:
        page.compare("nu of the fold", "none found", Verdict.SHORT, independent=f"{_FOLD} ± {_FOLD_ERROR}")
    else:
        page.compare(
            "nu of the fold",
            f"{fold.value:.6f} ± {fold.uncertainty:.0e}",
            agree(fold.value, _FOLD, _FOLD_ERROR) if same_data else Verdict.BESIDE,
            independent=f"{_FOLD} ± {_FOLD_ERROR}",
        )
        page.compare(
            "located to 1e-3 in nu, the vanishing eigenvalue",
            f"uncertainty {fold.uncertainty:.0e}, eigenvalue {fold.eigenvalue:.0e}",
            Verdict.SAME if fold.uncertainty <= 1e-3 else Verdict.SHORT,
            independent="1e-3",
        )
    page.compare("folds in all", len(folds), independent="1" if same_data else "")
    at = family.values.tolist().index(2.5)
    energies = sorted(family.energy[family.index[:, at] == 0, at].tolist())
    page.compare(
        "minima at nu = 2.5",
        ", ".join(f"{e:.5f}" for e in energies),
        agree_all(energies, _MINIMA, 2e-5) if same_data else Verdict.BESIDE,
        independent=", ".join(f"{e:.5f}" for e in _MINIMA),
    )
    page.compare(
        "nu at which minima vanish",
        "; ".join(f"{event.value:.3f} ({event.kind})" for event in family.events) or "none",
        Verdict.KIND if folds else Verdict.SHORT,
        published="between 2.0 and 2.1, and between 3.4 and 3.5",
        remark="other data set: the phenomenon, not the values",
    )
    page.say(
        f"A minimum and a transition state meet and annihilate at nu = {fold.value:.5f}, located to "
        f"{fold.uncertainty:.0e}, where a Hessian eigenvalue vanishes ({fold.eigenvalue:.0e}): the fold "
        "catastrophe of the slides"
        + (f", {abs(fold.value - _FOLD):.0e} from the independent value." if same_data else ".")
        if fold is not None
        else "No fold was found."
    )
    at_wall = [
        value
        for value, network in zip(family.values.tolist(), family.networks, strict=True)
        if not network.n_minima
    ]
    for event in family.events:
        if event.kind in ("lost", "left the box"):
            page.say(
                f"At nu = {event.value:.3f} branch {', '.join(map(str, event.branches))} begins ({event.kind}): "
                f"{event.reason}."
            )
    if at_wall and "on the wall" in " ".join(family.notes):
        page.say(
            f"At nu = {', '.join(f'{value:g}' for value in at_wall)} all quenches end on the wall of the box: "
            "the minimum has walked into the least noise allowed, where its curvature along ln sn2 fades. That "
            "is no fold."
        )


EXPERIMENT = Experiment(
    "gp-folds",
    "Gaussian processes: minima vanish in folds as nu changes",
    "E, section 6; slides (2023)",
    _carry_out,
)
