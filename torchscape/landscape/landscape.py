"""``Landscape``: the database of one potential."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import torch

from torchscape.brief import as_html
from torchscape.devices import HOST
from torchscape.errors import DatabaseError
from torchscape.landscape import identity
from torchscape.landscape.admission import Admission
from torchscape.landscape.annotations import Values, write_paths, write_property
from torchscape.landscape.families import Families
from torchscape.landscape.from_network import FromNetwork
from torchscape.landscape.journal import Journal
from torchscape.landscape.matching import Matching
from torchscape.landscape.store import Store
from torchscape.landscape.summary import in_words, summarise
from torchscape.landscape.view import View
from torchscape.network import Network
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.potentials.expected import expect_potential
from torchscape.types import Float, Int, Tensor

__all__ = ["Landscape"]

P = ParamSpec("P")
R = TypeVar("R")


def _forward(part: str, method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Landscape, P], R]:
    """A method of a part of a landscape, as one of the landscape's own."""
    name = method.__name__

    @functools.wraps(method)
    def own(self: Landscape, /, *args: P.args, **kwargs: P.kwargs) -> R:
        done: R = getattr(getattr(self, part), name)(*args, **kwargs)
        return done

    return own


class Landscape(FromNetwork):
    """Minima, the transition states between them, and how they were found: one file for one potential.

    Adding is idempotent: a point that is already there (see :class:`Matching`) has its hit count raised. Hits
    count searches that ended in a point, for :func:`torchscape.analysis.coverage`; what is known without such a
    search (the far end of a downhill path, a point put in by hand) is added with ``hits=0``.
    Ids count from 0 in the order of discovery and never change; only those of a round of ``explore`` that was cut
    short are provisional until it is finished. Everything that is handed out as arrays is ordered by ascending
    energy. One process writes, any number reads; whatever was committed survives the death of the process at any
    moment. The file is meant for a local disk: keep it off network file systems while it is written.

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
        self.potential = potential
        self.matching = matching
        self._store = store
        self._view = View(store, potential)
        self._journal = Journal(store)
        self._families = Families(store)
        self._admission = None if potential is None else Admission(store, self._journal, potential, matching)

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
                is being written by another process.
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

    # --- adding, see admission.py ---------------------------------------------------------------------

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

    add_minima = _forward("_entrance", Admission.add_minima)
    certified = _forward("_entrance", Admission.certified)
    add_transition_states = _forward("_entrance", Admission.add_transition_states)
    add_higher_saddles = _forward("_entrance", Admission.add_higher_saddles)
    find = _forward("_entrance", Admission.find)
    set_curvature = _forward("_entrance", Admission.set_curvature)

    @property
    def _entrance(self) -> Admission:
        if self._admission is None:
            raise DatabaseError(
                "this landscape was opened for reading, without its potential: "
                "open it as Landscape.open(path, potential)"
            )
        return self._admission

    # --- what is known, see view.py -------------------------------------------------------------------

    copy = _forward("_view", View.copy)
    minimum_energies = _forward("_view", View.minimum_energies)
    minimum_ids = _forward("_view", View.minimum_ids)
    transition_state_ids = _forward("_view", View.transition_state_ids)
    uncharacterised = _forward("_view", View.uncharacterised)
    minima = _forward("_view", View.minima)
    transition_states = _forward("_view", View.transition_states)
    stationary_points = _forward("_view", View.stationary_points)
    counts_by_index = _forward("_view", View.counts_by_index)
    glance = _forward("_view", View.glance)
    ends = _forward("_view", View.ends)
    paths = _forward("_view", View.paths)
    network = _forward("_view", View.network)
    properties = _forward("_view", View.properties)
    refusals = _forward("_view", View.refusals)

    @property
    def path(self) -> Path | None:
        return self._view.path

    @property
    def lacks_log(self) -> bool:
        """Whether the log beside the file, with what was committed last, is gone: a copy was made without it."""
        return self._view.lacks_log

    @property
    def fingerprint(self) -> str:
        """Which potential the file belongs to."""
        return self._view.fingerprint

    @property
    def kind(self) -> str:
        """The class of the potential that the file belongs to."""
        return self._view.kind

    @property
    def ndim(self) -> int:
        return self._view.ndim

    @property
    def n_minima(self) -> int:
        return self._view.n_minima

    @property
    def n_transition_states(self) -> int:
        """All of them, degenerate rearrangements included."""
        return self._view.n_transition_states

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
        unchanged and that are not declared: ``directions``, and ``periods`` by coordinate. ``lacks_log`` says that
        the file is a copy without the log that belongs to it, so that what was found last is missing, and
        ``unfinished`` what :meth:`kept` tells.
        """
        with self._store.snapshot():
            found = self._journal.load_state("invariances") or {}
            told = summarise(self._store, self.network(coords=False), self.runs(), self.refusals(), found)
            told["unfinished"] = self.kept()
        return {**told, "complete": told["complete"] and not self.lacks_log, "lacks_log": self.lacks_log}

    def describe(self) -> str:
        """Counts, energies, connectivity, coverage and work in a few lines: what ``torchscape info`` prints."""
        return in_words(self.summary())

    _repr_html_ = as_html

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else str(self.path)
        if self._store.is_closed:
            return f"Landscape({where}, closed)"
        return f"Landscape({where}, {self.n_minima} minima, {self.n_transition_states} transition states)"

    # --- what is attached to points, see annotations.py -----------------------------------------------

    def set_property(self, name: str, values: Values) -> None:
        """Attach a named number to minima: by id, or one for each minimum in the order of :meth:`minima`.

        Example: ``landscape.set_property("accuracy", accuracy_of(landscape.minima().x))``.

        Raises:
            TorchscapeError: if there is not one value per minimum, or an id is unknown.
        """
        write_property(self._store, name, values)

    def set_paths(self, ids: Int[Tensor, "K"], arc: Float[Tensor, "K I"], energy: Float[Tensor, "K I"]) -> None:
        """Store integrated paths over transition states: arc lengths and energies, from ``minus`` to ``plus``.

        :meth:`network` then carries them as ``ts_path``, and ``plots.profile`` draws them. All paths of a
        landscape have the same number of points. See :func:`torchscape.explore.integrate_paths`, which makes them.

        Raises:
            TorchscapeError: if the numbers of points differ, values are not finite, or an id is unknown.
        """
        write_paths(self._store, ids.cpu(), arc.cpu(), energy.cpu())

    # --- families of minima, see families.py ----------------------------------------------------------

    represented = _forward("_families", Families.represented)
    without_family = _forward("_families", Families.without_family)
    flat_directions = _forward("_families", Families.flat_directions)
    members = _forward("_families", Families.members)
    set_families = _forward("_families", Families.set_families)
    set_flat_directions = _forward("_families", Families.set_flat_directions)

    @property
    def n_families(self) -> int:
        """Minima that are no points: continuous families."""
        return self._families.n_families

    # --- what was tried, see journal.py ---------------------------------------------------------------

    begin_run = _forward("_journal", Journal.begin_run)
    finish_run = _forward("_journal", Journal.finish_run)
    runs = _forward("_journal", Journal.runs)
    record_task = _forward("_journal", Journal.record_task)
    task_done = _forward("_journal", Journal.task_done)
    tasks = _forward("_journal", Journal.tasks)
    n_tasks = _forward("_journal", Journal.n_tasks)
    n_evaluations = _forward("_journal", Journal.n_evaluations)
    record_pairs = _forward("_journal", Journal.record_pairs)
    tried_pairs = _forward("_journal", Journal.tried_pairs)
    save_state = _forward("_journal", Journal.save_state)
    state_keys = _forward("_journal", Journal.state_keys)
    drop_states = _forward("_journal", Journal.drop_states)
    kept = _forward("_journal", Journal.kept)
    load_state = _forward("_journal", Journal.load_state)
    mark_provisional = _forward("_journal", Journal.mark_provisional)
    settle = _forward("_journal", Journal.settle)
    withdraw = _forward("_journal", Journal.withdraw)
    next_minimum_id = _forward("_journal", Journal.next_minimum_id)

    @property
    def current_run(self) -> int | None:
        """The run that was begun here and is not finished."""
        return self._journal.current_run

    @property
    def provisional(self) -> str | None:
        """The round whose minima are provisional, None where all are final."""
        return self._journal.provisional
