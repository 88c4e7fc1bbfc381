"""Index, log-determinant and zero modes against closed forms and dense spectra."""

from __future__ import annotations

import math

import pytest
import torch
from saddles.known import Form, Wells

from torchscape import Bounds, Potential, StationaryPoints
from torchscape.potentials import FunctionPotential, LennardJones
from torchscape.saddles import characterise, stochastic_log_det
from torchscape.saddles.characterisation import characterise_with_modes
from torchscape.saddles.projector import Projector


def points_at(u: Potential, x) -> StationaryPoints:
    energy, grad = u.energy_and_grad(x)
    return StationaryPoints.of(x, energy, grad_rms=grad.square().mean(1).sqrt())


@pytest.mark.parametrize("dense_limit", [2000, 1], ids=["dense", "iterative"])
def test_every_stationary_point_of_a_double_well(dense_limit):
    u = Wells(ndim=12, n_wells=3)
    x = torch.cat([u.point(1, 1, -1), u.point(1, 0, -1), u.point(0, 0, 1), u.point(0, 0, 0)])
    found = characterise(u, points_at(u, x), dense_limit=dense_limit)
    assert found.index.tolist() == [0, 1, 2, 3]
    assert found.n_zero.tolist() == [0, 0, 0, 0]
    exact = torch.tensor([u.log_det(n) for n in range(4)], dtype=torch.float64)
    if dense_limit > 12:
        assert torch.allclose(found.log_det, exact, atol=1e-10)
    else:
        estimate = stochastic_log_det(u, x)  # all eigenpairs are divided out; the table has single precision
        assert torch.allclose(estimate.value, exact, atol=1e-8)
        assert torch.allclose(found.log_det, exact, atol=1e-8)
        assert (estimate.error < 1e-12).all()
        # n_steps >= D, but every probe still is a random quadrature of tr ln H
        for rank in (0, 4):
            estimate = stochastic_log_det(u, x, n_probes=64, rank=rank)
            assert ((estimate.value - exact).abs() < 4 * estimate.error).all()


def test_the_softmax_shift_keeps_its_curvature_of_two_lambda():
    """All weights regularised: the shift of all logits has curvature exactly 2 lambda, and is no zero mode."""
    lam = 1e-5
    logits = torch.tensor([[3.0, -1.0, 0.5], [1.0, 2.0, -2.0]], dtype=torch.float64)
    target = torch.tensor([0, 1])

    class Softmax(Potential):
        ndim = 3

        def energy(self, x):
            out = torch.log_softmax(logits[None] * 3 + x[:, None], 2)
            return -out[:, torch.arange(2), target].mean(1) + lam * x.square().sum(1)

    from torchscape.optimise import relax

    ends = relax(Softmax(), torch.zeros(1, 3, dtype=torch.float64))
    found = characterise(Softmax(), ends)
    assert found.n_zero.tolist() == [0]
    assert found.index.tolist() == [0]
    assert float(found.eigenvalues[0, 0]) == pytest.approx(2 * lam, rel=1e-9)


