"""All eigenpairs of batches of dense Hessians, as many at once as there is memory for."""

from __future__ import annotations

import torch

from torchscape.memory import Limits, attempt, in_parts, rows_that_fit
from torchscape.saddles.projector import Projector
from torchscape.types import Bool, Float, Tensor

__all__ = ["dense_spectrum", "finite_rows", "rows_within"]

_DENSE_BYTES = 1 << 29  # of Hessians decomposed at once on a CPU


def dense_spectrum(
    h: Float[Tensor, "B D D"], projector: Projector
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D D"], Bool[Tensor, "B"]]:
    """All eigenvalues (ascending) and eigenvectors (as rows) of P H P, and whether the row was finite.

    Directions that were removed come last, with eigenvalues above all others.
    """
    size = _DECOMPOSED.most((h.device, h.dtype, h.shape[1]), len(h))
    if size == len(h):
        found: tuple[Tensor, Tensor, Tensor]
        fits, found = attempt(_spectrum, h, projector)
        if fits:
            return found
    everyone = torch.arange(len(h), device=h.device)
    parts = in_parts(
        lambda rows: _spectrum(h[rows], projector.take(rows)),
        (everyone,),
        limits=_DECOMPOSED,
        key=(h.device, h.dtype, h.shape[1]),
        what="Hessians decomposed",
    )
    values, vectors, finite = (torch.cat(column) for column in zip(*parts, strict=True))
    return values, vectors, finite


_DECOMPOSED = Limits()  # Hessians, by device, precision and size, for which there was no workspace


def _spectrum(
    h: Float[Tensor, "B D D"], projector: Projector
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D D"], Bool[Tensor, "B"]]:
    h, finite = finite_rows(h)
    shifted, _ = projector.shifted(h)
    values, vectors = torch.linalg.eigh(shifted)
    return values, vectors.mT, finite


def finite_rows(h: Float[Tensor, "B m m"]) -> tuple[Float[Tensor, "B m m"], Bool[Tensor, "B"]]:
    """Rows with NaN or infinity exchanged for the identity, which LAPACK would refuse; and which were fine."""
    finite = torch.isfinite(h).all(2).all(1)
    eye = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
    return torch.where(finite[:, None, None], h, eye), finite


def rows_within(ndim: int, dtype: torch.dtype, device: torch.device) -> int:
    """How many dense Hessians to decompose at once: with its workspace, each takes six times its own size."""
    return rows_that_fit(ndim**2, device, on_host=_DENSE_BYTES // (6 * dtype.itemsize))
