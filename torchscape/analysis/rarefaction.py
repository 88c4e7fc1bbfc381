"""Rarefaction curves: how many points fewer searches would have found, and how many more will find."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch

from torchscape.analysis.unseen import Unseen, frequencies, quantile
from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.types import Float, Int, Tensor
from torchscape.validation import PART

__all__ = ["RarefactionCurve", "rarefaction_curve"]

_POINTS = 120  # of a curve, where no sizes are asked for


@brief
@dataclasses.dataclass(frozen=True)
class RarefactionCurve:
    """Number of distinct points found against number of searches: rarefied up to what was done, extrapolated on.

    Attributes:
        searches: m [T].
        found: expected number of distinct points that m searches find, S(m).
        lower, upper: confidence limits of S(m), for searches made anew.
        n_searches: n, the searches that were made; larger m are extrapolated.
        level: of the confidence limits.
    """

    searches: Int[Tensor, "T"]
    found: Float[Tensor, "T"]
    lower: Float[Tensor, "T"]
    upper: Float[Tensor, "T"]
    n_searches: int
    level: float


def rarefaction_curve(
    hits: Int[Tensor, "N"],
    searches: Sequence[int] | Int[Tensor, "T"] | None = None,
    *,
    level: float = 0.95,
) -> RarefactionCurve:
    """The number of distinct points against the number of searches, with confidence limits.

    For m up to the n searches that were made, what m of them drawn at random would have found (rarefaction),

        S(m) = S - sum_k f_k C(n - k, m) / C(n, m),

    beyond, what m - n more are expected to add, S(m) = S + f0 [1 - (1 - f1 / (n f0 + f1))^(m - n)], which tends
    to the Chao1 richness S + f0. The limits are S(m) -+ z sigma(m), with the variance of a repeated experiment.
    Trust extrapolation to about 2 n.

    Args:
        hits: searches that ended in each point.
        searches: the numbers m; by default from 1 to 2 n, more of them early, with n among them.
        level: of the confidence limits.

    Raises:
        TorchscapeError: if nothing was hit, or some m is below 1.

    Reference: Colwell et al. (2012), doi 10.1093/jpe/rtr044, eqs. 4, 5, 9 and 10.

    Example:
        >>> curve = rarefaction_curve(torch.tensor([3, 1, 1]), [1, 5, 10])
        >>> [round(s, 4) for s in curve.found.tolist()]
        [1.0, 3.0, 3.8141]
    """
    PART.check("rarefaction_curve", level=level)
    z = quantile(level)
    n, s, f1, f2 = frequencies(hits)
    if n == 0:
        raise TorchscapeError("no search has hit anything: a rarefaction curve needs at least one hit")
    if searches is None:
        evenly = torch.linspace(1, max(2 * n, 2), _POINTS, dtype=torch.float64)
        early = torch.logspace(0, math.log10(n), _POINTS // 3, dtype=torch.float64)
        m = torch.cat([evenly, early, evenly.new_tensor([n])]).round().long().unique()
    else:
        m = torch.as_tensor(searches, dtype=torch.int64, device="cpu").reshape(-1)
    if bool((m < 1).any()):
        raise TorchscapeError("a rarefaction curve begins with one search: give numbers of searches >= 1")
    unseen = Unseen.of(f1, f2)
    counts, f = hits[hits > 0].cpu().unique(return_counts=True)
    inside, variance_inside = _rarefy(m.clamp(max=n), counts, f.double(), n, s + unseen.f0)
    further = (m - n).clamp(min=0).double()
    beyond, variance_beyond = unseen.emerging(n, further), unseen.variance(n, s, further)
    sigma = torch.where(m <= n, variance_inside, variance_beyond).clamp(min=0).sqrt()
    found = inside + beyond
    return RarefactionCurve(m, found, (found - z * sigma).clamp(min=0), found + z * sigma, n, level)


def _rarefy(
    m: Int[Tensor, "T"], counts: Int[Tensor, "K"], f: Float[Tensor, "K"], n: int, richness: float
) -> tuple[Float[Tensor, "T"], Float[Tensor, "T"]]:
    """S(m) and its unconditional variance, where f points were hit ``counts`` times each."""
    left = n - counts - m[:, None]
    log_missed = (
        torch.lgamma((n - counts + 1).double())
        - torch.lgamma((left.clamp(min=0) + 1).double())
        - math.lgamma(n + 1)
        + torch.lgamma((n - m + 1).double())[:, None]
    )
    missed = torch.where(left >= 0, log_missed.exp(), 0.0)
    found = ((1 - missed) * f).sum(1)
    return found, ((1 - missed) ** 2 * f).sum(1) - found**2 / richness