def test_an_unknown_zero_mode_is_counted_and_left_out():
    h = torch.diag(torch.tensor([-2.0, 0.0, 3.0, 5.0], dtype=torch.float64))
    rotation, _ = torch.linalg.qr(
        torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    u = Form(rotation @ h @ rotation.T)
    found = characterise(u, points_at(u, torch.zeros(1, 4, dtype=torch.float64)))
    assert (found.index.item(), found.n_zero.item()) == (1, 1)
    assert found.log_det.item() == pytest.approx(math.log(30.0), abs=1e-9)


def test_beside_a_circle_of_minima_rounding_does_not_decide():
    """At a radius of 1 + d the curvature along (r^2 - 1)^2 is |g| / r: as large as the slope, digit by digit."""
    u = FunctionPotential(lambda x: (x.square().sum(1) - 1) ** 2, 2, batched=True, length_scale=1.0)
    angle = torch.linspace(0, 6, 200, dtype=torch.float64)
    offset = torch.tensor([-1e-8, -1e-9, 1e-9, 1e-8], dtype=torch.float64)[torch.arange(200) % 4]
    x = (1 + offset)[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    found = characterise(u, points_at(u, x), zero_tol=0.0)
    assert found.n_zero.unique().tolist() == [1]
    assert found.index.unique().tolist() == [0]


def test_known_zero_modes_of_a_cluster_are_projected_out_exactly():
    u = LennardJones(4)
    from torchscape.optimise import relax

    ends = relax(u, u.sample(4, seed=2))
    found = characterise(u, ends[ends.converged])
    assert found.n_zero.unique().tolist() == [6]
    assert found.index.unique().tolist() == [0]
    assert bool((found.eigenvalues[:, :6] == 0).all())
    # the regular tetrahedron with bond 2^(1/6): all curvatures are multiples of U'' = 72 * 2^(-1/3), and the
    # vibrations A1, E, T2 have eigenvalues 4, 1, 2 times U'' (twice the classical spring network's with m = 1)
    second = 72 * 2 ** (-1 / 3)
    exact = torch.tensor([1.0, 1.0, 2.0, 2.0, 2.0, 4.0], dtype=torch.float64) * second
    assert torch.allclose(found.eigenvalues[0, 6:], exact, rtol=1e-6)


def test_a_coordinate_on_an_active_bound_is_left_out():
    u = FunctionPotential(
        lambda x: x[0] + (x[1] ** 2 - 1) ** 2 + 2 * x[0] * x[1], 2, bounds=Bounds.of([(0.0, 1.0), (-2.0, 2.0)])
    )
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    found = characterise(u, points_at(u, x))
    assert found.index.tolist() == [1, 0]
    assert found.log_det.tolist() == pytest.approx([math.log(4.0), math.log(8.0)])
    assert found.eigenvalues[:, 0].tolist() == pytest.approx([-4.0, 8.0])
    assert bool(found.eigenvalues[:, 1].isnan().all())


def test_the_iterative_way_agrees_with_the_dense_one_beyond_the_lowest_mode():
    generator = torch.Generator().manual_seed(3)
    q, _ = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64))
    values = torch.cat([torch.tensor([-3.0, -1.0, -1e-3, 2e-4]), torch.logspace(-2, 2, 56)]).double()
    u = Form((q * values) @ q.T)
    points = points_at(u, torch.zeros(1, 60, dtype=torch.float64))
    dense, mode = characterise_with_modes(u, points)
    iterative, same = characterise_with_modes(u, points, dense_limit=10, n_probes=64)
    assert dense.index.item() == iterative.index.item() == 3
    assert abs(float((mode * same).sum())) == pytest.approx(1.0, abs=1e-6)
    negative = torch.linalg.eigh(u.h).eigenvectors[:, :3].T[None]
    assert float(iterative.log_det) == pytest.approx(float(dense.log_det), abs=1e-6)  # rank >= D
    for rank in (0, 8):
        rest = stochastic_log_det(u, points.x, projector=Projector(negative, None), n_probes=64, rank=rank)
        exact = float(dense.log_det) - float(torch.tensor([3.0, 1.0, 1e-3]).double().log().sum())
        assert abs(float(rest.value) - exact) < 4 * float(rest.error)


@pytest.mark.parametrize("rank", [0, 6])
def test_quadrature_error_is_honest(rank):
    """The standard error over probes must cover the truth about as often as a normal error does."""
    generator = torch.Generator().manual_seed(4)
    q, _ = torch.linalg.qr(torch.randn(40, 40, generator=generator, dtype=torch.float64))
    values = torch.logspace(-3, 2, 40).double()
    u = Form((q * values) @ q.T)
    x = torch.zeros(1, 40, dtype=torch.float64)
    exact = float(values.log().sum())
    within = 0
    for seed in range(20):
        found = stochastic_log_det(u, x, n_probes=16, seed=seed, rank=rank)
        within += abs(float(found.value) - exact) < 2 * float(found.error)
    assert within >= 16


