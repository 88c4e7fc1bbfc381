"""Every part of a detected symmetry tried on the energy itself."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch

from torchscape import random
from torchscape.devices import HOST
from torchscape.memory import rows_that_fit
from torchscape.symmetry.action import Action, Move
from torchscape.symmetry.gauge import Shift
from torchscape.symmetry.groups import Block, UnitGroup
from torchscape.symmetry.modules.spaces import Rotation
from torchscape.types import Float, Int, Tensor

__all__ = ["Verified", "verify"]

Energy = Callable[[Tensor], Tensor]

_MAX_NUMBERS = 1 << 22  # coordinates of images tried at once (32 MiB)


@dataclasses.dataclass(frozen=True)
class Verified:
    """What passed, and sentences about what did not."""

    groups: list[UnitGroup]
    blocks: list[Block]
    shifts: list[Shift]
    notes: list[str]


def verify(
    actions: Sequence[Action | Rotation],
    shifts: Sequence[Shift],
    blocks: Sequence[Block],
    energy: Energy,
    x: Float[Tensor, "B D"],
    key: Int[Tensor, "B"],
) -> Verified:
    """The parts of a symmetry that leave ``energy`` unchanged at x, each tried alone.

    Args:
        actions, shifts: of the symmetry, on the device of x.
        blocks: the coordinates they act on.
        energy: [B D] -> [B].
        x: points in general position.
        key: of the random images, one for each point.
    """
    tried = itertools.chain(
        *(_images(action, x, key) for action in actions),
        ((("shift", number), _shifted(shift, x, key)) for number, shift in enumerate(shifts)),
    )
    holds = _held(energy, x, tried)
    groups, notes, blocks = [], [], list(blocks)
    for action in actions:
        if isinstance(action, Rotation):
            group, signs, scales, remarks = _maps_that_hold(action, holds)
        else:
            group, signs, scales, remarks = _parts_that_hold(action, holds)
        groups.append(group)
        notes += remarks
        blocks = [_restricted(block, action.number, signs, scales) for block in blocks]
    # No word about a shift that fails: it is a question to the loss, not a finding in the module.
    passed = [shift for number, shift in enumerate(shifts) if holds["shift", number]]
    kept = [shift.to(HOST) for shift in passed]
    groups, blocks = _without_trivial(groups, blocks)
    return Verified(groups, blocks, kept, notes)


Part = tuple[Hashable, ...]  # what is tried: ("shift", number), or (number of a group, "permutations"), ...


def _images(
    action: Action | Rotation, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]
) -> Iterator[tuple[Part, Float[Tensor, "B D"]]]:
    """Images of x under every part of a group alone: permutations, each sign change, each rescaling.

    Of a space: rotations, all maps, and what its dimensions can do as units.
    """
    if isinstance(action, Rotation):
        turn = action.random(random.fold(key, action.number), x.dtype, spread=0.0)
        yield (action.number, "rotations"), action.apply(x, turn)
        if action.group.is_general:
            turn = action.random(random.fold(key, action.number), x.dtype, spread=1.0)
            yield (action.number, "maps"), action.apply(x, turn)
        yield from _images(_as_units(action), x, key)
        return
    group, number = action.group, action.number
    moves = action.random(random.fold(key, number), x.dtype, spread=1.0)
    here = torch.arange(group.size, device=x.device).expand_as(moves.permutation).contiguous()
    if group.is_permutable:
        yield (number, "permutations"), action.apply(x, Move(moves.permutation))
    for j in range(group.n_signs):
        yield (number, "signs", j), action.apply(x, Move(here, _only(moves.signs, j, 1.0)))
    for j in range(group.n_scales):
        yield (number, "scales", j), action.apply(x, Move(here, None, _only(moves.log_scales, j, 0.0)))


def _as_units(action: Rotation) -> Action:
    """What the dimensions of a space can do one by one: change places, signs and scales."""
    assert action.group.units is not None
    return Action(action.group.units, action.bundles, action.number)


def _shifted(shift: Shift, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
    amount = random.normal(random.fold(key, -1), len(shift.coordinates), x.dtype)
    return shift.added(x, amount)


def _held(
    energy: Energy, x: Float[Tensor, "B D"], tried: Iterator[tuple[Part, Float[Tensor, "B D"]]]
) -> dict[Part, bool]:
    """Whether the images have the energies of x: many of them are asked of the potential at once."""
    holds: dict[Part, bool] = {}
    at_once = rows_that_fit(x.numel(), x.device, on_host=_MAX_NUMBERS)
    while lot := dict(itertools.islice(tried, at_once)):
        with torch.no_grad():
            before, *after = energy(torch.cat([x, *lot.values()])).split(len(x))
        rounding = 1e4 * torch.finfo(before.dtype).eps
        same = (torch.stack(after) - before).abs() <= rounding * (1.0 + before.abs())
        holds |= zip(lot, same.all(1).tolist(), strict=True)
    return holds


def _maps_that_hold(
    action: Rotation, holds: dict[Part, bool]
) -> tuple[UnitGroup, list[int], list[int], list[str]]:
    """The space, with its one rescaling if every map of it holds; its units where rotations do not."""
    group, number = action.group, action.number
    if not holds[number, "rotations"]:
        units, signs, scales, remarks = _parts_that_hold(_as_units(action), holds)
        return units, signs, scales, [f"{group.name}: rotations change the energy, and are left out", *remarks]
    if not group.is_general or holds[number, "maps"]:
        return group, [], [0] if group.is_general else [], []
    note = f"{group.name}: rescalings change the energy (l2 does that), and are left out"
    return dataclasses.replace(group, is_general=False), [], [], [note]


def _parts_that_hold(action: Action, holds: dict[Part, bool]) -> tuple[UnitGroup, list[int], list[int], list[str]]:
    """The group with what passed, the numbers of its sign changes and rescalings that did, and remarks."""
    group, number, notes = action.group, action.number, []
    if group.is_permutable and not holds[number, "permutations"]:
        notes.append(f"{group.name}: permutations change the energy, and are left out")
        group = dataclasses.replace(group, colour=torch.arange(group.size))
    n_signs, n_scales = group.n_signs, group.n_scales
    signs = [j for j in range(n_signs) if holds[number, "signs", j]]
    scales = [j for j in range(n_scales) if holds[number, "scales", j]]
    if len(signs) < n_signs:
        notes.append(f"{group.name}: sign changes change the energy, and are left out")
    if len(scales) < n_scales:
        notes.append(f"{group.name}: rescalings change the energy (l2 does that), and are left out")
    return dataclasses.replace(group, n_signs=len(signs), n_scales=len(scales)), signs, scales, notes


def _only(columns: Tensor | None, j: int, neutral: float) -> Tensor | None:
    """The j-th sign change or rescaling, the others doing nothing."""
    if columns is None:
        return None
    kept = torch.full_like(columns, neutral)
    kept[..., j] = columns[..., j]
    return kept


def _restricted(block: Block, group: int, signs: list[int], scales: list[int]) -> Block:
    """The block with only these sign changes and rescalings of one group."""
    mine = [owner == group for owner in block.owners]
    return dataclasses.replace(
        block,
        signs=tuple(tuple(s[j] for j in signs) if m else s for s, m in zip(block.signs, mine, strict=True)),
        scales=tuple(tuple(s[j] for j in scales) if m else s for s, m in zip(block.scales, mine, strict=True)),
    )


def _without_trivial(groups: list[UnitGroup], blocks: list[Block]) -> tuple[list[UnitGroup], list[Block]]:
    """Groups that can do nothing any more are dropped, and the others renumbered."""
    left = [k for k, group in enumerate(groups) if not group.is_trivial]
    number = {old: new for new, old in enumerate(left)}
    renumbered = [
        dataclasses.replace(block, owners=tuple(None if o is None else number.get(o) for o in block.owners))
        for block in blocks
    ]
    return [groups[k] for k in left], renumbered
