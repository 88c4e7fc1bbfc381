"""Distances, degeneracies and invariants of networks, against enumeration of the whole group."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from neural_cases import ConvNet, PlainAttention, Residual, case, mlp
from scipy.optimize import linear_sum_assignment
from torch import nn

from torchscape import random
from torchscape.symmetry.action import Move
from torchscape.symmetry.assignment import _augmenting_paths, assign

SHALLOW = mlp(2, 3, 2)
RELU = mlp(2, 3, 2, activation=nn.ReLU)
DEEP = mlp(2, 3, 2, 2)
WIDE = mlp(4, 8, 8, 8, 3)


def every_image(one, x: torch.Tensor) -> torch.Tensor:
    """All images of one row under permutations and signs, by going through the whole group: [images D]."""
    rows = x[None]
    for action in one.symmetry.parts(x)[0]:
        n, s = action.group.size, action.group.n_signs
        permutations = torch.tensor(list(itertools.permutations(range(n))))
        signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=n * s)), dtype=x.dtype).reshape(-1, n, s)
        moves = [(p, t) for p in permutations for t in signs]
        p, t = torch.stack([m[0] for m in moves]), torch.stack([m[1] for m in moves])
        count = len(rows)
        move = Move(p.repeat(count, 1)[:, None], t.repeat(count, 1, 1)[:, None] if s else None)
        rows = action.apply(rows.repeat_interleave(len(moves), 0), move)
    return rows


def n_distinct(rows: torch.Tensor) -> int:
    return len(torch.unique((rows * 1e6).round() + 0.0, dim=0))


seeds = st.integers(0, 2**31 - 1)


class TestOneHiddenLayer:
    @settings(max_examples=30, deadline=None)
    @given(seeds)
    def test_the_distance_is_the_minimum_over_the_whole_group(self, seed):
        a, b = SHALLOW.points(2, seed)
        smallest = (every_image(SHALLOW, b) - a).norm(dim=1).min()
        assert SHALLOW.symmetry.distance(a[None], b[None]).item() == pytest.approx(smallest.item(), rel=1e-12)

    def test_four_units(self):
        one = mlp(3, 4, 1)
        a, b = one.points(2, 5)
        smallest = (every_image(one, b) - a).norm(dim=1).min()
        assert one.symmetry.distance(a[None], b[None]).item() == pytest.approx(smallest.item(), rel=1e-12)

    @settings(max_examples=20, deadline=None)
    @given(seeds)
    def test_the_aligned_image_is_an_image(self, seed):
        a, b = SHALLOW.points(2, seed)
        image = SHALLOW.symmetry.align(a[None], b[None])
        assert (every_image(SHALLOW, b) - image).norm(dim=1).min() < 1e-12

    @settings(max_examples=20, deadline=None)
    @given(seeds)
    def test_with_scales_the_distance_is_a_metric_on_orbits(self, seed):
        a, b, c = RELU.points(3, seed)[:, None]
        d = RELU.symmetry.distance
        moved = [RELU.symmetry.random_image(z, torch.tensor([seed + k])) for k, z in enumerate((a, b))]
        assert d(*moved).item() == pytest.approx(d(a, b).item(), rel=1e-9)
        assert d(a, b).item() == pytest.approx(d(b, a).item(), rel=1e-9)
        assert d(a, c) <= d(a, b) + d(b, c) + 1e-12

    def test_with_scales_the_least_norm_is_the_minimum_over_scales(self):
        """sqrt(2 |v| |w|) for each unit, by a fine grid over c as well."""
        x = RELU.points(5, 1)
        units = x[:, RELU.symmetry.parts(x)[0][0].bundles[0].coordinates[0]]
        out = x[:, RELU.symmetry.parts(x)[0][0].bundles[1].coordinates[0]]
        v, w = units.norm(dim=2)[..., None], out.norm(dim=2)[..., None]
        c = torch.logspace(-2, 2, 20001, dtype=x.dtype)
        least = ((c * v) ** 2 + (w / c) ** 2).amin(2).sum(1)
        y = RELU.symmetry.gauge(x).y
        assert torch.allclose(y[:, :15].square().sum(1), least, rtol=1e-6)

    def test_aligned_relu_networks_compute_the_same_and_keep_the_gauge_of_the_reference(self):
        a, b = RELU.points(6, 1), RELU.points(6, 2)
        image = RELU.symmetry.align(a, b)
        assert torch.allclose(RELU.outputs(image), RELU.outputs(b), rtol=1e-10)
        assert torch.allclose(RELU.symmetry.align(a, a), a, rtol=1e-10)


class TestRecognition:
    @pytest.mark.parametrize("one", [SHALLOW, RELU, DEEP, WIDE], ids=["shallow", "relu", "deep", "wide"])
    def test_random_images_are_recognised_and_different_points_are_not(self, one):
        x = one.points(1000, 11)
        image = one.symmetry.random_image(x, random.fold(3, torch.arange(1000)))
        assert (one.symmetry.distance(x, image) <= 1e-10).all()
        some = x[:100]
        assert (one.symmetry.distance(some, image[:100].roll(1, 0)) > 0.1).all()

    @pytest.mark.parametrize(
        "one",
        [
            case(Residual(), torch.randn(5, 3)),
            case(ConvNet("pairs"), torch.randn(2, 2, 4, 4)),
            case(PlainAttention(), torch.randn(2, 4, 3)),
        ],
        ids=["residual", "conv", "attention"],
    )
    def test_in_every_architecture(self, one):
        x = one.points(30, 11)
        image = one.symmetry.random_image(x, random.fold(3, torch.arange(30)))
        assert (one.symmetry.distance(x, image) <= 1e-10).all()
        assert (one.symmetry.distance(x[:10], x[:10].roll(1, 0)) > 0.1).all()

    @pytest.mark.parametrize("one", [SHALLOW, RELU, DEEP, WIDE], ids=["shallow", "relu", "deep", "wide"])
    def test_the_canonical_form_is_one_point_of_the_orbit(self, one):
        x = one.points(200, 12)
        image = one.symmetry.random_image(x, random.fold(4, torch.arange(200)))
        canonical = one.symmetry.canonical(x)
        assert torch.allclose(canonical, one.symmetry.canonical(image), atol=1e-10)
        assert torch.allclose(one.outputs(canonical[:5]), one.outputs(x[:5]), atol=1e-10)

    def test_a_row_never_notices_its_neighbours(self):
        a, b = WIDE.points(5, 1), WIDE.points(5, 2)
        together = WIDE.symmetry.align(a, b)
        alone = torch.cat([WIDE.symmetry.align(a[i : i + 1], b[i : i + 1]) for i in range(5)])
        assert torch.equal(together, alone)

    def test_a_row_that_is_not_finite_leaves_the_others_untouched(self):
        a, b = WIDE.points(4, 1), WIDE.points(4, 2)
        right = WIDE.symmetry.distance(a, b)
        b[1, 3] = torch.nan
        wrong = WIDE.symmetry.distance(a, b)
        assert torch.equal(wrong[[0, 2, 3]], right[[0, 2, 3]])
        assert not wrong[1] < torch.inf

    def test_one_point_against_many(self):
        a, b = WIDE.points(1, 1), WIDE.points(10, 2)
        one_by_one = WIDE.symmetry.distance(a.repeat(10, 1), b)
        assert torch.allclose(WIDE.symmetry.distance(a.expand(10, -1), b), one_by_one, rtol=1e-12)


@pytest.mark.parametrize("one", [SHALLOW, RELU, DEEP, WIDE], ids=["shallow", "relu", "deep", "wide"])
def test_empty_batches(one):
    """Regression: connecting minima broke off once every pair had been tried, for there was nothing to align."""
    symmetry, d = one.symmetry, one.symmetry.ndim
    none, key = torch.empty(0, d, dtype=torch.float64), torch.empty(0, dtype=torch.int64)
    for points in (symmetry.align(none, none), symmetry.canonical(none), symmetry.random_image(none, key)):
        assert points.shape == (0, d)
    for numbers in (symmetry.distance(none, none), symmetry.log_degeneracy(none)):
        assert numbers.shape == (0,)
    assert len(symmetry.invariants(none)) == len(symmetry.zero_modes(none)) == 0


def weight_matching(one, a: torch.Tensor, b: torch.Tensor, order: list[int]) -> torch.Tensor:
    """Ainsworth, Hayase & Srinivasa 2023, algorithm 1, written down plainly: permutations only, no restarts."""
    actions = one.symmetry.parts(b)[0]
    moved = True
    while moved:
        moved = False
        for k in order:
            n = actions[k].group.size
            gain = np.zeros((n, n))
            for bundle in actions[k].bundles:
                gain += (a[bundle.coordinates[0]] @ b[bundle.coordinates[0]].T).numpy()
            rows, columns = linear_sum_assignment(gain, maximize=True)
            if gain[rows, columns].sum() > np.trace(gain) + 1e-12:
                b = actions[k].apply(b[None], Move(torch.from_numpy(columns)[None, None]))[0]
                moved = True
    return (a - b).norm()


class TestDeep:
    def test_at_least_as_close_as_weight_matching_on_every_pair(self):
        a, b = WIDE.points(40, 21), WIDE.points(40, 22)
        generator = torch.Generator().manual_seed(0)
        order = [torch.randperm(3, generator=generator).tolist() for _ in range(40)]
        published = torch.stack([weight_matching(WIDE, *pair) for pair in zip(a, b, order, strict=True)])
        ours = WIDE.symmetry.distance(a, b)
        assert (ours <= published * (1 + 1e-12)).all()

    def test_at_least_as_close_without_signs(self):
        """With relu and l2 the group is that of the published algorithm itself."""
        one = mlp(4, 8, 8, 3, activation=nn.Sigmoid)
        a, b = one.points(40, 21), one.points(40, 22)
        published = torch.stack([weight_matching(one, *pair, [0, 1]) for pair in zip(a, b, strict=True)])
        ours = one.symmetry.distance(a, b)
        assert (ours <= published * (1 + 1e-12)).all()
        assert (ours < published * (1 - 1e-12)).float().mean() > 0.2

    def test_a_small_deep_network_against_enumeration(self):
        a, b = DEEP.points(40, 31), DEEP.points(40, 32)
        exact = torch.stack([(every_image(DEEP, y) - x).norm(dim=1).min() for x, y in zip(a, b, strict=True)])
        ours = DEEP.symmetry.distance(a, b)
        assert (ours >= exact * (1 - 1e-12)).all()
        assert (ours <= exact * (1 + 1e-12)).float().mean() >= 0.95


class TestDegeneracy:
    @pytest.mark.parametrize("one", [SHALLOW, DEEP], ids=["shallow", "deep"])
    def test_in_general_position_it_is_the_order_of_the_group(self, one):
        x = one.points(3, 41)
        expected = math.prod(math.factorial(g.size) * 2**g.size for g in one.symmetry.groups)
        assert n_distinct(every_image(one, x[0])) == expected
        assert torch.allclose(one.symmetry.log_degeneracy(x).exp(), torch.tensor(float(expected)).double())

    @settings(max_examples=40, deadline=None)
    @given(seeds, st.integers(0, 5))
    def test_special_points_against_enumeration(self, seed, kind):
        """Duplicate units, units equal up to sign, dead units, and all of these at once."""
        x = special(SHALLOW, SHALLOW.points(1, seed)[0], kind)
        assert SHALLOW.symmetry.log_degeneracy(x[None]).exp().item() == pytest.approx(
            n_distinct(every_image(SHALLOW, x))
        )

    @settings(max_examples=30, deadline=None)
    @given(seeds, st.integers(0, 5), st.integers(0, 5))
    def test_special_points_of_a_deep_network_against_enumeration(self, seed, first, second):
        x = special(DEEP, DEEP.points(1, seed)[0], first, group=0)
        x = special(DEEP, x, second, group=1)
        assert DEEP.symmetry.log_degeneracy(x[None]).exp().item() == pytest.approx(
            n_distinct(every_image(DEEP, x))
        )

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=23, max_size=23))
    def test_points_full_of_coincidences(self, values):
        """Weights in {-1, 0, 1}: units of both layers that have to move together."""
        x = torch.tensor(values, dtype=torch.float64)
        assert len(x) == DEEP.layout.ndim
        assert DEEP.symmetry.log_degeneracy(x[None]).exp().item() == pytest.approx(
            n_distinct(every_image(DEEP, x))
        )

    def test_two_layers_that_move_together(self):
        """W2 = [[a, b], [b, a]] and everything else alike: only both swaps at once leave the point unchanged."""
        one = mlp(1, 2, 2, 1)
        parts = {"0.weight": [[0.3], [0.3]], "0.bias": [0.1, 0.1], "2.weight": [[0.7, 0.2], [0.2, 0.7]]}
        parts |= {"2.bias": [0.5, 0.5], "4.weight": [[1.1, 1.1]], "4.bias": [0.4]}
        x = one.layout.flatten({k: torch.tensor(v, dtype=torch.float64) for k, v in parts.items()})
        assert n_distinct(every_image(one, x)) == 32
        assert one.symmetry.log_degeneracy(x[None]).exp().item() == pytest.approx(32.0)

    def test_a_residual_stream_against_enumeration(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b, self.c = nn.Linear(1, 3), nn.Linear(3, 3), nn.Linear(3, 1)

            def forward(self, x):
                h = torch.tanh(self.a(x))
                return self.c(h + torch.tanh(self.b(h)))

        one = case(Net(), torch.randn(4, 1))
        x = one.points(12, 5).round() * 0.5
        expected = [n_distinct(every_image(one, row)) for row in x]
        assert one.symmetry.log_degeneracy(x).exp().tolist() == pytest.approx(expected)

    def test_dead_relu_units(self):
        """A unit that nothing reads has no sign, and any number of them may be exchanged: 3! / 2! images."""
        x = RELU.points(1, 7)
        weight = x[:, RELU.layout.coordinates("2.weight")].reshape(2, 3).clone()
        weight[:, :2] = 0.0
        x[:, RELU.layout.coordinates("2.weight")] = weight.reshape(1, -1)
        assert RELU.symmetry.log_degeneracy(x).exp().item() == pytest.approx(3.0)


def special(one, x: torch.Tensor, kind: int, group: int = 0) -> torch.Tensor:
    """A point with units that are equal (bit 0), equal up to sign (bit 1) or dead (bit 2)."""
    x = x.clone()
    for bundle in one.symmetry.parts(x)[0][group].bundles:
        c = bundle.coordinates[0]
        if kind & 1:
            x[c[1]] = x[c[0]]
        if kind & 2:
            x[c[-1]] = -x[c[0]] if any(bundle.signs) else x[c[0]]
        if kind & 4:
            x[c[0]] = 0.0
    return x


class TestInvariants:
    @settings(max_examples=30, deadline=None)
    @given(seeds, st.sampled_from(["shallow", "relu", "deep", "wide"]), st.sampled_from([128, 9]))
    def test_they_are_invariant_and_1_lipschitz(self, seed, name, most):
        one = {"shallow": SHALLOW, "relu": RELU, "deep": DEEP, "wide": WIDE}[name]
        symmetry = one.symmetry.replaced(max_invariants=most)
        a, b = one.points(2, seed)[:, None]
        near = a + 0.01 * b
        image = symmetry.random_image(a, torch.tensor([seed]))
        assert torch.allclose(symmetry.invariants(a), symmetry.invariants(image), atol=1e-9)
        for other in (b, near):
            apart = (symmetry.invariants(a) - symmetry.invariants(other)).norm()
            assert apart <= symmetry.distance(a, other) * (1 + 1e-9)

    def test_there_are_no_more_than_asked_for(self):
        assert WIDE.symmetry.invariants(WIDE.points(1)).shape[1] <= 128 + 30

    def test_they_tell_most_points_apart(self):
        """A lower bound that is never far below the distance is what makes matching cheap."""
        x = WIDE.points(20, 1)
        apart = (WIDE.symmetry.invariants(x) - WIDE.symmetry.invariants(x.roll(1, 0))).norm(dim=1)
        assert (apart > 0.15 * WIDE.symmetry.distance(x, x.roll(1, 0))).all()


class TestZeroModes:
    def test_relu_has_one_for_every_unit(self):
        x = RELU.points(3, 1)
        modes = RELU.symmetry.zero_modes(x)
        assert modes.shape == (3, 3, RELU.layout.ndim)
        assert torch.allclose(modes @ modes.mT, torch.eye(3, dtype=x.dtype).expand(3, 3, 3), atol=1e-12)
        step = 1e-6 * modes[:, 0]
        slope = (RELU.outputs(x + step) - RELU.outputs(x - step)) / 2e-6
        assert slope.abs().max() < 1e-7 * RELU.outputs(x).abs().max()

    def test_a_dead_unit_has_none(self):
        x = RELU.points(1, 1)
        coordinates = torch.cat([b.coordinates[0] for b in RELU.symmetry.parts(x)[0][0].bundles], 1)
        x[:, coordinates[1]] = 0.0
        assert RELU.symmetry.zero_modes(x).norm(dim=2).sort().values[0].tolist() == pytest.approx([0.0, 1.0, 1.0])

    def test_the_outputs_do_not_change_along_them(self):
        """Softmax shift and relu scales of a small classifier: the log-probabilities stay, to first order."""
        one = mlp(2, 3, 3, activation=nn.ReLU, shift=True)
        x = one.points(1, 2)
        modes = one.symmetry.zero_modes(x)
        assert modes.shape[1] == 3 + 4
        for mode in modes[0]:
            t = 1e-5
            up, down = one.outputs(x + t * mode).log_softmax(2), one.outputs(x - t * mode).log_softmax(2)
            assert ((up - down) / (2 * t)).abs().max() < 1e-8

    def test_a_tanh_network_has_none(self):
        assert SHALLOW.symmetry.zero_modes(SHALLOW.points(2)).shape == (2, 0, SHALLOW.layout.ndim)


class TestShift:
    def test_points_that_differ_by_a_shift_are_the_same(self):
        one = mlp(2, 3, 3, shift=True)
        x = one.points(5, 1)
        image = one.symmetry.random_image(x, random.fold(0, torch.arange(5)))
        assert (one.symmetry.distance(x, image) < 1e-10).all()
        assert torch.allclose(one.symmetry.align(x, image), x, atol=1e-10)
        before, after = (one.outputs(z).log_softmax(2) for z in (x, image))
        assert torch.allclose(before, after, atol=1e-10)


class TestAssignment:
    @settings(max_examples=40, deadline=None)
    @given(seeds, st.integers(1, 9), st.booleans())
    def test_every_way_agrees_with_scipy(self, seed, n, ties):
        gain = random.normal(random.fold(seed, torch.arange(6)), n * n).reshape(6, n, n)
        gain = gain.round() if ties else gain
        expected = [gain[i][linear_sum_assignment(gain[i], maximize=True)].sum().item() for i in range(6)]
        for solve in (assign, _augmenting_paths):
            p = solve(gain)
            assert (p.sort(1).values == torch.arange(n)).all()
            assert gain.gather(2, p[:, :, None]).sum((1, 2)).tolist() == pytest.approx(expected, abs=1e-12)

    def test_on_the_device(self, device, dtype):
        gain = random.normal(random.fold(0, torch.arange(20)), 49, dtype).reshape(20, 7, 7)
        assert torch.equal(assign(gain.to(device)).cpu(), assign(gain))


class TestDevices:
    def test_the_same_answers_on_every_device(self, device):
        a, b = WIDE.points(10, 1), WIDE.points(10, 2)
        there = WIDE.symmetry.distance(a.to(device), b.to(device))
        assert there.device.type == device.type
        assert torch.allclose(there.cpu(), WIDE.symmetry.distance(a, b), rtol=1e-9)

    def test_single_precision(self):
        x = SHALLOW.points(50, 3).float()
        image = SHALLOW.symmetry.random_image(x, random.fold(0, torch.arange(50)))
        assert image.dtype == torch.float32
        assert (SHALLOW.symmetry.distance(x, image) < 1e-5).all()
