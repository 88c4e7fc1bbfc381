"""The quasi-Newton loop: one evaluation per step, every row with its own step, memory and status."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch

from torchscape.optimise.mixed import check_precision, evaluated, finished_coarsely, is_coarse, refined
from torchscape.optimise.rows import may_hold
from torchscape.optimise.search import Armijo
from torchscape.optimise.stepping import Evaluation, Search, Trying, clamped, resolve
from torchscape.optimise.termination import default_tol, standing
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.potentials.bounds import Bounds
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["FALLS", "Minimisation", "QuasiNewton"]


@dataclasses.dataclass(frozen=True)
class Minimisation(Trying):
    """State of a batch of descents.

    Energies and gradients are in units of the potential's ``energy_scale``, so that nothing underflows in float32
    and a first step, or a rounding error, has the same length in every unit.
    """

    stretch: Float[Tensor, "B"]
    n_short: Float[Tensor, "B"]  # steps after which the slope was nearly what it had been, less two for any other
    n_refused: Int[Tensor, "B"]  # rejections in all, since the memory was last made anew
    mark: Float[Tensor, "B 2"]  # energy and RMS gradient when the row last got anywhere
    n_idle: Int[Tensor, "B"]  # evaluations since
    precise: Bool[Tensor, "B"]  # whether energies and gradients are in the precision of the potential by now
    memory: Any


FALLS = 200  # ``n_short`` from which on the cap of a step doubles with each: an endless slope


@dataclasses.dataclass(frozen=True)
class QuasiNewton(Search[Minimisation]):
    """A minimiser is a descent (which way: ``fresh``, ``update``, ``direction`` of a subclass) and a search.

    Attributes:
        max_step: longest step, in units of the potential's ``length_scale``; a row that has run 200 steps down an
            even slope takes longer ones, until it is clear that it has no end.
        search: how far along a direction.
        tol: RMS gradient below which a row has converged; None for :func:`default_tol`.
        max_evaluations: evaluations a row may spend.
        max_idle: evaluations without a lower energy (beyond its rounding) or a gradient smaller by a tenth, after
            which a row is declared stalled: it sits on a kink, or at the rounding error of its gradient.
        precision: "mixed" descends in float32 until that tells no more, and goes on in float64 from there, with
            the memory that it has (``mixed.py``); "double" is the precision of the potential throughout.
    """

    max_step: float = 1.0
    search: Armijo = dataclasses.field(default_factory=Armijo)
    tol: float | None = None
    max_evaluations: int = 10_000
    max_idle: int = 200
    precision: Literal["double", "mixed"] = "double"
    counted_as = "quenches"

    def __post_init__(self) -> None:
        check_precision(type(self).__name__, self.precision)
        check_fields(
            self,
            max_step=POSITIVE.or_infinite,
            tol=NOT_NEGATIVE.or_none,
            max_evaluations=COUNT,
            max_idle=COUNT,
        )

    # --- which way: a subclass writes these ---------------------------------------------------------------

    def init_memory(self, x: Float[Tensor, "B D"], preconditioner: Preconditioner | None = None) -> Any:
        """Empty memory for each row: H is a multiple of the preconditioner, or of the identity."""
        raise NotImplementedError

    def update(
        self,
        memory: Any,
        s: Float[Tensor, "B D"],
        y: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        keep: Bool[Tensor, "B"],
        reset: Bool[Tensor, "B"],
    ) -> tuple[Any, Float[Tensor, "B D"]]:
        """The memory after the curvature pairs (s, y) of the rows in ``keep``, and the direction -H grad.

        ``reset`` rows start over; where a bound is active, ``grad`` is zero. The memory's buffers may be
        reused: the old memory is given away.
        """
        raise NotImplementedError

    def on_active_set(
        self, memory: Any, direction: Float[Tensor, "B D"], held: Bool[Tensor, "B D"]
    ) -> Float[Tensor, "B D"]:
        """The direction off the active set of bounds: by default that of the free coordinates as it is."""
        return direction.masked_fill(held, 0.0)

    def pair(self, y: Float[Tensor, "B D"], active: Bool[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """What of the change of the gradient enters a pair: by default the free coordinates only."""
        return y.masked_fill(active, 0.0)

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        """Memory that one row of the batch takes."""
        raise NotImplementedError

    # --- the loop ----------------------------------------------------------------------------------------

    def init(self, potential: Potential, x: Float[Tensor, "B D"]) -> Minimisation:
        """State before any evaluation: the first step evaluates the starting points themselves."""
        x = clamped(potential, x)
        zero = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return Minimisation.init(
            x,
            stretch=x.new_ones(len(x)),
            n_short=x.new_zeros(len(x)),
            n_refused=zero,
            mark=x.new_full((len(x), 2), torch.inf),
            n_idle=zero.clone(),
            precise=torch.full_like(
                zero, self.precision == "double" or not is_coarse(potential, x), dtype=torch.bool
            ),
            # walls cut coordinates off, which a preconditioner mixes
            memory=self.init_memory(x, potential.preconditioner if potential.bounds is None else None),
        )

    def evaluate(self, potential: Potential, state: Minimisation) -> Evaluation:
        """In units of the energy scale (a power of two, unless it was set: exact)."""
        if self.precision == "double":
            energy, grad = potential.energy_and_grad(state.trial)
        else:
            energy, grad = evaluated(potential, state.trial, state.precise)
        unit = potential.energy_scale
        return (
            Evaluation(state.trial, energy, grad)
            if unit == 1
            else Evaluation(state.trial, energy / unit, grad / unit)
        )

    def advance(self, potential: Potential, state: Minimisation, new: Evaluation) -> Minimisation:
        """Accept or shrink; learn from the pair; the next trial point along the new direction."""
        bounds = potential.bounds
        s = state.trial - state.x
        slope, new_slope = (state.grad * s).sum(1), (new.grad * s).sum(1)
        coarse = None if self.precision == "double" else ~state.precise
        acceptable = self.search.accepts(state.energy, slope, new.energy, new_slope, coarse)
        running = state.status == Status.RUNNING
        now = resolve(state, new, acceptable, running)
        x, rejected = now.x, now.rejected

        y = now.grad - state.grad
        active, held, curvature = None, now.grad, new_slope - slope
        if bounds is not None:
            active = bounds.active_set(x, now.grad)
            held = now.grad.masked_fill(active, 0.0)
            y = self.pair(y, active)
            curvature = (s * y).sum(1)
        keep = now.moved & (curvature > torch.finfo(x.dtype).eps * y.square().sum(1))
        reset = now.n_rejected == self.search.max_rejections
        memory, direction = self.update(state.memory, s, y, held, keep, reset)

        # A step that still runs downhill nearly as steeply as before was too short; lengthen the next one.
        short = now.moved & (new_slope < 0.9 * slope)
        stretch = torch.where(short, 2 * state.stretch, torch.ones_like(state.stretch))
        n_short = torch.where(short, state.n_short + 1, (state.n_short - 2).clamp(min=0))
        fresh, shorter, some_rejected = now.accepted | reset, x, may_hold(rejected)
        if some_rejected:
            factor = self.search.shrink(state.energy, slope, new.energy, new_slope)
            shorter = torch.addcmul(x, factor[:, None], s)
        if active is None:
            trial = torch.addcmul(x, *self._capped(potential, direction, held, stretch, n_short))
            if some_rejected:
                trial = torch.where(fresh[:, None], trial, shorter)
        else:
            boxed = potential, memory, direction, x, now.grad, active, stretch, n_short, shorter, fresh
            trial = self._boxed(*boxed, first_retry=now.n_rejected == 1)

        rms = held.square().mean(1).sqrt()
        mark, n_idle = self._progress(state, now.energy, rms, running, coarse)
        stalled = (now.n_rejected >= 2 * self.search.max_rejections) | (n_idle >= self.max_idle)
        status = self.ended(potential, state, now, rms, stalled=stalled)
        finished = status != Status.RUNNING
        if may_hold(finished):
            trial = torch.where(finished[:, None], x, trial)
        after = now.onto(
            state,
            trial=trial,
            stretch=torch.where(rejected, state.stretch, stretch),
            n_short=torch.where(rejected, state.n_short, n_short),
            n_refused=state.n_refused + rejected,
            mark=mark,
            n_idle=n_idle,
            status=status,
            memory=memory,
        )
        return after if coarse is None else refined(after, coarse & running, rms)

    def wants(self, state: Minimisation, n_steps: int) -> Bool[Tensor, "B"] | None:
        """Rows for which a subclass does something, ``n_steps`` after it was last asked; None for none, ever."""
        return None

    def tend(self, potential: Potential, state: Minimisation, rows: Int[Tensor, "R"]) -> Minimisation:
        """What it does for them, where the pool asks the host anyway."""
        return state

    def result(self, potential: Potential, state: Minimisation) -> StationaryPoints:
        """Where every row stands, as points with their residuals."""
        if self.precision == "mixed":
            state = finished_coarsely(potential, state)
        grad = state.grad
        if potential.bounds is not None:
            grad = potential.bounds.project_grad(state.x, grad)
        unit = potential.energy_scale
        return standing(state.x, state.energy, grad, state.status, state.n_evaluations, unit=unit)

    # --- parts of a step -----------------------------------------------------------------------------------

    def _tolerance(self, potential: Potential, dtype: torch.dtype) -> float:
        """RMS gradient that counts as converged, in units of the energy scale."""
        tol = default_tol(dtype, potential) if self.tol is None else self.tol
        return tol / potential.energy_scale

    def _renewed(
        self, potential: Potential, state: Minimisation, memory: Any, direction: Float[Tensor, "B D"]
    ) -> Minimisation:
        """The rows with another memory, about to take a fresh step in its direction."""
        x, grad = state.x, state.grad
        none = torch.zeros_like(state.n_rejected)
        stretch, level, fresh = torch.ones_like(state.stretch), torch.zeros_like(state.n_short), none == 0
        if potential.bounds is None:
            trial = torch.addcmul(x, *self._capped(potential, direction, grad, stretch, level))
        else:
            active = potential.bounds.active_set(x, grad)
            trial = self._boxed(potential, memory, direction, x, grad, active, stretch, level, x, fresh, ~fresh)
        return dataclasses.replace(
            state,
            memory=memory,
            trial=trial,
            stretch=stretch,
            n_short=level,
            n_rejected=none,
            n_refused=none.clone(),
        )

    def _capped(
        self,
        potential: Potential,
        direction: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        stretch: Float[Tensor, "B"],
        n_short: Float[Tensor, "B"],
    ) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "B D"]]:
        """How far along which descent direction, no longer than the cap; where the memory points uphill, steepest
        descent. The cap grows where so many steps were too short that the row falls: to the end of the slope, or
        to where it is clear that it has none."""
        if potential.bounds is not None:
            direction = direction.masked_fill(grad == 0, 0.0)
        uphill = (direction * grad).sum(1) >= 0
        if may_hold(uphill):
            direction = torch.where(uphill[:, None], -grad, direction)
        cap = self.max_step * potential.length_scale * torch.exp2((n_short - FALLS).clamp(min=0.0))
        length = direction.norm(dim=1)
        scale = torch.minimum(stretch, cap / length.clamp(min=torch.finfo(length.dtype).tiny))
        return scale[:, None], direction

    def _boxed(
        self,
        potential: Potential,
        memory: Any,
        direction: Float[Tensor, "B D"],
        x: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        active: Bool[Tensor, "B D"],
        stretch: Float[Tensor, "B"],
        n_short: Float[Tensor, "B"],
        shorter: Float[Tensor, "B D"],
        fresh: Bool[Tensor, "B"],
        first_retry: Bool[Tensor, "B"],
    ) -> Float[Tensor, "B D"]:
        """The next trial point in the box: a fresh step, or the rejected one made ``shorter``, first as far as the
        first wall on the way of the step that walls now leave."""
        bounds = potential.bounds
        assert bounds is not None
        held = grad.masked_fill(active, 0.0)
        step = torch.mul(*self._capped(potential, direction, held, stretch, n_short))
        reached, landing = _all_but_reached(bounds, x, grad, step)
        held_set = active | reached
        if may_hold(held_set):
            direction = self.on_active_set(memory, direction, held_set)
            free = held.masked_fill(reached, 0.0)
            step = torch.mul(*self._capped(potential, direction, free, stretch, n_short))
            step = torch.where(reached, landing, step)
        trial = torch.where(fresh[:, None], x + step, shorter)
        inside = bounds.clamp(trial)
        if may_hold(inside != trial):
            inside = _downhill(bounds, x, held, trial, inside, fresh)
        if may_hold(first_retry):
            inside = torch.where(first_retry[:, None], _to_the_bound(bounds, x, step, inside), inside)
        return inside

    def _progress(
        self,
        state: Minimisation,
        energy: Float[Tensor, "B"],
        rms: Float[Tensor, "B"],
        running: Bool[Tensor, "B"],
        coarse: Bool[Tensor, "B"] | None,
    ) -> tuple[Float[Tensor, "B 2"], Int[Tensor, "B"]]:
        """Where each row last got anywhere, and how many evaluations ago that was."""
        moved = (
            (energy < state.mark[:, 0] - self.search.noise(energy, coarse))
            | (rms < 0.9 * state.mark[:, 1])
            | (energy == torch.inf)
        )
        here = torch.stack([energy, torch.minimum(rms, state.mark[:, 1])], 1)
        return torch.where(moved[:, None], here, state.mark), (state.n_idle + 1) * (running & ~moved)


def _downhill(
    bounds: Bounds,
    x: Float[Tensor, "B D"],
    grad: Float[Tensor, "B D"],
    trial: Float[Tensor, "B D"],
    inside: Float[Tensor, "B D"],
    fresh: Bool[Tensor, "B"],
) -> Float[Tensor, "B D"]:
    """The trial point put ``inside`` the box; where that spoilt the descent, along the projected gradient."""
    spoilt = fresh & (((inside - x) * grad).sum(1) >= 0)
    length = (trial - x).norm(dim=1) / grad.norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
    steepest = bounds.clamp(x - length[:, None] * grad)
    return torch.where(spoilt[:, None], steepest, inside)


def _all_but_reached(
    bounds: Bounds, x: Float[Tensor, "B D"], grad: Float[Tensor, "B D"], step: Float[Tensor, "B D"]
) -> tuple[Bool[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Coordinates so close before a wall that the step leads a thousand times beyond it, and their last bit of
    way: onto the wall where that is downhill, else none.

    Left free they would spoil every step, which had to be cut at a wall that is all but reached (the
    "epsilon-active" coordinates of projected Newton methods, Bertsekas 1982, doi 10.1137/0320018). Near a minimum
    inside the box steps are short, and no coordinate is close in this sense.
    """
    room = torch.where(step > 0, bounds.upper, bounds.lower) - x
    close = (room.abs() < 1e-3 * step.abs()) & (room != 0)
    return close, room.masked_fill(room * grad >= 0, 0.0)


def _to_the_bound(
    bounds: Bounds, x: Float[Tensor, "B D"], step: Float[Tensor, "B D"], otherwise: Float[Tensor, "B D"]
) -> Float[Tensor, "B D"]:
    """The step as far as the first wall on its way; ``otherwise`` where it meets none, or stands before one.

    Clamping each coordinate by itself is bolder, and the first choice. But where a valley runs obliquely into a
    wall it leads up the valley's side, however short the step.
    """
    wall = torch.where(step > 0, bounds.upper, bounds.lower)
    room = torch.where(step == 0, torch.inf, (wall - x) / step)
    nearest, first = room.min(1, keepdim=True)
    there = (x + nearest * step).scatter(1, first, wall.gather(1, first))
    return torch.where((nearest < 1) & (nearest > 1e-3), bounds.clamp(there), otherwise)
