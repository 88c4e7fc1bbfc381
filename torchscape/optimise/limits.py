"""What a step of a minimiser is held to: numbers that follow from the potential and the minimiser."""

from __future__ import annotations

import dataclasses

from torchscape.optimise.search import Armijo
from torchscape.potentials.bounds import Bounds

__all__ = ["FALLS", "Limits"]

FALLS = 200  # ``n_short`` from which on the cap of a step doubles with each: an endless slope


@dataclasses.dataclass(frozen=True)
class Limits:
    """Lengths are those of the coordinates, gradients in units of the potential's ``energy_scale``.

    Attributes:
        search: how far along a direction.
        tol: RMS gradient that counts as converged.
        longest: step.
        furthest: coordinate, beyond which a row has run off.
        max_evaluations, max_idle: counts, after which a row has ended.
        bounds: the box, if there is one.
    """

    search: Armijo
    tol: float
    longest: float
    furthest: float
    max_evaluations: int
    max_idle: int
    bounds: Bounds | None = None
