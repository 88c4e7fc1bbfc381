"""Walks along flat directions: what is one manifold of minima, and what only looks like it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import torchscape as tsc
from torchscape import StationaryPoints
from torchscape.saddles.families import FamilyWalk, are_joined, extends, shared_directions


def potential(f, ndim: int, **more) -> tsc.FunctionPotential:
    return tsc.FunctionPotential(f, ndim, batched=True, **more)


def points(u: tsc.Potential, x, n_zero: int) -> StationaryPoints:
    x = torch.as_tensor(x, dtype=u.dtype)
    return StationaryPoints.of(x, u.energy(x), n_zero=torch.full((len(x),), n_zero))


def on_circles(angles, radius=1.0, centre=(0.0, 0.0)):
    angles = torch.as_tensor(angles, dtype=torch.float64)
    return torch.stack([angles.cos(), angles.sin()], 1) * radius + torch.tensor(centre, dtype=torch.float64)


def ring(x):
    return (x.square().sum(1) - 1) ** 2


def two_rings(inner: float, outer: float):
    return lambda x: ((x.norm(dim=1) - inner) * (x.norm(dim=1) - outer)) ** 2


def pairs_of_rings(*pairs):
    """Landscapes with two rings of minima each, as (centre, radius), side by side: the third coordinate is stiff,
    and its nearest integer says which counts."""
    centre = torch.tensor([[centre for centre, _ in pair] for pair in pairs], dtype=torch.float64)
    radius = torch.tensor([[radius for _, radius in pair] for pair in pairs], dtype=torch.float64)

    def f(x):
        which = x[:, 2].detach().round().clamp(0, len(pairs) - 1)
        k = which.long()
        one, other = ((x[:, None, :2] - centre[k]).norm(dim=2) - radius[k]).unbind(1)
        return (one * other).square() + (x[:, 2] - which).square()

    return f


def sheet(k: int, x):
    return torch.nn.functional.pad(x, (0, 1), value=float(k))


def lowest_factors(target, rank: int, l2: float):
    """B and A^T of the minimum of |B A - M|^2 + l2 (|A|^2 + |B|^2): the singular values of M, less l2, in equal
    parts (Srebro & Jaakkola 2003, doi 10.5555/3041838.3041929)."""
    left, values, right = torch.linalg.svd(target, full_matrices=False)
    root = (values[:rank] - l2).clamp(min=0).sqrt()
    return left[:, :rank] * root, right[:rank].T * root


@pytest.fixture(params=[500, 1], ids=["dense", "products"])
def walk(request) -> FamilyWalk:
    """From Hessians, and from Hessian-vector products alone."""
    return FamilyWalk(dense_limit=request.param, mixed_limit=0)


class TestJoined:
    @pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
    @pytest.mark.parametrize("angle", [0.3, 1.5, 3.0, math.pi])
    def test_a_ring_is_one_family_in_any_unit(self, walk, scale, angle):
        """Also the antipode, towards which no flat direction leads."""
        u = potential(lambda x: scale * ring(x), 2)
        p = points(u, on_circles([0.0, angle]), 1)
        assert are_joined(u, p[:1], p[1:], 0.1, walk=walk).all()

    def test_rings_of_equal_energy_that_do_not_meet_are_two(self, walk):
        """Concentric rings, one close and one far: tangents of the inner ring end exactly on the outer one, a leap
        that needs no correction. And rings beside each other."""

        origin, left, right = (0.0, 0.0), (-2.0, 0.0), (2.0, 0.0)
        concentric = ([(origin, 1.0), (origin, outer)] for outer in (1.3, 3.0))
        u = potential(pairs_of_rings(*concentric, [(left, 1.0), (right, 1.0)]), 3)
        angles = torch.linspace(0, 3, 7)
        others = torch.tensor([3, 4, 5, 6, 0, 1, 2])
        starts, goals = [], []
        for k, outer in enumerate((1.3, 3.0)):
            a = points(u, sheet(k, on_circles(angles)), 1)
            b = points(u, sheet(k, on_circles(angles + 0.4, outer)), 1)
            starts += [a, a, b]
            goals += [b, a[others], b[others]]
        starts.append(points(u, sheet(2, on_circles([0.0, 1.0, 3.0], centre=left)), 1))
        goals.append(points(u, sheet(2, on_circles([3.0, 1.0, 0.0], centre=right)), 1))
        found = are_joined(u, StationaryPoints.cat(starts), StationaryPoints.cat(goals), 0.1, walk=walk)
        assert found.tolist() == ([False] * 7 + [True] * 14) * 2 + [False] * 3

    def test_a_torus(self, walk):
        u = potential(lambda x: ((x[:, :2].norm(dim=1) - 2) ** 2 + x[:, 2] ** 2 - 0.25) ** 2, 3)
        s, t = 2 * math.pi * torch.rand(2, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        r = 2 + 0.5 * t.cos()
        p = points(u, torch.stack([r * s.cos(), r * s.sin(), 0.5 * t.sin()], 1), 2)
        assert are_joined(u, p[:12], p[12:], 0.1, walk=walk).all()

    def test_orbits_of_rotations_and_reflections(self):
        """U(B, A) = |B A - M|^2 + l2 (|A|^2 + |B|^2) is unchanged by (B R, R^T A) for R in O(2): its minima are
        two circles, det R = 1 and det R = -1."""
        torch.manual_seed(0)
        target = torch.randn(4, 3, dtype=torch.float64)

        def f(x):
            b, a = x[:, :8].reshape(-1, 4, 2), x[:, 8:].reshape(-1, 2, 3)
            return (b @ a - target).square().sum((1, 2)) + 0.1 * x.square().sum(1)

        u = potential(f, 14)
        b, a = lowest_factors(target, 2, 0.1)
        a = a.T
        lowest = torch.cat([b.reshape(-1), a.reshape(-1)])
        assert float(u.energy_and_grad(lowest[None])[1].abs().max()) < 1e-11

        def image(angle: float, det: float):
            c, s = math.cos(angle), math.sin(angle)
            r = torch.tensor([[c, -s * det], [s, c * det]], dtype=torch.float64)
            return torch.cat([(b @ r).reshape(-1), (r.T @ a).reshape(-1)])

        proper = points(u, torch.stack([image(t, 1.0) for t in (0.5, 1.7, 3.0, 4.5)]), 1)
        improper = points(u, torch.stack([image(t, -1.0) for t in (0.2, 2.0, 3.3, 5.0)]), 1)
        start = points(u, lowest.expand(4, -1), 1)
        assert are_joined(u, start, proper, 0.1).all()
        assert not are_joined(u, start, improper, 0.1).any()

    def test_an_unbounded_family_has_two_branches(self, walk):
        """Rescalings: x y = 1, with no end."""
        u = potential(lambda x: (x[:, 0] * x[:, 1] - 1) ** 2, 2)
        x = torch.tensor([[1.0, 1.0], [0.1, 10.0], [3.0, 1 / 3], [-1.0, -1.0]], dtype=torch.float64)
        p = points(u, x, 1)
        assert are_joined(u, p[torch.tensor([0, 1, 0])], p[1:], 0.1, walk=walk).tolist() == [True, True, False]

    def test_rows_do_not_notice_each_other(self, walk):
        u = potential(two_rings(1.0, 1.5), 2)
        a = points(u, on_circles([0.0, 1.0, 2.0, 3.0]), 1)
        b = points(u, torch.cat([on_circles([1.0, 2.0]), on_circles([1.0, 2.0], 1.5)]), 1)
        walk = dataclasses.replace(walk, tries=1)
        alone = torch.cat([are_joined(u, a[i : i + 1], b[i : i + 1], 0.1, walk=walk) for i in range(4)])
        assert torch.equal(are_joined(u, a, b, 0.1, walk=walk), alone)


class TestManyCoordinates:
    """|B A - M|^2 + l2 (|A|^2 + |B|^2), [100 3] [3 100], is unchanged by (B Q, Q^T A) for Q in O(3): its minima
    are two manifolds, det Q = 1 and det Q = -1. Cyclic permutations of units belong to the first, swaps of two to
    the second: of equal energy, by a symmetry that nobody declared, and not joined."""

    n, rank = 100, 3

    def bottleneck(self):
        g = torch.Generator().manual_seed(0)
        shape = (self.n, self.rank)
        target = (torch.randn(shape, generator=g) @ torch.randn(shape, generator=g).T / 10).double()
        lowest = torch.cat([factor.flatten() for factor in lowest_factors(target, self.rank, 0.1)])

        def f(x):
            b, a = x.unflatten(1, (2, *shape)).unbind(1)
            return (b @ a.mT - target).square().sum((1, 2)) + 0.1 * x.square().sum(1)

        return potential(f, 2 * self.n * self.rank), lowest

    def images(self, x, *rotations):
        factors = x.reshape(2, self.n, self.rank)
        return torch.stack([(factors @ q.to(factors)).flatten() for q in rotations])

    def test_rotations_are_joined_and_swaps_are_not(self, monkeypatch):
        u, lowest = self.bottleneck()
        assert float(u.energy_and_grad(lowest[None])[1].abs().max()) < 1e-9
        one, turn = torch.eye(3), torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
        turn = turn * torch.det(turn).sign()
        goals = points(u, self.images(lowest, turn, one[[1, 2, 0]], one[[1, 0, 2]], -turn), 3)
        assert torch.allclose(goals.energy, goals.energy[:1], rtol=1e-12)
        monkeypatch.setattr(u, "hessian", None)  # products with it are all that is used
        start = points(u, lowest.expand(4, -1), 3)
        walk = FamilyWalk(tries=3, mixed_limit=0)
        assert are_joined(u, start, goals, 0.1, walk=walk).tolist() == [True, True, False, False]
        assert extends(u, start[:1], 0.2, walk=walk).all()

    def test_no_pair_takes_more_products_than_allowed(self, monkeypatch):
        u, lowest = self.bottleneck()
        p = points(u, self.images(lowest, torch.eye(3), torch.diag(torch.tensor([-1.0, -1.0, 1.0]))), 3)
        assert are_joined(u, p[:1], p[1:], 0.1, walk=FamilyWalk(mixed_limit=0)).all()
        assert not are_joined(u, p[:1], p[1:], 0.1, walk=FamilyWalk(max_products=20, mixed_limit=0)).any()


class TestExtends:
    @pytest.mark.parametrize("power", [4, 6])
    def test_a_minimum_of_higher_order_is_no_family(self, walk, power):
        u = potential(lambda x: x[:, 0] ** power + x[:, 1] ** 2, 2)
        assert not extends(u, points(u, [[0.0, 0.0]], 1), 0.2, walk=walk).any()

    def test_a_ring_is(self, walk):
        u = potential(ring, 2)
        assert extends(u, points(u, on_circles([0.0, 2.0]), 1), 0.2, walk=walk).all()


def test_shared_directions():
    u = potential(lambda x: -torch.cos(x - x.roll(-1, -1)).sum(-1), 4)
    v = shared_directions(u, torch.zeros(1, 4).double(), torch.tensor([1]))
    assert torch.allclose(v.abs(), torch.full((1, 4), 0.5, dtype=torch.float64))
    on_ring = potential(ring, 2)
    assert len(shared_directions(on_ring, on_circles([0.0, 1.0]), torch.tensor([1, 1]))) == 0
