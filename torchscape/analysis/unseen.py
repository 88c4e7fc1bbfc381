"""What is not seen yet, from how often each thing was seen: Good and Turing's coverage, Chao's richness."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import torch

from torchscape.errors import TorchscapeError
from torchscape.types import Float, Int, Tensor

__all__ = ["Unseen", "coverage_interval", "frequencies", "quantile", "richness_interval", "turing_coverage"]


@dataclasses.dataclass(frozen=True)
class Unseen:
    """Chao1's number f0 of points without a hit, and its derivatives by f1 and f2."""

    f1: int
    f2: int
    f0: float
    d1: float
    d2: float

    @classmethod
    def of(cls, f1: int, f2: int) -> Unseen:
        f0 = f1 * (f1 - 1) / (2 * (f2 + 1))
        return cls(f1, f2, f0, (2 * f1 - 1) / (2 * (f2 + 1)) if f1 else 0.0, -f0 / (f2 + 1))

    def emerging(self, n: int, m: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        """How many of the f0 come up in m further searches."""
        return self.f0 * -torch.expm1(m * self._log_missed(n))

    def variance(self, n: int, s: int, m: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        """Variance of S + :meth:`emerging` by the delta method, for multinomial f_k around S + f0 points."""
        share = -torch.expm1(m * self._log_missed(n))
        # emerging = f0 (1 - (1 - u)^m) with u = f1 / (n f0 + f1)
        by_u = self.f0 * m * torch.exp((m - 1) * self._log_missed(n)) if self.f0 else 0 * m
        scale = n / (n * self.f0 + self.f1) ** 2 if self.f1 else 0.0
        g1 = 1 + self.d1 * share + by_u * scale * (self.f0 - self.f1 * self.d1)
        g2 = 1 + self.d2 * share - by_u * scale * self.f1 * self.d2
        square = (s - self.f1 - self.f2) + self.f1 * g1**2 + self.f2 * g2**2
        mean = (s - self.f1 - self.f2) + self.f1 * g1 + self.f2 * g2
        return square - mean**2 / (s + self.f0)

    def _log_missed(self, n: int) -> float:
        """ln(1 - u): a point that is still unseen stays so in one more search."""
        return math.log1p(-self.f1 / (n * self.f0 + self.f1)) if self.f0 else 0.0


def frequencies(hits: Int[Tensor, "N"]) -> tuple[int, int, int, int]:
    """Searches n, points S that any has found, and those that exactly one, and two, have found: f1, f2."""
    return tuple(int(x) for x in (hits.sum(), (hits > 0).sum(), (hits == 1).sum(), (hits == 2).sum()))  # type: ignore[return-value]


def quantile(level: float) -> float:
    """Of the normal distribution: confidence limits at this level are so many standard deviations away."""
    if not 0 < level < 1:
        raise TorchscapeError(f"level={level} is no probability: give one between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)


def turing_coverage(n: int, f1: int, f2: int) -> float:
    """Probability that the next search ends in a point that was found before."""
    if f1 == 0:
        return 1.0
    others = (n - 1) * f1 / ((n - 1) * f1 + 2 * f2) if f2 else 1.0
    if f2 == 0 and f1 > 1:
        others = (n - 1) * (f1 - 1) / ((n - 1) * (f1 - 1) + 2)
    return 1 - f1 / n * others


def coverage_interval(n: int, f1: int, f2: int, z: float) -> tuple[float, float]:
    """Confidence limits of the coverage."""
    # (1 + z^2/n) e^2 - (2 f1 + z^2) e + f1^2 - 2 z^2 f2 = 0
    a, b, c = 1 + z * z / n, 2 * f1 + z * z, f1 * f1 - 2 * z * z * f2
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    low, high = (b - root) / (2 * a), (b + root) / (2 * a)
    middle = turing_coverage(n, f1, f2)  # corrected, so that it may leave the limits of f1 / n where n is tiny
    return min(max(1 - high / n, 0.0), middle), max(min(1 - low / n, 1.0), middle)


def richness_interval(n: int, s: int, unseen: Unseen, z: float) -> tuple[float, float]:
    """Confidence limits of the number of points in all."""
    f0, f1, f2 = unseen.f0, unseen.f1, unseen.f2
    if f0 == 0:  # as if all points were alike: each is missed with probability exp(-n/S)
        missed = math.exp(-n / s)
        middle, half = s / (1 - missed), z * math.sqrt(s * missed * (1 - missed)) / (1 - missed)
        return max(float(s), middle - half), middle + half
    variance = f0 + f1 * unseen.d1**2 + f2 * unseen.d2**2
    if f2 == 0:
        variance -= f1**4 / (4 * (s + f0))
    spread = math.exp(z * math.sqrt(math.log1p(variance / f0**2)))
    return s + f0 / spread, s + f0 * spread
