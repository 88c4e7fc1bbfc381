"""``Preconditioner``: what is known of a potential's curvature before anything has been evaluated."""

from __future__ import annotations

import torch

from torchscape.types import Bool, Float, Tensor

__all__ = ["InSingle", "Preconditioner"]


class Preconditioner:
    """A symmetric positive definite linear map P of gradients to steps, near the inverse Hessian up to a factor.

    Minimisers start from gamma P where they would start from gamma I. It should commute with the symmetry of the
    potential, or images of one start end in other minima.

    Attributes:
        changes: which coordinates it does something to, so that minimisers may rescale the others; None for all.
        uses: how often an evaluation of the potential multiplies with each coordinate, about: what a step may cost
            beside it.

    Example:
        >>> class Scaled(Preconditioner):
        ...     def __call__(self, grad):
        ...         return grad * torch.tensor([1.0, 0.1])
        >>> Scaled().matrix(torch.zeros(1, 2)).tolist()
        [[1.0, 0.0], [0.0, 0.10000000149011612]]
    """

    changes: Bool[Tensor, "D"] | None = None
    uses: float = 200.0

    def __call__(self, grad: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """P g of every row."""
        raise NotImplementedError

    def matrix(self, like: Float[Tensor, "B D"]) -> Float[Tensor, "D D"]:
        """P itself, in the precision and on the device of ``like``."""
        return self(torch.eye(like.shape[1], dtype=like.dtype, device=like.device))


class InSingle(Preconditioner):
    """A preconditioner of float32, for gradients of any precision: what starts a quasi-Newton step needs no more.

    Example:
        >>> class Half(Preconditioner):
        ...     def __call__(self, grad):
        ...         return (grad / 2).to(torch.float32)
        >>> InSingle(Half())(torch.ones(1, 2, dtype=torch.float64))
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """

    def __init__(self, single: Preconditioner) -> None:
        self.single, self.changes, self.uses = single, single.changes, single.uses

    def __call__(self, grad: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return self.single(grad.to(torch.float32)).to(grad)
