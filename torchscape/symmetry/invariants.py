"""Cheap numbers that all images of a point share, and that never differ by more than the points do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch

from torchscape.symmetry.groups import Block, Space, UnitGroup
from torchscape.types import Float, Int, Tensor

__all__ = ["Invariants"]


class Invariants:
    """Sorted features of the units, block of parameters by block.

    Within a block, one axis is given to the group that owns it: unit u gets features f_u, each the norm of some
    of its entries (over all axes of other groups, over those that are rotated, and over bins of the rest), and
    every feature is sorted over the units. Norms and sorting are 1-Lipschitz, every coordinate is used once, and
    neither step sees a permutation, a sign or a rotation. Hence, with P any symmetry that is an isometry,

        |inv(a) - inv(b)|^2 <= sum over blocks of |a - P b|^2 <= |a - P b|^2 for every P,

    so that |inv(a) - inv(b)| <= distance(a, b).

    Args:
        groups, blocks: as in ``NeuralSymmetry``.
        most: about how many numbers at most; norms are taken over larger bins if there would be more.
    """

    def __init__(self, groups: Sequence[UnitGroup], blocks: Sequence[Block], most: int) -> None:
        features = [_Features.of(groups, block) for block in blocks]
        total = sum(f.table.shape[0] * f.table.shape[1] for f in features)
        share = min(1.0, most / max(total, 1))
        self._features = [(f, max(1, int(f.table.shape[1] * share))) for f in features]

    def __call__(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Of rows (at least norm, where there are scales or shifts)."""
        return torch.cat([x[:, :0], *(f.sorted(x, bins) for f, bins in self._features)], 1)


@dataclasses.dataclass(frozen=True)
class _Features:
    """Of one block: coordinates [units, columns, entries to be summed over]."""

    table: Int[Tensor, "n c e"]
    is_signed: bool
    is_sorted: bool

    @classmethod
    def of(cls, groups: Sequence[UnitGroup], block: Block) -> _Features:
        shape, owned = block.coordinates.shape, block.owned
        # Units of several copies are sorted with none, and axes of a space not at all: their norms have to do.
        plain = [a for a in owned if not block.copies[a] and not isinstance(groups[block.owners[a] or 0], Space)]
        # Sorting keeps most where the units are most.
        owner = max(plain, key=lambda axis: shape[axis], default=None)
        rest = [axis for axis in range(len(shape)) if axis not in owned]
        others = [axis for axis in owned if axis != owner]
        table = block.coordinates.permute(([] if owner is None else [owner]) + rest + others)
        n_units = 1 if owner is None else shape[owner]
        n_columns = math.prod(shape[axis] for axis in rest)
        is_signed = any(any(block.signs[axis]) for axis in owned)
        return cls(table.reshape(n_units, n_columns, -1), is_signed, owner is not None)

    def sorted(self, x: Float[Tensor, "B D"], bins: int) -> Float[Tensor, "B K"]:
        values = x[:, self.table.to(x.device)]  # [B units columns entries]
        if bins == self.table.shape[1] and values.shape[3] == 1:
            features = values[..., 0].abs() if self.is_signed else values[..., 0]
        else:
            pieces = torch.tensor_split(values, bins, dim=2)
            features = torch.stack([piece.flatten(2).norm(dim=2) for piece in pieces], 2)
        if self.is_sorted:
            features = features.sort(1).values
        return features.flatten(1)
