"""How high the way along a relaxed band is, sampled between its images too: valleys without a saddle in sight."""

from __future__ import annotations

from torchscape.potentials.base import Potential
from torchscape.potentials.lines import energies_on_lines
from torchscape.saddles.band import Band, Path, find_paths
from torchscape.types import Float, Tensor
from torchscape.validation import Range

__all__ = ["band_heights"]


def band_heights(
    potential: Potential,
    a: Float[Tensor, "P D"],
    b: Float[Tensor, "P D"],
    *,
    band: Band | None = None,
    n_points: int = 9,
    align: bool = True,
) -> Float[Tensor, "P"]:
    """The highest energy on a continuous path from each a to its b, found by a doubly-nudged elastic band.

    The path is the chain of straight pieces between the images of the relaxed band. Its highest energy, sampled at
    ``n_points`` places of each piece, is an upper bound of the barrier between a and b (up to what happens between
    two such places), whether the band has converged or not, and whether there is a saddle on it or not. Where
    minima are joined by a valley with a floor so flat that no transition state can be told from it, as those of
    large networks are (Draxler et al. 2018, arXiv 1803.00885; Garipov et al. 2018, arXiv 1802.10026), this is what
    can be said of them.

    Args:
        potential: U.
        a, b: the ends, row by row.
        band: options of the bands.
        n_points: places on each piece, both ends included.
        align: whether each b is put into the symmetric image closest to its a.

    Raises:
        OptionError: for fewer than two places.

    Example:
        >>> import torch
        >>> import torchscape as tsc
        >>> ring = tsc.FunctionPotential(lambda x: (x.square().sum() - 1) ** 2, 2)  # a valley all around
        >>> ends = torch.tensor([[1.0, 0.1], [-1.0, 0.1]], dtype=torch.float64)
        >>> line = ring.energy(ends.mean(0, keepdim=True)).item()
        >>> band = band_heights(ring, ends[:1], ends[1:], n_points=17).item()
        >>> round(line, 2), band < 0.05
        (0.98, True)
    """
    Range(low=2, whole=True).check("band_heights", n_points=n_points)
    if align:
        b = potential.symmetry.align(a, b)
    height = a.new_empty(len(a))
    for pairs, path in find_paths(potential, a, b, band):
        height[pairs] = _height(potential, path, n_points)
    return height


def _height(potential: Potential, path: Path, n_points: int) -> Float[Tensor, "P"]:
    """Images beyond a band's own number repeat its last, so that the pieces between them have no length."""
    p, i, d = path.x.shape
    starts, ends = path.x[:, :-1].reshape(-1, d), path.x[:, 1:].reshape(-1, d)
    energy = energies_on_lines(potential, starts, ends, n_points)[1]
    return energy.reshape(p, (i - 1) * n_points).amax(1)
