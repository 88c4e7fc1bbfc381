"""Where each named parameter of a module lives in a flat vector of coordinates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import torch

from torchscape.errors import PotentialError
from torchscape.types import Float, Tensor

__all__ = ["ParameterLayout"]


@dataclasses.dataclass(frozen=True)
class ParameterLayout:
    """The map between named tensors and one row of D coordinates, tensor after tensor, C order within each.

    Attributes:
        names: the parameters that are coordinates, in the order of their coordinates.
        shapes: their shapes.
        offsets: where each begins in the row.
        aliases: other names of the same tensors (tied weights), each with the name listed in ``names``.
        ndim: the length D of a row.

    Example:
        >>> layout = ParameterLayout.of({"weight": torch.Size([2, 3]), "bias": torch.Size([2])})
        >>> layout.offsets, layout.ndim
        ((0, 6), 8)
        >>> x = torch.arange(8.0).expand(4, 8)
        >>> parts = layout.unflatten(x)
        >>> parts["bias"].tolist()[0], torch.equal(layout.flatten(parts), x)
        ([6.0, 7.0], True)
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    offsets: tuple[int, ...]
    aliases: dict[str, str]
    ndim: int

    @classmethod
    def of(cls, shapes: Mapping[str, Iterable[int]], aliases: Mapping[str, str] | None = None) -> ParameterLayout:
        """The layout that packs the given tensors in the given order."""
        sizes = tuple(torch.Size(shape) for shape in shapes.values())
        ends = [0]
        for shape in sizes:
            ends.append(ends[-1] + shape.numel())
        return cls(tuple(shapes), sizes, tuple(ends[:-1]), dict(aliases or {}), ends[-1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many coordinates each parameter has."""
        return tuple(shape.numel() for shape in self.shapes)

    def coordinates(self, name: str) -> slice:
        """The coordinates of one parameter, under any of its names.

        Example:
            >>> ParameterLayout.of({"a": [2], "b": [3]}, aliases={"c": "b"}).coordinates("c")
            slice(2, 5, None)
        """
        k = self.names.index(self.aliases.get(name, name))
        return slice(self.offsets[k], self.offsets[k] + self.shapes[k].numel())

    def unflatten(self, x: Float[Tensor, "*S D"]) -> dict[str, Tensor]:
        """Rows to named tensors ``[*S, *shape]`` (views where memory allows); one node in the autograd graph."""
        parts = x.split(self.sizes, dim=-1)
        return {
            name: part.reshape((*x.shape[:-1], *shape))
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def flatten(self, tensors: Mapping[str, Tensor]) -> Float[Tensor, "*S D"]:
        """Named tensors ``[*S, *shape]`` to rows; names that are not in the layout are ignored.

        Raises:
            PotentialError: if a tensor is missing or does not have the shape of its parameter.
        """
        rows = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            if name not in tensors:
                raise PotentialError(f"no tensor for parameter {name!r}; given: {', '.join(tensors) or 'none'}")
            tensor = tensors[name]
            batch = tensor.ndim - len(shape)
            if batch < 0 or tensor.shape[batch:] != shape:
                raise PotentialError(
                    f"parameter {name!r} has shape {tuple(shape)}, but a tensor of {tuple(tensor.shape)} was given"
                )
            rows.append(tensor.reshape((*tensor.shape[:batch], shape.numel())))
        return torch.cat(rows, dim=-1)
