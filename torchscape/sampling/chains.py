"""Many Markov chains at once: the frozen state that every sampler steps, and what all samplers share."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import PotentialError
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.potentials.bounds import Bounds
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Chains", "Sampler", "choose_rows", "reflect"]

State = TypeVar("State")


@brief
@dataclasses.dataclass(frozen=True)
class Chains:
    """B chains after ``n_steps`` steps: unit masses, k_B = 1.

    Attributes:
        x, p: positions and momenta (zero for a sampler without momenta).
        energy, grad: U and its gradient where they were last evaluated: at ``x``, unless the sampler says
            otherwise (``Sampler.is_evaluated``).
        temperature: of every chain.
        key: of every chain, folded from the seed and the chain's number. All its random numbers are functions of
            this and of ``n_steps``.
        acceptance: probability with which the last move was accepted; 1 where nothing is tested.
        status: ``RUNNING``, or ``NOT_FINITE``: such a chain stays at its last finite state for good.
        n_steps, n_evaluations: steps made, and gradients spent on each chain.
        seed: what all chains share; jitter of trajectory lengths and minibatches follow from it.
        memory: what a sampler carries along beside these.
    """

    x: Float[Tensor, "B D"]
    p: Float[Tensor, "B D"]
    energy: Float[Tensor, "B"]
    grad: Float[Tensor, "B D"]
    temperature: Float[Tensor, "B"]
    key: Int[Tensor, "B"]
    acceptance: Float[Tensor, "B"]
    status: Int[Tensor, "B"]
    n_steps: int
    n_evaluations: int
    seed: int
    memory: Any = None

    def __len__(self) -> int:
        return len(self.energy)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """``init`` and ``step`` on frozen :class:`Chains`.

    A step never looks from one chain at another, except within a ladder of :class:`ParallelTempering` or an
    ensemble of :class:`EnsembleQuasiNewton`.

    Attributes:
        has_momenta: whether ``Chains.p`` means anything.
        is_evaluated: whether ``energy`` and ``grad`` belong to ``x`` after a step.
        is_exact: whether energies decide on moves, so that gradients of minibatches will not do.
    """

    has_momenta: ClassVar[bool] = True
    is_evaluated: ClassVar[bool] = True
    is_exact: ClassVar[bool] = False

    def init(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        *,
        temperature: float | Float[Tensor, "B"] = 1.0,
        seed: int = 0,
        chains: Int[Tensor, "B"] | None = None,
    ) -> Chains:
        """Chains at ``x`` with momenta of the given temperature.

        Args:
            potential: U; a box is respected by reflection at its walls.
            x: starting points [B D].
            temperature: one for all chains, or one each.
            seed: of all random numbers.
            chains: the number of every chain, 0..B-1 by default. A chain of the same seed and number makes the
                same steps in whatever batch.

        Raises:
            PotentialError: on wrong shapes, temperatures that are not positive, or points outside the box.
        """
        x = _checked(potential, x)
        t = torch.as_tensor(temperature, dtype=x.dtype, device=x.device).expand(len(x)).clone()
        if not bool(((t > 0) & torch.isfinite(t)).all()):
            raise PotentialError(
                "temperatures must be positive and finite: use torchscape.relax for the limit T = 0"
            )
        ids = torch.arange(len(x)) if chains is None else chains
        key = random.fold(seed, ids.to(x.device))
        energy, grad = potential.energy_and_grad(x)
        broken = ~(torch.isfinite(energy) & torch.isfinite(grad).all(1))
        state = Chains(
            x=x,
            p=self.momenta(t, random.fold(key, -1), potential.ndim),
            energy=energy,
            grad=grad,
            temperature=t,
            key=key,
            acceptance=torch.ones_like(energy),
            status=torch.where(broken, int(Status.NOT_FINITE), int(Status.RUNNING)),
            n_steps=0,
            n_evaluations=1,
            seed=seed,
        )
        return dataclasses.replace(state, memory=self.fresh(potential, state))

    def step(self, potential: Potential, state: Chains) -> Chains:
        """One step of every chain."""
        raise NotImplementedError

    def on_batch(self, potential: Any, indices: Int[Tensor, "n"]) -> Potential:
        """The potential of a minibatch, which :meth:`step` is given where gradients are those of some data."""
        return potential.on(indices)

    def fresh(self, potential: Potential, state: Chains) -> Any:
        """What the sampler wants to remember, before the first step."""
        return None

    def settled(self, state: Chains) -> Chains:
        """The state with everything that adapts held fixed from now on: called when burn-in is over."""
        return state

    def momenta(self, temperature: Float[Tensor, "B"], key: Int[Tensor, "B"], ndim: int) -> Float[Tensor, "B D"]:
        """Momenta of the given temperatures."""
        if not self.has_momenta:
            return temperature.new_zeros(len(temperature), ndim)
        return temperature.sqrt()[:, None] * random.normal(key, ndim, temperature.dtype)

    def advanced(self, state: Chains, n_evaluations: int, **fresh: Any) -> Chains:
        """The next state; a chain whose numbers are no longer finite stays where it was and says so."""
        finite = torch.isfinite(fresh["energy"]) & torch.isfinite(fresh["grad"].sum(1) + fresh["x"].sum(1))
        runs = finite & (state.status == Status.RUNNING)
        kept = {name: choose_rows(runs, new, getattr(state, name)) for name, new in fresh.items()}
        broken = ~finite & (state.status == Status.RUNNING)
        return dataclasses.replace(
            state,
            status=torch.where(broken, int(Status.NOT_FINITE), state.status),
            n_steps=state.n_steps + 1,
            n_evaluations=state.n_evaluations + n_evaluations,
            **kept,
        )


def choose_rows(rows: Bool[Tensor, "B"], new: State, old: State) -> State:
    """``new`` in the given rows, ``old`` elsewhere: for a tensor, or a dataclass of tensors."""
    if isinstance(new, Tensor):
        return torch.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)  # type: ignore[call-overload]
    if not dataclasses.is_dataclass(new):
        return new
    names = [field.name for field in dataclasses.fields(new)]
    return dataclasses.replace(new, **{n: choose_rows(rows, getattr(new, n), getattr(old, n)) for n in names})  # type: ignore[type-var]


def reflect(
    bounds: Bounds | None, x: Float[Tensor, "B D"], p: Float[Tensor, "B D"]
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
    """Positions folded back into the box, momenta turned round once for every wall that was hit.

    Free flight between elastic walls: it keeps volume and is reversible, so that what a sampler preserves
    without walls it preserves with them.

    Example:
        >>> box = Bounds.of([(0, 1)])
        >>> x, p = torch.tensor([[1.25], [2.25]]).double(), torch.ones(2, 1).double()
        >>> [one.tolist() for one in reflect(box, x, p)]
        [[[0.75], [0.25]], [[-1.0], [1.0]]]
    """
    if bounds is None:
        return x, p
    low, high = torch.isfinite(bounds.lower), torch.isfinite(bounds.upper)
    closed = low & high
    origin = torch.where(low, bounds.lower, torch.where(high, bounds.upper, 0.0))
    side = torch.where(closed, bounds.upper - bounds.lower, 1.0)
    along = torch.where(closed, torch.remainder(x - origin, 2 * side), x - origin)
    turned = torch.where(closed, along > side, (low & (along < 0)) | (high & (along > 0)))
    folded = torch.where(turned, torch.where(closed, 2 * side, 0.0) - along, along)
    # The sum may round to just outside.
    return bounds.clamp(origin + folded), torch.where(turned, -p, p)


def _checked(potential: Potential, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    if x.ndim != 2 or x.shape[1] != potential.ndim:
        raise PotentialError(
            f"starts must be [B, {potential.ndim}] for this potential, not {list(x.shape)}: give one row per chain"
        )
    x = x.detach().to(potential.device, potential.dtype)
    if potential.bounds is not None and not bool((potential.bounds.clamp(x) == x).all()):
        raise PotentialError("starts must lie in the box: clamp them with potential.bounds.clamp(starts)")
    return x
