"""A box: the domain of a potential that is only defined, or only of interest, between two corners."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.errors import PotentialError
from torchscape.transfer import moved
from torchscape.types import Bool, Float, Tensor

__all__ = ["Bounds"]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The box ``lower <= x <= upper``; infinite sides are allowed.

    Descents and saddle searches never leave the box. A descent that ends on a wall has found a minimum of the
    boxed problem, but no stationary point of U; whether a landscape keeps those is for ``keep_walls`` to say.

    Example:
        >>> box = Bounds.of([(-1, 1), (0, 2)])
        >>> box.clamp(torch.tensor([[3.0, 1.0]], dtype=torch.float64)).tolist()
        [[1.0, 1.0]]
    """

    lower: Float[Tensor, "D"]
    upper: Float[Tensor, "D"]
    keep_walls: bool = False

    @classmethod
    def of(
        cls,
        pairs,
        *,
        keep_walls: bool = False,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Bounds:
        """From a sequence of (low, high) pairs, one per coordinate, or from a ``Bounds``.

        Raises:
            PotentialError: unless there is one low < high pair per coordinate.
        """
        if isinstance(pairs, Bounds):
            return cls(pairs.lower.to(device, dtype), pairs.upper.to(device, dtype), pairs.keep_walls)
        corners = torch.as_tensor(pairs, dtype=dtype, device=device)
        if corners.ndim != 2 or corners.shape[1] != 2:
            raise PotentialError(
                f"bounds must be (low, high) pairs, one per coordinate, not {tuple(corners.shape)}"
            )
        if not bool((corners[:, 0] < corners[:, 1]).all()):
            raise PotentialError("every bound needs low < high")
        return cls(corners[:, 0].clone(), corners[:, 1].clone(), keep_walls)

    def to(self, device: torch.device | str) -> Bounds:
        """The same box on another device."""
        if self.lower.device == torch.device(device):
            return self
        return moved(self, device)

    def clamp(self, x: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """The nearest point of the box."""
        return torch.clamp(x, self.lower, self.upper)

    def active_set(self, x: Float[Tensor, "*S D"], grad: Float[Tensor, "*S D"]) -> Bool[Tensor, "*S D"]:
        """Active bounds: coordinates that sit on a wall with the downhill direction pointing out of the box."""
        return ((x <= self.lower) & (grad > 0)) | ((x >= self.upper) & (grad < 0))

    def project_grad(self, x: Float[Tensor, "*S D"], grad: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """The gradient outside the active set, zero within: it vanishes exactly at a constrained minimum."""
        return torch.where(self.active_set(x, grad), torch.zeros_like(grad), grad)

    def interior(self, x: Float[Tensor, "*S D"], margin: float = 0.0) -> Bool[Tensor, "*S"]:
        """Whether every coordinate is more than ``margin`` times the side away from its walls."""
        side = torch.where(torch.isfinite(self.upper - self.lower), self.upper - self.lower, 1.0)
        return ((x > self.lower + margin * side) & (x < self.upper - margin * side)).all(-1)
