"""What is known about the axes of tensors while a network is traced: which must be permuted together.

Every axis of every parameter starts as a class of its own with a gauge variable of its own: a free choice of
permutation, and one factor per unit. An operation then ties axes together (union-find), splits them (a reshape
into a product, a concatenation into a sum), paints their units (units may be exchanged only within one colour)
or demands that a product of gauge variables be one. What freedom is left at the end is the symmetry group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import torch

from torchscape.symmetry.modules.factors import Axis, Charge, Factor, Sum, Unclear, length
from torchscape.types import Int, Tensor

__all__ = ["Ledger", "classes_of_rows"]


class Ledger:
    """The union-find over axis classes, with their splits, colours and constraints."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._split: dict[int, tuple[str, tuple[int, ...]]] = {}
        self._colour: dict[int, Int[Tensor, "n"]] = {}
        self._variables: dict[int, set[int]] = {}
        self._pieces: dict[int, tuple[int, ...]] = {}  # of a gauge variable, parallel to its class's split
        self._n_variables = 0
        self._bonds: list[Factor] = []
        self._bent: list[Axis] = []
        self._sums: list[tuple[Axis, tuple[Axis, ...], tuple[Axis, ...]]] = []

    # --- making and looking up -------------------------------------------------------------------------

    def fresh(self, size: int, *, gauge: bool = True) -> Axis:
        """A new class of ``size`` units, with a gauge variable of its own if ``gauge``."""
        cls = self._new_class(size)
        return (Factor(size, cls, self._new_variable(cls) if gauge else Charge()),)

    def _new_class(self, size: int) -> int:
        cls = len(self._parent)
        self._parent.append(cls)
        self._size.append(size)
        self._variables[cls] = set()
        return cls

    def _new_variable(self, cls: int) -> Charge:
        variable = self._n_variables
        self._n_variables += 1
        self._variables[cls].add(variable)
        return Charge(frozenset([variable]), ((variable, 1.0),))

    def root(self, cls: int) -> int:
        while self._parent[cls] != cls:
            self._parent[cls] = cls = self._parent[self._parent[cls]]
        return cls

    def expand(self, axis: Iterable[Factor | Sum]) -> Axis:
        """The axis in terms of unsplit classes."""
        return tuple(leaf for factor in axis for leaf in self._expand(factor))

    def _expand(self, factor: Factor | Sum) -> Axis:
        if isinstance(factor, Sum):
            return (Sum(tuple(self.expand(part) for part in factor.parts)),)
        if factor.cls is None:
            return (factor,)
        cls = self.root(factor.cls)
        if cls not in self._split:
            return (dataclasses.replace(factor, cls=cls),)
        kind, children = self._split[cls]
        pieces = [Factor(self._size[c], c, self._piece(factor.charge, i)) for i, c in enumerate(children)]
        if kind == "product":
            return self.expand(pieces)
        return (Sum(tuple(self.expand((piece,)) for piece in pieces)),)

    def _piece(self, charge: Charge, i: int) -> Charge:
        sign = frozenset(self._pieces[v][i] for v in charge.sign)
        return Charge(sign, tuple(sorted((self._pieces[v][i], p) for v, p in charge.scale)))

    def leaves(self, axis: Axis) -> list[Factor]:
        """Every unsplit factor, the parts of sums one after another."""
        out: list[Factor] = []
        for factor in self.expand(axis):
            if isinstance(factor, Sum):
                for part in factor.parts:
                    out.extend(self.leaves(part))
            else:
                out.append(factor)
        return out

    # --- splitting -------------------------------------------------------------------------------------

    def _split_class(self, cls: int, kind: str, sizes: Sequence[int]) -> None:
        children = tuple(self._new_class(size) for size in sizes)
        for variable in sorted(self._variables[cls]):
            charges = [self._new_variable(child) for child in children]
            self._pieces[variable] = tuple(next(iter(charge.sign)) for charge in charges)
        self._split[cls] = (kind, children)
        if cls in self._colour:
            colour = self._colour.pop(cls)
            if kind == "sum":
                blocks = list(colour.split(list(sizes)))
            else:
                grid = colour.reshape(tuple(sizes))
                blocks = [grid.movedim(i, 0).reshape(size, -1) for i, size in enumerate(sizes)]
            for child, block in zip(children, blocks, strict=True):
                self._paint(child, classes_of_rows(block.reshape(len(block), -1)))

    def _factorise(self, factor: Factor | Sum, sizes: Sequence[int]) -> Axis:
        """One factor as a product of factors of these sizes."""
        if isinstance(factor, Sum):
            raise Unclear("a concatenation is reshaped")
        if factor.cls is None:
            return tuple(Factor(size) for size in sizes)
        self._split_class(self.root(factor.cls), "product", sizes)
        return self.expand((factor,))

    def regroup(self, axes: Iterable[Axis], shape: Sequence[int]) -> tuple[Axis, ...]:
        """The axes after a reshape to ``shape``."""
        queue = [factor for axis in axes for factor in self.expand(axis) if not _is_nothing(factor)]
        out: list[Axis] = []
        for size in shape:
            axis: list[Factor | Sum] = []
            if size == 1 and queue and queue[0].size == 1:
                axis.append(queue.pop(0))
            while (missing := size // max(length(tuple(axis)), 1)) > 1:
                if not queue:
                    raise Unclear("a reshape does not fit")
                queue[:1] = self.expand((queue[0],))  # it may have been split meanwhile
                if missing % queue[0].size == 0:
                    axis.append(queue.pop(0))
                elif queue[0].size % missing == 0:
                    queue[:1] = self._factorise(queue[0], (missing, queue[0].size // missing))
                else:
                    raise Unclear("a reshape mixes units")
            if length(tuple(axis)) != size:
                raise Unclear("a reshape mixes units")
            out.append(tuple(axis))
        self.neutral(tuple(queue))  # dropped axes of length one
        return tuple(out)

    def segments(self, axis: Axis, sizes: Sequence[int]) -> tuple[Axis, ...]:
        """The axis cut into consecutive segments (chunk, split, narrow)."""
        axis = self.expand(axis)
        if len(axis) > 1:  # a product: cut the slowest factor, if the cuts fall between its units
            rest = length(axis[1:])
            if any(size % rest for size in sizes):
                raise Unclear("a slice cuts through units")
            heads = self.segments(axis[:1], [size // rest for size in sizes])
            return tuple(head + axis[1:] for head in heads)
        if len(sizes) == 1 or not axis:
            return (axis,) * len(sizes)
        factor = axis[0]
        if isinstance(factor, Sum):
            return self._segments_of_sum(factor, sizes)
        if factor.cls is None:
            return tuple((Factor(size),) for size in sizes)
        self._split_class(self.root(factor.cls), "sum", sizes)
        (cut,) = self.expand(axis)
        assert isinstance(cut, Sum)
        return cut.parts

    def _segments_of_sum(self, factor: Sum, sizes: Sequence[int]) -> tuple[Axis, ...]:
        parts, out = list(factor.parts), []
        for size in sizes:
            mine: list[Axis] = []
            while (missing := size - sum(map(length, mine))) > 0:
                if length(parts[0]) > missing:
                    parts[:1] = self.segments(parts[0], [missing, length(parts[0]) - missing])
                mine.append(parts.pop(0))
            out.append(mine[0] if len(mine) == 1 else (Sum(tuple(mine)),))
        return tuple(out)

    # --- tying ------------------------------------------------------------------------------------------

    def unify(self, a: Axis, b: Axis) -> None:
        """Permute both axes together from now on."""
        a, b = self._aligned(self.expand(a), self.expand(b))
        for fa, fb in zip(a, b, strict=True):
            ea, eb = self.expand((fa,)), self.expand((fb,))
            if len(ea) == len(eb) == 1:
                self._unify_factors(ea[0], eb[0])
            else:
                self.unify(ea, eb)

    def _aligned(self, a: Axis, b: Axis) -> tuple[Axis, Axis]:
        """Both axes, split until their factors have equal sizes."""
        i = 0
        while i < len(a) and i < len(b):
            if a[i].size == b[i].size:
                i += 1
                continue
            long, short = (a, b) if a[i].size > b[i].size else (b, a)
            if long[i].size % short[i].size:
                raise Unclear("two axes are built of units that do not match")
            self._factorise(long[i], (short[i].size, long[i].size // short[i].size))
            if any(isinstance(factor, Factor) and factor.cls is None for factor in (a[i], b[i])):
                # A frozen factor has no class that remembers the split.
                a, b = (self._cut(axis, i, short[i].size) for axis in (a, b))
            a, b = self.expand(a), self.expand(b)
        if length(a) != length(b):
            raise Unclear("two axes of different lengths are tied")
        self.neutral(a[i:] + b[i:])  # left over are factors of length one
        return a[:i], b[:i]

    def _cut(self, axis: Axis, i: int, size: int) -> Axis:
        factor = axis[i]
        if isinstance(factor, Factor) and factor.cls is None and factor.size > size:
            return (*axis[:i], Factor(size), Factor(factor.size // size), *axis[i + 1 :])
        return axis

    def _unify_factors(self, a: Factor | Sum, b: Factor | Sum) -> None:
        if isinstance(a, Sum) or isinstance(b, Sum):
            parts_a, parts_b = self._matching_parts(a, b)
            for part_a, part_b in zip(parts_a, parts_b, strict=True):
                self.unify(part_a, part_b)
        elif a.cls is None or b.cls is None:
            self.fix((a, b))
        else:
            self._union(self.root(a.cls), self.root(b.cls))

    def _matching_parts(self, a: Factor | Sum, b: Factor | Sum) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
        sizes_a = [length(part) for part in a.parts] if isinstance(a, Sum) else []
        sizes_b = [length(part) for part in b.parts] if isinstance(b, Sum) else []
        if sizes_a and sizes_b and sizes_a != sizes_b:
            cuts = sorted({*_ends(sizes_a), *_ends(sizes_b)})
            sizes_a = sizes_b = [end - start for start, end in zip([0, *cuts], cuts, strict=False)]
        return self.segments((a,), sizes_a or sizes_b), self.segments((b,), sizes_b or sizes_a)

    def _union(self, a: int, b: int) -> None:
        if a == b:
            return
        self._parent[b] = a
        self._variables[a] |= self._variables.pop(b)
        if b in self._colour:
            self._paint(a, self._colour.pop(b))

    def merged(self, axes: Sequence[Axis]) -> Axis:
        """The axis of a product of tensors whose axes have been unified: the charges add up."""
        cut = [self.expand(axis) for axis in axes]
        for _ in range(2):  # the second pass hands every axis the cuts that the later ones made
            for i in range(1, len(cut)):
                cut[0], cut[i] = self._aligned(cut[0], cut[i])
        return tuple(self._merged(factors) for factors in zip(*cut, strict=True))

    def _merged(self, factors: Sequence[Factor | Sum]) -> Factor | Sum:
        sums = [factor for factor in factors if isinstance(factor, Sum)]
        if sums and len(sums) == len(factors):
            return Sum(tuple(self.merged(parts) for parts in zip(*(s.parts for s in sums), strict=True)))
        if sums:  # a frozen axis beside a concatenation
            return sums[0] if len(sums) == 1 else self._merged(sums)
        plain = [factor for factor in factors if isinstance(factor, Factor)]
        charge = Charge()
        for factor in plain:
            charge = charge + factor.charge
        cls = next((factor.cls for factor in plain if factor.cls is not None), None)
        return Factor(plain[0].size, cls, charge)

    def recharged(self, axis: Axis, change: Callable[[Charge], Charge]) -> Axis:
        """The axis with ``change`` applied to every charge."""
        return tuple(
            Sum(tuple(self.recharged(part, change) for part in factor.parts))
            if isinstance(factor, Sum)
            else dataclasses.replace(factor, charge=change(factor.charge))
            for factor in self.expand(axis)
        )

    # --- restricting ------------------------------------------------------------------------------------

    def bend(self, axis: Axis) -> None:
        """Units of this axis are told apart by a nonlinear operation: it may not be rotated as a vector space."""
        self._bent.append(axis)

    def summed(self, axis: Axis, together: Sequence[Axis], kept: Sequence[Axis]) -> None:
        """This axis is summed over, at once with some, and for each unit of those that are kept by itself."""
        self._sums.append((axis, tuple(together), tuple(kept)))

    def inert(self, axis: Axis) -> None:
        """No signs, scales or rotations on this axis; permutations stay free."""
        self.neutral(axis)
        self.bend(axis)

    def fix(self, axis: Axis) -> None:
        """No permutation of this axis."""
        for leaf in self.leaves(axis):
            if leaf.cls is not None:
                self._paint(self.root(leaf.cls), torch.arange(leaf.size))

    def paint(self, axis: Axis, colour: Int[Tensor, "n"]) -> None:
        """Only units of equal colour may be exchanged."""
        axis = self.expand(axis)
        if len(axis) > 1:
            grid = colour.reshape([factor.size for factor in axis])
            for i, factor in enumerate(axis):
                self.paint((factor,), classes_of_rows(grid.movedim(i, 0).reshape(factor.size, -1)))
        elif axis and isinstance(axis[0], Sum):
            for part, block in zip(axis[0].parts, colour.split([length(p) for p in axis[0].parts]), strict=True):
                self.paint(part, block)
        elif axis and isinstance(axis[0], Factor) and axis[0].cls is not None:
            self._paint(self.root(axis[0].cls), colour)

    def _paint(self, cls: int, colour: Int[Tensor, "n"]) -> None:
        if cls in self._colour:
            colour = torch.stack([self._colour[cls], colour], 1)
        self._colour[cls] = classes_of_rows(colour.reshape(len(colour), -1))

    def neutral(self, axis: Axis, *, sign: bool = True, scale: bool = True) -> None:
        """The charges of this axis must be one."""
        for leaf in self.leaves(axis):
            charge = Charge(leaf.charge.sign if sign else frozenset(), leaf.charge.scale if scale else ())
            if charge != Charge():
                self._bonds.append(dataclasses.replace(leaf, charge=charge))

    # --- the result -------------------------------------------------------------------------------------

    def colour(self, cls: int) -> Int[Tensor, "n"]:
        """The colours of the units of an unsplit class."""
        cls = self.root(cls)
        return self._colour.get(cls, torch.zeros(self._size[cls], dtype=torch.int64))

    def bonds(self, cls: int) -> list[Charge]:
        """The products of gauge variables of an unsplit class that must be one."""
        bonds = [leaf for bond in self._bonds for leaf in self.leaves((bond,))]
        return [leaf.charge for leaf in bonds if leaf.cls == cls and leaf.charge != Charge()]

    def is_bent(self, cls: int) -> bool:
        """Whether something other than linear maps and sums has acted on an unsplit class."""
        painted = self.root(cls) in self._colour
        return painted or any(leaf.cls == self.root(cls) for axis in self._bent for leaf in self.leaves(axis))

    def holders(self) -> dict[int, set[int]]:
        """For each unsplit class those whose units tell apart all sums over it, and that no sum removes before it.

        Then each of their units may have a permutation of this class to itself, as far as sums go.
        """
        found: dict[int, set[int]] = {}
        spoilt: dict[int, set[int]] = {}
        for axis, together, kept in self._sums:
            beside = self._products(axis)
            staying = {leaf.cls for other in kept for leaf in self.leaves(other) if leaf.cls is not None}
            others = staying | {leaf.cls for o in together for leaf in self.leaves(o) if leaf.cls is not None}
            for cls, factors in beside.items():
                found[cls] = found[cls] & (factors | others) if cls in found else factors | others
            for cls in staying:
                if cls not in beside:
                    spoilt.setdefault(cls, set()).update(beside)
        return {cls: held - spoilt.get(cls, set()) - {cls} for cls, held in found.items()}

    def _products(self, axis: Axis) -> dict[int, set[int]]:
        """The classes of an axis, each with the other factors of the product in which it stands."""
        axis = self.expand(axis)
        plain = {factor.cls for factor in axis if isinstance(factor, Factor) and factor.cls is not None}
        found = {cls: set(plain) for cls in plain}
        for factor in axis:
            for part in factor.parts if isinstance(factor, Sum) else ():
                for cls, factors in self._products(part).items():
                    found.setdefault(cls, factors | plain)
        return found

    def variables(self, cls: int) -> list[int]:
        return sorted(self._variables[self.root(cls)])


def _is_nothing(factor: Factor | Sum) -> bool:
    return isinstance(factor, Factor) and factor.cls is None and factor.size == 1


def _ends(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[: i + 1]) for i in range(len(sizes))]


def classes_of_rows(rows: Tensor) -> Int[Tensor, "n"]:
    """One integer per row, equal for rows that are exactly equal."""
    return torch.unique(rows, dim=0, return_inverse=True)[1]
