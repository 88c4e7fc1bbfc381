"""L-BFGS with a generous memory, in compact form: a few batched matrix products per step."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.optimise.quasi_newton import QuasiNewton
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["LBFGS"]


@dataclasses.dataclass(frozen=True)
class _History:
    """Pairs in chronological order in the first ``count`` slots of each row; empty slots are zero.

    A pair is divided by |s|, which changes nothing in the formula and keeps it within the range of float32.
    """

    s: Float[Tensor, "B C D"]
    y: Float[Tensor, "B C D"]
    inverse: Float[Tensor, "B C C"]  # of R, with R_ij = s_i . y_j for i <= j; unit diagonal in empty slots
    yy: Float[Tensor, "B C C"]  # y_i . y_j
    gamma: Float[Tensor, "B"]
    count: Int[Tensor, "B"]
    most: int  # the host's upper bound of count


@dataclasses.dataclass(frozen=True)
class LBFGS(QuasiNewton):
    """Limited-memory BFGS in the compact inverse form of Byrd, Nocedal & Schnabel (1994), theorem 2.2,
    doi 10.1007/BF01582063:

    H g = gamma g + S w - gamma Y u,  u = R^-1 S^T g,  w = R^-T [(D + gamma Y^T Y) u - gamma Y^T g]

    with R the upper triangle of S^T Y, D its diagonal and gamma = s.y / y.y of the latest pair. R^-1 and
    Y^T Y grow by one column per step. A step passes over the memory twice, whatever M is: once for the
    products with the newest pair and the gradient, once for the direction. These passes are what a step costs
    beside the potential, so the pairs are kept in single precision: that halves them, and costs a few per cent
    more evaluations at most. Everything of size M is in the precision of the potential.

    Attributes:
        memory: M, pairs kept at least (up to 5/4 M are held, so that making room is rare).
        pairs: precision in which they are kept; None for that of the potential.

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

    @property
    def capacity(self) -> int:
        return self.memory + max(1, self.memory // 4)

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        pairs = 2 * self.capacity * ndim * (self.pairs or dtype).itemsize
        return pairs + (2 * self.capacity**2 + 12 * ndim) * dtype.itemsize

    def fresh(self, x: Float[Tensor, "B D"]) -> _History:
        b, d = x.shape
        c = self.capacity
        return _History(
            s=torch.zeros(b, c, d, dtype=self.pairs or x.dtype, device=x.device),
            y=torch.zeros(b, c, d, dtype=self.pairs or x.dtype, device=x.device),
            inverse=torch.eye(c, dtype=x.dtype, device=x.device).repeat(b, 1, 1),
            yy=x.new_zeros(b, c, c),
            gamma=x.new_ones(b),
            count=torch.zeros(b, dtype=torch.int64, device=x.device),
            most=0,
        )

    def update(self, memory, s, y, grad, push, forget, blocked=None):
        if memory.most >= self.capacity:
            memory = self._make_room(memory)
        if forget.is_cuda or bool(forget.any()):  # asking the host is free on the CPU
            memory = _forgotten(memory, forget)
        memory, u, ytg = _append(memory, s, y, grad, push)
        return memory, -_multiply(memory, grad, u, ytg)

    def _make_room(self, memory: _History) -> _History:
        """Rows that hold more than M pairs drop their oldest ones; one question to the host per M / 4 steps."""
        drop = self.capacity - self.memory
        full = torch.nonzero(memory.count > self.memory)[:, 0]
        if len(full):
            for pairs in (memory.s, memory.y):
                pairs[full, :-drop] = pairs[full, drop:]
                pairs[full, -drop:] = 0.0
            eye = torch.eye(self.capacity, dtype=memory.yy.dtype, device=memory.yy.device)
            for gram, empty in ((memory.inverse, eye), (memory.yy, torch.zeros_like(eye))):
                block = gram[full, drop:, drop:]  # of R^-1, too: it is triangular
                gram[full] = empty
                gram[full, :-drop, :-drop] = block
        count = torch.where(memory.count > self.memory, memory.count - drop, memory.count)
        most = int(count.max()) if len(count) else 0
        return dataclasses.replace(memory, count=count, most=most)


def _append(
    memory: _History, s: Float[Tensor, "B D"], y: Float[Tensor, "B D"], grad: Float[Tensor, "B D"], push
) -> tuple[_History, Float[Tensor, "B m"], Float[Tensor, "B m"]]:
    """The pair (s, y) in the next slot of the rows in ``push``; u and Y^T grad, from the same pass."""
    rows = torch.arange(len(s), device=s.device)
    slot, pushed = memory.count, push[:, None]
    most = memory.most + 1
    tiny = torch.finfo(s.dtype).tiny
    sy, yy = (s * y).sum(1), y.pow(2).sum(1).clamp(min=tiny)
    length = s.norm(dim=1, keepdim=True).clamp(min=tiny)
    slope = grad.norm(dim=1, keepdim=True).clamp(min=tiny)
    unit, change = (s / length).to(memory.s), (y / length).to(memory.s)
    memory.s[rows, slot] = torch.where(pushed, unit, memory.s[rows, slot])
    memory.y[rows, slot] = torch.where(pushed, change, memory.y[rows, slot])

    both = torch.stack([change, (grad / slope).to(memory.s)], 1).mT
    sty, stg = torch.bmm(memory.s[:, :most], both).to(s).unbind(2)
    yty, ytg = torch.bmm(memory.y[:, :most], both).to(s).unbind(2)
    # The new column of R^-1, and u = R^-1 S^T grad, from one product with the columns that are there.
    diagonal = torch.where(push, sy / length[:, 0].square(), 1.0)
    here = slot[:, None]
    old = torch.stack([sty.scatter(1, here, 0.0), stg.scatter(1, here, 0.0)], 1).mT
    column, u = torch.bmm(memory.inverse[:, :most, :most], old).unbind(2)
    column = (-column / diagonal[:, None]).scatter(1, here, 1 / diagonal[:, None])
    u = slope * torch.where(pushed, u + column * stg.gather(1, here), u)
    for gram, new in ((memory.inverse, column), (memory.yy, yty)):
        gram[rows, :most, slot] = torch.where(pushed, new, gram[rows, :most, slot])
    memory.yy[rows, slot, :most] = torch.where(pushed, yty, memory.yy[rows, slot, :most])
    gamma = torch.where(push, sy / yy, memory.gamma)
    memory = dataclasses.replace(memory, gamma=gamma, count=memory.count + push, most=most)
    return memory, u, slope * ytg


def _multiply(
    memory: _History, grad: Float[Tensor, "B D"], u: Float[Tensor, "B m"], ytg: Float[Tensor, "B m"]
) -> Float[Tensor, "B D"]:
    """H grad, by the compact formula over the slots in use."""
    m = memory.most
    s, y, inverse = memory.s[:, :m], memory.y[:, :m], memory.inverse[:, :m, :m]
    gamma = memory.gamma[:, None]
    inner = gamma * (torch.bmm(memory.yy[:, :m, :m], u[:, :, None])[:, :, 0] - ytg)
    inner = inner + u / inverse.diagonal(dim1=1, dim2=2)
    w = torch.bmm(inner[:, None], inverse)[:, 0]
    u = gamma * u
    # float32 has a range of 1e-38 to 1e38: both sums are taken in units of their largest coefficient
    unit = torch.maximum(w.abs().amax(1), u.abs().amax(1)).clamp(min=torch.finfo(w.dtype).tiny)[:, None]
    step = torch.bmm((w / unit).to(s)[:, None], s)
    step = torch.baddbmm(step, (-u / unit).to(s)[:, None], y)[:, 0]
    return gamma * grad + unit * step


def _forgotten(memory: _History, forget: Bool[Tensor, "B"]) -> _History:
    """The rows in ``forget`` start over with steepest descent."""
    gone = forget[:, None, None]
    eye = torch.eye(memory.yy.shape[1], dtype=memory.yy.dtype, device=memory.yy.device)
    for buffer in (memory.s, memory.y, memory.yy):
        buffer.masked_fill_(gone, 0.0)
    memory.inverse.copy_(torch.where(gone, eye, memory.inverse))
    return dataclasses.replace(
        memory,
        gamma=torch.where(forget, torch.ones_like(memory.gamma), memory.gamma),
        count=torch.where(forget, torch.zeros_like(memory.count), memory.count),
    )
