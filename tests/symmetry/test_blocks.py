"""Permutation of blocks, against enumeration of all of them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.symmetry import BlockPermutation


def rows(n: int, d: int, seed: int = 0, device="cpu") -> torch.Tensor:
    return random.normal(random.fold(seed, torch.arange(n, device=device)), d)


def images(x: torch.Tensor, k: int) -> torch.Tensor:
    blocks = x.unflatten(1, (k, -1))
    return torch.stack([blocks[:, list(p)].flatten(1) for p in itertools.permutations(range(k))])


@pytest.mark.parametrize(("k", "size"), [(1, 3), (3, 2), (6, 1)])
def test_the_closest_image_of_all(k, size, device):
    g = BlockPermutation(k, size)
    a, b = rows(20, k * size, 1, device), 3.0 + rows(20, k * size, 2, device)
    best = (images(b, k) - a).norm(dim=2).amin(0)
    assert torch.allclose(g.distance(a, b), best)
    assert torch.allclose(
        g.distance(a, g.random_image(a, random.fold(5, torch.arange(20, device=device)))), best * 0
    )


def test_canonical_and_invariants_are_those_of_the_orbit():
    g = BlockPermutation(4, 2)
    x = rows(10, 8)
    x[5, 2:4:1] = torch.stack([x[5, 0], x[5, 3] + 1])  # a tie in the first coordinate
    other = 0.3 * rows(10, 8, 9) + x
    for image in images(x, 4):
        assert torch.equal(g.canonical(image), g.canonical(x))
        assert torch.equal(g.invariants(image), g.invariants(x))
    assert ((g.invariants(x) - g.invariants(other)).norm(dim=1) <= g.distance(x, other) + 1e-12).all()


def test_images_are_counted_without_repetition():
    x = torch.tensor([[0.0, 1, 2, 3], [0, 0, 2, 3], [0, 5, 5, 0], [2, 2, 2, 5], [1, 1, 1, 1]], dtype=torch.float64)
    distinct = [len(torch.unique(orbit, dim=0)) for orbit in images(x, 4).unbind(1)]
    assert torch.allclose(BlockPermutation(4, 1).log_degeneracy(x).exp(), torch.tensor(distinct).double())
    assert distinct == [24, 12, 6, 4, 1]
    assert BlockPermutation(200, 1).log_degeneracy(rows(1, 200)).item() == pytest.approx(math.lgamma(201))


def test_a_sick_row_disturbs_no_other():
    g = BlockPermutation(6, 2)
    a, b = rows(3, 12, 1), rows(3, 12, 2)
    whole = g.distance(a, b)
    b[1] = torch.nan
    assert torch.equal(g.distance(a, b)[[0, 2]], whole[[0, 2]])


def test_no_blocks():
    with pytest.raises(PotentialError, match="n_blocks=0; give a whole number"):
        BlockPermutation(0, 2)
