"""Rows have the same last digits in a batch of any size, so that a search does not depend on its neighbours."""

from __future__ import annotations

import pytest
import torch

import torchscape as tsc
from torchscape.devices import instructions
from torchscape.even import even_bmv, even_matmul, even_mm, even_mv, evenly
from torchscape.explore.connect import ConnectPairs
from torchscape.saddles import Band, Follow

# How many rows and numbers libraries take at a time is theirs to choose: seen to hold with these instructions.
known = pytest.mark.skipif(
    instructions() not in ("AVX2", "AVX512"),
    reason="not tried with this processor's instructions",
)


@pytest.fixture(autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def numbers(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


OPERATIONS = {
    "mm": (
        lambda x: even_mm(x, numbers(28, x.shape[1]).mT),
        300,
    ),
    "mm out": (lambda x: even_mm(x, numbers(x.shape[1], 5), out=x.new_empty(len(x), 5)), 300),
    "mv": (lambda x: even_mv(x, numbers(x.shape[1])), 300),
    "bmv": (lambda x: even_bmv(x.unflatten(1, (3, -1)), x[:, : x.shape[1] // 3]), 300),
    "matmul": (lambda x: even_matmul(x.unflatten(1, (3, -1)), numbers(x.shape[1] // 3, 7)), 300),
    "sigmoid": (lambda x: evenly(torch.sigmoid, x.contiguous()), 27),
    "sigmoid in place": (lambda x: evenly(torch.sigmoid_, x.clone()), 27),
    "softplus": (lambda x: evenly(torch.nn.functional.softplus, x.contiguous()), 27),
    "gelu backwards": (lambda x: evenly(torch.ops.aten.gelu_backward, x.contiguous(), x.contiguous()), 27),
}


@known
@pytest.mark.parametrize("which", OPERATIONS)
def test_rows_have_the_same_last_digits_in_any_batch(which):
    f, width = OPERATIONS[which]
    x = numbers(70, width)
    whole = f(x)
    for n in (*range(1, 20), 31, 32, 33, 47, 48, 49, 64, 69):
        assert torch.equal(f(x[:n]), whole[:n])
        assert torch.equal(f(x[70 - n :].clone()), whole[70 - n :])


@pytest.mark.parametrize("n", [1, 5, 16, 37])
def test_they_are_the_operations_that_they_stand_for(n):
    x, y, v = numbers(n, 9), numbers(9, 4), numbers(9)
    torch.testing.assert_close(even_mm(x, y), x @ y)
    torch.testing.assert_close(even_mv(x, v), x @ v)
    many = numbers(n, 3, 9)
    torch.testing.assert_close(even_matmul(many, y), many @ y)
    torch.testing.assert_close(even_matmul(many, numbers(n, 9, 2)), many @ numbers(n, 9, 2))
    torch.testing.assert_close(even_bmv(many, x), torch.einsum("bij,bj->bi", many, x))
    torch.testing.assert_close(evenly(torch.sigmoid, x), 1 / (1 + (-x).exp()))
    z = x.clone()
    assert evenly(torch.sigmoid_, z) is z
    torch.testing.assert_close(z, x.sigmoid())


def classifier(activation: torch.nn.Module) -> tsc.Potential:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), activation, torch.nn.Linear(4, 4))
    data = numbers(77, 4), torch.arange(77) % 4
    return tsc.ModulePotential(net, data, torch.nn.functional.cross_entropy, l2=1e-2)


@known
@pytest.mark.parametrize("activation", [torch.nn.Tanh(), torch.nn.SiLU()], ids=["tanh", "silu"])
def test_a_quench_is_the_same_alone_and_among_others(activation):
    u = classifier(activation)
    starts = u.sample(11, seed=3)
    among = tsc.relax(u, starts)
    for rows in (slice(0, 1), slice(3, 8), slice(1, 11, 3)):
        alone = tsc.relax(u, starts[rows])
        assert torch.equal(alone.x, among.x[rows])
        assert torch.equal(alone.n_evaluations, among.n_evaluations[rows])


@known
def test_pairs_find_to_the_last_bit_what_they_find_among_others():
    u = classifier(torch.nn.Tanh())
    x = tsc.relax(u, u.sample(10, seed=1)).x
    task = ConnectPairs(x[:5], x[5:], Band(), Follow(), None, x, is_part=True)
    whole = task.run(u).state["candidates"]
    parts = [part.run(u).state["candidates"] for part in task.divided(3)]
    merged = type(whole).cat(parts, [range(first, 5, 3) for first in range(3)])
    assert torch.equal(merged.owner, whole.owner)
    assert torch.equal(merged.points.x, whole.points.x)
