"""How far along a direction: step cap and backtracking, one evaluation per call, every row on its own."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.types import Bool, Float, Tensor
from torchscape.validation import COUNT, PART, POSITIVE, check_fields

__all__ = ["Armijo"]


@dataclasses.dataclass(frozen=True)
class Armijo:
    """Backtracking with sufficient decrease, flattened into the main loop.

    A trial x + t d is accepted when U(x + t d) <= U(x) + c t g.d (Nocedal & Wright, eq. 3.4), or, where the
    energies differ by no more than their rounding error, when the slope says so (the approximate Wolfe
    condition of Hager & Zhang 2005, doi 10.1137/030601880). A rejected step shrinks to the minimiser of the
    cubic through both energies and slopes, kept within [shrink_min, shrink_max] of its length.

    Attributes:
        decrease: c, the fraction of the predicted decrease that is asked for.
        rise: rounding error of an energy as a power of machine epsilon, in units of max(1, |U|), where
            energies are in units of the potential's ``energy_scale``. More than a few
            epsilon: where a large constant cancels in U, the error is that of the constant.
        shrink_min, shrink_max: bounds of the shrink factor of one rejection.
        max_rejections: consecutive rejections after which the memory is dropped, and, with the memory
            already dropped, the row is declared stalled.
    """

    decrease: float = 1e-4
    rise: float = 2 / 3
    shrink_min: float = 0.1
    shrink_max: float = 0.5
    max_rejections: int = 10

    def __post_init__(self) -> None:
        check_fields(
            self,
            decrease=PART,
            rise=POSITIVE,
            shrink_min=PART,
            shrink_max=PART,
            max_rejections=COUNT,
        )

    def noise(self, energy: Float[Tensor, "B"], coarse: Bool[Tensor, "B"] | None = None) -> Float[Tensor, "B"]:
        """What two evaluations of one energy may differ by; of ``coarse`` ones, evaluations in float32."""
        rounding: float = torch.finfo(energy.dtype).eps ** self.rise
        noise = rounding * energy.abs().clamp(min=1.0)
        if coarse is None:
            return noise
        return torch.where(coarse, torch.finfo(torch.float32).eps ** self.rise / rounding * noise, noise)

    def accepts(
        self,
        energy: Float[Tensor, "B"],
        slope: Float[Tensor, "B"],
        new_energy: Float[Tensor, "B"],
        new_slope: Float[Tensor, "B"],
        coarse: Bool[Tensor, "B"] | None = None,
    ) -> Bool[Tensor, "B"]:
        """Whether each trial step is taken; ``slope`` is g.s for the trial step s, ``new_slope`` its end value.

        Energy and slope must be finite there: the caller asks. ``coarse`` energies are those of float32.
        """
        noise = self.noise(energy, coarse)
        decreased = new_energy <= energy + self.decrease * slope
        by_slope = (new_energy <= energy + noise) & (new_slope <= (2 * self.decrease - 1) * slope)
        return decreased | by_slope

    def shrink(
        self,
        energy: Float[Tensor, "B"],
        slope: Float[Tensor, "B"],
        new_energy: Float[Tensor, "B"],
        new_slope: Float[Tensor, "B"],
    ) -> Float[Tensor, "B"]:
        """Factor for a rejected step: minimiser of the cubic on [0, 1] (Nocedal & Wright, eq. 3.59)."""
        a = slope + new_slope - 3 * (new_energy - energy)
        root = torch.sqrt((a * a - slope * new_slope).clamp(min=0.0))
        factor = 1 - (new_slope + root - a) / (new_slope - slope + 2 * root)
        finite = (factor + new_energy).abs() < torch.inf  # false of NaN too
        return torch.where(finite, factor.clamp(self.shrink_min, self.shrink_max), self.shrink_min)
