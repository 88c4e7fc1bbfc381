"""Every pair of n atoms once, without lists of pairs: atom i and atom i + s, for the shifts s = 1 .. n // 2.

Atoms stand in a ring, so that all differences x_i - x_{i+s} are those of one array and windows of it, and the
forces on the second atoms of all pairs are the same windows read backwards. Rows of a batch lie side by side in
memory: every operation runs over long stretches of numbers. For an even n the last shift would meet each of its
pairs twice; its second half is left out.
"""

from __future__ import annotations

import torch

from torchscape.types import Float, Tensor

__all__ = ["beside", "gathered", "only_once", "shifted"]


def beside(x: Float[Tensor, "B D"], dim: int) -> Float[Tensor, "k n B"]:
    """The coordinates of all rows side by side: component, atom, row.

    Example:
        >>> beside(torch.arange(6.0)[None], 3)[:, :, 0].tolist()
        [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    return x.reshape(len(x), x.shape[1] // dim, dim).permute(2, 1, 0).contiguous()


def shifted(p: Float[Tensor, "k n B"]) -> Float[Tensor, "k S n B"]:
    """x_i - x_{i+s} for all shifts s and atoms i, S = n // 2.

    Example:
        >>> shifted(torch.tensor([0.0, 1.0, 3.0]).reshape(1, 3, 1)).flatten().tolist()
        [-1.0, -2.0, 3.0]
    """
    n = p.shape[1]
    half = n // 2
    others = torch.cat([p[:, 1:], p[:, :half]], 1).unfold(1, n, 1)  # windows, not copies
    return p[:, None] - others.transpose(2, 3)


def only_once(square: Float[Tensor, "S n B"]) -> Float[Tensor, "S n B"]:
    """Squared distances with the second half of the last shift infinite, where it repeats the first, in place."""
    n = square.shape[1]
    if n % 2 == 0:
        square[-1, n // 2 :] = torch.inf
    return square


def gathered(weight: Float[Tensor, "*#k S n B"], apart: Float[Tensor, "k S n B"]) -> Float[Tensor, "k n B"]:
    """sum_j w_ij d_ij for every atom i, from every pair once: d_ji = -d_ij.

    What pair (i, i + s) does to its second atom stands at place i of shift s, and is wanted at i + s: in rows that
    are longer than n by the number of shifts, and one number shorter where they are read, it is there.

    Example:
        >>> p = torch.tensor([0.0, 1.0, 3.0]).reshape(1, 3, 1)
        >>> gathered(torch.ones(1, 3, 1), shifted(p)).flatten().tolist()
        [-4.0, -1.0, 5.0]
    """
    k, shifts, n, b = apart.shape
    wide = n + shifts
    forces = apart.new_zeros(k, shifts, wide, b)
    torch.mul(weight, apart, out=forces[:, :, :n])
    total = forces[:, :, :n].sum(1)
    moved = forces.flatten(1, 2)[:, : shifts * (wide - 1)].unflatten(1, (shifts, wide - 1)).sum(1)
    total[:, 1:] -= moved[:, : n - 1]
    total[:, :shifts] -= moved[:, n - 1 :]
    return total
