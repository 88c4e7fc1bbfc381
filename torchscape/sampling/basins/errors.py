"""Means over independent ladders of short, correlated series, and what they may be off by."""

from __future__ import annotations

import torch

from torchscape.types import Float, Tensor

__all__ = ["mean_and_error", "student"]


def mean_and_error(
    series: Float[Tensor, "S W *N"],
) -> tuple[Float[Tensor, "*N"], Float[Tensor, "*N"], Float[Tensor, "*N"]]:
    """Mean over S records of W ladders, its standard error, and the effective number of records.

    The variance of the mean is 1 / (S W) sum_|t|<=m (1 - |t| / S) gamma_t. Autocovariances gamma_t are taken about
    the mean of *all* ladders, which is their own expectation too: about the mean of each ladder they come out too
    small once correlations last as long as the records. The sum ends at the first pair of lags whose sum is not
    positive (Geyer). Where it never ends, it is the scatter of the W ladder means, whatever the correlations;
    where it ends soon, it is known much better than from W numbers. The error is widened as Student's law is
    wider than the normal one for so many degrees of freedom, so that deviations in units of it have variance 1.

    Reference: C. J. Geyer, Stat. Sci. 7, 473 (1992), doi 10.1214/ss/1177011137, for where to end.

    Example:
        >>> from torchscape import random
        >>> mean, error, n = mean_and_error(random.normal(torch.arange(400), 8))
        >>> 0.7 < error.item() * 3200**0.5 < 1.4, abs(mean.item()) < 4 * error.item()
        (True, True)
    """
    s, w = series.shape[:2]
    mean = series.mean((0, 1))
    f = torch.fft.rfft(series - mean, n=2 * s, dim=0)
    gamma = torch.fft.irfft(f.abs().square(), n=2 * s, dim=0)[:s].mean(1) / s  # (1 - t / S) gamma_t
    pairs = gamma[: s // 2 * 2].reshape(s // 2, 2, *gamma.shape[1:]).sum(1)
    counts = (pairs > 0).to(series.dtype).cumprod(0)
    total = (2 * (counts * pairs).sum(0) - gamma[0]).clamp(min=0.1 * gamma[0])
    share = 1 - torch.arange(s // 2 * 2, dtype=series.dtype, device=series.device) / s
    lags = 2 * (counts * share.reshape(s // 2, 2, *[1] * (series.ndim - 2)).sum(1)).sum(0) - 1
    # Taking the mean off takes the variance of the mean off every autocovariance in the sum.
    freedom = s * w / lags.clamp(min=1.0) - 1
    variance = total / (s * w) * (1 + 1 / freedom)
    return mean, variance.sqrt() * student(freedom), gamma[0] / variance


def student(freedom: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Standard deviation of Student's law; of 4 degrees of freedom where there are fewer.

    Example:
        >>> student(torch.tensor([4.0, 102.0]).double()).square().round(decimals=9).tolist()
        [2.0, 1.02]
    """
    freedom = freedom.clamp(min=4.0)
    return (freedom / (freedom - 2)).sqrt()
