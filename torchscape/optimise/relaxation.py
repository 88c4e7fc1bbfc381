"""``relax``: from starting points to minima, in the order of the starts."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.errors import PotentialError
from torchscape.optimise.bfgs import BFGS
from torchscape.optimise.krylov import NewtonKrylov
from torchscape.optimise.lbfgs import LBFGS
from torchscape.optimise.newton import polish
from torchscape.optimise.pool import run_pool
from torchscape.optimise.quasi_newton import QuasiNewton
from torchscape.optimise.rows import put_rows
from torchscape.optimise.short_memory import ShortLBFGS
from torchscape.points import StationaryPoints, Status
from torchscape.potentials.base import Potential
from torchscape.potentials.expected import expect_potential
from torchscape.progress import progress_bar
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, NOT_NEGATIVE

__all__ = ["MOST_ROWS", "choose_optimiser", "relax"]

DENSE_UP_TO = 150  # coordinates: beyond, the D^2 numbers of dense BFGS cost more than 100 pairs

_PAIRED = 1 << 23  # pairs times coordinates of a row: 64 MiB in single precision

MOST_ROWS = 4096  # descents in flight: one takes little memory


def choose_optimiser(potential: Potential) -> QuasiNewton:
    """Dense BFGS for few coordinates, L-BFGS beyond: with 100 pairs, or 20 to 500 if there is a preconditioner.
    For potentials that say ``even_curvature`` (clusters of atoms bound in pairs) L-BFGS with a short memory.

    Both need about the same number of evaluations (``scripts/bench/minimise.py``), a half to a third of what a
    memory of 10 needs; they differ in what a step moves through memory: 3 D^2 against 4 M D numbers. What a
    preconditioner knows need not be learnt from pairs, but every pair saves evaluations (``scripts/bench/
    evaluations.py``): there are as many as take a tenth of the time of an evaluation, which multiplies with every
    coordinate as often as there are samples.
    """
    precision = potential.precision if potential.dtype == torch.float64 else "double"
    if potential.even_curvature and potential.bounds is None:
        return ShortLBFGS(precision=precision)
    if potential.ndim <= DENSE_UP_TO:
        return BFGS(precision=precision)
    known = potential.preconditioner
    most = min(500, max(100, _PAIRED // potential.ndim))
    memory = 100 if known is None else min(most, max(20, round(known.uses / 10)))
    return LBFGS(memory=memory, precision=precision, krylov=None if potential.bounds else NewtonKrylov())


def relax(
    potential: Potential,
    starts: Float[Tensor, "B D"],
    *,
    optimiser: QuasiNewton | None = None,
    tol: float | None = None,
    max_evaluations: int | None = None,
    pool_size: int | None = None,
    progress: bool = False,
) -> StationaryPoints:
    """Minimise from every start; row i of the result belongs to start i, whatever the pool did.

    Args:
        potential: U, with or without a box (respected by projection).
        starts: starting points [B D].
        optimiser: :class:`LBFGS`, :class:`ShortLBFGS` or :class:`BFGS`; None chooses by size.
        tol: RMS gradient |grad U| / sqrt(D) that counts as converged; None for 1e-8 in float64.
        max_evaluations: those that a row may spend (default 10 000).
        pool_size: rows in flight; None for as many as memory allows.
        progress: show a progress bar of finished rows.

    Returns:
        Points with energy, RMS gradient and a status per row: a row that did not converge says why and never
        disturbs the others. Rows that stalled at the rounding error of their energy get a :func:`polish`. Index
        and curvature are not computed here.

    Raises:
        PotentialError: if ``starts`` is not [B D] for this potential.

    Example:
        >>> from torchscape.potentials.base import Potential
        >>> class Wells(Potential):
        ...     ndim = 1
        ...     def energy(self, x):
        ...         return ((x**2 - 1) ** 2).sum(1)
        >>> relax(Wells(), torch.tensor([[-2.0], [0.5]], dtype=torch.float64)).x.round(decimals=6).tolist()
        [[-1.0], [1.0]]
    """
    expect_potential("relax", potential)
    NOT_NEGATIVE.or_none.check("relax", tol=tol)
    COUNT.or_none.check("relax", max_evaluations=max_evaluations, pool_size=pool_size)
    if starts.ndim != 2 or starts.shape[1] != potential.ndim:
        raise PotentialError(
            f"starts must be [B, {potential.ndim}] for this potential, not {list(starts.shape)}: "
            "give one row per starting point"
        )
    if len(starts) == 0:
        return StationaryPoints.empty(potential.ndim, dtype=starts.dtype, device=starts.device)
    optimiser = choose_optimiser(potential) if optimiser is None else optimiser
    changes = {"tol": tol, "max_evaluations": max_evaluations}
    optimiser = dataclasses.replace(optimiser, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
    starts = starts.to(potential.device, potential.dtype)
    with _bar(len(starts), progress) as bar:
        ends: StationaryPoints = run_pool(
            optimiser, potential, starts, size=pool_size, most=MOST_ROWS, on_finished=bar.to
        )
    return _finish(potential, ends, optimiser.tol)


def _finish(potential: Potential, points: StationaryPoints, tol: float | None) -> StationaryPoints:
    """Newton steps for the rows that stalled at the rounding error of their energy: there, and only there, they
    pay (elsewhere a Hessian costs more than the evaluations it saves)."""
    stalled = torch.nonzero(points.status == Status.STALLED)[:, 0]
    if len(stalled) == 0:
        return points
    return put_rows(points, stalled, polish(potential, points[stalled], tol=tol))


class _bar:
    """A tqdm bar that follows an absolute count."""

    def __init__(self, total: int, show: bool) -> None:
        self.bar = progress_bar(show=show, total=total, desc="relax", unit=" quenches")

    def to(self, n: int) -> None:
        self.bar.update(n - self.bar.n)

    def __enter__(self) -> _bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
