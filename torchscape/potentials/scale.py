"""The unit of energy that tolerances are measured in, estimated from a few points."""

from __future__ import annotations

import math

import torch

from torchscape.devices import HOST
from torchscape.transfer import moved
from torchscape.types import Float, Tensor

__all__ = ["estimated_energy_scale"]

_ORDINARY = 2.0**-10, 2.0**20  # energies of these sizes are measured in the potential's own unit


def estimated_energy_scale(
    energy: Float[Tensor, "B"], grad: Float[Tensor, "B D"], length_scale: float | int
) -> float:
    """How much U changes over one ``length_scale``, as a power of two; 1 where that is of ordinary size.

    From energies and gradients at a few starting points: the median of the larger of |g| l and of the deviation
    from the median energy. Between 1e-3 and 1e6 the answer is 1, so that ordinary potentials are
    measured in their own unit; above, the tenth percentile must say so, since a few starts high up a wall (two
    atoms too close) say nothing about the wells. Powers of two, because scaling by them rounds nothing.

    Example:
        >>> energy, grad = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([[2.0], [1.0], [4.0]])
        >>> [estimated_energy_scale(s * energy, s * grad, 1.0) for s in (1.0, 2.0**-40)]
        [1.0, 1.8189894035458565e-12]
    """
    energy, grad = (t.double() for t in moved((energy.detach(), grad.detach()), HOST))
    size = torch.maximum((energy - energy.nanmedian()).abs(), grad.norm(dim=1) * length_scale)
    size = size[size.isfinite()]
    if len(size) == 0:
        return 1.0
    typical, low = size.median().item(), size.quantile(0.1).item()
    for value, is_extreme in ((typical, 0 < typical < _ORDINARY[0]), (low, low > _ORDINARY[1])):
        if is_extreme:
            return 2.0 ** round(math.log2(value))
    return 1.0
