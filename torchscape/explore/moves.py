"""Trial moves of basin-hopping: where a walker jumps before its next quench."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import torch

from torchscape import random
from torchscape.errors import OptionError, TorchscapeError
from torchscape.potentials.base import Potential
from torchscape.types import Float, Int, Tensor
from torchscape.validation import NOT_NEGATIVE, check_fields

__all__ = ["Gaussian", "Mixture", "Move", "PerLayer", "Restart", "Uniform"]


@runtime_checkable
class Move(Protocol):
    """A random displacement. ``step`` is the walker's own adapted step size, in units of ``length_scale``."""

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        """The point to quench from, for each walker; ``key`` is its random key for this hop."""
        ...


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """x + step N(0, 1) in every coordinate.

    Example:
        >>> from torchscape.potentials.base import Potential
        >>> u = Potential(); u.ndim = 2
        >>> x = torch.zeros(3, 2, dtype=torch.float64)
        >>> Gaussian()(u, x, torch.ones(3).double(), random.fold(0, torch.arange(3))).shape
        torch.Size([3, 2])
    """

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        width = step * potential.length_scale
        return x + width[:, None] * random.normal(key, x.shape[1], x.dtype)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """x + step U(-1, 1) in every coordinate: the field's usual Cartesian move (Wales & Doye 1997,
    doi 10.1021/jp970984n)."""

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        width = step * potential.length_scale
        return x + width[:, None] * (2 * random.uniform(key, x.shape[1], x.dtype) - 1)


@dataclasses.dataclass(frozen=True)
class PerLayer:
    """Gaussian moves in proportion to each parameter tensor's own size: step rms(W_layer) N(0, 1).

    Layers of a network live on different scales; a move that is large for one is nothing to another. Tensors
    that are all but zero move by ``floor`` times the step.
    """

    floor: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, floor=NOT_NEGATIVE)

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        layout = getattr(potential, "layout", None)
        if layout is None:
            raise TorchscapeError(
                "PerLayer moves need the parameter tensors of a ModulePotential; use Gaussian() here"
            )
        noise = random.normal(key, x.shape[1], x.dtype)
        scale = torch.empty_like(x)
        ends = [*layout.offsets[1:], layout.ndim]
        for start, end in zip(layout.offsets, ends, strict=True):
            scale[:, start:end] = x[:, start:end].pow(2).mean(1, keepdim=True).sqrt().clamp(min=self.floor)
        return x + step[:, None] * scale * noise


@dataclasses.dataclass(frozen=True)
class Restart:
    """Forget where the walker was: a fresh start from ``potential.sample`` (a module's own initialiser)."""

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        return potential.sample_by_seed(key & 0x7FFFFFFF)


@dataclasses.dataclass(frozen=True)
class Mixture:
    """One of several moves at each hop, by weight: ``Mixture(((0.9, Gaussian()), (0.1, Restart())))``.

    A walker has a step size for each of them, which adapts to how often that move is accepted.
    """

    parts: tuple[tuple[float, Move], ...]

    def __post_init__(self) -> None:
        weights = [weight for weight, _ in self.parts]
        NOT_NEGATIVE.or_several.check("Mixture", weights=weights)
        if not sum(weights) > 0:
            raise OptionError(f"Mixture: weights={weights}; give one move at least a positive weight")

    def choice(self, key: Int[Tensor, "B"]) -> Int[Tensor, "B"]:
        """Which of the moves each key chooses."""
        weights = torch.tensor([w for w, _ in self.parts], dtype=torch.float64, device=key.device)
        edges = (weights / weights.sum()).cumsum(0)
        chosen = torch.searchsorted(edges, random.uniform(random.fold(key, 1), 1)[:, 0].contiguous())
        return chosen.clamp(max=len(self.parts) - 1)

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        chosen, result = self.choice(key), x.clone()
        for which, (_, move) in enumerate(self.parts):
            rows = torch.nonzero(chosen == which)[:, 0]
            if len(rows):
                result[rows] = move(potential, x[rows], step[rows], random.fold(key[rows], 2))
        return result
