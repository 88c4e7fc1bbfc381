"""Cusps and swallowtails against normal forms, bent and turned, and against roots that SciPy finds."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import brentq

from torchscape.errors import OptionError
from torchscape.families import locate_cusp, locate_fold, locate_swallowtail
from torchscape.potentials import FunctionPotential
from torchscape.potentials.base import Potential
from torchscape.potentials.bounds import Bounds
from torchscape.symmetry import Translations

TURN = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
SHIFT = torch.tensor([0.7, -0.4, 0.2, 1.1], dtype=torch.float64)


def start(*x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


class Embedded(Potential):
    """A normal form in s, and three stiff coordinates y_i that follow kappa_i s^2, turned and shifted in space.

    On the valley floor y = kappa s^2 nothing is added, so that the reduced energy is the normal form itself,
    while the plain fourth derivative along s is larger by 12 sum k_i kappa_i^2."""

    ndim = 4
    stiff, kappa = (2.0, 5.0, 9.0), (0.8, -0.6, 1.3)

    def __init__(self, *p: float) -> None:
        self.p = p

    def normal_form(self, s):
        raise NotImplementedError

    def energy(self, x):
        z = (x - SHIFT) @ TURN.T
        s, y = z[:, 0], z[:, 1:]
        bent = y - s[:, None] ** 2 * s.new_tensor(self.kappa)
        return self.normal_form(s) + 0.5 * (s.new_tensor(self.stiff) * bent**2).sum(1)


class Cusp(Embedded):
    """s^4 + (a - 0.3) s^2 + (b + 0.2) s: a cusp at a = 0.3, b = -0.2."""

    def normal_form(self, s):
        a, b = self.p
        return s**4 + (a - 0.3) * s**2 + (b + 0.2) * s


class Swallowtail(Embedded):
    """s^5 + (a - 0.3) s^3 + (b + 0.2) s^2 + (c - 0.1) s."""

    def normal_form(self, s):
        a, b, c = self.p
        return s**5 + (a - 0.3) * s**3 + (b + 0.2) * s**2 + (c - 0.1) * s


BOX = [(-1.0, 1.0)] * 3


@pytest.mark.parametrize(("off", "values"), [(0.1, (0.25, -0.15)), (-0.35, (-0.1, 0.1)), (0.2, (0.5, -0.5))])
def test_a_cusp_in_a_bent_valley(off, values):
    x = SHIFT + off * TURN[0] + 0.05 * TURN[2]
    cusp = locate_cusp(Cusp, values, x, BOX[:2])
    assert cusp.kind == "cusp"
    assert cusp.values == pytest.approx((0.3, -0.2), abs=1e-9)
    torch.testing.assert_close(cusp.x, SHIFT, atol=1e-8, rtol=0)  # where Newton's method stops
    assert abs(float(cusp.mode @ TURN[0])) == pytest.approx(1.0, abs=1e-9)
    assert cusp.derivatives[:2] == pytest.approx((0.0, 0.0), abs=1e-7)
    # of s^4, not the plain derivative 24 + 12 sum k kappa^2 = 24 + 12 * 18.69
    assert cusp.derivatives[2] == pytest.approx(24.0, abs=1e-4)
    sign = math.copysign(1.0, float(cusp.mode @ TURN[0]))
    # by central differences
    torch.testing.assert_close(cusp.unfolding, start(0, sign, 2, 0).reshape(2, 2), atol=1e-6, rtol=0)
    assert cusp.uncertainty < 1e-9
    assert cusp.energy == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("off", "values"), [(0.1, (0.25, -0.15, 0.05)), (-0.2, (0.1, -0.4, 0.2))])
def test_a_swallowtail_in_a_bent_valley(off, values):
    """Its fourth condition is that of the reduced energy: the plain fourth derivative is 224 there, not 0."""
    x = SHIFT + off * TURN[0] - 0.05 * TURN[3]
    tail = locate_swallowtail(Swallowtail, values, x, BOX)
    assert tail.values == pytest.approx((0.3, -0.2, 0.1), abs=1e-8)
    torch.testing.assert_close(tail.x, SHIFT, atol=1e-7, rtol=0)
    assert tail.derivatives[:3] == pytest.approx((0.0, 0.0, 0.0), abs=1e-5)
    assert abs(tail.derivatives[3]) == pytest.approx(120.0, abs=1e-2)
    # g_1 by c, g_2 by b, g_3 by a: 1, 2 and 6, up to the sign of s
    torch.testing.assert_close(
        tail.unfolding.abs(), start(0, 0, 1, 0, 2, 0, 6, 0, 0).reshape(3, 3), atol=1e-4, rtol=0
    )


def test_folds_meet_in_the_cusp():
    """The two folds of the quartic at a < 0 are where its closed form says, and close in on the cusp as a
    rises."""
    cusp = locate_cusp(Cusp, (0.2, -0.1), SHIFT, BOX[:2])
    for a in (-0.4, 0.1):
        width = 8 * (-(a - 0.3) / 6) ** 1.5  # |b| of the folds: U' = U'' = 0
        for side in (-1, 1):
            x = SHIFT + side * ((0.3 - a) / 6) ** 0.5 * TURN[0]
            fold = locate_fold(lambda b, a=a: Cusp(a, b), cusp.values[1] + 0.8 * side * width, x, (-1.0, 1.0))
            assert abs(fold.value - cusp.values[1]) == pytest.approx(width, abs=1e-7)


class Trigonometric(Potential):
    """a cos x + b sin x + cos 2x + (y - sin x)^2: cusps at a = -4 (x = 0) and a = 4 (x = pi), b = 0, with 12 as
    the fourth derivative by x; y goes along, so that the mode is (1, +-1)/2^(1/2), and g_4 = 12/4."""

    ndim = 2

    def __init__(self, a: float, b: float) -> None:
        self.a, self.b = a, b

    def energy(self, x):
        x, y = x.unbind(1)
        return self.a * x.cos() + self.b * x.sin() + (2 * x).cos() + (y - x.sin()) ** 2


@pytest.mark.parametrize(
    ("guess", "values", "place"), [((-3.5, 0.3), (-4, 0), 0.0), ((3.6, -0.2), (4, 0), math.pi)]
)
def test_a_cusp_that_is_no_polynomial(guess, values, place):
    cusp = locate_cusp(Trigonometric, guess, start(place + 0.2, 0.1), [(-6.0, 6.0), (-3.0, 3.0)])
    assert cusp.values == pytest.approx(values, abs=1e-8)
    assert float(cusp.x[0]) == pytest.approx(place, abs=1e-7)
    assert cusp.derivatives[2] == pytest.approx(3.0, abs=1e-6)


class Machine(Potential):
    """Zeeman's catastrophe machine: a wheel of radius 1, springs of rest length 1 to (-2, 0) and to (X, Y)."""

    ndim = 1

    def __init__(self, x: float, y: float) -> None:
        self.end = (x, y)

    def energy(self, x):
        pin = torch.stack([x[:, 0].cos(), x[:, 0].sin()], 1)
        lengths = [(pin - pin.new_tensor(end)).norm(dim=1) for end in ((-2.0, 0.0), self.end)]
        return sum((length - 1) ** 2 for length in lengths)


