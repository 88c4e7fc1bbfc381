"""The loop that all searches share: what is asked of whom, what is taken, and how far the next step goes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import torchscape as tsc
from torchscape import random
from torchscape.optimise import BFGS, LBFGS, run_pool
from torchscape.optimise.rows import columns_of
from torchscape.optimise.stepping import Evaluation, Searching, resolve
from torchscape.optimise.trust import ErrorControl, TrustRadius
from torchscape.points import Status
from torchscape.potentials import FunctionPotential
from torchscape.saddles import Band, Dense, Descent, Follow, ImplicitDescent, Krylov
from torchscape.saddles.band import Images
from torchscape.saddles.eigenvector_following import Uphill
from torchscape.saddles.flow import Flow
from torchscape.saddles.modelled import ModelSearch
from torchscape.saddles.stationary import Aimed, NewtonSearch
from torchscape.sampling.basins.flow import Downhill, SteepestDescent


def wells(*, bounds: bool) -> FunctionPotential:
    return FunctionPotential(
        lambda x: ((x**2 - 1) ** 2).sum() + 0.1 * (x[1:] * x[:-1]).sum(),
        4,
        bounds=[(-1.5, 0.9)] * 4 if bounds else None,
    )


def points(u: tsc.Potential, n: int = 5) -> torch.Tensor:
    x = random.normal(random.fold(3, torch.arange(n)), u.ndim)
    return x if u.bounds is None else u.bounds.clamp(x)


def images(u: tsc.Potential) -> Images:
    n = torch.full((5,), 11)
    return Images(Band().initial(points(u), -points(u), n, torch.arange(5)), n)


def uphill(u: tsc.Potential) -> Uphill:
    return Uphill(points(u), torch.full((5, u.ndim), 0.5, dtype=torch.float64))


STEPPERS = {
    "BFGS": (BFGS(), points),
    "L-BFGS": (LBFGS(memory=3), points),
    "follow": (Follow(), uphill),
    "follow, products": (Follow(curvature=Krylov(max_dim=3)), uphill),
    "stationary": (NewtonSearch(), lambda u: Aimed(points(u), torch.arange(5) % 3 - 1)),
    "descent": (Descent(curvature=Dense(refresh=3)), points),
    "flow": (Flow(1e-3), points),
    "implicit": (ImplicitDescent(), points),
    "band": (Band(), images),
    "steepest descent": (SteepestDescent(), lambda u: Downhill.for_none(points(u))),
}


@pytest.mark.parametrize("bounds", [False, True])
@pytest.mark.parametrize("name", STEPPERS)
def test_only_evaluations_ask_the_potential(name, bounds, monkeypatch):
    """``advance`` and ``aim`` are functions of tensors: one that is asked for anything fails here. Done apart, the
    parts of a step give what the step gives."""
    u = wells(bounds=bounds)
    assert u.energy_scale > 0  # asked for once, known from then on
    stepper, begin = STEPPERS[name]
    state, whole = (stepper.init(u, begin(u)) for _ in range(2))  # a step may write into its memory

    def refused(*args, **kwargs):
        raise AssertionError("the potential was asked")

    for _ in range(6):
        new = stepper.evaluate(u, state)
        new = new if isinstance(new, tuple) else (new,)
        with monkeypatch.context() as mute:
            for method in ("energy", "energy_and_grad", "hessian", "products_at", "hvp"):
                mute.setattr(u, method, refused)
            state = stepper.advance(u, state, *new)
        if isinstance(stepper, ModelSearch):
            state, residual = state
            state = dataclasses.replace(state, model=stepper.measure(u, state, residual))
            with monkeypatch.context() as mute:
                for method in ("energy", "energy_and_grad", "hessian", "products_at", "hvp"):
                    mute.setattr(u, method, refused)
                state = stepper.aim(u, state, residual)
        whole = stepper.step(u, whole)
    for mine, its in zip(columns_of(state), columns_of(whole), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(state.x, stepper.init(u, begin(u)).x)


def test_what_is_taken_and_what_is_refused():
    """First points are taken whatever is said of them, unless they are not finite; rows that have ended stay."""
    state = Searching.init(torch.zeros(5, 1, dtype=torch.float64))
    running, ended = int(Status.RUNNING), int(Status.CONVERGED)
    state = dataclasses.replace(
        state,
        energy=torch.tensor([torch.inf, torch.inf, 1.0, 1.0, 1.0]).double(),
        n_rejected=torch.tensor([0, 0, 3, 3, 3]),
        status=torch.tensor([running, running, running, running, ended]),
    )
    energy = torch.tensor([2.0, torch.nan, 0.5, 2.0, 0.5]).double()
    new = Evaluation(torch.ones(5, 1).double(), energy, torch.ones(5, 1).double())
    acceptable = torch.tensor([False, True, True, False, True])
    now = resolve(state, new, acceptable, state.status == running, cost=2)
    assert now.accepted.tolist() == [True, False, True, False, False]
    assert now.rejected.tolist() == [False, True, False, True, False]
    assert now.moved.tolist() == [False, False, True, False, False]
    assert now.x[:, 0].tolist() == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert now.energy.tolist() == [2.0, torch.inf, 0.5, 1.0, 1.0]
    assert now.n_rejected.tolist() == [0, 1, 0, 4, 3]
    assert now.n_evaluations.tolist() == [2, 2, 2, 2, 0]


@pytest.mark.parametrize("order", [2.0, 3.0, 4.0])
def test_lengths_settle_where_the_error_is_what_is_allowed(order):
    """With an error c h^p exactly, h settles at once at safety (allowed / c)^(1/p)."""
    control, c, allowed = ErrorControl(order, 0.0, torch.inf), torch.tensor([1e-3, 1.0, 50.0]).double(), 0.02
    h = torch.tensor([0.1, 0.2, 0.3]).double()
    settled = 0.9 * (allowed / c) ** (1 / order)
    after = h * control.factor(c * h**order, allowed)
    torch.testing.assert_close(after, settled, rtol=1e-12, atol=0)


def test_radii_grow_when_used_up_and_shrink_below_the_step_that_failed():
    rule, r = TrustRadius(3.0, poor=0.7), torch.tensor([2.0, 2.0, 2.0, 2.0, 2.0]).double()
    length = torch.tensor([2.0, 1.0, 1.0, 1.0, 4.0]).double()
    good, poor, refused = (torch.tensor([k in rows for k in range(5)]) for rows in ((0, 1), (2,), (3, 4)))
    after = rule.after(r, length, good=good, poor=poor, refused=refused)
    assert after.tolist() == [3.0, 2.0, 0.7, 0.25, 0.5]


def test_results_are_in_the_order_of_typed_starts():
    """Rows end in another order than they began, two at a time; each result is that of its start."""
    u = wells(bounds=False)
    start = Uphill(points(u, 7), random.normal(random.fold(4, torch.arange(7)), u.ndim))
    together = run_pool(Follow(), u, start, size=2)
    for row in range(7):
        one = Uphill(start.x[row : row + 1], start.direction[row : row + 1])
        alone = run_pool(Follow(), u, one).points
        torch.testing.assert_close(together.points.x[row : row + 1], alone.x, rtol=0, atol=1e-9)
        assert together.points.n_evaluations[row] == alone.n_evaluations[0]
