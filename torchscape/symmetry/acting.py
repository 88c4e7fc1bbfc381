"""What the groups of a network have in common: an element for every row, random, closest or canonical."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch

from torchscape.symmetry.groups import Bundle
from torchscape.types import Float, Int, Tensor

__all__ = ["Acting", "overlap_between_copies"]

Element = TypeVar("Element")


class Acting(ABC, Generic[Element]):
    """A group that acts on rows of coordinates, each with an element of its own."""

    @abstractmethod
    def apply(self, x: Float[Tensor, "B D"], element: Element) -> Float[Tensor, "B D"]:
        """The image of every row under its own element."""

    @abstractmethod
    def random(self, key: Int[Tensor, "B"], dtype: torch.dtype, *, spread: float = 0.5) -> Element:
        """A random element for every key."""

    @abstractmethod
    def best(
        self, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"], known: frozenset[int] | None = None
    ) -> Element:
        """The element that brings every y closest to a.

        Args:
            a: the reference, one row for each y or one for all.
            y: what is to be moved.
            known: groups that are matched already; bundles shared with others are left out
                (None: all bundles count, at the present places of the other groups).
        """

    @abstractmethod
    def canonical(self, x: Float[Tensor, "B D"], known: frozenset[int]) -> Element:
        """The element that leads to the representative of every row's images."""

    def image(
        self, x: Float[Tensor, "B D"], key: Int[Tensor, "B"], *, spread: float = 0.5
    ) -> Float[Tensor, "B D"]:
        """The image of every row under a random element."""
        return self.apply(x, self.random(key, x.dtype, spread=spread))

    def closest(
        self, a: Float[Tensor, "A D"], x: Float[Tensor, "B D"], known: frozenset[int] | None = None
    ) -> Float[Tensor, "B D"]:
        """The image of every row under the best element."""
        return self.apply(x, self.best(a, x, known))

    def canonical_image(self, x: Float[Tensor, "B D"], known: frozenset[int]) -> Float[Tensor, "B D"]:
        """The image of every row under its canonical element."""
        return self.apply(x, self.canonical(x, known))


def overlap_between_copies(
    bundle: Bundle, a: Float[Tensor, "A D"], y: Float[Tensor, "B D"]
) -> Float[Tensor, "B P P n n"]:
    """Inner products of every unit in every copy of a with every unit in every copy of y: one matrix product."""
    mine, its = (x[:, bundle.coordinates].flatten(1, 2) for x in (a, y))
    shape = bundle.coordinates.shape[:2]
    return (mine @ its.mT).unflatten(2, shape).unflatten(1, shape).transpose(2, 3)
