"""What a trace leaves free: which axes are permuted, rotated or change sign, and which coordinates those are."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from torchscape.layout import ParameterLayout
from torchscape.symmetry.groups import Block, Space, UnitGroup
from torchscape.symmetry.modules.axes import Ledger
from torchscape.symmetry.modules.factors import Axis, Factor, Sum, length
from torchscape.symmetry.modules.trace import Trace
from torchscape.types import Int, Tensor

__all__ = ["blocks_and_groups"]


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A rectangular piece of a parameter, an axis for each leaf."""

    name: str
    coordinates: Int[Tensor, "*S"]
    leaves: tuple[Factor, ...]

    def axes_of(self, cls: int) -> list[int]:
        return [axis for axis, leaf in enumerate(self.leaves) if leaf.cls == cls]


@dataclasses.dataclass
class _Class:
    """An unsplit class of axes: where it is used, and what may be done to its units there.

    ``signs`` and ``scales`` have a row for each use and a column for each independent change; ``holders`` are the
    classes whose units hold a copy each.
    """

    cls: int
    uses: list[tuple[_Piece, Factor]]
    signs: np.ndarray
    scales: np.ndarray
    holders: tuple[int, ...]
    is_space: bool

    def shared(self, other: _Class, values: np.ndarray) -> np.ndarray:
        """The values of the uses of ``other`` at the uses in the same pieces of parameters; nought elsewhere."""
        found = {id(piece): value for (piece, _), value in zip(other.uses, values, strict=True)}
        return np.array([found.get(id(piece), 0.0) for piece, _ in self.uses])


def blocks_and_groups(trace: Trace, layout: ParameterLayout) -> tuple[list[Block], list[UnitGroup]]:
    """The groups that a trace leaves free, in the order of the parameters, and the coordinates they own."""
    pieces = [
        _Piece(name, coordinates, tuple(leaves))
        for name, label in trace.labels.items()
        for coordinates, leaves in _pieces_of_parameter(trace.ledger, label.axes, layout.coordinates(name).start)
    ]
    uses: dict[int, list[tuple[_Piece, Factor]]] = {}
    for piece in pieces:
        for leaf in piece.leaves:
            if leaf.cls is not None:
                uses.setdefault(leaf.cls, []).append((piece, leaf))
    classes = {cls: _class(trace.ledger, cls, mine) for cls, mine in uses.items()}
    _nest(trace.ledger, classes)
    numbers: dict[int, int] = {}
    groups: list[UnitGroup] = []
    for cls, one in classes.items():
        group = _group(trace.ledger, one)
        if not group.is_trivial:
            numbers[cls] = len(groups)
            groups.append(group)
    return [_block(piece, numbers, classes) for piece in pieces], groups


def _class(ledger: Ledger, cls: int, uses: list[tuple[_Piece, Factor]]) -> _Class:
    factors = [leaf for _, leaf in uses]
    signs, scales = _signs(ledger, cls, factors), _scales(ledger, cls, factors)
    is_space = _may_flip(signs) and factors[0].size > 1 and not ledger.is_bent(cls)
    if is_space and not (scales.shape[1] == 1 and (np.abs(scales) == 1).all()):
        scales = scales[:, :0]
    return _Class(cls, uses, signs, scales, (), is_space)


def _nest(ledger: Ledger, classes: dict[int, _Class]) -> None:
    """Find the classes whose units each hold a copy of another one: never without them, in parameters and in sums.

    What changes the sign (or scale) of a holder by changing that of all it holds is counted with these.
    """
    known = ledger.holders()
    holders = {
        cls: {
            other
            for other in known.get(cls, ())
            if other in classes
            and not classes[other].is_space
            and all(len(piece.axes_of(other)) == 1 for piece, _ in one.uses)
        }
        for cls, one in classes.items()
    }
    for cls, one in classes.items():
        one.holders = tuple(sorted(other for other in holders[cls] if cls not in holders[other]))
    for cls, one in classes.items():
        inner = [other for other in classes.values() if cls in other.holders]
        signs = [one.shared(other, np.ones(len(other.uses))) for other in inner if _may_flip(other.signs)]
        scales = [one.shared(other, column) for other in inner for column in other.scales.T]
        if signs:
            one.signs = _beyond(one.signs, np.stack(signs, 1).astype(np.int64), modulus=2)
        if scales:
            one.scales = _beyond(one.scales, np.stack(scales, 1))


def _may_flip(signs: np.ndarray) -> bool:
    """Whether a change of sign in every use is among these."""
    every = np.concatenate([signs, np.ones_like(signs[:, :1]) if signs.size else np.ones((len(signs), 1))], 1)
    return _independent(every.astype(np.int64), modulus=2).shape[1] == signs.shape[1]


def _group(ledger: Ledger, one: _Class) -> UnitGroup:
    size = one.uses[0][1].size
    copies = math.prod(
        one.uses[0][0].coordinates.shape[one.uses[0][0].axes_of(holder)[0]] for holder in one.holders
    )
    n_signs, n_scales = one.signs.shape[1], one.scales.shape[1]
    units = UnitGroup(one.uses[0][0].name, size, ledger.colour(one.cls), n_signs, n_scales, copies)
    if not one.is_space:
        return units
    return Space(units.name, size, units.colour, copies=copies, is_general=n_scales == 1, units=units)


def _block(piece: _Piece, numbers: dict[int, int], classes: dict[int, _Class]) -> Block:
    owners = tuple(None if leaf.cls is None else numbers.get(leaf.cls) for leaf in piece.leaves)
    signs: list[tuple[int, ...]] = []
    scales: list[tuple[float, ...]] = []
    copies: list[tuple[int, ...]] = []
    for leaf, owner in zip(piece.leaves, owners, strict=True):
        if owner is None or leaf.cls is None:
            signs, scales, copies = [*signs, ()], [*scales, ()], [*copies, ()]
            continue
        one = classes[leaf.cls]
        use = next(k for k, (_, factor) in enumerate(one.uses) if factor == leaf)
        signs.append(tuple(int(s) for s in one.signs[use]))
        scales.append(tuple(float(c) for c in one.scales[use]))
        copies.append(tuple(piece.axes_of(holder)[0] for holder in one.holders))
    return Block(piece.name, piece.coordinates, owners, tuple(signs), tuple(scales), tuple(copies))


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


def _beyond(columns: np.ndarray, known: np.ndarray, modulus: int | None = None) -> np.ndarray:
    """Columns that span, together with the known ones, what all of them span."""
    _, pivots = _reduced(np.concatenate([known, columns], 1), modulus)
    return columns[:, [p - known.shape[1] for p in pivots if p >= known.shape[1]]]
