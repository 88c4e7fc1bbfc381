"""Bands: tangents, forces and their maxima against what geometry says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from saddles.known import Wells

from torchscape import Bounds
from torchscape.errors import TorchscapeError
from torchscape.potentials import FunctionPotential, MuellerBrown
from torchscape.saddles import Band, band_heights
from torchscape.saddles.band import find_paths, interior
from torchscape.saddles.nudging import improved_tangent, nudged_force
from torchscape.saddles.peaks import cubic_maximum, find_peaks


def test_tangents_point_to_the_higher_neighbour_and_mix_at_extrema():
    """Henkelman & Jónsson's weights at a maximum: the larger energy difference goes with the higher side."""
    x = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [2.0, 1.0]]], dtype=torch.float64)
    rising = improved_tangent(x, torch.tensor([[0.0, 1.0, 2.0, 3.0]], dtype=torch.float64))
    assert rising[0, 1].tolist() == [0.0, 1.0]
    falling = improved_tangent(x, torch.tensor([[3.0, 2.0, 1.0, 0.0]], dtype=torch.float64))
    assert falling[0, 1].tolist() == [1.0, 0.0]
    # a maximum at image 1: differences 3 behind, 1 ahead; the neighbour ahead is higher (2 > 0)
    peak = improved_tangent(x, torch.tensor([[0.0, 3.0, 2.0, 0.0]], dtype=torch.float64))
    mixed = torch.tensor([1.0, 3.0], dtype=torch.float64) / math.sqrt(10)
    assert torch.allclose(peak[0, 1], mixed)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_the_force_has_no_true_part_along_the_path_and_no_spring_along_the_true_force(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    energy = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    grad = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    inner = interior(torch.tensor([6, 5]), 6)
    weak, across = nudged_force(x, energy, grad, torch.zeros(2, dtype=torch.float64), inner)
    strong, _ = nudged_force(x, energy, grad, torch.ones(2, dtype=torch.float64), inner)
    t = improved_tangent(x, energy)
    assert (weak * t).sum(2).abs().max() < 1e-10
    assert torch.equal(weak, across)
    springs = strong - weak
    assert (springs * across).sum(2).abs().max() < 1e-9
    assert springs[1, 4:].abs().max() == 0


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 0.95), st.floats(0.1, 10.0), st.floats(-3.0, 3.0))
@example(0.75, 1.0, 0.0)  # where a segment without a maximum is said to have its highest point
@example(0.25, 1.0, 0.0)
def test_a_cubics_maximum_is_found_exactly(u, depth, bend):
    """f' = (u - s)(depth + bend' s): a cubic with its maximum at u and no other turning point in (0, 1)."""
    bend = bend * depth / 4
    s = torch.tensor([0.0, 1.0, u], dtype=torch.float64)
    f = depth * u * s + (bend * u - depth) * s**2 / 2 - bend * s**3 / 3
    slope = (u - s) * (depth + bend * s)
    position, height = cubic_maximum(f[0:1], f[1:2], slope[0:1], slope[1:2])
    assert position.item() == pytest.approx(u, abs=1e-6)
    assert height.item() == pytest.approx(f[2].item(), abs=1e-6 * depth)


def test_a_band_finds_both_barriers_of_a_bent_path():
    u = MuellerBrown(bounded=False)
    low = u.minima
    a = torch.tensor([low[0].x], dtype=torch.float64)
    b = torch.tensor([low[1].x], dtype=torch.float64)
    ((pairs, path),) = find_paths(u, a, b, Band(min_images=15, max_steps=300, steps_per_image=100.0, tol=0.02))
    assert pairs.tolist() == [0]
    peaks = find_peaks(path)
    known = torch.tensor([s.x for s in u.saddles], dtype=torch.float64)
    nearest = torch.cdist(known, peaks.x).amin(1)
    assert nearest.max() < 0.08
    assert peaks.owner.unique().tolist() == [0]


