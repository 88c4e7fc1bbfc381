"""What has ended of an unfinished round: stored as it runs, shown when it is cut short, used when it resumes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping

import torch

from torchscape.errors import TorchscapeError
from torchscape.explore import curvatures
from torchscape.landscape import Landscape
from torchscape.optimise.ledger import Entry, Ledger, keeping
from torchscape.points import StationaryPoints, Status
from torchscape.saddles import Certificate
from torchscape.stopwatch import Stopped, Stopwatch, running
from torchscape.types import Tensor

__all__ = ["Kept", "Pace"]

_PREFIX = "kept:"
_EVERY = 8.0  # seconds between two writings
_SHARE = 0.04  # of the time that writing rows which still run may take: there may be much to write
_ALLOWED = 1.0  # seconds for the rows that still run when all is cut short, and again for the minima of the round
_MINIMA = "quenches"
_RUNNING = "running"
_MUCH = 1 << 22  # bytes whose writing tells how fast that goes


@dataclasses.dataclass
class Pace:
    """When something was written last, in seconds of ``time.monotonic``; of the rows that still run, also how long
    it takes until they are written again, and how fast that goes."""

    ended: float = dataclasses.field(default_factory=time.monotonic)
    running: float = dataclasses.field(default_factory=time.monotonic)
    every: float = _EVERY
    speed: float = 5e7  # bytes per second: a guess, until some were written


class Kept:
    """The ledger of one round (or of the curvatures), and its part of the file.

    Entries are written whenever a loop looks and eight seconds have passed, so that a killed process loses no
    more than that; short rounds write nothing. Landscapes in memory die with the process: they are written to when
    the round is cut short.
    """

    def __init__(self, landscape: Landscape, name: str, pace: Pace) -> None:
        self.landscape, self.name, self.pace = landscape, name, pace
        self.prefix = f"{_PREFIX}{name}/"
        keys = landscape.state_keys(self.prefix)
        found = {key: _entry(landscape.load_state(key)) for key in keys}
        going = {key: entry for key, entry in found.items() if key.startswith(f"{self.prefix}{_RUNNING}")}
        ended = [entry for key, entry in found.items() if entry is not None and key not in going]
        self._n, self._n_running = len(found), len(going)
        self.ledger = Ledger(ended, [entry for entry in going.values() if entry is not None])

    @contextlib.contextmanager
    def open(self, watch: Stopwatch, on_ended: Callable[[str, int], None] | None = None) -> Iterator[Kept]:
        """Inside, what ends is noted, and written now and then; also when the block is left in whatever way."""
        watch.on_look, watch.on_ended = self.look, on_ended
        try:
            with keeping(self.ledger):
                yield self
        except (Stopped, KeyboardInterrupt):
            self.write()
            self.show()
            raise
        except BaseException:
            with contextlib.suppress(Exception):  # after a full disk: what is being raised says more
                self.write()
            raise
        finally:
            watch.on_look = watch.on_ended = None

    def look(self) -> None:
        """Write, if it is time."""
        now, pace = time.monotonic(), self.pace
        if self.landscape.path is None or now - pace.ended < _EVERY:
            return
        due = now - pace.running >= pace.every
        self.write(running=math.inf if due else 0.0)
        pace.ended = time.monotonic()
        if due:
            pace.running, pace.every = pace.ended, max(_EVERY, (pace.ended - now) / _SHARE)

    def write(self, *, running: float = _ALLOWED) -> None:
        """Store what was noted since the last time, and the rows that run now, if that takes no more than so many
        seconds; otherwise those of the last time stay."""
        if self.landscape.is_writing:
            return
        going = self.ledger.in_flight() if running else ()
        n_bytes = sum(column.nbytes for entry in going for column in entry.columns.values())
        if n_bytes > running * self.pace.speed:
            going, n_bytes = (), 0
        ended = self._n_running and not self.ledger.running  # they are among the news
        if not going and not self.ledger.has_news and not ended:
            return
        began = time.monotonic()
        with self.landscape.transaction():
            if going or ended:
                self.landscape.drop_states(f"{self.prefix}{_RUNNING}")
                self._n_running = len(going)
            states = [(f"{_RUNNING}/{n}", entry) for n, entry in enumerate(going)]
            for name, entry in [*states, *self._fresh()]:
                with contextlib.suppress(TorchscapeError):  # numbers of a kind that cannot be stored are run again
                    self.landscape.save_state(f"{self.prefix}{name}", _state(entry))
        if n_bytes > _MUCH:
            self.landscape.fold()  # which writes them once more
            self.pace.speed = n_bytes / (time.monotonic() - began)

    def _fresh(self) -> list[tuple[str, Entry]]:
        entries, first = self.ledger.written(), self._n
        self._n += len(entries)
        return [(f"{first + n:06d}", entry) for n, entry in enumerate(entries)]

    def drop(self) -> None:
        """The round has ended: it is not asked for again."""
        self.landscape.drop_states(self.prefix)

    def show(self) -> None:
        """Minima among the quenches that have ended become provisional minima of the file.

        They are certified first, as many as there is time for.
        """
        points, landscape = self._quenches(), self.landscape
        certificate = Certificate(dense_limit=curvatures.FEW)
        if points is None:
            return
        with landscape.transaction():
            landscape.withdraw(self.name)
            first, going = landscape.next_minimum_id(), self.ledger.running
            with (
                keeping(self.ledger),
                running(Stopwatch(_ALLOWED)),
                contextlib.suppress(Stopped, KeyboardInterrupt),
            ):
                rows, size = torch.arange(len(points)), 1
                while len(rows):
                    judged, known = landscape.certified(points[rows[:size]], certificate)
                    good = (judged.status == Status.CONVERGED) & (judged.index <= 0)
                    hits = torch.zeros(int(good.sum()), dtype=torch.int64)  # counted when the round ends
                    landscape.add_minima(judged[good], hits=hits, known=known[good], task=self.name)
                    rows, size = rows[size:], 2 * size
            landscape.mark_provisional(self.name, first)
        self.ledger.running = going  # whatever was begun for this
        self.write(running=0.0)

    def _quenches(self) -> StationaryPoints | None:
        """The distinct new points that quenches have ended in."""
        entries = [entry for entry in self.ledger.entries if entry.kind == _MINIMA]
        parts = [StationaryPoints(**entry.columns, eigenvalues=None) for entry in entries]
        if not parts:
            return None
        points = StationaryPoints.cat(parts)
        points = points[(points.status == Status.CONVERGED) | (points.status == Status.STALLED)]
        return points if len(points) else None


def _state(entry: Entry) -> dict[str, object]:
    columns = {f"column:{name}": column for name, column in entry.columns.items()}
    return {
        "kind": entry.kind,
        "n": len(entry),
        "what": entry.what,
        "result": entry.result,
        "keys": entry.keys,
        "shared": dict(entry.shared),
    } | columns


def _entry(state: Mapping[str, object] | None) -> Entry | None:
    """What was stored; None for what is not as this program writes it."""
    told = dict(state or {})
    columns = {name.removeprefix("column:"): v for name, v in told.items() if name.startswith("column:")}
    keys = told.get("keys")
    if not isinstance(keys, Tensor) or keys.ndim != 2 or keys.dtype != torch.uint8:
        return None
    tensors = {name: v for name, v in columns.items() if isinstance(v, Tensor) and v.ndim and len(v) == len(keys)}
    if not columns or len(tensors) < len(columns):
        return None
    shared = told.get("shared")
    numbers = {str(k): v for k, v in shared.items() if isinstance(v, int)} if isinstance(shared, dict) else {}
    return Entry(str(told.get("kind")), str(told.get("what")), str(told.get("result")), keys, tensors, numbers)
