"""``Translations``: coordinates with periods, and directions along which U does not change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.memory import rows_that_fit
from torchscape.symmetry.base import Symmetry
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Translations"]

_NUMBERS = 1 << 22  # coordinates of trial images at once
_SWEEPS = 4


class Translations(Symmetry):
    """The group of the shifts x -> x + n p + c V: periods p of single coordinates, and directions V.

    Points are the same modulo these shifts: distances are those of minimal images, and the directions are known
    zero modes. The closest image is exact where only periods are given, and for one direction that moves all its
    periodic coordinates by the same fraction of their periods (the rotation of all angles: the shifts then are
    the lattice A_n*, whose closest points are among n + 1 roundings; McKilliam, Clarkson & Quinn 2008,
    doi 10.1109/TIT.2008.928280). For several directions that share periodic coordinates it is the best of such
    roundings, one direction after the other.

    Args:
        ndim: number of coordinates D.
        periods: the period of each coordinate, or one number for all; None, 0 or infinity for no period.
        directions: vectors [Z, D] along which U is constant, in any length.

    Raises:
        PotentialError: if a period is negative or NaN, there are not D, or directions depend on each other.

    Example:
        >>> import torch
        >>> angles = Translations(3, periods=2 * torch.pi, directions=[[1.0, 1.0, 1.0]])
        >>> a = torch.tensor([[0.0, 0.1, 0.2]], dtype=torch.float64)
        >>> b = torch.tensor([[5.0, 5.1 - 2 * torch.pi, 5.2]], dtype=torch.float64)
        >>> round(angles.distance(a, b).item(), 12)
        0.0
    """

    def __init__(
        self,
        ndim: int,
        *,
        periods: float | int | Sequence[float | int | None] | Tensor | None = None,
        directions: Sequence[Sequence[float | int]] | Sequence[float | int] | Tensor | None = None,
    ) -> None:
        self.ndim = int(ndim)
        self.periods = _periods(periods, self.ndim)
        self.directions = _directions(directions, self.ndim)

    @property
    def is_periodic(self) -> Bool[Tensor, "D"]:
        return torch.isfinite(self.periods)

    def describe(self) -> str:
        parts = []
        which = self.is_periodic.nonzero()[:, 0].tolist()
        if which:
            shown = sorted({f"{self.periods[i]:.6g}" for i in which})
            parts.append(f"{len(which)} of {self.ndim} coordinates modulo {', '.join(shown[:4])}")
        if len(self.directions):
            parts.append(f"shifts along {len(self.directions)} directions")
        return "; ".join(parts) or "none"

    def with_periods(self, periods: float | int | Sequence[float | int | None] | Tensor) -> Translations:
        """The same directions, with these periods."""
        return Translations(self.ndim, periods=periods, directions=self.directions)

    # --- closest images ---------------------------------------------------------------------------------

    def align(self, reference: Float[Tensor, "B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        difference = reference - x
        return x + (difference - self.residual(difference))

    def residual(self, difference: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """What no shift removes of the differences of two points: their minimal images."""
        best = self._reduced(difference)
        for v in self.directions.to(difference):
            moved = self.is_periodic.to(v.device) & (v.abs() > 1e-9)
            if not bool(moved.any()):
                continue
            size = rows_that_fit(int(moved.sum()) * self.ndim, best.device, on_host=_NUMBERS)
            best = torch.cat([self._along(part, v, moved) for part in best.split(size)])
        return best

    def _along(
        self, e: Float[Tensor, "B D"], v: Float[Tensor, "D"], moved: Bool[Tensor, "D"]
    ) -> Float[Tensor, "B D"]:
        """The shortest residual over all roundings that a shift along v meets."""
        p = self.periods.to(e)[moved]
        turn = p / v[moved]
        crossing = ((e[:, moved] / p - 0.5) * turn).remainder(turn.abs()).sort(1).values
        after = torch.cat([crossing[:, 1:], crossing[:, :1] + turn.abs().max()], 1)
        trial = e[:, None] - 0.5 * (crossing + after)[:, :, None] * v
        trial = torch.cat([e[:, None], self._reduced(trial.flatten(0, 1)).reshape(trial.shape)], 1)
        shortest = trial.square().sum(2).argmin(1)
        return trial[torch.arange(len(e), device=e.device), shortest]

    def _reduced(self, e: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """By turns without whole periods and without directions: each shortens it."""
        v = self.directions.to(e)
        for _ in range(_SWEEPS if len(v) else 1):
            e = self._wrapped(e)
            e = e - (e @ v.T) @ v
        return e

    def _wrapped(self, e: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Every coordinate moved into the period around zero."""
        p = self.periods.to(e)
        turns = torch.where(torch.isfinite(p), (e / p).round(), 0.0)
        return e - torch.where(torch.isfinite(p), p, 0.0) * turns

    # --- the rest ---------------------------------------------------------------------------------------

    def canonical(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Periodic coordinates in [0, p); the first coordinate that a direction moves is zero."""
        for row in _echelon(self.directions).to(x):
            pivot = int((row.abs() > 1e-9).to(torch.uint8).argmax())
            x = x - x[:, pivot : pivot + 1] / row[pivot] * row
        p = self.periods.to(x)
        return torch.where(torch.isfinite(p), x.remainder(torch.where(torch.isfinite(p), p, 1.0)), x)

    def invariants(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Points on circles for periodic coordinates (for differences of those that a direction moves alike), and
        the rest without the directions. Chords are no longer than arcs: hence 1-Lipschitz.
        """
        v, p = self.directions, self.periods
        moved = (v.abs() > 1e-9).any(0)
        alone = (self.is_periodic & ~moved).nonzero()[:, 0]
        open_ = (~self.is_periodic).nonzero()[:, 0]
        rest = x[:, open_.to(x.device)]
        span = _orthonormal(v[:, open_]).to(x)
        columns = [rest - (rest @ span.T) @ span]
        columns += _circle(x[:, alone.to(x.device)], p[alone].to(x))
        together = (self.is_periodic & moved).nonzero()[:, 0]
        rate = v / p
        for i, j in zip(together[:-1].tolist(), together[1:].tolist(), strict=True):
            for sign in (1.0, -1.0):
                if torch.allclose(rate[:, i], sign * rate[:, j], rtol=1e-9, atol=1e-12):
                    # of unit gradient in the two coordinates; each takes part in two differences at most
                    length = 1 / math.hypot(1 / float(p[i]), 1 / float(p[j]))
                    angle = x[:, i] / float(p[i]) - sign * x[:, j] / float(p[j])
                    length /= math.sqrt(2)
                    columns += _circle((length * angle)[:, None], x.new_tensor([length]))
                    break
        return torch.cat(columns, 1)

    def zero_modes(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B Z D"]:
        return self.directions.to(x).expand(len(x), -1, -1)

    def random_image(self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """Each periodic coordinate shifted by up to two periods, and everything along the directions."""
        u = random.uniform(key, self.ndim, x.dtype)
        p = torch.where(self.is_periodic, self.periods, 0.0).to(x)
        x = x + p * ((5 * u).floor() - 2)
        if not len(self.directions):
            return x
        c = random.normal(random.fold(key, 1), len(self.directions), x.dtype)
        return x + c @ self.directions.to(x)


def _circle(x: Float[Tensor, "B K"], p: Float[Tensor, "K"]) -> list[Float[Tensor, "B K"]]:
    """Points on circles of circumference p."""
    radius = p / (2 * math.pi)
    return [radius * (x / radius).cos(), radius * (x / radius).sin()]


def _periods(periods, ndim: int) -> Float[Tensor, "D"]:
    if periods is None:
        return torch.full((ndim,), torch.inf, dtype=torch.float64)
    if not isinstance(periods, Tensor) and isinstance(periods, Sequence):
        periods = [math.inf if value is None else float(value) for value in periods]
    values = torch.as_tensor(periods, dtype=torch.float64).detach().cpu()
    if values.ndim == 0:
        values = values.expand(ndim)
    if values.shape != (ndim,):
        raise PotentialError(
            f"periods has shape {list(values.shape)} for {ndim} coordinates: give one period for each (None where "
            "there is none), or one number for all"
        )
    if bool((values < 0).any() | values.isnan().any()):
        raise PotentialError("periods must be positive: give None where a coordinate has none")
    return torch.where(values == 0, torch.inf, values)


def _directions(directions, ndim: int) -> Float[Tensor, "Z D"]:
    if directions is None:
        return torch.zeros(0, ndim, dtype=torch.float64)
    v = torch.as_tensor(directions, dtype=torch.float64).detach().cpu()
    v = v[None] if v.ndim == 1 else v
    if v.ndim != 2 or v.shape[1] != ndim:
        raise PotentialError(f"directions has shape {list(v.shape)}: give vectors of {ndim} coordinates")
    basis = _orthonormal(v)
    if len(basis) != len(v):
        raise PotentialError("directions depend on each other, or are zero or not finite: give independent ones")
    return basis


def _orthonormal(v: Float[Tensor, "Z K"]) -> Float[Tensor, "Y K"]:
    """An orthonormal basis of the span of the rows."""
    if v.numel() == 0 or not bool(torch.isfinite(v).all()):
        return v[:0]
    _, size, basis = torch.linalg.svd(v, full_matrices=False)
    return basis[size > 1e-9 * size.max().clamp(min=1e-300)]


def _echelon(v: Float[Tensor, "Z D"]) -> Float[Tensor, "Z D"]:
    """Reduced row echelon form: each row alone has something at its first coordinate."""
    v = v.clone()
    column = 0
    for i in range(len(v)):
        while float(v[i:, column].abs().max()) < 1e-9:
            column += 1
        best = i + int(v[i:, column].abs().argmax())
        v[[i, best]] = v[[best, i]]
        v[i] /= v[i, column].clone()
        others = torch.arange(len(v)) != i
        v[others] -= v[others, column : column + 1] * v[i]
        column += 1
    return v
