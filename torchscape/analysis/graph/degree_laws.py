"""Is the degree distribution a power law or an exponential? By likelihood, with the uncertainty stated."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from torchscape.analysis.graph.neighbours import degrees
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.random import fold, uniform
from torchscape.types import Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, SEED

__all__ = ["DegreeLaw", "degree_distribution", "degree_law", "fit_degree_law"]

_STEEPEST = 20.0
_TEN_TIMES = math.log(10.0)


@brief
@dataclasses.dataclass(frozen=True)
class DegreeLaw:
    """Power law against exponential on the tail of a degree distribution.

    Attributes:
        k_min: the smallest degree of the tail.
        n_tail: number of minima in the tail.
        exponent: maximum-likelihood alpha of p(k) ~ k^-alpha; its standard error by bootstrap in ``exponent_sd``.
        rate: maximum-likelihood lambda of p(k) ~ exp(-lambda k); its standard error in ``rate_sd``.
        log_likelihood_ratio: ln L(power law) - ln L(exponential): positive favours the power law.
        p_value: Vuong's: probability of a ratio at least this far from zero if both laws were equally close. Above
            0.1 the data do not decide.
        power_law_wins: fraction of bootstrap samples in which the power law is the likelier.
        power_law_fit, exponential_fit: goodness of fit: the fraction of samples drawn from the fitted law whose
            Kolmogorov-Smirnov distance is at least that of the data. Below 0.1 the law itself is ruled out.
        counts: number of minima of each degree 0, 1, 2, ... [K].
    """

    k_min: int
    n_tail: int
    exponent: float
    exponent_sd: float
    rate: float
    rate_sd: float
    log_likelihood_ratio: float
    p_value: float
    power_law_wins: float
    power_law_fit: float
    exponential_fit: float
    counts: Int[Tensor, "K"] = dataclasses.field(compare=False, repr=False)

    def summary(self) -> dict[str, Any]:
        """All numbers, and what they favour; without the counts."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.compare}
        return {**plain, "favours": self.favours}

    @property
    def favours(self) -> str:
        """The law that is at least ten times likelier, with a p-value of at most 0.1; else ``"undecided"``."""
        if not (self.p_value <= 0.1 and abs(self.log_likelihood_ratio) >= _TEN_TIMES):
            return "undecided"
        return "power law" if self.log_likelihood_ratio > 0 else "exponential"


def degree_distribution(network: Network) -> Int[Tensor, "K"]:
    """Number of minima of each degree 0, 1, 2, ..., up to the largest.

    Example:
        >>> net = Network.of(energy=[0.0, 0.2, 0.1], edges=[(0, 1), (1, 2)], ts_energy=[2.0, 0.5])
        >>> degree_distribution(net).tolist()
        [0, 2, 1]
    """
    return degrees(network).bincount()


def degree_law(network: Network, *, k_min: int | None = None, n_bootstrap: int = 200, seed: int = 0) -> DegreeLaw:
    """Compare a power law with an exponential on the degrees of a network, by likelihood.

    Both are discrete laws on k >= k_min: p(k) = k^-alpha / zeta(alpha, k_min) and
    p(k) = (1 - exp(-lambda)) exp(-lambda (k - k_min)), each at its maximum likelihood. Their log-likelihood ratio
    is judged by Vuong's test and by bootstrap; each law's own fit by samples drawn from it.

    Args:
        network: N minima, E transition states.
        k_min: the smallest degree of the tail; by default the one whose fitted power law is closest to the data in
            Kolmogorov-Smirnov distance, among those that leave at least 25 minima and a tenth of all.
        n_bootstrap: number of bootstrap samples and of samples from each law; with 0, what needs them is NaN.
        seed: of both.

    The package ``powerlaw`` (2.0) fits the same two laws, and a test holds these fits against it. What it has not
    got are the bootstrap of the comparison and the goodness of fit of each law, with random numbers of a seed.

    O(E log E + n_bootstrap N).

    Raises:
        TorchscapeError: if fewer than two different degrees lie in the tail.

    Reference: Clauset, Shalizi & Newman, SIAM Rev. 51, 661 (2009), doi 10.1137/070710111; Vuong, Econometrica 57,
    307 (1989), doi 10.2307/1912557.

    Example:
        >>> star = [(0, k) for k in range(1, 12)] + [(1, 2)]
        >>> network = Network.of(energy=range(12), edges=star, ts_energy=[20.0] * 12)
        >>> law = degree_law(network, k_min=1, n_bootstrap=20)
        >>> law.n_tail, law.favours
        (12, 'power law')
    """
    COUNT_OR_ZERO.check("degree_law", n_bootstrap=n_bootstrap)
    COUNT.or_none.check("degree_law", k_min=k_min)
    SEED.check("degree_law", seed=seed)
    return fit_degree_law(degrees(network), k_min=k_min, n_bootstrap=n_bootstrap, seed=seed)


