"""Nearest neighbours of many points: a KD-tree in few dimensions, blocks of distances in many."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.brief import brief
from torchscape.devices import is_host
from torchscape.errors import TorchscapeError
from torchscape.memory import ONE_LARGE, in_chunks, rows_that_fit
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT

__all__ = ["Neighbours", "nearest_neighbours"]

_TREE_DIMENSIONS = 16  # beyond, a KD-tree visits nearly all points anyway


@brief
@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The K nearest of N points, seen from each of B places; a point is its own neighbour, at distance 0.

    Distances of any kind may stand here, for instance those between minima up to symmetry.

    Attributes:
        index: which points, nearest first [B K].
        distance: how far [B K].

    Example:
        >>> near = Neighbours.of_distances(torch.tensor([[0.0, 3.0, 1.0], [3.0, 0.0, 2.0]]), k=2)
        >>> near.index.tolist(), near.distance.tolist()
        ([[0, 2], [1, 2]], [[0.0, 1.0], [0.0, 2.0]])
    """

    index: Int[Tensor, "B K"]
    distance: Float[Tensor, "B K"]

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def of_distances(cls, distances: Float[Tensor, "B N"], k: int | None = None) -> Neighbours:
        """From a matrix of distances of B places to N points; all N by default.

        Raises:
            TorchscapeError: if a distance is negative or NaN.
        """
        if not bool((distances >= 0).all()):
            raise TorchscapeError(
                "a distance is negative or NaN: give lengths, not squares of differences or signs"
            )
        k = distances.shape[1] if k is None else min(k, distances.shape[1])
        nearest = distances.topk(k, dim=1, largest=False)
        return cls(nearest.indices, nearest.values)


def nearest_neighbours(
    points: Float[Tensor, "N D"], k: int = 64, queries: Float[Tensor, "B D"] | None = None
) -> Neighbours:
    """The k nearest points of each query, or of each point itself.

    Up to 16 coordinates by a KD-tree on the CPU, in O(N log N); beyond, or on a GPU, by blocks of the matrix of
    distances, in O(N B D) and with memory for a block only.

    Args:
        points: N points.
        k: how many, the point itself counted; at most N.
        queries: places to look from; the points themselves by default.

    Raises:
        TorchscapeError: if a coordinate is not finite.

    Reference: Bentley, Commun. ACM 18, 509 (1975), doi 10.1145/361002.361007.

    Example:
        >>> nearest_neighbours(torch.tensor([[0.0], [1.0], [3.0]]), k=2).index.tolist()
        [[0, 1], [1, 0], [2, 1]]
    """

    from scipy.spatial import cKDTree

    COUNT.check("nearest_neighbours", k=k)
    queries = points if queries is None else queries
    if not bool(torch.isfinite(points).all() & torch.isfinite(queries).all()):
        raise TorchscapeError("a coordinate is NaN or infinite: leave out what broke down (samples.points does)")
    k = min(k, len(points))
    if is_host(points.device) and points.shape[1] <= _TREE_DIMENSIONS:
        # Sliding midpoints: many equal points, as rejected moves leave them, would upset a balanced tree.
        tree = cKDTree(points.detach().double().numpy(), balanced_tree=False)
        _, index = tree.query(queries.detach().double().numpy(), k=list(range(1, k + 1)), workers=1)
        chosen = torch.as_tensor(index)
        return Neighbours(chosen, _distances(points, queries, chosen))
    return _by_blocks(points, queries, k)


def _by_blocks(points: Float[Tensor, "N D"], queries: Float[Tensor, "B D"], k: int) -> Neighbours:
    """Candidates from |a|^2 - 2 a.b + |b|^2, which is fast and loses digits; their distances from differences."""
    centre = points.mean(0)
    shifted, squares = points - centre, (points - centre).square().sum(1)
    extra = min(len(points), k + 8)  # neighbours that rounding could have swapped
    parts = []
    for block in in_chunks(queries, len(points), on_host=ONE_LARGE):
        squared = squares - 2.0 * (block - centre) @ shifted.T
        candidates = squared.topk(extra, dim=1, largest=False).indices
        exact = _distances(points, block, candidates).sort(dim=1, stable=True)
        parts.append((candidates.gather(1, exact.indices[:, :k]), exact.values[:, :k]))
    return Neighbours(torch.cat([index for index, _ in parts]), torch.cat([distance for _, distance in parts]))


def _distances(
    points: Float[Tensor, "N D"], queries: Float[Tensor, "B D"], index: Int[Tensor, "B K"]
) -> Float[Tensor, "B K"]:
    rows = rows_that_fit(index.shape[1] * points.shape[1], points.device, on_host=ONE_LARGE)
    parts = zip(queries.split(rows), index.split(rows), strict=True)
    return torch.cat([(points[chosen] - block[:, None]).norm(dim=2) for block, chosen in parts])
