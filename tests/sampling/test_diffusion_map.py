"""Diffusion maps against closed forms, against a generator on a fine grid, and against pyDiffMap."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import scipy.linalg
import torch

from torchscape.errors import TorchscapeError
from torchscape.sampling import (
    FixedBandwidth,
    Neighbours,
    VariableBandwidth,
    diffusion_map,
    log_sum_slope,
    nearest_neighbours,
)
from torchscape.sampling.slow_functions import slowest


def circle(angles: torch.Tensor) -> torch.Tensor:
    return torch.stack([angles.cos(), angles.sin()], 1)


def even(n: int, device: torch.device | None = None) -> torch.Tensor:
    return circle(torch.arange(n, dtype=torch.float64, device=device) * (2 * math.pi / n))


def double_well(x):
    return 2.0 * (x * x - 1.0) ** 2


def fine_generator(low: float, high: float, n: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates and functions of f'' - U' f' with reflecting ends: fluxes e^-U across the faces of n cells."""
    h = (high - low) / n
    x = low + h * (np.arange(n) + 0.5)
    face = np.exp(-double_well(x[:-1] + h / 2)) / h**2
    mass = np.exp(-double_well(x))
    diagonal = (np.append(face, 0) + np.insert(face, 0, 0)) / mass
    off = -face / np.sqrt(mass[1:] * mass[:-1])
    rates, vectors = scipy.linalg.eigh_tridiagonal(diagonal, off, select="i", select_range=(0, 5))
    functions = vectors / np.sqrt(mass)[:, None]
    functions /= np.sqrt((mass[:, None] * functions**2).sum(0) / mass.sum())
    return x, rates[1:], functions[:, 1:]


def quantiles(n: int) -> torch.Tensor:
    """n samples of the double well without luck: its quantiles."""
    x = np.linspace(-2.5, 2.5, 40001)
    cumulative = np.cumsum(np.exp(-double_well(x)))
    return torch.as_tensor(np.interp((np.arange(n) + 0.5) / n, cumulative / cumulative[-1], x))[:, None]


def test_circle_has_squares_for_eigenvalues(device):
    found = diffusion_map(even(1200, device), kernel=FixedBandwidth(2e-4), alpha=1.0, n_functions=8)
    expected = torch.tensor([1.0, 1, 4, 4, 9, 9, 16, 16], dtype=torch.float64, device=device)
    # The first error of (1 - e^(-e k^2)) / e, and of chords for arcs, is e times k^4.
    torch.testing.assert_close(found.eigenvalues, expected, rtol=4e-3, atol=0)
    assert found.dimension == pytest.approx(1.0, abs=0.05)
    assert found.eigenvalues.device.type == device.type


def test_error_on_the_circle_falls_with_epsilon():
    errors = [
        abs(
            float(diffusion_map(even(1200), kernel=FixedBandwidth(e), alpha=1.0, n_functions=4).eigenvalues[2]) - 4
        )
        for e in (1.6e-3, 8e-4, 4e-4)
    ]
    ratios = [errors[0] / errors[1], errors[1] / errors[2]]
    assert ratios == pytest.approx([2.0, 2.0], rel=0.05)


def test_functions_on_the_circle_are_cosines():
    n = 600
    found = diffusion_map(even(n), kernel=FixedBandwidth(1e-3), alpha=1.0, n_functions=6)
    angle = np.arange(n) * 2 * np.pi / n
    for k in (1, 2, 3):
        wave = np.stack([np.cos(k * angle), np.sin(k * angle)], 1) * np.sqrt(2)
        mine = found.functions[:, 2 * k - 2 : 2 * k].numpy()
        inside = wave @ np.linalg.lstsq(wave, mine, rcond=None)[0]
        np.testing.assert_allclose(mine, inside, atol=1e-8)
        np.testing.assert_allclose((mine**2).sum(1), 2.0, atol=1e-8)
    # |grad cos|^2 + |grad sin|^2 = 1, times the 2 of the normalisation
    square = found.gradient_norm()[:, :2].square().sum(1)
    torch.testing.assert_close(square, torch.full_like(square, 2.0), rtol=2e-3, atol=0)


@pytest.mark.parametrize("kernel", [FixedBandwidth(1e-3), VariableBandwidth(dimension=1, epsilon=1e-3)])
def test_nystrom_on_the_circle(kernel):
    points = even(600)
    found = diffusion_map(points, kernel=kernel, n_functions=4)
    torch.testing.assert_close(found.extend(points), found.functions, rtol=0, atol=1e-8)
    angles = torch.linspace(0.1, 6.0, 50, dtype=torch.float64)
    values = found.extend(circle(angles))
    # A shift along the circle turns the pair (cos, sin) of the same function.
    wave = torch.stack([angles.cos(), angles.sin()], 1)
    grid = torch.arange(600, dtype=torch.float64) * (2 * math.pi / 600)
    mix = torch.linalg.lstsq(torch.stack([grid.cos(), grid.sin()], 1), found.functions[:, :2]).solution
    torch.testing.assert_close(values[:, :2], wave @ mix, rtol=0, atol=1e-5)


