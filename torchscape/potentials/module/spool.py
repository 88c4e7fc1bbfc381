"""Data that stay in files: arrays that NumPy maps into memory, and batches that are too many to be held."""

from __future__ import annotations

import tempfile
import warnings
from typing import IO, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from torchscape.devices import HOST, total_memory
from torchscape.errors import PotentialError
from torchscape.types import Tensor

__all__ = ["Spool", "mapped"]

_SHARE = 0.25  # of the machine's memory, from which on batches go into files


def mapped(tree: Any) -> tuple[Any, bool]:
    """A tree in which arrays have become tensors of the same memory; and whether any of them is in a file.

    Example:
        >>> mapped((np.ones(2), torch.ones(2)))
        ((tensor([1., 1.], dtype=torch.float64), tensor([1., 1.])), False)
    """
    in_files = any(_is_mapped(leaf) for leaf in pytree.tree_leaves(tree))
    return pytree.tree_map(lambda leaf: _tensor(leaf) if isinstance(leaf, np.ndarray) else leaf, tree), in_files


def _is_mapped(leaf: object) -> bool:
    while isinstance(leaf, np.ndarray):
        if isinstance(leaf, np.memmap):
            return True
        leaf = leaf.base
    return False


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():  # of arrays that cannot be written to, which nothing here does
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class Spool:
    """Batches, joined sample after sample, inside a ``with`` block.

    Those beyond a share of the memory go into temporary files, which vanish with what is made of them.
    """

    def __init__(self) -> None:
        self.limit = _SHARE * total_memory(HOST)
        self.n_bytes = 0
        self.parts: list[list[Tensor]] = []  # of every leaf
        self.files: list[IO[bytes]] = []
        self.shapes: list[tuple[torch.dtype, tuple[int, ...]]] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files:
            file.close()

    def add(self, leaves: list[Any]) -> None:
        """One batch.

        Raises:
            PotentialError: if it holds other things than tensors, or samples of other shapes, or in files of
                another type.
        """
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise PotentialError(f"batches must be made of tensors, not {type(leaf).__name__}")
        shapes = [(leaf.dtype, tuple(leaf.shape[1:])) for leaf in leaves]
        if self.shapes and [shape for _, shape in shapes] != [shape for _, shape in self.shapes]:
            raise PotentialError(
                "the batches hold samples of different shapes, which cannot be joined; pad them to one shape"
            )
        if not self.shapes:
            self.shapes, self.parts = shapes, [[] for _ in leaves]
        self.n_bytes += sum(leaf.numel() * leaf.element_size() for leaf in leaves)
        if self.n_bytes > self.limit and not self.files and all(leaf.device == HOST for leaf in leaves):
            self.files = [tempfile.TemporaryFile() for _ in leaves]  # noqa: SIM115  closed at the end of the block
        for parts, leaf in zip(self.parts, leaves, strict=True):
            parts.append(leaf)
        if self.files:
            if [dtype for dtype, _ in shapes] != [dtype for dtype, _ in self.shapes]:
                raise PotentialError("the batches hold numbers of different types; make them of one type")
            self._write()

    def _write(self) -> None:
        for parts, file, (dtype, _) in zip(self.parts, self.files, self.shapes, strict=True):
            for part in parts:
                part.detach().to(_in_files(dtype)).contiguous().numpy().tofile(file)
            parts.clear()

    def joined(self) -> list[Any]:
        """Every leaf with all samples: a tensor, or an array that is mapped into memory."""
        if not self.files:
            return [torch.cat(parts) for parts in self.parts]
        arrays = []
        for file, (dtype, shape) in zip(self.files, self.shapes, strict=True):
            file.flush()
            kind = torch.empty(0, dtype=_in_files(dtype)).numpy().dtype
            arrays.append(np.memmap(file, kind, mode="r").reshape(-1, *shape))
        return arrays


def _in_files(dtype: torch.dtype) -> torch.dtype:
    """NumPy has no bfloat16, every number of which is one of float32."""
    return torch.float32 if dtype == torch.bfloat16 else dtype
