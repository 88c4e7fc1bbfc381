"""How many minima there are: the observed volumes unbiased, and the entropies that follow."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.sampling.diagnostics import SamplingWarning
from torchscape.types import Float, Tensor

__all__ = ["GeneralisedNormal", "MinimaCount", "count_minima", "unbiased_weights"]

_GRID = 4001


@dataclasses.dataclass(frozen=True)
class GeneralisedNormal:
    """p(y) = beta / (2 alpha Gamma(1/beta)) exp(-(|y - mu| / alpha)^beta); the normal law for beta = 2.

    Attributes:
        mu, alpha, beta: location, scale, shape.
    """

    mu: float
    alpha: float
    beta: float

    @classmethod
    def fit(cls, y: Float[Tensor, "N"]) -> GeneralisedNormal:
        """By maximum likelihood, with 1.05 < beta <= 20: below 1 the mean of exp(-y) would not exist."""
        from scipy.optimize import minimize

        values = y.detach().cpu().double().numpy()
        spread = values.std() or 1.0

        def cost(p):
            mu, alpha, beta = p[0], math.exp(p[1]), p[2]
            away = (np.abs(values - mu) / alpha) ** beta
            return float(away.mean() - math.log(beta / (2 * alpha)) + math.lgamma(1 / beta))

        start = [float(values.mean()), math.log(1.41 * spread), 2.0]
        wide = [(float(values.min()), float(values.max())), (start[1] - 5, start[1] + 5), (1.05, 20.0)]
        mu, log_alpha, beta = minimize(cost, start, bounds=wide, method="L-BFGS-B").x
        return cls(float(mu), math.exp(log_alpha), float(beta))

    def log_prob(self, y: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """ln p(y)."""
        norm = math.log(self.beta / (2 * self.alpha)) - math.lgamma(1 / self.beta)
        return norm - ((y - self.mu).abs() / self.alpha) ** self.beta

    def log_mean_inverse(self) -> float:
        """ln of the mean of exp(-y), by quadrature.

        Example:
            >>> round(GeneralisedNormal(1.0, 2**0.5 * 0.5, 2.0).log_mean_inverse(), 6)  # -mu + sigma^2 / 2
            -0.875
        """
        # |z|^beta outgrows z alpha where z = alpha^(1 / (beta - 1)); far beyond it nothing is left.
        reach = 40 ** (1 / self.beta) + (2 * self.alpha) ** (1 / (self.beta - 1)) * 2 + 4
        z = torch.linspace(-reach, reach, _GRID, dtype=torch.float64)
        y = self.mu + self.alpha * z
        return float((self.log_prob(y) - y).logsumexp(0)) + math.log(self.alpha * 2 * reach / (_GRID - 1))


@brief
@dataclasses.dataclass(frozen=True)
class MinimaCount:
    """Omega and the two entropies, from n basins drawn with probability proportional to their volume.

    Attributes:
        log_omega, log_omega_error: ln of the number of minima, which is also the Boltzmann-like entropy S_B
            (less ln n! where particles are the same).
        gibbs, gibbs_error: S_G = -sum p ln p with p = v / V (with the same ln n! taken off).
        log_mean_volume: ln <v>, the mean over minima, not over volume.
        weight: of each observed basin in the unbiased distribution; they sum to 1 [n].
        ess: Kish's effective number of basins behind Omega; where it is small, the error is not to be believed.
        fit: the generalised normal of ln v, where one was asked for.
    """

    log_omega: float
    log_omega_error: float
    gibbs: float
    gibbs_error: float
    log_mean_volume: float
    weight: Float[Tensor, "n"]
    ess: float
    fit: GeneralisedNormal | None

    @property
    def omega(self) -> float:
        """exp(log_omega): the number of minima."""
        return math.exp(self.log_omega)


def unbiased_weights(log_volume: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Weights 1 / v, normalised: basins found with probability v become basins counted once each.

    Example:
        >>> unbiased_weights(torch.tensor([1.0, 3.0]).double().log()).round(decimals=9).tolist()
        [0.75, 0.25]
    """
    return (-log_volume).softmax(0)


