"""Harmonically restrained random walks around minima, inside their basins, for many force constants at once."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.potentials.base import Potential
from torchscape.progress import progress_bar
from torchscape.sampling.autocorrelation_times import autocorrelation_time
from torchscape.sampling.basins.oracle import Oracle
from torchscape.sampling.diagnostics import SamplingWarning
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Walks", "gaussian_fraction", "restrained_walks", "stiffest"]

_NOISE, _GAUSS = 2, 5
_SWAP = -1  # no force constant has this number
_DRAWS = 64
_LEVELS = 80
_ACCEPTANCE = 0.35
_LEAST, _DOUBLINGS, _SETTLED = 32, 6, 20  # steps, doublings and autocorrelation times of burn-in


@brief
@dataclasses.dataclass(frozen=True)
class Walks:
    """S records of N basins, W ladders each, K force constants each.

    Attributes:
        square: |x - minimum|^2 [S N W K].
        acceptance: of moves [N K].
        exchange: of swaps between force constants k and k+1 [N K-1].
        step: adapted size of the moves [N K].
        burn_in: steps before the first record [N].
        n_quenches, n_evaluations: memberships tested, and gradients that took.
    """

    square: Float[Tensor, "S N W K"]
    acceptance: Float[Tensor, "N K"]
    exchange: Float[Tensor, "N L"]
    step: Float[Tensor, "N K"]
    burn_in: Int[Tensor, "N"]
    n_quenches: int
    n_evaluations: int


def gaussian_fraction(
    potential: Potential,
    oracle: Oracle,
    minima: Float[Tensor, "N D"],
    force_constant: Float[Tensor, "N"],
    n_draws: int,
    key: Int[Tensor, "N"],
) -> tuple[Float[Tensor, "N"], int]:
    """Fraction of independent draws of exp(-k |x - minimum|^2 / 2) that lie in the basin, and gradients spent."""
    draw = random.fold(key[:, None], _GAUSS, torch.arange(n_draws, device=minima.device)).flatten()
    z = random.normal(draw, potential.ndim, minima.dtype)
    centre = minima.repeat_interleave(n_draws, 0)
    x = centre + z / force_constant.sqrt().repeat_interleave(n_draws)[:, None]
    member, spent = oracle.member(potential, x, centre, random.fold(draw, _NOISE))
    return member.reshape(-1, n_draws).to(minima.dtype).mean(1), spent


def stiffest(
    potential: Potential, oracle: Oracle, minima: Float[Tensor, "N D"], inside: float, key: Int[Tensor, "N"]
) -> tuple[Float[Tensor, "N"], Bool[Tensor, "N"], int]:
    """For every basin the least force constant, by doubling, whose Gaussian lies in it to the fraction ``inside``.

    Also whether one was found at all, and the gradients spent.
    """
    force_constant = torch.full_like(minima[:, 0], potential.ndim / (30 * potential.length_scale) ** 2)
    rows, spent = torch.arange(len(minima), device=minima.device), 0
    for _ in range(_LEVELS):
        fraction, n = gaussian_fraction(potential, oracle, minima[rows], force_constant[rows], _DRAWS, key[rows])
        spent += n
        rows = rows[fraction < inside]
        if len(rows) == 0:
            break
        force_constant[rows] *= 2
    found = torch.ones_like(force_constant, dtype=torch.bool)
    found[rows] = False
    return force_constant, found, spent


def restrained_walks(
    potential: Potential,
    oracle: Oracle,
    minima: Float[Tensor, "N D"],
    force_constant: Float[Tensor, "N K"],
    *,
    n_ladders: int,
    steps: int,
    burn_in: int,
    key: Int[Tensor, "N"],
    progress: bool = False,
) -> Walks:
    """Walks with the weight exp(-k |x - m|^2 / 2) inside the basin of every minimum m.

    A trial m + sqrt(1 - k s^2) (x - m) + s xi leaves the Gaussian of the restraint as it is, so that the oracle
    alone decides: where most of the Gaussian lies in the basin, s = 1 / sqrt(k) and trials are independent draws;
    at k = 0 it is a random walk. Step sizes s belong to a basin and a force constant; they are adapted towards an
    acceptance of 0.35 during burn-in (Robbins-Monro on ln s) and held afterwards. After every move neighbouring
    force constants of a ladder exchange their walkers with probability min(1, exp((k - k') (r^2 - r'^2) / 2)).

    Walks start at the minimum, where r^2 is too small, so that a short burn-in makes volumes too small. It goes
    on, doubling, until it is 20 integrated autocorrelation times of r^2 where that is longest, for each basin by
    itself: times that are measured in fewer than that come out too short.

    Warns:
        SamplingWarning: where 64 times ``burn_in`` were not enough.

    Reference: Cotter, Roberts, Stuart & White, Stat. Sci. 28, 424 (2013), doi 10.1214/13-STS421, for the moves.
    """
    walkers = _Restrained.at_rest(
        minima, force_constant, random.fold(key[:, None], torch.arange(n_ladders, device=key.device))
    )
    rows, length = torch.arange(len(minima), device=minima.device), max(_LEAST, burn_in + burn_in % 2)
    tested = evaluations = 0
    with progress_bar(show=progress, desc="basin walks", unit=" steps") as bar:
        for _ in range(_DOUBLINGS + 1):
            part = _walk(potential, oracle, walkers[rows], length, bar.update, adapt=True)
            tested, evaluations = tested + part.n_quenches, evaluations + part.n_evaluations
            walkers = walkers.updated(rows, part.walkers)
            length = int(part.walkers.age[0])  # one age for all that still burn in: the next stretch doubles it
            rows = rows[_SETTLED * _slowest(part.square[-(length + 1) // 2 :]) > length]
            if len(rows) == 0:
                break
        part = _walk(potential, oracle, walkers, steps, bar.update, adapt=False)
    if len(rows):
        warnings.warn(
            f"after {length} steps r^2 had not settled in {len(rows)} of {len(minima)} basins, whose volumes come "
            "out too small: raise burn_in, or give the potential a box if they are open",
            SamplingWarning,
        )
    return Walks(
        square=part.square,
        acceptance=part.accepted,
        exchange=2 * part.exchanged,
        step=walkers.size,
        burn_in=walkers.age,
        n_quenches=tested + part.n_quenches,
        n_evaluations=evaluations + part.n_evaluations,
    )


@dataclasses.dataclass(frozen=True)
class _Restrained:
    """Walkers of N basins, W ladders, K force constants, and how many steps each basin has done."""

    x: Float[Tensor, "N W K D"]
    square: Float[Tensor, "N W K"]
    size: Float[Tensor, "N K"]
    force_constant: Float[Tensor, "N K"]
    minima: Float[Tensor, "N D"]
    ladder: Int[Tensor, "N W"]
    age: Int[Tensor, "N"]

    @classmethod
    def at_rest(
        cls, minima: Float[Tensor, "N D"], force_constant: Float[Tensor, "N K"], ladder: Int[Tensor, "N W"]
    ) -> _Restrained:
        (n, w), k, d = ladder.shape, force_constant.shape[1], minima.shape[1]
        size = (d * (force_constant + force_constant[:, -1:] / 30)).rsqrt() * min(1.0, 2.4 / d**0.5) * 2.0
        return cls(
            x=minima[:, None, None].expand(n, w, k, d).clone(),
            square=minima.new_zeros(n, w, k),
            size=torch.minimum(size, force_constant.rsqrt()),
            force_constant=force_constant,
            minima=minima,
            ladder=ladder,
            age=torch.zeros(n, dtype=torch.int64, device=minima.device),
        )

    def __getitem__(self, rows: Int[Tensor, "R"]) -> _Restrained:
        return _Restrained(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def updated(self, rows: Int[Tensor, "R"], part: _Restrained) -> _Restrained:
        """With ``part`` in the place of these rows."""
        return _Restrained(
            *(
                getattr(self, field.name).index_copy(0, rows, getattr(part, field.name))
                for field in dataclasses.fields(self)
            )
        )


@dataclasses.dataclass(frozen=True)
class _Stretch:
    """Where S steps led, and what was seen on the way (rates are means over steps and ladders)."""

    walkers: _Restrained
    square: Float[Tensor, "S N W K"]
    accepted: Float[Tensor, "N K"]
    exchanged: Float[Tensor, "N L"]
    n_quenches: int
    n_evaluations: int


def _walk(
    potential: Potential,
    oracle: Oracle,
    start: _Restrained,
    steps: int,
    tick: Callable[[], object],
    *,
    adapt: bool,
) -> _Stretch:
    """``steps`` moves and exchanges of all walkers; with ``adapt``, step sizes follow the acceptance."""
    (n, w, k), d = start.square.shape, potential.ndim
    force_constant, size, age, x, square = (
        start.force_constant,
        start.size,
        start.age,
        start.x.flatten(0, 2),
        start.square,
    )
    centre = start.minima[:, None, None].expand(n, w, k, d).reshape(-1, d)
    walker = random.fold(start.ladder[:, :, None], torch.arange(k, device=x.device))
    swapper = random.fold(start.ladder, _SWAP)
    kept, accepted = square.new_empty(steps, n, w, k), torch.zeros_like(force_constant)
    exchanged = force_constant.new_zeros(n, max(0, k - 1))
    tested = evaluations = 0
    for t in range(steps):
        now = random.fold(walker, age[:, None, None]).flatten()
        s, shrink = (
            one[:, None].expand(n, w, k).reshape(-1, 1)
            for one in (size, (1 - force_constant * size.square()).clamp(min=0.0).sqrt())
        )
        trial = centre + shrink * (x - centre) + s * random.normal(now, d, x.dtype)
        taken, spent = oracle.member(potential, trial, centre, now)
        tested, evaluations = tested + len(trial), evaluations + spent
        x = torch.where(taken[:, None], trial, x)
        square = (x - centre).square().sum(1).reshape(n, w, k)
        rate = taken.reshape(n, w, k).to(x.dtype).mean(1)
        if adapt:
            gain = 2 / (1 + 0.1 * age[:, None])
            size = torch.minimum(size * torch.exp((rate - _ACCEPTANCE) * gain), force_constant.rsqrt())
        key = random.fold(swapper, age[:, None])
        x, square, swapped = _exchange(x.reshape(n, w, k, d), square, force_constant, key, t)
        x, age = x.flatten(0, 2), age + 1
        kept[t] = square
        accepted, exchanged = accepted + rate / steps, exchanged + swapped / steps
        tick()
    end = dataclasses.replace(start, x=x.reshape(n, w, k, d), square=square, size=size, age=age)
    return _Stretch(end, kept, accepted, exchanged, tested, evaluations)


def _slowest(square: Float[Tensor, "S N W K"]) -> Float[Tensor, "N"]:
    """Autocorrelation time of r^2 at the restraint where it is longest; 0 where nothing moves."""
    return autocorrelation_time(square.transpose(1, 2)).nan_to_num(nan=0.0).amax(1)


def _exchange(
    x: Float[Tensor, "N W K D"],
    square: Float[Tensor, "N W K"],
    force_constant: Float[Tensor, "N K"],
    key: Int[Tensor, "N W"],
    t: int,
) -> tuple[Tensor, Tensor, Float[Tensor, "N L"]]:
    """Swaps of force constants (0,1), (2,3), ... at even steps, (1,2), (3,4), ... at odd ones, and their rates."""
    k = force_constant.shape[1]
    rates = force_constant.new_zeros(len(force_constant), max(0, k - 1))
    low = torch.arange(t % 2, k - 1, 2, device=x.device)
    if len(low) == 0:
        return x, square, rates
    gain = (
        0.5
        * (force_constant[:, low] - force_constant[:, low + 1])[:, None]
        * (square[..., low] - square[..., low + 1])
    )
    u = random.uniform(key.flatten(), k, x.dtype).reshape(*key.shape, k)[..., low]
    swap = u.log() < gain
    partner = torch.arange(k, device=x.device).expand(square.shape).clone()
    partner[..., low] += swap.long()
    partner[..., low + 1] -= swap.long()
    rates[:, low] = swap.to(x.dtype).mean(1)
    return x.gather(2, partner[..., None].expand_as(x)), square.gather(2, partner), rates
