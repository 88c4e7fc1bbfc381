"""How far a step may go, from what became of the last: the rules of trust radii and of step lengths."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["ErrorControl", "TrustRadius"]


@dataclasses.dataclass(frozen=True)
class TrustRadius:
    """The radius within which a model is believed, from how well it has predicted the last step.

    Attributes:
        largest: it grows no further.
        growth: factor after a good prediction by a step that used the radius up.
        used: part of the radius that such a step is longer than.
        poor: part of the length of a step that is left after a poor prediction, at most.
        refused: part that is left of a step that was not taken.
    """

    largest: float
    growth: float = 2.0
    used: float = 0.7
    poor: float = 0.5
    refused: float = 0.25

    def after(
        self,
        radius: Float[Tensor, "B"],
        length: Float[Tensor, "B"],
        *,
        good: Bool[Tensor, "B"],
        poor: Bool[Tensor, "B"],
        refused: Bool[Tensor, "B"],
        part: Float[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B"]:
        """The next radius after steps of the given lengths; elsewhere it stays.

        Args:
            radius: of the last step.
            length: of the last step.
            good, poor: rows whose step was predicted well, and badly, but taken.
            refused: rows whose step was not taken.
            part: what is left of a refused step in each row; None for :attr:`refused`.

        Example:
            >>> yes, no = torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)
            >>> one = torch.ones(1)
            >>> TrustRadius(1.5).after(one, one, good=yes, poor=no, refused=no).item()
            1.5
            >>> TrustRadius(1.5).after(one, 0.5 * one, good=no, poor=no, refused=yes).item()
            0.125
        """
        longer = good & (length > self.used * radius)
        new = torch.where(longer, (self.growth * radius).clamp(max=self.largest), radius)
        new = torch.where(poor, torch.minimum(radius, self.poor * length), new)
        left = torch.minimum(length, radius)
        return torch.where(refused, (self.refused if part is None else part) * left, new)


@dataclasses.dataclass(frozen=True)
class ErrorControl:
    """Lengths of steps whose error grows with a power of their length (Hairer, Norsett & Wanner, Solving Ordinary
    Differential Equations I, section II.4).

    Attributes:
        order: the power.
        least, most: bounds of the factor from one step to the next.
        refused: most of the factor after a step that was not taken.
        safety: aims at an error that much below the allowed one.
        floor: errors below this part of the allowed one count as that.
    """

    order: float
    least: float
    most: float
    refused: float = 0.5
    safety: float = 0.9
    floor: float = 1e-6

    def factor(
        self, error: Float[Tensor, "B"], allowed: float, order: Int[Tensor, "B"] | Float[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B"]:
        """How much longer a step may be than one with this error; ``order`` where it is another in each row.

        Example:
            >>> ErrorControl(3.0, 0.2, 2.0, safety=1.0).factor(torch.tensor([1.0, 8.0, 1e9, 0.0]), 1.0).tolist()
            [1.0, 0.5, 0.2..., 2.0]
        """
        power = 1 / (self.order if order is None else order)
        longer = self.safety * (allowed / error.clamp(min=self.floor * allowed)) ** power
        return longer.clamp(self.least, self.most)

    def after(
        self,
        radius: Float[Tensor, "B"],
        length: Float[Tensor, "B"],
        error: Float[Tensor, "B"],
        allowed: float,
        accepted: Bool[Tensor, "B"],
        largest: float,
    ) -> Float[Tensor, "B"]:
        """The longest next step, after steps of the given lengths and errors, of which some were accepted."""
        factor = self.factor(error, allowed)
        wanted = factor * length
        grown = torch.where(factor > 1, torch.maximum(radius, wanted), wanted)
        shrunk = torch.minimum(radius, length) * factor.clamp(max=self.refused)
        return torch.where(accepted, grown, shrunk).clamp(max=largest)
