"""Submodules that do the same and may be exchanged whole: experts, heads and branches kept in lists of modules."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from torchscape import random
from torchscape.layout import ParameterLayout
from torchscape.symmetry.groups import Block, UnitGroup
from torchscape.types import Float, Int, Tensor

__all__ = ["with_siblings"]

_MOST_AXES = 5  # of which all combinations are tried
Outputs = Callable[[Float[Tensor, "D"]], Float[Tensor, "n"]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Row:
    """Blocks that are exchanged with each other: one for each sibling, alike in all but whose they are."""

    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _Axis:
    """An axis of a block of which each sibling has one place."""

    block: Block
    axis: int


_Carrier = tuple["_Row | _Axis", ...]


def with_siblings(
    module: nn.Module,
    layout: ParameterLayout,
    blocks: Sequence[Block],
    groups: Sequence[UnitGroup],
    outputs: Outputs,
) -> tuple[list[Block], list[UnitGroup]]:
    """Blocks and groups in which siblings that may be exchanged are units of a group of their own.

    Siblings are children of one module with parameters of the same names and shapes. They are exchanged together
    with siblings of as many in other places (the second layers of experts), and with what other parameters hold of
    each (rows of a gate, columns behind a concatenation). What leaves the outputs as they are is kept.

    Args:
        module: the module.
        layout, blocks, groups: its coordinates, and what is known of them.
        outputs: of the module on an example, at a point.
    """
    blocks, groups = list(blocks), list(groups)
    x = random.normal(random.fold(0, torch.arange(1)), layout.ndim)[0]
    families = _families(module, set(layout.names))
    before = outputs(x) if families else x[:0]
    for names in families if len(before) else ():
        by_name: dict[str, list[Block]] = {}
        for block in blocks:
            by_name.setdefault(block.name, []).append(block)
        for carriers in _proposals(families, layout, names, by_name):
            if all(_same(outputs(_exchanged(x, carriers, p)), before) for p in _permutations(len(names))):
                merged = _merged(blocks, groups, carriers, len(names), ".".join([*names[0].split(".")[:-1], "*"]))
                if merged is not None:
                    blocks, groups = merged
                break
    return blocks, groups


def _families(module: nn.Module, known: set[str]) -> list[tuple[str, ...]]:
    """Names of siblings, the largest sets first."""
    found = []
    for prefix, parent in module.named_modules():
        alike: dict[tuple, list[str]] = {}
        for name, child in parent.named_children():
            path = f"{prefix}.{name}" if prefix else name
            shapes = tuple((n, tuple(p.shape)) for n, p in child.named_parameters())
            if shapes and all(f"{path}.{n}" in known for n, _ in shapes):
                alike.setdefault((type(child), shapes), []).append(path)
        found += [tuple(names) for names in alike.values() if len(names) > 1]
    return sorted(found, key=lambda names: -len(names))


def _permutations(n: int) -> list[list[int]]:
    """A cycle and an exchange generate all."""
    return [[*range(1, n), 0], [1, 0, *range(2, n)]]


def _proposals(
    families: Sequence[tuple[str, ...]],
    layout: ParameterLayout,
    names: tuple[str, ...],
    by_name: dict[str, list[Block]],
) -> Iterator[_Carrier]:
    """What may have to be exchanged with these siblings: the most first."""
    own = _rows_of(names, by_name)
    if own is None:
        return
    start: _Carrier = own
    n, taken = len(names), {block.name for row in own for block in row.blocks}
    cousins: list[_Row] = []
    for others in families:
        its = _rows_of(others, by_name) if len(others) == n and others != names else None
        if its is not None and not taken & {block.name for row in its for block in row.blocks}:
            cousins += its
            taken |= {block.name for row in its for block in row.blocks}
    parts = [part for name in layout.names if name not in taken for part in _parts(name, layout, n, by_name)]
    rows = [part for part in parts if isinstance(part, _Row)]  # cut by the module itself, so that they count first
    axes = [part for part in parts if isinstance(part, _Axis)][:_MOST_AXES]
    tried: list[_Carrier] = []
    for some in (chosen for k in range(len(axes), -1, -1) for chosen in itertools.combinations(axes, k)):
        choices: tuple[_Carrier, ...] = ((*cousins, *rows), tuple(rows), tuple(cousins), ())
        for more in choices:
            carriers = (*start, *more, *some)
            if carriers not in tried:
                tried.append(carriers)
                yield carriers


def _rows_of(names: tuple[str, ...], by_name: dict[str, list[Block]]) -> tuple[_Row, ...] | None:
    """The blocks of siblings side by side; None where there are none, or they are cut in different ways."""
    mine = [[b for name, found in by_name.items() if name.startswith(f"{one}.") for b in found] for one in names]
    cuts = {
        tuple((block.name.removeprefix(one), block.coordinates.shape) for block in own)
        for one, own in zip(names, mine, strict=True)
    }
    if not mine[0] or len(cuts) != 1:
        return None
    return tuple(_Row(tuple(row)) for row in zip(*mine, strict=True))


def _parts(name: str, layout: ParameterLayout, n: int, by_name: dict[str, list[Block]]) -> list[_Row | _Axis]:
    """What a parameter holds for each of n siblings: an axis of n places, or n segments of equal length."""
    shape, start = layout.shapes[layout.names.index(name)], layout.coordinates(name).start
    found = by_name.get(name, [])
    for axis, size in enumerate(shape):
        stride = shape[axis + 1 :].numel()
        places = [((b.coordinates - start) // stride % size).unique() for b in found]
        if size == n and len(found) == 1:
            mine = [k for k, length in enumerate(found[0].coordinates.shape) if length == n]
            mine = [k for k in mine if found[0].owners[k] is None and _step(found[0].coordinates, k) == stride]
            if mine:
                return [_Axis(found[0], mine[0])]
        segments = {tuple(p.tolist()) for p in places}
        if size % n == 0 and segments == {tuple(range(k, k + size // n)) for k in range(0, size, size // n)}:
            ordered = sorted(zip([tuple(p.tolist()) for p in places], range(len(found)), strict=True))
            each = len(found) // n
            rows = [[found[k] for _, k in ordered[u * each : (u + 1) * each]] for u in range(n)]
            return [_Row(tuple(row)) for row in zip(*rows, strict=True)]
    return []


def _step(coordinates: Int[Tensor, "*S"], axis: int) -> int:
    """By how much coordinates grow along an axis."""
    first, second = coordinates.movedim(axis, 0)[:2]
    return int((second - first).flatten()[0])


def _exchanged(x: Float[Tensor, "D"], carriers: _Carrier, permutation: Sequence[int]) -> Float[Tensor, "D"]:
    y = x.clone()
    for carrier in carriers:
        places = _places(carrier)
        y[places] = x[places[torch.tensor(permutation)]]
    return y


def _places(carrier: _Row | _Axis) -> Int[Tensor, "E *S"]:
    if isinstance(carrier, _Axis):
        return carrier.block.coordinates.movedim(carrier.axis, 0)
    return torch.stack([block.coordinates for block in carrier.blocks])


def _same(after: Tensor, before: Tensor) -> bool:
    return bool((after - before).abs().max() <= 1e4 * torch.finfo(before.dtype).eps * (1 + before.abs().max()))


def _merged(
    blocks: list[Block], groups: list[UnitGroup], carriers: _Carrier, n: int, name: str
) -> tuple[list[Block], list[UnitGroup]] | None:
    """The siblings as units of a new group; what each holds for itself becomes copies of one group."""
    match: dict[int, tuple[int, ...]] = {}  # the group of the first sibling: those of all
    touched = {id(b) for c in carriers for b in (c.blocks if isinstance(c, _Row) else (c.block,))}
    for carrier in carriers:
        if isinstance(carrier, _Row):
            if len({(block.signs, block.scales, block.copies) for block in carrier.blocks}) > 1:
                return None  # as where vectors are exchanged with linear forms
            for owners in zip(*(block.owners for block in carrier.blocks), strict=True):
                if len(set(owners)) == 1:
                    continue
                if None in owners or match.setdefault(owners[0], owners) != owners:
                    return None
    taken = {k for owners in match.values() for k in owners}
    elsewhere = [b for b in blocks if id(b) not in touched] + [c.block for c in carriers if isinstance(c, _Axis)]
    if len(taken) != n * len(match) or any(owner in taken for block in elsewhere for owner in block.owners):
        return None
    if any(len({_kind(groups[k]) for k in owners}) > 1 for owners in match.values()):
        return None
    if any(groups[k].copies > 1 for k in taken):
        return None
    gone = taken - set(match)
    number = {old: new for new, old in enumerate(k for k in range(len(groups)) if k not in gone)}
    new = len(number)
    kept = [dataclasses.replace(g, copies=n) if k in match else g for k, g in enumerate(groups) if k not in gone]
    out = [_numbered(block, number) for block in blocks if id(block) not in touched]
    for carrier in carriers:
        if isinstance(carrier, _Axis):
            block = _numbered(carrier.block, number)
            owners = tuple(new if k == carrier.axis else o for k, o in enumerate(block.owners))
            out.append(dataclasses.replace(block, owners=owners))
            continue
        first = carrier.blocks[0]
        held = [owner in match for owner in first.owners]
        copies = [
            (0, *(a + 1 for a in axes)) if mine else tuple(a + 1 for a in axes)
            for axes, mine in zip(first.copies, held, strict=True)
        ]
        block = _numbered(first, number)
        out.append(
            Block(
                first.name,
                _places(carrier),
                (new, *block.owners),
                ((), *block.signs),
                ((), *block.scales),
                ((), *copies),
            )
        )
    return out, [*kept, UnitGroup(name, n, torch.zeros(n, dtype=torch.int64))]


def _kind(group: UnitGroup) -> tuple:
    """What siblings must have in common."""
    return type(group), group.size, group.n_signs, group.n_scales, group.copies, tuple(group.colour.tolist())


def _numbered(block: Block, number: dict[int, int]) -> Block:
    return dataclasses.replace(block, owners=tuple(None if o is None else number.get(o) for o in block.owners))
