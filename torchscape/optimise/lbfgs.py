"""L-BFGS with a generous memory, in compact form: a few batched matrix products per step."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch

from torchscape.optimise.on_host import Pair, dot
from torchscape.optimise.quasi_newton import Minimisation, QuasiNewton
from torchscape.optimise.rows import may_hold
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, UNIT, check_fields

__all__ = ["LBFGS"]

_WIDEST = 5.0  # ln of the largest ratio of c to its geometric mean


@dataclasses.dataclass(frozen=True)
class _History:
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
    used: int  # the host's upper bound of slots in use
    stale: bool  # whether slots in use may hold forgotten pairs
    preconditioner: Preconditioner | None  # P


@dataclasses.dataclass(frozen=True)
class LBFGS(QuasiNewton):
    """Limited-memory BFGS in the compact inverse form of Byrd, Nocedal & Schnabel (1994), theorem 2.2,
    doi 10.1007/BF01582063:

    H g = gamma P g + S w - gamma P Y u,  u = R^-1 S^T g,  w = R^-T [(D + gamma Y^T P Y) u - gamma Y^T P g]

    with R the upper triangle of S^T Y, D its diagonal, P the potential's preconditioner or the identity, and
    gamma the largest s.y / y.P y of the latest pairs, older ones counted less. What the pairs do not know of is
    mostly softer than what they know, and steps that are too short there hold a descent up at saddles: a tenth of
    the evaluations and more is saved. R^-1 and Y^T P Y change by one row and column per step: the inverse of
    a triangle without its oldest row and column is the rest of its inverse, in whatever order the pairs are kept.
    A step passes over the memory twice: once for the products with the newest pair and the gradient, once for the
    direction. These passes are what a step costs beside the potential, so the pairs are kept in single precision:
    that halves them, and costs a few per cent more evaluations at most. Everything of size M is in the precision
    of the potential.

    Where there is no preconditioner all this happens in the coordinates x / c, with c_i^2 = |s_i| / |y_i| over the
    pairs (each weighted by 1 / (|s| |y|)): H starts from a diagonal that follows the curvature of each coordinate,
    in the sense of Gilbert & Lemarechal 1989, doi 10.1007/BF01589113. Pairs are rescaled whenever c is renewed.
    On networks this saves about a tenth of the evaluations and of the time. A preconditioner saves more; where it
    says which coordinates it leaves alone, these are rescaled, and the others not.

    Attributes:
        memory: M, pairs kept.
        pairs: precision in which they are kept; None for that of the potential.
        rescale: evaluations after which c is renewed (a multiple of 8; sooner at first); None for c = 1.
            Nothing is rescaled that a preconditioner changes.
        hold: part of gamma that is left from one pair to the next, at least; 0 for that of the latest pair.

    Example:
        >>> from torchscape.optimise import relax
        >>> from torchscape.potentials.base import Potential
        >>> class Bowl(Potential):
        ...     ndim = 3
        ...     def energy(self, x):
        ...         return (x**2 * torch.tensor([1.0, 10.0, 100.0], dtype=x.dtype)).sum(1)
        >>> points = relax(Bowl(), torch.ones(2, 3, dtype=torch.float64), optimiser=LBFGS(memory=10))
        >>> bool(points.converged.all())
        True
    """

    memory: int = 100
    pairs: torch.dtype | None = torch.float32
    rescale: int | None = 40
    hold: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, memory=COUNT, rescale=COUNT.or_none, hold=UNIT)

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        pairs = 2 * self.memory * ndim * (self.pairs or dtype).itemsize
        return pairs + (2 * self.memory**2 + 14 * ndim) * dtype.itemsize

    def init_memory(self, x: Float[Tensor, "B D"], preconditioner: Preconditioner | None = None) -> _History:
        b, d = x.shape
        m = self.memory
        return _History(
            pairs=torch.zeros(b, m + 1, 2, d, dtype=self.pairs or x.dtype, device=x.device),
            inverse=torch.eye(m + 1, dtype=x.dtype, device=x.device).repeat(b, 1, 1),
            yy=x.new_zeros(b, m + 1, m + 1),
            gamma=x.new_ones(b),
            scale=torch.ones_like(x),
            grad=x.new_zeros(b, 0 if preconditioner is None else d),
            count=torch.zeros(b, dtype=torch.int64, device=x.device),
            used=0,
            stale=False,
            preconditioner=preconditioner,
        )

    def settled_memory(self, memory: _History) -> _History:
        return dataclasses.replace(memory, used=self.memory, stale=True)

    def update(
        self,
        memory: _History,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        keep: Bool[Tensor, "B"],
        reset: Bool[Tensor, "B"],
    ) -> tuple[_History, Float[Tensor, "B D"]]:
        if may_hold(reset):
            memory = _reset_rows(memory, reset)
        p, c = memory.preconditioner, memory.scale
        if self._rescales(memory):
            grad, s, y = c * grad, s / c, c * y
        py, steepest = y, grad
        if p is not None:
            steepest = p(grad)
            py = steepest - memory.grad
            memory = dataclasses.replace(memory, grad=steepest)
        memory, u, ytg = _append(memory, s, y, py, grad, keep, self.hold)
        step = _multiply(memory, steepest, u, ytg)
        return memory, c * step if self._rescales(memory) else step

    def update_on_host(self, memory: _History, pair: Pair, reset: np.ndarray) -> tuple[_History, np.ndarray]:
        if memory.pairs.dtype not in (torch.float32, torch.float64):  # others are not NumPy's
            return super().update_on_host(memory, pair, reset)
        if reset.any():
            memory = _reset_rows(memory, torch.from_numpy(reset))
        p, rescales = memory.preconditioner, self._rescales(memory)
        if rescales:
            c = memory.scale.numpy()
            grad = c * pair.grad
            pair = dataclasses.replace(pair, s=pair.s / c, y=c * pair.y, grad=grad, gg=dot(grad, grad))
        py, steepest, yy = pair.y, pair.grad, None
        if p is not None:
            latest = p(torch.from_numpy(pair.grad))
            steepest = latest.numpy()
            py = steepest - memory.grad.numpy()
            memory = dataclasses.replace(memory, grad=latest)
        elif not rescales:
            yy = pair.yy
        memory, step = _stepped(memory, pair, py, steepest, yy, self.hold)
        return memory, c * step if rescales else step

    def _rescales(self, memory: _History) -> bool:
        """Whether c is renewed: of the coordinates that the preconditioner leaves alone, if there are any."""
        p = memory.preconditioner
        return self.rescale is not None and (p is None or p.changes is not None)

    def wants(self, state: Minimisation, n_steps: int) -> Bool[Tensor, "B"] | None:
        if self.rescale is None or not self._rescales(state.memory):
            return None
        # Counted in evaluations, rows that began together do it together.
        n = state.n_evaluations
        if n_steps == 1:
            due = (n == 8) | (n == 16) | (n == 24) | (n % self.rescale == 0)
        else:  # on a device rows are looked at now and then: was one of these numbers among the steps since?
            before = (n - n_steps).clamp(min=0)
            due = (n // self.rescale > before // self.rescale) | (n.clamp(max=24) // 8 > before.clamp(max=24) // 8)
        known: Int[Tensor, "B"] = state.memory.count
        return due & (state.status == Status.RUNNING) & (known > 4)

    def tend(self, potential: Potential, state: Minimisation, rows: Int[Tensor, "R"]) -> Minimisation:
        _rescale(state.memory, rows)
        return state


def _append(
    memory: _History,
    s: Float[Tensor, "B D"],
    y: Float[Tensor, "B D"],
    py: Float[Tensor, "B D"],
    grad: Float[Tensor, "B D"],
    keep: Bool[Tensor, "B"],
    hold: float,
) -> tuple[_History, Float[Tensor, "B m"], Float[Tensor, "B m"]]:
    """The pair (s, P y) in the place of the oldest, in the rows in ``keep``; u, Y^T P grad from the same pass."""
    spare = memory.pairs.shape[1] - 1
    m = min(memory.used + 1, spare)
    rows, slots = _range(len(s), s.device), _range(m, s.device)
    slot = torch.where(keep, memory.count % spare, spare)
    newest, tiny = slots == slot[:, None], torch.finfo(s.dtype).tiny
    sy, yy = (s * y).sum(1), (y * py).sum(1).clamp(min=tiny)
    length = s.norm(dim=1, keepdim=True).clamp(min=tiny)
    slope = grad.norm(dim=1, keepdim=True).clamp(min=tiny)
    memory.pairs[rows, slot] = _beside(s, py, 1 / length, 1 / length, memory.pairs)

    both = _beside(y, grad, 1 / length, 1 / slope, memory.pairs).mT
    products = torch.bmm(_slots(memory, m), both).to(s).reshape(len(s), m, 2, -1)
    # contiguous rows: the product with R^-1 is three times as fast
    with_s, with_y = products.permute(2, 0, 3, 1).contiguous()
    if memory.stale:
        forgotten = (slots >= memory.count[:, None])[:, None] & ~newest[:, None]
        with_s, with_y = with_s.masked_fill_(forgotten, 0.0), with_y.masked_fill_(forgotten, 0.0)
    # The oldest pair leaves R^-1, whose new column and u = R^-1 S^T grad are one product with the columns left.
    along = torch.where(newest, with_s[:, 1], 0.0).sum(1, keepdim=True)
    with_s = with_s.masked_fill_(newest[:, None], 0.0)
    column, u = torch.bmm(with_s, memory.inverse[:, :m, :m].mT).unbind(1)
    diagonal = torch.where(keep, length[:, 0].square() / sy, 1.0)[:, None]
    column = torch.where(newest, diagonal, -diagonal * column)
    u = slope * torch.where(keep[:, None], u.masked_fill(newest, 0.0) + column * along, u)
    yty, ytg = with_y.unbind(1)
    memory.inverse[rows, slot] = 0.0
    memory.inverse[rows, :m, slot] = column
    memory.yy[rows, :m, slot] = yty
    memory.yy[rows, slot, :m] = yty
    latest = sy / yy
    held = torch.where(memory.count > 0, hold * memory.gamma, latest)  # the first pair says what gamma is
    gamma = torch.where(keep, torch.maximum(latest, held), memory.gamma)
    return dataclasses.replace(memory, gamma=gamma, count=memory.count + keep, used=m), u, slope * ytg


def _multiply(
    memory: _History, steepest: Float[Tensor, "B D"], u: Float[Tensor, "B m"], ytg: Float[Tensor, "B m"]
) -> Float[Tensor, "B D"]:
    """-H g by the compact formula over the slots in use, from P g."""
    m = memory.used
    inverse, gamma = memory.inverse[:, :m, :m], memory.gamma[:, None]
    inner = gamma * (torch.bmm(u[:, None], memory.yy[:, :m, :m])[:, 0] - ytg)
    inner = inner + u / inverse.diagonal(dim1=1, dim2=2)
    w = torch.bmm(inner[:, None], inverse)[:, 0]
    weights = torch.stack([-w, gamma * u], 2).flatten(1)
    # float32 has a range of 1e-38 to 1e38: the sum is taken in units of its largest coefficient
    unit = weights.abs().amax(1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
    step = torch.bmm((weights / unit).to(memory.pairs)[:, None], _slots(memory, m))[:, 0]
    return (-gamma * steepest).addcmul_(step, unit)


def _stepped(
    memory: _History,
    pair: Pair,
    py: np.ndarray,
    steepest: np.ndarray,
    yy: np.ndarray | None,
    hold: float,
) -> tuple[_History, np.ndarray]:
    """:func:`_append` and :func:`_multiply` in host memory: nothing is written for rows that keep no pair."""
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


def _rescale(memory: _History, rows: Int[Tensor, "R"]) -> None:
    """Estimate c anew in the given rows, and put their pairs into its coordinates, in place."""
    m = memory.used
    everyone = len(rows) == len(memory.count)
    pairs = memory.pairs[:, :m] if everyone else memory.pairs[rows, :m]
    old = memory.scale[rows]
    squares = pairs.square()
    length = squares.sum(3)
    weight = length.prod(2).clamp(min=torch.finfo(length.dtype).tiny).rsqrt()
    kept = (length.amin(2) > 0) & (_range(m, old.device) < memory.count[rows, None])
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


def _range(n: int, device: torch.device) -> Int[Tensor, "n"]:
    """0 to n - 1, made once: every step asks for the same."""
    return torch.arange(n, device=device) if torch.compiler.is_compiling() else _known_range(n, device)


@functools.lru_cache(maxsize=64)
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
        return torch.stack([a * by, b * and_by], 1).to(like.dtype)
    out = like.new_empty(len(a), 2, a.shape[1])
    torch.mul(a, by, out=out[:, 0])
    torch.mul(b, and_by, out=out[:, 1])
    return out


def _slots(memory: _History, m: int) -> Float[Tensor, "B K D"]:
    """The pairs in the first m slots, s and y by turns."""
    return memory.pairs[:, :m].flatten(1, 2)


def _reset_rows(memory: _History, reset: Bool[Tensor, "B"]) -> _History:
    """The rows in ``reset`` start over with steepest descent, in the coordinates that they have."""
    return dataclasses.replace(
        memory,
        gamma=torch.where(reset, torch.ones_like(memory.gamma), memory.gamma),
        count=torch.where(reset, torch.zeros_like(memory.count), memory.count),
        stale=True,
    )
