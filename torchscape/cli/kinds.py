"""What words of the command line stand for: numbers, lists, minima, temperatures. Nothing here imports torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["finite", "minima", "positive", "seed", "temperatures", "two_minima", "words"]


def positive(kind: type, zero: bool = False, most: int = 2**63 - 1) -> Callable[[str], float]:
    """A reader of numbers above 0, or of at least 0, and at most so much."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not (0 < value < float("inf") or (zero and value == 0)):
            a_number = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {a_number} {'of at least' if zero else 'above'} 0")
        if kind is int and value > most:
            raise argparse.ArgumentTypeError(f"{text!r} is too large: give at most {most}")
        return value

    return parse


def finite(text: str) -> float:
    """A number of either sign."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def seed(text: str) -> int:
    return int(positive(int, zero=True)(text))


def words(text: str) -> list[str]:
    """Words between commas; whether they are names of something is asked where torch is imported."""
    if not all(found := [name.strip() for name in text.split(",")]):
        raise argparse.ArgumentTypeError(f"{text!r} has nothing between two commas")
    return found


def two_minima(text: str) -> tuple[int, int]:
    try:
        i, j = (int(one) for one in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers of minima, as in 0,5") from None
    return i, j


def minima(text: str) -> list[int]:
    return [int(positive(int, zero=True)(one)) for one in text.split(",")]


def temperatures(text: str) -> list[float]:
    """T, or T,T,..., or LOW:HIGH:N on a logarithmic scale."""
    if ":" not in text:
        return [positive(float)(one) for one in text.split(",")]
    ends, n = text.split(":"), 25
    if len(ends) == 3:
        n = int(positive(int)(ends.pop()))
    if len(ends) != 2 or n < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range LOW:HIGH:N of at least 2 temperatures")
    low, high = (positive(float)(one) for one in ends)
    if not low < high:
        raise argparse.ArgumentTypeError(f"{text!r} runs from {low:g} down to {high:g}: give LOW:HIGH:N")
    return [low * (high / low) ** (k / (n - 1)) for k in range(n)]
