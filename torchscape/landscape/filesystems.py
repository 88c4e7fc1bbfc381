"""On what kind of file system a landscape lies, and whether locks hold there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["is_shared", "kind_of", "locks_hold", "warning_for"]

# Of several machines: commits wait for the network, and SQLite's log wants memory that readers there do not share.
_SHARED = {
    "nfs", "nfs3", "nfs4", "lustre", "gpfs", "mmfs", "beegfs", "cifs", "smb2", "smb3", "smbfs", "ceph", "afs",
    "9p", "sshfs", "glusterfs", "pvfs2", "orangefs", "panfs", "wekafs", "ncpfs", "virtiofs", "fuse.ceph",
    "fuse.sshfs", "fuse.glusterfs", "fuse.juicefs", "fuse.s3fs",
}  # fmt: skip
_TRIAL = """
import fcntl, os, sys
try:
    fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(17)
"""
_REFUSED = 17  # what the trial says of a lock that holds


def kind_of(path: Path, mounts: str | os.PathLike[str] = "/proc/mounts") -> str:
    """The kind of file system that ``path`` lies on, or will lie on; "" where the system does not say.

    Args:
        path: of a file or folder; what does not exist yet lies where its folder does.
        mounts: the system's table, one mount a line, the later above the earlier.

    Example:
        >>> kind_of(Path("/proc/self/status"))
        'proc'
    """
    try:
        text = Path(mounts).read_text(errors="surrogateescape")
    except OSError:
        return ""
    where, found, length = path.resolve(), "", -1
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = _unescaped(words[1])
        if len(point) >= length and where.is_relative_to(point):
            found, length = words[2], len(point)
    return found


def _unescaped(word: str) -> str:
    """Blanks in names of folders are written in octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(code, character)
    return word


def is_shared(kind: str) -> bool:
    """Whether several machines may see a file system of that kind."""
    return kind in _SHARED


def locks_hold(held: Path) -> bool:
    """Whether another process is refused the lock on a file on which this one holds it."""
    trial = subprocess.run([sys.executable, "-I", "-S", "-c", _TRIAL, str(held)], stderr=subprocess.DEVNULL)
    return trial.returncode == _REFUSED


def warning_for(path: Path, lock: Path) -> str:
    """What to say to who begins to write ``path``, holding ``lock``; "" on a disk of this machine's own."""
    kind = kind_of(path)
    if not is_shared(kind):
        return ""
    held = "" if locks_hold(lock) else " Locks do not hold there: a second writer would not be noticed."
    return (
        f"{path} lies on a file system that several machines share ({kind}), where every commit waits for the "
        f"network.{held} Work from a disk of this machine's own, which is copied back as it grows: "
        "'torchscape explore --scratch', or landscape.on_scratch(path)"
    )
