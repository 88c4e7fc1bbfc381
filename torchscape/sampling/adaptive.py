"""Adaptive Langevin dynamics: a thermostat that finds out for itself how noisy the gradients are."""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random
from torchscape.potentials.base import Potential
from torchscape.sampling.chains import Chains, Sampler, reflect
from torchscape.types import Float, Tensor
from torchscape.validation import POSITIVE, check_fields

__all__ = ["AdaptiveLangevin"]


@dataclasses.dataclass(frozen=True)
class AdaptiveLangevin(Sampler):
    """Langevin dynamics whose friction xi is driven until the kinetic temperature is right (Nose-Hoover type):

    dx = p dt,   dp = -grad U dt - xi p dt + sigma dW,   dxi = (p.p - D T) / mu dt,   sigma^2 = 2 gamma T.

    Gradient noise of unknown but constant variance heats; xi rises by as much as it takes to carry that heat away,
    and the positions keep their distribution. Without such noise xi is normal with mean gamma and variance T / mu.
    The step is the symmetric splitting B A D O D A B, D being the thermostat. ``Chains.memory`` is xi.

    References: A. Jones and B. Leimkuhler, J. Chem. Phys. 135, 084125 (2011), doi 10.1063/1.3626941;
    B. Leimkuhler and X. Shang, SIAM J. Sci. Comput. 38, A712 (2016), doi 10.1137/15M102318X.

    Attributes:
        step_size: h.
        friction: gamma, of the noise that is added.
        inertia: mu, the thermostat's; None for D. Heavier is slower, and disturbs less.

    Raises:
        TorchscapeError: unless all are positive.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> sampler = AdaptiveLangevin(step_size=0.1)
        >>> state = sampler.init(Quadratic([1.0]), torch.zeros(2, 1).double())
        >>> sampler.step(Quadratic([1.0]), state).memory.shape
        torch.Size([2])
    """

    step_size: float
    friction: float = 1.0
    inertia: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, step_size=POSITIVE, friction=POSITIVE, inertia=POSITIVE.or_none)

    def fresh(self, potential: Potential, state: Chains) -> Float[Tensor, "B"]:
        return torch.full_like(state.energy, self.friction)

    def step(self, potential: Potential, state: Chains) -> Chains:
        h = self.step_size
        x, p = state.x, state.p.sub(state.grad, alpha=h / 2)
        x, p = reflect(potential.bounds, x.add(p, alpha=h / 2), p)
        xi = self._driven(state.memory, p, state.temperature)
        noise = random.normal(random.fold(state.key, state.n_steps), potential.ndim, x.dtype)
        p = self._thermostatted(p, xi[:, None], state.temperature, noise)
        xi = self._driven(xi, p, state.temperature)
        x, p = reflect(potential.bounds, x.add(p, alpha=h / 2), p)
        energy, grad = potential.energy_and_grad(x)
        return self.advanced(state, 1, x=x, p=p.sub(grad, alpha=h / 2), energy=energy, grad=grad, memory=xi)

    def _driven(
        self, xi: Float[Tensor, "B"], p: Float[Tensor, "B D"], temperature: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        """D: half a step of xi."""
        mu = p.shape[1] if self.inertia is None else self.inertia
        return xi + self.step_size / (2 * mu) * (p.square().sum(1) - p.shape[1] * temperature)

    def _thermostatted(
        self,
        p: Float[Tensor, "B D"],
        rate: Float[Tensor, "B R"],
        temperature: Float[Tensor, "B"],
        noise: Float[Tensor, "B D"],
    ) -> Float[Tensor, "B D"]:
        """O: exact for any friction, negative ones too; (1 - exp(-2 rate h)) / (2 rate) is h where it vanishes.

        One rate for each chain (R = 1), or one for each coordinate (R = D)."""
        h = self.step_size
        small = rate.abs() * h < torch.finfo(rate.dtype).eps
        width = torch.where(small, h, -torch.expm1(-2 * rate * h) / torch.where(small, 1.0, 2 * rate))
        scale = (2 * self.friction * temperature[:, None] * width).sqrt()
        return p * torch.exp(-rate * h) + scale * noise