def test_alpha_one_does_not_see_the_density():
    """Points three times as dense on one side: alpha = 1 gives k^2 all the same, alpha = 0 does not."""
    u = (torch.arange(1500, dtype=torch.float64) + 0.5) / 1500 * 2 * math.pi
    angle = u.clone()
    for _ in range(60):  # invert u = angle + sin(angle) / 2, by Newton
        angle = angle - (angle + 0.5 * angle.sin() - u) / (1 + 0.5 * angle.cos())
    points = circle(angle)
    assert float(angle.diff().max() / angle.diff().min()) == pytest.approx(3.0, rel=0.01)
    squares = torch.tensor([1.0, 1, 4, 4, 9, 9], dtype=torch.float64)
    kernel = FixedBandwidth(3e-4)
    found = diffusion_map(points, kernel=kernel, alpha=1.0, n_functions=6)
    torch.testing.assert_close(found.eigenvalues, squares, rtol=5e-3, atol=0)
    biased = diffusion_map(points, kernel=kernel, alpha=0.0, n_functions=6)
    assert float((biased.eigenvalues / squares - 1).abs().max()) > 0.1
    # A target measure that is uniform is alpha = 1, to the last digits.
    target = diffusion_map(points, kernel=kernel, log_target=torch.zeros(1500).double(), n_functions=6)
    torch.testing.assert_close(target.eigenvalues, found.eigenvalues, rtol=1e-6, atol=1e-9)


def test_double_well_from_its_quantiles_has_the_rates_of_the_generator():
    _, rates, _ = fine_generator(-2.5, 2.5)
    kernel = VariableBandwidth(beta=-0.33, dimension=1, epsilon=5e-4)
    found = diffusion_map(quantiles(3000), kernel=kernel, n_functions=3, n_neighbours=400)
    np.testing.assert_allclose(found.eigenvalues.numpy(), rates[:3], rtol=0.05)
    assert found.n_slow == 1
    assert found.drift_power == pytest.approx(1.0)


def drawn(n: int, seed: int) -> np.ndarray:
    """Random samples of the double well, by inverting its distribution function."""
    x = np.linspace(-2.5, 2.5, 40001)
    cumulative = np.cumsum(np.exp(-double_well(x)))
    return np.interp(np.random.default_rng(seed).random(n), cumulative / cumulative[-1], x)


