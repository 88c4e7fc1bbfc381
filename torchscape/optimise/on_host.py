"""A step of :class:`~torchscape.optimise.ShortLBFGS` in host memory, by NumPy, for functions without bounds.

For batches of small rows an operation costs more than the numbers in it, and NumPy's cost a third of torch's. What
happens is what :meth:`QuasiNewton.advance` and :meth:`ShortLBFGS.update` say; the arrays are those of the state.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from torchscape.optimise.quasi_newton import FALLS, Minimisation
from torchscape.optimise.search import Armijo
from torchscape.optimise.stepping import Evaluation
from torchscape.points import Status

__all__ = ["Limits", "advance", "update"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a step is held to: tolerance and longest step in the units of the state, and counts of the search."""

    search: Armijo
    tol: float
    longest: float
    furthest: float
    max_evaluations: int
    max_idle: int


def advance(state: Minimisation, new: Evaluation, limits: Limits) -> Minimisation:
    """The state after an evaluation of its trial points."""
    with np.errstate(all="ignore"):
        return _advanced(state, new, limits)


def _advanced(state: Minimisation, new: Evaluation, limits: Limits) -> Minimisation:
    x, old, old_grad, trial = (t.numpy() for t in (state.x, state.energy, state.grad, state.trial))
    energy, grad = new.energy.numpy(), new.grad.numpy()
    search, eps, tiny = limits.search, np.finfo(x.dtype).eps, np.finfo(x.dtype).tiny
    s = trial - x
    slope, new_slope = _dot(old_grad, s), _dot(grad, s)
    noise = eps**search.rise * np.maximum(np.abs(old), 1.0)
    good = energy <= old + search.decrease * slope
    good |= (energy <= old + noise) & (new_slope <= (2 * search.decrease - 1) * slope)
    running, first = state.status.numpy() == Status.RUNNING, old == np.inf
    finite = np.abs(energy + grad.sum(1)) < np.inf
    accepted = (good | first) & finite & running
    rejected = running & ~accepted
    tried = energy
    if accepted.all():
        x = trial
    else:
        take = accepted[:, None]
        x, grad = np.where(take, trial, x), np.where(take, grad, old_grad)
        energy = np.where(accepted, energy, old)
    n_evaluations = state.n_evaluations.numpy() + running
    n_rejected = (state.n_rejected.numpy() + running) * ~accepted
    moved = accepted & ~first
    y, sy = grad - old_grad, new_slope - slope
    yy = _dot(y, y)
    keep = moved & (sy > eps * yy)
    reset = n_rejected == search.max_rejections
    memory, direction = update(state.memory, s, y, grad, sy, yy, keep, reset)

    short = moved & (new_slope < 0.9 * slope)
    stretch = np.where(short, 2 * state.stretch.numpy(), 1.0)
    n_short = np.where(short, state.n_short.numpy() + 1, np.maximum(state.n_short.numpy() - 2, 0.0))
    uphill = _dot(direction, grad) >= 0
    if uphill.any():
        direction = np.where(uphill[:, None], -grad, direction)
    cap = limits.longest * np.exp2(np.maximum(n_short - FALLS, 0.0))
    length = np.sqrt(_dot(direction, direction))
    after = x + np.minimum(stretch, cap / np.maximum(length, tiny))[:, None] * direction
    if rejected.any():
        again = np.flatnonzero(rejected & ~reset)
        factor = _shrink(search, old[again], slope[again], tried[again], new_slope[again])
        after[again] = x[again] + factor[:, None] * s[again]
        stretch = np.where(rejected, state.stretch.numpy(), stretch)
        n_short = np.where(rejected, state.n_short.numpy(), n_short)

    rms = np.sqrt(_dot(grad, grad) / x.shape[1])
    mark, n_idle = _progress(state, energy, rms, running, float(eps**search.rise))
    stalled = (n_rejected >= 2 * search.max_rejections) | (n_idle >= limits.max_idle)
    status = state.status.numpy()
    ends = (
        (n_evaluations >= limits.max_evaluations, Status.MAX_STEPS),
        (stalled, Status.STALLED),
        (np.abs(x).max(1) > limits.furthest, Status.UNBOUNDED),
        (rms <= limits.tol, Status.CONVERGED),
        (first & ~finite, Status.NOT_FINITE),
    )
    for condition, code in ends:
        if condition.any():
            status = np.where(running & condition, int(code), status)
    finished = status != Status.RUNNING
    if finished.any():
        after = np.where(finished[:, None], x, after)
    values: dict[str, Any] = {
        "x": x, "energy": energy, "grad": grad, "trial": after, "stretch": stretch, "n_short": n_short,
        "n_evaluations": n_evaluations, "n_rejected": n_rejected, "mark": mark, "n_idle": n_idle, "status": status,
        "n_refused": state.n_refused.numpy() + rejected,
    }  # fmt: skip
    columns = {name: torch.from_numpy(value) for name, value in values.items()}
    return Minimisation(memory=memory, precise=state.precise, **columns)


def update(
    memory: Any,
    s: np.ndarray,
    y: np.ndarray,
    grad: np.ndarray,
    sy: np.ndarray,
    yy: np.ndarray,
    keep: np.ndarray,
    reset: np.ndarray,
) -> tuple[Any, np.ndarray]:
    """The memory after the pairs (s, y) of the rows in ``keep``, written in place, and the direction -H grad.

    ``sy`` and ``yy`` are products of the pairs. Where a pair is not kept, its numbers may be anything."""
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
    changed = {"gamma": torch.from_numpy(gamma), "count": torch.from_numpy(count + keep), "used": m}
    return dataclasses.replace(memory, **changed), direction


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("bd,bd->b", a, b)  # type: ignore[no-any-return]


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
    state: Minimisation, energy: np.ndarray, rms: np.ndarray, running: np.ndarray, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where each row last got anywhere, and how many evaluations ago that was."""
    mark = state.mark.numpy()
    moved = energy < mark[:, 0] - noise * np.maximum(np.abs(energy), 1.0)
    moved |= (rms < 0.9 * mark[:, 1]) | (energy == np.inf)
    here = np.stack([energy, np.minimum(rms, mark[:, 1])], 1)
    return np.where(moved[:, None], here, mark), (state.n_idle.numpy() + 1) * (running & ~moved)
