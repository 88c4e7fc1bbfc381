"""Pictures of planes and diffusion maps: what is drawn is what was given."""

from __future__ import annotations

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from torchscape import learning, plots
from torchscape.errors import TorchscapeError
from torchscape.potentials import Quadratic


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def bowl():
    """U = (x^2 + 100 y^2 + z^2) / 2 seen along x and y, and a trajectory that ends at its bottom."""
    u = Quadratic([1.0, 100.0, 1.0])
    flat = learning.Plane(torch.zeros(3).double(), torch.eye(3)[:2].double())
    path = torch.tensor([[0.8, 0.4, 0.3], [0.4, 0.1, 0.1], [0.0, 0.0, 0.0]]).double()
    return u, flat, learning.project(u, flat, path)


def test_a_plane_is_drawn_with_its_points_in_their_true_colours(bowl):
    u, flat, path = bowl
    surface = learning.plane_surface(u, flat, (-1.0, 1.0, -0.5, 0.5), n=(21, 11))
    lowest = float(surface.energy.min())
    picture = plots.plane(surface, path, unit="nats")
    dots = next(
        c for c in picture.axes.collections if c.get_offsets().shape == (3, 2) and c.get_array() is not None
    )
    np.testing.assert_allclose(dots.get_offsets(), path.coordinates.numpy())
    np.testing.assert_allclose(dots.get_array(), path.energy.numpy())
    assert dots.norm.vmax == pytest.approx(13.0)
    assert picture.axes.get_xlim() == (-1.0, 1.0)
    assert picture.figure.axes[1].get_ylabel() == "loss (nats)"
    assert "variance" in picture.axes.get_title(loc="right")
    assert not isinstance(dots.norm, LogNorm)
    assert lowest < 1e-12  # zero, but for rounding
    below = dataclasses.replace(surface, energy=surface.energy - 1.0)
    with pytest.raises(TorchscapeError, match="logarithm"):
        plots.plane(below, logarithmic=True)


def test_zooms_frame_the_next_window(bowl):
    u, flat, path = bowl
    picture = plots.zooms(learning.zoom_series(u, flat, [2.0, 0.5, 0.1], n=9), path)
    frames = [[p for p in panel.axes.patches if isinstance(p, Rectangle)] for panel in picture.panels]
    assert [len(inside) for inside in frames] == [1, 1, 0]
    assert frames[0][0].get_bbox().extents.tolist() == [-0.5, -0.5, 0.5, 0.5]
    assert [bool(panel.axes.get_title(loc="right")) for panel in picture.panels] == [True, False, False]
    assert picture.panels[0].axes.lines
    samples = plots.zooms(learning.zoom_series(u, flat, [2.0, 0.5], n=9), path, connect=False)
    assert not any(panel.axes.lines for panel in samples.panels)


def test_a_surface_in_three_dimensions_takes_the_trajectory_at_its_true_loss(bowl):
    u, flat, path = bowl
    picture = plots.plane_3d(learning.plane_surface(u, flat, (-1.0, 1.0, -0.5, 0.5), n=9), path)
    _, _, z = picture.axes.lines[0].get_data_3d()
    np.testing.assert_allclose(z, path.energy.numpy())
    with pytest.raises(TorchscapeError, match="flat"):
        plots.plane_3d(learning.plane_surface(u, flat, (-1.0, 1.0, -0.5, 0.5), n=9), ax=plt.subplots()[1])


def test_the_widest_gap_is_marked():
    picture = plots.spectrum(torch.tensor([0.1, 0.2, 4.0, 5.0]))
    assert picture.n_slow == 2
    assert "factor 20" in picture.axes.texts[0].get_text()
    with pytest.raises(TorchscapeError, match="two positive eigenvalues"):
        plots.spectrum(torch.tensor([0.0, 1.0]))


def test_an_embedding_draws_the_coordinates_asked_for():
    x = torch.randn(40, 3, dtype=torch.float64)
    picture = plots.embedding(x, x[:, 0], first=2, second=1, label="loss")
    np.testing.assert_array_equal(picture.x, x[:, [2, 1]].numpy())
    assert picture.figure.axes[1].get_ylabel() == "loss"
    with pytest.raises(TorchscapeError, match="only 3"):
        plots.embedding(x, second=3)


def test_a_free_energy_stops_where_nothing_was_seen():
    value = torch.tensor([torch.inf, 1.0, 0.0, 1.0])
    picture = plots.free_energy_curve(torch.arange(4.0), value, torch.tensor([torch.inf, 0.1, 0.1, 0.1]))
    drawn = picture.axes.lines[0].get_ydata()
    assert np.isnan(drawn[0])
    assert drawn[1:].tolist() == [1.0, 0.0, 1.0]
