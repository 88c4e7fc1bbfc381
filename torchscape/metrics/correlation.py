"""Rank correlations with honest errors: over minima, and over pairs of minima, which are not independent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import torch

from torchscape import random
from torchscape.brief import brief
from torchscape.errors import TorchscapeError, UnknownName
from torchscape.memory import ONE_LARGE, in_chunks
from torchscape.types import Float, Tensor
from torchscape.validation import COUNT, COUNT_OR_ZERO, PART, SEED

__all__ = ["MantelTest", "RankCorrelation", "kendall", "mantel", "rank_correlation", "ranks", "spearman"]


def ranks(values: Float[Tensor, "*S N"]) -> Float[Tensor, "*S N"]:
    """Ranks from 1 to N along the last dimension, equal values sharing their mean rank.

    Example:
        >>> ranks(torch.tensor([3.0, 1.0, 3.0, 7.0])).tolist()
        [2.5, 1.0, 2.5, 4.0]
    """
    values = values.contiguous()
    ordered = values.sort(-1).values
    below, upto = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return 0.5 * (below + upto + 1).double()


def spearman(a: Float[Tensor, "*#S N"], b: Float[Tensor, "*#S N"]) -> Float[Tensor, "*S"]:
    """Spearman's rank correlation along the last dimension; NaN where either does not vary.

    ``scipy.stats.spearmanr`` is the same for one pair. Permutation tests ask for ten thousand pairs at once, on
    the device of their numbers: they are one batch here.

    Example:
        >>> round(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0])).item(), 9)
        1.0
    """
    x, y = _standardised(ranks(a)), _standardised(ranks(b))
    return (x * y).sum(-1).clamp(-1.0, 1.0)


def kendall(a: Float[Tensor, "*#S N"], b: Float[Tensor, "*#S N"]) -> Float[Tensor, "*S"]:
    """Kendall's tau-b along the last dimension; NaN where either does not vary. O(N^2).

    Reference: Kendall, Biometrika 33, 239 (1945), doi 10.1093/biomet/33.3.239.

    Example:
        >>> kendall(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0])).item()
        0.3333333333333333
    """
    x, y = (_signs(values) for values in (a, b))
    return (x * y).sum((-2, -1)) / (x.abs().sum((-2, -1)) * y.abs().sum((-2, -1))).sqrt()


@brief
@dataclasses.dataclass(frozen=True)
class RankCorrelation:
    """Rank correlations of M measures with one target.

    Attributes:
        value: the correlations [M].
        p_value: how often a random assignment of the target to the minima correlates as strongly, in either
            direction (never 0: the assignment seen counts as one of them) [M].
        lower, upper: limits of the percentile bootstrap over minima [M].
        kind: "spearman" or "kendall".
        level: of the confidence limits.
        measures: what was correlated [M N].
        target: with what [N].
        names: of the measures.
    """

    value: Float[Tensor, "M"]
    p_value: Float[Tensor, "M"]
    lower: Float[Tensor, "M"]
    upper: Float[Tensor, "M"]
    kind: str
    level: float
    measures: Float[Tensor, "M N"]
    target: Float[Tensor, "N"]
    names: tuple[str, ...]


def rank_correlation(
    measures: Float[Tensor, "M N"] | Mapping[str, Float[Tensor, "N"]],
    target: Float[Tensor, "N"],
    *,
    kind: Literal["spearman", "kendall"] = "spearman",
    n_permutations: int = 9999,
    n_bootstrap: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> RankCorrelation:
    """How well each measure ranks the minima in the order of the target, for example flatness and test error.

    The null hypothesis of the p-value: the target is exchangeable among the minima, whatever the measure says.
    Minima that resemble each other (one funnel, images of one solution) are not exchangeable; then the p-value
    is too small, and groups should be compared instead of minima.

    Args:
        measures: M numbers of each of N minima, or each by its name, as ``flatness(...).measures()`` has them.
        target: what they are to predict.
        kind: of correlation. Spearman costs O(N) a permutation, Kendall O(N^2).
        n_permutations: random assignments, the same for every measure.
        n_bootstrap: samples of minima with replacement, for the confidence limits.
        level: of these.
        seed: of both.

    Raises:
        TorchscapeError: without measures, with fewer than three minima, or values that are not finite.

    Example:
        >>> found = rank_correlation(torch.arange(8.0)[None], torch.arange(8.0) ** 3)
        >>> round(found.value.item(), 9), found.p_value.item() < 0.01
        (1.0, True)
    """
    COUNT.check("rank_correlation", n_permutations=n_permutations)
    COUNT_OR_ZERO.check("rank_correlation", n_bootstrap=n_bootstrap)
    PART.check("rank_correlation", level=level)
    SEED.check("rank_correlation", seed=seed)
    n = len(target)
    if len(measures) == 0:
        raise TorchscapeError("there is nothing to correlate: give at least one measure")
    if isinstance(measures, Mapping):
        names, measures = tuple(measures), torch.stack(list(measures.values()))
    else:
        names = tuple(f"measure {k + 1}" for k in range(len(measures)))
    if n < 3 or not bool(measures.isfinite().all() & target.isfinite().all()):
        raise TorchscapeError(f"a rank correlation needs finite values for three minima or more, here {n}")
    known = {"spearman": spearman, "kendall": kendall}
    if kind not in known:
        raise UnknownName.of("kind of correlation", kind, list(known))
    measure = known[kind]
    a, b = measures[:, None], target[None, None]
    value = measure(a, b)[:, 0]
    width = len(measures) * n * (1 if kind == "spearman" else n)
    stronger = torch.zeros_like(value)
    for order in _resamples(n, n_permutations, width, seed, target.device, replace=False):
        # A hair's breadth below, so that permutations that give the same ranks count as ties.
        stronger += (measure(a, target[order]).abs() >= value.abs()[:, None] - 1e-12).sum(1)
    draws = [
        measure(measures[:, pick], target[pick])
        for pick in _resamples(n, n_bootstrap, width, seed, target.device, replace=True)
    ]
    tails = target.new_tensor([0.5 - level / 2, 0.5 + level / 2], dtype=value.dtype)
    lower, upper = torch.cat(draws, 1).nanquantile(tails, 1)
    p_value = torch.where(value.isnan(), torch.nan, (1 + stronger) / (1 + n_permutations))
    return RankCorrelation(value, p_value, lower, upper, kind, level, measures, target, names)


@dataclasses.dataclass(frozen=True)
class MantelTest:
    """The correlation of two matrices of distances between the same things.

    Attributes:
        value: Spearman's rank correlation over all pairs.
        p_value: how often a random relabelling of one matrix correlates as strongly, in either direction.
    """

    value: float
    p_value: float


def mantel(
    a: Float[Tensor, "N N"], b: Float[Tensor, "N N"], *, n_permutations: int = 999, seed: int = 0
) -> MantelTest:
    """Spearman correlation of two distances over pairs of minima, tested by permuting the minima.

    Pairs that share a minimum are not independent, so the usual p-value over N (N - 1) / 2 pairs is far too small.
    The null hypothesis here: which minimum has which row of ``b`` has nothing to do with ``a``.

    O(n_permutations N^2).

    Raises:
        TorchscapeError: with fewer than three minima, or distances that are not finite.

    Reference: Mantel, Cancer Res. 27, 209 (1967).

    Example:
        >>> points = torch.arange(6.0)[:, None]
        >>> d = torch.cdist(points, points)
        >>> found = mantel(d, d.sqrt())
        >>> round(found.value, 9), found.p_value < 0.05
        (1.0, True)
    """
    COUNT.check("mantel", n_permutations=n_permutations)
    SEED.check("mantel", seed=seed)
    n = len(a)
    if a.shape != b.shape or n < 3 or not bool(a.isfinite().all() & b.isfinite().all()):
        raise TorchscapeError("mantel compares finite distances between the same three minima or more")
    i, j = torch.triu_indices(n, n, 1, device=a.device)
    x, y = (_standardised(ranks(matrix[i, j])) for matrix in (a, b))
    square = y.new_zeros(n, n)
    square[i, j] = square[j, i] = y
    value = float((x * y).sum())
    stronger = 0
    for order in _resamples(n, n_permutations, len(i), seed, a.device, replace=False):
        shuffled = square[order[:, i], order[:, j]]
        stronger += int(((shuffled @ x).abs() >= abs(value) - 1e-12).sum())
    p_value = (1 + stronger) / (1 + n_permutations) if value == value else value
    return MantelTest(max(-1.0, min(1.0, value)), p_value)


def _resamples(n: int, count: int, width: int, seed: int, device: torch.device, *, replace: bool):
    """Random orders of n things, or samples with replacement, as many rows [K n] at a time as fit in memory."""
    keys = random.fold(seed, int(replace), torch.arange(count, device=device))
    for key in in_chunks(keys, width, on_host=ONE_LARGE):
        yield (random.uniform(key, n) * n).long() if replace else random.permutation(key, n)


def _standardised(values: Float[Tensor, "*S N"]) -> Float[Tensor, "*S N"]:
    """Mean zero and norm one along the last dimension; NaN where constant."""
    centred = values - values.mean(-1, keepdim=True)
    return centred / centred.norm(dim=-1, keepdim=True)


def _signs(values: Float[Tensor, "*S N"]) -> Float[Tensor, "*S N N"]:
    return (values[..., :, None] - values[..., None, :]).sign().double()
