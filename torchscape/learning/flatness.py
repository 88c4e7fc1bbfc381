"""How flat minima are: curvature, and the worst loss near by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import torch

from torchscape import random
from torchscape.errors import TorchscapeError
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.characterise import characterise
from torchscape.saddles.eigen import lowest_eigenpairs
from torchscape.saddles.projector import Projector
from torchscape.saddles.spectral import stochastic_log_det
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, POSITIVE, SEED, Range

__all__ = ["Flatness", "Norm", "flatness", "hessian_trace", "top_eigenvalues", "worst_case_loss"]

Norm = Literal["l2", "adaptive"]

_NUMBERS = 1 << 23  # coordinates made at once


@dataclasses.dataclass(frozen=True)
class Flatness:
    """Measures of flatness of N minima; small is flat in all of them.

    Attributes:
        top: the largest Hessian eigenvalues, descending [N K].
        trace: of the Hessian [N].
        trace_error: its standard error; 0 where exact [N].
        lpphe: log product of the positive Hessian eigenvalues; NaN where the point is no minimum [N].
        lpphe_error: its standard error; 0 where exact [N].
        worst: how far the loss rises at worst within the radius [N].
        radius, norm: of the ball that was searched (:func:`worst_case_loss`).
    """

    top: Float[Tensor, "N K"]
    trace: Float[Tensor, "N"]
    trace_error: Float[Tensor, "N"]
    lpphe: Float[Tensor, "N"]
    lpphe_error: Float[Tensor, "N"]
    worst: Float[Tensor, "N"]
    radius: float
    norm: str

    def measures(self) -> Mapping[str, Float[Tensor, "N"]]:
        """One number per minimum and measure, by name, for correlations and for ``landscape.set_property``."""
        return {
            "top eigenvalue": self.top[:, 0],
            "trace": self.trace,
            "LPPHE": self.lpphe,
            "worst-case rise": self.worst,
        }


def flatness(
    potential: Potential,
    x: Float[Tensor, "N D"],
    *,
    n_top: int = 5,
    radius: float = 0.1,
    norm: Norm = "l2",
    dense_limit: int = 1000,
    n_probes: int = 32,
    seed: int = 0,
) -> Flatness:
    """Top eigenvalues, trace, log-determinant and worst-case loss of every minimum.

    Up to ``dense_limit`` coordinates the first three are exact, from the full spectrum; beyond, they come from
    Hessian-vector products: block Lanczos, Hutchinson's estimator, and stochastic Lanczos quadrature.

    Args:
        potential: U; its regularisation is part of the curvature (2 l2 in every regularised direction).
        x: minima.
        n_top: number of eigenvalues.
        radius, norm: of the ball of the worst case (:func:`worst_case_loss`).
        dense_limit: coordinates up to which the Hessian is formed.
        n_probes: random vectors of the two stochastic estimates.
        seed: of these and of the starts of the search for the worst case.

    Reference: Niroomand et al., Digital Discovery 3, 637 (2024), doi 10.1039/d3dd00204g, 4.2.3 and 5.1; Keskar et
    al., ICLR (2017), doi 10.48550/arXiv.1609.04836.

    Example:
        >>> class Bowl(Potential):
        ...     ndim = 3
        ...     def energy(self, x):
        ...         return 0.5 * (x**2 * torch.tensor([1.0, 2.0, 8.0], dtype=x.dtype)).sum(1)
        >>> found = flatness(Bowl(), torch.zeros(1, 3).double(), n_top=2)
        >>> found.top.tolist(), found.trace.item()
        ([[8.0, 2.0]], 11.0)
        >>> round(found.lpphe.exp().item(), 9), round(found.worst.item(), 6)
        (16.0, 0.04)
    """
    COUNT.check("flatness", n_top=n_top)
    POSITIVE.check("flatness", radius=radius)
    COUNT_OR_ZERO.check("flatness", dense_limit=dense_limit)
    Range(low=2, whole=True).check("flatness", n_probes=n_probes)
    SEED.check("flatness", seed=seed)
    with torch.no_grad():
        energy = potential.energy(x)
    exact = torch.zeros_like(energy)
    if potential.ndim <= dense_limit:
        points = characterise(potential, StationaryPoints.of(x, energy), dense_limit=dense_limit)
        spectrum = points.eigenvalues
        assert spectrum is not None
        # Coordinates that a bound holds have no curvature: NaN, at the end.
        top = spectrum.nan_to_num(nan=-torch.inf).topk(min(n_top, potential.ndim), 1).values
        trace, trace_error = spectrum.nansum(1), exact
        lpphe, lpphe_error = torch.where(points.index == 0, points.log_det, torch.nan), exact
    else:
        top = top_eigenvalues(potential, x, n_top, seed=seed)
        trace, trace_error = hessian_trace(potential, x, n_probes=n_probes, seed=seed)
        lowest = lowest_eigenpairs(potential, x, tol=1e-4, seed=seed)
        product = stochastic_log_det(potential, x, n_probes=n_probes, seed=seed)
        is_minimum = lowest.values[:, 0] > -lowest.residuals[:, 0]
        lpphe, lpphe_error = torch.where(is_minimum, product.value, torch.nan), product.error
    worst = worst_case_loss(potential, x, radius, norm=norm, seed=seed) - energy
    return Flatness(top, trace, trace_error, lpphe, lpphe_error, worst, radius, norm)


def top_eigenvalues(
    potential: Potential, x: Float[Tensor, "N D"], k: int = 1, *, tol: float = 1e-6, seed: int = 0
) -> Float[Tensor, "N K"]:
    """The k largest Hessian eigenvalues of every point, descending, from Hessian-vector products.

    Example:
        >>> from torchscape import problems
        >>> u = problems.get("himmelblau").potential
        >>> round(top_eigenvalues(u, torch.tensor([[3.0, 2.0]]).double()).item(), 6)
        82.284271
    """
    COUNT.check("top_eigenvalues", k=k)
    POSITIVE.check("top_eigenvalues", tol=tol)
    SEED.check("top_eigenvalues", seed=seed)
    pairs = lowest_eigenpairs(UpsideDown(potential), x, k, tol=tol, projector=Projector(None, None), seed=seed)
    return -pairs.values


def hessian_trace(
    potential: Potential, x: Float[Tensor, "N D"], *, n_probes: int = 32, seed: int = 0
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """Hutchinson's estimate of the trace of the Hessian, and its standard error over the probes.

    tr H = E[z^T H z] over random signs z; exact for a diagonal Hessian. The variance of one probe is twice the sum
    of squares off the diagonal, the error falls as 1 / sqrt(n_probes).

    Reference: Hutchinson, Commun. Stat. Simul. Comput. 19, 433 (1990), doi 10.1080/03610919008812866.

    Example:
        >>> from torchscape import problems
        >>> u = problems.get("himmelblau").potential
        >>> value, error = hessian_trace(u, torch.tensor([[3.0, 2.0]]).double(), n_probes=400)
        >>> bool((value - 108).abs() < 4 * error)
        True
    """
    Range(low=2, whole=True).check("hessian_trace", n_probes=n_probes)
    SEED.check("hessian_trace", seed=seed)
    if n_probes < 2:
        raise TorchscapeError("an error bar needs two probes or more")
    n, d = x.shape
    key = random.fold(seed, torch.arange(n_probes, device=x.device))
    products = potential.products_at(x)
    estimates = []
    for part in key.split(max(1, _NUMBERS // max(1, n * d))):
        z = torch.where(random.uniform(part, d, x.dtype) < 0.5, -1.0, 1.0).to(x)
        estimates.append((products(z.expand(n, -1, -1)) * z).sum(2).mT)
    estimate = torch.cat(estimates)
    return estimate.mean(0), estimate.std(0) / n_probes**0.5


def worst_case_loss(
    potential: Potential,
    x: Float[Tensor, "N D"],
    radius: float,
    *,
    norm: Norm = "l2",
    n_starts: int = 4,
    n_steps: int = 50,
    seed: int = 0,
) -> Float[Tensor, "N"]:
    """The largest loss found in a ball around every point: max of U(x + d) over |d|_x <= radius.

    Projected gradient ascent from random points on the sphere, all points and starts in one batch: steps along the
    normalised gradient, back to the ball where they leave it; a step that does not raise the loss is not made and
    halves the next one. The result is a lower bound of the maximum, and at least U(x). A box that the potential
    is defined on is not respected.

    Args:
        potential: U.
        x: minima, or any points.
        radius: of the ball, in its norm.
        norm: "l2" for the Euclidean norm of d; "adaptive" for that of d_i / (|x_i| + 0.01), in which a network
            whose weights are scaled up in one layer and down in the next is as flat as before.
        n_starts: random starts per point; the best counts.
        n_steps: evaluations per start.
        seed: of the starts; every point has the same.

    Reference: Keskar et al., ICLR (2017), doi 10.48550/arXiv.1609.04836; Foret et al., ICLR (2021),
    doi 10.48550/arXiv.2010.01412; Kwon et al., ICML (2021), doi 10.48550/arXiv.2102.11600 (the adaptive norm).

    Example:
        >>> from torchscape import problems
        >>> u = problems.get("himmelblau").potential
        >>> worst = worst_case_loss(u, torch.tensor([[3.0, 2.0]]).double(), 1e-3)
        >>> round(worst.item() / (0.5 * 82.284271 * 1e-6), 2)
        1.0
    """
    POSITIVE.check("worst_case_loss", radius=radius)
    COUNT.check("worst_case_loss", n_starts=n_starts, n_steps=n_steps)
    SEED.check("worst_case_loss", seed=seed)
    if not radius > 0:
        raise TorchscapeError(f"the radius must be positive, not {radius}")
    n, d = x.shape
    scale, base = (part.repeat(n_starts, 1) for part in (unit_lengths(x, norm), x))
    key = random.fold(seed, torch.arange(n_starts, device=x.device))
    u = _unit(random.normal(key, d, x.dtype)).repeat_interleave(n, 0) * radius
    energy, grad = potential.energy_and_grad(base + scale * u)
    length = torch.full_like(energy, radius)
    for _ in range(n_steps):
        trial = u + length[:, None] * _unit(scale * grad)
        trial = trial * (radius / trial.norm(dim=1, keepdim=True)).clamp(max=1.0)
        new_energy, new_grad = potential.energy_and_grad(base + scale * trial)
        better = new_energy > energy
        u, grad = (torch.where(better[:, None], a, b) for a, b in ((trial, u), (new_grad, grad)))
        energy = torch.where(better, new_energy, energy)
        length = torch.where(better, 2 * length, length / 2).clamp(max=8 * radius)
    with torch.no_grad():
        here = potential.energy(x)
    return torch.maximum(energy.reshape(n_starts, n).nan_to_num(nan=-torch.inf).amax(0), here)


def unit_lengths(x: Float[Tensor, "N D"], norm: Norm) -> Float[Tensor, "N D"]:
    """How far one goes along each coordinate for a unit of the norm."""
    if norm not in ("l2", "adaptive"):
        raise TorchscapeError(f"unknown norm {norm!r}: use 'l2' or 'adaptive'")
    return torch.ones_like(x) if norm == "l2" else x.abs() + 0.01


def _unit(v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    return v / v.norm(dim=1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)


class UpsideDown(Potential):
    """-U, as far as its curvature goes: its lowest eigenvalues are the highest of U."""

    def __init__(self, potential: Potential) -> None:
        self._of = potential
        self.ndim, self.dtype, self.device = potential.ndim, potential.dtype, potential.device

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return -self._of.hvp(x, v)

    def products_at(self, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
        products = self._of.products_at(x)
        return lambda v: -products(v)
