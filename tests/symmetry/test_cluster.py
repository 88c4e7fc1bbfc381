"""ClusterSymmetry: recognition, closest images, point groups, invariants and zero modes."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from clusters_data import bipyramid, icosahedron, lj7, minimised, octahedron, truncated_octahedron
from hypothesis import given, settings
from hypothesis import strategies as st

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.potentials import LennardJones
from torchscape.symmetry import ClusterSymmetry

TETRAHEDRON = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)], dtype=float)
TRIANGLE = np.array([(0, 0, 0), (1, 0, 0), (0.5, 0.75**0.5, 0)])
SQUARE = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], dtype=float)
PRISM = np.concatenate([TRIANGLE, TRIANGLE + np.array([0, 0, 0.8])])
CUBE = np.array(list(itertools.product((-1, 1), repeat=3)), dtype=float)
HEXAGON = np.array([(math.cos(k * math.pi / 3), math.sin(k * math.pi / 3), 0) for k in range(6)])


def rows(*geometries) -> torch.Tensor:
    return torch.tensor(np.array([np.asarray(g, dtype=float).ravel() for g in geometries]))


def keys(n: int, seed: int = 0):
    return random.fold(seed, torch.arange(n))


@functools.cache
def minimum(name: str) -> torch.Tensor:
    geometry = {"lj7": bipyramid, "lj13": icosahedron, "lj38": truncated_octahedron}[name]()
    return minimised(LennardJones(len(geometry)), geometry)


def clouds(n: int, batch: int = 1, dim: int = 3, seed: int = 0):
    return random.normal(random.fold(seed, n, torch.arange(batch)), dim * n)


@pytest.mark.parametrize(("name", "count"), [("lj7", 1000), ("lj13", 1000), ("lj38", 300)])
def test_every_random_image_is_recognised(name, count):
    x = minimum(name)
    g = ClusterSymmetry(x.shape[1] // 3)
    image = g.random_image(x.expand(count, -1), keys(count))
    assert g.distance(x.expand(count, -1), image).max() < 1e-6 * x.norm()
    assert g.distance(image[: count // 20], x.expand(count // 20, -1)).max() < 1e-6 * x.norm()


def test_images_of_all_lj7_stationary_points_are_recognised_and_never_merged():
    data = lj7()
    x = torch.tensor([point["x"] for point in data["minima"] + data["ts"]], dtype=torch.float64)
    g, n = ClusterSymmetry(7), len(x)
    copies = x.repeat(60, 1)
    assert g.distance(copies, g.random_image(copies, keys(len(copies)))).max() < 1e-6
    i, j = torch.triu_indices(n, n, 1)
    distance = g.distance(x[i], g.random_image(x[j], keys(len(j), seed=1)))
    assert distance.min() > 0.1
    assert ((g.invariants(x[i]) - g.invariants(x[j])).norm(dim=1) <= distance).all()


@pytest.mark.parametrize("name", ["lj7", "lj13", "lj38"])
@pytest.mark.parametrize("noise", [1e-3, 1e-5, 1e-7])
def test_a_disturbed_image_is_as_far_away_as_it_was_disturbed(name, noise):
    """Recognition does not need exact coordinates: quenches end at a residual, not at a point."""
    x = minimum(name).expand(50, -1)
    g = ClusterSymmetry(x.shape[1] // 3)
    step = noise * random.normal(keys(50), x.shape[1])
    distance = g.distance(x, g.random_image(x + step, keys(50, 1)))
    assert (distance <= step.norm(dim=1) * (1 + 1e-6)).all()


@given(n=st.integers(2, 5), dim=st.sampled_from([2, 3]), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_small_clusters_have_the_exact_closest_image(n, dim, seed):
    """Against brute force in NumPy: every permutation, with the orthogonal Procrustes solution of SciPy."""
    from scipy.linalg import orthogonal_procrustes

    a, b = (clouds(n, 1, dim, seed + s) for s in (0, 1))
    p, q = (t.reshape(n, dim).numpy() for t in (a, b))
    p, q = p - p.mean(0), q - q.mean(0)
    best = min(
        np.linalg.norm(q[list(labels)] @ orthogonal_procrustes(q[list(labels)], p)[0] - p)
        for labels in itertools.permutations(range(n))
    )
    assert ClusterSymmetry(n, dim).distance(a, b).item() == pytest.approx(best, abs=1e-9)


def test_larger_clusters_come_close_to_the_closest_image():
    """Six atoms, 720 permutations by brute force: the heuristic is never below, and nearly always exact."""
    from scipy.linalg import orthogonal_procrustes

    g, a, b = ClusterSymmetry(6), clouds(6, 12), clouds(6, 12, seed=1)
    ours = g.distance(a, b).numpy()
    exact = []
    for p, q in zip(a.reshape(-1, 6, 3).numpy(), b.reshape(-1, 6, 3).numpy(), strict=True):
        p, q = p - p.mean(0), q - q.mean(0)
        every = (q[list(labels)] for labels in itertools.permutations(range(6)))
        exact.append(min(np.linalg.norm(r @ orthogonal_procrustes(r, p)[0] - p) for r in every))
    assert (ours >= np.array(exact) - 1e-9).all()
    assert (ours <= np.array(exact) + 1e-9).mean() >= 0.9


@given(n=st.sampled_from([3, 5, 7, 10]), dim=st.sampled_from([2, 3]), seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_alignment_gives_an_image_and_rows_do_not_interact(n, dim, seed):
    g = ClusterSymmetry(n, dim)
    a, b = clouds(n, 3, dim, seed), clouds(n, 3, dim, seed + 1)
    image = g.align(a, b)
    assert g.distance(b, image).max() < 1e-9
    torch.testing.assert_close(g.invariants(image), g.invariants(b), rtol=0, atol=1e-9)
    torch.testing.assert_close(image[1:2], g.align(a[1:2], b[1:2]), rtol=0, atol=1e-9)
    assert (g.distance(a, b) <= (a - b).norm(dim=1) + 1e-9).all()
    sick = a.clone()
    sick[0] = torch.nan
    torch.testing.assert_close(g.align(sick, b)[1:], image[1:], rtol=0, atol=1e-9)


@given(
    n=st.integers(2, 8),
    dim=st.sampled_from([2, 3]),
    seed=st.integers(0, 10**6),
    size=st.sampled_from([1e-3, 0.1, 1.0, 10.0]),
    two_kinds=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_invariants_are_invariant_and_1_lipschitz(n, dim, seed, size, two_kinds):
    g = ClusterSymmetry(n, dim, species=[i % 2 for i in range(n)] if two_kinds else None)
    a = clouds(n, 4, dim, seed)
    b = a + size * clouds(n, 4, dim, seed + 1)
    gap = (g.invariants(a) - g.invariants(b)).norm(dim=1)
    assert (gap <= (a - b).norm(dim=1) * (1 + 1e-12)).all()
    assert (gap <= g.distance(a, b) * (1 + 1e-9) + 1e-12).all()
    torch.testing.assert_close(g.invariants(g.random_image(a, keys(4, seed))), g.invariants(a), rtol=0, atol=1e-10)


def test_the_lipschitz_constant_cannot_be_improved():
    """Breathing moves every distance as far as the bound allows: the constant 1/sqrt(n) is tight."""
    g = ClusterSymmetry(6)
    a = rows(octahedron())
    gap = (g.invariants(1.1 * a) - g.invariants(a)).norm()
    assert gap.item() == pytest.approx(g.distance(1.1 * a, a).item(), rel=1e-9)


ORDERS = {  # Schoenflies symbol: geometry, order of the point group
    "C1": (clouds(6).reshape(6, 3).numpy(), 1),
    "Cs": (np.array([(0, 0, 0), (1, 0, 0), (0, 1.3, 0), (2, 2, 0)]), 2),
    "D3h triangle": (TRIANGLE, 12),
    "D4h square": (SQUARE, 16),
    "D6h hexagon": (HEXAGON, 24),
    "Td": (TETRAHEDRON, 24),
    "D3h prism": (PRISM, 12),
    "Oh octahedron": (octahedron(), 48),
    "Oh cube": (CUBE, 48),
    "D5h": (bipyramid(), 20),
    "Ih": (icosahedron(), 120),
    "Oh lj38": (truncated_octahedron(), 48),
    "C4v": (np.array([*SQUARE, (0.5, 0.5, 0.7)]), 8),
    "linear alike": (np.array([(-1, 0, 0), (0, 0, 0), (1, 0, 0)]), 4),
    "linear unlike": (np.array([(-1, 0, 0), (0, 0, 0), (1.5, 0, 0)]), 2),
    "pair": (np.array([(0, 0, 0), (1, 0, 0)]), 4),
}


@pytest.mark.parametrize(("geometry", "order"), ORDERS.values(), ids=ORDERS.keys())
def test_point_group_orders(geometry, order):
    g = ClusterSymmetry(len(geometry))
    image = g.random_image(rows(geometry).expand(5, -1), keys(5))
    assert g.point_group_order(image).tolist() == [order] * 5
    images = torch.tensor(2 * math.factorial(len(geometry)) / order, dtype=torch.float64).log()
    torch.testing.assert_close(g.log_degeneracy(image), images.expand(5))


@pytest.mark.parametrize(
    "name", ["D3h triangle", "D4h square", "Td", "linear alike", "linear unlike", "C4v", "Cs"]
)
def test_degeneracy_is_the_number_of_images_that_no_rotation_joins(name):
    """Counted by enumeration: labelled images, with and without inversion, up to proper rotations."""
    geometry = ORDERS[name][0] - ORDERS[name][0].mean(0)
    n = len(geometry)
    classes: list[np.ndarray] = []
    for sign, labels in itertools.product((1, -1), itertools.permutations(range(n))):
        image = sign * geometry[list(labels)]
        if not any(_rotated(image, other) for other in classes):
            classes.append(image)
    log_count = ClusterSymmetry(n).log_degeneracy(rows(ORDERS[name][0])).item()
    assert math.exp(log_count) == pytest.approx(len(classes))


def _rotated(p: np.ndarray, q: np.ndarray) -> bool:
    from scipy.spatial.transform import Rotation

    turn = np.linalg.svd(q.T @ p)
    u, vh = turn[0], turn[2]
    proper = np.diag([1.0, 1.0, np.linalg.det(u @ vh)])
    rotation = Rotation.from_matrix((u @ proper @ vh).T)
    return bool(np.abs(rotation.apply(q) - p).max() < 1e-8)


def test_point_groups_in_the_plane():
    for n, count in ((3, 6), (4, 8), (6, 12)):
        angle = 2 * np.pi * np.arange(n) / n
        polygon = np.stack([np.cos(angle), np.sin(angle)], 1)
        assert ClusterSymmetry(n, 2).point_group_order(rows(polygon)).item() == count
    assert ClusterSymmetry(7, 2).point_group_order(clouds(7, 1, 2)).item() == 1


def test_species_restrict_what_is_exchanged():
    water = rows([(0, 0, 0), (0.76, 0.59, 0), (-0.76, 0.59, 0)])
    labelled, blind = ClusterSymmetry(3, species="OHH"), ClusterSymmetry(3)
    swapped = water.reshape(1, 3, 3)[:, [1, 0, 2]].flatten(1)
    assert blind.distance(water, swapped).item() < 1e-9
    assert labelled.distance(water, swapped).item() > 0.3
    image = labelled.random_image(water.expand(50, -1), keys(50))
    assert labelled.distance(water.expand(50, -1), image).max() < 1e-9
    assert labelled.point_group_order(water).item() == 4  # C2v
    # larger than the enumeration reaches: alternating kinds on an icosahedron's corners
    salt = ClusterSymmetry(13, species="A" + "BBBBBB" + "CCCCCC")
    x = clouds(13, 20)
    assert salt.distance(x, salt.random_image(x, keys(20))).max() < 1e-9
    assert ClusterSymmetry(13).distance(x, ClusterSymmetry(13).random_image(x, keys(20))).max() < 1e-9
    assert (salt.distance(x[:9], x[9:18]) >= ClusterSymmetry(13).distance(x[:9], x[9:18]) - 0.2).all()


@pytest.mark.parametrize("species", [None, [0, 0, 1, 1, 1, 0, 2]])
@pytest.mark.parametrize("dim", [2, 3])
def test_canonical_form_is_shared_by_all_images(species, dim):
    g = ClusterSymmetry(7, dim, species=species)
    x = clouds(7, 20, dim)
    canonical = g.canonical(x)
    torch.testing.assert_close(g.canonical(g.random_image(x, keys(20))), canonical, rtol=0, atol=1e-9)
    assert g.distance(x, canonical).max() < 1e-9


@pytest.mark.parametrize("geometry", [bipyramid(), octahedron(), icosahedron(), TRIANGLE, ORDERS["pair"][0]])
def test_canonical_form_of_symmetric_structures(geometry):
    g = ClusterSymmetry(len(geometry))
    x = rows(geometry).expand(30, -1)
    canonical = g.canonical(g.random_image(x, keys(30)))
    torch.testing.assert_close(canonical, canonical[:1].expand(30, -1), rtol=0, atol=1e-7)
    assert g.distance(x, canonical).max() < 1e-7


def test_zero_modes_are_orthonormal_and_flat(device):
    u = LennardJones(7, device=device)
    x = minimum("lj7").to(device)
    modes = u.symmetry.zero_modes(x)
    eye = torch.eye(6, dtype=x.dtype, device=device)
    torch.testing.assert_close(modes @ modes.mT, eye[None], rtol=0, atol=1e-12)
    curvature = torch.einsum("bzi,bij,byj->bzy", modes, u.hessian(x), modes)
    assert curvature.abs().max() < 1e-9
    assert u.symmetry.project_out(x, modes[:, 4]).norm() < 1e-12


@pytest.mark.parametrize(
    ("geometry", "dim", "present"),
    [(TRIANGLE, 3, 6), (ORDERS["linear alike"][0], 3, 5), ([(0, 0, 0)], 3, 3), (TRIANGLE[:, :2], 2, 3)],
)
def test_number_of_zero_modes(geometry, dim, present):
    g = ClusterSymmetry(len(geometry), dim)
    lengths = g.zero_modes(rows(geometry)).norm(dim=2)[0]
    assert len(lengths) == (6 if dim == 3 else 3)
    assert lengths.round().sum().item() == present
    torch.testing.assert_close(lengths, lengths.round(), rtol=0, atol=1e-12)


def test_single_precision(device):
    g = ClusterSymmetry(38)
    x = minimum("lj38").to(device, torch.float32).expand(20, -1)
    image = g.random_image(x, random.fold(0, torch.arange(20, device=device)))
    assert image.dtype == torch.float32
    assert g.distance(x, image).max() < 1e-4
    assert g.point_group_order(image).tolist() == [48] * 20


def test_empty_batches():
    g = ClusterSymmetry(7)
    none = torch.empty(0, 21, dtype=torch.float64)
    for shape, value in (
        ((0, 21), g.align(none, none)), ((0,), g.distance(none, none)), ((0, 21), g.canonical(none)),
        ((0,), g.log_degeneracy(none)), ((0, 6, 21), g.zero_modes(none)), ((0, 21), g.invariants(none)),
    ):  # fmt: skip
        assert value.shape == shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_atoms": 3, "dim": 4}, "2 or 3"),
        ({"n_atoms": 0}, "have atoms"),
        ({"n_atoms": 3, "species": "AB"}, "one label"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(PotentialError, match=message):
        ClusterSymmetry(**arguments)
