"""Whether a curvature is negative, against dense decompositions; and what verification makes of it."""

from __future__ import annotations

import pytest
import torch
from saddles.known import Form

from torchscape import StationaryPoints
from torchscape.potentials import FunctionPotential
from torchscape.potentials.counted import Metered
from torchscape.saddles import representatives
from torchscape.saddles.projector import Projector
from torchscape.saddles.signs import falling, lowest_curvature, signs

D = 300


def form(*lowest: float, high: float = 100.0) -> tuple[Form, torch.Tensor]:
    """With these lowest eigenvalues and others up to ``high``; and the eigenvectors, as rows."""
    generator = torch.Generator().manual_seed(len(lowest))
    q, _ = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64))
    values = torch.cat(
        [torch.tensor(lowest, dtype=torch.float64), torch.linspace(1.0, high, D - len(lowest)).double()]
    )
    h = (q * values) @ q.T
    return Form(0.5 * (h + h.T)), q.T


def asked(u, floor=1e-6, projector=None, **options):
    x = torch.zeros(1, D, dtype=torch.float64)
    return lowest_curvature(u, x, projector or Projector(None, None), x.new_full((1,), floor), **options)


@pytest.mark.parametrize("lowest", [0.5, 1e-2, 1e-4, -1e-4, -1e-2, -3.0])
def test_the_sign_of_the_lowest_curvature_is_found(lowest):
    u, _ = form(lowest)
    found = asked(u)
    exact = float(torch.linalg.eigvalsh(u.h)[0])
    assert exact <= float(found.value) + 1e-9
    if lowest < 0:
        assert float(found.value) < -1e-6
    else:
        assert float(found.value - found.residual) > -1e-6
        assert exact >= float(found.value - found.residual) - 1e-9


def test_a_curvature_below_the_floor_is_no_sign():
    u, _ = form(-1e-7)
    found = asked(u)
    assert abs(float(found.value)) + float(found.residual) <= 2e-6
    assert float(found.value) >= -1e-6


def test_what_is_left_out_is_not_seen_and_rounding_brings_it_not_back():
    """Twice as many products as coordinates: copies of eigenvalues come, none of which is lower."""
    u, vectors = form(-5.0, 1e-5)
    exact = torch.linalg.eigvalsh(u.h)
    beside = asked(u, 1e-12, Projector(vectors[None, :1], None), max_products=600)
    assert float(exact[1]) - 1e-9 <= float(beside.value) <= 2e-5
    assert int(beside.n_hvps) <= 600


def test_products_run_out():
    u, _ = form(1e-4, high=1e6)
    found = asked(u, max_products=50)
    assert int(found.n_hvps) == 50
    assert float(found.residual) > float(found.value)  # not certain, and says so


def test_a_hessian_that_is_not_finite_has_no_sign():
    h = torch.eye(D, dtype=torch.float64)
    h[0, 0] = torch.nan
    assert bool(asked(Form(h)).value.isnan())


@pytest.mark.parametrize("curvatures", [(-0.1,), (-0.1, -0.05), (-0.1, 1e-9), (0.2,)])
def test_saddles_of_many_coordinates_are_looked_at_without_eigenvectors(curvatures, monkeypatch):
    """As beyond 2000 coordinates: the index is 0, 1 or more; one flat direction is seen."""
    monkeypatch.setattr(representatives, "DENSE_SPECTRUM", 10)
    u, vectors = form(*curvatures)
    counted = Metered(u)
    x = torch.zeros(1, D, dtype=torch.float64)
    points = StationaryPoints.of(x, x.sum(1), grad_rms=x.sum(1), status=torch.ones(1, dtype=torch.int64))
    noise = torch.randn(1, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    about = vectors[:1] + 0.02 * noise / D**0.5
    looks = representatives.characterise_each(counted, points, modes=about / about.norm())
    negative = sum(c < 0 for c in curvatures)
    assert looks.points.index.tolist() == [min(2, negative)]
    assert counted.n_hessians == 0
    if negative:
        # the square of the residual, a hundredth of the curvature, over the gap to the next one
        assert abs(float((looks.mode * vectors[0]).sum())) > 1 - 1e-3
    as_minimum = representatives.characterise_each(counted, points, first=1)
    assert as_minimum.points.index.tolist() == [int(negative > 0)]


def test_a_minimum_that_is_none_is_told_with_a_way_down():
    """Against the dense matrix: a unit vector along which it bends downwards."""
    u, _ = form(-0.5, 1e-2, high=1e3)
    x = torch.zeros(1, D, dtype=torch.float64)
    points = StationaryPoints.of(x, x.sum(1), grad_rms=x.sum(1), status=torch.ones(1, dtype=torch.int64))
    seen, mode = signs(u, points)
    assert seen.index.tolist() == [1]
    assert float(mode.norm()) == pytest.approx(1.0)
    bent = float((mode @ u.h * mode).sum())
    assert -0.5 - 1e-9 <= bent < 0


def test_what_is_left_out_does_not_grow_from_rounding():
    """Where products alone were projected, the vectors had 0.1 of it after 200 steps."""
    u, vectors = form(-0.5, 1e-2, high=1e3)
    x, known = torch.zeros(1, D, dtype=torch.float64), Projector(vectors[None, :1], None)
    direction = falling(u, x, known, 200)
    assert float(direction @ vectors[0]) == pytest.approx(0.0, abs=1e-12)
    assert float((direction @ u.h * direction).sum()) == pytest.approx(1e-2, rel=1e-2)


def test_falling_directions_of_rows_are_those_of_each_alone():
    """Of a curvature that changes from place to place: x_0 alone decides which direction is soft."""

    def energy(x):
        return 0.5 * ((1 + torch.arange(D)) * x**2).sum() - (2 + x[0]) * x[1] ** 2

    u = FunctionPotential(energy, D)
    x = torch.zeros(3, D, dtype=torch.float64)
    x[:, 0] = torch.tensor([0.0, 1.0, 2.0])
    none = Projector(None, None)
    together = falling(u, x, none, 60)
    for row in range(3):
        torch.testing.assert_close(together[row : row + 1], falling(u, x[row : row + 1], none, 60))
    curvature = (u.hvp(x, together) * together).sum(1)
    lowest = torch.linalg.eigvalsh(u.hessian(x))[:, 0]
    torch.testing.assert_close(
        curvature, lowest, rtol=1e-3, atol=0.0
    )  # Ritz values: from above, after 60 products
    assert bool((curvature < 0).all())
