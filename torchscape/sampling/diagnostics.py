"""Can these samples be trusted? R-hat, effective sample sizes, temperatures, acceptance.

A. Vehtari, A. Gelman, D. Simpson, B. Carpenter and P.-C. Buerkner, Bayesian Anal. 16, 667 (2021),
doi 10.1214/20-BA1221, for R-hat and rank normalisation; H. H. Rugh, Phys. Rev. Lett. 78, 772 (1997),
doi 10.1103/PhysRevLett.78.772, for the configurational temperature; autocorrelations are in
:mod:`torchscape.sampling.autocorrelation_times`.

Series are [K B ...]: K draws of each of B chains, and any number of quantities, all done in one batch.
"""

from __future__ import annotations

import dataclasses
import warnings

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.memory import ONE_LARGE, rows_that_fit
from torchscape.sampling.autocorrelation_times import effective_sample_size, integrated_autocorrelation, split
from torchscape.sampling.drawing import Samples
from torchscape.sampling.langevin import BAOAB
from torchscape.types import Float, Tensor

__all__ = [
    "Diagnosis",
    "SamplingWarning",
    "bulk_ess",
    "configurational_temperature",
    "diagnose",
    "r_hat",
]


class SamplingWarning(UserWarning):
    """Samples that should not be trusted yet; the message says why and what to do."""


# --- series ---------------------------------------------------------------------------------------------


def r_hat(series: Float[Tensor, "K B *S"]) -> Float[Tensor, "*S"]:
    """Rank-normalised split R-hat: the larger of that of the draws and that of their distances from the median.

    The first sees chains of different location, the second chains of different scale; infinite variances disturb
    neither. Below 1.01 is fine. NaN for a constant.

    Raises:
        TorchscapeError: for fewer than 8 draws per chain.

    Example:
        >>> from torchscape import random
        >>> white = random.normal(torch.arange(1000), 4)
        >>> r_hat(white).item() < 1.01, r_hat(white + torch.tensor([0, 0, 0, 2.0])).item() > 1.1
        (True, True)
    """
    halves = split(series)
    folded = (halves - _median(halves)).abs()
    return torch.maximum(_plain_r_hat(_rank_normalised(halves)), _plain_r_hat(_rank_normalised(folded)))


def bulk_ess(series: Float[Tensor, "K B *S"]) -> Float[Tensor, "*S"]:
    """Effective sample size of the rank-normalised draws: where the bulk of the distribution lies."""
    return effective_sample_size(_rank_normalised(series))


def _median(halves: Float[Tensor, "K B *S"]) -> Float[Tensor, "*S"]:
    ordered = halves.flatten(0, 1).sort(0).values
    n = len(ordered)
    return 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])


def _rank_normalised(series: Float[Tensor, "K B *S"]) -> Float[Tensor, "K B *S"]:
    """Normal scores Phi^-1((r - 3/8) / (n + 1/4)) of the ranks r over all chains, ties at their average."""
    flat = series.flatten(0, 1).reshape(series.shape[0] * series.shape[1], -1).T.contiguous()
    ordered = flat.sort(1).values
    first = torch.searchsorted(ordered, flat, side="left")
    last = torch.searchsorted(ordered, flat, side="right")
    rank = (first + last + 1).to(torch.float64) / 2
    score = torch.special.ndtri((rank - 0.375) / (flat.shape[1] + 0.25))
    return score.T.reshape(series.shape).to(series.dtype)


def _plain_r_hat(halves: Float[Tensor, "K B *S"]) -> Float[Tensor, "*S"]:
    k = len(halves)
    within = halves.var(0).mean(0)
    return ((k - 1) / k + halves.mean(0).var(0) / within).sqrt()


# --- a whole run ----------------------------------------------------------------------------------------


def configurational_temperature(samples: Samples) -> Float[Tensor, "B"]:
    """<|grad U|^2> / <tr Hess U> of every chain: T, wherever U confines; no momenta, no origin needed.

    Raises:
        TorchscapeError: where Laplacians were not recorded.
    """
    if samples.laplacian is None:
        raise TorchscapeError("the configurational temperature needs tr Hess U: call sample(..., laplacian=True)")
    return samples.grad_square.mean(0) / samples.laplacian.mean(0)


