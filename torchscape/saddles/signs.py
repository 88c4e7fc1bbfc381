"""Whether any curvature is negative, by the Lanczos recurrence: three vectors, however many products."""

from __future__ import annotations

import dataclasses

import torch

from torchscape import random, stopwatch
from torchscape.optimise.ledger import compute_once
from torchscape.optimise.rows import put_rows
from torchscape.points import StationaryPoints
from torchscape.potentials.base import Potential
from torchscape.saddles.characterisation import SLOPE_MARGIN, characterise_with_modes
from torchscape.saddles.eigen import Eigenpairs, lowest_eigenpairs
from torchscape.saddles.projector import Projector
from torchscape.types import Float, Int, Tensor
from torchscape.validation import COUNT, SEED

__all__ = ["LowestCurvature", "lowest_curvature", "signs"]

_OF_MODE = 1e-3  # residual of the unstable mode, in units of its curvature
_FIRST = 40  # products before the first look at the Ritz values
_LOOKS = 8  # the next one after so many parts of all products so far


@dataclasses.dataclass(frozen=True)
class LowestCurvature:
    """The lowest Ritz value of each row.

    Attributes:
        value: an upper bound of the lowest eigenvalue.
        residual: an eigenvalue is no further from it than this.
        floor: size below which it cannot be told from zero.
        n_hvps: products spent on the row.
    """

    value: Float[Tensor, "B"]
    residual: Float[Tensor, "B"]
    floor: Float[Tensor, "B"]
    n_hvps: Int[Tensor, "B"]


