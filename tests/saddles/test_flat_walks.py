"""Walks along flat directions: what is one manifold of minima, and what only looks like it."""

from __future__ import annotations

import math

import pytest
import torch

import torchscape as tsc
from torchscape import StationaryPoints
from torchscape.saddles.families import FamilyWalk, extends, joined, shared_directions


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


class TestJoined:
    @pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
    @pytest.mark.parametrize("angle", [0.3, 1.5, 3.0, math.pi])
    def test_a_ring_is_one_family_in_any_unit(self, scale, angle):
        """Also the antipode, towards which no flat direction leads."""
        u = potential(lambda x: scale * ring(x), 2)
        p = points(u, on_circles([0.0, angle]), 1)
        assert joined(u, p[:1], p[1:], 0.1).all()

    @pytest.mark.parametrize("outer", [1.3, 3.0])
    def test_concentric_rings_of_equal_energy_are_two(self, outer):
        """Tangents of the inner ring end exactly on the outer one: a leap that needs no correction."""
        u = potential(two_rings(1.0, outer), 2)
        angles = torch.linspace(0, 3, 7)
        a, b = points(u, on_circles(angles), 1), points(u, on_circles(angles + 0.4, outer), 1)
        assert not joined(u, a, b, 0.1).any()
        others = torch.tensor([3, 4, 5, 6, 0, 1, 2])
        assert joined(u, a, a[others], 0.1).all()
        assert joined(u, b, b[others], 0.1).all()

    def test_disjoint_rings_of_equal_energy_are_two(self):
        def f(x):
            left, right = (((x - torch.tensor([c, 0.0])).square().sum(1) - 1) ** 2 for c in (-2.0, 2.0))
            return left * right

        u = potential(f, 2)
        a = points(u, on_circles([0.0, 1.0, 3.0], centre=(-2.0, 0.0)), 1)
        b = points(u, on_circles([3.0, 1.0, 0.0], centre=(2.0, 0.0)), 1)
        assert not joined(u, a, b, 0.1).any()

    def test_a_torus(self):
        u = potential(lambda x: ((x[:, :2].norm(dim=1) - 2) ** 2 + x[:, 2] ** 2 - 0.25) ** 2, 3)
        s, t = 2 * math.pi * torch.rand(2, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        r = 2 + 0.5 * t.cos()
        p = points(u, torch.stack([r * s.cos(), r * s.sin(), 0.5 * t.sin()], 1), 2)
        assert joined(u, p[:12], p[12:], 0.1).all()

    def test_orbits_of_rotations_and_reflections(self):
        """U(B, A) = |B A - M|^2 + l2 (|A|^2 + |B|^2) is unchanged by (B R, R^T A) for R in O(2): its minima are
        two circles, det R = 1 and det R = -1."""
        torch.manual_seed(0)
        target = torch.randn(4, 3, dtype=torch.float64)

        def f(x):
            b, a = x[:, :8].reshape(-1, 4, 2), x[:, 8:].reshape(-1, 2, 3)
            return (b @ a - target).square().sum((1, 2)) + 0.1 * x.square().sum(1)

        u = potential(f, 14)
        lowest = tsc.relax(u, u.sample(1), tol=1e-11).x[0]
        b, a = lowest[:8].reshape(4, 2), lowest[8:].reshape(2, 3)

        def image(angle: float, det: float):
            c, s = math.cos(angle), math.sin(angle)
            r = torch.tensor([[c, -s * det], [s, c * det]], dtype=torch.float64)
            return torch.cat([(b @ r).reshape(-1), (r.T @ a).reshape(-1)])

        proper = points(u, torch.stack([image(t, 1.0) for t in (0.5, 1.7, 3.0, 4.5)]), 1)
        improper = points(u, torch.stack([image(t, -1.0) for t in (0.2, 2.0, 3.3, 5.0)]), 1)
        start = points(u, lowest.expand(4, -1), 1)
        assert joined(u, start, proper, 0.1).all()
        assert not joined(u, start, improper, 0.1).any()

    def test_an_unbounded_family_has_two_branches(self):
        """Rescalings: x y = 1, with no end."""
        u = potential(lambda x: (x[:, 0] * x[:, 1] - 1) ** 2, 2)
        x = torch.tensor([[1.0, 1.0], [0.1, 10.0], [3.0, 1 / 3], [-1.0, -1.0]], dtype=torch.float64)
        p = points(u, x, 1)
        assert joined(u, p[torch.tensor([0, 1, 0])], p[1:], 0.1).tolist() == [True, True, False]

    def test_rows_do_not_notice_each_other(self):
        u = potential(two_rings(1.0, 1.5), 2)
        a = points(u, on_circles([0.0, 1.0, 2.0, 3.0]), 1)
        b = points(u, torch.cat([on_circles([1.0, 2.0]), on_circles([1.0, 2.0], 1.5)]), 1)
        walk = FamilyWalk(tries=1)
        alone = torch.cat([joined(u, a[i : i + 1], b[i : i + 1], 0.1, walk=walk) for i in range(4)])
        assert torch.equal(joined(u, a, b, 0.1, walk=walk), alone)

    def test_beyond_its_limit_nothing_is_tried(self):
        u = potential(ring, 2)
        p = points(u, on_circles([0.0, 0.1]), 1)
        assert not joined(u, p[:1], p[1:], 0.05, walk=FamilyWalk(dense_limit=1)).any()


class TestExtends:
    @pytest.mark.parametrize("power", [4, 6])
    def test_a_minimum_of_higher_order_is_no_family(self, power):
        u = potential(lambda x: x[:, 0] ** power + x[:, 1] ** 2, 2)
        assert not extends(u, points(u, [[0.0, 0.0]], 1), 0.2).any()

    def test_a_ring_is(self):
        u = potential(ring, 2)
        assert extends(u, points(u, on_circles([0.0, 2.0]), 1), 0.2).all()


def test_shared_directions():
    u = potential(lambda x: -torch.cos(x - x.roll(-1, -1)).sum(-1), 4)
    v = shared_directions(u, torch.zeros(1, 4).double(), torch.tensor([1]))
    assert torch.allclose(v.abs(), torch.full((1, 4), 0.5, dtype=torch.float64))
    on_ring = potential(ring, 2)
    assert len(shared_directions(on_ring, on_circles([0.0, 1.0]), torch.tensor([1, 1]))) == 0
