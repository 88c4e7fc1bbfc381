"""Numbers of minima, entropies and rays against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import gennorm

from torchscape.errors import PotentialError, TorchscapeError
from torchscape.potentials import DoubleWell, Potential, Quadratic
from torchscape.sampling import SamplingWarning
from torchscape.sampling.basins import (
    GeneralisedNormal,
    Quenched,
    Sublevel,
    count_minima,
    harmonic_volume,
    log_ball,
    radial_volume,
    unbiased_weights,
)

WIDTH = torch.linspace(0.04, 0.16, 10, dtype=torch.float64)  # of 10 wells a coordinate: they fill [0, 1]


def hits(n: int, ndim: int, seed: int) -> torch.Tensor:
    """ln v of the boxes that n uniform points of [0, 1]^D fall into."""
    generator = torch.Generator().manual_seed(seed)
    return (
        WIDTH.log()[torch.multinomial(WIDTH, n * ndim, replacement=True, generator=generator)]
        .reshape(n, -1)
        .sum(1)
    )


# --- counting -------------------------------------------------------------------------------------------


def test_a_million_boxes_counted_by_three_hundred_hits():
    """10^6 minima of known volumes: 100 experiments, whose errors must be as large as they say."""
    counts = [count_minima(hits(300, 6, seed), 0.0, n_resamples=200) for seed in range(100)]
    off = torch.tensor([(one.log_omega - 6 * math.log(10)) / one.log_omega_error for one in counts])
    assert abs(off.mean()) < 0.4
    assert 0.75 < off.std() < 1.35
    gibbs = -6 * float((WIDTH * WIDTH.log()).sum())
    off = torch.tensor([(one.gibbs - gibbs) / one.gibbs_error for one in counts])
    assert abs(off.mean()) < 0.4
    assert 0.75 < off.std() < 1.35


def test_errors_of_the_volumes_do_not_add_minima():
    """Noise in ln v makes 1/v too large by exp(sigma^2/2), here 1.38; that is taken out again."""
    y = hits(40000, 6, 0)
    noisy = y + 0.8 * torch.randn(len(y), generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    raw = count_minima(noisy, 0.0, n_resamples=50)
    found = count_minima(noisy, 0.0, error=torch.full_like(y, 0.8), n_resamples=50)
    assert abs(raw.log_omega - 6 * math.log(10) - 0.32) < 0.05
    assert abs(found.log_omega - 6 * math.log(10)) < 0.05


def test_log_normal_volumes_by_the_fit():
    """ln v normal as observed: Omega = V exp(-mu + sigma^2/2), where the sum over hits misses the small basins."""
    y = -50 + 3.0 * torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = count_minima(y, 0.0, parametric=True, n_resamples=60)
    assert abs(found.log_omega - (50 + 4.5)) < 3 * found.log_omega_error
    with pytest.warns(SamplingWarning, match="parametric=True"):
        count_minima(y, 0.0, n_resamples=50)


def test_identical_particles_divide_by_their_permutations():
    y = hits(50, 6, 0)
    plain, less = count_minima(y, 0.0), count_minima(y, 0.0, n_identical=5)
    assert plain.log_omega - less.log_omega == pytest.approx(math.log(120))
    assert plain.gibbs - less.gibbs == pytest.approx(math.log(120))


def test_the_unbiased_distribution_is_flat_over_minima():
    """Wells of one coordinate, hit in proportion to their width: unbiased, each counts a tenth."""
    y = hits(200000, 1, 3)
    weight = unbiased_weights(y)
    share = torch.stack([weight[(y - one).abs() < 1e-9].sum() for one in WIDTH.log()])
    assert (share - 0.1).abs().max() < 0.003


@pytest.mark.parametrize("beta", [1.4, 2.0, 5.0])
def test_the_generalised_normal_law_against_scipy(beta):
    y = torch.tensor(gennorm.rvs(beta, loc=-3.0, scale=2.0, size=800, random_state=1))
    fit = GeneralisedNormal.fit(y)
    theirs = gennorm(*gennorm.fit(y.numpy()))
    assert fit.log_prob(y).mean().item() == pytest.approx(theirs.logpdf(y.numpy()).mean(), abs=1e-4)
    law = GeneralisedNormal(-3.0, 2.0, beta)
    assert torch.allclose(law.log_prob(y), torch.tensor(gennorm(beta, -3.0, 2.0).logpdf(y.numpy())))
    exact = math.log(gennorm(beta, -3.0, 2.0).expect(lambda v: math.exp(-v), lb=-60, ub=60, limit=400))
    assert law.log_mean_inverse() == pytest.approx(exact, abs=1e-5)


def test_volumes_that_are_none_are_refused():
    with pytest.raises(TorchscapeError, match="NaN"):
        count_minima(torch.tensor([0.0, 1.0, math.nan]), 0.0)


# --- rays -----------------------------------------------------------------------------------------------


@pytest.mark.slow_on_stand_in
def test_rays_see_all_of_a_box(device):
    """A box is star-convex from anywhere inside: against its sides."""
    u = DoubleWell(3, tilt=[0.0, 0.3, 0.6], bounded=True, device=device)
    wells = torch.tensor([u.wells(i)[1][0] for i in range(3)], device=device).double()
    exact = sum(math.log(2 - u.barriers(i)[0][0]) for i in range(3))
    found = radial_volume(u, wells, Quenched(), n_rays=300, n_bisections=7, growth=1.6, start=0.3)
    assert abs(found.log_volume - exact) < 3.5 * found.error
    assert found.error < 0.1
    assert found.log_typical < found.log_volume


def test_the_error_of_the_mean_over_rays_is_honest():
    """An ellipsoid in five dimensions without preconditioning: 60 experiments."""
    curvature = torch.tensor([1.0, 1.5, 2.0, 3.0, 4.0]).double()
    u, exact = Quadratic(curvature.tolist()), harmonic_volume(curvature.log().sum()[None], 0.5, 5).item()
    runs = [radial_volume(u, torch.zeros(5).double(), Sublevel(0.5), n_rays=400, seed=s) for s in range(60)]
    off = torch.tensor([(one.log_volume - exact) / one.error for one in runs])
    assert abs(off.mean()) < 0.5
    assert 0.7 < off.std() < 1.4


def test_preconditioned_rays_measure_ellipsoids_exactly():
    """With L = H^(-1/2) the basin is a ball: no error at all, for a diagonal L and for a full one."""
    curvature = torch.tensor([1.0, 30.0, 1000.0]).double()
    u, origin = Quadratic(curvature.tolist()), torch.zeros(3).double()
    exact = harmonic_volume(curvature.log().sum()[None], 0.5, 3).item()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    for scale in (curvature.rsqrt(), curvature.rsqrt()[:, None] * turn):
        found = radial_volume(u, origin, Sublevel(0.5), n_rays=20, scale=scale)
        assert found.log_volume == pytest.approx(exact, abs=1e-6)


class Bowl(Potential):
    """1/2 sum c_i x_i^2 with c = 4, 1, 4, 1, ..."""

    ndim = 10**6
    curvature = torch.tensor([4.0, 1.0], dtype=torch.float64).repeat(ndim // 2)

    def energy(self, x):
        return 0.5 * (x.square() * self.curvature).sum(1)


def test_a_million_parameters():
    """A ball in 10^6 dimensions, from three rays; without the metric one ray would dominate and says so."""
    u, origin, curvature = Bowl(), torch.zeros(Bowl.ndim).double(), Bowl.curvature
    exact = harmonic_volume(curvature.log().sum()[None], 0.5, u.ndim).item()
    options = {"n_rays": 3, "start": 0.5, "n_bisections": 36}
    found = radial_volume(u, origin, Sublevel(0.5), scale=curvature.rsqrt(), **options)
    assert found.log_volume == pytest.approx(exact, abs=1e-4)
    with pytest.warns(SamplingWarning, match="underestimated"):
        blunt = radial_volume(u, origin, Sublevel(0.5), **options | {"n_bisections": 16})
    assert blunt.log_typical <= blunt.log_volume < exact


def test_open_rays_are_counted():
    with pytest.warns(SamplingWarning, match="met no boundary"):
        found = radial_volume(Quadratic([0.0, 1.0]), torch.zeros(2).double(), Sublevel(0.5), n_rays=8, longest=2.0)
    assert found.n_open == 8


def test_unfit_rays_are_refused():
    u = Quadratic([1.0, 1.0])
    with pytest.raises(TorchscapeError, match="raise the threshold"):
        radial_volume(u, torch.ones(2).double(), Sublevel(0.5))
    with pytest.raises(PotentialError, match="scale"):
        radial_volume(u, torch.zeros(2).double(), Sublevel(0.5), scale=torch.ones(3).double())


def test_the_unit_ball():
    assert [math.exp(log_ball(d)) for d in (1, 2, 4)] == pytest.approx([2, math.pi, math.pi**2 / 2])
