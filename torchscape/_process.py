"""What the process is asked to do for batches of small matrices. Imported before torch, which loads OpenMP.

Threads spin for microseconds only. Small matrices make short parallel regions. Between them OpenMP's threads spin
for a good part of a millisecond by default, which on a busy machine costs more than it saves; without spinning,
waking them does so on an idle one. For 128 quenches of a small network on two threads, by default, without, and as
here: 0.8, 1.3 and 0.9 s on two idle cores, 3.9, 2.4 and 2.6 s on two loaded ones. Whoever sets GOMP_SPINCOUNT or
OMP_WAIT_POLICY, or imports torch first, decides.

Freed memory is kept. By default glibc returns the temporaries of an evaluation to the system as soon as they are
freed and asks for them again, page by page, in the next one: a quarter of the time of a gradient of a network
on a CPU. Up to 256 MiB stay with the process instead. Whoever sets GLIBC_TUNABLES or one of glibc's own variables
(MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_, MALLOC_TOP_PAD_), or uses another allocator, decides.

TORCHSCAPE_PROCESS=unchanged switches off both.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 256 * 2**20
_LARGEST = 32 * 2**20  # allocations beyond this are always returned: glibc allows no more


def _keep_freed_memory() -> None:
    names = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")
    if any(name in os.environ for name in names):
        return
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  only glibc has it, and only its mallopt knows these numbers
        mallopt = libc.mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    mallopt(_TRIM_THRESHOLD, _KEPT)


if os.environ.get("TORCHSCAPE_PROCESS") != "unchanged":
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "6000")
    _keep_freed_memory()
