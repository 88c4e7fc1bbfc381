"""L-BFGS with a short memory, for functions of even curvature: few operations, and few numbers, in a step."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.devices import asking_is_free
from torchscape.optimise.native_steps import run_natively
from torchscape.optimise.on_host import Pair
from torchscape.optimise.quasi_newton import Minimisation, QuasiNewton
from torchscape.potentials.base import Potential
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, check_fields

__all__ = ["ShortLBFGS"]

_STRIDE, _NUMBERS = 16, 1 << 27  # steps, and pairs of coordinates evaluated in them


@dataclasses.dataclass(frozen=True)
class _Recent:
    """The latest M pairs of each row, the newest in the place of the oldest; empty places are zero, and one place
    more takes what is not to be kept."""

    pairs: Float[Tensor, "B N 2 D"]  # N = M + 1; s and y
    inverse: Float[Tensor, "B M M"]  # of R, with R_ij = s_i . y_j for i no newer than j; 1 in empty places
    yy: Float[Tensor, "B M M"]  # y_i . y_j
    gamma: Float[Tensor, "B"]
    count: Int[Tensor, "B"]  # pairs seen since the row last forgot
    used: int  # the host's upper bound of places in use


@dataclasses.dataclass(frozen=True)
class ShortLBFGS(QuasiNewton):
    """Limited-memory BFGS in the compact form of :class:`LBFGS`, with the pairs of the last few steps as they are.

    Where curvatures differ by a few hundred at most, as in clusters of atoms, what a long memory or a dense matrix
    knows beyond the last eight pairs saves hardly an evaluation, and moving it costs more than the function. The
    matrices of size M are small enough to be written anew in each step. A preconditioner is left aside.

    Attributes:
        memory: M, pairs kept.

    Example:
        >>> from torchscape.optimise import relax
        >>> from torchscape.potentials.base import Potential
        >>> class Bowl(Potential):
        ...     ndim = 3
        ...     def energy(self, x):
        ...         return (x**2 * torch.tensor([1.0, 3.0, 10.0], dtype=x.dtype)).sum(1)
        >>> points = relax(Bowl(), torch.ones(2, 3, dtype=torch.float64), optimiser=ShortLBFGS())
        >>> bool(points.converged.all())
        True
    """

    memory: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, memory=COUNT)

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        return (2 * self.memory * (ndim + self.memory) + 14 * ndim) * dtype.itemsize

    def init_memory(self, x: Float[Tensor, "B D"], preconditioner: Preconditioner | None = None) -> _Recent:
        b, d = x.shape
        m = self.memory
        return _Recent(
            pairs=x.new_zeros(b, m + 1, 2, d),
            inverse=torch.eye(m, dtype=x.dtype, device=x.device).repeat(b, 1, 1),
            yy=x.new_zeros(b, m, m),
            gamma=x.new_ones(b),
            count=torch.zeros(b, dtype=torch.int64, device=x.device),
            used=0,
        )

    def settled_memory(self, memory: _Recent) -> _Recent:
        return dataclasses.replace(memory, used=self.memory)

    def stride(self, potential: Potential, state: Minimisation) -> int:
        """Steps that are taken at once: as many as take milliseconds, where these and the energies are in C."""
        if potential.bounds is not None or self.precision == "mixed" or not asking_is_free(state.x):
            return 1
        if state.x.dtype != torch.float64 or potential.in_c() is None:
            return 1
        return max(1, min(_STRIDE, _NUMBERS // state.x.numel() // state.x.shape[1]))

    def leap(self, potential: Potential, state: Minimisation, n: int) -> Minimisation:
        """``n`` steps at once, of the rows that run: the state is given away."""
        evaluation = potential.in_c() if self.stride(potential, state) > 1 else None
        if evaluation is not None:
            limits = self.limits(potential, state.x.dtype)
            after = run_natively(state, limits, evaluation, potential.energy_scale, n)
            if after is not None:
                return after
        for _ in range(n):
            state = self.step(potential, state)
        return state

    def update(
        self,
        memory: _Recent,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        keep: Bool[Tensor, "B"],
        reset: Bool[Tensor, "B"],
    ) -> tuple[_Recent, Float[Tensor, "B D"]]:
        memory = _forget(memory, reset)
        m = min(memory.used + 1, self.memory)
        rows, places = torch.arange(len(s), device=s.device), torch.arange(m, device=s.device)
        place = torch.where(keep, memory.count % self.memory, self.memory)
        memory.pairs[rows, place] = torch.stack([s, y], 1)
        newest = places == place[:, None]
        pairs, sy = memory.pairs[:, :m].flatten(1, 2), torch.where(keep, (s * y).sum(1), 1.0)[:, None]
        products = torch.bmm(pairs, torch.stack([y, grad], 2)).reshape(len(s), m, 2, 2)
        with_s, (yty, ytg) = products[:, :, 0], products[:, :, 1].unbind(2)

        # The oldest pair leaves R^-1, whose new column and u = R^-1 S^T grad are one product with what is left.
        along = torch.where(newest, with_s[:, :, 1], 0.0).sum(1, keepdim=True)
        inverse = memory.inverse[:, :m, :m].masked_fill(newest[:, :, None], 0.0)
        column, u = torch.bmm(inverse, with_s.masked_fill(newest[:, :, None], 0.0)).unbind(2)
        column = torch.where(newest, 1.0, -column) / sy
        u = torch.where(keep[:, None], torch.addcmul(u, column, along), u)
        inverse = torch.where(newest[:, None], column[:, :, None], inverse)
        yy = torch.where(newest[:, None], yty[:, :, None], memory.yy[:, :m, :m])
        yy = torch.where(newest[:, :, None], yty[:, None], yy)
        gamma = torch.where(keep, sy[:, 0] / y.square().sum(1).clamp(min=torch.finfo(s.dtype).tiny), memory.gamma)

        inner = (torch.bmm(u[:, None], yy)[:, 0] - ytg) * gamma[:, None]
        inner = inner + u / inverse.diagonal(dim1=1, dim2=2)
        w = torch.bmm(inner[:, None], inverse)[:, 0]
        weights = torch.stack([-w, gamma[:, None] * u], 2).reshape(len(s), 1, -1)
        direction = torch.bmm(weights, pairs)[:, 0].addcmul_(gamma[:, None], grad, value=-1)
        if m < self.memory:
            memory.inverse[:, :m, :m], memory.yy[:, :m, :m] = inverse, yy
            inverse, yy = memory.inverse, memory.yy
        count = memory.count + keep
        return _Recent(memory.pairs, inverse, yy, gamma, count, m), direction

    def update_on_host(self, memory: _Recent, pair: Pair, reset: np.ndarray) -> tuple[_Recent, np.ndarray]:
        s, y, sy, yy, grad, keep = pair.s, pair.y, pair.sy, pair.yy, pair.grad, pair.keep
        pairs, inverse, gram, gamma, count = (
            t.numpy() for t in (memory.pairs, memory.inverse, memory.yy, memory.gamma, memory.count)
        )
        most = inverse.shape[1]
        if reset.any():
            pairs[reset], inverse[reset], gram[reset] = 0.0, np.eye(most), 0.0
            gamma, count = np.where(reset, 1.0, gamma), np.where(reset, 0, count)
        m, rows = min(memory.used + 1, most), np.arange(len(s))
        kept = rows if keep.all() else np.flatnonzero(keep)
        at = count[kept] % most
        if len(kept) < len(rows):
            s, y, sy, yy = s[kept], y[kept], sy[kept], yy[kept]
        pairs[kept, at, 0], pairs[kept, at, 1] = s, y
        gamma = gamma.copy()
        gamma[kept] = sy / np.maximum(yy, np.finfo(yy.dtype).tiny)
        flat = pairs[:, :m].reshape(len(rows), 2 * m, -1)
        latest = np.zeros((len(rows), s.shape[1], 2), s.dtype)
        latest[kept, :, 0], latest[:, :, 1] = y, grad
        products = np.matmul(flat, latest).reshape(len(rows), m, 2, 2)
        with_s, yty, ytg = products[:, :, 0], products[:, :, 1, 0], products[:, :, 1, 1]

        along = with_s[kept, at, 1]
        with_s[kept, at] = 0.0
        inverse[kept, at] = 0.0
        columns = np.matmul(inverse[:, :m, :m], with_s)
        u = columns[:, :, 1]
        column = -columns[kept, :, 0] / sy[:, None]
        column[rows[: len(kept)], at] = 1 / sy
        u[kept] += column * along[:, None]
        inverse[kept, :m, at] = column
        gram[kept, :m, at] = gram[kept, at, :m] = yty[kept]

        inner = (np.matmul(u[:, None], gram[:, :m, :m])[:, 0] - ytg) * gamma[:, None]
        inner += u / inverse.diagonal(0, 1, 2)[:, :m]
        weights = np.empty((len(rows), 1, m, 2), s.dtype)
        np.negative(np.matmul(inner[:, None], inverse[:, :m, :m])[:, 0], out=weights[:, 0, :, 0])
        np.multiply(u, gamma[:, None], out=weights[:, 0, :, 1])
        direction = np.matmul(weights.reshape(len(rows), 1, 2 * m), flat)[:, 0]
        direction -= gamma[:, None] * grad
        scales, counts = torch.from_numpy(gamma), torch.from_numpy(count + keep)
        return dataclasses.replace(memory, gamma=scales, count=counts, used=m), direction


def _forget(memory: _Recent, rows: Bool[Tensor, "B"]) -> _Recent:
    """``rows`` start over with steepest descent."""
    each = rows[:, None, None]
    memory.pairs.masked_fill_(each[..., None], 0.0)
    eye = torch.eye(memory.yy.shape[1], dtype=memory.yy.dtype, device=memory.yy.device)
    return dataclasses.replace(
        memory,
        inverse=torch.where(each, eye, memory.inverse),
        yy=memory.yy.masked_fill(each, 0.0),
        gamma=memory.gamma.masked_fill(rows, 1.0),
        count=memory.count.masked_fill(rows, 0),
    )
