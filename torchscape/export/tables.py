"""The network as two CSV tables, for spreadsheets, pandas and R."""

from __future__ import annotations

import csv
from pathlib import Path

from torchscape.export.columns import minimum_columns, require_coords, transition_state_columns
from torchscape.network import Network
from torchscape.outputs import begins_with, whole_files
from torchscape.types import Tensor

__all__ = ["to_csv"]


def to_csv(network: Network, folder: str | Path, *, coords: bool = False) -> tuple[Path, Path]:
    """Write ``minima.csv`` and ``transition_states.csv``; returns their paths.

    The columns are ``minimum`` (its position 0..N-1), ``id`` (the database's), ``energy, log_det,
    log_degeneracy, n_modes, hits`` and the properties; for transition states ``transition_state, id, minimum_a,
    minimum_b`` (positions) and the same five. Numbers are written so that reading them gives the same float. Both
    files appear together, in place of such files only.

    Args:
        network: what to write.
        folder: made when absent.
        coords: append one column ``x0, x1, ...`` per coordinate.

    Raises:
        TorchscapeError: if ``coords`` is asked for and the network has none, or other tables have these names.
        OSError: when the folder cannot be written.
    """
    minima = {"id": network.ids, **minimum_columns(network)}
    saddles = {"id": network.ts_ids, "minimum_a": network.edges[0], "minimum_b": network.edges[1]}
    saddles |= transition_state_columns(network)
    if coords:
        x, ts_x = require_coords(network)
        minima |= {f"x{d}": column for d, column in enumerate(x.T)}
        saddles |= {f"x{d}": column for d, column in enumerate(ts_x.T)}
    folder = Path(folder)
    with whole_files(folder, _FILES) as beside:
        _write(beside / "minima.csv", "minimum", minima)
        _write(beside / "transition_states.csv", "transition_state", saddles)
    return folder / "minima.csv", folder / "transition_states.csv"


_FILES = {"minima.csv": begins_with(b"minimum,id,"), "transition_states.csv": begins_with(b"transition_state,id,")}


def _write(path: Path, counter: str, columns: dict[str, Tensor]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([counter, *columns])
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        writer.writerows([i, *row] for i, row in enumerate(rows))
