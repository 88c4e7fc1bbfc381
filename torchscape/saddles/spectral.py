"""Log-determinants of Hessians that are never formed: stochastic Lanczos quadrature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.memory import MANY_LARGE, available_memory, in_parts, limits_of, rows_that_fit
from torchscape.optimise.ledger import compute_once
from torchscape.potentials.base import Potential
from torchscape.saddles.eigen import Subspace
from torchscape.saddles.projector import Projector
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, NOT_NEGATIVE, SEED

__all__ = ["LogDet", "stochastic_log_det"]

_FEW_STEPS = 12  # of the quadrature that says how curved the rest is
_SLOWEST = 0.95  # share of a quarter's change that the next quarter of the steps brings at most


@brief
@dataclasses.dataclass(frozen=True)
class LogDet:
    """An estimate of ln|det| of P H P.

    Attributes:
        value: ln|det|.
        error: its standard error, over the probes and of the quadrature.
        truncation: the share that the quadrature has in it: where that is most of it, more steps help, and more
            probes do not.
    """

    value: Float[Tensor, "B"]
    error: Float[Tensor, "B"]
    truncation: Float[Tensor, "B"]


def stochastic_log_det(
    potential: Potential,
    x: Float[Tensor, "B D"],
    *,
    projector: Projector | None = None,
    n_probes: int = 16,
    n_steps: int = 40,
    rank: int = 128,
    zero_tol: float | None = None,
    seed: int = 0,
) -> LogDet:
    """ln|det P H(x) P| on the range of P, from products H v alone.

    tr f(A) = E[z^T f(A) z] over random signs z, and z^T f(A) z = |z|^2 sum_k tau_k^2 f(theta_k), with theta and
    tau the eigenvalues and the first components of the eigenvectors of the Lanczos matrix that z starts; here
    f = ln|.| (Ubaru, Chen & Saad 2017, doi 10.1137/16M1104974).

    The variance of that is twice the sum of the squares of what f(A) has beside its diagonal, most of which comes
    from outlying eigenvalues. So A is first divided by an S of known determinant, which has the largest
    eigenpairs of A, approximately, and one curvature c for all the rest:
    ln|det A| = ln det S + tr ln|S^(-1/2) A S^(-1/2)|, whatever S is (Wenger et al. 2022, arXiv 2107.00243). The
    pairs come from a block Krylov space of 2 ``rank`` products, c from a short quadrature beyond them.

    A quadrature of too few steps is wrong by the same for all probes, and too high. What half and three quarters
    of the steps say tells by how much: the value is extrapolated by that, and the error holds it as well.

    Args:
        potential: U; only its Hessian-vector products are used.
        x: points [B D].
        projector: directions to leave out; None for the known zero modes. Negative modes are better left out
            too, and added exactly: the quadrature is accurate for a spectrum on one side of zero.
        n_probes: random vectors per point; the error falls as their square root.
        n_steps: Lanczos steps per probe; exact for n_steps >= D. Curvatures c times apart need about sqrt(c).
        rank: eigenpairs that are divided out, 2 products each; 0 for none. What is found is exact for
            ``rank`` >= D. How much they help is a matter of the spectrum: the standard error of a network of
            784-10-10 (7960 coordinates) falls from 16 to 8 with 128 of them where l2 is 0.01, and from 19 to 17
            with 64 where it is 0.001; with outliers above a bulk of equal curvatures, a hundredfold.
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
    COUNT_OR_ZERO.check("stochastic_log_det", rank=rank)
    projector = Projector.at(potential, x) if projector is None else projector
    n_steps, rank = min(n_steps, x.shape[1]), min(rank, x.shape[1])
    memory = available_memory(torch.device(x.device))
    per_row = 4 * max(1, len(x[:1].flatten())) * x.element_size()
    probes = max(1, min(n_probes, memory // (per_row * n_steps)))

    def estimated(rows: Int[Tensor, "K"]) -> LogDet:
        parts = in_parts(
            lambda b: _estimated(
                potential, x[b], projector.take(b), n_probes, n_steps, rank, zero_tol, seed, probes
            ),
            (rows,),
            limits=limits_of(potential),
            key=("log-determinants", x.device, x.dtype),
            what="log-determinants",
        )
        return LogDet(*(torch.cat([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(LogDet)))

    at_once = min(
        max(1, memory // (per_row * (n_steps * probes + 2 * rank))),
        rows_that_fit((n_steps * probes + rank) * x.shape[1], x.device, on_host=MANY_LARGE),
    )
    what = f"log-determinant extrapolated {n_probes} {n_steps} {rank} {zero_tol} {seed} {x.dtype}"
    removed = () if projector.is_trivial else (projector.apply(x[:, None])[:, 0], *projector.n_removed(x))
    found: LogDet = compute_once(what, LogDet, (x, *removed), estimated, at_once, kind="log-determinants")
    return found


@dataclasses.dataclass(frozen=True)
class _Scaling:
    """S = c (1 - V^T V) + V^T theta V within P, for each row.

    Attributes:
        vectors: V, orthonormal; rows of zeros where a point has fewer.
        root: theta^(-1/2), 1 where there is no vector.
        rest: c^(-1/2).
        log_det: ln det S on the range of P.
        log_c: ln c.
    """

    vectors: Float[Tensor, "B R D"]
    root: Float[Tensor, "B R"]
    rest: Float[Tensor, "B"]
    log_det: Float[Tensor, "B"]
    log_c: Float[Tensor, "B"]

    def apply(self, v: Float[Tensor, "B K D"]) -> Float[Tensor, "B K D"]:
        """S^(-1/2) v."""
        share = torch.bmm(v, self.vectors.mT)
        kept = torch.bmm(share * (self.root - self.rest[:, None])[:, None], self.vectors)
        return self.rest[:, None, None] * v + kept

    def divided(
        self, products: Callable[[Tensor], Tensor], projector: Projector, n: int
    ) -> Callable[[Tensor], Tensor]:
        """Products with S^(-1/2) P A P S^(-1/2), of ``n`` vectors for each row, a row of each vector's own."""

        def scaled(v: Float[Tensor, "K 1 D"]) -> Float[Tensor, "K 1 D"]:
            return self.apply(v.reshape(-1, n, v.shape[2])).reshape(v.shape)

        return lambda v: scaled(projector.apply(products(scaled(v))))


def _scaling(
    potential: Potential, x: Float[Tensor, "B D"], projector: Projector, rank: int, zero_tol: float, seed: int
) -> _Scaling:
    b, d = x.shape
    products, n_removed = potential.products_at(x), sum(projector.n_removed(x))
    if rank == 0:
        return _Scaling(x.new_zeros(b, 0, d), x.new_zeros(b, 0), x.new_ones(b), *x.new_zeros(2, b))
    key = random.fold(random.fold(seed, torch.arange(rank, device=x.device)), 1)
    block = random.normal(key, d, x.dtype).expand(b, rank, d)
    space = Subspace.empty(x, min(2 * rank, d)).expanded(block, products, projector)
    space = space.expanded(space.hq[:, : space.dim].clone(), products, projector)
    values, y = space.decomposed()
    n_valid = space.valid[:, : space.dim].sum(1, keepdim=True)
    size = torch.where(torch.arange(space.dim, device=x.device) < n_valid, values.abs(), 0.0)
    largest, which = size.topk(min(rank, space.dim), 1)
    is_kept = largest > zero_tol * largest[:, :1]
    y = torch.where(is_kept[:, :, None], y.gather(1, which[:, :, None].expand(-1, -1, y.shape[2])), 0.0)
    vectors = torch.bmm(y, space.q[:, : space.dim])
    theta = torch.where(is_kept, largest, 1.0)
    left = (d - n_removed - is_kept.sum(1)).clamp(min=0)
    beyond = vectors if projector.zero is None else torch.cat([projector.zero, vectors], 1)
    space, z = _space_of(
        products, x, Projector(beyond, projector.held), random.fold(seed, -1).expand(b), _FEW_STEPS
    )
    total, weight = _gauss(space, z, zero_tol * largest[:, 0], x.new_zeros(b))
    log_c = torch.where(weight > 0.5, total / weight.clamp(min=0.5), 0.0)
    return _Scaling(vectors, theta.rsqrt(), (-0.5 * log_c).exp(), theta.log().sum(1) + left * log_c, log_c)


def _estimated(
    potential: Potential,
    x: Float[Tensor, "B D"],
    projector: Projector,
    n_probes: int,
    n_steps: int,
    rank: int,
    zero_tol: float | None,
    seed: int,
    at_once: int,
) -> LogDet:
    """Of as many rows as there is memory for, ``at_once`` probes of each side by side."""
    tol = torch.finfo(x.dtype).eps ** (2 / 3) if zero_tol is None else zero_tol
    scaling = _scaling(potential, x, projector, rank, tol, seed)
    estimates = []
    for number in torch.arange(n_probes, device=x.device).split(at_once):
        owner = torch.arange(len(x), device=x.device).repeat_interleave(len(number))
        products, removed = potential.products_at(x[owner]), projector.take(owner)
        divided = scaling.divided(products, removed, len(number)) if rank else products
        key = random.fold(seed, number).repeat(len(x))
        found = _quadrature(divided, x[owner], removed, key, n_steps, tol, -scaling.log_c[owner])
        estimates.append(found.reshape(-1, len(x), len(number)))
    estimate = torch.cat(estimates, 2)
    error = estimate[-1].std(1) / n_probes**0.5 if n_probes > 1 else torch.full_like(estimate[-1, :, 0], torch.inf)
    rest = torch.zeros_like(error) if n_steps >= x.shape[1] else _still_to_come(estimate.mean(2))
    return LogDet(scaling.log_det + estimate[-1].mean(1) + rest, torch.hypot(error, rest), rest.abs())


def _still_to_come(value: Float[Tensor, "3 B"]) -> Float[Tensor, "B"]:
    """By how much more steps would change quadratures of half, three quarters and all of the steps, if the changes
    go on to fall as a geometric series (Aitken's extrapolation)."""
    before, last = value.diff(dim=0)
    tiny = torch.finfo(value.dtype).tiny
    ratio = last / torch.where(before.abs() > tiny, before, torch.inf)
    share = ratio.clamp(0.0, _SLOWEST)
    rest: Tensor = last * share / (1 - share)
    return rest


def _quadrature(
    products: Callable[[Tensor], Tensor],
    x: Float[Tensor, "B D"],
    projector: Projector,
    key: Int[Tensor, "B"],
    n_steps: int,
    zero_tol: float,
    at_zero: Float[Tensor, "B"],
) -> Float[Tensor, "3 B"]:
    """z^T ln|P A P| z for one vector z of random signs per row, by half, three quarters and all of the steps."""
    space, z = _space_of(products, x, projector, key, n_steps)
    if space.dim == 0:
        return x.new_zeros(3, len(x))
    parts = [dataclasses.replace(space, dim=max(1, space.dim * k // 4)) for k in (2, 3, 4)]
    values = space.decomposed()[0]
    known = torch.arange(values.shape[1], device=x.device) < space.valid[:, : space.dim].sum(1, keepdim=True)
    floor = zero_tol * torch.where(known, values.abs(), 0.0).amax(1)
    return torch.stack([_gauss(part, z, floor, at_zero)[0] for part in parts])


def _space_of(
    products: Callable[[Tensor], Tensor],
    x: Float[Tensor, "B D"],
    projector: Projector,
    key: Int[Tensor, "B"],
    n_steps: int,
) -> tuple[Subspace, Float[Tensor, "B 1 D"]]:
    """The Krylov space of a vector of random signs for each row, and that vector."""
    signs = torch.where(random.uniform(key, x.shape[1], x.dtype) < 0.5, -1.0, 1.0).to(x)
    z = projector.apply(signs[:, None])
    space = Subspace.empty(x, n_steps).expanded(z, products, projector)
    for _ in range(n_steps - 1 if space.dim else 0):
        grown = space.expanded(space.hq[:, space.dim - 1 : space.dim], products, projector)
        if grown.dim == space.dim:
            break
        space = grown
    return space, z


def _gauss(
    space: Subspace, z: Float[Tensor, "B 1 D"], floor: Float[Tensor, "B"], at_zero: Float[Tensor, "B"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """The quadrature of ln|mu| by what is in use of the space that z has started, with ``at_zero`` for eigenvalues
    below ``floor``; and the weight of the others: an estimate of how many there are."""
    if space.dim == 0:
        return torch.zeros_like(floor), torch.zeros_like(floor)
    values, y = space.decomposed()
    weight = y[:, :, 0].square() * z.square().sum(2)
    known = torch.arange(values.shape[1], device=values.device) < space.valid[:, : space.dim].sum(1, keepdim=True)
    size, weight = torch.where(known, values.abs(), 0.0), torch.where(known, weight, 0.0)
    curved = size > floor[:, None]
    total = (weight * torch.where(curved, torch.where(curved, size, 1.0).log(), at_zero[:, None])).sum(1)
    return total, torch.where(curved, weight, 0.0).sum(1)
