"""Atomic clusters: what they share, and the Lennard-Jones + Axilrod-Teller trimer."""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Sequence

import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.memory import ONE_LARGE, rows_that_fit
from torchscape.potentials.base import Potential
from torchscape.potentials.checks import available_device, available_dtype
from torchscape.potentials.compiled import Setting, check_setting
from torchscape.symmetry.base import Symmetry
from torchscape.symmetry.cluster import ClusterSymmetry
from torchscape.symmetry.periodic_cluster import PeriodicAtoms
from torchscape.types import Bool, Float, Tensor
from torchscape.validation import FINITE, POSITIVE, Range

__all__ = ["ClusterPotential", "Container", "Trimer"]

_CLOSEST = 0.7  # starts keep atoms this far apart where there is room
_TRIES = 16
_DERIVATIVES = ("energy_and_grad", "_hvp", "hvp", "hessian")
_nested = threading.local()  # whether an energy is being evaluated within another


class ClusterPotential(Potential):
    """n atoms in space or in a plane: U is unchanged by rotation, reflection, translation, exchange of like atoms.

    :func:`torchscape.explore` tries whether that is so, and refuses a potential of which it is not: atoms that are
    bound to the origin say ``translation=False``, and a subclass with less symmetry sets ``self.symmetry``.

    A row holds (x_1, y_1, z_1, x_2, ...), in units of the pair diameter sigma; in two dimensions (x_1, y_1, x_2,
    ...). A subclass writes :meth:`energy`;
    symmetry, zero modes, starting points and the container come from here. (One that writes its gradient, Hessian
    or products in closed form adds those of :attr:`wall` to them, and says so with ``walls_included = True``.)

    An optional *container* keeps loose atoms from drifting away, where the forces vanish and anything looks
    stationary. It adds sum_i max(0, |x_i - centroid|^2/R^2 - 1)^3, twice continuously differentiable and
    exactly zero while every atom is within R of the centroid: bound clusters have their pure energies, and an
    atom at the wall is always pulled back, so that no minimum appears there.

    Args:
        n_atoms: number of atoms n, so that D = 3 n.
        species: a label per atom, where not all are alike.
        container: the radius R, or None for no container.
        translation: whether U is unchanged by translation; False where the atoms are bound to the origin.
        dim: dimensions of space, 3 or 2.
        box: the side of a periodic box, or one for each dimension; None for free atoms. In a box there is no
            container, and no rotation among the symmetries.
        dtype, device: of the points.
        compile: whether gradients are computed by compiled code, as of every :class:`Potential`.

    Raises:
        PotentialError: for fewer than two atoms, other dimensions, a container without extent, or one of a
            subclass whose own derivatives leave it out.

    Example:
        >>> import torch
        >>> class Springs(ClusterPotential):
        ...     def energy(self, x):
        ...         p = x.reshape(len(x), -1, 3)
        ...         return ((p - p.mean(1, keepdim=True)) ** 2).sum((1, 2))
        >>> Springs(4).ndim
        12
    """

    length_scale = 0.4
    pair_distance = 2 ** (1 / 6)  # at which two atoms are bound most strongly, about
    walls_included = False

    def __init_subclass__(cls, **options) -> None:
        """Every energy that a subclass writes gets the container's."""
        super().__init_subclass__(**options)
        if "energy" in cls.__dict__:
            cls.energy = _walled(cls.energy)  # type: ignore[method-assign]
        if any(name in cls.__dict__ for name in _DERIVATIVES) and "walls_included" not in cls.__dict__:
            cls.walls_included = False

    def __init__(
        self,
        n_atoms: int,
        *,
        species: Sequence[object] | None = None,
        container: float | int | None = None,
        translation: bool = True,
        dim: int = 3,
        box: float | int | Sequence[float | int] | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        compile: Setting = False,
    ):
        check_setting(type(self).__name__, compile)
        Range(low=2, whole=True).check(type(self).__name__, PotentialError, n_atoms=n_atoms)
        Range(low=2, high=3, whole=True).check(type(self).__name__, PotentialError, dim=dim)
        POSITIVE.or_none.check(type(self).__name__, PotentialError, container=container)
        self.n_atoms, self.dim, self.ndim, self.compile = n_atoms, dim, dim * n_atoms, compile
        self.species = None if species is None else tuple(species)
        self.symmetry: Symmetry = ClusterSymmetry(n_atoms, dim, species=species, translation=translation)
        self.box: tuple[float, ...] | None = None
        if box is not None:
            POSITIVE.or_several.check(type(self).__name__, PotentialError, box=box)
            self.box = tuple(map(float, box)) if isinstance(box, Sequence) else (float(box),) * dim
            if len(self.box) != dim or container is not None or not translation:
                raise PotentialError(
                    f"box={box!r}: give {dim} sides or one for all, no container and translation=True"
                )
            self.symmetry = PeriodicAtoms(n_atoms, self.box, species=species)
        self.container = None if container is None else float(container)
        self.dtype, self.device = available_dtype(dtype), available_device(device)
        # On the device once: every evaluation asks for them.
        self._sides = torch.tensor(self.box or (torch.inf,) * dim, dtype=self.dtype, device=self.device)
        written = [m for m in _DERIVATIVES if getattr(type(self), m) is not getattr(ClusterPotential, m)]
        if container is not None and written and not self.walls_included:
            raise PotentialError(
                f"{type(self).__name__} writes {', '.join(written)} of its own, without the container: add those "
                "of self.wall where it is not None, and set walls_included = True in the class; or container=None"
            )
        # Hessian-vector products by autograd keep several [B n n k] arrays: about 2^24 numbers each at most.
        self.max_rows = max(64, rows_that_fit(dim * n_atoms**2, self.device, on_host=ONE_LARGE))

    def settings(self):
        species = None if self.species is None else [str(label) for label in self.species]
        plane: dict[str, object] = {} if self.dim == 3 else {"dim": self.dim}
        plane |= {} if self.box is None else {"box": self.box}
        return {"ndim": self.ndim, "species": species, "container": self.container, **plane}

    @property
    def wall(self) -> Container | None:
        """The container. Energies have it added; closed forms of their derivatives must add it themselves."""
        return None if self.container is None else Container(self.container)

    def atoms(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n k"]:
        """The rows as positions of atoms in k dimensions."""
        return x.reshape(x.shape[0], self.n_atoms, self.dim)

    def atom_energies(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n"]:
        """How strongly each atom is bound: its share of U, the container left out; in all, they are U.

        What moves of loosely bound atoms ask. Ready-made clusters have it; write it for one of your own.
        """
        raise NotImplementedError(f"{type(self).__name__} must define atom_energies(x): [B D] -> [B n]")

    def is_bound(self, x: Float[Tensor, "B D"]) -> Bool[Tensor, "B"]:
        """Whether every cluster hangs together: moving its parts one sigma nearer changes the energy.

        The parts are those on either side of the widest gap, of two sigma or more, of the shortest tree that joins
        the atoms. Where moving them changes less than tells two minima apart (1e-6 of ``energy_scale``), they are
        out of each other's reach, and how far they are from each other is arbitrary.
        """
        if len(x) == 0 or self.box is not None:
            return torch.ones(len(x), dtype=torch.bool, device=x.device)
        p = self.atoms(x)
        part, gap = _widest_gap(torch.cdist(p, p))
        share = part.to(x.dtype)[:, :, None]
        centres = [(p * w).sum(1) / w.sum(1) for w in (share, 1 - share)]
        nearer = p + torch.nn.functional.normalize(centres[1] - centres[0], dim=1)[:, None] * share
        energy, moved = self.energy_and_grad(torch.cat([p, nearer]).flatten(1))[0].reshape(2, -1)
        rounding = 1e3 * torch.finfo(x.dtype).eps * energy.abs()
        return (gap < 2.0) | ~((moved - energy).abs() <= 1e-6 * self.energy_scale + rounding)

    @property
    def packing_radius(self) -> float:
        """Radius of a close-packed ball (or disc) of n atoms at the pair minimum, plus one such distance."""
        if self.dim == 2:
            return self.pair_distance * (1 + (math.sqrt(3) * self.n_atoms / (2 * math.pi)) ** 0.5)
        return self.pair_distance * (1 + (3 * self.n_atoms / (4 * math.pi * math.sqrt(2))) ** (1 / 3))

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """``n`` random clusters: atom after atom drawn uniformly from the ball of :attr:`packing_radius`.

        Each atom is the first of 16 draws that is at least 0.7 sigma from those before it (or the loneliest of
        them), because two coincident atoms start at an energy beyond any useful step.
        """
        cluster = random.keys(seed, n, self.device)
        placed = torch.zeros(n, 0, self.dim, dtype=self.dtype, device=self.device)
        for atom in range(self.n_atoms):
            draws = self._ball(random.fold(cluster, atom))
            if atom == 0:
                placed = draws[:, :1]
                continue
            room = self._distances(draws, placed).amin(2).clamp_max(_CLOSEST)
            chosen = draws[torch.arange(n, device=self.device), room.argmax(1)]
            placed = torch.cat([placed, chosen[:, None]], 1)
        return placed.flatten(1)

    def _distances(self, a: Float[Tensor, "B m k"], b: Float[Tensor, "B n k"]) -> Float[Tensor, "B m n"]:
        if self.box is None:
            return torch.cdist(a, b)
        return self.apart(a[:, :, None], b[:, None]).norm(dim=3)

    def apart(self, a: Float[Tensor, "*#S k"], b: Float[Tensor, "*#S k"]) -> Float[Tensor, "*#S k"]:
        """a - b; in a box the shortest of its images."""
        if self.box is None:
            return a - b
        between, sides = a - b, self._sides.to(a)
        return between - sides * (between / sides).round()

    def _ball(self, key) -> Float[Tensor, "B 16 k"]:
        """Sixteen points for each key, uniform in the ball, or in the box."""
        if self.box is not None:
            u = random.uniform(key, self.dim * _TRIES, self.dtype).reshape(-1, _TRIES, self.dim)
            return u * self._sides
        direction = random.normal(random.fold(key, 0), self.dim * _TRIES, self.dtype)
        direction = direction.reshape(-1, _TRIES, self.dim)
        radius = self.packing_radius * random.uniform(random.fold(key, 1), _TRIES, self.dtype) ** (1 / self.dim)
        return radius[:, :, None] * torch.nn.functional.normalize(direction, dim=2)


def _walled(energy: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The energy with that of the container, which the outermost of nested calls (``super().energy(x)``) adds."""

    @functools.wraps(energy)
    def walled(self: ClusterPotential, x: Tensor) -> Tensor:
        if self.container is None or getattr(_nested, "inside", False):
            return energy(self, x)
        _nested.inside = True
        try:
            value = energy(self, x)
        finally:
            _nested.inside = False
        return value + Container(self.container).energy(self.atoms(x))

    return walled


def _widest_gap(distance: Float[Tensor, "B n n"]) -> tuple[Bool[Tensor, "B n"], Float[Tensor, "B"]]:
    """Atoms on one side of the longest edge of the shortest spanning tree, and its length (Prim's algorithm)."""
    b, n, _ = distance.shape
    rows = torch.arange(b, device=distance.device)
    reach, order = distance[:, 0].clone(), torch.zeros(b, n, dtype=torch.int64, device=distance.device)
    joined = torch.zeros_like(reach, dtype=torch.bool)
    joined[:, 0] = True
    gap, cut = distance.new_zeros(b), torch.full((b,), n, device=distance.device)
    for number in range(1, n):
        length, atom = reach.masked_fill(joined, torch.inf).min(1)
        longer = length > gap
        gap, cut = torch.where(longer, length, gap), torch.where(longer, number, cut)
        joined[rows, atom] = True
        order[rows, atom] = number
        reach = torch.minimum(reach, distance[rows, atom])
    # Before it takes the longest edge of all, the tree holds everything on the first atom's side of it.
    return order < cut[:, None], gap


@dataclasses.dataclass(frozen=True)
class Container:
    """W = sum_i max(0, |c_i|^2/R^2 - 1)^3 with c_i = x_i - centroid, and its derivatives.

    Centring is the projector P = 1 - 1/n, so that the gradient is P f' and the Hessian P diag(f'') P.
    """

    radius: float

    def energy(self, p: Float[Tensor, "B n k"]) -> Float[Tensor, "B"]:
        return (self._excess(_centred(p)) ** 3).sum((1, 2))

    def grad(self, p: Float[Tensor, "B n k"]) -> Float[Tensor, "B n k"]:
        c = _centred(p)
        return _centred(6 / self.radius**2 * self._excess(c) ** 2 * c)

    def hvp(self, p: Float[Tensor, "B n k"], v: Float[Tensor, "B n k"]) -> Float[Tensor, "B n k"]:
        """P diag(f'') P v, atom by atom without forming f''."""
        c, v = _centred(p), _centred(v)
        excess, square = self._excess(c), self.radius**2
        along = (c * v).sum(2, keepdim=True)
        return _centred(6 / square * excess**2 * v + 24 / square**2 * excess * along * c)

    def _excess(self, c: Float[Tensor, "B n k"]) -> Float[Tensor, "B n 1"]:
        return (c.square().sum(2, keepdim=True) / self.radius**2 - 1).clamp_min(0)


def _centred(p: Float[Tensor, "B n k"]) -> Float[Tensor, "B n k"]:
    return p - p.mean(1, keepdim=True)


class Trimer(ClusterPotential):
    """Three atoms with Lennard-Jones and Axilrod-Teller forces.

    U = 4 sum_{i<j} (r_ij^-12 - r_ij^-6) + Z (1 + 3 cos a cos b cos c) / (r_12 r_13 r_23)^3, with a, b, c the
    angles of the triangle. At Z = 2 an equilateral triangle and a linear chain (one of three, by the atom in the
    middle) are minima.

    Args:
        strength: Z, in units of epsilon sigma^9.
        container: radius of the container; None (the default) for none.
        dtype, device: of the points.

    Reference: B. M. Axilrod and E. Teller, J. Chem. Phys. 11, 299 (1943), doi 10.1063/1.1723844; as a problem for
    machine learning: A. J. Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c.

    Example:
        >>> import torch
        >>> r = 1.1087628937
        >>> chain = torch.tensor([[-r, 0, 0, 0, 0, 0, r, 0, 0]], dtype=torch.float64)
        >>> round(Trimer().energy(chain).item(), 6)
        -2.219098
    """

    def __init__(self, strength: float | int = 2.0, *, container: float | int | None = None, **place):
        super().__init__(3, container=container, **place)
        FINITE.check("Trimer", PotentialError, strength=strength)
        self.strength = float(strength)

    def settings(self):
        return {**super().settings(), "strength": self.strength}

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        p = self.atoms(x)
        # 3 cos a cos b cos c from squared distances alone: smooth also where the three atoms are in line.
        s, t, u = (p - p.roll(1, 1)).square().sum(2).unbind(1)
        cosines = (s + t - u) * (t + u - s) * (u + s - t) / (8 * s * t * u)
        inverse = torch.stack([s, t, u], 1) ** -3
        pairs = 4 * (inverse * inverse - inverse).sum(1)
        return pairs + self.strength * (1 + 3 * cosines) * (s * t * u) ** -1.5

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """``n`` trimers with the atoms uniform in a cube of side 2 sqrt(3), as in the published experiments."""
        u = random.uniform(random.keys(seed, n, self.device), 9, self.dtype)
        return 2 * math.sqrt(3) * (u - 0.5)

    @staticmethod
    def distances(x: Float[Tensor, "B 9"]) -> Float[Tensor, "B 3"]:
        """(r_12, r_13, r_23) of each row."""
        p = x.reshape(len(x), 3, 3)
        return torch.stack([(p[:, i] - p[:, j]).norm(dim=1) for i, j in ((0, 1), (0, 2), (1, 2))], 1)
