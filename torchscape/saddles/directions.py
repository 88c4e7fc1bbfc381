"""Where single-ended searches start: unit displacements of a minimum, and their lengths."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import torch

from torchscape import random
from torchscape.numerics import DENSE_STEPS
from torchscape.potentials.base import Potential
from torchscape.saddles.decomposition import dense_spectrum, rows_within
from torchscape.saddles.eigen import lowest_eigenpairs
from torchscape.saddles.projector import Projector
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, POSITIVE, check_fields

__all__ = ["Directions", "ModesAndRandom", "RandomDirections", "SoftModes"]


@runtime_checkable
class Directions(Protocol):
    """How the climbs from a start begin."""

    def directions(
        self, potential: Potential, x: Float[Tensor, "B D"], keys: Int[Tensor, "B"], number: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B K"]]:
        """K unit directions per start, without zero modes, and the displacement along each, in length scales.

        ``keys`` decide what is random; ``number`` counts the climbs from the same start before this one.
        """


@dataclasses.dataclass(frozen=True)
class RandomDirections:
    """Displace each start ``count`` times along random directions of length ``size`` length scales."""

    count: int = 1
    size: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, count=COUNT, size=POSITIVE)

    def directions(
        self, potential: Potential, x: Float[Tensor, "B D"], keys: Int[Tensor, "B"], number: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B K"]]:
        keys = random.fold(keys[:, None], torch.arange(self.count, device=x.device)).flatten()
        v = random.normal(keys, x.shape[1], x.dtype).reshape(len(x), self.count, x.shape[1])
        v = Projector.at(potential, x).apply(v)
        return v / v.norm(dim=2, keepdim=True), v.new_full(v.shape[:2], self.size)


@dataclasses.dataclass(frozen=True)
class SoftModes:
    """Climb from each start both ways along its ``count`` softest modes, after a first step of ``size``."""

    count: int = 2
    size: float = 0.3

    def __post_init__(self) -> None:
        check_fields(self, count=COUNT, size=POSITIVE)

    def directions(
        self, potential: Potential, x: Float[Tensor, "B D"], keys: Int[Tensor, "B"], number: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B K"]]:
        v = softest_modes(potential, x, self.count)
        v = torch.cat([v, -v], 1)
        return v, v.new_full(v.shape[:2], self.size)


@dataclasses.dataclass(frozen=True)
class ModesAndRandom:
    """One climb a time, by turns along a mode of the Hessian and along a random direction.

    The climbs number 0, 4, 8, ... of a start go up its softest, second softest, ... mode, those number 2, 6, 10,
    ... down it; the odd ones, and all once ``modes`` modes are done, begin at random. Stiff modes lead to high
    transition states that random directions meet once in hundreds of climbs, random directions to those that no
    mode points at.

    Attributes:
        modes: softest modes to climb along.
        mode_size, size: first steps along modes and random directions, in units of ``length_scale``.
    """

    modes: int = 50
    mode_size: float = 0.1
    size: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, modes=COUNT_OR_ZERO, mode_size=POSITIVE, size=POSITIVE)

    def directions(
        self, potential: Potential, x: Float[Tensor, "B D"], keys: Int[Tensor, "B"], number: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B K D"], Float[Tensor, "B K"]]:
        v, size = RandomDirections(1, self.size).directions(potential, x, keys, number)
        along = (number % 2 == 0) & (number // 4 < min(self.modes, x.shape[1]))
        rows = torch.nonzero(along)[:, 0]
        if len(rows):
            which = number[rows] // 4
            modes = softest_modes(potential, x[rows], int(which.max()) + 1)
            there = which < modes.shape[1]
            rows, mode = rows[there], modes[there, which[there]]
            # An eigenvector has no sign of its own: up is where its largest component is positive.
            up = mode.gather(1, mode.abs().argmax(1, keepdim=True)).sign()
            turn = 1.0 - number[rows, None] % 4
            v[rows, 0], size[rows, 0] = mode * up * turn.to(mode), self.mode_size
        return v, size


def softest_modes(potential: Potential, x: Float[Tensor, "B D"], count: int) -> Float[Tensor, "B K D"]:
    """The ``count`` softest modes at each point, or as many as the known zero modes leave."""
    projector = Projector.at(potential, x)
    n_zero = int(projector.n_removed(x)[0].max()) if len(x) else 0
    k = min(count, x.shape[1] - n_zero)
    if x.shape[1] > DENSE_STEPS:
        return lowest_eigenpairs(potential, x, k, tol=1e-4).vectors
    rows = torch.arange(len(x), device=x.device).split(rows_within(x.shape[1], x.dtype, x.device))
    return torch.cat([dense_spectrum(potential.hessian(x[r]), projector.take(r))[1][:, :k] for r in rows])
