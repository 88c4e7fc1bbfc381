"""Which gaps between values of the control parameter deserve a landscape of their own in the middle."""

from __future__ import annotations

from collections.abc import Collection

from torchscape.families.branches import Sweeps
from torchscape.families.members import DOWN, UP

__all__ = ["middles"]

_UNEXPLAINED = ("lost", "unmet fold")


def middles(sweeps: Sweeps, fresh: Collection[float]) -> list[float]:
    """Values to explore next: the middles of all gaps at first; then of those in which a branch is lost for no
    located reason, and of those beside a fresh value with a branch that neither neighbour has.

    Args:
        sweeps: that have been run.
        fresh: values that the last refinement has added; none before the first.
    """
    members = sweeps.members
    gaps = [k for k in range(len(members) - 1) if sweeps.can_follow(k, UP)]
    if fresh:
        lost = {
            k if way == UP else k - 1
            for (k, _, way), ending in sweeps.endings.items()
            if ending.kind in _UNEXPLAINED
        }
        alone = {k for k, member in enumerate(members) if member.value in fresh and _has_new(sweeps, k)}
        gaps = [k for k in gaps if k in lost or k in alone or k + 1 in alone]
    return [0.5 * (members[k].value + members[k + 1].value) for k in gaps]


def _has_new(sweeps: Sweeps, k: int) -> bool:
    """Whether a branch is there at this value alone."""
    link = sweeps.members[k].link
    return bool(((link[:, UP] < 0) & (link[:, DOWN] < 0)).any())
