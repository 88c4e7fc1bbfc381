"""Annotated shapes are checked while the tests run."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from shapes import EVERY, FIRST

from torchscape.optimise.rows import may_hold
from torchscape.points import StationaryPoints

pytestmark = pytest.mark.skipif("__wrapped__" not in vars(may_hold), reason="shapes are not checked in this run")


def test_a_wrong_type_is_an_error_at_first():
    with pytest.raises(jaxtyping.TypeCheckError):
        may_hold(torch.zeros(2))


def test_and_now_and_then():
    for _ in range(FIRST):
        assert not may_hold(torch.zeros(2, dtype=torch.bool))
    for _ in range(FIRST, EVERY - 1):
        assert not may_hold(torch.zeros(2))
    with pytest.raises(jaxtyping.TypeCheckError):
        may_hold(torch.zeros(2))


def test_a_dataclass_of_wrong_shape_is_an_error():
    right = StationaryPoints.of(torch.zeros(3, 2), torch.zeros(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        right.replace(energy=torch.zeros(4))
