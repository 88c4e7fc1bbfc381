"""Parallel tempering: copies of every chain up a ladder of temperatures, neighbours exchanging their finds."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.sampling.chains import Chains, Sampler, choose_rows
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE, check_fields

__all__ = ["Ladder", "ParallelTempering"]

_SWAP = -4  # what a random number is for


@brief
@dataclasses.dataclass(frozen=True)
class Ladder:
    """What parallel tempering remembers, row by row.

    Attributes:
        walker: the row in which the walker that is now in this row began.
        swap_acceptance: mean probability of the exchanges tried with the next rung; NaN on the last rung.
        n_tried: how many those were.
        inner: the memory of the sampler underneath.
    """

    walker: Int[Tensor, "B"]
    swap_acceptance: Float[Tensor, "B"]
    n_tried: Int[Tensor, "B"]
    inner: Any


@dataclasses.dataclass(frozen=True)
class ParallelTempering(Sampler):
    """Chains at temperatures T f_0, T f_1, ...; every few steps neighbouring rungs exchange their positions with
    probability min(1, exp((1/T_k - 1/T_(k+1)) (U_k - U_(k+1)))), even and odd pairs in turn.

    Row ``c * K + k`` is rung k of chain c, so B starts become B K rows. Momenta are scaled to their new
    temperature; step sizes and thermostats stay with the rung. The exchange is exact; what is sampled between
    exchanges has the bias of the ``sampler``, none for :class:`HMC`.

    References: R. H. Swendsen and J.-S. Wang, Phys. Rev. Lett. 57, 2607 (1986), doi 10.1103/PhysRevLett.57.2607;
    D. J. Earl and M. W. Deem, Phys. Chem. Chem. Phys. 7, 3910 (2005), doi 10.1039/B509983H.

    Attributes:
        sampler: what moves the chains at each rung.
        ladder: factors f_k of the temperature, ascending; 1 for the rung that is wanted.
        every: steps between exchanges.

    Raises:
        TorchscapeError: for a ladder that does not ascend, or a sampler whose energies belong to mid-step (ABOBA).

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> from torchscape.sampling import HMC, sample
        >>> tempering = ParallelTempering(HMC(0.5, 3), ladder=(1.0, 2.0, 4.0))
        >>> starts = torch.zeros(100, 1).double()
        >>> samples = sample(Quadratic([1.0]), starts, sampler=tempering, steps=20, burn_in=50)
        >>> samples.x.shape, tempering.rung(samples.x, 0).shape
        (torch.Size([20, 300, 1]), torch.Size([20, 100, 1]))
    """

    sampler: Sampler
    ladder: tuple[float, ...] = (1.0, 1.5, 2.25, 3.375)
    every: int = 1

    is_exact = True

    def __post_init__(self) -> None:
        if len(self.ladder) < 2 or any(a >= b for a, b in zip(self.ladder, self.ladder[1:], strict=False)):
            raise TorchscapeError(f"a ladder needs two or more ascending factors, not {self.ladder}")
        check_fields(self, ladder=POSITIVE.or_several, every=COUNT)
        if not self.sampler.is_evaluated:
            raise TorchscapeError(
                f"{type(self.sampler).__name__} ends a step away from its last energy: take BAOAB instead"
            )

    @property
    def has_momenta(self) -> bool:  # type: ignore[override]
        return self.sampler.has_momenta

    def rung(self, values: Float[Tensor, "K R *S"], k: int) -> Float[Tensor, "K B *S"]:
        """The rows of rung ``k`` of anything recorded, [steps, rows, ...]."""
        return values[:, k :: len(self.ladder)]

    def init(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        *,
        temperature: float | Float[Tensor, "B"] = 1.0,
        seed: int = 0,
        chains: Int[Tensor, "B"] | None = None,
    ) -> Chains:
        """Every start on all rungs of its own ladder."""
        n = len(self.ladder)
        ids = torch.arange(len(x)) if chains is None else chains
        factors = torch.tensor(self.ladder, dtype=potential.dtype, device=potential.device)
        t = torch.as_tensor(temperature, dtype=factors.dtype, device=factors.device).expand(len(x))
        state = self.sampler.init(
            potential,
            x.repeat_interleave(n, 0),
            temperature=(t[:, None] * factors).flatten(),
            seed=seed,
            chains=(ids[:, None] * n + torch.arange(n, device=ids.device)).flatten(),
        )
        rows = torch.arange(len(state), device=x.device)
        last = rows % n == n - 1
        acceptance = torch.where(last, torch.nan, torch.zeros_like(state.energy))
        return dataclasses.replace(state, memory=Ladder(rows, acceptance, torch.zeros_like(rows), state.memory))

    def settled(self, state: Chains) -> Chains:
        memory: Ladder = state.memory
        inner = self.sampler.settled(dataclasses.replace(state, memory=memory.inner))
        return dataclasses.replace(inner, memory=dataclasses.replace(memory, inner=inner.memory))

    def step(self, potential: Potential, state: Chains) -> Chains:
        memory: Ladder = state.memory
        moved = self.sampler.step(potential, dataclasses.replace(state, memory=memory.inner))
        moved = dataclasses.replace(moved, memory=dataclasses.replace(memory, inner=moved.memory))
        n_round, rest = divmod(moved.n_steps, self.every)
        return self._exchanged(moved, n_round % 2) if rest == 0 else moved

    def _exchanged(self, state: Chains, parity: int) -> Chains:
        """Rungs k and k + 1 compared for all k of the given parity, in all chains."""
        n, rows = len(self.ladder), torch.arange(len(state), device=state.x.device)
        lower = (rows % n % 2 == parity) & (rows % n < n - 1)
        upper = lower.roll(1)
        partner = rows + lower.to(rows.dtype) - upper.to(rows.dtype)
        log_ratio = (1 / state.temperature - 1 / state.temperature[partner]) * (
            state.energy - state.energy[partner]
        )
        runs = state.status == Status.RUNNING
        probability = torch.where(runs & runs[partner], log_ratio.clamp(max=0.0).exp(), 0.0)
        # Both partners must see one number: that of the lower rung.
        u = random.uniform(random.fold(state.key, state.n_steps, _SWAP), 1, state.x.dtype)[:, 0]
        swap = (lower | upper) & (u[torch.where(upper, partner, rows)] < probability)
        memory: Ladder = state.memory
        n_tried = memory.n_tried + lower.to(rows.dtype)
        mean = memory.swap_acceptance + (probability - memory.swap_acceptance) / n_tried.clamp(min=1)
        return dataclasses.replace(
            state,
            memory=dataclasses.replace(
                memory,
                walker=choose_rows(swap, memory.walker[partner], memory.walker),
                swap_acceptance=torch.where(lower, mean, memory.swap_acceptance),
                n_tried=n_tried,
            ),
            **_swapped(state, partner, swap),
        )


def _swapped(state: Chains, partner: Int[Tensor, "B"], swap: Bool[Tensor, "B"]) -> dict[str, Any]:
    scale = (state.temperature / state.temperature[partner]).sqrt()[:, None]
    fresh = {name: getattr(state, name)[partner] for name in ("x", "energy", "grad")} | {
        "p": scale * state.p[partner]
    }
    return {name: choose_rows(swap, value, getattr(state, name)) for name, value in fresh.items()}
