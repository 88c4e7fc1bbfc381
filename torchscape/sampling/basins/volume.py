"""Volumes of basins of attraction by thermodynamic integration over force constants."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import PotentialError, TorchscapeError
from torchscape.potentials.base import Potential
from torchscape.sampling.basins.errors import mean_and_error
from torchscape.sampling.basins.oracle import Oracle, Quenched
from torchscape.sampling.basins.walks import Walks, gaussian_fraction, restrained_walks, stiffest
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["BasinVolumes", "basin_volumes"]

_RANGE = 30.0  # ratio of the largest force constant to the constant that rounds off the logarithm at zero
_START, _REFERENCE = 1, 2


@brief
@dataclasses.dataclass(frozen=True)
class BasinVolumes:
    """ln v of N basins, and what it was put together from.

    Attributes:
        log_volume, error: ln v and its standard error (sampling, reference and quadrature together) [N].
        force_constant: force constants, from 0 to the stiffest [N K].
        mean_square, mean_square_error: <|x - minimum|^2> at each, and its standard error [N K].
        inside: fraction of the Gaussian of the largest force constant that lies in the basin [N].
        log_reference, reference_error: ln of the integral of exp(-k |x - minimum|^2 / 2) over the basin at the
            largest force constant, and its standard error [N].
        quadrature_error: by how much a rule of lower order differs, beyond the noise of that difference [N].
        ess: effective number of samples of the integral [N].
        is_found: False where no force constant was large enough, as at a point that is no minimum; ln v is NaN
            there [N].
        walks: all records.
        n_quenches, n_evaluations: memberships tested in all, and gradients that took.
    """

    log_volume: Float[Tensor, "N"]
    error: Float[Tensor, "N"]
    force_constant: Float[Tensor, "N K"]
    mean_square: Float[Tensor, "N K"]
    mean_square_error: Float[Tensor, "N K"]
    inside: Float[Tensor, "N"]
    log_reference: Float[Tensor, "N"]
    reference_error: Float[Tensor, "N"]
    quadrature_error: Float[Tensor, "N"]
    ess: Float[Tensor, "N"]
    is_found: Bool[Tensor, "N"]
    walks: Walks
    n_quenches: int
    n_evaluations: int

    def __len__(self) -> int:
        return len(self.log_volume)


def basin_volumes(
    potential: Potential,
    minima: Float[Tensor, "N D"],
    *,
    oracle: Oracle | None = None,
    n_force_constants: int = 10,
    n_ladders: int = 8,
    steps: int = 400,
    burn_in: int = 100,
    n_draws: int = 500,
    inside: float = 0.8,
    seed: int = 0,
    basins: Int[Tensor, "N"] | None = None,
    progress: bool = False,
) -> BasinVolumes:
    """Volumes of the basins of all ``minima`` at once (Frenkel & Ladd's integration, with basins for crystals).

    With Z(k) the integral of exp(-k r^2 / 2) over the basin, r the distance from the minimum,

        ln v = ln Z(k_max) + 1/2 int_0^k_max <r^2>_k dk,    ln Z(k_max) = (D / 2) ln(2 pi / k_max) + ln P.

    P is the fraction of a free Gaussian that lies in the basin, from independent draws: k_max need not be so stiff
    that the basin's shape no longer matters, only so stiff that P is known well. <r^2>_k is measured by walks of
    which every move is tested by the oracle, all basins, ladders and force constants in one batch, with exchange
    along each ladder; the integral is a Gauss-Lobatto sum over u with k = c (e^u - 1), c = k_max / 30. The ladders
    are independent, and the error comes from the series of their integrals: from their autocorrelations as far as
    the records are long enough to show them, and else from the scatter of the ladders. So eight ladders or more
    are advised.

    Args:
        potential: U. Where it has a box, a basin ends at its walls.
        minima: converged minima [N D].
        oracle: what a basin is: :class:`Quenched` (default), :class:`Noisy`, :class:`Sublevel`, :class:`Region`.
        n_force_constants: K, counting k = 0 and k_max; more for long thin basins (``quadrature_error`` tells).
        n_ladders: independent ladders per basin.
        steps: of each walk.
        burn_in: least number of steps before them, during which step sizes adapt; doubled, at most 64 times over,
            until it is 20 autocorrelation times long (``walks.burn_in`` tells), with a warning if it never is.
        n_draws: independent draws for P.
        inside: the least P that the largest force constant may have (roughly).
        seed, basins: basin i draws the numbers of (seed, basins[i]), whatever else is in the batch.
        progress: show a progress bar of steps.

    Warns:
        SamplingWarning: where walks did not settle.

    Raises:
        PotentialError: if ``minima`` is not [N D] for this potential.
        TorchscapeError: on counts that make no sense, minima that are not finite.

    Reference: Frenkel & Ladd, J. Chem. Phys. 81, 3188 (1984), doi 10.1063/1.448024; Xu, Frenkel & Liu, Phys. Rev.
    Lett. 106, 245502 (2011), doi 10.1103/PhysRevLett.106.245502; Martiniani, Schrenk, Stevenson, Wales & Frenkel,
    Phys. Rev. E 93, 012906 (2016), doi 10.1103/PhysRevE.93.012906.

    Example:
        >>> from torchscape.potentials import Quadratic
        >>> from torchscape.sampling.basins import Sublevel
        >>> u, disc = Quadratic([1.0, 1.0]), Sublevel(0.5)
        >>> found = basin_volumes(u, torch.zeros(1, 2).double(), oracle=disc, steps=100)
        >>> abs(found.log_volume.exp().item() / math.pi - 1) < 0.05
        True
    """
    _expect_sound(potential, minima, basins, n_force_constants, n_ladders, steps, burn_in, n_draws, inside)
    oracle = oracle or Quenched()
    ids = torch.arange(len(minima)) if basins is None else basins
    key = random.fold(seed, ids.to(minima.device))
    top, is_found, spent = stiffest(potential, oracle, minima, inside, random.fold(key, _START))
    reference = random.fold(key, _REFERENCE)
    fraction, more = gaussian_fraction(potential, oracle, minima, top, n_draws, reference)
    nodes = _rule(n_force_constants)[0].to(minima)
    force_constant = top[:, None] / _RANGE * torch.expm1(nodes * math.log1p(_RANGE))
    walks = restrained_walks(
        potential, oracle, minima, force_constant,
        n_ladders=n_ladders, steps=steps, burn_in=burn_in, key=key, progress=progress,
    )  # fmt: skip
    log_reference = 0.5 * potential.ndim * (2 * math.pi / top).log() + fraction.log()
    n_evaluations = walks.n_evaluations + spent + more
    return _integrate(walks, force_constant, top, fraction, log_reference, is_found, n_draws, n_evaluations)


def _integrate(
    walks: Walks,
    force_constant: Float[Tensor, "N K"],
    top: Float[Tensor, "N"],
    fraction: Float[Tensor, "N"],
    log_reference: Float[Tensor, "N"],
    is_found: Bool[Tensor, "N"],
    n_draws: int,
    n_evaluations: int,
) -> BasinVolumes:
    """The integral over the force constants from what the walks have measured, and its errors."""
    _, weight, coarse = (part.to(force_constant) for part in _rule(force_constant.shape[1]))
    slope = math.log1p(_RANGE) * (force_constant + top[:, None] / _RANGE)  # dk / d(node)
    integral, sampling, ess = mean_and_error(_summed(walks.square, 0.5 * weight * slope))
    difference, noise, _ = mean_and_error(_summed(walks.square, 0.5 * (weight - coarse) * slope))
    quadrature = (difference.square() - noise.square()).clamp(min=0.0).sqrt()
    reference_error = ((1 - fraction).clamp(min=1 / n_draws) / (fraction * n_draws)).sqrt()
    missing = torch.where(is_found, 0.0, torch.nan)
    mean, mean_error, _ = mean_and_error(walks.square.transpose(1, 2))
    return BasinVolumes(
        log_volume=log_reference + integral + missing,
        error=(sampling.square() + reference_error.square() + quadrature.square()).sqrt() + missing,
        force_constant=force_constant,
        mean_square=mean,
        mean_square_error=mean_error,
        inside=fraction,
        log_reference=log_reference,
        reference_error=reference_error,
        quadrature_error=quadrature,
        ess=ess,
        is_found=is_found,
        walks=walks,
        n_quenches=walks.n_quenches + len(force_constant) * n_draws,
        n_evaluations=n_evaluations,
    )


def _expect_sound(
    potential: Potential,
    minima: Tensor,
    basins: Tensor | None,
    n_force_constants: int,
    n_ladders: int,
    steps: int,
    burn_in: int,
    n_draws: int,
    inside: float,
) -> None:
    """Arguments that make sense, or an error that says which do not."""
    if minima.ndim != 2 or minima.shape[1] != potential.ndim or len(minima) == 0:
        raise PotentialError(
            f"minima must be [N, {potential.ndim}] with N >= 1 for this potential, not {list(minima.shape)}"
        )
    if n_force_constants < 4 or n_ladders < 2 or steps < 8 or burn_in < 0 or n_draws < 2 or not 0 < inside < 1:
        raise TorchscapeError(
            "at least 4 force constants, 2 ladders, 8 steps, a burn-in of 0, 2 draws and a fraction inside in "
            f"(0, 1) are needed: not {n_force_constants}, {n_ladders}, {steps}, {burn_in}, {n_draws}, {inside}"
        )
    if basins is not None and basins.shape != minima.shape[:1]:
        raise TorchscapeError(f"basins must number the {len(minima)} minima, not be {list(basins.shape)}")
    if not bool(torch.isfinite(minima).all()):
        raise TorchscapeError("minima contain NaN or infinity: leave out the rows that did not converge")


def _rule(n: int) -> tuple[Float[Tensor, "K"], Float[Tensor, "K"], Float[Tensor, "K"]]:
    """Gauss-Lobatto nodes and weights on [0, 1], and the weights of a rule of lower order on the same nodes.

    The second rule integrates the polynomial of degree n - 3 that fits the n values best.

    Example:
        >>> nodes, weight, coarse = _rule(5)
        >>> [round(v.item(), 6) for v in ((weight * nodes**7).sum(), (coarse * nodes**2).sum(), nodes[-1])]
        [0.125, 0.333333, 1.0]
    """
    legendre = np.polynomial.legendre
    basis = legendre.Legendre.basis(n - 1)
    inner = np.real(basis.deriv().roots())
    nodes = np.sort(np.concatenate([[-1.0], inner, [1.0]]))
    weights = 2 / (n * (n - 1) * basis(nodes) ** 2)
    # Only P_0 has an integral: the rule is the first row of the least-squares fit.
    coarse = np.linalg.pinv(legendre.legvander(nodes, n - 3))[0] * 2
    return torch.as_tensor((nodes + 1) / 2), torch.as_tensor(weights / 2), torch.as_tensor(coarse / 2)


def _summed(square: Float[Tensor, "S N W K"], weight: Float[Tensor, "N K"]) -> Float[Tensor, "S W N"]:
    """sum_k weight_k r_k^2 of every record."""
    return torch.einsum("snwk,nk->swn", square, weight)
