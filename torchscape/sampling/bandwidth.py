"""How wide a kernel should be, and of what dimension the points are: the slope of the log-sum."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.types import Float, Tensor

__all__ = ["LogSumSlope", "log_sum_slope"]

_NUMBERS = 1 << 20  # distances that are looked at
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@brief
@dataclasses.dataclass(frozen=True)
class LogSumSlope:
    """Where a kernel sees the points as the smooth set they came from.

    Attributes:
        epsilon: of the kernel exp(-d^2 / (4 epsilon)), a squared length: where the slope is steepest.
        dimension: twice the slope there.
        grid, slope: the curve, at powers of two of epsilon [G].
    """

    epsilon: float
    dimension: float
    grid: Float[Tensor, "G"]
    slope: Float[Tensor, "G"]


def log_sum_slope(squared: Float[Tensor, "B K"], *, refine: int = 20) -> LogSumSlope:
    """The bandwidth at which S(e) = sum_ij exp(-d_ij^2 / (4 e)) grows fastest, and the dimension of the points.

    On a d-dimensional set S ~ e^(d/2) between two plateaus: for small e each point sees only itself, for large e
    every point sees all. The slope d ln S / d ln e is evaluated in closed form, at powers of two first and by a
    golden-section search around the best of them.

    Args:
        squared: squared distances of B points to K, those to themselves included; of more than a million, those
            of evenly spaced points.
        refine: evaluations of the search.

    Raises:
        TorchscapeError: if all points are one.

    Reference: Coifman, Shkolnisky, Sigworth & Singer, IEEE Trans. Image Process. 17, 1891 (2008),
    doi 10.1109/TIP.2008.2002305.

    Example:
        >>> x = torch.arange(400.0, dtype=torch.float64) / 400
        >>> found = log_sum_slope((x[:, None] - x).square())
        >>> round(found.dimension, 1)
        1.0
    """
    every = -(-squared.numel() // _NUMBERS)
    flat = squared.detach()[::every].double().reshape(-1)
    positive = flat[flat > 0]
    if len(positive) == 0:
        raise TorchscapeError(
            "all points are the same, or no point has a neighbour: no bandwidth follows from that"
        )
    low, high = (float(bound) for bound in torch.aminmax(positive))
    flat = flat.sort().values

    def slope(log_epsilon: float) -> float:
        width = 4.0 * math.exp(log_epsilon)
        # Pairs further apart are none: exp(-750) is zero in double precision.
        exponent = flat[: int(torch.searchsorted(flat, 750.0 * width))] / width
        kernel = torch.exp(-exponent)
        return float((exponent * kernel).sum() / kernel.sum())

    step = math.log(2.0)
    start, stop = math.log(low / 64.0), math.log(4.0 * high)
    # Between neighbours a hair apart and the width of everything lie many octaves in which nothing happens.
    n = min(64, int((stop - start) / step) + 2)
    grid = [stop - step * k for k in range(n)][::-1]
    slopes = [slope(at) for at in grid]
    best = max(range(n), key=slopes.__getitem__)
    peak = _golden(slope, grid[best] - step, grid[best] + step, refine)
    if slope(peak) < slopes[best]:
        peak = grid[best]
    values = torch.tensor(slopes, dtype=torch.float64, device=squared.device)
    return LogSumSlope(math.exp(peak), 2.0 * slope(peak), torch.tensor(grid).to(values).exp(), values)


def _golden(f: Callable[[float], float], low: float, high: float, n: int) -> float:
    """Where f is largest between two places."""
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = f(a), f(b)
    for _ in range(n):
        if at_a > at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = f(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = f(b)
    return a if at_a > at_b else b
