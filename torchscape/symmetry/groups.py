"""Groups of interchangeable units, and where in a row of coordinates each of them lives."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from torchscape.layout import ParameterLayout
from torchscape.symmetry.axes import Axis, Factor, Ledger, Sum, length
from torchscape.symmetry.trace import Trace
from torchscape.types import Int, Tensor

__all__ = ["Block", "Bundle", "UnitGroup", "blocks_and_groups", "bundles"]


@dataclasses.dataclass(frozen=True)
class UnitGroup:
    """Units (neurons, channels, heads) that may be exchanged, and change sign or scale, one by one.

    Attributes:
        name: where they are: the parameter that makes them.
        size: how many.
        colour: only units of one colour may be exchanged.
        n_signs, n_scales: independent sign changes and rescalings of each unit (0 or 1, as a rule).
    """

    name: str
    size: int
    colour: Int[Tensor, "n"]
    n_signs: int = 0
    n_scales: int = 0

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
        return orders + self.size * self.n_signs * math.log(2.0)

    def __str__(self) -> str:
        parts = (
            ["permutations"] * self.is_permutable
            + ["signs"] * bool(self.n_signs)
            + ["scales"] * bool(self.n_scales)
        )
        kinds = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
        return f"{self.name}: {kinds} of {self.size} unit{'s' * (self.size != 1)}"


@dataclasses.dataclass(frozen=True)
class Block:
    """A rectangular piece of one parameter, its axes owned by groups.

    Attributes:
        name: of the parameter.
        coordinates: which coordinates, as an array with one axis per factor.
        owners: for each axis the number of the group that permutes it, or None.
        signs: for each axis, which sign changes of its owner act on it.
        scales: for each axis, with which exponents the rescalings of its owner act on it.
    """

    name: str
    coordinates: Int[Tensor, "*S"]
    owners: tuple[int | None, ...]
    signs: tuple[tuple[int, ...], ...]
    scales: tuple[tuple[float, ...], ...]

    @property
    def owned(self) -> list[int]:
        """The axes that some group owns."""
        return [axis for axis, owner in enumerate(self.owners) if owner is not None]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Coordinates of one group on which its sign changes and rescalings act alike.

    Attributes:
        coordinates: row u holds the coordinates of unit u, in the same order for every unit.
        signs, scales: as in :class:`Block`.
        others: the other groups that permute these coordinates too (the group itself, where an axis pair is tied).
    """

    coordinates: Int[Tensor, "n K"]
    signs: tuple[int, ...]
    scales: tuple[float, ...]
    others: frozenset[int]

    def to(self, device: torch.device) -> Bundle:
        return dataclasses.replace(self, coordinates=self.coordinates.to(device))


def bundles(blocks: Sequence[Block], group: int) -> list[Bundle]:
    """The coordinates of a group; each bundle holds a coordinate at most once."""
    found: dict[tuple, list[Tensor]] = {}
    for block in blocks:
        mine = [axis for axis in block.owned if block.owners[axis] == group]
        for which, axis in enumerate(mine):
            others = frozenset(o for a, o in enumerate(block.owners) if o is not None and a != axis)
            table = (
                block.coordinates.movedim(axis, 0).flatten(1) if block.coordinates.ndim > 1 else block.coordinates
            )
            key = (block.signs[axis], block.scales[axis], others, which)
            found.setdefault(key, []).append(table.reshape(len(table), -1))
    return [
        Bundle(torch.cat(tables, 1), signs, scales, others) for (signs, scales, others, _), tables in found.items()
    ]


# --- from a trace --------------------------------------------------------------------------------------------


def blocks_and_groups(trace: Trace, layout: ParameterLayout) -> tuple[list[Block], list[UnitGroup], list[str]]:
    """The groups that a trace leaves free, in the order of the parameters, and notes on what is not used."""
    pieces = [
        (name, coordinates, leaves)
        for name, label in trace.labels.items()
        for coordinates, leaves in _pieces_of_parameter(trace.ledger, label.axes, layout.coordinates(name).start)
    ]
    uses: dict[int, list[Factor]] = {}
    first: dict[int, str] = {}
    for name, _, leaves in pieces:
        for leaf in leaves:
            if leaf.cls is not None:
                uses.setdefault(leaf.cls, []).append(leaf)
                first.setdefault(leaf.cls, name)
    numbers: dict[int, int] = {}
    groups: list[UnitGroup] = []
    notes: list[str] = []
    actions: dict[int, dict[Factor, tuple[tuple[int, ...], tuple[float, ...]]]] = {}
    for cls, factors in uses.items():
        signs, scales = _signs(trace.ledger, cls, factors), _scales(trace.ledger, cls, factors)
        group = UnitGroup(first[cls], factors[0].size, trace.ledger.colour(cls), signs.shape[1], scales.shape[1])
        if _is_inner(trace.ledger, cls, [leaves for _, _, leaves in pieces]):
            notes.append(f"{group.name}: rotations inside each head are a continuous symmetry that is not used")
        elif group.is_permutable or group.n_signs or group.n_scales:
            numbers[cls] = len(groups)
            groups.append(group)
            rows = zip(factors, signs.tolist(), scales.tolist(), strict=True)
            actions[cls] = {factor: (tuple(map(int, s)), tuple(c)) for factor, s, c in rows}
    return [_block(piece, numbers, actions) for piece in pieces], groups, notes


