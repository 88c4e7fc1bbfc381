"""Groups of interchangeable units, and where in a row of coordinates each of them lives."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import torch

from torchscape.types import Int, Tensor

__all__ = ["Block", "Bundle", "Space", "UnitGroup", "bundles", "nested"]


@dataclasses.dataclass(frozen=True)
class UnitGroup:
    """Units (neurons, channels, heads) that may be exchanged, and change sign or scale, one by one.

    Attributes:
        name: where they are: the parameter that makes them.
        size: how many.
        colour: only units of one colour may be exchanged.
        n_signs, n_scales: independent sign changes and rescalings of each unit (0 or 1, as a rule).
        copies: how many such sets there are, each with permutations of its own (one in every expert, or head).
    """

    name: str
    size: int
    colour: Int[Tensor, "n"]
    n_signs: int = 0
    n_scales: int = 0
    copies: int = 1

    @functools.cached_property
    def cells(self) -> list[Int[Tensor, "m"]]:
        """The units of each colour."""
        return [torch.nonzero(self.colour == c)[:, 0] for c in self.colour.unique()]

    @property
    def is_permutable(self) -> bool:
        return len(self.cells) < self.size

    @property
    def log_order(self) -> float:
        """ln of the number of permutations and sign changes."""
        orders = sum(math.lgamma(len(cell) + 1) for cell in self.cells)
        return self.copies * (orders + self.size * self.n_signs * math.log(2.0))

    @property
    def is_trivial(self) -> bool:
        """Whether there is nothing to be done."""
        return not (self.is_permutable or self.n_signs or self.n_scales)

    def __str__(self) -> str:
        parts = (
            ["permutations"] * self.is_permutable
            + ["signs"] * bool(self.n_signs)
            + ["scales"] * bool(self.n_scales)
        )
        kinds = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
        return f"{self.name}: {kinds} of {self.size} unit{'s' * (self.size != 1)}{self._repeated}"

    @property
    def _repeated(self) -> str:
        return f" in each of {self.copies} copies" if self.copies > 1 else ""


@dataclasses.dataclass(frozen=True)
class Space(UnitGroup):
    """Dimensions that only linear maps meet: they may be rotated, or with ``is_general`` mapped in any way.

    Attributes:
        is_general: whether every invertible map is a symmetry (regularisation breaks that).
        units: what is left where rotations are no symmetry.
    """

    is_general: bool = False
    units: UnitGroup | None = None

    @property
    def is_trivial(self) -> bool:
        return False

    @property
    def n_directions(self) -> int:
        """The directions in which rotations move a point: n (n - 1) / 2 for each copy."""
        return self.copies * (self.size * (self.size - 1) // 2)

    @property
    def log_order(self) -> float:
        """Nought: how many images there are is a volume, which depends on the point."""
        return 0.0

    def __str__(self) -> str:
        what = "invertible maps" if self.is_general else "rotations"
        return f"{self.name}: {what} of {self.size} dimensions{self._repeated}"


@dataclasses.dataclass(frozen=True)
class Block:
    """A rectangular piece of one parameter, its axes owned by groups.

    Attributes:
        name: of the parameter.
        coordinates: which coordinates, as an array with one axis per factor.
        owners: for each axis the number of the group that permutes it, or None.
        signs: for each axis, which sign changes of its owner act on it.
        scales: for each axis, with which exponents the rescalings of its owner act on it.
        copies: for each axis, which other axes number the copies of its owner.
    """

    name: str
    coordinates: Int[Tensor, "*S"]
    owners: tuple[int | None, ...]
    signs: tuple[tuple[int, ...], ...]
    scales: tuple[tuple[float, ...], ...]
    copies: tuple[tuple[int, ...], ...]

    @property
    def owned(self) -> list[int]:
        """The axes that some group owns."""
        return [axis for axis, owner in enumerate(self.owners) if owner is not None]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Coordinates of one group on which its sign changes and rescalings act alike.

    Attributes:
        coordinates: row u of each copy holds the coordinates of unit u, in the same order for every unit.
        signs, scales: as in :class:`Block`.
        others: the other groups that permute these coordinates too (the group itself, where an axis pair is tied).
    """

    coordinates: Int[Tensor, "P n K"]
    signs: tuple[int, ...]
    scales: tuple[float, ...]
    others: frozenset[int]

    def to(self, device: torch.device) -> Bundle:
        return dataclasses.replace(self, coordinates=self.coordinates.to(device))


def bundles(blocks: Sequence[Block], group: int) -> list[Bundle]:
    """The coordinates of a group; each bundle holds a coordinate at most once."""
    found: dict[tuple, list[Tensor]] = {}
    for block in blocks:
        mine = [axis for axis, owner in enumerate(block.owners) if owner == group]
        for which, axis in enumerate(mine):
            others = frozenset(o for a, o in enumerate(block.owners) if o is not None and a != axis)
            copies = block.copies[axis]
            rest = [a for a in range(block.coordinates.ndim) if a != axis and a not in copies]
            table = block.coordinates.permute([*copies, axis, *rest])
            table = table.reshape(
                -1, block.coordinates.shape[axis], math.prod(block.coordinates.shape[a] for a in rest)
            )
            key = (block.signs[axis], block.scales[axis], others, which)
            found.setdefault(key, []).append(table)
    return [
        Bundle(torch.cat(tables, 2), signs, scales, others) for (signs, scales, others, _), tables in found.items()
    ]


def nested(blocks: Sequence[Block], group: int) -> frozenset[int]:
    """The groups of which every unit of this one holds a copy."""
    holders: dict[int, set[tuple[int | None, ...]]] = {}
    for block in blocks:
        for axis, owner in enumerate(block.owners):
            if owner is not None:
                holders.setdefault(owner, set()).add(tuple(block.owners[a] for a in block.copies[axis]))
    return frozenset(owner for owner, found in holders.items() if found == {(group,)})