def test_outliers_divided_out_are_no_source_of_error():
    """A spectrum as networks with l2 have it: the bulk at one curvature, thirty outliers up to 500 times as large.
    With those divided out, what is left has next to no variance; zero modes take no part."""
    generator = torch.Generator().manual_seed(5)
    q, _ = torch.linalg.qr(torch.randn(300, 300, generator=generator, dtype=torch.float64))
    values = torch.cat([torch.logspace(-1, 1, 30), torch.full((267,), 0.02), torch.zeros(3)]).double()
    u = Form((q * values) @ q.T)
    x, zero = torch.zeros(2, 300, dtype=torch.float64), Projector(q[:, -3:].T.expand(2, 3, 300), None)
    exact = float(values[:297].log().sum())
    plain = stochastic_log_det(u, x, projector=zero, rank=0)
    divided = stochastic_log_det(u, x, projector=zero, rank=40)
    assert ((plain.value - exact).abs() < 4 * plain.error).all()
    assert ((divided.value - exact).abs() < 4 * divided.error + 1e-9).all()
    assert (divided.error < 0.03 * plain.error).all()
    assert torch.allclose(divided.value[0], divided.value[1], atol=1e-9)


def test_a_hessian_that_is_not_finite_has_no_index():
    class Cusp(Potential):
        ndim = 1

        def energy(self, x):
            return x[:, 0].abs().pow(1.5)

    found = characterise(Cusp(), points_at(Cusp(), torch.tensor([[0.0], [1.0]], dtype=torch.float64)))
    assert found.index.tolist()[0] == -1
    assert bool(found.log_det[0].isnan())
    assert found.index.tolist()[1] == 0


@pytest.mark.parametrize("first", [1, 2])
def test_one_weak_negative_mode_below_a_crowd_of_equal_ones_is_not_missed(first):
    """Spectra as regularised networks have them: two thousand directions of curvature 2 lambda, a few hundred up
    to 5, and one negative mode down to a tenth of the crowd's size. The index is settled by signs, long before
    the eigenpairs have converged to the tolerance."""
    d = 2400
    curvature = torch.full((2, d), 0.02, dtype=torch.float64)
    curvature[:, 2000:] = torch.logspace(-1.5, 0.7, 400, dtype=torch.float64)
    curvature[:, 7] = torch.tensor([-2e-2, -2e-3])

    def bowls(x):
        """Two of them, apart along the first coordinate, which tells whose point a row is."""
        which = x[:, 0].detach().round().clamp(0, 1)
        y = torch.cat([x[:, :1] - which[:, None], x[:, 1:]], 1)
        return 0.5 * (curvature[which.long()] * y * y).sum(1)

    u = FunctionPotential(bowls, d, batched=True)
    x = torch.zeros(2, d, dtype=torch.float64)
    x[1, 0] = 1.0
    at = StationaryPoints.of(x, torch.zeros(2, dtype=torch.float64))
    for seed in range(4):
        points, mode = characterise_with_modes(u, at, seed=seed, log_det=False, first=first)
        assert points.index.tolist() == [1, 1]
        assert bool((mode[:, 7].abs() > 0.99).all())
        assert bool(points.log_det.isnan().all())


@pytest.mark.parametrize("dense_limit", [2000, 1], ids=["dense", "iterative"])
def test_flat_directions_are_counted(dense_limit):
    """Also more of them than the eigenpairs that are looked for at first."""
    curvature = torch.cat([torch.zeros(6), torch.linspace(1.0, 2.0, 34)]).double()

    class Valley(Potential):
        ndim = 40

        def energy(self, x):
            return 0.5 * (curvature * x.square()).sum(1)

    found = characterise(Valley(), points_at(Valley(), torch.zeros(1, 40).double()), dense_limit=dense_limit)
    assert (found.index.tolist(), found.n_zero.tolist()) == ([0], [6])
