"""K-means: all minima of small data by enumeration, passes in closed form, iris."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from torchscape import problems, random
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.optimise import relax
from torchscape.potentials.contract import check_contract
from torchscape.problems.kmeans import KMeans
from torchscape.saddles import characterise, connect

POINTS = random.normal(random.fold(12, torch.arange(9)), 2)


def all_minima(x: np.ndarray, k: int) -> tuple[list[float], torch.Tensor]:
    """Costs and centroids of all partitions with every point nearest to the centroid of its own cluster."""
    found = {}
    for labels in itertools.product(range(k), repeat=len(x)):
        used = list(dict.fromkeys(labels))
        if used != list(range(k)):  # one order of the clusters, none of them empty
            continue
        label = np.array(labels)
        centres = np.stack([x[label == j].mean(0) for j in range(k)])
        squares = ((x[:, None] - centres) ** 2).sum(2)
        if (squares.argmin(1) == label).all():
            found[round(float(squares.min(1).sum()), 9)] = torch.as_tensor(centres).flatten()
    return sorted(found), torch.stack([found[cost] for cost in sorted(found)])


def distinct(energy: torch.Tensor) -> list[float]:
    return sorted(set(np.round(energy.numpy(), 9).tolist()))


@pytest.mark.parametrize("k", [2, 3, 4])
def test_every_minimum_of_small_data(k):
    """The enumerated ones are minima, though some have basins of next to nothing; quenches find no others."""
    expected, centroids = all_minima(POINTS.numpy(), k)
    u = KMeans(POINTS, k, sharpness=None, tether=0)
    assert np.allclose(relax(u, centroids + 1e-7, tol=1e-10).energy, expected, atol=1e-8)
    points = characterise(u, relax(u, u.sample(800), tol=1e-10))
    full = points.converged & (points.n_zero == 0)  # a centre without points has no force and no curvature
    assert full.double().mean() > 0.8
    found = distinct(points.energy[full])
    assert len(found) >= 0.6 * len(expected)
    assert np.abs(np.subtract.outer(found, expected)).min(1).max() < 1e-8


def test_soft_minima_are_exact_minima_when_sharp():
    """Every one of them, where sharp enough; and the soft cost is a lower bound."""
    expected, centroids = all_minima(POINTS.numpy(), 3)
    u = KMeans(POINTS, 3, sharpness=1e5, tether=0)
    points = characterise(u, relax(u, centroids, tol=1e-9))
    assert (points.converged & (points.n_zero == 0) & (points.index == 0)).all()
    assert (points.energy <= u.cost(points.x) + 1e-12).all()
    assert (u.cost(points.x) - points.energy <= len(POINTS) * np.log(3) / u.beta).all()
    exact = KMeans(POINTS, 3, sharpness=None, tether=0)
    assert np.allclose(relax(exact, points.x, tol=1e-10).energy, expected, atol=1e-8)


def test_saddles_tend_to_the_passes_of_the_exact_cost():
    """Points 0, 1, 2.2 and two centres: on the kink where 1 changes its centre, c = 1 -+ h, the cost
    (1 - h)^2 + h^2 + (1.2 - h)^2 is lowest at h = 2.2/3. There a share r = (1 - h)/h of the point balances the
    pull on the first centre, and a soft minimum lies below by the entropy of the shares, divided by b."""
    h = 2.2 / 3
    exact = (1 - h) ** 2 + h**2 + (1.2 - h) ** 2
    r = (1 - h) / h
    entropy = -r * math.log(r) - (1 - r) * math.log(1 - r)
    for sharpness in (30.0, 100.0, 300.0):
        u = KMeans([[0.0], [1.0], [2.2]], 2, sharpness=sharpness, tether=0)
        ends = relax(u, torch.tensor([[0.5, 2.2], [0.0, 1.6]], dtype=torch.float64))
        found = connect(u, ends.x[:1], ends.x[1:])
        assert len(found.ts) == 1
        assert (exact - found.ts.energy.item()) * u.beta == pytest.approx(entropy, abs=0.2 / u.beta)


@pytest.mark.parametrize("sharpness", [None, 30.0])
def test_contract(sharpness, device):
    u = KMeans(POINTS, 3, sharpness=sharpness, device=device)
    check_contract(u, smooth=sharpness is not None)


def test_a_tether_brings_centres_without_points_home():
    """Two tight pairs and a third centre far away: without the tether it stays where it is."""
    x = torch.tensor([[-3.0, 0], [-3, 0.1], [3, 0], [3, 0.1]], dtype=torch.float64)
    start = torch.tensor([[-3.0, 0.05, 3.0, 0.05, 0.2, 0.1]], dtype=torch.float64)
    free, tethered = (KMeans(x, 3, tether=t) for t in (0, 1e-3))
    assert torch.equal(relax(free, start).x[:, 4:], start[:, 4:])
    end = characterise(tethered, relax(tethered, start))
    assert torch.allclose(end.x[:, 4:], x.mean(0), atol=1e-6)
    assert end.n_zero.item() == 0


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6])
def test_lowest_costs_of_iris(k):
    pytest.importorskip("sklearn")
    problem = problems.get("kmeans", k=k, sharpness=None, tether=0)
    u = problem.potential
    points = relax(u, u.sample(150), tol=1e-9)
    assert points.converged.all()
    assert points.energy.min().item() == pytest.approx(problem.known.minima[0], abs=1e-6)
    soft = problems.get("kmeans", k=k)
    assert soft.known.minima == ()
    lowest = relax(soft.potential, soft.potential.sample(150), tol=1e-7)
    end = lowest.x[lowest.energy.argmin()][None]
    assert relax(u, end, tol=1e-9).energy.item() == pytest.approx(problem.known.minima[0], abs=1e-6)


def test_bad_numbers_name_the_remedy():
    with pytest.raises(PotentialError, match="k=0; give a whole number"):
        KMeans(POINTS, 0)
    with pytest.raises(PotentialError, match="clean"):
        KMeans(torch.full((3, 2), torch.nan))
    with pytest.raises(PotentialError, match="all points are equal"):
        KMeans(torch.ones(3, 2))


def test_files(tmp_path):
    with_names, without, arrays = (tmp_path / name for name in ("a.csv", "b.csv", "c.npz"))
    with_names.write_text("a,b\n0,1\n2,3\n4,6\n")
    without.write_text("0,1\n2,3\n4,6\n")
    np.savez(arrays, x=np.array([[0.0, 1], [2, 3], [4, 6]]), other=np.zeros(2))
    built = [problems.parse(f"kmeans:k=2,data={path}").potential for path in (with_names, without, arrays)]
    assert len({u.fingerprint() for u in built}) == 1
    scaled = problems.get("kmeans", k=2, data=str(without), standardise=True).potential
    assert torch.allclose(scaled.settings()["data"].std(0, correction=0), torch.ones(2).double())
    np.savez(arrays, y=np.zeros((2, 2)), z=np.zeros(2))
    with pytest.raises(TorchscapeError, match="call the points x"):
        problems.get("kmeans", data=str(arrays))
    with_names.write_text("a,b\n0,one\n")
    with pytest.raises(TorchscapeError, match="no table of numbers"):
        problems.get("kmeans", data=str(with_names))
    with pytest.raises(TorchscapeError, match="no file"):
        problems.get("kmeans", data="/nowhere.csv")
