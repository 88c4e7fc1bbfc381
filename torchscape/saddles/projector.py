"""Directions that take no part: known zero modes and coordinates held by an active bound."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Tensor

__all__ = ["Projector"]


@dataclasses.dataclass(frozen=True)
class Projector:
    """P = (1 - Z^T Z) restricted to the free coordinates of each row.

    Attributes:
        zero: orthonormal zero modes, rows of zeros where a point has fewer; None where there are none.
        held: coordinates that sit on an active bound; None without bounds.

    Example:
        >>> zero = torch.tensor([[[1.0, 0.0, 0.0]]])
        >>> Projector(zero, None).apply(torch.ones(1, 1, 3)).tolist()
        [[[0.0, 1.0, 1.0]]]
    """

    zero: Float[Tensor, "B Z D"] | None
    held: Bool[Tensor, "B D"] | None

    @classmethod
    def at(
        cls, potential: Potential, x: Float[Tensor, "B D"], grad: Float[Tensor, "B D"] | None = None
    ) -> Projector:
        """The projector of ``potential`` at ``x``; with ``grad``, bounds that block the downhill direction hold.

        A zero mode that would move a held coordinate is no zero mode of what is left, and is dropped.
        """
        zero = potential.symmetry.zero_modes(x)
        held = None
        if potential.bounds is not None and grad is not None:
            held = potential.bounds.active_set(x, grad)
            if zero.shape[1]:
                moved = (zero * held[:, None, :]).abs().amax(2, keepdim=True) > 1e-6
                zero = torch.where(moved, torch.zeros_like(zero), zero)
        return cls(zero if zero.shape[1] else None, held)

    @property
    def is_trivial(self) -> bool:
        return self.zero is None and self.held is None

    def apply(self, v: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
        """P v for K vectors of each row."""
        if self.held is not None:
            v = torch.where(self.held[:, None, :], torch.zeros_like(v), v)
        if self.zero is not None:
            v = v - torch.bmm(torch.bmm(v, self.zero.mT), self.zero)
        return v

    def apply_one(self, v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """P v for one vector of each row."""
        return v if self.is_trivial else self.apply(v[:, None, :])[:, 0]

    def n_removed(self, like: Float[Tensor, "B D"]) -> tuple[Tensor, Tensor]:
        """Number of zero modes and of held coordinates of each row, as integers."""
        none = torch.zeros(len(like), dtype=torch.int64, device=like.device)
        zeros = none if self.zero is None else (self.zero.norm(dim=2) > 0.5).sum(1)
        return zeros, none if self.held is None else self.held.sum(1)

    def shifted(self, h: Float[Tensor, "B D D"]) -> tuple[Float[Tensor, "B D D"], Float[Tensor, "B"]]:
        """P H P + sigma (1 - P), with sigma above every eigenvalue: what was removed sits at the top.

        Returns the shifted Hessians and a bound of the spectrum of P H P, which is half of sigma.
        """
        if self.is_trivial:
            return h, h.abs().sum(2).amax(1)
        php = self.apply(self.apply(h).mT)
        bound = php.abs().sum(2).amax(1).clamp(min=torch.finfo(h.dtype).tiny ** 0.5)
        sigma = 2 * bound[:, None, None]
        if self.held is not None:
            php = php + sigma * torch.diag_embed(self.held.to(h.dtype))
        if self.zero is not None:
            php = php + sigma * torch.bmm(self.zero.mT, self.zero)
        return 0.5 * (php + php.mT), bound

    def take(self, rows: Tensor) -> Projector:
        """The projector of some rows."""
        return Projector(*(None if part is None else part[rows] for part in (self.zero, self.held)))
