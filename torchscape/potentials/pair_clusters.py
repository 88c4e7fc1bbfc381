"""Clusters bound by the potentials of Morse and of Dzugutov."""

from __future__ import annotations

import torch

from torchscape.errors import PotentialError
from torchscape.potentials.native_pairs import Formula
from torchscape.potentials.pair_potential import PairPotential
from torchscape.types import Float, Tensor
from torchscape.validation import POSITIVE

__all__ = ["Dzugutov", "Morse"]


class Morse(PairPotential):
    """U = sum_{i<j} e_ij (e_ij - 2), e = exp[rho (1 - r_ij)]: the depth of a pair is 1, at distance 1.

    The range parameter rho decides which structures are lowest: 3 is long-ranged (sodium), 6 has the curvature of
    Lennard-Jones, 10 and 14 (fullerenes) are short-ranged, with many more minima.

    Args:
        n_atoms: number of atoms n.
        rho: range parameter.
        container, dim, dtype, device: as of :class:`~torchscape.potentials.LennardJones`.

    Reference: J. P. K. Doye and D. J. Wales, J. Chem. Soc., Faraday Trans. 93, 4233 (1997), doi 10.1039/a706221d.

    Example:
        >>> import torch
        >>> Morse(2).energy(torch.tensor([[0.0, 0, 0, 0, 0, 1]], dtype=torch.float64)).item()
        -1.0
    """

    pair_distance = 1.0
    elementwise = True

    def __init__(
        self, n_atoms: int, rho: float | int = 6.0, *, container: float | int | str | None = "auto", **place
    ):
        POSITIVE.check("Morse", PotentialError, rho=rho)
        self.rho = float(rho)
        super().__init__(n_atoms, container=container, **place)
        self.length_scale = min(0.4, 2.4 / self.rho)

    def settings(self):
        return {**super().settings(), "rho": self.rho}

    def prepared(self, square: Float[Tensor, "*P"]) -> tuple[Tensor, Tensor]:
        """r, and e."""
        r = square.sqrt()
        return r, (self.rho * (1 - r)).exp()

    def terms_in_c(self) -> Formula | None:
        return Formula(_MORSE_IN_C, [self.rho])

    def pair_energy(self, prepared: tuple[Tensor, Tensor]) -> Float[Tensor, "*P"]:
        e = prepared[1]
        return e * (e - 2)

    def weight(self, prepared: tuple[Tensor, Tensor]) -> Float[Tensor, "*P"]:
        """w = -2 rho e (e - 1)/r."""
        r, e = prepared
        return -2 * self.rho * e * (e - 1) / r

    def slope(self, prepared: tuple[Tensor, Tensor]) -> Float[Tensor, "*P"]:
        """(u'' - w)/r^2 with u'' = 2 rho^2 e (2 e - 1)."""
        r, e = prepared
        return (2 * self.rho**2 * e * (2 * e - 1) - self.weight(prepared)) / r.square()


class Dzugutov(PairPotential):
    """U = sum_{i<j} [A (r^-16 - B) exp(c/(r - a)) for r < a] + [B exp(d/(r - b)) for r < b].

    A = 5.82, B = 1.28, a = 1.87, b = 1.94, c = 1.1, d = 0.27: a well of depth 0.581 at r = 1.13, and beyond it a
    barrier of 0.46 at r = 1.63, which keeps second neighbours off the distances of close packing. Everything is
    smooth, at a and b too.

    Args:
        n_atoms: number of atoms n.
        container, dim, dtype, device: as of :class:`~torchscape.potentials.LennardJones`.

    References: M. Dzugutov, Phys. Rev. A 46, R2984 (1992), doi 10.1103/PhysRevA.46.R2984; clusters: J. P. K.
    Doye, D. J. Wales and S. I. Simdyankin, Faraday Discuss. 118, 159 (2001), doi 10.1039/b008833l.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0, 0, 1.13, 0, 0], [0, 0, 0, 1.63, 0, 0]], dtype=torch.float64)
        >>> Dzugutov(2).energy(x).round(decimals=3).tolist()
        [-0.581, 0.46]
    """

    pair_distance = 1.13
    elementwise = True
    length_scale = 0.3
    strength, floor, near_reach, power, decay = 5.82, 1.28, 1.87, 16, 1.1
    reach, far_decay = 1.94, 0.27

    def prepared(self, square: Float[Tensor, "*P"]) -> tuple[Tensor, ...]:
        """r, and for both terms 1/(r - a) and the exponential, 0 from just below the reach on."""
        r = square.sqrt()
        tiny = torch.finfo(r.dtype).tiny
        found = [r]
        for reach, decay in ((self.near_reach, self.decay), (self.reach, self.far_decay)):
            inside = r < reach
            inverse = 1 / torch.where(inside, r - reach, -reach)
            e = (decay * inverse).exp()
            inside = inside & (e > tiny)
            found += [torch.where(inside, inverse, 0.0), torch.where(inside, e, 0.0)]
        return tuple(found)

    def terms_in_c(self) -> Formula | None:
        if self.power != 16:
            return None
        return Formula(
            _DZUGUTOV_IN_C,
            [self.strength, self.floor, self.near_reach, self.decay, self.reach, self.far_decay],
        )

    def pair_energy(self, prepared: tuple[Tensor, ...]) -> Float[Tensor, "*P"]:
        r, _, near, _, far = prepared
        return self.strength * (r**-self.power - self.floor) * near + self.floor * far

    def weight(self, prepared: tuple[Tensor, ...]) -> Float[Tensor, "*P"]:
        """The exponentials exp(c/(r - a)) have the slope -c/(r - a)^2 times themselves."""
        r, s, near, t, far = prepared
        m, core = self.power, r**-self.power
        first = self.strength * near * (-m * core / r - (core - self.floor) * self.decay * s**2)
        return (first - self.floor * self.far_decay * far * t**2) / r

    def slope(self, prepared: tuple[Tensor, ...]) -> Float[Tensor, "*P"]:
        r, s, near, t, far = prepared
        m, c, d, core = self.power, self.decay, self.far_decay, r**-self.power
        first = m * (m + 1) * core / r**2 + 2 * m * core / r * c * s**2
        first = first + (core - self.floor) * (c**2 * s**4 + 2 * c * s**3)
        second = self.strength * near * first + self.floor * far * (d**2 * t**4 + 2 * d * t**3)
        return (second - self.weight(prepared)) / r.square()


# q: rho
_MORSE_IN_C = """
vec r = root(square), e = exponential(q[0] * (1 - r));
u = e * (e - 2);
w = -2 * q[0] * e * (e - 1) / r;
"""

# q: A, B, a, c, b, d. Beyond its reach an exponential is 0, and so is one that underflows below it.
_DZUGUTOV_IN_C = """
vec r = root(square);
mask nearer = ~(r >= q[2]), near = ~(r >= q[4]);
vec s = only(nearer, 1 / (r - q[2])), t = only(near, 1 / (r - q[4]));
vec e = only(nearer, exponential(q[3] * s)), f = only(near, exponential(q[5] * t));
nearer = ~(e <= 1e-307); near = ~(f <= 1e-307);
s = only(nearer, s); e = only(nearer, e); t = only(near, t); f = only(near, f);
vec inverse = 1 / square, core = inverse * inverse * inverse * inverse;
core *= core;
u = q[0] * (core - q[1]) * e + q[1] * f;
w = (q[0] * e * (-16 * core / r - (core - q[1]) * q[3] * s * s) - q[1] * q[5] * f * t * t) / r;
"""
