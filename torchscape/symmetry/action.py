"""How one group of units acts on rows of coordinates: applying an element, and finding the best one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch

from torchscape import random
from torchscape.symmetry.acting import Acting, overlap_between_copies
from torchscape.symmetry.assignment import assign
from torchscape.symmetry.groups import Block, Bundle, Space, UnitGroup, bundles, nested
from torchscape.symmetry.modules.spaces import Rotation
from torchscape.types import Float, Int, Tensor

__all__ = ["Action", "Move", "actions_of"]


@dataclasses.dataclass(frozen=True)
class Move:
    """A group element for every row: unit u of the image is s_u c_u times unit p_u of the original.

    Attributes:
        permutation: p.
        signs: s, one column per independent sign change (None: all +1).
        log_scales: ln c, one column per independent rescaling (None: all 0).
    """

    permutation: Int[Tensor, "B P n"]
    signs: Float[Tensor, "B P n S"] | None = None
    log_scales: Float[Tensor, "B P n C"] | None = None


@dataclasses.dataclass(frozen=True)
class Action(Acting[Move]):
    """A group and its bundles of coordinates.

    Attributes:
        group: the units.
        bundles: where they live.
        number: which of the groups this is (bundles name the others by number).
        inner: the groups of which every unit of this one holds a copy: two units are as alike as the best elements
            of these make them.
    """

    group: UnitGroup
    bundles: tuple[Bundle, ...]
    number: int
    inner: tuple[Action | Rotation, ...] = ()

    def to(self, device: torch.device) -> Action:
        return dataclasses.replace(
            self,
            bundles=tuple(bundle.to(device) for bundle in self.bundles),
            inner=tuple(one.to(device) for one in self.inner),
        )

    # --- applying ---------------------------------------------------------------------------------------

    def apply(self, x: Float[Tensor, "B D"], move: Move) -> Float[Tensor, "B D"]:
        """The image of every row under its own element."""
        image = x.clone()
        for bundle in self.bundles:
            units = image[:, bundle.coordinates]  # [B P n K]
            units = units.gather(2, move.permutation[..., None].expand(units.shape))
            if (factor := self._factor(bundle, move)) is not None:
                units = units * factor[..., None]
            image[:, bundle.coordinates] = units
        return image

    def _factor(self, bundle: Bundle, move: Move) -> Float[Tensor, "B P n"] | None:
        factor: Tensor | None = None
        if move.signs is not None and any(bundle.signs):
            factor = move.signs[..., [j for j, acts in enumerate(bundle.signs) if acts]].prod(-1)
        if move.log_scales is not None and any(bundle.scales):
            exponents = move.log_scales.new_tensor(bundle.scales)
            scale = (move.log_scales @ exponents).exp()
            factor = scale if factor is None else factor * scale
        return factor

    def random(self, key: Int[Tensor, "B"], dtype: torch.dtype, *, spread: float = 0.5) -> Move:
        """A random element for every key; ln c is normal with standard deviation ``spread``."""
        group, shape = self.group, (len(key), self.group.copies, self.group.size)
        permutation = self._in_place(len(key), key.device)
        for k, cell in enumerate(group.cells):
            for p in range(group.copies):
                mine = random.fold(key, 0, k, p) if p else random.fold(key, 0, k)
                permutation[:, p, cell] = cell.to(key.device)[random.permutation(mine, len(cell))]
        signs = log_scales = None
        if group.n_signs:
            coin = random.uniform(random.fold(key, 1), shape[1] * shape[2] * group.n_signs, dtype) < 0.5
            signs = (1.0 - 2.0 * coin.to(dtype)).reshape(*shape, group.n_signs)
        if group.n_scales:
            log_scales = spread * random.normal(random.fold(key, 2), shape[1] * shape[2] * group.n_scales, dtype)
            log_scales = log_scales.reshape(*shape, group.n_scales)
        return Move(permutation, signs, log_scales)

    def _in_place(self, n_rows: int, device: torch.device) -> Int[Tensor, "B P n"]:
        """No permutation."""
        return torch.arange(self.group.size, device=device).repeat(n_rows, self.group.copies, 1)

    # --- matching ---------------------------------------------------------------------------------------

    def best(self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"], known: frozenset[int] | None = None) -> Move:
        """The permutation and signs of y that maximise its inner product with a: a linear assignment."""
        gain, pattern = self._gain(a, y, known)
        permutation = self._in_place(len(y), y.device)
        for cell in self.group.cells:
            if len(cell) > 1:
                cell = cell.to(y.device)
                chosen = assign(gain[..., cell[:, None], cell].flatten(0, 1))
                permutation[..., cell] = cell[chosen].unflatten(0, permutation.shape[:2])
        if pattern is None:
            return Move(permutation)
        chosen = pattern.gather(3, permutation[..., None])[..., 0]
        return Move(permutation, self.sign_table(y)[chosen])

    def sign_table(self, x: Tensor) -> Float[Tensor, "V S"]:
        """All 2^S choices of signs of one unit; the first is "none"."""
        return x.new_tensor(list(itertools.product((1.0, -1.0), repeat=self.group.n_signs)))

    def _gain(
        self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"], known: frozenset[int] | None
    ) -> tuple[Float[Tensor, "B P n n"], Int[Tensor, "B P n n"] | None]:
        """Inner products of every unit of a with every unit of y under the best signs, and which those are."""
        inner = {one.number for one in self.inner}
        used = [b for b in self.bundles if not b.others & inner and (known is None or b.others <= known)]
        shape = (len(y), self.group.copies, self.group.size, self.group.size)
        total = y.new_zeros(1 << self.group.n_signs, *shape)
        table = self.sign_table(y)
        for bundle in used:
            product = a[:, bundle.coordinates] @ y[:, bundle.coordinates].mT
            acting = [j for j, acts in enumerate(bundle.signs) if acts]
            total += table[:, acting].prod(1)[:, None, None, None, None] * product
        within = None if known is None else known | {self.number}
        for one in self.inner:
            total += one.gain_between_copies(a, y, within)[:, None]
        held = [bundle for one in self.inner for bundle in one.bundles]
        if not used and not any(within is None or bundle.others <= within for bundle in held):
            # nothing but sizes to go by
            return self._gain_of_norms(a, y), None if not self.group.n_signs else total[0].long()
        gain, pattern = total.max(0)
        return gain, pattern if self.group.n_signs else None

    def gain_between_copies(
        self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"], known: frozenset[int] | None
    ) -> Float[Tensor, "B P P"]:
        """The inner product of every copy in a with every copy in y, their units matched as well as can be."""
        copies, n, table = self.group.copies, self.group.size, self.sign_table(y)
        total = y.new_zeros(len(table), len(y), copies, copies, n, n)
        for bundle in self.bundles:
            if known is None or bundle.others <= known:
                product = overlap_between_copies(bundle, a, y)
                acting = [j for j, acts in enumerate(bundle.signs) if acts]
                total += table[:, acting].prod(1).reshape(-1, *[1] * 5) * product
        gain = total.amax(0).flatten(0, 2)
        permutation = torch.arange(n, device=y.device).repeat(len(gain), 1)
        for cell in self.group.cells:
            cell = cell.to(y.device)
            permutation[:, cell] = cell[assign(gain[:, cell[:, None], cell])]
        return gain.gather(2, permutation[:, :, None]).sum((1, 2)).reshape(-1, copies, copies)

    def _gain_of_norms(self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"]) -> Float[Tensor, "B P n n"]:
        gain = y.new_zeros(len(y), self.group.copies, self.group.size, self.group.size)
        for bundle in self.bundles:
            sizes_a, sizes_y = (z[:, bundle.coordinates].norm(dim=3) for z in (a, y))
            gain += sizes_a[..., :, None] * sizes_y[..., None, :]
        return gain

    # --- a canonical element ----------------------------------------------------------------------------

    def canonical(self, x: Float[Tensor, "B D"], known: frozenset[int]) -> Move:
        """The element that sorts the units and fixes their signs by what is already in canonical order.

        A unit is summed up by a fixed random projection of its coordinates that are shared with ``known`` groups
        only: its sign makes the odd part of the projection positive, and units are sorted by the whole.
        """
        table = self.sign_table(x)
        projection = x.new_zeros(len(table), len(x), self.group.copies, self.group.size)
        sizes = x.new_zeros(len(x), self.group.copies, self.group.size)
        for k, bundle in enumerate(self.bundles):
            units = x[:, bundle.coordinates]
            if bundle.others <= known:
                key = random.fold(self.number, k).reshape(1).to(x.device)
                weight = random.normal(key, units.shape[3], x.dtype)[0]
                acting = [j for j, acts in enumerate(bundle.signs) if acts]
                projection += table[:, acting].prod(1)[:, None, None, None] * (units @ weight)
            else:
                sizes += (k + 1) ** 0.5 * units.norm(dim=3)
        top, chosen = projection.max(0)
        top = top + sizes
        permutation = self._in_place(len(x), x.device)
        for cell in self.group.cells:
            cell = cell.to(x.device)
            permutation[..., cell] = cell[top[..., cell].argsort(dim=2, descending=True, stable=True)]
        if not self.group.n_signs:
            return Move(permutation)
        return Move(permutation, table[chosen.gather(2, permutation)])


def actions_of(groups: Sequence[UnitGroup], blocks: Sequence[Block]) -> tuple[Action | Rotation, ...]:
    """How every group acts on the coordinates of these blocks."""
    plain: list[Action | Rotation] = []
    for k, group in enumerate(groups):
        mine = tuple(bundles(blocks, k))
        plain.append(Rotation(group, mine, k) if isinstance(group, Space) else Action(group, mine, k))
    return tuple(
        dataclasses.replace(one, inner=tuple(plain[k] for k in sorted(nested(blocks, one.number))))
        if isinstance(one, Action)
        else one
        for one in plain
    )
