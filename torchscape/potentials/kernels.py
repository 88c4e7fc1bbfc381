"""Stationary correlation functions of Gaussian processes: squared-exponential, and Matern of any real order."""

from __future__ import annotations

import math

import torch

from torchscape.errors import PotentialError
from torchscape.potentials.bessel import log_power_kv
from torchscape.types import Float, Tensor

__all__ = ["Kernel", "Matern", "SquaredExponential"]

Terms = tuple[Float[Tensor, "*S"], Float[Tensor, "*S"], Float[Tensor, "*S"]]


class Kernel:
    """A correlation c(s) as a function of the squared scaled distance s = sum_d (x_d - x'_d)^2 / l_d^2."""

    name: str

    def __call__(self, s: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
        """c(s), differentiable; c(0) = 1 with derivative 0."""
        apart = s > 0
        return torch.where(apart, self.terms(torch.where(apart, s, 1.0))[0], 1.0)

    def terms(self, s: Float[Tensor, "*S"]) -> Terms:
        """c, s c'(s) and s^2 c''(s): for derivatives in logarithmic length scales, finite at s = 0 too."""
        raise NotImplementedError(f"{type(self).__name__} must define terms(s)")

    def settings(self) -> dict[str, object]:
        return {"name": self.name}


class SquaredExponential(Kernel):
    """c = exp(-s/2).

    Example:
        >>> SquaredExponential()(torch.tensor([0.0, 2.0], dtype=torch.float64)).log().tolist()
        [0.0, -1.0]
    """

    name = "squared-exponential"

    def terms(self, s: Float[Tensor, "*S"]) -> Terms:
        c = torch.exp(-0.5 * s)
        first = -0.5 * s * c
        return c, first, -0.5 * s * first


class Matern(Kernel):
    """c = 2^(1-nu)/Gamma(nu) x^nu K_nu(x) with x = sqrt(2 nu s), for any real nu > 0.

    With M_v(x) = x^v K_v(x), whose derivative by x^2/2 is -M_(v-1), two functions of x suffice:
    a = M_nu(x) / M_nu(0) and b = x^2 M_(nu-1)(x) / M_nu(0) give c = a, s c' = -b/2 and
    s^2 c'' = [x^2 a - 2 (nu - 1) b] / 4. For half-integer nu they are polynomials times exp(-x). Otherwise their
    logarithms are tabulated in ln x, at construction, as piecewise polynomials that agree with the quadrature of
    :func:`~torchscape.potentials.bessel.log_power_kv` to rounding; an evaluation then costs about as much as
    four exponentials. Below x = 1e-8 the leading power of x takes over, which is exact there.

    Args:
        nu: smoothness, from 0.05 to 30; beyond, the squared-exponential kernel is as good.

    Raises:
        PotentialError: for other nu.

    Reference: C. E. Rasmussen and C. K. I. Williams, *Gaussian Processes for Machine Learning* (MIT Press, 2006),
    eq. 4.14, doi 10.7551/mitpress/3206.001.0001.

    Example:
        >>> s = torch.tensor([0.0, 1.0], dtype=torch.float64)  # nu = 1/2 is the exponential exp(-sqrt(s))
        >>> Matern(0.5)(s).log().tolist()
        [0.0, -1.0]
    """

    name = "matern"

    def __init__(self, nu: float | int = 2.5) -> None:
        self.nu = float(nu)
        if not 0.05 <= self.nu <= 30:
            raise PotentialError(f"nu={nu}: choose 0.05 to 30, or the squared-exponential kernel for large nu")
        p = self.nu - 0.5
        self._functions = _HalfInteger(int(p)) if p == int(p) else _Table(self.nu)

    def terms(self, s: Float[Tensor, "*S"]) -> Terms:
        a, b = self._functions(2 * self.nu * s)
        return a, -0.5 * b, 0.5 * (self.nu * s * a - (self.nu - 1) * b)

    def settings(self) -> dict[str, object]:
        return {"name": self.name, "nu": self.nu}


class _HalfInteger:
    """a and b for nu = p + 1/2: exp(-x) times polynomials, with (p+k)! / (k! (p-k)! 2^k) before x^(p-k)."""

    def __init__(self, p: int) -> None:
        scale = _coefficients(p)[0]
        self._a = [c / scale for c in _coefficients(p)]
        lower = _coefficients(p - 1) if p else [1.0]
        self._b = [0.0, *([0.0] if p else []), *(c / scale for c in lower)]

    def __call__(self, square: Float[Tensor, "*S"]) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S"]]:
        x = square.sqrt().clamp(max=800.0)  # where exp(-x) has vanished, powers must not overflow
        decay = torch.exp(-x)
        return decay * _horner(self._a, x), decay * _horner(self._b, x)


def _coefficients(p: int) -> list[float]:
    """Of x^0, ..., x^p."""
    f = math.factorial
    return [f(2 * p - j) / (f(p - j) * f(j) * 2 ** (p - j)) for j in range(p + 1)]


def _horner(coefficients: list[float], x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    value = torch.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


class _Table:
    """ln a + x and ln b + x as polynomials of degree 8 on cells of ln x.

    The nearest singularities of ln K_nu lie pi/2 away from the real axis of ln x, which makes the error of
    Chebyshev interpolation on a cell of width 1/8 about 50^-9.
    """

    START, STOP, WIDTH, DEGREE = math.log(1e-8), math.log(2e3), 0.125, 8
    TINY = 1e-16  # of x^2

    def __init__(self, nu: float) -> None:
        self._power = 2 * min(nu, 1.0)
        cells = math.ceil((self.STOP - self.START) / self.WIDTH)
        k = torch.arange(self.DEGREE + 1, dtype=torch.float64)
        nodes = torch.cos(math.pi * (k + 0.5) / (self.DEGREE + 1))
        middles = self.START + self.WIDTH * (torch.arange(cells, dtype=torch.float64) + 0.5)
        with torch.no_grad():
            u = middles + 0.5 * self.WIDTH * nodes[:, None]
            norm = math.lgamma(nu) + (nu - 1) * math.log(2)
            a = log_power_kv(nu, u.exp()) - norm
            b = self._power * u + log_power_kv(nu - 1, u.exp()) - norm
        powers = nodes[:, None] ** k
        self._a, self._b = torch.linalg.solve(powers, a), torch.linalg.solve(powers, b)  # [DEGREE + 1, cells]
        x = torch.full((), self.TINY, dtype=torch.float64).sqrt()
        self._edge = [float(self._interpolated(table, x.log(), x)) for table in (self._a, self._b)]

    def __call__(self, square: Float[Tensor, "*S"]) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S"]]:
        tiny = square < self.TINY
        wide = torch.where(tiny, self.TINY, square)
        u, x = 0.5 * torch.log(wide), wide.sqrt()
        a, b = (self._interpolated(table.to(u), u, x) for table in (self._a, self._b))
        share = (torch.where(tiny, square, self.TINY) / self.TINY) ** (self._power / 2)
        a0, b0 = self._edge
        a = torch.where(tiny, a0 + b0 * (1 - share) / self._power, a)
        return a, torch.where(tiny, b0 * share, b)

    def _interpolated(self, table: Float[Tensor, "K C"], u: Float[Tensor, "*S"], x: Float[Tensor, "*S"]):
        place = (u.clamp(max=self.STOP) - self.START) / self.WIDTH
        cell = place.detach().nan_to_num(nan=0.0).long().clamp(0, table.shape[1] - 1)
        local = 2 * (place - cell) - 1
        value = table[self.DEGREE][cell]
        for row in table[:-1].flip(0):
            value = torch.addcmul(row[cell], value, local)
        return torch.exp(value - x)
