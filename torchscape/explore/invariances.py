"""Undeclared shifts that leave U unchanged: guessed from the minima, tried on U itself, and said."""

from __future__ import annotations

import math
from typing import Any

import torch

from torchscape.landscape import Landscape
from torchscape.potentials.base import Potential
from torchscape.saddles.families import shared_directions
from torchscape.symmetry.base import Symmetry
from torchscape.symmetry.translations import Translations
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["find_invariances"]

_MOST_MINIMA = 96  # whose differences are looked at
_MOST_COORDINATES = 500
_PROBES = 8
_USUAL = (2 * math.pi, math.pi, 4 * math.pi, 1.0, 2.0, 180.0, 360.0)


def find_invariances(landscape: Landscape, potential: Potential) -> dict[str, Any]:
    """Directions along which U is constant, and periods of single coordinates, that are not declared.

    Looked for where minima have flat directions or share their energy, and only where
    :class:`~torchscape.symmetry.Translations` can declare what is found. Candidates are directions that are flat
    at every minimum, differences of two minima that are shifts of one coordinate (flat directions aside), and the
    usual periods, 2 pi first. What counts is that U does not change when random points are shifted.

    Returns:
        ``directions`` [Z][D], and ``periods``: one for each coordinate, None where none was found. Empty if there
        is nothing to say. Also stored in the landscape, for :meth:`torchscape.Landscape.summary`.
    """
    found: dict[str, Any] = {}
    if type(potential.symmetry) in (Symmetry, Translations) and potential.ndim <= _MOST_COORDINATES:
        found = _find(landscape, potential)
    if found or landscape.load_state("invariances"):
        landscape.save_state("invariances", found)
    return found


def _find(landscape: Landscape, potential: Potential) -> dict[str, Any]:
    ids = landscape.minimum_ids()
    flat = landscape.flat_directions(ids)
    energy = landscape.minimum_energies(ids)
    window = landscape.matching.window(energy, potential.dtype)
    alike = bool((energy.diff() <= window[1:]).any()) if len(ids) > 1 else False
    if not alike and not bool((flat > 0).any()):
        return {}
    trial = _Trial(potential)
    directions = _directions(landscape, potential, trial, ids[flat > 0])
    members = landscape.members(ids[flat > 0], _MOST_MINIMA)[:, 0]
    some = torch.cat([ids[flat == 0][:_MOST_MINIMA], members]).sort().values[:_MOST_MINIMA]
    periods = _periods(landscape, potential, trial, some, directions)
    found: dict[str, Any] = {}
    if len(directions):
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        found["directions"] = (directions / largest).add(0.0).tolist()
    if any(period is not None for period in periods):
        found["periods"] = periods
    return found


class _Trial:
    """U at random points, and whether shifts change it."""

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        self.x = potential.sample(_PROBES, seed=0x51)
        self.here = potential.energy(self.x).detach()
        self.scale = self.here.abs().max() + (self.here.max() - self.here.min())

    def keeps(self, shifts: Float[Tensor, "S D"]) -> Bool[Tensor, "S"]:
        """Whether U is the same at all points: to the digits that a period measured at minima has."""
        if not len(shifts):
            return torch.zeros(0, dtype=torch.bool)
        rows = (self.x + shifts.to(self.x)[:, None]).flatten(0, 1)
        there = self.potential.energy(rows).detach().reshape(len(shifts), -1)
        same: Tensor = (there - self.here).abs() <= torch.finfo(self.x.dtype).eps ** 0.4 * self.scale
        return same.all(1).cpu()

    def free(self) -> Bool[Tensor, "D"]:
        """Coordinates without walls."""
        bounds = self.potential.bounds
        if bounds is None:
            return torch.ones(self.potential.ndim, dtype=torch.bool)
        return ~(torch.isfinite(bounds.lower) | torch.isfinite(bounds.upper)).cpu()


