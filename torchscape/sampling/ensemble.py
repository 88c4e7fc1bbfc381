"""Ensemble quasi-Newton: Langevin dynamics preconditioned by what the other walkers know of the covariance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch

from torchscape import random
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.sampling.chains import Chains, Sampler
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["EnsembleQuasiNewton"]

_LOT = 2**18  # random numbers drawn at once


@dataclasses.dataclass(frozen=True)
class EnsembleQuasiNewton(Sampler):
    """Underdamped Langevin dynamics of walkers that precondition each other:

    dx = B p dt,   dp = -B^T grad U dt - gamma p dt + sqrt(2 gamma T) dW,

    with the symmetric root B = B^T of cov(other walkers) / T + floor. On a normal density its square is near the
    inverse Hessian, so that all modes have a frequency near 1 whatever the condition number. B and B^T make the
    flow antisymmetric, and B does not depend on the walker that it moves; therefore exp(-U / T) of every walker is
    stationary without a term for the divergence of B. (With the walker's own position in B that term would be
    missing, and few walkers sample a distribution that is too narrow.)

    Walkers move in groups that take turns: one group makes ``hold`` BAOAB steps with the B of the walkers of all
    other groups, which stand still meanwhile; then the next. A step of the sampler is one turn of every group.
    Each turn leaves the product of all walkers' densities alone, up to the error in h of BAOAB.

    **Chains are not independent here.** Walkers of one ensemble move each other by design, so that what other
    samplers promise, a chain unaffected by its neighbours, holds for whole ensembles only: rows
    e W .. (e + 1) W - 1 are ensemble e of W = ``walkers`` rows, which does not notice other ensembles. Error bars
    from the spread between walkers of one ensemble are a little too small; take ensembles for that.

    Let walkers start where the density is, for instance after a burn-in by :class:`~torchscape.sampling.BAOAB`:
    starts that are spread much more widely make B too large for the curvature, and the flight leaves the finite
    numbers. The noise of minibatches spreads walkers, which makes B larger and the noise worse: it is borne only
    where it is small beside the temperature (of 200 data 150 were enough in one case, 60 were not).

    Reference: B. Leimkuhler, C. Matthews and J. Weare, Stat. Comput. 28, 277 (2018),
    doi 10.1007/s11222-017-9730-1. There B may be a blend with the unit matrix; ``floor`` is that here.

    Attributes:
        step_size: h, without a unit: time is measured in inverse frequencies of the preconditioned modes.
            Stable below 2 where the covariance is known well; some scatter of it must be allowed for.
        friction: gamma, likewise.
        walkers: W, rows of an ensemble; None for all rows.
        groups: number of groups in an ensemble, two or more; W must be a multiple.
        hold: BAOAB steps of one turn, each one gradient per walker. An eigenproblem of D or of the walkers outside
            the group, whichever are fewer, is solved once a turn: hold = 10 makes it small change.
        floor: added to every eigenvalue of the covariance / T, in units of ``length_scale^2`` / energy. It moves
            ensembles that start in one point, or that have fewer walkers than coordinates; below
            1 / (largest curvature) it changes nothing else.

    Raises:
        TorchscapeError: for settings that are not positive, or rows that make no whole ensembles.
        PotentialError: for a potential with walls, off which a preconditioned flight is not reflected simply.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> from torchscape.sampling import sample
        >>> u = Quadratic([1.0, 1e6])
        >>> sampler = EnsembleQuasiNewton(0.5)
        >>> samples = sample(u, torch.zeros(40, 2).double(), sampler=sampler, steps=80, burn_in=40)
        >>> [0.8 < value < 1.2 for value in (samples.points.var(0) * torch.tensor([1, 1e6])).tolist()]
        [True, True]
    """

    step_size: float
    friction: float = 1.0
    walkers: int | None = None
    groups: int = 2
    hold: int = 1
    floor: float = 1e-8

    def __post_init__(self) -> None:
        check_fields(
            self, step_size=POSITIVE, friction=NOT_NEGATIVE, walkers=COUNT.or_none, hold=COUNT, floor=POSITIVE
        )
        if self.groups < 2 or (self.walkers is not None and self.walkers % self.groups):
            raise TorchscapeError(f"walkers must be a multiple of two groups or more: {self}")

    def fresh(self, potential: Potential, state: Chains) -> None:
        if potential.bounds is not None:
            raise PotentialError(
                "EnsembleQuasiNewton knows no walls: take BAOAB or HMC in a box, or coordinates without bounds"
            )
        rows, size = len(state), self._size(state)
        if rows % size or size % self.groups or size - size // self.groups < 2:
            raise TorchscapeError(
                f"{rows} rows are no ensembles of {size} walkers in {self.groups} groups with two walkers or more "
                "outside each: choose the number of starts, walkers and groups so that they divide"
            )

    def step(self, potential: Potential, state: Chains) -> Chains:
        moved = state
        for group in range(self.groups):
            rows = torch.arange(group, len(state), self.groups, device=state.x.device)
            moved = _put(
                moved, rows, self._turn(potential, _take(moved, rows), self._root(potential, moved, group))
            )
        return dataclasses.replace(moved, n_steps=state.n_steps + 1, n_evaluations=state.n_evaluations + self.hold)

    def _size(self, state: Chains) -> int:
        return len(state) if self.walkers is None else self.walkers

    def _root(self, potential: Potential, state: Chains, group: int) -> _Root:
        """B of every ensemble for the walkers of ``group``: the symmetric root, from all other walkers that run.

        By eigenvalues, which rounding cannot make fail as it can a Cholesky factor of few walkers; where walkers
        are few beside coordinates, by those of their Gram matrix.
        """
        size, ndim = self._size(state), potential.ndim
        x = self._outside(state.x.reshape(-1, size, ndim), group)
        runs = (state.status == Status.RUNNING).to(x.dtype)
        weight = self._outside(runs.reshape(-1, size, 1), group)
        n = weight.sum(1, keepdim=True)
        centred = weight * (x - (weight * x).sum(1, keepdim=True) / n.clamp(min=1))
        temperature = state.temperature.reshape(-1, size).mean(1)[:, None, None]
        spread = centred / ((n - 1).clamp(min=1) * temperature).sqrt()
        return _Root.of(spread, self.floor * potential.length_scale**2)

    def _outside(self, rows: Float[Tensor, "E N d"], group: int) -> Float[Tensor, "E n d"]:
        """What belongs to the walkers outside ``group``."""
        by_group = rows.unflatten(1, (-1, self.groups))
        return torch.cat([by_group[:, :, :group], by_group[:, :, group + 1 :]], 2).flatten(1, 2)

    def _turn(self, potential: Potential, part: Chains, root: _Root) -> Chains:
        """``hold`` steps of BAOAB of one group."""
        h, decay = self.step_size, math.exp(-self.friction * self.step_size)
        width = ((1 - decay**2) * part.temperature).sqrt()[:, None]
        x, p, energy, grad = part.x, part.p, part.energy, part.grad
        force = root.times(grad)
        for noise in _noises(random.fold(part.key, part.n_steps), self.hold, x):
            p = p.sub(force, alpha=h / 2)
            after = (p * decay).addcmul_(noise, width)
            x = x.add(root.times(p + after), alpha=h / 2)  # both halves of A
            energy, grad = potential.energy_and_grad(x)
            force = root.times(grad)
            p = after.sub(force, alpha=h / 2)
        return self.advanced(part, self.hold, x=x, p=p, energy=energy, grad=grad)


def _noises(key: Int[Tensor, "R"], steps: int, like: Float[Tensor, "R D"]) -> Iterator[Float[Tensor, "R D"]]:
    """Normal numbers for each of some steps, drawn for several at once: one at a time, calls and cold caches cost
    more than the numbers."""
    for lot in torch.arange(steps, device=key.device).split(max(1, _LOT // max(1, like.numel()))):
        keys = random.fold(key, lot[:, None])
        yield from random.normal(keys.flatten(), like.shape[1], like.dtype).unflatten(0, keys.shape)


@dataclasses.dataclass(frozen=True)
class _Root:
    """The symmetric root of S^T S + floor, for each of E ensembles: a matrix, or ``shift`` times 1 plus
    ``factor`` ``factor``^T where that is less to multiply by."""

    factor: Float[Tensor, "E D R"]
    shift: float | None

    @classmethod
    def of(cls, spread: Float[Tensor, "E N D"], floor: float) -> _Root:
        """From the rows S of every ensemble.

        With S S^T = u lambda u^T the root is f + S^T u diag(1 / (sqrt(lambda + f^2) + f)) u^T S, f^2 being the
        floor: nothing is divided by a small eigenvalue.
        """
        _, n, ndim = spread.shape
        shift = math.sqrt(floor)
        if 2 * n < ndim:
            eigenvalues, u = torch.linalg.eigh(spread @ spread.mT)
            gain = ((eigenvalues.clamp(min=0) + floor).sqrt() + shift).rsqrt()
            return cls(spread.mT @ (u * gain[:, None, :]), shift)
        eigenvalues, axes = torch.linalg.eigh(spread.mT @ spread)
        scale = (eigenvalues.clamp(min=0) + floor).sqrt()
        return cls((axes * scale[:, None, :]) @ axes.mT, None)

    def times(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        """B v, which is B^T v, for the vectors v of each ensemble."""
        v = rows.reshape(len(self.factor), -1, rows.shape[1])
        if self.shift is None:
            return (v @ self.factor).reshape(rows.shape)
        return (v @ self.factor @ self.factor.mT).reshape(rows.shape).add(rows, alpha=self.shift)


_OF_ROWS = ("x", "p", "energy", "grad", "temperature", "key", "acceptance", "status")


def _take(state: Chains, rows: Int[Tensor, "R"]) -> Chains:
    return dataclasses.replace(state, **{name: getattr(state, name)[rows] for name in _OF_ROWS})


def _put(state: Chains, rows: Int[Tensor, "R"], part: Chains) -> Chains:
    names = ("x", "p", "energy", "grad", "status")
    fresh = {name: getattr(state, name).index_copy(0, rows, getattr(part, name)) for name in names}
    return dataclasses.replace(state, **fresh)
