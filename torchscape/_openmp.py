"""Threads that wait without spinning. Imported before torch, which loads OpenMP.

Batches of small matrices make short parallel regions. By default OpenMP's threads spin between them, which on a
machine that is busy otherwise costs several times the work itself (measured with two threads on two loaded cores:
141 s in place of 22 s for a search of LJ_7). Whoever sets OMP_WAIT_POLICY, or imports torch first, decides.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
