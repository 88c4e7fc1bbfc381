"""Which candidates become points of a landscape, under which ids, and why others are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch

from torchscape.devices import HOST
from torchscape.errors import TorchscapeError
from torchscape.landscape import rows
from torchscape.landscape.families import represented
from torchscape.landscape.journal import Journal
from torchscape.landscape.matching import Matching
from torchscape.landscape.store import Store
from torchscape.landscape.table import PointTable
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.certify import Certificate, certify_minima, with_rows
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["REASONS", "Admission", "screen"]

Kind = Literal["minimum", "transition state", "higher saddle"]


class Admission:
    """How points get into the file of a potential: each kind has a table and ids of its own."""

    def __init__(self, store: Store, journal: Journal, potential: Potential, matching: Matching) -> None:
        self._store = store
        self._journal = journal
        self._potential = potential
        self._matching = matching
        self._minima = PointTable(store, "minimum", potential, matching)
        self._saddles = PointTable(store, "transition_state", potential, matching)
        self._higher = PointTable(store, "higher_saddle", potential, matching)

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
        with self._store.transaction():
            if self._journal.is_settled(task):
                return self.find(points)
            if certify is not None:
                points, known = self.certified(points, certify)
            code = screen(points, index=0, inside=self._inside(points))
            ids, code = self._offer(self._minima, points, code, task, start, hits=hits, known=known)
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
        status = points.status.cpu()
        tried = ((status == Status.CONVERGED) | (status == Status.STALLED)) & points.energy.isfinite().cpu()
        tried_rows = (tried & (points.index.cpu() <= 0)).nonzero()[:, 0]
        known = torch.full((len(points),), -1)
        ids, heads, place = self._minima.novel(points[tried_rows.to(points.x.device)])
        known[tried_rows] = ids
        converged = torch.where((known >= 0).to(points.status.device), int(Status.CONVERGED), points.status)
        points = points.replace(status=converged)
        if len(heads) == 0:
            return points, known
        matching = self._matching
        limits = dataclasses.replace(certificate, distance=matching.distance_tol, energy=matching.energy_tol)
        judged = certify(self._potential, points[tried_rows[heads].to(points.x.device)], limits)
        new = place >= 0
        shared = judged[place[new].to(judged.x.device)]
        at = tried_rows[new].to(points.x.device)
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
        with self._store.transaction():
            if self._journal.is_settled(task):
                return self._saddles.match(points)
            ends = torch.stack([minus_ids.cpu(), plus_ids.cpu()], 1)
            minima = self._without_saddles(ends.reshape(-1))[0]
            energy = rows.column(self._store, "minimum", "energy", minima).reshape(-1, 2)
            top = energy.nan_to_num(-torch.inf).max(1).values
            floor = top - self._matching.window(top, points.energy.dtype)
            known = energy.isfinite() if leaves is None else energy.isfinite() | leaves.cpu()
            code = screen(points, index=1, ends_known=known.all(1), floor=floor, inside=self._inside(points))
            lowest = None if lowest is None else lowest.cpu().double()
            ids, code = self._offer(self._saddles, points, code, task, start, lowest=lowest, ends=ends, hits=hits)
            self._refuse("transition state", code, task)
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
        with self._store.transaction():
            if self._journal.is_settled(task):
                return self._higher.match(points)
            index = points.index
            capped = points.replace(index=torch.where(index <= points.ndim, index.clamp(max=2), -1))
            code = screen(capped, index=2, inside=self._inside(points))
            ids, code = self._offer(self._higher, points, code, task, start, hits=hits)
            self._refuse("higher saddle", code, task)
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
        with self._store.transaction():
            table.set_curvature(ids.cpu(), points, lowest)

    def _offer(
        self,
        table: PointTable,
        points: StationaryPoints,
        code: Int[Tensor, "B"],
        task: str | None,
        start: Int[Tensor, "B"] | None,
        **columns: Tensor | None,
    ) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
        """The rows that passed are offered to the table, with what else is known of them: ids, -1 for the refused,
        and the codes, with their own for rows that passed, but have infinitely many images: they get no id.
        """
        ids = torch.full((len(points),), -1)
        good = (code == 0).nonzero()[:, 0]
        start = torch.arange(len(points)) if start is None else start.cpu()
        chosen = {name: None if column is None else column.cpu()[good] for name, column in columns.items()}
        origin = self._journal.current_run, task
        ids[good] = table.offer(points[good], start[good], origin, **chosen)
        return ids, torch.where((code == 0) & (ids < 0), REASONS.index("degeneracy not finite"), code)

    def _checked(self, points: StationaryPoints) -> StationaryPoints:
        """The points on the host, where all of this is done."""
        if points.ndim != self._potential.ndim:
            raise TorchscapeError(
                f"points have {points.ndim} coordinates, the potential {self._potential.ndim}: "
                "give rows of its own"
            )
        return points.to(HOST)

    def _inside(self, points: StationaryPoints) -> Bool[Tensor, "B"] | None:
        bounds = self._potential.bounds
        return None if bounds is None or bounds.keep_walls else bounds.to(HOST).interior(points.x)

    def _without_saddles(self, ids: Int[Tensor, "K"]) -> tuple[Int[Tensor, "K"], Tensor]:
        """-1 in place of "minima" that turned out to be saddles, and where that happened; members of a family by
        their representative."""
        found = self._store.execute("SELECT id FROM minimum WHERE idx > 0")
        turned_out = torch.isin(ids, rows.ints([row[0] for row in found]))
        return torch.where(turned_out, -1, represented(self._store, ids)), turned_out

    def _refuse(self, kind: Kind, code: Int[Tensor, "B"], task: str | None) -> None:
        run, counts = self._journal.current_run, code.bincount(minlength=len(REASONS)).tolist()
        refused = [(run, task, kind, reason, n) for reason, n in zip(REASONS[1:], counts[1:], strict=True) if n]
        self._store.executemany("INSERT INTO refusal(run, task, kind, reason, n) VALUES (?, ?, ?, ?, ?)", refused)


REASONS = (
    "accepted",
    "not finite",
    "not converged",
    "wrong index",
    "an end is no known minimum",
    "below one of its minima",
    "on the wall of the box",
    "falls for ever",
    "flat in every direction",
    "on a kink",
    "falls apart",
    "degeneracy not finite",
)
"""What the codes of :func:`screen` mean."""


def screen(
    points: StationaryPoints,
    *,
    index: int,
    ends_known: Bool[Tensor, "B"] | None = None,
    floor: Float[Tensor, "B"] | None = None,
    inside: Bool[Tensor, "B"] | None = None,
) -> Int[Tensor, "B"]:
    """A code into :data:`REASONS` per row; the first reason that applies counts.

    A minimum may come without its index (it was reached by descent); a transition state may not.

    Args:
        points: the candidates.
        index: the number of negative eigenvalues to insist on.
        ends_known: of a transition state, whether both ends are minima of the database.
        floor: of a transition state, the lowest energy it can have: that of its higher end.
        inside: whether the point is inside the box, if there is one: the gradient need not vanish on its wall.

    Example:
        >>> points = StationaryPoints.of(torch.zeros(2, 1), torch.tensor([0.0, torch.nan]))
        >>> [REASONS[code] for code in screen(points, index=0).tolist()]
        ['not converged', 'not finite']
    """
    energy, row_index, status = points.energy.cpu(), points.index.cpu(), points.status.cpu()
    wrong = row_index != index
    if index == 0:
        wrong = wrong & (row_index >= 0)
    nowhere = torch.zeros(len(points), dtype=torch.bool)
    tests = {
        "not finite": ~(energy.isfinite() & points.x.isfinite().all(1).cpu()),
        "falls for ever": status == Status.UNBOUNDED,
        "flat in every direction": status == Status.FLAT,
        "on a kink": status == Status.KINK,
        "falls apart": status == Status.LOOSE,
        "not converged": (status != Status.CONVERGED) & (status != Status.WRONG_INDEX),
        "wrong index": wrong | (status == Status.WRONG_INDEX),
        "an end is no known minimum": nowhere if ends_known is None else ~ends_known,
        "below one of its minima": nowhere if floor is None else energy.double() < floor,
        "on the wall of the box": nowhere if inside is None else ~inside,
    }
    code = torch.zeros(len(points), dtype=torch.int64)
    for reason, fails in reversed(tests.items()):
        code = torch.where(fails, REASONS.index(reason), code)
    return code
