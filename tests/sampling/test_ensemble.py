"""Ensemble quasi-Newton: stationarity of the whole ensemble, ill-conditioned targets, and what walkers share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import torch

from torchscape.errors import TorchscapeError
from torchscape.points import Status
from torchscape.potentials import Bounds, FunctionPotential, Potential, Quadratic
from torchscape.sampling import BAOAB, EnsembleQuasiNewton, autocorrelation_time, sample
from torchscape.sampling.ensemble import _Root

CURVATURE = torch.tensor([1.0, 1e2, 1e4], dtype=torch.float64)


class OwnIncluded(EnsembleQuasiNewton):
    """The mistake: a walker's own position enters its B, without the divergence that this would ask for."""

    def _root(self, potential, state, group):
        x = state.x.reshape(-1, self.walkers, potential.ndim)
        centred = x - x.mean(1, keepdim=True)
        return _Root.of(centred / (self.walkers - 1) ** 0.5, self.floor)


def settled_ensembles(sampler, ensembles: int, device="cpu", dtype=torch.float64) -> torch.Tensor:
    """Standardised positions [E, W, D] of ensembles that began as exact draws, 60 steps later."""
    u = Quadratic(CURVATURE.tolist(), device=device, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(ensembles * sampler.walkers, 3, generator=generator).to(device, dtype)
    root = CURVATURE.to(device, dtype).sqrt()
    state = sample(u, z / root, sampler=sampler, steps=0, burn_in=60).state
    return (state.x * root).reshape(ensembles, sampler.walkers, 3).double().cpu()


@pytest.mark.parametrize(
    ("walkers", "groups", "hold"), [(4, 2, 1), (6, 3, 1), (6, 2, 4)], ids=["two", "three", "held"]
)
def test_the_product_of_the_walkers_densities_is_stationary(walkers, groups, hold, device, dtype):
    """Very small ensembles, whose B scatters widely from turn to turn: moments of every walker, and covariances
    between walkers of one group and of different groups, stay those of independent normal numbers."""
    n = 1000 if device.type != "standin" else 300
    sampler = EnsembleQuasiNewton(0.3, walkers=walkers, groups=groups, hold=hold)
    z = settled_ensembles(sampler, n, device, dtype)
    assert float(z.square().mean()) == pytest.approx(1, abs=4.5 * (2 / (n * walkers * 3)) ** 0.5)
    assert float(z.pow(4).mean()) == pytest.approx(3, abs=4.5 * (96 / (n * walkers * 3)) ** 0.5)
    covariance = torch.einsum("ewd,efd->wf", z, z) / (3 * n)
    between = covariance - covariance.diag().diag()
    assert float(between.abs().max()) < 4.5 / (3 * n) ** 0.5
    square = z.square() - 1
    squares = torch.einsum("ewd,efd->wf", square, square) / (6 * n)  # would notice that widths go together
    assert float((squares - squares.diag().diag()).abs().max()) < 4.5 / (3 * n) ** 0.5


def test_a_walker_in_its_own_preconditioner_makes_the_distribution_too_narrow():
    """That the test above can fail, and why walkers come in groups."""
    z = settled_ensembles(OwnIncluded(0.3, walkers=6), 1000)
    assert float(z.square().mean()) < 0.8


@pytest.mark.parametrize(("n", "ndim"), [(3, 9), (4, 9), (5, 9), (30, 9)])
@pytest.mark.parametrize("floor", [1e-8, 0.3])
def test_the_root_is_that_of_scipy_however_few_the_walkers(n, ndim, floor, device):
    """Few walkers beside coordinates have a root of low rank, many one that is a matrix: the same B."""
    scale = torch.logspace(0, -3, ndim, dtype=torch.float64, device=device)
    spread = scale * torch.randn(2, n, ndim, generator=torch.Generator().manual_seed(n)).to(scale)
    rows = torch.randn(8, ndim, generator=torch.Generator().manual_seed(9)).to(scale)
    found = _Root.of(spread, floor).times(rows).cpu().numpy()
    for e in range(2):
        s = spread[e].cpu().numpy()
        # the root of a floor below rounding is the root of rounding: 1e-8 of the largest, in either way
        root = scipy.linalg.sqrtm(s.T @ s + floor * np.eye(ndim)).real
        np.testing.assert_allclose(
            found[4 * e : 4 * e + 4], rows[4 * e : 4 * e + 4].cpu().numpy() @ root, atol=1e-6
        )


def test_fewer_walkers_than_coordinates_keep_their_densities_too():
    """Six walkers in nine dimensions: from exact draws, exact moments 60 turns later."""
    n, generator = 600, torch.Generator().manual_seed(1)
    curvature = torch.logspace(0, 4, 9, dtype=torch.float64)
    u, sampler = Quadratic(curvature.tolist()), EnsembleQuasiNewton(0.3, walkers=6, hold=2, floor=1e-5)
    z = torch.randn(n * 6, 9, generator=generator).double()
    state = sample(u, z / curvature.sqrt(), sampler=sampler, steps=0, burn_in=60).state
    after = state.x * curvature.sqrt()
    assert float((after - z).square().mean()) > 0.5  # they have moved
    assert float(after.square().mean()) == pytest.approx(1, abs=4.5 * (2 / (n * 54)) ** 0.5)
    assert float(after.pow(4).mean()) == pytest.approx(3, abs=4.5 * (96 / (n * 54)) ** 0.5)


def test_an_ill_conditioned_normal_density_is_sampled_at_unit_frequency(device):
    """Condition number 10^6 along rotated axes: the known covariance, and draws that decorrelate in a few steps
    along all axes, where BAOAB at the step that the fast axis allows has hardly moved along the slow one."""
    generator = torch.Generator().manual_seed(3)
    axes = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    curvature = torch.tensor([1.0, 1e2, 1e4, 1e6], dtype=torch.float64)
    u = Quadratic(curvature.tolist(), axes=axes.tolist(), device=device)
    starts = torch.zeros(20 * 24, 4, dtype=torch.float64, device=device)
    # From one point the ensembles spread to the scale of every axis by themselves.
    run = sample(u, starts, sampler=EnsembleQuasiNewton(0.6, walkers=24), steps=120, burn_in=100, temperature=2.0)
    hessian = u.hessian(starts[:1])[0].cpu()
    covariance = run.points.cpu().T.cov()
    # In coordinates where the true covariance is 2 times the unit matrix.
    root = torch.linalg.cholesky(hessian)
    torch.testing.assert_close(root.T @ covariance @ root, 2 * torch.eye(4).double(), atol=0.12, rtol=0)
    along = (run.x.cpu() @ torch.linalg.eigh(hessian)[1])[..., 0]  # the slowest direction
    assert float(autocorrelation_time(along).median()) < 12
    plain = sample(u, u.sample(4), sampler=BAOAB(0.6e-3), steps=300).x.cpu() @ torch.linalg.eigh(hessian)[1]
    assert float((plain[-1, :, 0] - plain[0, :, 0]).abs().max()) < 1.5  # 0.18 time units


def test_a_target_that_is_not_normal_has_its_moments():
    """U = x^4 / 4 + (y - x^2 / 2)^2 / (2 s^2), s = 0.5: y - x^2 / 2 is normal, x by quadrature."""
    u = FunctionPotential(lambda x: x[:, 0] ** 4 / 4 + (x[:, 1] - x[:, 0] ** 2 / 2) ** 2 / 0.5, 2, batched=True)
    z, second, sixth = (
        scipy.integrate.quad(lambda x, k=k: x**k * math.exp(-(x**4) / 4), -8, 8)[0] for k in (0, 2, 6)
    )
    sampler = EnsembleQuasiNewton(0.15, walkers=16, hold=4)
    run = sample(u, u.sample(120 * 16), sampler=sampler, steps=50, burn_in=50)
    x, y = run.points.unbind(1)
    assert float(x.square().mean()) == pytest.approx(second / z, rel=0.03)
    assert float(x.pow(6).mean()) == pytest.approx(sixth / z, rel=0.1)
    assert float((y - x.square() / 2).square().mean()) == pytest.approx(0.25, rel=0.04)


def test_without_friction_each_turn_conserves_energy_to_second_order():
    """What the antisymmetric form means: the error of U + p.p / 2 falls as h^2."""
    u = FunctionPotential(lambda x: (x**4).sum() / 4 + (x[0] - 2 * x[1]) ** 2, 2)
    starts, errors, steps = u.sample(8, seed=5), [], (8, 16, 32, 64)
    for n in steps:
        sampler = EnsembleQuasiNewton(1.0 / n, friction=0.0, walkers=8, hold=n)
        state = sampler.init(u, starts, seed=2)
        # The first group's B and starts do not depend on h.
        moved = sampler.step(u, state)
        before, after = (one.energy + one.p.square().sum(1) / 2 for one in (state, moved))
        errors.append(float((after - before)[::2].abs().max()))
    slopes = np.diff(np.log(errors)) / np.diff(np.log(steps))
    np.testing.assert_allclose(slopes[1:], -2, atol=0.2)


# --- what is shared, and what is not -----------------------------------------------------------------------

SAMPLER = EnsembleQuasiNewton(0.3, walkers=6, hold=2)


class Holed(Potential):
    """A bowl with NaN to the right of x0 = 2.5."""

    ndim = 2

    def energy(self, x):
        return 0.5 * x.square().sum(1) + torch.where(x[:, 0] > 2.5, torch.nan, 0.0)


def test_ensembles_do_not_notice_each_other_and_seeds_repeat():
    u = Quadratic([1.0, 4.0])
    x, rows = u.sample(18), torch.arange(6, 12)
    together, again = (sample(u, x, sampler=SAMPLER, steps=20, seed=7) for _ in range(2))
    apart = sample(u, x[rows], sampler=SAMPLER, steps=20, seed=7, chains=rows)
    assert torch.equal(together.x, again.x)
    torch.testing.assert_close(together.x[:, rows], apart.x, rtol=1e-10, atol=1e-12)
    other = sample(u, x, sampler=SAMPLER, steps=20, seed=8)
    assert not torch.allclose(together.x, other.x)
    first = sample(u, x, sampler=SAMPLER, steps=12, seed=7)
    rest = sample(u, first.state, sampler=SAMPLER, steps=8)
    assert torch.equal(torch.cat([first.x, rest.x]), together.x)
    assert together.state.n_evaluations == 1 + 20 * 2


def test_broken_walkers_stay_where_they_were_and_teach_nobody():
    u = Holed()
    run = sample(u, u.sample(60).clamp(max=2.0), sampler=SAMPLER, steps=150)
    assert set(run.status.tolist()) == {Status.RUNNING, Status.NOT_FINITE}
    assert bool(torch.isfinite(run.x).all())
    starts = u.sample(6).clamp(max=2.0)
    starts[0, 0] = 3.0
    moved = starts.clone()
    moved[0, 1] = 50.0
    one, other = (sample(u, x, sampler=SAMPLER, steps=5) for x in (starts, moved))
    torch.testing.assert_close(one.x[:, 1:], other.x[:, 1:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: EnsembleQuasiNewton(0.0), "step_size"),
        (lambda u: EnsembleQuasiNewton(0.1, walkers=5), "multiple of two groups"),
        (lambda u: EnsembleQuasiNewton(0.1, groups=1), "two groups or more"),
        (lambda u: sample(u, u.sample(9), sampler=EnsembleQuasiNewton(0.1, walkers=6)), "9 rows"),
        (lambda u: sample(u, u.sample(2), sampler=EnsembleQuasiNewton(0.1)), "outside each"),
    ],
)
def test_refusals_name_the_remedy(call, message):
    with pytest.raises(TorchscapeError, match=message):
        call(Quadratic([1.0, 2.0]))


def test_walls_are_refused():
    u = Holed()
    u.bounds = Bounds.of([(-1, 1), (-1, 1)])
    with pytest.raises(TorchscapeError, match="knows no walls"):
        sample(u, torch.zeros(6, 2).double(), sampler=SAMPLER)
