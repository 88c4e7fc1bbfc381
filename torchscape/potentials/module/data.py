"""``Samples``: a data set as tensors with the samples along their first dimension."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from torchscape.devices import HOST, holds_numbers, is_host
from torchscape.errors import NotDeterministic, OutOfMemory, PotentialError
from torchscape.memory import attempt, available_memory, note
from torchscape.potentials.module.spool import Spool, mapped
from torchscape.potentials.module.streaming import page_locked, streamed
from torchscape.transfer import moved
from torchscape.types import Int, Tensor

__all__ = ["Samples"]

_AT_ONCE = 8192  # samples that are looked at together


@dataclasses.dataclass(frozen=True)
class Samples:
    """All samples of a data set: a tree (tuple, dict, or single tensor) of tensors.

    Data that take more than half of a device's memory, or do not fit when they get there, stay in host memory,
    page-locked where that is possible, and are streamed: while one chunk is in use the next is on its way
    (:func:`~torchscape.potentials.module.streaming.streamed`). Arrays that NumPy maps into memory stay in their
    files, from which each chunk is read when it is used, and so do batches of a ``DataLoader`` that are more than
    a quarter of the machine's memory: they are written into a file first.

    Attributes:
        tree: the tensors, samples along the first dimension.
        device: where batches are handed out.
        dtype: of floating-point tensors that are handed out; None for as they are.
        separable: whether every leaf has the same length, so that samples can be taken one by one.

    Example:
        >>> samples = Samples.of((torch.zeros(5, 2), torch.arange(5)))
        >>> len(samples), [len(y) for (x, y) in samples.chunks(2)]
        (5, [2, 2, 1])
    """

    tree: Any
    device: torch.device
    separable: bool = True
    dtype: torch.dtype | None = None

    @classmethod
    def of(
        cls, data: object, *, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Samples:
        """From a tensor, a tuple or dict of tensors, a ``Dataset``, or an iterable of batches (read once).

        Arrays of NumPy may stand for tensors, such as ``numpy.load(file, mmap_mode="r")``. Floating-point
        tensors are cast to ``dtype``; everything is held on ``device`` where it fits.

        Raises:
            PotentialError: if there are no samples, or what is given are not tensors.
            NotDeterministic: if a ``Dataset`` gives different items when asked twice (random augmentation).
        """
        tree, in_files = mapped(_tree(data))
        leaves = pytree.tree_leaves(tree)
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise PotentialError(
                    f"data must be made of tensors, but a {type(leaf).__name__} was found; "
                    f"convert it with torch.as_tensor, or give a Dataset or an iterable of batches"
                )
        if not leaves or any(leaf.ndim == 0 or len(leaf) == 0 for leaf in leaves):
            raise PotentialError("the data set is empty: give at least one sample, along the first dimension")
        if not all(holds_numbers(leaf.device) for leaf in leaves):
            raise PotentialError("the data hold no numbers (they are on the meta device): load them first")
        device = torch.device(device)
        separable = len({len(leaf) for leaf in leaves}) == 1
        if in_files and separable:
            return cls(pytree.tree_map(torch.Tensor.detach, tree), device, dtype=dtype)

        def cast(home: torch.device) -> Any:
            return pytree.tree_map(lambda leaf: _cast(leaf, home, dtype), tree)

        if separable and not _fits(leaves, dtype, device):
            return cls(page_locked(cast(HOST), device), device)
        fits, resident = attempt(cast, device)
        if not fits:
            if is_host(device) or not separable:
                raise OutOfMemory(
                    f"the data do not fit into the memory of {device}: use fewer samples, or float32"
                )
            note(f"the data do not fit into the memory of {device}: they stay on the host and are streamed")
            return cls(page_locked(cast(HOST), device), device)
        return cls(resident, device, separable)

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors of the tree."""
        return pytree.tree_leaves(self.tree)

    def __len__(self) -> int:
        """Number of samples; data that cannot be split counts as one."""
        return len(self.leaves[0]) if self.separable else 1

    @property
    def streamed(self) -> bool:
        """Whether the samples stay in host memory and visit the device chunk by chunk."""
        return any(leaf.device.type != self.device.type for leaf in self.leaves)

    @property
    def whole(self) -> Any:
        """The tree with every sample, on the device."""
        return pytree.tree_map(lambda leaf: self._as_asked(leaf).to(self.device), self.tree)

    def chunks(self, size: int) -> Iterator[Any]:
        """Consecutive batches of ``size`` samples; the last may be smaller."""
        if not self.separable or size >= len(self):
            yield self.whole
            return
        parts = (self._part(slice(start, start + size)) for start in range(0, len(self), size))
        yield from streamed(parts, self.device) if self.streamed else parts

    def take(self, indices: Int[Tensor, "K"]) -> Samples:
        """The samples with the given indices.

        Raises:
            PotentialError: if the data cannot be split, or an index is out of range.
        """
        if not self.separable:
            raise PotentialError("these data cannot be split: their tensors have different lengths")
        indices = indices.to("cpu")
        if len(indices) == 0:
            raise PotentialError("a minibatch needs at least one sample")
        if int(indices.min()) < -len(self) or int(indices.max()) >= len(self):
            raise PotentialError(f"sample indices must lie in 0..{len(self) - 1}")
        first, n = int(indices[0]), len(indices)
        if first >= 0 and torch.equal(indices, torch.arange(first, first + n)):
            return dataclasses.replace(self, tree=pytree.tree_map(lambda leaf: leaf[first : first + n], self.tree))
        there = {device: indices.to(device) for device in {leaf.device for leaf in self.leaves}}
        taken = pytree.tree_map(lambda leaf: leaf[there[leaf.device]], self.tree)
        if not self.streamed:
            return dataclasses.replace(self, tree=taken)
        dtypes = {leaf.dtype for leaf in self.leaves if leaf.is_floating_point()}
        return Samples.of(taken, dtype=next(iter(dtypes), torch.float64), device=self.device)

    def to(self, *, dtype: torch.dtype, device: torch.device) -> Samples:
        """The same samples for another dtype or device."""
        return Samples.of(self.tree, dtype=dtype, device=device)

    def n_not_finite(self) -> int:
        """How many numbers in the data are NaN or infinite."""
        floats = [leaf for leaf in self.leaves if leaf.is_floating_point()]
        return sum(int((~torch.isfinite(part)).sum()) for leaf in floats for part in leaf.split(_AT_ONCE))

    def digest(self, *, ordered: bool = False) -> str:
        """A hash of the samples as a set: neither their order nor float32 against float64 matters.

        A shuffling ``DataLoader`` therefore describes the same landscape every time it is read. Where ``ordered``,
        the samples are a sequence: nodes of a graph, whose edges name them by their places.
        """
        shapes = repr([tuple(leaf.shape[1:]) for leaf in self.leaves])
        total = hashlib.sha256(shapes.encode())
        if self.separable:
            rows = (hashlib.sha256(row).digest() for row in self._rows())
            parts = list(rows) if ordered else sorted(rows)
        else:
            columns = [_canonical(leaf).flatten(1).numpy() for leaf in moved(self.leaves, HOST)]
            parts = [hashlib.sha256(column.tobytes()).digest() for column in columns]
        for part in parts:
            total.update(part)
        return total.hexdigest()

    def reordered(self, order: Tensor) -> Any:
        """All samples in another order."""
        return pytree.tree_map(lambda leaf: self._as_asked(leaf[order.to(leaf.device)]).to(self.device), self.tree)

    def _rows(self) -> Iterator[bytes]:
        """The numbers of every sample."""
        for some in zip(*(leaf.split(_AT_ONCE) for leaf in self.leaves), strict=True):
            columns = [_canonical(leaf).flatten(1).numpy() for leaf in moved(list(some), HOST)]
            yield from (b"".join(row.tobytes() for row in sample) for sample in zip(*columns, strict=True))

    def _part(self, rows: slice) -> Any:
        return pytree.tree_map(lambda leaf: self._as_asked(leaf[rows]), self.tree)

    def _as_asked(self, leaf: Tensor) -> Tensor:
        return leaf if self.dtype is None or not leaf.is_floating_point() else leaf.to(self.dtype)


