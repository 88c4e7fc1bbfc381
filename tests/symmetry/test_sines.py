"""The product of two sines: the group against its generators, written out and applied by brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.symmetry import Inversion, SineProductSymmetry

SPACING = 3 * math.pi / 99


def points(n, seed=0):
    """Uniform over the compact domain."""
    u = random.uniform(random.fold(seed, torch.arange(n)), 5)
    top = math.pi / SPACING
    width = torch.tensor([4.0, 2 * top, 2 * math.pi, 2 * top, 2 * math.pi], dtype=torch.float64)
    return (u - 0.5) * width


def model(q):
    x = SPACING * torch.arange(100, dtype=torch.float64)
    q1, q2, q3, q4, q5 = q[:, :, None].unbind(1)
    return torch.exp(-q1 * x) * torch.sin(q2 * x + q3) * torch.sin(q4 * x + q5)


def swap(q):
    return q[:, [0, 3, 4, 1, 2]]


def reverse_first(q):
    return torch.stack([q[:, 0], -q[:, 1], math.pi - q[:, 2], q[:, 3], q[:, 4]], 1)


def shift(*amounts):
    return lambda q: q + torch.tensor([0.0, *amounts], dtype=torch.float64)


TURN, ALIAS = 2 * math.pi, 2 * math.pi / SPACING
GENERATORS = {
    "swap": swap,
    "reverse": reverse_first,
    "reverse the other": lambda q: swap(reverse_first(swap(q))),
    "both phases": shift(0, TURN / 2, 0, TURN / 2),
    "one phase": shift(0, TURN, 0, 0),
    "alias": shift(ALIAS, 0, 0, 0),
    "alias of both": shift(ALIAS / 2, 0, ALIAS / 2, 0),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_leaves_the_model_unchanged_and_is_known(name):
    q = points(50)
    image = GENERATORS[name](q)
    torch.testing.assert_close(model(image), model(q), rtol=1e-9, atol=1e-9)
    g = SineProductSymmetry(SPACING)
    assert g.distance(q, image).max() < 1e-10
    torch.testing.assert_close(g.canonical(image), g.canonical(q), atol=1e-9, rtol=0)
    torch.testing.assert_close(g.invariants(image), g.invariants(q), atol=1e-10, rtol=0)


def closest_by_enumeration(a, b):
    """Every word of swap and reversals, then every shift within reach; the least distance."""
    words = [(), (swap,), (reverse_first,), (reverse_first, swap), (swap, reverse_first)]
    words += [(swap, reverse_first, swap), (reverse_first, swap, reverse_first), (reverse_first, swap) * 2]
    pairs = [(i, j) for i, j in itertools.product(range(-7, 8), repeat=2) if (i - j) % 2 == 0]
    turns = 0.5 * torch.tensor(pairs, dtype=torch.float64)
    least = torch.full((len(a),), torch.inf, dtype=torch.float64)
    for word in words:
        image = b
        for step in word:
            image = step(image)
        square = (image[:, 0] - a[:, 0]) ** 2
        for columns, period in (([1, 3], ALIAS), ([2, 4], TURN)):
            moved = image[:, None, columns] + period * turns
            square = square + (moved - a[:, None, columns]).square().sum(2).amin(1)
        least = torch.minimum(least, square.sqrt())
    return least


def test_the_distance_is_exact():
    a, b = points(300, 1), points(300, 2)
    near = a + 0.1 * (b - a)
    g = SineProductSymmetry(SPACING)
    for other in (b, g.random_image(near, random.fold(3, torch.arange(300)))):
        torch.testing.assert_close(g.distance(a, other), closest_by_enumeration(a, other), atol=1e-10, rtol=0)
        aligned = g.align(a, other)
        torch.testing.assert_close(model(aligned), model(other), rtol=1e-8, atol=1e-8)


def test_images_are_random_elements_of_the_group():
    """All elements and shifts turn up, the model stays, and invariants never move further than points."""
    q = points(1, 4).expand(400, -1)
    g = SineProductSymmetry(SPACING)
    image = g.random_image(q, random.fold(5, torch.arange(400)))
    torch.testing.assert_close(model(image), model(q), rtol=1e-8, atol=1e-8)
    without_shifts = SineProductSymmetry(SPACING).canonical(image)
    torch.testing.assert_close(without_shifts, without_shifts[:1].expand(400, -1), atol=1e-8, rtol=0)
    assert len(torch.unique((image / 1e-6).round(), dim=0)) > 300
    other = g.random_image(points(400, 6), random.fold(7, torch.arange(400)))
    gap = (g.invariants(image) - g.invariants(other)).norm(dim=1)
    assert (gap <= g.distance(image, other) + 1e-12).all()
    close = image + 1e-3 * random.normal(random.fold(8, torch.arange(400)), 5)
    gap = (g.invariants(image) - g.invariants(close)).norm(dim=1)
    assert (gap <= g.distance(image, close) + 1e-12).all()


def test_degeneracy_counts_distinct_images_in_a_cell():
    """Against images told apart pair by pair, modulo the lattice alone."""
    special = torch.tensor(
        [
            [0.1, 2.0, 0.3, 1.0, 0.2],  # nothing special
            [0.1, 1.0, 0.3, 1.0, 0.3],  # equal sines: c = 0 is its own opposite
            [0.1, 0.0, math.pi / 2, 2.0, 0.4],  # a constant factor: c = -d
            [0.1, 0.0, 0.0, 0.0, 0.0],  # nothing at all: c = 0, and d is half a turn, its own opposite too
            [0.1, 0.0, math.pi / 2, 0.0, math.pi / 2],  # a plain exponential: c = d = 0
        ],
        dtype=torch.float64,
    )
    g = SineProductSymmetry(SPACING)
    keys = random.fold(0, torch.arange(400))
    for q, expected in zip(special, [8, 4, 4, 2, 1], strict=True):
        image = g.random_image(q.expand(400, -1), keys)
        cosines = torch.stack([image[:, 1] - image[:, 3], image[:, 2] - image[:, 4]], 1)
        sums = torch.stack([image[:, 1] + image[:, 3], image[:, 2] + image[:, 4]], 1)
        phases = (
            TURN * torch.cat([cosines, sums], 1) / torch.tensor([ALIAS, TURN, ALIAS, TURN], dtype=torch.float64)
        )
        on_circles = torch.cat([phases.cos(), phases.sin()], 1)
        n = len(torch.unique((on_circles / 1e-6).round() + 0.0, dim=0))
        assert n == expected
        assert g.log_degeneracy(q[None]).exp().item() == pytest.approx(expected)


def test_without_a_grid_frequencies_are_what_they_are():
    g = SineProductSymmetry(None)
    q = points(20)
    aliased = GENERATORS["alias"](q)
    assert g.distance(q, aliased).min() > 1
    assert g.distance(q, GENERATORS["swap"](GENERATORS["both phases"](q))).max() < 1e-10
    image = g.random_image(q, random.fold(0, torch.arange(20)))
    assert g.distance(q, image).max() < 1e-10
    torch.testing.assert_close(g.canonical(image), g.canonical(q), atol=1e-9, rtol=0)
    assert (g.invariants(q) - g.invariants(image)).abs().max() < 1e-10
    with pytest.raises(PotentialError, match="spacing"):
        SineProductSymmetry(0.0)


def test_dtype_device_and_sick_rows(device, dtype):
    g = SineProductSymmetry(SPACING)
    q = points(6).to(device, dtype)
    q[2] = torch.nan
    image = g.random_image(q, random.fold(0, torch.arange(6, device=device)))
    for value in (image, g.align(q, image), g.canonical(q), g.invariants(q), g.log_degeneracy(q)):
        assert (value.dtype, value.device.type) == (dtype, device.type)
    well = [0, 1, 3, 4, 5]
    assert g.distance(q, image)[well].max() < 1e3 * torch.finfo(dtype).eps * 100
    torch.testing.assert_close(g.align(q, image)[well], g.align(q[well], image[well]))
    assert g.align(q[:0], q[:0]).shape == (0, 5)


def test_inversion(device, dtype):
    g = Inversion()
    key = random.fold(0, torch.arange(200, device=device))
    x = random.normal(key, 4, dtype)
    y = random.normal(random.fold(key, 1), 4, dtype)
    image = g.random_image(x, key)
    assert 60 < int((image == -x).all(1).sum()) < 140
    assert torch.equal(g.distance(x, image), torch.zeros_like(x[:, 0]))
    assert torch.equal(g.canonical(image), g.canonical(x))
    by_hand = torch.minimum((x - y).norm(dim=1), (x + y).norm(dim=1))
    torch.testing.assert_close(g.distance(x, y), by_hand)
    assert ((g.invariants(x) - g.invariants(y)).norm(dim=1) <= by_hand * (1 + 1e-6)).all()
    assert g.log_degeneracy(torch.cat([x[:1], 0 * x[:1]])).exp().round().tolist() == [2, 1]
