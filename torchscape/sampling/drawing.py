"""``sample``: from starting points to kept positions, energies and what the diagnostics need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.devices import HOST, is_host
from torchscape.errors import OutOfMemory, PotentialError, TorchscapeError
from torchscape.memory import Limits, attempt, available_memory
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.potentials.expected import expect_potential
from torchscape.progress import progress_bar
from torchscape.sampling.chains import Chains, Sampler
from torchscape.sampling.langevin import BAOAB
from torchscape.transfer import moved
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO

__all__ = ["Samples", "sample"]

_PROBE, _BATCH = -2, -3  # what a random number is for; steps count from 0, and -1 draws the first momenta


@brief
@dataclasses.dataclass(frozen=True)
class Samples:
    """K kept states of each of B chains.

    All lie where the chains do, or on the host if they would take more than a 16th of a device's memory; ``state``
    stays with the chains.

    Attributes:
        x: positions, or None where they were not wanted.
        energy: U.
        kinetic: kinetic temperature p.p / D; NaN for a sampler without momenta.
        virial: 1/2 x.grad U, of mean D T / 2 where U confines.
        grad_square: |grad U|^2.
        laplacian: an unbiased estimate of tr Hess U, or None where it was not wanted.
        acceptance: mean probability of acceptance over the steps that were recorded, per chain.
        temperature: of every chain.
        status: ``RUNNING``, or ``NOT_FINITE`` for a chain that broke down: discard it.
        observed: the observables, by name, each [K B ...].
        state: where the chains stand; hand it to :func:`sample` again to continue.
        sampler: what made them.
        bounded: whether walls confine the chains (the virial then has a part from the walls).
        thin: steps between kept states.
        interrupted: whether Ctrl-C ended the run.
    """

    x: Float[Tensor, "K B D"] | None
    energy: Float[Tensor, "K B"]
    kinetic: Float[Tensor, "K B"]
    virial: Float[Tensor, "K B"]
    grad_square: Float[Tensor, "K B"]
    laplacian: Float[Tensor, "K B"] | None
    acceptance: Float[Tensor, "B"]
    temperature: Float[Tensor, "B"]
    status: Int[Tensor, "B"]
    observed: Mapping[str, Tensor]
    state: Chains
    sampler: Sampler
    bounded: bool
    thin: int
    interrupted: bool

    def __len__(self) -> int:
        return len(self.energy)

    @property
    def alive(self) -> Bool[Tensor, "B"]:
        """Chains that never broke down."""
        return self.status == Status.RUNNING

    @property
    def points(self) -> Float[Tensor, "S D"]:
        """All kept positions of the chains that are alive, as one batch."""
        if self.x is None:
            raise TorchscapeError("no positions were kept: call sample(..., keep_positions=True)")
        return self.x[:, self.alive].flatten(0, 1)

    def only(self, chains: Int[Tensor, "C"] | Bool[Tensor, "B"] | slice) -> Samples:
        """The records of the chosen chains, for instance of one temperature; ``state`` remains that of all.

        Example:
            >>> from torchscape.potentials import Quadratic
            >>> samples = sample(Quadratic([1.0]), torch.zeros(6, 1).double(), steps=4)
            >>> samples.only(slice(0, None, 3)).energy.shape
            torch.Size([4, 2])
        """
        columns: dict[str, Any] = {}
        for name in ("x", "energy", "kinetic", "virial", "grad_square", "laplacian"):
            value = getattr(self, name)
            columns[name] = None if value is None else value[:, chains]
        for name in ("acceptance", "temperature", "status"):
            columns[name] = getattr(self, name)[chains]
        observed = {name: value[:, chains] for name, value in self.observed.items()}
        return dataclasses.replace(self, observed=observed, **columns)


def sample(
    potential: Potential,
    starts: Float[Tensor, "B D"] | Chains,
    *,
    sampler: Sampler | None = None,
    steps: int = 1000,
    burn_in: int = 0,
    thin: int = 1,
    temperature: float | Float[Tensor, "B"] = 1.0,
    seed: int = 0,
    chains: Int[Tensor, "B"] | None = None,
    batch_size: int | None = None,
    keep_positions: bool = True,
    observables: Mapping[str, Callable[[Float[Tensor, "B D"]], Tensor]] | None = None,
    laplacian: bool = False,
    progress: bool = False,
) -> Samples:
    """Draw from exp(-U / T) by many chains at once. Ctrl-C returns what there is.

    For the posterior of a :class:`~torchscape.potentials.ModulePotential`, whose energy is a mean over N samples,
    take T = 1 / N, or sample its :class:`~torchscape.potentials.Posterior` at T = 1.

    Args:
        potential: U; a box is respected by reflection at its walls.
        starts: one starting point per chain, or the ``state`` of earlier :class:`Samples` to continue (whose
            temperature and seed then hold).
        sampler: :class:`BAOAB` with a step of a tenth of the potential's length scale by default.
        steps: steps recorded after burn-in.
        burn_in: steps made before, during which samplers adapt.
        thin: every how many steps a state is kept: K = steps // thin.
        temperature: one for all chains, or one each.
        seed, chains: chain i makes the steps of (seed, chains[i]), whatever else is in the batch.
        batch_size: gradients from so many data samples, drawn afresh (with replacement) at every step, the same
            for all chains; for potentials with ``on(indices)``. What is recorded is evaluated on all the data.
        keep_positions: False where K B D numbers are too many; ``observables`` then say what to keep instead.
        observables: functions of the positions [B D] -> [B ...], recorded whenever a state is kept.
        laplacian: record tr Hess U too (one Hessian-vector product per kept state), for the configurational
            temperature.
        progress: show a progress bar of steps.

    Raises:
        PotentialError: on unfit starts, or ``batch_size`` for a potential without ``on``.
        TorchscapeError: on counts that make no sense, or minibatches with a sampler that tests energies.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> u = Quadratic([1.0, 100.0])
        >>> samples = sample(u, torch.zeros(200, 2).double(), sampler=BAOAB(0.15), steps=400, burn_in=100, thin=4)
        >>> samples.x.shape, [round(v, 1) for v in (samples.points.var(0) * torch.tensor([1, 100])).tolist()]
        (torch.Size([100, 200, 2]), [1.0, 1.0])
    """
    expect_potential("sample", potential)
    COUNT_OR_ZERO.check("sample", steps=steps, burn_in=burn_in)
    COUNT.check("sample", thin=thin)
    COUNT.or_none.check("sample", batch_size=batch_size)
    sampler = BAOAB(0.1 * potential.length_scale) if sampler is None else sampler
    _refuse(potential, sampler, batch_size)
    if isinstance(starts, Chains):
        state = starts
    else:
        state = sampler.init(potential, starts, temperature=temperature, seed=seed, chains=chains)
    recorder = _Recorder(potential, sampler, observables or {}, keep_positions, laplacian, steps // thin)
    return _draw(potential, sampler, state, recorder, steps, burn_in, thin, batch_size, progress)


def _draw(
    potential: Potential,
    sampler: Sampler,
    state: Chains,
    recorder: _Recorder,
    steps: int,
    burn_in: int,
    thin: int,
    batch_size: int | None,
    progress: bool,
) -> Samples:
    """What the recorder has of the steps after those of the burn-in."""
    acceptance, n, interrupted = torch.zeros_like(state.energy), 0, False
    with progress_bar(show=progress, total=burn_in + steps, desc="sample", unit=" steps") as bar:
        try:
            for _ in range(burn_in):
                state = sampler.step(_on_batch(sampler, potential, batch_size, state), state)
                bar.update()
            state = sampler.settled(state)
            for n in range(1, steps + 1):
                state = sampler.step(_on_batch(sampler, potential, batch_size, state), state)
                acceptance += state.acceptance
                if n % thin == 0:
                    recorder.add(state, current=sampler.is_evaluated and batch_size is None)
                bar.update()
        except KeyboardInterrupt:
            interrupted = True
    columns = recorder.columns(state)
    of_chains = {
        "acceptance": acceptance / max(1, n),
        "temperature": state.temperature,
        "status": state.status,
    }
    told = moved(of_chains, columns["energy"].device)
    return Samples(
        **columns,
        acceptance=told["acceptance"],
        temperature=told["temperature"],
        status=told["status"],
        state=state,
        sampler=sampler,
        bounded=potential.bounds is not None,
        thin=thin,
        interrupted=interrupted,
    )


def _refuse(potential: Potential, sampler: Sampler, batch_size: int | None) -> None:
    if batch_size is None:
        return
    if sampler.is_exact:
        raise TorchscapeError(
            f"{type(sampler).__name__} decides by energies, which a minibatch does not give: "
            "leave batch_size out, or use SGLD, BAOAB, AdaptiveLangevin or CCAdL"
        )
    if not (hasattr(potential, "on") and hasattr(potential, "n_samples")):
        raise PotentialError(
            f"{type(potential).__name__} has no data to draw minibatches from: leave batch_size out, "
            "or use a ModulePotential"
        )


def _on_batch(sampler: Sampler, potential: Any, size: int | None, state: Chains) -> Potential:
    """The potential of this step's minibatch."""
    if size is None:
        return potential
    u = random.uniform(random.fold(state.seed, _BATCH, state.n_steps).reshape(1), size)[0]
    return sampler.on_batch(potential, (u * potential.n_samples).long())


