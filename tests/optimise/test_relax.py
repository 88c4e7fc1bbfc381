"""Minimisation: textbook updates, SciPy as oracle, boxes, statuses, and rows that never notice each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape import problems
from torchscape.errors import PotentialError
from torchscape.optimise import BFGS, LBFGS, Armijo, Pool, Queue, ShortLBFGS, history, relax
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.function import FunctionPotential
from torchscape.potentials.preconditioner import Preconditioner


class Rosenbrock(Potential):
    def __init__(self, ndim: int = 6) -> None:
        self.ndim = ndim

    def energy(self, x):
        return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


class Wells(Potential):
    """Sum of tilted double wells: 2^D minima."""

    def __init__(self, ndim: int = 3, bounds=None) -> None:
        self.ndim = ndim
        self.bounds = None if bounds is None else Bounds.of(bounds)

    def energy(self, x):
        return ((x**2 - 1) ** 2 + 0.2 * x).sum(1)


class Holed(Wells):
    """NaN to the right of x0 = 3."""

    def energy(self, x):
        return super().energy(x) + torch.where(x[:, 0] > 3, torch.nan, 0.0)


OPTIMISERS = [BFGS(), LBFGS(memory=5), LBFGS(memory=60), ShortLBFGS(memory=12)]


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=["bfgs", "lbfgs5", "lbfgs60", "short"])
def test_every_start_reaches_the_minimum_of_rosenbrock(optimiser, device, dtype):
    potential = Rosenbrock()
    potential.device, potential.dtype = device, dtype
    starts = potential.sample(50, seed=3)
    points = relax(potential, starts, optimiser=optimiser)
    assert bool(points.converged.all())
    residual = potential.energy_and_grad(points.x)[1].pow(2).mean(1).sqrt()
    torch.testing.assert_close(residual, points.grad_rms)
    # The 6-D function has a second, local minimum near (-1, 1, ...) at U = 3.973940500930295.
    ends = torch.tensor([0.0, 3.973940500930295], device=device, dtype=dtype)
    away = (points.energy[:, None] - ends).abs().amin(1) > (1e-12 if dtype == torch.float64 else 1e-5)
    # In single precision 3e-4 counts as converged: a descent may come that close to a saddle, and stop.
    saddles = torch.linalg.eigvalsh(potential.hessian(points.x[away].double()))[:, 0] < -0.1
    assert int(away.sum()) == int(saddles.sum()) <= (0 if dtype == torch.float64 else 1)


class Known(Preconditioner):
    """A given matrix."""

    def __init__(self, p: torch.Tensor) -> None:
        self.p = p

    def __call__(self, grad):
        return grad @ self.p


@pytest.mark.parametrize("start", ["identity", "rescaled", "preconditioned", "both"])
def test_lbfgs_with_enough_memory_follows_the_two_loop_recursion(start):
    """The compact form and Nocedal & Wright's algorithm 7.4 give the same direction, which starts from a multiple
    of the unit matrix, of the diagonal that the pairs have suggested, of a preconditioner, or of one with such a
    diagonal for the coordinates that it leaves alone."""
    rescaled = start in ("rescaled", "both")
    generator = torch.Generator().manual_seed(0)
    b, d, m = 3, 8, 5
    optimiser = LBFGS(memory=10, pairs=None, hold=0.0)
    p = torch.randn(d, d, generator=generator, dtype=torch.float64)
    known = Known(p @ p.T + torch.eye(d)) if start == "preconditioned" else None
    if start == "both":
        known = Known(torch.block_diag((p @ p.T)[:5, :5] + torch.eye(5), torch.eye(3)).double())
        known.changes = torch.arange(d) < 5
    memory = optimiser.init_memory(torch.zeros(b, d, dtype=torch.float64), known)
    a = torch.randn(d, d, generator=generator, dtype=torch.float64)
    a = a @ a.T + torch.eye(d)
    yes, no = torch.ones(b, dtype=torch.bool), torch.zeros(b, dtype=torch.bool)
    pairs, latest = [], torch.randn(b, d, generator=generator, dtype=torch.float64)
    for i in range(m):
        if rescaled and i == m - 1:
            history.rescale(memory, torch.arange(b))
            assert float(memory.scale.std(1).min()) > 0.05
            assert known is None or torch.equal(memory.scale[:, :5], torch.ones(b, 5).double())
        s = torch.randn(b, d, generator=generator, dtype=torch.float64)
        pairs.append((s, s @ a))
        if i == 0:  # the gradient before the first step, of which a memory with a preconditioner takes note
            memory, _ = optimiser.update(memory, 0 * s, 0 * s, latest, no, no)
        latest = grad = latest + s @ a
        memory, direction = optimiser.update(memory, s, s @ a, grad, yes, no)
    for row in range(b):
        q, alphas = grad[row].clone(), []
        for s, y in reversed(pairs):
            alphas.append((s[row] @ q) / (s[row] @ y[row]))
            q -= alphas[-1] * y[row]
        s, y = pairs[-1]
        c = torch.diag(memory.scale[row])
        first = c @ (torch.eye(d).double() if known is None else known.p) @ c
        r = first @ q * (s[row] @ y[row]) / (y[row] @ first @ y[row])
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            r += s[row] * (alpha - (y[row] @ r) / (s[row] @ y[row]))
        torch.testing.assert_close(direction[row], -r, rtol=1e-9, atol=1e-11)


def test_coordinates_of_very_different_stiffness_are_rescaled():
    """U = sum a_i x_i^2 / 2 with a over four decades and no order: the diagonal is all there is to learn."""
    generator = torch.Generator().manual_seed(3)
    a = 10 ** (4 * torch.rand(120, generator=generator, dtype=torch.float64) - 2)
    bowl = FunctionPotential(lambda x: 0.5 * (a * x.square()).sum(1), 120, batched=True)
    starts = torch.randn(3, 120, generator=generator, dtype=torch.float64)
    spent = {}
    for rescale in (None, 40):
        points = relax(bowl, starts, tol=1e-6, optimiser=LBFGS(memory=30, rescale=rescale))
        assert bool(points.converged.all())
        assert float(points.energy.max()) < 1e-6
        spent[rescale] = float(points.n_evaluations.double().mean())
    assert spent[40] < 0.6 * spent[None]


def test_lbfgs_drops_its_oldest_pairs_and_keeps_the_rest():
    """However often the memory has been filled, the direction is that of its latest pairs alone."""
    generator = torch.Generator().manual_seed(1)
    d = 12
    optimiser = LBFGS(memory=4, hold=0.0)
    yes, no = torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)
    a = torch.diag(torch.arange(1.0, d + 1, dtype=torch.float64))
    steps = torch.randn(9, 1, d, generator=generator, dtype=torch.float64)
    grad = torch.randn(1, d, generator=generator, dtype=torch.float64)

    def direction(used):
        memory = optimiser.init_memory(torch.zeros(1, d, dtype=torch.float64))
        for s in used:
            memory, result = optimiser.update(memory, s, s @ a, grad, yes, no)
        return result

    torch.testing.assert_close(direction(steps), direction(steps[-4:]))


@pytest.mark.parametrize("preconditioned", [False, True])
def test_bfgs_update_is_the_textbook_formula(preconditioned):
    generator = torch.Generator().manual_seed(0)
    d = 5
    p = torch.randn(d, d, generator=generator, dtype=torch.float64)
    h = p @ p.T + torch.eye(d) if preconditioned else torch.eye(d, dtype=torch.float64)
    optimiser = BFGS(rescale=float("inf"))
    memory = optimiser.init_memory(torch.zeros(1, d, dtype=torch.float64), Known(h) if preconditioned else None)
    memory = dataclasses.replace(memory, scale=memory.scale + 1)  # H = P, not to be rescaled
    yes, no = torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)
    for _ in range(4):
        s = torch.randn(1, d, generator=generator, dtype=torch.float64)
        y = s * torch.arange(1.0, d + 1, dtype=torch.float64)
        grad = torch.randn(1, d, generator=generator, dtype=torch.float64)
        memory, direction = optimiser.update(memory, s, y, grad, yes, no)
        rho = 1 / (s * y).sum()
        left = torch.eye(d) - rho * s.T @ y
        h = left @ h @ left.T + rho * s.T @ s
        torch.testing.assert_close(memory.h[0], h)
        torch.testing.assert_close(direction, -grad @ h)


@pytest.mark.parametrize("optimiser", [BFGS(), LBFGS(memory=20)], ids=["bfgs", "lbfgs"])
def test_the_inverse_hessian_of_a_bowl_as_preconditioner_leaves_two_steps(optimiser):
    """With P = H^-1 up to a factor the first step tells the factor, and the second lands in the minimum."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(30, 30, generator=generator, dtype=torch.float64)
    a = a @ a.T + 1e-3 * torch.eye(30)
    bowl = FunctionPotential(lambda x: 0.5 * x @ a @ x, 30)
    starts = torch.randn(6, 30, generator=generator, dtype=torch.float64)
    plain = relax(bowl, starts, optimiser=optimiser, tol=1e-7)
    bowl.preconditioner = Known(7.0 * torch.linalg.inv(a))
    points = relax(bowl, starts, optimiser=dataclasses.replace(optimiser, max_step=1e9), tol=1e-7)
    assert bool(points.converged.all())
    assert bool(plain.converged.all())
    assert int(points.n_evaluations.max()) <= 8  # the first step, from P itself, has to be cut back
    assert int(plain.n_evaluations.min()) > 30


