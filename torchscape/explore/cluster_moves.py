"""Trial moves of clusters: loosely bound atoms, unlike atoms, seeds, symmetry, compression, groups about bonds."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence

import torch

from torchscape import random
from torchscape.errors import OptionError, TorchscapeError
from torchscape.explore.moves import Gaussian, Move
from torchscape.explore.placements import directions, filled, grown, repeated, turned
from torchscape.landscape import Landscape
from torchscape.optimise import relax
from torchscape.optimise.ledger import unrecorded
from torchscape.potentials.base import Potential
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, POSITIVE, UNIT, Range, check_fields

__all__ = ["Angular", "Compress", "Exchange", "GroupRotation", "Seeding", "Symmetrise"]


@dataclasses.dataclass(frozen=True)
class Angular:
    """Loosely bound atoms are put elsewhere on the surface; all others stay.

    An atom is loose if its share of the energy is above ``looseness`` times that of the most strongly bound one;
    the loosest of all always moves. Its new direction from the centre is uniform. Wales & Doye 1997, doi
    10.1021/jp970984n.

    Attributes:
        looseness: 0 to 1; in compact clusters 0.4 moves atoms with few neighbours, 1 all but the innermost.
        outermost: whether a moved atom gets the distance from the centre of the outermost atom, as there; or keeps
            its own.

    Raises:
        TorchscapeError: on use, for a potential that has no energies of atoms.
    """

    looseness: float | int = 0.4
    outermost: bool = True

    def __post_init__(self) -> None:
        check_fields(self, looseness=UNIT)

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        p = _atoms(potential, x, "Angular")
        share = _atom_energies(potential, x, "Angular")
        most = share.amin(1, keepdim=True)
        loose = (share > self.looseness * most) & (most < 0)
        loose.scatter_(1, share.argmax(1, keepdim=True), True)
        centre = _centre(potential, p)
        radius = (p - centre).norm(dim=2, keepdim=True)
        radius = radius.amax(1, keepdim=True) if self.outermost else radius
        moved = centre + radius * directions(key, p.shape[1], p)
        return torch.where(loose[..., None], moved, p).flatten(1)


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Two unlike atoms exchange their places, once or several times: for clusters of more than one kind.

    The set of positions stays; which homotop it is changes.

    Attributes:
        pairs: exchanges per move.

    Raises:
        TorchscapeError: on use, where all atoms are alike.
    """

    pairs: int = 1

    def __post_init__(self) -> None:
        check_fields(self, pairs=COUNT)

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        p = _atoms(potential, x, "Exchange")
        names = getattr(potential, "species", None) or ()
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        kinds = torch.tensor([numbers[name] for name in names])
        unlike = (kinds[:, None] != kinds).triu().nonzero()
        if not len(unlike):
            raise TorchscapeError(
                "Exchange moves need atoms of two kinds (species=); all are alike here: leave it out"
            )
        table = unlike.to(x.device)
        u = random.uniform(key, self.pairs)
        row = torch.arange(len(x), device=x.device)
        p = p.clone()
        for number in range(self.pairs):
            i, j = table[(u[:, number] * len(table)).long()].T
            p[row, i], p[row, j] = p[row, j], p[row, i]
        return p.flatten(1)


@dataclasses.dataclass(frozen=True)
class Seeding:
    """A fresh start from a smaller cluster: its atoms as they are, and the others placed on its surface at random.

    Each of the others is put where there is most room among 16 random directions, half a pair distance outside the
    core. Where there are several kinds, which atom takes which place is drawn, too.

    Attributes:
        core: coordinates of the smaller cluster (x_1, y_1, z_1, ...), or a landscape file, whose lowest minimum
            is taken.

    Raises:
        TorchscapeError: without a core on use, or for one that is not smaller.

    Example:
        >>> from torchscape.potentials import LennardJones
        >>> seeding = Seeding(core=(0, 0, 0, 1.1, 0, 0, 0, 1.1, 0))
        >>> u = LennardJones(5)
        >>> seeding(u, u.sample(2), torch.ones(2).double(), random.fold(0, torch.arange(2))).shape
        torch.Size([2, 15])
    """

    core: Sequence[float | int] | str | os.PathLike[str] = ()

    def __post_init__(self) -> None:
        core = self.core
        if isinstance(core, str | os.PathLike):
            with Landscape.open(core, create=False) as landscape:
                if landscape.n_minima == 0:
                    raise OptionError(f"Seeding: {core} has no minimum yet: explore the smaller cluster first")
                core = landscape.minima(landscape.minimum_ids()[:1]).x[0].tolist()
        object.__setattr__(self, "core", tuple(float(value) for value in core))

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        assert isinstance(self.core, tuple)
        p = _atoms(potential, x, "Seeding")
        n, dim = p.shape[1:]
        if not self.core or len(self.core) % dim or len(self.core) >= n * dim:
            raise TorchscapeError(
                f"Seeding: core has {len(self.core)} coordinates; give a cluster of 1 to {n - 1} atoms in {dim} "
                "dimensions, as numbers or as the landscape file of the smaller cluster"
            )
        core = x.new_tensor(self.core).reshape(-1, dim)
        core = core - core.mean(0)
        placed = grown(core.expand(len(x), -1, -1), n, _pair_distance(potential), key)
        if len(set(getattr(potential, "species", None) or ())) > 1:
            order = random.permutation(random.fold(key, 1), n)
            placed = placed.gather(1, order[:, :, None].expand_as(placed))
        return placed.flatten(1)


