"""The contract suite itself: it passes what is right and names what is wrong."""

from __future__ import annotations

import math

import pytest
import torch

from torchscape.errors import NotDeterministic, PotentialError
from torchscape.potentials import Bounds, Potential
from torchscape.potentials.contract import check_contract, difference_errors
from torchscape.symmetry import Symmetry


class Waves(Potential):
    """sum_i cos(x_i) + 0.1 (sum_i x_i)^2 x_0: smooth, not separable, third derivatives everywhere."""

    ndim = 4

    def __init__(self, device="cpu", dtype=torch.float64):
        self.device, self.dtype = torch.device(device), dtype

    def energy(self, x):
        return x.cos().sum(1) + 0.1 * x.sum(1) ** 2 * x[:, 0]


def test_a_smooth_function_keeps_the_contract(device, dtype):
    check_contract(Waves(device, dtype))


def test_difference_errors_fall_as_the_square_of_the_step():
    """For sin at 0 the error of the central difference is 1 - sin(h)/h = h^2/6 - ..."""
    steps = torch.tensor([0.1, 0.01], dtype=torch.float64)
    x = torch.zeros(1, 1, dtype=torch.float64)
    error = difference_errors(lambda x: x.sin()[:, 0], torch.ones(1), x, torch.ones_like(x), steps)[:, 0]
    expected = torch.tensor([1 - math.sin(h) / h for h in steps.tolist()], dtype=torch.float64)
    torch.testing.assert_close(error, expected)


def test_kinks_are_named_unless_they_are_announced():
    class Kinked(Waves):
        def energy(self, x):
            return super().energy(x) + (x[:, 0] - self.kink).abs()

    potential, x = Kinked(), torch.full((1, 4), 0.3, dtype=torch.float64)
    potential.kink = 0.3
    with pytest.raises(PotentialError, match="not the derivative"):
        check_contract(potential, x=x, smooth=False)
    potential.kink = 0.3 - 1e-3
    check_contract(potential, x=x, smooth=False)


class WrongGrad(Waves):
    def energy_and_grad(self, x):
        energy, grad = super().energy_and_grad(x)
        return energy, grad + 1e-4 * x.roll(1, 1)


class WrongHvp(Waves):
    def hvp(self, x, v):
        return super().hvp(x, v) * (1 + 1e-5)


class WrongProducts(Waves):
    def products_at(self, x):
        products = super().products_at(x)
        return lambda v: products(v.roll(1, 1))


class Guess(Waves):
    def __init__(self, guess):
        self.preconditioner = guess


class WrongHessian(Waves):
    def hessian(self, x):
        return super().hessian(x) * (1 + 1e-5)


class Lopsided(Waves):
    """A field of 'gradients' that no energy has: its Jacobian is not symmetric."""

    def hvp(self, x, v):
        return super().hvp(x, v) + 1e-3 * v.roll(1, 1)


class Mixing(Waves):
    def energy(self, x):
        return super().energy(x) - 1e-3 * (x.mean(0) ** 2).sum()


class Contagious(Waves):
    """Harmless among finite rows, but one NaN spoils the batch."""

    def energy(self, x):
        return super().energy(x) + 0 * x.sum()


class Forgetful(Waves):
    calls = 0

    def energy(self, x):
        self.calls += 1
        return super().energy(x) + 1e-6 * self.calls


class Drifting(Waves):
    calls = 0

    def energy(self, x):
        self.calls += 1
        return super().energy(x)

    def settings(self):
        return {"calls": self.calls}


class Meddling(Waves):
    def energy_and_grad(self, x):
        result = super().energy_and_grad(x)
        x += 1
        return result


class Scalar(Waves):
    def energy(self, x):
        return super().energy(x).sum()


class Single(Waves):
    def hvp(self, x, v):
        return super().hvp(x, v).float()


class Attached(Waves):
    def energy_and_grad(self, x):
        return super().energy_and_grad(x)[0], (x.requires_grad_() * 1.0)


class Unseeded(Waves):
    def sample(self, n, seed=0):
        return torch.randn(n, self.ndim, dtype=self.dtype)


