"""Rotations of spaces that only linear maps meet: the inside of attention heads, bottlenecks, residual streams."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch

from torchscape import random
from torchscape.symmetry.acting import Acting, overlap_between_copies
from torchscape.symmetry.groups import Bundle, Space
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Rotation", "Turn", "directions", "log_volume_of_orbit", "log_volume_of_rotations", "orthonormal"]

_SINGULAR = 1e-8  # generators that are closer to depending on each other do
# Of the norm of a point: shorter axes are nought, up to the convergence of a minimum. Where nothing but l2 holds
# an axis at nought, a small gradient leaves it as long as the hundredth of a distance that certificates allow.
_DEAD = 1e-3


@dataclasses.dataclass(frozen=True)
class Turn:
    """A group element for every row and copy: the coordinates u of a unit vector of the space become M u.

    Attributes:
        matrix: M.
        inverse: M^-1, where M is no rotation (None: the transpose).
    """

    matrix: Float[Tensor, "B P n n"]
    inverse: Float[Tensor, "B P n n"] | None = None

    @property
    def contragredient(self) -> Float[Tensor, "B P n n"]:
        """M^-T: how the coordinates of linear forms change."""
        return self.matrix if self.inverse is None else self.inverse.mT

    def where(self, rows: Bool[Tensor, "B"]) -> Turn:
        """The same for some rows, and nothing for the others."""
        nothing = torch.eye(self.matrix.shape[-1], dtype=self.matrix.dtype, device=self.matrix.device)
        chosen = rows[:, None, None, None]
        back = None if self.inverse is None else torch.where(chosen, self.inverse, nothing)
        return Turn(torch.where(chosen, self.matrix, nothing), back)

    def after(self, first: Turn) -> Turn:
        """Both, one after the other."""
        back = None
        if self.inverse is not None or first.inverse is not None:
            back = first.reversed().matrix @ self.reversed().matrix
        return Turn(self.matrix @ first.matrix, back)

    def reversed(self) -> Turn:
        """The way back."""
        back = self.matrix.mT if self.inverse is None else self.inverse
        return Turn(back, None if self.inverse is None else self.matrix)


@dataclasses.dataclass(frozen=True)
class Rotation(Acting[Turn]):
    """A space with its bundles: row i of a bundle holds the coordinates along axis i.

    Attributes:
        group: the space.
        bundles: where it lives; with scale +1 where vectors stand, -1 for linear forms.
        number: which of the groups this is.
    """

    group: Space
    bundles: tuple[Bundle, ...]
    number: int
    inner: tuple = ()  # nothing is nested in a space

    def to(self, device: torch.device) -> Rotation:
        return dataclasses.replace(self, bundles=tuple(bundle.to(device) for bundle in self.bundles))

    # --- applying ---------------------------------------------------------------------------------------

    def apply(self, x: Float[Tensor, "B D"], turn: Turn) -> Float[Tensor, "B D"]:
        """The image of every row under its own element."""
        image = x.clone()
        for bundle in self.bundles:
            matrix = turn.contragredient if _is_form(bundle) else turn.matrix
            image[:, bundle.coordinates] = matrix @ image[:, bundle.coordinates]
        return image

    def random(self, key: Int[Tensor, "B"], dtype: torch.dtype, *, spread: float = 0.5) -> Turn:
        """A random rotation or reflection for every key; of general maps the logarithms of the singular values are
        normal with standard deviation ``spread``.
        """
        n, shape = self.group.size, (len(key), self.group.copies, self.group.size, self.group.size)
        count = math.prod(shape[1:])
        left = _orthogonal(random.normal(random.fold(key, 3), count, dtype).reshape(shape))
        if not self.group.is_general or not spread:
            return Turn(left)
        right = _orthogonal(random.normal(random.fold(key, 4), count, dtype).reshape(shape))
        size = (spread * random.normal(random.fold(key, 5), shape[1] * n, dtype)).exp().reshape(*shape[:2], n, 1)
        return Turn(left @ (size * right), right.mT @ (left.mT / size))

    # --- matching ---------------------------------------------------------------------------------------

    def best(self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"], known: frozenset[int] | None = None) -> Turn:
        """The rotation of y that maximises its inner product with a: the orthogonal Procrustes problem.

        Schoenemann 1966, doi 10.1007/BF02289451.
        """
        u, _, vt = torch.linalg.svd(self.overlap(a, y, known))
        return Turn(u @ vt)

    def overlap(
        self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"], known: frozenset[int] | None
    ) -> Float[Tensor, "B P n n"]:
        """Inner products of every axis of a with every axis of y; none (the identity) where nothing is known."""
        n, copies = self.group.size, self.group.copies
        used = [b for b in self.bundles if known is None or b.others <= known]
        if not used:
            return torch.eye(n, dtype=y.dtype, device=y.device).expand(len(y), copies, n, n)
        products = (a[:, b.coordinates] @ y[:, b.coordinates].mT for b in used)
        return _finite(sum(products, y.new_zeros(len(y), copies, n, n)))

    def gain_between_copies(
        self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"], known: frozenset[int] | None
    ) -> Float[Tensor, "B P P"]:
        """The inner product of every copy in a with every copy in y under the best rotation: nuclear norms."""
        used = [b for b in self.bundles if known is None or b.others <= known]
        n, copies = self.group.size, self.group.copies
        overlaps = (overlap_between_copies(b, a, y) for b in used)
        return torch.linalg.svdvals(_finite(sum(overlaps, y.new_zeros(len(y), copies, copies, n, n)))).sum(-1)

    # --- a canonical element ----------------------------------------------------------------------------

    def canonical(self, x: Float[Tensor, "B D"], known: frozenset[int]) -> Turn:
        """The axes of inertia, the longest first; their signs are fixed by what is in canonical order already."""
        axes = torch.linalg.eigh(self.inertia(x)).eigenvectors.flip(-1).mT
        projection = x.new_zeros(axes.shape[:-1])
        for k, bundle in enumerate(self.bundles):
            if bundle.others <= known:
                units = axes @ x[:, bundle.coordinates]
                key = random.fold(self.number, k).reshape(1).to(x.device)
                projection = projection + units @ random.normal(key, units.shape[-1], x.dtype)[0]
        return Turn(torch.where(projection < 0, -1.0, 1.0).to(x)[..., None] * axes)

    def inertia(self, x: Float[Tensor, "B D"], form: bool | None = None) -> Float[Tensor, "B P n n"]:
        """Inner products of the axes of a space with each other, summed over all that lives there.

        With ``form`` over the linear forms only, or over the vectors only.
        """
        n = self.group.size
        used = [b for b in self.bundles if form is None or _is_form(b) is form]
        grams = (x[:, b.coordinates] @ x[:, b.coordinates].mT for b in used)
        return _finite(sum(grams, x.new_zeros(len(x), self.group.copies, n, n)))

    # --- generators -------------------------------------------------------------------------------------

    def modes(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B Z D"]:
        """The tangents of rotations (or of all linear maps) in the planes of the axes of inertia, not normalised.

        Planes in which nothing lives are zero.
        """
        moment, axes = torch.linalg.eigh(self.inertia(x))
        alive = self._alive(moment, x)
        n, copies, device = self.group.size, self.group.copies, x.device
        if self.group.is_general:
            i, j = (
                index.flatten() for index in torch.meshgrid(*[torch.arange(n, device=device)] * 2, indexing="ij")
            )
        else:
            i, j = torch.triu_indices(n, n, 1, device=device)
        mode = x.new_zeros(len(x), copies * len(i), x.shape[1])
        which = torch.arange(copies * len(i), device=device).reshape(copies, len(i), 1, 1)
        for bundle in self.bundles:
            units = axes.mT @ x[:, bundle.coordinates]  # along the axes of inertia
            along_i, along_j = axes.mT[:, :, i, :, None], axes.mT[:, :, j, :, None]
            if not self.group.is_general:
                change = along_i * units[:, :, j, None, :] - along_j * units[:, :, i, None, :]
            elif _is_form(bundle):
                change = -along_j * units[:, :, i, None, :]
            else:
                change = along_i * units[:, :, j, None, :]
            mode[:, which, bundle.coordinates[:, None]] += change
        present = (alive[:, :, i] | alive[:, :, j]).flatten(1)
        return torch.where(present[:, :, None], mode, 0.0)

    def _alive(self, moment: Float[Tensor, "B P n"], x: Float[Tensor, "B D"]) -> Bool[Tensor, "B P n"]:
        """Axes that are longer than nought, by the size of the whole point: every axis of a space may be dead."""
        size = x.square().sum(1).clamp(min=torch.finfo(x.dtype).tiny)
        return moment > _DEAD**2 * size[:, None, None]

    def n_dead(self, x: Float[Tensor, "B D"]) -> Int[Tensor, "B P"]:
        """The number of axes of each copy in which nothing lives."""
        return (~self._alive(torch.linalg.eigvalsh(self.inertia(x)), x)).sum(2)

    def log_volume(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """ln of the volume of all rotations over that of those that leave x alone (generators have length one)."""
        n, dead = self.group.size, self.n_dead(x)
        table = torch.tensor([log_volume_of_rotations(k) for k in range(n + 1)], dtype=x.dtype, device=x.device)
        return (table[n] - table[dead]).sum(1)


def log_volume_of_rotations(n: int) -> float:
    """ln of the volume of O(n), in which a turn by the angle t in one plane has the length t.

    SO(n) over SO(n - 1) is the sphere of n - 1 dimensions: 2 prod_k 2 pi^((k + 1) / 2) / Gamma((k + 1) / 2),
    k = 1 ... n - 1 (2 pi for SO(2), 8 pi^2 for SO(3)).

    Example:
        >>> round(math.exp(log_volume_of_rotations(3)) / (2 * 8 * math.pi**2), 12)
        1.0
    """
    if n == 0:
        return 0.0
    spheres = (math.log(2) + (k + 1) / 2 * math.log(math.pi) - math.lgamma((k + 1) / 2) for k in range(1, n))
    return math.log(2) + sum(spheres)


def log_volume_of_orbit(spaces: Sequence[Rotation], x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    """ln of the volume of all rotated images of x, over (2 pi)^(Z / 2) with Z the dimensions of that family."""
    total = x.new_zeros(len(x))
    if not spaces:
        return total
    size = torch.linalg.svdvals(_finite(torch.cat([one.modes(x) for one in spaces], 1)))
    alive = size > _SINGULAR * size.amax(1, keepdim=True)
    total = torch.where(alive, size.clamp(min=torch.finfo(x.dtype).tiny), 1.0).log().sum(1)
    total = total - 0.5 * math.log(2 * math.pi) * alive.sum(1)
    for one in spaces:
        total = total + one.log_volume(x)
    return total


def directions(modes: Float[Tensor, "B Z D"]) -> Float[Tensor, "B Z D"]:
    """Rows of length one, or zero."""
    length = modes.norm(dim=2, keepdim=True)
    return modes / torch.where(length > 0, length, 1.0)


def orthonormal(modes: Float[Tensor, "B Z D"]) -> Float[Tensor, "B Z D"]:
    """A basis of the span of the rows, filled up with rows of zeros."""
    if modes.shape[1] == 0:
        return modes
    _, size, basis = torch.linalg.svd(_finite(modes), full_matrices=False)
    alive = size > _SINGULAR * size.amax(1, keepdim=True).clamp(min=torch.finfo(modes.dtype).tiny)
    short = modes.shape[1] - basis.shape[1]  # more generators than coordinates
    basis = torch.where(alive[:, :, None], basis, 0.0)
    return torch.nn.functional.pad(basis, (0, 0, 0, short)) if short > 0 else basis


def _finite(numbers: Tensor) -> Tensor:
    """Zeros for what is not finite: a row that has run away must not stop the others in a decomposition."""
    return numbers.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _is_form(bundle: Bundle) -> bool:
    return bool(bundle.scales) and bundle.scales[0] < 0


def _orthogonal(normal: Float[Tensor, "*B n n"]) -> Float[Tensor, "*B n n"]:
    """Uniformly distributed rotations and reflections from normal numbers (Stewart 1980, doi 10.1137/0717034)."""
    q, r = torch.linalg.qr(normal)
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
