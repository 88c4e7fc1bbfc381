"""Known answers: transition states by number and energy, and what became of every candidate."""

from __future__ import annotations

import math

import pytest
import torch
from saddles.known import Wells, lj7

from torchscape import Bounds, ModulePotential, StationaryPoints, Status
from torchscape.errors import PotentialError
from torchscape.optimise import relax
from torchscape.potentials import FunctionPotential, Himmelblau, LennardJones, MuellerBrown, Schwefel, SixHumpCamel
from torchscape.saddles import (
    Dense,
    Descent,
    Follow,
    Krylov,
    Outcome,
    Quench,
    RandomDirections,
    SoftModes,
    climb,
    confirm,
    connect,
    follow,
)
from torchscape.saddles.distinct import first_of_each
from torchscape.saddles.verify import push_off, verify


def all_pairs(x):
    i, j = torch.triu_indices(len(x), len(x), 1)
    return x[i], x[j]


def check(u, found):
    """What a verified transition state promises, measured anew."""
    energy, grad = u.energy_and_grad(found.ts.x)
    assert torch.allclose(energy, found.ts.energy)
    assert grad.square().mean(1).sqrt().max() < 1e-8
    assert found.ts.index.unique().tolist() == [1]
    for end in (found.minus, found.plus):
        assert bool(end.converged.all())
        assert end.index.unique().tolist() == [0]
        assert bool((end.energy < found.ts.energy).all())
        assert end.grad_rms.max() < 1e-8
    product = u.hvp(found.ts.x, found.mode)
    mu = (product * found.mode).sum(1)
    assert bool((mu < 0).all())
    assert torch.allclose(product, mu[:, None] * found.mode, atol=1e-5 * float(product.abs().max()))
    assert found.hits.sum() == (found.outcome == Outcome.VERIFIED).sum()


@pytest.mark.parametrize("surface", [Himmelblau, MuellerBrown, SixHumpCamel])
def test_all_saddles_between_all_pairs_of_minima(surface):
    u = surface()
    minima = torch.tensor([p.x for p in u.minima], dtype=torch.float64)
    found = connect(u, *all_pairs(minima))
    check(u, found)
    known = sorted(s.energy for s in u.saddles)
    assert found.ts.energy.sort().values.tolist() == pytest.approx(known, abs=1e-8)
    assert found.success_rate == 1.0


def test_himmelblaus_saddles_join_its_minima_in_a_ring():
    u = Himmelblau()
    minima = torch.tensor([p.x for p in u.minima], dtype=torch.float64)
    found = connect(u, *all_pairs(minima))
    ends = torch.stack([torch.cdist(end.x, minima).argmin(1) for end in (found.minus, found.plus)], 1)
    degree = torch.bincount(ends.flatten(), minlength=4)
    assert degree.tolist() == [2, 2, 2, 2]
    assert len({frozenset(pair) for pair in ends.tolist()}) == 4


def test_schwefel_has_eighty_four_saddles_between_its_forty_nine_interior_minima():
    """The derivative vanishes on the axes, where the second one is infinite: no saddle may be found there."""
    u = Schwefel()
    minima = torch.tensor([p.x for p in u.minima], dtype=torch.float64)
    distance = torch.cdist(minima, minima)
    i, j = torch.nonzero((distance > 0) & (distance < 300), as_tuple=True)
    forward = i < j
    found = connect(u, minima[i[forward]], minima[j[forward]])
    check(u, found)
    assert len(minima) == 49
    assert len(found) == 84
    assert found.ts.x.abs().min() > 1.0


@pytest.mark.parametrize("curvature", [Dense(), Dense(refresh=1), Krylov()], ids=["updated", "exact", "krylov"])
def test_coupled_wells_by_dense_and_iterative_curvature(curvature):
    """3 double wells and 27 springs, rotated: 8 minima, 12 saddles of height 1/4, all in closed form."""
    u = Wells(ndim=30, n_wells=3, seed=1)
    corners = [u.point(i, j, k) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]
    x = torch.cat(corners)
    found = connect(u, *all_pairs(x), refine=Follow(curvature=curvature), descent=Descent(curvature=curvature))
    check(u, found)
    edges = {
        frozenset(torch.cdist(e.x, x).argmin().item() for e in (found.minus[i : i + 1], found.plus[i : i + 1]))
        for i in range(len(found))
    }
    assert {frozenset((i, j)) for i in range(8) for j in range(8) if bin(i ^ j).count("1") == 1} >= edges
    assert found.ts.energy.tolist() == pytest.approx([0.25] * len(found), abs=1e-12)
    assert found.ts.log_det.tolist() == pytest.approx([u.log_det(1)] * len(found), abs=1e-6)
    assert len(edges) == len(found) >= 8


