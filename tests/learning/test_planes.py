"""Planes through quadratic surfaces, where everything is in closed form; through networks, filter by filter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torchscape.errors import FingerprintMismatch, TorchscapeError
from torchscape.learning import (
    Plane,
    filter_normalised,
    hessian_plane,
    plane_of,
    plane_surface,
    principal_plane,
    project,
    random_plane,
    three_point_plane,
    zoom_series,
)
from torchscape.potentials import ModulePotential, Potential, Quadratic


class Paraboloid(Potential):
    """U = 1/2 x.Ax + g.x with a dense A."""

    def __init__(self, ndim: int, device="cpu") -> None:
        g = torch.Generator().manual_seed(ndim)
        root = torch.randn(ndim, ndim, generator=g, dtype=torch.float64)
        self.a = (root @ root.T / ndim).to(device)
        self.g = torch.randn(ndim, generator=g, dtype=torch.float64).to(device)
        self.ndim, self.device = ndim, torch.device(device)

    def energy(self, x):
        return 0.5 * torch.einsum("bi,ij,bj->b", x, self.a, x) + x @ self.g

    def settings(self):
        return {"a": self.a, "g": self.g}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_values_over_a_plane_are_those_of_the_restricted_quadratic(device):
    u = Paraboloid(20, device)
    plane = plane_of(*(normal(20, seed=k).to(device) for k in range(3)))
    found = plane_surface(u, plane, (-2.0, 1.0, -1.0, 3.0), n=(7, 5), batch=4)
    e, o = plane.axes, plane.origin
    small, slope, start = e @ u.a @ e.T, e @ (u.a @ o + u.g), float(u.energy(o[None]))
    for j, b in enumerate(np.linspace(-1.0, 3.0, 5)):
        for i, a in enumerate(np.linspace(-2.0, 1.0, 7)):
            c = torch.tensor([a, b], dtype=torch.float64, device=device)
            expected = start + float(slope @ c + 0.5 * c @ small @ c)
            assert float(found.energy[j, i]) == pytest.approx(expected, rel=1e-12)
    assert (found.a.shape, found.b.shape, found.energy.shape) == ((7,), (5,), (5, 7))


def test_a_plane_through_three_points_passes_through_them():
    x = normal(3, 50)
    plane, at = three_point_plane(x)
    torch.testing.assert_close(plane.points(at), x, rtol=0, atol=1e-13)
    torch.testing.assert_close(torch.cdist(at, at), torch.cdist(x, x), rtol=1e-12, atol=1e-7)
    assert at[0].tolist() == [0.0, 0.0]
    assert abs(float(at[1, 1])) < 1e-13


def network() -> ModulePotential:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    return ModulePotential(
        net, (torch.randn(40, 3), torch.randint(2, (40,))), torch.nn.functional.cross_entropy, 1e-3
    )


def test_a_plane_through_images_of_minima_is_the_plane_through_the_minima():
    """Three networks near each other: renumber the hidden units of two of them, and align."""
    u = network()
    x = u.initial + 0.05 * normal(3, u.ndim)
    images = torch.cat([x[:1], u.symmetry.random_image(x[1:], torch.tensor([11, 12]))])
    assert float((images - x).norm(dim=1).max()) > 1.0
    plane, at = three_point_plane(images, u.symmetry)
    direct, expected = three_point_plane(x)
    torch.testing.assert_close(at, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(plane.axes, direct.axes, rtol=0, atol=1e-10)


def test_explained_variance_and_in_plane_loss_of_points():
    """Points with variances 9, 4, 1 along coordinates: planes hold 13/14 and 10/14 of it."""
    u = Quadratic([1.0, 2.0, 6.0])
    x = torch.tensor([[3.0, 0, 0], [-3.0, 0, 0], [0, 2.0, 0], [0, -2.0, 0], [0, 0, 1.0], [0, 0, -1.0]]).double()
    main = project(u, principal_plane(x), x)
    assert main.explained == pytest.approx(13 / 14)
    assert main.energy.tolist() == pytest.approx([4.5, 4.5, 4, 4, 3, 3])
    assert main.in_plane.tolist() == pytest.approx([4.5, 4.5, 4, 4, 0, 0], abs=1e-12)
    assert main.distance.tolist() == pytest.approx([0, 0, 0, 0, 1, 1], abs=1e-12)
    assert project(u, principal_plane(x, 0, 2), x).explained == pytest.approx(10 / 14)
    # A plane that does not pass through the points shows as much of their variance, at a distance.
    aside = principal_plane(x, origin=torch.tensor([0.0, 0.0, 7.0]).double())
    assert project(u, aside, x).explained == pytest.approx(13 / 14)
    assert project(u, aside, x).distance[0].item() == pytest.approx(7.0)


def test_hessian_planes_are_eigenvectors_of_the_dense_hessian():
    u = Paraboloid(30)
    values, vectors = np.linalg.eigh(u.a.numpy())
    for end, order in (("highest", [-1, -3]), ("lowest", [0, 2])):
        plane = hessian_plane(u, normal(30), 0, 2, end=end, tol=1e-9)
        overlap = np.abs(plane.axes.numpy() @ vectors[:, order])
        np.testing.assert_allclose(overlap, np.eye(2), atol=1e-6)
        assert f"curvature {values[order[1]]:.3g}" in plane.labels[1]


def test_filters_have_the_norms_of_the_weights_by_hand():
    u = network()
    plane = random_plane(u.initial[0], seed=3)
    found = filter_normalised(plane, u.layout)
    for axis, raw in zip(found.axes, plane.axes, strict=True):
        parts, before, theta = (u.layout.unflatten(v) for v in (axis, raw, u.initial[0]))
        for name in ("0.weight", "2.weight"):
            for d, r, w in zip(parts[name], before[name], theta[name], strict=True):
                assert math.sqrt(sum(float(v) ** 2 for v in d)) == pytest.approx(float(w.norm()), rel=1e-12)
                assert float(torch.dot(d, r)) == pytest.approx(float(d.norm() * r.norm()), rel=1e-12)
        for name in ("0.bias", "2.bias"):
            assert not parts[name].any()
    vectors = u.layout.unflatten(filter_normalised(plane, u.layout, vectors=True).axes[1])
    expected = u.layout.unflatten(u.initial[0])["0.bias"].norm()
    assert float(vectors["0.bias"].norm()) == pytest.approx(float(expected), rel=1e-12)


def test_scaling_a_layer_does_not_change_a_filter_normalised_picture():
    """ReLU units scaled up and their outputs scaled down by one factor: the same function, the same picture."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 4, bias=False), torch.nn.ReLU(), torch.nn.Linear(4, 2, bias=False)
    )
    data = (torch.randn(30, 3), torch.randint(2, (30,)))
    u = ModulePotential(net, data, torch.nn.functional.cross_entropy)
    theta, direction = u.initial[0], random_plane(u.initial[0], seed=2)
    factor = torch.cat([torch.full((12,), 10.0).double(), torch.full((8,), 0.1, dtype=torch.float64)])
    window = (-0.5, 0.5, -0.5, 0.5)
    pictures = []
    for at, axes in ((theta, direction.axes), (theta * factor, direction.axes * factor)):
        plane = filter_normalised(Plane(at, axes), u.layout)
        pictures.append(plane_surface(u, plane, window, n=5).energy)
    torch.testing.assert_close(pictures[1], pictures[0], rtol=1e-10, atol=1e-12)
    plain = plane_surface(u, Plane(theta * factor, direction.axes), window, n=5).energy
    assert float((plain - pictures[0]).abs().max()) > 1e-2


