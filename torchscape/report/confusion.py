"""Of a classifier: which classes each minimum takes for which."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from torchscape.errors import TorchscapeError
from torchscape.metrics.predictions import predicted_classes
from torchscape.potentials import ModulePotential, Potential
from torchscape.types import Float, Int, Tensor

__all__ = ["Confusion", "confusion", "held_out_pair", "training_pair"]

_MOST_CLASSES = 40
_MOST_COUNTS = 4_000_000  # minima times classes squared: 8 MB of the file
_AT_ONCE = 20_000_000  # outputs in memory


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Confusion matrices of the m lowest of the minima shown, over C classes.

    Attributes:
        counts: items of class i that minimum k takes for class j [m C C].
        accuracy: the part of the items that each of them gets right [m].
        of: which items.
    """

    counts: np.ndarray
    accuracy: Float[Tensor, "m"]
    of: str

    @property
    def n_classes(self) -> int:
        return self.counts.shape[1]


def confusion(
    potential: ModulePotential,
    x: Float[Tensor, "n D"],
    inputs: tuple[Tensor, ...],
    labels: Int[Tensor, "i"],
    of: str,
) -> Confusion | None:
    """The confusion matrices of the models at these points; None where the outputs are no classes.

    Reference: rows are true classes and columns predicted ones, as in scikit-learn.
    """
    counted = labels >= 0  # the others are what losses ignore
    inputs, labels = tuple(one[counted] for one in inputs), labels[counted]
    if not len(labels):
        return None
    outputs = potential.predict(x[:1], inputs)
    two = outputs.ndim == 2 or (outputs.ndim == 3 and outputs.shape[2] == 1)
    if (two and int(labels.max()) > 1) or (not two and outputs.ndim != 3):
        return None
    n_classes = max(2 if two else outputs.shape[2], int(labels.max()) + 1)
    if n_classes > _MOST_CLASSES:
        return None
    most = max(_MOST_COUNTS // n_classes**2, 1)
    step = max(_AT_ONCE // outputs.numel(), 1)
    parts = [
        _counts(potential.predict(some, inputs), labels.to(x.device), n_classes) for some in x[:most].split(step)
    ]
    counts = torch.cat(parts).cpu()
    right = counts.diagonal(dim1=1, dim2=2).sum(1).double() / len(labels)
    kind = np.uint16 if len(labels) < 2**16 else np.uint32
    return Confusion(counts.numpy().astype(kind), right, of)


def _counts(outputs: Tensor, labels: Int[Tensor, "i"], n_classes: int) -> Int[Tensor, "n C C"]:
    predicted = predicted_classes(outputs)
    first = n_classes**2 * torch.arange(len(outputs), device=labels.device)[:, None]
    cell = first + labels * n_classes + predicted
    return cell.flatten().bincount(minlength=len(outputs) * n_classes**2).reshape(-1, n_classes, n_classes)


def training_pair(potential: Potential | None) -> tuple[tuple[Tensor, ...], Int[Tensor, "i"]] | None:
    """Inputs and classes that a potential was made of; None where it is no classifier's."""
    if not isinstance(potential, ModulePotential):
        return None
    data = potential.samples.whole
    if not (isinstance(data, tuple) and len(data) > 1 and all(isinstance(one, Tensor) for one in data)):
        return None
    *inputs, targets = data
    return None if _is_no_class(targets) else (tuple(inputs), targets.reshape(-1).long())


def held_out_pair(data: Any) -> tuple[tuple[Tensor, ...], Int[Tensor, "i"]]:
    """Inputs and classes out of (inputs, ..., targets).

    Raises:
        TorchscapeError: if these are none.
    """
    data = tuple(data) if isinstance(data, list | tuple) else (data,)
    if len(data) < 2 or not all(isinstance(one, Tensor) for one in data) or _is_no_class(data[-1]):
        raise TorchscapeError(
            "held_out: give (inputs, targets), the targets being whole numbers, one for each input"
        )
    return data[:-1], data[-1].reshape(-1).long()


def _is_no_class(targets: Tensor) -> bool:
    """Whether these are no class indices, one for each item."""
    return targets.numel() != len(targets) or targets.is_floating_point() or targets.is_complex()
