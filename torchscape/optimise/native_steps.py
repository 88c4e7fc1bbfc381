"""Steps of :class:`~torchscape.optimise.ShortLBFGS` in C, where there is a compiler and the potential is in C:
several steps of all rows in one call.

What happens is what ``on_host.py`` says, to rounding; ``steps.c`` says it row by row.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
from pathlib import Path
from typing import Any

import torch

from torchscape.native import RowFunction, library
from torchscape.optimise.limits import FALLS, Limits
from torchscape.optimise.quasi_newton import Minimisation
from torchscape.points import Status
from torchscape.types import Tensor

__all__ = ["run_natively"]

_ROWS = ("x", "energy", "grad", "trial", "stretch", "n_short", "mark")
_COUNTS = ("n_evaluations", "n_rejected", "n_refused", "n_idle", "status")
_MEMORY = ("pairs", "inverse", "yy", "gamma", "count")


class _Limits(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_double) for name in (
            "decrease", "noise", "shrink_min", "shrink_max", "tol", "longest", "furthest", "eps", "tiny", "falls",
        )),
        *((name, ctypes.c_int64) for name in ("max_rejections", "max_evaluations", "max_idle")),
        *((name, ctypes.c_int64) for name in ("converged", "stalled", "max_steps", "not_finite", "unbounded")),
    ]  # fmt: skip


class _State(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in (*_ROWS, *_COUNTS, *_MEMORY)]


def run_natively(
    state: Minimisation, limits: Limits, evaluation: RowFunction, unit: float, n: int
) -> Minimisation | None:
    """``n`` steps of all rows that run, in place, with evaluations in C; None where that cannot be, and nothing
    was done.

    Args:
        state: written into.
        limits: as of a step.
        evaluation: energies and gradients.
        unit: of energy, in which the state is.
        n: steps at most.
    """
    found = _compiled() if state.x.dtype == torch.float64 else None
    columns = None if found is None else _columns(state)
    if found is None or columns is None:
        return None
    b, d = state.x.shape
    most = state.memory.inverse.shape[1]
    by, of = ctypes.byref(_told(limits)), ctypes.byref(columns)
    context = ctypes.byref(evaluation.context)
    if found.run(b, d, most, by, of, n, unit, evaluation.address, context):
        raise MemoryError("no room for the trial points of a few rows")
    return _used(state, n)


def _columns(state: Minimisation) -> _State | None:
    """Where the columns are; None if they do not lie there row by row."""
    held = [getattr(state, name) for name in (*_ROWS, *_COUNTS)]
    held += [getattr(state.memory, name) for name in _MEMORY]
    if not all(column.is_contiguous() for column in held):
        return None
    return _State(*map(Tensor.data_ptr, held))


def _used(state: Minimisation, n: int) -> Minimisation:
    memory = state.memory
    most = memory.inverse.shape[1]
    if memory.used == most:
        return state
    return dataclasses.replace(state, memory=dataclasses.replace(memory, used=min(memory.used + n, most)))


@functools.lru_cache(maxsize=64)
def _told(limits: Limits) -> _Limits:
    search, about = limits.search, torch.finfo(torch.float64)
    return _Limits(
        search.decrease,
        about.eps**search.rise,
        search.shrink_min,
        search.shrink_max,
        limits.tol,
        limits.longest,
        limits.furthest,
        about.eps,
        about.tiny,
        FALLS,
        search.max_rejections,
        limits.max_evaluations,
        limits.max_idle,
        *map(int, (Status.CONVERGED, Status.STALLED, Status.MAX_STEPS, Status.NOT_FINITE, Status.UNBOUNDED)),
    )


@functools.cache
def _compiled() -> Any:
    found = library(Path(__file__).with_name("steps.c").read_text(encoding="utf-8"))
    if found is None:
        return None
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    found.run.argtypes = [*[size] * 3, *[pointer] * 2, size, ctypes.c_double, *[pointer] * 2]
    found.run.restype = ctypes.c_int
    return found
