"""Downhill paths against a fine integration of steepest descent by SciPy."""

from __future__ import annotations

import functools

import pytest
import torch
from saddles.known import Wells
from scipy.integrate import solve_ivp

from torchscape import Status
from torchscape.potentials import Himmelblau, MuellerBrown, SixHumpCamel
from torchscape.saddles import Dense, Descent, Krylov, descend


@functools.cache
def steepest_descent(surface, time: float):
    """Twelve starts and the ends of dx/dt = -grad U from them, by an independent stiff integrator."""
    u = surface(bounded=False)
    x = u.sample(12, seed=3)

    def velocity(t, y):
        return -u.energy_and_grad(torch.as_tensor(y).reshape(12, 2))[1].flatten().numpy()

    def slope(t, y):
        return -torch.block_diag(*u.hessian(torch.as_tensor(y).reshape(12, 2))).numpy()

    settings = {"method": "LSODA", "rtol": 1e-9, "atol": 1e-9, "jac": slope}
    ends = solve_ivp(velocity, (0, time), x.flatten().numpy(), **settings).y[:, -1]
    return x, torch.as_tensor(ends).reshape(12, 2)


@pytest.mark.parametrize(
    ("surface", "time"), [(Himmelblau, 50.0), (MuellerBrown, 0.5), (SixHumpCamel, 50.0)], ids=lambda v: str(v)
)
@pytest.mark.parametrize("curvature", [Dense(), Krylov()], ids=["dense", "krylov"])
def test_every_start_ends_where_steepest_descent_does(surface, time, curvature):
    u = surface(bounded=False)
    x, exact = steepest_descent(surface, time)
    ends = descend(u, x, options=Descent(curvature=curvature))
    assert bool(ends.converged.all())
    assert (ends.x - exact).norm(dim=1).max() < 1e-4


def test_stiff_valleys_cost_few_evaluations():
    """Condition number 1e6: explicit steepest descent would need about a million steps."""

    class Valley(Wells):
        def energy(self, x):
            return super().energy(x) + 0.5e6 * (x @ self.rotation.T)[:, -1] ** 2

    u = Valley(ndim=6, n_wells=1)
    x = u.point(0.05) + 0.1 * torch.ones(1, 6, dtype=torch.float64)
    ends = descend(u, x)
    assert bool(ends.converged.all())
    assert ends.n_evaluations.item() < 60


def test_a_path_into_the_wall_of_a_box_ends_on_it():
    u = Himmelblau()
    inside = u.bounds
    u.bounds = type(inside)(torch.tensor([-6.0, -6.0]).double(), torch.tensor([2.5, 6.0]).double())
    ends = descend(u, torch.tensor([[2.0, 1.5]], dtype=torch.float64))
    assert ends.status.tolist() == [int(Status.CONVERGED)]
    assert ends.x[0, 0].item() == 2.5
    assert ends.grad_rms.item() < 1e-8


def test_rows_do_not_notice_their_neighbours():
    u = MuellerBrown(bounded=False)
    x = u.sample(12, seed=5)
    x[3] = torch.nan
    together = descend(u, x)
    alone = descend(u, x[7:8])
    assert together.status[3] == Status.NOT_FINITE
    assert torch.allclose(together.x[7:8], alone.x, atol=1e-9)
    assert bool(together.converged[torch.arange(12) != 3].all())


def test_dtype_and_device_follow_the_input(device, dtype):
    u = Wells(ndim=4, n_wells=1, dtype=dtype)
    u.device = device
    u.rotation, u.springs = u.rotation.to(device), u.springs.to(device)
    ends = descend(u, u.point(0.0).to(device) + 0.1)
    assert ends.x.dtype == dtype
    assert ends.x.device.type == device.type
    assert bool(ends.converged.all())