def lowest_curvature(
    potential: Potential,
    x: Float[Tensor, "B D"],
    projector: Projector,
    floor: Float[Tensor, "B"],
    *,
    zero_tol: float = 0.0,
    max_products: int = 2000,
    seed: int = 0,
) -> LowestCurvature:
    """The lowest curvature of P H(x) P on the range of P, as far as it decides whether it lies below -``floor``.

    The Lanczos recurrence from one random vector, which keeps three vectors and no basis: rounding then lets
    copies of eigenvalues appear that were found before (Paige 1980, doi 10.1016/0024-3795(80)90167-6), but the
    lowest Ritz value stays one of P H P to the residual that the recurrence says. A row is done when its Ritz
    value is below -``floor``, as the lowest eigenvalue is no higher than it; or when it is above by more than its
    residual.

    To run it in the inner product of the preconditioner of minimisers would leave the sign (Sylvester's law of
    inertia), but took 1.4 times as many products at two saddles of 97 000 coordinates: what is soft is not what
    the inputs say.

    Args:
        potential: U; only its Hessian-vector products are used.
        x: points [B D].
        projector: directions to leave out.
        floor: of each row; curvatures between it and its negative cannot be told from zero. It is raised to
            ``zero_tol`` times the largest curvature.
        zero_tol: relative size of a zero eigenvalue.
        max_products: of a row, after which it is given up; see ``residual``.
        seed: of the random vector.

    Example:
        >>> class Bowl(Potential):
        ...     ndim = 50
        ...     def energy(self, x):
        ...         return 0.5 * (x**2 * torch.arange(1.0, 51.0, dtype=x.dtype)).sum(1)
        >>> origin, little = torch.zeros(1, 50, dtype=torch.float64), torch.full((1,), 1e-6, dtype=torch.float64)
        >>> found = lowest_curvature(Bowl(), origin, Projector(None, None), little)
        >>> bool(found.value - found.residual > 0)
        True
    """
    COUNT.check("lowest_curvature", max_products=max_products)
    SEED.check("lowest_curvature", seed=seed)
    recurrence = _Recurrence(potential, x, projector, seed)
    going, given = torch.ones_like(floor, dtype=torch.bool), floor
    latest = floor.new_zeros(3, len(floor))
    n_hvps = torch.zeros_like(floor, dtype=torch.int64)
    look = min(_FIRST, max_products)
    while True:
        recurrence.step()
        if len(recurrence.diagonal) == look:
            a, b = torch.stack(recurrence.diagonal, 1), torch.stack(recurrence.beside, 1)
            seen = torch.stack([*_lowest(a, b), zero_tol * (a.abs() + 2 * b).amax(1)])
            latest = torch.where(going, seen, latest)  # a row that is done does not notice the others
            n_hvps = torch.where(going, look, n_hvps)
            value, residual, least = latest
            floor = torch.maximum(given, least)
            going = (value >= -floor) & (value - residual <= -floor)
            if look >= min(max_products, 2 * x.shape[1]) or not bool(going.any()):
                break
            look = min(max_products, look + max(_FIRST // 2, look // _LOOKS))
    return LowestCurvature(value, residual, floor, n_hvps)


def falling(
    potential: Potential,
    x: Float[Tensor, "B D"],
    projector: Projector,
    n_products: int,
    *,
    seed: int = 0,
) -> Float[Tensor, "B D"]:
    """Of each row the unit direction in which H has the lowest Ritz value of so many products: with those of
    :func:`lowest_curvature` one of negative curvature, where there is one. The recurrence runs twice, so that
    it keeps no basis."""
    first = _Recurrence(potential, x, projector, seed)
    for _ in range(n_products):
        first.step()
    rows = zip(*(torch.stack(kept, 1).double().cpu() for kept in (first.diagonal, first.beside)), strict=True)
    weights = torch.stack([_padded(_ritz(*row)[1], n_products) for row in rows]).to(x)
    again, direction = _Recurrence(potential, x, projector, seed), torch.zeros_like(x)
    for number, weight in enumerate(weights.unbind(1)):
        if number:
            again.step()
        direction += weight[:, None] * again.q
    unit: Tensor = direction / direction.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny ** 0.5)
    return unit


def _padded(vector: Float[Tensor, "m"], n: int) -> Float[Tensor, "n"]:
    return torch.nn.functional.pad(vector, (0, n - len(vector)))


class _Recurrence:
    """That of Lanczos for P H P, from a random vector for each row.

    Attributes:
        q: the latest vector.
        diagonal, beside: of the tridiagonal matrix so far.
    """

    def __init__(self, potential: Potential, x: Float[Tensor, "B D"], projector: Projector, seed: int) -> None:
        self._products, self._projector = potential.products_at(x), projector
        self._tiny = torch.finfo(x.dtype).tiny ** 0.5
        key = random.fold(seed, torch.zeros(len(x), dtype=torch.int64, device=x.device))
        q = projector.apply_one(random.normal(key, x.shape[1], x.dtype))
        self.q = q / q.norm(dim=1, keepdim=True).clamp(min=self._tiny)
        self._before, self._beta = torch.zeros_like(q), torch.zeros_like(q[:, 0])
        self.diagonal: list[Tensor] = []
        self.beside: list[Tensor] = []

    def step(self) -> None:
        """One product more."""
        stopwatch.check()
        hq = self._products(self.q[:, None])[:, 0] - self._beta[:, None] * self._before
        alpha = (hq * self.q).sum(1)
        # What rounding leaves outside P in the vectors themselves would grow from step to step.
        hq = self._projector.apply_one(hq - alpha[:, None] * self.q)
        self._beta = hq.norm(dim=1)
        self.diagonal.append(alpha)
        self.beside.append(self._beta)
        self._before, self.q = self.q, hq / self._beta[:, None].clamp(min=self._tiny)


def _lowest(
    diagonal: Float[Tensor, "B m"], beside: Float[Tensor, "B m"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """The lowest eigenvalue of each tridiagonal matrix, and the last component of its vector times the next number
    beside the diagonal. A row stands up to where the recurrence had come to its end."""
    rows = zip(diagonal.double().cpu(), beside.double().cpu(), strict=True)
    value, residual = torch.stack([_ritz(*row)[0] for row in rows]).to(diagonal).unbind(1)
    return value, residual


def _ritz(
    diagonal: Float[Tensor, "m"], beside: Float[Tensor, "m"]
) -> tuple[Float[Tensor, "2"], Float[Tensor, "n"]]:
    """Both for one row in host memory, and that vector: n <= m."""
    from scipy.linalg import eigh_tridiagonal

    if not bool(torch.isfinite(diagonal).all() and torch.isfinite(beside).all()):
        return diagonal.new_full((2,), torch.nan), torch.zeros_like(diagonal)
    ended = torch.nonzero(beside <= 1e-13 * diagonal.abs().max())[:, 0].tolist()
    m = ended[0] + 1 if ended else len(diagonal)
    a, b = diagonal[:m].numpy(), beside[: m - 1].numpy()
    values, vectors = eigh_tridiagonal(a, b, select="i", select_range=(0, 0))
    vector = torch.as_tensor(vectors[:, 0])
    residual = 0.0 if ended else float(beside[m - 1] * vector[-1].abs())
    return torch.tensor([float(values[0]), residual], dtype=diagonal.dtype), vector


def signs(
    potential: Potential, points: StationaryPoints, modes: Float[Tensor, "B D"] | None = None
) -> tuple[StationaryPoints, Float[Tensor, "B D"]]:
    """Points with their ``index``, as far as it is 0, 1 or more, and unstable modes: without ``modes`` a direction
    of negative curvature, where there is one, else zeros.

    Log-determinants are left out (NaN); of flat directions one is counted at most, so that ``n_zero`` is a bound.

    Args:
        potential: U; only its Hessian-vector products are used.
        points: converged.
        modes: approximate unstable modes of saddles: it is asked whether there is a second one; None for minima,
            where it is asked whether there is any.

    Example:
        >>> class Saddle(Potential):
        ...     ndim = 3
        ...     def energy(self, x):
        ...         return x[:, 0] ** 2 + x[:, 2] ** 2 - 2 * x[:, 1] ** 2
        >>> points = StationaryPoints.of(torch.zeros(1, 3).double(), torch.zeros(1).double())
        >>> signs(Saddle(), points, torch.tensor([[0.1, 1.0, 0.0]]).double())[0].index.tolist()
        [1]
    """
    x = points.x
    if len(x) == 0:
        return points, x.clone()
    grad = potential.energy_and_grad(x)[1]
    projector = Projector.at(potential, x, grad)
    n_known = projector.n_removed(x)[0]
    slack = projector.apply_one(grad) / potential.length_scale
    floor = SLOPE_MARGIN * slack.norm(dim=1)
    mode, below = torch.zeros_like(x), torch.zeros_like(points.index, dtype=torch.bool)
    if modes is not None:
        pairs = _unstable(potential, x, modes, projector)
        mode = pairs.vectors[:, 0].contiguous()
        unsure = torch.maximum(torch.maximum(floor, 10 * (slack * mode).sum(1).abs()), pairs.residuals[:, 0])
        below = pairs.values[:, 0] < -unsure
        # Beside a mode that is wrong by its residual, the others are wrong by the square of that over the gap.
        error = 2 * pairs.residuals[:, 0].square() / pairs.values[:, 0].abs()
        floor = torch.where(below, torch.maximum(floor, error), floor)
        out = torch.where(below[:, None, None], pairs.vectors, 0.0)
        projector = Projector(
            out if projector.zero is None else torch.cat([projector.zero, out], 1), projector.held
        )
    zero_tol = torch.finfo(x.dtype).eps ** (2 / 3)

    def lowest(rows: Int[Tensor, "K"]) -> LowestCurvature:
        return lowest_curvature(potential, x[rows], projector.take(rows), floor[rows], zero_tol=zero_tol)

    what = f"lowest curvature beside {int(modes is not None)} {x.dtype}"
    rest = compute_once(what, LowestCurvature, (x, mode, floor), lowest, len(x), kind="curvatures")
    further = rest.value < -rest.floor
    index = below.long() + further
    seen = points.replace(
        index=torch.where(torch.isfinite(rest.value), index, -1),
        n_zero=n_known + (rest.value.abs() <= rest.floor),
        log_det=torch.full_like(points.energy, torch.nan),
        eigenvalues=None,
    )
    # A mode that does not fall is no unstable one, and which is was not looked for.
    lost = further & ~below
    if modes is None and bool(lost.any()):
        mode = _downhill(potential, x, projector, torch.where(lost, rest.n_hvps, 0))
        lost &= (potential.hvp(x, mode) * mode).sum(1) >= 0
    if bool(lost.any()):
        rows = torch.nonzero(lost)[:, 0]
        again, its_mode = characterise_with_modes(potential, points[rows], log_det=False)
        seen, mode = put_rows(seen, rows, again), mode.index_copy(0, rows, its_mode)
    return seen, mode


def _downhill(
    potential: Potential, x: Float[Tensor, "B D"], projector: Projector, n_products: Int[Tensor, "B"]
) -> Float[Tensor, "B D"]:
    """Directions of negative curvature, of rows that have shown one after so many products; zeros elsewhere."""
    mode = torch.zeros_like(x)
    for n in n_products.unique().tolist():  # the few numbers at which the recurrence is looked at
        if n:
            rows = torch.nonzero(n_products == n)[:, 0]
            mode[rows] = falling(potential, x[rows], projector.take(rows), n)
    return mode


def _unstable(
    potential: Potential, x: Float[Tensor, "B D"], modes: Float[Tensor, "B D"], projector: Projector
) -> Eigenpairs:
    def pairs(rows: Int[Tensor, "K"]) -> Eigenpairs:
        guess = modes[rows][:, None]
        return lowest_eigenpairs(
            potential, x[rows], 1, guess=guess, tol=1e-7, rel_tol=_OF_MODE, projector=projector.take(rows)
        )

    found: Eigenpairs = compute_once(f"unstable mode {x.dtype}", Eigenpairs, (x, modes), pairs, len(x))
    return found
