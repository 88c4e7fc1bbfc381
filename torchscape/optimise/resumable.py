"""Single long computations that go on where they were cut short: a search space, a chain of Newton steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch

from torchscape import stopwatch
from torchscape.devices import HOST
from torchscape.optimise.ledger import Entry, current_ledger, digests
from torchscape.transfer import moved
from torchscape.types import Tensor

__all__ = ["resumable"]


@contextlib.contextmanager
def resumable(
    kind: str, what: str, rows: tuple[Tensor, ...], state: Callable[[], Mapping[str, Tensor]]
) -> Iterator[Mapping[str, Tensor]]:
    """Inside, ``state`` is stored now and then and when all is cut short, if there is a ledger.

    Yields what was stored when the same computation was cut short before, on the host; nothing if it begins.
    Inside a pool, whose rows are stored as they run, and without a ledger, nothing is stored.

    Args:
        kind: what people call it, a plural.
        what: name and settings of the computation.
        rows: what it is a function of, beside these.
        state: all that it needs to go on from here, by name; empty while that cannot be said. Called between two
            steps, or from within a step that was interrupted: so it must speak of the last whole one.
    """
    ledger = current_ledger()
    if ledger is None or ledger.source is not None:
        yield {}
        return
    source = _Source(kind, f"running {what}", digests(what, tuple(row.reshape(1, -1) for row in rows)), state)
    for entry in ledger.running:
        if entry.what == source.what and torch.equal(entry.keys, source.keys):
            source.entry = entry
    ledger.source = source
    try:
        yield {} if source.entry is None else {name: column[0] for name, column in source.entry.columns.items()}
        ledger.exchange(() if source.entry is None else (source.entry,), ())
    except (stopwatch.Stopped, KeyboardInterrupt):
        ledger.in_flight()
        raise
    finally:
        ledger.source = None


class _Source:
    """What the ledger asks for the state of the computation."""

    def __init__(self, kind: str, what: str, keys: Tensor, state: Callable[[], Mapping[str, Tensor]]) -> None:
        self.kind, self.what, self.keys, self.state = kind, what, keys, state
        self.entry: Entry | None = None

    def in_flight(self) -> Entry | None:
        """The state, or what it was when it was last known."""
        columns = self.state()
        if not columns:
            return self.entry
        host = dict(zip(columns, moved(list(columns.values()), HOST), strict=True))
        # as one row; what goes on may write into its own
        rows = {name: column.clone()[None] for name, column in host.items()}
        return Entry(f"unfinished {self.kind}", self.what, "", self.keys, rows)
