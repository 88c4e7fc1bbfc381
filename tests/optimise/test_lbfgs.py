"""The memory of L-BFGS: its direction is that of the two-loop recursion, also where pairs have been forgotten."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from torchscape import random
from torchscape.optimise import LBFGS, ShortLBFGS
from torchscape.potentials import Quadratic

D = 6


def normal(key: int, n: int, device) -> torch.Tensor:
    return random.normal(random.fold(key, torch.arange(n, device=device)), D)


def two_loops(pairs: list, grad: torch.Tensor, gamma: float | None) -> torch.Tensor:
    """-H g (Nocedal & Wright 2006, algorithm 7.4), from the oldest pair to the newest; H starts from gamma."""
    q, alphas = grad.clone(), []
    for s, y in reversed(pairs):
        alphas.append(torch.dot(s, q) / torch.dot(s, y))
        q -= alphas[-1] * y
    if pairs:
        q *= gamma
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q += s * (alpha - torch.dot(y, q) / torch.dot(s, y))
    return -q


def steps(n: int, b: int, device):
    """Pairs of convex quadratics, gradients, and which row forgets when: rows 1 and 2, once before the memory is
    full and once after, row 2 twice."""
    for k in range(n):
        s = normal(100 + k, b, device)
        y = s * torch.linspace(0.5, 3.0, D, device=device) + 0.1 * s.sum(1, keepdim=True)
        reset = torch.zeros(b, dtype=torch.bool, device=device)
        if k in (2, 9):
            reset[2] = True
        if k == 7:
            reset[1] = True
        keep = torch.ones(b, dtype=torch.bool, device=device)
        keep[0] = k != 4
        yield s, y, normal(200 + k, b, device), keep & ~reset, reset


@pytest.mark.parametrize(
    "optimiser",
    [LBFGS(memory=4, pairs=None, rescale=None, hold=hold) for hold in (0.0, 0.8)] + [ShortLBFGS(memory=4)],
)
def test_direction_is_that_of_the_two_loop_recursion(optimiser, device):
    b = 3
    memory = optimiser.init_memory(torch.zeros(b, D, dtype=torch.float64, device=device))
    kept: list[list] = [[] for _ in range(b)]
    for s, y, grad, keep, reset in steps(14, b, device):
        memory, direction = optimiser.update(memory, s, y, grad, keep, reset)
        for row in range(b):
            if reset[row]:
                kept[row].clear()
            if keep[row]:
                kept[row].append((s[row].cpu(), y[row].cpu()))
            told = [float(torch.dot(s, y) / torch.dot(y, y)) for s, y in kept[row]]
            hold = getattr(optimiser, "hold", 0.0)
            gamma = max((hold**age * g for age, g in enumerate(reversed(told))), default=None)
            torch.testing.assert_close(
                direction[row].cpu(), two_loops(kept[row][-4:], grad[row].cpu(), gamma), rtol=1e-9, atol=1e-12
            )


@pytest.mark.parametrize("everyone", [True, False])
def test_rescaling_knows_nothing_of_forgotten_pairs(everyone, device):
    optimiser, flat = LBFGS(memory=8, pairs=None), Quadratic([1.0] * D, device=device)
    x = torch.zeros(3, D, dtype=torch.float64, device=device)
    memory, fresh = optimiser.init_memory(x), optimiser.init_memory(x)
    rows = torch.arange(3, device=device) if everyone else torch.tensor([0, 2], device=device)
    for k, (s, y, grad, _, _) in enumerate(steps(15, 3, device)):
        always = torch.ones(3, dtype=torch.bool, device=device)
        memory, direction = optimiser.update(memory, s, y, grad, always & (k != 5), always & (k == 5))
        if k > 5:
            fresh, expected = optimiser.update(fresh, s, y, grad, always, ~always)
            torch.testing.assert_close(direction, expected, rtol=1e-9, atol=1e-12)
        if k in (9, 12):
            for its in (memory, fresh):
                optimiser.tend(flat, dataclasses.replace(optimiser.init(flat, x), memory=its), rows)
