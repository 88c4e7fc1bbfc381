"""Planes through parameter space: which two directions to look along, and from where.

H. Li, Z. Xu, G. Taylor, C. Studer and T. Goldstein, NeurIPS (2018), doi 10.48550/arXiv.1712.09913, for filter
normalisation and for planes of trajectories.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.layout import ParameterLayout
from torchscape.learning.worst_cases import UpsideDown
from torchscape.potentials.base import Potential
from torchscape.saddles.eigen import lowest_eigenpairs
from torchscape.saddles.projector import Projector
from torchscape.sampling.principal import principal_directions
from torchscape.symmetry.base import Symmetry
from torchscape.types import Float, Tensor
from torchscape.validation import SEED

__all__ = [
    "Plane",
    "filter_normalised",
    "hessian_plane",
    "plane_of",
    "principal_plane",
    "random_plane",
    "three_point_plane",
]


@brief
@dataclasses.dataclass(frozen=True)
class Plane:
    """The points origin + a e_1 + b e_2.

    Attributes:
        origin: where a = b = 0 [D].
        axes: e_1 and e_2; orthonormal, unless they were filter-normalised [2 D].
        labels: what they are, for the axes of pictures.
    """

    origin: Float[Tensor, "D"]
    axes: Float[Tensor, "2 D"]
    labels: tuple[str, str] = ("first direction", "second direction")

    def points(self, coordinates: Float[Tensor, "B 2"]) -> Float[Tensor, "B D"]:
        """Points of the plane by their coordinates (a, b)."""
        return self.origin + coordinates @ self.axes

    def coordinates(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B 2"]:
        """(a, b) of the point of the plane that is closest to each x."""
        return torch.linalg.solve(self.axes @ self.axes.T, self.axes @ (x - self.origin).T).T


def plane_of(
    origin: Float[Tensor, "D"],
    first: Float[Tensor, "D"],
    second: Float[Tensor, "D"],
    labels: tuple[str, str] = ("first direction", "second direction"),
) -> Plane:
    """The plane through a point along any two directions, the second made orthogonal to the first.

    Raises:
        TorchscapeError: if the directions do not span a plane.

    Example:
        >>> plane = plane_of(torch.zeros(3), torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]))
        >>> plane.axes.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    length = first.norm()
    e1 = first / length.clamp(min=torch.finfo(first.dtype).tiny)
    rest = second - (second @ e1) * e1
    rest = rest - (rest @ e1) * e1  # twice is enough
    if not bool((length > 0) & (rest.norm() > torch.finfo(first.dtype).eps ** 0.75 * second.norm())):
        raise TorchscapeError("the two directions are parallel, or one is zero: choose others")
    return Plane(origin, torch.stack([e1, rest / rest.norm()]), labels)


def three_point_plane(
    x: Float[Tensor, "3 D"], symmetry: Symmetry | None = None
) -> tuple[Plane, Float[Tensor, "3 2"]]:
    """The plane through three minima, and their coordinates in it: the first at (0, 0), the second at (a, 0).

    Args:
        x: the minima.
        symmetry: first replace the second and third by their symmetric images closest to the first
            (``potential.symmetry``): otherwise the plane mostly shows how networks happen to number their units.
            The images lie in the plane, the minima themselves then do not: project
            ``plane.points(coordinates)``.

    Example:
        >>> x = torch.tensor([[0.0, 0.0, 1.0], [3.0, 0.0, 1.0], [1.0, 2.0, 1.0]])
        >>> three_point_plane(x)[1].tolist()
        [[0.0, 0.0], [3.0, 0.0], [1.0, 2.0]]
    """
    if symmetry is not None:
        x = torch.cat([x[:1], symmetry.align(x[:1].expand(2, -1).contiguous(), x[1:])])
    labels = ("from the first minimum to the second", "towards the third")
    plane = plane_of(x[0], x[1] - x[0], x[2] - x[0], labels)
    return plane, plane.coordinates(x)


def principal_plane(
    x: Float[Tensor, "S D"],
    first: int = 0,
    second: int = 1,
    *,
    origin: Float[Tensor, "D"] | None = None,
    seed: int = 0,
) -> Plane:
    """The plane along two eigenvectors of the covariance of samples or of a trajectory, by position from 0.

    Args:
        x: samples of chains, or successive points of one optimisation.
        first, second: which eigenvectors, by descending variance.
        origin: where the plane passes, for example a minimum or ``x[-1]``; the mean by default.
        seed: of the iteration for the eigenvectors (:func:`torchscape.sampling.principal_directions`).

    Example:
        >>> x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> principal_plane(x).labels
        ('principal direction 1 (90 % of variance)', 'principal direction 2 (10 % of variance)')
    """
    found = principal_directions(x, max(first, second) + 1, seed=seed)
    share = (100.0 * found.explained).tolist()
    names = [f"principal direction {k + 1} ({share[k]:.2g} % of variance)" for k in (first, second)]
    at = found.mean if origin is None else origin
    return plane_of(at, found.directions[first], found.directions[second], (names[0], names[1]))


