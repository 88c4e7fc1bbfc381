"""What a landscape file shows: points, network, properties. Reading only; no potential is needed."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Literal

import torch

from torchscape.devices import HOST
from torchscape.errors import TorchscapeError
from torchscape.landscape import files, identity, rows
from torchscape.landscape.annotations import read_paths, read_properties
from torchscape.landscape.glance import Glance, glance
from torchscape.landscape.store import Store
from torchscape.network import Network
from torchscape.outputs import whole_file
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.rearrangements import Rearrangements
from torchscape.types import Float, Int, Tensor

__all__ = ["View"]

_COORDS_AUTO = 10_000_000  # numbers (80 MB) that coords="auto" still carries along


class View:
    """What a :class:`~torchscape.landscape.Landscape` shows, with or without its potential."""

    def __init__(self, store: Store, potential: Potential | None) -> None:
        self._store = store
        self._potential = potential

    @property
    def path(self) -> Path | None:
        return self._store.path

    @property
    def lacks_log(self) -> bool:
        """Whether the log beside the file, with what was committed last, is gone: a copy was made without it."""
        return self._store.lacks_log

    def copy(self, path: str | os.PathLike[str]) -> Path:
        """Write everything that is committed into a new file; also while another process is exploring, and of a
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
        path = files.expect_new(path)
        with whole_file(path) as beside:
            self._store.copy(beside)
        return path

    @property
    def fingerprint(self) -> str:
        """Which potential the file belongs to."""
        return str(self._meta("fingerprint"))

    @property
    def kind(self) -> str:
        """The class of its potential."""
        return str(self._meta("kind"))

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
        total = "(SELECT COALESCE(MAX(id) + 1, 0) FROM transition_state)"  # as above; few lose one of their minima
        ((wrong,),) = self._store.execute("SELECT EXISTS (SELECT 1 FROM minimum WHERE idx > 0)")
        others = f"SELECT COUNT(*) FROM transition_state WHERE NOT ({rows.IS_TRANSITION_STATE})" if wrong else "0"
        return int(self._store.execute(f"SELECT {total} - ({others})")[0][0])

    def glance(self) -> Glance:
        """Counts of minima, transition states and components, and the lowest energy, without reading points."""
        return glance(self._store)

    def minimum_ids(self) -> Int[Tensor, "N"]:
        """Ids of all minima by ascending energy: the order of :meth:`minima` and :meth:`network`."""
        return rows.minimum_ids(self._store)

    def minimum_energies(self, ids: Int[Tensor, "K"] | None = None) -> Float[Tensor, "K"]:
        """Energies of all minima, ascending, or of those with ``ids``, in that order: float64 on the CPU, without
        the coordinates, which :meth:`minima` reads along. NaN where there is no such id."""
        ids = self.minimum_ids() if ids is None else ids.cpu()
        return rows.column(self._store, "minimum", "energy", ids)

    def transition_state_ids(self) -> Int[Tensor, "E"]:
        """Ids of all transition states by ascending energy: the order of :meth:`transition_states`."""
        return rows.transition_state_ids(self._store)

    def uncharacterised(self, of: Literal["minima", "transition_states"] = "minima") -> Int[Tensor, "K"]:
        """Ids of the points whose curvature is unknown; see :meth:`Landscape.set_curvature`."""
        return rows.without_log_det(self._store, "minimum" if of == "minima" else "transition_state")

    def minima(
        self, ids: Int[Tensor, "K"] | None = None, *, device: torch.device | str | None = None
    ) -> StationaryPoints:
        """All minima by ascending energy, or those with ``ids``, in that order, in the potential's own dtype.

        They lie on the potential's device, unless another ``device`` is asked for."""
        with self._store.snapshot():
            return self.points("minimum", self.minimum_ids() if ids is None else ids, device)

    def transition_states(
        self, ids: Int[Tensor, "K"] | None = None, *, device: torch.device | str | None = None
    ) -> StationaryPoints:
        """All transition states by ascending energy, or those with ``ids``, in that order; see :meth:`minima`."""
        with self._store.snapshot():
            return self.points("transition_state", self.transition_state_ids() if ids is None else ids, device)

    def stationary_points(self) -> StationaryPoints:
        """All stationary points of every index by ascending energy: minima, transition states, higher saddles.

        A minimum whose curvature is unknown has index -1.
        """
        with self._store.snapshot():
            higher = self.points("higher_saddle", rows.higher_saddle_ids(self._store))
            points = StationaryPoints.cat([self.minima(), self.transition_states(), higher])
        return points[points.energy.sort(stable=True).indices]

    def counts_by_index(self) -> list[int]:
        """How many stationary points of index 0, 1, 2, ... are known.

        Where they are complete and none is degenerate, their alternating sum is the Euler characteristic of the
        domain (Morse theory): 2 for a sphere of even dimension, 0 for one of odd dimension, 1 for a box with the
        gradient pointing out of every wall.
        """
        return rows.counts_by_index(self._store)

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

        ``ids`` are those of this file, parallel edges are kept, degenerate rearrangements come beside, as they
        are no edges, properties and integrated paths come along.

        Args:
            coords: whether to carry coordinates; "auto" does up to ten million numbers.
        """
        with self._store.snapshot():
            (ndim,) = self._store.execute("SELECT value FROM meta WHERE key = 'ndim'")[0]
            minima = rows.Columns(
                self._store.execute(
                    "SELECT id, energy, log_det, log_degeneracy, COALESCE(n_zero, 0), hits, COALESCE(n_flat, 0) "
                    f"FROM minimum NOT INDEXED WHERE {rows.IS_MINIMUM} ORDER BY id"
                ),
                7,
                by=1,
            )
            found = rows.Columns(
                self._store.execute(
                    "SELECT id, energy, log_det, log_degeneracy, COALESCE(n_zero, 0), hits, lowest, "
                    "COALESCE(minus, -1), COALESCE(plus, -1) "
                    f"FROM transition_state NOT INDEXED WHERE {rows.IS_TRANSITION_STATE} ORDER BY id"
                ),
                9,
                by=1,
            )
            minus, plus = found.ints(7), found.ints(8)
            is_edge = (minus != plus) & (minus >= 0) & (plus >= 0)
            saddles = found.where(is_edge)
            ids = minima.ints(0)
            if coords == "auto":
                coords = (len(ids) + len(saddles)) * ndim <= _COORDS_AUTO
            degenerate = found.where((minus == plus) & (minus >= 0))
            around = _rearrangements(self._store, degenerate, ids, ndim, bool(coords))
            return Network(
                energy=minima.floats(1),
                log_det=minima.floats(2),
                log_degeneracy=minima.floats(3),
                edges=rows.positions(ids, torch.stack([minus, plus])[:, is_edge]),
                ts_energy=saddles.floats(1),
                # a transition state's log_det runs over its negative eigenvalue too
                ts_log_det=saddles.floats(2) - saddles.floats(6).abs().log(),
                ts_log_degeneracy=saddles.floats(3),
                n_modes=ndim - minima.ints(4),
                ts_n_modes=ndim - 1 - saddles.ints(4),
                hits=minima.ints(5),
                n_flat=minima.ints(6) if any(minima.ints(6).tolist()) else None,
                ts_hits=saddles.ints(5),
                ids=ids,
                ts_ids=saddles.ints(0),
                n_degenerate_rearrangements=len(around),
                rearrangements=around,
                loose_ts_hits=found.where(~is_edge).ints(5),
                coords=rows.coordinates(self._store, "minimum", ids, ndim) if coords else None,
                ts_coords=rows.coordinates(self._store, "transition_state", saddles.ints(0), ndim)
                if coords
                else None,
                ts_path=read_paths(self._store, saddles.ints(0)),
                properties=read_properties(self._store, ids),
                energy_tol=_energy_tol(self._store, minima.floats(1), saddles.floats(1)),
            ).validated()

    def properties(self) -> dict[str, Float[Tensor, "N"]]:
        """Every named property in the order of :meth:`minima`; NaN where a minimum has none."""
        with self._store.snapshot():
            return read_properties(self._store, self.minimum_ids())

    def refusals(self) -> dict[str, int]:
        """How many candidates were refused, by "kind: reason"."""
        found = self._store.execute("SELECT kind, reason, SUM(n) FROM refusal GROUP BY kind, reason ORDER BY 1, 2")
        return {f"{kind}: {reason}": n for kind, reason, n in found}

    def points(
        self, table: rows.TableName, ids: Int[Tensor, "K"], device: torch.device | str | None = None
    ) -> StationaryPoints:
        """Points of one table, in the potential's own dtype."""
        points = rows.points(self._store, table, ids.cpu(), self.ndim)
        dtype = identity.stored_dtype(self._store)
        if device is None:
            device = HOST if self._potential is None else self._potential.device
        floats = {
            field.name: column.to(dtype)
            for field in dataclasses.fields(points)
            if (column := getattr(points, field.name)) is not None and column.dtype.is_floating_point
        }
        return points.replace(**floats).to(device)


