"""pele's databases read: SQLite files in which coordinates are pickled arrays.

pele is the Python energy landscape explorer of the groups of D. J. Wales and others,
https://github.com/pele-python/pele. Its tables, as version 0.1.2 writes them:

    tbl_minima             _id, energy, coords, fvib, pgorder, invalid, user_data
    tbl_transition_states  _id, energy, coords, _minimum1_id, _minimum2_id, eigenval, eigenvec, fvib, pgorder, ...
    tbl_system_property    property_name and a value: natoms, potential, ...
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchscape.errors import TorchscapeError
from torchscape.export.pickled import array_of
from torchscape.network import Network
from torchscape.outputs import head
from torchscape.outputs import is_landscape as is_sqlite
from torchscape.rearrangements import Rearrangements
from torchscape.types import Float, Int, Tensor

__all__ = ["is_pele", "read_pele"]

_ENERGY_TOL = 1e-9


def is_pele(path: str | Path) -> bool:
    """Whether this is a database of pele's."""
    if not is_sqlite(Path(path)) or any(head(Path(path))[68:72]):
        # A landscape's header says whose file it is. It is not opened here: SQLite would leave a log beside it.
        return False
    with contextlib.suppress(sqlite3.Error), _opened(Path(path)) as database:
        return {"tbl_minima", "tbl_transition_states"} <= set(_tables(database))
    return False


def read_pele(path: str | Path, *, n_modes: int | None = None, log_group_order: float = 0.0) -> Network:
    """The network in a database of pele's, its minima in the order of their ids.

    Nothing is unpickled but arrays of numbers (see :func:`torchscape.export.pickled.array_of`). ``fvib`` is ln
    of the product of the Hessian eigenvalues and ``pgorder`` the order of the point group, as in PATHSAMPLE;
    where pele has not computed them, ``log_det`` is NaN. Points that are marked invalid are left out, and so
    are transition states of such minima. The negative eigenvalue of a transition state, where known, is the
    property ``lowest_eigenvalue``.

    pele takes two points for one if their energies agree to 1e-3 (by default), wherever they lie: what it has
    merged is lost, but what it has kept twice is not. :meth:`torchscape.Landscape.from_network` compares
    coordinates as well.

    Args:
        path: the file.
        n_modes: number of vibrational modes of a minimum; by default 3 N - 6 where the database knows N atoms, the
            points have 3 N coordinates and no box is mentioned, else unknown.
        log_group_order: ln of the order of the whole symmetry group, for absolute degeneracies.

    Raises:
        TorchscapeError: if it is no such database, is damaged, or holds a pickle of something else than numbers.
    """
    path = Path(path)
    if not is_pele(path):
        raise TorchscapeError(
            f"{path} is no database of pele's: it has no tables tbl_minima, tbl_transition_states"
        )
    try:
        with _opened(path) as database:
            minima = _rows(database, "tbl_minima", ("_id", "energy", "coords", "fvib", "pgorder"))
            ends = ("_minimum1_id", "_minimum2_id")
            saddles = _rows(
                database,
                "tbl_transition_states",
                ("_id", "energy", "coords", "fvib", "pgorder", "eigenval", *ends),
            )
            said = _properties(database)
    except sqlite3.Error as error:
        raise TorchscapeError(f"{path} cannot be read ({error}): copy it again") from error
    if not minima["_id"]:
        raise TorchscapeError(f"{path} holds no minima")
    return _network(path, minima, saddles, said, n_modes, log_group_order)