def hessian_plane(
    potential: Potential,
    x: Float[Tensor, "D"],
    first: int = 0,
    second: int = 1,
    *,
    end: Literal["highest", "lowest"] = "highest",
    tol: float = 1e-6,
    seed: int = 0,
) -> Plane:
    """The plane through a point along two eigenvectors of its Hessian, from Hessian-vector products.

    Args:
        potential: U.
        x: a minimum, or any point.
        first, second: which eigenvectors, by position from 0 at the chosen end of the spectrum.
        end: "highest" curvature first, or "lowest" (zero modes of the symmetry left out).
        tol, seed: of the eigensolver (:func:`torchscape.saddles.lowest_eigenpairs`).

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> hessian_plane(Quadratic([1.0, 5.0, 3.0]), torch.zeros(3).double()).axes.abs().round().tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if end not in ("highest", "lowest"):
        raise TorchscapeError(f"unknown end of the spectrum {end!r}: use 'highest' or 'lowest'")
    n = max(first, second) + 1
    if end == "highest":
        nothing = Projector(None, None)
        pairs = lowest_eigenpairs(UpsideDown(potential), x[None], n, tol=tol, projector=nothing, seed=seed)
        values = -pairs.values[0]
    else:
        pairs = lowest_eigenpairs(potential, x[None], n, tol=tol, seed=seed)
        values = pairs.values[0]
    names = [
        f"Hessian eigenvector {k + 1} from the {end} (curvature {float(values[k]):.3g})" for k in (first, second)
    ]
    return plane_of(x, pairs.vectors[0, first], pairs.vectors[0, second], (names[0], names[1]))


def random_plane(origin: Float[Tensor, "D"], seed: int = 0) -> Plane:
    """The plane through a point along two random directions.

    Example:
        >>> plane = random_plane(torch.zeros(50).double())
        >>> torch.allclose(plane.axes @ plane.axes.T, torch.eye(2).double())
        True
    """
    SEED.check("random_plane", seed=seed)
    keys = random.fold(seed, torch.arange(2, device=origin.device))
    first, second = random.normal(keys, len(origin), origin.dtype)
    return plane_of(origin, first, second, ("random direction 1", "random direction 2"))


def filter_normalised(plane: Plane, layout: ParameterLayout, *, vectors: bool = False) -> Plane:
    """The same plane directions with every filter as long as that of the origin: d_f <- |theta_f| d_f / |d_f|.

    A filter is what makes one output channel or unit: a row of a weight, along its first dimension. Networks whose
    layers are scaled differently, but compute the same, then look the same. Axes are no longer orthonormal: one
    unit is a change of the weights by their own size.

    Args:
        plane: through the point that gives the lengths.
        layout: where the weights live: ``potential.layout`` of a ``ModulePotential``.
        vectors: whether biases and other one-dimensional parameters count as one filter each; by default they are
            not changed along the plane (their components are zero).

    Reference: Li et al., NeurIPS (2018), doi 10.48550/arXiv.1712.09913, section 4.

    Example:
        >>> layout = ParameterLayout.of({"weight": [2, 2], "bias": [2]})
        >>> plane = Plane(torch.tensor([3.0, 4.0, 0.0, 2.0, 1.0, 1.0]), torch.eye(6)[:2])
        >>> filter_normalised(plane, layout).axes[0].tolist()
        [5.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    if layout.ndim != len(plane.origin):
        raise TorchscapeError(f"a layout of {layout.ndim} coordinates does not fit a plane of {len(plane.origin)}")
    lengths, parts = layout.unflatten(plane.origin), layout.unflatten(plane.axes)
    scaled = {}
    for name, d in parts.items():
        theta = lengths[name]
        if theta.ndim < 2 and not vectors:
            scaled[name] = torch.zeros_like(d)
            continue
        n = theta.shape[0] if theta.ndim > 1 else 1
        rows, filters = d.reshape(2, n, -1), theta.reshape(n, -1)
        size = rows.norm(dim=2, keepdim=True)
        factor = filters.norm(dim=1)[:, None] / size.clamp(min=torch.finfo(d.dtype).tiny)
        scaled[name] = torch.where(size > 0, rows * factor, 0.0).reshape(d.shape)
    labels = plane.labels[0] + ", filter-normalised", plane.labels[1] + ", filter-normalised"
    return Plane(plane.origin, layout.flatten(scaled), labels)
