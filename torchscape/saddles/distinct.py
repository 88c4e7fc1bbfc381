"""Which rows of a batch are the same point, up to the potential's symmetry."""

from __future__ import annotations

import torch

from torchscape.devices import HOST
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.symmetry.pairs import pair_distances
from torchscape.types import Int, Tensor

__all__ = ["first_of_each"]


def first_of_each(
    potential: Potential,
    points: StationaryPoints,
    *,
    energy_tol: float = 1e-8,
    distance_tol: float = 1e-2,
) -> Int[Tensor, "B"]:
    """For each row, the number of the first row that is the same point.

    The same means energies within ``energy_tol`` max(energy_scale, |U|) and a distance to the closest symmetric
    image within ``distance_tol`` length scales. Rows are compared with one representative per round and energy,
    all in one batch, so that there are as many rounds as different points of equal energy.

    Example:
        >>> class Bowl(Potential):
        ...     ndim = 1
        >>> points = StationaryPoints.of(torch.tensor([[0.0], [3.0], [0.0]]), torch.zeros(3))
        >>> first_of_each(Bowl(), points).tolist()
        [0, 1, 0]
    """
    device, n = points.energy.device, len(points)
    first = torch.arange(n)
    if n < 2:
        return first.to(device)
    points = points.replace(eigenvalues=None).to(HOST)  # rounds of small questions: for the host
    order = points.energy.sort(stable=True).indices
    energy = points.energy[order]
    gap = (energy[1:] - energy[:-1]) > energy_tol * energy[1:].abs().clamp(min=potential.energy_scale)
    level = torch.zeros(n, dtype=torch.int64)
    level[order[1:]] = gap.long().cumsum(0)
    invariants = potential.symmetry.invariants(points.x)
    tol = distance_tol * potential.length_scale
    open_rows = first.clone()
    while len(open_rows):
        # the first open row of every level stands for itself, and is compared with the others of its level
        head = torch.full((n,), n, dtype=torch.int64)
        head = head.scatter_reduce(0, level[open_rows], open_rows, "amin")
        leader = head[level[open_rows]]
        others = leader != open_rows
        a, b = leader[others], open_rows[others]
        near = (invariants[a] - invariants[b]).norm(dim=1) <= tol
        a, b = a[near], b[near]
        same = pair_distances(potential.symmetry, points.x, a, points.x, b) <= tol
        first[b[same]] = a[same]
        settled = torch.zeros(n, dtype=torch.bool)
        settled[leader] = True
        settled[b[same]] = True
        open_rows = open_rows[~settled[open_rows]]
    return first.to(device)
