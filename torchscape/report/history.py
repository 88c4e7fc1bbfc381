"""How a landscape was explored: its runs, and what was found against what was spent."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any

import numpy as np

from torchscape.landscape import Landscape

__all__ = ["History", "Run", "history"]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of ``explore``, in words.

    Attributes:
        number, seed, status: as in the journal.
        began: when, in universal time.
        lasted: how long; empty while it is not closed.
        n_tasks, n_evaluations, n_minima, n_transition_states: what it did, and what it found first.
        settings, versions: everything that is on record.
    """

    number: int
    seed: int
    status: str
    began: str
    lasted: str
    n_tasks: int
    n_evaluations: int
    n_minima: int
    n_transition_states: int
    settings: dict[str, Any]
    versions: dict[str, Any]

    @property
    def on_record(self) -> str:
        """Settings and versions, as they are written in the journal."""
        return json.dumps({"settings": self.settings, "versions": self.versions}, indent=1)


@dataclasses.dataclass(frozen=True)
class History:
    """All runs of a landscape, and its growth.

    Attributes:
        runs: the oldest first.
        evaluations: spent up to the end of each task, from 0 on [K].
        minima, transition_states: how many of those known today were known by then [K].
        lowest: the lowest energy known by then; NaN before there is one [K].
        begins: evaluations spent before each run.
    """

    runs: tuple[Run, ...]
    evaluations: np.ndarray
    minima: np.ndarray
    transition_states: np.ndarray
    lowest: np.ndarray
    begins: tuple[float, ...]


def history(landscape: Landscape) -> History | None:
    """The journal of a landscape; None where nothing is on record."""
    told = landscape.runs()
    if not told:
        return None
    tasks = landscape.tasks()
    spent = np.cumsum([0.0] + [float(task["n_evaluations"]) for task in tasks])
    found = {
        kind: np.cumsum([0] + [int(task[kind]) for task in tasks]) for kind in ("n_minima", "n_transition_states")
    }
    energies = np.array([np.nan] + [np.nan if task["lowest"] is None else task["lowest"] for task in tasks])
    runs, begins = [], []
    for run in told:
        own = [k for k, task in enumerate(tasks) if task["run"] == run["id"]]
        begins.append(float(spent[own[0]]) if own else float(spent[-1]))
        sums = {
            name: sum(int(tasks[k][name]) for k in own)
            for name in ("n_evaluations", "n_minima", "n_transition_states")
        }
        runs.append(_in_words(run, len(own), sums))
    return History(
        tuple(runs), spent, found["n_minima"], found["n_transition_states"],
        np.fmin.accumulate(energies), tuple(begins),
    )  # fmt: skip


def _in_words(run: dict[str, Any], n_tasks: int, sums: dict[str, int]) -> Run:
    began, ended = (
        None if run[name] is None else datetime.datetime.fromisoformat(str(run[name]))
        for name in ("started", "finished")
    )
    return Run(
        number=int(run["id"]),
        seed=int(run["seed"]),
        status=str(run["status"]),
        began="" if began is None else f"{began:%Y-%m-%d %H:%M}",
        lasted="" if began is None or ended is None else duration((ended - began).total_seconds()),
        n_tasks=n_tasks,
        settings=dict(run["settings"]),
        versions={name: value for name, value in run["versions"].items() if value is not None},
        **sums,
    )


def duration(seconds: int | float) -> str:
    """A time in the two units that matter.

    Example:
        >>> duration(7384.2), duration(59), duration(200000)
        ('2 h 3 min', '59 s', '2 d 7 h')
    """
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    left = round(seconds)
    said: list[str] = []
    for name, size in units:
        n, left = divmod(left, size)
        if n or said or size == 1:
            said.append(f"{n} {name}")
    return " ".join(said[:2]) if len(said) > 1 and not said[1].startswith("0 ") else said[0]
