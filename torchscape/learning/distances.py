"""Distances between minima, and all minima in one frame, with the symmetry of the model removed."""

from __future__ import annotations

import torch

from torchscape.errors import TorchscapeError
from torchscape.progress import progress_bar
from torchscape.symmetry.base import Symmetry
from torchscape.symmetry.pairs import pair_distances
from torchscape.types import Float, Tensor

__all__ = ["align_all", "parameter_distances"]


def parameter_distances(
    x: Float[Tensor, "N D"], symmetry: Symmetry | None = None, *, progress: bool = False
) -> Float[Tensor, "N N"]:
    """Euclidean distances between all points, or between the closest of their symmetric images.

    Args:
        x: minima, or any points.
        symmetry: the group to remove (``potential.symmetry``); None for distances between the points as they are,
            which depend on how each network happens to number its units.
        progress: show a progress bar.

    O(N^2) alignments.

    Reference: Ballard et al. (2017), doi 10.1039/c7cp01108c, Fig. 9, where symmetry is left in.

    Example:
        >>> parameter_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).tolist()
        [[0.0, 5.0], [5.0, 0.0]]
    """
    if symmetry is None:
        return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    n = len(x)
    i, j = torch.triu_indices(n, n, 1, device=x.device)
    found = x.new_zeros(n, n)
    with progress_bar(show=progress, total=len(i), unit=" pairs") as bar:
        found[i, j] = pair_distances(symmetry, x, i, x, j, ended=bar.update)
    return found + found.mT


def align_all(x: Float[Tensor, "N D"], symmetry: Symmetry, *, max_sweeps: int = 50) -> Float[Tensor, "N D"]:
    """The symmetric image of every point that lies closest to the mean of these images.

    All are aligned to the first, then to their mean until nothing moves: the sum of squared distances to the mean
    falls with every sweep (a generalised Procrustes alignment: Gower, Psychometrika 40, 33 (1975),
    doi 10.1007/BF02291478). The end is a local optimum, which may depend on the first point.

    Raises:
        TorchscapeError: if there are no points.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> from torchscape import ModulePotential
        >>> u = ModulePotential(net, (torch.ones(1, 2), torch.tensor([0])), torch.nn.functional.cross_entropy, 0.1)
        >>> images = u.symmetry.random_image(u.sample(1).expand(5, -1), torch.arange(5))
        >>> align_all(images, u.symmetry).std(0).max().item() < 1e-12
        True
    """
    if len(x) == 0:
        raise TorchscapeError("there are no points to align: give at least one")
    aligned = symmetry.align(x[:1].expand_as(x), x)
    spread = _spread(aligned)
    for _ in range(max_sweeps):
        mean = aligned.mean(0, keepdim=True)
        moved = symmetry.align(mean.expand_as(x), aligned)
        fallen = _spread(moved)
        # Several groups of units are matched by local searches, which need not find the image there was.
        if not bool(fallen < spread * (1 - 1e-12)):
            break
        aligned, spread = moved, fallen
    return aligned


def _spread(x: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    return (x - x.mean(0)).square().sum()
