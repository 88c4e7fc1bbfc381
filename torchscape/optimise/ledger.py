"""The ledger: what has ended of a computation that may be cut short, so that it need not be done again."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import torch

from torchscape import stopwatch
from torchscape.devices import HOST
from torchscape.optimise.columns import built, dataclass_of, joined, leaves, name_of, with_shared
from torchscape.optimise.flight import Flight
from torchscape.optimise.rows import cat_rows, columns_of, map_rows, take_rows
from torchscape.points import Status
from torchscape.transfer import moved
from torchscape.types import Bool, Int, Tensor

__all__ = ["Entry", "Ledger", "current_ledger", "digests", "keeping", "kept_source", "remembered"]

_KEY = 16  # bytes of the digest that stands for an input row


@dataclasses.dataclass(frozen=True)
class Entry:
    """Results of some rows of one kind of work.

    Attributes:
        kind: of work, as people call it: "quenches", "bands".
        what: the same for the machine, with all settings that decide the results.
        result: the class of the results.
        keys: a digest of ``what`` and of each input row, [n, 16] bytes.
        columns: the tensors of the results, by name; those of nested results as "name.name".
        shared: numbers that all rows share, by name.
    """

    kind: str
    what: str
    result: str
    keys: Tensor
    columns: Mapping[str, Tensor]
    shared: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)


@dataclasses.dataclass
class _Note:
    """Results that were noted and are not in the file yet."""

    kind: str
    what: str
    starts: tuple[Tensor, ...]
    results: Any
    rows: Tensor | None  # of the starts, kept by the host; None for all


class _InFlight(Protocol):
    """Who knows what runs now."""

    entry: Entry | None  # at the last look

    def in_flight(self) -> Entry | None:
        """What runs now, on the host, as far as it has come."""


class Ledger:
    """Results of pure functions of rows, by what the function is and the bytes of the row.

    Inside :func:`keeping`, every pool notes the rows that have ended, and :func:`remembered` its parts. When the
    same work is begun again, with the entries of the time before, those rows are answered at once, to the last
    bit, and the others are computed. So a computation in many stages resumes in the middle of any of them, by
    being repeated from its beginning. As long as nothing is known, rows are not looked up.

    Rows that are still running are kept as they are (``running``), and go on from there, as does one long
    computation (:func:`~torchscape.optimise.resumable.resumable`).
    """

    def __init__(self, entries: Iterable[Entry] = (), running: Iterable[Entry] = ()) -> None:
        self.entries = list(entries)
        self.running = tuple(running)
        self.source: _InFlight | None = None  # of the pool, or the one long computation, that runs now
        self._place = {
            bytes(key): (number, row)
            for number, entry in enumerate(self.entries)
            for row, key in enumerate(entry.keys.numpy())
        }
        self._notes: list[_Note] = []
        self._received: list[Entry] = []

    @property
    def has_news(self) -> bool:
        """Whether anything was noted or received since the last :meth:`written`."""
        return bool(self._notes or self._received)

    def note(
        self, kind: str, what: str, starts: tuple[Tensor, ...], results: Any, rows: Int[Tensor, "K"] | None = None
    ) -> None:
        """Results of the given rows of ``starts``, which have ended. Nothing may be written into afterwards."""
        self._notes.append(_Note(kind, what, starts, results, rows))

    def receive(self, entries: Iterable[Entry]) -> None:
        """What has ended elsewhere, for instance in another process."""
        self._received += entries

    def exchange(self, old: Iterable[Entry], new: Iterable[Entry]) -> None:
        """Put what runs now in place of what it was at the last look."""
        gone = [id(entry) for entry in old]
        self.running = (*(entry for entry in self.running if id(entry) not in gone), *new)

    def in_flight(self) -> tuple[Entry, ...]:
        """The rows that are running now, on the host, as far as they have come; and those that wait to go on."""
        source = self.source
        if source is not None:
            going = source.in_flight()
            self.exchange(_these(source.entry), _these(going))
            source.entry = going
        return self.running

    def written(self) -> list[Entry]:
        """What was noted since the last time, on the host; notes of the same kind are one entry."""
        notes = list(self._notes)
        lots: dict[Any, list[tuple[tuple[Tensor, ...], dict[str, Tensor]]]] = {}
        for note, (starts, results) in zip(
            notes, moved([(n.starts, n.results) for n in notes], HOST), strict=True
        ):
            starts = starts if note.rows is None else tuple(start[note.rows] for start in starts)
            columns = leaves(results, Tensor)
            shapes = tuple(column.shape[1:] for column in (*starts, *columns.values()))
            key = (note.kind, note.what, name_of(type(results)), tuple(columns), shapes)
            lots.setdefault(key, []).append((starts, columns))
        fresh = []
        for (kind, what, result, names, _), parts in lots.items():
            starts = tuple(torch.cat(column) for column in zip(*(one for one, _ in parts), strict=True))
            columns = {name: torch.cat([one[name] for _, one in parts]) for name in names}
            fresh.append(Entry(kind, what, result, digests(what, starts), columns))
        fresh += self._received
        self.entries += fresh
        del self._notes[: len(notes)], self._received[:]
        return fresh

    def recalled(
        self, what: str, result: type, starts: tuple[Tensor, ...]
    ) -> tuple[Bool[Tensor, "B"], Int[Tensor, "K"], Any]:
        """Which rows are known, their numbers in some order, and their results in that order (None for none)."""
        known = torch.zeros(len(starts[0]), dtype=torch.bool)
        if not self._place or not len(known):
            return known, torch.empty(0, dtype=torch.int64), None
        found: dict[int, list[tuple[int, int]]] = {}
        for number, key in enumerate(digests(what, moved(starts, HOST)).numpy()):
            entry, row = self._place.get(bytes(key), (-1, -1))
            if entry >= 0 and self.entries[entry].result == name_of(result):
                found.setdefault(entry, []).append((number, row))
        numbers, parts = [], []
        for entry, pairs in found.items():
            number, row = torch.tensor(pairs).T
            columns = {name: column[row] for name, column in self.entries[entry].columns.items()}
            parts.append(built(result, columns))
            numbers.append(number)
        if not parts:
            return known, torch.empty(0, dtype=torch.int64), None
        order = torch.cat(numbers)
        known[order] = True
        whole = parts[0] if len(parts) == 1 else joined(parts)
        return known, order, moved(whole, starts[0].device)


_current: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


def current_ledger() -> Ledger | None:
    """The ledger of the innermost :func:`keeping` block, None outside of all."""
    return _current.get()


@contextlib.contextmanager
def keeping(ledger: Ledger) -> Iterator[Ledger]:
    """Inside, whatever ends is noted in ``ledger``, and what it knows is not computed again."""
    token = _current.set(ledger)
    try:
        yield ledger
    finally:
        _current.reset(token)


def remembered(
    what: str,
    result: type,
    rows: tuple[Tensor, ...],
    compute: Callable[[Int[Tensor, "K"]], Any],
    size: int,
    *,
    kind: str = "",
) -> Any:
    """A pure function of rows, at most ``size`` of them at a time; what has ended is kept where a ledger is.

    Args:
        what: name and settings of the function.
        result: the dataclass of its results.
        rows: what it is a function of, row by row.
        compute: the function, of numbers of rows.
        size: rows at once.
        kind: what people call it, a plural; empty for what nobody asks for.
    """
    ledger = current_ledger()
    n, device = len(rows[0]), rows[0].device
    everyone = torch.arange(n)
    parts, numbers = [], []
    if ledger is not None:
        known, order, results = ledger.recalled(what, result, rows)
        if results is not None:
            parts.append(results)
            numbers.append(order)
            everyone = everyone[~known]
    anew = torch.arange(n, device=device) if not parts else everyone.to(device)
    lots = zip(torch.split(everyone, size), torch.split(anew, size), strict=True)
    for some, at in lots if len(everyone) or not parts else ():
        if parts:
            stopwatch.check()
        results = compute(at)
        if ledger is not None and len(some):
            # the caller may write into what it gets
            ledger.note(kind, what, tuple(column[at] for column in rows), map_rows(torch.clone, results))
            stopwatch.look()
        parts.append(results)
        numbers.append(some)
    if len(parts) == 1 and len(numbers[0]) == n and bool((numbers[0] == torch.arange(n)).all()):
        return parts[0]
    return take_rows(joined(parts), torch.cat(numbers).argsort().to(device))


@contextlib.contextmanager
def kept_source(flight: Flight) -> Iterator[None]:
    """Inside, the results of a pool are noted and recalled, and its rows go on where they were, if there is a
    ledger.

    At a stop, what has finished is handed over first.
    """
    ledger = current_ledger()
    before = None if ledger is None else ledger.source
    if ledger is not None:
        flight.source = ledger.source = kept = _Kept(ledger, flight)
        flight.resume = kept.resumed
    try:
        yield
        if ledger is not None and ledger.source is not None:
            ledger.exchange(_these(ledger.source.entry), ())
    except (stopwatch.Stopped, KeyboardInterrupt):
        flight.hand_over()
        if ledger is not None:
            ledger.in_flight()
        raise
    finally:
        if ledger is not None:
            ledger.source = before


class _Kept:
    """A source whose starts are answered by the ledger where it knows them."""

    def __init__(self, ledger: Ledger, flight: Flight) -> None:
        self.ledger, self.flight, self.source, self.potential = ledger, flight, flight.source, flight.potential
        stepper = flight.stepper
        name = type(stepper).__qualname__
        self.kind = getattr(stepper, "counted_as", f"{name.lower()}s")
        settings = re.sub(r" at 0x[0-9a-f]+", "", repr(stepper))
        self.what = f"{name} {settings} {self.potential.dtype}"
        self.result = _result_of(stepper)
        self.entry: Entry | None = None  # of the rows that were running at the last look
        self._n_resumed: dict[int, int] = {}  # rows of each entry that go on
        self._ids = torch.empty(0, dtype=torch.int64)  # taken, not given back
        self._starts: list[tuple[Tensor, ...]] = []
        self._at = torch.empty(0, 2, dtype=torch.int64)  # in which of these, and in which row

    @property
    def is_exhausted(self) -> bool:
        return bool(getattr(self.source, "is_exhausted", False))

    def take(self, n: int) -> tuple[Int[Tensor, "K"], Any]:
        ids, x = self.source.take(n)
        if self.result is None:
            return ids, x
        taken = [(ids, x)]
        while len(ids):
            known, order, results = self.ledger.recalled(self.what, self.result, columns_of(x))
            if results is None:
                break
            rest = torch.nonzero(~known)[:, 0]
            taken[-1] = (ids[rest], take_rows(x, rest.to(columns_of(x)[0].device)))
            self._charge(results)
            self._tell(len(order))
            self.source.give(ids[order], results)
            ids, x = self.source.take(n - sum(len(part) for part, _ in taken))
            taken.append((ids, x))
        ids = torch.cat([part for part, _ in taken])
        x = cat_rows([part for _, part in taken]) if len(taken) > 1 else taken[0][1]
        self._ids = torch.cat([self._ids, ids])
        lot = torch.full_like(ids, len(self._starts))
        self._at = torch.cat([self._at, torch.stack([lot, torch.arange(len(ids))], 1)])
        self._starts.append(
            tuple(column.clone() for column in columns_of(x))
        )  # steppers write into what they are given
        return ids, x

    def give(self, ids: Int[Tensor, "K"], results: Any) -> None:
        if self.result is not None and dataclasses.is_dataclass(results):
            self._note(ids, results)
        self._tell(len(ids))
        self.source.give(ids, results)

    def in_flight(self) -> Entry | None:
        """The rows that have not finished, as they are."""
        flight = self.flight
        if self.result is None or not len(flight.ids):
            return None
        row, place = (self._ids == flight.ids[:, None]).nonzero().T
        going = torch.nonzero(flight.state.status.to(HOST)[row] == Status.RUNNING)[:, 0]
        row, place = row[going], place[going]
        if not len(row):
            return None
        order, starts = self._begun(place)
        row = row[order]
        state = moved(take_rows(flight.state, row.to(flight.state.status.device)), HOST)
        what = f"running {self.what}"
        return Entry(
            f"unfinished {self.kind}",
            what,
            "",
            digests(what, starts),
            leaves(state, Tensor),
            leaves(state, int),
        )

    def resumed(self, ids: Int[Tensor, "B"], state: Any) -> Any:
        """The state of rows that begin, but of those that were running when all was cut short what it was then."""
        for running in self.ledger.running:
            if running.what == f"running {self.what}":
                state = self._resumed(running, ids, state)
        return state

    def _resumed(self, running: Entry, ids: Int[Tensor, "B"], state: Any) -> Any:
        row, place = (self._ids == ids[:, None]).nonzero().T
        if not len(place):
            return state
        known = {bytes(key): number for number, key in enumerate(running.keys.numpy())}
        order, starts = self._begun(place)
        keys = [bytes(key) for key in digests(running.what, starts).numpy()]
        pairs = [(r, known[key]) for r, key in zip(row[order].tolist(), keys, strict=True) if key in known]
        if not pairs:
            return state
        here, there = torch.tensor(pairs).T
        mine, stored = leaves(state, Tensor), running.columns
        if {n: (c.shape[1:], c.dtype) for n, c in mine.items()} != {
            n: (c.shape[1:], c.dtype) for n, c in stored.items()
        }:
            return state
        for name, column in mine.items():
            column[here.to(column.device)] = stored[name][there].to(column.device)
        self._n_resumed[id(running)] = n = self._n_resumed.get(id(running), 0) + len(pairs)
        if n >= len(running):  # all of them are in flight again
            self.ledger.exchange((running,), ())
        state = with_shared(state, running.shared)
        self._charge(self.flight.stepper.result(self.potential, take_rows(state, here.to(state.status.device))))
        return state

    def _begun(self, place: Int[Tensor, "K"]) -> tuple[Int[Tensor, "K"], tuple[Tensor, ...]]:
        """Starts of rows that were taken, in one copy on the host, and in which order of ``place`` they are."""
        lots = [(lot, (self._at[place, 0] == lot).nonzero()[:, 0]) for lot in self._lots(place)]
        starts = moved([self._starts[lot] for lot, _ in lots], HOST)
        rows = [
            [column[self._at[place[mine], 1]] for column in columns]
            for columns, (_, mine) in zip(starts, lots, strict=True)
        ]
        return torch.cat([mine for _, mine in lots]), tuple(torch.cat(part) for part in zip(*rows, strict=True))

    def _lots(self, place: Int[Tensor, "K"]) -> list[int]:
        """In which lots of starts these are."""
        return sorted(set(self._at[place, 0].tolist()))

    def _note(self, ids: Int[Tensor, "K"], results: Any) -> None:
        """Each row beside the start it was taken with."""
        is_it = self._ids == ids[:, None]
        row, place = is_it.nonzero().T  # an interrupted call may have given some of them already
        for lot in self._lots(place):
            mine = torch.nonzero(self._at[place, 0] == lot)[:, 0]
            starts = self._starts[lot]
            some = results if len(mine) == len(ids) else take_rows(results, row[mine].to(starts[0].device))
            self.ledger.note(self.kind, self.what, starts, some, self._at[place[mine], 1])
        open_ = ~is_it.any(0)
        self._ids, self._at = self._ids[open_], self._at[open_]
        for lot in set(range(len(self._starts))) - set(self._at[:, 0].tolist()):
            self._starts[lot] = ()  # nobody needs them any more

    def _tell(self, n: int) -> None:
        watch = stopwatch.current()
        if watch is not None:
            watch.ended(self.kind, n)

    def _charge(self, results: Any) -> None:
        """What these rows have cost, to a potential that counts."""
        charge = getattr(self.potential, "charge", None)
        spent = getattr(getattr(results, "points", results), "n_evaluations", None)
        if isinstance(spent, Tensor) and charge is not None:
            charge(int(spent.sum()))


def _these(entry: Entry | None) -> tuple[Entry, ...]:
    return () if entry is None else (entry,)


def digests(what: str, rows: tuple[Tensor, ...]) -> Tensor:
    """A digest of every row."""
    columns = [row.detach().reshape(len(row), -1).contiguous() for row in rows]
    prefix = f"{what} {[(column.dtype, column.shape[1]) for column in columns]}".encode()
    data = [column.view(torch.uint8).numpy() for column in columns]
    digests = [
        hashlib.blake2b(prefix + b"".join(column[i].tobytes() for column in data), digest_size=_KEY).digest()
        for i in range(len(rows[0]))
    ]
    return torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).reshape(-1, _KEY)


def _result_of(stepper: Any) -> type | None:
    """The class of a stepper's results, where it says so and can be stored: a dataclass of tensors."""
    try:
        return dataclass_of(typing.get_type_hints(type(stepper).result).get("return"))
    except Exception:  # an annotation that cannot be read: then nothing is kept, and all of it is run again
        return None
