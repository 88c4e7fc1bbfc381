"""Nonlinear regression: derivatives, published parameters, and a count of minima that symmetry makes finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from torchscape import problems, random
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.optimise import relax
from torchscape.potentials.base import Potential
from torchscape.potentials.contract import check_contract
from torchscape.problems.regression import NonlinearRegression
from torchscape.saddles.distinct import first_of_each

DATA = Path(__file__).parents[3] / "shared" / "data" / "regression_grid.csv"
TRUTH = [0.1, 2.13, 0.0, 1.34, 0.0]


@pytest.fixture(scope="module")
def published():
    if not DATA.exists():
        pytest.skip(f"reference data {DATA.name} are not beside this checkout")
    return problems.get("regression", data=str(DATA))


def test_contract():
    check_contract(problems.get("regression").potential, n=4)
    check_contract(NonlinearRegression([0.0, 0.3, 1.0, 4.0], [0.1, 0.2, -0.3, 0.0]), n=4)


def test_closed_forms_agree_with_autograd(device):
    u = problems.get("regression", device=device).potential
    x = u.sample(40, seed=3)
    autograd = Potential.energy_and_grad(u, x)
    torch.testing.assert_close(u.energy_and_grad(x), autograd, rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(u.hessian(x), Potential.hessian(u, x), rtol=1e-10, atol=1e-6)
    assert u.hessian(x[:0]).shape == (0, 5, 5)


def test_the_noise_is_what_is_left_of_the_best_fit():
    """The fit from the true parameters removes 5 of 100 degrees of freedom; SciPy finds the same."""
    problem = problems.get("regression", seed=4)
    truth = torch.tensor([TRUTH], dtype=torch.float64)
    best = relax(problem.potential, truth)
    x, t = (problem.potential.settings()[name] for name in ("x", "t"))

    def residuals(q):
        return np.exp(-q[0] * x) * np.sin(q[1] * x + q[2]) * np.sin(q[3] * x + q[4]) - t

    fit = least_squares(residuals, TRUTH, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert best.energy.item() == pytest.approx(2 * fit.cost, rel=1e-9)
    assert (best.x[0] - truth[0]).abs().max() < 0.1
    variance = best.energy.item() / 95  # its standard error over samples is sqrt(2/95) of it
    assert abs(variance / 0.02**2 - 1) < 4 * (2 / 95) ** 0.5


def test_data_depend_on_the_seed_alone_and_noise_can_be_left_out():
    one, again, other = (problems.get("regression", seed=s).potential.fingerprint() for s in (1, 1, 2))
    assert one == again != other
    clean = problems.get("regression", noise=0).potential
    assert clean.energy(torch.tensor([TRUTH], dtype=torch.float64)).item() < 1e-25


def test_starts_fill_the_compact_domain():
    u = problems.get("regression").potential
    x = u.sample(2000)
    top = np.pi / u.spacing
    low = torch.tensor([-1, -top, -np.pi, -top, -np.pi])
    high = torch.tensor([3, top, np.pi, top, np.pi])
    assert ((x >= low) & (x <= high)).all()
    at = (x - low) / (high - low)
    assert (at.mean(0) - 0.5).abs().max() < 4 * (1 / 12 / 2000) ** 0.5
    assert u.spacing == pytest.approx(3 * np.pi / 99)


def test_only_grids_through_zero_alias():
    on = NonlinearRegression(0.5 + 0.25 * np.arange(10), np.zeros(10))
    off = NonlinearRegression(0.1 + 0.25 * np.arange(10), np.zeros(10))
    assert on.spacing == 0.25
    assert off.spacing is None
    q = off.sample(5)
    moved = q + torch.tensor([0, 2 * np.pi / 0.25, 0, 0, 0])
    torch.testing.assert_close(on.energy(moved), on.energy(q))
    assert not torch.allclose(off.energy(moved), off.energy(q))


def test_bad_data_name_the_remedy(tmp_path):
    with pytest.raises(TorchscapeError, match="no file"):
        problems.get("regression", data="/nowhere.csv")
    (tmp_path / "words.csv").write_text("x,t\na,b\n")
    (tmp_path / "three.csv").write_text("x,t,u\n" + "1,2,3\n" * 9)
    for name in ("words.csv", "three.csv"):
        with pytest.raises(TorchscapeError, match="columns x,t"):
            problems.get("regression", data=str(tmp_path / name))
    with pytest.raises(PotentialError, match="equally long"):
        NonlinearRegression([0.0, 1.0], [0.0])


def test_published_data_are_read(published):
    rows = np.loadtxt(DATA, delimiter=",", skiprows=1)
    q = torch.zeros(1, 5, dtype=torch.float64)  # the model vanishes: the sum of t^2 is left
    assert published.potential.energy(q).item() == pytest.approx((rows[:, 1] ** 2).sum(), rel=1e-12)
    assert published.potential.spacing == pytest.approx(rows[1, 0])


def test_symmetry_makes_the_count_finite_and_forgets_no_image(published):
    """300 quenches end in a few dozen minima. 1000 of 1000 random images are recognised; no two minima merge;
    and no two minima have the same energy, as two images would that the group does not know."""
    u = published.potential
    found = relax(u, u.sample(300, seed=1))
    found = found[found.converged & (found.energy < 10)]
    minima = found[first_of_each(u, found, energy_tol=1e-6).unique()]
    assert 30 <= len(minima) <= 110
    energy = minima.energy.sort().values
    assert (energy[1:] - energy[:-1]).min() > 1e-5

    n = len(minima)
    which = torch.arange(1000) % n
    images = u.symmetry.random_image(minima.x[which], random.fold(9, torch.arange(1000)))
    torch.testing.assert_close(u.energy(images), minima.energy[which], rtol=1e-9, atol=1e-9)
    tol = 0.1 * u.length_scale
    assert int((u.symmetry.distance(minima.x[which], images) < 1e-3 * tol).sum()) == 1000
    i, j = torch.triu_indices(n, n, 1)
    assert u.symmetry.distance(minima.x[i], minima.x[j]).min() > tol
