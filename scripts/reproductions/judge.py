"""Verdicts on one number beside another. They are computed, never written down beforehand."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np

__all__ = ["Verdict", "agree", "agree_all", "inside", "reaches"]


class Verdict(enum.Enum):
    """What a number is, beside a published or an independent one."""

    SAME = "same"
    SPREAD = "same within what a different random data set explains"
    KIND = "same in kind"
    DIFFERENT = "different"
    SHORT = "not reached"
    BESIDE = "no verdict"


def agree(ours: float, theirs: float, tol: float = 0.0) -> Verdict:
    """SAME within ``tol``; NaN agrees with nothing."""
    return Verdict.SAME if abs(ours - theirs) <= tol else Verdict.DIFFERENT


def agree_all(ours: Sequence[float], theirs: Sequence[float], tol: float = 0.0) -> Verdict:
    """SAME where both lists are equally long and agree within ``tol`` throughout."""
    same = len(ours) == len(theirs) and bool((np.abs(np.subtract(ours, theirs)) <= tol).all())
    return Verdict.SAME if same else Verdict.DIFFERENT


def inside(ours: float, low: float, high: float) -> Verdict:
    """SPREAD within the range that other random data give."""
    return Verdict.SPREAD if low <= ours <= high else Verdict.DIFFERENT


def reaches(ours: float, at_least: float) -> Verdict:
    """SAME from ``at_least`` on, which is how far others got."""
    return Verdict.SAME if ours >= at_least else Verdict.SHORT