def fit_degree_law(
    degree: Int[Tensor, "N"], *, k_min: int | None = None, n_bootstrap: int = 200, seed: int = 0
) -> DegreeLaw:
    """:func:`degree_law` for degrees given as such."""

    from scipy.special import erfc

    COUNT_OR_ZERO.check("fit_degree_law", n_bootstrap=n_bootstrap)
    COUNT.or_none.check("fit_degree_law", k_min=k_min)
    SEED.check("fit_degree_law", seed=seed)
    k = degree.cpu().numpy()
    k = k[k > 0]
    if k_min is None:
        k_min = _best_start(k)
    tail = k[k >= k_min]
    if len(np.unique(tail)) < 2:
        raise TorchscapeError(
            f"the degrees from {k_min} on are all equal, which fits any law: give a smaller k_min or more minima"
        )
    alpha, rate = _exponent(np.log(tail).mean(), k_min), _rate(tail.mean(), k_min)
    gain = _power_log_p(tail, alpha, k_min) - _exponential_log_p(tail, rate, k_min)
    ratio, spread = float(gain.sum()), float(gain.std())
    p_value = float(erfc(abs(ratio) / (math.sqrt(2.0 * len(tail)) * spread))) if spread > 0 else 1.0
    boot = _bootstrap(tail, k_min, n_bootstrap, seed)
    return DegreeLaw(
        k_min=int(k_min),
        n_tail=len(tail),
        exponent=alpha,
        exponent_sd=_sd(boot[:, 0]),
        rate=rate,
        rate_sd=_sd(boot[:, 1]),
        log_likelihood_ratio=ratio,
        p_value=p_value,
        power_law_wins=float((boot[:, 2] > 0).mean()) if len(boot) else math.nan,
        power_law_fit=_fit_quality(tail, k_min, alpha, "power", n_bootstrap, seed),
        exponential_fit=_fit_quality(tail, k_min, rate, "exponential", n_bootstrap, seed),
        counts=degree.bincount(),
    )


def _sd(of: np.ndarray) -> float:
    """The standard deviation; NaN of nothing."""
    return float(of.std()) if len(of) else math.nan


def _power_log_p(k: np.ndarray, alpha: float, k_min: int) -> np.ndarray:
    from scipy.special import zeta

    return -alpha * np.log(k) - math.log(zeta(alpha, k_min))


def _exponential_log_p(k: np.ndarray, rate: float, k_min: int) -> np.ndarray:
    return math.log(-math.expm1(-rate)) - rate * (k - k_min)


def _exponent(mean_log: float, k_min: int) -> float:
    """Maximum-likelihood alpha: the tail's mean ln k is all that it depends on."""

    from scipy.optimize import minimize_scalar
    from scipy.special import zeta

    def cost(alpha: float) -> float:
        return alpha * mean_log + math.log(zeta(alpha, k_min))

    return float(minimize_scalar(cost, bounds=(1.0 + 1e-6, _STEEPEST), method="bounded").x)


def _rate(mean: float, k_min: int) -> float:
    """Maximum-likelihood lambda, in closed form: a geometric law with mean excess ``mean - k_min``."""
    return math.log1p(1.0 / (mean - k_min)) if mean > k_min else math.inf


