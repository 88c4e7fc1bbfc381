"""``LennardJones`` and ``BinaryLennardJones``: clusters of one or two kinds of atoms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from torchscape.errors import PotentialError
from torchscape.potentials.base import Potential
from torchscape.potentials.native_pairs import Formula
from torchscape.potentials.pair_potential import PairPotential
from torchscape.potentials.pairs_on_host import Terms
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT_OR_ZERO, POSITIVE

__all__ = ["BinaryLennardJones", "LennardJones"]


class LennardJones(PairPotential):
    """U = 4 sum_{i<j} (r_ij^-12 - r_ij^-6) for n atoms, energies in epsilon, lengths in sigma.

    Gradient, Hessian and its products are written out over all pairs, batched over clusters.

    Args:
        n_atoms: number of atoms n, so that D = 3 n.
        container: radius of the container; "auto" for one pair distance beyond :attr:`packing_radius`, None for
            none. It leaves the energies of bound clusters exactly as they are.
        dim: dimensions of space, 3 or 2; in two, D = 2 n.
        cutoff: distance beyond which pairs do not meet, in sigma; energies are shifted by a constant and a
            parabola, so that they and their slopes end at zero there. None for none.
        box: side of a periodic box, or one for each dimension: needs a cutoff of half of it at most.
        dtype, device: of the points.

    Reference: J. E. Jones, Proc. R. Soc. A 106, 463 (1924), doi 10.1098/rspa.1924.0082; global minima: D. J. Wales
    and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997), doi 10.1021/jp970984n; the cutoff: S. D. Stoddard and J.
    Ford, Phys. Rev. A 8, 1504 (1973), doi 10.1103/PhysRevA.8.1504.

    Example:
        >>> import torch
        >>> u = LennardJones(2)
        >>> u.energy(torch.tensor([[0.0, 0, 0, 2 ** (1 / 6), 0, 0]], dtype=torch.float64)).item()
        -1.0
    """

    elementwise = True

    def __init__(
        self,
        n_atoms: int,
        *,
        cutoff: float | int | None = None,
        container: float | int | str | None = "auto",
        **options: Any,
    ):
        POSITIVE.or_none.check("LennardJones", PotentialError, cutoff=cutoff)
        self.cutoff = None if cutoff is None else float(cutoff)
        self.reach = math.inf if cutoff is None else float(cutoff)
        super().__init__(n_atoms, container=container, **options)
        self.energy_scale = 1.0  # the depth of a pair

    def settings(self):
        return {**super().settings(), **({} if self.cutoff is None else {"cutoff": self.cutoff})}

    def terms_on_host(self) -> Terms | None:
        return _terms if self.cutoff is None else None

    def terms_in_c(self) -> Formula | None:
        if self.cutoff is None:
            return Formula(_IN_C, [1.0, 1.0])
        return Formula(_CUT_IN_C, [1.0, 1.0, self.cutoff**2, *_parabola(self.cutoff)])

    def prepared(self, square: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        """1/r^2, 0 on the diagonal."""
        return 1 / square

    def pair_energy(self, inverse: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        s = inverse**3
        if self.cutoff is None:
            return 4 * (s * s - s)
        return 4 * _shifted(s * s - s, inverse, self.cutoff)

    def weight(self, inverse: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        """w = -24 (2 r^-14 - r^-8)."""
        s = inverse**3
        w = -24 * (2 * s * s - s) * inverse
        return w if self.cutoff is None else _inside(w + 8 * _parabola(self.cutoff)[0], inverse, self.cutoff)

    def energy_and_weight(self, inverse: Tensor) -> tuple[Tensor, Tensor]:
        if self.cutoff is not None:
            return super().energy_and_weight(inverse)
        s = inverse * inverse
        s *= inverse
        square = s * s
        weight = (s - 2 * square).mul_(inverse).mul_(24)
        return (square - s).mul_(4), weight

    def slope(self, inverse: Float[Tensor, "*P"]) -> Float[Tensor, "*P"]:
        """w'/r = 96 (7 r^-16 - 2 r^-10)."""
        s = inverse**3
        slope = 96 * (7 * s * s - 2 * s) * inverse**2
        return slope if self.cutoff is None else _inside(slope, inverse, self.cutoff)


