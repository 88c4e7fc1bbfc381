"""When curvatures of many coordinates are computed: signs as points turn up, determinants at the end."""

from __future__ import annotations

import pytest
import torch

import torchscape as tsc
from torchscape.potentials.base import Potential

D = 2100  # more than have dense spectra


class Wells(Potential):
    """(x_1^2 - 1)^2 + sum_i k_i (x_i - x_1^2 / 10)^2, whose Hessian at both minima has the determinant
    8 prod_i 2 k_i: eliminating all other coordinates leaves 8 for x_1."""

    ndim = D
    k = torch.linspace(0.5, 2.0, D - 1, dtype=torch.float64)

    def energy(self, x):
        return (x[:, 0] ** 2 - 1) ** 2 + (self.k * (x[:, 1:] - 0.1 * x[:, :1] ** 2) ** 2).sum(1)


def test_determinants_wait_until_nothing_else_is_left_to_do():
    u, seen = Wells(), []
    with tsc.Landscape.in_memory(u) as landscape:
        hopping = tsc.BasinHopping(walkers=3, hops=1, step=0.5, round_hops=1)

        def look(report):
            found = landscape.minima()
            seen.append((found.index.tolist(), bool(found.log_det.isnan().all())))

        report = tsc.explore(landscape, u, strategies=[hopping], progress=False, on_round=look)
        found = landscape.minima()
    assert report.is_complete
    assert len(seen) == 2
    assert all(set(index) == {0} and unknown for index, unknown in seen)
    expected = float((2 * u.k).log().sum()) + torch.tensor(8.0).log().item()
    assert found.log_det.tolist() == pytest.approx(len(found) * [expected], abs=3.0)
