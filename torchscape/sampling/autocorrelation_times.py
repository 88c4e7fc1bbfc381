"""Integrated autocorrelation times and effective sample sizes, of reversible chains and of others.

Series are [K B ...]: K draws of each of B chains, and any number of quantities, all done in one batch.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.types import Bool, Float, Int, Tensor

__all__ = [
    "AutocorrelationTime",
    "autocorrelation",
    "autocorrelation_time",
    "effective_sample_size",
    "integrated_autocorrelation",
    "split",
]

_GROWTH = 1.15  # from one window that is tried to the next
_SIGMAS = 2.0  # beyond which what lies behind a window is no noise
_LEAST = 3.0  # times the sum of squared autocorrelations: no window is narrower


@brief
@dataclasses.dataclass(frozen=True)
class AutocorrelationTime:
    """How far apart two draws must be to count as two.

    Attributes:
        value: integrated autocorrelation time 1 + 2 sum_t rho_t, in draws [*S]; NaN for a constant.
        error: its standard error; infinite where correlations reach beyond what the chains' length resolves [*S].
        window: lags that count in full [*S].
        ess: independent draws that would give the mean as well as all draws do [*S].
    """

    value: Float[Tensor, "*S"]
    error: Float[Tensor, "*S"]
    window: Int[Tensor, "*S"]
    ess: Float[Tensor, "*S"]


def autocorrelation(series: Float[Tensor, "K *S"]) -> Float[Tensor, "K *S"]:
    """Autocovariance at lags 0..K-1 of every series about its own mean, divided by K, by FFT.

    Example:
        >>> autocorrelation(torch.tensor([1.0, -1.0, 1.0, -1.0])).tolist()
        [1.0, -0.75, 0.5, -0.25]
    """
    k = len(series)
    f = torch.fft.rfft(series - series.mean(0), n=2 * k, dim=0)
    return torch.fft.irfft(f.abs().square(), n=2 * k, dim=0)[:k] / k


def integrated_autocorrelation(series: Float[Tensor, "K B *S"]) -> AutocorrelationTime:
    """The integrated autocorrelation time 1 + 2 sum_t rho_t, with its error.

    Autocorrelations of all (split) chains are combined so that chains that disagree count as one another's
    correlation (Vehtari et al. 2021, section 3). They count in full up to the first lag W behind which there is
    only noise, and less and less from there to 2 W (the flat-top window of Politis & Romano): over the lags from W
    to 2 W both their sum and the sum of their squares stay within two standard errors of what Bartlett's formula
    leaves of no correlation at all, and W is at least three times 1 + 2 sum rho^2.

    Nothing is taken for granted of the signs of rho. Those of a reversible chain are sums of positive decays, and
    Geyer's rule cuts them where a pair of lags is first negative; those of underdamped Langevin or Hamiltonian
    dynamics and of lifted chains swing about zero, which that rule takes for the end. A window of five times the
    sum itself (Sokal) fails where the sum passes through small values, or where a slow mode is faint.

    The error is tau sqrt(2 (8 W / 3 + 1) / (K B)), from the sum of the squared weights (Madras & Sokal 1988, eq.
    E.11, for weights of 1). What no chain has seen, no diagnosis can see.

    Raises:
        TorchscapeError: for fewer than 8 draws per chain.

    References: doi 10.1214/20-BA1221; Politis & Romano, J. Time Ser. Anal. 16, 67 (1995), doi
    10.1111/j.1467-9892.1995.tb00223.x; Bartlett, J. R. Stat. Soc. Suppl. 8, 27 (1946), doi 10.2307/2983611; Madras
    & Sokal, J. Stat. Phys. 50, 109 (1988), doi 10.1007/BF01022990; Geyer (1992), doi 10.1214/ss/1177011137.

    Example:
        >>> from torchscape import random
        >>> found = integrated_autocorrelation(random.normal(torch.arange(4000), 4))
        >>> abs(found.value.item() - 1) < 4 * found.error.item() < 0.2
        True
    """
    halves = split(series)
    k, b = halves.shape[:2]
    covariance = autocorrelation(halves).mean(1)
    total = covariance[0] + halves.mean(0).var(0)
    # Covariances about a chain's own mean are too small by the variance of that mean, those at lag 0 as well.
    lag = torch.arange(k, dtype=series.dtype, device=series.device).reshape(-1, *(1,) * (covariance.ndim - 1))
    rho = 1 - (covariance[0] - covariance * k / (k - lag)) / total
    shape, n = rho.shape[1:], k * b
    rho = rho.reshape(k, -1)
    sums = _Sums(rho.cumsum(0), (rho * torch.arange(k, device=rho.device)[:, None]).cumsum(0))
    window, resolved = _window(sums, rho.square().cumsum(0), n)
    tau = sums.tapered(window).clamp(min=1 / math.log10(n))
    error = torch.where(resolved, tau * (2 * (8 / 3 * window + 1) / n).sqrt(), torch.inf)
    known = (total > 0).reshape(-1)
    tau, error = (torch.where(known, part, torch.nan) for part in (tau, error))
    return AutocorrelationTime(*(part.reshape(shape) for part in (tau, error, window, n / tau)))


@dataclasses.dataclass(frozen=True)
class _Sums:
    """Sums over lags 0..t of rho and of t rho, from which a sum with any flat-top weights follows."""

    plain: Float[Tensor, "K S"]
    by_lag: Float[Tensor, "K S"]

    def tapered(self, w: Int[Tensor, "S"]) -> Float[Tensor, "S"]:
        """1 + 2 sum_t g_t rho_t, with g_t = 1 up to lag w and falling to 0 at 2 w."""
        low, high = w[None], 2 * w[None]
        inside = self.plain.gather(0, low)
        plain = self.plain.gather(0, high) - inside
        by_lag = self.by_lag.gather(0, high) - self.by_lag.gather(0, low)
        return (2 * (inside + 2 * plain - by_lag / w) - 1)[0]


def _window(sums: _Sums, squares: Float[Tensor, "K S"], n: int) -> tuple[Int[Tensor, "S"], Bool[Tensor, "S"]]:
    """The first lag behind which, over a stretch as long again, is nothing but noise; and if there is one."""
    k = len(squares)
    most = max(1, k // 3)  # lags of up to 2 k / 3, beyond which too few pairs of draws are left
    window = torch.full((squares.shape[1],), most, dtype=torch.int64, device=squares.device)
    done = torch.zeros_like(window, dtype=torch.bool)
    for w in _grid(most):
        spread = 2 * squares[w] - 1  # the sum of rho^2 over both signs of the lag
        tau = sums.tapered(torch.full_like(window, w)).abs().clamp(min=1 / math.log10(n))
        behind, power = sums.plain[2 * w] - sums.plain[w], squares[2 * w] - squares[w]
        # Bartlett: far lags have variance spread / n, and their sum over w of them w tau^2 / n; fewer pairs
        # of draws are left for them. The errors are correlated over lags, for exponential decay as if 2 w / (5
        # spread) of their squares were independent.
        expected = w * spread / n * k / (k - 1.5 * w)
        quiet = behind.abs() <= _SIGMAS * tau * (w / n) ** 0.5
        quiet &= power <= expected * (1 + _SIGMAS * (5 * spread / w).sqrt())
        found = ~done & quiet & (w >= _LEAST * spread)
        window = torch.where(found, w, window)
        done |= found
    return window, done


def _grid(most: int) -> list[int]:
    grid: list[int] = []
    w = 1.0
    while round(w) < most:
        if not grid or round(w) > grid[-1]:
            grid.append(round(w))
        w = max(w * _GROWTH, w + 1)
    return grid


def autocorrelation_time(series: Float[Tensor, "K B *S"]) -> Float[Tensor, "*S"]:
    """Integrated autocorrelation time 1 + 2 sum_t rho_t, in draws (:func:`integrated_autocorrelation`).

    Example:
        >>> from torchscape import random
        >>> white = random.normal(torch.arange(4000), 4)
        >>> abs(autocorrelation_time(white).item() - 1) < 0.1
        True
    """
    return integrated_autocorrelation(series).value


def effective_sample_size(series: Float[Tensor, "K B *S"]) -> Float[Tensor, "*S"]:
    """Independent draws that would give the mean as well as all K B draws do: K B / tau.

    At most K B log10(K B); NaN for a constant. The window of tau is that of :func:`integrated_autocorrelation`.

    Raises:
        TorchscapeError: for fewer than 8 draws per chain.
    """
    return integrated_autocorrelation(series).ess


def split(series: Float[Tensor, "K B *S"]) -> Float[Tensor, "H C *S"]:
    """Every chain as two: halves that disagree show a drift. A middle draw of odd K is dropped."""
    if len(series) < 8:
        raise TorchscapeError(f"8 draws per chain are needed for a diagnosis, not {len(series)}: run more steps")
    half = len(series) // 2
    return torch.cat([series[:half], series[-half:]], 1)