def _cast(leaf: Tensor, home: torch.device, dtype: torch.dtype) -> Tensor:
    return leaf.detach().to(home, dtype if leaf.is_floating_point() else leaf.dtype).contiguous()


def _tree(data: object) -> Any:
    """Whatever the user gave, as one tree of tensors."""
    if isinstance(data, Tensor | np.ndarray | dict | tuple):
        return data
    if isinstance(data, TensorDataset):
        return data.tensors
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return _collate(data)
    if isinstance(data, list) and data and all(isinstance(leaf, Tensor) for leaf in data):
        return tuple(data)
    if isinstance(data, DataLoader | Iterable):
        return _concatenate(data)
    raise PotentialError(
        f"data must be tensors, a Dataset or an iterable of batches (a DataLoader), not {type(data).__name__}"
    )


def _collate(dataset: Dataset) -> Any:
    n = len(dataset)  # type: ignore[arg-type]
    if n == 0:
        raise PotentialError("the data set is empty: give at least one sample")
    first, again = (pytree.tree_leaves(default_collate([dataset[0]])) for _ in range(2))
    if not all(torch.equal(a, b) for a, b in zip(first, again, strict=True) if isinstance(a, Tensor)):
        raise NotDeterministic(
            "the Dataset gives another item 0 when asked again (a random transform?); a landscape needs fixed "
            "data: remove the random transforms, or draw them once and keep the tensors"
        )
    whole = default_collate([dataset[i] for i in range(n)])
    return tuple(whole) if isinstance(whole, list) else whole


def _concatenate(batches: Iterable[Any]) -> Any:
    """Batches of one structure, joined sample after sample: in memory, or in files where they are many."""
    structure = None
    with Spool() as spool:
        for batch in batches:
            leaves, its = pytree.tree_flatten(tuple(batch) if isinstance(batch, list) else batch)
            if structure is not None and its != structure:
                raise PotentialError(
                    "the batches differ in structure; every batch must be the same tuple or dict of tensors"
                )
            structure = its
            spool.add(leaves)
        if structure is None:
            raise PotentialError("the data set is empty: the iterable gave no batches")
        return pytree.tree_unflatten(spool.joined(), structure)


def _fits(leaves: list[Tensor], dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the data take less than half of the device's memory; on the host they are anyway."""
    if is_host(device):
        return True
    sizes = (leaf.numel() * (dtype if leaf.is_floating_point() else leaf.dtype).itemsize for leaf in leaves)
    return sum(sizes) <= 2 * available_memory(device)


def _canonical(leaf: Tensor) -> Tensor:
    leaf = leaf.detach()
    if leaf.is_complex():
        return torch.view_as_real(leaf.to(torch.complex64)).reshape(len(leaf), -1)
    kind = torch.float32 if leaf.is_floating_point() else torch.int64
    return leaf.to(kind).reshape(len(leaf), -1)
