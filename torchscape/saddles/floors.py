"""Where U is flat at a point, and how it bends across: from dense Hessians, or from products with them alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch

from torchscape import random
from torchscape.even import even_bmv
from torchscape.optimise.conjugate import conjugate_gradients
from torchscape.optimise.newton import free_gradient
from torchscape.potentials.base import Potential
from torchscape.saddles.characterisation import SLOPE_MARGIN
from torchscape.saddles.decomposition import finite_rows
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["DenseFloors", "Floors", "KrylovFloors", "spectrum_with_flat"]

_CORRECTIONS = 4
_FLATNESS = 0.03  # of a direction may lie across the flat ones
_SHARE = 1e-2  # of the gradient that may be left by one correction
_RESOLVED = 1e-6  # of a random gradient that may be left where the softest curvature is looked for
_SEED = 0x465  # of that gradient


@runtime_checkable
class Floors(Protocol):
    """The flat directions at the places of P walkers, of which some rows are asked for.

    Attributes:
        spent: Hessian-vector products that each walker has cost, dense Hessians aside.
    """

    spent: Int[Tensor, "P"]

    def look(self, x: Float[Tensor, "B D"], rows: Int[Tensor, "B"]) -> None:
        """Walkers ``rows`` have moved to x."""

    def along(
        self, x: Float[Tensor, "B D"], u: Float[Tensor, "B D"], rows: Int[Tensor, "B"], least: Float[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        """The part of u along the flat directions; what is shorter than ``least`` of u need not be exact."""

    def settled(
        self, x: Float[Tensor, "B D"], y: Float[Tensor, "B D"], rows: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """y brought back to the floor across the flat directions; and the length of the last correction."""

    def bent(self, x: Float[Tensor, "B D"], c: Float[Tensor, "B D"], rows: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """c.H c, flat directions left out."""

    def stiffness(self, rows: Int[Tensor, "B"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """The smallest and the largest curvature that is not flat."""


def spectrum_with_flat(
    potential: Potential, x: Float[Tensor, "B D"], n_zero: Int[Tensor, "B"]
) -> tuple[Float[Tensor, "B D"], Bool[Tensor, "B D"], Float[Tensor, "B D D"]]:
    """Eigenvalues, which of them are the ``n_zero`` smallest in size, and eigenvectors as rows."""
    mu, v = torch.linalg.eigh(finite_rows(potential.hessian(x))[0])
    rank = mu.abs().argsort(1).argsort(1)
    return mu, rank < n_zero[:, None], v.mT


class DenseFloors:
    """From the eigenvectors of dense Hessians, as many flat as the start has."""

    def __init__(self, potential: Potential, x: Float[Tensor, "P D"], n_zero: Int[Tensor, "P"]) -> None:
        self.potential, self.n_zero = potential, n_zero
        self.mu, self.flat, self.v = spectrum_with_flat(potential, x, n_zero)
        self.spent = torch.zeros_like(n_zero)

    def look(self, x: Float[Tensor, "B D"], rows: Int[Tensor, "B"]) -> None:
        fresh = spectrum_with_flat(self.potential, x, self.n_zero[rows])
        for kept, new in zip((self.mu, self.flat, self.v), fresh, strict=True):
            kept[rows] = new

    def along(
        self, x: Float[Tensor, "B D"], u: Float[Tensor, "B D"], rows: Int[Tensor, "B"], least: Float[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        v = self.v[rows]
        part = torch.where(self.flat[rows], even_bmv(v, u), 0.0)
        return even_bmv(v.mT, part)

    def settled(
        self, x: Float[Tensor, "B D"], y: Float[Tensor, "B D"], rows: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """By Newton's method with the Hessian of x."""
        mu, flat, v = self.mu[rows], self.flat[rows], self.v[rows]
        size = torch.where(flat, torch.inf, mu.abs()).clamp(min=torch.finfo(x.dtype).tiny)
        size = torch.where(mu < 0, -size, size)
        last = x.new_full((len(x),), torch.inf)
        for _ in range(_CORRECTIONS):
            grad = self.potential.energy_and_grad(y)[1]
            part = even_bmv(v, grad) / size
            change = even_bmv(v.mT, part)
            y, last = y - change, change.norm(dim=1)
        return y, last

    def bent(self, x: Float[Tensor, "B D"], c: Float[Tensor, "B D"], rows: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        across = even_bmv(self.v[rows], c)
        return (torch.where(self.flat[rows], 0.0, self.mu[rows].abs()) * across.square()).sum(1)

    def stiffness(self, rows: Int[Tensor, "B"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        mu, flat = self.mu[rows].abs(), self.flat[rows]
        softest = torch.where(flat, torch.inf, mu).amin(1).nan_to_num(posinf=0.0)
        return softest, torch.where(flat, 0.0, mu).amax(1)


class KrylovFloors:
    """From products H v alone, whatever the number of flat directions.

    The part of u along the null space of H is what conjugate gradients on H s = H u leave of it: s tends to the
    part across, from stiff directions to soft ones. They end when what is left is flat enough to step along; the
    corrections, Newton's method by conjugate gradients at every place anew, take care of the rest.
    """

    def __init__(self, potential: Potential, x: Float[Tensor, "P D"], cg_steps: int) -> None:
        self.potential, self.cg_steps = potential, cg_steps
        apply = _one_by_one(potential.products_at(x))
        # H z has no flat part, so that no Ritz value is that of a flat direction.
        b = apply(random.normal(random.fold(_SEED, torch.zeros_like(x[:, 0]).long()), x.shape[1], x.dtype))
        found = conjugate_gradients(apply, b, cg_steps, _left(_RESOLVED * b.norm(dim=1)))
        self.spent = found.n_products + 1
        self._stiffness = tuple(value.nan_to_num(nan=0.0) for value in found.extremes())

    def look(self, x: Float[Tensor, "B D"], rows: Int[Tensor, "B"]) -> None:
        pass

    def along(
        self, x: Float[Tensor, "B D"], u: Float[Tensor, "B D"], rows: Int[Tensor, "B"], least: Float[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        apply, slope = _one_by_one(self.potential.products_at(x)), self.potential.energy_and_grad(x)[1].norm(dim=1)
        short, stiffest, eps = least * u.norm(dim=1), self._stiffness[1][rows], torch.finfo(x.dtype).eps
        # Curvature that counts as none, as where minima are characterised; and the rounding of products.
        none = torch.maximum(eps ** (2 / 3) * stiffest, SLOPE_MARGIN * slope / self.potential.length_scale)
        rounding = 16 * eps * stiffest * u.norm(dim=1)

        def enough(s: Float[Tensor, "B D"], r: Float[Tensor, "B D"]) -> Bool[Tensor, "B"]:
            left = u - s  # = F u + e, with H e = r: |e| is at least e.r / |r|
            size, across = left.norm(dim=1), (left * r).sum(1).clamp(min=0)
            done: Tensor = (size <= short) | (across <= _FLATNESS * size * r.norm(dim=1))
            done |= (across <= none * size.square()) | (r.norm(dim=1) <= rounding)
            return done

        found = conjugate_gradients(apply, apply(u), self.cg_steps, enough)
        self.spent[rows] += found.n_products + 1
        return u - found.x

    def settled(
        self, x: Float[Tensor, "B D"], y: Float[Tensor, "B D"], rows: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        potential = self.potential
        length = (y - x).norm(dim=1)
        y, last = y.clone(), torch.full_like(length, torch.inf)
        open_ = torch.arange(len(y), device=y.device)
        for _ in range(_CORRECTIONS):
            there = y[open_]
            grad, free = free_gradient(potential, there)
            apply = _one_by_one(potential.products_at(there), free)
            found = conjugate_gradients(apply, -grad, self.cg_steps, _left(_SHARE * grad.norm(dim=1)))
            self.spent[rows[open_]] += found.n_products + 1
            y[open_], last[open_] = there + found.x, found.x.norm(dim=1)
            # What has left the neighbourhood does not come back: such a step is not taken.
            going = (last > 1e-3 * length) & (last <= length)
            open_ = torch.nonzero(going)[:, 0]
            if len(open_) == 0:
                break
        return y, last

    def bent(self, x: Float[Tensor, "B D"], c: Float[Tensor, "B D"], rows: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        self.spent[rows] += 1
        bend: Tensor = (c * self.potential.hvp(x, c)).sum(1).abs()
        return bend

    def stiffness(self, rows: Int[Tensor, "B"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        return self._stiffness[0][rows], self._stiffness[1][rows]


def _one_by_one(products: Callable[[Tensor], Tensor], free: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """Products of the Hessians with one vector a row, in the ``free`` coordinates only."""

    def product(p: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        one: Tensor = products(p[:, None])[:, 0]
        return one if free is None else one * free

    return product


def _left(size: Float[Tensor, "B"]) -> Callable[[Tensor, Tensor], Tensor]:
    """Conjugate gradients have come to their end where the residual is as small as that."""

    def enough(_: Float[Tensor, "B D"], residual: Float[Tensor, "B D"]) -> Bool[Tensor, "B"]:
        small: Tensor = residual.norm(dim=1) <= size
        return small

    return enough
