"""Potentials that know their derivatives, written out and evaluated a group of rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchscape.potentials.base import Potential
from torchscape.types import Float, Tensor

__all__ = ["ClosedForm", "by_parts"]


class ClosedForm(Potential):
    """A potential whose gradient and Hessian a subclass writes out, for at most ``max_rows`` rows at once.

    ``_energy_and_grad`` and ``_hessian`` are called without autograd. Products are those with the dense Hessian:
    where it can be written out it costs about as much as one product by autograd.

    Example:
        >>> class Bowl(ClosedForm):
        ...     ndim, max_rows = 2, 1
        ...     def energy(self, x):
        ...         return x.square().sum(1) / 2
        ...     def _energy_and_grad(self, x):
        ...         return self.energy(x), x
        ...     def _hessian(self, x):
        ...         return torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2)
        >>> x = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
        >>> Bowl().energy_and_grad(x)[1].tolist(), Bowl().hvp(x, x).tolist()
        ([[1.0, 0.0], [2.0, 3.0]], [[1.0, 0.0], [2.0, 3.0]])
    """

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        with torch.no_grad():
            energy, grad = by_parts(self._energy_and_grad, x, self.max_rows)
        return energy, grad

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        with torch.no_grad():
            return torch.cat([self._hessian(part) for part in x.split(self.max_rows)])

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        with torch.no_grad():
            groups = zip(x.split(self.max_rows), v.split(self.max_rows), strict=True)
            return torch.cat([torch.bmm(self._hessian(a), b[:, :, None])[:, :, 0] for a, b in groups])

    def _energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        raise NotImplementedError(f"{type(self).__name__} must define _energy_and_grad(x)")

    def _hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        raise NotImplementedError(f"{type(self).__name__} must define _hessian(x)")


def by_parts(
    f: Callable[[Tensor], tuple[Tensor, ...]], x: Float[Tensor, "B D"], rows: int
) -> tuple[Float[Tensor, "B ..."], ...]:
    """``f`` on at most ``rows`` rows at a time, each of its results joined.

    Example:
        >>> by_parts(lambda part: (part.sum(1), -part), torch.ones(3, 2), rows=2)[0].tolist()
        [2.0, 2.0, 2.0]
    """
    return tuple(torch.cat(column) for column in zip(*map(f, x.split(rows)), strict=True))
