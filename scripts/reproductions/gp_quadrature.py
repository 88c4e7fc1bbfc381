"""The posterior of few hyperparameters by the midpoint rule on a grid: what chains are held against."""

from __future__ import annotations

import dataclasses
import math

import torch

from torchscape.potentials import GaussianProcessPotential

__all__ = ["GridPosterior"]

_NEGLIGIBLE = 1e-9  # of the largest weight: such nodes change no digit that is shown
_ROWS = 1000  # of nodes whose predictions are held at once


@dataclasses.dataclass(frozen=True)
class GridPosterior:
    """Nodes of a regular grid in the box and their weights, exp(-U) normalised.

    Attributes:
        x: nodes of more than negligible weight [S D].
        log_weight: ln of their weights [S].
    """

    x: torch.Tensor
    log_weight: torch.Tensor

    @classmethod
    def of(cls, potential: GaussianProcessPotential, n: int) -> GridPosterior:
        """``n`` midpoints along each coordinate: n^D energies."""
        box = potential.bounds
        assert box is not None
        u = (torch.arange(n, dtype=potential.dtype, device=potential.device) + 0.5) / n
        axes = [low + u * (high - low) for low, high in zip(box.lower, box.upper, strict=True)]
        x = torch.cartesian_prod(*axes)
        energy = torch.cat([potential.energy(part) for part in x.split(50_000)])
        keep = energy - energy.min() < -math.log(_NEGLIGIBLE)
        return cls(x[keep], (-energy[keep]).log_softmax(0))

    def mean(self) -> torch.Tensor:
        """Of each coordinate [D]."""
        return self.log_weight.exp() @ self.x

    def deviation(self) -> torch.Tensor:
        """Standard deviation of each coordinate [D]."""
        return (self.log_weight.exp() @ (self.x - self.mean()).square()).sqrt()

    def log_density(
        self, potential: GaussianProcessPotential, test: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """ln p(y) of noisy observations [m], the hyperparameters integrated out."""
        inputs, y = test
        total = torch.full_like(y, -torch.inf)
        for x, log_weight in zip(self.x.split(_ROWS), self.log_weight.split(_ROWS), strict=True):
            mean, variance = potential.predict(x, inputs, noisy=True)
            each = torch.distributions.Normal(mean, variance.sqrt()).log_prob(y)
            total = torch.logaddexp(total, (log_weight[:, None] + each).logsumexp(0))
        return total
