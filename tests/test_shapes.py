"""Annotated shapes are checked while the tests run."""

from __future__ import annotations

import functools
import inspect
import pickle

import beartype
import jaxtyping
import pytest
import torch
from shapes import EVERY, FIRST, TURNS, _OfCode, next_test

from torchscape.optimise.rows import may_hold
from torchscape.points import StationaryPoints

pytestmark = pytest.mark.skipif("__wrapped__" not in vars(may_hold), reason="shapes are not checked in this run")


def test_a_wrong_type_is_an_error_at_first():
    with pytest.raises(jaxtyping.TypeCheckError):
        may_hold(torch.zeros(2))


def test_and_now_and_then_where_a_function_has_its_turn():
    next_test(may_hold)
    for _ in range(FIRST):
        assert not may_hold(torch.zeros(2, dtype=torch.bool))
    for _ in range(FIRST, EVERY - 1):
        assert not may_hold(torch.zeros(2))
    with pytest.raises(jaxtyping.TypeCheckError):
        may_hold(torch.zeros(2))


def test_every_function_has_its_turn_and_is_checked_at_first_in_every_test():
    """Also after a wrong call, and after many right ones."""
    n_checked = []
    for _ in range(TURNS):
        next_test()
        for _ in range(FIRST):
            with pytest.raises(jaxtyping.TypeCheckError):
                may_hold(torch.zeros(2))
        n = 0
        for _ in range(2 * EVERY):
            try:
                may_hold(torch.zeros(2))
            except jaxtyping.TypeCheckError:
                n += 1
        n_checked.append(n)
    assert sorted(n_checked) == [0] * (TURNS - 1) + [2]


def test_a_function_is_what_it_was_to_whoever_asks():
    assert str(inspect.signature(may_hold)).startswith("(condition: ")
    assert inspect.getsource(may_hold).startswith("def may_hold(")
    assert pickle.loads(pickle.dumps(may_hold)) is may_hold


def test_functions_inside_others_are_checked_each_with_its_own_closure():
    """One is decorated, and calls whichever was made last, also where one calls the next."""

    def make(n):
        def add(x: int) -> int:
            return x + n + (functions[n + 1](x) if n < 2 else 0)

        return add

    functions = [make(n) for n in range(3)]
    of_code = _OfCode(
        functions[0], functools.partial(jaxtyping._decorator.jaxtyped, typechecker=beartype.beartype)
    )
    functions[:] = [of_code.checked(function) for function in functions]
    assert [function(1) for function in functions] == [1 + 2 + 3, 2 + 3, 3]
    for function in functions:
        with pytest.raises(jaxtyping.TypeCheckError):
            function("one")
    assert functions[0](1) == 6


def test_a_dataclass_of_wrong_shape_is_an_error():
    right = StationaryPoints.of(torch.zeros(3, 2), torch.zeros(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        right.replace(energy=torch.zeros(4))
