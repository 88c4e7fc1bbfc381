"""Two ways to measure how far minima are apart: do they agree?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.metrics.correlation import MantelTest, mantel
from torchscape.metrics.predictions import JointDensity, joint_density
from torchscape.types import Float, Tensor

__all__ = ["DistanceComparison", "compare_distances"]


@brief
@dataclasses.dataclass(frozen=True)
class DistanceComparison:
    """Distances between minima beside one other distance between them.

    Attributes:
        densities: joint density of each of them and the other, by name; all have one range.
        tests: rank correlation of the two over pairs, with the p-value of the Mantel test, by name.
    """

    densities: Mapping[str, JointDensity]
    tests: Mapping[str, MantelTest]


def compare_distances(
    distance: Float[Tensor, "N N"],
    others: Mapping[str, Float[Tensor, "N N"]],
    *,
    bins: int = 40,
    n_permutations: int = 999,
    seed: int = 0,
) -> DistanceComparison:
    """One distance between minima beside others, as misclassification beside distance in parameter space.

    With the symmetry of the network left in and taken out, the two say what removing it changes.

    Args:
        distance: between N minima (``misclassification_distances(...).value``).
        others: distances between the same minima by name, for instance ``{"as found": ...,
            "symmetry removed": ...}`` from :func:`torchscape.learning.parameter_distances`.
        bins: cells along each side of the joint densities.
        n_permutations, seed: of the Mantel tests.

    Raises:
        TorchscapeError: if there is nothing to compare with.

    Reference: Ballard et al. (2017), doi 10.1039/c7cp01108c, Fig. 9 and the discussion of symmetry after it.

    Example:
        >>> import torch
        >>> d = torch.cdist(torch.arange(5.0)[:, None], torch.arange(5.0)[:, None])
        >>> found = compare_distances(d / 10, {"as found": d}, n_permutations=9)
        >>> round(found.tests["as found"].value, 6)
        1.0
    """
    if not others:
        raise TorchscapeError("there is nothing to compare with: give at least one other distance, by name")
    far = max(float(other.max()) for other in others.values()) or 1.0
    return DistanceComparison(
        {name: joint_density(other, distance, bins, x_range=(0.0, far)) for name, other in others.items()},
        {
            name: mantel(other, distance, n_permutations=n_permutations, seed=seed)
            for name, other in others.items()
        },
    )
