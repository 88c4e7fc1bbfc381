"""Predictive distributions of real targets that are mixtures of normal ones: densities, intervals, comparison."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.memory import SOME_LARGE, in_chunks, rows_that_fit
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT_OR_ZERO, SEED

__all__ = ["NormalMixture", "RegressionComparison", "compare_regression"]

_NODES = 16  # of Gauss-Hermite quadrature, per component


@brief
@dataclasses.dataclass(frozen=True)
class NormalMixture:
    """p_j(y) = sum_k w_k N(y; means_kj, variances_kj) for each of m items: one component per fitted model or draw.

    Attributes:
        means, variances: of the components.
        log_weight: ln w_k, normalised.

    Example:
        >>> both = NormalMixture.of(torch.tensor([[-1.0], [1.0]]).double(), torch.ones(2, 1).double())
        >>> both.expectation.item(), both.variance.item(), both.cdf(torch.zeros(1).double()).item()
        (0.0, 2.0, 0.5)
    """

    means: Float[Tensor, "K m"]
    variances: Float[Tensor, "K m"]
    log_weight: Float[Tensor, "K"]

    @classmethod
    def of(
        cls,
        means: Float[Tensor, "K m"],
        variances: Float[Tensor, "K m"],
        log_weight: Float[Tensor, "K"] | None = None,
    ) -> NormalMixture:
        """Weights are made to add up to one; equal by default.

        Raises:
            TorchscapeError: without components, or where a variance is not positive and finite.
        """
        if len(means) == 0 or not bool(((variances > 0) & variances.isfinite() & means.isfinite()).all()):
            raise TorchscapeError(
                "a mixture needs one component or more, with finite means and positive variances: "
                "leave out fits that failed, and predict with noise"
            )
        score = means.new_zeros(len(means)) if log_weight is None else log_weight.to(means)
        return cls(means, variances, score.log_softmax(0))

    def __len__(self) -> int:
        return len(self.means)

    @property
    def expectation(self) -> Float[Tensor, "m"]:
        """E y."""
        return self.log_weight.exp() @ self.means

    @property
    def variance(self) -> Float[Tensor, "m"]:
        """Var y: mean variance of the components, and variance of their means."""
        return self.log_weight.exp() @ (self.variances + (self.means - self.expectation).square())

    def log_density(self, y: Float[Tensor, "*S m"]) -> Float[Tensor, "*S m"]:
        """ln p_j(y_j), summed over components in logarithms."""

        def of(z: Tensor, variance: Tensor) -> Tensor:
            normal = -0.5 * (z.square() + (2 * math.pi * variance).log())
            return (self.log_weight[:, None] + normal).logsumexp(-2)

        return self._over_items(of, y)

    def cdf(self, y: Float[Tensor, "*S m"]) -> Float[Tensor, "*S m"]:
        """P(Y_j <= y_j)."""
        return self._over_items(lambda z, _: self.log_weight.exp() @ torch.special.ndtr(z), y)

    def quantile(self, p: float) -> Float[Tensor, "m"]:
        """y with P(Y_j <= y_j) = p, by bisection between the quantiles of the components.

        Raises:
            TorchscapeError: unless 0 < p < 1.
        """
        if not 0 < p < 1:
            raise TorchscapeError(f"a quantile lies between 0 and 1, not at {p}")
        own = self.means + self.variances.sqrt() * torch.special.ndtri(self.means.new_tensor(p))
        low, high = own.amin(0), own.amax(0)
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = self.cdf(middle) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)

    def divergence(self, other: NormalMixture) -> Float[Tensor, "m"]:
        """Kullback-Leibler divergence int p ln(p / other): the log density lost by predicting with ``other``
        what is distributed as this mixture. Gauss-Hermite quadrature about every component.

        Example:
            >>> unit = torch.ones(1, 1).double()
            >>> round(NormalMixture.of(0 * unit, unit).divergence(NormalMixture.of(3 * unit, unit)).item(), 9)
            4.5
        """
        points, weights = (torch.as_tensor(a).to(self.means) for a in np.polynomial.hermite_e.hermegauss(_NODES))
        weight = self.log_weight.exp()[:, None] * weights / math.sqrt(2 * math.pi)
        y = self.means[:, None] + self.variances.sqrt()[:, None] * points[:, None]  # [K Q m]
        return torch.einsum("kq,kqm->m", weight, self.log_density(y) - other.log_density(y))

    def _over_items(self, f, y: Float[Tensor, "*S m"]) -> Float[Tensor, "*S m"]:
        """``f(z [*S K m], variance [K m])`` with z the distance in standard deviations, some items at a time."""
        width = rows_that_fit(len(self) * y[..., 0].numel(), y.device, on_host=SOME_LARGE)
        parts = [
            f((target[..., None, :] - mean) / variance.sqrt(), variance)
            for target, mean, variance in zip(
                y.split(width, -1), self.means.split(width, 1), self.variances.split(width, 1), strict=True
            )
        ]
        return torch.cat(parts, -1)


@brief
@dataclasses.dataclass(frozen=True)
class RegressionComparison:
    """M predictive distributions on the same held-out items. Every error is a standard error over resampled items.

    Attributes:
        names: of the predictors.
        log_density: mean of ln p(y) [M]; large is good.
        rmse: root mean square error of the expectation [M].
        coverage: fraction of items inside the central intervals [M L]; ``levels`` if calibrated.
        log_density_error, rmse_error, coverage_error: standard errors.
        gain: log density above that of the baseline [M].
        gain_error: its standard error, on the same items [M].
        rmse_gain, rmse_gain_error: how far the RMSE lies below that of the baseline [M].
        levels: of the central intervals.
        baseline: name of the predictor that the others are compared with.
        n_items: number of items.
    """

    names: tuple[str, ...]
    log_density: Float[Tensor, "M"]
    log_density_error: Float[Tensor, "M"]
    rmse: Float[Tensor, "M"]
    rmse_error: Float[Tensor, "M"]
    coverage: Float[Tensor, "M L"]
    coverage_error: Float[Tensor, "M L"]
    gain: Float[Tensor, "M"]
    gain_error: Float[Tensor, "M"]
    rmse_gain: Float[Tensor, "M"]
    rmse_gain_error: Float[Tensor, "M"]
    levels: tuple[float, ...]
    baseline: str
    n_items: int

    def table(self) -> str:
        """The numbers for people, one line per predictor."""
        width = max(len(name) for name in (*self.names, "predictor"))
        inside = "".join(f"  {f'in {level:.0%}':>12}" for level in self.levels)
        head = f"{'predictor':{width}}  {'log density':>16}  {'gain':>16}  {'RMSE':>15}{inside}"
        lines = [head, "-" * len(head)]
        for k, name in enumerate(self.names):
            density = f"{float(self.log_density[k]):.3f} ± {float(self.log_density_error[k]):.3f}"
            gain = f"{float(self.gain[k]):+.3f} ± {float(self.gain_error[k]):.3f}"
            rmse = f"{float(self.rmse[k]):.4f} ± {float(self.rmse_error[k]):.4f}"
            gain = "baseline" if name == self.baseline else gain
            inside = "".join(
                f"  {f'{float(c):.1%} ± {float(e):.1%}':>12}"
                for c, e in zip(self.coverage[k], self.coverage_error[k], strict=True)
            )
            lines.append(f"{name:{width}}  {density:>16}  {gain:>16}  {rmse:>15}{inside}")
        lines.append(f"{self.n_items} items; errors are standard errors over resampled items")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def compare_regression(
    predictions: Mapping[str, NormalMixture],
    targets: Float[Tensor, "m"],
    *,
    baseline: str | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> RegressionComparison:
    """Log density, RMSE and coverage of predictive distributions, and how far the choice of items explains a gap.

    An item lies in the central interval of level a if its distribution function is within (1 - a)/2 of neither 0
    nor 1. The items are resampled with replacement, the same samples for all predictors.

    Args:
        predictions: of the m items, by name.
        targets: what was observed.
        baseline: what to compare with; the first by default.
        levels: of the central intervals.
        n_bootstrap: samples of items.
        seed: of these.

    Raises:
        TorchscapeError: without predictors or items, if shapes do not fit, or for levels outside 0..1.
        UnknownName: for a baseline that is none of the predictors.

    Reference: T. Gneiting and A. E. Raftery, J. Am. Stat. Assoc. 102, 359 (2007), doi 10.1198/016214506000001437.

    Example:
        >>> y, one = torch.tensor([0.5, -0.5]).double(), torch.ones(1, 2).double()
        >>> given = {"wide": NormalMixture.of(0 * one, 9 * one), "right": NormalMixture.of(0 * one, one)}
        >>> compare_regression(given, y).gain.round(decimals=4).tolist()
        [0.0, 0.9875]
    """
    COUNT_OR_ZERO.check("compare_regression", n_bootstrap=n_bootstrap)
    SEED.check("compare_regression", seed=seed)
    if not predictions or len(targets) == 0:
        raise TorchscapeError("give at least one predictor and one item")
    if not all(0 < level < 1 for level in levels):
        raise TorchscapeError(f"levels of intervals lie between 0 and 1: {tuple(levels)}")
    names = tuple(predictions)
    baseline = names[0] if baseline is None else baseline
    if baseline not in predictions:
        raise UnknownName.of("predictor", baseline, list(names))
    items = torch.stack([_per_item(p, targets, name, levels) for name, p in predictions.items()])  # [M 2+L m]
    drawn = torch.cat([_summed_up(items.mean(2))[None], _summed_up(_resampled(items, n_bootstrap, seed))])
    gaps = drawn - drawn[:, [names.index(baseline)]]
    mean, error = drawn[0], drawn[1:].std(0)
    gain, gain_error = gaps[0], gaps[1:].std(0)
    return RegressionComparison(
        names=names,
        log_density=mean[:, 0],
        log_density_error=error[:, 0],
        rmse=mean[:, 1],
        rmse_error=error[:, 1],
        coverage=mean[:, 2:],
        coverage_error=error[:, 2:],
        gain=gain[:, 0],
        gain_error=gain_error[:, 0],
        rmse_gain=0.0 - gain[:, 1],
        rmse_gain_error=gain_error[:, 1],
        levels=tuple(levels),
        baseline=baseline,
        n_items=len(targets),
    )


def _per_item(
    mixture: NormalMixture, targets: Float[Tensor, "m"], name: str, levels: Sequence[float]
) -> Float[Tensor, "R m"]:
    """Log density, squared error, and whether the item lies inside each interval."""
    if mixture.means.shape[1] != len(targets):
        raise TorchscapeError(f"{name!r} predicts {mixture.means.shape[1]} items, but there are {len(targets)}")
    y = targets.to(mixture.means)
    off = (mixture.cdf(y) - 0.5).abs()
    inside = [(off <= 0.5 * level).to(y) for level in levels]
    return torch.stack([mixture.log_density(y), (y - mixture.expectation).square(), *inside]).double()


def _summed_up(means: Float[Tensor, "*S M R"]) -> Float[Tensor, "*S M R"]:
    """Mean squared errors as their roots."""
    return torch.cat([means[..., :1], means[..., 1:2].sqrt(), means[..., 2:]], -1)


def _resampled(items: Float[Tensor, "M R m"], n_bootstrap: int, seed: int) -> Float[Tensor, "S M R"]:
    """Means over samples of items."""
    m = items.shape[2]
    keys = random.fold(seed, torch.arange(n_bootstrap, device=items.device))
    draws = []
    for key in in_chunks(keys, m, on_host=SOME_LARGE):
        picked = (random.uniform(key, m) * m).long()
        counts = items.new_zeros(len(key), m).scatter_add_(1, picked, items.new_ones(picked.shape))
        draws.append(torch.einsum("sm,krm->skr", counts, items) / m)
    return torch.cat(draws)
