"""Words on the command line that only pictures take: sets of minima, ranges of energies, widths of a page."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

__all__ = ["KINDS"]


def _sets(text: str) -> dict[str, list[int]]:
    """NAME=I,J,...;NAME=K,..."""
    found = {}
    for one in text.split(";"):
        name, _, members = one.partition("=")
        numbers = [number.strip() for number in members.split(",")]
        if not name.strip() or not all(number.isdecimal() for number in numbers):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of sets, as in 'fcc=0,4;bcc=1,7'")
        found[name.strip()] = [int(number) for number in numbers]
    return found


def _range(text: str) -> tuple[float | None, float | None]:
    """LOW:HIGH, one of which may be left out."""
    try:
        low, high = (float(one) if one else None for one in text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of energies, as in -2:0.5") from None
    if low is not None and high is not None and not low < high:
        raise argparse.ArgumentTypeError(f"{text!r} runs from {low:g} down to {high:g}: give LOW:HIGH")
    return low, high


def _width(text: str) -> str | float:
    """column, page, or inches."""
    if text in ("column", "page"):
        return text
    try:
        inches = float(text)
    except ValueError:
        inches = 0.0
    if not 0 < inches < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, nor column or page")
    return inches


KINDS: dict[str, Callable[[str], Any]] = {"sets": _sets, "range": _range, "width": _width}
"""What parses a value, by the name that :class:`torchscape.plots.table.Option` has for its kind."""
