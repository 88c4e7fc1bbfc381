"""topsearch's folders, both of which files bear the names of PATHSAMPLE's with other contents.

topsearch is the Python package of L. Dicks and E. O. Pyzer-Knapp, https://github.com/IBM/topography-searcher.
As version 0.0.3 writes them, one record a line, minima counted from 0:

    min.data     number, energy (five decimals)
    ts.data      minimum, minimum, energy
    min.coords   D coordinates, as text
    ts.coords    the same of transition states
    pairlist     pairs of minima between which connections were tried
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.rearrangements import Rearrangements

__all__ = ["is_topsearch", "read_topsearch"]

_ENERGY_TOL = 1e-5  # one unit of the last digit that the files keep of an energy


def is_topsearch(path: str | Path) -> bool:
    """Whether this is a folder with ``min.data`` and ``min.coords``."""
    return all((Path(path) / name).is_file() for name in ("min.data", "min.coords"))


def read_topsearch(folder: str | Path, *, suffix: str = "", n_modes: int | None = None) -> Network:
    """The network in a folder of topsearch's, its minima in the order of ``min.data``.

    The files know nothing of curvatures: ``log_det`` is NaN, and the number of modes unknown unless it is
    given; symmetry and degeneracies are unknown as well (one image each). Energies have five decimals, and
    between two minima there is one transition state, the last that was found: topsearch keeps no more.
    :meth:`torchscape.Landscape.from_network` computes all of it anew.

    Args:
        folder: holds ``min.data``, ``min.coords``, ``ts.data``, ``ts.coords``.
        suffix: what was appended to these names (topsearch's ``text_string``).
        n_modes: number of vibrational modes of a minimum.

    Raises:
        TorchscapeError: naming the file, when one is missing, truncated or of another format.
    """
    folder = Path(folder)
    minima = _table(folder / f"min.data{suffix}", 2, "number, energy")
    saddles = _table(folder / f"ts.data{suffix}", 3, "minimum, minimum, energy")
    if not len(minima):
        raise TorchscapeError(f"{folder / f'min.data{suffix}'} holds no minima: is it the right folder?")
    coords = _points(folder / f"min.coords{suffix}", len(minima), None)
    ts_coords = _points(folder / f"ts.coords{suffix}", len(saddles), coords.shape[1])
    ids = minima[:, 0].astype(int)
    place = {int(number): position for position, number in enumerate(ids)}
    ends = [[place.get(int(end), -1) for end in row[:2]] for row in saddles]
    pairs = torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).T
    if bool((pairs < 0).any()):
        row = int((pairs < 0).any(0).int().argmax())
        raise TorchscapeError(
            f"{folder / f'ts.data{suffix}'}, line {row + 1}: joins {saddles[row, 0]:g} and {saddles[row, 1]:g}, "
            "not both of which are in min.data: the files do not belong together"
        )
    energy, is_edge = torch.from_numpy(saddles[:, 2].copy()), pairs[0] != pairs[1]
    unknown, around = -1 if n_modes is None else n_modes, ~is_edge
    nan = torch.full_like(energy, torch.nan)
    return Network.of(
        energy=torch.from_numpy(minima[:, 1].copy()),
        edges=pairs[:, is_edge],
        ts_energy=energy[is_edge],
        log_det=torch.full((len(minima),), torch.nan, dtype=torch.float64),
        ts_log_det=nan[is_edge],
        n_modes=unknown,
        ids=torch.from_numpy(ids),
        ts_ids=torch.nonzero(is_edge)[:, 0],
        energy_tol=_ENERGY_TOL,
        coords=coords,
        ts_coords=ts_coords[is_edge],
        rearrangements=Rearrangements.of(
            minimum=pairs[0, around],
            energy=energy[around],
            log_det=nan[around],
            n_modes=max(unknown - 1, -1),
            ids=torch.nonzero(around)[:, 0],
            coords=ts_coords[around],
        ),
    )


def _table(path: Path, n_fields: int, fields: str) -> np.ndarray:
    """Lines of so many numbers."""
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            row = [float(word) for word in line.split()]
        except ValueError as error:
            raise TorchscapeError(f"{path}, line {number}: {error}; the fields are {fields}") from None
        if len(row) != n_fields:
            raise TorchscapeError(f"{path}, line {number}: {len(row)} numbers where {n_fields} belong ({fields})")
        rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(len(rows), n_fields)


def _points(path: Path, n: int, ndim: int | None) -> torch.Tensor:
    """A line of coordinates for each point."""
    lines = _lines(path)
    if len(lines) != n:
        raise TorchscapeError(f"{path} has {len(lines)} points where the .data file has {n}: one is truncated")
    if not n:
        return torch.empty(0, ndim or 0, dtype=torch.float64)
    return torch.from_numpy(_table(path, ndim or len(lines[0].split()), "the coordinates"))


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise TorchscapeError(
            f"{path} does not exist: topsearch's folder has min.data, min.coords, ts.data and ts.coords"
        ) from None
    except UnicodeDecodeError:
        raise TorchscapeError(f"{path} is not a text file: the folder is damaged, or not topsearch's") from None
    if text and not text[-1].isspace():
        raise TorchscapeError(f"{path} ends in the middle of a line, so that its last number may be cut short")
    return [line for line in text.splitlines() if line.strip()]
