"""``Gupta``: clusters of a metal, many-body potential in the second-moment approximation of tight binding."""

from __future__ import annotations

import torch

from torchscape.errors import PotentialError, UnknownName
from torchscape.potentials.clusters import ClusterPotential
from torchscape.types import Float, Tensor
from torchscape.validation import POSITIVE

__all__ = ["Gupta"]

METALS = {  # A and xi in eV, p, q; r_0 in Angstrom, the unit of length: Cleri and Rosato (1993)
    "Au": (0.2061, 1.790, 10.229, 4.036, 2.884),
    "Cu": (0.0855, 1.224, 10.960, 2.278, 2.556),
    "Pd": (0.1746, 1.718, 10.867, 3.742, 2.7485),
    "Pt": (0.2975, 2.695, 10.612, 4.004, 2.7747),
}


class Gupta(ClusterPotential):
    """U = sum_i [A sum_j exp(-p (r_ij - 1)) - xi (sum_j exp(-2 q (r_ij - 1)))^(1/2)], in eV, lengths in r_0.

    Gradient and Hessian products are written out over all pairs, batched over clusters.

    Args:
        n_atoms: number of atoms n.
        metal: "Au", "Cu", "Pd" or "Pt", with the parameters of Cleri and Rosato; None for those given.
        repulsion, attraction: A and xi, in units of energy.
        p, q: decay of the repulsion and of the hopping integrals.
        container: radius of the container, in r_0; "auto" for one r_0 beyond :attr:`packing_radius`, None for
            none.
        dtype, device: of the points.

    Raises:
        UnknownName: for a metal without parameters.

    References: R. P. Gupta, Phys. Rev. B 23, 6265 (1981), doi 10.1103/PhysRevB.23.6265; F. Cleri and V. Rosato,
    Phys. Rev. B 48, 22 (1993), doi 10.1103/PhysRevB.48.22.

    Example:
        >>> import torch
        >>> dimer = torch.tensor([[0.0, 0, 0, 1, 0, 0]], dtype=torch.float64)
        >>> round(Gupta(2, "Au").energy(dimer).item(), 4)  # 2 A - 2 xi
        -3.1678
    """

    walls_included = True
    pair_distance = 1.0
    length_scale = 0.3

    def __init__(
        self,
        n_atoms: int,
        metal: str | None = "Au",
        *,
        repulsion: float | int | None = None,
        attraction: float | int | None = None,
        p: float | int | None = None,
        q: float | int | None = None,
        container: float | int | str | None = "auto",
        **place,
    ):
        given = {"repulsion": repulsion, "attraction": attraction, "p": p, "q": q}
        if metal is not None:
            if metal not in METALS:
                raise UnknownName.of("metal", metal, list(METALS))
            known = dict(zip(given, METALS[metal], strict=False))
            given = {name: known[name] if value is None else value for name, value in given.items()}
        POSITIVE.check("Gupta", PotentialError, **given)
        self.parameters = {name: float(value) for name, value in given.items() if value is not None}
        automatic = isinstance(container, str)
        if automatic and container != "auto":
            raise PotentialError(f"container={container!r}: give a radius, 'auto' or None")
        super().__init__(n_atoms, container=None if isinstance(container, str) else container, **place)
        if automatic:
            self.container = self.packing_radius + self.pair_distance

    def settings(self):
        return {**super().settings(), **self.parameters}

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return self.atom_energies(x).sum(1)

    def atom_energies(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n"]:
        _, r = self._pairs(self.atoms(x))
        repelled, hopping = self._terms(r)
        return repelled.sum(2) - self.parameters["attraction"] * _root(hopping.sum(2))

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """dU/dx_i = sum_j [2 a_ij - xi/2 (c_i + c_j) b_ij] (x_i - x_j), with a and b the slopes of the two
        exponentials over r, and c the inverse roots of the sums under the root."""
        return self._by_code(x, self._evaluated) if self.compile else self._evaluated(x)

    def _evaluated(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        at = self.atoms(x.detach())
        apart, r = self._pairs(at)
        repelled, hopping = self._terms(r)
        root = _root(hopping.sum(2))
        energy = (repelled.sum(2) - self.parameters["attraction"] * root).sum(1)
        grad = (self._weight(r, repelled, hopping, 1 / root)[..., None] * apart).sum(2)
        if self.wall is not None:
            energy, grad = energy + self.wall.energy(at), grad + self.wall.grad(at)
        return energy, grad.flatten(1)

    def _hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The derivative of the gradient along v, term by term."""
        p, q = self.parameters["p"], self.parameters["q"]
        at, v = self.atoms(x.detach()), self.atoms(v.detach())
        apart, r = self._pairs(at)
        repelled, hopping = self._terms(r)
        inverse = 1 / _root(hopping.sum(2))
        turn = v[:, :, None] - v[:, None]
        stretch = (apart * turn).sum(3) / r  # of the distance
        a, b = -p * repelled / r, -2 * q * hopping / r
        da = (p * p * repelled - a) / r * stretch
        db = (4 * q * q * hopping - b) / r * stretch
        dc = q * inverse**3 * (hopping * stretch).sum(2)
        both = inverse[:, :, None] + inverse[:, None]
        change = 2 * da - 0.5 * self.parameters["attraction"] * (both * db + (dc[:, :, None] + dc[:, None]) * b)
        weight = self._weight(r, repelled, hopping, inverse)
        total = (weight[..., None] * turn + change[..., None] * apart).sum(2)
        if self.wall is not None:
            total = total + self.wall.hvp(at, v)
        return total.flatten(1)

    def _weight(self, r, repelled, hopping, inverse: Float[Tensor, "B n"]) -> Float[Tensor, "B n n"]:
        p, q = self.parameters["p"], self.parameters["q"]
        both = inverse[:, :, None] + inverse[:, None]
        return -2 * p * repelled / r + self.parameters["attraction"] * q * both * hopping / r

    def _pairs(self, at: Float[Tensor, "B n k"]) -> tuple[Float[Tensor, "B n n k"], Float[Tensor, "B n n"]]:
        """x_i - x_j and r for all pairs, infinite on the diagonal."""
        apart = at[:, :, None] - at[:, None]
        never = torch.diag(at.new_full((self.n_atoms,), torch.inf))
        return apart, (apart.square().sum(3) + never).sqrt()

    def _terms(self, r: Float[Tensor, "B n n"]) -> tuple[Float[Tensor, "B n n"], Float[Tensor, "B n n"]]:
        """A exp(-p (r - 1)) and exp(-2 q (r - 1)), 0 on the diagonal."""
        p, q, repulsion = (self.parameters[name] for name in ("p", "q", "repulsion"))
        return repulsion * (p * (1 - r)).exp(), (2 * q * (1 - r)).exp()


def _root(density: Float[Tensor, "B n"]) -> Float[Tensor, "B n"]:
    """The root, of an atom on its own too, whose density underflows."""
    return density.clamp_min(torch.finfo(density.dtype).tiny).sqrt()
