"""One writer at a time: an advisory lock that dies with its process."""

from __future__ import annotations

import errno
import os
import platform
import stat
import weakref
from pathlib import Path

from torchscape.errors import DatabaseError

__all__ = ["NoLocks", "WriterLock", "is_locked"]


class NoLocks(DatabaseError):
    """The file system has no locks."""


class WriterLock:
    """The right to write ``path``, held from construction to :meth:`release`.

    The operating system keeps the lock (``flock`` on ``path`` + ".lock"), so it vanishes with the process that
    held it, however that process ended; a lock file that lies about afterwards blocks none. Readers need none.
    A link in its place is not followed: what it leads to is not ours.

    Why not ``filelock`` (4.2): it takes the same lock, so that the two respect each other, but cannot say who
    holds it, leaves its file behind, and where a file system has no locks it goes on with a file that outlives a
    killed process, where :class:`NoLocks` leads to work elsewhere. It would lock on Windows, too; but there a lock
    forbids others to read the bytes it covers, an open file cannot be removed, and SQLite's log was never tried.

    Raises:
        DatabaseError: if another process is writing (named by process and host), or no lock file can be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(path.name + ".lock")
        self._descriptor = self._acquire(path)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()} {platform.node()}".encode(), 0)
        self._finalizer = weakref.finalize(self, _release, self._descriptor, str(self.path), os.getpid())

    def release(self) -> None:
        """Hand the right back (also done when the object is collected)."""
        self._finalizer()

    def _acquire(self, path: Path) -> int:
        try:
            import fcntl
        except ImportError as error:
            raise DatabaseError("writing a landscape needs POSIX file locks; on Windows, work in WSL") from error
        while True:
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                descriptor = os.open(self.path, flags, 0o666)
            except OSError as error:
                if self.path.is_symlink() or error.errno == errno.ENXIO:
                    raise DatabaseError(_no_lock_file(self.path)) from error
                reason = (error.strerror or str(error)).lower()
                raise DatabaseError(
                    f"cannot write {path}: {reason} ({self.path}); choose a path in a directory that you may "
                    "write, or open it with readonly=True"
                ) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace")
                os.close(descriptor)
                if not isinstance(error, BlockingIOError):
                    raise NoLocks(
                        f"the file system of {path} has no locks ({error.strerror}), which writing needs: work "
                        "from a disk of this machine's own, which is copied back as it grows ('torchscape explore "
                        "--scratch', or landscape.on_scratch(path))"
                    ) from error
                raise DatabaseError(_busy(path, holder)) from None
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise DatabaseError(_no_lock_file(self.path))
            if _is_still(descriptor, self.path):
                return descriptor
            os.close(descriptor)  # its last holder removed the file between our open and our lock


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of ``path``; the file that a killed one has left behind says nothing."""
    try:
        import fcntl

        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path.with_name(path.name + ".lock"), flags)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    finally:
        os.close(descriptor)
    return False


def _no_lock_file(path: Path) -> str:
    return f"{path} is a link or no plain file, where the lock of the landscape belongs: remove it"


def _busy(path: Path, holder: str) -> str:
    pid, _, host = holder.partition(" ")
    if pid == str(os.getpid()) and host == platform.node():
        return f"{path} is already open for writing in this process: close() that landscape first"
    return (
        f"{path} is being written by process {pid or 'unknown'} on {host or 'this machine'}: wait for it, "
        "stop it, or open the landscape with readonly=True"
    )


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether ``path`` still names the file behind ``descriptor``."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _release(descriptor: int, path: str, owner: int) -> None:
    # A forked child shares the lock, but only the process that took it may remove the file.
    if os.getpid() == owner and _is_still(descriptor, Path(path)):
        os.unlink(path)
    os.close(descriptor)
