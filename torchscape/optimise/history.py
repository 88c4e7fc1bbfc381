"""The pairs that L-BFGS remembers, and the inverse Hessian that they make, in compact form."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch

from torchscape.even import even_bmv
from torchscape.optimise.on_host import Pair, dot
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["History", "append", "multiply", "rescale", "reset_rows", "stepped", "times", "with_pairs"]

_WIDEST = 5.0  # ln of the largest ratio of c to its geometric mean


@dataclasses.dataclass(frozen=True)
class History:
    """The latest M pairs of each row, the newest in the place of the oldest; empty slots are zero, and one slot
    more takes what is not to be kept. A row that forgets begins again at its first slot, and products with what
    the others still hold count as zero: nothing of the size of the pairs is written for it.

    A pair is divided by the length of its step, which changes nothing in the formula and keeps it within the range
    of float32.
    """

    pairs: Float[Tensor, "B N 2 D"]  # N = M + 1; s and P y side by side, or s / c and c y: one pass serves both
    inverse: Float[Tensor, "B N N"]  # of R, with R_ij = s_i . y_j for i no newer than j; 1 in empty slots
    yy: Float[Tensor, "B N N"]  # y_i . P y_j
    gamma: Float[Tensor, "B"]
    scale: Float[Tensor, "B D"]  # c: the pairs are those of the coordinates x / c
    grad: Float[Tensor, "B E"]  # P g of the latest gradient; without P as wide as zero coordinates
    count: Int[Tensor, "B"]  # pairs seen since the row last forgot
    looked: Int[Tensor, "B"]  # evaluations when it was last asked whether the row creeps
    before: Float[Tensor, "B"]  # RMS gradient then
    used: int  # the host's upper bound of slots in use
    stale: bool  # whether slots in use may hold forgotten pairs
    preconditioner: Preconditioner | None  # P


def append(
    memory: History,
    s: Float[Tensor, "B D"],
    y: Float[Tensor, "B D"],
    py: Float[Tensor, "B D"],
    grad: Float[Tensor, "B D"],
    keep: Bool[Tensor, "B"],
    hold: float,
) -> tuple[History, Float[Tensor, "B m"], Float[Tensor, "B m"]]:
    """The pair (s, P y) in the place of the oldest, in the rows in ``keep``; u, Y^T P grad from the same pass."""
    spare = memory.pairs.shape[1] - 1
    m = min(memory.used + 1, spare)
    rows, slots = count_to(len(s), s.device), count_to(m, s.device)
    slot = torch.where(keep, memory.count % spare, spare)
    newest, tiny = slots == slot[:, None], torch.finfo(s.dtype).tiny
    sy, yy = (s * y).sum(1), (y * py).sum(1).clamp(min=tiny)
    length = s.norm(dim=1, keepdim=True).clamp(min=tiny)
    slope = grad.norm(dim=1, keepdim=True).clamp(min=tiny)
    memory.pairs[rows, slot] = _beside(s, py, 1 / length, 1 / length, memory.pairs)

    both = _beside(y, grad, 1 / length, 1 / slope, memory.pairs).mT
    products = torch.bmm(slots_of(memory, m), both).to(s).reshape(len(s), m, 2, -1)
    # contiguous rows: the product with R^-1 is three times as fast
    products = products.permute(2, 0, 3, 1).contiguous()
    if memory.stale:
        products.masked_fill_(((slots >= memory.count[:, None]) & ~newest)[:, None], 0.0)
    with_s, (yty, ytg) = products[0], products[1].unbind(1)
    # The oldest pair leaves R^-1, whose new column and u = R^-1 S^T grad are one product with the columns left.
    along = with_s[:, 1].gather(1, slot.clamp(max=m - 1)[:, None])
    with_s = with_s.masked_fill(newest[:, None], 0.0)
    column, u = torch.bmm(with_s, memory.inverse[:, :m, :m].mT).unbind(1)
    diagonal = torch.where(keep, length[:, 0].square() / sy, 1.0)[:, None]
    column = torch.where(newest, diagonal, -diagonal * column)
    u = slope * torch.where(keep[:, None], u.masked_fill(newest, 0.0) + column * along, u)
    _write(memory, slot, column, yty)
    latest = sy / yy
    held = torch.where(memory.count > 0, hold * memory.gamma, latest)  # the first pair says what gamma is
    gamma = torch.where(keep, torch.maximum(latest, held), memory.gamma)
    return dataclasses.replace(memory, gamma=gamma, count=memory.count + keep, used=m), u, slope * ytg


def _write(
    memory: History, slot: Int[Tensor, "B"], column: Float[Tensor, "B m"], yty: Float[Tensor, "B m"]
) -> None:
    """The newest pair's column of R^-1, where its row is zero, and its row and column of Y^T P Y, in place."""
    m, n = column.shape[1], memory.yy.shape[1]
    if torch.compiler.is_compiling():  # a write at a place that is known later would be a kernel of its own
        newest = count_to(n, slot.device) == slot[:, None]
        across, down, empty = newest[:, None], newest[:, :, None], (0, n - m)
        column, yty = (torch.nn.functional.pad(values, empty) for values in (column, yty))
        memory.inverse.copy_(torch.where(across, column[:, :, None], memory.inverse.masked_fill(down, 0.0)))
        memory.yy.copy_(torch.where(across, yty[:, :, None], torch.where(down, yty[:, None], memory.yy)))
        return
    rows = count_to(len(slot), slot.device)
    memory.inverse[rows, slot] = 0.0
    memory.inverse[rows, :m, slot] = column
    memory.yy[rows, :m, slot] = yty
    memory.yy[rows, slot, :m] = yty


