"""Paths of many coordinates against SciPy's LSODA, where a quench ends elsewhere; and what they are made of."""

from __future__ import annotations

import dataclasses
import functools
import sys

import numpy as np
import pytest
import torch
from saddles.known import Wells
from scipy.integrate import solve_ivp

from torchscape import FunctionPotential, Potential, Status
from torchscape.potentials import Himmelblau
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.saddles import Descent, ImplicitDescent, Quench, choose_descent, descend
from torchscape.saddles.secants import Secants


class Bent(Potential):
    """Himmelblau's surface along two of 220 coordinates, beside springs of 1 to 1000 whose rest depends on the
    first; all of them turned."""

    ndim = 220

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        normal = torch.randn(self.ndim, self.ndim, generator=generator, dtype=torch.float64)
        self.rotation = torch.linalg.qr(normal)[0]
        self.springs = torch.logspace(1, 2, self.ndim - 2, dtype=torch.float64)

    def energy(self, x):
        y = x @ self.rotation.T
        plane = (y[:, 0] ** 2 + y[:, 1] - 11) ** 2 + (y[:, 0] + y[:, 1] ** 2 - 7) ** 2
        return plane + 0.5 * (self.springs * (y[:, 2:] - 0.1 * y[:, :1]) ** 2).sum(1)

    def velocity(self, _t, y):
        """dy/dt = -grad U in the coordinates before they were turned, by hand."""
        one, two = y[0] ** 2 + y[1] - 11, y[0] + y[1] ** 2 - 7
        force = self.springs.numpy() * (y[2:] - 0.1 * y[0])
        first = 4 * y[0] * one + 2 * two - 0.1 * force.sum()
        return -np.concatenate([[first, 2 * one + 4 * y[1] * two], force])

    def slope(self, _t, y):
        """The derivative of the velocity, by hand."""
        k = self.springs.numpy()
        h = np.diag(np.concatenate([[0.01 * k.sum(), 0.0], k]))
        h[0, 2:] = h[2:, 0] = -0.1 * k
        mixed = 4 * y[0] + 4 * y[1]
        h[:2, :2] += [[12 * y[0] ** 2 + 4 * y[1] - 42, mixed], [mixed, 12 * y[1] ** 2 + 4 * y[0] - 26]]
        return -h