def test_cusps_of_the_catastrophe_machine():
    """By symmetry the cusps on the axis are at Y = 0, theta = 0 or pi, where the second derivative vanishes."""

    def curvature(x: float, theta: float) -> float:
        return float(Machine(x, 0.0).hessian(start(theta)[None])[0, 0, 0])

    found = []
    for theta, low, high in ((math.pi, 1.05, 1.8), (math.pi, 1.8, 6.0), (0.0, 1.2, 8.0)):
        if curvature(low, theta) * curvature(high, theta) < 0:
            found.append((theta, brentq(curvature, low, high, args=(theta,), xtol=1e-13)))
    assert found
    for theta, x in found:
        cusp = locate_cusp(Machine, (x + 0.03, 0.02), start(theta + 0.05), [(x - 0.5, x + 0.5), (-0.5, 0.5)])
        assert cusp.values == pytest.approx((x, 0.0), abs=1e-7)


class Exponential(Potential):
    """e^x - x^4/24 + a x + b x^2/2 + c x^3/6: a swallowtail at x = 0, a = b = c = -1, with g_5 = 1."""

    ndim = 1

    def __init__(self, a: float, b: float, c: float) -> None:
        self.p = a, b, c

    def energy(self, x):
        a, b, c = self.p
        x = x[:, 0]
        return x.exp() - x**4 / 24 + a * x + b * x**2 / 2 + c * x**3 / 6


