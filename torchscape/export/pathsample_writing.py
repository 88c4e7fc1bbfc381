"""PATHSAMPLE's files written, with the inputs of PATHSAMPLE and disconnectionDPS that describe them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from torchscape.errors import TorchscapeError
from torchscape.export.fortran import columns, integer, real
from torchscape.export.inertia import MOMENTS, are_linear, moments_of_inertia
from torchscape.export.pathdata import WRITTEN, dinfo_lines, pathdata_lines
from torchscape.export.pathsample import SETS
from torchscape.network import Network
from torchscape.outputs import Kind, head, whole_files
from torchscape.rearrangements import Rearrangements
from torchscape.types import Float, Int, Tensor

__all__ = ["write_pathsample"]


def write_pathsample(
    network: Network,
    folder: str | Path,
    *,
    a: Sequence[int] | Int[Tensor, "K"] | None = None,
    b: Sequence[int] | Int[Tensor, "L"] | None = None,
    log_group_order: float | None = None,
    cluster: bool | None = None,
    temperature: float | None = None,
) -> list[Path]:
    """Write a network as PATHSAMPLE and disconnectionDPS read it; returns the files written:

    - ``min.data``, a line for each minimum in the order of the network: energy, ln of the product of the Hessian
      eigenvalues, point-group order, three moments of inertia;
    - ``ts.data``, a line for each transition state: energy, ln of the product of its positive eigenvalues,
      order, the two minima (counted from 1 in the order of ``min.data``), three moments. Degenerate
      rearrangements, if the network carries them, name one minimum twice; they stand where their ids put them
      if ``ts_ids`` ascend, and last otherwise;
    - ``points.min``, ``points.ts``, when the network carries coordinates: D float64 numbers a record,
      little-endian, without any header, in the order of ``min.data`` and ``ts.data``;
    - ``min.A`` and ``min.B``, when ``a`` and ``b`` are given or the network has the properties ``in_A`` and
      ``in_B``: how many minima, then their numbers, one a line;
    - ``pathdata``: NATOMS, DIRECTION AB, NOPOINTS without coordinates, TEMPERATURE if given; and in comments,
      which :func:`~torchscape.export.read_pathsample` reads, how many vibrational modes there are (where that
      is not 3 NATOMS - 6) and ln of the group order. EXEC, SYSTEM and what is to be done are for you to add;
    - ``dinfo``: DELTA, FIRST, LEVELS, MINIMA, TS, and a tree of what is connected with the lowest minimum.

    A ``pathdata`` or ``dinfo`` of your own that is there already stays as it is. Numbers are written so that
    reading them gives the same ones: as F20.10 if ten decimals are enough for a column, else as F25.15 or
    E25.16.

    The point-group order is o = exp(log_group_order - log_degeneracy), because n = |G|/o images belong to a
    point whose stabiliser has order o: only ratios of o enter a rate.

    Args:
        network: N minima, E transition states.
        folder: made when absent; files of the same names are replaced, all at once when the new ones are whole.
        a, b: positions (from 0) of the end-state minima for ``min.A`` and ``min.B``.
        log_group_order: ln |G|; by default the largest log_degeneracy (and at least 0), so that the most
            degenerate point has o = 1. Of N like atoms it is ln(2 N!).
        cluster: the coordinates are those of a cluster of atoms in three dimensions: write its principal
            moments of inertia (unit masses) rather than ones. By default if all minima have as many modes as
            such a cluster. Moments that the network has as properties are written in any case.
        temperature: for ``pathdata``.

    Raises:
        TorchscapeError: if an order is not a whole number, a ``log_det`` is unknown, a minimum of ``a`` or ``b``
            does not exist, ``cluster`` is asked of coordinates that are not a cluster's, or a file of one of these
            names holds something else.
        OSError: when the folder cannot be written.

    Example:
        >>> import tempfile
        >>> from torchscape.export import read_pathsample
        >>> net = Network.of(energy=[0.0, 0.5], edges=[(0, 1)], ts_energy=[1.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     names = [path.name for path in write_pathsample(net, folder, a=[0], b=[1])]
        ...     again = read_pathsample(folder)
        >>> names, again.edges.tolist(), again.ts_energy.tolist()
        (['min.data', 'ts.data', 'min.A', 'min.B', 'pathdata', 'dinfo'], [[0], [1]], [1.0])
    """
    if network.n_minima == 0:
        raise TorchscapeError("the network has no minima, and PATHSAMPLE needs some: explore first")
    saddles, ends = _all_saddles(network)
    if log_group_order is None:
        log_group_order = max([0.0, *network.log_degeneracy.tolist(), *saddles.log_degeneracy.tolist()])
    _expect_known(network, saddles)
    cluster = _is_cluster(network) if cluster is None else cluster
    lines: dict[str, Iterable[str]] = {
        "min.data": _minimum_lines(network, log_group_order, cluster),
        "ts.data": _saddle_lines(saddles, ends, log_group_order, cluster),
        **{
            name: [str(len(chosen)), *(str(i + 1) for i in chosen)]
            for name, chosen in _sets(network, a, b).items()
        },
        "pathdata": pathdata_lines(network, log_group_order, cluster=cluster, temperature=temperature),
        "dinfo": dinfo_lines(network),
    }
    return _write(Path(folder), lines, {"points.min": network.coords, "points.ts": saddles.coords})


def _write(folder: Path, lines: dict[str, Iterable[str]], points: dict[str, Tensor | None]) -> list[Path]:
    """The files, all at once; inputs that somebody else has written stay."""
    for name in ("pathdata", "dinfo"):
        if (folder / name).is_file() and not _is_ours(folder / name):
            del lines[name]
    # Coordinates and end states that an earlier export has left there would be taken for those of these minima.
    kinds: dict[str, Kind] = dict.fromkeys(["min.data", "ts.data", *SETS.values()], _holds_numbers)
    kinds |= dict.fromkeys(points, _any) | {n: _is_ours for n in ("pathdata", "dinfo") if n in lines}
    with whole_files(folder, kinds) as beside:
        for name, text in lines.items():
            with (beside / name).open("w", encoding="ascii", newline="\n") as file:
                file.writelines(f"{line}\n" for line in text)
        for name, x in points.items():
            if x is not None:
                x.detach().cpu().numpy().astype("<f8").tofile(beside / name)
    binary = [name for name, x in points.items() if x is not None]
    names = list(lines)
    return [folder / name for name in (*names[:2], *binary, *names[2:])]


def _is_ours(path: Path) -> bool:
    return head(path).startswith(WRITTEN.encode())


def _holds_numbers(path: Path) -> bool:
    """Whether its first line begins with a number, as in every text file of PATHSAMPLE."""
    words = head(path).split(None, 1)
    try:
        return bool(words) and math.isfinite(real(words[0].decode("ascii", "replace")))
    except ValueError:
        return False


def _any(path: Path) -> bool:
    """Coordinates have no mark of their own: any file of that name is taken for them."""
    return True


# --- what is written --------------------------------------------------------------------------------------


def _all_saddles(network: Network) -> tuple[Rearrangements, Int[Tensor, "2 F"]]:
    """Edges and rearrangements in the order of the file, and the two ends of each."""
    edges = Rearrangements(
        network.edges[0],
        network.ts_energy,
        network.ts_log_det,
        network.ts_log_degeneracy,
        network.ts_n_modes,
        network.ts_hits,
        network.ts_ids,
        network.ts_coords,
        network.ts_properties,
    )
    around = network.rearrangements
    if around is None or len(around) == 0:
        return edges, network.edges
    if network.ts_coords is not None and around.coords is None:
        raise TorchscapeError("the rearrangements carry no coordinates, while the other transition states do")
    both = Rearrangements.cat([edges, around])
    ends = torch.cat([network.edges, around.minimum.expand(2, -1)], 1)
    ascending = bool((network.ts_ids.diff() > 0).all()) and len(both.ids.unique()) == len(both)
    if not ascending:
        return both, ends
    order = both.ids.argsort()
    return both[order], ends[:, order]


def _minimum_lines(network: Network, log_group_order: float, cluster: bool) -> list[str]:
    orders = _orders(log_group_order - network.log_degeneracy, "minimum")
    inertia = _inertia(network.coords, network.n_minima, network.properties, cluster)
    rows = zip(_columns(network.energy, network.log_det), orders, _columns(*inertia.T), strict=True)
    return [f"{reals}{integer(o, 6)}{moments}" for reals, o, moments in rows]


def _saddle_lines(
    saddles: Rearrangements, ends: Int[Tensor, "2 F"], log_group_order: float, cluster: bool
) -> list[str]:
    orders = _orders(log_group_order - saddles.log_degeneracy, "transition state")
    inertia = _inertia(saddles.coords, len(saddles), saddles.properties, cluster)
    reals, moments = _columns(saddles.energy, saddles.log_det), _columns(*inertia.T)
    rows = zip(reals, orders, (ends.T + 1).tolist(), moments, strict=True)
    return [f"{r}{integer(o, 10)}{integer(i, 10)}{integer(j, 10)}{m}" for r, o, (i, j), m in rows]


def _columns(*values: Float[Tensor, "K"]) -> list[str]:
    """The columns side by side, a line for each row."""
    return ["".join(row) for row in zip(*(columns(column.tolist()) for column in values), strict=True)]


def _expect_known(network: Network, saddles: Rearrangements) -> None:
    named = {"energy": network.energy, "log_det": network.log_det}
    for name, values in {**named, "ts_energy": saddles.energy, "ts_log_det": saddles.log_det}.items():
        unknown = ~values.isfinite()
        if bool(unknown.any()):
            raise TorchscapeError(
                f"{name} is unknown at {int(unknown.sum())} points, the first at position "
                f"{int(unknown.int().argmax())}, and PATHSAMPLE has no word for that: compute the Hessian "
                "spectra first (saddles.characterise), or leave these points out"
            )


def _orders(log_order: Float[Tensor, "K"], of: str) -> list[int]:
    """exp of each entry, which must be a whole number that a Fortran INTEGER holds."""
    order = log_order.exp()
    near = order.round()
    wrong = ((order - near).abs() > 1e-6 * near.clamp(min=1)) | (near < 1) | (near >= 2**31)
    if bool(wrong.any()):
        row = int(wrong.int().argmax())
        raise TorchscapeError(
            f"{of} {row} would have the point-group order {order[row].item():.6g}, but PATHSAMPLE takes whole "
            "numbers from 1 to 2147483647: give log_group_order, the ln of the order of the whole symmetry group"
        )
    return near.long().tolist()


def _is_cluster(network: Network) -> bool:
    """Whether all minima have as many modes as atoms that float in space."""
    x = network.coords
    if x is None or x.shape[1] % 3 or x.shape[1] < 6:
        return False
    return bool((network.n_modes.cpu() == x.shape[1] - 6 + are_linear(moments_of_inertia(x)).long()).all())


def _inertia(
    x: Float[Tensor, "K D"] | None, n: int, properties: Mapping[str, Float[Tensor, "K"]], cluster: bool
) -> Float[Tensor, "n 3"]:
    """Moments as they are known, or of unit masses about the centre, ascending; ones when there is no cluster."""
    if all(name in properties for name in MOMENTS):
        return torch.stack([properties[name].double().cpu() for name in MOMENTS], 1)
    if not cluster:
        return torch.ones(n, 3, dtype=torch.float64)
    if x is None:
        raise TorchscapeError("cluster=True needs coordinates of 3 per atom: give a network that carries them")
    return moments_of_inertia(x).round(decimals=10)


def _sets(
    network: Network, a: Sequence[int] | Tensor | None, b: Sequence[int] | Tensor | None
) -> dict[str, list[int]]:
    """The members of the end states by file, as they are given, or as the network knows them."""
    chosen: dict[str, list[int]] = {}
    for (name, file), given in zip(SETS.items(), (a, b), strict=True):
        if given is None and name in network.properties:
            given = torch.nonzero(network.properties[name] > 0.5)[:, 0]
        if given is not None:
            chosen[file] = _positions(given, network)
    return chosen


def _positions(chosen: Sequence[int] | Int[Tensor, "K"], network: Network) -> list[int]:
    positions = torch.as_tensor(chosen, dtype=torch.int64).reshape(-1).tolist()
    for position in positions:
        if not 0 <= position < network.n_minima:
            raise TorchscapeError(
                f"there is no minimum {position}: positions run from 0 to {network.n_minima - 1}"
            )
    return positions
