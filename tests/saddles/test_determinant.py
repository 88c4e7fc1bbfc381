"""Log-determinants and inertia: factorised and sampled, against NumPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from saddles.known import Form

from torchscape import FunctionPotential, StationaryPoints
from torchscape.errors import OptionError
from torchscape.potentials.counted import Metered
from torchscape.saddles import characterise, log_determinant
from torchscape.saddles.characterisation import Wanted, curvatures
from torchscape.saddles.determinant import factorised
from torchscape.saddles.projector import Projector

D = 2400


def rotated(curvature: torch.Tensor) -> FunctionPotential:
    """A quadratic form with these eigenvalues, mirrored so that no coordinate is an eigenvector."""
    v = torch.linspace(0.5, 1.5, len(curvature), dtype=torch.float64)
    v = v / v.norm()

    def energy(x):
        y = x - 2 * (x @ v)[:, None] * v
        return 0.5 * (curvature * y * y).sum(1)

    return FunctionPotential(energy, len(curvature), batched=True)


def origin(d: int) -> torch.Tensor:
    return torch.zeros(1, d, dtype=torch.float64)


@pytest.mark.parametrize("n_negative", [0, 1, 9, 30])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_factorisation_has_the_determinant_and_the_inertia(n_negative, dtype):
    generator = torch.Generator().manual_seed(n_negative)
    q, _ = torch.linalg.qr(torch.randn(30, 30, generator=generator, dtype=torch.float64))
    values = torch.linspace(0.3, 4.0, 30, dtype=torch.float64)
    values[:n_negative] *= -1
    h = ((q * values) @ q.T).to(dtype)
    u = Form(h)
    u.dtype = dtype
    found = factorised(u, torch.zeros(2, 30, dtype=dtype), Projector(None, None))
    sign, value = np.linalg.slogdet(h.double().numpy())
    # thirty logarithms of pivots, each to the precision of the matrix times its condition
    assert found.value.tolist() == pytest.approx([value, value], abs=1e-9 if dtype == torch.float64 else 1e-4)
    assert found.n_negative.tolist() == [n_negative, n_negative]
    assert sign == (-1) ** n_negative
    assert found.error.tolist() == [0.0, 0.0]


def test_pivots_of_two_rows_are_counted_once_each():
    """Zeros all along the diagonal leave no other choice."""
    h = torch.zeros(8, 8, dtype=torch.float64)
    for k in range(0, 8, 2):
        h[k, k + 1] = h[k + 1, k] = 1.0 + k
    found = factorised(Form(h), origin(8), Projector(None, None))
    assert found.n_negative.item() == 4
    assert found.value.item() == pytest.approx(2 * np.log([1.0, 3.0, 5.0, 7.0]).sum())


def test_zero_modes_and_held_coordinates_take_no_part():
    generator = torch.Generator().manual_seed(1)
    q, _ = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))
    inner = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    inner = inner @ inner.T
    h = torch.zeros(14, 14, dtype=torch.float64)
    h[1:13, 1:13] = inner
    h[0, :] = h[:, 0] = h[13, :] = h[:, 13] = 50.0
    held = torch.zeros(1, 14, dtype=torch.bool)
    held[0, [0, 13]] = True
    zero = torch.zeros(1, 3, 14, dtype=torch.float64)
    zero[0, :2, 1:13] = q[:, :2].T  # the third has none here
    left = q[:, 2:].numpy()
    exact = np.linalg.slogdet(left.T @ inner.numpy() @ left)[1]
    found = factorised(Form(h), origin(14), Projector(zero, held))
    assert found.value.item() == pytest.approx(exact, abs=1e-9)
    assert found.n_negative.item() == 0


def test_a_hessian_that_is_not_finite_has_no_determinant():
    u = FunctionPotential(lambda x: x.abs().pow(1.5).sum(1), 3, batched=True)
    found = factorised(u, origin(3), Projector(None, None))
    assert bool(found.value.isnan().all())
    assert found.n_negative.tolist() == [-1]


def test_what_is_cheaper_is_done():
    """Logarithms of a spectrum from 0.01 to 100, which sampling knows to a few units; mirrored, so that signs do
    not happen to be exact."""
    curvature = torch.logspace(-2, 2, D, dtype=torch.float64)
    curvature[::3] *= 5
    u, exact = Metered(rotated(curvature)), float(curvature.log().sum())
    rough = log_determinant(u, origin(D), max_error=1e3)
    assert 0 < u.n_hvps < D
    assert rough.n_negative.tolist() == [-1]
    assert rough.error.item() > 0.01
    assert abs(rough.value.item() - exact) < 4 * rough.error.item()
    exactly = log_determinant(u, origin(D), max_error=1e-3)
    assert exactly.error.item() == 0.0
    # hundreds of pivots of a matrix with curvatures 10^4 apart
    assert exactly.value.item() == pytest.approx(exact, abs=1e-7)
    assert exactly.n_negative.tolist() == [0]


def test_without_memory_more_is_sampled_and_the_error_said():
    curvature = torch.logspace(-2, 2, D, dtype=torch.float64)
    curvature[::3] *= 5
    u, exact = Metered(rotated(curvature)), float(curvature.log().sum())
    few = log_determinant(u, origin(D), max_error=1e-3, max_bytes=0, max_products=1000)
    spent = u.n_hvps
    more = log_determinant(u, origin(D), max_error=1e-3, max_bytes=0, max_products=6000)
    assert spent <= 1000
    assert 4000 < u.n_hvps - spent <= 6000
    assert more.error.item() < 0.3 * few.error.item()
    for found in (few, more):
        assert abs(found.value.item() - exact) < 4 * found.error.item()


@pytest.mark.parametrize(("n_negative", "n_flat"), [(0, 0), (1, 0), (3, 6), (0, 40)])
def test_characterise_to_an_error(n_negative, n_flat):
    """More flat directions than are looked for are no curvature either: then it is sampled."""
    curvature = torch.linspace(0.5, 2.0, 80, dtype=torch.float64)
    curvature[:n_negative] = -0.4 - 0.1 * torch.arange(n_negative).double()
    curvature[n_negative : n_negative + n_flat] = 0.0
    u = rotated(curvature)
    points = StationaryPoints.of(origin(80), torch.zeros(1, dtype=torch.float64))
    exact = float(curvature[curvature != 0].abs().log().sum())
    done, _, error = curvatures(u, points, Wanted(dense_limit=1, log_det_error=1e-6))
    assert done.index.tolist() == [n_negative]
    assert abs(done.log_det.item() - exact) <= 4 * error.item() + 1e-6
    if n_flat <= 32:
        assert error.item() == 0.0
        assert done.n_zero.tolist() == [n_flat]
    assert characterise(u, points, dense_limit=1, log_det_error=1e-6).log_det.item() == done.log_det.item()


def test_ranges_of_its_options():
    with pytest.raises(OptionError, match="log_determinant: max_error=0"):
        log_determinant(rotated(torch.ones(3, dtype=torch.float64)), origin(3), max_error=0.0)
