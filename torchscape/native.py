"""C that is compiled where it runs: loops over small rows in host memory.

For batches of small rows a call of an array library costs more than the numbers in it, and a step of a quench has
a hundred such calls. A C compiler ($CC, or else cc, gcc or clang) translates a source of some hundred lines in a
second, once for each kind of machine; what comes of it is kept in the cache folder. Where there is no compiler, or
it fails, callers do the same by other means, and results agree to rounding. TORCHSCAPE_NATIVE=off in the
environment does without, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from torchscape.devices import instructions
from torchscape.outputs import cache_folder

__all__ = ["RowFunction", "library"]

_LOG = logging.getLogger(__name__)
_SECONDS = 60.0  # that a compiler may take

# Sums may be rounded in another order, as vectors want it; NaN and infinity are what they are.
_FLAGS = (
    "-x", "c", "-std=gnu11", "-O3", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno",
    "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math",
)  # fmt: skip
_VECTORS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"),
}


@dataclasses.dataclass(frozen=True)
class RowFunction:
    """A compiled function of rows in float64, which other native code can call.

    Attributes:
        address: of ``int f(int64_t rows, const double *x, double *energy, double *grad, const void *context)``,
            which writes energies and gradients and returns 0, or 1 where memory ran out.
        context: what the last argument points to.
        kept: what the context points to, which must not be freed before.
    """

    address: int
    context: ctypes.Structure
    kept: object = None


@functools.cache
def library(source: str) -> ctypes.CDLL | None:
    """The functions of a C source, compiled now or earlier; None where that cannot be done.

    The source is code: callers put nothing into it but what this package says itself.

    Example:
        >>> found = library("int twice(int n) { return 2 * n; }")
        >>> found is None or found.twice(21)
        42
    """
    if os.environ.get("TORCHSCAPE_NATIVE") == "off" or sys.platform == "win32":
        return None
    command = _compiler()
    if command is None:
        return None
    name = _name(source, command)
    try:
        return _loaded(source, command, cache_folder() / "native", name)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # without a home there is no cache
        said = getattr(error, "stderr", None) or str(error)
        _LOG.info("no native code, as %s failed: %s", shlex.join(command[:1]), said)
        return None


def _compiler() -> tuple[str, ...] | None:
    """The command with the flags that fit this processor."""
    named = shlex.split(os.environ.get("CC", ""))
    for words in [named] if named else [["cc"], ["gcc"], ["clang"]]:
        path = shutil.which(words[0])
        if path is not None:
            vectors = _VECTORS.get(instructions(), ())
            return (path, *words[1:], *_FLAGS, *vectors)
    return None


def _name(source: str, command: tuple[str, ...]) -> str:
    """What decides whether a library is this one: home folders are shared by machines that differ."""
    told = (source, *command, platform.machine(), *platform.libc_ver(), sys.platform)
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:32]


def _loaded(source: str, command: tuple[str, ...], folder: Path, name: str) -> ctypes.CDLL:
    path = folder / f"{name}.so"
    if _is_own(path):
        with contextlib.suppress(OSError):  # of another system after all: then it is made again
            return ctypes.CDLL(str(path))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        room = tempfile.TemporaryDirectory(dir=folder, prefix=".part-")
    except OSError:  # nothing can be kept
        room = tempfile.TemporaryDirectory()
    with room as beside:
        made = Path(beside) / path.name
        subprocess.run(
            [*command, "-", "-o", str(made), "-lm"],
            input=source.encode(),
            capture_output=True,
            check=True,
            timeout=_SECONDS,
        )
        with contextlib.suppress(OSError):
            made = made.replace(path)  # whole, or not there, whoever else does the same
        return ctypes.CDLL(str(made))


def _is_own(path: Path) -> bool:
    """Whether nobody else can have written the file."""
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
