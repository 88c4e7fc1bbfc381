"""Ranges of options: one way to say which numbers an option takes, and one wording of the refusal."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from torchscape.errors import OptionError, TorchscapeError
from torchscape.types import Tensor

__all__ = [
    "COUNT",
    "COUNT_OR_ZERO",
    "FINITE",
    "NOT_NEGATIVE",
    "PART",
    "POSITIVE",
    "SEED",
    "UNIT",
    "Range",
    "check_fields",
]


@dataclasses.dataclass(frozen=True)
class Range:
    """Which numbers an option takes.

    Attributes:
        low, high: the ends.
        open_low, open_high: whether an end itself is left out.
        whole: whether only whole numbers will do.
        infinite: whether infinity will do, where it lies in the range.
        optional: whether None will do.
        several: whether a sequence of such numbers will do, too.

    Example:
        >>> Range(low=0.0, open_low=True).check(step=0.5)
        >>> COUNT.or_none.check("BasinHopping", walkers=0)
        Traceback (most recent call last):
        torchscape.errors.OptionError: BasinHopping: walkers=0; give a whole number of at least 1, or None
    """

    low: float | int = -math.inf
    high: float | int = math.inf
    open_low: bool = False
    open_high: bool = False
    whole: bool = False
    infinite: bool = False
    optional: bool = False
    several: bool = False

    @property
    def or_none(self) -> Range:
        """The same range, and None."""
        return dataclasses.replace(self, optional=True)

    @property
    def or_several(self) -> Range:
        """The same range, for one number or a sequence of them."""
        return dataclasses.replace(self, several=True)

    @property
    def or_infinite(self) -> Range:
        """The same range, and infinity."""
        return dataclasses.replace(self, infinite=True)

    def holds(self, value: object) -> bool:
        """Whether the option takes this value; NaN is in no range."""
        if value is None:
            return self.optional
        if self.several and isinstance(value, Sequence | np.ndarray | Tensor) and not isinstance(value, str):
            one = dataclasses.replace(self, optional=False, several=False)
            if not isinstance(value, Sequence):
                return value.ndim == 0 or all(one.holds(v) for v in value.reshape(-1).tolist())
            return len(value) > 0 and all(one.holds(v) for v in value)
        if isinstance(value, np.ndarray | Tensor) and value.ndim == 0:
            value = value.item()
        kind = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
            return False
        number: Any = value
        if not self.whole and not math.isfinite(number):
            return bool(self.infinite and self.low <= number <= self.high)  # no comparison holds for NaN
        if self.whole and abs(number) > _LARGEST:
            return False
        above = number > self.low if self.open_low else number >= self.low
        return bool(above and (number < self.high if self.open_high else number <= self.high))

    def describe(self) -> str:
        """The numbers of this range, in words.

        Example:
            >>> POSITIVE.or_none.describe(), UNIT.describe()
            ('a positive number, or None', 'a number from 0 to 1')
        """
        low, high = (str(end) if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        noun = "a whole number" if self.whole else "a number"
        if math.isfinite(self.low) and math.isfinite(self.high):
            ends = f"between {low} and {high}" if self.open_low and self.open_high else f"from {low} to {high}"
            without = [end for end, out in ((low, self.open_low), (high, self.open_high)) if out]
            text = f"{noun} {ends}" + (f" but {without[0]}" if len(without) == 1 else "")
        elif math.isfinite(self.low):
            text = f"{noun} of at least {low}"
            if self.open_low:
                text = f"{noun} above {low}" if self.low else noun.replace("a ", "a positive ")
        else:
            text = noun if self.whole else "a finite number"
        return text + (", or several of them" if self.several else "") + (", or None" if self.optional else "")

    def check(self, where: str = "", /, error: type[TorchscapeError] = OptionError, **values: Any) -> None:
        """Refuse a value that is not in the range.

        Args:
            where: whose options they are, for the message.
            error: what to raise.
            values: the options by name.

        Raises:
            OptionError: or ``error``, naming the option, its value and the range.
        """
        for name, value in values.items():
            if not self.holds(value):
                prefix = f"{where}: " if where else ""
                least = f" and less than 2^63, not {value}" if _too_large(value) else ""
                raise error(f"{prefix}{name}={value!r:.60}; give {self.describe()}{least}")


_LARGEST = 2**63 - 1


def _too_large(value: object) -> bool:
    return isinstance(value, int) and abs(value) > _LARGEST


FINITE = Range()
POSITIVE = Range(low=0.0, open_low=True)
NOT_NEGATIVE = Range(low=0.0)
UNIT = Range(low=0.0, high=1.0)
PART = Range(low=0.0, high=1.0, open_low=True, open_high=True)
COUNT = Range(low=1, whole=True)
COUNT_OR_ZERO = Range(low=0, whole=True)
SEED = Range(low=0, high=2**63 - 1, whole=True)


def check_fields(options: Any, error: type[TorchscapeError] = OptionError, /, **ranges: Range) -> None:
    """Refuse options of a dataclass that are out of range; to be called in ``__post_init__``.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Options:
        ...     max_step: float = 1.0
        ...     def __post_init__(self):
        ...         check_fields(self, max_step=POSITIVE)
        >>> Options(max_step=float("nan"))
        Traceback (most recent call last):
        torchscape.errors.OptionError: Options: max_step=nan; give a positive number
    """
    for name, allowed in ranges.items():
        allowed.check(type(options).__name__, error, **{name: getattr(options, name)})
