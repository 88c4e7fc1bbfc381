"""Hamiltonian Monte Carlo: jittered leapfrog trajectories, a Metropolis test, step sizes by dual averaging."""

from __future__ import annotations

import dataclasses
import math

import torch

from torchscape import random
from torchscape.potentials.base import Potential
from torchscape.sampling.chains import Chains, Sampler, reflect
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, PART, POSITIVE, Range, check_fields

__all__ = ["HMC"]

_LENGTH, _MOMENTA, _TEST = 0, 1, 2  # what a random number is for


@dataclasses.dataclass(frozen=True)
class _StepSize:
    """Dual averaging of every chain's ln h (Hoffman and Gelman 2014, section 3.2)."""

    log_h: Float[Tensor, "B"]
    log_mean: Float[Tensor, "B"]
    shortfall: Float[Tensor, "B"]
    n: Float[Tensor, "B"]
    adapts: bool


@dataclasses.dataclass(frozen=True)
class HMC(Sampler):
    """Hamiltonian Monte Carlo: p ~ N(0, T), L leapfrog steps, accepted with min(1, exp(-(H' - H) / T)).

    Exact whatever the step size. Every chain adapts its own step size during burn-in towards the acceptance
    ``target``, and keeps it from then on. h and L are drawn anew for every trajectory, so that no period of the
    motion can trap a chain. L is the same for all chains (it follows from the seed and the step): no chain waits.

    References: S. Duane et al., Phys. Lett. B 195, 216 (1987), doi 10.1016/0370-2693(87)91197-X; R. M. Neal,
    *MCMC using Hamiltonian dynamics* (2011), doi 10.1201/b10905-6; M. D. Hoffman and A. Gelman, J. Mach. Learn.
    Res. 15, 1593 (2014).

    Attributes:
        step_size: h, the first guess where it adapts.
        n_leapfrog: L at most.
        jitter: h is drawn from h (1 - jitter .. 1 + jitter), L from L (1 - jitter) .. L; 0 for neither.
        target: acceptance to adapt to, or None for a fixed step size.

    Raises:
        TorchscapeError: on settings outside their ranges.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> u, sampler = Quadratic([1.0, 100.0]), HMC(step_size=0.15)
        >>> state = sampler.init(u, torch.zeros(500, 2).double())
        >>> for _ in range(30):
        ...     state = sampler.step(u, state)
        >>> 0.5 < state.acceptance.mean().item() <= 1
        True
    """

    step_size: float = 0.1
    n_leapfrog: int = 10
    jitter: float = 0.3
    target: float | None = 0.8

    is_exact = True

    def __post_init__(self) -> None:
        check_fields(
            self,
            step_size=POSITIVE,
            n_leapfrog=COUNT,
            jitter=Range(low=0.0, high=1.0, open_high=True),
            target=PART.or_none,
        )

    def fresh(self, potential: Potential, state: Chains) -> _StepSize:
        log_h = torch.full_like(state.energy, math.log(self.step_size))
        zero = torch.zeros_like(log_h)
        return _StepSize(log_h, log_h.clone(), zero, zero.clone(), adapts=self.target is not None)

    def settled(self, state: Chains) -> Chains:
        size: _StepSize = state.memory
        if not size.adapts:
            return state
        return dataclasses.replace(state, memory=dataclasses.replace(size, log_h=size.log_mean, adapts=False))

    def step(self, potential: Potential, state: Chains) -> Chains:
        """One trajectory of every chain; a trajectory that leaves the finite numbers is a rejection."""
        key = random.fold(state.key, state.n_steps)
        p = self.momenta(state.temperature, random.fold(key, _MOMENTA), potential.ndim)
        draw = random.uniform(random.fold(key, _TEST), 2, state.x.dtype)
        h = state.memory.log_h.exp() * (1 + self.jitter * (2 * draw[:, 1] - 1))
        n = self._length(state)
        x, moved, energy, grad = leapfrog(potential, state.x, p, state.grad, h, n)
        change = (energy - state.energy) + 0.5 * (moved.square() - p.square()).sum(1)
        acceptance = torch.nan_to_num(torch.exp(-change / state.temperature).clamp(max=1.0), nan=0.0)
        taken = draw[:, 0] < acceptance
        take = taken[:, None]
        return self.advanced(
            state,
            n,
            x=torch.where(take, x, state.x),
            p=torch.where(take, moved, -p),
            energy=torch.where(taken, energy, state.energy),
            grad=torch.where(take, grad, state.grad),
            acceptance=acceptance,
            memory=self._adapted(state.memory, acceptance),
        )

    def _length(self, state: Chains) -> int:
        u = float(random.uniform(random.fold(state.seed, state.n_steps, _LENGTH).reshape(1), 1))
        shortest = math.ceil(self.n_leapfrog * (1 - self.jitter))
        return shortest + int(u * (self.n_leapfrog - shortest + 1))

    def _adapted(self, size: _StepSize, acceptance: Float[Tensor, "B"]) -> _StepSize:
        """Hoffman and Gelman's algorithm 5 with their gamma = 0.05, t_0 = 10, kappa = 0.75."""
        if not size.adapts or self.target is None:
            return size
        n = size.n + 1
        shortfall = size.shortfall + (self.target - acceptance - size.shortfall) / (n + 10)
        log_h = math.log(10 * self.step_size) - n.sqrt() / 0.05 * shortfall
        weight = n**-0.75
        return dataclasses.replace(
            size, log_h=log_h, log_mean=weight * log_h + (1 - weight) * size.log_mean, shortfall=shortfall, n=n
        )


def leapfrog(
    potential: Potential,
    x: Float[Tensor, "B D"],
    p: Float[Tensor, "B D"],
    grad: Float[Tensor, "B D"],
    h: Float[Tensor, "B"],
    n: int,
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"], Float[Tensor, "B"], Float[Tensor, "B D"]]:
    """``n`` > 0 leapfrog steps of size ``h``: positions, momenta, energies, gradients at the end."""
    step = h[:, None]
    p = p - 0.5 * step * grad
    for k in range(n):
        x, p = reflect(potential.bounds, torch.addcmul(x, step, p), p)
        energy, grad = potential.energy_and_grad(x)
        p = torch.addcmul(p, step, grad, value=-1.0 if k < n - 1 else -0.5)
    return x, p, energy, grad
