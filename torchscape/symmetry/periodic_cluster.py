"""``PeriodicAtoms``: atoms in a periodic box, translated all together or by whole boxes, like ones exchanged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.memory import rows_that_fit
from torchscape.symmetry.assignment import assign
from torchscape.symmetry.base import Symmetry
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import POSITIVE

__all__ = ["PeriodicAtoms"]

_ANCHORS, _REFINED, _ROUNDS = 4, 8, 20
_ELEMENTS = 2**24  # numbers per temporary


class PeriodicAtoms(Symmetry):
    """The group of translations of all n atoms, of single atoms by whole boxes, and permutations of like atoms.

    A row holds the atoms one after the other. Rotations and reflections that the box allows are not in the group.

    *The same structure* is recognised exactly: one atom of the scarcest kind lies on an atom of the other
    structure, and one of these translations lays all atoms onto atoms. *Different structures* are aligned by
    improving labels (linear assignment) and translation in turn from the best of these; their distance is that to
    an actual image, hence never too small.

    Args:
        n_atoms: number of atoms n.
        box: the sides of the box, one for each dimension.
        species: a label per atom; only atoms of one label are exchanged. All alike by default.
        tolerance: displacement, in units of the mean spacing of the atoms, within which a translation counts as a
            symmetry of a structure.

    Example:
        >>> import torch
        >>> from torchscape import random
        >>> g = PeriodicAtoms(3, (2.0, 2.0))
        >>> a = torch.tensor([[0.1, 0.2, 1.9, 0.3, 1.0, 1.0]], dtype=torch.float64)
        >>> image = g.random_image(a, random.fold(0, torch.arange(1)))
        >>> bool(g.distance(a, image) < 1e-12), bool((image - a).abs().max() > 0.1)
        (True, True)
    """

    def __init__(
        self,
        n_atoms: int,
        box: Sequence[float | int],
        *,
        species: Sequence[object] | None = None,
        tolerance: float = 1e-3,
    ) -> None:
        POSITIVE.or_several.check("PeriodicAtoms", PotentialError, box=box)
        self.n_atoms, self.box, self.dim = n_atoms, tuple(float(side) for side in box), len(box)
        labels = list(species) if species is not None else [0] * n_atoms
        if len(labels) != n_atoms:
            raise PotentialError(f"{len(labels)} species for {n_atoms} atoms: give one label per atom")
        names = sorted(set(labels), key=str)
        self._kinds = torch.tensor([names.index(label) for label in labels])
        self._counts = self._kinds.bincount().tolist()
        scarcest = min(range(len(names)), key=lambda kind: self._counts[kind])
        self._anchors = (self._kinds == scarcest).nonzero()[:, 0]
        self.reach = tolerance * (math.prod(self.box) / n_atoms) ** (1 / self.dim)

    def describe(self) -> str:
        counts = " + ".join(str(count) for count in self._counts)
        sides = " x ".join(f"{side:g}" for side in self.box)
        return f"translation in a periodic box of {sides}, permutation of {counts} like atoms"

    def minimal(self, apart: Float[Tensor, "*S k"]) -> Float[Tensor, "*S k"]:
        """Differences of positions, each the shortest of its images."""
        box = apart.new_tensor(self.box)
        return apart - box * (apart / box).round()

    def align(self, reference: Float[Tensor, "B D"], x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """The image of each ``x`` closest to its ``reference`` (see the class for when it is exactly that)."""
        rows = rows_that_fit(
            _ANCHORS * len(self._anchors) * self.n_atoms**2 * self.dim, x.device, on_host=_ELEMENTS
        )
        pairs = zip(reference.split(rows), x.split(rows), strict=True)
        return torch.cat([self._aligned(self._atoms(a), self._atoms(b)) for a, b in pairs]) if len(x) else x

    def _aligned(self, a: Float[Tensor, "B n k"], b: Float[Tensor, "B n k"]) -> Float[Tensor, "B D"]:
        unlike, anchors = self._unlike(a), self._anchors.to(a.device)
        shifts = (a[:, anchors[:_ANCHORS], None] - b[:, None, anchors]).flatten(1, 2)  # [B C k]
        cost = self._cost(a[:, None], b[:, None] + shifts[:, :, None], unlike).amin(3).sum(2)
        count = min(_REFINED, shifts.shape[1])
        best = torch.nan_to_num(cost, nan=torch.inf).topk(count, dim=1, largest=False).indices
        shift = shifts.gather(1, best[:, :, None].expand(-1, -1, self.dim)).flatten(0, 1)
        a_, b_ = (p.repeat_interleave(count, 0) for p in (a, b))
        labels = assign(-self._cost(a_, b_ + shift[:, None], unlike))
        for _ in range(_ROUNDS):
            residual = self.minimal(a_ - _picked(b_, labels) - shift[:, None])
            shift = shift + residual.mean(1)
            improved = assign(-self._cost(a_, b_ + shift[:, None], unlike))
            if bool((improved == labels).all()):
                break
            labels = improved
        residual = self.minimal(a_ - _picked(b_, labels) - shift[:, None])
        length = residual.square().sum((1, 2)).reshape(-1, count).nan_to_num(nan=torch.inf)
        first = length.argmin(1) + count * torch.arange(len(a), device=a.device)
        return (a - residual[first]).flatten(1)

    def _cost(
        self, a: Float[Tensor, "*#S n k"], b: Float[Tensor, "*#S n k"], unlike: Float[Tensor, "n n"]
    ) -> Float[Tensor, "*#S n n"]:
        """Squared shortest distances, plus ``unlike`` where two atoms cannot exchange their labels."""
        return self.minimal(a[..., :, None, :] - b[..., None, :, :]).square().sum(-1) + unlike

    def invariants(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Sorted shortest distances over sqrt(n), kind of pair by kind of pair: 1-Lipschitz as those of
        clusters."""
        p = self._atoms(x)
        i, j = torch.triu_indices(self.n_atoms, self.n_atoms, 1, device=x.device)
        distance = self.minimal(p[:, i] - p[:, j]).norm(dim=2) / math.sqrt(self.n_atoms)
        kinds = self._kinds.to(x.device)
        low, high = torch.minimum(kinds[i], kinds[j]), torch.maximum(kinds[i], kinds[j])
        pair_kind = low * len(self._counts) + high
        blocks = [distance[:, pair_kind == kind].sort(1).values for kind in pair_kind.unique()]
        return torch.cat(blocks, 1) if blocks else distance

    def translation_order(self, x: Float[Tensor, "B D"]) -> Int[Tensor, "B"]:
        """How many translations (modulo the box) lay the structure onto itself: 1 but for crystals."""
        rows = rows_that_fit(len(self._anchors) * self.n_atoms**2 * self.dim, x.device, on_host=_ELEMENTS)
        return torch.cat([self._order(self._atoms(part)) for part in x.split(rows)]) if len(x) else x.sum(1).long()

    def _order(self, p: Float[Tensor, "B n k"]) -> Int[Tensor, "B"]:
        anchors = self._anchors.to(p.device)
        shifts = p[:, anchors[:1]] - p[:, anchors]
        nearest = self._cost(p[:, None], p[:, None] + shifts[:, :, None], self._unlike(p)).min(3)
        different = (nearest.indices.sort(2).values == torch.arange(self.n_atoms, device=p.device)).all(2)
        fits: Bool[Tensor, "B C"] = different & (nearest.values <= self.reach**2).all(2)
        return fits.sum(1).clamp(min=1)

    def log_degeneracy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """ln(N!/o), with N! the permutations of like atoms and o the :meth:`translation_order`."""
        images = sum(math.lgamma(count + 1) for count in self._counts)
        return images - self.translation_order(x).to(x.dtype).log()

    def zero_modes(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B Z D"]:
        shift = torch.eye(self.dim, dtype=x.dtype, device=x.device).repeat(1, self.n_atoms) / math.sqrt(
            self.n_atoms
        )
        return shift.expand(len(x), -1, -1)

    def random_image(self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """Like atoms exchanged, all of them shifted, and each by up to a box either way."""
        p, box = self._atoms(x), x.new_tensor(self.box)
        draws = random.uniform(random.fold(key, 0), self.n_atoms).argsort(1)
        kinds = self._kinds.to(x.device)
        labels = torch.empty_like(draws)
        labels[:, kinds.argsort(stable=True)] = draws.gather(1, kinds[draws].argsort(dim=1, stable=True))
        shift = box * random.uniform(random.fold(key, 1), self.dim, x.dtype)[:, None]
        turns = (3 * random.uniform(random.fold(key, 2), self.n_atoms * self.dim, x.dtype)).floor() - 1
        return (_picked(p, labels) + shift + box * turns.reshape(p.shape)).flatten(1)

    def canonical(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """That atom of the scarcest kind in the origin which makes a fixed generic function of the structure
        largest; like atoms ordered along a fixed generic direction, all in the box."""
        p, box, anchors = self._atoms(x), x.new_tensor(self.box), self._anchors.to(x.device)
        q = p[:, None] - p[:, anchors, None]
        angle = 2 * math.pi * q / box
        weights, waves = (q.new_tensor(numbers[: self.dim]) for numbers in ([1.0, 0.7, 0.4], [1.0, 2.0, 1.0]))
        generic = ((angle + 0.3).sin() * weights).sum(3) + 0.5 * ((angle * waves).sum(3) + 0.9).sin()
        value = ((1 + 0.37 * self._kinds.to(x.device)) * generic).sum(2)
        q = q[torch.arange(len(p), device=x.device), value.argmax(1)]
        q = q - box * (q / box + 1e-9).floor()
        along = q @ q.new_tensor([0.61, 0.53, 0.59][: self.dim])
        kinds, order = self._kinds.to(x.device), along.argsort(1)
        order = order.gather(1, kinds[order].argsort(dim=1, stable=True))
        labels = torch.empty_like(order)
        labels[:, kinds.argsort(stable=True)] = order
        return _picked(q, labels).flatten(1)

    def _atoms(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B n k"]:
        return x.reshape(len(x), self.n_atoms, self.dim)

    def _unlike(self, p: Float[Tensor, "B n k"]) -> Float[Tensor, "n n"]:
        """A prohibitive cost for exchanging unlike atoms, zero between like ones."""
        kinds = self._kinds.to(p.device)
        cost = 1e3 * self.n_atoms * sum(side**2 for side in self.box)
        return torch.where(kinds[:, None] == kinds, 0.0, cost).to(p.dtype)


def _picked(p: Float[Tensor, "B n k"], labels: Int[Tensor, "B n"]) -> Float[Tensor, "B n k"]:
    return p.gather(1, labels[:, :, None].expand_as(p))
