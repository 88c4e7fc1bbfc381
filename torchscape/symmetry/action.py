"""How one group of units acts on rows of coordinates: applying an element, and finding the best one."""

from __future__ import annotations

import dataclasses
import itertools

import torch

from torchscape import random
from torchscape.symmetry.assignment import assign
from torchscape.symmetry.groups import Bundle, UnitGroup
from torchscape.types import Float, Int, Tensor

__all__ = ["Action", "Move"]


@dataclasses.dataclass(frozen=True)
class Move:
    """A group element for every row: unit u of the image is s_u c_u times unit p_u of the original.

    Attributes:
        permutation: p.
        signs: s, one column per independent sign change (None: all +1).
        log_scales: ln c, one column per independent rescaling (None: all 0).
    """

    permutation: Int[Tensor, "B n"]
    signs: Float[Tensor, "B n S"] | None = None
    log_scales: Float[Tensor, "B n C"] | None = None


@dataclasses.dataclass(frozen=True)
class Action:
    """A group and its bundles of coordinates.

    Attributes:
        group: the units.
        bundles: where they live.
        number: which of the groups this is (bundles name the others by number).
    """

    group: UnitGroup
    bundles: tuple[Bundle, ...]
    number: int

    def to(self, device: torch.device) -> Action:
        return dataclasses.replace(self, bundles=tuple(bundle.to(device) for bundle in self.bundles))

    # --- applying ---------------------------------------------------------------------------------------

    def apply(self, x: Float[Tensor, "B D"], move: Move) -> Float[Tensor, "B D"]:
        """The image of every row under its own element."""
        image = x.clone()
        for bundle in self.bundles:
            units = image[:, bundle.coordinates]  # [B n K]
            units = units.gather(1, move.permutation[:, :, None].expand(units.shape))
            if (factor := self._factor(bundle, move)) is not None:
                units = units * factor[:, :, None]
            image[:, bundle.coordinates] = units
        return image

    def _factor(self, bundle: Bundle, move: Move) -> Float[Tensor, "B n"] | None:
        factor: Tensor | None = None
        if move.signs is not None and any(bundle.signs):
            factor = move.signs[:, :, [j for j, acts in enumerate(bundle.signs) if acts]].prod(2)
        if move.log_scales is not None and any(bundle.scales):
            exponents = move.log_scales.new_tensor(bundle.scales)
            scale = (move.log_scales @ exponents).exp()
            factor = scale if factor is None else factor * scale
        return factor

    def random(self, key: Int[Tensor, "B"], dtype: torch.dtype, *, spread: float = 0.5) -> Move:
        """A random element for every key; ln c is normal with standard deviation ``spread``."""
        n, group = self.group.size, self.group
        permutation = torch.arange(n, device=key.device).repeat(len(key), 1)
        for k, cell in enumerate(group.cells):
            order = random.permutation(random.fold(key, 0, k), len(cell))
            permutation[:, cell] = cell.to(key.device)[order]
        signs = log_scales = None
        if group.n_signs:
            coin = random.uniform(random.fold(key, 1), n * group.n_signs, dtype) < 0.5
            signs = (1.0 - 2.0 * coin.to(dtype)).reshape(len(key), n, group.n_signs)
        if group.n_scales:
            log_scales = spread * random.normal(random.fold(key, 2), n * group.n_scales, dtype)
            log_scales = log_scales.reshape(len(key), n, group.n_scales)
        return Move(permutation, signs, log_scales)

    # --- matching ---------------------------------------------------------------------------------------

    def best(self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"], known: frozenset[int] | None = None) -> Move:
        """The permutation and signs of y that maximise its inner product with a: a linear assignment.

        Args:
            a: the reference, one row for each y or one for all.
            y: what is to be moved.
            known: groups that are matched already; bundles shared with others are left out
                (None: all bundles count, at the present places of the other groups).
        """
        gain, pattern = self._gain(a, y, known)
        permutation = torch.arange(self.group.size, device=y.device).repeat(len(y), 1)
        for cell in self.group.cells:
            if len(cell) > 1:
                cell = cell.to(y.device)
                permutation[:, cell] = cell[assign(gain[:, cell[:, None], cell])]
        if pattern is None:
            return Move(permutation)
        chosen = pattern.gather(2, permutation[:, :, None])[:, :, 0]
        return Move(permutation, self.sign_table(y)[chosen])

    def sign_table(self, x: Tensor) -> Float[Tensor, "V S"]:
        """All 2^S choices of signs of one unit; the first is "none"."""
        return x.new_tensor(list(itertools.product((1.0, -1.0), repeat=self.group.n_signs)))

    def _gain(
        self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"], known: frozenset[int] | None
    ) -> tuple[Float[Tensor, "B n n"], Int[Tensor, "B n n"] | None]:
        """Inner products of every unit of a with every unit of y under the best signs, and which those are."""
        used = [b for b in self.bundles if known is None or b.others <= known]
        n = self.group.size
        if not used:  # nothing to go by but the sizes of the units
            return self._gain_of_norms(a, y), None if not self.group.n_signs else self._no_signs(y)
        total = y.new_zeros(1 << self.group.n_signs, len(y), n, n)
        table = self.sign_table(y)
        for bundle in used:
            product = a[:, bundle.coordinates] @ y[:, bundle.coordinates].mT
            acting = [j for j, acts in enumerate(bundle.signs) if acts]
            total += table[:, acting].prod(1)[:, None, None, None] * product
        gain, pattern = total.max(0)
        return gain, pattern if self.group.n_signs else None

    def _gain_of_norms(self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"]) -> Float[Tensor, "B n n"]:
        gain = y.new_zeros(len(y), self.group.size, self.group.size)
        for bundle in self.bundles:
            sizes_a, sizes_y = (z[:, bundle.coordinates].norm(dim=2) for z in (a, y))
            gain += sizes_a[:, :, None] * sizes_y[:, None, :]
        return gain

    def _no_signs(self, y: Tensor) -> Int[Tensor, "B n n"]:
        n = self.group.size
        return torch.zeros(len(y), n, n, dtype=torch.int64, device=y.device)

    # --- a canonical element ----------------------------------------------------------------------------

    def canonical(self, x: Float[Tensor, "B D"], known: frozenset[int]) -> Move:
        """The element that sorts the units and fixes their signs by what is already in canonical order.

        A unit is summed up by a fixed random projection of its coordinates that are shared with ``known`` groups
        only: its sign makes the odd part of the projection positive, and units are sorted by the whole.
        """
        table = self.sign_table(x)
        projection = x.new_zeros(len(table), len(x), self.group.size)
        sizes = x.new_zeros(len(x), self.group.size)
        for k, bundle in enumerate(self.bundles):
            units = x[:, bundle.coordinates]
            if bundle.others <= known:
                key = random.fold(self.number, k).reshape(1).to(x.device)
                weight = random.normal(key, units.shape[2], x.dtype)[0]
                acting = [j for j, acts in enumerate(bundle.signs) if acts]
                projection += table[:, acting].prod(1)[:, None, None] * (units @ weight)
            else:
                sizes += (k + 1) ** 0.5 * units.norm(dim=2)
        top, chosen = projection.max(0)
        top = top + sizes
        permutation = torch.arange(self.group.size, device=x.device).repeat(len(x), 1)
        for cell in self.group.cells:
            cell = cell.to(x.device)
            permutation[:, cell] = cell[top[:, cell].argsort(dim=1, descending=True, stable=True)]
        if not self.group.n_signs:
            return Move(permutation)
        return Move(permutation, table[chosen.gather(1, permutation)])
