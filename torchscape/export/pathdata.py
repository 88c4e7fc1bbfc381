"""What PATHSAMPLE and disconnectionDPS are told: the keywords of ``pathdata`` and ``dinfo``, both ways.

A keyword a line, then what it needs; an exclamation mark begins a comment. What torchscape knows and PATHSAMPLE
has no keyword for (how many vibrational modes there are where that is not 3 N - 6, and the order of the
symmetry group) it writes as comments, which those programs pass over, and reads again.
"""

from __future__ import annotations

import math
from pathlib import Path

from torchscape.export.fortran import real, whole
from torchscape.network import Network

__all__ = ["WRITTEN", "Keywords", "dinfo_lines", "pathdata_lines"]

WRITTEN = "! written by torchscape"
"""How the files begin that may be replaced."""

_MODES, _ORDER = "vibrational modes", "ln of the group order"
_LEVELS = 40


class Keywords:
    """The keywords of a ``pathdata`` file, as far as they say how many vibrational modes there are.

    Args:
        path: the file; where there is none, nothing is said.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text = (Path(folder) / "pathdata").write_text("NATOMS 38 ! a cluster\\nTEMPERATURE 0.1\\n")
        ...     Keywords(Path(folder) / "pathdata").n_modes
        108
    """

    def __init__(self, path: Path) -> None:
        self._said: dict[str, list[str]] = {}
        self._noted: dict[str, str] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        said, _, comment = line.partition("!")
        if words := said.split():
            self._said[words[0].upper()] = words[1:]
        elif ":" in comment:
            name, _, value = comment.partition(":")
            self._noted[name.strip()] = value.strip()

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._said

    @property
    def n_atoms(self) -> int | None:
        """What NATOMS says."""
        return self._whole("NATOMS")

    @property
    def noted_modes(self) -> int | None:
        """Vibrational modes, as torchscape has noted them."""
        try:
            return whole(self._noted[_MODES])
        except (KeyError, ValueError):
            return None

    @property
    def n_modes(self) -> int | None:
        """Vibrational modes of a minimum; None where that is not said.

        By PATHSAMPLE's own rules for N atoms: 3 N - 6; 3 N - 3 in a periodic box (BULK), 2 N - 3 and 2 N - 2 in
        the plane (TWOD), 3 N - 4 where the ends of a molecule are pulled (PULL), 3 N less those of frozen atoms
        (FREEZE), 3 N on a fixed background (NOTRANSROT). With NOFRQS there are no frequencies, and their number
        says nothing.
        """
        n = self.n_atoms
        if n is None or "NOFRQS" in self:
            return None
        modes = self._of_atoms(n)
        return modes if modes > 0 else None

    def _of_atoms(self, n: int) -> int:
        if "TWOD" in self:
            return 2 * n - (2 if "BULK" in self else 3)
        if "PULL" in self:
            return 3 * n - 4
        if "BULK" in self:
            return 3 * n - 3
        if "FREEZE" in self:
            return 3 * n - 3 * len(set(self._said["FREEZE"]))
        return 3 * n if "NOTRANSROT" in self else 3 * n - 6

    @property
    def is_cluster(self) -> bool:
        """Whether nothing is said against a molecule that floats in space."""
        return not any(word in self for word in ("BULK", "TWOD", "PULL", "FREEZE", "NOTRANSROT", "NOFRQS"))

    @property
    def log_group_order(self) -> float | None:
        """As torchscape has noted it."""
        try:
            return real(self._noted[_ORDER])
        except (KeyError, ValueError):
            return None

    def _whole(self, keyword: str) -> int | None:
        try:
            return whole(self._said[keyword][0])
        except (KeyError, IndexError, ValueError):
            return None


def pathdata_lines(
    network: Network, log_group_order: float, *, cluster: bool, temperature: float | None
) -> list[str]:
    """The lines of ``pathdata`` that describe a network; see :func:`torchscape.export.write_pathsample`."""
    ndim = 0 if network.coords is None else network.coords.shape[1]
    n_atoms, modes = max(1, -(-ndim // 3)), network.n_modes.unique().tolist()
    lines = [f"{WRITTEN}: what the database is; add EXEC, SYSTEM and what is to be done"]
    lines += [f"NATOMS         {n_atoms}" + (f" ! {ndim} coordinates a point" if ndim % 3 else "")]
    lines += [] if ndim else ["NOPOINTS       ! there are no points.min and points.ts"]
    if len(modes) == 1 and modes[0] >= 0 and not (cluster and modes[0] == ndim - 6):
        lines += [f"! {_MODES}: {modes[0]}"]
    if log_group_order:
        lines += [f"! {_ORDER}: {log_group_order:.17g}"]
    return [*lines, "DIRECTION      AB"] + ([] if temperature is None else [f"TEMPERATURE    {temperature:.15g}"])


def dinfo_lines(network: Network) -> list[str]:
    """The lines of ``dinfo``: a tree of what is joined to the lowest minimum, with all transition states."""
    low, high = float(network.energy.min()), float(network.energy.max())
    if network.n_edges:
        high = float(network.ts_energy.max())
    step = _round_up((high - low) / (_LEVELS - 2)) if high > low else 1.0
    first = math.ceil(high / step) * step
    return [
        f"{WRITTEN}, for disconnectionDPS",
        f"DELTA {step:.10g}",
        f"FIRST {first:.10g}",
        f"LEVELS {max(2, math.ceil((first - low) / step) + 1)}",
        "MINIMA min.data",
        "TS ts.data",
        "NCONNMIN 0",
        f"CONNECTMIN {network.global_minimum + 1}",
        "CENTREGMIN",
    ]


def _round_up(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    size = 10.0 ** math.floor(math.log10(step))
    return next(k * size for k in (1.0, 2.0, 5.0, 10.0) if step <= k * size * (1 + 1e-12))
