"""Which basin a point belongs to: by quenching it, by noisy dynamics, or by its energy alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.devices import is_host
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.optimise import QuasiNewton, relax, run_pool
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.saddles.distinct import first_of_each
from torchscape.saddles.downhill_paths import Descent, ImplicitDescent, Quench, descend
from torchscape.sampling.basins.flow import Downhill, SteepestDescent
from torchscape.sampling.chains import reflect
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT_OR_ZERO, NOT_NEGATIVE, POSITIVE, check_fields

__all__ = ["Assignment", "Noisy", "Oracle", "Quenched", "Region", "Sublevel", "assign", "basin_probability"]

_ROWS = 8192  # rows in flight: more does not fit into a cache
_NOISE = 11


@runtime_checkable
class Oracle(Protocol):
    """Says of every point whether it belongs to the basin of a given minimum."""

    def member(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        minimum: Float[Tensor, "B D"],
        key: Int[Tensor, "B"],
    ) -> tuple[Bool[Tensor, "B"], int]:
        """Membership of every row, and the gradients it took. ``key`` decides where membership is random."""
        ...


@dataclasses.dataclass(frozen=True)
class Quenched:
    """The basin of a minimum: all points of the box from which the quench ends in it.

    Quasi-Newton minimisers are quick but carry points across the ridges between steepest-descent basins: the
    volumes are then those of *their* basins.

    Attributes:
        quench: :class:`SteepestDescent` (default), :class:`~torchscape.saddles.Descent` for stiff potentials, or
            a minimiser such as :class:`~torchscape.optimise.LBFGS`.
        capture: distance from the minimum, in units of the ``length_scale``, within which a quench has ended in
            it; points that start there are not quenched at all.

    Example:
        >>> from torchscape.potentials import DoubleWell
        >>> u = DoubleWell(ndim=1, bounded=True)
        >>> x = torch.tensor([[0.01], [-0.01], [5.0]]).double()
        >>> Quenched().member(u, x, torch.ones(3, 1).double(), torch.arange(3))[0].tolist()
        [True, False, False]
    """

    quench: SteepestDescent | Descent | ImplicitDescent | Quench | QuasiNewton = dataclasses.field(
        default_factory=SteepestDescent
    )
    capture: float = 0.05

    def __post_init__(self) -> None:
        check_fields(self, capture=POSITIVE)

    def ends(self, potential: Potential, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> StationaryPoints:
        """Where every row comes to rest."""
        if isinstance(self.quench, SteepestDescent):
            return _pooled(self.quench, potential, Downhill.for_none(x))
        if isinstance(self.quench, Descent | ImplicitDescent | Quench):
            return descend(potential, x, options=self.quench)
        return relax(potential, x, optimiser=self.quench)

    def member(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        minimum: Float[Tensor, "B D"],
        key: Int[Tensor, "B"],
    ) -> tuple[Bool[Tensor, "B"], int]:
        inside = _within(potential, x)
        found = inside & self._close(potential, x, minimum)
        rows = torch.nonzero(inside & ~found)[:, 0]
        if len(rows) == 0:
            return found, 0
        start, target = x[rows], minimum[rows]
        if isinstance(self.quench, SteepestDescent):
            with torch.no_grad():
                energy = potential.energy(target)
            quench = dataclasses.replace(self.quench, capture=self.capture)
            ends = _pooled(quench, potential, Downhill(start, target, energy))
        else:
            ends = self.ends(potential, start, key[rows])
        found[rows] = (ends.status == Status.CONVERGED) & self._close(potential, ends.x, target)
        return found, int(ends.n_evaluations.sum())

    def _close(self, potential: Potential, x: Tensor, minimum: Tensor) -> Bool[Tensor, "B"]:
        return (x - minimum).norm(dim=1) <= self.capture * potential.length_scale


@dataclasses.dataclass(frozen=True)
class Noisy:
    """The basin of noisy dynamics: overdamped Langevin steps that cool to nothing, and then a quench.

    x <- x - h grad U + sqrt(2 h T_t) xi with T_t = T (1 - t / n) for t = 0..n-1, reflected at walls: the noise of
    stochastic gradient descent with a learning rate that falls. A point belongs to the basin of a minimum with
    the probability P(x) of ending there, and the volume is the integral of P(x). Walks draw a new noise (from
    ``key``) with every trial point, which makes them exact in the space of points and noises.

    Attributes:
        temperature: T at the start.
        step: h.
        n_steps: n.
        then: the quench that follows.

    Example:
        >>> from torchscape.potentials import DoubleWell
        >>> u, x = DoubleWell(ndim=1), torch.zeros(2000, 1).double()
        >>> found, _ = Noisy(0.1, 0.01, 20).member(u, x, x + 1, torch.arange(2000))
        >>> abs(found.double().mean().item() - 0.5) < 0.05
        True
    """

    temperature: float
    step: float
    n_steps: int
    then: Quenched = dataclasses.field(default_factory=Quenched)

    def __post_init__(self) -> None:
        check_fields(self, temperature=NOT_NEGATIVE, step=POSITIVE, n_steps=COUNT_OR_ZERO)

    def ends(self, potential: Potential, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> StationaryPoints:
        """Where every row comes to rest."""
        return self.then.ends(potential, self._cooled(potential, x, key), key)

    def member(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        minimum: Float[Tensor, "B D"],
        key: Int[Tensor, "B"],
    ) -> tuple[Bool[Tensor, "B"], int]:
        found = _within(potential, x)
        rows = torch.nonzero(found)[:, 0]
        if len(rows) == 0:
            return found, 0
        cooled = self._cooled(potential, x[rows], key[rows])
        found[rows], spent = self.then.member(potential, cooled, minimum[rows], key[rows])
        return found, spent + self.n_steps * len(rows)

    def _cooled(self, potential: Potential, x: Tensor, key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        for t in range(self.n_steps):
            noise = random.normal(random.fold(key, _NOISE, t), potential.ndim, x.dtype)
            size = (2 * self.step * self.temperature * (1 - t / self.n_steps)) ** 0.5
            x = x - self.step * potential.energy_and_grad(x)[1] + size * noise
            if potential.bounds is not None:
                x = reflect(potential.bounds, x, torch.zeros_like(x))[0]
        return x


@dataclasses.dataclass(frozen=True)
class Sublevel:
    """All points with U(x) < threshold: no quench, so that millions of parameters are no obstacle.

    A walk or a ray from the minimum stays in what it can reach of this set; different minima may share it.

    Attributes:
        threshold: an energy.
    """

    threshold: float

    def member(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        minimum: Float[Tensor, "B D"],
        key: Int[Tensor, "B"],
    ) -> tuple[Bool[Tensor, "B"], int]:
        inside = _within(potential, x)
        x = x if potential.bounds is None else potential.bounds.clamp(x)
        with torch.no_grad():
            return inside & (potential.energy(x) < self.threshold), len(x)


@dataclasses.dataclass(frozen=True)
class Region:
    """A set that is known by a formula, cut off at the walls: nothing is quenched, nothing costs a gradient.

    Attributes:
        contains: from points [B D] and, row by row, the minima [B D] whose sets are meant, to booleans [B].

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> disc = Region(lambda x, minimum: (x - minimum).norm(dim=1) < 1)
        >>> x = torch.tensor([[0.5, 0.0], [1.0, 1.0]]).double()
        >>> disc.member(Quadratic([1.0, 1.0]), x, torch.zeros_like(x), torch.arange(2))[0].tolist()
        [True, False]
    """

    contains: Callable[[Tensor, Tensor], Tensor]

    def member(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        minimum: Float[Tensor, "B D"],
        key: Int[Tensor, "B"],
    ) -> tuple[Bool[Tensor, "B"], int]:
        return _within(potential, x) & self.contains(x, minimum), 0


@brief
@dataclasses.dataclass(frozen=True)
class Assignment:
    """The minima that B starts end in.

    Attributes:
        label: number of the minimum of each start; -1 where the quench did not converge [B].
        minima: the distinct minima, by ascending energy.
        hits: starts that ended in each.
    """

    label: Int[Tensor, "B"]
    minima: StationaryPoints
    hits: Int[Tensor, "N"]


def assign(
    potential: Potential, starts: Float[Tensor, "B D"], *, oracle: Quenched | Noisy | None = None, seed: int = 0
) -> Assignment:
    """Which minimum every start ends in, minima counted modulo the potential's symmetry.

    The quench only has to tell minima apart; a minimiser then converges what it found.

    Args:
        potential: U.
        starts: points [B D].
        oracle: the definition of the basins; :class:`Quenched` by default.
        seed: of the noise, where there is any.

    Raises:
        PotentialError: if ``starts`` is not [B D] for this potential, or empty.

    Example:
        >>> from torchscape import problems
        >>> u = problems.get("himmelblau").potential
        >>> assign(u, u.sample(500)).hits.numel()
        4
    """
    if starts.ndim != 2 or starts.shape[1] != potential.ndim or len(starts) == 0:
        raise PotentialError(
            f"starts must be [B, {potential.ndim}] with B >= 1 for this potential, not {list(starts.shape)}"
        )
    key = random.fold(seed, torch.arange(len(starts), device=starts.device))
    ends = (oracle or Quenched()).ends(potential, starts, key)
    ended = torch.nonzero(ends.converged)[:, 0]
    found = relax(potential, ends.x[ended])
    first = first_of_each(potential, found)
    kept, label = first.unique(return_inverse=True)
    order = found.energy[kept].sort(stable=True).indices
    label = order.argsort()[label]
    labels = torch.full((len(starts),), -1, dtype=torch.int64, device=starts.device)
    labels[ended] = label
    return Assignment(labels, found[kept[order]], torch.bincount(label, minlength=len(kept)))


def basin_probability(
    potential: Potential,
    x: Float[Tensor, "B D"],
    minimum: Float[Tensor, "D"],
    oracle: Oracle,
    *,
    n_seeds: int = 100,
    seed: int = 0,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Probability with which noisy dynamics from every point end in one minimum, and its standard error.

    The error is that of the posterior mean under a uniform prior, so that it does not vanish at 0 or 1 hits.

    Args:
        potential: U.
        x: points [B D].
        minimum: where to end [D].
        oracle: :class:`Noisy`, usually.
        n_seeds: noises per point; the same for all points.
        seed: of the noises.
    """
    if n_seeds < 1:
        raise TorchscapeError(f"at least one noise per point is needed, not {n_seeds}")
    key = random.fold(seed, torch.arange(n_seeds, device=x.device)).repeat(len(x))
    rows = x.repeat_interleave(n_seeds, 0)
    member, _ = oracle.member(potential, rows, minimum.expand_as(rows), key)
    hits = member.reshape(len(x), n_seeds).sum(1).to(x.dtype)
    mean = (hits + 1) / (n_seeds + 2)
    return hits / n_seeds, (mean * (1 - mean) / (n_seeds + 3)).sqrt()


def _pooled(quench: SteepestDescent, potential: Potential, start: Downhill) -> StationaryPoints:
    x = start.x
    if len(x) == 0:
        return StationaryPoints.empty(potential.ndim, dtype=x.dtype, device=x.device)
    ends: StationaryPoints = run_pool(quench, potential, start, most=_ROWS if is_host(x.device) else 16 * _ROWS)
    return ends


def _within(potential: Potential, x: Float[Tensor, "B D"]) -> Bool[Tensor, "B"]:
    if potential.bounds is None:
        return torch.isfinite(x).all(1)
    return (potential.bounds.clamp(x) == x).all(1)