class Counted(Paraboloid):
    """Counts its points, and is interrupted once it has seen enough of them."""

    seen, stop = 0, 10**9

    def energy(self, x):
        if self.seen + len(x) > self.stop:
            raise KeyboardInterrupt
        self.seen += len(x)
        return super().energy(x)


def test_an_interrupted_grid_is_continued(tmp_path):
    u, file = Counted(10), tmp_path / "grid.npz"
    plane = random_plane(normal(10))
    window = (-1.0, 1.0, -1.0, 1.0)
    whole = plane_surface(u, plane, window, n=9, batch=10).energy
    assert u.seen == 81
    u.seen, u.stop = 0, 35
    with pytest.raises(KeyboardInterrupt):
        plane_surface(u, plane, window, n=9, batch=10, file=file)
    assert u.seen == 30
    u.seen, u.stop = 0, 10**9
    assert torch.equal(plane_surface(u, plane, window, n=9, batch=10, file=file).energy, whole)
    assert u.seen == 51
    u.seen = 0
    assert torch.equal(plane_surface(u, plane, window, n=9, file=file).energy, whole)
    assert u.seen == 0
    assert [path.name for path in tmp_path.iterdir()] == ["grid.npz"]
    with pytest.raises(FingerprintMismatch, match="another potential, plane or grid"):
        plane_surface(u, plane, (-1.0, 1.0, -1.0, 2.0), n=9, file=file)


def test_zoom_windows_share_their_centre(tmp_path):
    u = Paraboloid(6)
    plane = random_plane(normal(6))
    series = zoom_series(u, plane, [4.0, 1.0, 0.25], centre=(0.5, -0.5), n=5, file=tmp_path / "map.npz")
    middles = [float(surface.energy[2, 2]) for surface in series]
    assert middles == pytest.approx([middles[0]] * 3, rel=1e-12)
    assert [float(s.a[-1] - s.a[0]) for s in series] == [8.0, 2.0, 0.5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map-0.npz", "map-1.npz", "map-2.npz"]


def test_directions_that_span_no_plane_are_refused():
    v = normal(5)
    with pytest.raises(TorchscapeError, match="parallel"):
        plane_of(v, v, -3.0 * v)
    with pytest.raises(TorchscapeError, match="does not fit"):
        filter_normalised(random_plane(normal(5)), network().layout)
    with pytest.raises(TorchscapeError, match="ascending order"):
        plane_surface(Paraboloid(5), random_plane(v), (1.0, -1.0, 0.0, 1.0))