def test_a_swallowtail_that_is_no_polynomial():
    tail = locate_swallowtail(Exponential, (-0.9, -1.1, -0.8), start(0.2), [(-2.0, 0.0)] * 3)
    assert tail.values == pytest.approx((-1, -1, -1), abs=1e-6)
    assert tail.derivatives[-1] == pytest.approx(1.0, abs=1e-3)
    torch.testing.assert_close(tail.unfolding, torch.eye(3, dtype=torch.float64), atol=1e-3, rtol=0)


def test_known_zero_modes_are_out_of_the_way():
    """The same cusp in the difference of two coordinates of which only the difference matters."""

    def at(a: float, b: float) -> Potential:
        def energy(x):
            s = (x[:, 0] - x[:, 1]) / 2**0.5
            return s**4 + a * s**2 + b * s

        u = FunctionPotential(
            energy, 2, batched=True, symmetry=Translations(2, directions=[1.0, 1.0]), check=False
        )
        return u

    cusp = locate_cusp(at, (0.2, 0.1), start(1.3, 1.0), BOX[:2])
    assert cusp.values == pytest.approx((0.0, 0.0), abs=1e-9)
    assert cusp.derivatives[2] == pytest.approx(24.0, abs=1e-5)


class Sextic(Potential):
    """x^6 + a x^2 + b x: at the origin more than a cusp."""

    ndim = 1

    def __init__(self, a: float, b: float) -> None:
        self.a, self.b = a, b

    def energy(self, x):
        return (x**6 + self.a * x**2 + self.b * x)[:, 0]


class Doubled(Cusp):
    """Two parameters that do the same."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__(a + b + 0.3, -0.2)


class Far(Cusp):
    """The cusp lies outside of its box."""

    bounds = Bounds.of([(-3.0, 0.5)] * 4)


class Bowl(Potential):
    """(1 + a^2 + b^2) x^2: never flat."""

    ndim = 1

    def __init__(self, a: float, b: float) -> None:
        self.stiff = 1 + a * a + b * b

    def energy(self, x):
        return self.stiff * (x**2)[:, 0]


@pytest.mark.parametrize(
    ("at", "x", "told"),
    [
        (Sextic, start(0.1), "the derivative of order 4 vanishes, too: a swallowtail or more|does not converge"),
        (Doubled, SHIFT, "the parameters do not unfold it|does not converge"),
        (Far, SHIFT, "outside the potential's box"),
        (Bowl, start(0.3), "does not converge for values from -1 to 1, -1 to 1"),
    ],
)
def test_why_there_is_none(at, x, told):
    with pytest.warns(UserWarning, match=f"no cusp: .*({told})"):
        assert locate_cusp(at, (0.1, 0.1), x, BOX[:2]) is None


def test_numbers_of_values_and_limits():
    with pytest.raises(OptionError, match="give 2 values, and 2 limits"):
        locate_cusp(Sextic, (0.1,), start(0.1), BOX[:2])
    with pytest.raises(OptionError, match="low < high"):
        locate_swallowtail(Exponential, (0.1, 0.1, 0.1), start(0.1), [(1.0, 0.0)] * 3)
    with pytest.raises(OptionError, match="values="):
        locate_cusp(Sextic, (0.1, float("nan")), start(0.1), BOX[:2])