class BinaryLennardJones(PairPotential):
    """U = 4 sum_{i<j} epsilon_ij [(sigma_ij/r_ij)^12 - (sigma_ij/r_ij)^6] for two kinds of atoms, A first and
    then B.

    The defaults are those of Doye and Meyer's clusters: all epsilon are 1, sigma_AA is 1, and sigma_AB the mean of
    the two. The mixture of Kob and Andersen is ``epsilon=(1, 1.5, 0.5), sigma=(1, 0.8, 0.88)``, here without a
    cutoff.

    Args:
        n_a, n_b: numbers of atoms of either kind; D = 3 (n_a + n_b).
        sigma: diameters (AA, AB, BB); or sigma_BB alone.
        epsilon: depths (AA, AB, BB).
        cutoff: as of :class:`LennardJones`, in units of the sigma of each pair.
        container, dim, box, dtype, device: as of :class:`LennardJones`.

    References: J. P. K. Doye and L. Meyer, Phys. Rev. Lett. 95, 063401 (2005), doi 10.1103/PhysRevLett.95.063401;
    W. Kob and H. C. Andersen, Phys. Rev. E 51, 4626 (1995), doi 10.1103/PhysRevE.51.4626.

    Example:
        >>> import torch
        >>> u = BinaryLennardJones(1, 1, sigma=1.3)
        >>> pair = torch.tensor([[0.0, 0, 0, 1.15 * 2 ** (1 / 6), 0, 0]], dtype=torch.float64)
        >>> round(u.energy(pair).item(), 9)
        -1.0
    """

    elementwise = True

    def __init__(
        self,
        n_a: int,
        n_b: int,
        *,
        sigma: float | int | Sequence[float | int] = 1.3,
        epsilon: Sequence[float | int] = (1.0, 1.0, 1.0),
        cutoff: float | int | None = None,
        container: float | int | str | None = "auto",
        **options: Any,
    ):
        COUNT_OR_ZERO.check("BinaryLennardJones", PotentialError, n_a=n_a, n_b=n_b)
        POSITIVE.or_several.check("BinaryLennardJones", PotentialError, sigma=sigma, epsilon=epsilon)
        POSITIVE.or_none.check("BinaryLennardJones", PotentialError, cutoff=cutoff)
        sigma = (1.0, 0.5 * (1.0 + sigma), sigma) if isinstance(sigma, int | float) else tuple(sigma)
        if len(sigma) != 3 or len(epsilon) != 3:
            raise PotentialError("sigma and epsilon have a number for AA, AB and BB each: give three")
        self.sigma, self.epsilon = tuple(map(float, sigma)), tuple(map(float, epsilon))
        self.pair_distance = max(self.sigma) * 2 ** (1 / 6)
        self.cutoff = None if cutoff is None else float(cutoff)
        self.reach = math.inf if cutoff is None else float(cutoff) * max(self.sigma)
        super().__init__(n_a + n_b, species=["A"] * n_a + ["B"] * n_b, container=container, **options)
        self._tabulate(n_a)

    def _tabulate(self, n_a: int) -> None:
        n = self.n_atoms
        atom = torch.arange(n, device=self.device)
        kind = (atom >= n_a).long()
        other = (atom + torch.arange(1, n // 2 + 1, device=self.device)[:, None]) % n  # as in shifts.py
        all_pairs, once = kind[:, None] + kind, (kind + kind[other])[:, :, None]  # 0 of AA, 1 of AB, 2 of BB
        square = torch.tensor(self.sigma, dtype=self.dtype, device=self.device) ** 2
        depth = torch.tensor(self.epsilon, dtype=self.dtype, device=self.device)
        self._of_all, self._of_once = ((square[which], depth[which]) for which in (all_pairs, once))

    def _converted(self, dtype: torch.dtype) -> Potential:
        """With diameters and depths in all digits that there are."""
        twin = super()._converted(dtype)
        assert isinstance(twin, BinaryLennardJones)
        assert self.species is not None
        twin._tabulate(self.species.count("A"))
        return twin

    def settings(self):
        cut = {} if self.cutoff is None else {"cutoff": self.cutoff}
        return {**super().settings(), "sigma": self.sigma, "epsilon": self.epsilon, **cut}

    def prepared(self, square: Float[Tensor, "*P"]) -> tuple[Tensor, ...]:
        """1/r^2 and (sigma/r)^2, 0 on the diagonal, sigma^2 and epsilon."""
        return 1 / square, self._of_all[0] / square, *self._of_all

    def prepared_once(self, square: Float[Tensor, "S n B"]) -> tuple[Tensor, ...]:
        return 1 / square, self._of_once[0] / square, *self._of_once

    def terms_in_c(self) -> Formula | None:
        i, j = torch.triu_indices(self.n_atoms, self.n_atoms, 1)
        square, depth = (table.cpu().reshape(self.n_atoms, -1)[i, j].double().numpy() for table in self._of_all)
        if self.cutoff is None:
            return Formula(_IN_C, np.stack([square, depth], 1))
        a, b = _parabola(self.cutoff)
        cut = [np.full_like(square, value) for value in (self.cutoff**2, a, b)]
        return Formula(_CUT_IN_C, np.stack([square, depth, *cut], 1))

    def pair_energy(self, prepared: tuple[Tensor, ...]) -> Tensor:
        _, q, _, depth = prepared
        s = q**3
        shape = s * s - s if self.cutoff is None else _shifted(s * s - s, q, self.cutoff)
        return 4 * depth * shape

    def weight(self, prepared: tuple[Tensor, ...]) -> Tensor:
        inverse, q, square, depth = prepared
        s = q**3
        w = -24 * depth * (2 * s * s - s) * inverse
        if self.cutoff is None:
            return w
        return _inside(w + 8 * depth / square * _parabola(self.cutoff)[0], q, self.cutoff)

    def slope(self, prepared: tuple[Tensor, ...]) -> Tensor:
        inverse, q, _, depth = prepared
        s = q**3
        slope = 96 * depth * (7 * s * s - 2 * s) * inverse**2
        return slope if self.cutoff is None else _inside(slope, q, self.cutoff)


# q: sigma^2, epsilon
_IN_C = """
vec one = 1 / square, inverse = q[0] * one, s = inverse * inverse * inverse;
u = 4 * q[1] * (s * s - s);
w = 24 * q[1] * one * (s - 2 * s * s);
"""

# q: sigma^2, epsilon, the square of the cutoff in sigma, and the parabola's two numbers
_CUT_IN_C = """
vec scaled = square / q[0], inverse = 1 / scaled, s = inverse * inverse * inverse;
mask inside = ~(scaled >= q[2]);
u = only(inside, 4 * q[1] * (s * s - s + q[3] * scaled + q[4]));
w = only(inside, 24 * q[1] * (s - 2 * s * s) / square + 8 * q[1] * q[3] / q[0]);
"""


def _terms(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """u and w from r^2."""
    inverse = 1 / square
    s = inverse * inverse
    s *= inverse
    both = s * s
    weight = s - 2 * both
    weight *= inverse
    weight *= 24
    both -= s
    both *= 4
    return both, weight


def _parabola(cutoff: float) -> tuple[float, float]:
    """a and b, so that r^-12 - r^-6 + a r^2 + b and its slope are zero at the cutoff."""
    c = cutoff**-6
    return (6 * c * c - 3 * c) / cutoff**2, 4 * c - 7 * c * c


def _shifted(shape: Float[Tensor, "*P"], q: Float[Tensor, "*P"], cutoff: float) -> Float[Tensor, "*P"]:
    """r^-12 - r^-6 with the parabola of the cutoff, from q = 1/r^2."""
    a, b = _parabola(cutoff)
    inside = q > cutoff**-2
    return torch.where(inside, shape + a / torch.where(inside, q, 1.0) + b, 0.0)


def _inside(value: Float[Tensor, "*P"], q: Float[Tensor, "*P"], cutoff: float) -> Float[Tensor, "*P"]:
    return torch.where(q > cutoff**-2, value, 0.0)