def multiply(
    memory: History, steepest: Float[Tensor, "B D"], u: Float[Tensor, "B m"], ytg: Float[Tensor, "B m"]
) -> Float[Tensor, "B D"]:
    """-H g by the compact formula over the slots in use, from P g."""
    m = memory.used
    inverse, gamma = memory.inverse[:, :m, :m], memory.gamma[:, None]
    inner = gamma * (torch.bmm(u[:, None], memory.yy[:, :m, :m])[:, 0] - ytg)
    inner = inner + u / inverse.diagonal(dim1=1, dim2=2)
    w = torch.bmm(inner[:, None], inverse)[:, 0]
    v = gamma * u
    # float32 has a range of 1e-38 to 1e38: the sum is taken in units of its largest coefficient
    unit = torch.maximum(w.abs(), v.abs()).amax(1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
    weights = torch.stack([(-w / unit).to(memory.pairs), (v / unit).to(memory.pairs)], 2).flatten(1)
    step = torch.bmm(weights[:, None], slots_of(memory, m))[:, 0]
    return (-gamma * steepest).addcmul_(step, unit)


def stepped(
    memory: History,
    pair: Pair,
    py: np.ndarray,
    steepest: np.ndarray,
    yy: np.ndarray | None,
    hold: float,
) -> tuple[History, np.ndarray]:
    """:func:`append` and :func:`multiply` in host memory: nothing is written for rows that keep no pair."""
    s, y, sy, grad, keep = pair.s, pair.y, pair.sy, pair.grad, pair.keep
    tiny = np.finfo(s.dtype).tiny
    inverse, gram, gamma, count = (t.numpy() for t in (memory.inverse, memory.yy, memory.gamma, memory.count))
    b, spare, d = len(s), memory.pairs.shape[1] - 1, s.shape[1]
    m = min(memory.used + 1, spare)
    rows = np.arange(b)
    kept = rows if keep.all() else np.flatnonzero(keep)
    at = count[kept] % spare
    length = np.maximum(np.sqrt(dot(s, s)), tiny)[:, None]
    slope = np.maximum(np.sqrt(pair.gg), tiny)[:, None]
    pairs = memory.pairs.numpy()
    both = np.empty((b, 2, d), pairs.dtype)
    np.divide(y, length, out=both[:, 0], casting="same_kind")
    np.divide(grad, slope, out=both[:, 1], casting="same_kind")
    latest = np.empty((len(kept), 2, d), pairs.dtype)
    some = slice(None) if len(kept) == b else kept
    np.divide(s[some], length[some], out=latest[:, 0], casting="same_kind")
    np.divide(py[some], length[some], out=latest[:, 1], casting="same_kind")
    pairs[kept, at] = latest

    flat = memory.pairs[:, :m].flatten(1, 2)
    products = torch.bmm(flat, torch.from_numpy(both).mT).numpy().reshape(b, m, 2, 2)
    with_s, with_y = np.ascontiguousarray(products.transpose(2, 0, 3, 1), s.dtype)
    if memory.stale:
        forgotten = np.arange(m) >= count[:, None]
        forgotten[kept, at] = False
        with_s[np.broadcast_to(forgotten[:, None], with_s.shape)] = 0.0
        with_y[np.broadcast_to(forgotten[:, None], with_y.shape)] = 0.0
    # The oldest pair leaves R^-1, whose new column and u = R^-1 S^T grad are one product with the columns left.
    along = with_s[kept, 1, at]
    with_s[kept, :, at] = 0.0
    inverse[kept, at] = 0.0  # after the product this row would not have counted either
    columns = np.matmul(with_s, inverse[:, :m, :m].transpose(0, 2, 1))
    diagonal = length[kept] ** 2 / sy[kept, None]
    column = -diagonal * columns[kept, 0]
    column[rows[: len(kept)], at] = diagonal[:, 0]
    u = columns[:, 1]
    u[kept] += column * along[:, None]
    u *= slope
    ytg = slope * with_y[:, 1]
    inverse[kept, :m, at] = column
    gram[kept, :m, at] = gram[kept, at, :m] = with_y[kept, 0]
    curved = np.maximum(dot(y, py) if yy is None else yy, tiny)
    newest = sy / curved
    held = np.where(count > 0, hold * gamma, newest)  # the first pair says what gamma is
    gamma = np.where(keep, np.maximum(newest, held), gamma)

    inner = gamma[:, None] * (np.matmul(u[:, None], gram[:, :m, :m])[:, 0] - ytg)
    inner += u / inverse.diagonal(0, 1, 2)[:, :m]
    weights = np.empty((b, m, 2), s.dtype)
    np.negative(np.matmul(inner[:, None], inverse[:, :m, :m])[:, 0], out=weights[:, :, 0])
    np.multiply(u, gamma[:, None], out=weights[:, :, 1])
    # float32 has a range of 1e-38 to 1e38: the sum is taken in units of its largest coefficient
    unit = np.maximum(np.abs(weights).max((1, 2)), tiny)[:, None]
    share = torch.from_numpy((weights / unit[:, None]).reshape(b, 1, 2 * m).astype(pairs.dtype, copy=False))
    step = unit * torch.bmm(share, flat)[:, 0].numpy()
    step -= gamma[:, None] * steepest
    scales, counts = torch.from_numpy(gamma), torch.from_numpy(count + keep)
    return dataclasses.replace(memory, gamma=scales, count=counts, used=m), step


def times(memory: History, v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """H v, of gradients v."""
    p, c, m = memory.preconditioner, memory.scale, memory.used
    v = c * v
    size = v.norm(dim=1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)
    products = even_bmv(slots_of(memory, m), (v / size).to(memory.pairs)).to(v).unflatten(1, (m, 2))
    forgotten = count_to(m, v.device) >= memory.count[:, None]
    with_s, with_y = products.masked_fill(forgotten[:, :, None], 0.0).unbind(2)
    u = even_bmv(memory.inverse[:, :m, :m], with_s)
    return -c * multiply(memory, v if p is None else p(v), size * u, size * with_y)


def with_pairs(
    memory: History,
    basis: Float[Tensor, "B K D"],
    images: Float[Tensor, "B K D"],
    n: Int[Tensor, "B"],
) -> History:
    """The memory of rows that know of conjugate directions only, b_i . A b_j = 1 if i = j and else 0: of the
    last of them, where there are too many. What it starts from stays as it is.

    Args:
        memory: that of these rows, which is written in place.
        basis, images: b_i and A b_i; zero beyond the first ``n`` of each row.
    """
    p, c = memory.preconditioner, memory.scale[:, None]
    m = min(basis.shape[1], memory.pairs.shape[1] - 1)
    places = count_to(m, n.device)
    which = (places + (n - m).clamp(min=0)[:, None])[:, :, None].expand(-1, -1, basis.shape[2])
    s, y = basis.gather(1, which) / c, c * images.gather(1, which)
    py = y if p is None else p(y.flatten(0, 1)).view_as(y)
    known = places < n[:, None]
    length = torch.where(known, s.norm(dim=2), 1.0)
    unit = torch.where(known, 1 / length, 0.0)[:, :, None]
    memory.pairs.zero_()
    memory.pairs[:, :m, 0], memory.pairs[:, :m, 1] = (unit * s).to(memory.pairs), (unit * py).to(memory.pairs)
    memory.inverse.zero_()
    memory.inverse.diagonal(dim1=1, dim2=2).fill_(1.0)
    memory.inverse.diagonal(dim1=1, dim2=2)[:, :m] = length.square()
    memory.yy.zero_()
    memory.yy[:, :m, :m] = torch.bmm(unit * y, (unit * py).mT)
    return dataclasses.replace(memory, count=n.clamp(max=m), used=max(memory.used, m), stale=True)


def rescale(memory: History, rows: Int[Tensor, "R"]) -> None:
    """Estimate c anew in the given rows, and put their pairs into its coordinates, in place."""
    m = memory.used
    everyone = len(rows) == len(memory.count)
    pairs = memory.pairs[:, :m] if everyone else memory.pairs[rows, :m]
    old = memory.scale[rows]
    squares = pairs.square()
    length = squares.sum(3)
    weight = length.prod(2).clamp(min=torch.finfo(length.dtype).tiny).rsqrt()
    kept = (length.amin(2) > 0) & (count_to(m, old.device) < memory.count[rows, None])
    weight = torch.where(kept, weight, 0.0)
    ss, yy = torch.bmm(weight[:, None], squares.flatten(2))[:, 0].reshape(len(weight), 2, -1).to(old).unbind(1)
    tiny = torch.finfo(old.dtype).tiny ** 0.5
    log = 0.25 * (ss.clamp(min=tiny).log() - yy.clamp(min=tiny).log()) + old.log()
    p = memory.preconditioner
    if p is None:
        new = (log - log.mean(1, keepdim=True)).clamp(-_WIDEST, _WIDEST).exp()
    else:
        alone = (~p.changes).to(log)  # type: ignore[operator]
        mean = (log * alone).sum(1, keepdim=True) / alone.sum().clamp(min=1)
        new = ((log - mean).clamp(-_WIDEST, _WIDEST) * alone).exp()
        memory.grad[rows] *= new / old
    ratio = (new / old).to(pairs)
    before = pairs[:, :, 1]
    pairs = pairs * torch.stack([1 / ratio, ratio], 1)[:, None]
    y = pairs[:, :, 1]
    gram = torch.bmm(y, y.mT).to(old)
    if p is not None:  # what the preconditioner has changed stays as it is
        gram += memory.yy[rows, :m, :m] - torch.bmm(before, before.mT).to(old)
    if memory.stale:
        gram = torch.where(kept[:, :, None] & kept[:, None], gram, 0.0)
    if everyone:
        memory.pairs[:, :m] = pairs
    else:
        memory.pairs[rows, :m] = pairs
    memory.yy[rows, :m, :m] = gram
    memory.scale[rows] = new
    newest = (memory.count[rows] - 1) % (memory.pairs.shape[1] - 1)
    each = torch.arange(len(rows), device=rows.device)
    memory.gamma[rows] = 1 / (memory.inverse[rows, newest, newest] * gram[each, newest, newest].clamp(min=tiny))


def count_to(n: int, device: torch.device) -> Int[Tensor, "n"]:
    """0 to n - 1, made once: every step asks for the same."""
    return torch.arange(n, device=device) if torch.compiler.is_compiling() else _known_range(n, device)


@functools.cache  # nothing is given up: a step that was recorded reads it wherever it is
def _known_range(n: int, device: torch.device) -> Int[Tensor, "n"]:
    return torch.arange(n, device=device)


def _beside(
    a: Float[Tensor, "B D"],
    b: Float[Tensor, "B D"],
    by: Float[Tensor, "B 1"],
    and_by: Float[Tensor, "B 1"],
    like: Tensor,
) -> Float[Tensor, "B 2 D"]:
    """Both vectors, scaled, in the precision of the pairs, in one pass over each."""
    if torch.compiler.is_compiling():  # to which views to write into are unknown
        return torch.stack([(a * by).to(like.dtype), (b * and_by).to(like.dtype)], 1)
    out = like.new_empty(len(a), 2, a.shape[1])
    torch.mul(a, by, out=out[:, 0])
    torch.mul(b, and_by, out=out[:, 1])
    return out


def slots_of(memory: History, m: int) -> Float[Tensor, "B K D"]:
    """The pairs in the first m slots, s and y by turns."""
    return memory.pairs[:, :m].flatten(1, 2)


def reset_rows(memory: History, reset: Bool[Tensor, "B"]) -> History:
    """The rows in ``reset`` start over with steepest descent, in the coordinates that they have."""
    return dataclasses.replace(
        memory,
        gamma=torch.where(reset, torch.ones_like(memory.gamma), memory.gamma),
        count=torch.where(reset, torch.zeros_like(memory.count), memory.count),
        stale=True,
    )