@dataclasses.dataclass(frozen=True)
class Compress:
    """Two-phase quench: another move, then downhill on U + k sum_i |x_i - centre|^2, and from there on U as ever.

    Compression favours compact structures: the first phase merges the basins of spread-out ones with theirs. J.
    P. K. Doye, Phys. Rev. E 62, 8753 (2000), doi 10.1103/PhysRevE.62.8753.

    Attributes:
        strength: k, in units of the potential's ``energy_scale`` over its unit of length squared.
        move: what comes before.
        max_evaluations: of the first phase, for each walker. They are not counted among those of the search.
    """

    strength: float | int = 1.0
    move: Move = dataclasses.field(default_factory=Gaussian)
    max_evaluations: int = 100

    def __post_init__(self) -> None:
        check_fields(self, strength=POSITIVE, max_evaluations=COUNT)

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        start = self.move(potential, x, step, key)
        _atoms(potential, start, "Compress")
        squeezed = _Compressed(potential, self.strength * potential.energy_scale)
        with unrecorded():
            found = relax(
                squeezed, start, tol=1e-2 * potential.energy_scale, max_evaluations=self.max_evaluations
            ).x
        return torch.where(torch.isfinite(found).all(1, keepdim=True), found, start)


@dataclasses.dataclass(frozen=True)
class Symmetrise:
    """The inner part of the cluster is made symmetric: one sector about an axis, repeated all around it.

    The axis leads from the centre through a random atom or the middle of a random pair; its order is drawn from
    ``orders``. Atoms are taken from the centre outwards: those near the axis are put onto it, others are
    repeated, as long as there are atoms left and nothing overlaps. What remains is placed on the surface. For
    clusters of like atoms in space. After M. T. Oakley, R. L. Johnston and D. J. Wales, Phys. Chem. Chem. Phys.
    15, 3965 (2013), doi 10.1039/c3cp44332a, who symmetrise by other schemes.

    Attributes:
        orders: of the axes.

    Raises:
        TorchscapeError: on use, for unlike atoms or in a plane.
    """

    orders: Sequence[int] = (2, 3, 4, 5, 6)

    def __post_init__(self) -> None:
        check_fields(self, orders=Range(low=2, whole=True).or_several)

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        p = _atoms(potential, x, "Symmetrise")
        if p.shape[2] != 3 or len(set(getattr(potential, "species", None) or ())) > 1:
            raise TorchscapeError("Symmetrise moves are for like atoms in three dimensions: leave them out here")
        centre = _centre(potential, p)
        q = p - centre
        u = random.uniform(random.fold(key, 0), 3, x.dtype)
        first, second = (q[torch.arange(len(q), device=x.device), (u[:, k] * q.shape[1]).long()] for k in (0, 1))
        axis = torch.where(u[:, 2:] < 0.5, first, first + second)
        axis = torch.where(axis.norm(dim=1, keepdim=True) > 1e-6, axis, axis.new_tensor([0.0, 0.0, 1.0]))
        axis = torch.nn.functional.normalize(axis, dim=1)
        orders = torch.tensor(list(self.orders), device=x.device)
        which = random.uniform(random.fold(key, 1), 1)[:, 0]
        order = orders[(which * len(orders)).long()]
        sites, count = repeated(q, axis, order, _pair_distance(potential), max(self.orders))
        return (centre + filled(sites, count, _pair_distance(potential), random.fold(key, 2))).flatten(1)


