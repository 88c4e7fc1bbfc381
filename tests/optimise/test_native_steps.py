"""Steps in C are NumPy's, step by step from the same states; many at once are those of one at a time."""

from __future__ import annotations

import pytest
import torch

from torchscape.optimise import ShortLBFGS, native_steps, relax
from torchscape.optimise.columns import leaves
from torchscape.optimise.rows import map_rows
from torchscape.points import Status
from torchscape.potentials import LennardJones, Quadratic

needs_compiler = pytest.mark.skipif(native_steps._compiled() is None, reason="no C compiler")
STANDS = ("x", "energy", "grad", "trial", "status", "n_evaluations", "n_refused")


def starts(potential) -> torch.Tensor:
    x = potential.sample(12, seed=1)
    x[3, :3] = x[3, 3:6]  # two atoms in one place: no energy
    x[5] *= 0.2  # far uphill: steps are refused
    return x


@needs_compiler
@pytest.mark.parametrize("tol", [1e-8, 1e-3])
@pytest.mark.parametrize("unit", [1.0, 4.0])
def test_a_step_in_c_is_that_of_numpy(tol, unit):
    """Through first steps, rejections, and every way to end."""
    potential, optimiser = LennardJones(7), ShortLBFGS(memory=5, tol=tol, max_evaluations=110, max_idle=20)
    potential.energy_scale = unit
    state, seen = optimiser.init(potential, starts(potential)), set()
    for _ in range(112):
        runs = state.status == Status.RUNNING
        there = optimiser.step(potential, map_rows(torch.clone, state))
        state = optimiser.leap(potential, state, 1)
        ours = leaves(state, torch.Tensor)
        for name, value in leaves(there, torch.Tensor).items():
            mine = ours[name]
            if name == "memory.pairs":  # the place beyond the last holds what was not kept
                mine, value = mine[:, :-1], value[:, :-1]
            if name not in STANDS:  # of rows that have ended nobody asks for the rest
                mine, value = mine[runs], value[runs]
            # one step apart; where a step was refused, its length is a difference of nearly equal numbers
            torch.testing.assert_close(mine, value, rtol=1e-6, atol=1e-9, equal_nan=True, msg=name)
        assert state.memory.used == there.memory.used
        seen |= set(state.status.tolist()) | ({"rejected"} if bool((state.n_rejected > 0).any()) else set())
    assert seen == {Status.RUNNING, Status.CONVERGED, Status.NOT_FINITE, Status.MAX_STEPS, "rejected"}


@pytest.mark.parametrize("way", ["C", "NumPy"])
def test_many_steps_at_once_are_those_of_one_at_a_time(way, monkeypatch):
    """To the last bit, also of rows that end on the way."""
    if way == "NumPy":
        monkeypatch.setattr(native_steps, "_compiled", lambda: None)
    elif native_steps._compiled() is None:
        pytest.skip("no C compiler")
    potential, optimiser = LennardJones(7), ShortLBFGS(memory=5)
    one = optimiser.init(potential, starts(potential))
    several = map_rows(torch.clone, one)
    for n in (1, 40, 16, 60):
        for _ in range(n):
            one = optimiser.leap(potential, one, 1)
        several = optimiser.leap(potential, several, n)
        mine, theirs = (leaves(state, torch.Tensor) for state in (several, one))
        for name in (*STANDS, "memory.count"):
            assert torch.equal(mine[name].nan_to_num(), theirs[name].nan_to_num()), name
        assert several.memory.used == one.memory.used
    assert len(one.status.unique()) > 2


def test_a_row_notices_no_other():
    """A quench ends in the same bits whatever else runs, where the steps are in C."""
    potential = LennardJones(9)
    x = potential.sample(40, seed=4)
    together = relax(potential, x, pool_size=16)
    assert bool(together.converged.all())
    if potential.in_c() is not None:
        for row in (0, 17, 39):
            assert torch.equal(relax(potential, x[row : row + 1]).x[0], together.x[row])


def test_small_rows_leap_and_large_ones_do_not():
    optimiser, potential = ShortLBFGS(), LennardJones(7)
    state = optimiser.init(potential, potential.sample(4))
    assert optimiser.stride(potential, state) == (16 if potential.in_c() else 1)
    assert optimiser.stride(Quadratic([1.0] * 21), state) == 1  # not in C
    large = LennardJones(700)
    assert optimiser.stride(large, optimiser.init(large, torch.zeros(64, 2100).double())) == 1
