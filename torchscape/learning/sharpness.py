"""How flat minima are: curvature, and the worst loss near by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.learning.worst_cases import Norm, UpsideDown, worst_case
from torchscape.memory import SOME_LARGE, in_chunks
from torchscape.numerics import DENSE_FLATNESS
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.characterisation import Wanted, characterise, curvatures
from torchscape.saddles.eigen import lowest_eigenpairs
from torchscape.saddles.projector import Projector
from torchscape.types import Bool, Float, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, POSITIVE, SEED, Range

__all__ = ["Flatness", "flatness", "hessian_trace", "top_eigenvalues"]


@brief
@dataclasses.dataclass(frozen=True)
class Flatness:
    """Measures of flatness of N minima; small is flat in all of them.

    Attributes:
        top: the largest Hessian eigenvalues, descending [N K].
        trace: of the Hessian [N].
        trace_error: its standard error; 0 where exact [N].
        lpphe: log product of the positive Hessian eigenvalues; NaN where the point is no minimum [N].
        lpphe_error: its standard error; 0 where exact [N].
        worst: how far the loss rises at worst within the radius, as far as found [N].
        worst_agrees: whether two kinds of searches agree on it; see :class:`~torchscape.learning.WorstCase` [N].
        radius, norm: of the ball that was searched.
    """

    top: Float[Tensor, "N K"]
    trace: Float[Tensor, "N"]
    trace_error: Float[Tensor, "N"]
    lpphe: Float[Tensor, "N"]
    lpphe_error: Float[Tensor, "N"]
    worst: Float[Tensor, "N"]
    worst_agrees: Bool[Tensor, "N"]
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
    dense_limit: int = DENSE_FLATNESS,
    n_probes: int = 32,
    log_det_error: float = 1.0,
    seed: int = 0,
) -> Flatness:
    """Top eigenvalues, trace, log-determinant and worst-case loss of every minimum.

    Up to ``dense_limit`` coordinates the first three are exact, from the full spectrum; beyond, they come from
    Hessian-vector products: block Lanczos, Hutchinson's estimator, and stochastic Lanczos quadrature, or, where
    that would take more products than there are coordinates, a factorised Hessian.

    Args:
        potential: U; its regularisation is part of the curvature (2 l2 in every regularised direction).
        x: minima.
        n_top: number of eigenvalues.
        radius, norm: of the ball of the worst case (:func:`torchscape.learning.worst_case`).
        dense_limit: coordinates up to which the Hessian is formed.
        n_probes: random vectors of Hutchinson's estimator.
        log_det_error: the standard error of the log-determinant that will do
            (:func:`torchscape.saddles.log_determinant`). Whatever it is, ``lpphe_error`` says it.
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
    POSITIVE.check("flatness", log_det_error=log_det_error)
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
        wanted = Wanted(dense_limit, seed=seed, log_det_error=log_det_error)
        points, _, lpphe_error = curvatures(potential, StationaryPoints.of(x, energy), wanted)
        lpphe = torch.where(points.index == 0, points.log_det, torch.nan)
    worst = worst_case(potential, x, radius, norm=norm, seed=seed)
    rise = worst.loss - energy
    return Flatness(top, trace, trace_error, lpphe, lpphe_error, rise, worst.agrees, radius, norm)


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
    for part in in_chunks(key, n * d, on_host=SOME_LARGE):
        z = torch.where(random.uniform(part, d, x.dtype) < 0.5, -1.0, 1.0).to(x)
        estimates.append((products(z.expand(n, -1, -1)) * z).sum(2).mT)
    estimate = torch.cat(estimates)
    return estimate.mean(0), estimate.std(0) / n_probes**0.5
