"""Receiver operating characteristics: how well scores tell classes apart, at every threshold at once."""

from __future__ import annotations

import dataclasses

import torch

from torchscape.brief import brief
from torchscape.errors import TorchscapeError
from torchscape.memory import ONE_LARGE, in_chunks
from torchscape.types import Bool, Float, Int, Tensor
from torchscape.validation import Range

__all__ = ["ROC", "ClassAreas", "ROCReport", "auc", "class_roc", "macro_roc", "micro_roc", "roc", "roc_report"]


@brief
@dataclasses.dataclass(frozen=True)
class ROC:
    """ROC curves, from the highest threshold to the lowest.

    All curves of a batch have the same number of points: items with equal scores, which no threshold can part,
    repeat the point behind the last of them.

    Attributes:
        false_positive: fraction of the negatives at or above the threshold, from 0 to 1 [*S P].
        true_positive: fraction of the positives at or above the threshold, from 0 to 1 [*S P].
        threshold: the scores themselves, after +inf [*S P]; NaN where a curve is an average over classes.
        area: the area under each curve [*S].
    """

    false_positive: Float[Tensor, "*S P"]
    true_positive: Float[Tensor, "*S P"]
    threshold: Float[Tensor, "*S P"]
    area: Float[Tensor, "*S"]


def roc(scores: Float[Tensor, "*S n"], positive: Bool[Tensor, "*#S n"]) -> ROC:
    """The ROC curve of every row of scores.

    T_pr(P) and F_pr(P) are the fractions of positives and negatives whose score is at least P; the area
    AUC = int T_pr dF_pr is the probability that a random positive scores higher than a random negative, ties
    counting half. Rows without positives or without negatives, or with a score that is NaN, are NaN.

    Args:
        scores: higher for what is more likely positive.
        positive: which items are.

    O(n log n) a row.

    Reference: Ballard et al., Phys. Chem. Chem. Phys. 19, 12585 (2017), doi 10.1039/c7cp01108c, eqs. 6 and 7;
    Hanley & McNeil, Radiology 143, 29 (1982), doi 10.1148/radiology.143.1.7063747.

    Example:
        >>> found = roc(torch.tensor([0.9, 0.8, 0.8, 0.1]), torch.tensor([True, True, False, False]))
        >>> found.false_positive.tolist(), found.true_positive.tolist(), found.area.item()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0, 1.0], 0.875)
    """
    n = scores.shape[-1]
    if n == 0:
        raise TorchscapeError("there are no items to rank: give at least one")
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    hit = positive.expand(scores.shape).gather(-1, order)
    # Index of the last item with the same score: the next place, from here on, where the score changes.
    place = torch.arange(n, device=scores.device)
    changes = torch.nn.functional.pad(ordered[..., 1:] != ordered[..., :-1], (0, 1), value=True)
    last = torch.where(changes, place, n).flip(-1).cummin(-1).values.flip(-1)
    rates = []
    for kind in (~hit, hit):
        count = kind.double().cumsum(-1).gather(-1, last)
        # 0/0, a class that is absent, becomes NaN.
        rates.append(torch.nn.functional.pad(count, (1, 0)) / count[..., -1:])
    missing = scores.isnan().any(-1, keepdim=True)
    false, true = (torch.where(missing, torch.nan, rate) for rate in rates)
    top = torch.full_like(ordered[..., :1], torch.inf)
    threshold = torch.cat([top, ordered.gather(-1, last)], -1)
    return ROC(false.to(scores), true.to(scores), threshold, _area(false, true).to(scores))


def class_roc(probability: Float[Tensor, "N n C"], labels: Int[Tensor, "n"]) -> ROC:
    """One curve for each minimum and class, that class against all others [N C P].

    Args:
        probability: of the classes at every minimum (``held_out(...).probability``). Not logits: a softmax
            changes the order of items within a class.
        labels: the true classes.
    """
    _check(probability, labels)
    return roc(probability.mT, _members(probability, labels).mT)


def micro_roc(probability: Float[Tensor, "N n C"], labels: Int[Tensor, "n"]) -> ROC:
    """One curve for each minimum, over all pairs of an item and a class: does it belong or not [N P]."""
    _check(probability, labels)
    return roc(probability.flatten(1), _members(probability, labels).flatten())


