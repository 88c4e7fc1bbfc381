"""PATHSAMPLE's files read: ``min.data``, ``ts.data``, ``points.*``, ``min.A``, ``min.B``, ``pathdata``.

One record per line, numbers separated by blanks, minima counted from 1:

    min.data   energy, ln prod(mu), point-group order, three principal moments of inertia
    ts.data    energy, ln prod(mu > 0), point-group order, minimum, minimum, three moments
    points.*   no header: D float64 coordinates per record
    min.A, .B  how many minima, then which: the two end states of a rate
    pathdata   keywords, among them NATOMS

PATHSAMPLE, OPTIM and GMIN are the programs of D. J. Wales; the method is discrete path sampling,
doi 10.1080/00268970210162691. They are written by :mod:`torchscape.export.pathsample_writing`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from torchscape.errors import TorchscapeError
from torchscape.export.fortran import real, whole, words_of
from torchscape.export.inertia import MOMENTS, are_linear, moments_of
from torchscape.export.pathdata import Keywords
from torchscape.network import Network
from torchscape.rearrangements import Rearrangements
from torchscape.types import Float, Int, Tensor

__all__ = ["SETS", "is_pathsample", "read_pathsample", "read_pathsample_sets"]

SETS = {"in_A": "min.A", "in_B": "min.B"}
"""Names of the properties that say which minima are in the end states, and the files they come from."""

_ENERGY_TOL = 1e-9  # ten units of the last digit that the files keep of an energy
_MINIMUM = "energy, ln prod of eigenvalues, point-group order, three moments of inertia"
_SADDLE = "energy, ln prod of eigenvalues, point-group order, two minima, three moments of inertia"


def is_pathsample(path: str | Path) -> bool:
    """Whether this is a folder with ``min.data`` and ``ts.data``."""
    return all((Path(path) / name).is_file() for name in ("min.data", "ts.data"))


def read_pathsample(
    folder: str | Path,
    *,
    n_modes: int | None = None,
    log_group_order: float | None = None,
    minima: str = "min.data",
    saddles: str = "ts.data",
) -> Network:
    """The network in a PATHSAMPLE folder, its minima in the order of ``min.data``.

    ``log_degeneracy`` becomes log_group_order - ln o, ``ids`` are PATHSAMPLE's own numbers (from 1), coordinates
    are read where ``points.min`` and ``points.ts`` hold any. A transition state whose two minima are one is a
    degenerate rearrangement: in ``rearrangements``, and no edge. Moments of inertia, unless all are one, are the
    properties ``inertia_a``, ``inertia_b``, ``inertia_c``; members of ``min.A`` and ``min.B`` have the property
    ``in_A`` or ``in_B`` 1. :func:`~torchscape.export.write_pathsample` writes all of it again.

    How many vibrational modes a minimum has is, in this order: what is given; what torchscape has noted in
    ``pathdata``; D - 6 (of atoms on a line D - 5), where the moments of inertia show that the coordinates are
    those of atoms in space; what the keywords of ``pathdata`` say
    (:class:`~torchscape.export.pathdata.Keywords`). It is -1, unknown, otherwise: populations and rates do
    without, heat capacities and free energies say what is missing.

    Args:
        folder: holds at least ``min.data`` and ``ts.data``.
        n_modes: number of vibrational modes of a minimum.
        log_group_order: ln of the order of the whole symmetry group, for absolute degeneracies; by default what
            torchscape has noted in ``pathdata``, else 0.
        minima, saddles: other names of ``min.data`` and ``ts.data``, as MINIMA and TS in a ``dinfo``.

    Raises:
        TorchscapeError: naming the file and the line, when a file is missing, truncated or of another format.
    """
    folder, keywords = Path(folder), Keywords(Path(folder) / "pathdata")
    found = _table(_records(folder / minima, 6, _minimum_record, _MINIMUM), 6)
    n = len(found)
    if not n:
        raise TorchscapeError(f"{folder / minima} holds no minima: is it the right folder?")
    table = _table(_records(folder / saddles, 8, _saddle_record(n, minima), _SADDLE), 8)
    if log_group_order is None:
        log_group_order = keywords.log_group_order or 0.0
    coords, ts_coords = _points(folder, n, len(table))
    modes = _modes(n_modes, keywords, coords, found[:, 3:])
    ends, moments = table[:, 3:5].long().T - 1, table[:, 5:]
    ts_modes = (modes[ends[0]] - 1).clamp(min=-1)
    if n_modes is None and keywords.noted_modes is None and moments_of(ts_coords, moments):
        ts_modes = ts_coords.shape[1] - 7 + are_linear(moments).long()  # type: ignore[union-attr]
    is_edge, ids = ends[0] != ends[1], torch.arange(1, len(table) + 1)
    around, has_moments = ~is_edge, bool((found[:, 3:] != 1).any() or (moments != 1).any())
    log_degeneracy = log_group_order - table[:, 2].log()
    inertia = dict(zip(MOMENTS, moments.T, strict=True)) if has_moments else {}
    return Network.of(
        energy=found[:, 0],
        log_det=found[:, 1],
        log_degeneracy=log_group_order - found[:, 2].log(),
        edges=ends[:, is_edge],
        ts_energy=table[is_edge, 0],
        ts_log_det=table[is_edge, 1],
        ts_log_degeneracy=log_degeneracy[is_edge],
        n_modes=modes,
        ts_n_modes=ts_modes[is_edge],
        ids=torch.arange(1, n + 1),
        ts_ids=ids[is_edge],
        rearrangements=Rearrangements.of(
            minimum=ends[0, around],
            energy=table[around, 0],
            log_det=table[around, 1],
            log_degeneracy=log_degeneracy[around],
            n_modes=ts_modes[around],
            ids=ids[around],
            coords=None if ts_coords is None else ts_coords[around],
            properties={name: column[around] for name, column in inertia.items()},
        ),
        energy_tol=_ENERGY_TOL,
        coords=coords,
        ts_coords=None if ts_coords is None else ts_coords[is_edge],
        properties=_properties(folder, found[:, 3:], has_moments),
        ts_properties={name: column[is_edge] for name, column in inertia.items()},
    )


def read_pathsample_sets(folder: str | Path) -> tuple[Int[Tensor, "K"], Int[Tensor, "L"]]:
    """The end states in ``min.A`` and ``min.B``, as positions from 0.

    Raises:
        TorchscapeError: when a file is missing, or holds another number of minima than it says.
    """
    return _read_set(Path(folder) / "min.A"), _read_set(Path(folder) / "min.B")


def _properties(folder: Path, moments: Float[Tensor, "N 3"], has_moments: bool) -> dict[str, Float[Tensor, "N"]]:
    """Moments of inertia, and who is in the end states."""
    n = len(moments)
    properties = dict(zip(MOMENTS, moments.T, strict=True)) if has_moments else {}
    for name, file in SETS.items():
        if not (folder / file).is_file():
            continue
        members = _read_set(folder / file)
        if len(members) and int(members.max()) >= n:
            raise TorchscapeError(
                f"{folder / file} names minimum {int(members.max()) + 1}, and there are {n}: the files do not "
                "belong together"
            )
        properties[name] = torch.zeros(n, dtype=torch.float64).index_fill_(0, members, 1.0)
    return properties


def _modes(
    given: int | None, keywords: Keywords, coords: Float[Tensor, "N D"] | None, moments: Float[Tensor, "N 3"]
) -> Int[Tensor, "N"]:
    """Vibrational modes of each minimum, -1 where nothing says how many."""
    n, ndim = len(moments), None if coords is None else coords.shape[1]
    if given is None:
        given = keywords.noted_modes
    if given is None and keywords.is_cluster and ndim is not None and moments_of(coords, moments):
        return ndim - 6 + are_linear(moments).long()
    if given is None and keywords.n_atoms is not None and ndim in (None, 3 * keywords.n_atoms):
        given = keywords.n_modes
    return torch.full((n,), -1 if given is None else given)


# --- lines ------------------------------------------------------------------------------------------------


def _records(path: Path, n_fields: int, parse: Callable[[list[str]], tuple], fields: str) -> list[tuple]:
    """One tuple per line that is not blank; further fields are ignored, as a list-directed READ ignores them."""
    records = []
    text = _text(path)
    lines = text.splitlines()
    _expect_ended(path, text, f"{path}, line {len(lines)}")
    for number, line in enumerate(lines, start=1):
        words = words_of(line)
        if not words:
            continue
        if len(words) < n_fields:
            raise TorchscapeError(
                f"{path}, line {number}: {len(words)} numbers where {n_fields} belong ({fields}): "
                "the file is truncated, or not PATHSAMPLE's"
            )
        try:
            records.append(parse(words))
        except ValueError as error:
            raise TorchscapeError(f"{path}, line {number}: {error}; the fields are {fields}") from None
    return records


def _table(records: list[tuple], n_fields: int) -> Float[Tensor, "K F"]:
    return torch.tensor(records, dtype=torch.float64).reshape(-1, n_fields)


def _minimum_record(words: list[str]) -> tuple[float, ...]:
    return real(words[0]), real(words[1]), float(_order(words[2])), *_moments(words[3:6])


def _saddle_record(n_minima: int, minima: str) -> Callable[[list[str]], tuple[float, ...]]:
    def parse(words: list[str]) -> tuple[float, ...]:
        ends = whole(words[3]), whole(words[4])
        for end in ends:
            if not 1 <= end <= n_minima:
                raise ValueError(f"minimum {end} is not among the {n_minima} of {minima} (counted from 1)")
        return real(words[0]), real(words[1]), float(_order(words[2])), *map(float, ends), *_moments(words[5:8])

    return parse


def _moments(words: list[str]) -> tuple[float, ...]:
    """Asterisks, where a moment did not fit into its column, are NaN."""
    return tuple(real(word, unknown=True) for word in words)


def _order(word: str) -> int:
    order = whole(word)
    if order < 1:
        raise ValueError(f"{order} is no order of a point group")
    return order


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise TorchscapeError(f"{path} does not exist: a PATHSAMPLE folder has min.data and ts.data") from None
    except UnicodeDecodeError:
        raise TorchscapeError(f"{path} is not a text file: the folder is damaged, or not PATHSAMPLE's") from None


def _expect_ended(path: Path, text: str, where: str) -> None:
    """12, cut to 1, is as good a number as any: what ends in a digit may be cut short."""
    if text and not text[-1].isspace():
        raise TorchscapeError(
            f"{where}: {path.name} ends in the middle of a line, so that its last number may be cut short: copy "
            "it again, or end the line if it is whole"
        )


def _points(
    folder: Path, n_minima: int, n_saddles: int
) -> tuple[Float[Tensor, "N D"] | None, Float[Tensor, "E D"] | None]:
    x, ts_x = (_floats(folder / name, n) for name, n in (("points.min", n_minima), ("points.ts", n_saddles)))
    if x is not None and ts_x is not None and n_saddles and x.shape[1] != ts_x.shape[1]:
        raise TorchscapeError(
            f"{folder}: points.min has {x.shape[1]} coordinates a record and points.ts {ts_x.shape[1]}: "
            "one of them is truncated"
        )
    if x is not None and not n_saddles:
        ts_x = x.new_empty(0, x.shape[1])
    return x, ts_x


def _floats(path: Path, n: int) -> Float[Tensor, "n D"] | None:
    """The records of a file; None where it is absent or empty, as NOPOINTS leaves it."""
    if not path.exists() or (size := path.stat().st_size) == 0:
        return None
    if n == 0 or size % (8 * n):
        raise TorchscapeError(
            f"{path} has {size} bytes, which are not {n} records of float64 numbers: it is truncated, "
            "or belongs to other .data files"
        )
    return torch.from_numpy(np.fromfile(path, dtype="<f8").astype(np.float64)).reshape(n, size // (8 * n))


def _read_set(path: Path) -> Int[Tensor, "K"]:
    text = _text(path)
    _expect_ended(path, text, str(path))
    try:
        count, *numbers = [int(word) for word in text.split()]
    except ValueError:
        raise TorchscapeError(f"{path} must hold whole numbers: how many minima, then which") from None
    if count != len(numbers) or min(numbers, default=1) < 1:
        raise TorchscapeError(
            f"{path} announces {count} minima and lists {len(numbers)}: it is truncated, or does not count from 1"
        )
    return torch.tensor(numbers, dtype=torch.int64) - 1
