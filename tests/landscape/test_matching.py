"""Matching is a vectorised form of: take rows one by one, join the first representative that is the same."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from landscape_fixtures import Bowl, EvenBowl, points

from torchscape import Landscape, Potential
from torchscape.landscape import Matching
from torchscape.landscape.matching import Catalogue, Keys, Signature, leaders

seeds = st.integers(0, 2**31)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(seeds, st.integers(0, 12), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_leaders_are_those_of_a_loop_over_rows(seed, b, density):
    """Also where "same" is not transitive, and where the cheap test lets through more than the exact one."""
    g = generator(seed)
    same = torch.rand(b, b, generator=g) < density
    same = same & same.T
    similar = same | (torch.rand(b, b, generator=g) < density)
    expected: list[int] = []
    for i in range(b):
        earlier = [j for j in range(i) if expected[j] == j and same[i, j]]
        expected.append(earlier[0] if earlier else i)
    assert leaders(similar, lambda i, j: same[i, j]).tolist() == expected


def test_leaders_of_copies_need_one_comparison_each():
    asked = []

    def same(i, j):
        asked.append(len(i))
        return torch.ones(len(i), dtype=torch.bool)

    leaders(torch.ones(512, 512, dtype=torch.bool), same)
    assert sum(asked) == 511


@given(seeds, st.integers(0, 40), st.integers(0, 20))
@settings(deadline=None, max_examples=40)
def test_candidates_are_those_of_brute_force(seed, n, b):
    g = generator(seed)
    energy, signature = torch.randint(0, 5, (n,), generator=g).double(), torch.rand(n, 3, generator=g).double()
    catalogue = Catalogue(energy[: n // 2], signature[: n // 2])
    for k in range(n // 2, n):  # the rest one by one
        catalogue.append(energy[k : k + 1], signature[k : k + 1])
    e, s = torch.randint(0, 5, (b,), generator=g).double(), torch.rand(b, 3, generator=g).double()
    window = torch.rand(b, generator=g).double() * 2
    row, found = catalogue.candidates(Keys(e, s, window, 0.5))
    near = ((energy - e[:, None]).abs() <= window[:, None]) & (torch.cdist(s, signature) <= 0.5)
    pairs = torch.stack([row, found], 1).tolist()
    assert sorted(pairs) == near.nonzero().tolist()


@given(seeds, st.sampled_from([2, 40]))
@settings(deadline=None, max_examples=12)
def test_signatures_are_no_further_apart_than_points(seed, ndim):
    a, b = torch.randn(2, 50, ndim, generator=generator(seed), dtype=torch.float64)
    potential = EvenBowl(ndim)
    signature = Signature(potential)
    assert signature(a).shape[1] <= 16
    apart = (signature(a) - signature(b)).norm(dim=1)
    assert (apart <= potential.symmetry.distance(a, b) * (1 + 1e-12)).all()


@given(seeds, st.integers(1, 30), st.lists(st.integers(1, 29), max_size=4))
@settings(deadline=None, max_examples=12)
def test_order_and_batching_do_not_change_the_set_of_minima(seed, n, cuts):
    """For well separated minima, visited with noise far below the tolerances."""
    g = generator(seed)
    corners = torch.randint(0, 4, (n, 3), generator=g).double()
    rows = corners[torch.randint(0, n, (30,), generator=g)]
    rows = rows + 1e-9 * torch.randn(rows.shape, generator=g, dtype=torch.float64)
    distinct = len(rows.round().unique(dim=0))
    energy = torch.floor(rows.round().sum(1) / 3)  # many coincide, so distance has to decide

    order = torch.randperm(30, generator=g)
    splits = sorted({0, 30, *cuts})
    with Landscape.in_memory(Bowl(3)) as whole, Landscape.in_memory(Bowl(3)) as parts:
        ids = whole.add_minima(points(rows, energy))
        for first, last in itertools.pairwise(splits):
            some = order[first:last]
            parts.add_minima(points(rows[some], energy[some]))
        assert whole.n_minima == parts.n_minima == distinct
        assert torch.equal(ids, whole.find(points(rows, energy)))
        visits = [
            sorted(zip(x.minima().x.round().tolist(), x.network().hits.tolist(), strict=True))
            for x in (whole, parts)
        ]
        assert visits[0] == visits[1]


def test_same_means_energy_and_distance():
    with Landscape.in_memory(Bowl(2)) as landscape:
        ids = landscape.add_minima(
            points(
                [[0.0, 0.0], [0.05, 0.0], [0.2, 0.0], [0.05, 0.0]],
                [0.0, 5e-7, 5e-7, 1e-5],
            )
        )
        assert ids.tolist() == [0, 0, 1, 2]
        assert landscape.minima().x[0].tolist() == [0.0, 0.0]  # the first representative stays


def test_tolerances_are_the_users():
    strict = Matching(energy_tol=1e-8, distance_tol=0.01)
    with Landscape.in_memory(Bowl(1), matching=strict) as landscape:
        assert landscape.add_minima(points([[0.0], [0.05], [0.0]], [0.0, 0.0, 1e-7])).tolist() == [0, 1, 2]


def test_distance_is_in_units_of_the_length_scale():
    bowl = Bowl(1)
    bowl.length_scale = 100.0
    with Landscape.in_memory(bowl) as landscape:
        assert landscape.add_minima(points([[0.0], [9.0], [11.0]], [0.0, 0.0, 0.0])).tolist() == [0, 0, 1]


@given(seeds)
@settings(deadline=None, max_examples=12)
def test_symmetric_images_are_one_minimum(seed):
    x = torch.randn(8, 5, generator=generator(seed), dtype=torch.float64)
    with Landscape.in_memory(EvenBowl(5)) as landscape, Landscape.in_memory(Bowl(5)) as blind:
        both = points(torch.cat([x, -x]))
        assert landscape.add_minima(both).tolist() == list(range(8)) * 2
        assert blind.add_minima(both).tolist() == list(range(16))
        assert landscape.network().log_degeneracy.exp().round().tolist() == [2.0] * 8


def test_many_minima_of_equal_energy_stay_apart():
    """Regression guard: energies alone would merge all, and all pairs at once would not fit in memory."""
    x = torch.cartesian_prod(*[torch.arange(6.0, dtype=torch.float64)] * 4)
    with Landscape.in_memory(Bowl(4)) as landscape:
        ids = landscape.add_minima(points(x, torch.zeros(len(x))))
        assert torch.equal(ids, torch.arange(6**4))
        assert torch.equal(landscape.add_minima(points(x.flip(0), torch.zeros(len(x)))), ids.flip(0))


def test_float32_energies_get_a_window_of_their_own_rounding(device, dtype):
    bowl = Bowl(2, dtype=dtype, device=device)
    noise = 20 * torch.finfo(dtype).eps * 100.0
    with Landscape.in_memory(bowl) as landscape:
        rows = points([[10.0, 0.0], [10.0, 0.0]], [100.0, 100.0 + noise], dtype=dtype, device=device)
        assert landscape.add_minima(rows).tolist() == [0, 0]
        stored = landscape.minima()
        assert stored.x.dtype == dtype
        assert stored.x.device.type == device.type
        assert torch.equal(stored.x, rows.x[:1])


def test_a_row_that_only_its_own_symmetry_tells_apart():
    """The identity is enough where a potential declares no symmetry: mirror images are different minima."""

    class Plain(Potential):
        ndim = 1

        def energy(self, x):
            return ((x**2 - 1) ** 2).sum(1)

    with Landscape.in_memory(Plain()) as landscape:
        assert landscape.add_minima(points([[-1.0], [1.0]], [0.0, 0.0])).tolist() == [0, 1]
