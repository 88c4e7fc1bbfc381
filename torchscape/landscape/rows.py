"""Rows of the tables of points: which of them count, their columns, and the points that they are."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from torchscape.errors import TorchscapeError
from torchscape.landscape.codec import from_blobs
from torchscape.landscape.store import Store
from torchscape.points import StationaryPoints, Status
from torchscape.types import Bool, Float, Int, Tensor

__all__ = [
    "IS_MINIMUM",
    "IS_TRANSITION_STATE",
    "Columns",
    "TableName",
    "column",
    "coordinates",
    "counts_by_index",
    "floats",
    "higher_saddle_ids",
    "ints",
    "minimum_ids",
    "points",
    "positions",
    "transition_state_ids",
    "without_log_det",
]

TableName = Literal["minimum", "transition_state", "higher_saddle"]


def _wanted(unique: Int[Tensor, "K"]) -> tuple[str, tuple[int | str, ...]]:
    """The end of a query for ascending ids, and its values. All ids of a run of numbers are read in one go."""
    if len(unique) and int(unique[-1] - unique[0]) == len(unique) - 1:
        return "WHERE id BETWEEN ? AND ? ORDER BY id", (int(unique[0]), int(unique[-1]))
    return "WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id", (json.dumps(unique.tolist()),)


IS_MINIMUM = "COALESCE(idx, 0) = 0 AND COALESCE(family, id) = id"
IS_TRANSITION_STATE = (  # where all minima are minima, which most often holds, no end is looked up
    "(NOT EXISTS (SELECT 1 FROM minimum WHERE idx > 0) "
    "OR COALESCE(minus, -1) NOT IN (SELECT id FROM minimum WHERE idx > 0) "
    "AND COALESCE(plus, -1) NOT IN (SELECT id FROM minimum WHERE idx > 0))"
)


def minimum_ids(store: Store) -> Int[Tensor, "N"]:
    """Ids of the minima by ascending energy, the earlier found first where energies are equal."""
    found = store.execute(f"SELECT id, energy FROM minimum NOT INDEXED WHERE {IS_MINIMUM} ORDER BY id")
    return Columns(found, 2, by=1).ints(0)


def transition_state_ids(store: Store) -> Int[Tensor, "E"]:
    """Ids of the transition states by ascending energy, degenerate rearrangements included."""
    found = store.execute(f"SELECT id FROM transition_state WHERE {IS_TRANSITION_STATE} ORDER BY energy, id")
    return ints([row[0] for row in found])


def higher_saddle_ids(store: Store) -> Int[Tensor, "K"]:
    """Ids of the stationary points of index 2 and more by ascending energy."""
    return ints([row[0] for row in store.execute("SELECT id FROM higher_saddle ORDER BY energy, id")])


def without_log_det(store: Store, table: TableName) -> Int[Tensor, "K"]:
    """Ids of the points of a table that count and have no log-determinant, ascending."""
    counts = IS_MINIMUM if table == "minimum" else IS_TRANSITION_STATE
    found = store.execute(f"SELECT id FROM {table} NOT INDEXED WHERE log_det IS NULL AND {counts} ORDER BY id")
    return ints([row[0] for row in found])


def counts_by_index(store: Store) -> list[int]:
    """Numbers of stationary points of index 0, 1, 2, ..., up to the highest there is."""
    ((n_minima,),) = store.execute(f"SELECT COUNT(*) FROM minimum WHERE {IS_MINIMUM}")
    ((n_saddles,),) = store.execute(f"SELECT COUNT(*) FROM transition_state WHERE {IS_TRANSITION_STATE}")
    higher = dict(store.execute("SELECT idx, COUNT(*) FROM higher_saddle GROUP BY idx"))
    return [n_minima, n_saddles, *(higher.get(k, 0) for k in range(2, max(higher, default=1) + 1))]


def column(store: Store, table: TableName, expression: str, ids: Int[Tensor, "K"]) -> Float[Tensor, "K"]:
    """One numeric column at the given ids; NaN where the table has no such id."""
    where, values = _wanted(ids.unique())
    rows = store.execute(f"SELECT id, {expression} FROM {table} {where}", values)
    if not rows:
        return torch.full((len(ids),), torch.nan, dtype=torch.float64)
    found, told = ints([row[0] for row in rows]), floats([row[1] for row in rows])
    position = torch.searchsorted(found, ids).clamp(max=len(found) - 1)
    return torch.where(found[position] == ids, told[position], torch.nan)


def coordinates(store: Store, table: TableName, ids: Int[Tensor, "K"], ndim: int) -> Float[Tensor, "K D"]:
    """Coordinates at the given ids, in their order."""
    unique, inverse = ids.unique(return_inverse=True)
    where, values = _wanted(unique)
    rows = store.execute(f"SELECT {store.blob('x')}, id FROM {table} {where}", values)
    blobs, sums, found = zip(*rows, strict=True) if rows else ((), (), ())
    if len(found) != len(unique):
        raise TorchscapeError(_unknown(table))
    store.expect_blobs(table, found, blobs, sums)
    x = from_blobs(blobs, ndim)
    return x if torch.equal(unique, ids) else x[inverse]


def points(store: Store, table: TableName, ids: Int[Tensor, "K"], ndim: int) -> StationaryPoints:
    """The points with these ids, in this order, in float64 on the CPU.

    Raises:
        TorchscapeError: if there is no such id.
    """
    unique, inverse = ids.unique(return_inverse=True)
    where, values = _wanted(unique)
    rows = store.execute(
        "SELECT energy, grad_rms, COALESCE(idx, -1), log_det, COALESCE(n_zero, -1), n_evaluations, id, "
        f"{store.blob('x')}, {store.blob('eigenvalues')} FROM {table} {where}",
        values,
    )
    if len(rows) != len(unique):
        raise TorchscapeError(_unknown(table))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 11
    energy, grad_rms, index, log_det, n_zero, n_evaluations, known, x, x_sums, spectra, spectra_sums = columns
    store.expect_blobs(table, known, x, x_sums)
    store.expect_blobs(table, known, spectra, spectra_sums)
    found = StationaryPoints.of(
        from_blobs(x, ndim),
        floats(energy),
        grad_rms=floats(grad_rms),
        status=torch.full((len(rows),), int(Status.CONVERGED)),
        index=ints(index),
        log_det=floats(log_det),
        n_zero=ints(n_zero),
        n_evaluations=ints(n_evaluations),
        eigenvalues=None if not rows or None in spectra else from_blobs(spectra, ndim),
    )
    return found[inverse]


def _unknown(table: TableName) -> str:
    return f"the landscape has no {table} with some of these ids; see minimum_ids()"


def positions(ids: Int[Tensor, "N"], wanted: Int[Tensor, "*S"]) -> Int[Tensor, "*S"]:
    """Where each wanted id stands in ``ids``, -1 where it does not; -1 is no id.

    Example:
        >>> positions(torch.tensor([4, 2]), torch.tensor([2, 3, 4, -1])).tolist()
        [1, -1, 0, -1]
    """
    if len(ids) == 0 or wanted.numel() == 0:
        return torch.full_like(wanted, -1)
    position = torch.full((int(max(ids.max(), wanted.max())) + 1,), -1)
    position[ids] = torch.arange(len(ids))
    return torch.where(wanted >= 0, position[wanted], -1)


def floats(values: Sequence[float | int | None]) -> Float[Tensor, "B"]:
    """A column as a tensor; NULL becomes NaN."""
    return torch.from_numpy(np.array(values, dtype=np.float64))


def ints(values: Sequence[int]) -> Int[Tensor, "B"]:
    """A column without NULLs as a tensor."""
    return torch.from_numpy(np.array(values, dtype=np.int64))


class Columns:
    """The rows of a query, column by column as tensors.

    Args:
        found: the rows.
        n_columns: how many columns they have.
        by: the column in whose ascending order they are wanted, rows with equal values as they come. Rows that are
            read in the order of their ids and sorted here cost a third of those that SQLite looks up one by one
            along an index.
    """

    def __init__(self, found: list[tuple[Any, ...]], n_columns: int, *, by: int | None = None) -> None:
        self._columns = list(zip(*found, strict=True)) if found else [()] * n_columns
        self._rows = torch.arange(len(found)) if by is None else floats(self._columns[by]).argsort(stable=True)

    def __len__(self) -> int:
        return len(self._rows)

    def floats(self, column: int) -> Float[Tensor, "N"]:
        return floats(self._columns[column])[self._rows]

    def ints(self, column: int) -> Int[Tensor, "N"]:
        return ints(self._columns[column])[self._rows]

    def where(self, kept: Bool[Tensor, "N"]) -> Columns:
        """Some of the rows, in the same order."""
        some = copy.copy(self)
        some._rows = self._rows[kept]
        return some