def _best_start(k: np.ndarray) -> int:
    """The k_min whose fitted power law is closest to the data (Clauset et al., section 3.3)."""
    best, start = math.inf, int(k.min()) if len(k) else 1
    for k_min in np.unique(k):
        tail = k[k >= k_min]
        if len(tail) < max(25, 0.1 * len(k)) or len(np.unique(tail)) < 3:
            break
        values, cumulative = _empirical(tail)
        law = _power_cdf(values, _exponent(np.log(tail).mean(), int(k_min)), int(k_min))
        distance = float(np.abs(cumulative - law).max())
        if distance < best:
            best, start = distance, int(k_min)
    return start


def _empirical(tail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, counts = np.unique(tail, return_counts=True)
    return values, counts.cumsum() / len(tail)


def _power_cdf(k: np.ndarray, alpha: float, k_min: int) -> np.ndarray:
    from scipy.special import zeta

    return 1.0 - zeta(alpha, k + 1.0) / zeta(alpha, k_min)


def _exponential_cdf(k: np.ndarray, rate: float, k_min: int) -> np.ndarray:
    return -np.expm1(-rate * (k + 1.0 - k_min))


def _bootstrap(tail: np.ndarray, k_min: int, n: int, seed: int) -> np.ndarray:
    """Exponent, rate and log-likelihood ratio of n resamples of the tail [n 3]."""
    out = np.zeros((n, 3))
    for row in range(n):
        pick = uniform(fold(seed, torch.tensor([row])), len(tail))[0].numpy()
        sample = tail[(pick * len(tail)).astype(np.int64)]
        alpha, rate = _exponent(np.log(sample).mean(), k_min), _rate(sample.mean(), k_min)
        if math.isinf(rate):  # all resampled degrees equal k_min: both laws put everything there
            out[row] = alpha, np.nan, 0.0
            continue
        gain = _power_log_p(sample, alpha, k_min) - _exponential_log_p(sample, rate, k_min)
        out[row] = alpha, rate, gain.sum()
    return out[np.isfinite(out).all(1)]


def _fit_quality(tail: np.ndarray, k_min: int, parameter: float, law: str, n: int, seed: int) -> float:
    """Fraction of samples of the fitted law that, fitted anew, lie at least as far from their fit as the data."""
    cdf = _power_cdf if law == "power" else _exponential_cdf

    def distance(sample: np.ndarray, value: float) -> float:
        values, cumulative = _empirical(sample)
        at, before = cdf(values, value, k_min), cdf(values - 1.0, value, k_min)
        lower = np.concatenate([[0.0], cumulative[:-1]])
        return float(max(np.abs(cumulative - at).max(), np.abs(lower - before).max()))

    found = distance(tail, parameter)
    worse = 0
    for row in range(n):
        u = uniform(fold(seed, 1, torch.tensor([row])), len(tail))[0].numpy()
        sample = _draw(u, parameter, k_min, law)
        fitted = _exponent(np.log(sample).mean(), k_min) if law == "power" else _rate(sample.mean(), k_min)
        worse += int(not math.isfinite(fitted) or distance(sample, fitted) >= found)
    return worse / n if n else math.nan


def _draw(u: np.ndarray, parameter: float, k_min: int, law: str) -> np.ndarray:
    """Degrees from uniform numbers by inverting the cumulative law."""
    if law == "exponential":
        return k_min + np.floor(np.log1p(-u) / -parameter)
    table = _power_cdf(k_min + np.arange(4096.0), parameter, k_min)
    k = k_min + np.searchsorted(table, u, side="left").astype(float)
    beyond = u > table[-1]  # far in the tail the sum is an integral: (k - 1/2)^(1 - alpha)
    rest = (1.0 - u[beyond]) / (1.0 - table[-1])
    k[beyond] = np.floor((k_min + 4095.5) * np.minimum(rest ** (1.0 / (1.0 - parameter)), 1e12) + 0.5)
    return k
