"""L-BFGS with a generous memory, in compact form: a few batched matrix products per step."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchscape.optimise.history import History, append, multiply, rescale, reset_rows, stepped, times, with_pairs
from torchscape.optimise.krylov import NewtonKrylov, evaluations_to_go
from torchscape.optimise.on_host import Pair, dot
from torchscape.optimise.quasi_newton import Minimisation, QuasiNewton
from torchscape.optimise.rows import may_hold, put_rows, take_rows
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, UNIT, check_fields

__all__ = ["LBFGS"]

_NEVER = 1 << 40  # evaluations
_PEACE = 3  # times what a system has cost that turned out to have no minimum, until the row is looked at again


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
        krylov: Newton steps for rows that creep, after which the memory holds the conjugate directions that led to
            them; None for none. Not in a box.

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
    krylov: NewtonKrylov | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, memory=COUNT, rescale=COUNT.or_none, hold=UNIT)

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        pairs = 2 * self.memory * ndim * (self.pairs or dtype).itemsize
        return pairs + (2 * self.memory**2 + 14 * ndim) * dtype.itemsize

    def init_memory(self, x: Float[Tensor, "B D"], preconditioner: Preconditioner | None = None) -> History:
        b, d = x.shape
        m = self.memory
        return History(
            pairs=torch.zeros(b, m + 1, 2, d, dtype=self.pairs or x.dtype, device=x.device),
            inverse=torch.eye(m + 1, dtype=x.dtype, device=x.device).repeat(b, 1, 1),
            yy=x.new_zeros(b, m + 1, m + 1),
            gamma=x.new_ones(b),
            scale=torch.ones_like(x),
            grad=x.new_zeros(b, 0 if preconditioner is None else d),
            count=torch.zeros(b, dtype=torch.int64, device=x.device),
            looked=torch.zeros(b, dtype=torch.int64, device=x.device),
            before=x.new_full((b,), torch.inf),
            used=0,
            stale=False,
            preconditioner=preconditioner,
        )

    def init(self, potential: Potential, x: Float[Tensor, "B D"]) -> Minimisation:
        state = super().init(potential, x)
        if potential.bounds is not None:
            state.memory.looked.fill_(_NEVER)
        return state

    def settled_memory(self, memory: History) -> History:
        return dataclasses.replace(memory, used=self.memory, stale=True)

    def update(
        self,
        memory: History,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        keep: Bool[Tensor, "B"],
        reset: Bool[Tensor, "B"],
    ) -> tuple[History, Float[Tensor, "B D"]]:
        if may_hold(reset):
            memory = reset_rows(memory, reset)
        p, c = memory.preconditioner, memory.scale
        if self._rescales(memory):
            grad, s, y = c * grad, s / c, c * y
        py, steepest = y, grad
        if p is not None:
            steepest = p(grad)
            py = steepest - memory.grad
            memory = dataclasses.replace(memory, grad=steepest)
        memory, u, ytg = append(memory, s, y, py, grad, keep, self.hold)
        step = multiply(memory, steepest, u, ytg)
        return memory, c * step if self._rescales(memory) else step

    def update_on_host(self, memory: History, pair: Pair, reset: np.ndarray) -> tuple[History, np.ndarray]:
        if memory.pairs.dtype not in (torch.float32, torch.float64):  # others are not NumPy's
            return super().update_on_host(memory, pair, reset)
        if reset.any():
            memory = reset_rows(memory, torch.from_numpy(reset))
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
        memory, step = stepped(memory, pair, py, steepest, yy, self.hold)
        return memory, c * step if rescales else step

    def _rescales(self, memory: History) -> bool:
        """Whether c is renewed: of the coordinates that the preconditioner leaves alone, if there are any."""
        p = memory.preconditioner
        return self.rescale is not None and (p is None or p.changes is not None)

    def wants(self, state: Minimisation, n_steps: int) -> Bool[Tensor, "B"] | None:
        due = self._creeping(state)
        if self.rescale is None or not self._rescales(state.memory):
            return due
        # Counted in evaluations, rows that began together do it together.
        n = state.n_evaluations
        if n_steps == 1:
            renewed = (n == 8) | (n == 16) | (n == 24) | (n % self.rescale == 0)
        else:  # on a device rows are looked at now and then: was one of these numbers among the steps since?
            before = (n - n_steps).clamp(min=0)
            renewed = n // self.rescale > before // self.rescale
            renewed = renewed | (n.clamp(max=24) // 8 > before.clamp(max=24) // 8)
        renewed = renewed & (state.status == Status.RUNNING) & (state.memory.count > 4)
        wanted: Tensor = renewed if due is None else due | renewed
        return wanted

    def tend(self, potential: Potential, state: Minimisation, rows: Int[Tensor, "R"]) -> Minimisation:
        if self._rescales(state.memory):
            rescale(state.memory, rows)
        due = self._creeping(state)
        if self.krylov is None or due is None:
            return state
        rows = self._slow(potential, state, rows[due[rows]], self.krylov)
        for part in rows.split(self.krylov.rows_at_once(state.x)) if len(rows) else ():
            state = self._helped(potential, state, part, self.krylov)
        return state

    def _creeping(self, state: Minimisation) -> Bool[Tensor, "B"] | None:
        """Rows of which it is time to ask whether they creep; None for none, ever."""
        known, krylov = state.memory, self.krylov
        if krylov is None:
            return None
        there = (state.mark[:, 1] <= krylov.below) & (state.n_evaluations - known.looked >= krylov.every)
        there = there & (state.n_rejected == 0) & (known.count > 4) & state.precise
        due: Tensor = there & (state.status == Status.RUNNING)
        return due

    def _slow(
        self, potential: Potential, state: Minimisation, rows: Int[Tensor, "R"], krylov: NewtonKrylov
    ) -> Int[Tensor, "K"]:
        """Those of the rows that creep, after a look at all of them."""
        known, n = state.memory, state.n_evaluations[rows]
        rms = state.grad[rows].square().mean(1).sqrt()
        since, tol = n - known.looked[rows], self._tolerance(potential, state.x.dtype)
        slow = evaluations_to_go(rms, known.before[rows], since, tol) > krylov.worth
        known.looked[rows], known.before[rows] = n, rms
        return rows[slow]

    def _helped(
        self, potential: Potential, state: Minimisation, rows: Int[Tensor, "R"], krylov: NewtonKrylov
    ) -> Minimisation:
        """A Newton step of these rows, or one down along negative curvature.

        Where the time is up within, nothing has happened: rows that go on later take a step of L-BFGS first.
        """
        part = take_rows(state, rows)
        known, n = part.memory, part.n_evaluations
        found = krylov.solve(
            potential,
            part.x,
            part.grad,
            lambda grad: times(known, grad),
            (self.max_evaluations - n - 1).clamp(min=0),
            least=0.3 * self._tolerance(potential, state.x.dtype),
            radius=self.max_step * potential.length_scale,
        )
        below, extra = krylov.descended(potential, part.x, part.energy, found.bent)
        bent = found.bent.square().sum(1) > 0
        newton, n = torch.nonzero((found.n_pairs > 0) & ~bent)[:, 0], n + found.spent + extra
        # L-BFGS goes on with the conjugate directions: what it makes of the next gradients is exact along them.
        pairs = (t[newton] for t in (found.basis, found.images, found.n_pairs))
        fresh = with_pairs(take_rows(known, newton), *pairs)
        memory = put_rows(known, newton, fresh)
        memory = dataclasses.replace(memory, looked=n + torch.where(bent, _PEACE * found.spent, 0))
        part = dataclasses.replace(part, memory=memory, n_evaluations=n)
        stepped = self._renewed(potential, part, memory, found.p)
        part = put_rows(part, newton, take_rows(stepped, newton))
        part = dataclasses.replace(part, trial=torch.where(bent[:, None], below, part.trial))
        whole = put_rows(state, rows, part)
        used = max(whole.memory.used, fresh.used)
        return dataclasses.replace(whole, memory=dataclasses.replace(whole.memory, used=used, stale=True))
