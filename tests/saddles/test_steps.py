"""Steps on quadratic models: trust radius, signs, and the exact flow."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from torchscape.saddles.curvature import bofill
from torchscape.saddles.steps import flow_response, flow_step, predicted_change, saddle_step


def model(seed: int, d: int = 6):
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** (4 * torch.rand(3, d, generator=generator, dtype=torch.float64) - 2)
    curvature = (scale * torch.randn(3, d, generator=generator, dtype=torch.float64)).sort(1).values
    return curvature, torch.randn(3, d, generator=generator, dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-3, 10.0))
def test_a_saddle_step_climbs_one_mode_descends_the_others_and_keeps_the_radius(seed, radius):
    curvature, slope = model(seed)
    followed = torch.tensor([0, 2, 5])
    c = saddle_step(curvature, slope, followed, torch.full((3,), radius, dtype=torch.float64))
    assert bool((c.norm(dim=1) <= radius * (1 + 1e-9)).all())
    uphill = torch.arange(6) == followed[:, None]
    assert bool(((c * slope > 0) == uphill).all())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_within_the_radius_the_step_is_newtons_where_the_signs_are_a_saddles(seed):
    curvature, slope = model(seed)
    curvature = torch.cat([-curvature.abs()[:, :1], curvature.abs()[:, 1:]], 1)
    c = saddle_step(
        curvature, slope, torch.zeros(3, dtype=torch.int64), torch.full((3,), 1e9, dtype=torch.float64)
    )
    assert torch.allclose(c, -slope / curvature, rtol=1e-9)


def test_a_step_longer_than_the_radius_has_exactly_its_length_and_one_shift():
    curvature, slope = model(7)
    radius = torch.full((3,), 0.05, dtype=torch.float64)
    c = saddle_step(curvature, slope, torch.zeros(3, dtype=torch.int64), radius, n_newton=60)
    shift = slope.abs() / c.abs() - curvature.abs()
    assert torch.allclose(c.norm(dim=1), radius, rtol=1e-9)
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), rtol=1e-6)
    assert bool((shift > 0).all())


def test_predicted_change_is_that_of_the_quadratic():
    curvature, slope = model(8)
    c = torch.full_like(slope, 0.3)
    total, magnitude = predicted_change(curvature, slope, c)
    assert torch.allclose(total, (slope * c + curvature * c * c / 2).sum(1))
    assert bool((magnitude >= total.abs()).all())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 3.0))
def test_the_flow_is_the_matrix_exponential(seed, radius):
    """dx/dt = -(g + H x) with x(0) = 0, as one homogeneous linear system, solved by SciPy's expm."""
    curvature, slope = model(seed, d=4)
    c, time, newton = flow_step(curvature, slope, torch.full((3,), radius, dtype=torch.float64))
    assert bool((c.norm(dim=1) <= radius * (1 + 1e-9)).all())
    for row in range(3):
        if bool(newton[row]):
            assert torch.allclose(c[row], -slope[row] / curvature[row])
            continue
        system = torch.zeros(5, 5, dtype=torch.float64)
        system[:4, :4], system[:4, 4] = -torch.diag(curvature[row]), -slope[row]
        exact = torch.as_tensor(expm((system * time[row]).numpy()))[:4, 4]
        assert torch.allclose(c[row], exact, rtol=1e-6, atol=1e-9)
        # the time is the longest that stays within the radius, up to the resolution of the grid
        later = -slope[row] * flow_response(curvature[row], 1.1 * time[row])
        assert float(later.norm()) > radius * (1 - 1e-9)


def test_bofills_update_satisfies_the_secant_condition_and_stays_symmetric():
    generator = torch.Generator().manual_seed(1)
    h = torch.randn(4, 5, 5, generator=generator, dtype=torch.float64)
    h = h + h.mT
    s, y = (torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    moved = torch.tensor([True, True, False, True])
    new = bofill(h, s, y, moved)
    assert torch.allclose(torch.einsum("bij,bj->bi", new, s)[moved], y[moved])
    assert torch.allclose(new, new.mT)
    assert torch.equal(new[2], h[2])


def test_bofills_update_is_exact_for_a_quadratic_after_as_many_steps_as_dimensions():
    generator = torch.Generator().manual_seed(2)
    exact = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    exact = exact + exact.mT
    h, moved = torch.zeros(1, 4, 4, dtype=torch.float64), torch.ones(1, dtype=torch.bool)
    for i in range(4):
        s = torch.eye(4, dtype=torch.float64)[i : i + 1]
        h = bofill(h, s, s @ exact, moved)
    assert torch.allclose(h[0] @ torch.eye(4, dtype=torch.float64)[3], exact[3])
