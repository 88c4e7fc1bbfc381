"""The worst loss near a point: searched from two kinds of starts until they agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.potentials.base import Potential
from torchscape.saddles.eigen import lowest_eigenpairs
from torchscape.saddles.projector import Projector
from torchscape.types import Bool, Float, Tensor
from torchscape.validation import COUNT, POSITIVE, SEED

__all__ = ["Norm", "UpsideDown", "WorstCase", "unit_lengths", "worst_case", "worst_case_loss"]

Norm = Literal["l2", "adaptive"]

_EIGENVECTORS = 2  # that each round of the search adds


@brief
@dataclasses.dataclass(frozen=True)
class WorstCase:
    """The largest loss found in a ball around each of N points, and how sure that is.

    Every number is a lower bound of the maximum: what no ascent has found, nothing here can exclude.

    Attributes:
        loss: the largest loss found, at least U(x) [N].
        from_random: the largest that ascents from random directions found [N].
        from_curvature: the largest that ascents along leading eigenvectors of the Hessian found [N].
        agrees: whether the two kinds found the same rise to within the tolerance [N]. Where they do not, the
            maximum has many rivals, and ``loss`` is the better of two guesses.
        n_starts: ascents that each point was given.
    """

    loss: Float[Tensor, "N"]
    from_random: Float[Tensor, "N"]
    from_curvature: Float[Tensor, "N"]
    agrees: Bool[Tensor, "N"]
    n_starts: int


def worst_case(
    potential: Potential,
    x: Float[Tensor, "N D"],
    radius: float,
    *,
    norm: Norm = "l2",
    n_starts: int = 4,
    n_steps: int = 50,
    tolerance: float = 0.01,
    max_rounds: int = 4,
    seed: int = 0,
) -> WorstCase:
    """The largest loss in a ball around every point: max of U(x + d) over |d|_x <= radius.

    Projected gradient ascent, all points and starts in one batch: steps along the normalised gradient, back to the
    ball where they leave it; a step that does not raise the loss is not made and halves the next one. Starts are
    of two kinds, random directions, and both signs of the leading eigenvectors of the Hessian (two more of them
    in every round). As both lead to local maxima that the other kind may miss, points at which they do not agree
    get further rounds, of twice as many random starts each. A box that the potential is defined on is not
    respected.

    Args:
        potential: U.
        x: minima, or any points.
        radius: of the ball, in its norm.
        norm: "l2" for the Euclidean norm of d; "adaptive" for that of d_i / (|x_i| + 0.01), in which a network
            whose weights are scaled up in one layer and down in the next is as flat as before.
        n_starts: random starts per point in the first round.
        n_steps: evaluations per start.
        tolerance: by how much of the rise the two kinds may differ to agree.
        max_rounds: rounds after which a point is left as it is.
        seed: of the starts; every point has the same.

    Raises:
        TorchscapeError: for a radius that is not positive, or an unknown norm.

    Reference: Keskar et al., ICLR (2017), doi 10.48550/arXiv.1609.04836; Foret et al., ICLR (2021),
    doi 10.48550/arXiv.2010.01412; Kwon et al., ICML (2021), doi 10.48550/arXiv.2102.11600 (the adaptive norm).

    Example:
        >>> from torchscape import problems
        >>> u = problems.get("himmelblau").potential
        >>> found = worst_case(u, torch.tensor([[3.0, 2.0]]).double(), 1e-3)
        >>> round(found.loss.item() / (0.5 * 82.284271 * 1e-6), 2), found.agrees.tolist()
        (1.0, [True])
    """
    POSITIVE.check("worst_case", radius=radius, tolerance=tolerance)
    COUNT.check("worst_case", n_starts=n_starts, n_steps=n_steps, max_rounds=max_rounds)
    SEED.check("worst_case", seed=seed)
    unit_lengths(x[:0], norm)
    with torch.no_grad():
        here = potential.energy(x)
    best = [here.clone(), here.clone()]  # from random directions, from curvature
    agrees = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    total, n_pairs = 0, 0
    for turn in range(max_rounds):
        rows = (~agrees).nonzero()[:, 0]
        if len(rows) == 0:
            break
        point = x[rows]
        drawn = _draw(point, n_starts * 2**turn, int(random.fold(seed, turn)))
        n_pairs, before = min(n_pairs + _EIGENVECTORS, x.shape[1]), n_pairs
        curved = _along_curvature(potential, point, n_pairs, norm, seed)[before:]
        total += len(drawn) + 2 * len(curved)
        for kind, starts in ((0, drawn), (1, torch.cat([curved, -curved]))):
            if len(starts):
                found = _ascend(potential, point, starts, radius, norm, n_steps)
                best[kind][rows] = torch.maximum(best[kind][rows], found)
        top = torch.maximum(*best)
        agrees = (best[0] - best[1]).abs() <= tolerance * (top - here)
    return WorstCase(torch.maximum(*best), best[0], best[1], agrees, total)


def worst_case_loss(
    potential: Potential, x: Float[Tensor, "N D"], radius: float, *, norm: Norm = "l2", **options
) -> Float[Tensor, "N"]:
    """The largest loss found in a ball around every point: ``worst_case(...).loss``, with the same arguments.

    :func:`worst_case` also says where two kinds of searches agree.

    Example:
        >>> from torchscape import problems
        >>> u = problems.get("himmelblau").potential
        >>> worst = worst_case_loss(u, torch.tensor([[3.0, 2.0]]).double(), 1e-3)
        >>> round(worst.item() / (0.5 * 82.284271 * 1e-6), 2)
        1.0
    """
    return worst_case(potential, x, radius, norm=norm, **options).loss


def _draw(x: Float[Tensor, "N D"], n: int, seed: int) -> Float[Tensor, "S N D"]:
    """The same n random directions for every point."""
    key = random.fold(seed, torch.arange(n, device=x.device))
    return _unit(random.normal(key, x.shape[1], x.dtype))[:, None].expand(-1, len(x), -1)


def _along_curvature(
    potential: Potential, x: Float[Tensor, "N D"], k: int, norm: Norm, seed: int
) -> Float[Tensor, "S N D"]:
    """The k leading eigenvectors of the Hessian in units of the norm; roughly, as they are starts only."""
    free = Projector(None, None)
    pairs = lowest_eigenpairs(UpsideDown(potential, norm), x, k, tol=1e-2, max_hvps=100, projector=free, seed=seed)
    return _unit(pairs.vectors.nan_to_num()).transpose(0, 1)


def _ascend(
    potential: Potential,
    x: Float[Tensor, "N D"],
    starts: Float[Tensor, "S N D"],
    radius: float,
    norm: Norm,
    n_steps: int,
) -> Float[Tensor, "N"]:
    """The largest loss on the ways up from S directions around each point; -inf where none is finite."""
    n = len(x)
    scale, base = (part.repeat(len(starts), 1) for part in (unit_lengths(x, norm), x))
    u = starts.reshape(-1, x.shape[1]) * radius
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
    return energy.reshape(-1, n).nan_to_num(nan=-torch.inf).amax(0)


def unit_lengths(x: Float[Tensor, "N D"], norm: Norm) -> Float[Tensor, "N D"]:
    """How far one goes along each coordinate for a unit of the norm."""
    if norm not in ("l2", "adaptive"):
        raise TorchscapeError(f"unknown norm {norm!r}: use 'l2' or 'adaptive'")
    return torch.ones_like(x) if norm == "l2" else x.abs() + 0.01


def _unit(v: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
    return v / v.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)


class UpsideDown(Potential):
    """-U in the units of a norm, as far as its curvature goes: its lowest eigenvalues are the highest of U."""

    def __init__(self, potential: Potential, norm: Norm = "l2") -> None:
        self._of, self._norm = potential, norm
        self.ndim, self.dtype, self.device = potential.ndim, potential.dtype, potential.device

    def hvp(self, x: Float[Tensor, "B D"], v: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        scale = unit_lengths(x, self._norm)
        return -scale * self._of.hvp(x, scale * v)

    def products_at(self, x: Float[Tensor, "B D"]) -> Callable[[Tensor], Tensor]:
        products, scale = self._of.products_at(x), unit_lengths(x, self._norm)

        def scaled(v: Tensor) -> Tensor:  # [B D], or [B G D] for G vectors at each point
            along = scale if v.ndim == 2 else scale[:, None]
            return -along * products(along * v)

        return scaled
