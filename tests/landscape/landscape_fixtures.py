"""Tiny potentials and points for the tests of the database."""

from __future__ import annotations

import torch

from torchscape import Potential, StationaryPoints, Status
from torchscape.symmetry import Symmetry


class Bowl(Potential):
    """scale * |x|^2: the database never asks whether points are stationary, so any surface will do."""

    def __init__(self, ndim: int = 2, l2: float = 0.01, dtype=torch.float64, device="cpu", scale: float = 1.0):
        self.ndim = ndim
        self.l2 = l2
        self.dtype = dtype
        self.device = torch.device(device)
        self.scale = scale  # not among the settings: stands for changed code

    def energy(self, x):
        return self.scale * (x**2).sum(1) + self.l2

    def settings(self):
        return {"ndim": self.ndim, "l2": self.l2, "data": {"targets": torch.arange(3)}}


class SignFlip(Symmetry):
    """x and -x are the same point; |x| coordinate by coordinate is a 1-Lipschitz invariant of the pair."""

    def align(self, reference, x):
        closer = (x * reference).sum(1, keepdim=True) >= 0
        return torch.where(closer, x, -x)

    def invariants(self, x):
        return x.abs()

    def log_degeneracy(self, x):
        return torch.where(x.abs().amax(1) > 0, torch.log(x.new_tensor(2.0)), 0.0)


class EvenBowl(Bowl):
    symmetry = SignFlip()


def points(x, energy=None, *, index=0, status=Status.CONVERGED, dtype=torch.float64, device="cpu", **columns):
    """Converged points at ``x``; ``index`` for all rows, or one each."""
    x = torch.as_tensor(x, dtype=dtype, device=device)
    energy = (x**2).sum(1) if energy is None else torch.as_tensor(energy, dtype=dtype, device=device)
    full = {
        "index": torch.as_tensor(index, device=device).expand(len(x)).clone(),
        "status": torch.as_tensor(int(status), device=device).expand(len(x)).clone(),
        "grad_rms": torch.full_like(energy, 1e-9),
    }
    columns = {name: torch.as_tensor(values, device=device) for name, values in columns.items()}
    return StationaryPoints.of(x, energy, **{**full, **columns})