def count_minima(
    log_volume: Float[Tensor, "n"],
    log_total: float,
    *,
    error: Float[Tensor, "n"] | None = None,
    parametric: bool = False,
    n_identical: int = 0,
    n_resamples: int = 400,
    seed: int = 0,
) -> MinimaCount:
    """The number of minima Omega = V / <v>, and entropies, from the volumes of the basins that random starts hit.

    Starts uniform in V hit a basin with probability p = v / V, hence the observed distribution of ln v is
    B(ln v) = v P(ln v) / <v>, and

        Omega = V E_B[1 / v],    <v> = 1 / E_B[1 / v],    S_B = ln Omega,    S_G = -sum p ln p = E_B[ln V - ln v].

    The sum over what was observed needs no model, but 1 / v favours the small basins that are seldom hit: its
    effective sample size is reported, and warned about. ``parametric`` takes E_B[1 / v] from a generalised normal
    fit of ln v instead, which says something about basins too small to be hit, and is as good as the model is.
    Volumes that carry errors sigma overestimate 1 / v by exp(sigma^2 / 2), which is divided out (for the fit, the
    spread of ln v is deconvolved in its scale). Errors are from a bootstrap over basins, each resampled ln v
    disturbed by its own error.

    Args:
        log_volume: ln v of each of n starts, drawn uniformly; a basin that was hit twice counts twice [n].
        log_total: ln V of the domain that the starts were drawn from.
        error: standard errors of ln v [n]; None for exact volumes.
        parametric: use the fit.
        n_identical: n in the ln n! that is taken off both entropies where particles are identical.
        n_resamples, seed: of the bootstrap.

    Raises:
        TorchscapeError: for fewer than 3 volumes, or volumes that are not finite.

    Reference: Asenjo, Paillusson & Frenkel, Phys. Rev. Lett. 112, 098002 (2014),
    doi 10.1103/PhysRevLett.112.098002; Martiniani, Schrenk, Stevenson, Wales & Frenkel, Phys. Rev. E 93, 012906
    (2016), doi 10.1103/PhysRevE.93.012906; Phys. Rev. E 94, 031301 (2016), doi 10.1103/PhysRevE.94.031301.

    Example:
        >>> v = torch.tensor([1.0, 3.0, 3.0, 3.0] * 25)  # a box of 4, two basins
        >>> found = count_minima(v.log(), math.log(4.0))
        >>> round(found.omega, 6), round(found.gibbs, 4)
        (2.0, 0.5623)
    """
    y = log_volume.double()
    if len(y) < 3 or not bool(torch.isfinite(y).all()):
        raise TorchscapeError("3 finite volumes or more are needed: leave out basins whose volume is NaN")
    sigma = torch.zeros_like(y) if error is None else error.double()
    ess = float(1 / unbiased_weights(y).square().sum())
    fit = _fitted(y, sigma) if parametric else None
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(y), (n_resamples, len(y)), generator=generator).to(y.device)
    noise = torch.randn(rows.shape, generator=generator, dtype=y.dtype).to(y.device)
    again, spread = y[rows] + sigma[rows] * noise, 2 * sigma[rows].square()
    if fit is None:
        value = float(_log_mean_inverse(y[None], sigma[None].square())[0])
        resampled = _log_mean_inverse(again, spread)
    else:
        value = fit.log_mean_inverse()
        fits = [_fitted(one, two.sqrt()) for one, two in zip(again, spread, strict=True)]
        resampled = y.new_tensor([one.log_mean_inverse() for one in fits])
    if fit is None and ess < 10:
        warnings.warn(
            f"only {ess:.1f} of {len(y)} basins carry the estimate of Omega: its error bar is too small; "
            "measure more basins, or take parametric=True",
            SamplingWarning,
        )
    permutations = math.lgamma(n_identical + 1)
    return MinimaCount(
        log_omega=log_total + value - permutations,
        log_omega_error=float(resampled.std()),
        gibbs=log_total - float(y.mean()) - permutations,
        gibbs_error=float((y.var() / len(y)).sqrt()),
        log_mean_volume=-value,
        weight=unbiased_weights(y).to(log_volume),
        ess=ess,
        fit=fit,
    )


def _log_mean_inverse(y: Float[Tensor, "R n"], variance: Float[Tensor, "R n"]) -> Float[Tensor, "R"]:
    """ln of the mean of 1 / v, with normal errors of ln v divided out."""
    return (-y - 0.5 * variance).logsumexp(1) - math.log(y.shape[1])


def _fitted(y: Float[Tensor, "n"], sigma: Float[Tensor, "n"]) -> GeneralisedNormal:
    """A fit whose variance is that of ``y`` less that of the errors."""
    fit = GeneralisedNormal.fit(y)
    left = 1 - float(sigma.square().mean() / y.var().clamp(min=1e-300))
    return dataclasses.replace(fit, alpha=fit.alpha * math.sqrt(max(left, 1e-6)))
