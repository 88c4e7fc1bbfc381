"""Who does what a verification costs: here, or workers among whom its rows are shared out."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.characterisation import characterise_with_modes
from torchscape.saddles.downhill_paths import Descent, ImplicitDescent, Quench, descend
from torchscape.saddles.eigenvector_following import Follow, Followed, Uphill, pursue
from torchscape.saddles.signs import signs
from torchscape.types import Float, Tensor

__all__ = ["HERE", "Here", "Labour"]


@runtime_checkable
class Labour(Protocol):
    """The functions of rows that a verification spends its time in. Rows do not notice each other."""

    def look(
        self, potential: Potential, points: StationaryPoints, *, log_det: bool, first: int
    ) -> tuple[StationaryPoints, Float[Tensor, "B D"]]:
        """As :func:`~torchscape.saddles.characterisation.characterise_with_modes`."""

    def sign(
        self, potential: Potential, points: StationaryPoints, modes: Float[Tensor, "B D"] | None
    ) -> tuple[StationaryPoints, Float[Tensor, "B D"]]:
        """As :func:`~torchscape.saddles.signs.signs`."""

    def descend(
        self, potential: Potential, starts: Float[Tensor, "B D"], options: Descent | ImplicitDescent | Quench
    ) -> StationaryPoints:
        """As :func:`~torchscape.saddles.descend`."""

    def pursue(self, potential: Potential, starts: Uphill, options: Follow) -> Followed:
        """As :func:`~torchscape.saddles.follow`, without a look at what it ends in."""


@dataclasses.dataclass(frozen=True)
class Here:
    """In this process, all rows in one batch."""

    def look(
        self, potential: Potential, points: StationaryPoints, *, log_det: bool, first: int
    ) -> tuple[StationaryPoints, Float[Tensor, "B D"]]:
        return characterise_with_modes(potential, points, log_det=log_det, first=first)

    def sign(
        self, potential: Potential, points: StationaryPoints, modes: Float[Tensor, "B D"] | None
    ) -> tuple[StationaryPoints, Float[Tensor, "B D"]]:
        return signs(potential, points, modes)

    def descend(
        self, potential: Potential, starts: Float[Tensor, "B D"], options: Descent | ImplicitDescent | Quench
    ) -> StationaryPoints:
        return descend(potential, starts, options=options)

    def pursue(self, potential: Potential, starts: Uphill, options: Follow) -> Followed:
        return pursue(potential, starts.x, starts.direction, options)


HERE = Here()
