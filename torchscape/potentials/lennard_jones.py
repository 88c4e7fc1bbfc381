"""``LennardJones``: clusters of like atoms with closed-form derivatives."""

from __future__ import annotations

import torch

from torchscape.errors import PotentialError
from torchscape.memory import ONE_LARGE, rows_that_fit
from torchscape.potentials.clusters import ClusterPotential
from torchscape.types import Float, Tensor

__all__ = ["LennardJones"]


class LennardJones(ClusterPotential):
    """U = 4 sum_{i<j} (r_ij^-12 - r_ij^-6) for n atoms, energies in epsilon, lengths in sigma.

    Gradient, Hessian and its products are written out over all pairs, batched over clusters.

    Args:
        n_atoms: number of atoms n, so that D = 3 n.
        container: radius of the container; "auto" for one pair distance beyond :attr:`packing_radius`, None for
            none. It leaves the energies of bound clusters exactly as they are.
        dtype, device: of the points.

    Reference: J. E. Jones, Proc. R. Soc. A 106, 463 (1924), doi 10.1098/rspa.1924.0082; global minima: D. J. Wales
    and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997), doi 10.1021/jp970984n.

    Example:
        >>> import torch
        >>> u = LennardJones(2)
        >>> u.energy(torch.tensor([[0.0, 0, 0, 2 ** (1 / 6), 0, 0]], dtype=torch.float64)).item()
        -1.0
    """

    walls_included = True

    def __init__(self, n_atoms: int, *, container: float | int | str | None = "auto", **place):
        if isinstance(container, str):
            if container != "auto":
                raise PotentialError(f"container={container!r}: give a radius, 'auto' or None")
            super().__init__(n_atoms, **place)
            self.container = self.packing_radius + 2 ** (1 / 6)
        else:
            super().__init__(n_atoms, container=container, **place)

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        p = self.atoms(x)
        s = self._pairs(p)[1] ** 3
        return 2 * (s * s - s).sum((1, 2))

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """dU/dx_i = sum_j w_ij (x_i - x_j), w = -24 (2 r^-14 - r^-8)."""
        p = self.atoms(x.detach())
        apart, inverse = self._pairs(p)
        s = inverse**3
        energy = 2 * (s * s - s).sum((1, 2))
        grad = (_weight(inverse)[..., None] * apart).sum(2)
        if self.wall is not None:
            energy, grad = energy + self.wall.energy(p), grad + self.wall.grad(p)
        return energy, grad.flatten(1)

    def _hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """(H v)_i = sum_j [w_ij + w'_ij d d^T] (v_i - v_j), d = x_i - x_j."""
        p, v = self.atoms(x.detach()), self.atoms(v.detach())
        apart, inverse = self._pairs(p)
        turn = v[:, :, None] - v[:, None]
        along = (apart * turn).sum(3)
        product = _weight(inverse)[..., None] * turn + (_slope(inverse) * along)[..., None] * apart
        total = product.sum(2)
        if self.wall is not None:
            total = total + self.wall.hvp(p, v)
        return total.flatten(1)

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """Blocks H_ij = -(w_ij + w'_ij d d^T) off the diagonal, H_ii = -sum_j H_ij on it."""
        rows = rows_that_fit(9 * self.n_atoms**2, x.device, on_host=ONE_LARGE)
        parts = [self._hessian(part) for part in x.detach().split(rows)]
        return torch.cat(parts)

    def _hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        p, n = self.atoms(x), self.n_atoms
        apart, inverse = self._pairs(p)
        eye = torch.eye(3, dtype=x.dtype, device=x.device)
        outer = (_slope(inverse)[..., None] * apart)[..., None] * apart[..., None, :]
        blocks = _weight(inverse)[..., None, None] * eye + outer
        h = -blocks
        here = torch.arange(n, device=x.device)
        h[:, here, here] = blocks.sum(2)
        h = h.transpose(2, 3).reshape(len(x), self.ndim, self.ndim)
        if self.wall is not None:
            h = h + self._wall_hessian(p)
        return 0.5 * (h + h.mT)

    def _wall_hessian(self, p: Float[Tensor, "B n 3"]) -> Float[Tensor, "B D D"]:
        assert self.wall is not None
        d = self.ndim
        unit = torch.eye(d, dtype=p.dtype, device=p.device).repeat(len(p), 1).reshape(-1, self.n_atoms, 3)
        return self.wall.hvp(p.repeat_interleave(d, 0), unit).reshape(len(p), d, d)

    def _pairs(self, p: Float[Tensor, "B n 3"]) -> tuple[Float[Tensor, "B n n 3"], Float[Tensor, "B n n"]]:
        """x_i - x_j and 1/r_ij^2 for all pairs, 0 on the diagonal."""
        apart = p[:, :, None] - p[:, None]
        never = torch.diag(p.new_full((self.n_atoms,), torch.inf))  # 1/inf: no interaction with oneself
        return apart, 1 / (apart.square().sum(3) + never)


def _weight(inverse: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """w = 2 dU/d(r^2) = -24 (2 r^-14 - r^-8), from 1/r^2."""
    s = inverse**3
    return -24 * (2 * s * s - s) * inverse


def _slope(inverse: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """w' = 2 dw/d(r^2) = 96 (7 r^-16 - 2 r^-10), from 1/r^2."""
    s = inverse**3
    return 96 * (7 * s * s - 2 * s) * inverse**2
