"""What was tried: runs, tasks, pairs of minima, states of strategies, and rounds that are not finished."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchscape.brief import brief
from torchscape.devices import accelerator_name
from torchscape.landscape import codec
from torchscape.landscape.rows import IS_MINIMUM, IS_TRANSITION_STATE
from torchscape.landscape.store import Store
from torchscape.types import Int, Tensor

__all__ = ["Journal", "TriedPairs"]

_PROVISIONAL = "provisional"  # key of the state that says which minima are


@brief
@dataclasses.dataclass(frozen=True)
class TriedPairs:
    """Pairs of minima between which a transition state was searched.

    Attributes:
        pairs: database ids, the smaller first.
        times: how often each pair was tried.
        outcomes: how the last attempt ended.
    """

    pairs: Int[Tensor, "P 2"]
    times: Int[Tensor, "P"]
    outcomes: tuple[str, ...]


class Journal:
    """The bookkeeping half of a :class:`~torchscape.landscape.Landscape`.

    A run loop writes the points of a task and the record of the task in one transaction; a task that was cut
    short left nothing, and one that is recorded is never repeated.

    Ids of minima count in the order of discovery, which is that of a round's starts and not of the clock. What a
    round has found when it is cut short is in the file under the next free ids, and without hits; when the round
    is resumed these give way to its proper results, so that a run which was stopped numbers its minima, and all
    that follows from the numbers, like one that was not. Once something else refers to one of them they stay.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._run: int | None = None
        self._fresh: set[str] = set()  # tasks recorded by the transaction in progress
        store.on_end.append(self._fresh.clear)

    @property
    def current_run(self) -> int | None:
        """The run that was begun here and is not finished."""
        # Asked of the table each time: whatever was begun or finished may have been rolled back since.
        rows = self._store.execute("SELECT id FROM run WHERE id = ? AND status = 'running'", (self._run,))
        return rows[0][0] if rows else None

    # --- runs -------------------------------------------------------------------------------------------

    def begin_run(self, seed: int, settings: Mapping[str, object] | None = None) -> int:
        """Open a run and return its number; whatever is added from now on came from it.

        A run that was still open belonged to a process that died: it is marked as interrupted.
        """
        with self._store.transaction():
            now = _now()
            self._store.execute(
                "UPDATE run SET status = 'interrupted', finished = ? WHERE status = 'running'", (now,)
            )
            row = (seed, json.dumps(dict(settings or {}), default=str), json.dumps(_versions()), now)
            self._store.execute(
                "INSERT INTO run(seed, settings, versions, started, status) VALUES (?, ?, ?, ?, 'running')", row
            )
            run = int(self._store.execute("SELECT MAX(id) FROM run")[0][0])
        self._run = run
        return run

    def finish_run(self, run: int, status: str = "complete") -> None:
        """Close a run: "complete" if its strategies had nothing left to do, else why it stopped."""
        with self._store.transaction():
            self._store.execute("UPDATE run SET status = ?, finished = ? WHERE id = ?", (status, _now(), run))

    def runs(self) -> list[dict[str, object]]:
        """All runs, oldest first: id, seed, settings, versions, status, started, finished."""
        names = ("id", "seed", "settings", "versions", "status", "started", "finished")
        rows = self._store.execute(f"SELECT {', '.join(names)} FROM run ORDER BY id")
        runs = [dict(zip(names, row, strict=True)) for row in rows]
        return [
            {**run, "settings": json.loads(run["settings"]), "versions": json.loads(run["versions"])}
            for run in runs
        ]

    # --- tasks ------------------------------------------------------------------------------------------

    def record_task(
        self,
        key: str,
        kind: str,
        detail: Mapping[str, object] | None = None,
        n_evaluations: int = 0,
        *,
        wall: float | None = None,
        status: str = "done",
    ) -> bool:
        """Note that the task ``key`` is done; True unless it had been noted before (then nothing changes).

        Put it in one transaction with the points it found, after or before them.
        """
        with self._store.transaction():
            if self.task_done(key):
                return False
            row = (key, self.current_run, kind, status, json.dumps(dict(detail or {})), n_evaluations, wall)
            self._store.execute(
                "INSERT INTO task(key, run, kind, status, detail, n_evaluations, wall) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            if self._store.depth > 1:
                self._fresh.add(key)
        return True

    def task_done(self, key: str) -> bool:
        """Whether the task was recorded."""
        return bool(self._store.execute("SELECT 1 FROM task WHERE key = ?", (key,)))

    def tasks(self) -> list[dict[str, Any]]:
        """All recorded tasks in their order: key, run, kind, status, n_evaluations, wall, and how much of what is
        known today each of them found first: n_minima, n_transition_states, and the lowest energy of its minima.
        """
        names = ("key", "run", "kind", "status", "n_evaluations", "wall")
        with self._store.snapshot():
            rows = self._store.execute(f"SELECT {', '.join(names)} FROM task ORDER BY rowid")
            found = {
                (table, task): (n, energy)
                for table, task, n, energy in self._store.execute(
                    f"SELECT 'minimum', task, COUNT(*), MIN(energy) FROM minimum WHERE {IS_MINIMUM} GROUP BY task "
                    "UNION ALL SELECT 'transition_state', task, COUNT(*), MIN(energy) FROM transition_state "
                    f"WHERE {IS_TRANSITION_STATE} GROUP BY task"
                )
            }
        none = (0, None)
        return [
            {
                **dict(zip(names, row, strict=True)),
                "n_minima": found.get(("minimum", row[0]), none)[0],
                "n_transition_states": found.get(("transition_state", row[0]), none)[0],
                "lowest": found.get(("minimum", row[0]), none)[1],
            }
            for row in rows
        ]

    def n_tasks(self, kind: str | None = None) -> int:
        """How many tasks are recorded, of one kind or of all."""
        where, values = ("", ()) if kind is None else (" WHERE kind = ?", (kind,))
        return int(self._store.execute(f"SELECT COUNT(*) FROM task{where}", values)[0][0])

    def n_evaluations(self, run: int | None = None) -> int:
        """Energy-and-gradient evaluations spent by all recorded tasks, or by those of one run."""
        where, values = ("", ()) if run is None else (" WHERE run = ?", (run,))
        found = self._store.execute(f"SELECT COALESCE(SUM(n_evaluations), 0) FROM task{where}", values)
        return int(found[0][0])

    def is_settled(self, task: str | None) -> bool:
        """Whether the task was recorded before the transaction in progress: then its points are in already."""
        return task is not None and task not in self._fresh and self.task_done(task)

    # --- pairs ------------------------------------------------------------------------------------------

    def record_pairs(self, pairs: Int[Tensor, "P 2"], outcome: str | Sequence[str]) -> None:
        """Note one more attempt at each pair of minima, with its outcome (one for all, or one each)."""
        low, high = pairs.min(1).values.tolist(), pairs.max(1).values.tolist()
        outcomes = [outcome] * len(pairs) if isinstance(outcome, str) else list(outcome)
        self._store.executemany(
            "INSERT INTO pair(a, b, times, outcome) VALUES (?, ?, 1, ?) "
            "ON CONFLICT(a, b) DO UPDATE SET times = times + 1, outcome = excluded.outcome",
            list(zip(low, high, outcomes, strict=True)),
        )

    def tried_pairs(self) -> TriedPairs:
        """All pairs attempted so far, ordered by their ids."""
        rows = self._store.execute("SELECT a, b, times, outcome FROM pair ORDER BY a, b")
        numbers = torch.tensor([row[:3] for row in rows], dtype=torch.int64).reshape(-1, 3)
        return TriedPairs(numbers[:, :2], numbers[:, 2], tuple(row[3] for row in rows))

    # --- states -----------------------------------------------------------------------------------------

    def save_state(self, key: str, state: Mapping[str, object]) -> None:
        """Keep ``state`` (plain data and tensors, no pickles) under ``key``, in place of what was there."""
        text, arrays = codec.pack(state)
        with self._store.transaction():
            self._store.execute(
                "INSERT INTO state(key, value) VALUES (?, ?) "
                "ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                (key, text),
            )
            self._store.execute("DELETE FROM state_array WHERE key = ?", (key,))
            self._store.executemany(
                "INSERT INTO state_array(key, name, dtype, shape, data) VALUES (?, ?, ?, ?, ?)",
                [(key, *array) for array in arrays],
            )

    def state_keys(self, prefix: str) -> list[str]:
        """The keys of all states that begin with ``prefix``, in their order."""
        found = self._store.execute(
            "SELECT key FROM state WHERE substr(key, 1, ?) = ? ORDER BY key", (len(prefix), prefix)
        )
        return [row[0] for row in found]

    def drop_states(self, prefix: str) -> None:
        """Forget all states whose keys begin with ``prefix``."""
        keys = [(key,) for key in self.state_keys(prefix)]
        if keys:
            with self._store.transaction():
                self._store.executemany("DELETE FROM state_array WHERE key = ?", keys)
                self._store.executemany("DELETE FROM state WHERE key = ?", keys)

    def load_state(self, key: str) -> dict[str, object] | None:
        """What was last saved under ``key``, None if nothing was."""
        with self._store.snapshot():
            rows = self._store.execute("SELECT value FROM state WHERE key = ?", (key,))
            arrays = self._store.execute("SELECT name, dtype, shape, data FROM state_array WHERE key = ?", (key,))
        return codec.unpack(rows[0][0], arrays) if rows else None

    # --- rounds that are not finished ---------------------------------------------------------------------

    def kept(self) -> dict[str, int]:
        """What has ended of a round that is not finished, and waits to be used when it is resumed: how many rows
        of each kind, "quenches" say.
        """
        counts: dict[str, int] = {}
        for (text,) in self._store.execute(
            "SELECT value FROM state WHERE substr(key, 1, 5) = 'kept:' ORDER BY key"
        ):
            told = json.loads(text)
            if told.get("kind"):
                counts[told["kind"]] = counts.get(told["kind"], 0) + int(told["n"])
        return counts

    @property
    def provisional(self) -> str | None:
        """The round whose minima are provisional, None where all are final."""
        told = self.load_state(_PROVISIONAL)
        return None if told is None else str(told["round"])

    def mark_provisional(self, round: str, first: int) -> None:
        """The minima from id ``first`` on are those of an unfinished round."""
        self.save_state(_PROVISIONAL, {"round": round, "first": first, "stop": self.next_minimum_id()})

    def settle(self) -> None:
        """What was provisional stays as it is."""
        self.drop_states(_PROVISIONAL)

    def withdraw(self, round: str) -> bool:
        """Take provisional minima of that round out again; False where something refers to them, and they stay."""
        told: dict[str, Any] | None = self.load_state(_PROVISIONAL)
        if told is None:
            return True
        with self._store.transaction():
            self.settle()
            first = int(told["first"])
            if told["round"] != round or told["stop"] != self.next_minimum_id() or self._is_referred_to(first):
                return False
            self._store.execute("DELETE FROM minimum WHERE id >= ?", (first,))
            self._store.execute("DELETE FROM refusal WHERE task = ?", (told["round"],))
        for forget in self._store.on_rollback:
            forget()
        return True

    def next_minimum_id(self) -> int:
        """The id that the next new minimum will get."""
        return int(self._store.execute("SELECT COALESCE(MAX(id), -1) + 1 FROM minimum")[0][0])

    def _is_referred_to(self, first: int) -> bool:
        """Whether a transition state, a pair, a property or another minimum speaks of ids from ``first`` on."""
        asked = (
            "SELECT 1 FROM transition_state WHERE minus >= ? OR plus >= ?",
            "SELECT 1 FROM pair WHERE b >= ?",
            "SELECT 1 FROM property WHERE minimum >= ?",
            "SELECT 1 FROM minimum WHERE id < ? AND family >= ?",
            "SELECT 1 FROM minimum WHERE id >= ? AND hits > 0",
        )
        return any(self._store.execute(f"{one} LIMIT 1", (first,) * one.count("?")) for one in asked)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("torchscape")
    except PackageNotFoundError:
        own = None
    return {
        "torchscape": own,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.platform(),
        "accelerator": accelerator_name(),
    }