def _is_inner(ledger: Ledger, cls: int, pieces: Sequence[list[Factor]]) -> bool:
    """Whether these are the dimensions inside attention heads: never without their head, and treated linearly.

    Each head may rotate them by itself; the permutations that all heads share are a small part of that.
    """
    company = [{leaf.cls for leaf in leaves} for leaves in pieces if any(leaf.cls == cls for leaf in leaves)]
    shared = set.intersection(*company) - {cls, None}
    heads = [other for other in shared if other is not None and len(ledger.colour(other).unique()) == 1]
    return bool(heads) and not ledger.is_bent(cls)


def _block(piece, numbers: dict[int, int], actions) -> Block:
    name, coordinates, leaves = piece
    owners = tuple(numbers.get(leaf.cls) for leaf in leaves)
    acts = [actions[leaf.cls][leaf] if o is not None else ((), ()) for leaf, o in zip(leaves, owners, strict=True)]
    return Block(name, coordinates, owners, tuple(a[0] for a in acts), tuple(a[1] for a in acts))


def _pieces_of_parameter(
    ledger: Ledger, axes: Sequence[Axis], start: int
) -> Iterator[tuple[Int[Tensor, "*S"], list[Factor]]]:
    """Rectangular pieces of a parameter: its coordinates by leaf, once for every choice of parts of sums."""
    strides = [math.prod(length(axis) for axis in axes[i + 1 :]) for i in range(len(axes))]
    for choice in itertools.product(*(list(_pieces_of_axis(ledger.expand(axis))) for axis in axes)):
        coordinates, leaves = torch.tensor(start), []
        for (positions, mine), stride in zip(choice, strides, strict=True):
            coordinates = coordinates[(...,) + (None,) * positions.ndim] + positions * stride
            leaves += mine
        yield coordinates, leaves


def _pieces_of_axis(axis: Axis) -> Iterator[tuple[Int[Tensor, "*S"], list[Factor]]]:
    """Positions along an axis, arranged by leaf factors."""
    if not axis:
        yield torch.tensor(0), []
        return
    rest_length = length(axis[1:])
    for (head, leaves), (rest, more) in itertools.product(_pieces_of_factor(axis[0]), _pieces_of_axis(axis[1:])):
        yield head[(...,) + (None,) * rest.ndim] * rest_length + rest, leaves + more


def _pieces_of_factor(factor: Factor | Sum) -> Iterator[tuple[Int[Tensor, "*S"], list[Factor]]]:
    if isinstance(factor, Factor):
        yield torch.arange(factor.size), [factor]
        return
    start = 0
    for part in factor.parts:
        for positions, leaves in _pieces_of_axis(part):
            yield positions + start, leaves
        start += length(part)


# --- solving for the gauges ----------------------------------------------------------------------------------


def _signs(ledger: Ledger, cls: int, factors: Sequence[Factor]) -> np.ndarray:
    """For each use of the class, which of its independent sign changes act there: the null space over GF(2)."""
    column = {variable: i for i, variable in enumerate(ledger.variables(cls))}

    def row(variables) -> np.ndarray:
        out = np.zeros(len(column), dtype=np.int64)
        out[[column[v] for v in variables]] = 1
        return out

    demands = np.array([row(charge.sign) for charge in ledger.bonds(cls)]).reshape(-1, len(column))
    acts = np.array([row(factor.charge.sign) for factor in factors]) @ _null_space(demands, modulus=2) % 2
    return _independent(acts, modulus=2)


def _scales(ledger: Ledger, cls: int, factors: Sequence[Factor]) -> np.ndarray:
    """For each use of the class, the exponents of its independent rescalings there: a real null space."""
    column = {variable: i for i, variable in enumerate(ledger.variables(cls))}

    def row(powers) -> np.ndarray:
        out = np.zeros(len(column))
        for variable, exponent in powers:
            out[column[variable]] = exponent
        return out

    demands = np.array([row(charge.scale) for charge in ledger.bonds(cls)]).reshape(-1, len(column))
    acts = np.array([row(factor.charge.scale) for factor in factors]) @ _null_space(demands)
    return _independent(acts)


def _reduced(matrix: np.ndarray, modulus: int | None = None) -> tuple[np.ndarray, list[int]]:
    """Reduced row echelon form and its pivot columns, over the reals or over GF(2)."""
    m = matrix.astype(np.int64 if modulus else np.float64).copy()
    pivots: list[int] = []
    for column in range(m.shape[1]):
        k = len(pivots)
        if k == len(m):
            break
        best = k + int(np.argmax(np.abs(m[k:, column])))
        if abs(m[best, column]) < 1e-9:
            continue
        m[[k, best]] = m[[best, k]]
        if not modulus:
            m[k] /= m[k, column]
        others = [i for i in range(len(m)) if i != k]
        m[others] -= np.outer(m[others, column], m[k])
        if modulus:
            m = m % modulus
        pivots.append(column)
    return m[: len(pivots)], pivots


def _null_space(matrix: np.ndarray, modulus: int | None = None) -> np.ndarray:
    """A basis, in columns, of the vectors that ``matrix`` sends to zero."""
    reduced, pivots = _reduced(matrix, modulus)
    free = [i for i in range(matrix.shape[1]) if i not in pivots]
    basis = np.zeros((matrix.shape[1], len(free)), dtype=reduced.dtype)
    basis[free, range(len(free))] = 1
    basis[pivots] = -reduced[:, free]
    return basis % modulus if modulus else basis


def _independent(columns: np.ndarray, modulus: int | None = None) -> np.ndarray:
    """The same column space from fewer columns."""
    reduced, _ = _reduced(columns.T, modulus)
    return reduced.T
