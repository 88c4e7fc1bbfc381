"""Dense BFGS: the inverse Hessian of every row, updated in place."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.devices import asking_is_free
from torchscape.optimise.quasi_newton import Minimisation, QuasiNewton
from torchscape.optimise.rows import may_hold, put_rows, take_rows
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE, check_fields

__all__ = ["BFGS"]


@dataclasses.dataclass(frozen=True)
class _InverseHessian:
    h: Float[Tensor, "B D D"]
    scale: Float[Tensor, "B"]  # of the identity that H started from; 0 before the first pair
    age: Int[Tensor, "B"]  # pairs since
    preconditioner: Preconditioner | None = None


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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, rescale=POSITIVE.or_infinite, renew_after=COUNT)

    def init_memory(
        self, x: Float[Tensor, "B D"], preconditioner: Preconditioner | None = None
    ) -> _InverseHessian:
        age = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        h = (eye if preconditioner is None else preconditioner(eye)).repeat(len(x), 1, 1)
        return _InverseHessian(h, x.new_zeros(len(x)), age, preconditioner)

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        return (2 * ndim * ndim + 12 * ndim) * dtype.itemsize

    def pair(self, y: Float[Tensor, "B D"], active: Bool[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return y  # H is that of all coordinates: what is held can be taken out exactly

    def update(
        self,
        memory: _InverseHessian,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        keep: Bool[Tensor, "B"],
        reset: Bool[Tensor, "B"],
    ) -> tuple[_InverseHessian, Float[Tensor, "B D"]]:
        h = memory.h
        sy = torch.where(keep, (s * y).sum(1), 1.0)
        scale, age, young = memory.scale, memory.age, keep & (memory.age < h.shape[1])
        if may_hold(young):
            # On a steep start the first curvatures are far above those of the valley, and so would be H's scale
            # in every direction not yet seen: while it is young, H starts over from the larger scale.
            py = y if memory.preconditioner is None else memory.preconditioner(y)
            gamma = sy / (y * py).sum(1).clamp(min=torch.finfo(y.dtype).tiny)
            restart = young & (gamma > self.rescale * scale)
            scale, age = torch.where(restart, gamma, scale), age.masked_fill(restart, 0)
            _reset(memory, restart, gamma)
        age = age + keep
        skipped = ~keep[:, None]
        if may_hold(skipped):
            s, y = s.masked_fill(skipped, 0.0), y.masked_fill(skipped, 0.0)
        # H - s w^T - u s^T with u = H y / s.y and w = u - a s
        u = _times(h, y) / sy[:, None]
        a = (1 + (y * u).sum(1)) / sy
        w = torch.addcmul(u, a[:, None], s, value=-1)
        h.addcmul_(s[:, :, None], w[:, None], value=-1).addcmul_(u[:, :, None], s[:, None], value=-1)
        _reset(memory, reset, torch.ones_like(scale))
        memory = dataclasses.replace(memory, scale=scale.masked_fill(reset, 0.0), age=age.masked_fill(reset, 0))
        return memory, _times(h, -grad)

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


def _reset(memory: _InverseHessian, rows: Bool[Tensor, "B"], scale: Float[Tensor, "B"]) -> None:
    """``rows`` become multiples of the first H, in place."""
    if not may_hold(rows):
        return
    h, scale = memory.h, rows * scale
    h.masked_fill_(rows[:, None, None], 0.0)
    if memory.preconditioner is None:
        h.diagonal(dim1=1, dim2=2).add_(scale[:, None])
    else:
        h.add_(scale[:, None, None] * memory.preconditioner.matrix(h[0]))
