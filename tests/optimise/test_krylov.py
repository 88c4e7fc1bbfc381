"""Newton-Krylov: conjugate gradients as theory has them, negative curvature, and rows of L-BFGS that creep."""

from __future__ import annotations

import dataclasses

import pytest
import scipy.optimize
import torch

from torchscape import random
from torchscape.optimise import LBFGS, NewtonKrylov, choose_optimiser, relax
from torchscape.optimise.history import times, with_pairs
from torchscape.optimise.krylov import KrylovSolution
from torchscape.points import Status
from torchscape.potentials import FunctionPotential, Quadratic
from torchscape.potentials.base import Potential
from torchscape.potentials.bounds import Bounds


def normal(key: int, n: int, d: int) -> torch.Tensor:
    return random.normal(random.fold(key, torch.arange(n)), d)


def solved(u: Potential, x: torch.Tensor, radius: float = torch.inf, most=None, **settings) -> KrylovSolution:
    settings = {"max_products": 200, "forcing": 1e-6} | settings
    most = torch.full((len(x),), 1000, device=x.device) if most is None else most
    grad = u.energy_and_grad(x)[1] / u.energy_scale
    return NewtonKrylov(**settings).solve(u, x, grad, lambda r: r, most, least=0.0, radius=radius)


class Turned(Potential):
    """A quadratic with these curvatures, along axes of its own."""

    def __init__(self, curvatures: torch.Tensor) -> None:
        self.ndim = len(curvatures)
        q = torch.linalg.qr(normal(7, self.ndim, self.ndim))[0]
        self.h = q @ (curvatures[:, None] * q.mT)

    def energy(self, x):
        return 0.5 * ((x @ self.h) * x).sum(1)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_as_many_products_as_distinct_curvatures(n):
    """Golub & Van Loan, section 11.3: conjugate gradients end after as many steps. (Curvatures are near to each
    other: prod_i |1 - max / mu_i| is by what rounding of the products is made larger.)"""
    u = Turned(torch.linspace(1, 3, n, dtype=torch.float64)[torch.arange(40) % n])
    x = normal(1, 3, 40)
    found = solved(u, x, forcing=1e-5)
    assert found.spent.tolist() == [n, n, n]
    # a residual of 1e-5 of the gradients, which are about 3, over curvatures of at least 1
    torch.testing.assert_close(x + found.p, torch.zeros_like(x), rtol=0, atol=1e-4)
    assert not bool(found.bent.any())


def test_conjugacy_is_kept_where_the_usual_recurrence_loses_it():
    """Curvatures 1e6 apart, 60 of them: in exact arithmetic 60 products; the recurrence of three terms takes more
    than twice as many (measured here with that of SciPy)."""
    curvatures = torch.logspace(-4, 2, 60, dtype=torch.float64)
    u, x = Turned(curvatures), normal(2, 1, 60)
    found = solved(u, x, forcing=1e-7, max_products=100)
    assert int(found.spent) <= 62
    k = int(found.n_pairs)
    gram = found.basis[0, :k] @ u.h @ found.basis[0, :k].mT
    # differences of gradients of 100, a millionth apart, are good to 1e-8; the least curvature is 1e-4
    torch.testing.assert_close(gram, torch.eye(k, dtype=torch.float64), rtol=0, atol=1e-4)
    n_usual = 0

    def product(v):
        nonlocal n_usual
        n_usual += 1
        return u.h.numpy() @ v

    import scipy.sparse.linalg as sparse

    operator = sparse.LinearOperator((60, 60), matvec=product, dtype=float)
    sparse.cg(operator, -(u.h @ x[0]).numpy(), rtol=1e-7, maxiter=1000)
    assert n_usual > 2 * int(found.spent)


def test_steps_end_at_the_trust_radius():
    u, x = Turned(torch.logspace(-6, 0, 30, dtype=torch.float64)), normal(3, 4, 30)
    far = solved(u, x, radius=3.0)
    before = solved(u, x, most=far.spent - 1)
    assert bool((far.p.norm(dim=1) >= 3.0).all())
    assert bool((before.p.norm(dim=1) < 3.0).all())
    assert bool(((far.p * (x @ u.h)).sum(1) < 0).all())  # downhill


