"""What the parts of a task come to together is looked at once, by whichever worker is free."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from explore_doubles import Desks

import torchscape as tsc
from torchscape.explore.climb import Climbs
from torchscape.explore.connect import ConnectPairs
from torchscape.explore.labour import ByWorkers
from torchscape.explore.tasks import Divisible, Found
from torchscape.optimise import relax
from torchscape.potentials import FunctionPotential, LennardJones
from torchscape.saddles import Band, Follow, ModesAndRandom
from torchscape.saddles.labour import HERE


class Cut:
    """Labour of three, the last of whom is the first to end."""

    def __init__(self, potential: tsc.Potential) -> None:
        self.potential, self.kinds = potential, []

    def run(self, task: Divisible) -> Found:
        self.kinds.append(task.kind)
        found = [part.run(self.potential) for part in reversed(task.divided(3))][::-1]
        return task.joined(found)


def whole_and_shared(potential: tsc.Potential, task: Divisible) -> tuple[Found, Found, Sequence[str]]:
    whole, cut = task.run(potential), Cut(potential)
    found = cut.run(task).completed(potential, ByWorkers(cut.run))
    return whole, found, cut.kinds


def alike(one: Found, other: Found, *, is_cut: bool = False) -> None:
    a, b = one.saddles, other.saddles
    assert a is not None
    assert b is not None
    costs = () if is_cut else ("n_hessians",)  # of what was stopped and goes on elsewhere, only rows are told
    for name in ("pair", "hits", "outcome", "candidate_pair", "candidate_ts", *costs):
        mine, its = getattr(a, name), getattr(b, name)
        assert torch.equal(mine, its) if isinstance(mine, torch.Tensor) else mine == its, name
    assert torch.equal(a.ts.index, b.ts.index)
    torch.testing.assert_close(a.ts.energy, b.ts.energy, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(a.ts.log_det, b.ts.log_det, rtol=1e-6, atol=1e-6)
    ends = [torch.stack([one.minus.energy, one.plus.energy], 1).sort(dim=1).values for one in (a, b)]
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)  # which is which is the sign of an eigenvector
    assert bool((b.minus.index == 0).all())
    assert bool((b.plus.index == 0).all())
    assert one.n_evaluations == a.n_evaluations


def pairs_of_lj7() -> tuple[tsc.Potential, ConnectPairs]:
    u = LennardJones(7)
    x = relax(u, u.sample(12, seed=3)).x
    a, b = torch.combinations(torch.arange(5), 2).T
    return u, ConnectPairs(x[a], x[b], Band(), Follow(), None, x)


def test_pairs_cost_no_more_hessians_in_parts():
    u, task = pairs_of_lj7()
    whole, found, kinds = whole_and_shared(u, task)
    assert kinds[0] == "connect"
    assert {"looks", "descents"} <= set(kinds)
    assert len(whole.saddles) > 1
    alike(whole, found)


def test_climbs_cost_no_more_hessians_in_parts():
    u = tsc.potentials.Himmelblau()
    x = torch.tensor([p.x for p in u.minima], dtype=torch.float64)
    key, number = torch.arange(4), torch.zeros(4, dtype=torch.int64)
    task = Climbs(x, key, number, ModesAndRandom(), Follow(retry=False), None)
    whole, found, _ = whole_and_shared(u, task)
    assert len(whole.saddles) > 1
    alike(whole, found)


def test_what_symmetry_leads_to_higher_index_is_searched_once_more_by_workers_too():
    """The straight path between these ends runs over the summit of a square of wells."""
    u = FunctionPotential(lambda x: ((x**2 - 1) ** 2).sum(), 2)
    a = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    task = ConnectPairs(a, b, Band(), Follow(), None, a)
    whole, found, kinds = whole_and_shared(u, task)
    assert "pursuits" in kinds
    alike(whole, found)
    assert whole.saddles.ts.energy.tolist() == pytest.approx([1.0] * len(whole.saddles), abs=1e-9)


def test_float32_is_verified_by_the_parts():
    u = FunctionPotential(lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2, 2, dtype=torch.float32)
    a = torch.tensor([[-1.0, 0.0], [-1.0, 0.0]])
    task = ConnectPairs(a, -a, Band(), Follow(), None, a)
    whole, found, kinds = whole_and_shared(u, task)
    assert kinds == ["connect"]
    assert len(whole.saddles) == 1
    assert len(found.saddles) == 2  # one of each part


@pytest.mark.parametrize("with_modes", [True, False])
def test_signs_of_curvatures_are_shared_out(with_modes):
    """As they are asked for beyond 2000 coordinates; stiff springs take more products than soft ones."""
    d = 40
    curvature = torch.linspace(1.0, 50.0, d, dtype=torch.float64).repeat(4, 1)
    curvature[:, :2] = torch.tensor([[-1.0, 2.0], [-1.0, -0.5], [0.5, 2.0], [-1.0, 1e-3]])

    def energy(x):
        which = (x[:, -1] / 100).round().long().detach()
        y = torch.cat([x[:, :-1], x[:, -1:] - 100 * which[:, None]], 1)
        return 0.5 * (curvature[which] * y * y).sum(1)

    u, cut = FunctionPotential(energy, d, batched=True), Cut(None)
    cut.potential = u
    x = torch.zeros(4, d, dtype=torch.float64)
    x[:, -1] = 100.0 * torch.arange(4)
    points = tsc.StationaryPoints.of(x, u.energy(x))
    modes = torch.eye(d, dtype=torch.float64)[:1].repeat(4, 1) if with_modes else None
    whole, its_modes = HERE.sign(u, points, modes)
    shared, modes_shared = ByWorkers(cut.run).sign(u, points, modes)
    assert cut.kinds == ["signs"]
    assert whole.index.tolist() == ([1, 2, 0, 1] if with_modes else [1, 1, 0, 1])
    assert torch.equal(shared.index, whole.index)
    assert torch.equal(shared.n_zero, whole.n_zero)
    torch.testing.assert_close(modes_shared.abs(), its_modes.abs(), rtol=1e-9, atol=1e-9)


def test_a_crew_shares_out_every_stage():
    u, task = pairs_of_lj7()
    with Desks(2) as desks:
        desks._pace = dict.fromkeys(("connect", "looks", "descents"), 10.0)  # so slow that all is cut
        (found,) = desks.run(u, [task])
    alike(task.run(u), found)
    assert set(desks._pace) >= {"looks", "descents"}
    assert desks._pace["looks"] < 10.0
