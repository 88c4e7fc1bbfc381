"""The step of a minimiser in host memory, by NumPy: what :meth:`QuasiNewton.advance` says, with fewer operations.

For batches of small rows an operation costs more than the numbers in it, and NumPy's a third of torch's; for large
ones passes over memory cost, of which there are as few as rows need. The arrays are those of the state. What is
remembered of each row is the matter of its minimiser (``update_on_host``).
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch

from torchscape.optimise.box_on_host import Box, Standing, trial_in_the_box
from torchscape.optimise.limits import FALLS, Limits
from torchscape.optimise.search import Armijo
from torchscape.optimise.stepping import Evaluation
from torchscape.points import Status

__all__ = ["Pair", "Remembering", "advance", "dot"]

State = TypeVar("State")


@dataclasses.dataclass(frozen=True)
class Pair:
    """What a step has shown of the curvature of each row; of any value in rows that are not kept.

    Attributes:
        s, y: change of the coordinates and of the gradient [B D].
        grad: the gradient now, zero where a bound is active [B D].
        sy, yy: s.y and y.y [B].
        gg: square of ``grad`` [B].
        keep: rows whose memory takes the pair [B].
    """

    s: np.ndarray
    y: np.ndarray
    grad: np.ndarray
    sy: np.ndarray
    yy: np.ndarray
    gg: np.ndarray
    keep: np.ndarray


@runtime_checkable
class Remembering(Protocol):
    """What of a minimiser is asked for here."""

    held_coordinates_enter_pairs: ClassVar[bool]

    def update_on_host(self, memory: Any, pair: Pair, reset: np.ndarray) -> tuple[Any, np.ndarray]:
        """The memory after the pairs, rows in ``reset`` having forgotten all before, and the direction -H grad."""
        ...

    def on_active_set(self, memory: Any, direction: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        """The direction off the active set of bounds."""
        ...


def advance(
    minimiser: Remembering, state: State, new: Evaluation, limits: Limits, coarse: np.ndarray | None = None
) -> tuple[State, np.ndarray]:
    """The state of a minimisation after an evaluation of its trial points, and the RMS gradients [B].

    Args:
        minimiser: keeps the memory, which is written in place.
        state: a ``Minimisation`` before.
        new: the evaluation.
        limits: of the potential and the minimiser.
        coarse: rows that are evaluated in float32; None for none.
    """
    with np.errstate(all="ignore"):
        after, rms = _advanced(minimiser, state, new, limits, coarse)
    return cast(State, after), rms


def _advanced(
    minimiser: Remembering, state: Any, new: Evaluation, limits: Limits, coarse: np.ndarray | None
) -> tuple[Any, np.ndarray]:
    x, old, old_grad, trial = (t.numpy() for t in (state.x, state.energy, state.grad, state.trial))
    tried, tried_grad = new.energy.detach().numpy(), new.grad.detach().numpy()
    search, box = limits.search, Box.of(limits.bounds)
    rounding = _rounding(search, x.dtype, coarse)
    s = trial - x
    slope, new_slope = dot(old_grad, s), dot(tried_grad, s)
    good = tried <= old + search.decrease * slope
    noise = rounding * np.maximum(np.abs(old), 1.0)
    good |= (tried <= old + noise) & (new_slope <= (2 * search.decrease - 1) * slope)
    running, first = state.status.numpy() == Status.RUNNING, old == np.inf
    finite = np.abs(tried + tried_grad.sum(1)) < np.inf
    accepted = (good | first) & finite & running
    rejected, moved = running & ~accepted, accepted & ~first
    # Copies of what a potential hands out: it may go on writing there.
    grad = np.where(accepted[:, None], tried_grad, old_grad)
    energy = np.where(accepted, tried, old)
    x = trial if accepted.all() else np.where(accepted[:, None], trial, x)
    n_evaluations = state.n_evaluations.numpy() + running
    n_rejected = (state.n_rejected.numpy() + running) * ~accepted
    y, held, active, sy = grad - old_grad, grad, None, None
    if box is not None:
        active = box.active_set(x, grad)
        held = np.where(active, 0.0, grad)
        if not minimiser.held_coordinates_enter_pairs:
            y[active] = 0.0
        sy = dot(s, y)
    yy, gg = dot(y, y), dot(held, held)
    keep = moved & ((new_slope - slope if sy is None else sy) > np.finfo(x.dtype).eps * yy)
    pair = Pair(s, y, held, dot(s, y) if sy is None else sy, yy, gg, keep)
    reset = n_rejected == search.max_rejections
    memory, direction = minimiser.update_on_host(state.memory, pair, reset)

    short = moved & (new_slope < 0.9 * slope)
    stretch, n_short = state.stretch.numpy(), state.n_short.numpy()
    longer = np.where(short, 2 * stretch, 1.0).astype(x.dtype, copy=False)
    level = np.where(short, n_short + 1, np.maximum(n_short - 2, 0.0)).astype(x.dtype, copy=False)
    again, shorter = np.flatnonzero(rejected & ~reset), None  # their step, made shorter
    if len(again):
        factor = _shrink(search, old[again], slope[again], tried[again], new_slope[again])
        shorter = x[again] + factor[:, None] * s[again]

    def capped(direction: np.ndarray, grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _capped(direction, grad, longer, level, limits)

    if box is None or active is None:
        scale, direction = capped(direction, held)
        after = scale * direction
        after += x
        if shorter is not None:
            after[again] = shorter
    else:
        here = Standing(x, grad, active, direction, again, shorter, np.flatnonzero(rejected & (n_rejected == 1)))
        after = trial_in_the_box(box, here, capped, lambda held: _off(minimiser, memory, direction, held))

    rms = np.sqrt(gg / x.shape[1])
    mark, n_idle = _progress(state, energy, rms, running, rounding)
    stalled = (n_rejected >= 2 * search.max_rejections) | (n_idle >= limits.max_idle)
    status = _ended(state.status.numpy(), running, x, rms, n_evaluations, stalled, first & ~finite, limits)
    finished = status != Status.RUNNING
    if finished.any():
        after[finished] = x[finished]
    if rejected.any():
        longer[rejected], level[rejected] = stretch[rejected], n_short[rejected]
    values: dict[str, Any] = {
        "x": x, "energy": energy, "grad": grad, "trial": after, "stretch": longer, "n_short": level,
        "n_evaluations": n_evaluations, "n_rejected": n_rejected, "mark": mark, "n_idle": n_idle, "status": status,
        "n_refused": state.n_refused.numpy() + rejected,
    }  # fmt: skip
    columns = {name: torch.from_numpy(value) for name, value in values.items()}
    return dataclasses.replace(state, memory=memory, **columns), rms


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a.b of every row."""
    return np.einsum("bd,bd->b", a, b)  # type: ignore[no-any-return]