def test_krylov_and_dense_curvature_follow_to_the_same_saddles():
    u = LennardJones(6)
    minima = relax(u, u.sample(10, seed=4))
    starts = minima.x[minima.converged][:3]
    directions = torch.randn(3, 18, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kwargs = {"directions": directions, "size": 1.0}
    dense = climb(u, starts, refine=Follow(curvature=Dense(refresh=1)), **kwargs)
    krylov = climb(u, starts, refine=Follow(curvature=Krylov(settled=1e-3)), **kwargs)
    assert len(dense)
    assert len(krylov)
    # From so far away rounding may decide which saddle a search ends in. From close by it must be the same.
    known = StationaryPoints.cat([dense.ts, krylov.ts])
    mode = torch.cat([dense.mode, krylov.mode])
    noise = torch.randn(known.x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    near = known.x + 0.01 * noise
    for curvature in (Dense(refresh=1), Krylov(settled=1e-3)):
        ended = follow(u, near, mode, options=Follow(curvature=curvature)).points
        assert bool(ended.converged.all())
        assert ended.energy.tolist() == pytest.approx(known.energy.tolist(), abs=1e-9)


def lj7_searches(n: int, seed: int):
    u = LennardJones(7)
    known = lj7()
    minima = torch.tensor([m["x"] for m in known["minima"]], dtype=torch.float64).reshape(4, 21)
    exact = torch.tensor(sorted(ts["E"] for ts in known["ts"]), dtype=torch.float64)
    minima = relax(u, minima).x
    found = climb(u, minima, directions=RandomDirections(n, size=3.0), seed=seed)
    return u, found, exact


def test_climbing_from_the_minima_of_lj7_finds_only_its_twelve_transition_states():
    u, found, exact = lj7_searches(12, seed=0)
    check(u, found)
    gap = (found.ts.energy[:, None] - exact).abs().amin(1)
    assert gap.max() < 1e-6
    assert len(found) >= 8
    same = u.symmetry.distance(found.minus.x, found.plus.x) < 1e-3
    assert bool(same.any())  # degenerate rearrangements are kept


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_twelve_transition_states_of_lj7(seed):
    u, found, exact = lj7_searches(400, seed)
    assert found.ts.energy.sort().values.tolist() == pytest.approx(exact.tolist(), abs=1e-6)
    ends = StationaryPoints.cat([found.minus, found.plus])
    label = first_of_each(u, ends)
    n = len(found)
    assert len(label.unique()) == 4
    assert int((label[:n] == label[n:]).sum()) == 6
    edges = {frozenset(pair) for pair in torch.stack([label[:n], label[n:]], 1).tolist() if pair[0] != pair[1]}
    assert len(edges) == 5


def test_soft_modes_climb_both_ways_out_of_a_well():
    u = Wells(ndim=6, n_wells=2)
    found = climb(u, u.point(-1, -1), directions=SoftModes(count=6))
    check(u, found)
    assert found.ts.energy.tolist() == pytest.approx([0.25, 0.25], abs=1e-10)
    assert found.pair.tolist() == [0, 0]


def test_a_search_is_the_same_in_any_batch():
    u = MuellerBrown(bounded=False)
    x = u.sample(8, seed=2)
    v = torch.ones_like(x)
    together = follow(u, x, v)
    for row in (0, 5):
        alone = follow(u, x[row : row + 1], v[row : row + 1])
        assert alone.points.status.tolist() == together.points.status[row : row + 1].tolist()
        assert torch.allclose(alone.points.x, together.points.x[row : row + 1], atol=1e-7)


def test_rows_that_are_not_finite_leave_the_others_untouched():
    u = Himmelblau()
    x = torch.tensor([[0.0, -1.0], [torch.nan, 0.0], [3.1, 0.1]], dtype=torch.float64)
    ended = follow(u, x, torch.ones_like(x))
    assert ended.points.status[1] == Status.NOT_FINITE
    checked = verify(u, ended.points)
    assert checked.outcome.tolist() == [Outcome.VERIFIED, Outcome.NOT_FINITE, Outcome.VERIFIED]
    assert checked.candidate_ts[1] == -1


def test_dtype_and_device_follow_the_input(device, dtype):
    u = Wells(ndim=5, n_wells=1, dtype=dtype)
    u.device, u.rotation, u.springs = device, u.rotation.to(device), u.springs.to(device)
    found = connect(u, u.point(-1).to(device), u.point(1).to(device))
    assert found.ts.x.dtype == dtype
    assert found.ts.x.device.type == device.type
    assert found.ts.energy.tolist() == pytest.approx([0.25], rel=1e-4)
    assert found.ts.index.tolist() == [1]


def test_a_symmetric_start_does_not_stay_on_a_saddle_of_higher_index():
    """From on the axis the gradient never has a part across it: only the curvature knows."""
    u = Wells(ndim=4, n_wells=2)
    direction = torch.zeros(1, 4, dtype=torch.float64)
    direction[0, 0] = 1.0
    ended = follow(u, 0.3 * direction @ u.rotation, direction @ u.rotation)
    checked = verify(u, ended.points)
    assert checked.outcome.tolist() == [Outcome.VERIFIED]


def test_every_other_end_has_a_name():
    def slope(x):
        return torch.tanh(x[0]) + x[1] ** 2

    u = FunctionPotential(slope, 2)
    lost = climb(u, torch.zeros(1, 2, dtype=torch.float64), directions=torch.tensor([[1.0, 0.0]]).double())
    assert len(lost) == 0  # where the gradient of tanh falls below tolerance, so has its curvature
    assert sum(lost.outcomes.values()) == 1

    def hill(x):
        return -((x[0] - 3) ** 2) + (x[1]) ** 2

    boxed = FunctionPotential(hill, 2, bounds=Bounds.of([(-1, 1), (-1, 1)]), length_scale=0.3)
    out = climb(boxed, torch.zeros(1, 2, dtype=torch.float64), directions=torch.tensor([[1.0, 0.0]]).double())
    assert out.outcomes == {"OUTSIDE": 1}

    two = Wells(ndim=2, n_wells=2)
    x = torch.cat([two.point(0, 0), two.point(1, 1), two.point(0, 1)])
    energy = two.energy(x)
    done = torch.full((3,), int(Status.CONVERGED))
    checked = verify(two, StationaryPoints.of(x, energy, grad_rms=torch.zeros(3).double(), status=done))
    assert checked.outcome.tolist() == [Outcome.WRONG_INDEX, Outcome.WRONG_INDEX, Outcome.VERIFIED]


def test_the_push_goes_downhill_on_both_sides_however_flat_or_sharp_the_saddle():
    for k in (1e-5, 1.0, 1e4):
        u = FunctionPotential(lambda x, k=k: 1.0 + k * ((x[0] ** 2 - 1) ** 2 + x[1] ** 2), 2)
        ts = StationaryPoints.of(torch.zeros(1, 2).double(), torch.tensor([1.0 + k]).double())
        ts = ts.replace(grad_rms=torch.tensor([1e-9]).double())
        out = push_off(u, ts, torch.tensor([[1.0, 0.0]]).double())
        assert out[0, 0] < 0 < out[1, 0]
        assert bool((u.energy(out) < 1.0 + k).all())
        assert out.norm(dim=1).max() < 0.5


def test_a_path_that_symmetry_leads_to_another_saddle_is_pushed_on():
    """From the maximum-like saddle the exact path runs along y = 0 into (1, 0), a saddle itself."""

    def forked(x):
        return (x[0] ** 2 - 1) ** 2 + (x[1] ** 2 - 0.1 * x[0] ** 2) ** 2 + 0.05 * (x[1] ** 2) * (1 - x[0] ** 2)

    u = FunctionPotential(forked, 2, length_scale=0.3)
    ts = StationaryPoints.of(torch.zeros(1, 2).double(), u.energy(torch.zeros(1, 2).double()).detach())
    ts = ts.replace(grad_rms=torch.zeros(1).double(), status=torch.tensor([int(Status.CONVERGED)]))
    checked = verify(u, ts)
    assert checked.outcome.tolist() == [Outcome.VERIFIED]
    for end in (checked.minus, checked.plus):
        assert end.index.tolist() == [0]
        assert end.x[0, 1].abs() > 0.1


def test_duplicates_are_counted_and_followed_once():
    u = Himmelblau()
    minima = torch.tensor([p.x for p in u.minima], dtype=torch.float64)
    a, b = minima[:1].repeat(5, 1), minima[1:2].repeat(5, 1)
    found = connect(u, a, b)
    once = connect(u, a[:1], b[:1])
    assert len(found) == len(once)
    assert found.hits.tolist() == [5 * h for h in once.hits.tolist()]
    assert found.pair.tolist() == [0] * len(found)
    assert found.candidate_pair.unique().tolist() == [0, 1, 2, 3, 4]


def test_a_point_is_looked_at_once_however_many_searches_end_in_it():
    """Hessians are only those of looks here; known minima need none, and change nothing."""
    u = Himmelblau()
    minima = relax(u, torch.tensor([p.x for p in u.minima], dtype=torch.float64)).x
    a, b = minima[:1].repeat(5, 1), minima[1:2].repeat(5, 1)
    options = {"refine": Follow(curvature=Krylov()), "descent": Quench()}
    once, five = connect(u, a[:1], b[:1], **options), connect(u, a, b, **options)
    ends = torch.cat([once.minus.x, once.plus.x])
    n_ends = int((torch.cdist(minima, ends) < 1e-3).any(1).sum())
    assert set(once.outcomes) <= {"VERIFIED", "SPURIOUS_MAXIMUM"}
    assert five.n_hessians == once.n_hessians == len(once) + n_ends
    assert n_ends >= 2
    known = connect(u, a, b, known=minima, **options)
    assert known.n_hessians == once.n_hessians - n_ends
    assert torch.equal(known.ts.x, five.ts.x)
    assert known.minus.index.tolist() == known.plus.index.tolist() == [0] * len(known)


def test_nothing_to_connect_gives_an_empty_result():
    u = Himmelblau()
    x = torch.tensor([[3.0, 2.0]], dtype=torch.float64)
    for a, b in ((x, x.clone()), (x[:0], x[:0])):
        found = connect(u, a, b)
        assert len(found) == 0
        assert found.outcomes == {}
        assert math.isnan(found.success_rate)
    assert len(climb(u, x[:0])) == 0


def test_wrong_shapes_name_the_remedy():
    u = Himmelblau()
    with pytest.raises(PotentialError, match="two ends of pair p"):
        connect(u, torch.zeros(2, 3).double(), torch.zeros(2, 3).double())
    with pytest.raises(PotentialError, match="one row per start"):
        climb(u, torch.zeros(2, 3).double())


def test_in_float32_saddles_are_those_of_float64():
    """Found in float32, told apart and followed downhill in float64: once, every visit of a soft saddle was
    another transition state, some had the wrong index, and paths stayed open."""
    torch.manual_seed(0)
    data = torch.randn(60, 4), torch.randint(0, 3, (60,))
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
    u = ModulePotential(net, data, torch.nn.functional.cross_entropy, l2=1e-3, dtype=torch.float32)
    exact = u.double()
    minima = relax(exact, exact.sample(12))
    order = minima.energy.argsort()[first_of_each(exact, minima[minima.energy.argsort()]).unique()]
    a, b = all_pairs(minima.x[order[:4]].float())
    found = connect(u, a, b)
    assert found.ts.x.dtype == found.minus.energy.dtype == found.mode.dtype == torch.float32
    assert set(found.outcomes) <= {"VERIFIED", "SPURIOUS_MAXIMUM", "LOST"}
    assert len(found) > 4
    sharp = found.ts.replace(x=found.ts.x.double(), energy=found.ts.energy.double())
    apart = first_of_each(exact, sharp, energy_tol=1e-6, distance_tol=0.1)
    assert torch.equal(apart, torch.arange(len(found)))
    again = follow(exact, sharp.x, found.mode.double()).points
    assert bool(again.converged.all())
    assert bool(((again.x - sharp.x).norm(dim=1) < 1e-4).all())
    told = confirm(u, found.ts)  # which in float32 it has to find first
    assert told.outcomes == {"VERIFIED": len(found)}
    assert told.ts.x.dtype == torch.float32
    torch.testing.assert_close(told.ts.energy, found.ts.energy, atol=1e-6, rtol=1e-6)
    for side in ("minus", "plus"):
        known, energy = getattr(found, side).energy, getattr(told, side).energy
        other = getattr(found, "plus" if side == "minus" else "minus").energy
        assert bool(((energy - known).abs().minimum((energy - other).abs()) < 1e-6).all())