def macro_roc(curves: ROC, n_points: int = 501) -> ROC:
    """The mean over classes of the true positive rate at equal false positive rate [N P].

    Args:
        curves: of the classes, [N C P] (:func:`class_roc`); classes that do not occur are left out.
        n_points: false positive rates, equally spaced. The area is the exact mean of the areas of the classes.
    """
    Range(low=2, whole=True).check("macro_roc", n_points=n_points)
    grid = torch.linspace(0.0, 1.0, n_points, dtype=torch.float64, device=curves.area.device)
    # The highest point at or before each place on the grid, and the first one beyond.
    x, y = curves.false_positive.double().contiguous(), curves.true_positive.double()
    after = torch.searchsorted(x, grid.expand(*x.shape[:-1], -1).contiguous(), right=True)
    after = after.clamp(1, x.shape[-1] - 1)
    (x0, x1), (y0, y1) = ([part.gather(-1, at) for at in (after - 1, after)] for part in (x, y))
    share = torch.where(x1 > x0, (grid - x0) / (x1 - x0), 1.0).clamp(0.0, 1.0)
    mean = (y0 + share * (y1 - y0)).nanmean(-2)
    true = torch.nn.functional.pad(mean[..., 1:], (1, 0))  # a curve starts at the origin
    area = curves.area.nanmean(-1)
    false = grid.expand_as(true)
    return ROC(false.to(area), true.to(area), torch.full_like(true, torch.nan).to(area), area)


@brief
@dataclasses.dataclass(frozen=True)
class ClassAreas:
    """Areas under the ROC curves of N minima for C classes.

    Attributes:
        per_class: each class against all others; NaN for a class that does not occur [N C].
        macro: mean over the classes that occur [N].
        weighted: the same, each class with the number of its items [N].
        micro: over all pairs of an item and a class [N].
    """

    per_class: Float[Tensor, "N C"]
    macro: Float[Tensor, "N"]
    weighted: Float[Tensor, "N"]
    micro: Float[Tensor, "N"]


def auc(probability: Float[Tensor, "N n C"], labels: Int[Tensor, "n"]) -> ClassAreas:
    """Areas under the ROC curves, one class against the others, for each class and averaged.

    Args:
        probability: of the classes at every minimum, as for :func:`class_roc`.
        labels: the true classes.

    O(N C n log n), in blocks of minima.

    Example:
        >>> p = torch.tensor([[[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]])
        >>> found = auc(p, torch.tensor([0, 0, 1]))
        >>> found.per_class.tolist(), round(found.micro.item(), 4)
        ([[1.0, 1.0]], 0.8889)
    """
    _check(probability, labels)
    numbers = 8 * probability[0].numel() if len(probability) else 1
    parts = in_chunks(probability, numbers, on_host=ONE_LARGE)
    per_class = torch.cat([class_roc(part, labels).area for part in parts])
    micro = torch.cat([micro_roc(part, labels).area for part in parts])
    size = labels.bincount(minlength=probability.shape[2]).to(per_class)
    weighted = torch.where(size > 0, per_class * size, 0.0).sum(1) / size.sum()
    return ClassAreas(per_class, per_class.nanmean(1), weighted, micro)


@brief
@dataclasses.dataclass(frozen=True)
class ROCReport:
    """The ROC curves of N minima for C classes, with their averages.

    Attributes:
        classes: each class against all others [N C P].
        macro: their mean at equal false positive rate [N P].
        micro: over all pairs of an item and a class [N P].
        areas: under all of these.
    """

    classes: ROC
    macro: ROC
    micro: ROC
    areas: ClassAreas


def roc_report(probability: Float[Tensor, "N n C"], labels: Int[Tensor, "n"]) -> ROCReport:
    """:func:`class_roc`, :func:`macro_roc`, :func:`micro_roc` and :func:`auc` in one: what ``plots.roc`` draws.

    Args:
        probability: of the classes at every minimum (``held_out(...).probability``).
        labels: the true classes.

    Example:
        >>> p = torch.tensor([[[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]])
        >>> roc_report(p, torch.tensor([0, 1, 1])).areas.macro.tolist()
        [1.0]
    """
    curves = class_roc(probability, labels)
    return ROCReport(curves, macro_roc(curves), micro_roc(probability, labels), auc(probability, labels))


def _area(false: Float[Tensor, "*S P"], true: Float[Tensor, "*S P"]) -> Float[Tensor, "*S"]:
    return (false.diff(dim=-1) * (true[..., 1:] + true[..., :-1])).sum(-1) / 2


def _members(probability: Float[Tensor, "N n C"], labels: Int[Tensor, "n"]) -> Bool[Tensor, "n C"]:
    return labels[:, None] == torch.arange(probability.shape[2], device=labels.device)


def _check(probability: Tensor, labels: Tensor) -> None:
    n, c = probability.shape[1:]
    if len(labels) != n or n == 0:
        raise TorchscapeError(f"{len(labels)} labels for {n} items: give one for each, and at least one")
    if int(labels.min()) < 0 or int(labels.max()) >= c:
        raise TorchscapeError(f"labels must be class numbers from 0 to {c - 1}")
