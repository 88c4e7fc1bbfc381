"""A file that another process explores, looked at again and again."""

from __future__ import annotations

import dataclasses
import datetime
import os
import time
from collections.abc import Iterator
from pathlib import Path

from torchscape.errors import DatabaseError, OptionError
from torchscape.landscape.glance import Glance
from torchscape.landscape.landscape import Landscape
from torchscape.landscape.scratch import is_written

__all__ = ["glances"]


def glances(path: str | os.PathLike[str], every: float = 2.0) -> Iterator[Glance]:
    """How a file that another process explores stands, again and again, until the run ends.

    Where somebody holds the file and no run is going on, it waits for one; where nobody does, it looks once. The
    file is read as it was committed last; the writer never waits. Looking costs at most a tenth of the time,
    however large the file has become.

    Args:
        path: the landscape file.
        every: seconds between two looks.

    Raises:
        OptionError: if ``every`` is no positive number.
        DatabaseError: if there is no such landscape.

    Example:
        >>> import tempfile
        >>> import torchscape as tsc
        >>> surface = tsc.potentials.Himmelblau()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with tsc.Landscape.open(f"{folder}/h.db", surface) as landscape:
        ...         report = tsc.explore(landscape, surface, strategies=tsc.BasinHopping(hops=1), progress=False)
        ...     [(one.n_minima, one.n_components, one.status) for one in glances(f"{folder}/h.db")]
        [(4, 4, 'complete')]
    """
    if not every > 0:
        raise OptionError(f"glances: every={every}; give a positive number of seconds")
    was_running = False
    while True:
        began = time.monotonic()
        found = _look(Path(path))
        if found is not None:
            yield found
            if not found.is_running and (was_running or not found.is_written):
                return
            was_running |= found.is_running
        time.sleep(max(every, 9 * (time.monotonic() - began)))


def _look(path: Path) -> Glance | None:
    """What is committed; None while a writer has made the file and nothing in it."""
    held = is_written(path)
    try:
        with Landscape.open(path, create=False) as landscape:
            return _of_last_run(landscape, held)
    except DatabaseError:
        if held and path.exists() and not path.stat().st_size:
            return None
        raise


def _of_last_run(landscape: Landscape, held: bool) -> Glance:
    found, runs = landscape.glance(), landscape.runs()
    if not runs:
        return dataclasses.replace(found, is_written=held)
    run = runs[-1]
    began, ended = (datetime.datetime.fromisoformat(str(run[key] or _now())) for key in ("started", "finished"))
    return dataclasses.replace(
        found,
        status=str(run["status"]),
        is_written=held,
        seconds=max(0.0, (ended - began).total_seconds()),
        n_evaluations_of_run=landscape.n_evaluations(run=int(str(run["id"]))),
        unfinished=landscape.kept(),
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()