def test_a_forgotten_row_starts_over_from_the_preconditioner():
    p = torch.diag(torch.arange(1.0, 5.0, dtype=torch.float64))
    grad = torch.ones(2, 4, dtype=torch.float64)
    none = torch.zeros(2, dtype=torch.bool)
    for optimiser in (BFGS(), LBFGS(memory=5)):
        memory = optimiser.init_memory(torch.zeros(2, 4, dtype=torch.float64), Known(p))
        memory, _ = optimiser.update(memory, 0 * grad, 0 * grad, 0 * grad, none, none)
        memory, bent = optimiser.update(memory, grad.cumsum(1), grad, grad, ~none, none)
        memory, direction = optimiser.update(memory, 0 * grad, 0 * grad, grad, none, torch.tensor([True, False]))
        torch.testing.assert_close(direction[0], -grad[0] @ p)
        torch.testing.assert_close(direction[1], bent[1])


def test_walls_and_preconditioners_do_not_mix():
    """In a box the preconditioner is not used: the same evaluations as without."""
    box = Bounds(torch.full((4,), -0.5).double(), torch.full((4,), 2.0).double())
    counts = []
    for p in (None, Known(torch.diag(torch.arange(1.0, 5.0, dtype=torch.float64)))):
        bowl = FunctionPotential(lambda x: ((x + 1) ** 4).sum(), 4, bounds=box)
        bowl.preconditioner = p
        counts.append(relax(bowl, bowl.sample(5)).n_evaluations)
    assert torch.equal(*counts)


