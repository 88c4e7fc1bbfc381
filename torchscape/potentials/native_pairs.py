"""Energies and gradients of pair potentials in C (``pairs.c``), where there is a compiler."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchscape.native import RowFunction, library
from torchscape.types import Float, Tensor

__all__ = ["Evaluator", "Formula", "evaluator"]


@dataclasses.dataclass(frozen=True)
class Formula:
    """Energy and weight of a pair in C.

    Attributes:
        code: statements that set ``u`` and ``w`` = u'/r from ``square`` = r^2, all three vectors of several pairs,
            with the functions ``exponential``, ``root`` and ``only``. Numbers are ``q[0]``, ``q[1]``, ..., never
            written into the code.
        numbers: q of every pair alike [K]; or [P, K] of the pairs (0, 1), (0, 2), ..., (n - 2, n - 1).
    """

    code: str
    numbers: Sequence[float] | np.ndarray = ()


class _Cluster(ctypes.Structure):
    _fields_ = [
        ("atoms", ctypes.c_int64),
        ("radius", ctypes.c_double),
        ("q", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
    ]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Energies and gradients of a number of atoms, of rows in float64."""

    function: Any
    atoms: int
    numbers: np.ndarray

    def at(self, radius: float) -> RowFunction:
        """With a container of this radius; 0 for none."""
        stride = self.numbers.shape[1] if self.numbers.ndim == 2 else 0
        context = _Cluster(self.atoms, radius, self.numbers.ctypes.data, stride)
        address = ctypes.cast(self.function, ctypes.c_void_p).value
        assert address is not None
        return RowFunction(address, context, self.numbers)

    def __call__(
        self, x: Float[Tensor, "B D"], radius: float = 0.0
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        x = x.contiguous()
        energy, grad = x.new_empty(x.shape[0]), torch.empty_like(x)
        context = self.at(radius).context
        if self.function(x.shape[0], x.data_ptr(), energy.data_ptr(), grad.data_ptr(), ctypes.addressof(context)):
            raise MemoryError("no room for the atoms of a few rows")
        return energy, grad


def evaluator(formula: Formula, atoms: int, dim: int) -> Evaluator | None:
    """The function of rows; None where it cannot be compiled."""
    function = _compiled(formula.code, dim)
    if function is None:
        return None
    numbers = np.ascontiguousarray(formula.numbers, dtype=np.float64)
    assert numbers.ndim == 1 or 2 * len(numbers) == atoms * (atoms - 1)
    return Evaluator(function, atoms, numbers)


@functools.cache
def _compiled(code: str, dim: int) -> Any:
    statements = " ".join(code.split())
    head = f"#define DIM {dim}\n#define PAIR(square, q, u, w) {statements}\n"
    found = library(head + Path(__file__).with_name("pairs.c").read_text(encoding="utf-8"))
    if found is None:
        return None
    found.evaluate.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 4]
    found.evaluate.restype = ctypes.c_int
    return found.evaluate
