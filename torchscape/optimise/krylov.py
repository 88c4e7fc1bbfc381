"""``NewtonKrylov``: Newton steps by conjugate gradients, for rows of L-BFGS that creep before they converge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from torchscape import stopwatch
from torchscape.devices import asking_is_free
from torchscape.even import even_bmv
from torchscape.memory import rows_that_fit
from torchscape.potentials.base import Potential
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import COUNT, PART, POSITIVE, check_fields

__all__ = ["KrylovSolution", "NewtonKrylov", "evaluations_to_go"]

_REACH = 1e-6  # length scales of a gradient difference: rounding and bending are both far below 1e-3
_ROOM = 1 << 25  # numbers of a Krylov space on the host
_LONGER = 8  # times that a step along negative curvature is doubled, at most
_FIRST = 0.02  # length scales: the first of them


@dataclasses.dataclass(frozen=True)
class KrylovSolution:
    """What conjugate gradients have found of H p = -g.

    Attributes:
        p: the steps.
        basis, images: directions b_i with b_i . H b_j = 1 if i = j and else 0, and H b_i; zero beyond ``n_pairs``.
        n_pairs: of each row.
        spent: Hessian-vector products.
        bent: the direction of negative or no curvature that has ended the row, downhill; else zero.
    """

    p: Float[Tensor, "B D"]
    basis: Float[Tensor, "B K D"]
    images: Float[Tensor, "B K D"]
    n_pairs: Int[Tensor, "B"]
    spent: Int[Tensor, "B"]
    bent: Float[Tensor, "B D"]


@dataclasses.dataclass(frozen=True)
class NewtonKrylov:
    """H p = -g by conjugate gradients that forget nothing, with Hessian-vector products from differences of
    gradients (Knoll & Keyes 2004, doi 10.1016/j.jcp.2003.08.010): each costs
    one gradient.

    Every direction is made conjugate to all before it. Where curvatures are 1e5 times apart the usual recurrence
    of three terms, and a quasi-Newton memory as well, lose conjugacy to rounding and to what they drop, and take
    several times as many products. The iteration ends at the trust radius (Steihaug 1983, doi 10.1137/0720042) and
    where the curvature is not positive; then the row goes down along that direction, as far as the energy falls.

    That pays where a descent is all but at a minimum and creeps: its rate says how many evaluations it would take
    to the end, and where these are more than a system is worth, one is solved.

    Attributes:
        below: RMS gradient, in units of the energy scale, above which no row is looked at.
        every: evaluations from one look at a row to the next.
        worth: evaluations to the end beyond which a system is solved.
        max_products: of a system; each is one evaluation.
        forcing: RMS residual over RMS gradient at which a system counts as solved.

    Example:
        >>> h = torch.diag(torch.tensor([1.0, 10.0, 100.0]).double())
        >>> class Bowl(Potential):
        ...     ndim = 3
        ...     def energy(self, x):
        ...         return 0.5 * ((x @ h) * x).sum(1)
        >>> x = torch.ones(1, 3).double()
        >>> most = torch.tensor([10])
        >>> found = NewtonKrylov(forcing=1e-6).solve(Bowl(), x, x @ h, lambda r: r, most, least=0.0, radius=10.0)
        >>> (x + found.p).abs().max().item() < 1e-4, found.spent.item()
        (True, 3)
    """

    below: float = 1e-6
    every: int = 50
    worth: int = 150
    max_products: int = 300
    forcing: float = 0.03

    def __post_init__(self) -> None:
        check_fields(self, below=POSITIVE.or_infinite, every=COUNT, worth=COUNT, max_products=COUNT, forcing=PART)

    def rows_at_once(self, x: Float[Tensor, "B D"]) -> int:
        """How many rows have room for their spaces."""
        return rows_that_fit(self.max_products * x.shape[1], x.device, on_host=_ROOM)

    def solve(
        self,
        potential: Potential,
        x: Float[Tensor, "B D"],
        grad: Float[Tensor, "B D"],
        inverse: Callable[[Tensor], Tensor],
        most: Int[Tensor, "B"],
        *,
        least: float,
        radius: float,
    ) -> KrylovSolution:
        """Newton steps of all rows.

        Args:
            potential: without bounds.
            x, grad: places and gradients, in units of the energy scale.
            inverse: what is known of the inverse Hessian, positive definite: it preconditions.
            most: products that a row may have; none where its step is not wanted.
            least: RMS residual that is always enough.
            radius: longest step; a row that has come so far ends.
        """
        basis, images = x.new_zeros(2, len(x), min(self.max_products, 8), x.shape[1]).unbind(0)
        p, r, spent, bent = torch.zeros_like(x), -grad, torch.zeros_like(most), torch.zeros_like(x)
        n_pairs, enough = spent, (self.forcing * _rms(grad)).clamp(min=least)
        going = _rms(grad) > enough
        for k in range(self.max_products):
            stopwatch.check()
            going = going & (most > k)
            # on a device rows are looked at after 8, 16, 32, ... products
            if (asking_is_free(x) or (k >= 8 and k & (k - 1) == 0)) and not bool(going.any()):
                break
            if k == basis.shape[1]:
                basis, images = (_longer(t, min(2 * k, self.max_products)) for t in (basis, images))
            v = _conjugate(potential.symmetry.project_out(x, inverse(r)), basis[:, :k], images[:, :k])
            image = _products(potential, x, grad, v, going)
            curvature, slope = (v * image).sum(1), (v * grad).sum(1)
            spent = spent + going
            flat = going & ~(curvature > 0)
            bent = torch.where((flat & image.isfinite().all(1))[:, None], -torch.sign(slope)[:, None] * v, bent)
            going = going & ~flat
            n_pairs = n_pairs + going
            unit = torch.where(going, torch.where(going, curvature, 1.0).rsqrt(), 0.0)[:, None]
            b, hb = unit * v, torch.where(going[:, None], unit * image, 0.0)
            basis[:, k], images[:, k] = b, hb
            along = (b * r).sum(1, keepdim=True)
            p, r = p + along * b, r - along * hb
            going = going & (_rms(r) > enough) & (p.norm(dim=1) < radius)
        return KrylovSolution(p, basis, images, n_pairs, spent, bent)

    def descended(
        self, potential: Potential, x: Float[Tensor, "B D"], energy: Float[Tensor, "B"], bent: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B D"], Int[Tensor, "B"]]:
        """The lowest of the points that one comes to by ever longer steps along ``bent``, and evaluations spent.

        Args:
            potential: U.
            x, energy: where the rows stand, in units of the energy scale.
            bent: directions of length one; zero in rows that stay.
        """
        lowest, best = energy, x
        going, spent = bent.square().sum(1) > 0, torch.zeros(len(x), dtype=torch.int64, device=x.device)
        length = _FIRST * potential.length_scale
        for _ in range(_LONGER):
            if asking_is_free(x) and not bool(going.any()):
                break
            there = torch.where(going[:, None], x + length * bent, x)
            new = potential.energy_and_grad(there)[0] / potential.energy_scale
            spent, going = spent + going, going & (new < lowest)
            lowest, best = torch.where(going, new, lowest), torch.where(going[:, None], there, best)
            length *= 2
        return best, spent


def evaluations_to_go(
    rms: Float[Tensor, "B"], before: Float[Tensor, "B"], n: Int[Tensor, "B"], tol: float
) -> Float[Tensor, "B"]:
    """Evaluations until RMS gradients are at ``tol``, if they fall as they did in the last ``n`` of them.

    Example:
        >>> rms, before = torch.tensor([1e-6, 1e-6, 1e-6]), torch.tensor([1e-5, 1e-6, torch.inf])
        >>> evaluations_to_go(rms, before, torch.tensor([50, 50, 50]), 1e-8).tolist()
        [100.0..., inf, 0.0]
    """
    return n * (rms / tol).log() / (before / rms).log().clamp(min=0.0)


def _conjugate(
    z: Float[Tensor, "B D"], basis: Float[Tensor, "B K D"], images: Float[Tensor, "B K D"]
) -> Float[Tensor, "B D"]:
    """The part of z that is conjugate to all directions before, of length one: the second pass takes what rounding
    has left of the first."""
    for _ in range(2 if basis.shape[1] else 0):
        z = z - even_bmv(basis.mT, even_bmv(images, z))
    unit: Tensor = z / z.norm(dim=1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
    return unit


def _longer(space: Float[Tensor, "B K D"], n: int) -> Float[Tensor, "B n D"]:
    grown = space.new_zeros(len(space), n, space.shape[2])
    grown[:, : space.shape[1]] = space
    return grown


def _products(
    potential: Potential,
    x: Float[Tensor, "B D"],
    grad: Float[Tensor, "B D"],
    v: Float[Tensor, "B D"],
    going: Bool[Tensor, "B"],
) -> Float[Tensor, "B D"]:
    """H v of unit vectors v, by the gradient a millionth of a length scale further on; of the others nothing."""
    reach, unit = _REACH * potential.length_scale, potential.energy_scale
    if not asking_is_free(going):
        ahead: Tensor = potential.energy_and_grad(x + reach * v)[1] / unit
        return torch.where(going[:, None], (ahead - grad) / reach, 0.0)
    rows, out = torch.nonzero(going)[:, 0], torch.zeros_like(x)
    out[rows] = (potential.energy_and_grad(x[rows] + reach * v[rows])[1] / unit - grad[rows]) / reach
    return out


def _rms(v: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    size: Tensor = v.square().mean(1).sqrt()
    return size
