"""The words in which axes of tensors are described: factors of classes of units, sums, and charges."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeAlias

__all__ = ["Axis", "Charge", "Factor", "Sum", "Unclear", "length"]


class Unclear(Exception):
    """An operation does not respect the structure of the axes: what it touches is left out."""


@dataclasses.dataclass(frozen=True)
class Charge:
    """A product of gauge variables: how the units of an axis are multiplied.

    ``sign`` holds the variables whose sign enters (an odd number of times), ``scale`` their exponents.
    """

    sign: frozenset[int] = frozenset()
    scale: tuple[tuple[int, float], ...] = ()

    def __add__(self, other: Charge) -> Charge:
        power = dict(self.scale)
        for variable, exponent in other.scale:
            power[variable] = power.get(variable, 0.0) + exponent
        return Charge(self.sign ^ other.sign, tuple(sorted((v, p) for v, p in power.items() if p)))

    def __neg__(self) -> Charge:
        return self.scaled(-1.0)

    def scaled(self, exponent: float) -> Charge:
        """The same signs, and the scales raised to ``exponent``."""
        return Charge(self.sign, tuple((v, p * exponent) for v, p in self.scale) if exponent else ())


@dataclasses.dataclass(frozen=True)
class Factor:
    """One factor of an axis: ``size`` units of a class (None: units that may not be touched), and a charge."""

    size: int
    cls: int | None = None
    charge: Charge = Charge()


@dataclasses.dataclass(frozen=True)
class Sum:
    """One factor of an axis that is a concatenation of axes."""

    parts: tuple[Axis, ...]

    @property
    def size(self) -> int:
        return sum(length(part) for part in self.parts)


Axis: TypeAlias = "tuple[Factor | Sum, ...]"  # an axis is a product of factors, the last one fastest


def length(axis: Axis) -> int:
    return math.prod(factor.size for factor in axis)
