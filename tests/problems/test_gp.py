"""The problem ``gp``: its data, and the known minima of a reference data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from torchscape import problems
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.optimise import relax

DATA = Path(__file__).parents[3] / "shared" / "data" / "gp_schwefel_2d_n60.csv"


def interior_minima(nu: float) -> list[float]:
    """Energies of the minima inside the box, of the reference data."""
    if not DATA.exists():
        pytest.skip(f"reference data {DATA.name} are not beside this checkout")
    u = problems.get("gp", data=str(DATA), nu=nu).potential
    points = relax(u, u.sample(24))
    assert points.converged.all()
    return np.unique(points.energy[u.bounds.interior(points.x, 1e-6)].numpy().round(5)).tolist()


def test_known_minima_of_the_reference_data():
    """Matern 5/2 on 60 points: exactly two minima inside the box, found independently."""
    assert interior_minima(2.5) == [69.36769, 72.41933]


def test_a_minimum_vanishes_at_the_known_fold():
    """At nu = 1.60745 +- 0.005, found independently."""
    assert len(interior_minima(1.613)) == 2
    assert len(interior_minima(1.602)) == 1


def test_generated_data_are_schwefels_function():
    problem = problems.get("gp", ndim=3, n=20, n_test=7, seed=4)
    u, (points, values) = problem.potential, problem.test
    assert (u.ndim, points.shape, values.shape) == (5, (7, 3), (7,))
    x = torch.cat([u.inputs, points]) * 1000 - 500
    y = 418.9829 * 3 - (x * x.abs().sqrt().sin()).sum(1)
    expected = (y - y[:20].mean()) / y[:20].std(correction=0)
    assert torch.allclose(torch.cat([u.targets, values]), expected, atol=1e-9)
    assert problems.get("gp", ndim=3, n=20, n_test=7, seed=5).potential.fingerprint() != u.fingerprint()


def test_noise_is_added_to_the_data_alone():
    clean, noisy = problems.get("gp", n=200), problems.get("gp", n=200, noise=0.5)
    spread = (noisy.potential.targets * 1.25**0.5 - clean.potential.targets).std()
    assert spread == pytest.approx(0.5, abs=0.1)
    assert torch.equal(clean.test[0], noisy.test[0])
    ratio = (noisy.test[1] - noisy.test[1].mean()) / (clean.test[1] - clean.test[1].mean())
    assert torch.allclose(ratio, ratio.mean())


def test_noise_of_the_held_out_values_is_that_of_the_others():
    clean, noisy = (problems.get("gp", n=200, noise=0.5, n_test=800, noisy_test=asked) for asked in (False, True))
    assert torch.equal(clean.potential.targets, noisy.potential.targets)
    added = (noisy.test[1] - clean.test[1]) * 1.25**0.5  # in units of the deviation without noise
    assert added.std() == pytest.approx(0.5, abs=0.05)
    assert added.mean() == pytest.approx(0.0, abs=0.07)


def test_options_reach_the_kernel():
    nu = problems.parse("gp:nu=1.7,n=10").potential.kernel
    assert (nu.name, nu.nu) == ("matern", 1.7)
    assert problems.parse("gp:kernel=squared-exponential,n=10").potential.kernel.name == "squared-exponential"
    with pytest.raises(UnknownName, match="squared-exponential"):
        problems.parse("gp:kernel=exponential")


def test_files(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b,y\n0,2,1\n10,4,3\n5,3,-1\n")
    problem = problems.parse(f"gp:data={path},low=none,high=none")
    assert problem.potential.inputs.tolist() == [[0, 0], [1, 1], [0.5, 0.5]]
    assert problem.test is None
    with pytest.raises(TorchscapeError, match="low=none"):
        problems.parse(f"gp:data={path},low=0,high=5")
    with pytest.raises(TorchscapeError, match="no file"):
        problems.parse("gp:data=/nowhere.csv")
    path.write_text("a,y\n0,one\n")
    with pytest.raises(TorchscapeError, match="no table of numbers"):
        problems.parse(f"gp:data={path}")
    path.write_text("y\n0\n1\n")
    with pytest.raises(TorchscapeError, match="one column"):
        problems.parse(f"gp:data={path}")
