"""``PointTable``: how candidates become minima, or transition states, of the file."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from torchscape.devices import HOST
from torchscape.errors import TorchscapeError
from torchscape.landscape import rows
from torchscape.landscape.codec import to_blobs
from torchscape.landscape.families import doubtful, known_zero_modes, represented
from torchscape.landscape.matching import (
    Catalogue,
    Keys,
    Matching,
    Signature,
    first_matches,
    leaders,
)
from torchscape.landscape.store import Store
from torchscape.memory import MANY_LARGE, rows_that_fit
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.symmetry.pairs import pair_distances
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Origin", "PointTable"]

_BLOCK = 1024  # rows matched together; their mutual comparison is quadratic

Origin = tuple[int | None, str | None]
"""The run and the task that points came from."""


class PointTable:
    """One table of points of a :class:`~torchscape.landscape.store.Store`, with its catalogue in memory.

    The catalogue (energies and signatures) is read when points are first offered, kept in step with what is
    inserted, and dropped whenever a transaction fails: the file is what counts.
    """

    def __init__(self, store: Store, name: rows.TableName, potential: Potential, matching: Matching) -> None:
        self.store = store
        self.name = name
        self.potential = potential
        self.matching = matching
        self._signature = Signature(potential)
        self._catalogue: Catalogue | None = None
        store.on_rollback.append(self._forget)

    # --- offering ---------------------------------------------------------------------------------------

    def match(self, points: StationaryPoints) -> Int[Tensor, "B"]:
        """The id of the stored point that each row is, -1 where there is none. Changes nothing."""
        if self.store.readonly:  # a writer elsewhere may have added points since
            self._forget()
        blocks = [torch.empty(0, dtype=torch.int64)]
        points = points.to(HOST)
        for part in torch.arange(len(points)).split(_BLOCK):
            block = points[part]
            blocks.append(self._stored(block, self._keys(block)))
        return torch.cat(blocks)

    def novel(self, points: StationaryPoints) -> tuple[Int[Tensor, "B"], Int[Tensor, "K"], Int[Tensor, "B"]]:
        """What is not stored yet, before anything is: the id of each row (-1 where it is new), the rows that
        represent the new ones, and for each row which of these represents it (-1 where it is known).
        """
        known, heads, place = [], [], torch.full((len(points),), -1)
        n_heads = 0
        points = points.to(HOST)
        for part in torch.arange(len(points)).split(_BLOCK):
            block = points[part]
            keys = self._keys(block)
            ids = self._stored(block, keys)
            fresh = (ids < 0).nonzero()[:, 0]
            x = block.x[fresh]
            leader = leaders(keys.pick(fresh).similar(), functools.partial(self._alike, x))
            is_head = leader == torch.arange(len(fresh))
            place[part[fresh]] = n_heads + (is_head.cumsum(0) - 1)[leader]
            n_heads += int(is_head.sum())
            known.append(ids)
            heads.append(part[fresh[is_head]])
        none = torch.empty(0, dtype=torch.int64)
        return torch.cat([*known, none]), torch.cat([*heads, none]), place

    def offer(
        self,
        points: StationaryPoints,
        start: Int[Tensor, "B"],
        origin: Origin,
        *,
        lowest: Float[Tensor, "B"] | None = None,
        ends: Int[Tensor, "B 2"] | None = None,
        hits: Int[Tensor, "B"] | None = None,
        known: Int[Tensor, "B"] | None = None,
    ) -> Int[Tensor, "B"]:
        """The id of every row, after new points were inserted and all had their hits raised (by one each).

        Rows count as if they had come one by one. What a known point lacks (its log_det, say) is filled in from
        a row that has it; coordinates stay those of the first representative. ``known`` ids (>= 0) are believed.
        What has no finite degeneracy is not let in, and gets -1.
        """
        points = points.to(HOST)
        if lowest is None:
            lowest = torch.full((len(points),), torch.nan, dtype=torch.float64)
            if points.eigenvalues is not None:
                lowest = points.eigenvalues[:, 0].to(torch.float64)
        hits = torch.ones(len(points), dtype=torch.int64) if hits is None else hits
        if bool((hits < 0).any()):
            raise TorchscapeError("hits count searches that ended in a point: give numbers >= 0")
        blocks = [torch.empty(0, dtype=torch.int64)]
        for part in torch.arange(len(points)).split(_BLOCK):
            block = points[part]
            ids, new, images = self._identify(block, None if known is None else known[part])
            ids, block_ends = self.represented(ids), None if ends is None else ends[part]
            new_ends = None if block_ends is None else block_ends[new]
            self._insert(block[new], ids[new], images, start[part][new], origin, new_ends)
            in_file = (ids >= 0).nonzero()[:, 0]
            self._raise_hits(block[in_file], ids[in_file], hits[part][in_file], lowest[part][in_file])
            if block_ends is not None:
                self._count_conflicts(ids[in_file], block_ends[in_file])
            blocks.append(ids)
        return torch.cat(blocks)

    def _identify(
        self, block: StationaryPoints, known: Int[Tensor, "B"] | None = None
    ) -> tuple[Int[Tensor, "B"], Int[Tensor, "K"], Float[Tensor, "K"]]:
        """Ids of all rows, the rows that are new, now in the catalogue (but not yet in the file), and the
        logarithms of their degeneracies; -1 where that is not finite.
        """
        catalogue = self._ready()
        keys = self._keys(block)
        if known is None:
            ids = self._stored(block, keys)
        else:
            ids, open_ = known.clone(), (known < 0).nonzero()[:, 0]
            ids[open_] = self._stored(block[open_], keys.pick(open_))
        fresh = (ids < 0).nonzero()[:, 0]
        keys = keys.pick(fresh)
        x = block.x[fresh]
        leader = leaders(keys.similar(), lambda i, j: self._same(x, j, x, i))
        is_new = leader == torch.arange(len(fresh))
        images = x.new_empty(0, dtype=torch.float64)
        if len(fresh):  # one infinite degeneracy would make every average over the landscape NaN
            images = self.potential.symmetry.log_degeneracy(x[is_new].to(torch.float64))
            is_new[is_new.clone()] = images.isfinite()
        number = len(catalogue) + is_new.cumsum(0) - 1
        ids[fresh] = torch.where(is_new, number, -1)[leader]
        catalogue.append(keys.energy[is_new], keys.signature[is_new])
        return ids, fresh[is_new], images[images.isfinite()]

    def _stored(self, block: StationaryPoints, keys: Keys) -> Int[Tensor, "B"]:
        row, candidate = self._ready().candidates(keys)
        unique, position = candidate.unique(return_inverse=True)
        x = rows.coordinates(self.store, self.name, unique, block.ndim)
        return first_matches(len(block), row, candidate, self._same(x, position, block.x, row))

    def _keys(self, block: StationaryPoints) -> Keys:
        energy = block.energy.to(torch.float64)
        window = self.matching.window(energy, self.potential.dtype)
        radius = self._radius * (1 + 1e-6) + 1e-9  # signatures are rounded, and must not reject for that
        return Keys(energy, self._signature(block.x), window, radius)

    @property
    def _radius(self) -> float:
        return self.matching.distance_tol * self.potential.length_scale

    def _same(
        self, a: Float[Tensor, "N D"], i: Int[Tensor, "P"], b: Float[Tensor, "B D"], j: Int[Tensor, "P"]
    ) -> Bool[Tensor, "P"]:
        a, b = a.to(HOST, torch.float64), b.to(HOST, torch.float64)
        return pair_distances(self.potential.symmetry, a, i, b, j) <= self._radius

    def _alike(self, x: Float[Tensor, "B D"], i: Int[Tensor, "P"], j: Int[Tensor, "P"]) -> Bool[Tensor, "P"]:
        return self._same(x, j, x, i)

    # --- the catalogue ----------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._catalogue = None

    def _ready(self) -> Catalogue:
        if self._catalogue is None:
            ndim = self.potential.ndim
            energy = rows.floats(
                [row[0] for row in self.store.execute(f"SELECT energy FROM {self.name} ORDER BY id")]
            )
            step = rows_that_fit(ndim, HOST, on_host=MANY_LARGE)
            parts = [self._signature(torch.empty(0, ndim, dtype=torch.float64))]
            for first in range(0, len(energy), step):
                ids = torch.arange(first, min(first + step, len(energy)))
                parts.append(self._signature(rows.coordinates(self.store, self.name, ids, ndim)))
            self._catalogue = Catalogue(energy, torch.cat(parts))
        return self._catalogue

    def represented(self, ids: Int[Tensor, "K"]) -> Int[Tensor, "K"]:
        """Minima by the representative of their family; other points by themselves."""
        return represented(self.store, ids) if self.name == "minimum" else ids

    # --- writing ----------------------------------------------------------------------------------------

    def _insert(
        self,
        new: StationaryPoints,
        ids: Int[Tensor, "K"],
        images: Float[Tensor, "K"],
        start: Int[Tensor, "K"],
        origin: Origin,
        ends: Int[Tensor, "K 2"] | None,
    ) -> None:
        if len(new) == 0:
            return
        columns: dict[str, Sequence[object]] = {
            "id": ids.tolist(),
            "energy": new.energy.tolist(),
            "grad_rms": new.grad_rms.tolist(),
            "log_degeneracy": images.tolist(),
            "n_evaluations": new.n_evaluations.tolist(),
            "hits": [0] * len(new),
            "run": [origin[0]] * len(new),
            "task": [origin[1]] * len(new),
            "start": start.tolist(),
            "x": to_blobs(new.x),
        }
        if ends is not None:
            minus, plus = ([None if i < 0 else i for i in end] for end in ends.T.tolist())
            columns |= {"minus": minus, "plus": plus}
        marks = ", ".join("?" * len(columns))
        self.store.executemany(
            f"INSERT INTO {self.name}({', '.join(columns)}) VALUES ({marks})",
            list(zip(*columns.values(), strict=True)),
        )

    def _raise_hits(
        self, block: StationaryPoints, ids: Int[Tensor, "B"], hits: Int[Tensor, "B"], lowest: Float[Tensor, "B"]
    ) -> None:
        """The hits of every row; curvature from the first row of each id that knows it."""
        b = len(block)
        unique, group = ids.unique(return_inverse=True)
        rank = torch.arange(b) + b * block.log_det.isnan()
        row = torch.full_like(unique, 2 * b).scatter_reduce(0, group, rank, "amin") % b
        raised = torch.zeros_like(unique).index_add_(0, group, hits)
        self._update(unique, raised, block[row], lowest[row])

    def set_curvature(
        self, ids: Int[Tensor, "K"], points: StationaryPoints, lowest: Float[Tensor, "K"] | None
    ) -> None:
        """Fill in what is known now about the curvature of stored points."""
        points = points.to(HOST)
        if lowest is None:
            spectrum = points.eigenvalues
            lowest = points.log_det.new_full((len(ids),), torch.nan) if spectrum is None else spectrum[:, 0]
        self._update(ids, torch.zeros_like(ids), points, lowest)

    def _update(
        self, ids: Int[Tensor, "K"], hits: Int[Tensor, "K"], points: StationaryPoints, lowest: Float[Tensor, "K"]
    ) -> None:
        blobs = [None] * len(ids) if points.eigenvalues is None else to_blobs(points.eigenvalues)
        spectra = [blob if i >= 0 else None for blob, i in zip(blobs, points.index.tolist(), strict=True)]
        index = [None if i < 0 else i for i in points.index.tolist()]
        n_zero = [None if n < 0 else n for n in points.n_zero.tolist()]
        flat = (points.n_zero.cpu() - known_zero_modes(self.potential, points)).clamp(min=0)
        n_flat = [None if n is None else m for n, m in zip(n_zero, flat.tolist(), strict=True)]
        columns: tuple[Sequence[object], ...] = (hits.tolist(), index, points.log_det.tolist(), n_zero, n_flat)
        columns = (*columns, lowest.tolist(), spectra)
        also = ""
        if self.name == "minimum":
            # What has no flat direction stands for itself; the rest is looked at by explore.
            open_ = doubtful(points, flat, self.potential.length_scale).tolist()
            own = [None if n is None or o else i for n, o, i in zip(n_zero, open_, ids.tolist(), strict=True)]
            columns, also = (*columns, own), ", family = COALESCE(family, ?)"
        self.store.executemany(
            f"UPDATE {self.name} SET hits = hits + ?, idx = COALESCE(idx, ?), log_det = COALESCE(log_det, ?), "
            "n_zero = COALESCE(n_zero, ?), n_flat = COALESCE(n_flat, ?), lowest = COALESCE(lowest, ?), "
            f"eigenvalues = COALESCE(eigenvalues, ?){also} WHERE id = ?",
            list(zip(*columns, ids.tolist(), strict=True)),
        )

    def _count_conflicts(self, ids: Int[Tensor, "B"], ends: Int[Tensor, "B 2"]) -> None:
        """Count hits of a known transition state whose two ends are not the ones on record."""
        low = rows.column(self.store, self.name, "MIN(COALESCE(minus, -1), COALESCE(plus, -1))", ids)
        high = rows.column(self.store, self.name, "MAX(COALESCE(minus, -1), COALESCE(plus, -1))", ids)
        other = (ends.min(1).values != low) | (ends.max(1).values != high)
        self.store.executemany(
            f"UPDATE {self.name} SET conflicts = conflicts + 1 WHERE id = ?", [(i,) for i in ids[other].tolist()]
        )
