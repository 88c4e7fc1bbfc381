"""Every part of a detected symmetry tried on the energy itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from torchscape import random
from torchscape.symmetry.action import Action, Move
from torchscape.symmetry.gauge import Shift
from torchscape.symmetry.groups import Block, UnitGroup
from torchscape.types import Float, Int, Tensor

__all__ = ["Verified", "verify"]

Energy = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Verified:
    """What passed, and sentences about what did not."""

    groups: list[UnitGroup]
    blocks: list[Block]
    shifts: list[Shift]
    notes: list[str]


def verify(
    actions: Sequence[Action],
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
    trial = _Trial(energy, x, key)
    groups, notes, blocks = [], [], list(blocks)
    for action in actions:
        group, signs, scales, remarks = _parts_that_hold(action, trial, key)
        groups.append(group)
        notes += remarks
        blocks = [_restricted(block, action.number, signs, scales) for block in blocks]
    # No word about a shift that fails: it is a question to the loss, not a finding in the module.
    kept = [dataclasses.replace(s, coordinates=s.coordinates.cpu()) for s in shifts if trial.allows(s)]
    groups, blocks = _without_trivial(groups, blocks)
    return Verified(groups, blocks, kept, notes)


def _parts_that_hold(
    action: Action, trial: _Trial, key: Int[Tensor, "B"]
) -> tuple[UnitGroup, list[int], list[int], list[str]]:
    """The group with what passed, the numbers of its sign changes and rescalings that did, and remarks."""
    group, notes = action.group, []
    moves = action.random(random.fold(key, action.number), trial.x.dtype, spread=1.0)
    here = torch.arange(group.size, device=trial.x.device).expand_as(moves.permutation)
    if group.is_permutable and not trial.keeps(action, Move(moves.permutation)):
        notes.append(f"{group.name}: permutations change the energy, and are left out")
        group = dataclasses.replace(group, colour=torch.arange(group.size))
    n_signs, n_scales = group.n_signs, group.n_scales
    signs = [j for j in range(n_signs) if trial.keeps(action, Move(here, _only(moves.signs, j, 1.0)))]
    scales = [j for j in range(n_scales) if trial.keeps(action, Move(here, None, _only(moves.log_scales, j, 0.0)))]
    if len(signs) < n_signs:
        notes.append(f"{group.name}: sign changes change the energy, and are left out")
    if len(scales) < n_scales:
        notes.append(f"{group.name}: rescalings change the energy (l2 does that), and are left out")
    return dataclasses.replace(group, n_signs=len(signs), n_scales=len(scales)), signs, scales, notes


class _Trial:
    """The energy at some points, to be compared with the energy at their images."""

    def __init__(self, energy: Energy, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> None:
        self.x = x
        self._energy, self._key = energy, key
        with torch.no_grad():
            self._before = energy(x)

    def keeps(self, action: Action, move: Move) -> bool:
        return self._same(action.apply(self.x, move))

    def allows(self, shift: Shift) -> bool:
        amount = random.normal(random.fold(self._key, -1), len(shift.coordinates), self.x.dtype)
        y = self.x.clone()
        y[:, shift.coordinates] += amount[:, :, None]
        return self._same(y)

    def _same(self, image: Float[Tensor, "B D"]) -> bool:
        with torch.no_grad():
            after = self._energy(image)
        rounding = 1e4 * torch.finfo(after.dtype).eps
        return bool(((after - self._before).abs() <= rounding * (1.0 + self._before.abs())).all())


def _only(columns: Tensor | None, j: int, neutral: float) -> Tensor | None:
    """The j-th sign change or rescaling, the others doing nothing."""
    if columns is None:
        return None
    kept = torch.full_like(columns, neutral)
    kept[:, :, j] = columns[:, :, j]
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
    left = [k for k, group in enumerate(groups) if group.is_permutable or group.n_signs or group.n_scales]
    number = {old: new for new, old in enumerate(left)}
    renumbered = [
        dataclasses.replace(block, owners=tuple(None if o is None else number.get(o) for o in block.owners))
        for block in blocks
    ]
    return [groups[k] for k in left], renumbered
