"""The ledger: what has ended of a computation that may be cut short, so that it need not be done again."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import torch

from torchscape import stopwatch
from torchscape.devices import HOST
from torchscape.optimise.columns import build, join, leaves, name_of
from torchscape.optimise.rows import map_rows, take_rows
from torchscape.transfer import as_bytes, moved
from torchscape.types import Bool, Int, Tensor

__all__ = ["Entry", "Ledger", "compute_once", "current_ledger", "digests", "keeping", "latest"]

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

    Inside :func:`keeping`, every pool notes the rows that have ended, and :func:`compute_once` its parts. When the
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

    @property
    def known(self) -> list[Entry]:
        """Everything that was written or received; what was noted since the last :meth:`written` is not in it."""
        return [*self.entries, *self._received]

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

    def recall(
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
            parts.append(build(result, columns))
            numbers.append(number)
        if not parts:
            return known, torch.empty(0, dtype=torch.int64), None
        order = torch.cat(numbers)
        known[order] = True
        whole = parts[0] if len(parts) == 1 else join(parts)
        return known, order, moved(whole, starts[0].device)


def latest(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Of rows that are told several times, the last."""
    seen: set[bytes] = set()
    kept: list[Entry] = []
    for entry in reversed(list(entries)):
        keys = [bytes(key) for key in entry.keys.numpy()]
        rows = [row for row, key in enumerate(keys) if key not in seen]
        seen.update(keys)
        if len(rows) == len(keys):
            kept.append(entry)
        elif rows:
            columns = {name: column[rows] for name, column in entry.columns.items()}
            kept.append(dataclasses.replace(entry, keys=entry.keys[rows], columns=columns))
    return tuple(reversed(kept))


_current: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


def current_ledger() -> Ledger | None:
    """The ledger of the innermost :func:`keeping` block, None outside of all."""
    return _current.get()


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """Inside, nothing is noted or recalled: for searches on another function than the one that is explored."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def keeping(ledger: Ledger) -> Iterator[Ledger]:
    """Inside, whatever ends is noted in ``ledger``, and what it knows is not computed again."""
    token = _current.set(ledger)
    try:
        yield ledger
    finally:
        _current.reset(token)


def compute_once(
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
        kind: what people call it, a plural; empty for what is not reported.
    """
    ledger = current_ledger()
    n, device = len(rows[0]), rows[0].device
    everyone = torch.arange(n)
    parts, numbers = [], []
    if ledger is not None:
        known, order, results = ledger.recall(what, result, rows)
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
    return take_rows(join(parts), torch.cat(numbers).argsort().to(device))


def _these(entry: Entry | None) -> tuple[Entry, ...]:
    return () if entry is None else (entry,)


def digests(what: str, rows: tuple[Tensor, ...]) -> Tensor:
    """A digest of every row."""
    columns = [row.detach().reshape(len(row), -1).contiguous() for row in rows]
    prefix = f"{what} {[(column.dtype, column.shape[1]) for column in columns]}".encode()
    data = [as_bytes(column).reshape(len(column), -1).numpy() for column in columns]
    digests = [
        hashlib.blake2b(prefix + b"".join(column[i].tobytes() for column in data), digest_size=_KEY).digest()
        for i in range(len(rows[0]))
    ]
    return torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).reshape(-1, _KEY)
