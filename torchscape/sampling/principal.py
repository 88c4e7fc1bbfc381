"""Leading directions of the covariance of samples, without ever forming it."""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.types import Float, Tensor

__all__ = ["PrincipalDirections", "principal_directions"]

_GRAM = 2000  # a matrix of so many rows is decomposed at once
_EXTRA = 10  # directions carried along beside those wanted
_SWEEPS = 200


@brief
@dataclasses.dataclass(frozen=True)
class PrincipalDirections:
    """The K leading eigenvectors of a covariance.

    Attributes:
        mean: of the samples [D].
        directions: unit eigenvectors, the largest component positive [K D].
        variances: eigenvalues, descending [K].
        total_variance: the sum of all D eigenvalues.
    """

    mean: Float[Tensor, "D"]
    directions: Float[Tensor, "K D"]
    variances: Float[Tensor, "K"]
    total_variance: float

    @property
    def explained(self) -> Float[Tensor, "K"]:
        """Share of the total variance along each direction."""
        return self.variances / self.total_variance


def principal_directions(
    x: Float[Tensor, "S D"], k: int = 2, *, tol: float = 1e-9, seed: int = 0
) -> PrincipalDirections:
    """The k leading eigenpairs of C = sum_s (x_s - mean)(x_s - mean)^T / (S - 1).

    With up to 2000 samples from the Gram matrix X X^T, with up to 2000 coordinates from C itself, both exact;
    beyond, by subspace iteration from random vectors on products X^T (X q), in O(S D k) a sweep.

    Args:
        x: S samples, or points of a trajectory.
        k: how many; at most min(S - 1, D) have a variance.
        tol: relative change of the eigenvalues at which the iteration ends.
        seed: of its random vectors.

    Raises:
        TorchscapeError: for fewer than two samples, more directions than there can be, or samples all alike.

    Reference: Halko, Martinsson & Tropp, SIAM Rev. 53, 217 (2011), doi 10.1137/090771806.

    Example:
        >>> x = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, -0.5, 0.0]]).double()
        >>> found = principal_directions(x)
        >>> found.directions.abs().tolist(), found.explained.round(decimals=6).tolist()
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.8, 0.2])
    """
    s, d = x.shape
    if not 1 <= k <= min(s - 1, d):
        raise TorchscapeError(
            f"{s} samples of {d} coordinates have at most {max(0, min(s - 1, d))} directions, not {k}"
        )
    mean = x.mean(0)
    centred = x - mean
    total = float(centred.square().sum() / (s - 1))
    if not total > 0:
        raise TorchscapeError("all samples are the same, or one is not finite: there is no covariance to speak of")
    if s <= min(_GRAM, d):
        directions = _from_gram(centred, k)
    elif d <= _GRAM:
        directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -k:].flip(1).T
    else:
        directions = _by_iteration(centred, k, tol, seed)
    variances = (centred @ directions.T).square().sum(0) / (s - 1)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return PrincipalDirections(mean, directions * largest.sign(), variances, total)


def _from_gram(centred: Float[Tensor, "S D"], k: int) -> Float[Tensor, "K D"]:
    """X^T u for the eigenvectors u of X X^T; orthonormalised, as those of small variance lose digits."""
    vectors = torch.linalg.eigh(centred @ centred.T).eigenvectors[:, -k:].flip(1)
    return _orthonormal(centred.T @ vectors).T


def _by_iteration(centred: Float[Tensor, "S D"], k: int, tol: float, seed: int) -> Float[Tensor, "K D"]:
    s, d = centred.shape
    width = min(k + _EXTRA, s - 1, d)
    keys = random.fold(seed, torch.arange(width, device=centred.device))
    q = _orthonormal(random.normal(keys, d, centred.dtype).T)
    before = centred.new_zeros(k)
    for _ in range(_SWEEPS):
        small, turn = torch.linalg.eigh((product := centred @ q).T @ product)
        now = small.flip(0)[:k]
        if bool(((now - before).abs() <= tol * now[0]).all()):
            break
        before, q = now, _orthonormal(centred.T @ product)
    else:
        small, turn = torch.linalg.eigh((product := centred @ q).T @ product)
    return (q @ turn.flip(1)[:, :k]).T


def _orthonormal(columns: Float[Tensor, "D K"]) -> Float[Tensor, "D K"]:
    return torch.linalg.qr(columns).Q
