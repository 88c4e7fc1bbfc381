"""The spherical p-spin model: a random polynomial on a sphere."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from torchscape import random
from torchscape.errors import PotentialError
from torchscape.memory import ONE_LARGE, rows_that_fit
from torchscape.potentials.checks import available_device, available_dtype
from torchscape.potentials.closed_form import ClosedForm
from torchscape.problems.complexity import n_complex_stationary, threshold_energy
from torchscape.problems.problem import Known, Problem
from torchscape.symmetry.base import Symmetry
from torchscape.symmetry.inversion import Inversion
from torchscape.types import Float, Tensor
from torchscape.validation import POSITIVE

__all__ = ["SphericalPSpin", "pspin"]

_MOST_COUPLINGS = 10**8
_FEW = 3000  # complex stationary points, n = 10 for p = 3


def pspin(
    p: int = 3,
    n: int = 8,
    seed: int = 808,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Problem:
    """Spherical p-spin model: n spins, random couplings of p of them, stationary points of every index.

    The couplings are ``numpy.random.default_rng(seed).standard_normal((n,) * p)``.

    Raises:
        PotentialError: for p < 2, n < 2, or more than 10^8 couplings.
    """
    if p < 2 or n < 2 or n**p > _MOST_COUPLINGS:
        raise PotentialError(f"p={p}, n={n}: the model needs p >= 2, n >= 2 and has n^p <= 10^8 couplings")
    couplings = np.random.default_rng(seed).standard_normal((n,) * p)
    most = n_complex_stationary(n, p)
    note = f"at most {most} stationary points in all"
    if p > 2:
        ground, edge = threshold_energy(p, 0), threshold_energy(p)
        note += f"; for n to infinity, minima lie at energies per spin from {ground:.7f} to {edge:.7f}"
    return Problem(
        name="p-spin",
        potential=SphericalPSpin(couplings, dtype=dtype, device=device),
        description=f"spherical {p}-spin model with {n} spins, couplings from seed {seed}",
        source="A. J. Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, VII",
        known=Known(note=note),
        # Few stationary points can all be found, whatever their index.
        suggested={
            **({"strategy": ("stationary", "basin-hopping", "connect")} if most <= _FEW else {}),
            "walkers": 64,
            "hops": 10,
            "temperature": 0.5 * n**0.5,
            "step": 1.0,
            "starts": min(max(5000, 50 * most), 10**6),
        },
    )


class SphericalPSpin(ClosedForm):
    """U(w) = H(sqrt(N) w/|w|) + stiffness (N/8) (|w|^2/N - 1)^2, with

        H(w) = N^(-(p-1)/2) sum_{i...k} x_{i...k} w_i ... w_k   on   |w|^2 = N

    (for p = 3 the factor is 1/N, as published). H is continued along the rays as a constant, so that the second
    term alone decides the radius: the stationary points of U, outside the origin where it is not defined, are
    those of H on the sphere and lie on it exactly, with the same energy and index. Their Hessian is that of H
    on the sphere beside one radial eigenvalue, ``stiffness``, which with its default 1 leaves log_det untouched.
    (Without the second term the radius would be a zero mode; but gradients, curvatures and distances scale with
    it, so tolerances, log_det and matching would depend on the radius at which a search happens to end. As it
    is, the sphere costs one harmonic mode, the same for all.) Searches may leave the sphere on their way.

    For even p, w and -w are the same point; for odd p they have opposite energies.

    Args:
        couplings: x, an array of shape (N,) * p; only its symmetric part matters.
        stiffness: of the radius.
        dtype, device: of the spins.

    Raises:
        PotentialError: unless the couplings are such an array with p >= 2 and N >= 2.

    Reference: A. Crisanti and H.-J. Sommers, Z. Phys. B 87, 341 (1992), doi 10.1007/BF01309287.

    Example:
        >>> import numpy as np
        >>> u = SphericalPSpin(np.diag([1.0, 2.0]))
        >>> u.energy(torch.tensor([[0.0, 2.0**0.5]], dtype=torch.float64)).round(decimals=12).tolist()
        [2.828427124746]
    """

    def __init__(
        self,
        couplings,
        *,
        stiffness: float = 1.0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        x = np.asarray(couplings, dtype=np.float64)
        if x.ndim < 2 or len(set(x.shape)) != 1 or len(x) < 2:
            raise PotentialError(f"couplings have shape {x.shape}: give N^p of them, an array (N, ..., N), N >= 2")
        if not np.isfinite(x).all():
            raise PotentialError("the couplings hold NaN or infinite numbers: clean them")
        POSITIVE.check("SphericalPSpin", PotentialError, stiffness=stiffness)
        self.ndim, self.p, self.stiffness = len(x), x.ndim, float(stiffness)
        self.dtype, self.device = available_dtype(dtype), available_device(device)
        self._symmetric = _symmetrised(x)
        self._flat = torch.as_tensor(self._symmetric, dtype=dtype, device=self.device).reshape(self.ndim, -1)
        self.symmetry = Inversion() if self.p % 2 == 0 else Symmetry()
        self.length_scale = math.sqrt(self.ndim) / self.p  # H changes its sign after a turn by pi / p
        self.max_rows = rows_that_fit(self._flat.shape[1], self.device, on_host=ONE_LARGE)

    def settings(self):
        return {"ndim": self.ndim, "p": self.p, "stiffness": self.stiffness, "couplings": self._symmetric}

    def sample(self, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        """Uniform on the sphere."""
        w = random.normal(random.keys(seed, n, self.device), self.ndim, self.dtype)
        return w * (math.sqrt(self.ndim) / w.norm(dim=1, keepdim=True))

    def energy(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        parts = [self._energy(part) for part in x.split(self.max_rows)]
        return torch.cat(parts) if parts else x.sum(1)

    def _energy(self, w: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        square = w.square().sum(1)
        form = (torch.bmm(self._contracted(w), w[:, :, None])[:, :, 0] * w).sum(1)
        rest = square / self.ndim - 1
        scale = math.sqrt(self.ndim) * square ** (-self.p / 2)
        return scale * form + self.stiffness * self.ndim / 8 * rest.square()

    # --- derivatives in closed form ---------------------------------------------------------------------

    def _energy_and_grad(self, w: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B"], Float[Tensor, "B D"]]:
        """s = x w^p, g = x w^(p-1): grad = p sqrt(N) |w|^-p (g - s w/|w|^2) + (stiffness/2) (|w|^2/N - 1) w."""
        n, p = self.ndim, self.p
        square = w.square().sum(1, keepdim=True)
        g = torch.bmm(self._contracted(w), w[:, :, None])[:, :, 0]
        s = (g * w).sum(1, keepdim=True)
        scale = math.sqrt(n) * square ** (-p / 2)
        rest = square / n - 1
        energy = (scale * s + self.stiffness * n / 8 * rest.square())[:, 0]
        return energy, p * scale * (g - s * w / square) + 0.5 * self.stiffness * rest * w

    def _hessian(self, w: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        n, p = self.ndim, self.p
        a = self._contracted(w)
        square = w.square().sum(1)[:, None, None]
        column = w[:, :, None]
        g = torch.bmm(a, column)
        s = torch.bmm(g.mT, column)
        cross = torch.bmm(g, column.mT)
        outer = torch.bmm(column, column.mT)
        eye = torch.eye(n, dtype=w.dtype, device=w.device)
        scale = math.sqrt(n) * square ** (-p / 2)
        form = p * (p - 1) * a - p**2 / square * (cross + cross.mT) - p * s / square * eye
        form = form + p * (p + 2) * s / square.square() * outer
        return scale * form + self.stiffness * (0.5 * (square / n - 1) * eye + outer / n)

    def _contracted(self, w: Float[Tensor, "B D"]) -> Float[Tensor, "B D D"]:
        """The couplings contracted with p - 2 vectors w."""
        n = self.ndim
        if self.p == 2:
            return self._flat.expand(len(w), n, n)
        a = w @ self._flat
        while a.shape[1] > n * n:
            a = torch.bmm(w[:, None], a.reshape(len(w), n, a.shape[1] // n))[:, 0]
        return a.reshape(len(w), n, n)


def _symmetrised(x: np.ndarray) -> np.ndarray:
    """The mean over all orders of the indices."""
    total = np.zeros_like(x)
    for order in itertools.permutations(range(x.ndim)):
        total += x.transpose(order)
    return total / math.factorial(x.ndim)
