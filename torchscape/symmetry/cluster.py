"""``ClusterSymmetry``: rotations, reflections, translations and exchanges of like atoms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.memory import rows_that_fit
from torchscape.symmetry import superpose
from torchscape.symmetry.assignment import assign
from torchscape.symmetry.base import Symmetry
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import NOT_NEGATIVE

__all__ = ["ClusterSymmetry"]

_FEW_LABELLINGS = 120  # up to five like atoms: every labelling is tried, so that the closest image is exact
_FRAMES, _GLOBAL, _REFINED = 64, 64, 32
_ELEMENTS = 2**24  # numbers per temporary


class ClusterSymmetry(Symmetry):
    """The group O(dim) x translations x permutations of like atoms, acting on n atoms in ``dim`` dimensions.

    A row holds the atoms one after the other: (x_1, y_1, z_1, x_2, ...).

    *The same structure* is recognised exactly: the centroid and two atoms that cannot be confused with many
    others fix a frame; laid over the matching frames of the other structure, one of them puts every atom onto
    an atom. *Different structures* are aligned by improving labels (linear assignment) and rotation (Kabsch)
    in turn from the best frames and from orientations spread over O(dim). For at most 120 labellings (five like
    atoms) all are tried and the distance is exact; beyond, it is the distance to an actual image, hence never
    too small, and zero if and only if the structures are images of each other.

    Args:
        n_atoms: number of atoms n.
        dim: dimension of space, 2 or 3.
        species: a label per atom; only atoms of one label are exchanged. All alike by default.
        translation: whether U is unchanged by translation; False where the atoms are bound to the origin, about
            which the rotations then are.
        tolerance: displacement, in units of the cluster's root-mean-square radius, within which an operation
            counts as a symmetry of a structure (:meth:`point_group_order`) and a structure as linear.

    Raises:
        PotentialError: for other dimensions, or not one label per atom.

    Reference: the number of distinct permutation-inversion isomers, 2 N!/o: D. J. Wales, *Energy Landscapes*
    (Cambridge University Press, 2003), section 2.4, doi 10.1017/CBO9780511721724.

    Example:
        >>> import torch
        >>> from torchscape import random
        >>> g = ClusterSymmetry(3)
        >>> triangle = torch.tensor([[0.0, 0, 0, 1, 0, 0, 0.5, 3**0.5 / 2, 0]], dtype=torch.float64)
        >>> image = g.random_image(triangle, random.fold(0, torch.arange(1)))
        >>> bool(g.distance(triangle, image) < 1e-12), g.point_group_order(triangle).item()
        (True, 12)
    """

    def __init__(
        self,
        n_atoms: int,
        dim: int = 3,
        *,
        species: Sequence[object] | None = None,
        translation: bool = True,
        tolerance: float = 1e-3,
    ):
        NOT_NEGATIVE.check("ClusterSymmetry", PotentialError, tolerance=tolerance)
        if dim not in (2, 3) or n_atoms < 1:
            raise PotentialError(f"clusters live in 2 or 3 dimensions and have atoms; got {n_atoms} in {dim}")
        labels = list(species) if species is not None else [0] * n_atoms
        if len(labels) != n_atoms:
            raise PotentialError(f"{len(labels)} species for {n_atoms} atoms: give one label per atom")
        self.n_atoms, self.dim, self.tolerance = n_atoms, dim, tolerance
        self.translation = translation
        names = sorted(set(labels), key=str)
        self._kinds = torch.tensor([names.index(label) for label in labels])
        self._counts = self._kinds.bincount().tolist()
        n_labellings = math.prod(math.factorial(count) for count in self._counts)
        self._labellings = self._all_labellings() if n_labellings <= _FEW_LABELLINGS else None

    def describe(self) -> str:
        counts = " + ".join(str(count) for count in self._counts)
        moves = "rotation, reflection and translation" if self.translation else "rotation and reflection"
        return f"{moves} in {self.dim} dimensions, permutation of {counts} like atoms"

    # --- closest images ---------------------------------------------------------------------------------

    def align(self, reference: Float[Tensor, "B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The image of each ``x`` closest to its ``reference`` (see the class for when it is exactly that)."""
        if len(x) == 0:
            return x
        centre = self._centre(reference)
        a, b = self._centred(reference), self._centred(x)
        align = self._align_exactly if self._labellings is not None else self._align_by_frames
        rows = self.rows_at_once(a.device)
        parts = [align(*pair) for pair in zip(a.split(rows), b.split(rows), strict=True)]
        return (torch.cat(parts) + centre).flatten(1)

    def _align_exactly(self, a: Float[Tensor, "B n k"], b: Float[Tensor, "B n k"]) -> Float[Tensor, "B n k"]:
        """Every labelling: |b[labels] R - a|^2 = |a|^2 + |b|^2 - 2 sum of singular values."""
        assert self._labellings is not None
        relabel = b[:, self._labellings.to(b.device)]  # [B Q n k]
        overlap = torch.linalg.svdvals(torch.nan_to_num(relabel.mT @ a[:, None])).sum(2)
        best = relabel[torch.arange(len(b), device=b.device), overlap.argmax(1)]
        return best @ superpose.kabsch(a, best)

    def _align_by_frames(self, a: Float[Tensor, "B n k"], b: Float[Tensor, "B n k"]) -> Float[Tensor, "B n k"]:
        """By frames alone where they fit, otherwise by refinement from several orientations."""
        unlike = self._unlike(a)
        turns = self._score(a, b, self._frame_turns(a, b), unlike)
        image, distance = _superposed(a, b, turns[:, 0], unlike)
        size = a.flatten(1).norm(dim=1)
        rest = (~(distance <= 1e-4 * size)).nonzero()[:, 0]
        if len(rest) == 0:
            return image
        spread = superpose.global_rotations(2 * _GLOBAL, self.dim, a.dtype, a.device)
        more = self._score(a[rest], b[rest], spread.expand(len(rest), -1, -1, -1), unlike)
        now = superpose.kabsch(a[rest], b[rest])[:, None]  # the labels as they are
        starts = torch.cat([turns[rest, :_REFINED], more[:, :_REFINED], now], 1)
        image[rest] = self._best_refined(a[rest], b[rest], starts, unlike)
        return image

    def _best_refined(self, a, b, starts: Float[Tensor, "B S k k"], unlike) -> Float[Tensor, "B n k"]:
        count = starts.shape[1]
        copies = [t.repeat_interleave(count, 0) for t in (a, b)]
        labels, turn, distance = superpose.refine(copies[0], copies[1], starts.flatten(0, 1), unlike)
        best = torch.nan_to_num(distance, nan=torch.inf).reshape(-1, count).argmin(1)
        best = best + count * torch.arange(len(a), device=a.device)
        return b.gather(1, labels[best][:, :, None].expand_as(b)) @ turn[best]

    def _frame_turns(self, a: Float[Tensor, "B n k"], b: Float[Tensor, "B n k"]) -> Float[Tensor, "B C k k"]:
        """The orthogonal matrices that put the best-fitting frames of b onto one frame of a."""
        a3, b3, kinds = _in_space(a), _in_space(b), self._kinds.to(a.device)
        i, j = superpose.choose_frame(a3, kinds)
        errors = superpose.frame_matches(a3, b3, i, j, kinds).flatten(1)
        pairs = errors.topk(min(_FRAMES, self.n_atoms * (self.n_atoms - 1)), dim=1, largest=False).indices
        turns = superpose.frame_rotations(a3, b3, i, j, pairs, mirror=self.dim == 3)
        return turns[..., : self.dim, : self.dim]

    def _score(self, a, b, turns: Float[Tensor, "B C k k"], unlike) -> Float[Tensor, "B C k k"]:
        """The matrices by ascending sum over atoms of the squared distance to the nearest like atom."""
        cost = superpose.least_overlaps(a, b, turns, unlike)
        order = torch.nan_to_num(cost, nan=torch.inf).argsort(1)
        return turns.gather(1, order[:, :, None, None].expand_as(turns))

    # --- one structure ----------------------------------------------------------------------------------

    def invariants(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Sorted interatomic distances over sqrt(n), kind of pair by kind of pair.

        A cluster that is bound to the origin is a cluster with one more atom that never moves: the distances from
        there are added, and n + 1 takes the place of n.

        Moving the atoms by d_i changes the distance r_ij by at most |d_i - d_j|; summed over pairs the squares
        are n sum |d_i|^2 - |sum d_i|^2 at most, and sorting brings two lists closer: hence 1-Lipschitz.
        """
        p = self._atoms(x)
        i, j = torch.triu_indices(self.n_atoms, self.n_atoms, 1, device=x.device)
        distance = (p[:, i] - p[:, j]).norm(dim=2) / math.sqrt(self.n_atoms + (not self.translation))
        kinds = self._kinds.to(x.device)
        low, high = torch.minimum(kinds[i], kinds[j]), torch.maximum(kinds[i], kinds[j])
        pair_kind = low * len(self._counts) + high
        blocks = [distance[:, pair_kind == kind].sort(1).values for kind in pair_kind.unique()]
        if not self.translation:
            radius = p.norm(dim=2) / math.sqrt(self.n_atoms + 1)
            blocks += [radius[:, kinds == kind].sort(1).values for kind in kinds.unique()]
        return torch.cat(blocks, 1) if blocks else distance

    def point_group_order(self, x: Float[Tensor, "B D"]) -> Int[Tensor, "B"]:
        """The number o of (permutation, with or without inversion) pairs that a proper rotation can undo.

        For a nonlinear structure that is the order of its point group (planar ones included: their reflection
        in the plane is an operation). A linear one has o = 4 if its ends are alike and 2 if not, where the
        infinite axis counts once; a single atom has o = 2. So 2 N!/o counts isomers in every case.
        """
        if len(x) == 0:
            return torch.empty(0, dtype=torch.int64, device=x.device)
        return torch.cat([self._order(part) for part in self._centred(x).split(self.rows_at_once(x.device))])

    def _order(self, p: Float[Tensor, "B n k"]) -> Int[Tensor, "B"]:
        unlike, linear = self._unlike(p), self._is_linear(p)
        reversible = self._coincides(p, -p[:, None], unlike)[:, 0]
        of_linear = (
            torch.where(reversible, 4, 2)
            if self.n_atoms > 1
            else torch.full_like(reversible, 2, dtype=torch.int64)
        )
        if self.n_atoms < 2 + self.translation or bool(linear.all()):
            return of_linear
        p3, kinds = _in_space(p), self._kinds.to(p.device)
        i, j = superpose.choose_frame(p3, kinds)
        errors = superpose.frame_matches(p3, p3, i, j, kinds).flatten(1)
        fits = errors <= 4 * self._reach(p)[:, None]
        count = max(1, int(torch.where(linear, 0, fits.sum(1)).max()))
        pairs = errors.topk(count, dim=1, largest=False)
        turns = superpose.frame_rotations(p3, p3, i, j, pairs.indices, mirror=self.dim == 3)
        maps = self._coincides(p, p[:, None] @ turns[..., : self.dim, : self.dim], unlike)
        near = (pairs.values <= 4 * self._reach(p)[:, None]).repeat(1, turns.shape[1] // count)
        # The identity is among them, whatever the rounding of atoms that are far apart says.
        return torch.where(linear, of_linear, (maps & near).sum(1).clamp(min=1))

    def _coincides(self, p: Float[Tensor, "B n k"], q: Float[Tensor, "B C n k"], unlike) -> Bool[Tensor, "B C"]:
        """Whether every atom of p has an atom of q within reach, all different ones."""
        nearest = superpose.overlap_cost(p[:, None], q, unlike).min(3)
        order = torch.arange(self.n_atoms, device=p.device)
        different = (nearest.indices.sort(2).values == order).all(2)
        return different & (nearest.values <= self._reach(p)[:, None, None] ** 2).all(2)

    def log_degeneracy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """ln(2 N!/o), with N! the permutations of like atoms and o the :meth:`point_group_order`."""
        images = math.log(2) + sum(math.lgamma(count + 1) for count in self._counts)
        return images - self.point_group_order(x).to(x.dtype).log()

    def zero_modes(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B Z D"]:
        """Translations, then rotations about the principal axes; zero rows for a linear structure's own axis."""
        p, k, n = self._centred(x), self.dim, self.n_atoms
        shift = torch.eye(k, dtype=x.dtype, device=x.device).repeat(1, n) / math.sqrt(n)
        planes = list(itertools.combinations(range(k), 2))
        generators = x.new_zeros(len(planes), k, k)
        for z, (s, t) in enumerate(planes):
            generators[z, s, t], generators[z, t, s] = 1.0, -1.0
        turns = torch.einsum("bnk,zkl->bznl", p, generators).flatten(2)
        weights, axes = torch.linalg.eigh(torch.nan_to_num(turns @ turns.mT))
        floor = self.tolerance**2 * weights[:, -1:]
        scale = torch.where(weights > floor, weights.clamp_min(torch.finfo(x.dtype).tiny).rsqrt(), 0.0)
        turns = scale[:, :, None] * (axes.mT @ turns)
        return torch.cat([shift.expand(len(x), -1, -1), turns], 1) if self.translation else turns

    def random_image(self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """Each structure turned, perhaps reflected, like atoms exchanged, and shifted by about its own size."""
        turn, labels, shift = self._random(x, key)
        p = self._centred(x)
        return (p.gather(1, labels[:, :, None].expand_as(p)) @ turn + shift).flatten(1)

    def elements(self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> dict[str, Float[Tensor, "B D"]]:
        """Images under a random element of every kind, each alone: to find out which of them changes an energy."""
        turn, labels, shift = self._random(x, key)
        p, centre = self._centred(x), self._centre(x)
        proper = turn * torch.linalg.det(turn).sign()[:, None, None] if self.dim == 3 else turn @ turn
        images = {
            "translation": p + shift + centre,
            "rotation": p @ proper + centre,
            "reflection": centre - p if self.dim == 3 else p * p.new_tensor([1.0, -1.0]) + centre,
            "exchange of like atoms": p.gather(1, labels[:, :, None].expand_as(p)) + centre,
        }
        if not self.translation:
            del images["translation"]
        return {name: image.flatten(1) for name, image in images.items()}

    def _random(self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> tuple[Tensor, Tensor, Tensor]:
        """An orthogonal matrix [B k k], labels [B n] and a shift [B 1 k] of about the structure's own size."""
        p, k = self._centred(x), self.dim
        q, r = torch.linalg.qr(random.normal(random.fold(key, 0), k * k, x.dtype).reshape(-1, k, k))
        turn = q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None]
        draws = random.uniform(random.fold(key, 1), self.n_atoms).argsort(1)
        kinds = self._kinds.to(x.device)
        labels = torch.empty_like(draws)
        labels[:, kinds.argsort(stable=True)] = draws.gather(1, kinds[draws].argsort(dim=1, stable=True))
        shift = random.normal(random.fold(key, 2), k, x.dtype)[:, None] * p.flatten(1).norm(dim=1)[:, None, None]
        return turn, labels, shift * (self.translation / math.sqrt(self.n_atoms))

    def canonical(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Each structure in that one of its own frames which makes a fixed generic function of it largest.

        The function does not see labels, so symmetric frames tie and give the same coordinates. Like atoms are
        ordered along a fixed generic direction.
        """
        rows = rows_that_fit(6 * self.n_atoms**3, x.device, on_host=_ELEMENTS)
        return torch.cat([self._canonical(part) for part in self._centred(x).split(rows)]) if len(x) else x

    def _canonical(self, p: Float[Tensor, "B n k"]) -> Float[Tensor, "B D"]:
        p3, n = _in_space(p), self.n_atoms
        frames = superpose.frames(p3[:, :, None].expand(-1, -1, n, -1), p3[:, None].expand(-1, n, -1, -1))
        size = p.square().sum(2).mean(1).sqrt()
        radius = p.norm(dim=2) / size[:, None]
        across = torch.linalg.cross(frames[:, :, :, 0], p3[:, None].expand(-1, n, -1, -1)).norm(dim=3)
        usable = (radius > 0.1)[:, :, None] & (
            (across > 0.1 * size[:, None, None]) | self._is_linear(p)[:, None, None]
        )
        flips = [[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]] if self.dim == 3 else [[1.0, 1.0, 1.0]]
        frames = torch.stack([frames * p.new_tensor(flip)[:, None] for flip in flips], 3).flatten(1, 3)
        q = p3[:, None] @ frames.mT  # [B C n 3]
        phase = q @ p.new_tensor([1.1, 1.9, 2.7]) / size[:, None, None] + 0.7
        value = ((1 + 0.37 * self._kinds.to(p.device)) * phase.sin()).sum(2)
        value = torch.where(usable.flatten(1).repeat_interleave(len(flips), 1), value, -torch.inf)
        q = q[torch.arange(len(p), device=p.device), value.argmax(1)][..., : self.dim]
        along = q @ p.new_tensor([0.61, 0.53, 0.59][: self.dim])
        kinds = self._kinds.to(p.device)
        order = along.argsort(1)
        order = order.gather(1, kinds[order].argsort(dim=1, stable=True))
        labels = torch.empty_like(order)
        labels[:, kinds.argsort(stable=True)] = order
        return q.gather(1, labels[:, :, None].expand_as(q)).flatten(1)

    # --- helpers ----------------------------------------------------------------------------------------

    def _atoms(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n k"]:
        return x.reshape(len(x), self.n_atoms, self.dim)

    def _centred(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n k"]:
        return self._atoms(x) - self._centre(x)

    def _centre(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B 1 k"]:
        """The centroid, or the origin where the atoms are bound to it."""
        p = self._atoms(x)
        return p.mean(1, keepdim=True) if self.translation else torch.zeros_like(p[:, :1])

    def rows_at_once(self, device: torch.device) -> int:
        numbers = 2 * max(_FRAMES, _GLOBAL, self.n_atoms) * self.n_atoms**2
        return rows_that_fit(numbers, device, on_host=_ELEMENTS)

    def _reach(self, p: Float[Tensor, "B n k"]) -> Float[Tensor, "B"]:
        return self.tolerance * p.square().sum(2).mean(1).sqrt()

    def _is_linear(self, p: Float[Tensor, "B n k"]) -> Bool[Tensor, "B"]:
        spread = torch.linalg.svdvals(torch.nan_to_num(p.mT @ p)).clamp_min(0).sqrt()
        return spread[:, 1] <= self.tolerance * spread[:, 0]

    def _unlike(self, p: Float[Tensor, "B n k"]) -> Float[Tensor, "n n"] | None:
        """A prohibitive cost for exchanging unlike atoms, zero between like ones; None where all are alike."""
        if len(self._counts) == 1:
            return None
        kinds = self._kinds.to(p.device)
        reach = 1e3 * torch.nan_to_num(p).square().sum((1, 2)).amax()
        return torch.where(kinds[:, None] == kinds, 0.0, reach)

    def _all_labellings(self) -> Int[Tensor, "Q n"]:
        """Every permutation that keeps species, the identity first."""
        groups = [(self._kinds == kind).nonzero()[:, 0] for kind in range(len(self._counts))]
        labellings = []
        for choice in itertools.product(*(itertools.permutations(group.tolist()) for group in groups)):
            labels = torch.arange(self.n_atoms)
            for group, order in zip(groups, choice, strict=True):
                labels[group] = torch.tensor(order)
            labellings.append(labels)
        return torch.stack(labellings)


def _superposed(a, b, turn: Float[Tensor, "B k k"], unlike) -> tuple[Float[Tensor, "B n k"], Float[Tensor, "B"]]:
    """b laid over a by one labelling and one Kabsch rotation, starting from ``turn``, and the distance left."""
    labels = assign(-superpose.overlap_cost(a, b @ turn, unlike))
    b = b.gather(1, labels[:, :, None].expand_as(b))
    b = b @ superpose.kabsch(a, b)
    return b, (b - a).flatten(1).norm(dim=1)


def _in_space(p: Float[Tensor, "B n k"]) -> Float[Tensor, "B n 3"]:
    """Planar points in the plane z = 0."""
    return torch.nn.functional.pad(p, (0, 3 - p.shape[2]))