@brief
@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What a run says of itself. Ratios are 1 for samples of the right temperature.

    Attributes:
        kinetic, virial, configurational: measured temperature over that asked for; virial by x.grad U / D. NaN
            where not measured.
        kinetic_error, virial_error: their standard errors, autocorrelation included.
        r_hat, ess: of the energy, and of every coordinate where positions were kept: the worst.
        autocorrelation_time: of the energy, in steps.
        autocorrelation_error: its standard error; infinite where the chains are too short to tell.
        acceptance: mean over chains; 1 where nothing is tested.
        n_broken: chains that did not stay finite; all other figures leave them out.
        warnings: what should be looked at, each with advice; empty is good news.
    """

    kinetic: float
    kinetic_error: float
    virial: float
    virial_error: float
    configurational: float
    r_hat: float
    ess: float
    autocorrelation_time: float
    autocorrelation_error: float
    acceptance: float
    n_broken: int
    warnings: tuple[str, ...]


def diagnose(samples: Samples, *, tolerance: float = 0.05, warn: bool = True) -> Diagnosis:
    """All diagnostics of a run of chains of one target, with a :class:`SamplingWarning` for each that fails.

    Args:
        samples: of :func:`~torchscape.sampling.sample`, of chains that should agree: of several temperatures, hand
            over one at a time by ``samples.only(...)``.
        tolerance: relative error of a temperature that is worth a warning if it is also beyond 4 standard errors.
        warn: False to leave the messages to :attr:`Diagnosis.warnings`.

    Raises:
        TorchscapeError: if no chain is left, or fewer than 8 draws of each.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> from torchscape.sampling import sample
        >>> u = Quadratic([1.0, 2.0])
        >>> run = sample(u, torch.zeros(200, 2).double(), sampler=BAOAB(0.3), steps=800, burn_in=100, thin=8)
        >>> found = diagnose(run)
        >>> found.warnings, found.r_hat < 1.01, abs(found.virial - 1) < 0.05
        ((), True, True)
    """
    alive = samples.alive
    n_broken = int((~alive).sum())
    if n_broken == len(alive):
        raise TorchscapeError("no chain stayed finite: take smaller steps, start elsewhere, or check the loss")
    t, ndim = samples.temperature[alive], samples.state.x.shape[1]
    kinetic = _mean_and_error(samples.kinetic[:, alive] / t)
    virial = _mean_and_error(2 * samples.virial[:, alive] / (ndim * t))
    configurational = torch.nan
    if samples.laplacian is not None:
        above = (samples.grad_square[:, alive] / t).mean()
        configurational = float(above / samples.laplacian[:, alive].mean())
    worst_r, worst_ess = _worst(samples)
    slow = integrated_autocorrelation(samples.energy[:, alive])
    found = Diagnosis(
        kinetic=kinetic[0],
        kinetic_error=kinetic[1],
        virial=virial[0],
        virial_error=virial[1],
        configurational=configurational,
        r_hat=worst_r,
        ess=worst_ess,
        autocorrelation_time=float(slow.value) * samples.thin,
        autocorrelation_error=float(slow.error) * samples.thin,
        acceptance=float(samples.acceptance[alive].mean()),
        n_broken=n_broken,
        warnings=(),
    )
    found = dataclasses.replace(found, warnings=tuple(_complaints(samples, found, tolerance)))
    for message in found.warnings if warn else ():
        warnings.warn(message, SamplingWarning, stacklevel=2)
    return found


def _mean_and_error(series: Float[Tensor, "K B"]) -> tuple[float, float]:
    if bool(series.isnan().any()):
        return torch.nan, torch.nan
    return float(series.mean()), float(series.std() / effective_sample_size(series).sqrt())


def _worst(samples: Samples) -> tuple[float, float]:
    """The largest R-hat and the smallest effective sample size of all quantities that vary at all."""
    alive = samples.alive
    series = [samples.energy[:, alive, None]]
    if samples.x is not None:
        width = rows_that_fit(len(samples) * int(alive.sum()), samples.x.device, on_host=ONE_LARGE)
        series += [part[:, alive] for part in samples.x.split(width, dim=2)]
    ratios, sizes = (torch.cat([f(one) for one in series]) for f in (r_hat, bulk_ess))
    return float(ratios.nan_to_num(0.0).max()), float(sizes.nan_to_num(torch.inf).min())


def _complaints(samples: Samples, found: Diagnosis, tolerance: float):
    n_chains = int(samples.alive.sum())
    if found.n_broken:
        yield f"{found.n_broken} of {len(samples.alive)} chains broke down: take smaller steps, or check the loss"
    if found.r_hat > 1.01:
        yield f"R-hat is {found.r_hat:.3f}, more than 1.01: the chains disagree; run longer, with more burn-in"
    if found.autocorrelation_error == float("inf"):
        yield (
            "the energy is still correlated over a third of the run "
            f"(time {found.autocorrelation_time:.0f} steps, or more): run longer"
        )
    if found.ess < 100 * min(4, n_chains):
        yield f"the effective sample size is {found.ess:.0f}: run longer, or take larger steps"
    if _is_off(found.kinetic, found.kinetic_error, tolerance):
        advice = "take smaller steps"
        if isinstance(samples.sampler, BAOAB):
            advice += (
                " (with BAOAB the momenta are biased by (h omega)^2/4 although positions are good; see the virial)"
            )
        yield f"the kinetic temperature is {found.kinetic:.3f} of what it should be: {advice}"
    if not samples.bounded and _is_off(found.virial, found.virial_error, tolerance):
        yield (
            f"the virial temperature is {found.virial:.3f} of what it should be: the chains are not in "
            "equilibrium, the steps are too large, or the energy does not confine (add l2)"
        )
    if found.acceptance < 0.4:
        yield f"only {found.acceptance:.0%} of the moves are accepted: take smaller steps, or a burn_in"


def _is_off(ratio: float, error: float, tolerance: float) -> bool:
    return abs(ratio - 1) > max(tolerance, 4 * error)
