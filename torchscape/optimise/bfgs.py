"""Dense BFGS: the inverse Hessian of every row, updated in place."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import torch

from torchscape.devices import asking_is_free
from torchscape.even import even_mm
from torchscape.optimise.on_host import Pair, dot
from torchscape.optimise.quasi_newton import Minimisation, QuasiNewton
from torchscape.optimise.rows import put_rows, take_rows
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE, check_fields

__all__ = ["BFGS"]


class _First(Preconditioner):
    """What H starts from, up to a factor, as a matrix."""

    def __init__(self, matrix: Float[Tensor, "D D"]) -> None:
        self.dense = matrix

    def __call__(self, grad: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return even_mm(grad, self.dense)

    def matrix(self, like: Float[Tensor, "B D"]) -> Float[Tensor, "D D"]:
        return self.dense


@dataclasses.dataclass(frozen=True)
class _InverseHessian:
    h: Float[Tensor, "B D D"]
    scale: Float[Tensor, "B"]  # of the identity that H started from; 0 before the first pair
    age: Int[Tensor, "B"]  # pairs since
    preconditioner: _First | None = None


@dataclasses.dataclass(frozen=True)
class BFGS(QuasiNewton):
    """Broyden-Fletcher-Goldfarb-Shanno with a dense inverse Hessian H (Nocedal & Wright, eq. 6.17):

    H <- (I - rho s y^T) H (I - rho y s^T) + rho s s^T,  rho = 1 / s.y

    A row costs D^2 numbers; the update is one product H y and one rank-two correction in place. H starts from
    gamma P with gamma = s.y / y.P y of the first pair (eq. 6.20), or of a later one that says ``rescale`` times
    as much while H is younger than D pairs; P is the potential's preconditioner, or the identity.

    Attributes:
        rescale: growth of gamma at which a young H starts over.
        renew_after: rejected steps after which a row gets H = |Hessian|^-1: it creeps along a valley that bends
            faster than pairs can tell.

    Example:
        >>> from torchscape.optimise import relax
        >>> from torchscape.potentials.base import Potential
        >>> class Bowl(Potential):
        ...     ndim = 3
        ...     def energy(self, x):
        ...         return (x**2 * torch.tensor([1.0, 10.0, 100.0], dtype=x.dtype)).sum(1)
        >>> points = relax(Bowl(), torch.ones(2, 3, dtype=torch.float64), optimiser=BFGS())
        >>> bool(points.converged.all()), bool((points.energy < 1e-15).all())
        (True, True)
    """

    rescale: float = 2.0
    renew_after: int = 40
    held_coordinates_enter_pairs: ClassVar[bool] = True  # what is held can be taken out of H exactly

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, rescale=POSITIVE.or_infinite, renew_after=COUNT)

    def init_memory(
        self, x: Float[Tensor, "B D"], preconditioner: Preconditioner | None = None
    ) -> _InverseHessian:
        age = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        first = None if preconditioner is None else _First(preconditioner.matrix(x))
        h = torch.eye(x.shape[1], dtype=x.dtype, device=x.device) if first is None else first.dense
        return _InverseHessian(h.repeat(len(x), 1, 1), x.new_zeros(len(x)), age, first)

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        return (2 * ndim * ndim + 12 * ndim) * dtype.itemsize

    def update(
        self,
        memory: _InverseHessian,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        keep: Bool[Tensor, "B"],
        reset: Bool[Tensor, "B"],
    ) -> tuple[_InverseHessian, Float[Tensor, "B D"]]:
        h, scale, age = memory.h, memory.scale, memory.age
        sy = torch.where(keep, (s * y).sum(1), 1.0)
        # On a steep start the first curvatures are far above those of the valley, and so would be H's scale
        # in every direction not yet seen: while it is young, H starts over from the larger scale.
        py = y if memory.preconditioner is None else memory.preconditioner(y)
        gamma = sy / (y * py).sum(1).clamp(min=torch.finfo(y.dtype).tiny)
        restart = keep & (age < h.shape[1]) & (gamma > self.rescale * scale)
        begin = restart | reset
        _begin_anew(memory, begin, torch.where(reset, 1.0, gamma))
        scale = torch.where(restart, gamma, scale).masked_fill(reset, 0.0)
        age = age.masked_fill(begin, 0) + keep
        s, y = torch.where(keep[:, None], s, 0.0), torch.where(keep[:, None], y, 0.0)
        # H - s w^T - u s^T with u = H y / s.y and w = u - a s
        u = _times(h, y) / sy[:, None]
        a = (1 + (y * u).sum(1)) / sy
        w = torch.addcmul(u, a[:, None], s, value=-1)
        h.addcmul_(s[:, :, None], w[:, None], value=-1).addcmul_(u[:, :, None], s[:, None], value=-1)
        return dataclasses.replace(memory, scale=scale, age=age), _times(h, -grad)

    def update_on_host(
        self, memory: _InverseHessian, pair: Pair, reset: np.ndarray
    ) -> tuple[_InverseHessian, np.ndarray]:
        s, y, sy, grad, keep, p = pair.s, pair.y, pair.sy, pair.grad, pair.keep, memory.preconditioner
        h, scale, age = memory.h, memory.scale.numpy(), memory.age.numpy()
        young = keep & (age < h.shape[1])
        if young.any():  # see update
            yy = pair.yy if p is None else dot(y, p(torch.from_numpy(y)).numpy())
            gamma = sy / np.maximum(yy, np.finfo(yy.dtype).tiny)
            restart = young & (gamma > self.rescale * scale)
            _begin_anew_on_host(memory, restart, gamma)
            scale, age = np.where(restart, gamma, scale), np.where(restart, 0, age)
        if reset.any():
            _begin_anew_on_host(memory, reset, np.ones_like(scale))
            scale, age = np.where(reset, 0.0, scale), np.where(reset, 0, age)
        if not keep.all():
            s, y, sy = np.where(keep[:, None], s, 0.0), np.where(keep[:, None], y, 0.0), np.where(keep, sy, 1.0)
        # H y and H g in one pass over H; what is subtracted from H in another, and what that does to g beside it.
        both = np.stack([y, grad], 1)
        hy, hg = torch.bmm(torch.from_numpy(both), h).numpy().transpose(1, 0, 2)
        u = hy / sy[:, None]
        a = (1 + dot(y, u)) / sy
        w = u - a[:, None] * s
        left, right = torch.from_numpy(np.stack([s, u], 2)), torch.from_numpy(np.stack([w, s], 1))
        h.baddbmm_(left, right, alpha=-1)
        direction = dot(w, grad)[:, None] * s + dot(s, grad)[:, None] * u - hg
        scales, ages = torch.from_numpy(scale), torch.from_numpy(age + keep)
        return dataclasses.replace(memory, scale=scales, age=ages), direction

    def wants(self, state: Minimisation, n_steps: int) -> Bool[Tensor, "B"]:
        return (state.status == Status.RUNNING) & (state.n_refused >= self.renew_after)

    def tend(self, potential: Potential, state: Minimisation, rows: Int[Tensor, "R"]) -> Minimisation:
        part = take_rows(state, rows)
        h = _inverse_size(potential.hessian(part.x) / potential.energy_scale)
        age = torch.full_like(part.n_rejected, h.shape[1])
        memory = dataclasses.replace(part.memory, h=h, scale=torch.ones_like(part.energy), age=age)
        direction = _times(h, -part.grad)
        return put_rows(state, rows, self._renewed(potential, part, memory, direction))

    def on_active_set(
        self, memory: _InverseHessian, direction: Float[Tensor, "B D"], held: Bool[Tensor, "B D"]
    ) -> Float[Tensor, "B D"]:
        return _within(memory.h, direction, held)


def _times(h: Float[Tensor, "B D D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """H v, as v^T H: H is symmetric, and torch multiplies rows five times as fast as columns."""
    return torch.bmm(v[:, None], h)[:, 0]


def _inverse_size(hessian: Float[Tensor, "B D D"]) -> Float[Tensor, "B D D"]:
    """|Hessian|^-1, its eigenvalues taken no closer to zero than 1e-12 of the largest."""
    curvatures, modes = torch.linalg.eigh(hessian)
    curvatures = curvatures.abs()
    floor = 1e-12 * curvatures.amax(1, keepdim=True).clamp(min=torch.finfo(hessian.dtype).tiny)
    return torch.matmul(modes / curvatures.maximum(floor)[:, None], modes.mT)


def _within(
    h: Float[Tensor, "B D D"], direction: Float[Tensor, "B D"], held: Bool[Tensor, "B D"]
) -> Float[Tensor, "B D"]:
    """-(B_FF)^-1 g_F for the free coordinates F, from H = B^-1 and -H g: the step that leaves the others alone.

    H_FF itself is no substitute: along a valley that runs obliquely into the wall it is far too long across.
    """
    # Asking which rows touch a wall is free on the CPU; on a device it costs more than doing all of them.
    all_rows = torch.arange(len(h), device=h.device)
    rows = all_rows[held.any(1)] if asking_is_free(h) else all_rows
    if len(rows) == 0:
        return direction
    h, d, held = h[rows], direction[rows], held[rows]
    both = held[:, :, None] & held[:, None, :]
    inner = torch.where(both, h, torch.diag_embed((~held).to(h)))
    z = torch.linalg.solve_ex(inner, d.masked_fill(~held, 0.0)[:, :, None])[0][:, :, 0]
    free = (d - _times(h, z)).masked_fill(held, 0.0)
    sound = torch.isfinite(free).all(1, keepdim=True)
    return direction.index_copy(0, rows, torch.where(sound, free, d))


def _begin_anew(memory: _InverseHessian, rows: Bool[Tensor, "B"], scale: Float[Tensor, "B"]) -> None:
    """``rows`` become multiples of the first H, in place."""
    h, scale = memory.h, torch.where(rows, scale, 0.0)
    h.masked_fill_(rows[:, None, None], 0.0)
    if memory.preconditioner is None:
        h.diagonal(dim1=1, dim2=2).add_(scale[:, None])
    else:
        h.add_(scale[:, None, None] * memory.preconditioner.matrix(h[0]))


def _begin_anew_on_host(memory: _InverseHessian, rows: np.ndarray, scale: np.ndarray) -> None:
    """The same in host memory: nothing is written for other rows."""
    which = np.flatnonzero(rows)
    if len(which):
        p, h = memory.preconditioner, memory.h.numpy()
        first = np.eye(h.shape[1], dtype=h.dtype) if p is None else p.matrix(memory.h[0]).numpy()
        h[which] = scale[which, None, None] * first