def test_negative_curvature_is_followed_downhill(device):
    """x^2 - y^2 / 2 + y^4 / 4 beside the saddle at 0: its minima lie at y = 1 and y = -1, with U = -1/4."""
    u = FunctionPotential(lambda x: x[0] ** 2 - 0.5 * x[1] ** 2 + 0.25 * x[1] ** 4, 2, device=device)
    x = torch.tensor([[1e-3, 1e-4], [1e-3, -1e-4], [0.3, 1.01]], dtype=torch.float64, device=device)
    energy, grad = u.energy_and_grad(x)
    found = solved(u, x)
    assert (found.bent.norm(dim=1) > 0).tolist() == [True, True, False]
    assert bool(((found.bent * grad).sum(1)[:2] < 0).all())
    there, spent = NewtonKrylov().descended(u, x, energy, found.bent)
    lower = u.energy_and_grad(there)[0]
    assert bool((lower[:2] < -0.15).all())
    assert torch.equal(there[2], x[2])
    assert int(spent[2]) == 0


def test_no_curvature_at_all_is_followed_downhill():
    u = FunctionPotential(lambda x: x[0] + 2 * x[1], 2)
    found = solved(u, torch.zeros(1, 2, dtype=torch.float64))
    torch.testing.assert_close(found.bent, -torch.tensor([[1.0, 2.0]], dtype=torch.float64) / 5**0.5)
    assert not bool(found.p.any())


class Holed(Potential):
    """cosh in four dimensions; without a gradient where x_0 is above -3 and below -2."""

    ndim = 4

    def energy(self, x):
        return torch.cosh(x).sum(1)

    def energy_and_grad(self, x):
        energy, grad = super().energy_and_grad(x)
        return energy, grad.masked_fill(((x[:, 0] > -3) & (x[:, 0] < -2))[:, None], torch.nan)


def test_rows_that_are_not_finite_do_not_touch_others():
    u, x = Holed(), normal(5, 3, 4)
    x[1, 0] = -3 - 1e-8  # the first product, along the slope, looks beyond
    alone, beside = solved(u, x[::2]), solved(u, x)
    assert torch.equal(beside.p[::2], alone.p)
    assert not bool(beside.p[1].any() | beside.bent[1].any())
    assert bool(torch.isfinite(beside.basis).all())


def test_products_are_bounded():
    u = Turned(torch.logspace(-3, 0, 30, dtype=torch.float64))
    x = normal(4, 3, 30)
    most = torch.tensor([0, 3, 1000])
    found = solved(u, x, most=most, max_products=9)
    assert found.spent.tolist() == [0, 3, 9]