def test_bands_of_different_lengths_share_a_batch_without_noticing():
    u = Wells(ndim=5, n_wells=3)
    a = torch.cat([u.point(-1, -1, -1)] * 3)
    b = torch.cat([u.point(1, -1, -1), u.point(1, 1, -1), u.point(1, 1, 1)])
    options = Band(density=5.0, min_images=3)
    together = {
        int(k): path[i : i + 1] for pairs, path in find_paths(u, a, b, options) for i, k in enumerate(pairs)
    }
    for row in range(3):
        ((_, alone),) = find_paths(u, a[row : row + 1], b[row : row + 1], options)
        n = int(alone.n_images)
        assert torch.allclose(together[row].x[0, :n], alone.x[0, :n], atol=1e-9)


def test_images_grow_with_the_distance_and_with_finer():
    options = Band(density=2.0, min_images=3, max_images=20)
    length = torch.tensor([0.1, 2.0, 5.0, 100.0], dtype=torch.float64)
    assert options.n_images(length, 1.0).tolist() == [5, 6, 12, 22]
    assert options.finer(2).n_images(length, 1.0).tolist() == [8, 10, 22, 42]


def test_images_stay_in_the_box():
    """The straight path between the wells would be lowered through the wall at y = 0.3."""
    u = FunctionPotential(
        lambda x: (x[0] ** 2 - 1) ** 2 + (x[1] - (1 - x[0] ** 2)) ** 2, 2, bounds=Bounds.of([(-2, 2), (-1, 0.3)])
    )
    ends = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    ((_, path),) = find_paths(u, ends[:1], ends[1:])
    assert float(path.x[..., 1].max()) == pytest.approx(0.3)
    free = FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + (x[1] - (1 - x[0] ** 2)) ** 2, 2)
    ((_, path),) = find_paths(free, ends[:1], ends[1:])
    assert float(path.x[..., 1].max()) > 0.6


def test_a_bowed_path_leaves_the_symmetric_line():
    """On the straight line the force across it vanishes by symmetry, and the band would cross a maximum."""

    def ring(x):
        r2 = x[0] ** 2 + x[1] ** 2
        return (r2 - 1) ** 2 + 0.1 * x[1] ** 2

    u = FunctionPotential(ring, 2, length_scale=0.3)
    ends = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    ((_, straight),) = find_paths(u, ends[:1], ends[1:])
    assert float(straight.energy.max()) == pytest.approx(1.0, abs=0.05)
    ((_, bowed),) = find_paths(u, ends[:1], ends[1:], Band(bow=0.1, max_steps=200, steps_per_image=50.0))
    assert float(bowed.energy.max()) < 0.15


def test_band_heights_look_between_the_images():
    """Two images straddle the top of a double well: U is 0.79 there, and 1 between them. A curved way in the plane
    is found, and the height is that of the saddle from above, whatever the line does."""
    u = FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2, 1)
    ends = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    two = Band(min_images=2, max_images=2)
    assert band_heights(u, ends[:1], ends[1:], band=two).item() == pytest.approx(1.0, abs=1e-9)
    # two images at a third and two thirds of the way, as far as their springs have settled
    assert band_heights(u, ends[:1], ends[1:], band=two, n_points=2).item() == pytest.approx(64 / 81, abs=0.02)

    bent = FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + 4 * (x[1] - 2 * (1 - x[0] ** 2)) ** 2, 2)
    ends = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    several = band_heights(bent, ends, ends.flip(0), band=Band(min_images=25, tol=0.01))
    assert bent.energy(torch.zeros(1, 2, dtype=torch.float64)).item() == 17.0  # on the line
    assert bool((several > 1.0 - 1e-6).all())
    assert bool((several < 1.1).all())
    with pytest.raises(TorchscapeError, match="n_points"):
        band_heights(u, ends[:1, :1], ends[1:, :1], n_points=1)