@functools.cache
def bent():
    """The potential, 14 starts on the floor of the valley, half of them near a divide, and where the flow leads
    from them."""
    u = Bent()
    plane = torch.rand(200, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 8 - 4
    plane = plane[[0, 1, 2, 3, 45, 64, 66, 109, 134, 150, 156, 168, 174, 192]]
    y = torch.cat([plane, 0.1 * plane[:, :1].expand(-1, u.ndim - 2)], 1)
    settings = {"method": "LSODA", "rtol": 1e-8, "atol": 1e-8, "jac": u.slope}
    ends = [solve_ivp(u.velocity, (0, 50), p, **settings).y[:, -1] for p in y.numpy()]
    return u, y @ u.rotation, torch.as_tensor(np.stack(ends)) @ u.rotation


def test_paths_of_many_coordinates_end_where_the_flow_does():
    u, starts, exact = bent()
    assert isinstance(choose_descent(u), ImplicitDescent)
    ends = descend(u, starts)
    assert bool(ends.converged.all())
    assert (ends.x - exact).norm(dim=1).max() < 1e-3


def test_a_quench_with_short_steps_ends_elsewhere():
    """Why paths of many coordinates are not quenches: a quarter of these was wrong, with no word of it."""
    u, starts, exact = bent()
    ends = descend(u, starts, options=Quench())
    assert bool(ends.converged.all())
    assert int(((ends.x - exact).norm(dim=1) > 1.0).sum()) >= 4


def test_a_path_in_doubt_is_followed_again_until_two_agree():
    """Every path is, where no error is allowed; its evaluations are those of both runs. Where it may not be, its
    end is not said to be known."""
    u, starts, exact = bent()
    once, twice, never = (
        descend(u, starts, options=ImplicitDescent(**options))
        for options in ({"doubt": torch.inf}, {"doubt": 0.0}, {"doubt": 0.0, "n_again": 0})
    )
    assert bool(twice.converged.all())
    assert (twice.x - exact).norm(dim=1).max() < 1e-3
    assert bool((twice.n_evaluations > 1.5 * once.n_evaluations).all())
    assert never.status.tolist() == [int(Status.MAX_STEPS)] * len(starts)


def test_two_runs_that_disagree_leave_a_path_open(monkeypatch):
    u, starts, _ = bent()
    astray = dataclasses.replace(ImplicitDescent(), path_tol=2.0, max_step=50.0)
    monkeypatch.setattr(ImplicitDescent, "finer", lambda self: self)
    same = descend(u, starts[:2], options=dataclasses.replace(astray, doubt=0.0))
    assert bool(same.converged.all())  # two that are alike agree, whatever they are
    monkeypatch.setattr(
        sys.modules[descend.__module__], "_same", lambda potential, a, b: torch.zeros(len(a), dtype=torch.bool)
    )
    assert not bool(descend(u, starts[:2], options=dataclasses.replace(astray, doubt=0.0)).converged.any())


def test_a_path_is_that_of_the_flow_and_not_only_its_end():
    """Points that it passes lie on y = x^2 for U = x^2 / 2 + y^2 from (1, 1), the closer the smaller the error
    that is allowed."""
    u = FunctionPotential(lambda x: 0.5 * x[0] ** 2 + x[1] ** 2 + 500.0 * (x[2:] ** 2).sum(), 202)
    start = torch.zeros(1, 202, dtype=torch.float64)
    start[0, :2] = 1.0
    off = []
    for tol in (0.1, 0.001):
        options = ImplicitDescent(path_tol=tol, max_step=0.2)
        state, worst = options.init(u, start), 0.0
        for _ in range(400):
            state = options.step(u, state)
            x, y = state.path.x[0, :2].tolist()
            worst = max(worst, abs(y - x * x))
            if state.status != Status.RUNNING or state.ending:
                break
        off.append(worst)
    assert off[0] < 0.05
    assert off[1] < off[0]


def test_steps_from_pairs_are_those_of_the_recursion():
    """H <- (1 - s y^T / s.y)^T H (1 - y s^T / s.y) + s s^T / s.y from gamma P, with y + shift s for y; the oldest
    pairs are forgotten, and every row has its own."""
    torch.manual_seed(0)
    d, memory = 12, 4
    a = torch.randn(2, d, d, dtype=torch.float64)
    a = a @ a.mT + torch.eye(d)
    p = torch.randn(d, d, dtype=torch.float64)
    p = p @ p.T / d + torch.eye(d)

    class Scaled(Preconditioner):
        def __call__(self, grad):
            return grad @ p

    scaled, steps = Scaled(), torch.randn(7, 2, d, dtype=torch.float64)
    changes = torch.einsum("bij,nbj->nbi", a, steps)
    secants, kept = Secants.none(steps[0], memory), {0: [3, 4, 5, 6], 1: [0, 2, 4, 6]}
    for n in range(7):
        secants = secants.with_pair(steps[n], changes[n], torch.tensor([True, n % 2 == 0]), scaled)
    residual, shifts = torch.randn(2, 2, d, dtype=torch.float64), torch.tensor([[0.0, 0.7]] * 2).double()
    found = secants.newton(residual, shifts, scaled)
    for row, numbers in kept.items():
        for c in range(2):
            pairs = [(steps[n, row], changes[n, row] + shifts[row, c] * steps[n, row]) for n in numbers]
            s, y = pairs[-1]
            h = (s @ y) / (y @ p @ y) * p
            for s, y in pairs:
                v = torch.eye(d) - torch.outer(y, s) / (s @ y)
                h = v.T @ h @ v + torch.outer(s, s) / (s @ y)
            assert torch.allclose(found[row, c], -h @ residual[row, c], rtol=1e-4, atol=1e-6)


def test_curvatures_across_a_step():
    """(s - c v).H (s - c v) / |s - c v|^2 with c = s.v, from the pair and the change along v alone."""
    torch.manual_seed(1)
    h = torch.randn(1, 6, 6, dtype=torch.float64)
    h = h + h.mT
    s, v = torch.randn(2, 1, 6, dtype=torch.float64)
    times = lambda one: torch.bmm(h, one[:, :, None])[:, :, 0]  # noqa: E731
    secants = Secants.none(s, 3).with_pair(s, times(s), torch.tensor([True]), None)
    aside = s - (s * v).sum() / (v * v).sum() * v
    exact = (aside * times(aside)).sum() / (aside * aside).sum()
    assert secants.across(v, times(v))[0, -1].item() == pytest.approx(exact.item(), rel=1e-5)


def test_dtype_and_device_follow_the_input(device, dtype):
    u = Wells(ndim=6, n_wells=1, dtype=dtype)
    u.device = device
    u.rotation, u.springs = u.rotation.to(device), u.springs.to(device)
    ends = descend(u, u.point(0.0).to(device) + 0.1, options=ImplicitDescent())
    assert ends.x.dtype == dtype
    assert ends.x.device.type == device.type
    assert bool(ends.converged.all())


def test_rows_do_not_notice_their_neighbours_and_nan_is_told():
    u, starts, _ = bent()
    together = starts[:3].clone()
    together[1] = torch.nan
    ends = descend(u, together)
    assert ends.status.tolist() == [int(Status.CONVERGED), int(Status.NOT_FINITE), int(Status.CONVERGED)]
    assert torch.allclose(ends.x[2:], descend(u, starts[2:3]).x, atol=1e-6)


@pytest.mark.parametrize("options", [Descent(max_evaluations=4), ImplicitDescent(max_evaluations=12)])
def test_a_path_that_has_spent_its_budget_goes_on_and_else_is_open(options):
    u, starts, exact = bent()
    ends = descend(u, starts[:4], options=options)
    assert bool(ends.converged.all())
    assert torch.allclose(ends.x, exact[:4], atol=1e-5)
    assert bool((ends.n_evaluations > options.max_evaluations).all())
    short = dataclasses.replace(options, max_evaluations=1)
    opened = descend(u, starts[:4], options=short)
    assert opened.status.tolist() == [int(Status.MAX_STEPS)] * 4
    assert bool((opened.n_evaluations <= 12).all())


def test_a_path_into_the_wall_of_a_box_ends_on_it():
    u = Himmelblau()
    inside = u.bounds
    u.bounds = type(inside)(torch.tensor([-6.0, -6.0]).double(), torch.tensor([2.5, 6.0]).double())
    ends = descend(u, torch.tensor([[2.0, 1.5]], dtype=torch.float64), options=ImplicitDescent(max_evaluations=60))
    assert ends.status.tolist() == [int(Status.CONVERGED)]
    assert ends.x[0, 0].item() == 2.5