def test_the_memory_goes_on_with_what_the_solution_has_seen():
    """With conjugate directions that span all, the direction of L-BFGS is Newton's, of any gradient; so it is in
    coordinates that are rescaled. And what preconditions is what the memory multiplies with."""
    u, x = Turned(torch.logspace(-1, 1, 10, dtype=torch.float64)), normal(6, 2, 10)
    found, optimiser = solved(u, x, forcing=1e-9), LBFGS(memory=20, pairs=None)
    memory = optimiser.init_memory(x)
    memory = dataclasses.replace(memory, scale=0.5 + normal(8, 2, 10).abs())
    memory = with_pairs(memory, found.basis, found.images, found.n_pairs)
    grad = normal(9, 2, 10)
    newton = torch.linalg.solve(u.h, grad.mT).mT
    # differences of gradients are good to 1e-9, the curvatures from 0.1 to 10
    torch.testing.assert_close(times(memory, grad), newton, rtol=1e-7, atol=1e-7)
    yes = torch.ones(2, dtype=torch.bool)
    s = 0.1 * normal(10, 2, 10)
    memory, direction = optimiser.update(memory, s, s @ u.h, grad, yes, ~yes)
    torch.testing.assert_close(direction, -newton, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(times(memory, grad), -direction, rtol=1e-9, atol=1e-9)


def test_more_directions_than_the_memory_holds():
    """The last of them are kept: the direction is Newton's along these."""
    u, x = Turned(torch.logspace(-1, 1, 10, dtype=torch.float64)), normal(6, 1, 10)
    found, optimiser = solved(u, x, forcing=1e-9), LBFGS(memory=4, pairs=None, rescale=None)
    memory = with_pairs(optimiser.init_memory(x), found.basis, found.images, found.n_pairs)
    k = int(found.n_pairs)
    b = found.basis[0, k - 4 : k]
    image = b @ u.h  # H maps each of them to its direction
    torch.testing.assert_close(times(memory, image[2:3]), b[2:3], rtol=1e-7, atol=1e-7)


class Chain(Potential):
    """Rosenbrock's valley in many dimensions: its global minimum is at (1, ..., 1)."""

    ndim = 200

    def energy(self, x):
        return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


EAGER = NewtonKrylov(below=1e-2, every=20, worth=1)


def test_descents_end_in_the_minimum_with_newton_steps():
    u = Chain()
    x = 1 + 0.3 * normal(11, 4, 200)
    points = relax(u, x, optimiser=LBFGS(memory=10, krylov=EAGER))
    assert bool(points.converged.all())
    # an RMS gradient of 1e-8, times sqrt(200), over the least curvature, which is 0.5
    torch.testing.assert_close(points.x, torch.ones_like(x), rtol=0, atol=1e-6)
    expected = scipy.optimize.minimize(
        scipy.optimize.rosen, x[0].numpy(), jac=scipy.optimize.rosen_der, method="BFGS", options={"gtol": 1e-8}
    )
    assert abs(expected.fun - float(points.energy[0])) < 1e-10


def test_a_descent_that_creeps_is_brought_to_its_end():
    """Curvatures 1e6 apart and a memory of five pairs: with Newton steps a small part of the evaluations."""
    u, x = Turned(torch.logspace(-5, 1, 200, dtype=torch.float64)), normal(12, 2, 200)
    settings = {"memory": 5, "rescale": None, "tol": 1e-8, "max_evaluations": 20_000}
    slow = relax(u, x, optimiser=LBFGS(**settings))
    fast = relax(u, x, optimiser=LBFGS(**settings, krylov=NewtonKrylov(below=1e-4)))
    assert bool(fast.converged.all())
    assert bool((fast.n_evaluations < 0.5 * slow.n_evaluations).all())
    torch.testing.assert_close(fast.x, torch.zeros_like(x), rtol=0, atol=1e-2)  # 1e-8 sqrt(D) over 1e-5


def test_rows_go_their_own_ways():
    u, x = Chain(), 1 + 0.3 * normal(13, 5, 200)
    optimiser = LBFGS(memory=10, krylov=EAGER)
    together = relax(u, x, optimiser=optimiser)
    for row in range(5):
        alone = relax(u, x[row : row + 1], optimiser=optimiser)
        # as exact as the minimum is: see above
        torch.testing.assert_close(together.x[row : row + 1], alone.x, rtol=0, atol=1e-6)


def test_evaluations_are_counted_and_bounded():
    class Counted(Chain):
        n = 0

        def energy_and_grad(self, x):
            self.n += len(x)
            return super().energy_and_grad(x)

    u = Counted()
    assert u.energy_scale > 0
    u.n = 0
    points = relax(u, 1 + 0.3 * normal(14, 3, 200), optimiser=LBFGS(memory=10, krylov=EAGER, max_evaluations=150))
    assert u.n == int(points.n_evaluations.sum())
    assert bool((points.n_evaluations <= 150 + 10).all())
    assert set(points.status.tolist()) <= {Status.CONVERGED, Status.MAX_STEPS}


def test_never_in_a_box():
    class Boxed(Chain):
        bounds = Bounds.of([(-2.0, 2.0)] * 200)

    assert choose_optimiser(Chain()).krylov == NewtonKrylov()
    assert choose_optimiser(Boxed()).krylov is None
    x = 1 + 0.1 * normal(15, 2, 200)
    plain, asked = (relax(Boxed(), x, optimiser=LBFGS(memory=10, krylov=k)) for k in (None, EAGER))
    assert torch.equal(plain.x, asked.x)


def test_a_saddle_is_no_end_of_a_newton_step():
    """Begun beside a saddle, where all but one curvature is positive, the descent leaves it."""
    d = 200
    u = FunctionPotential(lambda x: (x[1:] ** 2).sum() - 0.5 * x[0] ** 2 + 0.25 * x[0] ** 4, d)
    x = 0.3 * normal(16, 3, d)
    x[:, 0] = 1e-5
    points = relax(u, x, optimiser=LBFGS(memory=10, krylov=dataclasses.replace(EAGER, every=5)))
    assert bool(points.converged.all())
    torch.testing.assert_close(points.energy, torch.full_like(points.energy, -0.25), rtol=0, atol=1e-10)


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"forcing": 1.0}, {"every": 0}, {"max_products": 0}, {"below": 0.0}, {"worth": 0}):
        with pytest.raises(Exception, match="NewtonKrylov"):
            NewtonKrylov(**wrong)


def test_flat_quadratics_need_one_product(device):
    u = Quadratic([2.0] * 6, device=device)
    x = normal(17, 2, 6).to(device)
    assert solved(u, x).spent.tolist() == [1, 1]
