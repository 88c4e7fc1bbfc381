"""The network as two CSV tables, for spreadsheets, pandas and R."""

from __future__ import annotations

import csv
from pathlib import Path

from torchscape.export.columns import minimum_columns, require_coords, transition_state_columns
from torchscape.network import Network
from torchscape.types import Tensor

__all__ = ["to_csv"]


def to_csv(network: Network, folder: str | Path, *, coords: bool = False) -> tuple[Path, Path]:
    """Write ``minima.csv`` and ``transition_states.csv``; returns their paths.

    The columns are ``minimum`` (its position 0..N-1), ``id`` (the database's), ``energy, log_det,
    log_degeneracy, n_modes, hits`` and the properties; for transition states ``transition_state, id, minimum_a,
    minimum_b`` (positions) and the same five. Numbers are written so that reading them gives the same float.

    Args:
        network: what to write.
        folder: made when absent.
        coords: append one column ``x0, x1, ...`` per coordinate.

    Raises:
        TorchscapeError: if ``coords`` is asked for and the network has none.
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
    folder.mkdir(parents=True, exist_ok=True)
    return (
        _write(folder / "minima.csv", "minimum", minima),
        _write(folder / "transition_states.csv", "transition_state", saddles),
    )


def _write(path: Path, counter: str, columns: dict[str, Tensor]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([counter, *columns])
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        writer.writerows([i, *row] for i, row in enumerate(rows))
    return path