def _rounding(search: Armijo, dtype: np.dtype, coarse: np.ndarray | None) -> Any:
    """Of energies, in units of their size: one number, or one for each row."""
    fine = float(np.finfo(dtype).eps ** search.rise)
    return fine if coarse is None else np.where(coarse, float(np.finfo(np.float32).eps ** search.rise), fine)


def _capped(
    direction: np.ndarray, grad: np.ndarray, stretch: np.ndarray, n_short: np.ndarray, limits: Limits
) -> tuple[np.ndarray, np.ndarray]:
    """How far [B 1] along which descent direction: :func:`~torchscape.optimise.boxed.capped`."""
    if limits.bounds is not None:
        direction = np.where(grad == 0, 0.0, direction)
    uphill = dot(direction, grad) >= 0
    if uphill.any():
        direction = np.where(uphill[:, None], -grad, direction)
    cap = limits.longest * np.exp2(np.maximum(n_short - FALLS, 0.0))
    length = np.sqrt(dot(direction, direction))
    scale = np.minimum(stretch, cap / np.maximum(length, np.finfo(length.dtype).tiny))
    return scale[:, None], direction


def _shrink(
    search: Armijo, energy: np.ndarray, slope: np.ndarray, new_energy: np.ndarray, new_slope: np.ndarray
) -> np.ndarray:
    """How much of a step is tried next: :meth:`Armijo.shrink`."""
    a = slope + new_slope - 3 * (new_energy - energy)
    root = np.sqrt(np.maximum(a * a - slope * new_slope, 0.0))
    factor = 1 - (new_slope + root - a) / (new_slope - slope + 2 * root)
    finite = np.abs(factor + new_energy) < np.inf
    held = np.minimum(np.maximum(factor, search.shrink_min), search.shrink_max)
    return np.where(finite, held, search.shrink_min)


def _progress(
    state: Any, energy: np.ndarray, rms: np.ndarray, running: np.ndarray, rounding: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Where each row last got anywhere, and how many evaluations ago that was."""
    mark = state.mark.numpy()
    moved = energy < mark[:, 0] - rounding * np.maximum(np.abs(energy), 1.0)
    moved |= (rms < 0.9 * mark[:, 1]) | (energy == np.inf)
    here = np.empty_like(mark)
    here[:, 0], here[:, 1] = energy, np.minimum(rms, mark[:, 1])
    return np.where(moved[:, None], here, mark), (state.n_idle.numpy() + 1) * (running & ~moved)


def _ended(
    status: np.ndarray,
    running: np.ndarray,
    x: np.ndarray,
    rms: np.ndarray,
    n_evaluations: np.ndarray,
    stalled: np.ndarray,
    broken: np.ndarray,
    limits: Limits,
) -> np.ndarray:
    """The new status: :func:`~torchscape.optimise.termination.termination_test`."""
    ends = (
        (n_evaluations >= limits.max_evaluations, Status.MAX_STEPS),
        (stalled, Status.STALLED),
        (np.maximum(x.max(1), -x.min(1)) > limits.furthest, Status.UNBOUNDED),
        (rms <= limits.tol, Status.CONVERGED),
        (broken, Status.NOT_FINITE),
    )
    for condition, code in ends:
        if condition.any():
            status = np.where(running & condition, int(code), status)
    return status


def _off(minimiser: Remembering, memory: Any, direction: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The direction off the active set ``held``."""
    return minimiser.on_active_set(memory, torch.from_numpy(direction), torch.from_numpy(held)).numpy()
