"""Steps in host memory, by NumPy, are those of torch, step by step from the same states."""

from __future__ import annotations

import functools

import pytest
import torch

import torchscape as tsc
from torchscape.optimise import BFGS, LBFGS, Pool, Queue, ShortLBFGS, relax
from torchscape.optimise.columns import leaves
from torchscape.optimise.rows import map_rows
from torchscape.points import Status
from torchscape.potentials import FunctionPotential, LennardJones

MINIMISERS = {
    "short": ShortLBFGS(memory=5),
    "dense": BFGS(),
    "limited": LBFGS(memory=5),
    "limited, plain": LBFGS(memory=5, pairs=None, rescale=None),
    "limited, mixed": LBFGS(memory=5, precision="mixed"),
    "dense, mixed": BFGS(precision="mixed"),
    "limited, pairs of half precision": LBFGS(memory=5, pairs=torch.bfloat16),
}


@functools.cache
def cluster() -> LennardJones:
    return LennardJones(7)


@functools.cache
def box() -> FunctionPotential:
    return FunctionPotential(
        lambda x: ((x**2 - 1) ** 2).sum() + 0.1 * (x[1:] * x[:-1]).sum(), 6, bounds=[(-1.5, 0.9)] * 6
    )


@functools.cache
def network() -> tsc.ModulePotential:
    """Its first layer is preconditioned, and is the smaller part: what it leaves alone is rescaled."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(1, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3)).double()
    data = torch.randn(12, 1).double(), torch.arange(12) % 3
    return tsc.ModulePotential(module, data, torch.nn.functional.cross_entropy, l2=1e-3)


POTENTIALS = {"cluster": cluster, "box": box, "network": network}


def starts(potential: tsc.Potential, n: int = 12) -> torch.Tensor:
    x = 1.2 * potential.sample(n, seed=1)
    if potential is cluster():
        x[3, :3] = x[3, 3:6]  # two atoms in one place: no energy
        x[5] *= 0.2  # far uphill: steps are refused
    return x if potential.bounds is None else potential.bounds.clamp(x)


@pytest.mark.parametrize("potential", POTENTIALS)
@pytest.mark.parametrize("name", MINIMISERS)
@pytest.mark.parametrize("tol", [1e-8, 1e-3])
def test_the_loop_in_host_memory_is_that_of_all_devices(potential, name, tol):
    """Through first steps, rejections, walls, and every way to end."""
    import dataclasses

    potential = POTENTIALS[potential]()
    minimiser = dataclasses.replace(MINIMISERS[name], tol=tol, max_evaluations=110, max_idle=20)
    limits = minimiser.limits(potential, potential.dtype)
    state, seen = minimiser.init(potential, starts(potential)), set()
    for _ in range(112):
        new = minimiser.evaluate(potential, state)
        there = minimiser.advanced(limits, map_rows(torch.clone, state), new)
        state = minimiser.advance(potential, map_rows(torch.clone, state), new)
        ours = leaves(state, torch.Tensor)
        for column, value in leaves(there, torch.Tensor).items():
            mine = ours[column]
            # the place beyond the last holds what was not kept
            if column == "memory.pairs":
                mine, value = mine[:, :-1], value[:, :-1]
            elif column in ("memory.inverse", "memory.yy") and isinstance(minimiser, LBFGS):
                mine, value = mine[:, :-1, :-1], value[:, :-1, :-1]
            # one step apart; where a step was refused, its length is a difference of nearly equal numbers
            close = {"rtol": 1e-6, "atol": 1e-9} if value.dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
            torch.testing.assert_close(mine, value, **close, equal_nan=True, msg=column)
        seen |= set(state.status.tolist()) | ({"rejected"} if bool((state.n_rejected > 0).any()) else set())
        wanted = minimiser.wants(state, 1)
        if wanted is not None and bool(wanted.any()):
            state = minimiser.tend(potential, state, torch.nonzero(wanted)[:, 0])
    assert len(seen - {Status.RUNNING}) > 0
    if potential is cluster():
        assert seen >= {Status.CONVERGED, Status.NOT_FINITE, "rejected"}


def test_rows_move_together_when_others_have_ended():
    """Rows that stay are not copied: the last take the places of those that have ended, whoever they are."""
    u = network()
    x = u.sample(40, seed=3)
    known = relax(u, x, optimiser=BFGS(max_evaluations=300))
    queue = Queue(x)
    Pool(BFGS(max_evaluations=300), 40).run(u, queue)
    points = queue.ordered()
    for row in range(0, 40, 7):
        alone = relax(u, x[row : row + 1], optimiser=BFGS(max_evaluations=300))
        torch.testing.assert_close(points.x[row : row + 1], alone.x, rtol=0, atol=1e-6)
    assert torch.equal(points.status, known.status)