@dataclasses.dataclass(frozen=True)
class GroupRotation:
    """Groups of atoms are turned about bonds, each as a rigid body: for chains and molecules.

    Each group turns with probability ``probability`` by an angle of up to step half-turns either way (a step of 1
    and more is any angle). One group after the other, in the order given. K. Mochizuki et al., Phys. Chem. Chem.
    Phys. 16, 2842 (2014), doi 10.1039/c3cp53537a.

    Attributes:
        groups: (i, j, members) each: the axis leads from atom i to atom j, ``members`` are the atoms that turn.
        probability: of each group, at every move.

    Raises:
        TorchscapeError: on use without groups, or for atoms that are not there.

    Example:
        >>> chain = GroupRotation(groups=((0, 1, (2, 3)),))
        >>> x = torch.tensor([[0.0, 0, 0, 1, 0, 0, 1, 1, 0, 2, 1, 0]], dtype=torch.float64)
        >>> u = Potential(); u.ndim = 12
        >>> turned = chain(u, x, torch.ones(1).double(), random.fold(0, torch.arange(1))).reshape(4, 3)
        >>> turned[:2].tolist(), round(float((turned[2] - turned[3]).norm()), 12)
        ([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], 1.0)
    """

    groups: Sequence[tuple[int, int, Sequence[int]]] = ()
    probability: float | int = 1.0

    def __post_init__(self) -> None:
        if not all(len(group) == 3 for group in self.groups):
            raise OptionError(f"GroupRotation: groups={self.groups!r:.60}; give (i, j, members) for each group")
        if any(i == j or i in members or j in members for i, j, members in self.groups):
            raise OptionError("GroupRotation: the two atoms of an axis differ, and are none of those that turn")
        check_fields(self, probability=UNIT)

    def __call__(
        self, potential: Potential, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], key: Int[Tensor, "B"]
    ) -> Float[Tensor, "B D"]:
        named = [atom for i, j, members in self.groups for atom in (i, j, *members)]
        if not named or x.shape[1] % 3 or min(named) < 0 or 3 * max(named) >= x.shape[1]:
            raise TorchscapeError(
                f"GroupRotation: the groups name atoms {min(named, default=0)} to {max(named, default=0)} of "
                f"{x.shape[1] / 3:g} in space: give groups=((i, j, members), ...), with atoms that are there"
            )
        p = x.reshape(len(x), -1, 3).clone()
        u = random.uniform(key, 2 * len(self.groups), x.dtype)
        for number, (i, j, members) in enumerate(self.groups):
            some = torch.tensor(list(members), device=x.device)
            angle = math.pi * step.clamp(max=1.0) * (2 * u[:, 2 * number] - 1)
            axis = torch.nn.functional.normalize(p[:, j] - p[:, i], dim=1)
            moved = p[:, j, None] + turned(p[:, some] - p[:, j, None], axis, angle)
            turns = u[:, 2 * number + 1] < self.probability
            p[:, some] = torch.where(turns[:, None, None], moved, p[:, some])
        return p.flatten(1)


class _Compressed(Potential):
    """U + k sum_i |x_i - centre|^2."""

    def __init__(self, potential: Potential, strength: float) -> None:
        self.potential, self.strength = potential, strength
        self.ndim, self.dtype, self.device = potential.ndim, potential.dtype, potential.device
        self.bounds, self.symmetry = potential.bounds, potential.symmetry
        self.length_scale, self.max_rows = potential.length_scale, potential.max_rows
        self.energy_scale = potential.energy_scale

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return self.potential.energy(x) + self.strength * self._from_centre(x).square().sum(1)

    def energy_and_grad(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        energy, grad = self.potential.energy_and_grad(x)
        apart = self._from_centre(x)
        return energy + self.strength * apart.square().sum(1), grad + 2 * self.strength * apart

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        product: Float[Tensor, "B D"] = self.potential.hvp(x, v)
        return product + 2 * self.strength * self._from_centre(v)

    def _from_centre(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        p = _atoms(self.potential, x, "Compress")
        return (p - _centre(self.potential, p)).flatten(1)


def _centre(potential: Potential, p: Float[Tensor, "B n k"]) -> Float[Tensor, "B 1 k"]:
    """The centroid, or the origin where the atoms are bound to it."""
    return (
        p.mean(1, keepdim=True) if getattr(potential.symmetry, "translation", True) else torch.zeros_like(p[:, :1])
    )


def _pair_distance(potential: Potential) -> float:
    return float(getattr(potential, "pair_distance", 1.0))


def _atoms(potential: Potential, x: Float[Tensor, "B D"], move: str) -> Float[Tensor, "B n k"]:
    atoms = getattr(potential, "atoms", None)
    if atoms is None:
        raise TorchscapeError(f"{move} moves need a cluster, a ClusterPotential; use Gaussian() here")
    if getattr(potential, "box", None) is not None and move != "Exchange":
        raise TorchscapeError(f"{move} moves are for free clusters, not for a periodic box; use Gaussian() here")
    p: Float[Tensor, "B n k"] = atoms(x)
    return p


def _atom_energies(potential: Potential, x: Float[Tensor, "B D"], move: str) -> Float[Tensor, "B n"]:
    try:
        with torch.no_grad():
            energies: Float[Tensor, "B n"] = potential.atom_energies(x)  # type: ignore[attr-defined]
    except (NotImplementedError, AttributeError):
        raise TorchscapeError(
            f"{move} moves ask how strongly each atom is bound: write atom_energies(x): [B D] -> [B n] for "
            f"{type(potential).__name__}"
        ) from None
    return energies