def _network(
    path: Path,
    minima: dict[str, list],
    saddles: dict[str, list],
    said: dict[str, Any],
    n_modes: int | None,
    log_group_order: float,
) -> Network:
    place = {number: position for position, number in enumerate(minima["_id"])}
    ends = [
        (place.get(i), place.get(j)) for i, j in zip(saddles["_minimum1_id"], saddles["_minimum2_id"], strict=True)
    ]
    keep = [row for row, (i, j) in enumerate(ends) if i is not None and j is not None]
    saddles = {name: [column[row] for row in keep] for name, column in saddles.items()}
    pairs = torch.tensor([ends[row] for row in keep], dtype=torch.int64).reshape(-1, 2).T
    coords = _coordinates(path, "minimum", minima, None)
    ndim = coords.shape[1]
    ts_coords = _coordinates(path, "transition state", saddles, ndim)
    if n_modes is None:
        n_modes = _modes(said, ndim)
    energy, log_det, order = (_floats(minima[name]) for name in ("energy", "fvib", "pgorder"))
    ts_energy, ts_log_det, ts_order = (_floats(saddles[name]) for name in ("energy", "fvib", "pgorder"))
    is_edge, ids, lowest = pairs[0] != pairs[1], _ints(saddles["_id"]), _floats(saddles["eigenval"])
    has_lowest = bool(lowest.isfinite().any())
    degeneracy, ts_degeneracy = (
        log_group_order - o.nan_to_num(nan=1.0).clamp(min=1).log() for o in (order, ts_order)
    )
    log_det, ts_log_det = (
        torch.where(o > 0, values, torch.nan) for values, o in ((log_det, order), (ts_log_det, ts_order))
    )
    around = ~is_edge
    return Network.of(
        energy=energy,
        log_det=log_det,
        log_degeneracy=degeneracy,
        edges=pairs[:, is_edge],
        ts_energy=ts_energy[is_edge],
        ts_log_det=ts_log_det[is_edge],
        ts_log_degeneracy=ts_degeneracy[is_edge],
        n_modes=-1 if n_modes is None else n_modes,
        ids=_ints(minima["_id"]),
        ts_ids=ids[is_edge],
        energy_tol=_ENERGY_TOL,
        coords=coords,
        ts_coords=ts_coords[is_edge],
        ts_properties={"lowest_eigenvalue": lowest[is_edge]} if has_lowest else {},
        rearrangements=Rearrangements.of(
            minimum=pairs[0, around],
            energy=ts_energy[around],
            log_det=ts_log_det[around],
            log_degeneracy=ts_degeneracy[around],
            n_modes=-1 if n_modes is None else n_modes - 1,
            ids=ids[around],
            coords=ts_coords[around],
            properties={"lowest_eigenvalue": lowest[around]} if has_lowest else {},
        ),
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        yield database
    finally:
        database.close()


def _tables(database: sqlite3.Connection) -> list[str]:
    return [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def _rows(database: sqlite3.Connection, table: str, wanted: tuple[str, ...]) -> dict[str, list]:
    """Columns of a table by name, without what is marked invalid; None where the file has no such column."""
    known = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
    selected = ", ".join(name if name in known else "NULL" for name in wanted)
    valid = "WHERE NOT COALESCE(invalid, 0)" if "invalid" in known else ""
    rows = database.execute(f"SELECT {selected} FROM {table} {valid} ORDER BY _id").fetchall()
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(wanted)
    return {name: list(column) for name, column in zip(wanted, columns, strict=True)}


def _properties(database: sqlite3.Connection) -> dict[str, Any]:
    """What is said of the system, but for what is pickled."""
    if "tbl_system_property" not in _tables(database):
        return {}
    rows = database.execute("SELECT property_name, int_value, float_value, string_value FROM tbl_system_property")
    return {name: next((v for v in values if v is not None), None) for name, *values in rows}


def _modes(said: dict[str, Any], ndim: int) -> int | None:
    boxed = any("box" in str(name).lower() or "freeze" in str(name).lower() for name in said)
    n_atoms = said.get("natoms")
    return ndim - 6 if not boxed and n_atoms is not None and 3 * int(n_atoms) == ndim > 6 else None


def _coordinates(path: Path, of: str, rows: dict[str, list], ndim: int | None) -> Float[Tensor, "K D"]:
    points: list[np.ndarray] = []
    for number, blob in zip(rows["_id"], rows["coords"], strict=True):
        try:
            if not isinstance(blob, bytes):
                raise TorchscapeError("it has no coordinates")
            x = array_of(blob).astype(np.float64).reshape(-1)
            if len(x) != (ndim or len(x)):
                raise TorchscapeError(f"{len(x)} coordinates, where others have {ndim}")
        except TorchscapeError as error:
            raise TorchscapeError(f"{path}, {of} {number}: {error}") from None
        ndim = len(x)
        points.append(x)
    return torch.from_numpy(np.array(points, dtype=np.float64).reshape(len(points), ndim or 0))


def _floats(values: list) -> Float[Tensor, "K"]:
    return torch.tensor([float("nan") if v is None else float(v) for v in values], dtype=torch.float64)


def _ints(values: list) -> Int[Tensor, "K"]:
    return torch.tensor(values, dtype=torch.int64)