@pytest.mark.parametrize("epsilon", [0.01, 0.05])
def test_rates_do_not_feel_the_width_of_the_kernel_where_its_eigenvalues_do(epsilon):
    """By distances along the circle a Gaussian kernel is the heat kernel, exp(-epsilon k^2) to the last digits."""
    angle = torch.arange(700, dtype=torch.float64) * (2 * math.pi / 700)
    arc = (angle[:, None] - angle).abs()
    near = Neighbours.of_distances(torch.minimum(arc, 2 * math.pi - arc))
    found = diffusion_map(near, kernel=FixedBandwidth(epsilon), alpha=1.0, n_functions=6)
    squares = torch.tensor([1.0, 1, 4, 4, 9, 9], dtype=torch.float64)
    torch.testing.assert_close(found.rates(random=False), squares, rtol=1e-8, atol=0)
    torch.testing.assert_close(found.time_scales, 1 / found.rates(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.eigenvalues, -torch.expm1(-epsilon * squares) / epsilon, rtol=1e-8, atol=0)


def test_the_own_value_of_a_point_is_left_out_of_rates_from_samples():
    """Against a dense walk on random points that never stays where it is: the eigenvalues of the same generator
    with its clock run faster by the share of the diagonal. To first order in that share, about a tenth here."""
    u = torch.rand(250, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points, epsilon = circle(2 * math.pi * u), 4e-3
    found = diffusion_map(points, kernel=FixedBandwidth(epsilon), alpha=1.0, n_functions=4, n_neighbours=250)
    kernel = torch.exp(-torch.cdist(points, points).square() / (4 * epsilon)).numpy()
    weight = 1 / kernel.sum(1)
    joint = weight[:, None] * kernel * weight
    degree, own = joint.sum(1), joint.diagonal()
    generator = np.diag(degree) - joint
    whole, moving = (scipy.linalg.eigh(generator, np.diag(epsilon * d))[0][1:5] for d in (degree, degree - own))
    np.testing.assert_allclose(found.eigenvalues.numpy(), whole, rtol=1e-8)
    ratio = (found.rates() / found.rates(random=False)).numpy()
    assert (moving / whole).min() > 1.08
    np.testing.assert_allclose(ratio, moving / whole, rtol=0.02)


def test_rates_from_random_samples_with_nothing_chosen_by_hand():
    """A double well beside a parabola of rate 4, means over sets of 900 samples: within 7 % of the generator on a
    fine grid, where eigenvalues of kernels among 128 neighbours are more than 12 % low."""
    exact = np.array([fine_generator(-2.5, 2.5)[1][0], 4.0])
    found, few = [], []
    for seed in range(5):
        y = 0.5 * np.random.default_rng(seed + 50).standard_normal(900)
        points = torch.as_tensor(np.stack([drawn(900, seed), y], 1))
        found.append(diffusion_map(points, n_functions=2).rates().numpy() / exact)
        if seed < 2:
            few.append(diffusion_map(points, n_functions=2, n_neighbours=128).eigenvalues.numpy() / exact)
    assert np.abs(np.mean(found, 0) - 1).max() < 0.07
    assert np.abs(np.array(found) - 1).max() < 0.2
    assert np.mean(few, 0).max() < 0.88


def test_an_outlier_is_told_from_a_slow_coordinate():
    points = torch.cat([even(300), torch.tensor([[1.3, 0.0]]).double()])
    found = diffusion_map(points, kernel=FixedBandwidth(2.5e-3), alpha=1.0, n_functions=3, n_neighbours=301)
    lonely = found.concentration.argmax()
    assert float(found.functions[:, lonely].abs().argmax()) == 300
    assert float(found.concentration[lonely]) > 0.5
    others = [k for k in range(3) if k != lonely]
    assert float(found.concentration[others].max()) < 0.05
    assert float(diffusion_map(even(300), kernel=FixedBandwidth(2.5e-3), alpha=1.0).concentration.max()) < 0.01


def test_rates_of_two_thousand_samples_on_a_line():
    exact = fine_generator(-2.5, 2.5)[1]
    rates = diffusion_map(torch.as_tensor(drawn(2000, 1))[:, None], n_functions=2).rates()
    np.testing.assert_allclose(rates.numpy(), exact[:2], rtol=0.1)


def test_target_measure_gives_the_double_well_whatever_the_samples():
    """Points evenly spread, which know nothing of U, and pi = exp(-U)."""
    grid, rates, functions = fine_generator(-2.2, 2.2)
    x = torch.linspace(-2.2, 2.2, 2000, dtype=torch.float64)
    found = diffusion_map(
        x[:, None], kernel=FixedBandwidth(2e-4), log_target=-double_well(x), n_functions=3, n_neighbours=128
    )
    np.testing.assert_allclose(found.eigenvalues.numpy(), rates[:3], rtol=0.01)
    bulk = double_well(x).numpy() < 6.0
    for k in range(3):
        exact = np.interp(x.numpy(), grid, functions[:, k])
        mine = found.functions[:, k].numpy()
        exact = exact * np.sign(exact @ mine)
        assert np.abs(mine - exact)[bulk].max() < 0.03 * np.abs(exact[bulk]).max()
    mean = (found.stationary * x).sum()
    assert abs(float(mean)) < 1e-6
    weight = np.exp(-double_well(grid))
    second = (weight * grid**2).sum() / weight.sum()
    assert float((found.stationary * x**2).sum()) == pytest.approx(second, rel=2e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_gaussian_kernel_against_pydiffmap(alpha):
    pydiffmap = pytest.importorskip("pydiffmap.diffusion_map")
    x = np.random.default_rng(1).uniform(-1, 1, (400, 2))
    theirs = pydiffmap.DiffusionMap.from_sklearn(alpha=alpha, k=60, epsilon=0.01, n_evecs=4).fit(x)
    mine = diffusion_map(
        torch.as_tensor(x), kernel=FixedBandwidth(0.01), alpha=alpha, n_functions=4, n_neighbours=60
    )
    np.testing.assert_allclose(mine.eigenvalues.numpy(), -theirs.evals, rtol=1e-8)
    overlap = np.abs((mine.functions.numpy() * theirs.evecs).sum(0))
    norms = np.linalg.norm(mine.functions.numpy(), axis=0) * np.linalg.norm(theirs.evecs, axis=0)
    np.testing.assert_allclose(overlap / norms, 1.0, atol=1e-9)


def test_variable_bandwidth_and_target_against_pydiffmap():
    """The same widths given to both; their density is divided by rho^2, which is rho^d in two dimensions."""
    pydiffmap = pytest.importorskip("pydiffmap.diffusion_map")
    x = np.random.default_rng(2).standard_normal((400, 2))
    rho = np.exp(0.2 * (x**2).sum(1))
    rho /= np.exp(np.log(rho).mean())
    kernel = VariableBandwidth(rho=torch.as_tensor(rho), dimension=2, epsilon=0.02)
    theirs = pydiffmap.DiffusionMap.from_sklearn(
        alpha=-0.3, k=400, epsilon=0.02, n_evecs=4, bandwidth_type=lambda y: rho, bandwidth_normalize=True
    ).fit(x)
    mine = diffusion_map(torch.as_tensor(x), kernel=kernel, alpha=-0.3, n_functions=4, n_neighbours=400)
    np.testing.assert_allclose(mine.eigenvalues.numpy(), -theirs.evals, rtol=1e-8)

    log_target = -0.5 * (x**2).sum(1)
    theirs = pydiffmap.TMDmap(
        alpha=1.0, k=400, epsilon=0.05, n_evecs=4, change_of_measure=lambda y: np.exp(-0.5 * (y**2).sum())
    ).fit(x)
    mine = diffusion_map(
        torch.as_tensor(x), kernel=FixedBandwidth(0.05), log_target=torch.as_tensor(log_target), n_functions=4,
        n_neighbours=400,
    )  # fmt: skip
    np.testing.assert_allclose(mine.eigenvalues.numpy(), -theirs.evals, rtol=1e-8)


def test_blocks_and_dense_agree(monkeypatch):
    g = torch.Generator().manual_seed(3)
    x = torch.rand(700, 2, generator=g, dtype=torch.float64)
    dense = diffusion_map(x, n_functions=4)
    monkeypatch.setattr(sys.modules[slowest.__module__], "_DENSE_POINTS", 10)
    sparse = diffusion_map(x, n_functions=4)
    torch.testing.assert_close(sparse.eigenvalues, dense.eigenvalues, rtol=1e-6, atol=0)
    torch.testing.assert_close(sparse.functions, dense.functions, rtol=0, atol=1e-4)


def test_given_distances_are_those_of_the_points():
    g = torch.Generator().manual_seed(4)
    x = torch.rand(200, 3, generator=g, dtype=torch.float64)
    y = torch.rand(5, 3, generator=g, dtype=torch.float64)
    direct = diffusion_map(x, n_functions=3, n_neighbours=200)
    given = diffusion_map(Neighbours.of_distances(torch.cdist(x, x)), n_functions=3)
    torch.testing.assert_close(given.eigenvalues, direct.eigenvalues, rtol=1e-6, atol=0)
    extended = given.extend(Neighbours.of_distances(torch.cdist(y, x)))
    torch.testing.assert_close(extended, direct.extend(y), rtol=0, atol=1e-5)
    with pytest.raises(TorchscapeError, match="made of distances"):
        given.extend(y)


@pytest.mark.parametrize("ndim", [3, 40])
def test_neighbours_are_those_of_the_full_matrix(device, ndim):
    g = torch.Generator().manual_seed(5)
    x = (torch.rand(300, ndim, generator=g, dtype=torch.float64) + 100.0).to(device)
    near = nearest_neighbours(x, 12, x[:50])
    full = torch.cdist(x[:50], x, compute_mode="donot_use_mm_for_euclid_dist").sort(1)
    assert torch.equal(near.index, full.indices[:, :12])
    torch.testing.assert_close(near.distance, full.values[:, :12], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_log_sum_tells_the_dimension(ndim):
    side = round(1200 ** (1 / ndim))
    axis = torch.arange(side, dtype=torch.float64) / side
    x = torch.cartesian_prod(*[axis] * ndim).reshape(-1, ndim)
    difference = (x[:, None] - x).abs()
    squared = torch.minimum(difference, 1 - difference).square().sum(2)  # a torus: no edges
    found = log_sum_slope(squared)
    assert found.dimension == pytest.approx(ndim, rel=0.03)
    assert (1 / side) ** 2 / 20 < found.epsilon < 0.1


def test_what_does_not_hold_together_is_refused():
    apart = torch.cat([torch.randn(50, 1), torch.randn(50, 1) + 1e4]).double()
    with pytest.raises(TorchscapeError, match="2 groups"):
        diffusion_map(apart, kernel=FixedBandwidth(0.5), n_neighbours=100)
    with pytest.raises(TorchscapeError, match="only one of the two"):
        diffusion_map(apart, alpha=1.0, log_target=apart[:, 0])
    with pytest.raises(TorchscapeError, match="far from all points"):
        diffusion_map(even(100), kernel=FixedBandwidth(0.01)).extend(torch.tensor([[1e6, 0.0]]).double())
    with pytest.raises(TorchscapeError, match="NaN or infinite"):
        diffusion_map(torch.full((10, 2), torch.nan).double())
