"""Integrated paths over transition states: arc lengths and energies, from the minus to the plus minimum."""

from __future__ import annotations

import json

import torch

from torchscape.errors import TorchscapeError
from torchscape.landscape import rows
from torchscape.landscape.codec import from_blobs, to_blobs
from torchscape.landscape.store import Store
from torchscape.types import Float, Int, Tensor

__all__ = ["read_paths", "write_paths"]


def write_paths(
    store: Store, ids: Int[Tensor, "K"], arc: Float[Tensor, "K I"], energy: Float[Tensor, "K I"]
) -> None:
    """Store the paths of these transition states, in place of those that are there.

    Raises:
        TorchscapeError: if the numbers of points differ from what is stored, are not finite, or arcs do not grow.
    """
    if not (bool(arc.isfinite().all()) and bool(energy.isfinite().all()) and bool((arc.diff(dim=1) >= 0).all())):
        raise TorchscapeError("a path has points that are not finite, or arc lengths that fall: leave it out")
    known = store.execute("SELECT length(arc) / 8 FROM path LIMIT 1")
    if known and len(ids) and known[0][0] != arc.shape[1]:
        raise TorchscapeError(
            f"paths of {known[0][0]} points are stored already: give as many (n_points={known[0][0]})"
        )
    store.executemany(
        "INSERT INTO path(transition_state, arc, energy) VALUES (?, ?, ?) "
        "ON CONFLICT(transition_state) DO UPDATE SET arc = excluded.arc, energy = excluded.energy",
        list(zip(ids.tolist(), to_blobs(arc), to_blobs(energy), strict=True)),
    )


def read_paths(store: Store, ids: Int[Tensor, "E"]) -> Float[Tensor, "E I 2"] | None:
    """Arc length and energy along the path of each of these transition states, NaN where none is stored; None
    where none of them has one."""
    found = store.execute(
        "SELECT transition_state, arc, energy FROM path "
        "WHERE transition_state IN (SELECT value FROM json_each(?)) ORDER BY transition_state",
        (json.dumps(ids.tolist()),),
    )
    if not found:
        return None
    n_points = len(found[0][1]) // 8
    arc, energy = (from_blobs([row[column] for row in found], n_points) for column in (1, 2))
    out = torch.full((len(ids), n_points, 2), torch.nan, dtype=torch.float64)
    out[rows.positions(ids, rows.ints([row[0] for row in found]))] = torch.stack([arc, energy], 2)
    return out
