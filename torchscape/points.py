"""``StationaryPoints``: a batch of candidate stationary points with the evidence for each."""

from __future__ import annotations

import dataclasses
from enum import IntEnum
from typing import Any

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.transfer import moved
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["StationaryPoints", "Status"]


class Status(IntEnum):
    """How a row ended. ``Status(k).message`` says what to do about it."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    STALLED = 3
    NOT_FINITE = 4
    UNBOUNDED = 5
    WRONG_INDEX = 6
    OUTSIDE = 7
    TRAPPED = 8
    KINK = 9
    FLAT = 10
    LOOSE = 11

    @property
    def message(self) -> str:
        return _MESSAGES[self]


_MESSAGES = {
    Status.RUNNING: "still running",
    Status.CONVERGED: "converged: the RMS gradient is below the tolerance",
    Status.MAX_STEPS: "not converged within max_evaluations: raise max_evaluations, or loosen tol",
    Status.STALLED: "no step lowers the energy any more: the gradient is at the rounding error of the energy, "
    "or not the derivative of it; loosen tol, or use dtype=torch.float64",
    Status.NOT_FINITE: "the energy or its gradient is NaN or infinite here: start elsewhere, shrink the steps, "
    "or check the loss",
    Status.UNBOUNDED: "the row falls for ever: there is no minimum at finite coordinates; add l2 regularisation "
    "or bounds",
    Status.WRONG_INDEX: "a stationary point, but its Hessian does not have the index that was searched for",
    Status.OUTSIDE: "the search left the box: widen the bounds, or start further inside",
    Status.TRAPPED: "the gradient is shortest here, but not zero: there is no stationary point near by; start "
    "elsewhere",
    Status.KINK: "the row stopped on a kink, where the gradient jumps (ReLU, |x|): a minimum there has no "
    "Hessian; use smooth functions in their place (softplus, GELU, tanh, sqrt(x^2 + eps^2))",
    Status.FLAT: "the energy is the same in every direction: no isolated minimum here; add l2 regularisation, or "
    "leave out what U does not depend on",
    Status.LOOSE: "a part of it lies beyond the reach of the rest: give the potential a container=",
}


@brief
@dataclasses.dataclass(frozen=True)
class StationaryPoints:
    """A batch of B points in D dimensions with energies, residuals and (where known) curvature.

    Nothing here is called converged without its residual, and trouble is a per-row ``status``,
    never an exception.

    Attributes:
        x: coordinates.
        energy: U(x), in the potential's own unit.
        grad_rms: root mean square gradient |grad U| / sqrt(D); on the box boundary, of the projected gradient.
        status: a :class:`Status` code per row.
        index: number of negative Hessian eigenvalues; -1 where not computed.
        log_det: sum of ln |mu| over the non-zero Hessian eigenvalues mu; NaN where not computed.
        n_zero: number of zero eigenvalues; -1 where not computed.
        n_evaluations: energy-and-gradient evaluations spent on the row.
        eigenvalues: the full Hessian spectrum, ascending, where it was computed densely.

    Example:
        >>> import torch
        >>> points = StationaryPoints.of(torch.zeros(2, 3), torch.tensor([1.0, 0.5]))
        >>> len(points), points.ndim, points[points.energy < 0.7].energy.tolist()
        (2, 3, [0.5])
    """

    x: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad_rms: Float[Tensor, "B"]
    status: Int[Tensor, "B"]
    index: Int[Tensor, "B"]
    log_det: Float[Tensor, "B"]
    n_zero: Int[Tensor, "B"]
    n_evaluations: Int[Tensor, "B"]
    eigenvalues: Float[Tensor, "B D"] | None = None

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "B D"],
        energy: Float[Tensor, "B"],
        *,
        grad_rms: Float[Tensor, "B"] | None = None,
        status: Int[Tensor, "B"] | None = None,
        index: Int[Tensor, "B"] | None = None,
        log_det: Float[Tensor, "B"] | None = None,
        n_zero: Int[Tensor, "B"] | None = None,
        n_evaluations: Int[Tensor, "B"] | None = None,
        eigenvalues: Float[Tensor, "B D"] | None = None,
    ) -> StationaryPoints:
        """Points with "not computed" in every column that is not given.

        Raises:
            TorchscapeError: unless there is one energy for each row of x.
        """
        shapes = [tuple(given.shape) if isinstance(given, Tensor) else given for given in (x, energy)]
        if not isinstance(energy, Tensor) or len(shapes[0]) != 2 or shapes[1] != shapes[0][:1]:
            raise TorchscapeError(
                f"points are x [B D] and one energy [B] for each of them: x has the shape {shapes[0]}, and energy "
                f"is {'of the shape ' if isinstance(energy, Tensor) else ''}{shapes[1]}"
            )

        def unknown(value: int) -> Int[Tensor, "B"]:
            return torch.full_like(energy, value, dtype=torch.int64)

        nan = torch.full_like(energy, torch.nan)
        return cls(
            x=x,
            energy=energy,
            grad_rms=nan if grad_rms is None else grad_rms,
            status=unknown(Status.RUNNING) if status is None else status,
            index=unknown(-1) if index is None else index,
            log_det=nan if log_det is None else log_det,
            n_zero=unknown(-1) if n_zero is None else n_zero,
            n_evaluations=unknown(0) if n_evaluations is None else n_evaluations,
            eigenvalues=eigenvalues,
        )

    @classmethod
    def empty(
        cls, ndim: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> StationaryPoints:
        """No rows, in ``ndim`` dimensions."""
        return cls.of(torch.empty(0, ndim, dtype=dtype, device=device), torch.empty(0, dtype=dtype, device=device))

    @classmethod
    def cat(cls, parts: list[StationaryPoints]) -> StationaryPoints:
        """One batch from several; ``eigenvalues`` survive only if every part has them."""
        columns: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            values = [getattr(part, field.name) for part in parts]
            columns[field.name] = None if any(value is None for value in values) else torch.cat(values)
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.energy)

    @property
    def ndim(self) -> int:
        return self.x.shape[1]

    @property
    def converged(self) -> Bool[Tensor, "B"]:
        return self.status == Status.CONVERGED

    def __getitem__(self, rows: Int[Tensor, "K"] | Bool[Tensor, "B"] | slice) -> StationaryPoints:
        """The chosen rows, as a batch."""
        return self._each(lambda column: column[rows])

    def to(self, device: torch.device | str) -> StationaryPoints:
        """The same points on another device: all columns in one copy."""
        return moved(self, device)

    def replace(self, **columns: Tensor | None) -> StationaryPoints:
        """A copy with some columns exchanged."""
        return dataclasses.replace(self, **columns)  # type: ignore[arg-type]

    def _each(self, f) -> StationaryPoints:
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        kept: dict[str, Any] = {name: None if column is None else f(column) for name, column in columns.items()}
        return StationaryPoints(**kept)