def test_fewer_evaluations_than_scipy_on_rosenbrock():
    potential = Rosenbrock(10)
    starts = potential.sample(12, seed=0)
    ours = relax(potential, starts).n_evaluations.double().median()

    def evaluations(x0):
        seen = []

        def fun(x):
            energy, grad = potential.energy_and_grad(torch.as_tensor(x)[None])
            seen.append(float(grad.pow(2).mean().sqrt()))
            return float(energy), grad[0].numpy().copy()

        options = {"maxiter": 5000, "ftol": 0.0, "gtol": 1e-9}
        scipy.optimize.minimize(fun, x0.numpy(), jac=True, method="L-BFGS-B", options=options)
        reached = np.flatnonzero(np.array(seen) < 1e-8)
        return reached[0] + 1 if len(reached) else len(seen)

    assert ours <= np.median([evaluations(x0) for x0 in starts])


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=["bfgs", "lbfgs5", "lbfgs60", "short"])
def test_box_minima_agree_with_scipy(optimiser):
    """On the box [-0.5, 2]^3 half of the wells lie outside: their minima are on the wall."""
    potential = Wells(3, [(-0.5, 2.0)] * 3)
    starts = potential.sample(30, seed=5)
    points = relax(potential, starts, optimiser=optimiser)
    assert bool(points.converged.all())
    assert bool(((points.x >= -0.5) & (points.x <= 2.0)).all())

    def fun(x):
        energy, grad = potential.energy_and_grad(torch.as_tensor(x)[None])
        return float(energy), grad[0].numpy().copy()

    for point in points.x:
        polished = scipy.optimize.minimize(
            fun, point.numpy(), jac=True, method="L-BFGS-B", bounds=[(-0.5, 2.0)] * 3, options={"gtol": 1e-9}
        )
        np.testing.assert_allclose(polished.x, point.numpy(), atol=1e-6)
    # wall (-0.5, slope outward) or well near +1: both kinds occur
    assert bool((points.x == -0.5).any())
    assert bool((points.x > 0.9).any())


