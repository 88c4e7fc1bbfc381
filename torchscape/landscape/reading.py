"""The reading half of a ``Landscape``: arrays, network and summary of what is there."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Literal

import torch

from torchscape.devices import HOST
from torchscape.errors import DatabaseError, TorchscapeError
from torchscape.landscape import identity, rows, view
from torchscape.landscape.description import described
from torchscape.landscape.journal import Journal
from torchscape.landscape.paths import read_paths
from torchscape.landscape.store import Store
from torchscape.network import Network
from torchscape.outputs import whole_file
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.types import Float, Int, Tensor

__all__ = ["Reading"]


class Reading(Journal):
    """What a :class:`~torchscape.landscape.Landscape` shows, with or without its potential."""

    def __init__(self, store: Store, potential: Potential | None) -> None:
        super().__init__(store)
        self.potential = potential

    @property
    def path(self) -> Path | None:
        return self._store.path

    @property
    def lacks_log(self) -> bool:
        """Whether the log beside the file, with what was committed last, is gone: a copy was made without it."""
        return self._store.lacks_log

    def copy(self, path: str | os.PathLike[str]) -> Path:
        """Write everything that is committed into a new file; also while somebody else is exploring, and of a
        landscape in memory. Returns its path.

        Copying the file by other means misses what is still in the log beside it, or catches both in the middle of
        a change.

        Raises:
            DatabaseError: if there is such a file already, or it cannot be written.

        Example:
            >>> import tempfile
            >>> import torchscape as tsc
            >>> surface = tsc.FunctionPotential(lambda x: (x[0]**2 - 1)**2 + x[1]**2, 2)
            >>> with tempfile.TemporaryDirectory() as folder, tsc.Landscape.in_memory(surface) as landscape:
            ...     landscape.copy(f"{folder}/kept.db").name
            'kept.db'
        """
        path = expect_new(path)
        with whole_file(path) as beside:
            self._store.copy(beside)
        return path

    @property
    def fingerprint(self) -> str:
        """Which potential the file belongs to."""
        return str(self._meta("fingerprint"))

    @property
    def ndim(self) -> int:
        return int(self._meta("ndim"))

    def _meta(self, key: str) -> Any:
        return self._store.execute("SELECT value FROM meta WHERE key = ?", (key,))[0][0]

    @property
    def n_minima(self) -> int:
        # Asked for often: ids have no gaps, so that nothing needs to be counted one by one.
        total = "(SELECT COALESCE(MAX(id) + 1, 0) FROM minimum)"
        others = "(SELECT COUNT(*) FROM minimum WHERE idx > 0) - (SELECT COUNT(*) FROM minimum WHERE family != id)"
        return int(self._store.execute(f"SELECT {total} - {others}")[0][0])

    @property
    def n_transition_states(self) -> int:
        """All of them, degenerate rearrangements included."""
        return len(view.transition_state_ids(self._store))

    def minimum_ids(self) -> Int[Tensor, "N"]:
        """Ids of all minima by ascending energy: the order of :meth:`minima` and :meth:`network`."""
        return view.minimum_ids(self._store)

    def transition_state_ids(self) -> Int[Tensor, "E"]:
        """Ids of all transition states by ascending energy: the order of :meth:`transition_states`."""
        return view.transition_state_ids(self._store)

    def uncharacterised(self, of: Literal["minima", "transition_states"] = "minima") -> Int[Tensor, "K"]:
        """Ids of the points whose curvature is unknown; see :meth:`Landscape.set_curvature`."""
        known = self.minimum_ids() if of == "minima" else self.transition_state_ids()
        log_det = rows.column(self._store, "minimum" if of == "minima" else "transition_state", "log_det", known)
        return known[log_det.isnan()].sort().values

    def minima(
        self, ids: Int[Tensor, "K"] | None = None, *, device: torch.device | str | None = None
    ) -> StationaryPoints:
        """All minima by ascending energy, or those with ``ids``, in that order, in the potential's own dtype.

        They lie on the potential's device, unless another ``device`` is asked for."""
        with self._store.snapshot():
            return self._points("minimum", self.minimum_ids() if ids is None else ids, device)

    def transition_states(
        self, ids: Int[Tensor, "K"] | None = None, *, device: torch.device | str | None = None
    ) -> StationaryPoints:
        """All transition states by ascending energy, or those with ``ids``, in that order; see :meth:`minima`."""
        with self._store.snapshot():
            return self._points("transition_state", self.transition_state_ids() if ids is None else ids, device)

    def stationary_points(self) -> StationaryPoints:
        """All stationary points of every index by ascending energy: minima, transition states, higher saddles.

        A minimum whose curvature is unknown has index -1.
        """
        with self._store.snapshot():
            higher = self._points("higher_saddle", view.higher_saddle_ids(self._store))
            points = StationaryPoints.cat([self.minima(), self.transition_states(), higher])
        return points[points.energy.sort(stable=True).indices]

    def counts_by_index(self) -> list[int]:
        """How many stationary points of index 0, 1, 2, ... are known.

        Where they are complete and none is degenerate, their alternating sum is the Euler characteristic of the
        domain (Morse theory): 2 for a sphere of even dimension, 0 for one of odd dimension, 1 for a box with the
        gradient pointing out of every wall.
        """
        return view.counts_by_index(self._store)

    def ends(self, ids: Int[Tensor, "K"] | None = None) -> Int[Tensor, "K 2"]:
        """The two minima (ids) of every transition state, in the order of :meth:`transition_states`; -1 where a
        path leaves the box."""
        ids = self.transition_state_ids() if ids is None else ids.cpu()
        expressions = ("COALESCE(minus, -1)", "COALESCE(plus, -1)")
        minus, plus = (rows.column(self._store, "transition_state", end, ids) for end in expressions)
        if bool(minus.isnan().any()):
            raise TorchscapeError("the landscape has no transition state with some of these ids")
        return torch.stack([minus, plus], 1).long()

    def paths(self) -> Float[Tensor, "E I 2"] | None:
        """Arc length and energy along the integrated path of every transition state, in the order of
        :meth:`transition_states`; NaN where a path was not integrated, None where none was.
        """
        with self._store.snapshot():
            return read_paths(self._store, self.transition_state_ids())

    def network(self, *, coords: bool | Literal["auto"] = "auto") -> Network:
        """All minima and transition states of the last commit as arrays, by ascending energy.

        ``ids`` are those of this file, parallel edges are kept, degenerate rearrangements are counted but are no
        edges, properties and integrated paths come along.

        Args:
            coords: whether to carry coordinates; "auto" does up to ten million numbers.
        """
        return view.read_network(self._store, coords=coords)

    def properties(self) -> dict[str, Float[Tensor, "N"]]:
        """Every named property in the order of :meth:`minima`; NaN where a minimum has none."""
        with self._store.snapshot():
            return view.read_properties(self._store, self.minimum_ids())

    def refusals(self) -> dict[str, int]:
        """How many candidates were refused, by "kind: reason"."""
        found = self._store.execute("SELECT kind, reason, SUM(n) FROM refusal GROUP BY kind, reason ORDER BY 1, 2")
        return {f"{kind}: {reason}": n for kind, reason, n in found}

    def summary(self) -> dict[str, Any]:
        """What there is, as plain numbers: the content of ``torchscape info --json``.

        Minima are numbered as in ``energies`` (ascending, the numbering of :meth:`network`); ``database_ids``
        translates. ``connections`` are the distinct pairs of minima that transition states join,
        ``n_connected_pairs`` is their number; ``connected_fraction`` is the share of the minima that are connected
        with the lowest; ``ts_energies`` has all transition states, ascending. ``coverage`` estimates how complete
        both are (see :func:`torchscape.analysis.coverage`; NaN where nothing was hit). ``complete`` says whether
        the last run had nothing left to do, and found no families: ``n_families`` of the minima are no points, but
        continuous families with so many ``flat_directions`` that no declared symmetry explains;
        ``n_unjoined_families`` of them share their energy with another. ``invariances`` are shifts that leave U
        unchanged and that nobody declared: ``directions``, and ``periods`` by coordinate. ``lacks_log`` says that
        the file is a copy without the log that belongs to it, so that what was found last is missing, and
        ``unfinished`` what :meth:`kept` tells.
        """
        with self._store.snapshot():
            found = self.load_state("invariances") or {}
            told = view.summarise(self._store, self.network(coords=False), self.runs(), self.refusals(), found)
            kept = self.kept()
        told["unfinished"] = kept
        return {**told, "complete": told["complete"] and not self.lacks_log, "lacks_log": self.lacks_log}

    def describe(self) -> str:
        """Counts, energies, connectivity, coverage and work in a few lines: what ``torchscape info`` prints."""
        return described(self.summary())

    def _points(
        self, table: rows.TableName, ids: Int[Tensor, "K"], device: torch.device | str | None = None
    ) -> StationaryPoints:
        points = rows.points(self._store, table, ids.cpu(), self.ndim)
        dtype = identity.stored_dtype(self._store)
        if device is None:
            device = HOST if self.potential is None else self.potential.device
        floats = {
            field.name: column.to(dtype)
            for field in dataclasses.fields(points)
            if (column := getattr(points, field.name)) is not None and column.dtype.is_floating_point
        }
        return points.replace(**floats).to(device)


def expect_new(path: str | os.PathLike[str]) -> Path:
    """The path of a landscape file that is to be written whole.

    Raises:
        DatabaseError: if there is something already, or no folder for it.
    """
    path = Path(path)
    if path.is_dir():
        raise DatabaseError(f"{path} is a directory: name a file in it, such as {path / 'copy.db'}")
    for there in (path, path.with_name(path.name + "-wal")):
        if there.exists() or there.is_symlink():
            raise DatabaseError(f"{there} exists already: write to another name, or remove it first")
    if not path.absolute().parent.is_dir():
        raise DatabaseError(f"cannot create {path}: there is no directory {path.absolute().parent}")
    return path
