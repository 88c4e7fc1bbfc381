"""CCAdL: adaptive Langevin dynamics that measures the noise of its gradients and takes away what it heats."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from torchscape import random
from torchscape.errors import TorchscapeError
from torchscape.potentials.base import Potential
from torchscape.sampling.adaptive import AdaptiveLangevin
from torchscape.sampling.chains import Chains, reflect
from torchscape.types import Float, Int, Tensor
from torchscape.validation import Range, check_fields

__all__ = ["CCAdL", "NoiseMemory", "SplitBatch"]


@dataclasses.dataclass(frozen=True)
class NoiseMemory:
    """What CCAdL remembers.

    Attributes:
        xi: the thermostat.
        variance: of the noise in each component of the gradient, estimated.
    """

    xi: Float[Tensor, "B"]
    variance: Float[Tensor, "B D"]


@dataclasses.dataclass(frozen=True)
class CCAdL(AdaptiveLangevin):
    """Covariance-controlled adaptive Langevin dynamics:

    dx = p dt,   dp = -(grad U + noise) dt - h Sigma(x) / (2 T) p dt - xi p dt + sqrt(2 gamma T) dW,
    dxi = (p.p - D T) / mu dt.

    Gradients of a minibatch carry noise of covariance Sigma(x), which heats each coordinate by h Sigma_ii / 2, at
    some places more than at others. The thermostat of :class:`AdaptiveLangevin` sees only the sum over all
    coordinates, and is right only where Sigma is the same multiple of the unit matrix everywhere; the friction
    h Sigma / (2 T) takes the heat away where it comes in, and xi what is left.

    Sigma's diagonal is estimated at every step by the gradients of the ``parts`` of the step's minibatch, whose
    mean is the gradient that is used: Sigma_ii is their variance over ``parts``, unbiased for samples drawn with
    replacement. This costs no gradient of any sample more. The estimates are averaged over about the last
    ``window`` steps; 1 follows Sigma from place to place, and its scatter averages out over steps, while
    ``window=float("inf")`` is the running mean of the paper. Without minibatches there is no noise, and this is
    :class:`AdaptiveLangevin`.

    One step must not be all noise: h^2 Sigma_ii / T should stay below about 1. Above, take smaller steps or larger
    minibatches; no friction mends that.

    Reference: X. Shang, Z. Zhu, B. Leimkuhler and A. J. Storkey, *Covariance-controlled adaptive Langevin
    thermostat for large-scale Bayesian sampling*, NIPS 28 (2015), with a running mean over all steps.

    Attributes:
        step_size, friction, inertia: h, gamma and mu of :class:`AdaptiveLangevin`.
        parts: of a minibatch, two or more; the batch size must be a multiple.
        window: steps over which the variance is averaged, 1 or more.

    Raises:
        TorchscapeError: unless all are positive, for fewer than two parts, or a batch that cannot be split evenly.

    Example:
        >>> from torchscape.potentials import ModulePotential
        >>> from torchscape.sampling import sample
        >>> data = torch.ones(8, 1), torch.arange(8.0)[:, None]
        >>> u = ModulePotential(torch.nn.Linear(1, 1, bias=False), data, torch.nn.functional.mse_loss)
        >>> state = sample(u, u.sample(3), sampler=CCAdL(0.1), steps=5, batch_size=4).state
        >>> state.memory.variance.shape
        torch.Size([3, 1])
    """

    parts: int = 4
    window: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(self, parts=Range(low=2, whole=True), window=Range(low=1.0, infinite=True))

    def on_batch(self, potential: Any, indices: Int[Tensor, "n"]) -> Potential:
        return SplitBatch(potential, indices, self.parts)

    def fresh(self, potential: Potential, state: Chains) -> NoiseMemory:  # type: ignore[override]
        return NoiseMemory(torch.full_like(state.energy, self.friction), torch.zeros_like(state.x))

    def step(self, potential: Potential, state: Chains) -> Chains:
        h, t, memory = self.step_size, state.temperature, state.memory
        x, p = state.x, state.p.sub(state.grad, alpha=h / 2)
        x, p = reflect(potential.bounds, x.add(p, alpha=h / 2), p)
        xi = self._driven(memory.xi, p, t)
        noise = random.normal(random.fold(state.key, state.n_steps), potential.ndim, x.dtype)
        rate = xi[:, None] + h / 2 * memory.variance / t[:, None]
        p = self._thermostatted(p, rate, t, noise)
        xi = self._driven(xi, p, t)
        x, p = reflect(potential.bounds, x.add(p, alpha=h / 2), p)
        if isinstance(potential, SplitBatch):
            energy, grad, now = potential.with_variance(x)
            share = max(1.0 / (state.n_steps + 1), 1.0 / self.window)
            variance = torch.lerp(memory.variance, now, share)
        else:
            (energy, grad), variance = potential.energy_and_grad(x), torch.zeros_like(x)
        return self.advanced(
            state, 1, x=x, p=p.sub(grad, alpha=h / 2), energy=energy, grad=grad, memory=NoiseMemory(xi, variance)
        )


class SplitBatch(Potential):
    """A minibatch in equal parts, the mean over which is its energy.

    Args:
        potential: with ``on(indices)``.
        indices: of the samples, drawn with replacement.
        parts: how many.

    Raises:
        TorchscapeError: if the parts would not be equal.

    Example:
        >>> from torchscape.potentials import ModulePotential
        >>> data = torch.ones(4, 1), torch.tensor([[0.0], [2.0], [4.0], [6.0]])
        >>> u = ModulePotential(torch.nn.Linear(1, 1, bias=False), data, torch.nn.functional.mse_loss)
        >>> batch = SplitBatch(u, torch.arange(4), 2)
        >>> batch.with_variance(torch.zeros(1, 1).double())[2].item()  # gradients -2 and -10 of the halves
        16.0
    """

    def __init__(self, potential: Any, indices: Int[Tensor, "n"], parts: int) -> None:
        if len(indices) % parts or not len(indices):
            raise TorchscapeError(
                f"a minibatch of {len(indices)} cannot be split into {parts} equal parts: "
                f"take a batch_size that is a multiple of {parts}, or other parts"
            )
        self.parts = [potential.on(part) for part in indices.chunk(parts)]
        self.ndim, self.dtype, self.device = potential.ndim, potential.dtype, potential.device
        self.bounds, self.length_scale = potential.bounds, potential.length_scale

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return torch.stack([part.energy(x) for part in self.parts]).mean(0)

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        return self.with_variance(x)[:2]

    def with_variance(
        self, x: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """Energy, gradient, and the variance of each component of the gradient over draws of minibatches."""
        energies, grads = zip(*(part.energy_and_grad(x) for part in self.parts), strict=True)
        each = torch.stack(grads)
        return torch.stack(energies).mean(0), each.mean(0), each.var(0) / len(each)
