"""The spherical p-spin model: derivatives, the sphere, published thresholds, and a complete independent list."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from torchscape import problems
from torchscape.errors import PotentialError
from torchscape.optimise import relax
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.potentials.contract import check_contract
from torchscape.problems.complexity import complexity, n_complex_stationary, threshold_energy
from torchscape.problems.pspin import SphericalPSpin
from torchscape.saddles import characterise

FOLDER = Path(__file__).parents[3] / "shared" / "data"


def reference(name):
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip(f"reference data {path.name} are not beside this checkout")
    return json.loads(path.read_text())


@pytest.mark.parametrize(("p", "n"), [(2, 4), (3, 5), (4, 4), (5, 3)])
def test_contract_and_closed_forms(p, n):
    u = problems.get("p-spin", p=p, n=n, seed=1).potential
    check_contract(u, n=4)
    x = 1.2 * u.sample(6)
    torch.testing.assert_close(u.energy_and_grad(x), Potential.energy_and_grad(u, x))
    torch.testing.assert_close(u.hessian(x), Potential.hessian(u, x))


@pytest.mark.parametrize("p", [2, 3, 4])
def test_the_energy_is_the_published_sum(p):
    """Index by index, with the factor 1/N of three spins."""
    n = 3
    x = np.random.default_rng(5).standard_normal((n,) * p)
    w = np.array([0.3, -1.1, 1.3])
    w *= math.sqrt(n) / np.linalg.norm(w)
    total = sum(x[i] * np.prod(w[list(i)]) for i in itertools.product(range(n), repeat=p))
    u = problems.get("p-spin", p=p, n=n, seed=5).potential
    energy = u.energy(torch.as_tensor(w)[None]).item()
    assert energy == pytest.approx(total / n ** ((p - 1) / 2), rel=1e-13)
    if p == 3:
        assert energy == pytest.approx(total / n, rel=1e-13)


def test_parity():
    for p in (3, 4):
        u = problems.get("p-spin", p=p, n=4, seed=2).potential
        x = u.sample(5)
        torch.testing.assert_close(u.energy(-x), (-1) ** p * u.energy(x))
        assert u.symmetry.describe() == ("inversion" if p == 4 else "none")


def test_two_spin_minima_are_the_lowest_eigenvector():
    u = problems.get("p-spin", p=2, n=6, seed=3).potential
    x = np.random.default_rng(3).standard_normal((6, 6))
    lowest = np.linalg.eigvalsh(0.5 * (x + x.T))[0]
    found = relax(u, u.sample(8))
    assert found.converged.all()
    assert np.allclose(found.energy, math.sqrt(6) * lowest)
    assert u.symmetry.distance(found.x, found.x[:1].expand(8, -1)).max() < 1e-6


@pytest.mark.parametrize(("name", "n", "seed"), [("pspin_N5_s505", 5, 505), ("pspin_N8_s808", 8, 808)])
def test_stationary_points_of_the_sphere_are_those_of_the_potential(name, n, seed):
    """Every listed point: on the sphere the energy and index listed; the radial eigenvalue is the stiffness."""
    listed = reference(name)["points"]
    u = problems.get("p-spin", n=n, seed=seed).potential
    w = torch.tensor([point["w"] for point in listed], dtype=torch.float64)
    w = w * (math.sqrt(n) / w.norm(dim=1, keepdim=True))
    energy, grad = u.energy_and_grad(w)
    assert np.allclose(energy, [point["E"] for point in listed], rtol=0, atol=1e-12)
    assert grad.abs().max() < 1e-12
    points = StationaryPoints.of(w, energy, grad_rms=grad.square().mean(1).sqrt())
    done = characterise(u, points)
    assert done.index.tolist() == [point["index"] for point in listed]
    assert (done.n_zero == 0).all()
    smallest = [(values - 1).abs().min().item() for values in done.eigenvalues]
    assert max(smallest) < 1e-12
    radial = torch.einsum("bi,bij->bj", w, u.hessian(w))
    torch.testing.assert_close(radial, w, atol=1e-12, rtol=0)


def test_quenches_reach_the_sphere_and_listed_minima():
    listed = [point["E"] for point in reference("pspin_N8_s808")["points"] if point["index"] == 0]
    u = problems.get("p-spin", n=8, seed=808).potential
    found = relax(u, u.sample(100))
    assert found.converged.all()
    assert (found.x.norm(dim=1) - math.sqrt(8)).abs().max() < 1e-7
    gaps = (found.energy[:, None] - torch.tensor(listed, dtype=torch.float64)).abs()
    assert gaps.amin(1).max() < 1e-10
    assert len(gaps.argmin(1).unique()) == len(listed)


def test_bad_couplings_are_refused():
    for couplings in (np.zeros((3, 4)), np.zeros(3), np.zeros((1, 1))):
        with pytest.raises(PotentialError, match="couplings"):
            SphericalPSpin(couplings)
    with pytest.raises(PotentialError, match=r"10\^8"):
        problems.get("p-spin", p=5, n=100)


# --- N to infinity ------------------------------------------------------------------------------------------


def test_published_thresholds():
    """p = 3: E_inf, E_0, E_1, E_2 and E_50, as printed by Ballard et al. 2017 after Auffinger et al."""
    printed = {None: 1.6329932, 0: 1.6569984, 1: 1.6528732, 2: 1.6502531, 50: 1.6369812}
    for index, value in printed.items():
        assert threshold_energy(3, index) == pytest.approx(-value, abs=6e-8)


@pytest.mark.parametrize("p", [3, 4, 7])
def test_complexity_is_what_its_definition_says(p):
    edge = 2 * math.sqrt((p - 1) / p)
    for u in (-edge - 0.3, -edge - 0.01, -edge):
        wave = 2 / edge**2 * quad(lambda z, e=edge: math.sqrt(max(z**2 - e**2, 0.0)), u, -edge)[0]
        rest = 0.5 * math.log(p - 1) - (p - 2) / (4 * (p - 1)) * u**2
        for k in (0, 3):
            assert complexity(u, p, k).item() == pytest.approx(rest - (k + 1) * wave, abs=1e-7)
        assert complexity(u, p).item() == pytest.approx(rest - wave, abs=1e-7)
    assert complexity([0.0, 9.0], p, 2).tolist() == [complexity(-edge, p, 2).item()] * 2
    # in all (p - 1)^(N/2) stationary points, up to factors that are not exponential
    assert complexity([0.0, 5.0], p) == pytest.approx(0.5 * math.log(p - 1))
    energies = [threshold_energy(p, k) for k in range(4)]
    assert energies == sorted(energies)
    assert energies[-1] < threshold_energy(p)
    assert all(abs(complexity(e, p, k)) < 1e-10 for k, e in enumerate(energies))


def test_thresholds_need_three_spins():
    with pytest.raises(PotentialError, match="p >= 3"):
        threshold_energy(2)
    with pytest.raises(PotentialError, match="index"):
        complexity(0.0, 3, -1)


def test_no_more_stationary_points_than_complex_ones():
    for name, n in (("pspin_N5_s505", 5), ("pspin_N8_s808", 8)):
        listed = reference(name)
        assert n_complex_stationary(n) == 2 * listed["n_complex"]
        assert listed["n_stationary"] <= n_complex_stationary(n)
    assert n_complex_stationary(6, 2) == 12  # eigenvectors of a symmetric matrix, and their opposites
