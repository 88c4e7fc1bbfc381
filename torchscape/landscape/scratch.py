"""Work on a disk of this machine's own, for landscapes that lie on a slow file system, or on one without locks."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from torchscape.errors import DatabaseError, TorchscapeError
from torchscape.landscape.lock import NoLocks, WriterLock, is_locked
from torchscape.landscape.store import Store

__all__ = ["default_scratch", "is_written", "on_scratch"]

_FRESH = 600.0  # seconds for which a note of who writes counts, where there are no locks


def default_scratch() -> Path:
    """The folder for temporary files that the scheduler has given this job, or the machine's."""
    named = [os.environ.get(name) for name in ("TORCHSCAPE_SCRATCH", "SLURM_TMPDIR", "TMPDIR")]
    return next((Path(name) for name in named if name and Path(name).is_dir()), Path(tempfile.gettempdir()))


@contextlib.contextmanager
def on_scratch(
    path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None, *, every: float = 60.0
) -> Iterator[Path]:
    """A landscape file to write in ``path``'s stead, which is copied back while it grows, and at the end.

    What is copied is everything that is committed, and the file at ``path`` is whole at any moment: copies appear
    beside it and take its place. If the machine dies, what has come since the last copy is lost.

    Args:
        path: the file, on whatever file system; it need not exist yet.
        folder: on a disk of this machine's own; None for the scheduler's or the machine's temporary folder.
        every: seconds between two copies, if something was committed.

    Raises:
        DatabaseError: if somebody else writes the file, or it cannot be copied back at the end; then the message
            says where it is.

    Example:
        >>> import torchscape as tsc
        >>> surface = tsc.potentials.Himmelblau()
        >>> with tempfile.TemporaryDirectory() as far:
        ...     with on_scratch(f"{far}/h.db") as near, tsc.Landscape.open(near, surface) as landscape:
        ...         report = tsc.explore(landscape, surface, strategies=tsc.BasinHopping(hops=1), progress=False)
        ...     with tsc.Landscape.open(f"{far}/h.db") as landscape:
        ...         landscape.n_minima
        4
    """
    far = Path(path)
    with _the_only_one(far) as note:
        home = Path(tempfile.mkdtemp(prefix="torchscape-", dir=folder or default_scratch()))
        near = home / far.name
        for file, ending in ((far, ""), (_logs(far)[0], "-wal")):  # the log that a killed writer has left
            if file.exists():
                shutil.copyfile(file, home / (far.name + ending))
        keeper = _Keeper(near, far, every, note)
        try:
            yield near
        finally:
            keeper.stop()
            _brought_back(near, far)
            shutil.rmtree(home, ignore_errors=True)


def is_written(path: Path) -> bool:
    """Whether a process holds the file for writing, here or in its stead."""
    with contextlib.suppress(OSError):
        if time.time() - _note_of(path).stat().st_mtime < _FRESH:
            return True
    return is_locked(path)


def _brought_back(near: Path, far: Path) -> None:
    if not near.exists() or not near.stat().st_size:
        return
    try:
        _copy(near, far)
    except (OSError, TorchscapeError) as error:
        raise DatabaseError(f"cannot bring {far} back ({error}): everything is in {near}, copy it") from error


def _copy(near: Path, far: Path) -> None:
    """What is committed in ``near``, in place of ``far``: SQLite writes on this machine's disk only."""
    whole, beside = near.with_name(near.name + ".whole"), Path(f"{os.path.realpath(far)}.{os.getpid()}.copying")
    whole.unlink(missing_ok=True)
    try:
        store = Store(near, readonly=True)
        try:
            store.copy(whole)
        finally:
            store.close()
        shutil.copyfile(whole, beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        # The log of the file that was here: what it holds is in this one, into which it must not be folded.
        for log in _logs(far):
            log.unlink(missing_ok=True)
        beside.replace(os.path.realpath(far))
    finally:
        whole.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)


def _logs(far: Path) -> list[Path]:
    """What SQLite keeps beside a file: its log, and where what is in it."""
    return [Path(os.path.realpath(far) + ending) for ending in ("-wal", "-shm")]


class _Keeper:
    """A thread that copies the file now and then."""

    def __init__(self, near: Path, far: Path, every: float, note: Path | None) -> None:
        self.near, self.far, self.every, self.note = near, far, every, note
        self._is_over = threading.Event()
        self._copied: tuple[int, ...] | None = self._state()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._is_over.wait(self.every):
            if self.note is not None:
                self.note.write_text(_who())
            state = self._state()
            if state is None or state == self._copied:
                continue
            try:
                _copy(self.near, self.far)
                self._copied = state
            except (OSError, TorchscapeError) as error:  # it may go well the next time, and must at the end
                warnings.warn(f"cannot copy {self.near} to {self.far} now: {error}", stacklevel=1)

    def _state(self) -> tuple[int, ...] | None:
        """What changes when something is committed."""
        files = [self.near, self.near.with_name(self.near.name + "-wal")]
        told = [file.stat() for file in files if file.exists()]
        return tuple(value for one in told for value in (one.st_size, one.st_mtime_ns)) if told else None


@contextlib.contextmanager
def _the_only_one(far: Path) -> Iterator[Path | None]:
    """Nobody else writes: by a lock, or where there are none by a note that says who does."""
    far.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = WriterLock(far)
    except NoLocks:
        note = _noted(far)
        try:
            yield note
        finally:
            note.unlink(missing_ok=True)
        return
    try:
        yield None
    finally:
        lock.release()


def _noted(far: Path) -> Path:
    note = _note_of(far)
    with contextlib.suppress(OSError):
        before, age = note.read_text(), time.time() - note.stat().st_mtime
        if before != _who() and age < _FRESH:
            raise DatabaseError(
                f"{far} is being written by {before}, as of {age:.0f} s ago: wait for it, or remove {note} if it "
                "is gone"
            )
    note.write_text(_who())
    return note


def _note_of(far: Path) -> Path:
    return far.with_name(far.name + ".writer")


def _who() -> str:
    """A job is the same one after it was queued again."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"job {job}" if job else f"process {os.getpid()} on {platform.node()}"
