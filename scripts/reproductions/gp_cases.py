"""Gaussian processes on many training sets: what their landscapes foresee, what HMC gains; kept in files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import torch

import torchscape as tsc
from reproductions.experiment import Run
from reproductions.gp_quadrature import GridPosterior
from torchscape import learning
from torchscape.learning import GPEnsembleReport
from torchscape.potentials import GaussianProcessPotential
from torchscape.sampling import effective_sample_size

__all__ = ["Case", "Design", "Exact", "solved"]

_CHECKED = 100  # held-out values at which HMC is compared with quadrature


@dataclasses.dataclass(frozen=True)
class Design:
    """One training set: ``n`` values of Schwefel's function in ``ndim`` dimensions, with noise."""

    ndim: int
    n: int
    noise: float
    seed: int

    @property
    def file(self) -> str:
        return f"{self.ndim}d_n{self.n}_noise{self.noise:g}_seed{self.seed}.json"


@dataclasses.dataclass(frozen=True)
class Exact:
    """HMC beside quadrature.

    Attributes:
        between_grids: difference of the mean log density by two grids, in nats.
        gain_off, mean_off: HMC less quadrature in standard errors of HMC: of the mean log density, and of the
            worst mean hyperparameter.
    """

    between_grids: float
    gain_off: float
    mean_off: float


@dataclasses.dataclass(frozen=True)
class Case:
    """What was found with one training set.

    Attributes:
        gain, gain_error: of each predictor in log density per held-out value over the lowest minimum.
        rmse_gain: by how much its RMSE is lower.
        measures: what the landscape had foreseen.
        r_hat, ess: of the chains.
        n_gradients, n_energies: spent by HMC, and on the reweighting.
        exact: where quadrature is possible.
    """

    design: Design
    gain: dict[str, float]
    gain_error: dict[str, float]
    rmse_gain: dict[str, float]
    measures: dict[str, float]
    r_hat: float
    ess: float
    n_gradients: int
    n_energies: int
    exact: Exact | None

    @property
    def n_minima(self) -> int:
        return int(self.measures["minima"])

    @property
    def n_relevant(self) -> int:
        """Minima of 1 % of the evidence or more."""
        return int(self.measures["relevant minima"])


def solved(run: Run, design: Design, *, r_hat: float, ess: float, may_start: bool) -> Case | None:
    """The case from its file in ``run.work``, or worked out now; None where there is neither file nor time."""
    path = run.work / "gp_foresight" / design.file
    if path.is_file():
        return _read(path)
    if not may_start:
        return None
    case = _solve(run, design, r_hat, ess)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(case)) + "\n")
    return case


def _read(path: Path) -> Case:
    facts = json.loads(path.read_text())
    exact = facts["exact"]
    return Case(
        **{**facts, "design": Design(**facts["design"]), "exact": None if exact is None else Exact(**exact)}
    )


def _solve(run: Run, design: Design, r_hat: float, ess: float) -> Case:
    problem = tsc.problems.get(
        "gp", **dataclasses.asdict(design), noisy_test=True, n_test=run.pick(200, 500), device=run.device
    )
    u, test = problem.potential, problem.test
    assert isinstance(u, GaussianProcessPotential)
    assert test is not None
    samples = learning.settled_hmc(
        u, n_chains=run.pick(4, 8), r_hat=r_hat, ess=ess, steps=run.pick(50, 200), seed=design.seed
    )
    report = learning.gp_ensemble_report(u, test, samples=samples, seed=design.seed)
    found = report.comparison

    def by_name(values: torch.Tensor) -> dict[str, float]:
        return dict(zip(found.names, values.tolist(), strict=True))

    is_checked = design.ndim == 1 and (not run.quick or design.seed == 1)
    return Case(
        design=design,
        gain=by_name(found.gain),
        gain_error=by_name(found.gain_error),
        rmse_gain=by_name(found.rmse_gain),
        measures=report.landscape.measures(),
        r_hat=report.diagnosis.r_hat,
        ess=report.diagnosis.ess,
        n_gradients=report.n_gradients,
        n_energies=report.landscape.n_evaluations,
        exact=_against_quadrature(u, test, report, run.pick((16, 12), (32, 24))) if is_checked else None,
    )


def _against_quadrature(
    u: GaussianProcessPotential,
    test: tuple[torch.Tensor, torch.Tensor],
    report: GPEnsembleReport,
    grids: tuple[int, int],
) -> Exact:
    """Log density of some held-out values and mean hyperparameters by integration, and how far HMC is off."""
    test = test[0][:_CHECKED], test[1][:_CHECKED]
    fine, coarse = (GridPosterior.of(u, n) for n in grids)
    density, rough = fine.log_density(u, test), coarse.log_density(u, test)
    mean, variance = u.predict(report.members["HMC"], test[0], noisy=True)
    each = torch.distributions.Normal(mean, variance.sqrt()).log_prob(test[1])
    own = each.logsumexp(0) - math.log(len(each))
    # ln mean_s p_s(y) has the error of the mean over draws s of p_s(y) / p(y).
    share = (each - own).exp().mean(1)
    error = float(share.std()) / min(report.diagnosis.ess, float(len(share))) ** 0.5
    x = report.samples.x
    assert x is not None
    off = (x.flatten(0, 1).mean(0) - fine.mean()) / (fine.deviation() / effective_sample_size(x).sqrt())
    return Exact(
        between_grids=float((density - rough).mean().abs()),
        gain_off=float((own - density).mean().abs()) / error,
        mean_off=float(off.abs().max()),
    )
