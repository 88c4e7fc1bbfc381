"""Angles, periods and motions of all particles: the XY ring in closed form, and what is declared in one
argument."""

from __future__ import annotations

import math

import pytest
import torch

import torchscape as tsc
from torchscape import random
from torchscape.errors import PotentialError
from torchscape.explore import BasinHopping, ClimbFromMinima, ConnectMinima, ConnectPair, Uniform
from torchscape.optimise import relax
from torchscape.potentials import FunctionPotential, check_contract
from torchscape.saddles import connect
from torchscape.symmetry import BlockPermutation, ClusterSymmetry, Translations


def xy(x):
    """N spins on a ring, U = -sum cos(x_i - x_(i+1))."""
    return -torch.cos(x - x.roll(-1, -1)).sum(-1)


def ring(n: int, **more) -> FunctionPotential:
    return FunctionPotential(xy, n, batched=True, periods=2 * math.pi, invariances="translation", **more)


def twisted(n: int, q: int) -> torch.Tensor:
    return 2 * math.pi * q * torch.arange(n, dtype=torch.float64)[None] / n


def stable(n: int) -> list[int]:
    """Winding numbers whose angle between neighbours is below a right one."""
    return [q for q in range(-n // 2, n // 2 + 1) if abs(2 * math.pi * q / n) < math.pi / 2 - 1e-9]


def winding(x: torch.Tensor) -> torch.Tensor:
    """How often the spins turn around once along the ring."""
    step = torch.remainder(x.roll(-1, 1) - x + math.pi, 2 * math.pi) - math.pi
    return (step.sum(1) / (2 * math.pi)).round().long()


@pytest.mark.parametrize("n", [7, 10])
def test_the_minima_of_the_ring_are_its_twisted_states(n):
    """-N cos(2 pi q/N) for |2 pi q/N| < pi/2: q and -q are two, everything else is one point modulo periods and
    the rotation of all spins."""
    potential = ring(n)
    with tsc.Landscape.in_memory(potential) as landscape:
        near = torch.cat([twisted(n, q) for q in stable(n)]) + 0.1 * torch.randn(
            len(stable(n)), n, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        starts = torch.cat([potential.sample(200, seed=2), near, twisted(n, 3) + 1e-3 * near[:1]])
        landscape.add_minima(relax(potential, starts))
        expected = sorted(-n * math.cos(2 * math.pi * q / n) for q in stable(n))
        assert landscape.minimum_energies().tolist() == pytest.approx(expected, abs=1e-8)
        assert sorted(winding(landscape.minima().x).tolist()) == stable(n)
        assert landscape.n_families == 0


def test_twisted_states_beyond_a_right_angle_are_unstable():
    potential = ring(10)
    for q in range(6):
        x = twisted(10, q)
        assert float(potential.energy_and_grad(x)[1].norm()) < 1e-12
        lowest = float(torch.linalg.eigvalsh(potential.hessian(x))[0, 0])
        assert (lowest > -1e-9) == (q in stable(10))


def test_transition_states_of_the_ring():
    """One bond turned over by pi - delta while all others turn by delta: N - 2 bonds' worth, at delta = (2m - 1)
    pi/(N
    - 2), between the windings m - 1 and m."""
    n = 8
    potential = ring(n)
    barrier = -(n - 2) * math.cos(math.pi / (n - 2))
    with tsc.Landscape.in_memory(potential) as landscape:
        landscape.add_minima(relax(potential, torch.cat([twisted(n, q) for q in (-1, 0, 1)])))
        strategies = [ConnectMinima(), ClimbFromMinima(searches=12)]
        tsc.explore(landscape, potential, strategies=strategies, progress=False)
        assert landscape.n_minima == 3
        network = landscape.network()
        assert network.ts_energy.tolist() == pytest.approx([barrier] * network.n_edges, abs=1e-8)
        of = winding(landscape.minima(network.ids).x)
        assert bool((of[network.edges[0]] - of[network.edges[1]]).abs().eq(1).all())
        assert 2 <= network.n_edges <= 2 * n  # one for each bond and sign of q


def test_two_twisted_states_are_joined_over_the_ground_state():
    potential = ring(8)
    with tsc.Landscape.in_memory(potential) as landscape:
        landscape.add_minima(relax(potential, torch.cat([twisted(8, q) for q in (-1, 1)])))
        tsc.explore(landscape, potential, strategies=[ConnectPair(0, 1)], progress=False)
        assert sorted(winding(landscape.minima().x).tolist()) == [-1, 0, 1]
        assert landscape.network().n_components == 1


def test_distances_wrap():
    potential = ring(6)
    a = potential.sample(5, seed=1)
    turns = 2 * math.pi * torch.randint(-3, 4, (5, 6), generator=torch.Generator().manual_seed(0)).double()
    b = a + turns + 0.4
    assert float(potential.symmetry.distance(a, b).max()) < 1e-12
    alone = FunctionPotential(xy, 6, batched=True, periods=2 * math.pi)
    assert alone.symmetry.distance(a, a + 6.0).tolist() == pytest.approx([6**0.5 * (2 * math.pi - 6)] * 5)


def test_starts_fill_one_period():
    x = ring(6).sample(400)
    assert float(x.min()) >= 0
    assert float(x.max()) < 2 * math.pi
    counts = torch.histc(x, 8, 0, 2 * math.pi)
    assert float((counts / counts.mean() - 1).abs().max()) < 0.25


def well(x):
    """Two wells on a circle, at 0 and at 2.5, whose short way leads over 2 pi for the points of the tests."""
    return -torch.cos(x[:, 0]) - 0.9 * torch.cos(2 * x[:, 0] + 0.3) + (1 - x[:, 1].cos())


def test_bands_take_the_short_way_around():
    potential = FunctionPotential(well, 2, batched=True, periods=2 * math.pi)
    ends = relax(potential, torch.tensor([[0.1, 0.0], [3.0, 0.0], [6.1 + 2 * math.pi, 0.1]]).double()).x
    same = float(potential.symmetry.distance(ends[:1], ends[2:]))
    assert same < 1e-6
    for b in (ends[1:2], ends[1:2] + torch.tensor([[4 * math.pi, -2 * math.pi]]).double()):
        found = connect(potential, ends[:1], b)
        assert len(found) >= 1
        assert bool((found.ts.energy < 1.5).all())
        reached = torch.stack(
            [potential.symmetry.distance(ends[:1], side.x[:1]) for side in (found.minus, found.plus)]
        )
        assert float(reached.min()) < 1e-6  # one side is the minimum it began with, modulo periods


def test_moves_across_the_edge_lead_to_the_same_minima():
    potential = FunctionPotential(well, 2, batched=True, periods=2 * math.pi)
    with tsc.Landscape.in_memory(potential) as landscape:
        hopping = BasinHopping(walkers=16, hops=10, step=20.0, adapt=0.0, move=Uniform())
        tsc.explore(landscape, potential, strategies=[hopping], progress=False)
        assert landscape.n_minima == 2


def test_a_cosine_in_two_dimensions_has_one_minimum_two_saddles_and_a_top():
    potential = FunctionPotential(lambda x: -x.cos().sum(1), 2, batched=True, periods=2 * math.pi)
    with tsc.Landscape.in_memory(potential) as landscape:
        tsc.explore(landscape, potential, strategies=[tsc.StationarySearch(starts=200)], progress=False)
        assert landscape.counts_by_index() == [1, 2, 1]
        assert landscape.transition_states().energy.tolist() == pytest.approx([0.0, 0.0], abs=1e-9)


# --- declared in one argument -------------------------------------------------------------------------------


def pairs(x, dim: int = 3):
    """Springs between all particles, unlike ones: invariant under motions of all of them, not under
    permutations."""
    p = x.reshape(len(x), -1, dim)
    i, j = torch.triu_indices(p.shape[1], p.shape[1], 1)
    stiff = 1 + 0.3 * torch.arange(len(i), dtype=x.dtype)
    return (stiff * ((p[:, i] - p[:, j]).square().sum(2) - 1) ** 2).sum(1)


def alike(x):
    p = x.reshape(len(x), -1, 2)
    i, j = torch.triu_indices(p.shape[1], p.shape[1], 1)
    return (((p[:, i] - p[:, j]).square().sum(2) - 1) ** 2).sum(1)


def spun(x):
    """A particle in a ring-shaped valley about the origin, in a plane."""
    return (x.square().sum(1) - 1) ** 2


@pytest.mark.parametrize(
    ("fn", "ndim", "given", "dim", "kind", "zero"),
    [
        (xy, 5, "translation", 1, Translations, 1),
        (lambda x: pairs(x, 3), 12, "translation", 3, Translations, 3),
        (lambda x: pairs(x, 3), 12, ("translation", "rotation"), 3, ClusterSymmetry, 6),
        (lambda x: pairs(x, 2), 8, ["rotation", "translation"], 2, ClusterSymmetry, 3),
        (alike, 8, ("translation", "rotation", "permutation"), 2, ClusterSymmetry, 3),
        (spun, 2, "rotation", 2, ClusterSymmetry, 1),
        (lambda x: (x.square() - 1).square().sum(1), 4, "permutation", 2, BlockPermutation, 0),
    ],
)
def test_motions_are_declared_in_one_argument(fn, ndim, given, dim, kind, zero):
    potential = FunctionPotential(fn, ndim, batched=True, invariances=given, dim=dim)
    assert type(potential.symmetry) is kind
    x = potential.sample(3)
    assert potential.symmetry.zero_modes(x).shape[1] == zero
    image = potential.symmetry.random_image(x, random.fold(1, torch.arange(3)))
    assert float(potential.symmetry.distance(x, image).max()) < 1e-6
    if zero < 4:
        check_contract(potential, smooth=False)


def test_what_is_declared_is_tried_before_it_is_believed():
    def tethered(x):
        return pairs(x) + 0.1 * x.square().sum(1)

    FunctionPotential(tethered, 9, batched=True, invariances="rotation", dim=3)
    with pytest.raises(PotentialError, match="U changes under translation"):
        FunctionPotential(tethered, 9, batched=True, invariances=("translation", "rotation"), dim=3)
    with pytest.raises(PotentialError, match="shifted along direction 0"):
        FunctionPotential(tethered, 9, batched=True, invariances="translation", dim=3)
    with pytest.raises(PotentialError, match="exchange of like atoms"):
        FunctionPotential(pairs, 9, batched=True, invariances=("translation", "rotation", "permutation"), dim=3)

    def chiral(x):
        p = x.reshape(len(x), 4, 3)
        return pairs(x) + torch.linalg.det(p[:, 1:] - p[:, :1])

    with pytest.raises(PotentialError, match="U changes under reflection"):
        FunctionPotential(chiral, 12, batched=True, invariances=("translation", "rotation"), dim=3)


def test_minima_of_a_declared_function_are_counted_modulo_its_motions():
    """Three unlike particles on springs of length one: one triangle, however it lies."""
    potential = FunctionPotential(
        lambda x: pairs(x, 2), 6, batched=True, invariances=("translation", "rotation"), dim=2
    )
    with tsc.Landscape.in_memory(potential) as landscape:
        tsc.explore(landscape, potential, strategies=[BasinHopping(walkers=16, hops=1)], progress=False)
        assert landscape.minimum_energies().tolist() == pytest.approx([0.0], abs=1e-9)
        assert landscape.n_families == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"invariances": "spin"}, "give one or several of 'translation', 'rotation', 'permutation'"),
        ({"invariances": ()}, "give one or several"),
        ({"invariances": "rotation"}, "give dim=2 or dim=3"),
        ({"invariances": "translation", "dim": 5}, "6 coordinates are no particles in dim=5"),
        ({"invariances": ("translation", "permutation"), "dim": 2}, "without rotation"),
        ({"invariances": "translation", "symmetry": Translations(6)}, "say the same"),
        ({"invariances": ("translation", "rotation"), "dim": 3, "periods": 1.0}, "or invariances='translation'"),
    ],
)
def test_what_is_wrong_is_told(more, told):
    with pytest.raises(PotentialError, match=told):
        FunctionPotential(lambda x: x.square().sum(1), 6, batched=True, **more)