def test_a_corner_minimum_of_a_linear_function():
    class Slope(Potential):
        ndim = 2
        bounds = Bounds.of([(0, 1), (0, 1)])

        def energy(self, x):
            return x[:, 0] - 2 * x[:, 1]

    points = relax(Slope(), torch.full((1, 2), 0.3, dtype=torch.float64))
    assert bool(points.converged.all())
    assert points.x.tolist() == [[0.0, 1.0]]


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(8)), st.integers(1, 8))
def test_rows_do_not_notice_how_they_were_batched(order, size):
    """Permuting the starts and shrinking the pool changes nothing."""
    potential = Wells(3)
    starts = potential.sample(8, seed=1)
    whole = relax(potential, starts)
    order = torch.tensor(order)
    parts = relax(potential, starts[order], pool_size=size)
    torch.testing.assert_close(parts.x, whole.x[order], rtol=0, atol=1e-9)
    assert bool(((parts.n_evaluations - whole.n_evaluations[order]).abs() <= 1).all())


def test_a_nan_row_is_reported_and_disturbs_nobody():
    potential = Holed(2)
    good = potential.sample(4, seed=2).clamp(max=2.0)
    bad = torch.tensor([[5.0, 0.0]], dtype=torch.float64)
    points = relax(potential, torch.cat([good[:2], bad, good[2:]]))
    alone = relax(potential, good)
    assert points.status[2] == Status.NOT_FINITE
    assert bool(torch.isnan(points.energy[2]))
    torch.testing.assert_close(points.x[[0, 1, 3, 4]], alone.x)


def test_a_descent_that_meets_nan_backs_off():
    """A trial beyond the edge of the domain is rejected like any other bad step."""
    potential = Holed(1)
    start = torch.tensor([[2.9]], dtype=torch.float64)
    points = relax(potential, start, optimiser=BFGS(max_step=100.0))
    assert bool(points.converged.all())


@pytest.mark.parametrize("optimiser", [BFGS(), LBFGS()], ids=["BFGS", "LBFGS"])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_what_falls_for_ever_is_known_soon(optimiser, scale):
    """U = -x^2 and a slope, each beside a bowl: in steps of one length 10000 evaluations are spent before anybody
    knows. A bowl far away is reached by the same token."""

    class Falling(Potential):
        """The third coordinate says which of the three a row is on; nothing depends on it smoothly."""

        ndim, length_scale = 3, 1.0

        def energy(self, x):
            y, kind = x[:, 1], x[:, 2].detach()
            f = torch.where(kind == 0, -(y**2), torch.where(kind == 1, -y, (y - 1e5) ** 2))
            return scale * (x[:, 0] ** 2 + f) + 0 * x[:, 2]

    start = torch.tensor([[0.5, 0.8, k] for k in range(3)] + [[-1.0, -0.3, k] for k in range(3)]).double()
    done = relax(Falling(), start, optimiser=optimiser, max_evaluations=1000)
    assert done.status.tolist() == [Status.UNBOUNDED, Status.UNBOUNDED, Status.CONVERGED] * 2
    torch.testing.assert_close(done.x[2::3, 1], torch.full((2,), 1e5, dtype=torch.float64))


def test_statuses_say_what_happened():
    class Downhill(Potential):
        ndim = 1

        def energy(self, x):
            return -(x**2).sum(1)

    class Wrong(Wells):
        """The gradient is not the derivative of the energy."""

        def energy_and_grad(self, x):
            energy, grad = super().energy_and_grad(x)
            return energy, -grad

    one = torch.ones(1, 1, dtype=torch.float64)
    assert relax(Downhill(), one, max_evaluations=200, optimiser=BFGS(max_step=1e7)).status.tolist() == [
        Status.UNBOUNDED
    ]
    assert relax(Rosenbrock(2), -torch.ones(1, 2, dtype=torch.float64), max_evaluations=5).status.tolist() == [
        Status.MAX_STEPS
    ]
    wrong = relax(Wrong(1), 2 * one)
    assert wrong.status.tolist() == [Status.STALLED]
    assert "not the derivative" in Status(int(wrong.status)).message


def test_starts_of_the_wrong_shape_are_refused():
    with pytest.raises(PotentialError, match=r"\[B, 6\]"):
        relax(Rosenbrock(6), torch.zeros(3, 5, dtype=torch.float64))


def test_no_starts_give_no_points():
    assert len(relax(Rosenbrock(6), torch.zeros(0, 6, dtype=torch.float64))) == 0


