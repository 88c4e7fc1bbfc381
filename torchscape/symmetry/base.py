"""What a symmetry of a potential offers, and the trivial one."""

from __future__ import annotations

import torch

from torchscape.even import even_bmv
from torchscape.types import Float, Int, Tensor

__all__ = ["Symmetry"]


class Symmetry:
    """The group G of coordinate changes that leave U unchanged; this base class is the trivial group.

    Subclasses override :meth:`align` and :meth:`random_image` and whatever else differs from "no symmetry".
    Every method takes and returns batches; a row never notices its neighbours.

    Example:
        >>> import torch
        >>> a, b = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
        >>> Symmetry().distance(a, b).item()
        5.0
    """

    def describe(self) -> str:
        """One line for people: which symmetries are known."""
        return "none"

    def align(self, reference: Float[Tensor, "B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The symmetric image of each ``x`` that lies closest to its ``reference``."""
        return x

    def distance(self, a: Float[Tensor, "B D"], b: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """Euclidean distance between ``a`` and the closest image of ``b``."""
        return (self.align(a, b) - a).norm(dim=1)

    def rows_at_once(self, device: torch.device) -> int | None:
        """How many rows :meth:`align` takes at a time, where one takes long: between them work can be stopped."""
        return None

    def canonical(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """One representative per orbit (equal for symmetric images up to rounding, ties aside)."""
        return x

    def invariants(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Cheap numbers that all images of a point share and that are 1-Lipschitz in it:

        |invariants(a) - invariants(b)|_2 <= distance(a, b), so that far invariants prove points different.
        """
        return x

    def log_degeneracy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """ln of the number of distinct images (isolated orbit components), stabiliser accounted for."""
        return x.new_zeros(len(x))

    def zero_modes(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B Z D"]:
        """Orthonormal directions along which U is constant; rows of zeros where a point has fewer than Z."""
        return x.new_zeros(len(x), 0, x.shape[1])

    def random_image(self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """A random group element applied to each row (for tests and for symmetric starts)."""
        return x

    def project_out(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``v`` without its components along the zero modes at ``x``."""
        modes = self.zero_modes(x)
        if modes.shape[1] == 0:
            return v
        return v - even_bmv(modes.mT, even_bmv(modes, v))