class SameSeed(Waves):
    def sample(self, n, seed=0):
        return super().sample(n, 0)


class Escaping(Waves):
    bounds = Bounds.of([(-1, 1)] * 4)

    def sample(self, n, seed=0):
        return 10 * Potential.sample(Waves(), n, seed)


@pytest.mark.parametrize(
    ("potential", "error", "message"),
    [
        (WrongGrad(), PotentialError, "the gradient is not the derivative of the energy"),
        (WrongHvp(), PotentialError, "hvp is not the derivative of the gradient"),
        (WrongProducts(), PotentialError, "products_at and hvp differ"),
        (Guess(lambda g: g.abs()), PotentialError, "preconditioner is not linear"),
        (Guess(lambda g: g.cumsum(1)), PotentialError, "preconditioner is not symmetric"),
        (Guess(lambda g: -g), PotentialError, "preconditioner is not positive"),
        (WrongHessian(), PotentialError, "hessian @ v and hvp differ"),
        (Lopsided(), PotentialError, "hvp is not the derivative"),
        (Mixing(), NotDeterministic, "rows interact: the energy of a row differs evaluated alone"),
        (Contagious(), NotDeterministic, "beside a row of NaN"),
        (Forgetful(), NotDeterministic, "two evaluations differ"),
        (Drifting(), PotentialError, "the fingerprint changed"),
        (Meddling(), PotentialError, "changed the points in place"),
        (Scalar(), PotentialError, r"energy has shape \(\) instead of \(3,\)"),
        (Single(), PotentialError, "hvp is torch.float32"),
        (Attached(), PotentialError, "detach"),
        (Unseeded(), NotDeterministic, "same first rows"),
        (SameSeed(), PotentialError, "same starts for another seed"),
        (Escaping(), PotentialError, "outside the bounds"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Potential) else "",
)
def test_broken_promises_are_named(potential, error, message):
    with pytest.raises(error, match=message):
        check_contract(potential)


class Ring(Potential):
    """(|x|^2 - 1)^2 in the plane: a circle of minima, symmetric under every rotation."""

    ndim = 2

    def __init__(self, symmetry):
        self.symmetry = symmetry

    def energy(self, x):
        return ((x**2).sum(1) - 1) ** 2


class Rotations(Symmetry):
    """SO(2): the image closest to a reference lies on the same ray."""

    def align(self, reference, x):
        return torch.nn.functional.normalize(reference, dim=1) * x.norm(dim=1, keepdim=True)

    def canonical(self, x):
        return torch.stack([x.norm(dim=1), x.new_zeros(len(x))], 1)

    def invariants(self, x):
        return x.norm(dim=1, keepdim=True)

    def zero_modes(self, x):
        return torch.nn.functional.normalize(torch.stack([-x[:, 1], x[:, 0]], 1), dim=1)[:, None]

    def random_image(self, x, key):
        return Rotations.align(self, torch.stack([key.double().cos(), key.double().sin()], 1), x)


class NoAlign(Rotations):
    def align(self, reference, x):
        return x


class Radial(Rotations):
    def zero_modes(self, x):
        return torch.nn.functional.normalize(x, dim=1)[:, None]


class Stretched(Rotations):
    def random_image(self, x, key):
        return 1.01 * super().random_image(x, key)


class Eager(Rotations):
    def invariants(self, x):
        return 3 * super().invariants(x)


def test_a_continuous_symmetry_keeps_the_contract():
    check_contract(Ring(Rotations()))
    angle = torch.tensor([0.1, 2.0, 4.0], dtype=torch.float64)
    minima = torch.stack([angle.cos(), angle.sin()], 1)
    check_contract(Ring(Rotations()), x=minima)  # stationary: the zero mode must have H z = 0


@pytest.mark.parametrize(
    ("symmetry", "message"),
    [
        (NoAlign(), "from its own image"),
        (Radial(), "changes along a zero mode"),
        (Stretched(), "random_image changes the energy"),
        (Eager(), "invariants move further"),
    ],
)
def test_false_symmetries_are_named(symmetry, message):
    with pytest.raises(PotentialError, match=message):
        check_contract(Ring(symmetry))