def _rearrangements(
    store: Store, found: rows.Columns, ids: Int[Tensor, "N"], ndim: int, coords: bool
) -> Rearrangements:
    """The transition states that join one of the minima ``ids`` to images of itself, by ascending energy."""
    return Rearrangements.of(
        minimum=rows.positions(ids, found.ints(7)),
        energy=found.floats(1),
        log_det=found.floats(2) - found.floats(6).abs().log(),
        log_degeneracy=found.floats(3),
        n_modes=ndim - 1 - found.ints(4),
        hits=found.ints(5),
        ids=found.ints(0),
        coords=rows.coordinates(store, "transition_state", found.ints(0), ndim) if coords else None,
    )


_SHARE_OF_RANGE = 1e-6
"""Of the range of energies: the matching may be set for a unit in which all energies here are tiny."""


def _energy_tol(store: Store, minima: Float[Tensor, "N"], saddles: Float[Tensor, "E"]) -> float:
    """Within which energies of this landscape are equal: the window by which it tells points apart.

    As points must also be close to be one, that window may be wider than all differences in energy; it is cut to a
    millionth of the range from the lowest minimum to the transition states (to the probe of the potential while
    there are none), so that no unit of the energy makes different minima equal.
    """
    if len(minima) == 0:
        return 0.0
    found = dict(store.execute("SELECT key, value FROM meta WHERE key IN ('matching', 'dtype', 'probe_energy')"))
    above = saddles if len(saddles) else torch.frombuffer(bytearray(found["probe_energy"]), dtype=torch.float64)
    above = above[above.isfinite()]
    tol = float(json.loads(found["matching"])["energy_tol"])
    size = float(minima.abs().max())
    if len(above):
        tol = min(tol, _SHARE_OF_RANGE * float(torch.cat([minima, above]).max() - minima.min()))
        size = max(size, float(above.abs().median()) if len(saddles) else 0.0)
    return tol + 1e3 * torch.finfo(getattr(torch, found["dtype"])).eps * size
