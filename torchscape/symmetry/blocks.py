"""``BlockPermutation``: interchangeable blocks of coordinates, such as the centres of clusters."""

from __future__ import annotations

import math

import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.symmetry.assignment import assign
from torchscape.symmetry.base import Symmetry
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE

__all__ = ["BlockPermutation"]


class BlockPermutation(Symmetry):
    """All permutations of K blocks of d coordinates each; a row holds one block after the other.

    Alignment is exact: |a - p(b)|^2 = |a|^2 + |b|^2 - 2 sum_k a_k . b_p(k) is a linear assignment problem.

    Args:
        n_blocks: how many blocks, K.
        size: coordinates of a block, d.
        tolerance: distance, relative to that of the farthest block from the mean, within which two blocks count
            as one when images are counted.

    Raises:
        PotentialError: unless both are positive.

    Example:
        >>> import torch
        >>> g = BlockPermutation(2, 2)
        >>> a, b = torch.tensor([[0.0, 1.0, 5.0, 5.0]]), torch.tensor([[5.0, 5.0, 0.0, 1.0]])
        >>> g.distance(a, b).item(), g.align(a, b).tolist(), round(g.log_degeneracy(a).exp().item(), 4)
        (0.0, [[0.0, 1.0, 5.0, 5.0]], 2.0)
    """

    def __init__(self, n_blocks: int, size: int, *, tolerance: float = 1e-6) -> None:
        COUNT.check("BlockPermutation", PotentialError, n_blocks=n_blocks, size=size)
        NOT_NEGATIVE.check("BlockPermutation", PotentialError, tolerance=tolerance)
        self.n_blocks, self.size, self.tolerance = n_blocks, size, tolerance

    def describe(self) -> str:
        return f"permutation of {self.n_blocks} blocks of {self.size} coordinates"

    def align(self, reference: Float[Tensor, "B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The closest image: exact."""
        blocks = self._blocks(x)
        centre = blocks.mean(1, keepdim=True)  # any common shift leaves the assignment; this one saves digits
        return self._ordered(blocks, assign((self._blocks(reference) - centre) @ (blocks - centre).mT))

    def canonical(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Blocks in lexicographic order of their coordinates."""
        blocks = self._blocks(x)
        order = torch.arange(self.n_blocks, device=x.device).expand(len(x), -1)
        for column in blocks.flip(2).unbind(2):  # stable sorts, the most important coordinate last
            order = order.gather(1, column.gather(1, order).argsort(stable=True, dim=1))
        return self._ordered(blocks, order)

    def invariants(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Every coordinate sorted over the blocks: sorting brings two lists closer, hence 1-Lipschitz."""
        return self._blocks(x).sort(1).values.flatten(1)

    def log_degeneracy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """ln K!, less ln m! for every m blocks that coincide."""
        blocks = self._blocks(x)
        gaps = (blocks[:, :, None] - blocks[:, None]).norm(dim=3)
        reach = self.tolerance * (blocks - blocks.mean(1, keepdim=True)).norm(dim=2).amax(1)
        earlier = (gaps <= reach[:, None, None]).tril(-1).sum(2)
        return math.lgamma(self.n_blocks + 1) - (1 + earlier).to(x.dtype).log().sum(1)

    def random_image(self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        return self._ordered(self._blocks(x), random.permutation(key, self.n_blocks))

    def _blocks(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n d"]:
        return x.unflatten(1, (self.n_blocks, self.size))

    def _ordered(self, blocks: Float[Tensor, "B n d"], order: Int[Tensor, "B n"]) -> Float[Tensor, "B D"]:
        return blocks.gather(1, order[:, :, None].expand_as(blocks)).flatten(1)
