"""A pool with a ledger: rows that are known are not run, those that end are noted, those that ran go on."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Any

import torch

from torchscape import stopwatch
from torchscape.devices import HOST
from torchscape.optimise.columns import dataclass_of, leaves, with_shared
from torchscape.optimise.flight import Flight
from torchscape.optimise.ledger import Entry, Ledger, current_ledger, digests
from torchscape.optimise.rows import cat_rows, columns_of, take_rows
from torchscape.points import Status
from torchscape.transfer import moved
from torchscape.types import Int, Tensor

__all__ = ["kept_source"]


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
        flight.resume = kept.resume
    try:
        yield
        if ledger is not None and ledger.source is not None:
            ledger.exchange([ledger.source.entry] if ledger.source.entry else [], ())
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
        if self.potential.precision != "double":  # searches for saddles have no setting of their own
            self.what += f" {self.potential.precision}"
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
            known, order, results = self.ledger.recall(self.what, self.result, columns_of(x))
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
        order, starts = self._starts_in(place)
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

    def resume(self, ids: Int[Tensor, "B"], state: Any) -> Any:
        """The state of rows that begin, but of those that were running when all was cut short what it was then."""
        for running in self.ledger.running:
            if running.what == f"running {self.what}":
                state = self._resume(running, ids, state)
        return state

    def _resume(self, running: Entry, ids: Int[Tensor, "B"], state: Any) -> Any:
        row, place = (self._ids == ids[:, None]).nonzero().T
        if not len(place):
            return state
        known = {bytes(key): number for number, key in enumerate(running.keys.numpy())}
        order, starts = self._starts_in(place)
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

    def _starts_in(self, place: Int[Tensor, "K"]) -> tuple[Int[Tensor, "K"], tuple[Tensor, ...]]:
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
            self._starts[lot] = ()  # not needed any more

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


def _result_of(stepper: Any) -> type | None:
    """The class of a stepper's results, where it says so and can be stored: a dataclass of tensors."""
    try:
        return dataclass_of(typing.get_type_hints(type(stepper).result).get("return"))
    except Exception:  # an annotation that cannot be read: then nothing is kept, and all of it is run again
        return None
