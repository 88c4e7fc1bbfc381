"""``Thomson``: equal charges on a sphere."""

from __future__ import annotations

import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.potentials.clusters import ClusterPotential
from torchscape.types import Bool, Float, Tensor
from torchscape.validation import POSITIVE

__all__ = ["Thomson"]


class Thomson(ClusterPotential):
    """U = sum_{i<j} 1/|u_i - u_j| + k/2 sum_i (|x_i| - 1)^2, u_i = x_i/|x_i|: n equal charges on the unit sphere.

    The charges repel each other by their directions alone, so that the second term holds each on the sphere
    without taking part: stationary points have |x_i| = 1 and the energies of the Thomson problem, and the n radial
    modes are apart from all others, of curvature k each. They add n ln k to every ln det, which cancels between
    points of one landscape.

    Rotations, reflections and permutations of the charges leave U unchanged; translations do not.

    Args:
        n_atoms: number of charges n, so that D = 3 n.
        stiffness: k; None for n, about the curvature of the other modes.
        dtype, device: of the points.

    References: J. J. Thomson, Philos. Mag. 7, 237 (1904), doi 10.1080/14786440409463107; D. J. Wales and S.
    Ulker, Phys. Rev. B 74, 212101 (2006), doi 10.1103/PhysRevB.74.212101.

    Example:
        >>> import torch
        >>> tetrahedron = torch.tensor([[1.0, 1, 1, 1, -1, -1, -1, 1, -1, -1, -1, 1]], dtype=torch.float64)
        >>> round(Thomson(4).energy(tetrahedron / 3**0.5).item(), 6)
        3.674235
    """

    def __init__(self, n_atoms: int, *, stiffness: float | int | None = None, **place):
        POSITIVE.or_none.check("Thomson", PotentialError, stiffness=stiffness)
        super().__init__(n_atoms, translation=False, **place)
        self.stiffness = float(n_atoms if stiffness is None else stiffness)
        self.length_scale = 1.2 / n_atoms**0.5
        self.pair_distance = 3.5 / n_atoms**0.5

    def settings(self):
        return {**super().settings(), "stiffness": self.stiffness}

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return self.atom_energies(x).sum(1)

    def atom_energies(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n"]:
        """Half of the energies of the pairs that each charge is in, and its share of the second term."""
        p = self.atoms(x)
        radius = p.norm(dim=2)
        _, inverse = self._pairs(p / radius[..., None])
        return 0.5 * inverse.sum(2) + 0.5 * self.stiffness * (radius - 1).square()

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """The force on u_i, without its part along u_i, over |x_i|; and k (|x_i| - 1) along u_i."""
        return self._by_code(x, self._evaluated) if self.compile else self._evaluated(x)

    def _evaluated(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        p = self.atoms(x.detach())
        radius = p.norm(dim=2, keepdim=True)
        u = p / radius
        apart, inverse = self._pairs(u)
        energy = 0.5 * inverse.sum((1, 2)) + 0.5 * self.stiffness * (radius - 1).square().sum((1, 2))
        force = -((inverse**3)[..., None] * apart).sum(2)
        across = force - (force * u).sum(2, keepdim=True) * u
        return energy, (across / radius + self.stiffness * (radius - 1) * u).flatten(1)

    def is_bound(self, x: Float[Tensor, "B D"]) -> Bool[Tensor, "B"]:
        """Charges on a sphere are never out of each other's reach."""
        return torch.ones(len(x), dtype=torch.bool, device=x.device)

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """``n`` sets of charges, each uniform on the sphere."""
        draws = random.normal(random.keys(seed, n, self.device), self.ndim, self.dtype)
        return torch.nn.functional.normalize(self.atoms(draws), dim=2).flatten(1)

    def _pairs(self, u: Float[Tensor, "B n k"]) -> tuple[Float[Tensor, "B n n k"], Float[Tensor, "B n n"]]:
        """u_i - u_j and 1/|u_i - u_j| for all pairs, 0 on the diagonal."""
        apart = u[:, :, None] - u[:, None]
        never = torch.diag(u.new_full((self.n_atoms,), torch.inf))
        return apart, (apart.square().sum(3) + never).rsqrt()