class _Recorder:
    """Writes kept states into buffers of the final size, which are cut where a run ended early.

    Records that would take more than their share of a device's memory stay there for a block of states only, which
    then moves to the host in one copy.
    """

    def __init__(self, potential, sampler, observables, keep_positions, laplacian, n: int) -> None:
        self.potential, self.sampler, self.observables = potential, sampler, observables
        self.keep_positions, self.laplacian = keep_positions, laplacian
        self.n, self.size, self.block = 0, n, n
        self.buffers: dict[str, Tensor] = {}
        self.on_host: dict[str, Tensor] = {}  # of the final size; empty where all stay with the chains

    @property
    def is_moving(self) -> bool:
        """Whether the records go to the host."""
        return self.block < self.size

    def add(self, state: Chains, *, current: bool) -> None:
        values = dict(self._values(state, current))
        if not self.buffers:
            self._make_room(values, state.x.device)
        for name, value in values.items():
            self.buffers[name][self.n % self.block] = value
        self.n += 1
        if self.is_moving and self.n % self.block == 0:
            self._move(self.block)

    def _make_room(self, values: Mapping[str, Tensor], device: torch.device) -> None:
        def buffers(n: int) -> dict[str, Tensor]:
            return {name: value.new_empty(n, *value.shape) for name, value in values.items()}

        if is_host(device):
            self.buffers = buffers(self.size)
            return
        each = sum(value.numel() * value.element_size() for value in values.values())
        room = available_memory(device) // 4
        if each * self.size > room:
            self.block = max(1, room // (2 * max(1, each)))  # side by side for the copy they take as much again
        while True:
            fits, made = attempt(buffers, self.block)
            if fits:
                break
            if self.block == 1:
                raise OutOfMemory(f"not even one kept state fits into the memory of {device}: keep less ({made})")
            self.block = Limits().halve(None, self.block, "kept states")
        self.buffers = made
        if self.is_moving:
            self.on_host = {
                name: torch.empty(self.size, *value.shape, dtype=value.dtype) for name, value in values.items()
            }

    def _move(self, n: int) -> None:
        """The last ``n`` kept states, a block or what there is of one."""
        block = moved({name: buffer[:n] for name, buffer in self.buffers.items()}, HOST)
        for name, values in block.items():
            self.on_host[name][self.n - n : self.n] = values

    def _values(self, state: Chains, current: bool) -> Iterator[tuple[str, Tensor]]:
        x = state.x
        energy, grad = (state.energy, state.grad) if current else self.potential.energy_and_grad(x)
        if self.keep_positions:
            yield "x", x
        yield "energy", energy
        yield (
            "kinetic",
            state.p.square().mean(1) if self.sampler.has_momenta else torch.full_like(energy, torch.nan),
        )
        yield "virial", 0.5 * (x * grad).sum(1)
        yield "grad_square", grad.square().sum(1)
        if self.laplacian:
            yield "laplacian", self._trace(state)
        for name, f in self.observables.items():
            yield f"observed {name}", f(x)

    def _trace(self, state: Chains) -> Float[Tensor, "B"]:
        """Hutchinson's estimate v.Hv of the trace, v of independent random signs."""
        u = random.uniform(random.fold(state.key, state.n_steps, _PROBE), self.potential.ndim, state.x.dtype)
        v = torch.where(u < 0.5, -1.0, 1.0).to(u.dtype)
        return (v * self.potential.hvp(state.x, v)).sum(1)

    def columns(self, state: Chains) -> dict[str, Any]:
        if self.is_moving and self.n % self.block:
            self._move(self.n % self.block)
        none = state.energy.new_empty(0, len(state))
        kept = {name: buffer[: self.n] for name, buffer in (self.on_host or self.buffers).items()}
        columns: dict[str, Any] = {
            name: kept.get(name, none) for name in ("energy", "kinetic", "virial", "grad_square")
        }
        columns["x"] = kept.get("x", state.x.new_empty(0, *state.x.shape)) if self.keep_positions else None
        columns["laplacian"] = kept.get("laplacian", none) if self.laplacian else None
        columns["observed"] = {name: kept[f"observed {name}"] for name in self.observables if self.n}
        return columns
