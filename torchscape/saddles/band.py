"""Doubly-nudged elastic bands: many pairs of minima at once, each with as many images as it needs."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.devices import HOST, asking_is_free
from torchscape.errors import OptionError
from torchscape.optimise import LBFGS, run_pool
from torchscape.optimise.mixed import coarse_twin
from torchscape.points import Status
from torchscape.potentials.base import Potential
from torchscape.saddles.nudging import nudged_force
from torchscape.transfer import moved
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, FINITE, NOT_NEGATIVE, POSITIVE, SEED, check_fields

__all__ = ["Band", "Path", "find_paths"]


@brief
@dataclasses.dataclass(frozen=True)
class Path:
    """P bands of at most I images each; images beyond a band's own number repeat its last.

    Attributes:
        x: images, the ends included.
        energy, grad: at every image (gradient zero at the ends, which are taken for minima).
        n_images: images of each band, ends included.
        rms: RMS force across the path, over the band's interior images.
        status: ``CONVERGED``, ``MAX_STEPS`` or ``NOT_FINITE``.
        n_steps: iterations of each band.
    """

    x: Float[Tensor, "P I D"]
    energy: Float[Tensor, "P I"]
    grad: Float[Tensor, "P I D"]
    n_images: Int[Tensor, "P"]
    rms: Float[Tensor, "P"]
    status: Int[Tensor, "P"]
    n_steps: Int[Tensor, "P"]

    @classmethod
    def cat(cls, parts: list[Path]) -> Path:
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def __getitem__(self, rows: Tensor | slice) -> Path:
        return Path(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})

    def __len__(self) -> int:
        return len(self.x)

    @property
    def n_evaluations(self) -> Int[Tensor, "P"]:
        """Energies and gradients that each band has cost: all images once, and the interior ones at every step."""
        return self.x.shape[1] + self.n_steps * (self.n_images - 2)


@dataclasses.dataclass(frozen=True)
class Images:
    """Bands to begin with: their images, ends included, and how many of them each band has."""

    x: Float[Tensor, "P I D"]
    n_images: Int[Tensor, "P"]


@dataclasses.dataclass(frozen=True)
class _Bands:
    """State of the bands in flight."""

    x: Float[Tensor, "P I D"]
    energy: Float[Tensor, "P I"]
    grad: Float[Tensor, "P I D"]
    force: Float[Tensor, "P K"]
    step: Float[Tensor, "P K"]
    n_images: Int[Tensor, "P"]
    rms: Float[Tensor, "P"]
    n_steps: Int[Tensor, "P"]
    status: Int[Tensor, "P"]
    memory: Any


@dataclasses.dataclass(frozen=True)
class Band:
    """Options of the doubly-nudged elastic band (Trygubenko & Wales 2004, doi 10.1063/1.1636455).

    The energy range along the band over its length is the unit of force, so that nothing here depends on the
    potential's units.

    Attributes:
        density: interior images per ``length_scale`` of distance between the ends.
        min_images, max_images: interior images of a band.
        spring: spring constant, in units of force over spacing; it acts along the path and, doubly nudged,
            across it.
        tol: RMS force across the path at which a band has converged, in units of the energy range along it over
            its length. A band only has to suggest saddles, which are then refined on their own.
        steps_per_image, max_steps: iterations at most: per interior image, and in all.
        max_step: longest move of an image per iteration, in units of ``length_scale``.
        memory: L-BFGS pairs. The force is no gradient, so that there is no line search.
        bow: sagitta of the initial path, in units of the distance of the ends; 0 for a straight line. A straight
            line between symmetric images can run through points where the force across it vanishes by symmetry.
        seed: of the direction in which paths are bowed.
    """

    density: float = 0.35
    min_images: int = 9
    max_images: int = 31
    spring: float = 5.0
    tol: float = 0.3
    steps_per_image: float = 15.0
    max_steps: int = 300
    max_step: float = 0.5
    memory: int = 30
    bow: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            density=NOT_NEGATIVE,
            min_images=COUNT,
            max_images=COUNT,
            spring=NOT_NEGATIVE,
            tol=POSITIVE,
            steps_per_image=POSITIVE,
            max_steps=COUNT,
            max_step=POSITIVE,
            memory=COUNT,
            bow=FINITE,
            seed=SEED,
        )
        if self.max_images < self.min_images:
            raise OptionError(
                f"Band: min_images={self.min_images}, max_images={self.max_images}; give a max_images of at least "
                f"min_images"
            )

    def finer(self, factor: int | float) -> Band:
        """The same band with ``factor`` times the images, and as many more iterations."""
        return dataclasses.replace(
            self,
            density=float(factor * self.density),
            min_images=round(factor * self.min_images),
            max_images=round(factor * self.max_images),
            max_steps=round(factor * self.max_steps),
        )

    def n_images(self, length: Float[Tensor, "P"], length_scale: float) -> Int[Tensor, "P"]:
        """Images of bands of this length, ends included: more, the further apart the ends are."""
        interior = (self.density * length / length_scale).ceil().clamp(self.min_images, self.max_images)
        return interior.long() + 2

    def initial(
        self,
        a: Float[Tensor, "P D"],
        b: Float[Tensor, "P D"],
        n_images: Int[Tensor, "P"],
        number: Int[Tensor, "P"],
        most: int | None = None,
    ) -> Float[Tensor, "P I D"]:
        """Evenly spaced images on the line from a to b, bowed by half a sine wave sideways if asked.

        ``number`` is the pair's own, so that its bow does not depend on its batch; ``most`` the largest number of
        images, asked for where it is not known.
        """
        most = int(n_images.max()) if most is None else most
        i = torch.arange(most, device=a.device, dtype=a.dtype)
        u = (i / (n_images[:, None] - 1)).clamp(max=1.0)[:, :, None]
        x = a[:, None] + u * (b - a)[:, None]
        if self.bow:
            key = random.fold(self.seed, number)
            side, line = random.normal(key, a.shape[1], a.dtype), b - a
            square = line.square().sum(1, keepdim=True).clamp(min=torch.finfo(a.dtype).tiny)
            side = side - (side * line).sum(1, keepdim=True) / square * line
            side = side * (self.bow * line.norm(dim=1) / side.norm(dim=1))[:, None]
            x = x + torch.sin(torch.pi * u) * side[:, None]
        return x

    # --- the stepper that the pool runs --------------------------------------------------------------------------

    def init(self, potential: Potential, start: Images) -> _Bands:
        """With the energies of all images."""
        p, i, d = start.x.shape
        zero = torch.zeros(p, dtype=torch.int64, device=start.x.device)
        inner = start.x.new_zeros(p, (i - 2) * d)
        return _Bands(
            x=start.x.clone(),
            energy=potential.energy_and_grad(start.x.reshape(-1, d))[0].reshape(p, i),
            grad=torch.zeros_like(start.x),
            force=inner,
            step=inner.clone(),
            n_images=start.n_images.clone(),
            rms=start.x.new_full((p,), torch.inf),
            n_steps=zero,
            status=torch.full_like(zero, Status.RUNNING),
            memory=self._lbfgs.init_memory(inner),
        )

    def step(self, potential: Potential, state: _Bands) -> _Bands:
        """Evaluate the interior images of all running bands in one batch, and move them. Nothing is rejected."""
        return self.advance(potential, state, *self.evaluate(potential, state))

    def evaluate(self, potential: Potential, state: _Bands) -> tuple[Float[Tensor, "P I"], Float[Tensor, "P I D"]]:
        """Energies and gradients, new at the inner images of running bands.

        Which they are would have to be asked for on a device, where all inner ones are evaluated instead.
        """
        p, i, d = state.x.shape
        wanted = interior(state.n_images, i) & (state.status == Status.RUNNING)[:, None]
        if asking_is_free(wanted):
            flat = torch.nonzero(wanted.reshape(-1))[:, 0]
            e, g = potential.energy_and_grad(state.x.reshape(-1, d)[flat])
            energy = state.energy.reshape(-1).index_copy(0, flat, e).reshape(p, i)
            return energy, state.grad.reshape(-1, d).index_copy(0, flat, g).reshape(p, i, d)
        e, g = potential.energy_and_grad(state.x[:, 1:-1].reshape(-1, d))
        energy, grad, new = state.energy.clone(), state.grad.clone(), wanted[:, 1:-1]
        energy[:, 1:-1] = torch.where(new, e.reshape(p, i - 2), energy[:, 1:-1])
        grad[:, 1:-1] = torch.where(new[..., None], g.reshape(p, i - 2, d), grad[:, 1:-1])
        return energy, grad

    def advance(
        self, potential: Potential, state: _Bands, energy: Float[Tensor, "P I"], grad: Float[Tensor, "P I D"]
    ) -> _Bands:
        """The state after an evaluation; the potential is asked for its scale and box only."""
        p, i, d = state.x.shape
        running = state.status == Status.RUNNING
        inner = interior(state.n_images, i)
        unit = self._unit(state.x, energy, state.n_images)
        spring = self.spring * unit[1]
        force, across = nudged_force(state.x, energy, grad, spring, inner)
        force = force[:, 1:-1].reshape(p, -1)
        count = (d * (state.n_images - 2)).to(unit[0].dtype)
        rms = (across.square().sum((1, 2)) / count).sqrt()
        n_steps = state.n_steps + running
        most = (self.steps_per_image * (state.n_images - 2)).clamp(max=self.max_steps)
        status = state.status
        for condition, code in (
            (n_steps >= most, Status.MAX_STEPS),
            (rms <= self.tol * unit[0] / d**0.5, Status.CONVERGED),
            (~torch.isfinite(force).all(1), Status.NOT_FINITE),
        ):
            status = torch.where(running & condition, int(code), status)

        first = n_steps <= 1
        y = torch.where(first[:, None], 0.0, state.force - force)
        sy = (state.step * y).sum(1)
        keep = running & ~first & (sy > 1e-3 * state.step.norm(dim=1) * y.norm(dim=1))
        reset = running & ~first & ~keep
        memory, move = self._lbfgs.update(state.memory, state.step, y, -force, keep, reset)
        move = self._capped(potential, move.reshape(p, i - 2, d), force.reshape(p, i - 2, d), first | reset)
        moving = (status == Status.RUNNING)[:, None, None]
        x = state.x.clone()
        x[:, 1:-1] += torch.where(moving, move, 0.0)
        if potential.bounds is not None:
            x = potential.bounds.clamp(x)
        return _Bands(
            x=x,
            energy=energy,
            grad=grad,
            force=force,
            step=(x - state.x)[:, 1:-1].reshape(p, -1),
            n_images=state.n_images,
            rms=torch.where(running, rms, state.rms),
            n_steps=n_steps,
            status=status,
            memory=memory,
        )

    def bytes_per_row(self, ndim: int, dtype: torch.dtype) -> int:
        """Memory that a band takes whose images have so many coordinates together."""
        return (2 * self.memory + 12) * ndim * dtype.itemsize

    def result(self, potential: Potential, state: _Bands) -> Path:
        status = torch.where(state.status == Status.RUNNING, int(Status.MAX_STEPS), state.status)
        return Path(state.x, state.energy, state.grad, state.n_images, state.rms, status, state.n_steps)

    # --- parts of a step ----------------------------------------------------------------------------------------

    @property
    def _lbfgs(self) -> LBFGS:
        return LBFGS(memory=self.memory, rescale=None, hold=0.0)

    def _unit(
        self, x: Float[Tensor, "P I D"], energy: Float[Tensor, "P I"], n_images: Int[Tensor, "P"]
    ) -> tuple[Float[Tensor, "P"], Float[Tensor, "P"]]:
        """Energy range over path length, and that over the spacing."""
        length = (x[:, 1:] - x[:, :-1]).norm(dim=2).sum(1).clamp(min=torch.finfo(x.dtype).tiny ** 0.5)
        force = (energy.amax(1) - energy.amin(1)) / length
        return force, force * (n_images - 1) / length

    def _capped(
        self,
        potential: Potential,
        move: Float[Tensor, "P J D"],
        force: Float[Tensor, "P J D"],
        plain: Bool[Tensor, "P"],
    ) -> Float[Tensor, "P J D"]:
        """No image moves further than ``max_step``; without a memory, the first trial is a tenth of that."""
        cap = self.max_step * potential.length_scale
        tiny = torch.finfo(move.dtype).tiny ** 0.5
        largest = force.norm(dim=2).amax(1)[:, None, None].clamp(min=tiny)
        move = torch.where(plain[:, None, None], 0.1 * cap * force / largest, move)
        part: Tensor = (cap / move.norm(dim=2, keepdim=True).clamp(min=tiny)).clamp(max=1.0)
        return move * part


def interior(n_images: Int[Tensor, "P"], i: int) -> Bool[Tensor, "P I"]:
    """Which images are neither ends nor padding."""
    number = torch.arange(i, device=n_images.device)
    return (number > 0) & (number < n_images[:, None] - 1)


def find_paths(
    potential: Potential, a: Float[Tensor, "P D"], b: Float[Tensor, "P D"], options: Band | None = None
) -> list[tuple[Int[Tensor, "K"], Path]]:
    """Relaxed bands between the ends a and b, in groups of similar length: (numbers of the pairs, their paths).

    A group is as wide as its longest band; grouping keeps the padding below a half.

    Example:
        >>> class Wells(Potential):
        ...     ndim = 2
        ...     def energy(self, x):
        ...         return (x[:, 0] ** 2 - 1) ** 2 + (x[:, 1] - x[:, 0] ** 2) ** 2
        >>> ends = torch.tensor([[-1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        >>> (pairs, path), = find_paths(Wells(), ends[:1], ends[1:])
        >>> round(path.energy.max().item(), 3)
        1.0
    """
    options = options or Band()
    n_images = options.n_images((b - a).norm(dim=1), potential.length_scale).to(HOST)
    lots: list[Tensor] = []
    order = n_images.argsort()
    while len(order):
        inside = n_images[order] <= int(1.5 * n_images[order[0]]) + 1
        lots.append(order[inside])
        order = order[~inside]
    groups = []
    widths = [int(n_images[lot].max()) for lot in lots]
    a, b, lots, n_images = moved((a, b, lots, n_images), potential.device)
    for pairs, most in zip(lots, widths, strict=True):
        count = n_images[pairs]
        images = options.initial(a[pairs], b[pairs], count, pairs, most)
        groups.append((pairs, _relaxed(potential, options, Images(images, count))))
    return groups


def _relaxed(potential: Potential, options: Band, bands: Images) -> Path:
    """The bands relaxed: in float32 where precision is mixed, as they only have to suggest where saddles are."""
    twin = coarse_twin(potential, bands.x)
    if twin is None:
        whole: Path = run_pool(options, potential, bands)
        return whole
    coarse: Path = run_pool(options, twin, Images(bands.x.to(twin.dtype), bands.n_images))
    if (charge := getattr(potential, "charge", None)) is not None:
        charge(int(coarse.n_evaluations.sum()))
    columns = {name: getattr(coarse, name).to(bands.x.dtype) for name in ("x", "energy", "grad", "rms")}
    return dataclasses.replace(coarse, **columns)
