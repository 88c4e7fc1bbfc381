"""PATHSAMPLE's files, both ways: ``min.data``, ``ts.data``, ``points.min``, ``points.ts``, ``min.A``, ``min.B``.

One record per line, numbers separated by blanks, minima counted from 1:

    min.data   energy, ln prod(mu), point-group order, three principal moments of inertia
    ts.data    energy, ln prod(mu > 0), point-group order, minimum, minimum, three moments
    points.*   no header: D float64 coordinates per record
    min.A, .B  how many minima, then which: the two end states of a rate

PATHSAMPLE, OPTIM and GMIN are the programs of D. J. Wales; the method is discrete path sampling,
doi 10.1080/00268970210162691.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from torchscape.errors import TorchscapeError
from torchscape.network import Network
from torchscape.outputs import head, whole_files
from torchscape.types import Float, Int, Tensor

__all__ = ["read_pathsample", "read_pathsample_sets", "write_pathsample"]

_ENERGY_TOL = 1e-9  # ten units of the last digit that the files keep of an energy
_MINIMUM = "energy, ln prod of eigenvalues, point-group order, three moments of inertia"
_SADDLE = "energy, ln prod of eigenvalues, point-group order, two minima, three moments of inertia"


def write_pathsample(
    network: Network,
    folder: str | Path,
    *,
    a: Sequence[int] | Int[Tensor, "K"] | None = None,
    b: Sequence[int] | Int[Tensor, "L"] | None = None,
    log_group_order: float | None = None,
    cluster: bool = False,
) -> list[Path]:
    """Write a network as PATHSAMPLE reads it; returns the files written.

    The point-group order is o = exp(log_group_order - log_degeneracy), because n = |G|/o images belong to a
    point whose stabiliser has order o: only ratios of o enter a rate. ``points.*`` are written when the network
    carries coordinates.

    Args:
        network: N minima, E transition states.
        folder: made when absent; files of the same names are replaced, all at once when the new ones are whole.
        a, b: positions (from 0) of the end-state minima for ``min.A`` and ``min.B``.
        log_group_order: ln |G|; by default the largest log_degeneracy (and at least 0), so that the most
            degenerate point has o = 1.
        cluster: the coordinates are those of a cluster of identical atoms in three dimensions: write its
            principal moments of inertia (unit masses) instead of ones.

    Raises:
        TorchscapeError: if an order is not a whole number, a ``log_det`` is unknown, a minimum of ``a`` or ``b``
            does not exist, ``cluster`` is asked of coordinates that are not a cluster's, or a file of one of these
            names holds something else.
        OSError: when the folder cannot be written.

    Example:
        >>> import tempfile
        >>> net = Network.of(energy=[0.0, 0.5], edges=[(0, 1)], ts_energy=[1.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     names = [path.name for path in write_pathsample(net, folder, a=[0], b=[1])]
        ...     again = read_pathsample(folder)
        >>> names, again.edges.tolist(), again.ts_energy.tolist()
        (['min.data', 'ts.data', 'min.A', 'min.B'], [[0], [1]], [1.0])
    """
    if log_group_order is None:
        log_group_order = max([0.0, *network.log_degeneracy.tolist(), *network.ts_log_degeneracy.tolist()])
    _expect_finite(network)
    orders = _orders(log_group_order - network.log_degeneracy, "minimum")
    ts_orders = _orders(log_group_order - network.ts_log_degeneracy, "transition state")
    inertia = _inertia(network.coords, network.n_minima, cluster)
    ts_inertia = _inertia(network.ts_coords, network.n_edges, cluster)
    sets = {
        f"min.{name}": _positions(chosen, network) for name, chosen in (("A", a), ("B", b)) if chosen is not None
    }

    folder = Path(folder)
    minima = zip(network.energy.tolist(), network.log_det.tolist(), orders, inertia.tolist(), strict=True)
    saddles = zip(
        network.ts_energy.tolist(),
        network.ts_log_det.tolist(),
        ts_orders,
        (network.edges.T + 1).tolist(),
        ts_inertia.tolist(),
        strict=True,
    )
    lines: dict[str, Iterable[str]] = {
        "min.data": (
            f"{_f20(energy)}{_f20(log_det)}{_i(o, 6)}{_f20(*moments)}" for energy, log_det, o, moments in minima
        ),
        "ts.data": (
            f"{_f20(energy)}{_f20(log_det)}{_i(o, 10)}{_i(i, 10)}{_i(j, 10)}{_f20(*moments)}"
            for energy, log_det, o, (i, j), moments in saddles
        ),
        **{name: [str(len(chosen)), *(str(i + 1) for i in chosen)] for name, chosen in sets.items()},
    }
    points = {"points.min": network.coords, "points.ts": network.ts_coords}
    # Coordinates of other minima that an earlier export has left there would be taken for those of these.
    with whole_files(folder, {**dict.fromkeys(lines, _holds_numbers), **dict.fromkeys(points, _any)}) as beside:
        for name, text in lines.items():
            _write_lines(beside / name, text)
        for name, x in points.items():
            if x is not None:
                x.detach().cpu().numpy().astype("<f8").tofile(beside / name)
    order = ["min.data", "ts.data", *(name for name, x in points.items() if x is not None), *sets]
    return [folder / name for name in order]


def _holds_numbers(path: Path) -> bool:
    """Whether its first line begins with a number, as in every text file of PATHSAMPLE."""
    words = head(path).split(None, 1)
    try:
        return bool(words) and math.isfinite(float(words[0].upper().replace(b"D", b"E")))
    except ValueError:
        return False


def _any(path: Path) -> bool:
    """Coordinates have no mark of their own: any file of that name is taken for them."""
    return True


def read_pathsample(folder: str | Path, *, n_modes: int | None = None, log_group_order: float = 0.0) -> Network:
    """The network in a PATHSAMPLE folder, its minima in the order of ``min.data``.

    ``log_degeneracy`` becomes log_group_order - ln o, ``ids`` are PATHSAMPLE's own numbers (from 1), coordinates
    are read where ``points.min`` and ``points.ts`` exist. A transition state whose two minima are one is a
    degenerate rearrangement: counted, and no edge.

    Args:
        folder: holds at least ``min.data`` and ``ts.data``.
        n_modes: number of vibrational modes of a minimum, which the files do not say (1 if not given).
        log_group_order: ln of the order of the whole symmetry group, for absolute degeneracies.

    Raises:
        TorchscapeError: naming the file and the line, when a file is missing, truncated or of another format.
    """
    folder = Path(folder)
    minima = _records(folder / "min.data", 6, _minimum_record, _MINIMUM)
    if not minima:
        raise TorchscapeError(f"{folder / 'min.data'} holds no minima: is it the right folder?")
    saddles = _records(folder / "ts.data", 8, _saddle_record(len(minima)), _SADDLE)
    edges = torch.tensor([record[3:5] for record in saddles], dtype=torch.int64).reshape(-1, 2).T - 1
    is_edge = edges[0] != edges[1]
    table = torch.tensor([record[:3] for record in saddles], dtype=torch.float64).reshape(-1, 3)[is_edge]
    energy, log_det, order = torch.tensor(minima, dtype=torch.float64).T
    coords, ts_coords = _points(folder, len(minima), len(saddles))
    return Network.of(
        energy=energy,
        log_det=log_det,
        log_degeneracy=log_group_order - order.log(),
        edges=edges[:, is_edge],
        ts_energy=table[:, 0],
        ts_log_det=table[:, 1],
        ts_log_degeneracy=log_group_order - table[:, 2].log(),
        n_modes=n_modes,
        ids=torch.arange(1, len(minima) + 1),
        ts_ids=torch.arange(1, len(saddles) + 1)[is_edge],
        n_degenerate_rearrangements=int((~is_edge).sum()),
        energy_tol=_ENERGY_TOL,
        coords=coords,
        ts_coords=None if ts_coords is None else ts_coords[is_edge],
    )


def read_pathsample_sets(folder: str | Path) -> tuple[Int[Tensor, "K"], Int[Tensor, "L"]]:
    """The end states in ``min.A`` and ``min.B``, as positions from 0.

    Raises:
        TorchscapeError: when a file is missing, or holds another number of minima than it says.
    """
    return _read_set(Path(folder) / "min.A"), _read_set(Path(folder) / "min.B")


# --- writing ----------------------------------------------------------------------------------------------


def _f20(*values: float) -> str:
    """Fortran's F20.10; E20.10 where that would touch its neighbour or print asterisks (both are read alike)."""
    return "".join(f"{v:20.10f}" if abs(v) < 1e7 else f"{v:20.10E}" for v in values)


def _i(value: int, width: int) -> str:
    """Fortran's I-format, never touching the number before it."""
    return f" {value:{width - 1}d}"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def _expect_finite(network: Network) -> None:
    for name in ("energy", "log_det", "ts_energy", "ts_log_det"):
        unknown = ~getattr(network, name).isfinite()
        if bool(unknown.any()):
            raise TorchscapeError(
                f"{name} is unknown at {int(unknown.sum())} points, the first at position "
                f"{int(unknown.int().argmax())}, and PATHSAMPLE has no word for that: compute the Hessian "
                "spectra first (saddles.characterise), or leave these points out"
            )


def _orders(log_order: Float[Tensor, "K"], of: str) -> list[int]:
    """exp of each entry, which must be a whole number that a Fortran INTEGER holds."""
    order = log_order.exp()
    whole = order.round()
    wrong = ((order - whole).abs() > 1e-6 * whole.clamp(min=1)) | (whole < 1) | (whole >= 2**31)
    if bool(wrong.any()):
        row = int(wrong.int().argmax())
        raise TorchscapeError(
            f"{of} {row} would have the point-group order {order[row].item():.6g}, but PATHSAMPLE takes whole "
            "numbers from 1 to 2147483647: give log_group_order, the ln of the order of the whole symmetry group"
        )
    return whole.long().tolist()


def _inertia(x: Float[Tensor, "K D"] | None, n: int, cluster: bool) -> Float[Tensor, "n 3"]:
    """Principal moments of unit masses about their centre, ascending; ones when there is no cluster."""
    if not cluster:
        return torch.ones(n, 3, dtype=torch.float64)
    if x is None or x.shape[1] % 3:
        raise TorchscapeError("cluster=True needs coordinates of 3 per atom: give a network that carries them")
    atoms = x.detach().cpu().double().reshape(n, -1, 3)
    atoms = atoms - atoms.mean(1, keepdim=True)
    second = torch.einsum("nai,naj->nij", atoms, atoms)
    trace = second.diagonal(dim1=1, dim2=2).sum(1)
    return torch.linalg.eigvalsh(trace[:, None, None] * torch.eye(3, dtype=torch.float64) - second)


def _positions(chosen: Sequence[int] | Int[Tensor, "K"], network: Network) -> list[int]:
    positions = torch.as_tensor(chosen, dtype=torch.int64).reshape(-1).tolist()
    for position in positions:
        if not 0 <= position < network.n_minima:
            raise TorchscapeError(
                f"there is no minimum {position}: positions run from 0 to {network.n_minima - 1}"
            )
    return positions


# --- reading ----------------------------------------------------------------------------------------------


def _records(path: Path, n_fields: int, parse: Callable[[list[str]], tuple], fields: str) -> list[tuple]:
    """One tuple per line that is not blank; further fields are ignored, as a list-directed READ ignores them."""
    records = []
    text = _text(path)
    lines = text.splitlines()
    _expect_ended(path, text, f"{path}, line {len(lines)}")
    for number, line in enumerate(lines, start=1):
        words = line.split()
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


def _minimum_record(words: list[str]) -> tuple[float, float, int]:
    return _real(words[0]), _real(words[1]), _order(words[2])


def _saddle_record(n_minima: int) -> Callable[[list[str]], tuple[float, float, int, int, int]]:
    def parse(words: list[str]) -> tuple[float, float, int, int, int]:
        ends = int(words[3]), int(words[4])
        for end in ends:
            if not 1 <= end <= n_minima:
                raise ValueError(f"minimum {end} is not among the {n_minima} of min.data (counted from 1)")
        return _real(words[0]), _real(words[1]), _order(words[2]), *ends

    return parse


def _real(word: str) -> float:
    """A Fortran number, 1.5D-03 included; not NaN or infinity."""
    value = float(word.upper().replace("D", "E"))
    if not math.isfinite(value):
        raise ValueError(f"{word!r} is not a finite number")
    return value


def _order(word: str) -> int:
    order = int(word)
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
    if x is not None and ts_x is not None and not n_saddles:
        ts_x = x.new_empty(0, x.shape[1])
    return x, ts_x


def _floats(path: Path, n: int) -> Float[Tensor, "n D"] | None:
    if not path.exists():
        return None
    size = path.stat().st_size
    if size % (8 * max(n, 1)) or (size == 0) != (n == 0):
        raise TorchscapeError(
            f"{path} has {size} bytes, which are not {n} records of float64 numbers: it is truncated, "
            "or belongs to other .data files"
        )
    return torch.from_numpy(np.fromfile(path, dtype="<f8").astype(np.float64)).reshape(n, size // (8 * max(n, 1)))


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
