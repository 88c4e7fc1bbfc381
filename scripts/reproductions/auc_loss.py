"""The area under the ROC curve as the loss, beside cross-entropy, on one network and data set."""

from __future__ import annotations

import dataclasses
import math

import matplotlib.pyplot as plt
import torch

import torchscape as tsc
from reproductions.experiment import Experiment, Run
from reproductions.judge import Verdict
from reproductions.networks import status_line, told
from reproductions.page import Page
from torchscape import metrics, plots

__all__ = ["EXPERIMENT"]

_LOSSES = {"cross-entropy": "cross-entropy", "auc": "AUC (logistic surrogate)"}


@dataclasses.dataclass(frozen=True)
class _Found:
    """One loss: its minima, and what they are worth on data held back."""

    network: tsc.Network
    area: torch.Tensor
    top: torch.Tensor
    status: str

    @property
    def lpphe(self) -> torch.Tensor:
        """ln of the product of the Hessian eigenvalues, over their number: the mean of ln mu."""
        return self.network.log_det / self.network.n_modes


def _carry_out(run: Run, page: Page) -> None:
    data = run.file("triatomic_database.npz")
    l2 = 1e-5
    strategies = [
        tsc.BasinHopping(walkers=run.pick(16, 64), hops=run.pick(0, 1), temperature=0.02, step=0.5),
        tsc.ConnectMinima(neighbours=run.pick(1, 2), max_rounds=run.pick(0, 10)),
    ]
    n = run.pick(60, 150)  # the AUC loss takes all pairs of items, and is slow for that
    found = {name: _explored(run, name, data, l2, n, strategies) for name in _LOSSES}
    page.what = (
        "The 3-3-4 tanh network of the trimers once with cross-entropy and once with a smooth bound of one "
        f"minus the AUC, lambda = {l2:g} on all parameters, {n} trimers. Niroomand et al. (2022) report more "
        "minima and larger curvatures for the AUC loss; curvatures are compared as they come, with equal lambda."
    )
    _tell(page, found)
    page.settings += [
        f"data: {'`triatomic_database.npz`' if data else 'trimers of our own, seed 0'}",
        *(told(strategy) for strategy in strategies),
        *(f"{_LOSSES[name]}: {one.status}" for name, one in found.items()),
    ]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for ax, (name, one) in zip(axes, found.items(), strict=True):
        plots.disconnectivity(one.network, colour=one.area, colour_label="held-out AUC", ax=ax)
        ax.set_title(f"{_LOSSES[name]}: {one.network.n_minima} minima", fontsize=10)
    page.picture(figure, "trees", "Disconnectivity graphs of the two losses, coloured by held-out AUC.")


def _explored(run: Run, loss: str, data: str | None, l2: float, n: int, strategies: list) -> _Found:
    given = {} if data is None else {"data": data}
    problem = tsc.problems.get("trimer-network", loss=loss, l2=l2, n_train=n, device=run.device, **given)
    u = problem.potential
    assert isinstance(u, tsc.ModulePotential)
    assert problem.test is not None
    with run.explored(f"auc_loss_{loss}", u, strategies) as (landscape, report):
        network, x = landscape.network(coords=False), landscape.minima().x
    held = tsc.learning.held_out(u, x, *problem.test)
    area = metrics.auc(held.probability, problem.test[1].to(held.outputs.device)).macro.cpu().double()
    top = tsc.learning.top_eigenvalues(u, x, 1)[:, 0].cpu()
    return _Found(network, area, top, status_line(report))


def _tell(page: Page, found: dict[str, _Found]) -> None:
    usual, auc = found["cross-entropy"], found["auc"]

    def both(values) -> str:
        return "; ".join(f"{_LOSSES[name]} {value:.4g}" for name, value in values.items())

    n = {name: one.network.n_minima for name, one in found.items()}
    more = n["auc"] > n["cross-entropy"]
    page.compare("minima", both(n), Verdict.KIND if more else Verdict.DIFFERENT, published="more for the AUC loss")
    mean = {name: float(one.lpphe.mean()) for name, one in found.items()}
    larger = mean["auc"] > mean["cross-entropy"]
    page.compare(
        "mean ln of Hessian eigenvalues, mean over minima",
        both(mean),
        Verdict.KIND if larger else Verdict.DIFFERENT,
        published="larger curvatures for the AUC loss",
    )
    scale = {name: float(one.network.energy.mean()) for name, one in found.items()}
    relative = {name: mean[name] - math.log(scale[name]) for name in found}
    larger_relative = relative["auc"] > relative["cross-entropy"]
    page.compare("mean loss of the minima", both(scale))
    page.compare(
        "mean ln of Hessian eigenvalues over the mean loss",
        both(relative),
        Verdict.KIND if larger_relative else Verdict.DIFFERENT,
        published="larger curvatures for the AUC loss",
        remark="each in units of its own loss",
    )
    top = {name: float(one.top.median()) for name, one in found.items()}
    steeper = top["auc"] > top["cross-entropy"]
    page.compare(
        "top Hessian eigenvalue, median over minima",
        both(top),
        Verdict.KIND if steeper else Verdict.DIFFERENT,
        published="larger curvatures for the AUC loss",
    )
    page.compare("held-out AUC of the lowest minimum", both({k: float(v.area[0]) for k, v in found.items()}))
    page.compare("best held-out AUC of any minimum", both({k: float(v.area.max()) for k, v in found.items()}))
    better = float(auc.area[0]) > float(usual.area[0])
    page.say(
        f"With equal lambda the AUC loss has {'more' if more else 'not more'} minima ({n['auc']} against "
        f"{n['cross-entropy']}) and its curvatures are "
        f"{'larger' if larger and steeper else 'not larger throughout'}. Its lowest minimum ranks held-out "
        f"trimers {'better' if better else 'no better'} than that of cross-entropy. Why the counts need not "
        f"agree with the paper: our AUC loss is {scale['cross-entropy'] / scale['auc']:.1f} times smaller at its "
        "minima, so that equal lambda holds it down more strongly, and the surrogate and the lambda of the "
        "paper are not known here. In units of its own loss its curvatures are "
        f"{'larger, as published' if larger_relative else 'not larger either'}."
    )


EXPERIMENT = Experiment(
    "auc-loss", "The AUC as a loss, beside cross-entropy", "Niroomand et al. (2022); E; slides", _carry_out
)
