"""Log-determinants of Hessians that are never formed: stochastic Lanczos quadrature."""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random
from torchscape.memory import MANY_LARGE, available_memory, in_parts, limits_of, rows_that_fit
from torchscape.optimise.ledger import compute_once
from torchscape.potentials.base import Potential
from torchscape.saddles.eigen import Subspace
from torchscape.saddles.projector import Projector
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE, SEED

__all__ = ["LogDet", "stochastic_log_det"]


@dataclasses.dataclass(frozen=True)
class LogDet:
    """An estimate of ln|det| of P H P with its standard error over the probes."""

    value: Float[Tensor, "B"]
    error: Float[Tensor, "B"]


@dataclasses.dataclass(frozen=True)
class _Probed:
    """z^T ln|P H P| z of one random vector z for each row."""

    value: Float[Tensor, "B"]


def stochastic_log_det(
    potential: Potential,
    x: Float[Tensor, "B D"],
    *,
    projector: Projector | None = None,
    n_probes: int = 16,
    n_steps: int = 40,
    zero_tol: float | None = None,
    seed: int = 0,
) -> LogDet:
    """ln|det P H(x) P| on the range of P, from products H v alone.

    tr f(A) = E[z^T f(A) z] over random signs z, and z^T f(A) z = |z|^2 sum_k tau_k^2 f(theta_k), with theta and
    tau the eigenvalues and the first components of the eigenvectors of the Lanczos matrix that z starts; here
    f = ln|.| (Ubaru, Chen & Saad 2017, doi 10.1137/16M1104974).

    Args:
        potential: U; only its Hessian-vector products are used.
        x: points [B D].
        projector: directions to leave out; None for the known zero modes. Negative modes are better left out
            too, and added exactly: the quadrature is accurate for a spectrum on one side of zero.
        n_probes: random vectors per point; the error falls as their square root.
        n_steps: Lanczos steps per probe; exact for n_steps >= D.
        zero_tol: Ritz values below this times the largest count as zero modes and are skipped.
        seed: of the probes.

    Example:
        >>> class Bowl(Potential):
        ...     ndim = 30
        ...     def energy(self, x):
        ...         return 0.5 * (x**2 * torch.arange(1.0, 31.0, dtype=x.dtype)).sum(1)
        >>> found = stochastic_log_det(Bowl(), torch.zeros(1, 30, dtype=torch.float64))
        >>> round(found.value.item(), 6), round(torch.arange(1.0, 31.0).double().log().sum().item(), 6)
        (74.658236, 74.658236)
    """
    COUNT.check("stochastic_log_det", n_probes=n_probes, n_steps=n_steps)
    NOT_NEGATIVE.or_none.check("stochastic_log_det", zero_tol=zero_tol)
    SEED.check("stochastic_log_det", seed=seed)
    projector = Projector.at(potential, x) if projector is None else projector
    n_steps = min(n_steps, x.shape[1])
    per_row = 4 * n_steps * x[0].numel() * x.element_size() if len(x) else 1
    rows = max(1, available_memory(torch.device(x.device)) // per_row)
    owner = torch.arange(len(x), device=x.device).repeat(n_probes)
    key = random.fold(seed, torch.arange(n_probes, device=x.device)).repeat_interleave(len(x))

    def probed(some: Int[Tensor, "K"]) -> _Probed:
        parts = in_parts(
            lambda b, k: _probe(potential, x[b], projector.take(b), k, n_steps, zero_tol),
            (owner[some], key[some]),
            limits=limits_of(potential),
            key=("probes", x.device, x.dtype),
            size=rows,
            what="probes of log-determinants",
        )
        return _Probed(torch.cat(parts))

    at_once = min(rows, rows_that_fit(n_steps * x.shape[1], x.device, on_host=MANY_LARGE))
    what = f"log-determinant {n_steps} {zero_tol} {x.dtype}"
    estimates = compute_once(what, _Probed, (x[owner], key), probed, at_once, kind="probes of log-determinants")
    estimates = estimates.value.reshape(n_probes, len(x))
    error = estimates.std(0) / n_probes**0.5 if n_probes > 1 else torch.full_like(estimates[0], torch.inf)
    return LogDet(estimates.mean(0), error)


def _probe(
    potential: Potential,
    x: Float[Tensor, "B D"],
    projector: Projector,
    key: Int[Tensor, "B"],
    n_steps: int,
    zero_tol: float | None,
) -> Float[Tensor, "B"]:
    """z^T ln|P H P| z for one vector z of random signs per row."""
    signs = torch.where(random.uniform(key, x.shape[1], x.dtype) < 0.5, -1.0, 1.0).to(x)
    z = projector.apply(signs[:, None])
    products = potential.products_at(x)
    space = Subspace.empty(x, n_steps).expanded(z, products, projector)
    for _ in range(n_steps - 1):
        grown = space.expanded(space.hq[:, space.dim - 1 : space.dim], products, projector)
        if grown.dim == space.dim:
            break
        space = grown
    values, y = space.decomposed()
    weight = y[:, :, 0].square() * z.square().sum(2)
    known = torch.arange(values.shape[1], device=x.device) < space.valid.sum(1, keepdim=True)
    size = torch.where(known, values.abs(), 0.0)
    tol = torch.finfo(x.dtype).eps ** (2 / 3) if zero_tol is None else zero_tol
    known &= size > tol * size.amax(1, keepdim=True)
    return torch.where(known, weight * torch.where(known, size, 1.0).log(), 0.0).sum(1)
