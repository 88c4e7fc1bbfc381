"""Operations whose rows have the same last digits in a batch of any size.

Libraries multiply a few rows at a time, and map a few numbers at a time, and do with what is left over otherwise,
with other rounding. A search that runs for hundreds of steps makes of that another minimum: what a walker finds
would depend on how many others are with it, in one process or in one of several. So the rest goes in a block of
its own, filled up with zeros. That holds for one thread; several share out the rows as they please.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchscape.devices import is_host
from torchscape.types import Float, Tensor

__all__ = ["even_bmv", "even_matmul", "even_mm", "even_mv", "evenly"]

_BLOCK = 16  # rows; libraries take 4 to 16 at a time
_LANES = 32  # numbers; processors take 2 to 16 at a time, libraries twice as many


def even_mm(
    a: Float[Tensor, "N K"], b: Float[Tensor, "K M"], out: Float[Tensor, "N M"] | None = None
) -> Float[Tensor, "N M"]:
    """a b, every row as in a product of any other number of rows.

    Example:
        >>> even_mm(torch.ones(3, 2), torch.ones(2, 1)).tolist()
        [[2.0], [2.0], [2.0]]
    """
    if not is_host(a.device):
        return torch.mm(a, b) if out is None else torch.mm(a, b, out=out)
    if b.shape[1] % 2:  # rows of odd length are multiplied in pairs, the second of two with other rounding
        found = even_mm(a, torch.nn.functional.pad(b, (0, 1)))[:, :-1]
        return found.contiguous() if out is None else out.copy_(found)
    n = len(a) - len(a) % _BLOCK
    if n == len(a):
        return torch.mm(a, b) if out is None else torch.mm(a, b, out=out)
    out = a.new_empty(len(a), b.shape[1]) if out is None else out
    if n:
        torch.mm(a[:n], b, out=out[:n])
    rest = a.new_zeros(_BLOCK, a.shape[1])
    rest[: len(a) - n] = a[n:]
    out[n:] = torch.mm(rest, b)[: len(a) - n]
    return out


def even_mv(a: Float[Tensor, "N K"], v: Float[Tensor, "K"]) -> Float[Tensor, "N"]:
    """a v, every row as in a product of any other number of rows.

    Example:
        >>> even_mv(torch.ones(3, 2), torch.ones(2)).tolist()
        [2.0, 2.0, 2.0]
    """
    n = len(a) - len(a) % _BLOCK
    if n == len(a) or not is_host(a.device):
        return torch.mv(a, v)
    rest = a.new_zeros(_BLOCK, a.shape[1])
    rest[: len(a) - n] = a[n:]
    last = torch.mv(rest, v)[: len(a) - n]
    return torch.cat([torch.mv(a[:n], v), last]) if n else last


def even_matmul(a: Float[Tensor, "*B N K"], b: Float[Tensor, "*G K M"]) -> Float[Tensor, "*B N M"]:
    """As ``torch.matmul``: rows of many matrices by one matrix are as in a product of any other number of rows;
    matrix by matrix they are so anyway."""
    if b.ndim > 2:
        return torch.matmul(a, b)
    return even_mm(a.reshape(-1, a.shape[-1]), b).unflatten(0, a.shape[:-1])


def even_bmv(a: Float[Tensor, "B N K"], v: Float[Tensor, "B K"]) -> Float[Tensor, "B N"]:
    """a_b v_b. A batch of one matrix would be multiplied by other code.

    Example:
        >>> even_bmv(torch.ones(1, 3, 2), torch.ones(1, 2)).tolist()
        [[2.0, 2.0, 2.0]]
    """
    if len(a) == 1 and is_host(a.device):
        return torch.bmm(a.expand(2, -1, -1), v[:, :, None].expand(2, -1, -1))[:1, :, 0]
    return torch.bmm(a, v[:, :, None])[:, :, 0]


def evenly(f: Callable[..., Tensor], *x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """f(x), number by number, each as among any others.

    Args:
        f: a function of every number by itself; it may write into the first of its arguments.
        x: contiguous, of one shape.

    Example:
        >>> evenly(torch.sigmoid, torch.zeros(3)).tolist()
        [0.5, 0.5, 0.5]
    """
    n = x[0].numel()
    rest = n % _LANES
    if rest == 0 or not is_host(x[0].device):
        return f(*x)
    last = [some.new_zeros(_LANES) for some in x]
    for mine, some in zip(last, x, strict=True):
        mine[:rest] = some.view(-1)[n - rest :]
    found = f(*x)
    found.view(-1)[n - rest :] = f(*last)[:rest]
    return found
