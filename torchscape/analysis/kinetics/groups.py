"""Sets of minima as people give them: a label of each minimum, or lists of positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from torchscape.analysis.kinetics.transformation import positions
from torchscape.errors import TorchscapeError
from torchscape.types import Int, Tensor

__all__ = ["Groups", "disjoint_sets", "labels_of"]

Groups = Int[Tensor, "N"] | Sequence[Sequence[int]] | Sequence[Tensor]


def disjoint_sets(groups: Groups, n: int, name: str = "groups") -> list[np.ndarray]:
    """The positions of the minima in each group.

    Args:
        groups: a whole number for each of the n minima, -1 for those in no group; or lists of positions.
        n: number of minima.
        name: of the argument, for messages.

    Raises:
        TorchscapeError: for labels of another length, groups that overlap, are empty, or name no minimum.

    Example:
        >>> [s.tolist() for s in disjoint_sets(torch.tensor([0, 1, 0, -1]), 4)]
        [[0, 2], [1]]
        >>> [s.tolist() for s in disjoint_sets([[2], [0, 1]], 4)]
        [[2], [0, 1]]
    """
    if isinstance(groups, Tensor):
        label = groups.reshape(-1).cpu().numpy()
        if len(label) != n or not np.issubdtype(label.dtype, np.integer):
            raise TorchscapeError(
                f"{name} as a tensor are one whole number for each of the {n} minima, -1 for none; here they are "
                f"{len(label)} of {groups.dtype}"
            )
        return [np.flatnonzero(label == k) for k in np.unique(label[label >= 0])]
    sets = [positions(torch.as_tensor(members), n, f"{name}[{k}]") for k, members in enumerate(groups)]
    everyone = np.concatenate([np.empty(0, dtype=np.int64), *sets])
    values, counts = np.unique(everyone, return_counts=True)
    if (counts > 1).any():
        raise TorchscapeError(f"minimum {values[counts > 1][0]} is in two of the {name}: make them disjoint")
    return sets


def labels_of(groups: Groups, n: int, name: str = "groups") -> np.ndarray:
    """The number of the group of each minimum; every one must be in a group.

    Raises:
        TorchscapeError: if a minimum is in none, and as :func:`disjoint_sets`.
    """
    sets = disjoint_sets(groups, n, name)
    label = np.full(n, -1)
    for k, members in enumerate(sets):
        label[members] = k
    if (label < 0).any():
        raise TorchscapeError(
            f"minimum {int(np.flatnonzero(label < 0)[0])} is in none of the {name}: give every minimum a group, "
            "or take the network of those that have one (network.subset)"
        )
    return label
