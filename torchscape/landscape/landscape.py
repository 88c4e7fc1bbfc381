"""``Landscape``: the database of one potential."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NoReturn

import torch

from torchscape.devices import HOST
from torchscape.errors import DatabaseError, TorchscapeError
from torchscape.landscape import identity, rows
from torchscape.landscape.matching import Matching
from torchscape.landscape.provisional import Provisional
from torchscape.landscape.screening import REASONS, screen
from torchscape.landscape.store import Store
from torchscape.landscape.table import Origin, PointTable
from torchscape.network import Network
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.potentials.expected import expect_potential
from torchscape.saddles.certify import Certificate, certify_minima, with_rows
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Landscape"]


class Landscape(Provisional):
    """Minima, the transition states between them, and how they were found: one file for one potential.

    Adding is idempotent: a point that is already there (see :class:`Matching`) has its hit count raised. Hits
    count searches that ended in a point, for :func:`torchscape.analysis.coverage`; what is known without such a
    search (the far end of a downhill path, a point put in by hand) is added with ``hits=0``.
    Ids count from 0 in the order of discovery and never change; only those of a round of ``explore`` that was cut
    short are provisional until it is finished. Everything that is handed out as arrays is ordered by ascending
    energy. One process writes, any number reads; whatever was committed survives the death
    of the process at any moment. The file is meant for a local disk: keep it off network file systems while
    it is written.

    Example:
        >>> import torch
        >>> from torchscape import Landscape, Potential, StationaryPoints, Status
        >>> class DoubleWell(Potential):
        ...     ndim = 1
        ...     def energy(self, x):
        ...         return ((x**2 - 1) ** 2).sum(1)
        >>> x = torch.tensor([[-1.0], [1.0], [1.0]], dtype=torch.float64)
        >>> converged = torch.full((3,), int(Status.CONVERGED))
        >>> with Landscape.in_memory(DoubleWell()) as landscape:
        ...     ids = landscape.add_minima(StationaryPoints.of(x, torch.zeros(3).double(), status=converged))
        ...     ids.tolist(), landscape.n_minima, landscape.network().hits.tolist()
        ([0, 1, 1], 2, [1, 2])
    """

    def __init__(self, store: Store, potential: Potential | None, matching: Matching) -> None:
        super().__init__(store, potential)
        self.matching = matching
        if potential is not None:
            self._minima = PointTable(store, "minimum", potential, matching)
            self._saddles = PointTable(store, "transition_state", potential, matching)
            self._higher = PointTable(store, "higher_saddle", potential, matching)

    # --- opening and closing ----------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        potential: Potential | None = None,
        *,
        create: bool = True,
        readonly: bool | None = None,
        matching: Matching | None = None,
    ) -> Landscape:
        """Open the landscape file of ``potential``, or make it.

        Args:
            path: the file.
            potential: whose landscape it is; None to look at a file (then nothing can be added).
            create: make the file where there is none.
            readonly: read beside whoever is writing; by default True only without a potential.
            matching: when points are the same; by default as the file was made, and for a new one ``Matching()``.

        Raises:
            DatabaseError: if the file is missing, truncated, foreign, of another schema, may not be written, or
                is being written by somebody else.
            FingerprintMismatch: if it belongs to another potential.
        """
        if not isinstance(path, str | os.PathLike):
            raise DatabaseError(
                f"Landscape.open(path, potential): the path comes first, not a {type(path).__name__}"
            )
        if str(path) == ":memory:":
            raise DatabaseError(
                "':memory:' would be a file of that name: Landscape.in_memory(potential) needs none"
            )
        if potential is not None:
            expect_potential("Landscape.open", potential)
        readonly = potential is None if readonly is None else readonly
        store = Store(Path(path), readonly=readonly, create=create and potential is not None)
        return cls._of(store, potential, matching)

    @classmethod
    def in_memory(cls, potential: Potential, *, matching: Matching | None = None) -> Landscape:
        """A landscape that lives as long as this object."""
        expect_potential("Landscape.in_memory", potential)
        return cls._of(Store(None), potential, matching)

    @classmethod
    def _of(cls, store: Store, potential: Potential | None, matching: Matching | None) -> Landscape:
        try:
            if store.is_new:
                matching = matching or Matching()
                matching = matching if potential is None else matching.of(potential)
                identity.begin(store, potential, matching)
            elif potential is not None:
                identity.expect_same(store, potential)
            matching = matching or identity.stored_matching(store)
            return cls(store, potential, matching if potential is None else matching.of(potential))
        except BaseException:
            store.close()
            raise

    def __getattr__(self, name: str) -> NoReturn:
        kind = type(self).__name__
        if name in Network.__dataclass_fields__ or hasattr(Network, name):
            raise AttributeError(f"a {kind} has no {name!r}, its network has: give landscape.network()", name=name)
        raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)

    def expect(self, potential: Potential) -> None:
        """Is this the landscape of that potential?

        Raises:
            FingerprintMismatch: if it is another's.
        """
        identity.expect_same(self._store, potential)

    @property
    def is_readonly(self) -> bool:
        return self._store.readonly

    def close(self) -> None:
        """Release the file. Closing twice is fine."""
        self._store.close()

    def fold(self) -> None:
        """Move what was committed from the log into the file itself, which then holds everything by itself.

        ``explore`` does it after every round, and :meth:`close` at the end.
        """
        self._store.fold()

    def compact(self) -> None:
        """Make the file smaller, if more than half of it is not needed any more.

        What was kept of rounds that have ended since may have been large; ``explore`` does it at the end.
        """
        self._store.compact()

    def __enter__(self) -> Landscape:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_writing(self) -> bool:
        """Whether a transaction is open, so that nothing is committed yet."""
        return self._store.depth > 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together at the end, or, on any exception, not at all.

        Transactions nest: an inner one that fails undoes its own part only, if its exception is caught.
        """
        with self._store.transaction():
            yield

    # --- adding -----------------------------------------------------------------------------------------

    def add(
        self,
        points: StationaryPoints,
        minus_ids: Int[Tensor, "B"] | None = None,
        plus_ids: Int[Tensor, "B"] | None = None,
        *,
        task: str | None = None,
    ) -> Int[Tensor, "B"]:
        """Add every row as what its index says: 1 a transition state (which needs both ends), 2 and more a higher
        saddle, else a minimum. Each of the three kinds has ids of its own.
        """
        points = points.to(HOST)
        saddle, higher = points.index == 1, points.index >= 2
        ids = torch.full((len(points),), -1)
        nowhere = torch.full((len(points),), -1)
        ends = [nowhere if end is None else end.cpu() for end in (minus_ids, plus_ids)]
        minimum_rows, saddle_rows = (~(saddle | higher)).nonzero()[:, 0], saddle.nonzero()[:, 0]
        higher_rows = higher.nonzero()[:, 0]
        with self.transaction():
            ids[higher_rows] = self.add_higher_saddles(points[higher_rows], task=task, start=higher_rows)
            ids[minimum_rows] = self.add_minima(points[minimum_rows], task=task, start=minimum_rows)
            ids[saddle_rows] = self.add_transition_states(
                points[saddle_rows],
                *(end[saddle_rows] for end in ends),
                task=task,
                start=saddle_rows,
            )
        return ids

    def add_minima(
        self,
        points: StationaryPoints,
        *,
        hits: Int[Tensor, "B"] | None = None,
        task: str | None = None,
        start: Int[Tensor, "B"] | None = None,
        certify: Certificate | None = None,
        known: Int[Tensor, "B"] | None = None,
    ) -> Int[Tensor, "B"]:
        """Offer minima; returns the id of each, -1 for the refused (see :meth:`refusals`).

        Refused are rows that are not finite, did not converge, have a known index other than 0, or lie on a wall
        of the potential's box (unless its bounds say ``keep_walls``).

        Args:
            points: the candidates.
            hits: searches that each row stands for, one by default; 0 for a minimum that no search was after.
            task: key of the task they come from; if that task is recorded already, nothing changes.
            start: which start of the task each row grew from (default: its position).
            certify: how :func:`torchscape.saddles.certify_minima` looks first at what is new: at every row that
                says to have converged or stalled, is no minimum that is stored, and represents what is near it. It
                polishes what falls short, and refuses what is no minimum with its reason. What counts as near is
                this landscape's :class:`Matching`. None believes the rows; ``explore`` never does.
            known: with rows that :meth:`certified` has looked at: the ids of those that are stored already.
        """
        points = self._checked(points)
        with self.transaction():
            if self._is_settled(task):
                return self.find(points)
            if certify is not None:
                points, known = self.certified(points, certify)
            code = screen(points, index=0, inside=self._inside(points))
            ids = torch.full((len(points),), -1)
            good = (code == 0).nonzero()[:, 0]
            start = torch.arange(len(points)) if start is None else start.cpu()
            chosen = points[good]
            hits = None if hits is None else hits.cpu()[good]
            known = None if known is None else known[good]
            ids[good] = self._minima.offer(chosen, start[good], self._origin(task), hits=hits, known=known)
            code = _unless_countable(code, ids)
            ids, turned_out = self._without_saddles(ids)
            self._refuse("minimum", torch.where(turned_out, REASONS.index("wrong index"), code), task)
        return ids

    def certified(
        self,
        points: StationaryPoints,
        certificate: Certificate | None = None,
        *,
        certify: Callable[[Potential, StationaryPoints, Certificate], StationaryPoints] = certify_minima,
    ) -> tuple[StationaryPoints, Int[Tensor, "B"]]:
        """Candidates as :meth:`add_minima` would certify them, and the ids of those that are stored already (else
        -1). Changes nothing; the look may take long, and needs no transaction.

        What is near a new point (as near as two points may be that count as one) shares its fate. ``certify`` does
        what :func:`~torchscape.saddles.certify_minima` does, wherever it likes.
        """
        points, certificate = self._checked(points), certificate or Certificate()
        assert self.potential is not None
        status = points.status.cpu()
        tried = ((status == Status.CONVERGED) | (status == Status.STALLED)) & points.energy.isfinite().cpu()
        rows_ = (tried & (points.index.cpu() <= 0)).nonzero()[:, 0]
        known = torch.full((len(points),), -1)
        ids, heads, place = self._minima.novel(points[rows_.to(points.x.device)])
        known[rows_] = ids
        converged = torch.where((known >= 0).to(points.status.device), int(Status.CONVERGED), points.status)
        points = points.replace(status=converged)
        if len(heads) == 0:
            return points, known
        matching = self.matching
        limits = dataclasses.replace(certificate, distance=matching.distance_tol, energy=matching.energy_tol)
        judged = certify(self.potential, points[rows_[heads].to(points.x.device)], limits)
        new = place >= 0
        shared = judged[place[new].to(judged.x.device)]
        at = rows_[new].to(points.x.device)
        shared = shared.replace(n_evaluations=points.n_evaluations[at])
        return with_rows(points, at, shared), known

    def add_transition_states(
        self,
        points: StationaryPoints,
        minus_ids: Int[Tensor, "E"],
        plus_ids: Int[Tensor, "E"],
        *,
        leaves: Bool[Tensor, "E 2"] | None = None,
        lowest: Float[Tensor, "E"] | None = None,
        hits: Int[Tensor, "E"] | None = None,
        task: str | None = None,
        start: Int[Tensor, "E"] | None = None,
    ) -> Int[Tensor, "E"]:
        """Offer verified transition states with the minima at both ends; returns ids, -1 for the refused.

        Refused are rows that are not finite, did not converge, are not known to have index 1, lack a known
        minimum at an end, or lie below one of their minima. Both ends may be the same minimum (a degenerate
        rearrangement). A path that leaves the box has no minimum at its end; its transition state is kept, but
        is no edge. A known transition state that comes with other ends keeps the first ones; such
        inconsistencies are counted.

        Args:
            points: the candidates.
            minus_ids, plus_ids: ids of the minima that the two downhill paths end in.
            leaves: whether each of the two paths (minus, plus) leaves the box instead, so that its id is -1.
            lowest: the negative Hessian eigenvalue, needed for rates; by default from ``points.eigenvalues``.
            hits, task, start: as in :meth:`add_minima`.
        """
        points = self._checked(points)
        with self.transaction():
            if self._is_settled(task):
                return self._saddles.match(points)
            ends = torch.stack([minus_ids.cpu(), plus_ids.cpu()], 1)
            minima = self._without_saddles(ends.reshape(-1))[0]
            energy = rows.column(self._store, "minimum", "energy", minima).reshape(-1, 2)
            top = energy.nan_to_num(-torch.inf).max(1).values
            floor = top - self.matching.window(top, points.energy.dtype)
            known = energy.isfinite() if leaves is None else energy.isfinite() | leaves.cpu()
            code = screen(points, index=1, ends_known=known.all(1), floor=floor, inside=self._inside(points))
            ids = torch.full((len(points),), -1)
            good = (code == 0).nonzero()[:, 0]
            start = torch.arange(len(points)) if start is None else start.cpu()
            ids[good] = self._saddles.offer(
                points[good],
                start[good],
                self._origin(task),
                lowest=None if lowest is None else lowest.cpu().double()[good],
                ends=ends[good],
                hits=None if hits is None else hits.cpu()[good],
            )
            self._refuse("transition state", _unless_countable(code, ids), task)
        return ids

    def add_higher_saddles(
        self,
        points: StationaryPoints,
        *,
        hits: Int[Tensor, "B"] | None = None,
        task: str | None = None,
        start: Int[Tensor, "B"] | None = None,
    ) -> Int[Tensor, "B"]:
        """Offer stationary points of index 2 or more; returns ids, -1 for the refused.

        They are no part of the network; see :meth:`stationary_points`. Refused are rows that are not finite, did
        not converge, are not known to have such an index, or lie on a wall. Arguments as in :meth:`add_minima`.
        """
        points = self._checked(points)
        with self.transaction():
            if self._is_settled(task):
                return self._higher.match(points)
            index = points.index
            capped = points.replace(index=torch.where(index <= points.ndim, index.clamp(max=2), -1))
            code = screen(capped, index=2, inside=self._inside(points))
            ids = torch.full((len(points),), -1)
            good = (code == 0).nonzero()[:, 0]
            start = torch.arange(len(points)) if start is None else start.cpu()
            ids[good] = self._higher.offer(
                points[good],
                start[good],
                self._origin(task),
                hits=None if hits is None else hits.cpu()[good],
            )
            self._refuse("higher saddle", _unless_countable(code, ids), task)
        return ids

    def find(self, points: StationaryPoints) -> Int[Tensor, "B"]:
        """The ids of the minima that these points are, -1 where there is none. Changes nothing."""
        points = self._checked(points)
        return self._without_saddles(self._minima.match(points))[0]

    def set_curvature(
        self,
        ids: Int[Tensor, "K"],
        points: StationaryPoints,
        *,
        of: Literal["minima", "transition_states"] = "minima",
        lowest: Float[Tensor, "K"] | None = None,
    ) -> None:
        """Fill in index, log_det, number of zero modes and spectrum of stored points, where still unknown.

        A minimum whose index turns out not to be 0 stays in the file under its id but no longer counts as one.
        """
        points = self._checked(points)
        table = self._minima if of == "minima" else self._saddles
        with self.transaction():
            table.set_curvature(ids.cpu(), points, lowest)

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else str(self.path)
        if self._store.is_closed:
            return f"Landscape({where}, closed)"
        return f"Landscape({where}, {self.n_minima} minima, {self.n_transition_states} transition states)"

    # --- helpers ----------------------------------------------------------------------------------------

    def _checked(self, points: StationaryPoints) -> StationaryPoints:
        """The points on the host, where all of this is done."""
        if self.potential is None:
            raise DatabaseError(
                "this landscape was opened for reading, without its potential: "
                "open it as Landscape.open(path, potential)"
            )
        if points.ndim != self.potential.ndim:
            raise TorchscapeError(
                f"points have {points.ndim} coordinates, the potential {self.potential.ndim}: give rows of its own"
            )
        return points.to(HOST)

    def _inside(self, points: StationaryPoints) -> Bool[Tensor, "B"] | None:
        bounds = None if self.potential is None else self.potential.bounds
        return None if bounds is None or bounds.keep_walls else bounds.to(HOST).interior(points.x)

    def _origin(self, task: str | None) -> Origin:
        return self.current_run, task

    def _without_saddles(self, ids: Int[Tensor, "K"]) -> tuple[Int[Tensor, "K"], Tensor]:
        """-1 in place of "minima" that turned out to be saddles, and where that happened; members of a family by
        their representative."""
        found = self._store.execute("SELECT id FROM minimum WHERE idx > 0")
        turned_out = torch.isin(ids, rows.ints([row[0] for row in found]))
        return torch.where(turned_out, -1, self.represented(ids)), turned_out

    def _refuse(self, kind: str, code: Int[Tensor, "B"], task: str | None) -> None:
        run, task = self._origin(task)
        counts = code.bincount(minlength=len(REASONS)).tolist()
        refused = [(run, task, kind, reason, n) for reason, n in zip(REASONS[1:], counts[1:], strict=True) if n]
        self._store.executemany("INSERT INTO refusal(run, task, kind, reason, n) VALUES (?, ?, ?, ?, ?)", refused)


def _unless_countable(code: Int[Tensor, "B"], ids: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
    """The codes, with their own for rows that passed, but have infinitely many images: they got no id."""
    return torch.where((code == 0) & (ids < 0), REASONS.index("degeneracy not finite"), code)
