"""Numbers as Fortran programs write and read them.

Formatted output has columns of fixed width: F20.10 is twenty characters with ten decimals. A number that fills
its column touches the one before it, one that does not fit becomes asterisks, and an exponent of three digits
pushes out its E: 0.1000000000+101 is 1e100.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

__all__ = ["columns", "integer", "real", "whole", "words_of"]

# A number with its exponent. Without a letter only three digits make an exponent, and no point may follow them:
# -101.5 after 1.0000000000 is the next number.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdDqQ][+-]?\d+|[+-]\d{3}(?![\d.]))?")
_STARS = re.compile(r"\*+")
_WIDTH = 20  # of the columns that PATHSAMPLE writes reals in where they may overflow


def real(word: str, *, unknown: bool = False) -> float:
    """A number that Fortran has written: 1.5D-03 and 1.5-103 included; not NaN or infinity.

    Args:
        word: the characters.
        unknown: whether asterisks, which stand for what did not fit, may be NaN.

    Raises:
        ValueError: if it is no finite number.

    Example:
        >>> real("1.5D-03"), real("0.1000000000+101")
        (0.0015, 1e+100)
    """
    if unknown and word and not word.strip("*"):
        return math.nan
    text = word.upper().replace("D", "E").replace("Q", "E")
    if match := re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+))([+-]\d+)", text):
        text = f"{match[1]}E{match[2]}"
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{word!r} is not a finite number")
    return value


def whole(word: str) -> int:
    """A whole number, also where it was written as a real one: 2, 2.0, 0.2000000000E+01.

    Raises:
        ValueError: if it is none.

    Example:
        >>> whole("48"), whole("1.0")
        (48, 1)
    """
    try:
        return int(word)
    except ValueError:
        value = real(word)
        if value != round(value):
            raise ValueError(f"{word!r} is no whole number") from None
        return round(value)


def words_of(line: str) -> list[str]:
    """The numbers of a line as words, also where their columns touch.

    Signs, asterisks and points part what touches. Of two numbers without a sign between them, the first has as
    many decimals as the last one of the run, as both come from one format.

    Example:
        >>> words_of("  -1.5000000000-2.2500000000")
        ['-1.5000000000', '-2.2500000000']
        >>> words_of("123456789.1234567890123456789.0987654321  1")
        ['123456789.1234567890', '123456789.0987654321', '1']
    """
    return [part for word in line.split() for part in _parts(word)]


def _parts(word: str) -> list[str]:
    if "*" not in word and word.count(".") < 2:
        return [word]
    parts, at = [], 0
    while at < len(word):
        if stars := _STARS.match(word, at):
            n = max(1, round(len(stars[0]) / _WIDTH))
            parts += ["*" * _WIDTH] * n if n > 1 else [stars[0]]
            at = stars.end()
        elif number := _run(word, at):
            parts += number
            at += sum(map(len, number))
        else:
            return [word]  # no number at all: whoever reads it says so
    return parts


def _run(word: str, at: int) -> list[str]:
    """The number that begins at a character, or several without a sign between them: empty if there is none."""
    run = re.match(r"[+-]?[\d.]+", word[at:])
    if run is None:
        return []
    if run[0].count(".") < 2:
        number = _NUMBER.match(word, at)
        return [number[0]] if number else []
    decimals = len(run[0]) - run[0].rindex(".") - 1
    return re.findall(rf"[+-]?\d*\.\d{{{decimals}}}", run[0])


# --- writing ----------------------------------------------------------------------------------------------


def columns(values: Sequence[float]) -> list[str]:
    """A column of reals such that reading them gives the same numbers.

    F20.10, where that is enough for each of them: what the older programs write, and all that was ever known of
    numbers that come from there. Otherwise F25.15, as newer ones do, and E25.16 for those that need more digits.
    NaN is asterisks.

    Example:
        >>> columns([0.5, -1.25])
        ['        0.5000000000', '       -1.2500000000']
        >>> columns([0.5, 1 / 3])
        ['        0.500000000000000', '   3.3333333333333331E-01']
    """
    short = [f"{v:20.10f}" if v == v else f" {'*' * 19}" for v in values]
    if all(len(text) <= 20 and text[0] == " " and _is(text, v) for text, v in zip(short, values, strict=True)):
        return short
    return [_long(v) for v in values]


def _long(v: float) -> str:
    if v != v:
        return f" {'*' * 24}"
    text = f"{v:25.15f}"
    return text if len(text) == 25 and text[0] == " " and _is(text, v) else f"{v:25.16E}"


def _is(text: str, v: float) -> bool:
    return v != v or float(text) == v


def integer(value: int, width: int) -> str:
    """Fortran's I-format, never touching the number before it."""
    return f" {value:{width - 1}d}"
