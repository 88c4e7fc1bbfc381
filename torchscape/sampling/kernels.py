"""Kernels of diffusion maps: of one width, or wide where points are sparse."""

from __future__ import annotations

import dataclasses
import math

import torch

from torchscape.errors import TorchscapeError
from torchscape.sampling.bandwidth import log_sum_slope
from torchscape.sampling.neighbours import Neighbours
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, FINITE, POSITIVE, check_fields

__all__ = ["DiffusionKernel", "FittedKernel", "FixedBandwidth", "VariableBandwidth", "kernel_values"]


@dataclasses.dataclass(frozen=True)
class FittedKernel:
    """A kernel with its widths: k(x, y) = exp(-d(x, y)^2 / (4 epsilon rho(x) rho(y))).

    Attributes:
        epsilon: a squared length.
        dimension: of the set the points lie on.
        rho: relative widths at the points [N].
        beta: the power of the density that rho is; NaN where that is not known.
    """

    epsilon: float
    dimension: float
    rho: Float[Tensor, "N"]
    beta: float

    def rho_at(self, near: Neighbours) -> Float[Tensor, "B"]:
        """Relative widths at other places: those of the nearest point."""
        return self.rho[near.index[:, 0]]


class DiffusionKernel:
    """What finds its widths from the points."""

    def fit(self, near: Neighbours) -> FittedKernel:
        raise NotImplementedError


def kernel_values(fitted: FittedKernel, near: Neighbours, rho: Float[Tensor, "B"]) -> Float[Tensor, "B K"]:
    """k between places of relative widths ``rho`` and their neighbours."""
    width = 4.0 * fitted.epsilon * rho[:, None] * fitted.rho[near.index]
    return torch.exp(-near.distance.double().square() / width)


@dataclasses.dataclass(frozen=True)
class FixedBandwidth(DiffusionKernel):
    """k(x, y) = exp(-d^2 / (4 epsilon)), with one width everywhere.

    Attributes:
        epsilon: squared length; by default where the log-sum is steepest
            (:func:`~torchscape.sampling.log_sum_slope`), which also gives the dimension.

    Example:
        >>> FixedBandwidth(epsilon=0.1)
        FixedBandwidth(epsilon=0.1)
    """

    epsilon: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, epsilon=POSITIVE.or_none)

    def fit(self, near: Neighbours) -> FittedKernel:
        found = log_sum_slope(near.distance.double().square())
        epsilon = found.epsilon if self.epsilon is None else _positive(self.epsilon)
        ones = torch.ones(len(near), dtype=torch.float64, device=near.distance.device)
        return FittedKernel(epsilon, found.dimension, ones, 0.0)


@dataclasses.dataclass(frozen=True)
class VariableBandwidth(DiffusionKernel):
    """k(x, y) = exp(-d^2 / (4 epsilon rho(x) rho(y))) with rho = q^beta, q the density of the points.

    With beta < 0 it is wide where points are sparse: the tails of a distribution, which a kernel of one width
    that suits the bulk takes for isolated points. The density is estimated with a first kernel whose widths are
    the root mean square distances to a few nearest neighbours; rho is scaled to geometric mean 1. Where epsilon
    rho^2 lambda comes near 1 in a tail, functions live there that are none: take beta nearer to 0.

    Attributes:
        beta: power of the density; -1 / (d + 1) by default, in one dimension the -1/2 of the paper.
        epsilon: squared length; by default where the log-sum is steepest.
        dimension: of the set the points lie on; by default estimated by the log-sum of the first kernel. It enters
            the density and the generator, so give it where it is known.
        n_first: neighbours that the first widths are made of, the point itself counted.
        rho: relative widths at the points instead, in any unit [N]; new places then take the width of the nearest,
            and the map wants an alpha or a target, as nothing says how these widths go with the density.

    Reference: Berry & Harlim, Appl. Comput. Harmon. Anal. 40, 68 (2016), doi 10.1016/j.acha.2015.01.001.

    Example:
        >>> VariableBandwidth(beta=-0.5, dimension=1).beta
        -0.5
    """

    beta: float | None = None
    epsilon: float | None = None
    dimension: float | int | None = None
    n_first: int = 8
    rho: Float[Tensor, "N"] | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            beta=FINITE.or_none,
            epsilon=POSITIVE.or_none,
            dimension=POSITIVE.or_none,
            n_first=COUNT,
        )

    def fit(self, near: Neighbours) -> FittedKernel:
        squared = near.distance.double().square()
        first = _mean_square(squared, self.n_first).sqrt()
        if not bool((first > 0).all()):
            raise TorchscapeError(
                f"a point has {self.n_first} or more copies, so no first width: leave out copies, or raise n_first"
            )
        slope = log_sum_slope(squared / (first[:, None] * first[near.index]))
        dimension = slope.dimension if self.dimension is None else float(self.dimension)
        beta = -1.0 / (dimension + 1.0) if self.beta is None else self.beta
        fitted = FittedVariable(0.0, dimension, first, beta, first, slope.epsilon, self.n_first, 0.0)
        log_rho = beta * fitted.log_density(near) if self.rho is None else self.rho.detach().to(first).log()
        middle = float(log_rho.mean())
        rho = torch.exp(log_rho - middle)
        epsilon = self.epsilon
        if epsilon is None:
            epsilon = log_sum_slope(squared / (rho[:, None] * rho[near.index])).epsilon
        epsilon = _positive(epsilon)
        if self.rho is not None:
            return FittedKernel(epsilon, dimension, rho, math.nan)
        return dataclasses.replace(fitted, rho=rho, middle=middle, epsilon=epsilon)


@dataclasses.dataclass(frozen=True)
class FittedVariable(FittedKernel):
    """With what the density was estimated by: the first widths and their epsilon, and the mean of ln rho before
    it was scaled."""

    first: Float[Tensor, "N"]
    first_epsilon: float
    n_first: int
    middle: float

    def log_density(self, near: Neighbours) -> Float[Tensor, "B"]:
        """ln q by the first kernel, its normalisation included."""
        squared = near.distance.double().square()
        here = _mean_square(squared, self.n_first).sqrt()
        width = 4.0 * self.first_epsilon * here[:, None] * self.first[near.index]
        log_sum = torch.logsumexp(-squared / width, 1) - math.log(len(self.first))
        return log_sum - 0.5 * self.dimension * torch.log(4.0 * math.pi * self.first_epsilon * here.square())

    def rho_at(self, near: Neighbours) -> Float[Tensor, "B"]:
        return torch.exp(self.beta * self.log_density(near) - self.middle)


def _mean_square(squared: Float[Tensor, "B K"], n: int) -> Float[Tensor, "B"]:
    """Over the n nearest, of which one is the point itself (or, for a new place, stands for it)."""
    n = min(max(n, 2), squared.shape[1])
    return squared[:, :n].sum(1) / (n - 1)


def _positive(epsilon: float) -> float:
    if not epsilon > 0:
        raise TorchscapeError(f"epsilon must be positive, not {epsilon}: it is a squared length")
    return float(epsilon)