def test_the_pool_admits_in_flight():
    """With room for 3, ten starts never wait for a whole batch: the pool is full until the queue is empty."""
    potential = Rosenbrock(4)
    queue = Queue(potential.sample(10, seed=0))
    running = []
    Pool(BFGS(), size=3).run(potential, queue, on_step=lambda n: running.append((queue.taken, n)))
    full = [n for taken, n in running if taken < 10]
    assert len(queue.ordered()) == 10
    assert min(full) >= 1
    assert sum(n == 3 for n in full) > 0.5 * len(full)


def test_armijo_shrinks_to_the_minimiser_of_a_quadratic():
    """U(t) = (t - 0.3)^2 from t = 0 to t = 1: the cubic is exact and its minimiser is 0.3."""

    def one(value):
        return torch.tensor([value], dtype=torch.float64)

    factor = Armijo().shrink(one(0.09), one(-0.6), one(0.49), one(1.4))
    torch.testing.assert_close(factor, one(0.3))


def test_valleys_that_run_obliquely_into_a_wall():
    """The minimum of the box lies where a narrow valley leaves it; clamping alone climbs the valley's side.

    U = 1e5 b^2 + (a - 3)^2 in [-1, 1]^2, with axes a, b turned by seven angles; SciPy's L-BFGS-B as oracle.
    """
    turns = torch.linspace(0.1, 1.4, 7, dtype=torch.float64)
    axis = torch.stack([turns.cos(), turns.sin()], 1)
    across = torch.stack([-turns.sin(), turns.cos()], 1)
    for along, side in zip(axis, across, strict=True):

        def valley(x, along=along, side=side):
            return 1e5 * (x @ side).square() + (x @ along - 3).square()

        u = FunctionPotential(valley, 2, bounds=[(-1, 1)] * 2, batched=True)
        starts = torch.rand(32, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
        for optimiser in (BFGS(), LBFGS(memory=10)):
            points = relax(u, starts, optimiser=optimiser, tol=1e-6)
            assert bool(points.converged.all())
            assert int(points.n_evaluations.max()) < 150

        def flat(v, u=u):
            energy, grad = u.energy_and_grad(torch.as_tensor(v)[None])
            return float(energy), grad[0].numpy()

        best = scipy.optimize.minimize(
            flat,
            np.zeros(2),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-1, 1)] * 2,
            options={"gtol": 1e-10, "ftol": 0},
        )
        assert points.energy.max() <= best.fun * (1 + 1e-6)


def test_quenches_that_graze_a_wall_do_not_crawl():
    """Regression: one quench in six thousand stopped 1e-5 before a wall, its next step led far beyond, and every
    cut of that step made the last bit of way a hundred times shorter: 10 000 evaluations without arriving."""
    potential = problems.get("regression").potential
    box = [(-1.0, 3.0), (0.0, 3.0), (-np.pi, np.pi), (0.0, 3.0), (-np.pi, np.pi)]
    boxed = FunctionPotential(potential.energy, 5, bounds=box, batched=True)
    points = relax(boxed, boxed.sample(4096, seed=5), tol=1e-6, optimiser=BFGS(max_evaluations=1000))
    assert bool(points.converged.all())
    assert int(points.n_evaluations.max()) < 400


def test_a_quench_that_creeps_along_a_bending_valley_gets_a_hessian():
    """Regression: from here the way leads along a valley of condition 1e9 that bends faster than pairs can tell,
    seven rejected steps to an accepted one: 8878 evaluations. SciPy finds nothing lower from where it ends."""
    potential = problems.get("regression").potential
    box = [(-1.0, 3.0), (0.0, 3.0), (-np.pi, np.pi), (0.0, 3.0), (-np.pi, np.pi)]
    boxed = FunctionPotential(potential.energy, 5, bounds=box, batched=True)
    start = [-0.36092881203956895, 0.42764710528667826, np.pi, 2.2682659722078458, -2.659680142798468]
    points = relax(boxed, torch.tensor([start], dtype=torch.float64), tol=1e-6, optimiser=BFGS())
    assert bool(points.converged.all())
    assert int(points.n_evaluations.max()) < 500

    def flat(v):
        energy, grad = boxed.energy_and_grad(torch.as_tensor(v)[None])
        return float(energy), grad[0].numpy()

    again = scipy.optimize.minimize(
        flat,
        points.x[0].numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=box,
        options={"gtol": 1e-9, "ftol": 0.0},
    )
    assert again.fun > float(points.energy[0]) - 1e-9
