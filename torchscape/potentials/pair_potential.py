"""``PairPotential``: clusters whose energy is a sum over pairs, with closed-form derivatives from those of one
pair."""

from __future__ import annotations

import math
from typing import Any

import torch

from torchscape.errors import PotentialError
from torchscape.memory import ONE_LARGE, rows_that_fit
from torchscape.potentials.clusters import ClusterPotential
from torchscape.types import Float, Tensor

__all__ = ["PairPotential", "wall_hessian"]


class PairPotential(ClusterPotential):
    """U = sum_{i<j} u_ij(r_ij), batched over clusters, with gradient, Hessian and its products written out.

    A subclass writes what one pair needs, for all pairs at once: :meth:`pair_energy` u, :meth:`weight` w = u'/r,
    and :meth:`slope` w'/r. All three get what :meth:`prepared` makes of the squared distances, which are infinite
    between an atom and itself: there all three must be 0.

    Args:
        n_atoms: number of atoms n.
        container: radius of the container; "auto" for one pair distance beyond :attr:`packing_radius`, None for
            none. It leaves the energies of bound clusters exactly as they are.
        options: of :class:`ClusterPotential`.

    Example:
        >>> import torch
        >>> class Spheres(PairPotential):
        ...     def prepared(self, square):
        ...         return 1 / square
        ...     def pair_energy(self, inverse):
        ...         return inverse
        ...     def weight(self, inverse):
        ...         return -2 * inverse**2
        ...     def slope(self, inverse):
        ...         return 8 * inverse**3
        >>> u = Spheres(2, container=None)
        >>> u.energy_and_grad(torch.tensor([[0.0, 0, 0, 2, 0, 0]]).double())[1].tolist()
        [[0.25, 0.0, 0.0, -0.25, 0.0, 0.0]]
    """

    walls_included = True
    reach = math.inf  # where the pair energy ends

    def __init__(self, n_atoms: int, *, container: float | int | str | None = "auto", **options: Any):
        if isinstance(container, str):
            if container != "auto":
                raise PotentialError(f"container={container!r}: give a radius, 'auto' or None")
            super().__init__(n_atoms, **options)
            if self.box is not None:
                self._expect_reach(self.box)
                return
            self.container = self.packing_radius + self.pair_distance
        else:
            super().__init__(n_atoms, container=container, **options)

    def _expect_reach(self, box: tuple[float, ...]) -> None:
        """In a box an atom meets one image of another: the energy must end within half of the shortest side."""
        if self.reach > 0.5 * min(box):
            ends = "does not end" if math.isinf(self.reach) else f"ends at {self.reach:g}"
            raise PotentialError(
                f"the pair energy {ends}, and a box of {min(box):g} has room for {0.5 * min(box):g}: give a "
                "cutoff (LennardJones, BinaryLennardJones), another potential (Dzugutov), or a larger box"
            )

    # --- what a subclass writes -------------------------------------------------------------------------

    def prepared(self, square: Float[Tensor, "B n n"]) -> Any:
        """What energies, weights and slopes share, from r^2."""
        return square

    def pair_energy(self, prepared: Any) -> Float[Tensor, "B n n"]:
        """u of every pair."""
        raise NotImplementedError(f"{type(self).__name__} must define pair_energy(prepared)")

    def weight(self, prepared: Any) -> Float[Tensor, "B n n"]:
        """w = (du/dr)/r = 2 du/d(r^2)."""
        raise NotImplementedError(f"{type(self).__name__} must define weight(prepared)")

    def slope(self, prepared: Any) -> Float[Tensor, "B n n"]:
        """(dw/dr)/r = 2 dw/d(r^2)."""
        raise NotImplementedError(f"{type(self).__name__} must define slope(prepared)")

    # --- what follows -----------------------------------------------------------------------------------

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return 0.5 * self.pair_energy(self._pairs(self.atoms(x))[1]).sum((1, 2))

    def atom_energies(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n"]:
        """Half of the energies of the pairs that each atom is in."""
        return 0.5 * self.pair_energy(self._pairs(self.atoms(x))[1]).sum(2)

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """dU/dx_i = sum_j w_ij (x_i - x_j)."""
        p = self.atoms(x.detach())
        apart, prepared = self._pairs(p)
        energy = 0.5 * self.pair_energy(prepared).sum((1, 2))
        grad = (self.weight(prepared)[..., None] * apart).sum(2)
        if self.wall is not None:
            energy, grad = energy + self.wall.energy(p), grad + self.wall.grad(p)
        return energy, grad.flatten(1)

    def _hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """(H v)_i = sum_j [w_ij + w'_ij/r_ij d d^T] (v_i - v_j), d = x_i - x_j."""
        p, v = self.atoms(x.detach()), self.atoms(v.detach())
        apart, prepared = self._pairs(p)
        turn = v[:, :, None] - v[:, None]
        along = (apart * turn).sum(3)
        product = self.weight(prepared)[..., None] * turn + (self.slope(prepared) * along)[..., None] * apart
        total = product.sum(2)
        if self.wall is not None:
            total = total + self.wall.hvp(p, v)
        return total.flatten(1)

    def hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """Blocks H_ij = -(w_ij + w'_ij/r_ij d d^T) off the diagonal, H_ii = -sum_j H_ij on it."""
        rows = rows_that_fit(self.dim**2 * self.n_atoms**2, x.device, on_host=ONE_LARGE)
        parts = [self._hessian(part) for part in x.detach().split(rows)]
        return torch.cat(parts)

    def _hessian(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        p, n = self.atoms(x), self.n_atoms
        apart, prepared = self._pairs(p)
        eye = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        outer = (self.slope(prepared)[..., None] * apart)[..., None] * apart[..., None, :]
        blocks = self.weight(prepared)[..., None, None] * eye + outer
        h = -blocks
        here = torch.arange(n, device=x.device)
        h[:, here, here] = blocks.sum(2)
        h = h.transpose(2, 3).reshape(len(x), self.ndim, self.ndim)
        if self.wall is not None:
            h = h + wall_hessian(self, p)
        return 0.5 * (h + h.mT)

    def _pairs(self, p: Float[Tensor, "B n k"]) -> tuple[Float[Tensor, "B n n k"], Any]:
        """x_i - x_j for all pairs, and what is prepared from their squares, infinite on the diagonal."""
        apart = self.apart(p[:, :, None], p[:, None])
        never = torch.diag(p.new_full((self.n_atoms,), torch.inf))  # no interaction with oneself
        return apart, self.prepared(apart.square().sum(3) + never)


def wall_hessian(potential: ClusterPotential, p: Float[Tensor, "B n k"]) -> Float[Tensor, "B D D"]:
    """The Hessian of the container of a cluster that has one."""
    assert potential.wall is not None
    d, shape = potential.ndim, (-1, potential.n_atoms, potential.dim)
    unit = torch.eye(d, dtype=p.dtype, device=p.device).repeat(len(p), 1).reshape(shape)
    return potential.wall.hvp(p.repeat_interleave(d, 0), unit).reshape(len(p), d, d)