def _directions(
    landscape: Landscape, potential: Potential, trial: _Trial, families: Int[Tensor, "K"]
) -> Float[Tensor, "Z D"]:
    """Directions that are flat at every family and that U does not depend on anywhere, declared ones left out."""
    none = torch.zeros(0, potential.ndim, dtype=torch.float64)
    if not len(families):
        return none
    points = landscape.minima(families[:_PROBES])
    v = shared_directions(potential, points.x, points.n_zero).to("cpu", torch.float64)
    known = potential.symmetry.zero_modes(points.x[:1])[0].to(v)
    v = v - (v @ known.T) @ known
    v = v[v.norm(dim=1) > 0.5]
    v = v[(v[:, ~trial.free()].abs() < 1e-6).all(1)]
    length = torch.tensor([0.31, -1.7]) * potential.length_scale
    kept = torch.stack([trial.keeps(t * v) for t in length.tolist()]).all(0) if len(v) else none.any(1)
    return torch.where(v.abs() < 1e-7, 0.0, v)[kept] + 0.0


def _periods(
    landscape: Landscape,
    potential: Potential,
    trial: _Trial,
    ids: Int[Tensor, "K"],
    directions: Float[Tensor, "Z D"],
) -> list[float | None]:
    """The smallest shift of each coordinate that leaves U unchanged; None where none was found."""
    d = potential.ndim
    size = _shifts_of_one(landscape, potential, ids, directions)
    usual = torch.tensor(_USUAL, dtype=torch.float64)
    # A period of one coordinate is tried on all; a multiple may have been met first.
    measured = (size.unique()[:8, None] / torch.tensor([1.0, 2.0, 3.0])).flatten()
    near = (measured[:, None] - usual).abs() <= 1e-5 * usual
    measured = torch.where(near.any(1), usual[near.to(torch.uint8).argmax(1)], measured)
    sizes = torch.cat([usual, measured]).unique()
    known = potential.symmetry.is_periodic if isinstance(potential.symmetry, Translations) else None
    open_ = trial.free() if known is None else trial.free() & ~known
    where = open_.nonzero()[:, 0]
    shifts = torch.zeros(len(sizes), len(where), d, dtype=torch.float64)
    shifts[:, torch.arange(len(where)), where] = sizes[:, None]
    keeps = trial.keeps(shifts.flatten(0, 1)).reshape(len(sizes), len(where))
    # What holds for any shift is a coordinate that U does not depend on.
    idle = trial.keeps(0.3779 * shifts[-1])
    smallest = torch.where(keeps, sizes[:, None], torch.inf).amin(0).masked_fill(idle, torch.inf)
    periods: list[float | None] = [None] * d
    for i, period in zip(where.tolist(), smallest.tolist(), strict=True):
        periods[i] = period if math.isfinite(period) else None
    return periods


def _shifts_of_one(
    landscape: Landscape, potential: Potential, ids: Int[Tensor, "K"], directions: Float[Tensor, "Z D"]
) -> Float[Tensor, "C"]:
    """Lengths of differences of minima of equal energy that are shifts of one coordinate, ``directions`` aside."""
    if len(ids) < 2:
        return torch.zeros(0, dtype=torch.float64)
    points = landscape.minima(ids)
    x, energy = points.x.to("cpu", torch.float64), points.energy.cpu()
    i, j = torch.triu_indices(len(ids), len(ids), 1)
    same = (energy[i] - energy[j]).abs() <= landscape.matching.window(energy[i], potential.dtype)
    apart = x[i[same]] - x[j[same]]
    across = torch.eye(potential.ndim, dtype=torch.float64) - directions.T @ directions
    apart, norm = apart @ across, across.square().sum(1)
    size = apart @ across / norm.clamp(min=1e-12)
    rest = (apart.square().sum(1)[:, None] - size.square() * norm).clamp(min=0).sqrt()
    radius = landscape.matching.distance_tol * potential.length_scale
    one = (rest <= 1e-4 * size.abs()) & (size.abs() > 2 * radius) & (norm > 1e-6)
    return size[one].abs()
