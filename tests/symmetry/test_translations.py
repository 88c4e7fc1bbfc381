"""Periods and invariant directions: against enumeration of shifts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from torchscape import FunctionPotential
from torchscape.errors import PotentialError
from torchscape.symmetry import Inversion, Translations

TURN = 2 * math.pi


def pairs(d: int, n: int = 60):
    g = torch.Generator().manual_seed(d)
    return (5 * torch.randn(n, d, generator=g, dtype=torch.float64) for _ in range(2))


def by_enumeration(difference, p, directions):
    """The shortest of all images within two turns of the rounded one."""
    base = difference - (difference / p).round() * p
    best = torch.full((len(base),), torch.inf, dtype=torch.float64)
    for n in itertools.product(range(-2, 3), repeat=base.shape[1]):
        e = base - p * torch.tensor(n, dtype=torch.float64)
        e = e - (e @ directions.T) @ directions
        best = torch.minimum(best, e.norm(dim=1))
    return best


@pytest.mark.parametrize("d", [2, 3, 4])
def test_closest_image_of_angles_with_a_common_rotation_is_exact(d):
    g = Translations(d, periods=TURN, directions=[[3.0] * d])
    a, b = pairs(d)
    exact = by_enumeration(a - b, torch.full((d,), TURN, dtype=torch.float64), g.directions)
    assert torch.allclose(g.distance(a, b), exact, atol=1e-12)


def test_closest_image_with_periods_alone():
    periods = torch.tensor([1.0, 2.5, 7.0], dtype=torch.float64)
    g = Translations(3, periods=periods)
    a, b = pairs(3)
    exact = by_enumeration(a - b, periods, torch.zeros(0, 3, dtype=torch.float64))
    assert torch.allclose(g.distance(a, b), exact, atol=1e-12)


@pytest.mark.parametrize(
    "group",
    [
        Translations(4, periods=TURN),
        Translations(4, periods=[TURN, None, 1.0, 0]),
        Translations(4, directions=[[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]),
        Translations(4, periods=TURN, directions=[[1.0, 1.0, 1.0, 1.0]]),
        Translations(4, periods=[TURN, TURN, 1.0, None], directions=[[1.0, -1.0, 0.0, 2.0]]),
    ],
)
def test_group(group):
    a, b = pairs(4)
    key = torch.arange(len(a))
    image = group.random_image(b, key)
    assert group.distance(b, image).max() < 1e-12
    assert torch.allclose(group.distance(a, b), group.distance(a, image), atol=1e-10)
    assert torch.allclose(group.invariants(b), group.invariants(image), atol=1e-12)
    apart = (group.invariants(a) - group.invariants(b)).norm(dim=1)
    assert bool((apart <= group.distance(a, b) + 1e-12).all())
    assert group.distance(b, group.canonical(b)).max() < 1e-12
    modes = group.zero_modes(a)
    assert torch.allclose(modes[0] @ modes[0].T, torch.eye(modes.shape[1], dtype=torch.float64), atol=1e-12)


def test_an_aligned_point_that_needs_no_shift_stays_bit_for_bit():
    a, b = pairs(3)
    b = a + 1e-3 * b
    assert torch.equal(Translations(3, periods=1e3).align(a, b), b + ((a - b) - (a - b)))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"periods": [1.0]}, "one period for each"),
        ({"periods": -1.0}, "positive"),
        ({"directions": [[1.0, 0.0, 0.0]]}, "vectors of 2"),
        ({"directions": [[1.0, 0.0], [2.0, 0.0]]}, "depend on each other"),
        ({"directions": [[0.0, 0.0]]}, "zero"),
    ],
)
def test_what_makes_no_sense_is_refused(options, word):
    with pytest.raises(PotentialError, match=word):
        Translations(2, **options)


class TestPotential:
    def u(self, **options):
        return FunctionPotential(lambda x: x[:, 0].cos() + (x[:, 1] - x[:, 2]) ** 2, 3, batched=True, **options)

    def test_starts_come_from_one_period(self):
        x = self.u(periods=[TURN, None, None]).sample(2000)
        assert 0 <= x[:, 0].min() < 0.1
        assert TURN - 0.1 < x[:, 0].max() <= TURN
        assert x[:, 1].min() < -1
        assert torch.equal(x[:, 1:], self.u(length_scale=0.1 * TURN).sample(2000)[:, 1:])

    def test_the_fingerprint_tells_them_apart(self):
        assert self.u().fingerprint() != self.u(periods=[TURN, None, None]).fingerprint()

    def test_false_claims_are_refused(self):
        with pytest.raises(PotentialError, match="coordinate 0 is shifted by its period 6"):
            self.u(periods=[6.0, None, None])
        with pytest.raises(PotentialError, match="along direction 0"):
            self.u(symmetry=Translations(3, directions=[[0.0, 1.0, -1.0]]))
        with pytest.raises(PotentialError, match="walls"):
            self.u(periods=[TURN, None, None], bounds=[(0, TURN), (-1, 1), (-1, 1)])
        with pytest.raises(PotentialError, match="beside a symmetry of kind Inversion"):
            self.u(periods=TURN, symmetry=Inversion())
