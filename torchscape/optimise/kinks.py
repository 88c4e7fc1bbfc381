"""Kinks: places where a descent stops although the gradient is not small, because it jumps."""

from __future__ import annotations

import torch

from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Tensor

__all__ = ["at_kinks"]


def at_kinks(potential: Potential, x: Float[Tensor, "B D"], reach: float = 1e-5) -> Bool[Tensor, "B"]:
    """Whether the gradient jumps within ``reach`` length scales of each point, as that of |x| at zero.

    Across a step of length h along the gradient a smooth gradient changes by h times the curvature, which a step a
    hundred times shorter makes a hundred times less. A jump stays as it is.

    Example:
        >>> class Edge(Potential):
        ...     ndim = 1
        ...     def energy(self, x):
        ...         return x.abs().sum(1) + x.square().sum(1)
        >>> at_kinks(Edge(), torch.tensor([[1e-9], [0.5]], dtype=torch.float64)).tolist()
        [True, False]
    """
    grad = potential.energy_and_grad(x)[1]
    direction = grad / grad.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    lengths = x.new_tensor([reach, 0.01 * reach]) * potential.length_scale
    both_sides = torch.stack([direction, -direction])[:, None]
    places = (x + lengths[:, None, None] * both_sides).reshape(-1, x.shape[1])
    if potential.bounds is not None:
        places = potential.bounds.clamp(places)
    around = potential.energy_and_grad(places)[1].reshape(2, 2, *x.shape)
    jump = (around[0] - around[1]).norm(dim=2)
    return torch.logical_and(jump[1] > 0.3 * jump[0], jump[1] > 0.1 * grad.norm(dim=1))
