"""What is attached to known points: named numbers of minima, and integrated paths over transition states."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Shaped

from torchscape.errors import TorchscapeError
from torchscape.landscape import rows
from torchscape.landscape.codec import from_blobs, to_blobs
from torchscape.landscape.store import Store
from torchscape.types import Float, Int, Tensor

__all__ = ["Values", "read_paths", "read_properties", "write_paths", "write_property"]

Values = Mapping[int, float | int] | Shaped[Tensor, "N"] | np.ndarray | Sequence[float | int]
"""Numbers of minima: by id, or one for each of them in the order of their energies."""


def write_property(store: Store, name: str, values: Values) -> None:
    """Attach a named number to minima.

    Raises:
        TorchscapeError: if there is not one value per minimum, or an id is unknown.
    """
    ids = rows.minimum_ids(store)
    if isinstance(values, Mapping):
        given = {int(i): float(value) for i, value in values.items()}
        if unknown := sorted(set(given) - set(ids.tolist())):
            raise TorchscapeError(f"property {name!r} names minima that do not exist: {unknown[:5]}")
    else:
        try:
            numbers = torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
        except (TypeError, ValueError, RuntimeError) as error:
            raise TorchscapeError(f"property {name!r} is not a list of numbers ({error}): give numbers") from error
        if len(numbers) != len(ids):
            raise TorchscapeError(
                f"property {name!r} has {len(numbers)} values for {len(ids)} minima: give one per minimum in "
                "the order of landscape.minima(), or a mapping from id to value"
            )
        given = dict(zip(ids.tolist(), numbers, strict=True))
    store.executemany(
        "INSERT INTO property(name, minimum, value) VALUES (?, ?, ?) "
        "ON CONFLICT(name, minimum) DO UPDATE SET value = excluded.value",
        [(name, i, value) for i, value in given.items()],
    )


def read_properties(store: Store, ids: Int[Tensor, "N"]) -> dict[str, Float[Tensor, "N"]]:
    """Every named property at the minima ``ids``; NaN where it was not given."""
    found = store.execute("SELECT name, minimum, value FROM property ORDER BY name, minimum")
    names = sorted({row[0] for row in found})
    properties = {name: torch.full((len(ids),), torch.nan, dtype=torch.float64) for name in names}
    for name in names:
        own = rows.Columns([row for row in found if row[0] == name], 3)
        position = rows.positions(ids, own.ints(1))
        kept = position >= 0
        properties[name][position[kept]] = own.floats(2)[kept]
    return properties


def write_paths(
    store: Store, ids: Int[Tensor, "K"], arc: Float[Tensor, "K I"], energy: Float[Tensor, "K I"]
) -> None:
    """Store the paths of these transition states, in place of those that are there.

    Raises:
        TorchscapeError: if the numbers of points differ from what is stored, are not finite, or arcs do not grow;
            or if an id is unknown.
    """
    if unknown := sorted(set(ids.tolist()) - set(rows.transition_state_ids(store).tolist())):
        raise TorchscapeError(f"paths of transition states that do not exist: {unknown[:5]}")
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
