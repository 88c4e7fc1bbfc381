"""Random walks tied to a minimum by springs, inside its basin, for many basins and spring constants at once."""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random
from torchscape.potentials.base import Potential
from torchscape.progress import progress_bar
from torchscape.sampling.basins.oracle import Oracle
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Walks", "gaussian_fraction", "stiffest", "tied_walks"]

_MOVE, _NOISE, _ACCEPT, _SWAP, _GAUSS = 1, 2, 3, 4, 5
_DRAWS = 64
_LEVELS = 80


@dataclasses.dataclass(frozen=True)
class Walks:
    """S records of N basins, W ladders each, K spring constants each.

    Attributes:
        square: |x - minimum|^2 [S N W K].
        acceptance: of moves [N K].
        exchange: of swaps between springs k and k+1 [N K-1].
        step: adapted size of the moves [N K].
        n_quenches, n_evaluations: memberships tested, and gradients that took.
    """

    square: Float[Tensor, "S N W K"]
    acceptance: Float[Tensor, "N K"]
    exchange: Float[Tensor, "N L"]
    step: Float[Tensor, "N K"]
    n_quenches: int
    n_evaluations: int


def gaussian_fraction(
    potential: Potential,
    oracle: Oracle,
    minima: Float[Tensor, "N D"],
    spring: Float[Tensor, "N"],
    n_draws: int,
    key: Int[Tensor, "N"],
) -> tuple[Float[Tensor, "N"], int]:
    """Fraction of independent draws of exp(-k |x - minimum|^2 / 2) that lie in the basin, and gradients spent."""
    draw = random.fold(key[:, None], _GAUSS, torch.arange(n_draws, device=minima.device)).flatten()
    z = random.normal(draw, potential.ndim, minima.dtype)
    centre = minima.repeat_interleave(n_draws, 0)
    x = centre + z / spring.sqrt().repeat_interleave(n_draws)[:, None]
    member, spent = oracle.member(potential, x, centre, random.fold(draw, _NOISE))
    return member.reshape(-1, n_draws).to(minima.dtype).mean(1), spent


def stiffest(
    potential: Potential, oracle: Oracle, minima: Float[Tensor, "N D"], inside: float, key: Int[Tensor, "N"]
) -> tuple[Float[Tensor, "N"], Bool[Tensor, "N"], int]:
    """For every basin the weakest spring, by doubling, whose Gaussian lies in it to the fraction ``inside``.

    Also whether one was found at all, and the gradients spent.
    """
    spring = torch.full_like(minima[:, 0], potential.ndim / (30 * potential.length_scale) ** 2)
    rows, spent = torch.arange(len(minima), device=minima.device), 0
    for _ in range(_LEVELS):
        fraction, n = gaussian_fraction(potential, oracle, minima[rows], spring[rows], _DRAWS, key[rows])
        spent += n
        rows = rows[fraction < inside]
        if len(rows) == 0:
            break
        spring[rows] *= 2
    found = torch.ones_like(spring, dtype=torch.bool)
    found[rows] = False
    return spring, found, spent


def tied_walks(
    potential: Potential,
    oracle: Oracle,
    minima: Float[Tensor, "N D"],
    spring: Float[Tensor, "N K"],
    *,
    n_ladders: int,
    steps: int,
    burn_in: int,
    key: Int[Tensor, "N"],
    acceptance: float = 0.35,
    progress: bool = False,
) -> Walks:
    """Metropolis walks with the weight exp(-k |x - minimum|^2 / 2) inside the basin of every minimum.

    A trial x + s xi first passes the spring, which costs nothing, and only then the quench. Step sizes s belong
    to a basin and a spring; they are adapted towards ``acceptance`` during burn-in (Robbins-Monro on ln s) and
    held afterwards. After every move neighbouring springs of a ladder exchange their walkers with probability
    min(1, exp((k - k') (r^2 - r'^2) / 2)).
    """
    n, k = spring.shape
    w, d = n_ladders, potential.ndim
    ladder = random.fold(key[:, None], torch.arange(w, device=minima.device))
    walker = random.fold(ladder[:, :, None], torch.arange(k, device=minima.device)).flatten()
    centre = minima[:, None, None].expand(n, w, k, d).reshape(-1, d)
    x, square = centre.clone(), minima.new_zeros(n, w, k)
    size = (d * (spring + spring[:, -1:] / 30)).rsqrt() * min(1.0, 2.4 / d**0.5) * 2.0
    kept = minima.new_empty(steps, n, w, k)
    accepted, exchanged = torch.zeros_like(spring), spring.new_zeros(n, max(0, k - 1))
    tested = evaluations = 0
    with progress_bar(show=progress, total=burn_in + steps, desc="basin walks", unit="step") as bar:
        for t in range(burn_in + steps):
            now = random.fold(walker, t)
            s = size[:, None].expand(n, w, k).reshape(-1, 1)
            trial = x + s * random.normal(random.fold(now, _MOVE), d, x.dtype)
            new = (trial - centre).square().sum(1).reshape(n, w, k)
            u = random.uniform(random.fold(now, _ACCEPT), 1, x.dtype)[:, 0].reshape(n, w, k)
            passes = u.log() < 0.5 * spring[:, None] * (square - new)
            rows = torch.nonzero(passes.flatten())[:, 0]
            taken = torch.zeros_like(passes).flatten()
            taken[rows], spent = oracle.member(
                potential, trial[rows], centre[rows], random.fold(now[rows], _NOISE)
            )
            tested, evaluations = tested + len(rows), evaluations + spent
            x = torch.where(taken[:, None], trial, x)
            taken = taken.reshape(n, w, k)
            square = torch.where(taken, new, square)
            rate = taken.to(x.dtype).mean(1)
            if t < burn_in:
                size = size * torch.exp((rate - acceptance) * 2 / (1 + 0.1 * t))
            x, square, swapped = _exchange(x.reshape(n, w, k, d), square, spring, random.fold(ladder, t, _SWAP), t)
            x = x.reshape(-1, d)
            if t >= burn_in:
                kept[t - burn_in] = square
                accepted += rate
                exchanged += swapped
            bar.update()
    return Walks(
        square=kept,
        acceptance=accepted / max(1, steps),
        exchange=2 * exchanged / max(1, steps),
        step=size,
        n_quenches=tested,
        n_evaluations=evaluations,
    )


def _exchange(
    x: Float[Tensor, "N W K D"],
    square: Float[Tensor, "N W K"],
    spring: Float[Tensor, "N K"],
    key: Int[Tensor, "N W"],
    t: int,
) -> tuple[Tensor, Tensor, Float[Tensor, "N L"]]:
    """Swaps of springs (0,1), (2,3), ... at even steps, (1,2), (3,4), ... at odd ones, and their rates."""
    k = spring.shape[1]
    rates = spring.new_zeros(len(spring), max(0, k - 1))
    low = torch.arange(t % 2, k - 1, 2, device=x.device)
    if len(low) == 0:
        return x, square, rates
    gain = 0.5 * (spring[:, low] - spring[:, low + 1])[:, None] * (square[..., low] - square[..., low + 1])
    u = random.uniform(key.flatten(), k, x.dtype).reshape(*key.shape, k)[..., low]
    swap = u.log() < gain
    partner = torch.arange(k, device=x.device).expand(square.shape).clone()
    partner[..., low] += swap.long()
    partner[..., low + 1] -= swap.long()
    rates[:, low] = swap.to(x.dtype).mean(1)
    return x.gather(2, partner[..., None].expand_as(x)), square.gather(2, partner), rates
