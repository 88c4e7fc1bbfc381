"""Mixed precision: rows descend in float32 until that tells no more, and end in float64 with what they learnt.

Most of a descent needs no more digits than float32 has: the steps are decided by gradients that are far above its
rounding error. What is left of it is short, because the quasi-Newton memory goes on as it is, and everything that
is handed back (places, energies, residuals, statuses) is that of float64.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from torchscape.devices import asking_is_free
from torchscape.errors import PotentialError
from torchscape.optimise.rows import may_hold
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Tensor

__all__ = ["check_precision", "coarse_twin", "evaluated", "finished_coarsely", "is_coarse", "refined"]

_TELLING = 1e-5  # RMS gradient, in units of the energy scale, down to which float32 is asked
_REFUSALS = 3  # in a row, after which it is rounding that refuses
_IDLE = 20  # evaluations without progress, likewise


def check_precision(where: str, precision: object) -> None:
    """Refuse what is neither "double" nor "mixed".

    Raises:
        PotentialError: which says what there is.

    Example:
        >>> check_precision("LBFGS", "single")
        Traceback (most recent call last):
            ...
        torchscape.errors.PotentialError: LBFGS: precision must be "double" or "mixed", not 'single'
    """
    if precision not in ("double", "mixed"):
        raise PotentialError(f'{where}: precision must be "double" or "mixed", not {precision!r}')


def is_coarse(potential: Potential, x: Float[Tensor, "B D"]) -> bool:
    """Whether rows begin in float32: not where there is no float32 twin of the potential, nor on a device, where
    asking which rows are which would cost more than it saves."""
    return asking_is_free(x) and potential.single() is not None


def coarse_twin(potential: Potential, x: Float[Tensor, "*S D"]) -> Potential | None:
    """The potential in float32, for what only has to suggest something that is found in float64 afterwards: where
    ``precision`` is "mixed", and :func:`is_coarse`. What it is asked is charged to the potential by whoever asks.
    """
    if potential.precision != "mixed" or x.dtype != torch.float64 or not asking_is_free(x):
        return None
    return potential.single()


def evaluated(
    potential: Potential, x: Float[Tensor, "B D"], precise: Bool[Tensor, "B"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
    """Energies and gradients in the dtype of ``x``: of the ``precise`` rows in that, of the others in float32."""
    coarse = ~precise
    single = potential.single() if asking_is_free(precise) and may_hold(coarse) else None
    if single is None:
        exact: tuple[Tensor, Tensor] = potential.energy_and_grad(x)
        return exact
    energy, grad = torch.empty_like(x[:, 0]), torch.empty_like(x)
    rows = torch.nonzero(coarse)[:, 0]
    e, g = single.energy_and_grad(x[rows].to(single.dtype))
    energy[rows], grad[rows] = e.to(x), g.to(x)
    if (charge := getattr(potential, "charge", None)) is not None:
        charge(len(rows))
    if len(rows) < len(x):
        rows = torch.nonzero(precise)[:, 0]
        energy[rows], grad[rows] = potential.energy_and_grad(x[rows])
    return energy, grad


def refined(state: Any, coarse: Bool[Tensor, "B"], rms: Float[Tensor, "B"]) -> Any:
    """The state of a minimisation, the ``coarse`` rows of which go on in float64 where float32 has done its part.

    They are evaluated once more where they stand, and then go on along the direction that their memory has: there
    is no pair of gradients of which one is in float32.
    """
    ended = (state.status != Status.RUNNING) & (state.status != Status.MAX_STEPS)
    stuck = (state.n_rejected >= _REFUSALS) | (state.n_idle >= _IDLE)
    now = coarse & (ended | ((state.status == Status.RUNNING) & (stuck | (rms <= _TELLING))))
    if not may_hold(now):
        return state
    return dataclasses.replace(
        state,
        energy=state.energy.masked_fill(now, torch.inf),
        trial=torch.where(now[:, None], state.x, state.trial),
        n_rejected=state.n_rejected.masked_fill(now, 0),
        stretch=state.stretch.masked_fill(now, 1.0),
        mark=state.mark.masked_fill(now[:, None], torch.inf),
        n_idle=state.n_idle.masked_fill(now, 0),
        status=state.status.masked_fill(now, int(Status.RUNNING)),
        precise=state.precise | now,
    )


def finished_coarsely(potential: Potential, state: Any) -> Any:
    """The state with energies and gradients of float64 in the rows that ran out of evaluations before."""
    rows = torch.nonzero(~state.precise & torch.isfinite(state.energy))[:, 0]
    if len(rows) == 0:
        return state
    energy, grad = potential.energy_and_grad(state.x[rows])
    unit = potential.energy_scale
    return dataclasses.replace(
        state,
        energy=state.energy.index_copy(0, rows, energy / unit),
        grad=state.grad.index_copy(0, rows, grad / unit),
        precise=torch.ones_like(state.precise),
    )
