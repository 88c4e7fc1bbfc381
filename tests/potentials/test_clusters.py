"""Cluster potentials: published energies, curvatures and geometries, and the contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clusters_data import bipyramid, icosahedron, lj7, minimised, octahedron, truncated_octahedron
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.potentials import ClusterPotential, LennardJones, Potential, Trimer
from torchscape.potentials.contract import check_contract


@pytest.mark.parametrize(
    "make",
    [
        lambda **k: LennardJones(2, **k),
        lambda **k: LennardJones(7, **k),
        lambda **k: LennardJones(7, container=1.2, **k),
        lambda **k: LennardJones(7, container=None, **k),
        lambda **k: Trimer(**k),
        lambda **k: Trimer(container=1.0, **k),
    ],
)
def test_contract(make, device):
    u = make(device=device)
    check_contract(u, x=1.3 * minimum_like(u))


@pytest.mark.parametrize("make", [lambda **k: LennardJones(5, **k), lambda **k: Trimer(**k)])
def test_contract_in_single_precision(make, device):
    u = make(dtype=torch.float32, device=device)
    check_contract(u, x=1.1 * minimum_like(u))


def minimum_like(u):
    """Clusters with no two atoms close: random ones have forces beyond any difference step."""
    grid = torch.cartesian_prod(*[torch.arange(3.0)] * 3)[: u.n_atoms] * 1.1
    noise = 0.1 * random.normal(random.fold(3, torch.arange(3)), u.ndim)
    return (grid.reshape(1, -1) + noise).to(u.device, u.dtype)


@given(n=st.integers(2, 9), seed=st.integers(0, 999), container=st.sampled_from([None, "auto", 1.0]))
@settings(max_examples=15, deadline=None)
def test_closed_form_derivatives_are_autograds(n, seed, container):
    u = LennardJones(n, container=container)
    x = u.sample(2, seed)
    v = random.normal(random.fold(seed, 9, torch.arange(2)), u.ndim)
    oracle = Potential.energy_and_grad(u, x)
    for ours, theirs in zip(u.energy_and_grad(x), oracle, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-10)
    scale = u.hessian(x).abs().amax((1, 2), keepdim=True)
    exact = torch.autograd.functional.hessian(lambda y: u.energy(y).sum(), x)
    exact = torch.stack([exact[b, :, b] for b in range(2)])
    assert ((u.hessian(x) - exact).abs() / scale).max() < 1e-13
    assert ((u.hvp(x, v) - torch.einsum("bij,bj->bi", exact, v)).abs() / scale[:, 0]).max() < 1e-12


def test_lennard_jones_7_has_the_published_stationary_points():
    data = lj7()
    u = LennardJones(7)
    points = data["minima"] + data["ts"]
    x = torch.tensor([point["x"] for point in points], dtype=torch.float64)
    energy, grad = u.energy_and_grad(x)
    assert grad.abs().max() < 1e-7  # the coordinates are given to ten digits
    assert np.allclose(energy, [point["E"] for point in points], atol=1e-9, rtol=0)
    curvature = torch.linalg.eigvalsh(u.hessian(x))
    vibrations = curvature.abs() > 1e-3
    assert (~vibrations).sum(1).tolist() == [6] * 16
    assert (curvature < -1e-3).sum(1).tolist() == [0] * 4 + [1] * 12
    product = torch.where(curvature > 1e-3, curvature, 1.0).log().sum(1)
    declared = [point.get("log_prod_eig", point.get("log_prod_pos_eig")) for point in points]
    assert np.allclose(product, declared, atol=1e-6, rtol=0)
    assert u.wall.energy(u.atoms(x)).max() == 0.0  # not one of them feels the container


@pytest.mark.parametrize(
    ("geometry", "energy"),
    [
        (octahedron(), -12.712062),  # Cambridge Cluster Database
        (bipyramid(), -16.50538417),
        (icosahedron(), -44.326801),
        (truncated_octahedron(), -173.928426591),
    ],
    ids=["lj6", "lj7", "lj13", "lj38"],
)
def test_global_minima_from_their_geometries(geometry, energy):
    u = LennardJones(len(geometry))
    x = minimised(u, geometry)
    assert u.energy_and_grad(x)[1].abs().max() < 1e-11
    assert u.energy(x).item() == pytest.approx(energy, abs=5e-7)
    assert u.wall.energy(u.atoms(x)).item() == 0.0
    if len(geometry) == 38:
        curvature = torch.linalg.eigvalsh(u.hessian(x))[0]
        assert curvature[6:].min() > 1.0
        assert curvature[6:].log().sum().item() == pytest.approx(538.668903, abs=1e-6)


def test_trimer_has_its_two_minima_and_transition_state():
    u = Trimer()
    r, bond, angle = 1.1687523184, 1.130962, np.deg2rad(86.7264)
    triangle = minimised(u, np.array([(0, 0, 0), (r, 0, 0), (r / 2, r * 0.75**0.5, 0)]))
    chain = minimised(u, np.array([(-1.1, 0, 0), (0, 0, 0), (1.1, 0, 0)]))
    bent = np.array([(bond, 0, 0), (0, 0, 0), (bond * np.cos(angle), bond * np.sin(angle), 0)])
    saddle = torch.as_tensor(bent.ravel())[None]
    for _ in range(4):  # Newton's method converges to the nearest stationary point, whatever its index
        step = torch.linalg.pinv(u.hessian(saddle), rtol=1e-8) @ u.energy_and_grad(saddle)[1][:, :, None]
        saddle = saddle - step[:, :, 0]
    x = torch.cat([triangle, chain, saddle])
    energy, grad = u.energy_and_grad(x)
    assert grad.abs().max() < 1e-11
    assert np.allclose(energy, [-2.1850988403, -2.2190981696, -1.98506966], atol=5e-9, rtol=0)
    lengths = Trimer.distances(x)
    assert np.allclose(lengths[0], 1.1687523184, atol=1e-9)
    assert np.allclose(lengths[1], [1.1087628937, 2 * 1.1087628937, 1.1087628937], atol=1e-9)
    assert np.allclose(sorted(lengths[2])[:2], 1.130962, atol=1e-6)
    curvature = torch.linalg.eigvalsh(u.hessian(x))
    assert (curvature < -1e-6).sum(1).tolist() == [0, 0, 1]
    assert (curvature.abs() < 1e-6).sum(1).tolist() == [6, 5, 6]


@given(seed=st.integers(0, 9999))
@settings(max_examples=20, deadline=None)
def test_trimer_formula(seed):
    """Energy against the formula as printed, angle by angle, in NumPy."""
    x = minimum_like(Trimer())[:1] + 0.3 * random.normal(random.fold(seed, torch.arange(1)), 9)
    p = x.reshape(3, 3).numpy()
    r = [np.linalg.norm(p[i] - p[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    cosines = [np.dot(p[j] - p[i], p[k] - p[i]) / (r[k] * r[j]) for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1))]
    pairs = sum(4 * (d**-12 - d**-6) for d in r)
    expected = pairs + 2.0 * (1 + 3 * np.prod(cosines)) / np.prod(r) ** 3
    assert Trimer().energy(x).item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("n", [3, 13, 38])
def test_starts_have_no_coincident_atoms_and_lie_in_the_ball(n, device, dtype):
    u = LennardJones(n, dtype=dtype, device=device)
    p = u.atoms(u.sample(40, seed=1))
    assert p.norm(dim=2).max() <= u.packing_radius * (1 + 1e-6)
    gaps = torch.cdist(p, p) + 10 * torch.eye(n, dtype=dtype, device=device)
    assert gaps.min() >= 0.7 * (1 - 1e-3)
    assert torch.isfinite(u.energy_and_grad(u.sample(40, seed=1))[1]).all()


def test_container_pulls_a_lost_atom_back():
    """Without it, an atom at distance 30 feels 1e-9: it would pass for a stationary point."""
    pair = torch.tensor([[0.0, 0, 0, 30.0, 0, 0]], dtype=torch.float64)
    assert LennardJones(2, container=None).energy_and_grad(pair)[1].abs().max() < 1e-8
    grad = LennardJones(2).energy_and_grad(pair)[1][0]
    assert grad[0] < -1
    assert grad[3] > 1
    assert grad[[1, 2, 4, 5]].abs().max() == 0


@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_container_is_twice_continuously_differentiable(radius):
    """The Hessian of the wall vanishes linearly as an atom comes back to the radius."""
    u = LennardJones(2, container=radius)
    sizes = []
    for outside in (1e-2, 1e-3, 1e-4):
        x = torch.tensor([[-radius * (1 + outside), 0, 0, radius * (1 + outside), 0, 0]], dtype=torch.float64)
        sizes.append((u.hessian(x) - LennardJones(2, container=None).hessian(x)).norm().item())
    assert sizes[0] / sizes[1] == pytest.approx(10, rel=0.05)
    assert sizes[1] / sizes[2] == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LennardJones(1), "at least 2"),
        (lambda: LennardJones(3, container=-1.0), "positive"),
        (lambda: LennardJones(3, container="box"), "'auto' or None"),
        (lambda: ClusterPotential(3, species="AB"), "one label per atom"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(PotentialError, match=message):
        make()


def test_fingerprints():
    potentials = [LennardJones(6), LennardJones(7), LennardJones(7, container=None), Trimer(), Trimer(1.0)]
    assert len({u.fingerprint() for u in potentials}) == 5
