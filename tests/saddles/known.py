"""Small potentials with closed forms, for the tests of this room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from torchscape import Potential
from torchscape.types import Float, Tensor

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


class Form(Potential):
    """U = x.H.x / 2 + g.x for a given symmetric H."""

    def __init__(self, h: Float[Tensor, "D D"]):
        self.h, self.ndim, self.dtype = h, len(h), h.dtype

    def energy(self, x):
        return 0.5 * ((x @ self.h) * x).sum(1)


class Wells(Potential):
    """U = sum_i k_i [(x_i^2 - 1)^2 / 4 ...] rotated: 2^W minima, all stationary points known.

    The first ``n_wells`` rotated coordinates y are double wells (y^2 - 1)^2 / 4, with curvature 2 at the
    minima y = +-1 and -1 at the barrier y = 0 of height 1/4; the others are springs k_j y_j^2 / 2.
    """

    def __init__(self, ndim: int, n_wells: int, seed: int = 0, dtype: torch.dtype = torch.float64):
        generator = torch.Generator().manual_seed(seed)
        q, _ = torch.linalg.qr(torch.randn(ndim, ndim, generator=generator, dtype=torch.float64))
        self.ndim, self.n_wells, self.dtype = ndim, n_wells, dtype
        self.rotation = q.to(dtype)
        self.springs = torch.logspace(-1, 1, ndim - n_wells, dtype=torch.float64).to(dtype)

    def energy(self, x):
        y = x @ self.rotation.T
        wells = 0.25 * (y[:, : self.n_wells] ** 2 - 1) ** 2
        return wells.sum(1) + 0.5 * (self.springs * y[:, self.n_wells :] ** 2).sum(1)

    def point(self, *signs: float) -> Float[Tensor, "1 D"]:
        """The stationary point at which well i sits at ``signs[i]`` (-1, 0 or 1)."""
        y = self.rotation.new_zeros(1, self.ndim)
        y[0, : len(signs)] = self.rotation.new_tensor(signs)
        return y @ self.rotation

    def log_det(self, n_barriers: int) -> float:
        """ln|det| of the Hessian where that many wells sit on their barrier."""
        return float(self.springs.log().sum()) + (self.n_wells - n_barriers) * torch.tensor(2.0).log().item()


def lj7() -> dict:
    """All minima and transition states of the seven-atom Lennard-Jones cluster, found elsewhere."""
    path = DATA / "lj7.json"
    if not path.exists():
        pytest.skip("needs the list of LJ_7 stationary points, which is not part of the package")
    return json.loads(path.read_text())
