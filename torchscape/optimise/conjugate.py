"""Conjugate gradients for batches: every row its own system, its own end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from torchscape import stopwatch
from torchscape.brief import brief
from torchscape.devices import asking_is_free
from torchscape.types import Bool, Float, Int, Tensor

__all__ = ["Solution", "conjugate_gradients"]


@brief
@dataclasses.dataclass(frozen=True)
class Solution:
    """What conjugate gradients have found.

    Attributes:
        x: approximate solutions of A x = b.
        residual: b - A x.
        n_products: products with A that each row took part in.
        alpha, beta: step lengths and ratios of squared residuals, NaN from where the row had ended: the Lanczos
            matrix of A.
    """

    x: Float[Tensor, "B D"]
    residual: Float[Tensor, "B D"]
    n_products: Int[Tensor, "B"]
    alpha: Float[Tensor, "B M"]
    beta: Float[Tensor, "B M"]

    def extremes(self) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """The smallest and largest Ritz value of each row: eigenvalues of A that b has a share of, from within.

        T = tridiagonal(1/alpha_j + beta_(j-1)/alpha_(j-1); sqrt(beta_j)/alpha_j) is that of the Lanczos iteration
        (Golub & Van Loan 2013, section 11.3.5). Both are NaN where no step was taken.
        """
        known = torch.isfinite(self.alpha)
        inverse = torch.where(known, 1 / torch.where(known, self.alpha, 1.0), 0.0)
        beta = torch.where(known, self.beta, 0.0)
        diagonal = inverse.clone()
        diagonal[:, 1:] += (beta * inverse)[:, :-1]
        beside = (beta.clamp(min=0).sqrt() * inverse)[:, :-1] * known[:, 1:]
        diagonal = torch.where(
            known, diagonal, diagonal[:, :1]
        )  # a Ritz value of the first step: within the others
        t = torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
        values = torch.linalg.eigvalsh(torch.nan_to_num(t))
        some = known[:, 0]
        return torch.where(some, values[:, 0], torch.nan), torch.where(some, values[:, -1], torch.nan)


def conjugate_gradients(
    apply: Callable[[Float[Tensor, "B D"]], Float[Tensor, "B D"]],
    b: Float[Tensor, "B D"],
    n_steps: int,
    enough: Callable[[Float[Tensor, "B D"], Float[Tensor, "B D"]], Bool[Tensor, "B"]],
) -> Solution:
    """A x = b from x = 0, row by row until ``enough(x, residual)``, stopping where A has negative curvature.

    Where A is singular and b in its range, x tends to the solution without a part in the null space.

    Args:
        apply: products with A, symmetric.
        b: right-hand sides.
        n_steps: products at most.
        enough: which rows are done.

    Example:
        >>> a = torch.diag(torch.tensor([1.0, 4.0, 0.0]).double())
        >>> b = torch.tensor([[1.0, 1.0, 0.0]]).double()
        >>> found = conjugate_gradients(lambda p: p @ a, b, 10, lambda x, r: r.norm(dim=1) <= 1e-12)
        >>> found.x.tolist(), found.n_products.tolist()
        ([[1.0, 0.25, 0.0]], [2])
        >>> [round(value.item(), 9) for value in found.extremes()]
        [1.0, 4.0]
    """
    x, r, p = torch.zeros_like(b), b, b
    going = (b.norm(dim=1) > 0) & ~enough(x, r)
    n_products = torch.zeros(len(b), dtype=torch.int64, device=b.device)
    alphas, betas = [], []
    for n in range(1, n_steps + 1):
        stopwatch.check()
        if n == 1 and asking_is_free(b) and not bool(going.any()):
            break
        ap = apply(p)
        n_products += going
        curvature = (p * ap).sum(1)
        going = going & (curvature > 0)
        rr = r.square().sum(1)
        alpha = torch.where(going, rr / torch.where(going, curvature, 1.0), 0.0)
        x = x + alpha[:, None] * p
        r = r - alpha[:, None] * ap
        new = r.square().sum(1)
        ratio = new / torch.where(rr > 0, rr, 1.0)
        alphas.append(torch.where(going, alpha, torch.nan))
        betas.append(torch.where(going, ratio, torch.nan))
        going = going & ~enough(x, r)
        # On a device rows are looked at after 8, 16, 32, ... iterations; those that have ended stay as they are.
        if (asking_is_free(b) or (n >= 8 and n & (n - 1) == 0)) and not bool(going.any()):
            break
        p = torch.where(going[:, None], r + ratio[:, None] * p, p)
    none = b.new_full((len(b), 1), torch.nan)
    steps = (torch.stack(found, 1) if found else none for found in (alphas, betas))
    return Solution(x, r, n_products, *steps)
