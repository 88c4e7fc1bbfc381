"""Searches for saddles in mixed precision: float32 suggests, float64 decides."""

from __future__ import annotations

import pytest
import torch

from torchscape.potentials.base import Potential
from torchscape.potentials.counted import Metered
from torchscape.saddles import Band, connect
from torchscape.saddles.band import find_paths

D = 230  # more than have dense Hessians


class Wells(Potential):
    """x^4 - 4 x^3 / 3 - 4 x^2 + sum_i k_i (y_i - x^2 / 10)^2, whose slope along the valley is 4 x (x + 1) (x - 2):
    minima -5/3 at x = -1 and -32/3 at x = 2, and one saddle, 0 at the origin, with the curvatures -8 and 2 k_i."""

    ndim = D

    def __init__(self):
        self.k = torch.linspace(0.5, 20.0, D - 1, dtype=torch.float64)
        self.asked = set()  # of dtypes; the twin in float32 has the same

    def energy(self, x):
        self.asked.add(x.dtype)
        along = x[:, 0] ** 2 * (x[:, 0] ** 2 - 4 * x[:, 0] / 3 - 4)
        return along + (self.k * (x[:, 1:] - 0.1 * x[:, :1] ** 2) ** 2).sum(1)


def ends():
    a = torch.full((1, D), 0.1, dtype=torch.float64)
    b = torch.full((1, D), 0.4, dtype=torch.float64)
    a[:, 0], b[:, 0] = -1.0, 2.0
    return a, b


def mixed():
    u = Wells()
    u.precision = "mixed"
    return u


def test_the_saddle_is_that_of_the_formula_to_the_digits_of_float64():
    found = connect(mixed(), *ends())
    assert found.outcomes["VERIFIED"] == len(found.ts) == 1
    assert float(found.ts.energy) == pytest.approx(0.0, abs=1e-13)
    assert float(found.ts.x.abs().max()) < 1e-7
    assert found.ts.x.dtype == found.ts.energy.dtype == found.mode.dtype == torch.float64
    lower = torch.cat([found.minus.energy, found.plus.energy]).sort().values
    assert lower.tolist() == pytest.approx([-32 / 3, -5 / 3], abs=1e-12)


def test_bands_and_spaces_are_asked_of_float32_and_charged():
    """As many as in float64, about."""
    exact, coarse = Metered(Wells()), Metered(mixed())
    a, b = ends()
    for u in (exact, coarse):
        ((_, path),) = find_paths(u, a, b, Band())
        assert path.x.dtype == path.energy.dtype == path.grad.dtype == path.rms.dtype == torch.float64
        assert float(path.energy.max()) == pytest.approx(0.0, abs=0.3)
    assert torch.float32 not in exact.potential.asked
    assert torch.float32 in coarse.potential.asked
    assert exact.n_gradients == pytest.approx(coarse.n_gradients, rel=0.2)
    in_double, in_both = (connect(u, a, b).n_hvps for u in (Wells(), mixed()))
    assert 0 < in_both == pytest.approx(in_double, rel=0.5)
