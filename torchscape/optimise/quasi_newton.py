"""The quasi-Newton loop: one evaluation per step, every row with its own step, memory and status."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from torchscape.devices import asking_is_free
from torchscape.optimise import on_host
from torchscape.optimise.boxed import capped, trial_in_the_box
from torchscape.optimise.limits import Limits
from torchscape.optimise.mixed import check_precision, evaluated, finished_coarsely, is_coarse, refined
from torchscape.optimise.on_host import Pair
from torchscape.optimise.search import Armijo
from torchscape.optimise.stepping import Evaluation, Search, StepOutcome, Trying, clamped, resolve
from torchscape.optimise.termination import RUNNING, default_tol, standing, status_after
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.potentials.preconditioner import Preconditioner
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Minimisation", "QuasiNewton"]


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
    held_coordinates_enter_pairs: ClassVar[bool] = False  # or only those that no wall holds

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

    def update_on_host(self, memory: Any, pair: Pair, reset: np.ndarray) -> tuple[Any, np.ndarray]:
        """:meth:`update` of NumPy's arrays, where these lie in host memory: by default the same function."""
        given = (torch.from_numpy(a) for a in (pair.s, pair.y, pair.grad, pair.keep, reset))
        memory, direction = self.update(memory, *given)
        return memory, direction.numpy()

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
        limits = self.limits(potential, state.x.dtype)
        if not (asking_is_free(state.x) and state.x.dtype in (torch.float64, torch.float32)):
            return self.advanced(limits, state, new)
        coarse = None if self.precision == "double" else ~state.precise
        after, rms = on_host.advance(self, state, new, limits, None if coarse is None else coarse.numpy())
        if coarse is None:
            return after
        finer: Minimisation = refined(after, coarse & (state.status == Status.RUNNING), torch.from_numpy(rms))
        return finer

    def advanced(self, limits: Limits, state: Minimisation, new: Evaluation) -> Minimisation:
        """:meth:`advance` as a function of tensors, none of which is asked for a number: what runs on devices."""
        s = state.trial - state.x
        slope, new_slope = (state.grad * s).sum(1), (new.grad * s).sum(1)
        coarse = None if self.precision == "double" else ~state.precise
        acceptable = self.search.accepts(state.energy, slope, new.energy, new_slope, coarse)
        running = state.status == RUNNING
        now = resolve(state, new, acceptable, running)
        y, held, curvature = now.grad - state.grad, now.grad, new_slope - slope
        if limits.bounds is not None:
            active = limits.bounds.active_set(now.x, now.grad)
            held = now.grad.masked_fill(active, 0.0)
            if not self.held_coordinates_enter_pairs:
                y = y.masked_fill(active, 0.0)
            curvature = (s * y).sum(1)
        keep = now.moved & (curvature > torch.finfo(s.dtype).eps * y.square().sum(1))
        reset = now.n_rejected == self.search.max_rejections
        memory, direction = self.update(state.memory, s, y, held, keep, reset)

        # A step that still runs downhill nearly as steeply as before was too short; lengthen the next one.
        short = now.moved & (new_slope < 0.9 * slope)
        stretch = torch.where(short, 2 * state.stretch, 1.0)
        n_short = torch.where(short, state.n_short + 1, (state.n_short - 2).clamp(min=0))
        factor = self.search.shrink(state.energy, slope, new.energy, new_slope)
        shorter, fresh = torch.addcmul(now.x, factor[:, None], s), now.accepted | reset
        ways = stretch, n_short, shorter, fresh, now.n_rejected == 1
        trial = self._trial(limits, now, memory, direction, *ways)

        rms = held.square().mean(1).sqrt()
        mark, n_idle = self._progress(state, now.energy, rms, running, coarse)
        status = status_after(
            state.status,
            rms,
            tol=limits.tol,
            far=now.accepted & (new.x.abs().amax(1) > limits.furthest),
            spent=now.n_evaluations >= limits.max_evaluations,
            stalled=(now.n_rejected >= 2 * self.search.max_rejections) | (n_idle >= limits.max_idle),
            broken=now.first & ~now.finite,
        )
        after = now.onto(
            state,
            trial=torch.where((status == RUNNING)[:, None], trial, now.x),
            stretch=torch.where(now.rejected, state.stretch, stretch),
            n_short=torch.where(now.rejected, state.n_short, n_short),
            n_refused=state.n_refused + now.rejected,
            mark=mark,
            n_idle=n_idle,
            status=status,
            memory=memory,
        )
        return after if coarse is None else refined(after, coarse & running, rms)

    def settled(self, state: Minimisation) -> Minimisation:
        """The state as it is once the memory is full: what it has on the host changes no more, nor do shapes."""
        return dataclasses.replace(state, memory=self.settled_memory(state.memory))

    def settled_memory(self, memory: Any) -> Any:
        """The same of the memory: bounds that the host keeps are at their last value."""
        return memory

    def wants(self, state: Minimisation, n_steps: int) -> Bool[Tensor, "B"] | None:
        """Rows for which a subclass does something, ``n_steps`` after it was last asked; None for none, ever."""
        return None

    def tend(self, potential: Potential, state: Minimisation, rows: Int[Tensor, "R"]) -> Minimisation:
        """What it does for them, where the pool asks the host anyway."""
        return state

    def ends(self, state: Minimisation) -> Minimisation:
        """The state without its memory: all that :meth:`result` needs."""
        return dataclasses.replace(state, memory=None)

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

    def limits(self, potential: Potential, dtype: torch.dtype) -> Limits:
        """What a step is held to."""
        length, tol = potential.length_scale, self._tolerance(potential, dtype)
        counts = self.max_evaluations, self.max_idle
        return Limits(self.search, tol, self.max_step * length, 1e8 * length, *counts, potential.bounds)

    def _tolerance(self, potential: Potential, dtype: torch.dtype) -> float:
        """RMS gradient that counts as converged, in units of the energy scale."""
        tol = default_tol(dtype, potential) if self.tol is None else self.tol
        return tol / potential.energy_scale

    def _renewed(
        self, potential: Potential, state: Minimisation, memory: Any, direction: Float[Tensor, "B D"]
    ) -> Minimisation:
        """The rows with another memory, about to take a fresh step in its direction."""
        limits = self.limits(potential, state.x.dtype)
        none, short = torch.zeros_like(state.n_rejected), torch.zeros_like(state.n_short)
        stretch, fresh = torch.ones_like(state.stretch), none == 0
        trial = self._trial(limits, state, memory, direction, stretch, short, state.x, fresh, ~fresh)
        changed = {"stretch": stretch, "n_short": short, "n_rejected": none, "n_refused": none.clone()}
        return dataclasses.replace(state, memory=memory, trial=trial, **changed)

    def _trial(
        self,
        limits: Limits,
        now: Minimisation | StepOutcome,
        memory: Any,
        direction: Float[Tensor, "B D"],
        stretch: Float[Tensor, "B"],
        n_short: Float[Tensor, "B"],
        shorter: Float[Tensor, "B D"],
        fresh: Bool[Tensor, "B"],
        first_retry: Bool[Tensor, "B"],
    ) -> Float[Tensor, "B D"]:
        """The next trial points."""
        x, grad, bounds = now.x, now.grad, limits.bounds
        if bounds is None:
            trial = torch.addcmul(x, *capped(limits, direction, grad, stretch, n_short))
            return torch.where(fresh[:, None], trial, shorter)

        def off(held: Tensor) -> Tensor:
            return self.on_active_set(memory, direction, held)

        active, ways = bounds.active_set(x, grad), (stretch, n_short, shorter, fresh, first_retry)
        return trial_in_the_box(limits, x, grad, active, direction, off, *ways)

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
        lowest = torch.where(moved, energy, state.mark[:, 0])
        flattest = torch.where(moved, torch.minimum(rms, state.mark[:, 1]), state.mark[:, 1])
        return torch.stack([lowest, flattest], 1), (state.n_idle + 1) * (running & ~moved)
